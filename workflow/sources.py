"""The project's own code behind a script, as inputs of a rule."""

import ast
import functools
import re
from pathlib import Path

PROJECT_FILES = {file for folder in ("src", "workflow") for file in Path(folder).rglob("*.py")} - {
    Path("src/netreduce/__init__.py")
}
IMPORT = re.compile(r"^ *(import [\w., ]+|from [\w.]+ import (?:\([^)]*\)|[\w., ]+))", re.M)


def imports(source):
    """The import statements of a source, at any depth; where it is formatted as usual, without
    parsing the rest of it.
    """
    try:
        return [ast.parse(statement).body[0] for statement in IMPORT.findall(source)]
    except SyntaxError:  # prose that looks like one
        return [
            node
            for node in ast.walk(ast.parse(source))
            if isinstance(node, (ast.Import, ast.ImportFrom))
        ]


@functools.cache
def imported_files(file):
    """Project files that a Python file imports: modules of netreduce, and modules beside it.

    The table of names in netreduce/__init__.py computes nothing, so it does not count.
    """
    candidates, files = [], set()
    for node in imports(file.read_text()):
        if isinstance(node, ast.Import):
            candidates += [(0, alias.name, ()) for alias in node.names]
        else:
            candidates.append((node.level, node.module or "", [alias.name for alias in node.names]))
    for level, module, names in candidates:
        if level:
            base = file.parents[level - 1]
        elif module.split(".")[0] == "netreduce":
            base = Path("src")
        elif file.parts[0] == "src":
            continue  # the library imports its own modules by their whole name
        else:
            base = file.parent
        parts = module.split(".") if module else []
        packages = [base.joinpath(*parts[:length]) for length in range(1, len(parts) + 1)]
        for path in [*packages, *(base.joinpath(*parts, name) for name in names)]:
            for found in (path.with_suffix(".py"), path / "__init__.py"):
                if found in PROJECT_FILES:
                    files.add(found)
    return files


def code(script, *modules):
    """A script (and modules by name) with all project code that it imports, as inputs of a rule.

    So a result is stale exactly when the content of the code that made it has changed.
    """
    found = set()
    waiting = [Path(script)]
    for module in modules:
        base = Path("src", *module.split("."))
        waiting.append(base / "__init__.py" if base.is_dir() else base.with_suffix(".py"))
    while waiting:
        file = waiting.pop()
        if file not in found:
            found.add(file)
            waiting += imported_files(file)
    return sorted(map(str, found - {Path(script)}))
