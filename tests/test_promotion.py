"""Element types of results, over all pairs of types, against tables recorded from PyTorch."""

import promotion_cases
import pytest
import wengert as torch
from promotion_cases import DTYPES
from support import golden

RECORDED = golden("promotion.json")
SECTIONS = {section: table for section, table in RECORDED.items() if isinstance(table, dict)}


@pytest.fixture(scope="module")
def computed():
    return promotion_cases.tables()


@pytest.mark.parametrize(
    ("section", "name"), [(s, name) for s, table in SECTIONS.items() for name in table]
)
def test_element_types(computed, section, name):
    expected = [row.split() for row in SECTIONS[section][name]]
    wrong = {
        (DTYPES[i] if len(expected) > 1 else "", j): (a, e)
        for i, rows in enumerate(zip(computed[section][name], expected, strict=True))
        for j, (a, e) in enumerate(zip(*rows, strict=True))
        if a != e
    }
    assert wrong == {}, f"{section} {name}: (row, column): (ours, PyTorch's)"


def test_nothing_is_missing_from_the_file(computed):
    assert RECORDED["dtypes"] == list(DTYPES)
    assert {s: set(t) for s, t in computed.items()} == {s: set(t) for s, t in SECTIONS.items()}


def test_default_dtype_is_used_for_python_floats():
    assert torch.tensor([1.0]).dtype == torch.float32
    assert torch.tensor([1]).dtype == torch.int64
    assert torch.tensor([True]).dtype == torch.bool
    assert (torch.tensor([1]) + 0.5).dtype == torch.float32
    assert (torch.tensor([1]) / 2).dtype == torch.float32
