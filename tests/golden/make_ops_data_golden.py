"""Writes ops_data.json: operations that make, join and index tensors, with PyTorch's results.

Run with a Python that has PyTorch 2.13, on an x86-64 CPU with AVX2 that is not Intel's (see
make_random_golden.py), from this folder:

    python make_ops_data_golden.py

Each case is one object:

    op         name of the row, dotted for submodules
    overload   which of its signatures
    args       values in the order of the signature; what is left out has its default
    seed       of the generator, which is passed if the signature has one
    out        list of results, or
    error      the first line of PyTorch's message
    grad_fn    name of the first result's node
    grads      per argument, gradients of sum(w * out) with w = 0.5, 1, 1.5, ... over all results;
               left out where PyTorch's own backward fails

A tensor is {dtype, shape, strides, offset, storage, grad}; strides of results are recorded where a
layout is part of the promise ("strided"). Floats are hex digits of their float64 bits, other
numbers are numbers, and so are whole floats in a storage. tests/ops_data.rs of the crate replays
the file.
"""

import contextlib
import json
import struct
import warnings

import torch

torch.set_num_threads(1)
warnings.simplefilter("ignore")
cases = []


def number(x):
    return struct.pack(">d", x).hex() if isinstance(x, float) else x


def element(x):
    """As `number`, but whole floats as integers: the type is known from the tensor."""
    whole = isinstance(x, float) and abs(x) < 2**53 and x == int(x) and str(x) != "-0.0"
    return int(x) if whole else number(x)


def described(t, grad=False):
    flat = torch.as_strided(t.detach(), (t.untyped_storage().size() // t.element_size(),), (1,), 0)
    values = flat.double().tolist() if t.is_floating_point() else flat.tolist()
    return {
        "dtype": str(t.dtype).removeprefix("torch."),
        "shape": list(t.shape),
        "strides": list(t.stride()),
        "offset": t.storage_offset(),
        "storage": [element(v) for v in values],
        "grad": grad,
    }


def result(t, strided):
    made = described(t.detach().contiguous().clone())
    made["strides"] = list(t.stride()) if strided else None
    return made


def encoded(a):
    if isinstance(a, torch.Tensor):
        return described(a, a.requires_grad)
    if isinstance(a, torch.dtype):
        return {"type": str(a).removeprefix("torch.")}
    if isinstance(a, (list, tuple)):
        return [encoded(x) for x in a]
    return number(a)


def case(op, *args, overload=0, seed=None, strided=False, call=None):
    function = call or getattr(torch.nn.functional if "." in op else torch, op.split(".")[-1])
    record = {"op": op, "overload": overload, "args": [encoded(a) for a in args]}
    if seed is not None:
        record["seed"] = seed
        torch.manual_seed(seed)
    leaves = [a for a in args for a in (a if isinstance(a, (list, tuple)) else [a])]
    try:
        out = function(*args)
    except (RuntimeError, IndexError, ValueError, NotImplementedError, AssertionError) as error:
        record["error"] = str(error).split("\n")[0]
        cases.append(record)
        return
    outs = out if isinstance(out, (list, tuple)) else [out]
    record["out"] = [result(o, strided) for o in outs]
    if outs and outs[0].grad_fn:
        record["grad_fn"] = outs[0].grad_fn.name()
        total = sum(
            (o * (torch.arange(1, o.numel() + 1, dtype=o.dtype) / 2).view(o.shape)).sum()
            for o in outs
        )
        for leaf in leaves:
            if isinstance(leaf, torch.Tensor):
                leaf.grad = None
        try:
            total.backward()
            record["grads"] = [
                result(leaf.grad, False)
                if isinstance(leaf, torch.Tensor) and leaf.grad is not None
                else None
                for leaf in leaves
            ]
        except RuntimeError:
            pass
    cases.append(record)


def method(name, **keywords):
    return lambda x, *args: getattr(x, name)(*args, **keywords)


def with_dtype(function, at):
    """Takes the argument number `at` as dtype."""
    return lambda *args: function(*args[:at], dtype=args[at])


INF, NAN = float("inf"), float("nan")
INTS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
ALL = [torch.bool, *INTS, *FLOATS]


def L(*values, dtype=torch.int64):  # noqa: N802 - short, as there are hundreds
    return torch.tensor(values, dtype=dtype)


def x34(dtype=torch.float64, grad=True):
    return torch.arange(12).view(3, 4).to(dtype).requires_grad_(grad and dtype.is_floating_point)


# Constants.
for op in ["zeros", "ones"]:
    for dtype in ALL:
        case(op, [2, 3], dtype, call=with_dtype(getattr(torch, op), 1))
    for size in [[], [0], [2, 0, 3], [-1], [2, -3]]:
        case(op, size)
for value in [
    1,
    1.5,
    True,
    0,
    -1,
    300,
    127,
    128,
    -129,
    -255,
    -256,
    65504,
    70000,
    1e39,
    1e300,
    1e19,
    300.7,
    INF,
    -INF,
    NAN,
]:
    case("full", [2], value)
    for dtype in ALL:
        case("full", [2], value, dtype, call=with_dtype(torch.full, 2))
case("full", [-2], 1)
for op in ["zeros_like", "ones_like"]:
    for x in [
        x34(torch.int16),
        x34(torch.float32).detach().t(),
        torch.zeros(4, 6)[:, ::2].t(),
        torch.zeros(3).expand(4, 3),
        torch.zeros(2, 3, 4).permute(2, 0, 1),
        torch.zeros(2, 3, 4)[:, :, ::2].permute(2, 0, 1),
        torch.tensor(3.0),
    ]:
        case(op, x, strided=True)
for value in [300, 1.5, -1]:
    case("full_like", L(1, 2, dtype=torch.int8), value)
    case("full_like", L(1, 2, dtype=torch.uint8), value)
    case("new_full", L(1, 2, dtype=torch.uint8), [3], value, call=method("new_full"))
case("new_zeros", L(1), [2, 2], call=method("new_zeros"))
case("new_ones", torch.zeros(1), [2, 2], torch.int8, call=lambda x, s, d: x.new_ones(s, dtype=d))
for value in [2, 2.5, 300, -5, NAN, INF]:
    for dtype in ALL:
        case("fill_", torch.ones(3, dtype=dtype), value, call=method("fill_"))
case("fill_", torch.ones(3), torch.ones(2), call=method("fill_"))

# Sequences.
for end in [5, 5.0, 0, 0.5, True, -1, INF, NAN, 1e30, 2**62]:
    case("arange", end)
for args in [
    (0, 3, 0.5),
    (3, 1),
    (1, 3, 0),
    (1, 3, -1),
    (3, 1, -1),
    (5, 0, -2),
    (0, 2**40, 2**38),
    (1, 2, 0.1),
    (-3, 3),
    (0.1, 1.0, 0.3),
    (1, 1),
    (2**53, 2**53 + 3),
    (0, 7, 3),
    (7, 0, -3),
]:
    case("arange", *args, overload=1)
for args in [(0, 5, 1), (0, 5.7, 1), (0.5, 4.5, 1.25), (0, 5, 0.5), (10, 0, -3)]:
    for dtype in ALL:
        case("arange", *args, dtype, overload=1, call=with_dtype(torch.arange, 3))
for steps in [0, 1, 2, 3, 5, 7, -1]:
    case("linspace", 0, 1, steps)
    case("linspace", -3.5, 10, steps)
    case("logspace", 0, 3, steps, 2.0)
    case("logspace", -1, 1, steps)
    for dtype in [*INTS, torch.float64]:
        case("linspace", 0, 10, steps, dtype, call=with_dtype(torch.linspace, 3))
# Short enough that PyTorch does not use vectors, whose width decides the last bits.
for dtype in ALL:
    case(
        "linspace",
        -3.3,
        7.9,
        7 if dtype.itemsize < 8 else 3,
        dtype,
        call=with_dtype(torch.linspace, 3),
    )
    case(
        "linspace",
        0.7,
        9.1,
        6 if dtype.itemsize < 8 else 3,
        dtype,
        call=with_dtype(torch.linspace, 3),
    )
for n in [0, 1, 3, -1]:
    case("eye", n)
    for m in [0, 2, 5, -1]:
        case("eye", n, m, overload=1)
for dtype in ALL:
    case("eye", 2, dtype, call=with_dtype(torch.eye, 1))

# Triangles and diagonals.
for k in [0, 1, -1, 2, -2, 4, -4, 2**62, -(2**62)]:
    for op in ["tril", "triu"]:
        case(op, x34(), k)
        case(op, torch.arange(12.0).view(2, 3, 2).double().requires_grad_(), k)
    if abs(k) < 9:
        case("diag", x34(), k)
        case("diag", torch.arange(3.0).double().requires_grad_(), k)
        case("diagonal", torch.arange(24.0).double().view(2, 3, 4).requires_grad_(), k, 0, 2)
        case("diagonal", torch.arange(24.0).double().view(2, 3, 4).requires_grad_(), k, -1, 1)
        case("diag_embed", torch.arange(6.0).double().view(2, 3).requires_grad_(), k)
        case("diag_embed", torch.arange(6.0).double().view(2, 3).requires_grad_(), k, 0, 2)
for dtype in ALL:
    case("tril", x34(dtype, False), 0)
    case("triu", x34(dtype, False).t(), 1, strided=True)
for op in ["tril", "diag"]:
    case(op, torch.tensor(1.0))
case("tril", torch.arange(3))
case("diag", torch.zeros(2, 2, 2))
case("tril", torch.tensor([[1.0, NAN], [INF, 2.0]]))

# Joins.
a, b = x34(), (x34().detach() * 10).requires_grad_()
e = torch.zeros(0)
for dim in [0, 1, -1, 2, -3]:
    case("cat", [a, b], dim)
    case("stack", [a, b], dim)
for tensors in [
    [],
    [a],
    [a.detach(), e],
    [e, e],
    [a.detach(), torch.zeros(0, 4)],
    [a.detach(), torch.zeros(0, 4, 4)],
    [a.detach(), torch.zeros(3, 5)],
    [a.detach(), torch.zeros(3)],
    [torch.tensor(1.0), torch.tensor(2.0)],
    [a.detach().t(), b.detach().t()],
    [L(1, 2), L(3, dtype=torch.uint8)],
    [L(1), e],
]:
    case("cat", tensors)
    for op in ["stack", "hstack", "vstack", "dstack", "column_stack"]:
        if tensors and tensors[0] is not e:
            case(op, tensors)
for p in ALL:
    for q in ALL:
        case("cat", [torch.ones(2, dtype=p), torch.zeros(1, dtype=q)])
v = [
    torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True),
    torch.tensor([3.0, 4.0], requires_grad=True),
]
for op in ["cat", "stack", "hstack", "vstack", "dstack", "column_stack"]:
    case(op, v)

# Along an axis.
i22 = torch.tensor([[0, 1], [2, 0]])
bad, negative = torch.tensor([[0, 5]]), torch.tensor([[-1, 0]])
for x in [x34(), x34().detach().t().requires_grad_()]:
    for dim in [0, 1, -1]:
        for index in [
            i22,
            i22.int(),
            i22.t(),
            torch.zeros(0, 2, dtype=torch.int64),
            torch.zeros(3, 1, dtype=torch.int64).expand(3, 3),
        ]:
            case("gather", x, dim, index)
for dtype in ALL:
    case("gather", x34(dtype, False), 1, i22)
for index in [
    bad,
    negative,
    i22.double(),
    L(0),
    torch.zeros(4, 1, dtype=torch.int64),
    torch.zeros(0, 9, dtype=torch.int64),
    torch.zeros(0, dtype=torch.int64),
]:
    case("gather", x34(grad=False), 1, index)
case("gather", torch.tensor(3.0), 0, L(0, 0))
case("gather", torch.tensor(3.0), 0, torch.tensor(0))
case("gather", x34(grad=False), 2, i22)
for op, dims in [("scatter", [0, 1, -2]), ("scatter_add", [0, 1, -2])]:
    for dim in dims:
        for index in [
            i22,
            torch.tensor([[0, 1, 0], [2, 2, 2]]),
            torch.zeros(0, 2, dtype=torch.int64),
        ]:
            src = torch.arange(100.0, 109.0).double().view(3, 3)
            case(op, x34(grad=False), dim, index, src)
            # PyTorch has no gradient for a source larger than the index.
            if src.shape != index.shape:
                src = src[: index.shape[0], : index.shape[1]]
            case(op, x34(), dim, index, src.clone().requires_grad_())
    for index in [bad, negative, i22.double(), L(0), torch.zeros(4, 1, dtype=torch.int64)]:
        case(op, x34(grad=False), 1, index, torch.ones(3, 3).double())
    case(op, x34(grad=False), 1, i22, torch.ones(1, 2).double())
    case(op, x34(grad=False), 1, i22, torch.ones(2, 2))
    for dtype in ALL:
        case(op, x34(dtype, False), 1, i22, torch.ones(2, 2).to(dtype))
for value in [5, 2.5]:
    case("scatter", x34(), 1, i22, value, overload=1)
    case("scatter", x34(torch.int32), 1, i22, value, overload=1)
case("scatter", x34(torch.uint8), 1, i22, 300, overload=1)
case("scatter", x34(grad=False), 1, bad, 1.0, overload=1)
for x in [x34(), torch.arange(24.0).double().view(2, 3, 4).transpose(0, 2).requires_grad_()]:
    for dim in [0, 1, -1]:
        for index in [L(0, 1, 0), L(1), torch.tensor(1), L(1, 0, dtype=torch.int32), L()]:
            case("index_select", x, dim, index)
for index in [L(4), L(-1), i22, L(0, dtype=torch.float32)]:
    case("index_select", x34(grad=False), 1, index)
for index in [L(0), L(1), L(0, 0)]:
    case("index_select", torch.tensor(3.0), 0, index)
for op in ["index_add", "index_copy"]:
    call = method(op)
    for dim, index, shape in [
        (0, L(0, 2), (2, 4)),
        (1, L(3, 1, 3), (3, 3)),
        (-1, L(0), (3, 1)),
        (0, L(), (0, 4)),
    ]:
        if op == "index_copy" and len(set(index.tolist())) != len(index):
            continue
        case(
            op, x34(), dim, index, torch.ones(shape).double().cumsum(0).requires_grad_(), call=call
        )
    for index, source in [(L(0, 3), torch.ones(2, 4)), (L(0, -1), torch.ones(2, 4))]:
        case(op, x34(torch.float32, False), 0, index, source, call=call)
for index, source in [
    (L(0), torch.ones(2, 4)),
    (L(0, 1), torch.ones(2, 3)),
    (i22, torch.ones(2, 4)),
    (L(0, 0), torch.ones(2, 4).long()),
]:
    case("index_add", x34(torch.float32, False), 0, index, source)
case(
    "index_add",
    x34(),
    0,
    L(0, 0),
    torch.ones(2, 4).double().requires_grad_(),
    2.5,
    call=lambda x, d, i, s, a: x.index_add(d, i, s, alpha=a),
)
for value in [7, 2.5]:
    case("index_fill", x34(), 1, L(0, 2), value, call=method("index_fill"))
case("take_along_dim", x34(), torch.tensor([[0], [1], [2]]), 1)
case("take_along_dim", x34(), torch.tensor([[0, 1, 2, 0]]), 0)
for index in [L(0, 5), L(0, 15), i22]:
    case("take_along_dim", x34(), index)
case("take_along_dim", x34(grad=False), L(0), 1)
case("take_along_dim", x34(grad=False), i22, 1)
for index in [L(0, -1), L(0, 15), torch.tensor(3), i22]:
    case("take", x34(), index)
table = torch.arange(6.0).double().view(3, 2).requires_grad_()
for index in [L(0, 2, 0), i22, torch.tensor(1), L(), L(1, dtype=torch.int32), L(0, 5), L(-1)]:
    case("nn.functional.embedding", index, table)
    case("nn.functional.embedding", index, table, 0)
case("nn.functional.embedding", L(1), table, 7)
case("nn.functional.embedding", L(1), torch.ones(3))

# Masks.
for x in [
    x34(torch.float64, False) - 5,
    torch.zeros(2, 0),
    torch.tensor(1.0),
    torch.tensor(0.0),
    L(0, 3, 0, -1),
    L(1, 0).bool(),
    torch.tensor([NAN, 0.0, -0.0]),
    x34(grad=False).t(),
]:
    case("nonzero", x)
    case("nonzero", x, True, overload=1, call=lambda x, _: torch.nonzero(x, as_tuple=True))
over5 = x34(grad=False) > 5
for x, mask in [
    (x34(), over5),
    (x34(), L(1, 0, 1, 0).bool()),
    (torch.arange(4.0).double().requires_grad_(), over5),
    (x34(), x34(grad=False)),
    (x34(), L(1, 0).bool()),
    (torch.tensor(2.0), torch.tensor(True)),
]:
    case("masked_select", x, mask)
    case("masked_fill", x, mask, 9.5)
    case("masked_fill", x, mask, torch.tensor(7.0, dtype=x.dtype, requires_grad=True))
case("masked_fill", x34(torch.int64), over5, 1.5)
case("masked_fill", x34(torch.uint8), over5, 300)
case("masked_fill", x34(grad=False), over5, torch.ones(2))
for dtype in ALL:
    case("masked_fill", x34(dtype, False), over5, 1)
x3 = torch.arange(24.0).double().view(2, 3, 4).requires_grad_()
put = lambda x, i, v, *a: torch.index_put(x, tuple(i), v, *a)
for indices in [
    [L(0, 1)],
    [L(0, 0, 1)],
    [L(0, -1), L(2, 0)],
    [i22 % 2, L(1, 2)],
    [L(0, 1), L(1, 1), L(3, 0)],
    [x3.detach() > 20],
    [L(1, 0).bool()],
    [L(1, 0).bool(), L(2)],
    [torch.tensor(1)],
    [L(0, 5)],
    [L(0, -5)],
    [L(0), L(0), L(0), L(0)],
    [L(0, 1), L(0, 1, 2)],
    [L(1, 0, 1).bool()],
    [L()],
    [L(1.0, dtype=torch.float32)],
]:
    shape = None
    with contextlib.suppress(IndexError, RuntimeError):
        shape = x3[tuple(indices)].shape
    candidates = [torch.tensor(-1.0).double()]
    if shape is not None:
        candidates += [torch.full(shape, -2.0).double().cumsum(0), torch.ones(7).double()]
    for values in candidates:
        for accumulate in [True, False]:
            repeated = (
                indices[0].dtype == torch.int64
                and len(indices) == 1
                and len(set(indices[0].flatten().tolist())) != indices[0].numel()
            )
            if accumulate or not repeated:
                case("index_put", x3, indices, values.requires_grad_(), accumulate, call=put)
for index, classes in [
    (L(0, 2), -1),
    (L(0, 2), 2),
    (L(0, -2), -1),
    (L(), -1),
    (L(), 3),
    (L(1.0, dtype=torch.float32), -1),
    (L(1), -2),
    (L(1), 0),
    (L(1, dtype=torch.int32), -1),
    (i22, 4),
    (torch.tensor(1), 3),
]:
    case("nn.functional.one_hot", index, classes)

# Random numbers.
gaps = lambda dtype: torch.zeros(6, 8, dtype=dtype)[::2, 1::3].t()
for n, dtype in enumerate(FLOATS):
    for size in [[], [7], [4, 5], [0], [33]]:
        case("rand", size, None, dtype, seed=n, call=lambda s, _, d: torch.rand(s, dtype=d))
        case("randn", size, None, dtype, seed=n, call=lambda s, _, d: torch.randn(s, dtype=d))
    for x in [
        torch.zeros(5, 7, dtype=dtype),
        torch.zeros(5, 7, dtype=dtype).t(),
        gaps(dtype),
        torch.zeros(2, dtype=dtype).expand(9, 2),
        torch.zeros(2, 3, 4, dtype=dtype).permute(2, 0, 1),
    ]:
        case("rand_like", x, seed=n, strided=True)
        case("randn_like", x, seed=n, strided=True)
        case("randint_like", x, 10, seed=n, strided=True)
    for x in [
        torch.zeros(17, dtype=dtype),
        gaps(dtype),
        torch.zeros(6, 5, dtype=dtype).t(),
        torch.zeros(40, dtype=dtype)[1::2],
    ]:
        for op, *args in [
            ("uniform_", -1.0, 2.0),
            ("normal_", 1.0, 2.0),
            ("exponential_", 2.0),
            ("log_normal_",),
            ("cauchy_", 0.5, 2.0),
            ("geometric_", 0.25),
            ("bernoulli_", 0.3),
            ("random_",),
        ]:
            case(
                op,
                x.clone(memory_format=torch.preserve_format) if x.is_contiguous() else x,
                *args,
                seed=n,
                call=method(op),
            )
        case("bernoulli_", x, torch.tensor([0.75]), overload=1, seed=n, call=method("bernoulli_"))
        case(
            "bernoulli_",
            x,
            torch.linspace(0, 1, x.shape[-1]).double(),
            overload=1,
            seed=n,
            call=method("bernoulli_"),
        )
        case("random_", x, 7, overload=1, seed=n, call=method("random_"))
        case("random_", x, -3, 7, overload=2, seed=n, call=method("random_"))
        case("random_", x, 5, None, overload=2, seed=n, call=method("random_"))
    p = torch.linspace(0, 1, 12, dtype=torch.float64).view(3, 4).to(dtype)
    for x in [p, p.t()]:
        case("bernoulli", x, seed=n)
        case("bernoulli", x, 0.5, overload=1, seed=n)
        for q in [0.5, 0.2, 0.0, 1.0]:
            case("nn.functional.dropout", (x + 1).requires_grad_(q > 0), q, seed=n)
    case("multinomial", p, 3, seed=n)
    case("multinomial", p, 30, True, seed=n)
    case("multinomial", p[1], 2, seed=n)
    ones = torch.ones(3, 1, dtype=dtype)
    case("normal", ones * 5, 2.0, overload=1, seed=n)
    case("normal", 5.0, ones + 1, overload=2, seed=n)
    case("normal", ones * 5, torch.linspace(0, 3, 8).to(dtype), seed=n)
    case(
        "normal",
        1.0,
        2.0,
        [20],
        None,
        dtype,
        overload=3,
        seed=n,
        call=lambda m, s, z, _, d: torch.normal(m, s, z, dtype=d),
    )
for dtype in ALL:
    case(
        "randint", 2, [9], None, dtype, seed=5, call=lambda h, s, _, d: torch.randint(h, s, dtype=d)
    )
    case(
        "randint",
        -3,
        100,
        [9],
        None,
        dtype,
        overload=1,
        seed=5,
        call=lambda low, h, s, _, d: torch.randint(low, h, s, dtype=d),
    )
    case("random_", torch.zeros(9, dtype=dtype), seed=5, call=method("random_"))
    case("bernoulli_", torch.zeros(9, dtype=dtype), 0.5, seed=5, call=method("bernoulli_"))
    case("rand", [3], None, dtype, seed=5, call=lambda s, _, d: torch.rand(s, dtype=d))
    case("randn", [3], None, dtype, seed=5, call=lambda s, _, d: torch.randn(s, dtype=d))
    for n in [0, 1, 20, 257, 300, 2049, 2050]:
        case("randperm", n, None, dtype, seed=6, call=lambda n, _, d: torch.randperm(n, dtype=d))
case("randint", 5, 3, [2], overload=1, seed=0)
case("randint", 3, [-2], seed=0)
case("rand", [-1], seed=0)
case("randperm", -1, seed=0)
case("normal", 0.0, torch.tensor([-1.0]), overload=2, seed=0)
case("normal", torch.ones(3), torch.ones(2), seed=0)
case("normal", torch.ones(2, dtype=torch.int64), 1.0, overload=1, seed=0)
case("normal", torch.ones(20), torch.ones(20, dtype=torch.float64) / 3, seed=0)
for weights, n in [
    (torch.ones(2, 2, 3), 2),
    (torch.tensor(1.0), 2),
    (torch.ones(3), 4),
    (torch.ones(3), 0),
    (L(1, 1), 1),
    (torch.ones(0, 3), 2),
]:
    case("multinomial", weights, n, seed=0)
case("nn.functional.dropout", torch.ones(3), 1.5, seed=0)
case("nn.functional.dropout", L(1, 2), 0.5, seed=0)
case("nn.functional.dropout", torch.ones(3), 0.5, False, seed=0)
case("dropout", torch.ones(30), 0.5, True, seed=0)
case("uniform_", torch.ones(3), 2.0, 1.0, seed=0, call=method("uniform_"))
case("uniform_", torch.ones(2).expand(3, 2), seed=0, call=method("uniform_"))
case("bernoulli_", torch.ones(3), torch.ones(2), overload=1, seed=0, call=method("bernoulli_"))

with open("ops_data.json", "w") as file:
    file.write("[\n" + ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases) + "\n]\n")
print(len(cases), "cases,", sum("error" in c for c in cases), "of them errors")
