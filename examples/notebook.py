"""Run the notebook `autograd_notebook.txt`, a tour of PyTorch's autograd, on wengert.

Prints what the notebook shows: each cell's code, then its output. The only change to the code is
its import line.
"""

import ast
import contextlib
import io
import re
from dataclasses import dataclass
from pathlib import Path

TEXT = Path(__file__).with_name("autograd_notebook.txt")


@dataclass
class Cell:
    """A cell of the notebook: its label, code and what it printed."""

    label: str
    code: str
    output: str

    def __str__(self) -> str:
        shown = f"\n{self.output}\n\n" if self.output else "\n"
        return f"In [{self.label}]:\n{self.code}{shown}"


def parse(text: str) -> list[Cell]:
    """Split the notebook's text into cells."""
    _, *pieces = re.split(r"^In \[(\w+)\]:\n", text, flags=re.MULTILINE)
    return [
        Cell(label, *_code_and_output(body))
        for label, body in zip(pieces[::2], pieces[1::2], strict=True)
    ]


def run(cells: list[Cell], imports: str = "import wengert as torch") -> list[Cell]:
    """Execute the cells in one namespace; the same cells with the outputs that came of it."""
    namespace: dict[str, object] = {}
    done = []
    for cell in cells:
        code = cell.code.replace("import torch", imports)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, f"<In [{cell.label}]>", "exec"), namespace)
        done.append(Cell(cell.label, code, printed.getvalue()))
    return done


def render(cells: list[Cell]) -> str:
    """The text that `parse` reads."""
    return "".join(map(str, cells)).rstrip("\n") + "\n"


def _code_and_output(body: str) -> tuple[str, str]:
    """The text separates both by a blank line only, and both may contain blank lines themselves.

    Output begins with the first paragraph that is no Python, or that could do nothing if it were:
    expressions without effect.
    """
    paragraphs = body.rstrip("\n").split("\n\n")
    end = next((i for i, p in enumerate(paragraphs) if not _is_code(p)), len(paragraphs))
    code, output = ("\n\n".join(part) for part in (paragraphs[:end], paragraphs[end:]))
    return code + "\n", output + "\n" if output else ""


def _is_code(paragraph: str) -> bool:
    try:
        statements = ast.parse(paragraph).body
    except SyntaxError:
        return False
    return not statements or any(
        not isinstance(statement, ast.Expr) or ast.unparse(statement).startswith("print(")
        for statement in statements
    )


def main() -> None:
    """Print the notebook, run with a fixed seed so that every run prints the same numbers."""
    import wengert

    wengert.manual_seed(0)
    print(render(run(parse(TEXT.read_text()))), end="")


if __name__ == "__main__":
    main()
