"""The examples in docstrings are true: of modules, functions, classes and their methods."""

import doctest
import importlib
import pkgutil

import pytest
import wengert


def documented():
    """The docstrings with examples, by dotted name."""
    modules = [wengert]
    for found in pkgutil.walk_packages(wengert.__path__, "wengert."):
        if not found.name.rpartition(".")[2].startswith("_"):
            modules.append(importlib.import_module(found.name))
    for module in modules:
        yield module.__name__, module.__doc__
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            yield f"{module.__name__}.{name}", value.__doc__
            if isinstance(value, type):
                for attribute, member in vars(value).items():
                    yield f"{module.__name__}.{name}.{attribute}", getattr(member, "__doc__", None)


EXAMPLES = {}
for name, text in documented():
    if isinstance(text, str) and ">>>" in text and text not in EXAMPLES.values():
        EXAMPLES[name] = text


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples(name):
    wengert.manual_seed(0)
    test = doctest.DocTestParser().get_doctest(EXAMPLES[name], {}, name, None, None)
    report = []
    doctest.DocTestRunner(verbose=False).run(test, out=report.append)
    assert not report, "".join(report)
