"""Typeset the thesis with Typst: no network, only the fonts that Typst brings, the same bytes every
time.
"""

import argparse
import sys
from pathlib import Path

import typst

from netreduce.cli.exits import run_script
from netreduce.files import replacing


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--source",
        type=Path,
        required=True,
        help="main file of the thesis (.typ), under the current folder",
    )
    parser.add_argument(
        "--summary",
        type=Path,
        required=True,
        help="what summarize.py wrote (.json), under the current folder",
    )
    parser.add_argument("--output", type=Path, required=True, help="where the thesis goes (.pdf)")
    arguments = parser.parse_args()

    with replacing(arguments.output) as temporary:
        try:
            typst.compile(
                str(arguments.source),
                output=str(temporary),
                root=".",
                ignore_system_fonts=True,
                sys_inputs={"summary": f"/{arguments.summary.as_posix()}"},
                timestamp=0,
            )
        except typst.TypstError as error:
            sys.exit(f"error: {error.diagnostic or error}")


if __name__ == "__main__":
    run_script(main)
