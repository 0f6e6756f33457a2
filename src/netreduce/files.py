"""Files that are whole or not there: written beside their place, then moved into it."""

import csv
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from glob import escape
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """A temporary path in the same folder, moved to `path` when the block ends well and removed
    when it does not.

    What a process that was killed left of the same file goes as well.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for left in path.parent.glob(f".{escape(path.stem)}.*.part{path.suffix}"):
        if not _runs(left.name.removesuffix(f".part{path.suffix}").rpartition(".")[2]):
            left.unlink(missing_ok=True)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _runs(process: str) -> bool:
    """Whether there is a process of that number."""
    try:
        os.kill(int(process), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True


def read_lines(path: str | Path) -> list[str]:
    """The lines of a file that are not empty: how a list comes to a script that is longer than the
    arguments of a command can be.
    """
    return [line for line in Path(path).read_text(encoding="utf-8").split("\n") if line]


def write_json(path: str | Path, content: object) -> None:
    """Write JSON, indented, keys in their own order."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def write_table(path: str | Path, rows: Sequence[Mapping]) -> None:
    """Write rows that share their keys as CSV; floats as the shortest text reading back to them."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def filled(rows: Sequence[Mapping]) -> list[dict]:
    """Rows with the keys of all of them, in the order in which they come; empty text where a row
    lacks one.

    >>> filled([{"a": 1}, {"b": 2, "a": 3}])
    [{'a': 1, 'b': ''}, {'a': 3, 'b': 2}]
    """
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name, "") for name in names} for row in rows]
