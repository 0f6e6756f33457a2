"""Deciding whether a form is positive on a box by cases of unstable neurons (branch and bound).

In each case some ReLUs are known to be on or off. Then they are linear, and what is known of their
inputs z, ± z ≥ 0, may be added to the form with multipliers β ≥ 0 (β-CROWN, Wang et al., 2021,
arXiv 2103.06624). Multipliers and the slopes of lower lines are found by gradient ascent (α-CROWN,
Xu et al., 2021, arXiv 2011.13824), for which no second substitution is needed: at the point of the
box where the form is least, go forward through the lines that the form takes; the slope of a neuron
with coefficient a > 0 and input z there moves the bound by a z, the multiplier of ± z ≥ 0 by ∓ z.
Whatever they are, the bounds hold.
"""

import heapq
import time
from dataclasses import dataclass

import numpy as np

from netreduce.network import INPUT

from .bounds import Forms, Relaxation, run
from .functions import Lines, Rectifier
from .operators import Linear, Rows
from .program import Program

BATCH = 48  # cases at a time and thread
STEPS = 2  # of ascent for each case; they go on from where the case they come from ended
RATE, DECAY = 0.3, 0.8
Values = dict[int, np.ndarray]


@dataclass
class _Case:
    """Signs of inputs of functions that are known (0: not), multipliers and slopes."""

    signs: Values
    multipliers: Values
    slopes: Values


def can_split(program: Program) -> bool:
    """Whether all that is not linear are ReLUs of vectors."""
    return all(
        isinstance(node.operator, Linear)
        or (isinstance(node.operator, Rectifier) and bool(node.operator.convex.all()))
        for node in program.nodes
    )


def is_positive(
    bounds: Relaxation, box: int, node: int, row: np.ndarray, most: int, deadline: float
) -> tuple[bool, int]:
    """Whether a form in the values of a node is certainly positive on a box.

    Parameters
    ----------
    row : ndarray
        The form.
    most : int
        Cases to look at.
    deadline : float
        Of time.monotonic().

    Returns
    -------
    bool, int
        Whether it is, and how many cases were looked at.
    """
    functions = [
        i
        for i in sorted(bounds.program.needed(node))
        if isinstance(bounds.program.nodes[i].operator, Rectifier)
    ]
    if not functions:
        return False, 0
    root = _Case(
        {i: np.zeros(bounds.program.nodes[i].shape, np.int8) for i in functions},
        {i: np.zeros(bounds.program.nodes[i].shape) for i in functions},
        {i: bounds.lines[i].lower_slope[box].copy() for i in functions},
    )
    heap: list[tuple[float, int, _Case]] = [(0.0, 0, root)]
    count = looked = 0
    while heap:
        if looked >= most or time.monotonic() > deadline:
            return False, looked
        # the worst first: where one cannot be decided, it is not worth to go on with the others
        size = min(len(heap), BATCH * (2 if bounds.threads else 1))
        cases = [heapq.heappop(heap)[2] for _ in range(size)]
        looked += len(cases)
        groups = [cases[i : i + BATCH] for i in range(0, len(cases), BATCH)]
        results = run(
            lambda g: _bounded(bounds, box, node, row, functions, g), groups, bounds.threads
        )
        for group, (lower, scores) in zip(groups, results, strict=True):
            for i, case in enumerate(group):
                if lower[i] > 0:
                    continue
                most_lost = {n: scores[n][i].max() for n in functions}
                choice = max(functions, key=most_lost.__getitem__)
                at = np.unravel_index(scores[choice][i].argmax(), scores[choice][i].shape)
                if not scores[choice][i][at] > 0:
                    return False, looked  # all are known, and still it is not positive
                for sign in (-1, 1):
                    signs = {n: s.copy() for n, s in case.signs.items()}
                    signs[choice][at] = sign
                    count += 1
                    child = _Case(signs, case.multipliers, case.slopes)
                    heapq.heappush(heap, (float(lower[i]), count, child))
    return True, looked


def _bounded(
    bounds: Relaxation,
    box: int,
    node: int,
    row: np.ndarray,
    functions: list[int],
    cases: list[_Case],
) -> tuple[np.ndarray, Values]:
    """Lower bounds of the form in some cases, and by function how much is lost at each neuron; the
    cases keep their multipliers and slopes.
    """
    program, count = bounds.program, len(cases)
    rectifiers = {n: o for n in functions if isinstance(o := program.nodes[n].operator, Rectifier)}
    here = bounds.repeated(box, count)
    signs = {n: np.stack([case.signs[n] for case in cases]) for n in functions}
    slopes = {n: np.stack([case.slopes[n] for case in cases]) for n in functions}
    beta = {n: np.stack([case.multipliers[n] for case in cases]) for n in functions}
    free = {}
    for n in functions:
        operator, source = rectifiers[n], program.nodes[n].sources[0]
        low, high = here.low[source], here.high[source]
        low = np.where(signs[n] > 0, np.maximum(low, 0), low)
        high = np.where(signs[n] < 0, np.minimum(high, 0), high)
        here.lines[n] = operator.lines(low, high)
        free[n] = operator.unstable(low, high)
        slopes[n] = np.where(free[n], slopes[n], here.lines[n].lower_slope)
    place = np.arange(count)
    momentum: dict[tuple[str, int], np.ndarray] = {}
    best: np.ndarray | None = None
    kept = slopes, beta
    for step in range(STEPS + 1):
        rows = Rows(np.repeat(row[None], count, axis=0))
        pushed = {n: -signs[n] * beta[n] for n in functions}
        forms = here.lower({node: rows}, place, slopes, record=True, multipliers=pushed)
        if best is None:
            best = forms.lower.copy()
            kept = {n: s.copy() for n, s in slopes.items()}, {n: b.copy() for n, b in beta.items()}
            last = forms
        else:
            better = forms.lower > best
            best[better] = forms.lower[better]
            for new, old in zip((slopes, beta), kept, strict=True):
                for n in functions:
                    old[n][better] = new[n][better]
        if step == STEPS or (best > 0).all():
            break
        values = _through_lines(here, node, forms, slopes)
        for n in functions:
            z = values[program.nodes[n].sources[0]]
            for key, known, ascent, limit in (
                ("slope", slopes, np.maximum(forms.outputs[n], 0) * z * free[n], 1.0),
                ("multiplier", beta, -signs[n] * z, np.inf),
            ):
                former = momentum.get((key, n), 0.0)
                ascent = momentum[key, n] = 0.5 * former + 0.5 * ascent
                scale = np.abs(ascent).reshape(count, -1).max(axis=1) + 1e-12
                unit = ascent / scale.reshape(-1, *(1,) * (ascent.ndim - 1))
                size: np.ndarray | float = RATE * DECAY**step
                floor: np.ndarray | float = 0.0
                if key == "multiplier":
                    sizes = size * np.abs(forms.outputs[n]).reshape(count, -1).max(axis=1)
                    size = sizes.reshape(-1, *(1,) * (ascent.ndim - 1))
                else:
                    unit = np.sign(unit) * np.sqrt(np.abs(unit))
                    floor = rectifiers[n].slope
                known[n] = np.clip(known[n] + size * unit, floor, limit)
    for i, case in enumerate(cases):
        case.slopes = {n: kept[0][n][i] for n in functions}
        case.multipliers = {n: kept[1][n][i] for n in functions}
    assert best is not None
    scores = {n: _lost(last.outputs[n], here.lines[n], free[n]) for n in functions}
    return best, scores


def _lost(coefficients: np.ndarray, lines: Lines, free: np.ndarray) -> np.ndarray:
    """How far the form is below the true one, at most, for the lines of each neuron."""
    gap = lines.upper_shift * free
    return np.where(coefficients < 0, -coefficients, 0.3 * coefficients) * gap


def _through_lines(here: Relaxation, node: int, forms: Forms, slopes: Values) -> Values:
    """Values of the nodes where each form is least, through the lines it takes."""
    low, high = here.low[INPUT], here.high[INPUT]
    values = {INPUT: np.where(forms.slopes > 0, low, high)}
    for index in sorted(here.program.needed(node)):
        step = here.program.nodes[index]
        inputs = [values[s] for s in step.sources]
        if isinstance(step.operator, Linear):
            values[index] = step.operator.forward(*inputs)
            continue
        lines, z = here.lines[index], inputs[0]
        above = lines.upper_slope * z + lines.upper_shift
        values[index] = np.where(forms.outputs[index] > 0, slopes[index] * z, above)
    return values
