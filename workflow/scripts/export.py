"""Export a network for deployment: to ONNX (.onnx) or LiteRT (.tflite)."""

import argparse
from pathlib import Path

from netreduce.cli.exits import run_script
from netreduce.formats import load
from netreduce.formats.export import export


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", type=Path, required=True, help="network (.h5)")
    parser.add_argument(
        "--output", type=Path, required=True, help="where the export goes (.onnx or .tflite)"
    )
    arguments = parser.parse_args()

    export(load(arguments.network), arguments.output)


if __name__ == "__main__":
    run_script(main)
