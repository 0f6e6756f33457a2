"""GPFQ side by side: netreduce, a walk per neuron as the paper defines it, Brevitas' gpfq_mode, and
the BLAS time of the products alone.

    python benchmarks/gpfq.py results/data/mnist.npz results/keras/mnist.h5 --cifar10
    results/data/cifar10.npz

All contenders learn from the same images, with 4 bits and one alphabet: 16 equispaced levels on [−4
median |W|, 4 median |W|]. "streamed" reads them from disk in mini-batches, the others have them in
memory. Each run is a process of its own, so that its peak memory is its own; the runs of all
contenders take turns. Prints a Markdown table.

Brevitas is optional and runs with the PyTorch that is there: pip install --no-deps brevitas==0.13.4
dependencies==2.0.1 unfoldNd
"""

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median

import numpy as np
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

from netreduce.formats import load, save
from netreduce.measures.evaluation import evaluate
from netreduce.network import Network
from netreduce.network.layers import BatchNormalization, Conv2D, Dense, Flatten, MaxPooling2D
from netreduce.quantization import quantize, quantize_many
from netreduce.threads import thread_count

PRETRAINED = Path(__file__).resolve().parent.parent / "networks" / "cifar10.h5"
BITS, SCALAR = 4, 4.0
MLP_BATCH, CNN_BATCH = 500, 100  # images of a mini-batch
FLOOR_BATCHES = 8  # of the MLP, that the floor multiplies at a time
MLP_IMAGES, GRID_IMAGES, CNN_IMAGES = (2500, 25000, 60000), (5000, 25000), 5000
CNN_WALK_IMAGES = 20  # the walk per neuron would take hours on 5,000
PATCH_ROWS = 8192  # rows of a convolution's matrix that the floor multiplies at a time
GRID = [
    {"bits": bits, "alphabet_scalar": scalar} for bits in (1.58, 2, 3, 4) for scalar in range(1, 11)
]


class Images:
    """The first images of a raw uint8 file as float32 mini-batches in [0, 1], read anew on every
    iteration.
    """

    def __init__(self, path, count, shape, batches=1):
        self.path, self.count, self.shape = path, count, shape
        self.batch = batches * (CNN_BATCH if shape[-1] == 3 else MLP_BATCH)

    def __iter__(self):
        size = int(np.prod(self.shape))
        with open(self.path, "rb") as file:
            for start in range(0, self.count, self.batch):
                batch = np.fromfile(file, np.uint8, min(self.batch, self.count - start) * size)
                yield batch.reshape(-1, *self.shape).astype(np.float32) / 255


def weighted(network):
    return [i for i, layer in enumerate(network.layers) if isinstance(layer, (Dense, Conv2D))]


def matrices(layer, x, conv):
    """What a layer sees, one array (inputs, samples or windows) for each group of weights that is
    quantized by itself.
    """
    if isinstance(layer, Dense):
        return x.T[None]
    patches = layer.patches(x)
    flat = patches.reshape(-1, *patches.shape[3:])
    return (
        flat.reshape(len(flat), -1).T[None]
        if conv == "joint"
        else flat.reshape(len(flat), -1, x.shape[-1]).transpose(2, 1, 0)
    )


def kernel_groups(layer, kernel, conv):
    """A kernel as (groups, inputs, neurons), the layout of `matrices`; writing to it writes to the
    kernel.
    """
    if isinstance(layer, Dense) or conv == "joint":
        return kernel.reshape(1, -1, layer.outputs)
    return kernel.reshape(-1, *kernel.shape[2:]).transpose(1, 0, 2)


# --- contenders: each returns the seconds it took and the quantized network


def run_netreduce(network, images, conv):
    return run_streamed(network, np.concatenate(list(images)), conv)


def run_streamed(network, images, conv):
    quantize(
        network, np.zeros((2, *network.input_shape), np.float32), conv=conv
    )  # loads what Numba compiled
    start = time.perf_counter()
    quantized = quantize(network, images, bits=BITS, alphabet_scalar=SCALAR, conv=conv)
    return time.perf_counter() - start, quantized


def run_walk(network, images, conv):
    """Lybrand and Saab's definition: neuron after neuron, weight after weight, on vectors of
    samples.
    """
    x = np.concatenate(list(images))
    start = time.perf_counter()
    quantized = network
    for index in weighted(network):
        layer = network.layers[index]
        alphabet = (
            SCALAR
            * np.median(np.abs(layer.kernel.astype(np.float64)))
            * np.linspace(-1, 1, 2**BITS)
        )
        inputs = [
            Network(net.layers[:index], net.input_shape).predict(x, images.batch) if index else x
            for net in (network, quantized)
        ]
        X, X_quantized = (
            np.ascontiguousarray(matrices(layer, values, conv), np.float64) for values in inputs
        )
        kernel = np.empty(layer.kernel.shape)
        groups = kernel_groups(layer, kernel, conv)
        weights = kernel_groups(layer, layer.kernel.astype(np.float64), conv)
        for group, neuron in np.ndindex(len(weights), layer.outputs):
            groups[group, :, neuron] = walk_neuron(
                weights[group, :, neuron], X[group], X_quantized[group], alphabet
            )
        quantized = quantized.replace({index: layer.replace(kernel=kernel.astype(np.float32))})
    return time.perf_counter() - start, quantized


def walk_neuron(w, X, X_quantized, alphabet):
    u, q = np.zeros(X.shape[1]), np.zeros(len(w))
    for t, (x, x_quantized) in enumerate(zip(X, X_quantized, strict=True)):
        norm = np.linalg.norm(x_quantized)
        if norm >= 1e-16:
            inner = x_quantized @ u
            argument = w[t] if abs(inner) < 1e-10 else (inner + w[t] * (x_quantized @ x)) / norm**2
            q[t] = alphabet[np.argmin(np.abs(alphabet - argument))]
        u += w[t] * x - q[t] * x_quantized
    return q


def run_brevitas(network, images, conv):
    """gpfq_mode with the same alphabet: a constant scale, and a zero point of −1/2, which turns
    4-bit integers into odd multiples.
    """
    import brevitas.nn as qnn
    import torch
    from brevitas.graph.gpfq import gpfq_mode
    from brevitas.quant import Int8WeightPerTensorFloat

    class Half(torch.nn.Module):
        def __init__(self):  # Brevitas' injection reads the arguments from here
            super().__init__()

        def forward(self, x, scale, bit_width):
            return torch.tensor(-0.5)

    class Levels(Int8WeightPerTensorFloat):
        bit_width = BITS
        narrow_range = False
        scaling_impl_type = "const"
        zero_point_impl = Half

    class ChannelsLast(torch.nn.Flatten):
        def forward(self, x):
            return super().forward(x.permute(0, 2, 3, 1) if x.ndim == 4 else x)

    def module(layer, shape):
        if isinstance(layer, (Dense, Conv2D)):
            step = 2 * SCALAR * float(np.median(np.abs(layer.kernel))) / (2**BITS - 1)
            options = {
                "bias": True,
                "weight_quant": Levels,
                "weight_scaling_init": step * 2 ** (BITS - 1),
            }
            if isinstance(layer, Dense):
                result, weight = qnn.QuantLinear(*layer.kernel.shape, **options), layer.kernel.T
            else:
                geometry = {
                    "kernel_size": layer.kernel.shape[:2],
                    "stride": layer.strides,
                    "padding": layer.padding,
                }
                result, weight = (
                    qnn.QuantConv2d(*layer.kernel.shape[2:], **geometry, **options),
                    layer.kernel.transpose(3, 2, 0, 1),
                )
            result.weight.data, result.bias.data = (
                torch.tensor(np.ascontiguousarray(weight)),
                torch.tensor(layer.bias),
            )
            return (
                torch.nn.Sequential(result, torch.nn.ReLU())
                if layer.activation == "relu"
                else result
            )
        if isinstance(layer, BatchNormalization):
            result = (torch.nn.BatchNorm2d if len(shape) == 3 else torch.nn.BatchNorm1d)(
                shape[-1], layer.epsilon
            )
            tensors = result.weight, result.bias, result.running_mean, result.running_var
            for tensor, array in zip(tensors, layer.arrays().values(), strict=True):
                tensor.data = torch.tensor(array)
            return result
        if isinstance(layer, MaxPooling2D):
            return torch.nn.MaxPool2d(layer.pool_size, layer.strides)
        return ChannelsLast() if isinstance(layer, Flatten) else torch.nn.Identity()

    model = torch.nn.Sequential(*map(module, network.layers, network.shapes)).eval()
    start = time.perf_counter()
    with torch.no_grad(), gpfq_mode(model, use_quant_activations=False) as gpfq:
        for _ in range(gpfq.num_layers):
            for batch in images:
                gpfq.model(
                    torch.from_numpy(batch).permute(0, 3, 1, 2)
                    if batch.ndim == 4
                    else torch.from_numpy(batch)
                )
            gpfq.update()
    seconds = time.perf_counter() - start
    weights = [
        m.quant_weight().value.detach().numpy()
        for m in model.modules()
        if isinstance(m, (qnn.QuantLinear, qnn.QuantConv2d))
    ]
    kernels = [w.T if w.ndim == 2 else w.transpose(2, 3, 1, 0) for w in weights]
    return seconds, network.replace(
        {
            i: network.layers[i].replace(kernel=k)
            for i, k in zip(weighted(network), kernels, strict=True)
        }
    )


def run_floor(network, images, conv, quantized):
    """The products alone: H of every layer, G of all but the first, the forward products of all but
    the last, in both networks.

    Every thread multiplies a part of the rows, or some of several groups, with a BLAS of one
    thread: less time than a BLAS of all threads.
    """
    layers, threads, seconds = weighted(network), thread_count(), 0.0

    def timed(product, count):
        bounds = np.linspace(0, count, threads + 1).astype(int)
        start = time.perf_counter()
        list(pool.map(lambda first, last: product(slice(first, last)), bounds[:-1], bounds[1:]))
        return time.perf_counter() - start

    with threadpool_limits(1), ThreadPoolExecutor(threads) as pool:
        for batch in Images(
            images.path, images.count, images.shape, FLOOR_BATCHES if images.shape[-1] == 1 else 1
        ):
            values = [[batch, *net.activations(batch)] for net in (network, quantized)]
            for index in layers:
                nets = [net.layers[index] for net in (network, quantized)]
                groups = [
                    np.ascontiguousarray(
                        matrices(nets[0], v[index], conv).transpose(0, 2, 1), np.float64
                    )
                    for v in values
                ]
                several = len(groups[0]) > 1
                for X in groups[index == layers[0] :]:

                    def gram(part, X=X, X_quantized=groups[1], several=several):
                        part = part if several else (slice(None), part)
                        return X_quantized[part].transpose(0, 2, 1) @ X[part]

                    seconds += timed(gram, X.shape[0 if several else 1])
                if index == layers[-1]:
                    continue
                for layer, v in zip(nets, values, strict=True):
                    rows = matrices(layer, v[index], "joint")[0].T
                    kernel = layer.kernel.reshape(-1, layer.outputs)
                    step = len(rows) if isinstance(layer, Dense) else PATCH_ROWS
                    for first in range(0, len(rows), step):
                        block = np.ascontiguousarray(rows[first : first + step])
                        seconds += timed(
                            lambda rows, block=block, kernel=kernel: block[rows] @ kernel,
                            len(block),
                        )
    return seconds, quantized


def run_sweep(network, images, conv):
    """Seconds per setting, after the first, of a grid of 4 bit widths and 10 scalars."""
    seconds = [
        seconds for _, _, seconds in quantize_many(network, np.concatenate(list(images)), GRID)
    ]
    return sum(seconds[1:]) / len(seconds[1:]), network


CONTENDERS = {
    "netreduce": run_netreduce,
    "netreduce, streamed": run_streamed,
    "walk per neuron": run_walk,
    "Brevitas gpfq_mode": run_brevitas,
    "floor": run_floor,
    "netreduce, a setting of a grid": run_sweep,
}


def child(contender, network, images, count, conv, result, reference):
    network = load(network)
    arguments = [Images(images, int(count), network.input_shape), conv]
    if contender == "floor":
        arguments.append(with_kernels(network, reference))
    seconds, reduced = CONTENDERS[contender](network, *arguments)
    np.savez(result, *(reduced.layers[i].kernel for i in weighted(reduced)))
    print(
        json.dumps(
            {
                "seconds": seconds,
                "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )


def with_kernels(network, path):
    kernels = np.load(path).values()
    return network.replace(
        {
            i: network.layers[i].replace(kernel=kernel)
            for i, kernel in zip(weighted(network), kernels, strict=True)
        }
    )


class Bench:
    """A network with images to learn from, and contenders' results on it as rows of a table."""

    def __init__(self, name, network, images, folder, test):
        self.name, self.network, self.test, self.folder = name, network, test, Path(folder)
        self.files = self.folder / f"{name}.h5", self.folder / f"{name}.raw"
        save(network, self.files[0])
        images.tofile(self.files[1])

    def rows(self, contenders, count, conv, repeats):
        """Runs the contenders in turns, the walk once; accuracy, and the share of weights that
        equal the walk's, come from the first turn.
        """
        runs = {contender: [] for contender in contenders}
        for repeat in range(repeats):
            for contender in contenders:
                if repeat == 0 or contender != "walk per neuron":
                    runs[contender].append(self._run(contender, count, conv))
        seconds = {
            contender: median(run["seconds"] for run in results)
            for contender, results in runs.items()
        }
        for contender, results in runs.items():
            row = [
                self.name,
                "" if self.network.input_shape[-1] == 1 else conv,
                f"{count:,}",
                contender,
                f"{seconds[contender]:.2f}",
            ]
            row.append(f"{seconds[contender] / seconds['floor']:.2f}" if "floor" in seconds else "")
            if contender in ("floor", "netreduce, a setting of a grid"):
                yield [*row, "", "", "", ""]
                continue
            row.append(f"{results[0]['megabytes']:.0f}")
            reduced = with_kernels(self.network, self._file(contender))
            row.append(f"{100 * evaluate(reduced, *self.test).accuracy:.2f} %")
            yield (
                [*row, *(f"{100 * share:.3f} %" for share in self._equal(contender))]
                if "walk per neuron" in contenders
                else [*row, "", ""]
            )

    def _file(self, contender):
        return self.folder / f"{self.name}-{contender}.npz"

    def _equal(self, contender):
        """Share of weights that equal the walk's: of all, and of those whose input is not zero on
        all images (the walk's others are 0).
        """
        kernels = [
            np.concatenate([k.ravel() for k in np.load(self._file(name)).values()])
            for name in (contender, "walk per neuron")
        ]
        equal = np.isclose(*kernels, rtol=0, atol=1e-6)
        return equal.mean(), equal[kernels[1] != 0].mean()

    def _run(self, contender, count, conv):
        print(self.name, conv, count, contender, flush=True, file=sys.stderr)
        arguments = [
            contender,
            *self.files,
            count,
            conv,
            self._file(contender),
            self._file("netreduce"),
        ]
        command = [sys.executable, "-W", "ignore", __file__, "--child", *map(str, arguments)]
        return json.loads(
            subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True
            ).stdout.splitlines()[-1]
        )


def read(path, *splits):
    """Images of some splits of a dataset, one after the other, and their labels."""
    with np.load(path) as arrays:
        return tuple(
            np.concatenate([arrays[f"{split}_{kind}"] for split in splits])
            for kind in ("images", "labels")
        )


def scaled(network, images, labels):
    return images.reshape(-1, *network.input_shape).astype(np.float32) / 255, labels


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mnist", help="results/data/mnist.npz")
    parser.add_argument("mlp", help="a trained 784-500-300-10 network on it (.h5, .keras)")
    parser.add_argument("--cifar10", help="results/data/cifar10.npz")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    others = ["Brevitas gpfq_mode"] if importlib.util.find_spec("brevitas") else []

    header = [
        "network",
        "conv",
        "images",
        "",
        "seconds",
        "× floor",
        "peak MB",
        "test accuracy",
        "equal to the walk",
        "of live inputs",
    ]
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))

    def show(rows):
        for row in rows:
            print("| " + " | ".join(row) + " |", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        network = load(options.mlp)
        test = scaled(network, *read(options.mnist, "test"))
        bench = Bench("MLP", network, read(options.mnist, "train", "validation")[0], folder, test)
        for count in MLP_IMAGES:
            show(
                bench.rows(
                    ["netreduce", "netreduce, streamed", "floor", *others, "walk per neuron"],
                    count,
                    "channel",
                    options.repeats,
                )
            )
        for count in GRID_IMAGES:
            show(bench.rows(["netreduce, a setting of a grid"], count, "channel", 1))
        if options.cifar10:
            network = load(PRETRAINED)
            test = scaled(network, *read(options.cifar10, "test"))
            bench = Bench(
                "CNN", network, read(options.cifar10, "train")[0][:CNN_IMAGES], folder, test
            )
            for conv in ("channel", "joint"):
                # Brevitas takes all input channels together
                rivals = others if conv == "joint" else []
                show(
                    bench.rows(["netreduce", *rivals, "walk per neuron"], CNN_WALK_IMAGES, conv, 1)
                )
                show(
                    bench.rows(
                        ["netreduce", "netreduce, streamed", "floor", *rivals],
                        CNN_IMAGES,
                        conv,
                        min(options.repeats, 3),
                    )
                )
    print(
        f"\n{os.cpu_count()} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')},"
        f" load average {os.getloadavg()[1]:.1f} at the end"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(*sys.argv[2:])
    else:
        main()
