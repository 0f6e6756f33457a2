"""Exact lumping side by side with the dictionary algorithm: seconds and memory.

    python benchmarks/lump.py

Networks of dense layers with ReLU and random weights, in float32; in the planted ones a tenth of
the hidden neurons are multiples of others, so that merging and the certificate are timed as well.
Every run is a process of its own, so that its peak memory is its own, and the contenders take
turns; times (wall clock and processor) are medians without the making of the network or of its
dictionaries, the ratio is that of processor times. "dictionary" is the published transcription
(convention="thesis"). Prints a Markdown table.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from netreduce.lumping import lump, lump_neural_network
from netreduce.network import Network
from netreduce.network.layers import Dense

WIDTHS = ((784, 500, 300, 10), (1024, 1024, 10), (2048, 2048, 10), (4096, 4096, 10))
DICTIONARY_WEIGHTS = 1_100_000  # beyond, the dictionaries alone take gigabytes
REPEATS = 3


def make_network(widths, planted):
    rng = np.random.default_rng(0)
    layers = []
    for inputs, outputs in pairwise(widths):
        kernel = rng.standard_normal((inputs, outputs), np.float32) / np.float32(np.sqrt(inputs))
        bias = rng.standard_normal(outputs, np.float32)
        if planted and outputs != widths[-1]:
            into, copies = np.split(rng.permutation(outputs)[: outputs // 10 * 2], 2)
            ratios = rng.uniform(0.1, 10, len(copies)).astype(np.float32)
            kernel[:, copies], bias[copies] = ratios * kernel[:, into], ratios * bias[into]
        layers.append(Dense(kernel, bias, "linear" if outputs == widths[-1] else "relu"))
    return Network(layers, widths[:1])


def dictionaries(network):
    """The network as (k, S, W, b, A)."""
    ends = np.cumsum([network.input_shape[0], *(layer.outputs for layer in network.layers)])
    first = network.input_shape[0]  # ids begin where no layer's index is
    S = [
        range(first + end - width, first + end)
        for end, width in zip(ends, np.diff(ends, prepend=0), strict=True)
    ]
    W, b, A = {}, {}, {}
    for i, layer in enumerate(network.layers, start=1):
        W[i] = {
            (r, s): w
            for r, row in zip(S[i - 1], layer.kernel.tolist(), strict=True)
            for s, w in zip(S[i], row, strict=True)
        }
        b[i] = dict(zip(S[i], layer.bias.tolist(), strict=True))
        A[i] = dict.fromkeys(S[i], "ReLU" if layer.activation == "relu" else "Linear")
    return len(S), S, W, b, A


def run(contender, widths, planted):
    """Wall-clock and processor seconds, peak memory in MB above that of the network, and neurons
    merged.
    """
    lump(make_network((8, 8, 2), True))  # what is done once in a process is not what is compared
    network = make_network(widths, planted)
    argument = dictionaries(network) if contender == "dictionary" else network
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start, processor = time.perf_counter(), time.process_time()
    if contender == "dictionary":
        _, S, *_ = lump_neural_network(argument, convention="thesis")
        merged = sum(widths[:-1]) - sum(len(S[i]) for i in range(len(widths) - 1))
    else:
        merged = len(lump(argument).merges)
    seconds, processor = time.perf_counter() - start, time.process_time() - processor
    memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return {"seconds": seconds, "processor": processor, "memory": memory, "merged": merged}


def measure(contender, widths, planted):
    """One run in a process of its own."""
    command = [sys.executable, __file__, "--run", json.dumps([contender, widths, planted])]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        print(json.dumps(run(*arguments.run)))
        return
    print(
        "| network | planted | contender | merged | seconds | processor s | MB | ratio"
        " |\n|---|---|---|---|---|---|---|---|"
    )
    for widths in WIDTHS:
        small = sum(n * m for n, m in pairwise(widths)) <= DICTIONARY_WEIGHTS
        for planted in (False, True):
            runs = {
                contender: []
                for contender in (["netreduce", "dictionary"] if small else ["netreduce"])
            }
            for _ in range(REPEATS):
                for contender, found in runs.items():
                    found.append(measure(contender, widths, planted))
            for contender, found in runs.items():
                seconds, processor, memory = (
                    median(one[key] for one in found) for key in ("seconds", "processor", "memory")
                )
                ratio = median(
                    other["processor"] / one["processor"]
                    for one, other in zip(runs["netreduce"], found, strict=True)
                )
                cells = (
                    "-".join(map(str, widths)),
                    "10 %" if planted else "none",
                    contender,
                    found[0]["merged"],
                )
                print(
                    f"| {' | '.join(map(str, cells))} | {seconds:.3f} | {processor:.3f} |"
                    f" {memory:.0f} | {ratio:.0f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
