"""Quantize a network for ImageNet with every method and alphabet scalar, and measure each result on
images streamed from disk.
"""

import argparse
import json
from itertools import product
from pathlib import Path

from netreduce.cli.exits import run_script
from netreduce.data.imagenet import ImageStream, open_imagenet
from netreduce.errors import DataError, ShapeError
from netreduce.files import write_table
from netreduce.formats import load, save
from netreduce.measures.evaluation import top_accuracies
from netreduce.network import Network
from netreduce.network.layers import Dense
from netreduce.quantization import quantize_many

BATCH_SIZE = 16


def images_for(
    network: Network, resources: Path, samples: int, test_images: int | None
) -> tuple[ImageStream, ImageStream]:
    """The images to quantize on and those to evaluate on, all of them decoded once so that a bad
    one is named before long work starts.
    """
    if len(network.input_shape) != 3 or network.input_shape[2] != 3:
        raise ShapeError(
            "the images have shape (height, width, 3), found a network for inputs of shape"
            f" {network.input_shape}"
        )
    stream = open_imagenet(resources, network.input_shape[:2], BATCH_SIZE)
    if network.shapes[-1] != (len(stream.classes),):
        raise ShapeError(
            f"the images are of {len(stream.classes)} classes, found a network with outputs of"
            f" shape {network.shapes[-1]}"
        )
    if len(stream.paths) <= samples:
        raise DataError(
            f"{samples} images to quantize on and at least one to evaluate on are needed, found"
            f" {len(stream.paths)} images"
        )
    stream = stream.head(samples + test_images if test_images else len(stream.paths)).checked()
    return stream.head(samples), ImageStream(
        stream.paths[samples:],
        stream.labels[samples:],
        stream.classes,
        network.input_shape[:2],
        BATCH_SIZE,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="the network")
    parser.add_argument(
        "--architecture",
        type=json.loads,
        required=True,
        help="as in the config, as JSON; null for whole Keras networks",
    )
    parser.add_argument(
        "--resources", type=Path, required=True, help="folder that holds imagenet/val"
    )
    parser.add_argument(
        "--layers", choices=["all", "dense"], required=True, help="layers to quantize"
    )
    parser.add_argument("--methods", nargs="+", required=True)
    parser.add_argument("--bits", type=float, required=True)
    parser.add_argument("--alphabet-scalars", type=float, nargs="+", required=True)
    parser.add_argument("--conv", choices=["channel", "joint"], required=True)
    parser.add_argument(
        "--samples",
        type=int,
        required=True,
        help="images that data-dependent methods see, the first ones",
    )
    parser.add_argument(
        "--test-images",
        type=json.loads,
        required=True,
        help="images to evaluate on, those after them; null for all",
    )
    parser.add_argument("--seed", type=int, required=True, help="seed of stochastic rounding")
    parser.add_argument(
        "--networks",
        type=Path,
        required=True,
        help="folder where the networks go, <method>_<bits>bit_<scalar>.h5",
    )
    parser.add_argument("--table", type=Path, required=True, help="where the accuracies go (.csv)")
    parser.add_argument("--timings", type=Path, required=True, help="where the seconds go (.csv)")
    arguments = parser.parse_args()

    analog = load(arguments.weights, arguments.architecture)
    samples, test = images_for(
        analog, arguments.resources, arguments.samples, arguments.test_images
    )

    def accuracies(network: Network, name: str) -> dict[str, float]:
        def progress(done: int, count: int) -> None:
            print(f"{name}: {done} of {count} images evaluated", flush=True)

        return dict(
            zip(
                ("top1", "top5"),
                top_accuracies(network, test, test.labels, progress=progress),
                strict=True,
            )
        )

    def progress(name: str, done: int, count: int) -> None:
        print(f"quantizing {name}, layer {done + 1} of {count}", flush=True)

    dense = [
        name
        for name, layer in zip(analog.names, analog.layers, strict=True)
        if isinstance(layer, Dense)
    ]
    common = {
        "bits": arguments.bits,
        "conv": arguments.conv,
        "seed": arguments.seed,
        "layers": dense if arguments.layers == "dense" else None,
    }
    settings = [
        {"method": method, "alphabet_scalar": scalar, **common}
        for method, scalar in product(arguments.methods, arguments.alphabet_scalars)
    ]
    of_analog = {f"analog_{name}": value for name, value in accuracies(analog, "analog").items()}
    table, timings = [], []
    quantized = quantize_many(analog, samples, settings, progress=progress)
    for setting, network, seconds in quantized:
        key = {name: setting[name] for name in ("method", "bits", "alphabet_scalar")}
        name = "{method}_{bits:g}bit_{alphabet_scalar:g}".format_map(key)
        save(network, arguments.networks / f"{name}.h5")
        counts = {"samples": len(samples.paths), "test_images": len(test.paths)}
        table.append(
            {
                **key,
                "layers": arguments.layers,
                **counts,
                **accuracies(network, name),
                **of_analog,
            }
        )
        timings.append({**key, "seconds": round(seconds, 4)})
    write_table(arguments.table, table)
    write_table(arguments.timings, timings)


if __name__ == "__main__":
    run_script(main)
