"""The notebook prints what its text says, and with a seed what PyTorch prints."""

import re
import subprocess
import sys
from pathlib import Path

import notebook
import pytest
import wengert

GOLDEN = Path(__file__).parent / "golden" / "notebook.txt"
# The only cell that prints random numbers, and the one that prints addresses.
RANDOM, ADDRESSES = "4", "3"


def masked(text):
    return re.sub(r"0x[0-9a-f]+", "0x", text)


@pytest.fixture(scope="module")
def written():
    return notebook.parse(notebook.TEXT.read_text())


def test_the_text_survives_parsing(written):
    assert notebook.render(written) == notebook.TEXT.read_text()
    assert [cell.label for cell in written] == ["1", "2", "3", "4", "5", "6", "None", "7"]
    assert [cell.label for cell in written if cell.output] == ["3", "4", "5", "6", "7"]


def test_deterministic_cells_print_the_text_to_the_character(written):
    done = notebook.run(written)
    for expected, cell in zip(written, done, strict=True):
        if cell.label == RANDOM:
            continue
        if cell.label == ADDRESSES:
            assert masked(cell.output) == masked(expected.output)
        else:
            assert cell.output == expected.output


def test_random_cell_prints_the_numbers_of_pytorch(written):
    wengert.manual_seed(0)
    done = notebook.run(written)
    torch = masked(notebook.render(done)).replace("import wengert as torch", "import torch")
    assert torch == GOLDEN.read_text()


def test_as_a_program():
    printed = subprocess.run(
        [sys.executable, notebook.__file__], capture_output=True, text=True, check=True
    ).stdout
    assert masked(printed).replace("import wengert as torch", "import torch") == GOLDEN.read_text()
