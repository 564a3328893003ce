"""`backward` and `grad`: whose gradient, its memory, order, nesting, what is refused."""

import pytest
import wengert as torch
from support import leaf
from wengert import autograd

# ------------------------------------------------------------------------------ grad, in full


def test_an_output_that_is_an_input():
    x = leaf()
    y = x * 2
    assert autograd.grad(x, x, torch.ones(3))[0].tolist() == [1.0] * 3
    assert autograd.grad(y, [y, x], torch.ones(3))[0].tolist() == [1.0] * 3
    assert autograd.grad(y, y, torch.ones(3))[0].tolist() == [1.0] * 3


def test_inputs_given_twice():
    x = leaf()
    y = x * 2
    assert [g.tolist()[0] for g in autograd.grad(y.sum(), [x, y, x, y])] == [2.0, 1.0, 2.0, 1.0]


def test_outputs_given_twice_add_up():
    x = leaf()
    y = (x * 2).sum()
    assert autograd.grad([y, y, x.sum()], x)[0].tolist() == [5.0] * 3


def test_vectors_for_some_outputs():
    x = leaf()
    y = x * 2
    g = autograd.grad([y, y.sum()], x, [torch.tensor([1.0, 0.0, 0.0]), None])[0]
    assert g.tolist() == [4.0, 2.0, 2.0]


def test_a_vector_of_another_type_is_converted():
    x = leaf()
    assert autograd.grad(x * 2, x, torch.ones(3, dtype=torch.float64))[0].dtype == torch.float32


def test_gradients_of_the_vector():
    x, v = leaf(), leaf()
    (g,) = autograd.grad(x * x, x, v, create_graph=True)
    assert autograd.grad(g.sum(), v)[0].tolist() == [2.0, 4.0, 6.0]


def test_unused_inputs():
    x, unused = leaf(), leaf()
    y = x.sum()
    assert autograd.grad(y, [x, unused], allow_unused=True, retain_graph=True)[1] is None
    zeros = autograd.grad(y, [unused], materialize_grads=True, retain_graph=True)[0]
    assert zeros.tolist() == [0.0] * 3
    assert not zeros.requires_grad
    with pytest.raises(RuntimeError, match=r"index 1 appears to not have been used in the graph"):
        autograd.grad(y, [x, unused], retain_graph=True)
    with pytest.raises(ValueError, match="Expected allow_unused to be True or not passed"):
        autograd.grad(y, [x], allow_unused=False, materialize_grads=True)


@pytest.mark.parametrize(("call", "error", "text"), [
    (lambda x, y: autograd.grad(y, []), RuntimeError, "argument to `grad.*cannot be empty"),
    (lambda x, y: autograd.backward(y, inputs=[]), RuntimeError, "`inputs` argument to `backward"),
    (lambda x, y: autograd.grad(y, torch.ones(3)), RuntimeError, "does not require grad"),
    (lambda x, y: autograd.grad(torch.ones(()), x), RuntimeError,
     "element 0 of tensors does not require grad and does not have a grad_fn"),
    (lambda x, y: autograd.grad([y, torch.ones(())], x), RuntimeError, "element 1 of tensors"),
    (lambda x, y: autograd.grad(x * 2, x), RuntimeError,
     "grad can be implicitly created only for scalar outputs"),
    (lambda x, y: autograd.grad(x * 2, x, torch.ones(2)), RuntimeError,
     r"Mismatch in shape: grad_output\[0\] has a shape of torch.Size\(\[2\]\) and output\[0\]"),
    (lambda x, y: autograd.grad([y, y], x, [None]), RuntimeError, "got 2 tensors and 1 gradients"),
    (lambda x, y: autograd.backward([y, y], [None]), RuntimeError, "got 2 tensors and 1 gradients"),
    (lambda x, y: autograd.backward(y, torch.ones(()), grad_variables=torch.ones(())),
     RuntimeError, "`grad_tensors` and `grad_variables`"),
    (lambda x, y: y.backward([1]), TypeError, "gradients can be either Tensors or None"),
    (lambda x, y: autograd.grad(None, [x]), TypeError, "NoneType"),
])  # fmt: skip
def test_misuse(call, error, text):
    x = leaf()
    y = (x * x).sum()
    with pytest.raises(error, match=text):
        call(x, y)
    assert x.grad is None
    y.backward()  # the graph is as it was


# ------------------------------------------------------------------------------- backward, in full


def test_several_roots_share_a_graph():
    x = leaf()
    h = x.exp()
    autograd.backward([h.sum(), (h * h).sum()])
    expected = [v + 2 * v * v for v in x.exp().tolist()]
    assert x.grad.tolist() == pytest.approx(expected)


def test_a_root_twice_and_a_root_that_is_a_leaf():
    x = leaf()
    y = (x * 2).sum()
    autograd.backward([y, y, x, x], [None, None, torch.ones(3), torch.ones(3)])
    assert x.grad.tolist() == [6.0] * 3


def test_inputs_restrict_what_is_written():
    x, w = leaf(), leaf()
    h = x * w
    (h * h).sum().backward(inputs=(h, w, w))
    assert x.grad is None
    assert h.grad.tolist() == [2.0, 8.0, 18.0]
    assert w.grad.tolist() == [2.0, 16.0, 54.0]
    unused = leaf()
    (x * 2).sum().backward(inputs=[unused])
    assert unused.grad is None
    assert x.grad is None
    with pytest.raises(RuntimeError, match="does not require grad"):
        (x * 2).sum().backward(inputs=[torch.ones(3)])


def test_newest_first():
    seen = []
    a = torch.ones(1, requires_grad=True)
    w = torch.ones(1, requires_grad=True)
    b = a * 2
    c = w * 3
    d = b + 1
    e = c + 1
    for name, t in {"a": a, "b": b, "c": c, "d": d, "e": e, "w": w}.items():
        t.register_hook(lambda g, name=name: seen.append(name))
    autograd.backward([d, e])
    assert seen == ["e", "d", "c", "w", "b", "a"]


def test_create_graph_without_keeping_the_graph():
    x = leaf()
    y = (x * x).sum()
    y.backward(retain_graph=False, create_graph=True)
    assert x.grad.requires_grad
    with pytest.raises(RuntimeError, match="second time"):
        y.backward()
    x.grad = None


def test_grad_mode_inside():
    seen = []
    x = leaf()
    y = (x * x).sum()
    y.register_hook(lambda g: seen.append(torch.is_grad_enabled()))
    y.backward(retain_graph=True)
    with torch.no_grad():
        (g,) = autograd.grad(y, x, create_graph=True)
    assert seen == [False, True]
    assert g.requires_grad


def test_a_failing_hook_changes_no_gradient():
    x, w = leaf(), leaf()
    x.grad = torch.ones(3)
    y = x * w

    def fail(_):
        raise ValueError("boom")

    handle = w.register_hook(fail)
    with pytest.raises(ValueError, match="boom"):
        y.sum().backward(retain_graph=True)
    assert x.grad.tolist() == [1.0] * 3
    assert w.grad is None
    handle.remove()
    y.sum().backward()
    assert x.grad.tolist() == [2.0, 3.0, 4.0]


# ------------------------------------------------------------ the memory and identity of .grad


def test_grad_stays_the_same_object():
    x = leaf()
    (x * x).sum().backward()
    first, memory = x.grad, x.grad.data_ptr()
    view = x.grad[1:]
    (x * x).sum().backward()
    assert x.grad is first
    assert x.grad.data_ptr() == memory
    assert view.tolist() == [8.0, 12.0]
    assert first._version == 1


def test_under_create_graph_it_is_another():
    x = leaf()
    (x * x).sum().backward()
    first = x.grad
    (x * x).sum().backward(create_graph=True)
    assert x.grad is not first
    assert first.tolist() == [2.0, 4.0, 6.0]
    assert x.grad.tolist() == [4.0, 8.0, 12.0]
    x.grad = None


def test_the_vector_is_not_taken_over():
    x, v = leaf(), torch.ones(3)
    x.backward(v)
    v.zero_()
    assert x.grad.tolist() == [1.0] * 3
    y = leaf()
    (y * 1).backward(v, create_graph=True)
    assert y.grad.data_ptr() != v.data_ptr()


def test_two_leaves_do_not_share_a_gradient():
    x, y = leaf(), leaf()
    (x + y).sum().backward()
    assert x.grad.data_ptr() != y.grad.data_ptr()
    x.grad.zero_()
    assert y.grad.tolist() == [1.0] * 3


LEAVES = {
    "row-major": (lambda: torch.ones(2, 3), (3, 1)),
    "transposed": (lambda: torch.ones(2, 3).t(), (1, 3)),
    "permuted": (lambda: torch.ones(2, 3, 4).permute(2, 0, 1), (1, 12, 4)),
    "with gaps": (lambda: torch.ones(4, 6)[:, ::2], (3, 1)),
    "expanded": (lambda: torch.ones(4).expand(3, 4), (4, 1)),
}


@pytest.mark.parametrize(("make", "strides"), LEAVES.values(), ids=LEAVES)
@pytest.mark.parametrize("rule", [
    lambda x: (x * 2).sum(),
    lambda x: (x.contiguous() * 2).sum(),
    lambda x: (x.clone().sin() * x).sum(),
], ids=["expanded gradient", "row-major gradient", "sum of two"])  # fmt: skip
@pytest.mark.parametrize("create_graph", [False, True])
def test_a_gradient_has_the_strides_of_a_dense_leaf(make, strides, rule, create_graph):
    x = make().detach().requires_grad_()
    rule(x).backward(create_graph=create_graph)
    assert x.grad.stride() == strides
    x.grad = None


def test_a_gradient_that_was_there_keeps_its_strides():
    x = torch.ones(3, 2, requires_grad=True)
    x.grad = torch.ones(2, 3).t()
    given = x.grad
    (x * 2).sum().backward()
    assert x.grad is given
    assert given.stride() == (1, 3)
    assert given.tolist() == [[3.0, 3.0]] * 3


def test_a_gradient_that_shares_memory_is_written_to():
    x, flat = torch.ones(2, 3, requires_grad=True), torch.zeros(10)
    x.grad = flat[2:8].view(2, 3)
    (x * 2).sum().backward()
    assert flat.tolist() == [0.0] * 2 + [2.0] * 6 + [0.0] * 2


def test_a_gradient_that_cannot_be_written_to_is_replaced():
    x = leaf()
    x.grad = torch.ones(1).expand(3)
    (x * 2).sum().backward()
    assert x.grad.tolist() == [3.0] * 3


def test_retained_gradients_are_new_each_time():
    x = leaf()
    y = x * 1
    y.retain_grad()
    (y * 2).sum().backward(retain_graph=True)
    first = y.grad
    (y * 2).sum().backward()
    assert y.grad is not first
    assert (first.tolist(), y.grad.tolist()) == ([2.0] * 3, [4.0] * 3)


def test_assigning_grad():
    x = leaf()
    for wrong, text in [
        (torch.ones(4), r"gradient of size '\[4\]' to a tensor of size '\[3\]'"),
        (torch.ones(3, dtype=torch.float64), "dtype 'double' to a tensor with grad_dtype 'Float'"),
        (x, "can't assign Variable as its own grad"),
    ]:
        with pytest.raises(RuntimeError, match=text):
            x.grad = wrong
    with pytest.raises(TypeError, match="expected to be a Tensor or None"):
        x.grad = 3
    del x.grad
    assert x.grad is None


# ------------------------------------------------------------ passes within passes


# Text, because some tests run it in a process of its own.
NESTED = """
def nested(depth):
    x, count = torch.ones(1, requires_grad=True), [0]
    def level(n):
        y = x * 1
        def hook(_):
            count[0] += 1
            if n > 0:
                with torch.enable_grad():
                    level(n - 1)
        y.register_hook(hook)
        y.sum().backward()
    level(depth)
    return count[0], x.grad.item()
"""


@pytest.mark.parametrize("depth", [1, 59, 60, 61, 130, 2000])
def test_d16_nested_passes(depth):
    space = {"torch": torch}
    exec(NESTED, space)
    assert space["nested"](depth) == (depth + 1, depth + 1)


def test_d16_very_deep(isolated):
    code = f"{NESTED}\nresult = list(nested(20_000))"
    assert isolated.value(code, limit=60) == [20_001, 20_001.0]


@pytest.mark.timeout(120)
def test_endless_nesting_is_a_recursion_error(isolated):
    code = """
x = torch.ones(1, requires_grad=True)
try:
    with torch.enable_grad():
        y = x * 1
        def again(g):
            with torch.enable_grad():
                z = x * 1
                z.register_hook(again)
                z.sum().backward()
        y.register_hook(again)
        y.sum().backward()
    result = "no end"
except RecursionError as e:
    result = ["backward passes within backward passes" in str(e), x.grad is None]
"""
    found = isolated.value(code, limit=110)
    assert found == [True, True]


def test_a_hook_walks_the_graph_it_is_in():
    x = leaf()
    y = x * 2
    seen = []

    def hook(_):
        with torch.enable_grad():
            (y * 3).sum().backward(retain_graph=True)
        seen.append(x.grad.tolist())

    handle = (x * 1).register_hook(hook)  # on another node; not called
    z = y.exp()
    z.register_hook(hook)
    z.sum().backward()
    handle.remove()
    assert seen == [[6.0] * 3]
    assert x.grad.tolist() == pytest.approx([6.0 + 2 * v for v in y.exp().tolist()])


def test_an_error_in_an_inner_pass():
    x = leaf()
    y = x * 1

    def hook(_):
        with torch.enable_grad():
            (x * 1).backward()

    y.register_hook(hook)
    with pytest.raises(RuntimeError, match="implicitly created only for scalar"):
        y.sum().backward()
    assert x.grad is None


def test_an_error_in_an_inner_pass_of_another_thread():
    x, depth = leaf(), [0]

    def level():
        y = x * 1

        def hook(_):
            depth[0] += 1
            if depth[0] == 100:
                raise KeyError("deep")
            with torch.enable_grad():
                level()

        y.register_hook(hook)
        y.sum().backward()

    with pytest.raises(KeyError, match="deep"):
        level()
    assert x.grad is None


def test_where_only_the_sign_counts_the_gradient_is_zero():
    size, sign = (torch.tensor(v, requires_grad=True) for v in ([1.0, 2.0], [-1.0, 0.0]))
    torch.copysign(size, sign).sum().backward()
    assert size.grad.tolist() == [-1.0, 1.0]
    assert sign.grad.tolist() == [0.0, 0.0]
