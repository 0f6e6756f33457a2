"""The project's own code behind a script, as an input of a rule."""

import ast
import hashlib
import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from netreduce.files import replacing

IMPORT = re.compile(r"^ *(import [\w., ]+|from [\w.]+ import (?:\([^)]*\)|[\w., ]+))", re.M)


@cache
def code(script: str, *modules: str, home: Path = Path()) -> tuple[str, ...]:
    """All project code that a script (and modules by name) imports, as paths in `home`, the
    project's folder.
    """
    found: set[Path] = set()
    waiting = [Path(script)]
    for module in modules:
        base = Path("src", *module.split("."))
        package = (home / base).is_dir()
        waiting.append(base / "__init__.py" if package else base.with_suffix(".py"))
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += imported_files(file, home)
    return tuple(sorted(map(str, found - {Path(script)})))


def write_list(path: Path, files: Iterable[str], home: Path) -> None:
    """Write the digest and the path of every file, as `sha256sum` does, unless that is what is
    there.

    As an input of a rule the list makes a result stale exactly when the content of the code that
    made it has changed. Its time is that of the newest file, so that a new list of old code is not
    newer than the results.
    """
    text = "".join(f"{digest(home / file)}  {file}\n" for file in files)
    if not path.exists() or path.read_text() != text:
        newest = max((os.stat(home / file).st_mtime for file in files), default=0)
        with replacing(path) as temporary:
            temporary.write_text(text)
            os.utime(temporary, (newest, newest))


@cache
def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@cache
def imported_files(file: Path, home: Path) -> set[Path]:
    """Project files that a Python file imports: modules of netreduce, and modules beside it."""
    candidates: list[tuple[int, str, list[str]]] = []
    for node in imports((home / file).read_text()):
        if isinstance(node, ast.Import):
            candidates += [(0, alias.name, []) for alias in node.names]
        else:
            candidates.append((node.level, node.module or "", [alias.name for alias in node.names]))
    files = set()
    for level, module, names in candidates:
        if level:
            base = file.parents[level - 1]
        elif module.split(".")[0] == "netreduce":
            base = Path("src")
        else:
            base = file.parent
        parts = module.split(".") if module else []
        packages = [base.joinpath(*parts[:length]) for length in range(1, len(parts) + 1)]
        for path in [*packages, *(base.joinpath(*parts, name) for name in names)]:
            for found in (path.with_suffix(".py"), path / "__init__.py"):
                if found in project_files(home):
                    files.add(found)
    return files


@cache
def project_files(home: Path) -> set[Path]:
    """The project's Python files. The table of names in netreduce/__init__.py computes nothing, so
    it does not count.
    """
    return {
        file.relative_to(home)
        for folder in ("src", "workflow")
        for file in (home / folder).rglob("*.py")
    } - {Path("src/netreduce/__init__.py")}


def imports(source: str) -> list[ast.Import | ast.ImportFrom]:
    """The import statements of a source, at any depth; where it is formatted as usual, without
    parsing the rest of it.
    """
    try:
        statements = [ast.parse(statement).body[0] for statement in IMPORT.findall(source)]
    except SyntaxError:  # prose that looks like one
        statements = list(ast.walk(ast.parse(source)))
    return [node for node in statements if isinstance(node, ast.Import | ast.ImportFrom)]
