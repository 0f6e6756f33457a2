"""Reading files of about 10 MB: netreduce beside the framework that each kind of file comes from.

    python benchmarks/read.py

Files lie in the cache of the operating system, all modules are imported, one thread computes, and
the contenders take turns; times are medians of the processor's, which other work on the machine
disturbs less than the clock. "Arrays" gives the arrays of the file by name, "loaded" copies them
into a module that is there already, "network" gives something that can compute: a module that is
made for them, a Keras model, a session of ONNX Runtime. netreduce gives a network, its numbers
checked, its kernels in its own order; of data, samples and labels. Prints a Markdown table.
"""

import argparse
import copy
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))

import h5py
import keras
import numpy as np
import onnx
import onnxruntime
import pandas as pd
import safetensors.torch
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))

import netreduce as nr
from netreduce.data.parts import read_part
from netreduce.formats.pytorch.module import to_torch
from netreduce.network.architectures import build

REPEATS = 15
MLP = {"name": "mlp", "hidden": [1600, 800]}  # 2.5 million weights
SMALL_MLP = {"name": "mlp", "hidden": [600, 400]}  # 10 MB where numbers are text
CONVOLUTIONS = {
    "layers": [
        {"conv": {"filters": 128, "kernel": 3, "padding": 1}},
        "relu",
        {"conv": {"filters": 256, "kernel": 3, "padding": 1}},
        "relu",
        {"max_pool": 2},
        {"conv": {"filters": 512, "kernel": 3, "padding": 1}},
        "relu",
        {"max_pool": 2},
        "flatten",
        {"dense": 256},
        "relu",
        {"dense": 10},
    ],
}
LABELLED = {"label": "label"}
RANDOM = np.random.default_rng(0)
Contender = Callable[[], object]
Contenders = Sequence[Contender | None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", help="names of kinds, such as pth; all by default")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    arguments = parser.parse_args()
    logging.disable()  # of Keras, at every load
    torch.set_num_threads(1)
    print("| file | | MB | netreduce | arrays | loaded | network |")
    print("|---|---|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for kind, what, path, contenders in files(Path(folder), arguments.kinds):
            ours, *others = in_turns(contenders, arguments.repeats)
            cells = [f"{1e3 * ours:.1f}", *(beside(ours, time) for time in others)]
            megabytes = sum(part.stat().st_size for part in parts(path)) / 1e6
            print(f"| .{kind} | {what} | {megabytes:.1f} | {' | '.join(cells)} |", flush=True)


def beside(ours: float, other: float | None) -> str:
    """Milliseconds, and how many times as long netreduce takes."""
    return "" if other is None else f"{1e3 * other:.1f} ({ours / other:.2f})"


def parts(path: Path) -> list[Path]:
    return [part for part in path.rglob("*") if part.is_file()] if path.is_dir() else [path]


def in_turns(contenders: Sequence[Contender | None], repeats: int) -> list:
    """Median seconds of every contender; None of one that is not there."""
    seconds: list[list[float]] = [[] for _ in contenders]
    for turn in range(-1, repeats):  # the first fills the caches
        for place, contender in enumerate(contenders):
            if contender is not None:
                start = time.process_time()
                contender()
                if turn >= 0:
                    seconds[place].append(time.process_time() - start)
    return [median(found) if found else None for found in seconds]


def files(folder: Path, kinds: Sequence[str]) -> Iterator[tuple[str, str, Path, Contenders]]:
    """Kind, what is in it, the file, and what reads it: netreduce, arrays, loaded, network."""
    for kind, make in READERS.items():
        if kinds and kind not in kinds:
            continue
        text = kind in ("nnet", "txt")
        architectures = {"dense": SMALL_MLP if text else MLP, "convolutions": CONVOLUTIONS}
        for what, architecture in architectures.items():
            if text and what == "convolutions":
                continue
            shape = (784,) if what == "dense" else (12, 12, 3)
            path = folder / f"{what}.{kind}"
            described = {**architecture, "input_shape": shape}
            network = build(architecture, shape, 10, seed=0)
            yield kind, what, path, make(path, described, network)
    for kind, read in DATA.items():
        if not kinds or kind in kinds:
            path = folder / f"data.{kind}"
            yield kind, "images" if kind in ("npz", "png") else "table", path, read(path)


def state_dict(path: Path, described: dict, network: nr.Network) -> Contenders:
    module = to_torch(network)
    torch.save(module.state_dict(), path)
    return of_tensors(path, described, module, lambda: torch.load(path, weights_only=True))


def safe_tensors(path: Path, described: dict, network: nr.Network) -> Contenders:
    module = to_torch(network)
    safetensors.torch.save_file(module.state_dict(), path)
    return of_tensors(path, described, module, lambda: safetensors.torch.load_file(path))


def of_tensors(
    path: Path, described: dict, module: torch.nn.Module, read: Callable[[], dict]
) -> Contenders:
    def made() -> torch.nn.Module:
        """The same module, as its class would make it: with initial weights of its own."""
        found = copy.deepcopy(module)
        for part in found.modules():
            if hasattr(part, "reset_parameters"):
                part.reset_parameters()
        return found

    return (
        lambda: nr.load(path, described),
        read,
        lambda: module.load_state_dict(read()),
        lambda: made().load_state_dict(read()),
    )


def program(path: Path, _: dict, network: nr.Network) -> Contenders:
    shape = network.input_shape
    example = torch.zeros(2, *(shape[-1:] + shape[:-1] if len(shape) == 3 else shape))
    torch.export.save(torch.export.export(to_torch(network).eval(), (example,)), path)
    return lambda: nr.load(path), None, None, lambda: torch.export.load(path).module()


def hdf5(path: Path, _: dict, network: nr.Network) -> Contenders:
    def arrays() -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}

        def visit(name: str, item: object) -> None:
            if isinstance(item, h5py.Dataset):
                found[name] = item[()]

        with h5py.File(path) as file:
            file.visititems(visit)
        return found

    nr.save(network, path)
    keras.models.load_model(path).save(path)  # as Keras writes it
    return lambda: nr.load(path), arrays, None, lambda: keras.models.load_model(path)


def keras_archive(path: Path, _: dict, network: nr.Network) -> Contenders:
    nr.save(network, path)
    keras.models.load_model(path).save(path)
    return lambda: nr.load(path), None, None, lambda: keras.models.load_model(path)


def open_exchange(path: Path, _: dict, network: nr.Network) -> Contenders:
    def session() -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def arrays() -> list[np.ndarray]:
        return [onnx.numpy_helper.to_array(found) for found in onnx.load(path).graph.initializer]

    nr.export(network, path)
    return lambda: nr.load(path), arrays, None, session


def text(path: Path, described: dict, network: nr.Network) -> Contenders:
    def arrays() -> list[np.ndarray]:
        lines = path.read_text().split("\n")[1::3]
        return [np.array(line.split(", "), np.float32) for line in lines if line]

    nr.save(network, path)
    return lambda: nr.load(path, described), arrays, None, None


def acas(path: Path, _: dict, network: nr.Network) -> Contenders:
    def arrays() -> list[list[float]]:  # as the format's own readers do it
        with path.open() as file:
            return [
                [float(value) for value in line.strip().rstrip(",").split(",")]
                for line in file
                if not line.startswith("//")
            ]

    sizes = [*network.input_shape, *(layer.outputs for layer in network.layers)]
    inputs = sizes[0]
    rows = [[len(sizes) - 1, inputs, sizes[-1], max(sizes)], sizes, [0]]
    rows += [[-1] * inputs, [1] * inputs, [0] * (inputs + 1), [1] * (inputs + 1)]
    for layer in network.layers:
        rows += [*layer.kernel.T.astype("U").tolist(), *([value] for value in layer.bias.tolist())]
    lines = ("".join(f"{value}," for value in row) for row in rows)
    path.write_text("// a network\n" + "\n".join(lines) + "\n")
    return lambda: nr.load(path), arrays, None, None


def array_file(path: Path) -> Contenders:
    def arrays() -> list[np.ndarray]:
        with np.load(path) as file:
            return [file[name] for name in file.files]

    images, labels = RANDOM.integers(0, 256, (12_500, 28, 28, 1)), RANDOM.integers(0, 9, 12_500)
    np.savez(path, x=images.astype(np.uint8), y=labels)
    return lambda: read_part({"train": path}, "train"), arrays, None, None


def frame(rows: int) -> pd.DataFrame:
    made = pd.DataFrame(RANDOM.normal(size=(rows, 20)), columns=[f"f{i}" for i in range(20)])
    made["label"] = RANDOM.integers(0, 5, rows)
    return made


def csv_table(path: Path) -> Contenders:
    frame(24_000).to_csv(path, index=False)
    return lambda: read_part(LABELLED | {"train": path}, "train"), lambda: pd.read_csv(path)


def parquet_table(path: Path) -> Contenders:
    frame(50_000).to_parquet(path, index=False)
    return lambda: read_part(LABELLED | {"train": path}, "train"), lambda: pd.read_parquet(path)


def pictures(path: Path) -> Contenders:
    def arrays() -> np.ndarray:
        files = sorted(path.glob("*/*"))
        return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])

    for number in range(1_200):
        folder = path / f"class{number % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = RANDOM.integers(0, 256, (52, 52, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return lambda: read_part({"train": path}, "train"), arrays


READERS = {
    "pth": state_dict,
    "safetensors": safe_tensors,
    "pt2": program,
    "h5": hdf5,
    "keras": keras_archive,
    "onnx": open_exchange,
    "nnet": acas,
    "txt": text,
}
DATA = {"npz": array_file, "csv": csv_table, "parquet": parquet_table, "png": pictures}


if __name__ == "__main__":
    main()
