"""GPFQ, GPTQ and Qronos side by side with Brevitas: the same network, alphabets and samples.

    python benchmarks/brevitas_peer.py networks/cifar10.h5 results/data/cifar10.npz
    python benchmarks/brevitas_peer.py resnet8.h5 results/data/cifar10.npz --scale 255

One alphabet for each layer, 2^bits equispaced levels of the least squared error of the weights;
convolutions through all channels. Brevitas gets them as a constant scale, and a zero point of −1/2,
which turns integers into odd multiples, and has its own defaults otherwise. netreduce comes a
second time with a sweep of coordinate descent after the method, which fits the alphabet too.
Seconds are those of the processor, on one thread. Prints a Markdown table: of several draws of
training images the means, with their standard errors, and that of the difference in accuracy, draw
by draw.

Brevitas runs with the PyTorch that is there: pip install --no-deps brevitas==0.13.4
dependencies==2.0.1 unfoldNd
"""

import argparse
import os
import sys
import time
from functools import partial
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import brevitas.nn as qnn
import numpy as np
import torch
from brevitas.graph.gpfq import gpfq_mode
from brevitas.graph.gptq import gptq_mode
from brevitas.graph.qronos import Qronos
from brevitas.quant import Int8WeightPerTensorFloat

from netreduce.data import read
from netreduce.folding import fold_batch_norm
from netreduce.formats import load
from netreduce.formats.pytorch.module import to_torch, with_parameters_of
from netreduce.network import Network
from netreduce.network.layers import Weighted
from netreduce.quantization import quantize
from netreduce.quantization.alphabet import make_alphabet
from netreduce.quantization.pipeline import QUANTIZABLE

METHODS = ("gpfq", "gptq", "qronos")
BATCH = 100  # images of a mini-batch


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", type=Path)
    parser.add_argument("data", type=Path, help="dataset (.npz)")
    parser.add_argument("--scale", type=float, default=1.0, help="factor of the images")
    parser.add_argument("--samples", type=int, default=500, help="training images")
    parser.add_argument("--draws", type=int, default=1, help="of them; one: the first images")
    parser.add_argument("--images", type=int, default=2000, help="test images")
    parser.add_argument("--bits", type=int, nargs="+", default=[2, 3, 4])
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    network = fold_batch_norm(load(arguments.network))
    data = read(arguments.data)
    training = data.images("train")
    draws = [np.arange(arguments.samples)]
    if arguments.draws > 1:
        draws = [
            np.sort(np.random.default_rng(seed).permutation(len(training))[: arguments.samples])
            for seed in range(arguments.draws)
        ]
    test = arguments.scale * data.images("test", arguments.images)
    wanted, labels = logits(network, test), data.targets("test", arguments.images)
    by_netreduce(network, test[:10], "qronos", 4, sweeps=1)  # compiles
    print(f"analog {100 * (wanted.argmax(axis=1) == labels).mean():.2f} %\n")
    print("| bits | method | | accuracy | above Brevitas | change | seconds | of Brevitas' |")
    print("|---:|---|---|---:|---:|---:|---:|---:|")
    for bits in arguments.bits:
        for method in arguments.methods:
            found = []
            for draw in draws:
                x = arguments.scale * training[draw]
                for run in RUNS.values():
                    start = time.process_time()
                    made = run(network, x, method, bits)
                    seconds = time.process_time() - start
                    outputs = logits(made, test)
                    right = 100 * (outputs.argmax(axis=1) == labels).mean()
                    changed = ((outputs - wanted) ** 2).mean() / wanted.var()
                    found.append((right, changed, seconds))
            of_runs = np.array(found).reshape(len(draws), len(RUNS), 3).transpose(1, 2, 0)
            theirs = of_runs[-1]
            for name, (right, changed, seconds) in zip(RUNS, of_runs, strict=True):
                above = "" if name == "Brevitas" else spread(right - theirs[0], 2)
                cells = spread(right, 2), above, spread(changed, 4), spread(seconds, 1)
                share = f"{seconds.mean() / theirs[2].mean():.2f}"
                print(f"| {bits} | {method} | {name} | {' | '.join(cells)} | {share} |", flush=True)


def by_netreduce(
    network: Network, x: np.ndarray, method: str, bits: int, sweeps: int = 0
) -> Network:
    return quantize(network, x, method, bits, radius="mse", per_channel=False, sweeps=sweeps)


def by_brevitas(network: Network, x: np.ndarray, method: str, bits: int) -> Network:
    model = to_torch(network).eval()
    for name, layer in zip(network.names, network.layers, strict=True):
        if isinstance(layer, QUANTIZABLE):
            setattr(model, name, quantized_module(getattr(model, name), layer, bits))
    batches = [
        torch.from_numpy(part).movedim(-1, 1) if part.ndim == 4 else torch.from_numpy(part)
        for part in np.split(x, range(BATCH, len(x), BATCH))
    ]
    modes = {
        "gpfq": lambda: gpfq_mode(model, use_quant_activations=False),
        "gptq": lambda: gptq_mode(model, use_quant_activations=False),
        "qronos": lambda: gpfq_mode(
            model, use_quant_activations=False, algorithm_impl=Qronos, create_weight_orig=True
        ),
    }
    with torch.no_grad(), modes[method]() as mode:
        for _ in range(mode.num_layers):
            for batch in batches:
                mode.model(batch)
            mode.update()
    for name, layer in zip(network.names, network.layers, strict=True):
        if isinstance(layer, QUANTIZABLE):
            child = getattr(model, name)
            plain = to_torch(network).get_submodule(name)
            plain.weight.data = child.quant_weight().value.detach()
            plain.bias.data = child.bias.detach()
            setattr(model, name, plain)
    return with_parameters_of(model, network)


def quantized_module(child: torch.nn.Module, layer: Weighted, bits: int) -> torch.nn.Module:
    """Brevitas' layer with the weights of PyTorch's and the alphabet of netreduce."""

    class Half(torch.nn.Module):
        def __init__(self) -> None:  # Brevitas' injection reads the arguments from here
            super().__init__()

        def forward(self, x: object, scale: object, bit_width: object) -> torch.Tensor:
            return torch.tensor(-0.5)

    class Levels(Int8WeightPerTensorFloat):
        bit_width = bits
        narrow_range = False
        scaling_impl_type = "const"
        zero_point_impl = Half

    step = 2 * float(make_alphabet(layer.kernel, bits, radius="mse").scale)
    options = {
        "bias": True,
        "weight_quant": Levels,
        "weight_scaling_init": step * 2 ** (bits - 1),
    }
    if isinstance(child, torch.nn.Linear):
        made = qnn.QuantLinear(child.in_features, child.out_features, **options)
    else:
        geometry = ("stride", "padding", "dilation", "groups")
        made = qnn.QuantConv2d(
            child.in_channels,
            child.out_channels,
            child.kernel_size,
            **{key: getattr(child, key) for key in geometry},
            **options,
        )
    made.weight.data, made.bias.data = child.weight.data.clone(), child.bias.data.clone()
    return made.eval()


def logits(network: Network, x: np.ndarray) -> np.ndarray:
    """Outputs before a softmax."""
    return network.logits().predict(x).astype(np.float64)


def spread(values: np.ndarray, digits: int) -> str:
    """The mean, and of several its standard error."""
    error = f" ± {values.std(ddof=1) / len(values) ** 0.5:.{digits}f}" if len(values) > 1 else ""
    return f"{values.mean():.{digits}f}{error}"


RUNS = {
    "netreduce": by_netreduce,
    "netreduce, `sweeps=1`": partial(by_netreduce, sweeps=1),
    "Brevitas": by_brevitas,
}


if __name__ == "__main__":
    main()
