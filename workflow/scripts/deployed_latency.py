"""Measure how long exported files take for one sample and for a batch, on one thread and on all."""

import argparse
from dataclasses import asdict
from pathlib import Path

from netreduce.cli.exits import run_script
from netreduce.data import read
from netreduce.files import write_table
from netreduce.measures.latency import BATCH_SIZES, measure_files


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--files", type=Path, nargs="+", required=True, help="networks (.onnx, .tflite)"
    )
    parser.add_argument("--data", type=Path, required=True, help="dataset (.npz)")
    parser.add_argument(
        "--limit", type=float, required=True, help="seconds after which no further round begins"
    )
    parser.add_argument("--output", type=Path, required=True, help="where the table goes (.csv)")
    arguments = parser.parse_args()

    files = {path.name: path for path in arguments.files}
    samples = read(arguments.data).images("test", max(BATCH_SIZES))
    sizes = [size for size in BATCH_SIZES if size <= len(samples)]
    found = measure_files(files, samples, sizes, limit=arguments.limit)
    write_table(arguments.output, [asdict(latency) for latency in found])


if __name__ == "__main__":
    run_script(main)
