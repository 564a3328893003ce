# ruff: noqa: E501 - several programs a line
"""Programs whose graphs are compared with PyTorch's, node by node: see `test_node_golden.py`.

Each is some statements and an expression, in the names that `names` gives.
"""

import math


def names(torch):
    """What programs may use, made anew."""

    def values(*shape, low=0.1):
        step = 0.07
        count = math.prod(shape)
        return torch.tensor([low + step * k for k in range(count)]).reshape(shape)

    def leaf(*shape, low=0.1):
        return values(*shape, low=low).requires_grad_()

    return {
        "torch": torch,
        "F": torch.nn.functional,
        "x": leaf(3),
        "y": leaf(3, low=0.5),
        "s": leaf(),
        "m": leaf(2, 3),
        "m2": leaf(2, 3, low=0.4),
        "n": leaf(3, 4),
        "sq": leaf(3, 3),
        "q": leaf(2, 3, 4),
        "r": leaf(2, 4, 5),
        "one": leaf(1, 3, 1),
        "six": leaf(6),
        "c": values(3),
        "k": values(2, 3),
        "index": torch.tensor([0, 2]),
        "index2": torch.tensor([[0, 1, 0], [1, 0, 1]]),
        "mask": torch.tensor([True, False, True]),
        "classes": torch.tensor([0, 2]),
    }


UNARY = """\
abs acos acosh asin asinh atan atanh ceil cos cosh deg2rad erf erfc exp exp2 expm1 floor
frac log log10 log1p log2 logit neg positive rad2deg reciprocal relu round rsqrt sigmoid sign sin
sinc sinh sqrt square tan tanh trunc"""
BINARY = "add sub mul div atan2 pow maximum minimum fmax fmin hypot logaddexp logaddexp2 xlogy"

PROGRAMS = [
    *(f"x.{name}()" for name in UNARY.split() if name != "acosh"),
    "(x + 1).acosh()",
    *(f"torch.{name}(x, y)" for name in BINARY.split()),
    *(f"torch.{name}(x, c)" for name in BINARY.split()),
    *(f"torch.{name}(c, x)" for name in BINARY.split()),
    "x + 2", "2 + x", "x - 2", "2 - x", "x * 2", "2 * x", "x / 2", "2 / x", "x ** 2", "x ** 3.5", "2 ** x",
    "x % 2", "torch.add(x, y, alpha=3)", "torch.sub(x, y, alpha=3)", "torch.rsub(x, y)", "torch.rsub(x, 2)",
    "x // y", "x.div(y, rounding_mode='floor')", "x.div(y, rounding_mode='trunc')", "x.remainder(y)",
    "x.remainder(2)", "x.fmod(y)", "x.fmod(2)", "x.lerp(y, 0.3)", "x.lerp(y, c)", "x.logit(0.25)",
    "x.clamp(0.1, 0.2)", "x.clamp(c, y)", "x.clamp_min(0.2)", "x.clamp_max(0.2)", "x.clamp_min(y)",
    "x.nan_to_num()", "torch.where(mask, x, y)", "torch.where(mask, x, 0.0)", "x.addcmul(x, y, value=2)",
    "x.addcdiv(x, y, value=2)", "x.copysign(y)", "x.masked_fill(mask, 1.5)", "x.masked_fill(mask, s)",
    # Reductions and scans.
    "m.sum()", "m.sum(0)", "m.sum((0, 1), keepdim=True)", "m.mean()", "m.mean(1)", "m.prod()", "m.prod(1)",
    "m.amax()", "m.amax(1)", "m.amin((0, 1), True)", "m.max()", "m.min()", "m.max(1)[0]", "m.min(0, True)[0]",
    "torch.aminmax(m)[0]", "torch.aminmax(m, dim=1)[1]", "m.var()", "m.var(0)", "m.std(1, correction=0)",
    "torch.var_mean(m, 1)[0]", "torch.std_mean(m, 1)[1]", "m.norm()", "m.norm(dim=1)",
    "torch.linalg.vector_norm(m, 3, dim=0)", "m.logsumexp(1)", "m.nansum()", "m.cumsum(1)",
    "m.cumprod(0)", "m.logcumsumexp(1)", "m.cummax(1)[0]", "m.softmax(1)", "m.log_softmax(0)",
    # Matrices.
    "m @ n", "m.mm(n)", "m @ x", "x @ y", "x.dot(y)", "m.mv(x)", "q.bmm(r)", "torch.addmm(m @ n, m, n)",
    "torch.addmm(m @ n, m, n, beta=2, alpha=3)", "torch.addmv(s, m, x)", "torch.outer(x, y)",
    "torch.baddbmm(torch.ones(3, 5), q, r)",
    # Views.
    "m.view(6)", "m.view(3, 2)", "m.reshape(6)", "m.t().reshape(6)", "m.flatten()", "m.t()", "m.T",
    "q.mT", "q.transpose(0, 2)", "q.permute(2, 0, 1)", "q.movedim(0, 2)", "m.unsqueeze(1)", "one.squeeze()",
    "one.squeeze(0)", "one.squeeze((0, 2))", "x.expand(2, 3)", "x.expand_as(m)", "m.select(1, 2)", "m[1]",
    "m[:, 1:]", "m[0, 1]", "m[..., None]", "x[0:2]", "x[mask]", "x[index]", "m[:, index]", "q[index2[:, :2]]",
    "m.narrow(1, 1, 2)", "m.unbind(1)[1]", "m.split(2, 1)[0]", "m.split([1, 2], 1)[1]", "m.chunk(2, 1)[1]",
    "torch.unsafe_chunk(m, 2, 1)[0]", "torch.unsafe_split_with_sizes(m, [1, 2], 1)[0]", "sq.diagonal()",
    "sq.diag()", "x.diag()", "torch.diag_embed(m)", "six.as_strided((2, 2), (3, 1))",
    "six.as_strided((2, 2), (3, 1), 1)", "six.unfold(0, 3, 2)", "m.view_as(m2)", "m.detach() + m", "torch.alias_copy(m)",
    # Copies.
    "x.clone()", "x.contiguous()", "m.t().contiguous()", "x.to(torch.float64)", "x.double()",
    "x.flip(0)", "sq.tril()", "sq.triu(1)",
    "torch.cat([x, y])", "torch.cat([m, m2], 1)", "torch.stack([x, y])", "torch.stack([x, y], 1)",
    "torch.hstack([x, y])", "torch.vstack([m, m2])", "m.index_select(1, index)", "m.gather(0, index2)",
    "m.take(index)", "m.masked_select(mask)", "m.scatter(0, index2, m2)", "m.scatter(0, index2, 1.5)",
    "m.scatter_add(0, index2, m2)", "m.index_add(1, index, m2[:, :2])", "m.index_fill(1, index, 1.5)",
    "m.index_copy(1, index, m2[:, :2])", "x.index_put((index,), s)", "m.select_scatter(x, 0, 1)",
    "m.slice_scatter(m2[:, 1:], 1, 1)", "sq.diagonal_scatter(x)",
    # In place.
    "z = x.clone(); z.mul_(2); z", "z = x.clone(); z.add_(y); z", "z = x.clone(); z.exp_(); z",
    "z = x.clone(); z.zero_(); z", "z = x.clone(); z.fill_(2); z", "z = x.clone(); z.fill_(s); z",
    "z = x.clone(); z.copy_(y); z", "z = x.clone(); z[1] = 2.0; z", "z = x.clone(); z[1] = s; z",
    "z = x.clone(); z[index] = y[:2]; z", "z = x.clone(); z[1:].mul_(2); z", "z = m.clone(); v = z[0]; v.mul_(2); v",
    "z = x.clone(); z.masked_fill_(mask, 2.0); z", "z = x.clone(); z.clamp_(0.1, 0.2); z",
    "z = m.clone(); z.t_(); z", "z = m.clone(); z.unsqueeze_(0); z", "z = one.clone(); z.squeeze_(0); z",
    "z = m.clone(); z.transpose_(0, 1); z", "z = torch.zeros(3); z.copy_(x); z", "z = torch.zeros(3); z.add_(x); z",
    "z = torch.zeros(2, 3); z[0] = x; z", "z = x.clone(); z.index_fill_(0, index, 1.5); z",
    # Networks.
    "F.relu(x)", "F.leaky_relu(x)", "F.elu(x)", "F.selu(x)", "F.gelu(x)", "F.gelu(x, approximate='tanh')", "F.silu(x)",
    "F.mish(x)", "F.softplus(x)", "F.hardtanh(x)", "F.relu6(x)", "F.hardsigmoid(x)", "F.hardswish(x)",
    "F.logsigmoid(x)", "F.softsign(x)", "F.tanhshrink(x)", "F.softshrink(x)", "F.hardshrink(x)", "F.threshold(x, 0.2, 1.0)",
    "F.celu(x)", "F.linear(m, n.t())", "F.linear(m, n.t(), n[0])", "F.mse_loss(x, y)",
    "F.mse_loss(x, c, reduction='sum')", "F.l1_loss(x, y)", "F.smooth_l1_loss(x, y)", "F.huber_loss(x, y)",
    "F.binary_cross_entropy(x, y)", "F.binary_cross_entropy(x, c, weight=c)",
    "F.binary_cross_entropy_with_logits(x, y)", "F.binary_cross_entropy_with_logits(x, c, pos_weight=c)",
    "F.nll_loss(m, classes)", "F.nll_loss(m, classes, weight=c, reduction='sum')", "F.nll_loss(m, classes, reduction='none')",
    "F.cross_entropy(m, classes)", "F.kl_div(x, c)", "F.embedding(index, n)", "F.embedding(index, n, padding_idx=0)",
    "F.normalize(m)",
]  # fmt: skip


def run(torch, program):
    """The tensor that a program gives."""
    *statements, expression = program.split(";")
    scope = names(torch)
    for statement in statements:
        exec(statement.strip(), scope)
    return eval(expression.strip(), scope)


def nodes(torch, tensor, show):
    """The graph behind a tensor, breadth first: name, names of inputs, and what is saved."""
    found, seen = [], []
    for node in (row := [tensor.grad_fn]):
        if node is None or any(node is other for other in seen):
            continue
        seen.append(node)
        saved = {}
        if not node.name().endswith("AccumulateGrad"):
            for name in sorted(dir(node)):
                if name.startswith("_saved_"):
                    saved[name.removeprefix("_saved_")] = show(getattr(node, name))
        inputs = [function and function.name() for function, _ in node.next_functions]
        found.append({"name": node.name(), "inputs": inputs, "saved": saved})
        row += [function for function, _ in node.next_functions]
    return found


def shown(torch):
    """How the values of one package are written down."""

    def show(value):
        if isinstance(value, torch.Tensor):
            dtype = str(value.dtype).rpartition(".")[2]
            return {"dtype": dtype, "shape": list(value.shape), "values": flat(value)}
        if isinstance(value, (list, tuple)):
            return [show(v) for v in value]
        if isinstance(value, torch.dtype):
            return str(value).rpartition(".")[2]
        if isinstance(value, int) and value >= 2**63:
            return value - 2**64  # PyTorch shows negative whole numbers as if they were unsigned
        if isinstance(value, float) and not math.isfinite(value):
            return str(value)
        return value

    def flat(t):
        values = t.detach().reshape(-1).tolist()
        return [float(f"{v:.5g}") if isinstance(v, float) else v for v in values]

    return show
