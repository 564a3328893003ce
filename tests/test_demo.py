"""The examples run, learn, repeat themselves, and draw well-formed pictures."""

import json
import subprocess
import sys
from dataclasses import asdict
from xml.etree import ElementTree

import digits
import pictures
import pytest
import wengert

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def record():
    return digits.train(epochs=8, quiet=True)


def test_it_learns(record):
    assert len(record.losses) == 8 * -(-1438 // digits.BATCH)
    assert record.losses[-1] < record.losses[0] / 5
    assert record.test_accuracy[-1] > 0.95
    assert len(record.predictions) == len(record.test_labels) == len(record.test_images) == 359


def test_training_is_the_same_for_any_number_of_threads():
    records = []
    before = wengert.get_num_threads()
    try:
        for threads in (1, 2, 3):
            wengert.set_num_threads(threads)
            records.append(digits.train(epochs=1, quiet=True))
    finally:
        wengert.set_num_threads(before)
    assert records[0] == records[1] == records[2]


def test_the_pictures_are_well_formed(record):
    for draw in (pictures.training, pictures.digits):
        root = ElementTree.fromstring(draw(record))
        assert root.tag == f"{SVG}svg"
        words = [element.text for element in root.iter(f"{SVG}text")]
        assert all(words)
    misread = sum(p != y for p, y in zip(record.predictions, record.test_labels, strict=True))
    shown = [w for w in words if ", is " in w]
    in_first = sum(
        p != y for p, y in zip(record.predictions[:60], record.test_labels[:60], strict=True)
    )
    assert len(shown) == misread + in_first


def test_pictures_as_a_program(record, tmp_path):
    (tmp_path / "demo_output").mkdir()
    (tmp_path / digits.RECORD).write_text(json.dumps(asdict(record)))
    command = [sys.executable, pictures.__file__]
    subprocess.run(command, cwd=tmp_path, check=True)
    for name in ("training.svg", "digits.svg", "graph.svg"):
        ElementTree.parse(tmp_path / "demo_output" / name)
    (tmp_path / digits.RECORD).unlink()
    refused = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr == f"{digits.RECORD} is missing: run examples/digits.py first\n"
