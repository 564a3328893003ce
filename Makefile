# Every target sets itself up: `git clone`, `make demo`. Only Rust and Python >= 3.11 are needed.
#
# Stamp files in .venv say what is done, so that a second run starts at once:
#   .venv/made     the environment exists and holds maturin
#   .venv/wheel    the current sources are built and installed
#   .venv/demo     what the examples import is installed
#   .venv/test     what the checks import is installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check --quiet
# The newest suitable interpreter on PATH; override with `make PYTHON=/path/to/python`.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

SOURCES := Cargo.toml Cargo.lock pyproject.toml README.md \
	$(shell find rust python -type f \( -name '*.rs' -o -name '*.py' -o -name '*.pyi' -o -name '*.toml' -o -name py.typed \))
PYTHONS := $(wildcard python examples tests tools benches)

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-7s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: demo
demo: $(VENV)/wheel $(VENV)/demo ## run the notebook, train on digits, draw pictures into demo_output/
	$(BIN)/python examples/notebook.py
	$(BIN)/python examples/digits.py
	$(BIN)/python examples/pictures.py

.PHONY: test
test: lint test-rust test-python ## everything that must pass: lint, Rust and Python tests, doctests, benches once

# One build serves unit tests, integration tests and the benches, which run each case once.
.PHONY: test-rust
test-rust: toolchain
	@if cargo nextest --version >/dev/null 2>&1; \
	then set -x; cargo nextest run -p wengert --all-targets; \
	else set -x; cargo test -p wengert --all-targets; fi
	cargo test -p wengert --doc

.PHONY: test-python
test-python: $(VENV)/wheel $(VENV)/demo $(VENV)/test
	$(BIN)/python -m pytest

.PHONY: bench
bench: toolchain ## measure: kernels, graph, gemm
	cargo bench -p wengert

.PHONY: lint
lint: toolchain $(VENV)/wheel $(VENV)/test ## rustfmt, clippy, ruff, mypy, and the stubs are current
	cargo fmt --all --check
	$(BIN)/ruff format --check --quiet $(PYTHONS)
	$(BIN)/ruff check --quiet $(PYTHONS)
	cargo clippy --workspace --all-targets -- -D warnings
	$(BIN)/python tools/make_stubs.py --check
	$(BIN)/mypy

.PHONY: fmt
fmt: toolchain $(VENV)/test ## format Rust and Python
	cargo fmt --all
	$(BIN)/ruff check --quiet --fix $(PYTHONS) || true
	$(BIN)/ruff format --quiet $(PYTHONS)

.PHONY: stubs
stubs: $(VENV)/wheel ## write the type stubs from the operation table
	$(BIN)/python tools/make_stubs.py

.PHONY: clean
clean: ## remove what the other targets made
	rm -rf $(VENV) target demo_output

.PHONY: toolchain
toolchain:
	@command -v cargo >/dev/null || { echo 'wengert needs Rust, and there is no `cargo` on PATH: see https://rustup.rs' >&2; exit 1; }
	@test -n "$(PYTHON)" || { echo 'wengert needs Python 3.11 or newer, and there is none on PATH (make PYTHON=/path/to/python)' >&2; exit 1; }

$(VENV)/made: | toolchain
	$(PYTHON) -m venv $(VENV)
	$(PIP) install 'maturin>=1.9.4,<2'
	@touch $@

$(VENV)/wheel: $(SOURCES) | $(VENV)/made
	rm -rf target/wheels
	$(BIN)/maturin build --release --quiet --interpreter $(BIN)/python --out target/wheels
	$(PIP) install --force-reinstall --no-deps target/wheels/*.whl
	$(PIP) install target/wheels/*.whl
	@touch $@

# The extras are read from the wheel, so pyproject.toml is the one list of what is needed.
$(VENV)/demo $(VENV)/test: pyproject.toml | $(VENV)/wheel
	$(PIP) install "$$(echo target/wheels/*.whl)[$(@F)]"
	@touch $@
