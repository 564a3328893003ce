# ruff: noqa: E501 - a row is a line
"""Writes random_api.json: what PyTorch's random functions give, through the Python API.

    python tests/golden/make_random_api_golden.py        (with PyTorch on a non-Intel machine with AVX2)

On Intel machines PyTorch draws `bernoulli_` and dropout from another stream; the package follows
the general one everywhere. Short results are kept as numbers (exact: a float64 in JSON), long ones
as a hash of their float64 bytes.
"""

import base64
import hashlib
import json
import sys
import zlib
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent

FUNCTIONS = [
    "torch.rand(5)", "torch.rand(2, 3)", "torch.rand(())", "torch.rand(0)", "torch.rand(7, dtype=torch.float64)",
    "torch.rand(7, dtype=torch.float16)", "torch.rand(7, dtype=torch.bfloat16)", "torch.rand(1000)",
    "torch.randn(5)", "torch.randn(15)", "torch.randn(16)", "torch.randn(17)", "torch.randn(37)", "torch.randn(())",
    "torch.randn(2, 3, 4)", "torch.randn(1000)", "torch.randn(7, dtype=torch.float64)", "torch.randn(1000, dtype=torch.float64)",
    "torch.randn(7, dtype=torch.float16)", "torch.randn(32, dtype=torch.bfloat16)",
    "torch.randint(10, (9,))", "torch.randint(-5, 5, (3, 3))", "torch.randint(0, 2**40, (5,))", "torch.randint(0, 100, (1000,))",
    "torch.randint(0, 9, (4,), dtype=torch.int32)", "torch.randint(0, 9, (4,), dtype=torch.float32)",
    "torch.randperm(0)", "torch.randperm(1)", "torch.randperm(10)", "torch.randperm(1000)", "torch.randperm(9, dtype=torch.int32)",
    "torch.normal(2.0, 3.0, (5,))", "torch.normal(2.0, 3.0, (40,))", "torch.normal(torch.arange(4.0), 0.5)",
    "torch.normal(1.0, torch.arange(1.0, 20.0))", "torch.normal(torch.zeros(20), torch.ones(20))",
    "torch.rand_like(torch.zeros(2, 3))", "torch.randn_like(torch.zeros(2, 9, dtype=torch.float64))",
    "torch.zeros(5).uniform_()", "torch.zeros(9).uniform_(-2, 3)", "torch.zeros(9, dtype=torch.float64).uniform_(-2, 3)",
    "torch.zeros(5).normal_()", "torch.zeros(20).normal_(1, 2)", "torch.zeros(4, 6).t().normal_()", "torch.zeros(4, 6)[:, ::2].uniform_()",
    "torch.zeros(9).bernoulli_(0.3)", "torch.zeros(1000, dtype=torch.int64).bernoulli_(0.75)", "torch.zeros(9, dtype=torch.bool).bernoulli_()",
    "torch.bernoulli(torch.linspace(0, 1, 9))", "torch.bernoulli(torch.full((1000,), 0.25, dtype=torch.float64))",
    "torch.nn.functional.dropout(torch.ones(12))", "torch.nn.functional.dropout(torch.ones(1000), p=0.1)",
    "torch.nn.functional.dropout(torch.ones(3, 4), p=0.75)", "torch.nn.functional.dropout(torch.ones(9), p=0.9, training=False)",
]  # fmt: skip

CALLS = [
    ("another seed", "torch.manual_seed(42); result = torch.randn(20)"),
    ("a seed above 32 bits", "torch.manual_seed(2**32 + 7); result = torch.rand(5)"),
    ("a negative seed", "torch.manual_seed(-3); result = torch.rand(5)"),
    ("a mixed stream", "result = torch.cat([torch.rand(3), torch.randn(3), torch.randint(9, (3,)).float(), torch.randn(17), torch.rand(1), torch.randn(2)])"),
    ("the second normal of a pair is kept for the next call", "torch.randn(3); torch.rand(2); result = torch.randn(4)"),
    ("seeding drops the kept normal", "torch.randn(3); torch.manual_seed(1); result = torch.randn(4)"),
    ("own generator", "g = torch.Generator(); g.manual_seed(5); torch.rand(3); result = torch.rand(5, generator=g)"),
    ("own generator, in place", "g = torch.Generator().manual_seed(5); result = torch.zeros(20).normal_(generator=g)"),
    ("own generator, integers", "g = torch.Generator().manual_seed(5); result = torch.cat([torch.randperm(9, generator=g), torch.randint(0, 7, (4,), generator=g)])"),
    ("an unseeded generator", "result = torch.rand(5, generator=torch.Generator())"),
    ("the global one is left alone by another", "g = torch.Generator(); torch.rand(100, generator=g); result = torch.rand(3)"),
    ("initial_seed", "torch.manual_seed(99); result = torch.tensor(torch.initial_seed())"),
    ("seed of a generator", "result = torch.tensor(torch.Generator().manual_seed(2**40).initial_seed())"),
    ("state of the global one", "torch.randn(3); s = torch.get_rng_state(); torch.randn(50); torch.set_rng_state(s); result = torch.randn(5)"),
    ("state of a generator", "g = torch.Generator().manual_seed(3); torch.rand(700, generator=g); s = g.get_state(); a = torch.rand(4, generator=g); g.set_state(s); result = torch.rand(4, generator=g)"),
    ("state from one to another", "g = torch.Generator().manual_seed(3); h = torch.Generator(); torch.randn(3, generator=g); h.set_state(g.get_state()); result = torch.randn(4, generator=h)"),
    ("dropout keeps the gradient's mask", "x = torch.ones(9, requires_grad=True); torch.nn.functional.dropout(x).sum().backward(); result = x.grad"),
]  # fmt: skip


def describe(t):
    values = t.detach().to(torch.float64).numpy() if t.dtype.is_floating_point else t.numpy()
    answer = {"dtype": str(t.dtype).rpartition(".")[2], "shape": list(t.shape)}
    if values.size > 40:
        return answer | {
            "sha256": hashlib.sha256(np.array(values, "float64", order="C").tobytes()).hexdigest()
        }
    return answer | {"values": values.tolist()}


def main():
    cases = []
    for name, code in [(f, f"result = {f}") for f in FUNCTIONS] + CALLS:
        torch.manual_seed(0)
        names = {"torch": torch}
        exec(code, names)
        cases.append({"name": name, "code": code, **describe(names["result"])})
    torch.manual_seed(7)
    torch.randn(3)
    torch.rand(800)
    state = base64.b64encode(zlib.compress(bytes(torch.get_rng_state().numpy()), 9)).decode()
    after = [describe(torch.randn(4)), describe(torch.rand(4))]
    golden = {"torch": torch.__version__, "cases": cases, "state": state, "after_state": after}
    (HERE / "random_api.json").write_text(json.dumps(golden, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
