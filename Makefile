# Every target sets itself up: `git clone`, `make demo`. Only Rust and Python >= 3.11 are needed.
#
# Stamp files in .venv say what is done, so that a second run starts at once:
#   .venv/made     the environment exists and holds maturin
#   .venv/demo     what the examples need is installed
#   .venv/test     what the checks need is installed
#   .venv/wheel    the current sources are built and installed

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
demo: $(VENV)/demo $(VENV)/wheel ## run the notebook, train on digits, draw pictures into demo_output/
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
test-python: $(VENV)/demo $(VENV)/test $(VENV)/wheel
	$(BIN)/python tools/make_stubs.py --check
	$(BIN)/python -m pytest

.PHONY: bench
bench: toolchain ## measure: kernels, graph, gemm
	cargo bench -p wengert

.PHONY: lint
lint: toolchain $(VENV)/test ## rustfmt, clippy, ruff and mypy find nothing
	cargo fmt --all --check
	$(BIN)/ruff format --check --quiet $(PYTHONS)
	$(BIN)/ruff check --quiet $(PYTHONS)
	$(BIN)/mypy
	cargo clippy --workspace --all-targets -- -D warnings

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

# pyproject.toml is the one list of what is needed; its extras carry the names of the stamps.
$(VENV)/demo $(VENV)/test: pyproject.toml | $(VENV)/made
	$(BIN)/python -c 'import tomllib; project = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
	print(*project["dependencies"], *project["optional-dependencies"]["$(@F)"], sep="\n")' > $@.txt
	$(PIP) install --requirement $@.txt
	@touch $@

$(VENV)/wheel: $(SOURCES) | $(VENV)/made
	rm -rf target/wheels
	$(BIN)/maturin build --release --quiet --interpreter $(BIN)/python --out target/wheels
	$(PIP) install --force-reinstall --no-deps target/wheels/*.whl
	$(PIP) install target/wheels/*.whl
	@touch $@
