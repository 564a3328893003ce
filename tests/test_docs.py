"""The pages of `docs/`: their examples are true, their links lead somewhere, the index has all."""

import doctest
import re
import warnings
from pathlib import Path

import pytest
import wengert

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.glob("*.md"))
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
TYPED_IN = re.compile(r"<doctest [^>]*\[\d+\]>")


class Checker(doctest.OutputChecker):
    """Compares output of code whose file is `<stdin>`; space at the end does not count."""

    def check_output(self, want, got, optionflags):
        return super().check_output(
            want.rstrip(), TYPED_IN.sub("<stdin>", got).rstrip(), optionflags
        )


def text_of(page):
    return page.read_text(encoding="utf-8")


def examples(page):
    """All examples of a page as one session; lines keep their numbers."""
    text = text_of(page)
    lines = [""] * (text.count("\n") + 1)
    for block in BLOCK.finditer(text):
        if ">>>" in block[1]:
            start = text.count("\n", 0, block.start(1))
            code = block[1].splitlines()
            lines[start : start + len(code)] = code
    return doctest.DocTestParser().get_doctest("\n".join(lines), {}, page.name, str(page), 0)


def anchors(page):
    """The names that links give the page's headings."""
    prose = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.MULTILINE | re.DOTALL)
    plain = (re.sub(r"[^\w\- ]", "", heading).lower() for heading in HEADING.findall(prose))
    return {heading.replace(" ", "-") for heading in plain}


def name_in_project(page):
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=name_in_project)
def test_examples(page):
    test = examples(page)
    assert test.examples or page.name == "README.md"
    wengert.manual_seed(0)
    report = []
    runner = doctest.DocTestRunner(Checker(), verbose=False, optionflags=doctest.ELLIPSIS)
    with warnings.catch_warnings():
        runner.run(test, out=report.append)
    assert not report, "".join(report)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=name_in_project)
def test_links(page):
    for target in LINK.findall(text_of(page)):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.exists(), target
        assert not anchor or anchor in anchors(found), target


def test_index():
    listed = set(LINK.findall(text_of(DOCS / "README.md")))
    assert {page.name for page in PAGES} - {"README.md"} <= listed
    assert "docs/README.md" in LINK.findall(text_of(ROOT / "README.md"))
