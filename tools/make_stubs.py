"""Write the type stubs of the compiled module: `make_stubs.py [--check]`.

What the operation table describes is written from the table: functions, methods, in-place and
`out=` forms, overloads. The rest, classes and a few dozen functions, stands in the template beside
this file. Before anything is written, the result is compared with the living module in both
directions: every name there must be in the stub, and every name in the stub must be there, with
the same parameters where the module knows them.

With `--check` nothing is written; the exit status says whether the files are up to date.
"""

import argparse
import ast
import difflib
import inspect
import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from wengert import _core

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "python" / "wengert"
TEMPLATE = Path(__file__).with_name("core_template.pyi")
HEADER = "# Written by tools/make_stubs.py from the operation table; do not edit.\n"
WIDTH = 100

# The grammar's types (see rust/wengert/src/ops/args.rs) as annotations.
ANNOTATIONS = {
    "Tensor": "Tensor",
    "Tensor[]": "Sequence[Tensor]",
    "Tensor...": "Sequence[Tensor]",
    "Operand": "_Number",
    "Number": "_Number",
    "int": "_int",
    "float": "_float",
    "bool": "_bool",
    "str": "_str",
    "int[]": "_Ints",
    "size": "Sequence[_int]",
    "dtype": "_DType",
    "Generator": "Generator",
    "device": "_Device",
    "layout": "_Layout",
    "memory_format": "_memory_format",
}

Row = dict[str, list[str]]


@dataclass
class Param:
    """One parameter of a signature; `default` is the text of a Python expression, or None."""

    name: str
    annotation: str
    default: str | None
    keyword_only: bool
    variadic: str = ""  # the annotation of its items, where these may be arguments themselves

    def __str__(self) -> str:
        text = f"{self.name}: {self.annotation}"
        return text if self.default is None else f"{text} = {self.default}"


@dataclass
class Signature:
    """A signature of the table, read."""

    params: list[Param]
    returns: list[tuple[str, str]] | str  # pairs of type and name of a fixed tuple


def read(text: str) -> Signature:
    """Read a signature by the grammar."""
    params: list[Param] = []
    keyword_only = False
    inner, _, returns = text.partition("->")
    for part in inner.strip()[1:-1].split(","):
        if part.strip() == "*":
            keyword_only = True
        elif part.strip():
            head, _, default = (side.strip() for side in part.partition("="))
            name, _, kind = (side.strip() for side in head.partition(":"))
            optional = kind.endswith("?")
            kind = kind.removesuffix("?") or "Tensor"
            annotation = ANNOTATIONS[kind] + " | None" * optional
            if default.startswith("'"):
                default = f'"{default[1:-1]}"'
            if optional and keyword_only and not default:
                default = "None"
            variadic = {"size": "_int", "Tensor...": "Tensor"}.get(kind, "")
            params.append(Param(name, annotation, default or None, keyword_only, variadic))
    returns = returns.strip() or "Tensor"
    if returns.startswith("("):
        fields = [field.split() for field in returns[1:-1].split(",")]
        return Signature(params, [(field[0], "".join(field[1:])) for field in fields])
    return Signature(params, returns)


def with_required_first(params: list[Param]) -> list[Param]:
    """A parameter before a required one has no default, in Python."""
    last = max((i for i, p in enumerate(params) if not (p.default or p.keyword_only)), default=0)
    return [
        Param(p.name, p.annotation, None, p.keyword_only, p.variadic) if i < last else p
        for i, p in enumerate(params)
    ]


def annotation_of(returns: list[tuple[str, str]] | str, row: Row) -> str:
    """What a signature gives, as an annotation."""
    if returns == "Tensor[]":
        return "tuple[Tensor, ...]"
    if isinstance(returns, str):
        return {"bool": "_bool"}.get(returns, returns)
    if all(name for _, name in returns):
        return f"return_types.{result_class(row)}"
    return f"tuple[{', '.join(kind for kind, _ in returns)}]"


def short(row: Row) -> str:
    """The last part of a row's name."""
    return str(row["name"]).rpartition(".")[2]


def result_class(row: Row) -> str:
    """The name of a row's named tuple."""
    return str(row["name"]).replace(".", "_")


def definition(name: str, parts: list[str], returns: str, indent: str = "") -> str:
    """A function of a stub, on one line if it fits."""
    line = f"{indent}def {name}({', '.join(parts)}) -> {returns}: ..."
    if len(line) > WIDTH:
        rows = "".join(f"{indent}    {part},\n" for part in parts)
        line = f"{indent}def {name}(\n{rows}{indent}) -> {returns}: ..."
    return line


def forms(row: Row, name: str, form: str) -> str:
    """All overloads of a row in one calling form: function, method or inplace."""
    indent = "" if form == "function" else "    "
    found: list[str] = []
    for text in row["signatures"]:
        signature = read(text)
        params = with_required_first(signature.params)
        returns = annotation_of(signature.returns, row)
        extras: list[Param] = []
        if form == "function" and "out" in row["tags"]:
            out = returns if returns == "Tensor" else "tuple[Tensor, ...]"
            extras.append(Param("out", f"{out} | None", "None", keyword_only=True))
        if "factory" in row["tags"] and form != "inplace":
            extras.append(Param("requires_grad", "_bool", "False", keyword_only=True))
        if "inplace" in row["tags"] and str(row["name"]).startswith("nn.") and form == "function":
            extras.append(Param("inplace", "_bool", "False", keyword_only=True))
        if name.endswith("_"):
            returns = "Self"
        if form != "function":
            params = params[1:]
        for chosen in variadic_forms(params):
            parts = [] if form == "function" else ["self"]
            for keyword_only, group in groupby([*chosen, *extras], lambda p: p.keyword_only):
                if keyword_only and not any(p.startswith("*") for p in parts):
                    parts.append("*")
                for p in group:
                    parts.append(str(p))
                    if p.name == "from":  # a word of Python: nobody can pass it by name
                        parts[-1:] = [str(p).replace("from", "from_", 1), "/"]
            made = definition(name, parts, returns, indent)
            if made not in found:
                found.append(made)
    decorator = f"{indent}@overload\n" if len(found) > 1 else ""
    return "".join(f"{decorator}{one}\n" for one in found)


def variadic_forms(params: list[Param]) -> list[list[Param]]:
    """Some sequences may be one argument, or their items the positional arguments."""
    sizes = [i for i, p in enumerate(params) if p.variadic]
    if not sizes:
        return [params]
    (i,) = sizes
    if any(not p.keyword_only for p in params[i + 1 :]):
        return [params]
    spread = Param(f"*{params[i].name}", params[i].variadic, None, keyword_only=False)
    return [params, [*params[:i], spread, *params[i + 1 :]]]


def stubs() -> dict[Path, str]:
    """The text of every stub file."""
    functions: dict[str, dict[str, str]] = defaultdict(dict)  # by module, "" for the package
    methods: dict[str, str] = {}
    results: dict[str, list[str]] = {}
    rows: list[Row] = _core.operations()  # type: ignore[assignment]
    for row in rows:
        for dotted in [row["name"], *row["aliases"]]:
            module, _, name = str(dotted).rpartition(".")
            if "function" in row["tags"]:
                functions[module][name] = forms(row, name, "function")
            if not module and "method" in row["tags"]:
                methods[name] = forms(row, name, "method")
            if not module and "inplace" in row["tags"]:
                methods[f"{name}_"] = forms(row, f"{name}_", "inplace")
        for text in row["signatures"]:
            returns = read(text).returns
            if isinstance(returns, list) and all(name for _, name in returns):
                results[result_class(row)] = [name for _, name in returns]

    template = TEMPLATE.read_text()
    exported = "".join(f'    "{name}",\n' for name in sorted(_core.__all__))
    core = template.replace("    # <methods>\n", in_order(methods))
    core = core.replace("\n# <functions>\n", in_order(functions.pop("")))
    core = core.replace("# <exported>\n", f"__all__ = [\n{exported}]\n")
    files = {PACKAGE / "_core.pyi": core, PACKAGE / "return_types.pyi": result_classes(results)}
    for module, texts in functions.items():
        files[PACKAGE / (module.replace(".", "/") + ".pyi")] = submodule(
            texts, CLASSES.get(module, [])
        )
    return {path: HEADER + text for path, text in files.items()}


def in_order(texts: dict[str, str]) -> str:
    """The definitions sorted by name."""
    return "".join(texts[name] for name in sorted(texts))


# Classes of the compiled module that are members of submodules, too.
CLASSES = {"linalg": ["LinAlgError"]}


def submodule(texts: dict[str, str], classes: list[str]) -> str:
    """The stub of a module that holds nothing but rows of the table, and these classes."""
    body = in_order(texts)
    core = [name for name in IMPORTED if mentions(body, name)]
    lines = []
    if mentions(body, "Sequence"):
        lines.append("from collections.abc import Sequence\n")
    if mentions(body, "overload"):
        lines.append("from typing import overload\n")
    lines += ["\n"] * bool(lines)
    if mentions(body, "return_types"):
        lines.append("from wengert import return_types\n")
    lines += [f"from wengert._core import {name} as {name}\n" for name in classes]
    lines.append(wrapped("from wengert._core import ", core))
    exported = "".join(f'    "{name}",\n' for name in [*classes, *sorted(texts)])
    return "".join(lines) + f"\n__all__ = [\n{exported}]\n\n" + body


IMPORTED = ["Generator", "Tensor", "_bool", "_DType", "_float", "_int", "_Ints", "_Number", "_str"]


def mentions(text: str, name: str) -> bool:
    """Whether a text has the name as a word of its own."""
    return re.search(rf"\b{name}\b", text) is not None


def wrapped(head: str, names: list[str]) -> str:
    """An import on one line, or one name a line."""
    line = head + ", ".join(names) + "\n"
    if len(line) <= WIDTH:
        return line
    return head + "(\n" + "".join(f"    {name},\n" for name in names) + ")\n"


def result_classes(results: dict[str, list[str]]) -> str:
    """The named tuples of operations with several results."""
    text = "from wengert._core import Tensor\n\n"
    text += "def named(name: str, fields: list[str]) -> type: ...\n"
    for name, fields in sorted(results.items()):
        text += f"\nclass {name}(tuple[{', '.join(['Tensor'] * len(fields))}]):\n"
        for field in fields:
            text += f"    @property\n    def {field}(self) -> Tensor: ...\n"
    return text


# ---- the stub against the module -----------------------------------------------------------------


def members(body: list[ast.stmt]) -> dict[str, list[ast.stmt]]:
    """What a module or class body of a stub defines, by name; several statements for overloads."""
    found: dict[str, list[ast.stmt]] = defaultdict(list)
    for statement in body:
        match statement:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found[name].append(statement)
            case ast.AnnAssign(target=ast.Name(id=name)):
                found[name].append(statement)
            case ast.ImportFrom(names=names):
                for alias in names:
                    if alias.asname == alias.name:
                        found[alias.name].append(statement)
    return found


def parameters(function: ast.FunctionDef) -> list[tuple[str, str, bool]]:
    """Name, kind and whether there is a default, of each parameter."""
    a = function.args
    positional = [*a.posonlyargs, *a.args]
    required = len(positional) - len(a.defaults)
    found = [(p.arg, "positional", i >= required) for i, p in enumerate(positional)]
    if a.vararg:
        found.append((a.vararg.arg, "*", False))
    pairs = zip(a.kwonlyargs, a.kw_defaults, strict=True)
    return found + [(p.arg, "keyword", default is not None) for p, default in pairs]


def living_parameters(function: object) -> list[tuple[str, str, bool]] | None:
    """The same of a living function, or None if it does not know."""
    if not getattr(function, "__text_signature__", None):
        return None
    kinds = {
        inspect.Parameter.POSITIONAL_ONLY: "positional",
        inspect.Parameter.POSITIONAL_OR_KEYWORD: "positional",
        inspect.Parameter.VAR_POSITIONAL: "*",
        inspect.Parameter.KEYWORD_ONLY: "keyword",
    }
    return [
        (p.name, kinds[p.kind], p.default is not p.empty)
        for p in inspect.signature(function).parameters.values()  # type: ignore[arg-type]
        if p.kind in kinds
    ]


def differences(stub: str) -> list[str]:
    """In what the stub and the module disagree."""
    found: list[str] = []
    tree = ast.parse(stub)
    compare("", members(tree.body), vars(_core), found)
    for name, statements in members(tree.body).items():
        value = getattr(_core, name, None)
        (first, *_) = statements
        if isinstance(first, ast.ClassDef) and isinstance(value, type):
            compare(f"{name}.", members(first.body), vars(value), found)
    return found


def compare(
    home: str, stub: dict[str, list[ast.stmt]], module: Mapping[str, object], found: list[str]
) -> None:
    """Compare the names of a module or class with those of its stub."""
    # Every class has the former; the second comes with assignment to items.
    implied = {*dir(type("Plain", (), {})), "__delitem__"}
    if not home:
        implied |= {"__loader__", "__spec__", "__file__", "__name__", "__package__", "__all__"}
    missing = [name for name in module if name not in implied | {*stub}]
    found += [f"{home}{name} is missing in the stub" for name in missing]
    for name, statements in stub.items():
        if name not in module:
            private = name.startswith("_") and not home
            if not private and name not in implied:
                found.append(f"{home}{name} is in the stub and not in the module")
            continue
        match statements:
            case [ast.FunctionDef(decorator_list=[]) as function] if not name.startswith("__"):
                living = living_parameters(module[name])
                if living is not None and living != parameters(function):
                    found.append(f"{home}{name} has other parameters: {living}")
            case [ast.FunctionDef(decorator_list=[])] if not callable(module[name]):
                found.append(f"{home}{name} is no function")


def main() -> int:
    """Write the stubs, or with `--check` compare them with the files."""
    parser = argparse.ArgumentParser(description="Write the type stubs of the compiled module.")
    parser.add_argument("--check", action="store_true", help="write nothing, fail if files differ")
    check = parser.parse_args().check
    files = stubs()
    problems = differences(files[PACKAGE / "_core.pyi"])
    for problem in problems:
        print(f"_core: {problem}", file=sys.stderr)
    if problems:
        return 1
    stale = False
    for path, text in files.items():
        old = path.read_text() if path.exists() else ""
        if old == text:
            continue
        stale = True
        name = str(path.relative_to(ROOT))
        if check:
            lines = (old.splitlines(keepends=True), text.splitlines(keepends=True))
            sys.stderr.writelines(difflib.unified_diff(*lines, name, f"{name} from the table", n=1))
        else:
            path.write_text(text)
            print(f"wrote {name}")
    if check and stale:
        print("the stubs are out of date: run `make stubs`", file=sys.stderr)
    return int(check and stale)


if __name__ == "__main__":
    sys.exit(main())
