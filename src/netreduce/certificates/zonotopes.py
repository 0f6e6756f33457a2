"""Bounds of all values of feature maps at once: forms in the inputs, carried forward (DeepZ).

Every value is c + Σ gᵢ εᵢ ± r, with |εᵢ| ≤ 1: a generator for every input, and more for what
functions add (Singh et al., "Fast and effective robustness certification", 2018). Where there are
more values than inputs this takes less time than substitution from each of them, and it relates
two networks: what an input does to both cancels in their difference.

Generators are held in float32, centers in float64: the rounding of generators is small against
themselves. It is added up without signs, in r, as are generators beyond a limit of memory.
"""

from dataclasses import dataclass

import numpy as np

from netreduce.network import INPUT
from netreduce.threads import in_order

from .functions import ULP, Function
from .kernels import UNIT
from .operators import Linear, Reshape
from .pooling import Maximum
from .program import Program

LIMIT = 1 << 30  # bytes of the generators of one node
CHUNK = 1 << 24  # bytes of those that are carried forward together
SAFE = 1 + 1e-9
TINY = 1e-290
SINGLE = 2.0**-24  # rounding error of one operation in float32
SMALLEST = 1e-37  # what underflow can cost in float32
LEAST = 1e-30  # of what becomes a generator
Chunks = dict[int, np.ndarray]


@dataclass
class Zonotope:
    """Values of one node.

    Attributes
    ----------
    center, rest : ndarray, shape (*shape)
    chunks : dict of int to ndarray, shape (generators, *shape)
        Some generators each; those of one key belong together in all nodes.
    spread : ndarray, shape (*shape)
        At least the sum of the magnitudes of the generators.
    """

    center: np.ndarray
    chunks: Chunks
    spread: np.ndarray
    rest: np.ndarray

    @property
    def radius(self) -> np.ndarray:
        return (self.spread + self.rest) * SAFE + 4 * UNIT * np.abs(self.center) + TINY


class Generators:
    """The zonotopes of the nodes of two networks over one box, as long as somebody needs them.

    Parameters
    ----------
    program : Program
    low, high : ndarray, shape (*input_shape)
    """

    def __init__(self, program: Program, low: np.ndarray, high: np.ndarray):
        self.nodes, self.pairs = nodes, pairs = program.nodes, program.pairs
        sizes = [int(np.prod(node.shape)) for node in nodes]
        self.largest = np.maximum.accumulate(sizes[::-1])[::-1]
        self.width = max(1, CHUNK // (4 * max(sizes)))
        self.waiting = dict.fromkeys(range(INPUT, len(nodes)), 0)
        for node in nodes:
            for source in node.sources:
                self.waiting[source] += 1
        for index, other in pairs.items():
            self.waiting[index] += 1
            self.waiting[other] += 1
        center = low / 2 + high / 2
        radius = np.maximum(high - center, center - low) * (1 + 4 * UNIT) + TINY
        self.next = self.shared = 0
        chunks = self._of_values(radius, np.nonzero(radius.reshape(-1) > LEAST)[0])
        self.shared = self.next  # both networks have these
        rest = np.where(radius > LEAST, TINY, radius)
        self.of = {INPUT: Zonotope(center, chunks, radius, rest)}

    def linear(self, index: int) -> Zonotope:
        """The zonotope of a linear node."""
        node = self.nodes[index]
        operator, sources = node.operator, node.sources
        assert isinstance(operator, Linear)
        parts = [self.of[s] for s in sources]
        center = operator.forward(*(p.center[None] for p in parts))[0]
        rest = operator.magnitude(*(p.rest[None] for p in parts))[0]
        narrow = operator.narrow

        def carried(key: int) -> np.ndarray:
            count = next(len(p.chunks[key]) for p in parts if key in p.chunks)
            none = np.float32(0)
            given = (
                p.chunks.get(key, np.broadcast_to(none, (count, *p.center.shape))) for p in parts
            )
            return np.ascontiguousarray(narrow.apply(*given), np.float32)

        keys = sorted(set().union(*(p.chunks for p in parts)))
        chunks = dict(zip(keys, in_order(carried, keys), strict=True))
        spread = _spread(chunks, node.shape)
        if not isinstance(operator, Reshape):
            terms = operator.terms + 8
            size = operator.magnitude(*(p.spread[None] for p in parts))[0]
            count = sum(map(len, chunks.values()))
            rest = rest + terms * (1.01 * SINGLE * size + count * SMALLEST)
            size = size + operator.magnitude(*((np.abs(p.center) + p.rest)[None] for p in parts))[0]
            for constant in (operator.bias, operator.bias_size):
                if constant is not None:
                    size = size + np.abs(constant)
            rest = rest * SAFE + 4 * terms * UNIT * size + TINY
        return self._kept(index, Zonotope(center, chunks, spread * SAFE, rest))

    def function(self, index: int, low: np.ndarray, high: np.ndarray) -> Zonotope:
        """The zonotope of a function, whose inputs are known to lie in [low, high]."""
        node = self.nodes[index]
        assert isinstance(node.operator, Function)
        before = self.of[node.sources[0]]
        slope, below, above = node.operator.band(low, high)
        half = np.maximum(above / 2 - below / 2, 0.0)
        center = slope * before.center + (below / 2 + above / 2)
        error = ULP * (np.abs(slope * before.center) + np.abs(below) + np.abs(above))
        count = sum(map(len, before.chunks.values()))
        error = error + 3 * SINGLE * np.abs(slope) * before.spread + count * SMALLEST
        rest = np.abs(slope) * before.rest * SAFE + error + TINY
        factor = slope.astype(np.float32)
        chunks = {key: factor * chunk for key, chunk in before.chunks.items()}
        return self._widened(index, center, chunks, np.abs(slope) * before.spread, rest, half)

    def maximum(self, index: int) -> Zonotope:
        """The zonotope of a maximum over windows: that of the value that is largest in the middle,
        and how far any other one can exceed it.
        """
        node = self.nodes[index]
        operator = node.operator
        assert isinstance(operator, Maximum)
        before = self.of[node.sources[0]]
        places = operator.places()  # (rows, columns, window, channels), −1 outside
        center = np.where(places >= 0, before.center.reshape(-1)[places], -np.inf)
        first = np.take_along_axis(places, center.argmax(axis=2)[:, :, None], 2)
        # where no value can be another one than the first, nothing is to be found out
        least, most = before.center - before.radius, before.center + before.radius
        rivals = (places != first) & (places >= 0)
        rivals &= most.reshape(-1)[places] > least.reshape(-1)[first]
        at = np.nonzero(rivals)
        one, other = np.broadcast_to(first, places.shape)[at], places[at]
        apart = np.zeros(len(one))
        chosen = first[:, :, 0]
        chunks = {}
        for key, chunk in before.chunks.items():
            flat = chunk.reshape(len(chunk), -1)
            for row in flat if len(one) else ():
                apart += np.abs(row[other] - row[one])
            chunks[key] = flat[:, chosen]
        values, rest, spread = (a.reshape(-1) for a in (before.center, before.rest, before.spread))
        apart += 1.01 * SINGLE * (spread[one] + spread[other])
        over = values[other] - values[one] + (apart + rest[one] + rest[other]) * SAFE
        over = over + ULP * (np.abs(values[one]) + np.abs(values[other]))
        excess = np.zeros(places.shape)
        excess[at] = np.maximum(over, 0)
        half = excess.max(axis=2) / 2
        middle = values[chosen] + half
        own = rest[chosen] + ULP * (np.abs(middle) + half)
        return self._widened(index, middle, chunks, spread[chosen], own, half)

    def difference(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of a node less the one it is paired with."""
        one, other = self.of[self.pairs[index]], self.of[index]
        apart = np.zeros_like(one.center)
        for key in sorted({*one.chunks, *other.chunks}):
            if key < self.shared:
                change = other.chunks[key] - one.chunks[key]
                apart += np.abs(change).sum(axis=0, dtype=np.float64)
            else:
                for zonotope in (one, other):
                    if key in zonotope.chunks:
                        apart += np.abs(zonotope.chunks[key]).sum(axis=0, dtype=np.float64)
        apart += 1.01 * SINGLE * (one.spread + other.spread)
        size = np.abs(one.center) + np.abs(other.center)
        apart = (apart + one.rest + other.rest) * SAFE + ULP * size
        middle = other.center - one.center
        self._let_go(index)
        self._let_go(self.pairs[index])
        return middle - apart, middle + apart

    def _widened(
        self,
        index: int,
        center: np.ndarray,
        chunks: Chunks,
        spread: np.ndarray,
        rest: np.ndarray,
        half: np.ndarray,
    ) -> Zonotope:
        """With what a node adds, ± half: as generators where there is room, the largest first."""
        flat = half.reshape(-1)
        there = sum(map(len, chunks.values()))
        room = max(0, LIMIT // (4 * int(self.largest[index])) - there)
        places = np.nonzero(flat > LEAST)[0]
        if len(places) > room:
            places = np.sort(places[np.argsort(-flat[places], kind="stable")[:room]])
        chunks.update(self._of_values(half, places))
        own = np.zeros_like(flat)
        own[places] = flat[places]
        own = own.reshape(half.shape)
        return self._kept(
            index, Zonotope(center, chunks, (spread + own) * SAFE, rest + (half - own) * SAFE)
        )

    def _of_values(self, half: np.ndarray, places: np.ndarray) -> Chunks:
        """A generator for each of some values."""
        chunks = {}
        for start in range(0, len(places), self.width):
            part = places[start : start + self.width]
            chunk = np.zeros((len(part), half.size), np.float32)
            chunk[np.arange(len(part)), part] = half.reshape(-1)[part]
            chunk *= np.float32(1 + 4 * SINGLE)  # no smaller than in float64
            chunks[self.next] = chunk.reshape(-1, *half.shape)
            self.next += 1
        return chunks

    def _kept(self, index: int, zonotope: Zonotope) -> Zonotope:
        self.of[index] = zonotope
        for source in self.nodes[index].sources:
            self._let_go(source)
        return zonotope

    def _let_go(self, index: int) -> None:
        self.waiting[index] -= 1
        if not self.waiting[index]:
            del self.of[index]


def _spread(chunks: Chunks, shape: tuple[int, ...]) -> np.ndarray:
    total = np.zeros(shape)
    for chunk in chunks.values():
        total += np.abs(chunk).sum(axis=0, dtype=np.float64)
    return total
