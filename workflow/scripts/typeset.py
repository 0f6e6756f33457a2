"""Typeset the thesis with Typst: no network, only the fonts that Typst brings, the same bytes every
time.
"""

import argparse
import json
import sys
from collections.abc import Iterable
from pathlib import Path

import typst

from netreduce.cli.exits import run_script
from netreduce.files import read_lines, replacing


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--source", type=Path, required=True, help="main file of the thesis (.typ)")
    parser.add_argument(
        "--data",
        type=Path,
        nargs="+",
        required=True,
        help="provenance.json and what the scripts of the chapters wrote, <chapter>.json",
    )
    parser.add_argument(
        "--figures",
        type=read_lines,
        default=[],
        help="file with those of figures: <model>/<figure>.svg and, of all models,"
        " figures/<figure>.svg",
    )
    parser.add_argument("--pipeline", type=Path, help="picture of the workflow (.svg)")
    parser.add_argument("--output", type=Path, required=True, help="where the thesis goes (.pdf)")
    arguments = parser.parse_args()

    with replacing(arguments.output) as temporary:
        try:
            typst.compile(
                str(arguments.source.absolute()),
                output=str(temporary),
                root="/",
                ignore_system_fonts=True,
                sys_inputs=inputs(arguments.data, map(Path, arguments.figures), arguments.pipeline),
                timestamp=0,
                pdf_standards="ua-1",
            )
        except typst.TypstError as error:
            sys.exit(f"error: {error.diagnostic or error}")


def inputs(data: Iterable[Path], figures: Iterable[Path], pipeline: Path | None) -> dict[str, str]:
    """What the thesis reads: absolute paths of its data by name, of its figures by model."""
    paths = {path.stem: path for path in data} | ({"pipeline": pipeline} if pipeline else {})
    return {
        **{name: str(path.absolute()) for name, path in paths.items()},
        "figures": json.dumps(by_model(figures)),
    }


def by_model(figures: Iterable[Path]) -> dict[str, dict[str, str]]:
    """Absolute paths of the figures, by model and name; those of all models under ""."""
    found: dict[str, dict[str, str]] = {}
    for path in figures:
        model = "" if path.parent.name == "figures" else path.parent.name
        found.setdefault(model, {})[path.stem] = str(path.absolute())
    return found


if __name__ == "__main__":
    run_script(main)
