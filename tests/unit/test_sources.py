"""The code behind a script, found from its import statements."""

import ast
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from sources import code, imports, write_list

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


def test_a_list_of_code_changes_when_its_content_does(tmp_path):
    home, path = tmp_path / "home", tmp_path / "list.txt"
    home.mkdir()
    for name, content in (("a.py", "a = 1"), ("b.py", "b = 2")):
        (home / name).write_text(content)
        os.utime(home / name, (1000, 1000))
    write_list(path, ["a.py", "b.py"], home)
    first = path.read_text()
    assert path.stat().st_mtime == 1000  # no newer than what the code has made
    assert subprocess.run(["sha256sum", "--check", path], cwd=home, check=False).returncode == 0
    os.utime(home / "a.py")
    write_list(path, ["a.py", "b.py"], home)
    assert path.stat().st_mtime == 1000  # touched, but not changed
    (home / "other").mkdir()
    shutil.copy(home / "b.py", home / "other/b.py")
    (home / "other/a.py").write_text("a = 3")
    write_list(path, ["a.py", "b.py"], home / "other")
    assert path.read_text() != first
    assert path.stat().st_mtime > 1000
