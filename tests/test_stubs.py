"""The type stubs: up to date, and true of what operations return."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typing_example
import wengert as torch
from op_table import OPS
from support import call_args, find

ROWS = {name: row for row in torch._core.operations() for name in (row["name"], *row["aliases"])}


def test_the_files_are_up_to_date():
    tool = Path(__file__).parent.parent / "tools" / "make_stubs.py"
    check = subprocess.run(
        [sys.executable, str(tool), "--check"], capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stderr


def test_the_example_for_type_checkers_runs():
    typing_example.main()


def described(result):
    """A result as signatures describe it; `Tensor[]` also fits tuples of a fixed length."""
    if isinstance(result, bool):
        return ["bool"]
    if isinstance(result, torch.Tensor):
        return ["Tensor"]
    fields = getattr(type(result), "_fields", None)
    if fields:
        return ["(" + ", ".join(f"Tensor {field}" for field in fields) + ")"]
    return ["(" + ", ".join(["Tensor"] * len(result)) + ")", "Tensor[]"]


@pytest.mark.parametrize("op", [op for op in OPS if op.name in ROWS], ids=lambda op: op.name)
def test_signatures_say_what_is_returned(op):
    signatures = ROWS[op.name]["signatures"]
    told = {signature.partition("->")[2].strip() or "Tensor" for signature in signatures}
    dtype = op.dtypes[-1]
    for sample in op.samples(op.gen(dtype))[:6]:
        args, kwargs = call_args(sample, dtype)
        assert told & set(described(find(op.name)(*args, **kwargs)))


def test_results_have_classes_of_their_own():
    import pickle

    result = torch.max(torch.tensor([[1.0, 3.0], [2.0, 0.0]]), 1)
    assert type(result) is torch.return_types.max
    assert re.match(r"torch.return_types.max\(\nvalues=tensor", repr(result))
    again = pickle.loads(pickle.dumps(result))
    assert type(again) is type(result)
    assert again.indices.tolist() == [1, 0]
    with pytest.raises(AttributeError, match="nonsense"):
        _ = torch.return_types.nonsense
