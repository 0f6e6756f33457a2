"""The landing page of Snakemake's report, a piece of HTML: of each network the chains that matter,
the smallest first, and the rules of the workflow as a picture.
"""

import argparse
import json
import re
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

from netreduce.cli.exits import run_script
from netreduce.files import replacing

CELL = 'style="padding: 0.2rem 0.9rem 0.2rem 0; text-align: {}; border-bottom: 1px solid #ddd"'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--comparison", type=Path, nargs="?", help="numbers of the chapter (.json)")
    parser.add_argument("--pipeline", type=Path, required=True, help="picture of the rules (.svg)")
    parser.add_argument("--output", type=Path, required=True, help="where the page goes (.html)")
    arguments = parser.parse_args()
    parts = []
    if arguments.comparison is not None:
        content = json.loads(arguments.comparison.read_text(encoding="utf-8"))
        parts = [table(*one) for one in content.items()]
    parts.append(picture(arguments.pipeline))
    with replacing(arguments.output) as temporary:
        temporary.write_text("".join(parts), encoding="utf-8")


def picture(path: Path) -> str:
    """A figure inside a page, as wide as there is room."""
    svg = re.sub(r"^.*?(?=<svg)", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*" height="[^"]*"', r'\1 width="100%"', svg, count=1)
    return f'<figure style="max-width: 46rem; margin: 1rem 0">{svg}</figure>\n'


def table(model: str, entry: Mapping[str, Any]) -> str:
    """The chains of a network that are on the Pareto front or the smallest of their kind."""
    kinds = [row["chain"] for row in entry["families"].values() if row is not None]
    rows = [
        row
        for row in sorted(entry["rows"], key=lambda row: row["entropy_bytes"])
        if row["front"] or row["chain"] in ("analog", *kinds)
    ]
    measure = entry["measure"]
    head = ["technique or chain", f"test {measure['title']}", "kB", "smaller"]
    body = [
        [
            f"<b>{escape(row['name'])}</b>" if row["front"] else escape(row["name"]),
            f"{row['score']:.2%}" if measure["share"] else f"{row['score']:.4g}",
            f"{row['entropy_bytes'] / 1000:,.1f}",
            f"{row['ratio']:.1f}×",
        ]
        for row in rows
    ]
    seeds = f", means of {entry['seeds']} seeds" if entry["seeds"] > 1 else ""
    return (
        '<div style="overflow-x: auto; margin: 1rem 0"><table style="border-collapse: collapse">'
        f'<caption style="text-align: left; padding-bottom: 0.4rem"><b>{escape(model)}</b>:'
        f" {len(rows)} of {len(entry['rows'])} rows{seeds}. Bold: on the Pareto front.</caption>"
        f"<thead>{_line(head, 'th')}</thead><tbody>"
        + "".join(_line(row, "td") for row in body)
        + "</tbody></table></div>\n"
    )


def _line(cells: list[str], tag: str) -> str:
    """A line of the table: the first cell to the left, numbers to the right."""
    sides = ["left", *("right" for _ in cells[1:])]
    inside = (
        f"<{tag} {CELL.format(side)}>{cell}</{tag}>"
        for side, cell in zip(sides, cells, strict=True)
    )
    return f"<tr>{''.join(inside)}</tr>"


if __name__ == "__main__":
    run_script(main)
