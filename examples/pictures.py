"""Draw what digits.py recorded, and the graph of a small loss, as SVG files in demo_output/.

training.svg    the loss of every mini-batch, and the accuracy after every epoch
digits.svg      held-out digits with the network's readings, and all the digits it misread
graph.svg       the recorded graph behind one small loss

An SVG is text; everything here is plain Python that writes text.
"""

import json
import math
from collections.abc import Iterable, Sequence

import wengert as torch
import wengert.nn.functional as F
from digits import RECORD, Record

OUTPUT = RECORD.parent

INK, SOFT, GRID, PAPER = "#1b1f24", "#6b7280", "#e7e9ed", "#ffffff"
BLUE, PALE_BLUE, ORANGE, RED = "#2563eb", "#bfd3fb", "#ea7317", "#d92d20"
STYLE = f"""
text {{ font-family: system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; fill: {INK} }}
.title {{ font-size: 20px; font-weight: 600 }}
.head {{ font-size: 14px; font-weight: 600 }}
.soft {{ font-size: 12px; fill: {SOFT} }}
.num {{ font-variant-numeric: tabular-nums }}
"""


def svg(width: float, height: float, body: Iterable[str], title: str) -> str:
    """A self-contained document."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
            f'width="{width:g}" height="{height:g}" role="img">',
            f"<title>{title}</title>",
            f"<style>{STYLE}</style>",
            f'<rect width="100%" height="100%" rx="12" fill="{PAPER}"/>',
            *body,
            "</svg>\n",
        ]
    )


def text(x: float, y: float, words: str, kind: str = "soft", **attributes: str) -> str:
    """One line of text, `anchor` and `fill` to be given as in CSS."""
    names = {"anchor": "text-anchor"}
    style = ";".join(f"{names.get(name, name)}:{value}" for name, value in attributes.items())
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" style="{style}">{words}</text>'


# ---- training.svg --------------------------------------------------------------------------------


class Panel:
    """A pair of axes: maps data to the page and collects what is drawn."""

    def __init__(self, left: float, title: str, x_range: tuple[float, float]) -> None:
        self.left, self.top, self.width, self.height = left, 118.0, 390.0, 250.0
        self.x_range = x_range
        self.y_range = (0.0, 1.0)
        self.parts = [text(left, self.top - 18, title, "head")]

    def x(self, value: float) -> float:
        """Where a value of the horizontal axis lies."""
        low, high = self.x_range
        return self.left + self.width * (value - low) / (high - low)

    def y(self, value: float) -> float:
        """Where a value of the vertical axis lies."""
        low, high = self.y_range
        return self.top + self.height * (high - value) / (high - low)

    def grid(self, x_ticks: dict[float, str], y_ticks: dict[float, str], x_name: str) -> None:
        """Draw the ticks: horizontal lines and labels on both sides."""
        bottom, right = self.top + self.height, self.left + self.width
        for value, label in y_ticks.items():
            y = self.y(value)
            self.parts += [
                f'<path d="M{self.left:g} {y:.1f}H{right:g}" stroke="{GRID}"/>',
                text(self.left - 8, y + 4, label, "soft num", anchor="end"),
            ]
        for value, label in x_ticks.items():
            self.parts.append(text(self.x(value), bottom + 20, label, "soft num", anchor="middle"))
        self.parts.append(
            text(self.left + self.width / 2, bottom + 42, x_name, "soft", anchor="middle")
        )

    def line(self, xs: Sequence[float], ys: Sequence[float], colour: str, width: float) -> None:
        """Join the points."""
        points = " ".join(f"{self.x(x):.1f},{self.y(y):.1f}" for x, y in zip(xs, ys, strict=True))
        self.parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" '
            f'stroke-width="{width:g}" stroke-linejoin="round" stroke-linecap="round"/>'
        )

    def dot(self, x: float, y: float, colour: str) -> None:
        """Mark one point."""
        self.parts.append(
            f'<circle cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="4" fill="{colour}" '
            f'stroke="{PAPER}" stroke-width="1.5"/>'
        )

    def legend(self, entries: list[tuple[str, str]]) -> None:
        """Names with a stroke of their colour, right of the title."""
        right, y = self.left + self.width, self.top - 18
        for name, colour in reversed(entries):
            left = right - 6.6 * len(name) - 24  # a guess of the width; there is no font here
            self.parts += [
                f'<path d="M{left:g} {y - 4:g}h16" stroke="{colour}" stroke-width="3" '
                'stroke-linecap="round"/>',
                text(left + 24, y, name),
            ]
            right = left - 18


def training(record: Record) -> str:
    """The loss on the left, the accuracy on the right."""
    epochs = len(record.test_accuracy)
    per_epoch = len(record.losses) // epochs
    ticks = {float(e): f"{e}" for e in range(0, epochs + 1, max(1, epochs // 4))}

    loss = Panel(70, "Loss", (0, epochs))
    logs = [math.log10(value) for value in record.losses]
    means = [
        math.log10(sum(record.losses[i : i + per_epoch]) / per_epoch)
        for i in range(0, len(record.losses), per_epoch)
    ]
    low, high = math.floor(2 * min(logs)) / 2, math.ceil(2 * max(logs)) / 2
    loss.y_range = (low, high)
    decades = range(math.ceil(low), math.floor(high) + 1)
    loss.grid(ticks, {float(d): f"{10.0**d:g}" for d in decades}, "epoch")
    loss.line([(i + 1) / per_epoch for i in range(len(logs))], logs, PALE_BLUE, 0.8)
    loss.line([i + 0.5 for i in range(epochs)], means, BLUE, 2.5)
    loss.legend([("each mini-batch", PALE_BLUE), ("mean of the epoch", BLUE)])

    accuracy = Panel(560, "Accuracy", (0, epochs))
    worst = min(record.train_accuracy + record.test_accuracy)
    accuracy.y_range = (min(0.9, math.floor(50 * worst) / 50), 1.0)
    bottom = round(100 * accuracy.y_range[0])
    accuracy.grid(ticks, {p / 100: f"{p} %" for p in range(bottom, 101, 2)}, "epoch")
    xs = [i + 1.0 for i in range(epochs)]
    accuracy.line(xs, record.train_accuracy, PALE_BLUE, 2.5)
    accuracy.line(xs, record.test_accuracy, ORANGE, 2.5)
    final = record.test_accuracy[-1]
    accuracy.dot(epochs, final, ORANGE)
    accuracy.parts.append(
        text(
            accuracy.x(epochs) + 9,
            accuracy.y(final) + 5,
            f"{100 * final:.1f} %",
            "head num",
            fill=ORANGE,
        )
    )
    accuracy.legend([("training images", PALE_BLUE), ("held-out images", ORANGE)])
    steps = f"{len(record.losses):,} steps of Adam on the cross-entropy"
    return svg(
        1040,
        440,
        [
            text(70, 46, "Learning to read digits", "title"),
            text(70, 68, f"{steps}; {len(record.test_labels)} images held out"),
            *loss.parts,
            *accuracy.parts,
        ],
        "Loss and accuracy during training",
    )


# ---- digits.svg ----------------------------------------------------------------------------------

PIXEL, COLUMNS = 7.0, 12
CELL_X, CELL_Y = 8 * PIXEL + 20, 8 * PIXEL + 38


def digits(record: Record, shown: int = 60) -> str:
    """The first held-out images, then every one that was misread."""
    readings = list(zip(record.test_images, record.test_labels, record.predictions, strict=True))
    wrong = [reading for reading in readings if reading[1] != reading[2]]
    left, y = 50.0, 108.0
    right_count = len(readings) - len(wrong)
    body = [
        text(left, 46, "What the network reads", "title"),
        text(left, 68, f"{right_count} of {len(readings)} held-out digits are read correctly"),
    ]
    sections = [(f"The first {shown} held-out digits", readings[:shown])]
    if wrong:
        sections.append((f"All {len(wrong)} that it misreads", wrong))
    for name, members in sections:
        body.append(text(left, y, name, "head"))
        y += 18
        for i, reading in enumerate(members):
            row, column = divmod(i, COLUMNS)
            body.append(card(left + column * CELL_X, y + row * CELL_Y, *reading))
        y += math.ceil(len(members) / COLUMNS) * CELL_Y + 24
    return svg(2 * left + COLUMNS * CELL_X - 20, y - 8, body, "Held-out digits and their readings")


def card(x: float, y: float, pixels: list[int], label: int, prediction: int) -> str:
    """One image with the network's reading under it."""
    size = 8 * PIXEL
    # One path for each shade of grey, a square for each of its pixels.
    squares: dict[int, list[str]] = {}
    for i, shade in enumerate(pixels):
        row, column = divmod(i, 8)
        squares.setdefault(shade, []).append(f"M{column} {row}h1v1h-1z")
    shades = [
        f'<path d="{"".join(where)}" fill="{INK}" fill-opacity="{shade / 16:.3g}"/>'
        for shade, where in sorted(squares.items())
        if shade
    ]
    right = label == prediction
    reading = f"{prediction}" if right else f"{prediction}, is {label}"
    colour = SOFT if right else RED
    return "\n".join(
        [
            f'<rect x="{x - 3:g}" y="{y - 3:g}" width="{size + 6:g}" height="{size + 6:g}" rx="6" '
            f'fill="none" stroke="{GRID if right else RED}" stroke-width="{1 if right else 1.5}"/>',
            f'<g transform="translate({x:g} {y:g}) scale({PIXEL:g})" '
            f'shape-rendering="crispEdges">{"".join(shades)}</g>',
            text(x + size / 2, y + size + 20, reading, "head num", anchor="middle", fill=colour),
        ]
    )


# ---- graph.svg -----------------------------------------------------------------------------------


def small_loss() -> torch.Tensor:
    """The loss of a linear model on two examples."""
    torch.manual_seed(0)
    x = torch.randn(2, 4)
    weight = torch.randn(4, 3, requires_grad=True)
    bias = torch.zeros(3, requires_grad=True)
    return F.cross_entropy(torch.tanh(x @ weight + bias), torch.tensor([0, 2]))


def main() -> None:
    """Draw everything."""
    if not RECORD.exists():
        raise SystemExit(f"{RECORD} is missing: run examples/digits.py first")
    record = Record(**json.loads(RECORD.read_text()))
    (OUTPUT / "training.svg").write_text(training(record))
    (OUTPUT / "digits.svg").write_text(digits(record))
    torch.draw_graph(small_loss()).save(OUTPUT / "graph.svg")
    for name in ("training.svg", "digits.svg", "graph.svg"):
        print(f"drew {OUTPUT / name}")


if __name__ == "__main__":
    main()
