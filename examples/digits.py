"""Train a small network to read handwritten digits, with nothing but tensors and gradients.

The data are scikit-learn's digits: 1,797 images of 8 by 8 pixels. A fifth is held out and never
trained on. The network, the mini-batches and the optimiser (Adam) are written out by hand. The
printed numbers are the same on every run, for any number of threads.

Leaves a record of the training in demo_output/digits.json, from which pictures.py draws.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import wengert as torch
import wengert.nn.functional as F
from sklearn.datasets import load_digits
from tqdm import tqdm
from wengert import Tensor

RECORD = Path("demo_output/digits.json")

SIZES = (64, 256, 128, 10)
EPOCHS = 40
BATCH = 32
LEARNING_RATE = 3e-3
# The step shrinks by this factor after each epoch, to settle the last few images.
DECAY = 0.93
# Standard deviation of the noise on the training images, which helps with images never seen.
NOISE = 0.2


@dataclass
class Record:
    """What happened: the loss of every batch, and the accuracy after every epoch."""

    losses: list[float] = field(default_factory=list)
    train_accuracy: list[float] = field(default_factory=list)
    test_accuracy: list[float] = field(default_factory=list)
    # The held-out images row by row (0 to 16), their digits, and what the network says.
    test_images: list[list[int]] = field(default_factory=list)
    test_labels: list[int] = field(default_factory=list)
    predictions: list[int] = field(default_factory=list)


class Network:
    """A multi-layer perceptron with rectifiers between its layers."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.weights = [torch.randn(n, m, requires_grad=True) for n, m in pairwise(sizes)]
        self.biases = [torch.zeros(m, requires_grad=True) for m in sizes[1:]]
        with torch.no_grad():
            for weight in self.weights:
                weight.mul_((2 / weight.shape[0]) ** 0.5)  # keeps the variance (He et al., 2015)

    def __call__(self, x: Tensor) -> Tensor:
        """Scores for the classes: (n, sizes[0]) -> (n, sizes[-1])."""
        *inner, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in inner:
            x = torch.relu(x @ weight + bias)
        weight, bias = last
        return x @ weight + bias

    def parameters(self) -> list[Tensor]:
        """Everything that is trained."""
        return self.weights + self.biases


class Adam:
    """Adaptive moment estimation (Kingma and Ba, 2015, algorithm 1)."""

    def __init__(self, parameters: list[Tensor], lr: float) -> None:
        self.parameters = parameters
        self.lr = lr
        self.means = [torch.zeros_like(p) for p in parameters]
        self.squares = [torch.zeros_like(p) for p in parameters]
        self.steps = 0

    @torch.no_grad()
    def step(self, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> None:
        """Move the parameters against their gradients, and forget the gradients."""
        self.steps += 1
        unbias1, unbias2 = 1 - beta1**self.steps, 1 - beta2**self.steps
        for p, mean, square in zip(self.parameters, self.means, self.squares, strict=True):
            mean.mul_(beta1).add_(p.grad, alpha=1 - beta1)
            square.mul_(beta2).add_(p.grad * p.grad, alpha=1 - beta2)
            p.sub_((mean / unbias1) / ((square / unbias2).sqrt() + eps) * self.lr)
            p.grad = None


@dataclass
class Data:
    """Images as rows of 64 pixels from 0 to 1, and the digits they show."""

    images: Tensor
    labels: Tensor

    def batches(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All of the data once, in a new random order."""
        order = torch.randperm(len(self.labels))
        images = self.images.index_select(0, order)
        labels = self.labels.index_select(0, order)
        for start in range(0, len(labels), size):
            yield images[start : start + size], labels[start : start + size]


def load() -> tuple[Data, Data]:
    """The data to train on, and the held-out fifth."""
    digits = load_digits()
    images = torch.from_numpy(digits.data.astype(np.float32) / 16)
    labels = torch.from_numpy(digits.target.astype(np.int64))
    order = torch.randperm(len(labels))
    images, labels = images.index_select(0, order), labels.index_select(0, order)
    held_out = len(labels) // 5
    return (
        Data(images[held_out:], labels[held_out:]),
        Data(images[:held_out], labels[:held_out]),
    )


@torch.no_grad()
def accuracy(network: Network, data: Data) -> float:
    """The part of the images that the network reads correctly."""
    return (network(data.images).argmax(1) == data.labels).sum().item() / len(data.labels)


def train(epochs: int = EPOCHS, *, quiet: bool = False) -> Record:
    """Train from scratch."""
    torch.manual_seed(0)
    train_data, test_data = load()
    network = Network(SIZES)
    optimiser = Adam(network.parameters(), LEARNING_RATE)
    record = Record()
    progress = tqdm(range(1, epochs + 1), unit="epoch", leave=False, disable=quiet)
    for epoch in progress:
        for images, labels in train_data.batches(BATCH):
            noise = NOISE * torch.randn(*images.shape)
            loss = F.cross_entropy(network(images + noise), labels)
            loss.backward()
            optimiser.step()
            record.losses.append(loss.item())
        optimiser.lr *= DECAY
        record.train_accuracy.append(accuracy(network, train_data))
        record.test_accuracy.append(accuracy(network, test_data))
        if not quiet and (epoch == 1 or epoch % 10 == 0):
            batches = len(record.losses) // epoch
            mean_loss = sum(record.losses[-batches:]) / batches
            progress.write(
                f"epoch {epoch:2}   loss {mean_loss:.6f}   "
                f"train {record.train_accuracy[-1]:.2%}   test {record.test_accuracy[-1]:.2%}"
            )
    record.test_images = [[round(16 * v) for v in row] for row in test_data.images.tolist()]
    record.test_labels = test_data.labels.tolist()
    with torch.no_grad():
        record.predictions = network(test_data.images).argmax(1).tolist()
    return record


def main() -> None:
    """Train, print the result and keep the record."""
    record = train()
    right = sum(p == y for p, y in zip(record.predictions, record.test_labels, strict=True))
    total = len(record.test_labels)
    print(f"{right} of {total} held-out digits read correctly: {right / total:.2%}")
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(asdict(record)))


if __name__ == "__main__":
    main()
