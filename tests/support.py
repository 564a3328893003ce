"""What the tests share: tensors in every layout, comparison, derivatives, own processes."""

import atexit
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import wengert as torch

GOLDEN = Path(__file__).parent / "golden"
RELATIVE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 4e-6, "float64": 1e-13}
TWIN = ("float64", "int64")  # the types for which a result is compared in another form or layout


def golden(name):
    return json.loads((GOLDEN / name).read_text())


def find(dotted):
    """The callable of that name below the package, or the method of `Tensor`."""
    place = torch
    for part in dotted.split("."):
        if not hasattr(place, part):
            return getattr(torch.Tensor, dotted)
        place = getattr(place, part)
    return place if callable(place) else getattr(torch.Tensor, dotted)  # `torch.long` is a type


def leaf(*values):
    """A small leaf of the graph."""
    return torch.tensor(values or (1.0, 2.0, 3.0), requires_grad=True)


def dtype_name(tensor_or_dtype):
    return str(getattr(tensor_or_dtype, "dtype", tensor_or_dtype)).rpartition(".")[2]


# ------------------------------------------------------------------------------------ layouts


def contiguous(a, new):
    return new(a)


def transposed(a, new):
    return new(np.array(a.T, order="C")).permute(tuple(range(a.ndim))[::-1])


def stepped(a, new):
    """Every second element from the second one on, along every dimension."""
    if a.ndim == 0:
        return new(np.array([a, a]))[1]
    wide = np.zeros([2 * n + 1 for n in a.shape], a.dtype)
    inside = (slice(1, None, 2),) * a.ndim
    wide[inside] = a
    return new(wide)[inside]


def expanded(a, new):
    """The first slice again and again, with stride 0 (and so with other values than `a`)."""
    return new(a[:1]).expand(a.shape) if a.ndim and a.shape[0] else new(a)


def flipped(a, new):
    """Memory that runs backwards."""
    if a.ndim == 0 or dtype_name(new(a[:0])) == "bfloat16":  # NumPy has no such array
        return new(a)
    return torch.from_numpy(np.flip(np.flip(new(a).numpy()).copy()))


LAYOUTS = [contiguous, transposed, stepped, expanded, flipped]


def to_tensor(a, dtype, layout=contiguous):
    """A tensor of the array; floating values get the element type `dtype`."""
    wanted = (
        dtype if a.dtype.kind == "f" and dtype.startswith(("float", "bfloat")) else a.dtype.name
    )
    return layout(a, lambda part: torch.tensor(part).to(getattr(torch, wanted)))


def convert(value, leaf):
    """`value` with `leaf` applied to each array or tensor in it; element types found by name."""
    if isinstance(value, (np.ndarray, np.generic, torch.Tensor)):
        return leaf(value)
    if isinstance(value, (list, tuple)):
        return type(value)(convert(v, leaf) for v in value)
    if isinstance(value, dict):
        return {
            k: getattr(torch, v) if k == "dtype" else convert(v, leaf) for k, v in value.items()
        }
    return value


def call_args(sample, dtype, layout=contiguous):
    def leaf(a):
        return to_tensor(np.asarray(a), dtype, layout)

    return convert(sample.args, leaf), convert(sample.kwargs, leaf)


def leaves(value, of=None):
    """The tensors in nested arguments or results."""
    if isinstance(value, of or torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [t for v in value for t in leaves(v, of)] if isinstance(value, (list, tuple)) else []


def is_float(tensor):
    return dtype_name(tensor) in RELATIVE


# --------------------------------------------------------------------------------- comparison


def to_array(tensor):
    """The values, floating types widened to float64."""
    tensor = tensor.detach()
    return (tensor.to(torch.float64) if is_float(tensor) else tensor).numpy()


def assert_close(actual, expected, tol=1.0, note=""):
    """Equality for integers; a relative and absolute tolerance by element type for the others."""
    expected = np.asarray(expected)
    assert tuple(actual.shape) == expected.shape, (
        f"shape {tuple(actual.shape)}, expected {expected.shape} {note}"
    )
    if is_float(actual):
        limit = tol * RELATIVE[dtype_name(actual)]
        np.testing.assert_allclose(
            to_array(actual), expected.astype("float64"), limit, limit, err_msg=note
        )
    else:
        np.testing.assert_array_equal(to_array(actual), expected, err_msg=note)


def assert_same(actual, expected, note=""):
    """The same element type, shape and bits."""
    assert dtype_name(actual) == dtype_name(expected), note
    assert tuple(actual.shape) == tuple(expected.shape), note
    a, b = (np.ascontiguousarray(to_array(t)) for t in (actual, expected))
    assert a.tobytes() == b.tobytes() or np.array_equal(a, b, equal_nan=a.dtype.kind == "f"), note


# -------------------------------------------------------------------------------- derivatives


def check_gradients(function, inputs, order=2, seed=0, step=1e-5, tol=1e-5):
    """Compares derivatives with central differences along one random direction, order by order.

    `function` maps float64 tensors to one or several tensors. They are projected on a random
    vector to a number s; the gradient of s along a random direction u must be
    (s(x + hu) - s(x - hu)) / 2h. The gradient is the function of the next order.
    """
    for level in range(1, order + 1):
        number = projected(function, seed + level)
        draw = np.random.default_rng(seed + 100 + level).standard_normal
        direction = [torch.tensor(draw(tuple(x.shape))) for x in inputs]
        along = sum(
            float((g.detach() * u).sum())
            for g, u in zip(gradient(number)(*inputs), direction, strict=True)
        )
        ahead, behind = (number(*moved(inputs, direction, h)) for h in (step, -step))
        if not any(x.numel() for x in inputs):
            continue  # nothing can move; that the gradient exists is all there is to see
        slope = float(ahead.detach() - behind.detach()) / (2 * step)
        assert abs(along - slope) <= tol * (1 + abs(slope)), (
            f"order {level}: gradient {along}, difference {slope}"
        )
        function = gradient(number)


def moved(inputs, direction, h):
    return [x.detach() + h * u for x, u in zip(inputs, direction, strict=True)]


def projected(function, seed):
    """The function of the same arguments whose value is one number: the outputs' projection."""

    def number(*xs):
        draw = np.random.default_rng(seed).standard_normal
        total = torch.zeros((), dtype=torch.float64)
        for t in leaves([function(*xs)]):
            if is_float(t):
                total = total + (t * torch.tensor(draw(tuple(t.shape)))).sum()
        return total

    return number


def gradient(number):
    """The gradient of a number as a function; zeros where nothing was recorded."""

    def function(*xs):
        xs = [x if x.requires_grad else x.detach().requires_grad_() for x in xs]
        value = number(*xs)
        grads = [None] * len(xs)
        if value.requires_grad:
            grads = torch.autograd.grad(value, xs, create_graph=True, allow_unused=True)
        return [torch.zeros_like(x) if g is None else g for x, g in zip(xs, grads, strict=True)]

    return function


# ------------------------------------------------------------------------------ own processes


class Isolated:
    """A server that runs each piece of code in a process of its own, see `isolated.py`."""

    def __init__(self):
        command = [sys.executable, str(Path(__file__).with_name("isolated.py"))]
        self.server = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        atexit.register(self.server.kill)

    def __call__(self, code, limit=20.0, memory=None):
        self.server.stdin.write(json.dumps({"code": code, "limit": limit, "memory": memory}) + "\n")
        self.server.stdin.flush()
        return json.loads(self.server.stdout.readline())

    def value(self, code, limit=20.0, memory=None):
        """What the code left in `result`; fails if it raised, crashed or hung."""
        answer = self(code, limit, memory)
        assert answer["outcome"] == "value", f"{answer}\n{code}"
        return answer["value"]

    def close(self):
        self.server.stdin.close()
        self.server.wait(10)
