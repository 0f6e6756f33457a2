"""Deciding whether a form is positive on a box by cases of unstable neurons (branch and bound).

In each case some ReLUs are known to be on or off. Then they are linear, and what is known of their
inputs z, ± z ≥ 0, may be added to the form with multipliers β ≥ 0 (β-CROWN, Wang et al., 2021,
arXiv 2103.06624). Multipliers and the slopes of lower lines are found by gradient ascent (α-CROWN,
Xu et al., 2021, arXiv 2011.13824), for which no second substitution is needed: at the point of the
box where the form is least, go forward through the lines that the form takes; the slope of a neuron
with coefficient a > 0 and input z there moves the bound by a z, the multiplier of ± z ≥ 0 by ∓ z.

Whatever they are, the bounds hold. So they are searched for in float32, on a network that has only
the unstable neurons left (`Reduced`; what lies between is linear), and a case counts as decided
when `Relaxation.lower` says so, in float64 with all rounding.
"""

import heapq
import time
from dataclasses import dataclass

import numpy as np

from netreduce.network import INPUT

from .bounds import Relaxation, run
from .functions import Rectifier
from .operators import Linear, Rows
from .program import Program

BATCH = 64  # cases at a time and thread
STEPS = 2  # of ascent for each case; they go on from where the case they come from ended
RATE, DECAY = 0.3, 0.8
FIRST_LOOK = 1000  # cases after which, and after twice as many, and so on, it is seen how it goes
HOPELESS = 4  # times as many cases as there may be


@dataclass
class Cases:
    """Cases by unstable neurons, all functions side by side; arrays (cases, neurons).

    Attributes
    ----------
    signs : ndarray of int8
        Of the inputs of neurons, where they are known; 0 where not.
    slopes : ndarray of float32
        Of the lower lines.
    multipliers : ndarray of float32
    """

    signs: np.ndarray
    slopes: np.ndarray
    multipliers: np.ndarray

    def __len__(self) -> int:
        return len(self.signs)

    def __getitem__(self, index: np.ndarray | slice) -> "Cases":
        return Cases(self.signs[index], self.slopes[index], self.multipliers[index])

    @classmethod
    def joined(cls, parts: "list[Cases]") -> "Cases":
        return cls(
            *(
                np.concatenate([getattr(part, key) for part in parts])
                for key in ("signs", "slopes", "multipliers")
            )
        )


def can_split(program: Program) -> bool:
    """Whether all that is not linear are ReLUs of vectors."""
    return all(
        isinstance(node.operator, Linear)
        or (isinstance(node.operator, Rectifier) and bool(node.operator.convex.all()))
        for node in program.nodes
    )


def is_positive(
    bounds: Relaxation, box: int, node: int, row: np.ndarray, most: int | None, deadline: float
) -> tuple[bool, int]:
    """Whether a form in the values of a node is certainly positive on a box.

    Parameters
    ----------
    row : ndarray
        The form.
    most : int or None
        Cases to look at; as many as there is time for.
    deadline : float
        Of time.monotonic().

    Returns
    -------
    bool, int
        Whether it is, and how many cases were looked at.
    """
    reduced = Reduced(bounds, box, node, row)
    if not reduced.neurons:
        return False, 0
    heap: list[tuple[float, int, Cases]] = [(0.0, 0, reduced.whole())]
    count = looked = 0
    look, former, start = FIRST_LOOK, -np.inf, time.monotonic()
    while heap:
        now = time.monotonic()
        if now > deadline or (most is not None and looked >= most):
            return False, looked
        if looked >= look:
            worst = heap[0][0]
            limit = looked * (deadline - start) / (now - start) if most is None else most
            if looked * 2.0 ** _doublings(former, worst) > HOPELESS * limit:
                return False, looked
            look, former = 2 * looked, worst
        # the worst first: where one cannot be decided, it is not worth to go on with the others
        size = min(len(heap), BATCH * (2 if bounds.threads else 1))
        taken = Cases.joined([heapq.heappop(heap)[2] for _ in range(size)])
        looked += size
        groups = [taken[i : i + BATCH] for i in range(0, size, BATCH)]
        for group, lower, choice in run(reduced.improved, groups, bounds.threads):
            for i in np.nonzero(lower <= 0)[0]:
                if choice[i] < 0:
                    return False, looked  # all are known, and still it is not positive
                for sign in (-1, 1):
                    child = group[i : i + 1]
                    child.signs = child.signs.copy()
                    child.signs[0, choice[i]] = sign
                    count += 1
                    heapq.heappush(heap, (float(lower[i]), count, child))
    return True, looked


def _doublings(former: float, worst: float) -> float:
    """How often the number of cases must double until the worst bound is positive: it gains about
    the same every time.
    """
    return min(-worst / max(worst - former, 1e-300), 1000.0)


class Reduced:
    """A form on one box as a function of the input and the unstable neurons, in float32.

    Attributes
    ----------
    functions : list of int
        In order; their unstable neurons stand side by side in this order.
    places : list of ndarray of int
        By function: which of its neurons are unstable (flat).
    """

    def __init__(self, bounds: Relaxation, box: int, node: int, row: np.ndarray):
        self.bounds, self.box, self.node, self.row = bounds, box, node, row
        nodes = bounds.program.nodes
        self.functions, self.places = [], []
        upper, slope = [], []
        for index in sorted(bounds.program.needed(node)):
            operator = nodes[index].operator
            if not isinstance(operator, Rectifier):
                continue
            source = nodes[index].sources[0]
            place = np.nonzero(
                operator.unstable(bounds.low[source][box], bounds.high[source][box]).reshape(-1)
            )[0]
            lines = bounds.lines[index]
            flat = (a[box].reshape(-1)[place] for a in (lines.upper_slope, lines.upper_shift))
            self.functions.append(index)
            self.places.append(place)
            upper.append(np.stack([*flat, lines.lower_slope[box].reshape(-1)[place]]))
            shape = nodes[index].shape
            slope.append(np.broadcast_to(operator.slope, shape).reshape(-1)[place])
        self.ends = np.cumsum([0, *map(len, self.places)])
        self.neurons = int(self.ends[-1])
        if not self.neurons:
            return
        self.above, self.shift, self.start = np.concatenate(upper, axis=1).astype(np.float32)
        self.flattest = np.concatenate(slope)
        self.least = self.flattest.astype(np.float32)
        rows, parts = [], []
        for index, place in zip(self.functions, self.places, strict=True):
            if not len(place):
                continue
            source = nodes[index].sources[0]
            shape = nodes[source].shape
            one = np.zeros((len(place), int(np.prod(shape))))
            one[np.arange(len(place)), place] = 1.0
            parts.append((source, one.reshape(-1, *shape)))
        parts.append((node, row[None].copy()))
        for start, values in parts:
            rows.append(self._substituted(start, values))
        between, inputs, constants = (np.concatenate(part) for part in zip(*rows, strict=True))
        center, radius = (a[box].reshape(-1) for a in (bounds.center, bounds.radius))
        constants = constants + inputs @ center
        # inputs that are known do not count
        inputs = (inputs * radius)[:, radius > 1e-12 * (np.abs(center) + 1)]
        self.between = between[:-1].astype(np.float32)
        self.inputs, self.form = inputs[:-1].astype(np.float32), between[-1].astype(np.float32)
        self.biases, self.form_inputs = constants[:-1].astype(np.float32), inputs[-1]
        self.form_inputs = self.form_inputs.astype(np.float32)
        self.constant = np.float32(constants[-1])

    def _substituted(
        self, start: int, values: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Forms in the values of a node as forms in unstable neurons and in the input: arrays
        (rows, neurons), (rows, inputs), and their constants.
        """
        program, count = self.bounds.program, len(values)
        between, constants = np.zeros((count, self.neurons)), np.zeros(count)
        pending = {start: Rows(values)}
        for index in range(start, -1, -1):
            rows = pending.pop(index, None)
            if rows is None:
                continue
            step = program.nodes[index]
            if isinstance(step.operator, Linear):
                if step.operator.bias is not None:
                    bias = np.broadcast_to(step.operator.bias, step.shape).reshape(-1)
                    constants += rows.values.reshape(count, -1) @ bias
                given = step.operator.transposed(rows)
            else:
                at = self.functions.index(index)
                flat = rows.values.reshape(count, -1) * 1.0
                between[:, self.ends[at] : self.ends[at + 1]] = flat[:, self.places[at]]
                flat[:, self.places[at]] = 0.0
                stable = self.bounds.lines[index].lower_slope[self.box].reshape(-1)
                given = (Rows((flat * stable).reshape(count, *step.shape)),)
            for target, part in zip(step.sources, given, strict=True):
                shape = program.shape(target)
                pending[target] = (
                    pending[target].plus(part, shape)
                    if target in pending
                    else Rows(part.values.copy(), part.origin)
                )
        last = pending.get(INPUT)
        size = int(np.prod(program.input_shape))
        inputs = np.zeros((count, size)) if last is None else last.values.reshape(count, size)
        return between, inputs, constants

    def whole(self) -> Cases:
        """The case in which nothing is known."""
        none = np.zeros((1, self.neurons), np.int8)
        return Cases(none, self.start[None].copy(), np.zeros(none.shape, np.float32))

    def improved(self, cases: Cases) -> tuple[Cases, np.ndarray, np.ndarray]:
        """The cases with better slopes and multipliers; their lower bounds, those above zero
        certain; and the neuron by which each one is best split, −1 where all are known.
        """
        count, known = len(cases), cases.signs.astype(np.float32)
        free = cases.signs == 0
        fixed = np.where(cases.signs > 0, np.float32(1), self.least)
        above = np.where(free, self.above, fixed)
        shift = np.where(free, self.shift, np.float32(0))
        slopes, beta = np.where(free, cases.slopes, fixed), cases.multipliers
        best = np.full(count, -np.inf, np.float32)
        kept = Cases(cases.signs, slopes.copy(), beta.copy())
        momentum = np.zeros((2, *slopes.shape), np.float32)
        for step in range(STEPS + 1):
            lower, coefficients, signs = self._lower(known, slopes, above, shift, beta)
            better = lower > best
            best[better] = lower[better]
            kept.slopes[better], kept.multipliers[better] = slopes[better], beta[better]
            if step == STEPS or (best > 0).all():
                break
            z = self._forward(coefficients, signs, slopes, above, shift)
            for at, ascent in enumerate((np.maximum(coefficients, 0) * z * free, -known * z)):
                momentum[at] = 0.5 * momentum[at] + 0.5 * ascent
            scale = np.abs(momentum).max(axis=2, keepdims=True) + np.float32(1e-12)
            unit = momentum / scale
            size = np.float32(RATE * DECAY**step)
            slopes = slopes + size * np.sign(unit[0]) * np.sqrt(np.abs(unit[0]))
            slopes = np.where(free, np.clip(slopes, self.least, 1), fixed)
            sizes = size * np.abs(coefficients).max(axis=1, keepdims=True)
            beta = np.maximum(beta + sizes * unit[1], 0)
        certain = best > 0
        if certain.any():
            best[certain] = self._certain(kept[certain])
        # how far the form is below the true one, at most, mostly by upper lines
        score = np.where(coefficients < 0, -coefficients, np.float32(0.1) * coefficients) * shift
        choice = score.argmax(axis=1)
        choice[score[np.arange(count), choice] <= 0] = -1
        return kept, best, choice

    def _lower(
        self,
        known: np.ndarray,
        slopes: np.ndarray,
        above: np.ndarray,
        shift: np.ndarray,
        beta: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Lower bounds of the form, the coefficients of neurons' outputs, and the sign of the
        coefficients of inputs.
        """
        coefficients = np.repeat(self.form[None], len(known), axis=0)
        pushed = np.empty_like(coefficients)
        total = np.full(len(known), self.constant)
        for at in reversed(range(len(self.functions))):
            part = slice(self.ends[at], self.ends[at + 1])
            c = coefficients[:, part]
            pushed[:, part] = c * np.where(c > 0, slopes[:, part], above[:, part])
            pushed[:, part] -= known[:, part] * beta[:, part]
            if at:
                coefficients[:, : part.start] += pushed[:, part] @ self.between[part, : part.start]
        total += pushed @ self.biases + (np.minimum(coefficients, 0) * shift).sum(axis=1)
        inputs = pushed @ self.inputs + self.form_inputs
        return total - np.abs(inputs).sum(axis=1), coefficients, np.sign(inputs)

    def _forward(
        self,
        coefficients: np.ndarray,
        signs: np.ndarray,
        slopes: np.ndarray,
        above: np.ndarray,
        shift: np.ndarray,
    ) -> np.ndarray:
        """Inputs of the neurons where each form is least, through the lines that it takes."""
        z = self.biases - signs @ self.inputs.T
        out = np.empty_like(z)
        for at in range(len(self.functions)):
            part = slice(self.ends[at], self.ends[at + 1])
            if at:
                z[:, part] += out[:, : part.start] @ self.between[part, : part.start].T
            below = coefficients[:, part] > 0
            out[:, part] = z[:, part] * np.where(below, slopes[:, part], above[:, part])
            out[:, part] += np.where(below, np.float32(0), shift[:, part])
        return z

    def _certain(self, cases: Cases) -> np.ndarray:
        """Lower bounds of the form in some cases, rounding covered."""
        bounds, count = self.bounds, len(cases)
        nodes = bounds.program.nodes
        here = bounds.repeated(self.box, count)
        slopes, pushed = {}, {}
        for at, (index, place) in enumerate(zip(self.functions, self.places, strict=True)):
            part = slice(self.ends[at], self.ends[at + 1])
            shape = (count, *nodes[index].shape)
            signs, beta = np.zeros((2, count, int(np.prod(nodes[index].shape))))
            signs[:, place] = cases.signs[:, part]
            beta[:, place] = cases.multipliers[:, part]
            signs, beta = signs.reshape(shape), beta.reshape(shape)
            operator, source = nodes[index].operator, nodes[index].sources[0]
            assert isinstance(operator, Rectifier)
            low, high = here.low[source], here.high[source]
            low = np.where(signs > 0, np.maximum(low, 0), low)
            high = np.where(signs < 0, np.minimum(high, 0), high)
            here.lines[index] = operator.lines(low, high)
            slope = here.lines[index].lower_slope.reshape(count, -1).copy()
            chosen = np.clip(cases.slopes[:, part].astype(np.float64), self.flattest[part], 1)
            free = cases.signs[:, part] == 0
            slope[:, place] = np.where(free, chosen, slope[:, place])
            slopes[index], pushed[index] = slope.reshape(shape), -signs * beta
        rows = Rows(np.repeat(self.row[None], count, axis=0))
        start = {self.node: rows}
        return here.lower(start, np.arange(count), slopes, multipliers=pushed).lower
