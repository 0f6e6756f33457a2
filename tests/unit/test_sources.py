"""The code behind a script, found from its import statements."""

import ast
from pathlib import Path

import pytest
from sources import code, imports

FILES = [file for folder in ("src", "workflow") for file in Path(folder).rglob("*.py")]


def written(statements):
    return sorted(map(ast.unparse, statements))


@pytest.mark.parametrize("file", FILES, ids=str)
def test_imports_are_those_that_python_parses(file):
    tree = ast.walk(ast.parse(file.read_text()))
    assert written(imports(file.read_text())) == written(
        node for node in tree if isinstance(node, (ast.Import, ast.ImportFrom))
    )


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ('"""From here on\nimport duties rise."""\nimport json\n', ["import json"]),
        ("from .a import (\n    b,  # not (c)\n    d,\n)\n", ["from .a import b, d"]),
        ("def f():\n    from .. import a as b, c\n", ["from .. import a as b, c"]),
        ("x = 'from a import b'\n", []),
    ],
)
def test_imports_among_other_text(source, expected):
    assert written(imports(source)) == expected


def test_code_follows_imports_through_modules_and_packages():
    found = code("workflow/scripts/lump.py")
    assert {
        "src/netreduce/lumping/__init__.py",
        "src/netreduce/network/graph.py",
        "src/netreduce/network/layers/weighted.py",
    } <= set(found)
    assert not [
        file
        for file in found
        if "training" in file
        or file == "workflow/scripts/lump.py"
        or file == "src/netreduce/__init__.py"
    ]
    assert set(code("workflow/scripts/lump.py", "netreduce.pruning")) - set(found)
