"""Writes softmax_cases.txt: what PyTorch makes of special rows and of cross entropy's options.

Run with PyTorch 2.13: python tests/golden/make_softmax_cases.py
One case a line, fields separated by "|", numbers by spaces; the gradient is that of the sum:
  softmax|outer n inner|x|softmax|log_softmax|logsumexp
  cross_entropy|outer n inner|x|targets|weight or -|ignore_index|smoothing|losses|gradient
"""

import pathlib

import torch
import torch.nn.functional as F

inf, nan = float("inf"), float("nan")
torch.manual_seed(0)


def text(values):
    return " ".join(repr(v) for v in values.flatten().tolist())


lines = []


def softmax(x):
    outer, n, inner = x.shape
    results = [torch.softmax(x, 1), torch.log_softmax(x, 1), torch.logsumexp(x, 1)]
    fields = ["softmax", f"{outer} {n} {inner}", text(x), *map(text, results)]
    lines.append("|".join(fields))


def cross_entropy(x, targets, weight=None, ignore_index=-100, label_smoothing=0.0):
    outer, n, inner = x.shape
    x.requires_grad_()
    loss = F.cross_entropy(
        x,
        targets,
        weight,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        reduction="none",
    )
    loss.sum().backward()
    fields = [
        "cross_entropy",
        f"{outer} {n} {inner}",
        text(x.detach()),
        text(targets),
        "-" if weight is None else text(weight),
        str(ignore_index),
        str(label_smoothing),
        text(loss.detach()),
        text(x.grad),
    ]
    lines.append("|".join(fields))


for row in [
    [],
    [3.0],
    [-inf],
    [inf],
    [nan],
    [0.0, -0.0],
    [-inf, -inf],
    [inf, 1.0],
    [inf, inf],
    [inf, -inf],
    [nan, 1.0],
    [nan, -inf],
    [nan, inf],
    [-inf, 0.0, 1.0],
    [3e38, -3e38, 0.0],
    [100.0, -5.0, 99.0],
    [-1e30, -1e30],
    [1.0] * 37,
]:
    softmax(torch.tensor(row).reshape(1, -1, 1))
softmax(torch.tensor([[[0.0, nan, inf, -inf], [1.0, 2.0, 3.0, -inf], [-inf, 0.0, 1.0, -inf]]]))
softmax(torch.randn(2, 5, 3))
softmax(torch.randn(1, 70, 2) * 10)

for n, inner in [(1, 1), (4, 1), (40, 1), (5, 3)]:
    targets = torch.randint(0, n, (6, inner))
    targets[2, 0] = -100
    for weight in [None, torch.rand(n) + 0.5]:
        for smoothing in [0.0, 0.1, 1.0]:
            x = torch.randn(6, n, inner) * 3
            cross_entropy(x, targets, weight, label_smoothing=smoothing)
cross_entropy(torch.randn(4, 3, 1), torch.tensor([[0], [1], [2], [1]]), ignore_index=1)

path = pathlib.Path(__file__).with_name("softmax_cases.txt")
path.write_text("\n".join(lines) + "\n")
