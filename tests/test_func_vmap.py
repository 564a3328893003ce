"""`vmap`: structure of arguments and results, levels, and what is refused."""

import copy
import functools
import pickle
import threading
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
import wengert as torch
from func_support import close, randn
from wengert.func import debug_unwrap, vmap


def test_one_input_one_output():
    x = randn(2, 3)
    close(vmap(torch.sin)(x), x.sin())


def test_the_function_sees_one_example():
    seen = []

    def f(x):
        seen.append((x.shape, x.ndim, x.dim(), x.numel(), x.size(0), x.stride(), len(x), x.dtype))
        return x

    vmap(f)(randn(2, 3, 4))
    assert seen == [(torch.Size((3, 4)), 2, 2, 12, 3, (4, 1), 3, torch.float64)]


def test_input_axes():
    x = randn(2, 3, 5)
    for dim in (0, 1, 2, -1, -3):
        close(vmap(lambda x: x.sum(0), in_dims=dim, out_dims=-1)(x), x.movedim(dim, -1).sum(0))
    y = randn(3, 2)
    close(vmap(torch.mul, (0, 1))(randn(2, 3) * 0 + 1, y), y.t())
    close(vmap(torch.mul, in_dims=(None, 0))(y[0], y), y[0] * y)


def test_output_axes():
    x = randn(2, 3, 5)
    for dim in (0, 1, 2, -1, -3):
        assert vmap(lambda x: x, out_dims=dim)(x).movedim(dim, 0).shape == (2, 3, 5)
    a, b = vmap(lambda x: (x, x.sum()), out_dims=(1, 0))(x)
    assert a.shape == (3, 2, 5)
    assert b.shape == (2,)


def test_outputs_that_do_not_depend_on_the_batch_are_repeated():
    x = randn(4, 3)
    y = vmap(lambda x: torch.ones(2))(x)
    close(y, torch.ones(4, 2))
    assert vmap(lambda x: torch.ones(2), out_dims=1)(x).shape == (2, 4)


def test_outputs_without_axis():
    x = randn(4, 3)
    one, two = vmap(lambda x: (torch.ones(2), x), out_dims=(None, 0))(x)
    assert one.shape == (2,)
    close(two, x)
    assert vmap(lambda x: 5, out_dims=None)(x) == 5
    assert vmap(lambda x: ("text", x), out_dims=(None, 0))(x)[0] == "text"
    with pytest.raises(ValueError, match="can not return a BatchedTensor when out_dim is None"):
        vmap(lambda x: x, out_dims=None)(x)


def test_nested_inputs():
    x, y, z = randn(2, 3), randn(2, 3), randn(3, 2)
    Pair = namedtuple("Pair", "a b")  # noqa: PYI024
    close(vmap(lambda d: d["x"] * d["y"][0])({"x": x, "y": [y]}), x * y)
    close(vmap(lambda p: p.a * p.b, in_dims=(Pair(0, 1),))(Pair(x, z)), x * z.t())
    close(vmap(lambda d: d["x"] * d["z"], in_dims=({"x": 0, "z": 1},))({"x": x, "z": z}), x * z.t())
    close(vmap(lambda d: d["x"], in_dims=(OrderedDict(x=0),))(OrderedDict(x=x)), x)
    nested = vmap(lambda t: t[0] + t[1][0] * t[1][1], in_dims=((0, [0, None]),))((x, [y, 2.0]))
    close(nested, x + 2 * y)


def test_nested_outputs():
    x = randn(2, 3)
    Pair = namedtuple("Pair", "a b")  # noqa: PYI024
    out = vmap(lambda x: {"a": (x, [x.sum()]), "b": Pair(x, x)})(x)
    assert isinstance(out["b"], Pair)
    close(out["a"][1][0], x.sum(1))
    out = vmap(lambda x: {"a": x, "b": (x, x)}, out_dims={"a": 1, "b": 0})(x)
    assert out["a"].shape == (3, 2)
    assert out["b"][0].shape == (2, 3)


def test_a_tuple_of_one_axis():
    x = randn(2, 3)
    assert vmap(lambda x: x, out_dims=(1,))(x).shape == (3, 2)
    assert vmap(lambda x: (x,), out_dims=(1,))(x)[0].shape == (3, 2)
    assert vmap(lambda x: (x,), out_dims=1)(x)[0].shape == (3, 2)


def test_what_is_no_tensor_is_passed_on():
    x = randn(2, 3)
    close(vmap(lambda x, s, f: f(x) * s, in_dims=(0, None, None))(x, 2, torch.sin), 2 * x.sin())


def test_keyword_arguments_are_the_same_for_all():
    x, y = randn(2, 3), randn(3)
    close(vmap(lambda x, scale: x * scale)(x, scale=y), x * y)


def test_partial_functions_and_callables_without_a_name():
    x = randn(2, 3)
    close(vmap(functools.partial(torch.mul, x[0]))(x), x[0] * x)

    class Double:
        def __call__(self, x):
            return x * 2

    close(vmap(Double())(x), 2 * x)


def test_a_batch_of_nothing():
    x = randn(0, 3)
    assert vmap(torch.sin)(x).shape == (0, 3)
    assert vmap(lambda x: x.sum())(x).shape == (0,)
    assert vmap(lambda x: x.cumprod(0))(x).shape == (0, 3)
    assert vmap(lambda x: torch.nn.functional.embedding(torch.tensor([0, 1]), x))(
        randn(0, 2, 4)
    ).shape == (0, 2, 4)


def test_chunks():
    x = randn(5, 3)
    for size in (1, 2, 5, 7):
        close(vmap(torch.sin, chunk_size=size)(x), x.sin())
        a, b = vmap(lambda x, y: (x * y, x), (0, None), (1, 0), chunk_size=size)(x, x[0])
        close(a, (x * x[0]).t())
        close(b, x)
    with pytest.raises(ValueError, match="chunk_size should be None or greater than 0"):
        vmap(torch.sin, chunk_size=0)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: vmap(torch.sin, in_dims="x")(x), "expected `in_dims` to be int or a"),
        (lambda x: vmap(torch.sin, in_dims=[0])(x), "expected `in_dims` to be int or a"),
        (lambda x: vmap(torch.sin)(), "got no inputs"),
        (lambda x: vmap(torch.mul, in_dims=(0,))(x, x), "in_dims is not compatible with the"),
        (lambda x: vmap(torch.mul, in_dims=(0, (0,)))(x, x), "in_dims is not compatible with the"),
        (lambda x: vmap(torch.mul, in_dims=(0, 1.0))(x, x), "Got in_dim=1.0 for an input but"),
        (lambda x: vmap(torch.mul)(x, 2.0), "We cannot vmap over non-Tensor arguments"),
        (lambda x: vmap(torch.sin, in_dims=2)(x), "expected in_dim to satisfy -2 <= in_dim < 2"),
        (lambda x: vmap(torch.sin)(x.sum()), "expected in_dim to satisfy -0 <= in_dim < 0"),
        (
            lambda x: vmap(torch.mul, (None, None))(x, x),
            "Expected at least one Tensor to vmap over",
        ),
        (lambda x: vmap(torch.mul, (0, 1))(x, x), r"same size in the mapped dimension, got sizes"),
        (lambda x: vmap(torch.sin, out_dims="a")(x), "`out_dims` must be an int, None or a python"),
        (lambda x: vmap(lambda x: (x, x), out_dims=(0, 0, 0))(x), "out_dims is not compatible"),
        (lambda x: vmap(lambda x: x, out_dims=(0, 0))(x), "out_dims is not compatible"),
        (lambda x: vmap(lambda x: 1)(x), "must only return Tensors, got type <class 'int'>"),
        (lambda x: vmap(lambda x: (x, None))(x), "must only return Tensors"),
    ],
)
def test_structures_that_do_not_fit(call, text):
    with pytest.raises(ValueError, match=text):
        call(randn(2, 3))


def test_output_axes_that_do_not_exist():
    with pytest.raises(IndexError, match=r"expected to be in range of \[-2, 1\], but got 3"):
        vmap(torch.sin, out_dims=3)(randn(2, 3))


def test_levels_nest():
    x, y = randn(2, 3), randn(5, 3)
    close(vmap(vmap(torch.mul, (None, 0)), (0, None))(x, y), x[:, None] * y)
    close(vmap(vmap(torch.mul, (0, None)), (None, 0))(x, y), x * y[:, None])
    z = randn(2, 3, 4, 5)
    close(vmap(vmap(vmap(lambda z: z.sum())))(z), z.sum(-1))
    close(vmap(vmap(lambda z: z, out_dims=1), in_dims=2)(z), z.permute(2, 1, 0, 3))


def test_an_inner_level_sees_tensors_of_the_outer_one():
    x, y = randn(2, 3), randn(5)
    out = vmap(lambda x: vmap(lambda y: x * y)(y))(x)
    close(out, x[:, None] * y[:, None])
    mixed = vmap(lambda x: vmap(lambda a, y: (x * a).sum() * y)(x, x))(x)
    close(mixed, (x[:, None, :] * x[:, :, None]).sum(-1) * x)


def test_a_result_of_the_outer_level_alone_is_repeated_in_the_inner_one():
    x, y = randn(2, 3), randn(5)
    out = vmap(lambda x: vmap(lambda y: x)(y))(x)
    close(out, x[:, None].expand(2, 5, 3))


def test_tensors_that_escape_are_recognised():
    kept = []
    vmap(lambda x: kept.append(x) or x)(randn(2, 3))
    for use in (
        lambda t: t.sin(),
        lambda t: t + 1,
        lambda t: t[0],
        lambda t: t.add_(1),
        lambda t: t.sum(),
        lambda t: t @ t,
        lambda t: t.T,
        lambda t: t.__setitem__(0, 1.0),
        lambda t: list(t),
    ):
        with pytest.raises(RuntimeError, match="may have escaped from inside a function being vm"):
            use(kept[0])
    with pytest.raises(RuntimeError, match="may have escaped"):
        vmap(lambda x: x + kept[0])(randn(2, 3))
    assert "BatchedTensor" in repr(kept[0])


def test_levels_belong_to_a_thread():
    errors = []

    def f(x):
        def run():
            try:
                x.sin()
            except RuntimeError as e:
                errors.append(str(e))
            assert torch.ones(2).sum() == 2

        thread = threading.Thread(target=run)
        thread.start()
        thread.join()
        return x

    vmap(f)(randn(2, 3))
    assert "another thread" in errors[0]


def test_several_threads_at_once():
    x = randn(4, 3)
    results = []

    def run():
        for _ in range(50):
            results.append(vmap(torch.func.grad(lambda x: (x**2).sum()))(x))

    threads = [threading.Thread(target=run) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(results) == 200
    for r in results:
        close(r, 2 * x)


def test_tensors_outside_are_not_slowed_or_changed():
    plain = randn(3)
    out = vmap(lambda x: x * plain.sum().item())(randn(2, 3))
    assert out.shape == (2, 3)
    assert not torch._core._is_batched(plain)


def test_nothing_is_left_that_would_slow_other_calls():
    assert not torch._core._batches_exist()
    x = randn(4, 3).requires_grad_()
    y = vmap(torch.func.grad(lambda x: vmap(torch.sin)(x).sum()))(x)
    torch.func.hessian(lambda x: (x**3).sum())(x[0]).sum().backward()
    assert not torch._core._batches_exist()
    kept = []
    with pytest.raises(ValueError, match="inside"):
        vmap(lambda x: kept.append(x) or int("inside"))(x)
    assert torch._core._batches_exist()  # so that the tensor is recognised wherever it is used
    kept.clear()
    assert not torch._core._batches_exist()
    y.sum().backward()


def test_functions_written_with_others():
    x, y = randn(2, 3, 4), randn(2, 4, 5)
    close(vmap(lambda x, y: torch.einsum("ij,jk->ki", x, y))(x, y), (x @ y).mT, 10)
    torch.testing.assert_close(vmap(lambda x: torch.nn.functional.gelu(x))(x),
                               torch.nn.functional.gelu(x))  # fmt: skip


# --------------------------------------------------------------------------- what is not one value


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (lambda x: x if x.sum() > 0 else -x, "data-dependent control flow"),
        (lambda x: x.sum().item(), r"calling \.item\(\) on a Tensor"),
        (lambda x: float(x.sum()), r"calling \.item\(\) on a Tensor"),
        (lambda x: int(x.sum()), r"calling \.item\(\) on a Tensor"),
        (lambda x: f"{x.sum():.2f}", r"calling \.item\(\) on a Tensor"),
        (lambda x: [0, 1][x.sum().long() * 0], r"calling \.item\(\) on a Tensor"),
        (lambda x: torch.zeros(3)[: x.sum().long()], r"calling \.item\(\) on a Tensor"),
        (lambda x: torch.tensor([x.sum(), 1.0]), r"calling \.item\(\) on a Tensor"),
        (lambda x: x.tolist(), "Cannot access data pointer"),
        (lambda x: x.numpy(), "Cannot access data pointer"),
        (lambda x: np.asarray(x), "Cannot access data pointer"),
        (lambda x: x.data_ptr(), "Cannot access data pointer"),
        (lambda x: memoryview(x), "Cannot access data pointer"),
        (lambda x: 1.0 in x, "Cannot access data pointer"),
        (lambda x: x.data, "accessing `data` under vmap transform is not allowed"),
        (lambda x: setattr(x, "data", x), "accessing `data` under vmap transform is not allowed"),
        (lambda x: x.resize_(2), "Cannot access storage of BatchedTensorImpl"),
        (lambda x: x.set_(x), "Cannot access storage of BatchedTensorImpl"),
        (copy.deepcopy, "Cannot access storage of BatchedTensorImpl"),
        (pickle.dumps, "Cannot access storage of BatchedTensorImpl"),
        (lambda x: x.nonzero(), "output dynamic shape"),
        (lambda x: x.masked_select(x > 0), "Attempted to vmap over `mask`"),
        (lambda x: x[x > 0], "dynamic shape. Attempting to batch over indexing with a boolean"),
        (lambda x: torch.equal(x, x), "Batching rule not implemented for aten::equal"),
        (lambda x: torch.allclose(x, x), "vmap over torch.allclose isn't supported yet"),
        (lambda x: torch.abs(x, out=torch.zeros(3)), r"aten::abs\.out; the fallback path doesn't"),
        (lambda x: torch.nn.functional.one_hot(x.long()), "explicit positive num_classes"),
    ],
)
def test_what_has_no_single_value_is_refused(use, text):
    with pytest.raises((RuntimeError, BufferError), match=text):
        vmap(use, out_dims=None)(randn(2, 3))


def test_errors_of_operations_are_those_of_one_example():
    x = randn(2, 3)
    with pytest.raises(IndexError, match=r"range of \[-1, 0\], but got 1"):
        vmap(lambda x: x.sum(1))(x)
    with pytest.raises(RuntimeError, match=r"shape '.2, 2.' is invalid for input of size 3"):
        vmap(lambda x: x.reshape(2, 2))(x)
    with pytest.raises(IndexError, match="too many indices for tensor of dimension 1"):
        vmap(lambda x: x[0, 0])(x)
    with pytest.raises(IndexError, match="index 3 is out of bounds for dimension 0 with size 3"):
        vmap(lambda x: x[3])(x)
    with pytest.raises(RuntimeError, match=r"2.*3|3.*2"):
        vmap(lambda x: x + torch.ones(2))(x)
    with pytest.raises(RuntimeError):
        vmap(lambda x: x.t() @ x[:2])(x)
    with pytest.raises(RuntimeError, match="permute"):
        vmap(lambda x: x.permute(0, 1))(x)
    with pytest.raises(TypeError, match="iteration over a 0-d tensor"):
        vmap(lambda x: list(x.sum()))(x)
    with pytest.raises(TypeError, match="len"):
        vmap(lambda x: len(x.sum()))(x)


def test_axes_of_length_one_are_not_mistaken_for_levels():
    x = randn(1, 1, 3)
    assert vmap(lambda x: x.squeeze())(x).shape == (1, 3)
    assert vmap(lambda x: x.squeeze(0))(x).shape == (1, 3)
    assert vmap(lambda x: x.sum())(x).shape == (1,)


def test_single_numbers_count_as_such_in_type_promotion():
    half = torch.tensor([1.0, 2.0], dtype=torch.float16)
    other = torch.tensor([1.0, 2.0], dtype=torch.float64)
    whole = torch.ones(2, 3, dtype=torch.float32)
    for a, b in ((half, whole), (other, whole), (other, whole.long()), (half.long(), whole.byte())):
        one = a[0] * b[0]
        assert vmap(torch.mul)(a, b).dtype == one.dtype
        assert vmap(torch.mul, (0, None))(a, b[0]).dtype == one.dtype
        assert vmap(torch.mul, (None, 0))(a[0], b).dtype == one.dtype
    assert vmap(torch.mul, (0, None))(half, other[0]).dtype == torch.float64
    assert vmap(torch.mul)(half, other).dtype == torch.float64
    assert vmap(lambda x: x * 2.5)(half).dtype == torch.float16
    assert vmap(lambda x: x * 2.5)(half.long()).dtype == torch.float32


def test_a_tensor_that_is_given_back_is_the_one_that_was_given():
    x = randn(3, 2)
    assert vmap(lambda x: x)(x) is x
    assert vmap(vmap(lambda x: x))(x) is x
    assert vmap(torch.Tensor.sin_)(x) is x
    assert vmap(torch.Tensor.sin_, out_dims=1)(x)._base is x


def test_a_leaf_may_not_be_written_to():
    x = randn(3, 2).requires_grad_()
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        vmap(torch.Tensor.sin_)(x)


def test_representation_names_the_axis():
    texts = []
    vmap(vmap(lambda x: texts.append(repr(x)) or x), in_dims=1)(torch.tensor([[1.0, 2.0]]))
    assert texts == [
        "BatchedTensor(lvl=2, bdim=0, value=\n    BatchedTensor(lvl=1, bdim=1, value=\n"
        "        tensor([[1., 2.]])\n    )\n)"
    ]


def test_what_is_behind_can_be_looked_at():
    x, seen = randn(2, 3, 4), []

    def look(t):
        seen.append((debug_unwrap(t), debug_unwrap(t, recurse=False).shape))
        return t

    vmap(vmap(look), in_dims=2)(x)
    close(seen[0][0], x)
    assert seen[0][1] == (2, 3)
    vmap(look)(x)
    assert seen[1][0] is x
    assert debug_unwrap(x) is x


def test_places_of_what_is_true_are_refused():
    with pytest.raises(RuntimeError, match="can output dynamic shape"):
        vmap(lambda x: torch.where(x > 0)[0])(randn(3, 2))
