"""Bounds of linear forms over boxes, by backward substitution (CROWN, DeepPoly).

A form in the values of a node becomes a form in the input that is nowhere larger: linear operators
are transposed, functions replaced by the line below or above, by the sign of the coefficient. Forms
in several nodes, of one network or two, are added up on the way: what they have in common cancels.

Rounding: every step replaces a form by one that differs by its rounding errors, and these are at
most γ_n · |coefficients| · (magnitudes of what they multiply), which are known from the bounds of
the nodes. They add up in `slack`, which is taken off at the end. (Higham, "Accuracy and stability
of numerical algorithms", section 3.1: any order of summation.)
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import reduce
from typing import TypeVar

import numpy as np

from netreduce.network import INPUT
from netreduce.network.layers import Conv2D, Conv2DTranspose, DepthwiseConv2D, MaxPooling2D
from netreduce.threads import in_order, thread_count

from .enclosures import Enclosure
from .functions import EVALUATION, Function, Lines
from .kernels import UNIT, flat, relax, relax_pair, sums
from .operators import Linear, Matrix, Reshape, Rows, Scale, densify_rows, one_hot
from .pooling import Maximum, WindowForms
from .program import Node, Operator, Program
from .zonotopes import Generators, Zonotope

TINY = 1e-290  # more than all underflow together
SAFE = 1 + 1e-9  # covers the rounding of sums of non-negative numbers
CHUNK_BYTES = 1 << 25  # of the largest array of a chunk of rows
Index = tuple[np.ndarray, ...]  # of values: an array for each axis, boxes first
S = TypeVar("S")
T = TypeVar("T")


def gamma(terms: int) -> float:
    """Relative error of a sum of so many products in float64."""
    return terms * UNIT / (1 - terms * UNIT)


@dataclass
class Forms:
    """What became of some forms.

    Attributes
    ----------
    lower : ndarray, shape (rows,)
        Lower bounds of the forms over their boxes.
    slopes : ndarray, shape (rows, *input_shape)
        Of the forms in the input.
    """

    lower: np.ndarray
    slopes: np.ndarray


class Relaxation:
    """Bounds of all nodes of a program over some boxes, and lines around its functions.

    Parameters
    ----------
    program : Program
    low, high : ndarray, shape (boxes, *input_shape)
    threads : bool
        Whether rows are shared among threads.
    forward : bool
        Whether forms in the inputs are carried forward to all nodes (see `zonotopes`); one box.
    """

    def __init__(
        self,
        program: Program,
        low: np.ndarray,
        high: np.ndarray,
        threads: bool = True,
        forward: bool = False,
    ):
        self.program, self.threads = program, threads
        self.generators = Generators(program, low[0], high[0]) if forward else None
        self.low, self.high = {INPUT: low}, {INPUT: high}
        self.size: dict[int, np.ndarray] = {}  # of what a linear operator sums, in magnitude
        self.lines: dict[int, Lines] = {}
        self.windows: dict[int, WindowForms] = {}
        self.difference: dict[int, tuple[np.ndarray, np.ndarray]] = {INPUT: (0 * low, 0 * low)}
        self.difference_lines: dict[int, np.ndarray] = {}
        self.paired = {index: other for other, index in program.pairs.items()}
        self.value: dict[int, np.ndarray] = {}  # at the center of each box, about
        self.reach: dict[int, np.ndarray] = {}  # Euclidean, from there
        self.apart: dict[int, np.ndarray] = {}  # Euclidean norm of a difference
        self.boxlike = {INPUT}  # nodes whose values fill their box
        self.center = low / 2 + high / 2
        self.radius = np.maximum(high - self.center, self.center - low) * (1 + 4 * UNIT) + TINY
        self.moved: dict[int, np.ndarray] = {}  # how far chains get from there
        self.off = {INPUT: np.zeros(len(low))}  # rounding of the values at the center, Euclidean
        self.errors: dict[int, np.ndarray] = {}  # of the second chain, against the first
        for line in program.lines:
            reached = line.chain.reach(INPUT, self.radius.reshape(len(low), -1))
            for node, step in line.steps.items():
                self.moved[node] = reached[step].reshape(-1, *program.shape(node))
        self.value[INPUT] = self.center
        self.reach[INPUT] = length(self.radius)
        self.apart[INPUT] = np.zeros(len(low))

    @property
    def boxes(self) -> int:
        return len(self.center)

    def magnitude(self, node: int) -> np.ndarray:
        return np.maximum(np.abs(self.low[node]), np.abs(self.high[node]))

    def propagate(
        self,
        refine: Callable[["Relaxation", int], None] | None = None,
        refine_difference: Callable[["Relaxation", int], None] | None = None,
    ) -> "Relaxation":
        """Bounds of all nodes in turn.

        `refine` may tighten those of a function's input, `refine_difference` those of the
        differences to the input of the paired function.
        """
        for index, node in enumerate(self.program.nodes):
            operator = node.operator
            if isinstance(operator, Linear):
                self._interval(index)
                self._round(index)
                if self.generators is not None:
                    self._take(index, self.generators.linear(index))
                self._difference(index)
                continue
            if isinstance(operator, Enclosure):
                self._enclose(index)
                continue
            source = node.sources[0]
            if isinstance(operator, Function):
                if refine is not None and not self._is_exact(source):
                    refine(self, source)
                self.lines[index] = operator.lines(self.low[source], self.high[source])
            else:
                self.windows[index] = operator.forms(self.low[source], self.high[source])
            self.low[index], self.high[index] = operator.interval(
                self.low[source], self.high[source]
            )
            self._round(index)
            if self.generators is not None:
                carried = (
                    self.generators.function
                    if isinstance(operator, Function)
                    else self.generators.maximum
                )
                self._take(index, carried(index, self.low[source][0], self.high[source][0]))
            if (
                index in self.program.pairs
                and isinstance(operator, Function)
                and np.isfinite(operator.slopes).all()
            ):
                if source != INPUT:  # of which both read the same
                    if refine_difference is not None:
                        refine_difference(self, source)
                    self._improve_by_difference(source, index)
                self.difference_lines[index] = operator.difference_lines(*self.difference[source])
            self._difference(index)
        return self

    def _enclose(self, index: int) -> None:
        """Intervals of a layer that nothing more is known of."""
        node = self.program.nodes[index]
        assert isinstance(node.operator, Enclosure)
        low, high = node.operator.interval(*((self.low[s], self.high[s]) for s in node.sources))
        self.low[index], self.high[index] = low, high
        with np.errstate(invalid="ignore"):  # infinitely steep, of distances that may be 0
            self._round(index)
        zero = np.zeros_like(low)
        self.lines[index] = Lines(zero, self.low[index], zero, self.high[index])
        if self.generators is not None:
            self.generators.enclosure(index, self.low[index][0], self.high[index][0])
        with np.errstate(invalid="ignore"):
            self._difference(index)

    def _take(self, index: int, zonotope: Zonotope) -> None:
        """The bounds of a node's zonotope, where they are better."""
        center, radius = zonotope.center[None], zonotope.radius[None]
        self.tighten(index, center - radius, center + radius)

    def _round(self, index: int) -> None:
        """What a node's values can be, by Euclidean distances from its value at the center: over
        wide boxes these grow by spectral norms from layer to layer, not by sums of magnitudes.
        """
        node = self.program.nodes[index]
        operator, sources = node.operator, node.sources
        value = operator.forward(*(self.value[s] for s in sources))
        reach = [self.reach[s] for s in sources]
        steep = _steepness(operator)
        total = reduce(np.add, reach)
        self.value[index] = value
        error: np.ndarray | float = 0.0
        if isinstance(operator, Linear):
            # the value at the center is computed anew at every node: its rounding is that of one
            error = gamma(operator.terms + 8) * 2 * self.size[index] + TINY
            rows = np.broadcast_to(operator.row_norms, node.shape)
            radius = by_box(total, rows.ndim) * rows * SAFE + error
            if index in self.moved:
                passed = by_box(reduce(np.add, [self.off[s] for s in sources]), rows.ndim) * rows
                radius = np.fmin(radius, (self.moved[index] + passed) * SAFE + error)
        elif isinstance(operator, Function):
            error = EVALUATION * np.maximum(1, np.abs(value))
            radius = by_box(steep * total, len(node.shape)) * SAFE + error
        else:
            radius = by_box(steep * total, len(node.shape)) * SAFE
        radius = np.where(np.isfinite(radius), radius, np.inf)
        self.low[index] = np.fmax(self.low[index], value - radius)
        self.high[index] = np.fmin(self.high[index], value + radius)
        far = np.maximum(self.high[index] - value, value - self.low[index])
        error = length(np.broadcast_to(error, far.shape))
        self.off[index] = (steep * reduce(np.add, [self.off[s] for s in sources]) + error) * SAFE
        self.reach[index] = np.fmin((steep * total + error) * SAFE, length(np.maximum(far, 0)))

    def _improve_by_difference(self, source: int, index: int) -> None:
        """z = y + (z − y): bounds of each of the three from those of the others."""
        other = self.program.pairs[source]
        low, high = self.difference[source]
        margin = 2 * UNIT * (self.magnitude(source) + self.magnitude(other)) + TINY
        self.difference[source] = (
            np.fmax(low, self.low[source] - self.high[other] - margin),
            np.fmin(high, self.high[source] - self.low[other] + margin),
        )

    def _difference(self, index: int) -> None:
        """Bounds of the difference between a node and the one it is paired with."""
        if index not in self.program.pairs:
            return
        node, other = self.program.nodes[index], self.program.pairs[index]
        operator = node.operator
        parts = [self.difference[s] for s in node.sources]
        if isinstance(operator, Enclosure):
            low, high = (np.full_like(self.low[index], end) for end in (-np.inf, np.inf))
        elif isinstance(operator, Function) and not np.isfinite(operator.slopes).all():
            low, high = np.full_like(parts[0][0], -np.inf), np.full_like(parts[0][1], np.inf)
        elif isinstance(operator, Function):
            low, high = operator.difference(*parts[0])
        elif isinstance(operator, Maximum):
            low, high = -operator.forward(-parts[0][0]), operator.forward(parts[0][1])
        else:
            low, high = self._linear_difference(index, other, parts)
        round_, apart = self._round_difference(index, other)
        if index in self.moved:
            round_ = np.fmin(round_, self._chained_difference(index, other))
        low, high = np.fmax(low, -round_), np.fmin(high, round_)
        if self.generators is not None:
            least, most = self.generators.difference(index)
            low, high = np.fmax(low, least), np.fmin(high, most)
        margin = 2 * UNIT * (self.magnitude(index) + self.magnitude(other)) + TINY
        low = np.fmax(low, self.low[index] - self.high[other] - margin)
        high = np.fmin(high, self.high[index] - self.low[other] + margin)
        self.difference[index] = low, high
        self.apart[index] = np.fmin(apart, length(np.maximum(np.abs(low), np.abs(high))))

    def _round_difference(self, index: int, other: int) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of a difference, value by value and as a whole, by Euclidean norms: arrays that
        broadcast to (boxes, *shape), and of shape (boxes,).
        """
        node = self.program.nodes[index]
        operator = node.operator
        parts = [self.apart[s] for s in node.sources]
        total = reduce(np.add, parts)
        steep = _steepness(operator)
        apart = steep * total * SAFE
        if not isinstance(operator, Linear):
            return by_box(apart, len(node.shape)), apart
        rows = np.broadcast_to(operator.row_norms, node.shape)
        each = by_box(total, rows.ndim) * rows
        change = self.program.change(index)
        if change is not None:
            assert change.bias is not None
            source = self.program.nodes[other].sources[0]
            size = length(self.magnitude(source))
            first = self.program.linear(other)
            # what the rounding of the change can be, by the weights themselves
            loose = 2.0**-48 * (first.norm + operator.norm)
            loose_rows = 2.0**-48 * (np.broadcast_to(first.row_norms, node.shape) + rows)
            bias = np.broadcast_to(np.abs(change.bias), node.shape)
            for constant in (first.bias, first.bias_size, operator.bias, operator.bias_size):
                if constant is not None:
                    bias = bias + 2.0**-48 * np.abs(constant)
            rows = np.broadcast_to(change.row_norms, node.shape) + loose_rows
            each = each + by_box(size, rows.ndim) * rows + bias
            apart = apart + (change.norm + loose) * size + length(bias[None])
        return each * SAFE + TINY, apart * SAFE + TINY

    def _chained_difference(self, index: int, other: int) -> np.ndarray:
        """Bounds of the difference between chains: what each layer's change of weights makes, and
        where that gets.
        """
        line = self.program.lines[1]
        sources = self.program.nodes[index].sources
        equal = [(0 * self.low[s], 0 * self.low[s]) for s in sources]
        low, high = self._linear_difference(index, other, equal)
        own = np.maximum(np.abs(low), np.abs(high)).reshape(self.boxes, -1)
        step = line.steps[index]
        for later, error in line.chain.reach(step, own).items():
            self.errors[later] = self.errors.get(later, 0.0) + error
        total = (self.errors.get(step, 0.0) + own) * SAFE
        return total.reshape(-1, *self.program.shape(index))

    def _linear_difference(
        self, index: int, other: int, parts: list[tuple[np.ndarray, np.ndarray]]
    ) -> tuple[np.ndarray, np.ndarray]:
        """W' (y + d) + b' − W y − b = W' d + (W' − W) y + (b' − b)."""
        operator, first = self.program.linear(index), self.program.nodes[other]
        middles = [lo / 2 + hi / 2 for lo, hi in parts]
        radii = [np.maximum(hi / 2 - lo / 2, 0) * SAFE + TINY for lo, hi in parts]
        middle, radius = operator.apply(*middles), operator.magnitude(*radii)
        size = operator.magnitude(*(np.abs(m) + r for m, r in zip(middles, radii, strict=True)))
        change = self.program.change(index)
        if change is not None:
            assert change.bias is not None
            source = first.sources[0]
            center = self.low[source] / 2 + self.high[source] / 2
            spread = np.maximum(self.high[source] / 2 - self.low[source] / 2, 0) * SAFE + TINY
            middle = middle + change.forward(center)
            radius = radius + change.magnitude(spread)
            size = size + change.magnitude(np.abs(center) + spread) + np.abs(change.bias)
            # the change is itself rounded
            size = size + 2.0**-3 * (self.size[other] + self.size[index]) / operator.terms
        radius = radius * SAFE + 2 * gamma(operator.terms + 8) * size + TINY
        return middle - radius, middle + radius

    def alone(self, box: int) -> "Relaxation":
        """A copy of the bounds of one box, for `lower`; without pairs."""
        one = Relaxation.__new__(Relaxation)
        one.program, one.threads = self.program, self.threads
        one.difference_lines, one.windows = {}, {}
        for name in ("low", "high", "size"):
            values = getattr(self, name).items()
            setattr(one, name, {k: v[box : box + 1].copy() for k, v in values})
        one.lines = {
            index: Lines(*(part[box : box + 1] for part in vars(lines).values()))
            for index, lines in self.lines.items()
        }
        one.center, one.radius = self.center[box : box + 1], self.radius[box : box + 1]
        return one

    def _interval(self, index: int) -> None:
        operator, sources = self.program.linear(index), self.program.nodes[index].sources
        low, high = [self.low[s] for s in sources], [self.high[s] for s in sources]
        if isinstance(operator, Reshape):
            self.low[index], self.high[index] = operator.apply(*low), operator.apply(*high)
            self.size[index] = np.maximum(np.abs(self.low[index]), np.abs(self.high[index]))
        else:
            middle = operator.forward(*(lo / 2 + hi / 2 for lo, hi in zip(low, high, strict=True)))
            radius = operator.magnitude(
                *(np.maximum(hi / 2 - lo / 2, 0) for lo, hi in zip(low, high, strict=True))
            )
            size = operator.magnitude(*(self.magnitude(s) for s in sources))
            for constant in (operator.bias, operator.bias_size):
                if constant is not None:
                    size = size + np.abs(constant)
            self.size[index] = size * SAFE + TINY
            radius = radius * SAFE + gamma(operator.terms + 8) * 2 * self.size[index] + TINY
            self.low[index], self.high[index] = middle - radius, middle + radius
        if (
            len(sources) == 1
            and sources[0] in self.boxlike
            and isinstance(operator, Reshape | Scale)
        ):
            self.boxlike.add(index)

    def _is_exact(self, index: int) -> bool:
        """Whether a node's values fill its interval up to rounding."""
        if index in self.boxlike:
            return True
        sources = self.program.nodes[index].sources
        return (
            isinstance(self.program.nodes[index].operator, Linear)
            and len(sources) == 1
            and sources[0] in self.boxlike
        )

    def tighten(self, node: int, low: np.ndarray, high: np.ndarray) -> None:
        """Take better bounds of a node."""
        self.low[node] = np.fmax(self.low[node], low)
        self.high[node] = np.fmax(np.fmin(self.high[node], high), self.low[node])

    def lower(
        self,
        start: dict[int, Rows],
        place: np.ndarray,
        constant: np.ndarray | None = None,
        slack: np.ndarray | None = None,
    ) -> Forms:
        """Lower bounds of forms in the values of some nodes.

        Parameters
        ----------
        start : dict of int to Rows
            By node; they are overwritten.
        place : ndarray of int, shape (rows,)
            The box of every row.
        constant, slack : ndarray, shape (rows,), optional
            What to start with.
        """
        count = len(place)
        constant = np.zeros(count) if constant is None else constant
        slack = np.zeros(count) if slack is None else slack
        pending = dict(start)
        for index in range(max(pending), -1, -1):
            rows = pending.pop(index, None)
            if rows is None:
                continue
            node = self.program.nodes[index]
            operator = node.operator
            origin = rows.origins
            partner = self.program.pairs.get(index)
            given: tuple[Rows, ...]
            if (
                partner is not None
                and index in self.difference_lines
                and _same_window(rows, pending.get(partner))
            ):
                given = (rows,)
                self._relax_pair(index, pending[partner], rows, origin, place, constant, slack)
                self.push(
                    pending,
                    self.program.nodes[partner],
                    (pending.pop(partner),),
                    slack,
                    place,
                )
            elif isinstance(operator, Linear):
                self.account(index, rows, origin, place, constant, slack)
                given = operator.transposed(rows)
            elif isinstance(operator, Function):
                self._relax(index, rows, origin, place, constant, slack)
                given = (rows,)
            elif isinstance(operator, Enclosure):
                self._relax(index, rows, origin, place, constant, slack)
                continue
            else:
                given = (
                    operator.transposed(
                        Rows(rows.values, rows.origin),
                        place,
                        self.windows[index],
                        self.magnitude(index),
                        constant,
                        slack,
                    ),
                )
            self.push(pending, node, given, slack, place)
        values = _whole(pending.get(INPUT), self.program.input_shape, count)
        return Forms(self._concretise(values, place, constant, slack), values)

    def push(
        self,
        pending: dict[int, Rows],
        node: Node,
        given: tuple[Rows, ...],
        slack: np.ndarray,
        place: np.ndarray,
    ) -> None:
        """Add the forms that a node gives, one in each of its sources, to those that wait there."""
        for target, part in zip(node.sources, given, strict=True):
            if target in pending:
                pending[target] = pending[target].plus(part, self.program.shape(target))
                self._account_sum(target, pending[target], place, slack)
            else:
                pending[target] = part if len(node.sources) == 1 else _copy(part)

    def _relax_pair(
        self,
        index: int,
        first: Rows,
        second: Rows,
        origin: np.ndarray,
        place: np.ndarray,
        constant: np.ndarray,
        slack: np.ndarray,
    ) -> None:
        """Forms in a function of the second network, second, and in its pair, first, in place."""
        other = self.program.pairs[index]
        source = self.program.nodes[index].sources[0]
        y = self.program.pairs.get(source, INPUT)
        operator = self.program.nodes[index].operator
        assert isinstance(operator, Function)
        low, high = self.difference[source]
        relax_pair(
            flat(first.values),
            flat(second.values),
            origin,
            place,
            _stacked(self.lines[other]),
            _stacked(self.lines[index]),
            _map4(self.difference_lines[index]),
            flat(self.low[y] / 2 + self.high[y] / 2),
            flat(low / 2 + high / 2),
            flat(self.magnitude(y)),
            flat(self.magnitude(source)),
            max(1.0, *map(abs, operator.slopes)),
            constant,
            slack,
        )
        slack += 4 * UNIT * np.abs(constant)

    def account(
        self,
        index: int,
        rows: Rows,
        origin: np.ndarray,
        place: np.ndarray,
        constant: np.ndarray,
        slack: np.ndarray,
    ) -> None:
        """The constant of a linear operator, and the rounding of its transposition."""
        operator, values = self.program.linear(index), flat(rows.values)
        if operator.bias is not None:
            bias = np.broadcast_to(operator.bias, self.program.shape(index))[None]
            zeros = np.zeros(len(place), np.int64)
            constant += sums(values, origin, zeros, flat(bias), False)
        terms = max(operator.terms, values[0].size) + 8
        slack += gamma(terms) * sums(values, origin, place, flat(self.size[index]), True)
        slack += 4 * UNIT * np.abs(constant)

    def _account_sum(self, index: int, rows: Rows, place: np.ndarray, slack: np.ndarray) -> None:
        """The rounding of the sum of two forms: of the result, where the sum is."""
        size = self.magnitude(index)
        slack += 2 * UNIT * sums(flat(rows.values), rows.origins, place, flat(size), True)

    def _relax(
        self,
        index: int,
        rows: Rows,
        origin: np.ndarray,
        place: np.ndarray,
        constant: np.ndarray,
        slack: np.ndarray,
    ) -> None:
        """Forms in the outputs of a function become forms in its inputs, in place."""
        lines, node = self.lines[index], self.program.nodes[index]
        # nothing of what an enclosure reads is left in the forms
        size = index if isinstance(node.operator, Enclosure) else node.sources[0]
        relax(
            flat(rows.values),
            origin,
            place,
            flat(lines.lower_slope),
            flat(lines.lower_shift),
            flat(lines.upper_slope),
            flat(lines.upper_shift),
            flat(self.magnitude(size)),
            constant,
            slack,
        )
        slack += 4 * UNIT * np.abs(constant)

    def _concretise(
        self, values: np.ndarray, place: np.ndarray, constant: np.ndarray, slack: np.ndarray
    ) -> np.ndarray:
        """The least value of forms in the input, shape (rows,); values (rows, *input_shape)."""
        flat_values = values.reshape(len(values), -1)
        center = self.center.reshape(self.boxes, -1)
        radius = self.radius.reshape(self.boxes, -1)
        if self.boxes == 1:
            middle = flat_values @ center[0]
            spread = np.abs(flat_values) @ radius[0]
            size = np.abs(flat_values) @ np.abs(center[0])
        else:
            middle = np.einsum("rn,rn->r", flat_values, center[place])
            spread = np.einsum("rn,rn->r", np.abs(flat_values), radius[place])
            size = np.einsum("rn,rn->r", np.abs(flat_values), np.abs(center[place]))
        terms = flat_values.shape[1] + 16
        slack = slack + gamma(terms) * (size + spread) + 8 * UNIT * np.abs(constant) + TINY
        lower = constant + middle - spread - slack * SAFE
        lower -= 8 * UNIT * (np.abs(constant) + np.abs(middle) + spread)
        return np.where(np.isfinite(lower), lower, -np.inf)

    def refine(self, node: int) -> None:
        """Tighten the input of a function by backward substitution, where that can help; not that
        of feature maps with generators: it gains one percent, and takes longer than all the rest.
        """
        if self.generators is not None and len(self.program.shape(node)) == 3:
            return
        function = self._function_of(node)
        wanted = function.unstable(self.low[node], self.high[node])
        if wanted.any():
            self.tighten(node, *self.entries(node, wanted))

    def refine_difference(self, node: int) -> None:
        """Tighten the differences to the input of the paired function, likewise; not on feature
        maps, where that takes longer than all the rest.
        """
        if len(self.program.shape(node)) == 3:
            return
        function, other = self._function_of(node), self.program.pairs[node]
        wanted = function.unstable(self.low[node], self.high[node]) & function.unstable(
            self.low[other], self.high[other]
        )
        if wanted.any():
            low, high = self.differences(node, wanted)
            least, most = self.difference[node]
            self.difference[node] = np.fmax(least, low), np.fmin(most, high)

    def _function_of(self, node: int) -> Function:
        return next(
            n.operator
            for n in self.program.nodes
            if node in n.sources and isinstance(n.operator, Function)
        )

    def entries(self, node: int, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of some values of a node by backward substitution.

        Parameters
        ----------
        wanted : ndarray of bool, shape (boxes, *shape)

        Returns
        -------
        low, high : ndarray, as wanted
            Infinite where nothing was wanted.
        """
        index = np.nonzero(wanted)
        low, high = np.full(wanted.shape, -np.inf), np.full(wanted.shape, np.inf)
        chunk = self._chunk(node)
        return self._in_chunks(
            index, chunk, lambda part, sign: self._signed(node, part, sign), low, high
        )

    def differences(self, node: int, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of the differences between some values of a node and those of the paired one."""
        index = np.nonzero(wanted)
        low, high = np.full(wanted.shape, -np.inf), np.full(wanted.shape, np.inf)
        other = self.program.pairs[node]
        shape = self.program.shape(node)

        def bound(part: Index, sign: float) -> np.ndarray:
            start = {
                node: one_hot(shape, part[1:], sign),
                other: one_hot(shape, part[1:], -sign),
            }
            return self.lower(start, part[0]).lower

        return self._in_chunks(index, self._chunk(node), bound, low, high)

    def _in_chunks(
        self,
        index: Index,
        chunk: int,
        function: Callable[[Index, float], np.ndarray],
        low: np.ndarray,
        high: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Bounds at some places of low and high, which are overwritten: function(places, ±1) bounds
        the values there, times that sign, from below.
        """
        parts = [
            tuple(i[start : start + chunk] for i in index)
            for start in range(0, len(index[0]), chunk)
        ]

        def bound(part: Index) -> tuple[np.ndarray, np.ndarray]:
            return function(part, 1.0), function(part, -1.0)

        for part, (below, above) in zip(parts, run(bound, parts, self.threads), strict=True):
            low[part], high[part] = below, -above
        return low, high

    def _signed(self, node: int, part: Index, sign: float) -> np.ndarray:
        """Lower bounds of sign times some values of a node, shape (values,)."""
        place = part[0]
        operator = self.program.nodes[node].operator
        if isinstance(operator, Matrix):
            source = self.program.nodes[node].sources[0]
            constant = sign * operator.bias[part[1]]
            slack = 4 * UNIT * self.size[node][part]
            rows = Rows(sign * operator.transpose[part[1]])
            if source == INPUT:
                return self._concretise(rows.values, place, constant, slack)
            return self.lower({source: rows}, place, constant, slack).lower
        return self.lower({node: one_hot(self.program.shape(node), part[1:], sign)}, place).lower

    def _chunk(self, node: int) -> int:
        numbers = max(footprint(self.program, node))
        return int(min(max(CHUNK_BYTES // (8 * numbers), 1), 4096))


def _steepness(operator: Operator) -> float:
    """How much longer, at most, a map makes a difference (one input at a time)."""
    if isinstance(operator, Function):
        return max(map(abs, operator.slopes))
    return operator.norm


def length(values: np.ndarray) -> np.ndarray:
    """Euclidean norms by box, rounded up."""
    return np.sqrt((values.reshape(len(values), -1) ** 2).sum(axis=1)) * SAFE


def by_box(values: np.ndarray, rank: int) -> np.ndarray:
    return values.reshape(-1, *(1,) * rank)


def run(function: Callable[[S], T], items: list[S], threads: bool = True) -> Iterator[T]:
    """function(item) of every item in order, in threads where there are several."""
    if not threads or len(items) < 2 or thread_count() == 1:
        return map(function, items)
    return in_order(function, items)


def footprint(program: Program, node: int) -> list[int]:
    """How many values of each node before this one a form in one of its values reads."""
    start = program.shape(node)
    windows = {node: np.ones(2, int) if len(start) == 3 else np.array(start[:-1], int)}
    counts = []
    for index in range(node, -1, -1):
        window = windows.get(index)
        if window is None:
            continue
        shape = program.shape(index)
        counts.append(int(np.prod(window)) * shape[-1])
        operator = program.nodes[index].operator
        for source in () if isinstance(operator, Enclosure) else program.nodes[index].sources:
            before = program.shape(source)
            if len(before) != 3 or len(window) != 2:
                size = np.array(before[:-1], int)
            else:
                layer = getattr(getattr(operator, "sums", operator), "layer", None)
                size = np.minimum(_window_before(layer, window), before[:2])
            windows[source] = np.maximum(windows.get(source, size), size)
    counts.append(int(np.prod(program.input_shape)))
    return counts


def _window_before(
    layer: Conv2D | DepthwiseConv2D | Conv2DTranspose | MaxPooling2D | None, window: np.ndarray
) -> np.ndarray:
    """Rows and columns that a window of a layer's output reads; None for one value by value."""
    if layer is None:
        return window
    kernel = layer.pool_size if isinstance(layer, MaxPooling2D) else layer.kernel.shape[:2]
    dilation = getattr(layer, "dilation", (1, 1))
    return (window - 1) * layer.strides + (np.array(kernel) - 1) * dilation + 1


def _same_window(rows: Rows, others: Rows | None) -> bool:
    if others is None:
        return False
    if rows.origin is None or others.origin is None:
        return rows.origin is None and others.origin is None
    if rows.values.shape != others.values.shape:
        return False
    return bool((rows.origin == others.origin).all())


def _stacked(lines: Lines) -> np.ndarray:
    return _map4(
        np.stack([lines.lower_slope, lines.lower_shift, lines.upper_slope, lines.upper_shift])
    )


def _map4(values: np.ndarray) -> np.ndarray:
    return values if values.ndim == 5 else values.reshape(*values.shape[:2], 1, 1, -1)


def _copy(rows: Rows) -> Rows:
    return Rows(rows.values.copy(), rows.origin)


def _whole(rows: Rows | None, shape: tuple[int, ...], count: int) -> np.ndarray:
    if rows is None:
        return np.zeros((count, *shape))
    return densify_rows(rows, shape).values if len(shape) == 3 else rows.values
