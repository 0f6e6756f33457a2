"""Samples in chunks of a fixed size, and layer outputs kept for the next layer: in memory up to a
budget, then on disk.
"""

import tempfile
import threading
from collections.abc import Iterable, Iterator
from io import BufferedRandom

import numpy as np

from netreduce.errors import SampleError
from netreduce.network import Network

Place = tuple[int, tuple[int, ...], np.dtype]  # in a file: start, shape and type of an array
CHUNK_BYTES = 1 << 23  # a chunk's largest layer output is about this big


class Samples:
    """The samples of a network in chunks that do not depend on how they arrive.

    Parameters
    ----------
    network : Network
    samples : ndarray, shape (samples, *network.input_shape), or iterable of such arrays
        An iterable is iterated several times.
    """

    def __init__(self, network: Network, samples: np.ndarray | Iterable[np.ndarray] | None) -> None:
        if samples is None:
            raise SampleError(
                "this method learns from samples: an array, or mini-batches that can be iterated"
                " again and again; found None"
            )
        if not hasattr(samples, "__array__"):
            if not hasattr(samples, "__iter__") and not hasattr(samples, "__getitem__"):
                raise SampleError(
                    "samples must be an array or an iterable of mini-batches, found"
                    f" {type(samples).__name__}"
                )
            if isinstance(samples, Iterator):
                raise SampleError(
                    f"samples are iterated several times, but this {type(samples).__name__} can be"
                    " iterated just once: pass an array, a list of mini-batches, or an object"
                    " whose __iter__ starts anew"
                )
        self.network, self.samples = network, samples
        largest = (
            max(int(np.prod(shape)) for shape in (network.input_shape, *network.shapes))
            * network.dtype.itemsize
        )
        self.chunk_size = int(np.clip(CHUNK_BYTES // largest, 1, 2048))
        self.count: int | None = None

    @property
    def chunk_count(self) -> int:
        """Number of chunks, known after the first iteration."""
        assert self.count is not None
        return -(-self.count // self.chunk_size)

    def __iter__(self) -> Iterator[np.ndarray]:
        count = 0
        for chunk in (
            self._array_chunks() if hasattr(self.samples, "__array__") else self._gathered_chunks()
        ):
            yield chunk.astype(self.network.dtype, copy=False)
            count += len(chunk)
        if count == 0:
            raise SampleError("there are no samples")
        if self.count not in (None, count):
            raise SampleError(
                f"the samples gave {self.count} on one iteration and {count} on another: they must"
                " be the same every time"
            )
        self.count = count

    def _array_chunks(self) -> Iterator[np.ndarray]:
        array = self.samples if isinstance(self.samples, np.ndarray) else np.asarray(self.samples)
        if array.ndim == 0:
            self.network.check_samples(array)
        for start in range(0, len(array), self.chunk_size):
            chunk = array[start : start + self.chunk_size]
            yield self.network.check_samples(chunk) if self.count is None else chunk

    def _gathered_chunks(self) -> Iterator[np.ndarray]:
        waiting: list[np.ndarray] = []
        size = 0
        for batch in self.samples:
            if not hasattr(batch, "__array__"):
                raise SampleError(
                    f"a mini-batch must be an array of samples, found {type(batch).__name__}: leave"
                    " out labels"
                )
            batch = self.network.check_samples(batch)
            while len(batch):
                part, batch = np.split(batch, [self.chunk_size - size])
                waiting.append(part)
                size += len(part)
                if size == self.chunk_size:
                    yield np.concatenate(waiting)
                    waiting, size = [], 0
        if waiting:
            yield np.concatenate(waiting)


class Budget:
    """Bytes of layer outputs that may still be held in memory."""

    def __init__(self, left: float) -> None:
        self.left, self.lock = left, threading.Lock()


class Chunks:
    """Chunks of one layer's output by number: in memory while the budget lasts, then in a temporary
    file.

    Several threads may use it, each for chunks of its own.
    """

    def __init__(self, budget: Budget) -> None:
        self.budget, self.lock = budget, threading.Lock()
        self.places: dict[int, np.ndarray | Place] = {}
        self.file: BufferedRandom | None = None

    def __setitem__(self, number: int, chunk: np.ndarray) -> None:
        with self.budget.lock:
            fits = chunk.nbytes <= self.budget.left
            if fits:
                self.budget.left -= chunk.nbytes
        self.places[number] = chunk if fits else self._write(np.ascontiguousarray(chunk))

    def __getitem__(self, number: int) -> np.ndarray:
        place = self.places[number]
        return place if isinstance(place, np.ndarray) else self._read(*place)

    def __delitem__(self, number: int) -> None:
        place = self.places.pop(number)
        if isinstance(place, np.ndarray):
            with self.budget.lock:
                self.budget.left += place.nbytes

    def close(self) -> None:
        for number in list(self.places):
            del self[number]
        if self.file is not None:
            self.file.close()

    def _write(self, chunk: np.ndarray) -> Place:
        with self.lock:
            if self.file is None:
                # open until `close`
                self.file = tempfile.TemporaryFile()  # noqa: SIM115
            start = self.file.seek(0, 2)
            self.file.write(chunk.data)
        return start, chunk.shape, chunk.dtype

    def _read(self, start: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        chunk = np.empty(shape, dtype)
        assert self.file is not None
        with self.lock:
            self.file.seek(start)
            self.file.readinto(chunk.reshape(-1).data.cast("B"))
        return chunk
