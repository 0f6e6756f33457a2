"""Bounds of all values of feature maps at once: forms in the inputs, carried forward (DeepZ).

Every value is c + Σ gᵢ εᵢ ± r, with |εᵢ| ≤ 1: a generator for every input, and more for what
functions add (Singh et al., "Fast and effective robustness certification", 2018). Where there are
more values than inputs this takes less time than substitution from each of them, and it relates
two networks: what an input does to both cancels in their difference. A generator is stored where
it is not zero only: in a window of the feature map, which grows from layer to layer.

Generators are held in float32, centers in float64: the rounding of generators is small against
themselves. It is added up without signs, in r, as are generators that hardly count or for which
there is no memory.
"""

from dataclasses import dataclass

import numpy as np

from netreduce.network import INPUT
from netreduce.threads import in_order

from .functions import ULP, Function
from .kernels import UNIT, add_sizes, flat, scale
from .operators import Linear, Reshape, Rows, Shape, densify_rows, one_hot
from .pooling import Maximum
from .program import Program

LIMIT = 1 << 30  # bytes of the generators of one node
CHUNK = 1 << 24  # bytes of those that are carried forward together
SAFE = 1 + 1e-9
TINY = 1e-290
SINGLE = 2.0**-24  # rounding error of one operation in float32
SMALLEST = 1e-37  # what underflow can cost in float32
LEAST = 1e-30  # of what becomes a generator
SHARE = 1e-4  # likewise, of the mean radius
Chunks = dict[int, Rows]


@dataclass
class Zonotope:
    """Values of one node.

    Attributes
    ----------
    center, rest : ndarray, shape (*shape)
    chunks : dict of int to Rows
        Some generators each, in float32; those of one key belong together in all nodes.
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
        keys = sorted(set().union(*(p.chunks for p in parts)))
        carried = in_order(lambda key: operator.carried(*(p.chunks.get(key) for p in parts)), keys)
        chunks = dict(zip(keys, carried, strict=True))
        spread = _spread(chunks, node.shape)
        if not isinstance(operator, Reshape):
            terms = operator.terms + 8
            size = operator.magnitude(*(p.spread[None] for p in parts))[0]
            count = _count(chunks)
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
        error = error + 3 * SINGLE * np.abs(slope) * before.spread
        error = error + _count(before.chunks) * SMALLEST
        rest = np.abs(slope) * before.rest * SAFE + error + TINY
        factor = slope.astype(np.float32)
        chunks = {key: _scaled(rows, factor) for key, rows in before.chunks.items()}
        return self._widened(index, center, chunks, np.abs(slope) * before.spread, rest, half)

    def maximum(self, index: int, low: np.ndarray, high: np.ndarray) -> Zonotope:
        """The zonotope of a maximum over windows of values that are known to lie in [low, high]: a
        tournament among those of each window.
        """
        node = self.nodes[index]
        operator = node.operator
        assert isinstance(operator, Maximum)
        before, channels = self.of[node.sources[0]], node.shape[2]
        there, center, rest, low, high = (
            operator.seen(Rows(values[None])).values[0]
            for values in (np.ones_like(low), before.center, before.rest, low, high)
        )
        chunks = {key: operator.seen(rows) for key, rows in before.chunks.items()}
        field = _Field(chunks, center, rest, np.zeros_like(rest), low, high, there > 0)
        while field.center.shape[2] > channels:
            end = field.center.shape[2] // channels // 2 * channels
            winners = _larger(field.part(slice(end)), field.part(slice(end, 2 * end)))
            field = winners.beside(field.part(slice(2 * end, None)))
        spread = _spread(field.chunks, node.shape)
        return self._widened(index, field.center, field.chunks, spread, field.rest, field.half)

    def enclosure(self, index: int, low: np.ndarray, high: np.ndarray) -> Zonotope:
        """The zonotope of a node that is known to lie in [low, high] only."""
        center = low / 2 + high / 2
        half = np.maximum(high - center, center - low) * (1 + 4 * UNIT)
        zero = np.zeros_like(center)
        return self._widened(index, center, {}, zero, zero + TINY, half)

    def difference(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of a node less the one it is paired with."""
        one, other = self.of[self.pairs[index]], self.of[index]
        apart = np.zeros_like(one.center)
        for key in sorted({*one.chunks, *other.chunks}):
            if key < self.shared:
                _add_sizes(_minus(other.chunks[key], one.chunks[key], apart.shape), apart)
                continue
            for zonotope in (one, other):
                if key in zonotope.chunks:
                    _add_sizes(zonotope.chunks[key], apart)
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
        """With what a node adds, ± half: as generators where it counts and there is room, the
        largest first.
        """
        flat_half = half.reshape(-1)
        room = max(0, LIMIT // (4 * int(self.largest[index])) - _count(chunks))
        places = np.nonzero(flat_half > max(LEAST, SHARE * float((spread + half).mean())))[0]
        if len(places) > room:
            places = np.sort(places[np.argsort(-flat_half[places], kind="stable")[:room]])
        chunks.update(self._of_values(half, places))
        own = np.zeros_like(flat_half)
        own[places] = flat_half[places]
        own = own.reshape(half.shape)
        return self._kept(
            index, Zonotope(center, chunks, (spread + own) * SAFE, rest + (half - own) * SAFE)
        )

    def _of_values(self, half: np.ndarray, places: np.ndarray) -> Chunks:
        """A generator for each of some values."""
        chunks = {}
        larger = half.reshape(-1) * (1 + 4 * SINGLE)  # no smaller in float32
        for start in range(0, len(places), self.width):
            part = places[start : start + self.width]
            rows = one_hot(half.shape, np.unravel_index(part, half.shape), larger[part])
            chunks[self.next] = Rows(rows.values.astype(np.float32), rows.origin)
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


@dataclass
class _Field:
    """Values of windows side by side, as zonotopes.

    Attributes
    ----------
    center, rest : ndarray, shape (rows, columns, values · channels)
    half : ndarray
        Likewise, of what is to become generators.
    low, high : ndarray
        Likewise, bounds known otherwise.
    there : ndarray of bool
        Not in the padding, where all the rest is zero.
    """

    chunks: Chunks
    center: np.ndarray
    rest: np.ndarray
    half: np.ndarray
    low: np.ndarray
    high: np.ndarray
    there: np.ndarray

    @property
    def arrays(self) -> tuple[np.ndarray, ...]:
        return self.center, self.rest, self.half, self.low, self.high, self.there

    def part(self, part: slice) -> "_Field":
        return _Field(
            {key: Rows(r.values[..., part], r.origin) for key, r in self.chunks.items()},
            *(a[..., part] for a in self.arrays),
        )

    def beside(self, other: "_Field") -> "_Field":
        return _Field(
            {
                key: Rows(np.concatenate([r.values, other.chunks[key].values], axis=3), r.origin)
                for key, r in self.chunks.items()
            },
            *(np.concatenate(pair, axis=2) for pair in zip(self.arrays, other.arrays, strict=True)),
        )


def _larger(one: _Field, other: _Field) -> _Field:
    """The larger ones of two values each: b + max(0, a − b), of which the maximum lies between
    λ (a − b) and a line parallel to that, the chord where a − b may have both signs.
    """
    apart, *sizes = np.zeros((3, *one.center.shape))
    for key, first in one.chunks.items():
        second = other.chunks[key]
        _add_sizes(Rows(first.values - second.values, first.origin), apart)
        _add_sizes(first, sizes[0])
        _add_sizes(second, sizes[1])
    middle = one.center - other.center
    radius = apart + 1.01 * SINGLE * (sizes[0] + sizes[1])
    radius = (radius + one.rest + other.rest + one.half + other.half) * SAFE + TINY
    radius += ULP * (np.abs(one.center) + np.abs(other.center))
    margin = ULP * (np.abs(one.low) + np.abs(one.high) + np.abs(other.low) + np.abs(other.high))
    low = np.fmax(middle - radius, one.low - other.high - margin)
    high = np.fmin(middle + radius, one.high - other.low + margin)
    both = one.there & other.there
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(low >= 0, 1.0, np.where(high <= 0, 0.0, high / (high - low)))
    share = np.where(both, share, one.there).astype(np.float32).astype(np.float64)
    over = np.maximum(share * np.maximum(-low, 0), (1 - share) * np.maximum(high, 0))
    over = np.where(both, over * (1 + ULP) / 2, 0.0)
    weights = share.astype(np.float32), (1 - share).astype(np.float32)
    chunks = {}
    for key, first in one.chunks.items():
        values = _scaled(first, weights[0]).values + _scaled(other.chunks[key], weights[1]).values
        chunks[key] = Rows(values, first.origin)

    def mixed(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return share * first + (1 - share) * second

    error = 4 * SINGLE * mixed(*sizes) + 2 * _count(chunks) * SMALLEST
    error = error + ULP * (mixed(np.abs(one.center), np.abs(other.center)) + over)
    return _Field(
        chunks,
        mixed(one.center, other.center) + over,
        mixed(one.rest, other.rest) * SAFE + error,
        mixed(one.half, other.half) * SAFE + over,
        np.where(both, np.maximum(one.low, other.low), mixed(one.low, other.low)),
        np.where(both, np.maximum(one.high, other.high), mixed(one.high, other.high)),
        one.there | other.there,
    )


def _count(chunks: Chunks) -> int:
    return sum(len(rows.values) for rows in chunks.values())


def _spread(chunks: Chunks, shape: Shape) -> np.ndarray:
    """Sums of the magnitudes of all generators."""
    total = np.zeros(shape)
    for rows in chunks.values():
        _add_sizes(rows, total)
    return total


def _add_sizes(rows: Rows, total: np.ndarray) -> None:
    add_sizes(flat(rows.values), rows.origins, _map(total))


def _scaled(rows: Rows, factor: np.ndarray) -> Rows:
    """Generators times a number for every value of the node."""
    out = np.empty_like(rows.values)
    scale(flat(rows.values), rows.origins, _map(factor), flat(out))
    return Rows(out, rows.origin)


def _minus(one: Rows, other: Rows, shape: Shape) -> Rows:
    if one.values.shape != other.values.shape or (one.origins != other.origins).any():
        one, other = (densify_rows(rows, shape) for rows in (one, other))
    return Rows(one.values - other.values, one.origin)


def _map(values: np.ndarray) -> np.ndarray:
    """Values of any shape but feature maps as a map of one position: a view."""
    return values if values.ndim == 3 else values.reshape(1, 1, -1)
