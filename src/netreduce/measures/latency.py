"""Latency of networks, as they are and exported, measured side by side. The numbers depend on the
machine and on what else it does.
"""

import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter, sleep
from typing import TypeAlias, TypeVar

import numpy as np
import onnxruntime

from netreduce.errors import ParameterError, SampleError
from netreduce.formats.onnx.writer import to_onnx
from netreduce.network import Network
from netreduce.threads import thread_count

from .deployment import open_file

BATCH_SIZES = (1, 256)
ROUNDS = 25
FEWEST = 5  # rounds, however long they take
SETTLE = 0.002  # seconds after which threads of another session have stopped to wait for work
Key = TypeVar("Key", bound=Hashable)
Calls: TypeAlias = Iterable[tuple[int, Callable[[], object]]]
Loader: TypeAlias = Callable[[Network, list[np.ndarray]], Calls]
BURST = 0.005  # seconds that the calls of one network in one round take together, at least one call


@dataclass(frozen=True)
class Latency:
    """How long one network takes for one batch.

    Attributes
    ----------
    network, runtime : str
    batch : int
        Samples in a batch.
    fastest, low, seconds, high : float
        Minimum, lower quartile, median and upper quartile over the rounds; on a busy machine the
        minimum tells most.
    """

    network: str
    runtime: str
    batch: int
    fastest: float
    low: float
    seconds: float
    high: float


@dataclass(frozen=True)
class FileLatency:
    """How long an exported file takes for one batch, in its runtime.

    Attributes
    ----------
    file : str
    threads : int
        That the runtime may use.
    batch : int
        Samples in a batch.
    fastest, low, seconds, high : float
        As in `Latency`.
    """

    file: str
    threads: int
    batch: int
    fastest: float
    low: float
    seconds: float
    high: float


def measure_files(
    files: Mapping[str, Path],
    samples: np.ndarray,
    batch_sizes: Iterable[int] = BATCH_SIZES,
    threads: Iterable[int] | None = None,
    rounds: int = ROUNDS,
    limit: float = math.inf,
) -> list[FileLatency]:
    """Latency of exported networks: .onnx in ONNX Runtime, .tflite in LiteRT. The measurements take
    turns.

    Parameters
    ----------
    files : mapping of str to path
        By what they are called.
    samples : ndarray, shape (samples, *input_shape)
        At least as many as the largest batch.
    batch_sizes : iterable of int
    threads : iterable of int, optional
        Numbers of threads; one and all by default.
    rounds : int
        Turns that each measurement gets.
    limit : float
        Seconds after which no further round begins, but for the first five.

    Raises
    ------
    SampleError, ParameterError
        As `measure_latency`.
    """
    batch_sizes = _checked(batch_sizes, samples, rounds)
    x = samples[: max(batch_sizes)].astype(np.float32)
    calls: dict[tuple[str, int, int], Callable[[], object]] = {
        (name, count, size): partial(open_file(path, count), x[:size])
        for name, path in files.items()
        for count in dict.fromkeys((1, thread_count()) if threads is None else threads)
        for size in batch_sizes
    }
    return [FileLatency(*key, *times) for key, times in _in_turns(calls, rounds, limit).items()]


def measure_latency(
    networks: Mapping[str, Network],
    samples: np.ndarray,
    batch_sizes: Iterable[int] = BATCH_SIZES,
    rounds: int = ROUNDS,
) -> list[Latency]:
    """Latency on one thread of every network in every runtime: NumPy (this library), ONNX Runtime,
    and LiteRT where it is installed.

    The measurements take turns, so that whatever else the machine does strikes all alike. ONNX
    Runtime has its default options; it makes floats of quantized weights once, when it loads them,
    and LiteRT does in part each time (see `netreduce.formats.litert.to_litert`). NumPy uses as many
    threads as OMP_NUM_THREADS allows.

    Parameters
    ----------
    networks : mapping of str to Network
    samples : ndarray, shape (samples, *input_shape)
        At least as many as the largest batch.
    batch_sizes : iterable of int
    rounds : int
        Turns that each measurement gets.

    Raises
    ------
    SampleError
        Fewer samples than the largest batch, or samples that do not fit a network.
    ParameterError
        No rounds.
    """
    batch_sizes = _checked(batch_sizes, samples, rounds)
    calls: dict[tuple[str, str, int], Callable[[], object]] = {}
    for name, network in networks.items():
        x = network.check_samples(samples[: max(batch_sizes)]).astype(np.float32)
        for runtime, load in _runtimes().items():
            for batch, call in load(network, [x[:size] for size in batch_sizes]):
                calls[name, runtime, batch] = call
    return [Latency(*key, *times) for key, times in _in_turns(calls, rounds).items()]


def _checked(batch_sizes: Iterable[int], samples: np.ndarray, rounds: int) -> tuple[int, ...]:
    batch_sizes = tuple(batch_sizes)
    if rounds < 1:
        raise ParameterError(f"rounds must be at least 1, found {rounds}")
    if len(samples) < max(batch_sizes):
        raise SampleError(
            f"latency at batch size {max(batch_sizes)} needs as many samples, found {len(samples)}"
        )
    return batch_sizes


def _in_turns(
    calls: Mapping[Key, Callable[[], object]], rounds: int, limit: float = math.inf
) -> dict[Key, list[float]]:
    """Minimum, lower quartile, median and upper quartile of the seconds that each call takes."""
    repeats = {key: max(1, int(BURST / max(_time(call, 2), 1e-9))) for key, call in calls.items()}
    times: dict[Key, list[float]] = {key: [] for key in calls}
    start = perf_counter()
    for done in range(rounds):
        if done >= FEWEST and perf_counter() - start > limit:
            break
        for key, call in calls.items():
            sleep(SETTLE)
            times[key].append(_time(call, repeats[key]))
    return {key: np.percentile(seen, (0, 25, 50, 75)).tolist() for key, seen in times.items()}


def _time(call: Callable[[], object], repeats: int) -> float:
    start = perf_counter()
    for _ in range(repeats):
        call()
    return (perf_counter() - start) / repeats


def _runtimes() -> dict[str, Loader]:
    runtimes: dict[str, Loader] = {"numpy": _numpy, "onnxruntime": _onnxruntime}
    return (
        runtimes | {"litert": _litert}
        if find_spec("ai_edge_litert") and find_spec("tensorflow")
        else runtimes
    )


def _numpy(network: Network, batches: list[np.ndarray]) -> Calls:
    return [(len(batch), partial(network.predict, batch)) for batch in batches]


def _onnxruntime(network: Network, batches: list[np.ndarray]) -> Calls:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        to_onnx(network).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [(len(batch), partial(session.run, None, {"input": batch})) for batch in batches]


def _litert(network: Network, batches: list[np.ndarray]) -> Calls:
    from ai_edge_litert.interpreter import Interpreter

    from netreduce.formats.litert import to_litert

    content = to_litert(network)
    for batch in batches:
        interpreter = Interpreter(model_content=content, num_threads=1)
        index = interpreter.get_input_details()[0]["index"]
        interpreter.resize_tensor_input(index, batch.shape)
        interpreter.allocate_tensors()

        def call(
            interpreter: Interpreter = interpreter, index: int = index, batch: np.ndarray = batch
        ) -> None:
            interpreter.set_tensor(index, batch)
            interpreter.invoke()

        yield len(batch), call
