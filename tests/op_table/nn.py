"""Neural networks: activations, losses, layers without parameters."""

import math

import numpy as np
from op_reference import (
    np_bce,
    np_bce_logits,
    np_cross_entropy,
    np_elu,
    np_erf,
    np_huber,
    np_kl_div,
    np_log_softmax,
    np_nll,
    np_normalize,
    np_reduced,
    np_sigmoid,
    np_smooth_l1,
    np_softplus,
)

from .columns import (
    BAD_DIM,
    FLOAT_ONLY,
    FLOATS,
    NUMBERS,
    Op,
    S,
    each_shape,
    logits,
    longs,
    ones,
)

NO_INTEGERS = (S(longs(1)), NotImplementedError, "(?i)long|int64")
BAD_REDUCTION = (S(ones(2), ones(2), reduction="avg"), (RuntimeError, ValueError), "avg")
UNEQUAL = (S(ones(3), ones(4)), (RuntimeError, ValueError), "3.*4|4.*3")


def activation(name, ref, *more, errors=(NO_INTEGERS,), **columns):
    """A function of one element; `more` are further arguments to sample it with."""
    row = {"forms": "f", "dtypes": FLOATS, "tol": 2, "limits": FLOAT_ONLY} | columns
    return Op(
        f"nn.functional.{name}",
        ref,
        lambda g: [*each_shape(g), *(S(g(37), **kwargs) for kwargs in more)],
        errors=list(errors),
        **row,
    )


def loss(name, ref, *more, errors=(), target=(None, None), **columns):
    """A function of input and target; `more` are further arguments to sample it with."""
    low, high = target

    def samples(g):
        def both(*shape):
            return g(*shape), g(*shape, low=low, high=high)

        return [
            S(*both(2, 3)),
            S(*both(5), reduction="sum"),
            S(*both(), reduction="none"),
            *(S(*both(37), **kwargs) for kwargs in more),
        ]

    row = {"forms": "f", "dtypes": FLOATS, "tol": 4} | columns
    wrong = [BAD_REDUCTION, UNEQUAL, *errors]
    return Op(f"nn.functional.{name}", ref, samples, errors=wrong, **row)


ROWS = [
    Op("softmax", lambda a, dim: np.exp(np_log_softmax(a, dim)), logits, "fm", FLOATS,
        errors=[BAD_DIM, (S(longs(1), dim=0), RuntimeError, "(?i)long|int64")],
        aliases=("nn.functional.softmax", "special.softmax"), limits=FLOAT_ONLY),
    Op("log_softmax", np_log_softmax, logits, "fm", FLOATS,
        errors=[BAD_DIM, (S(longs(1), dim=0), RuntimeError, "(?i)long|int64")],
        aliases=("nn.functional.log_softmax", "special.log_softmax"), limits=FLOAT_ONLY),
    Op("nn.functional.linear", lambda x, w, b=None: x @ w.T + (0 if b is None else b),
        lambda g: [S(g(2, 3), g(4, 3), g(4)), S(g(3), g(4, 3)), S(g(2, 5, 3), g(4, 3), g(4)),
        S(g(0, 3), g(4, 3), g(4)), S(g(17, 19), g(23, 19), g(23))], "f", FLOATS, tol=8, scale=8,
        errors=[(S(ones(2, 3), ones(4, 5)), RuntimeError, "3.*[45]")]),
    Op("nn.functional.cross_entropy", np_cross_entropy, lambda g: [S(g(5, 3), g.index(5, below=3)),
        S(g(3), g.index(below=3)), S(g(2, 3, 4), g.index(2, 4, below=3), reduction="sum"),
        S(g(5, 3), g.index(5, below=3), weight=g(3, low=1), reduction="none"),
        S(g(5, 3), g.index(5, below=3), ignore_index=1, reduction="sum"),
        S(g(5, 3), g.index(5, below=3), label_smoothing=0.1), S(g(4, 3), g(4, 3, low=0, high=1))],
        "f", FLOATS, tol=4, errors=[(S(ones(2, 3), longs(0, 3)), (IndexError, RuntimeError), "3"),
        (S(ones(2, 3), longs(0)), (RuntimeError, ValueError), "2.*1|1.*2")]),
    Op("nn.functional.nll_loss", np_nll, lambda g: [S(g(5, 3), g.index(5, below=3)),
        S(g(3), g.index(below=3)), S(g(2, 3, 4), g.index(2, 4, below=3), reduction="sum"),
        S(g(5, 3), g.index(5, below=3), weight=g(3, low=1)),
        S(g(5, 3), g.index(5, below=3), ignore_index=1, reduction="none")], "f", FLOATS, tol=4,
        errors=[(S(ones(2, 3), longs(0, 7)), (IndexError, RuntimeError), "7"),
        (S(ones(2, 3), longs(0)), (RuntimeError, ValueError), "2.*1|1.*2")]),
    Op("nn.functional.binary_cross_entropy_with_logits", np_bce_logits,
        lambda g: [S(g(2, 3), g(2, 3, low=0, high=1)),
        S(g(5), g(5, low=0, high=1), reduction="sum"), S(g(), g(low=0, high=1), reduction="none"),
        S(g(2, 3), g(2, 3, low=0, high=1), weight=g(3, low=1), pos_weight=g(3, low=1))], "f",
        FLOATS, tol=4, errors=[(S(ones(2, 3), ones(3)), (RuntimeError, ValueError), "3"),
        (S(ones(2), ones(2), reduction="avg"), (RuntimeError, ValueError), "avg")]),
    Op("nn.functional.mse_loss", lambda a, b, reduction="mean": np_reduced((a - b) ** 2, reduction),
        lambda g: [S(g(2, 3), g(2, 3)), S(g(5), g(5), reduction="sum"),
        S(g(), g(), reduction="none")], "f", FLOATS, tol=4,
        errors=[(S(ones(2), ones(2), reduction="avg"), (RuntimeError, ValueError), "avg")]),
    activation("softplus", np_softplus, {"beta": 2, "threshold": 3}),
    Op("nn.functional.dropout", lambda a, p=0.5,
        training=True: a * (0 if training and p == 1 else 1),
        lambda g: [S(g(2, 3), p=1.0), S(g(2, 3), p=0.0), S(g(2, 3), training=False)], "f", FLOATS,
        errors=[(S(ones(2), p=1.5), (RuntimeError, ValueError), "1.5")],
        limits="only where the result is certain; test_random.py has the mask"),
    Op("dropout", lambda a, p, train: a * (0 if train and p == 1 else 1),
        lambda g: [S(g(2, 3), 1.0, True), S(g(2, 3), 0.0, True), S(g(2, 3), 0.5, False)], "f",
        FLOATS, errors=[(S(ones(2), 1.5, True), RuntimeError, "1.5")],
        limits="only where the result is certain; test_random.py has the mask"),
    Op("nn.functional.softmin", lambda a, dim: np.exp(np_log_softmax(-a, dim)), logits, "f", FLOATS,
        tol=2, errors=[BAD_DIM], limits=FLOAT_ONLY),
    Op("nn.functional.normalize", np_normalize, lambda g: [S(g(2, 3)), S(g(2, 3), p=1.0),
        S(g(5), dim=0), S(g(2, 3, 4), p=3.0, dim=-1), S(g(0, 3))], "f", FLOATS, tol=8,
        errors=[(S(ones(3)), IndexError, "1")]),
    Op("nn.functional.embedding", lambda i, w, padding_idx=None: w[i],
        lambda g: [S(g.index(5, below=4), g(4, 3)), S(g.index(2, 3, below=4), g(4, 2)),
        S(g.index(below=4), g(4, 3)), S(g.index(0, below=4), g(4, 3))], "f", FLOATS, scale=8,
        errors=[(S(longs(5), ones(3, 2)), IndexError, "index out of range"),
        (S(ones(1), ones(3, 2)), RuntimeError, "Long, Int")],
        limits="the padding's gradient is not that of the function"),
    Op("nn.functional.one_hot", lambda i, n=-1: np.eye(i.max() + 1 if n < 0 else n,
        dtype="int64")[i], lambda g: [S(g(5)), S(g(2, 3), 9), S(g(), 8)], "f", ("int64",), order=0,
        low=0, high=7, errors=[(S(longs(-1)), RuntimeError, "non-negative"),
        (S(longs(5), 3), RuntimeError, "num_classes"), (S(ones(1)), RuntimeError, "index tensor")]),

    activation("celu", lambda a, alpha=1.0, inplace=False: np_elu(a, alpha, alpha),
        {"alpha": 0.5}, {"inplace": False},
        errors=[NO_INTEGERS, (S(ones(1), alpha=0.0), RuntimeError, "alpha cannot be 0")]),
    activation("elu", np_elu, {"alpha": 0.5}),
    activation("selu", lambda a: 1.0507009873554805 * np_elu(a, 1.6732632423543772)),
    activation("gelu", lambda a, approximate="none": a / 2 * (1 + (np_erf(a / math.sqrt(2)) if
        approximate == "none" else np.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))),
        {"approximate": "tanh"},
        errors=[NO_INTEGERS, (S(ones(1), approximate="x"), RuntimeError, "none or tanh")]),
    activation("hardshrink", lambda a, lambd=0.5: np.where(np.abs(a) > lambd, a, 0),
        {"lambd": 1.0}),
    activation("softshrink", lambda a, lambd=0.5: np.sign(a) * np.maximum(np.abs(a) - lambd, 0),
        {"lambd": 1.0}, errors=[NO_INTEGERS, (S(ones(1), -1.0), RuntimeError, "lambda.*-1")]),
    activation("tanhshrink", lambda a: a - np.tanh(a), errors=(), limits=""),
    activation("softsign", lambda a: a / (1 + np.abs(a)), errors=(), limits=""),
    activation("hardsigmoid", lambda a: np.clip(a / 6 + 0.5, 0, 1), low=-5, high=5),
    activation("hardswish", lambda a: a * np.clip(a / 6 + 0.5, 0, 1), low=-5, high=5),
    activation("hardtanh", lambda a, lo=-1.0, hi=1.0, **k: np.clip(a, k.get("min_val", lo),
        k.get("max_val", hi)), {"min_val": -2.0, "max_val": 1.0}, errors=[(S(ones(1), 2.0, 1.0),
        (ValueError, RuntimeError), "min_val cannot be greater than max_val")], limits="",
        dtypes=tuple(d for d in NUMBERS if d != "uint8")),
    activation("relu6", lambda a: np.clip(a, 0, 6), low=-3, high=9, dtypes=NUMBERS, errors=(),
        limits=""),
    activation("leaky_relu", lambda a, negative_slope=0.01: np.where(a > 0, a, negative_slope * a),
        {"negative_slope": 0.3}),
    activation("logsigmoid", lambda a: -np.logaddexp(0, -a)),
    activation("mish", lambda a: a * np.tanh(np.logaddexp(0, a))),
    activation("silu", lambda a: a * np_sigmoid(a)),
    Op("nn.functional.threshold", lambda a, t, v: np.where(a > t, a, v),
        lambda g: [S(*s.args, 1, 2) for s in each_shape(g)], "f", NUMBERS),

    loss("binary_cross_entropy", np_bce, {"weight": np.float32(2)}, low=0.05, high=0.95,
        target=(0, 1), errors=[(S(ones(3) * 2, ones(3)), RuntimeError, "between 0 and 1")]),
    loss("kl_div", np_kl_div, {"reduction": "batchmean"}, {"log_target": True}, target=(0.1, 1)),
    loss("l1_loss", lambda a, b, reduction="mean": np_reduced(np.abs(a - b), reduction)),
    loss("smooth_l1_loss", np_smooth_l1, {"beta": 2.0}, {"beta": 0.0},
        errors=[(S(ones(3), ones(3), beta=-1.0), RuntimeError, "negative values for beta")]),
    loss("huber_loss", np_huber, {"delta": 2.0},
        errors=[(S(ones(3), ones(3), delta=0.0), RuntimeError, "non-positive values for delta")]),
]  # fmt: skip
