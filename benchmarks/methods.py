"""Every method at every bit width: test accuracy over seeds, each the mean of networks that see
training images drawn from that seed.

    python benchmarks/methods.py results/data/mnist.npz results/keras/mnist.h5
    results/keras/mnist-seed1.h5 results/keras/mnist-seed2.h5

With one network, the seeds draw the images that the methods learn from; with more, each network is
a seed of its own. Alphabets: for each neuron, convolutions through all channels; "mse" of the least
squared error of the weights, "output" of the layer's outputs. Prints a Markdown table: mean of the
accuracy in %, and how far it goes up and down.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from netreduce.chains.names import bits_name
from netreduce.data import read
from netreduce.folding import fold_batch_norm
from netreduce.formats import load
from netreduce.measures.evaluation import accuracy
from netreduce.network import Network
from netreduce.quantization import quantize_many

METHODS = ("msq", "gpfq", "spfq", "gptq", "gptaq", "qronos", "adaround", "comq", "beacon")
ALPHABETS = ("published", "mse", "output")
ALONE = ("adaround", "comq", "beacon")  # with alphabets of least squared error only
PUBLISHED = ("msq", "gpfq")  # with the published alphabet too, the best of these scalars
SCALARS = (1, 2, 3)
VALIDATION = 1000  # images that a scalar is chosen on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="dataset (.npz)")
    parser.add_argument("networks", type=Path, nargs="+")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the images")
    parser.add_argument("--seeds", type=int, default=3, help="of the images, with one network")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--images", type=int, default=5000, help="test images")
    parser.add_argument("--bits", type=float, nargs="+", default=[1.58, 2, 3, 4])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--alphabets", nargs="+", choices=ALPHABETS, default=ALPHABETS)
    arguments = parser.parse_args()

    data = read(arguments.data)
    test, chosen_on = (
        (arguments.scale * data.images(part, count), data.targets(part, count))
        for part, count in (("test", arguments.images), ("validation", VALIDATION))
    )
    networks = [fold_batch_norm(load(path)) for path in arguments.networks]
    seeds = range(max(arguments.seeds if len(networks) == 1 else 1, len(networks)))
    training = data.images("train")
    scores: dict[tuple[str, str, float], list[float]] = {}
    analog = []
    for seed in seeds:
        network = networks[seed % len(networks)]
        draw = np.random.default_rng(seed).permutation(len(training))[: arguments.samples]
        samples = arguments.scale * training[np.sort(draw)]
        analog.append(100 * accuracy(network, *test))
        settings = [
            (method, alphabet, {"method": method, "bits": bits, "seed": seed, **words})
            for bits in arguments.bits
            for method in arguments.methods
            for alphabet, words in alphabets(method)
            if alphabet in arguments.alphabets
        ]
        made = quantize_many(network, samples, [words for *_, words in settings])
        candidates: dict[tuple[str, str, float], list[Network]] = {}
        for (method, alphabet, words), (_, quantized, _) in zip(settings, made, strict=True):
            candidates.setdefault((method, alphabet, words["bits"]), []).append(quantized)
        for key, choice in candidates.items():
            best = choice[0]
            if len(choice) > 1:
                best = max(choice, key=lambda one: accuracy(one, *chosen_on))
            scores.setdefault(key, []).append(100 * accuracy(best, *test))
    print(f"analog {spread(analog)}\n")
    print("| alphabet | method |", *(f" {bits_name(bits)} |" for bits in arguments.bits), sep="")
    print("|---|---|", "---:|" * len(arguments.bits), sep="")
    for alphabet in ALPHABETS:
        for method in arguments.methods:
            cells = [scores.get((method, alphabet, bits)) for bits in arguments.bits]
            if all(cells):
                words = " | ".join(spread(cell) for cell in cells if cell)
                print(f"| {alphabet} | {method} | {words} |")


def alphabets(method: str) -> list[tuple[str, dict[str, object]]]:
    """The settings of a method by the name of their alphabet."""
    by_neuron = {"per_channel": True, "conv": "joint"}
    found: list[tuple[str, dict[str, object]]] = [("mse", {"radius": "mse", **by_neuron})]
    if method not in ALONE:
        found.append(("output", {"radius": "output", **by_neuron}))
    if method in PUBLISHED:
        found += [("published", {"alphabet_scalar": scalar}) for scalar in SCALARS]
    return found


def spread(values: list[float]) -> str:
    """Mean, and half the distance from the least to the largest."""
    return f"{np.mean(values):.2f} ± {(max(values) - min(values)) / 2:.2f}"


if __name__ == "__main__":
    main()
