"""Linear algebra: what the rows of the operation table do not say about it."""

from contextlib import suppress

import numpy as np
import pytest
import support
import wengert as torch
from wengert import linalg
from wengert.func import hessian, jacfwd, jacrev, vmap


def matrix(*shape, seed=0, dtype=torch.float64):
    return torch.tensor(np.random.default_rng(seed).standard_normal(shape), dtype=dtype)


def regular(*shape, seed=0):
    return matrix(*shape, seed=seed) + 4 * torch.eye(shape[-1], dtype=torch.float64)


def symmetric(x):
    return x + x.mT


def near(a, b, tol=1e-10):
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=tol, atol=tol)


# ------------------------------------------------------------------------------- factorisations


def is_orthonormal(q):
    """Whether the columns are."""
    product = q.mT @ q
    near(product, torch.eye(q.shape[-1], dtype=q.dtype).expand(product.shape))


@pytest.mark.parametrize("shape", [(3, 3), (5, 2), (2, 5), (40, 40), (2, 3, 4), (0, 3), (3, 0)])
def test_factors_multiply_back(shape):
    a = matrix(*shape)
    q, r = linalg.qr(a)
    near(q @ r, a)
    is_orthonormal(q)
    u, s, vh = linalg.svd(a, full_matrices=False)
    near(u * s.unsqueeze(-2) @ vh, a)
    is_orthonormal(u)
    is_orthonormal(vh.mT)
    u, s, vh = linalg.svd(a)
    assert (u.shape[-1], vh.shape[-1]) == shape[-2:]
    is_orthonormal(u)
    is_orthonormal(vh.mT)


@pytest.mark.parametrize("shape", [(3, 3), (40, 40), (2, 3, 3), (0, 0), (0, 2, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_cholesky_factors_multiply_back(shape, dtype):
    b = matrix(*shape)
    a = (b @ b.mT + torch.eye(shape[-1], dtype=torch.float64)).to(dtype)
    tol = 1e-10 if dtype == torch.float64 else 2e-4
    for factor in (
        linalg.cholesky,
        torch.cholesky,
        lambda a, upper=False: linalg.cholesky_ex(a)[0],
    ):
        lower = factor(a)
        near(lower @ lower.mT, a, tol)
        assert torch.equal(lower, lower.tril())
    upper = linalg.cholesky(a, upper=True)
    near(upper.mT @ upper, a, tol)


@pytest.mark.parametrize("shape", [(4, 2), (2, 4), (3, 3), (2, 4, 3)])
def test_least_squares_are_those_of_the_pseudo_inverse(shape):
    a, b = matrix(*shape), matrix(*shape[:-1], 2, seed=1)
    solution, residuals, rank, values = linalg.lstsq(a, b, driver="gelsd")
    near(solution, linalg.pinv(a) @ b)
    near(linalg.lstsq(a, b[..., 0]).solution, solution[..., 0])
    assert (rank == min(shape[-2:])).all()
    near(values, linalg.svdvals(a))
    if shape[-2] > shape[-1]:
        near(residuals, (a @ solution - b).square().sum(-2))
    else:
        assert residuals.shape == (0,)


def test_eigenvalues_alone_are_those_with_vectors():
    a = symmetric(matrix(2, 5, 5))
    near(linalg.eigvalsh(a), linalg.eigh(a).eigenvalues)
    near(linalg.eigvalsh(a, UPLO="U"), linalg.eigh(a).eigenvalues)


def test_qr_has_three_modes():
    a = matrix(4, 2)
    q, r = linalg.qr(a, mode="complete")
    assert (q.shape, r.shape) == ((4, 4), (4, 2))
    near(q @ r, a)
    q, r = linalg.qr(a, mode="r")
    assert (q.shape, r.shape) == ((0,), (2, 2))
    near(r, linalg.qr(a).R)


def test_eigenvectors_belong_to_the_triangle_that_is_read():
    a = matrix(4, 4)
    for uplo, part in (("L", torch.tril), ("U", torch.triu)):
        half = part(a)
        whole = half + half.mT - torch.diag(half.diagonal())
        values, vectors = linalg.eigh(a, UPLO=uplo)
        near(whole @ vectors, vectors * values)


def test_float32_is_float32():
    a = regular(3, 3).float()
    results = [linalg.inv(a), *linalg.svd(a), *linalg.eigh(a), *linalg.qr(a), linalg.det(a)]
    assert {t.dtype for t in results} == {torch.float32}


def test_a_matrix_of_a_batch_is_computed_as_it_is_alone():
    a, b = regular(5, 20, 20), matrix(5, 20, 3)
    functions = (linalg.inv, linalg.det, linalg.qr, linalg.svd, lambda a: linalg.eigh(symmetric(a)))
    for f in functions:
        whole, alone = f(a), f(a[3])
        for x, y in zip(
            *((r if isinstance(r, tuple) else (r,)) for r in (whole, alone)), strict=True
        ):
            assert torch.equal(x[3], y)
    assert torch.equal(linalg.solve(a, b)[2], linalg.solve(a[2], b[2]))


@pytest.mark.parametrize(
    "layout", [support.transposed, support.stepped, support.flipped], ids=lambda f: f.__name__
)
def test_layouts_do_not_matter(layout):
    a, b = regular(3, 3).numpy(), matrix(3, 2).numpy()
    x, y = (layout(m, torch.tensor) for m in (a, b))
    for f in (linalg.solve, linalg.lstsq, lambda a, b: linalg.qr(b), lambda a, b: linalg.svd(a)):
        for p, q in zip(f(x, y), f(torch.tensor(a), torch.tensor(b)), strict=True):
            assert torch.equal(p, q)


# ---------------------------------------------------------------------------------- derivatives


def gradchecked(f, *inputs, second=True):
    for x in inputs:
        x.requires_grad_()
    assert torch.autograd.gradcheck(f, inputs, check_forward_ad=True)
    if second:
        assert torch.autograd.gradgradcheck(f, inputs)


def test_cholesky_is_differentiated_for_symmetric_changes():
    a = regular(3, 3)
    gradchecked(lambda a: linalg.cholesky(symmetric(a) + 5 * torch.eye(3)), a)
    gradchecked(lambda a: linalg.cholesky(symmetric(a) + 5 * torch.eye(3), upper=True), a)
    near(a.cholesky(), linalg.cholesky(a))


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4), (2, 3, 3)])
def test_qr_is_differentiated(shape):
    gradchecked(lambda a: tuple(linalg.qr(a)), matrix(*shape))
    gradchecked(lambda a: linalg.qr(a).R, matrix(*shape))
    gradchecked(lambda a: linalg.qr(a).Q, matrix(*shape))


def test_what_qr_cannot_differentiate_is_an_error():
    a = matrix(4, 2).requires_grad_()
    with pytest.raises(RuntimeError, match="mode='r'"):
        linalg.qr(a, mode="r").R.sum().backward()
    with pytest.raises(RuntimeError, match="mode='complete'"):
        linalg.qr(a, mode="complete").R.sum().backward()


def test_eigenvalues_and_vectors_are_differentiated():
    a = matrix(3, 3, seed=3)
    gradchecked(lambda a: linalg.eigh(symmetric(a)).eigenvalues, a)
    gradchecked(lambda a: linalg.eigvalsh(symmetric(a)), a)
    # Vectors are unique up to signs, which squares do not show.
    gradchecked(lambda a: linalg.eigh(symmetric(a)).eigenvectors.square(), a)


@pytest.mark.parametrize("shape", [(3, 3), (4, 2), (2, 4), (2, 3, 2)])
@pytest.mark.parametrize("full", [True, False])
def test_singular_values_and_vectors_are_differentiated(shape, full):
    a, k = matrix(*shape, seed=5), min(shape[-2:])

    def parts(a):
        u, s, vh = linalg.svd(a, full_matrices=full)
        u, vh = u[..., :k], vh[..., :k, :]
        return u.square(), s, vh.square(), u @ vh

    gradchecked(parts, a)
    gradchecked(linalg.svdvals, a)


def test_the_determinant_of_a_singular_matrix_is_differentiated():
    a = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.5], [3.0, 6.0, 9.0]], dtype=torch.float64)
    assert abs(linalg.det(a)) < 1e-12
    gradchecked(linalg.det, a.clone(), second=False)
    exact = torch.zeros(2, 2, dtype=torch.float64)
    exact[0, 0] = 1.0
    gradchecked(linalg.det, exact)
    exact.grad = None
    linalg.det(exact).backward()
    near(exact.grad, torch.tensor([[0.0, 0.0], [0.0, 1.0]]))


def test_least_squares_is_differentiated():
    for shape in ((4, 2), (2, 4), (3, 3)):
        a, b = matrix(*shape), matrix(shape[0], 2)
        gradchecked(lambda a, b: linalg.lstsq(a, b).solution, a, b)
    gradchecked(lambda a, b: linalg.lstsq(a, b, driver="gelsd")[:2], matrix(4, 2), matrix(4, 3))
    gradchecked(lambda a, b: linalg.lstsq(a, b)[0], matrix(2, 4, 2), matrix(2, 4))


def test_third_derivatives_of_a_solution():
    a, b = regular(2, 2).requires_grad_(), matrix(2).requires_grad_()

    def second(a, b):
        (g,) = torch.autograd.grad(linalg.solve(a, b).sum(), a, create_graph=True)
        (h,) = torch.autograd.grad(g.square().sum(), b, create_graph=True)
        return h

    assert torch.autograd.gradcheck(second, (a, b))


def test_transforms_agree():
    a, b = regular(3, 3), matrix(3)
    for f in (lambda a: linalg.solve(a, b), linalg.inv, lambda a: linalg.slogdet(a)[1]):
        near(jacfwd(f)(a), jacrev(f)(a))
    assert hessian(linalg.det)(a).shape == (3, 3, 3, 3)


def test_nodes_keep_what_theirs_keep_in_pytorch():
    a = regular(2, 2).requires_grad_()
    node = linalg.solve(a, matrix(2)).grad_fn
    assert linalg.solve(a, matrix(3, 2), left=False).grad_fn._saved_left is False
    assert node.name() == "LinalgSolveExBackward0"
    assert node._saved_A.shape == (2, 2)
    assert node._saved_pivots.dtype == torch.int32
    assert linalg.inv(a).grad_fn._saved_inverse.shape == (2, 2)


# --------------------------------------------------------------------------------------- batches


@pytest.mark.parametrize(
    "f",
    [
        linalg.inv, linalg.det, linalg.slogdet, torch.logdet, linalg.qr, linalg.svd, linalg.svdvals,
        lambda a: linalg.eigh(symmetric(a)), lambda a: linalg.qr(a, mode="r"), linalg.pinv,
        lambda a: torch.matrix_power(a, 3), linalg.inv_ex, linalg.matrix_rank, linalg.cond,
        lambda a: linalg.lstsq(a, a[..., 0]), linalg.matrix_norm, lambda a: linalg.cross(a, a.mT),
    ],
)  # fmt: skip
def test_vmap_is_a_loop(f):
    a = regular(4, 3, 3)
    tuples = [r if isinstance(r, tuple) else (r,) for r in map(f, a)]
    whole = vmap(f)(a)
    for part, each in zip(
        whole if isinstance(whole, tuple) else (whole,), zip(*tuples, strict=True), strict=True
    ):
        near(part, torch.stack(each))


@pytest.mark.parametrize("dims", [(0, 0), (0, None), (None, 0), (1, -1)])
@pytest.mark.parametrize("b_shape", [(3,), (3, 2), (2, 3, 1)])
def test_vmap_of_solve_is_a_loop(dims, b_shape):
    a, b = regular(3, 3), matrix(*b_shape, seed=1)
    batched = [
        x if d is None else torch.stack([x + i for i in (0.0, 0.25, 0.5)], d)
        for x, d in zip((a, b), dims, strict=True)
    ]
    expected = [
        linalg.solve(*(x if d is None else x + i for x, d in zip((a, b), dims, strict=True)))
        for i in (0.0, 0.25, 0.5)
    ]
    near(vmap(linalg.solve, in_dims=dims)(*batched), torch.stack(expected))


# ---------------------------------------------------------------------------------------- errors


def test_a_singular_matrix_is_an_error_that_names_the_place():
    zero = torch.zeros(2, 2)
    with pytest.raises(linalg.LinAlgError) as caught:
        linalg.inv(zero)
    assert str(caught.value) == (
        "linalg.inv: The diagonal element 1 is zero, the inversion could not be completed because "
        "the input matrix is singular."
    )
    batch = torch.stack([torch.eye(2), zero])
    with pytest.raises(linalg.LinAlgError, match=r"linalg.inv: \(Batch element 1\): The diag"):
        linalg.inv(batch)
    with pytest.raises(linalg.LinAlgError) as caught:
        linalg.solve(zero, torch.ones(2))
    assert str(caught.value) == (
        "torch.linalg.solve: The solver failed because the input matrix is singular."
    )
    assert linalg.inv_ex(batch).info.tolist() == [0, 1]
    assert issubclass(linalg.LinAlgError, RuntimeError)


def test_a_matrix_that_is_not_positive_definite_is_an_error():
    with pytest.raises(linalg.LinAlgError, match=r"leading minor of order 2 is not positive-def"):
        linalg.cholesky(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
    assert linalg.cholesky_ex(torch.zeros(2, 2)).info.item() == 1


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), 1e308, 1e-308])
@pytest.mark.parametrize("size", [1, 2, 20])
def test_numbers_of_any_size_end_in_a_result_or_an_error(value, size):
    a = torch.full((size, size), value, dtype=torch.float64)
    a += torch.eye(size, dtype=torch.float64)
    functions = (
        linalg.inv, linalg.det, linalg.slogdet, linalg.qr, linalg.svd, linalg.eigh, linalg.pinv,
        linalg.cholesky, linalg.svdvals, linalg.matrix_rank, lambda a: linalg.solve(a, a),
        lambda a: linalg.lstsq(a, a),
    )  # fmt: skip
    for f in functions:
        with suppress(linalg.LinAlgError):
            f(a)


def test_nan_in_least_squares_is_an_error():
    for a, b in ((np.nan, 1.0), (1.0, np.inf)):
        with pytest.raises(linalg.LinAlgError, match="input has NaN/Inf"):
            linalg.lstsq(torch.full((3, 2), a), torch.full((3,), b))


def test_huge_sizes_are_refused_before_the_work():
    wide = torch.zeros(1).expand(1, 2**40)
    with pytest.raises((MemoryError, OverflowError)):
        linalg.svd(wide)


# ------------------------------------------------------------------------- neighbours of the table


def test_greatest_common_divisors_wrap_where_there_is_no_such_number():
    least = -(2**63)
    a = torch.tensor([least, least, least])
    assert torch.gcd(a, torch.tensor([-1, 0, least])).tolist() == [1, least, least]
    assert torch.lcm(a, torch.tensor([-1, 1, 0])).tolist() == [least, least, 0]
    assert torch.gcd(torch.tensor(-12, dtype=torch.int8), torch.tensor(18)).item() == 6
    x = torch.tensor([12, 18])
    assert x.gcd_(torch.tensor(4)).tolist() == [4, 2]


def test_tensors_may_be_the_arguments_themselves():
    a, b = torch.ones(2), torch.ones(3, 1)
    assert [t.shape for t in torch.broadcast_tensors(a, b)] == [(3, 2)] * 2
    assert [t.shape for t in torch.atleast_2d(a, b)] == [(1, 2), (3, 1)]
    assert isinstance(torch.atleast_1d([a]), tuple)
    assert torch.atleast_3d(a).shape == (1, 2, 1)
    assert torch.broadcast_tensors() == ()
    with pytest.raises(TypeError, match="element 1"):
        torch.broadcast_tensors(a, 2)


def test_erfinv_is_the_inverse_to_the_last_digits():
    y = torch.linspace(-5.8, 5.8, 1001, dtype=torch.float64)
    x = torch.erf(y)
    inside = x.abs() < 1
    slope = 2 / np.pi**0.5 * torch.exp(-y * y)
    # As far as the rounding of x allows.
    bound = 4 * torch.finfo(torch.float64).eps * (x.abs() / slope + y.abs())
    assert bool(((torch.erfinv(x) - y).abs() <= bound)[inside].all())
    assert torch.erfinv(torch.tensor([1.0, -1.0])).tolist() == [np.inf, -np.inf]
