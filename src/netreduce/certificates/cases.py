"""Lower bounds of forms on one box, in cases in which some neurons are known to be on or off.

There they are linear, and what is known of their inputs z, ± z ≥ 0, may be added to the form with
multipliers β ≥ 0 (β-CROWN, Wang et al., 2021, arXiv 2103.06624). Multipliers and the slopes of
lower lines are found by gradient ascent (α-CROWN, Xu et al., 2021, arXiv 2011.13824), for which no
second substitution is needed: at the point of the box where the form is least, go forward through
the lines that the form takes; the slope of a neuron with coefficient a > 0 and input z there moves
the bound by a z, the multiplier of ± z ≥ 0 by ∓ z.

Whatever they are, the bounds hold. All is computed in float32, on a network that has only the
unstable neurons left (what lies between is linear), and what rounding can be is taken off.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from netreduce.network import INPUT

from .bounds import SAFE, Relaxation, gamma
from .case_kernels import ascend, concretise, follow, push, widest
from .functions import ULP, Rectifier
from .kernels import UNIT
from .operators import Linear, Rows

STEPS = 2  # of ascent for each case; they go on from where the case they come from ended
RATE, DECAY = 0.3, 0.8
UNIT32 = 2.0**-24  # rounding error of one operation in float32
TINY32 = 2.0**-120  # more than the underflow of one
MOST_NUMBERS = 1 << 23  # of a matrix between unstable neurons and values of a node


@dataclass
class Cases:
    """Cases side by side; arrays (cases, neurons), but `form`, which is (cases,).

    Attributes
    ----------
    form : ndarray of int
        Which form is bounded.
    signs : ndarray of int8
        Of the inputs of neurons, where they are known; 0 where not.
    slopes : ndarray of float32
        Of the lower lines.
    multipliers : ndarray of float32
    """

    form: np.ndarray
    signs: np.ndarray
    slopes: np.ndarray
    multipliers: np.ndarray

    def __len__(self) -> int:
        return len(self.form)

    @classmethod
    def of(cls, halves: "list[Half]") -> "Cases":
        """These cases, side by side."""
        signs, slopes, multipliers = (
            np.stack([getattr(half.cases, name)[half.at] for half in halves])
            for name in ("signs", "slopes", "multipliers")
        )
        signs[np.arange(len(halves)), [half.neuron for half in halves]] = [
            half.sign for half in halves
        ]
        form = np.array([half.cases.form[half.at] for half in halves])
        return cls(form, signs, slopes, multipliers)


class Half(NamedTuple):
    """One of some cases, and one neuron more that is known (sign 0: none)."""

    cases: Cases
    at: int
    neuron: int
    sign: int


class Reduced:
    """Forms in the values of one node, as functions of the input and the unstable neurons.

    Parameters
    ----------
    bounds : Relaxation
    box : int
    node : int
    rows : ndarray, shape (forms, *shape of the node)

    Attributes
    ----------
    functions : list of int
        In order; their unstable neurons stand side by side in this order.
    places : list of ndarray of int
        By function: which of its neurons are unstable (flat).
    fits : bool
        Whether matrices of so many neurons are small enough; there are none where they are not.
    """

    def __init__(self, bounds: Relaxation, box: int, node: int, rows: np.ndarray):
        self.bounds, self.box = bounds, box
        nodes = bounds.program.nodes
        self.functions, self.places = [], []
        lines, reach = [], []
        for index in sorted(bounds.program.needed(node)):
            operator, source = nodes[index].operator, nodes[index].sources[0]
            if not isinstance(operator, Rectifier):
                continue
            low, high = (end[source][box].reshape(-1) for end in (bounds.low, bounds.high))
            least = np.broadcast_to(operator.slope, nodes[index].shape).reshape(-1)
            place = np.nonzero((low < 0) & (high > 0))[0]
            start = bounds.lines[index].lower_slope[box].reshape(-1)[place]
            self.functions.append(index)
            self.places.append(place)
            lines.append(_lines(low[place], high[place], least[place], start))
            reach.append(bounds.magnitude(source)[box].reshape(-1)[place])
        self.ends = np.cumsum([0, *map(len, self.places)])
        self.neurons = int(self.ends[-1])
        values = max(int(np.prod(bounds.program.shape(i))) for i in (INPUT, *range(node + 1)))
        self.fits = self.neurons * max(self.neurons, values) <= MOST_NUMBERS
        if self.neurons and self.fits:
            self.above, self.shift, self.least, self.start = np.concatenate(lines, axis=1)
            with np.errstate(over="ignore", invalid="ignore"):
                self._reduce(node, rows, np.concatenate(reach))

    def _reduce(self, node: int, rows: np.ndarray, reach: np.ndarray) -> None:
        """Coefficients in float32, and weights that bound what rounding can be."""
        bounds, box = self.bounds, self.box
        nodes = bounds.program.nodes
        parts = []
        for index, place in zip(self.functions, self.places, strict=True):
            source = nodes[index].sources[0]
            shape = bounds.program.shape(source)
            one = np.zeros((len(place), int(np.prod(shape))))
            one[np.arange(len(place)), place] = 1.0
            if len(place):
                parts.append(self._substituted(source, one.reshape(-1, *shape)))
        parts.append(self._substituted(node, rows * 1.0))
        between, inputs, constants, slack = (
            np.concatenate(part) for part in zip(*parts, strict=True)
        )
        center, radius = (a[box].reshape(-1) for a in (bounds.center, bounds.radius))
        slack = slack + gamma(len(center) + 8) * (np.abs(inputs) @ np.abs(center))
        constants = constants + inputs @ center
        inputs = inputs * radius
        small = radius <= 1e-12 * (np.abs(center) + 1)  # inputs that are known
        slack = slack + np.abs(inputs[:, small]).sum(axis=1)
        inputs = inputs[:, ~small]
        terms = self.neurons + inputs.shape[1] + 32
        gamma32 = terms * UNIT32 / (1 - terms * UNIT32)
        outputs = reach * np.maximum(1, np.abs(self.least))
        size = np.abs(between) @ outputs + np.abs(inputs).sum(axis=1) + np.abs(constants)
        error = (gamma32 * size + slack + TINY32 * (size + reach.sum() + 1)) * 1.01
        count = self.neurons
        self.error = _up(error[:count] + 8 * UNIT32 * reach)
        self.form_error = _up(error[count:])
        self.shift_error = np.float32(gamma32 * 1.01)
        self.between, self.form = between[:count].astype(np.float32), between[count:]
        self.inputs, self.form_inputs = inputs[:count].astype(np.float32), inputs[count:]
        self.biases, self.constants = constants[:count].astype(np.float32), constants[count:]
        self.form = self.form.astype(np.float32)
        self.form_inputs = self.form_inputs.astype(np.float32)
        self.constants = self.constants.astype(np.float32)

    def _substituted(
        self, start: int, values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Forms in the values of a node as forms in unstable neurons and in the input: arrays
        (rows, neurons), (rows, inputs), their constants, and what rounding can be.
        """
        bounds, box, count = self.bounds, self.box, len(values)
        program = bounds.program
        between, place = np.zeros((count, self.neurons)), np.full(count, box)
        constants, slack = np.zeros((2, count))
        pending = {start: Rows(values)}
        for index in range(start, -1, -1):
            rows = pending.pop(index, None)
            if rows is None:
                continue
            step = program.nodes[index]
            flat = rows.values.reshape(count, -1)
            if isinstance(step.operator, Linear):
                bounds.account(index, rows, rows.origins, place, constants, slack)
                given = step.operator.transposed(rows)
            else:
                at = self.functions.index(index)
                between[:, self.ends[at] : self.ends[at + 1]] = flat[:, self.places[at]]
                flat = flat * bounds.lines[index].lower_slope[box].reshape(-1)
                flat[:, self.places[at]] = 0.0
                reach = bounds.magnitude(step.sources[0])[box].reshape(-1)
                slack += 2 * UNIT * (np.abs(flat) @ reach)
                given = (Rows(flat.reshape(count, *step.shape)),)
            bounds.push(pending, step, given, slack, place)
        last = pending.get(INPUT)
        size = int(np.prod(program.input_shape))
        inputs = np.zeros((count, size)) if last is None else last.values.reshape(count, size)
        return between, inputs, constants, slack * SAFE

    def whole(self) -> Cases:
        """For each form the case in which nothing is known."""
        count = len(self.form)
        none = np.zeros((count, self.neurons), np.float32)
        start = np.repeat(self.start[None], count, axis=0)
        return Cases(np.arange(count), none.astype(np.int8), start, none)

    def coefficients(self) -> np.ndarray:
        """Of the outputs of neurons in the bounds of whole boxes, shape (forms, neurons)."""
        cases = self.whole()
        return self._lower(cases.form, cases.signs, cases.slopes, cases.multipliers)[1]

    def improved(self, cases: Cases) -> tuple[Cases, np.ndarray, np.ndarray]:
        """The cases with better slopes and multipliers; their lower bounds; and the neuron by which
        each one is best split, −1 where all are known.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            form, signs = cases.form, cases.signs
            slopes, beta = cases.slopes.copy(), cases.multipliers.copy()
            best = np.full(len(cases), -np.inf, np.float32)
            kept = Cases(form, signs, slopes.copy(), beta.copy())
            momentum = np.zeros((2, *slopes.shape), np.float32)
            for step in range(STEPS + 1):
                lower, coefficients, inputs = self._lower(form, signs, slopes, beta)
                better = lower > best
                best[better] = lower[better]
                kept.slopes[better], kept.multipliers[better] = slopes[better], beta[better]
                if step == STEPS or (best > 0).all():
                    break
                z = self._forward(coefficients, inputs, signs, slopes)
                size = np.float32(RATE * DECAY**step)
                ascend(coefficients, z, signs, self.least, size, momentum, slopes, beta)
            return kept, best, widest(coefficients, signs, self.shift)

    def _lower(
        self, form: np.ndarray, signs: np.ndarray, slopes: np.ndarray, beta: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lower bounds of the forms, the coefficients of neurons' outputs, and the sign of the
        coefficients of inputs.
        """
        coefficients = self.form[form]
        pushed = np.empty_like(coefficients)
        lower = self.constants[form] - self.form_error[form]
        lines = self.above, self.shift, self.least
        for at in reversed(range(len(self.functions))):
            start, stop = self.ends[at], self.ends[at + 1]
            push(
                coefficients, signs, slopes, beta, *lines, self.biases, self.error,
                self.shift_error, start, stop, pushed, lower,
            )  # fmt: skip
            if at and stop > start:
                coefficients[:, :start] += pushed[:, start:stop] @ self.between[start:stop, :start]
        inputs = pushed @ self.inputs
        concretise(inputs, self.form_inputs, form, lower)
        lower[~np.isfinite(lower)] = -np.inf  # numbers too large for float32
        return lower, coefficients, inputs

    def _forward(
        self, coefficients: np.ndarray, inputs: np.ndarray, signs: np.ndarray, slopes: np.ndarray
    ) -> np.ndarray:
        """Inputs of the neurons where each form is least, through the lines that it takes."""
        z = self.biases - inputs @ self.inputs.T
        out = np.empty_like(z)
        for at in range(len(self.functions)):
            start, stop = self.ends[at], self.ends[at + 1]
            if at and stop > start:
                z[:, start:stop] += out[:, :start] @ self.between[start:stop, :start].T
            follow(
                z, coefficients, signs, slopes, self.above, self.shift, self.least, start, stop, out
            )
        return z


def _lines(low: np.ndarray, high: np.ndarray, least: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The upper line of unstable neurons, its slope and shift, the slope below 0 and a slope of
    a lower line, in float32 and still lines: shape (4, neurons).
    """
    flattest = _up(least)
    slope = np.float32(least + (1 - least) * (high / (high - low)))
    ends = (least - slope) * low, (1 - np.float64(slope)) * high
    margin = 4 * ULP * (1 + np.abs(least)) * (high - low)
    shift = _up(np.maximum(*ends) + margin)
    return np.stack([slope, shift, flattest, np.clip(np.float32(start), flattest, np.float32(1))])


def _up(values: np.ndarray) -> np.ndarray:
    """In float32, not less."""
    rounded = values.astype(np.float32)
    return np.where(rounded < values, np.nextafter(rounded, np.float32(np.inf)), rounded)
