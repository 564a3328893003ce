"""`einsum` against NumPy's, its derivatives, and equations that are wrong."""

import numpy as np
import pytest
import wengert as torch
from wengert.autograd import gradcheck, gradgradcheck

EQUATIONS = [
    ("ij,jk->ik", (2, 3), (3, 4)),
    ("ij,jk", (2, 3), (3, 4)),
    ("ij->ji", (2, 3)),
    ("ba", (2, 3)),
    ("ij->", (2, 3)),
    ("ij->i", (2, 3)),
    ("ii->i", (3, 3)),
    ("ii", (3, 3)),
    ("iij->j", (3, 3, 2)),
    ("ijji->ij", (2, 3, 3, 2)),
    ("i,i->", (3,), (3,)),
    ("i,j->ij", (3,), (2,)),
    ("i,->i", (3,), ()),
    (",->", (), ()),
    ("->", ()),
    ("bij,bjk->bik", (2, 3, 4), (2, 4, 5)),
    ("...ij,jk->...ik", (5, 2, 3), (3, 4)),
    ("...ij,...jk", (5, 2, 3), (3, 4)),
    ("i...->...i", (5, 2, 3)),
    ("b...,b...->...", (5, 2, 3), (5, 2, 3)),
    ("...,...->...", (2, 3), (3,)),
    ("i...,j...->ij...", (2, 3), (4, 3)),
    ("ij,kl->ijkl", (2, 3), (3, 4)),
    ("ij,j,i->", (2, 3), (3,), (2,)),
    ("abc,cd,de->abe", (2, 3, 4), (4, 5), (5, 6)),
    ("abc,bd,cd->ad", (2, 3, 4), (3, 5), (4, 5)),
    ("ij,ij->ij", (2, 3), (1, 3)),
    ("ij,ij->j", (1, 3), (4, 3)),
    ("Ab,bA->A", (2, 3), (3, 2)),
    (" i j , j k -> i k ", (2, 3), (3, 4)),
    ("ij,jk->ik", (2, 0), (0, 3)),
    ("ij,jk->ik", (0, 2), (2, 3)),
]


def arrays(shapes):
    draw = np.random.default_rng(0)
    return [draw.standard_normal(shape) for shape in shapes]


@pytest.mark.parametrize(("equation", "shapes"), [(e, s) for e, *s in EQUATIONS])
def test_values(equation, shapes):
    given = arrays(shapes)
    expected = np.einsum(equation, *given)
    found = torch.einsum(equation, *map(torch.tensor, given))
    assert tuple(found.shape) == expected.shape
    np.testing.assert_allclose(found.numpy(), expected, 1e-13, 1e-13)


@pytest.mark.parametrize(("equation", "shapes"), [(e, s) for e, *s in EQUATIONS])
def test_derivatives(equation, shapes):
    inputs = tuple(torch.tensor(a).requires_grad_() for a in arrays(shapes))
    assert gradcheck(lambda *xs: torch.einsum(equation, *xs), inputs)
    assert gradgradcheck(lambda *xs: torch.einsum(equation, *xs), inputs, fast_mode=True)


def test_forms_of_the_call():
    x, y, b = torch.ones(2, 3), torch.ones(3, 4), torch.ones(5, 2, 3)
    expected = x @ y
    for found in (
        torch.einsum("ij,jk->ik", [x, y]),
        torch.einsum("ij,jk->ik", (x, y)),
        torch.einsum(x, [0, 1], y, [1, 2], [0, 2]),
        torch.einsum(x, [0, 1], y, [1, 2]),
        torch.einsum(x, [26, 1], y, [1, 51], [26, 51]),
    ):
        assert torch.equal(found, expected)
    assert torch.einsum(b, [..., 0, 1], [1, 0, ...]).shape == (3, 2, 5)


def test_a_result_without_the_ellipsis_sums_it():
    x = torch.rand(2, 3, 4)
    assert torch.allclose(torch.einsum("...i->", x), x.sum())
    assert torch.allclose(torch.einsum("...i->i", x), x.sum((0, 1)))


def test_whole_numbers():
    x, y = torch.arange(6).view(2, 3), torch.arange(12).view(3, 4)
    assert torch.equal(torch.einsum("ij,jk->ki", x, y), (x @ y).t())


@pytest.mark.parametrize(
    ("equation", "text"),
    [
        ("ij->ij", "more operands were provided than specified in the equation"),
        ("ij,jk,kl->", "fewer operands were provided than specified in the equation"),
        ("ijk,jk->i", r"subscripts in the equation \(3\) does not match .* \(2\) for operand 0"),
        ("i1,jk->i", "invalid subscript given at index 1 in the equation string"),
        ("ij,jk->ik->", "invalid subscript given at index 9 in the equation string"),
        ("ij,jk>ik", "invalid subscript given at index 5 in the equation string"),
        ("i.j,jk->i", "found '.' for operand 0 that is not part of any ellipsis"),
        ("......,jk->", "found '.' for operand 0 for which an ellipsis was already found"),
        ("ij,jk->ikk", "output subscript k appears more than once in the output"),
        ("ij,jk->il", "output subscript l does not appear in the equation for any input operand"),
        ("ij,jk->i..k", r"found '.' for output that is not part of any ellipsis \(...\)"),
        ("ij,jk->...i...", r"found '.' for output but an ellipsis \(...\) was already found"),
        ("ii,jk->i", "subscript i is repeated for operand 0 but the sizes don't match, 3 != 2"),
        ("ij,ik->", "subscript i has size 3 for operand 1 which does not broadcast with .* size 2"),
        ("ijk...,jk->", r"subscripts in the equation \(3\) is more than .* \(2\) for operand 0"),
    ],
)
def test_wrong_equations(equation, text):
    with pytest.raises(RuntimeError, match=rf"einsum\(\): .*{text}"):
        torch.einsum(equation, torch.ones(2, 3), torch.ones(3, 4))


def test_wrong_arguments():
    x = torch.ones(2, 3)
    with pytest.raises(ValueError, match="must specify the equation string and at least one"):
        torch.einsum("ij")
    with pytest.raises(ValueError, match=r"not within the valid range \[0, 52\)"):
        torch.einsum(x, [0, 60])
    with pytest.raises(TypeError, match=r"'equation' .* must be str, not int"):
        torch.einsum(5, x)
    with pytest.raises(TypeError, match="expected Tensor as element 1 in argument 1, but got int"):
        torch.einsum("ij,->ij", x, 3)
