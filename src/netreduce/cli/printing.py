"""What commands print: tables for people, JSON for programs, progress on a terminal."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from rich.console import Console
from rich.progress import track
from rich.table import Table

T = TypeVar("T")


def print_json(content: object) -> None:
    """JSON on stdout; numbers that JSON lacks become null."""
    print(json.dumps(_plain(content), indent=2, ensure_ascii=False, allow_nan=False))


def print_table(title: str, rows: Sequence[Mapping[str, object]]) -> None:
    """Rows that share their keys as a table: numbers to the right."""
    console = Console()
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for name, value in rows[0].items():
        table.add_column(name, justify="right" if isinstance(value, int | float) else "left")
    for row in rows:
        table.add_row(*map(words, row.values()))
    console.print(table)
    console.print()


def words(value: object) -> str:
    """A value as a cell: 1,234; 0.9580; nothing for None."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case float():
            return f"{value:#.4g}"
        case tuple() | list():
            return " × ".join(map(words, value))
    return str(value)


def progress(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """The items, with a progress bar on stderr where that is a terminal."""
    console = Console(stderr=True)
    return iter(
        track(items, what, total, console=console, transient=True, disable=not console.is_terminal)
    )


def _plain(content: object) -> object:
    match content:
        case Mapping():
            return {str(key): _plain(value) for key, value in content.items()}
        case list() | tuple():
            return [_plain(value) for value in content]
        case float():
            return content if math.isfinite(content) else None
    return content.item() if hasattr(content, "item") else content
