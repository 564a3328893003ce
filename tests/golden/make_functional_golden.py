"""Makes functional.json: results, gradients and node names of PyTorch for products, activation
functions and losses.

Run with PyTorch 2.13: python tests/golden/make_functional_golden.py
"""

import json
import pathlib

import torch
import torch.nn.functional as F

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)


def randn(*shape):
    return torch.randn(*shape).requires_grad_()


def rand(*shape):
    return torch.rand(*shape).mul(0.9).add(0.05).requires_grad_()


def ints(high, *shape):
    return torch.randint(0, high, shape)


def encode(value):
    if isinstance(value, torch.Tensor):
        kind = (
            "float"
            if value.is_floating_point()
            else "int"
            if value.dtype == torch.int64
            else "bool"
        )
        data = value.detach().flatten().tolist()
        return {"kind": kind, "shape": list(value.shape), "data": data}
    return value


cases = []


def case(name, **args):
    function = F if name.startswith("nn.") else torch
    function = getattr(function, name.rsplit(".")[-1])
    positional = [
        v for k, v in args.items() if k in ("input", "other", "mat2", "vec", "vec2", "tensor")
    ]
    named = {
        k: v
        for k, v in args.items()
        if k not in ("input", "other", "mat2", "vec", "vec2", "tensor")
    }
    if name == "where":
        positional, named = [args["condition"], args["input"], args["other"]], {}
    if name == "addmm":
        positional = [args["input"], args["mat1"], args["mat2"]]
        named = {k: args[k] for k in ("beta", "alpha") if k in args}
    y = function(*positional, **named)
    leaves = {k: v for k, v in args.items() if isinstance(v, torch.Tensor) and v.requires_grad}
    weights = torch.linspace(-1.0, 1.5, y.numel()).reshape(y.shape)
    grads = torch.autograd.grad((y * weights).sum(), list(leaves.values()), allow_unused=True)
    cases.append(
        {
            "name": name,
            "args": {k: encode(v) for k, v in args.items()},
            "leaves": list(leaves),
            "node": y.grad_fn.name(),
            "value": encode(y),
            "grads": [None if g is None else encode(g) for g in grads],
        }
    )


for a, b in [
    ((3,), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((2, 3), (3, 4)),
    ((5, 2, 3), (3, 4)),
    ((5, 2, 3), (5, 3, 2)),
    ((2, 1, 2, 3), (4, 3, 2)),
]:
    case("matmul", input=randn(*a), other=randn(*b))
case("addmm", input=randn(4), mat1=randn(2, 3), mat2=randn(3, 4), beta=0.5, alpha=-2.0)
case("outer", input=randn(3), vec2=randn(4))
case("inner", input=randn(2, 3), other=randn(4, 3))
for x in [(3,), (2, 3), (2, 2, 3)]:
    case("nn.functional.linear", input=randn(*x), weight=randn(4, 3), bias=randn(4))
    case("nn.functional.linear", input=randn(*x), weight=randn(4, 3))

for name in ["softmax", "log_softmax", "nn.functional.softmin"]:
    for dim in [0, 1, -1]:
        case(name, input=randn(2, 3, 4), dim=dim)
for dim in [[1], [0, 1], [0, 2], [0, 1, 2]]:
    case("logsumexp", input=randn(2, 3, 4), dim=dim)
case("logsumexp", input=randn(2, 3), dim=[1], keepdim=True)

x = [-25.0, -6.0, -3.5, -2.0, -0.7, -0.3, 0.1, 0.4, 0.9, 2.5, 3.5, 7.0, 30.0]
for name, options in [
    ("softplus", {}),
    ("softplus", {"beta": 2.5, "threshold": 5.0}),
    ("silu", {}),
    ("gelu", {}),
    ("gelu", {"approximate": "tanh"}),
    ("leaky_relu", {}),
    ("leaky_relu", {"negative_slope": 0.2}),
    ("elu", {}),
    ("elu", {"alpha": 0.7}),
    ("selu", {}),
    ("hardtanh", {}),
    ("hardtanh", {"min_val": -0.5, "max_val": 2.0}),
    ("relu6", {}),
    ("mish", {}),
    ("logsigmoid", {}),
    ("hardsigmoid", {}),
    ("hardswish", {}),
    ("hardshrink", {}),
    ("softshrink", {"lambd": 0.35}),
    ("threshold", {"threshold": 0.2, "value": -1.5}),
    ("softsign", {}),
    ("tanhshrink", {}),
    ("relu", {}),
]:
    case("nn.functional." + name, input=torch.tensor(x, requires_grad=True), **options)
case("where", condition=rand(3, 4) > 0.5, input=randn(3, 4), other=randn(4))
case("clamp", input=randn(5), min=-0.3, max=0.6)
case("clamp", input=randn(5), min=0.1)
case("clamp", input=randn(5), max=0.1)

ce = "nn.functional.cross_entropy"
nll = "nn.functional.nll_loss"
for reduction in ["mean", "sum", "none"]:
    for x, t in [((4, 5), (4,)), ((2, 5, 3), (2, 3)), ((2, 5, 3, 2), (2, 3, 2)), ((5,), ())]:
        target = ints(5, *t)
        case(ce, input=randn(*x), target=target, reduction=reduction)
        case(ce, input=randn(*x), target=target, reduction=reduction, weight=rand(5).detach())
        case(nll, input=randn(*x), target=target, reduction=reduction, weight=rand(5).detach())
    case(
        ce,
        input=randn(4, 5),
        target=torch.tensor([0, -100, 4, 2]),
        reduction=reduction,
        label_smoothing=0.2,
    )
    case(
        ce,
        input=randn(4, 5),
        target=torch.tensor([0, 2, 4, 2]),
        reduction=reduction,
        label_smoothing=0.2,
        weight=rand(5).detach(),
        ignore_index=2,
    )
    case(
        nll,
        input=randn(4, 5),
        target=torch.tensor([0, 2, 4, 2]),
        reduction=reduction,
        ignore_index=2,
    )
    case(ce, input=randn(4, 5), target=rand(4, 5), reduction=reduction, weight=rand(5).detach())
    case(ce, input=randn(2, 5, 3), target=rand(2, 5, 3), reduction=reduction, label_smoothing=0.3)
    for name in ["mse_loss", "l1_loss"]:
        case("nn.functional." + name, input=randn(3, 4), target=randn(3, 4), reduction=reduction)
        case(
            "nn.functional." + name,
            input=randn(3, 4),
            target=randn(3, 4),
            reduction=reduction,
            weight=rand(3, 4).detach(),
        )
    for beta in [0.5, 0.0]:
        case(
            "nn.functional.smooth_l1_loss",
            input=randn(3, 4),
            target=randn(3, 4),
            reduction=reduction,
            beta=beta,
        )
    case(
        "nn.functional.huber_loss",
        input=randn(3, 4),
        target=randn(3, 4),
        reduction=reduction,
        delta=0.7,
    )
    case(
        "nn.functional.binary_cross_entropy",
        input=rand(3, 4),
        target=rand(3, 4),
        reduction=reduction,
        weight=rand(4).detach(),
    )
    case(
        "nn.functional.binary_cross_entropy_with_logits",
        input=randn(3, 4),
        target=rand(3, 4),
        reduction=reduction,
    )
    case(
        "nn.functional.binary_cross_entropy_with_logits",
        input=randn(3, 4),
        target=rand(3, 4),
        reduction=reduction,
        weight=rand(4).detach(),
        pos_weight=rand(4).detach(),
    )
    case("nn.functional.kl_div", input=randn(3, 4), target=rand(3, 4), reduction=reduction)
    case(
        "nn.functional.kl_div",
        input=randn(3, 4),
        target=randn(3, 4),
        reduction=reduction,
        log_target=True,
    )
case("nn.functional.kl_div", input=randn(3, 4), target=rand(3, 4), reduction="batchmean")

path = pathlib.Path(__file__).with_name("functional.json")
path.write_text("[\n" + ",\n".join(json.dumps(c) for c in cases) + "\n]\n")
print(len(cases), "cases")
