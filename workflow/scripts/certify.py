"""Certify how far a reduced network can be from the original on balls around test samples."""

import argparse
import json
import math
from pathlib import Path
from typing import Any

from balls import balls, summary, worst
from netreduce.cli.exits import run_script
from netreduce.data import read
from netreduce.errors import UnsupportedLayerError
from netreduce.files import write_json
from netreduce.formats import load
from netreduce.measures.cost import cost


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--original", type=Path, required=True, help="the analog network (.h5)")
    parser.add_argument("--reduced", type=Path, required=True, help="the reduced network (.h5)")
    parser.add_argument("--data", type=Path, required=True, help="dataset (.npz)")
    parser.add_argument("--images", type=int, required=True, help="test samples, the first ones")
    parser.add_argument(
        "--radius", nargs="+", required=True, help="radii of the balls, such as 0.01 or 2/255"
    )
    parser.add_argument(
        "--input-range",
        type=float,
        nargs=2,
        required=True,
        help="smallest and largest input value; own data bring theirs",
    )
    parser.add_argument(
        "--seconds", type=json.loads, required=True, help="limit for each radius, or null"
    )
    parser.add_argument("--output", type=Path, required=True, help="where the record goes (.json)")
    arguments = parser.parse_args()

    original, reduced = load(arguments.original), load(arguments.reduced)
    around = balls(read(arguments.data), arguments.images, arguments.input_range, arguments.seconds)
    refused, certified = None, []
    try:
        for radius in arguments.radius:
            certificate = around.certify(original, reduced, radius)
            samples = {
                "bound": worst(certificate.bound).tolist(),
                "found": worst(certificate.found).tolist(),
            }
            if around.classes:
                samples["same_class"] = certificate.same_class.tolist()
                samples["class_differs"] = certificate.class_differs.tolist()
            certified.append(
                {
                    "radius": radius,
                    **summary(certificate),
                    "notes": list(certificate.notes),
                    "samples": samples,
                }
            )
    except UnsupportedLayerError as error:
        refused, certified = str(error), [{"radius": radius} for radius in arguments.radius]
    write_json(
        arguments.output,
        finite(
            {
                "images": len(around.samples),
                "entropy_bytes": cost(reduced).entropy_bytes,
                "not_certified": refused,
                "balls": certified,
            }
        ),
    )


def finite(value: Any) -> Any:
    """The same with infinity and NaN as text, for which JSON has no numbers."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [finite(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


if __name__ == "__main__":
    run_script(main)
