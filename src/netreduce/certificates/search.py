"""Deciding a claim |g(x) − f(x)| ≤ ε on a box by cutting it into smaller ones."""

import heapq
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .attack import STEPS, ascend, deviations, representable
from .bounds import Relaxation, Rows
from .problem import Problem

BATCH = 256  # boxes at a time
RANDOM_POINTS = 2000
STEPS_OF_MANY = 8  # of ascent, where there are many inputs
STEPS_OF_MAPS = 2  # where there are feature maps too, and they take long
STARTS = 64
FEW_INPUTS = 64  # input splitting halves one input at a time: hopeless with many
MAX_BOXES = 200_000  # without a time limit


@dataclass
class Search:
    """What a search came to.

    Attributes
    ----------
    answer : str
        "yes", "no" or "undecided".
    witness : ndarray or None
        Where the answer is "no", an input with a larger deviation.
    boxes : int
        How many were bounded.
    """

    answer: str
    witness: np.ndarray | None
    boxes: int


def decide(
    problem: Problem, index: int, epsilon: float, deadline: float, points: np.ndarray
) -> Search:
    """Whether the deviation stays within epsilon on one box of a problem.

    Parameters
    ----------
    points : ndarray, shape (n, *input_shape)
        Where to look first.
    """
    low, high = problem.low[index : index + 1], problem.high[index : index + 1]
    found = violation(problem, points, low[0], high[0], epsilon)
    if found is not None:
        return Search("no", found, 0)
    if np.prod(problem.original.input_shape) > FEW_INPUTS:
        return Search("undecided", None, 0)
    heap: list[tuple[float, int, np.ndarray, np.ndarray]] = [(0.0, 0, low[0], high[0])]
    count = boxes = 0
    while heap:
        if time.monotonic() > deadline or boxes >= MAX_BOXES:
            return Search("undecided", None, boxes)
        taken = [heapq.heappop(heap) for _ in range(min(BATCH, len(heap)))]
        low, high = np.stack([t[2] for t in taken]), np.stack([t[3] for t in taken])
        boxes += len(low)
        margins, influence, points = _bounded(problem, low, high, epsilon)
        open_ = margins <= 0
        if not open_.any():
            continue
        low, high = low[open_], high[open_]
        points = np.concatenate([low / 2 + high / 2, points[open_]])
        found = violation(problem, points, problem.low[index], problem.high[index], epsilon)
        if found is not None:
            return Search("no", found, boxes)
        for part in _halves(low, high, influence[open_], margins[open_]):
            count += 1
            heapq.heappush(heap, (part[0], count, part[1], part[2]))
    return Search("yes", None, boxes)


def _bounded(
    problem: Problem, low: np.ndarray, high: np.ndarray, epsilon: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By box: the least margin ε ∓ (g − f) over outputs; how much each input moves the outputs of
    the two networks, for that is what makes relaxations wide; and the point where the form of the
    worst output is least.
    """
    program, outputs, boxes = problem.program, problem.outputs, len(low)
    bounds = Relaxation(program, low, high).propagate(Relaxation.refine)
    rows = np.eye(outputs)
    rows = np.tile(np.concatenate([rows, -rows]), (boxes, 1))
    rows = rows.reshape(-1, *program.shape(program.outputs[0]))
    place = np.repeat(np.arange(boxes), 2 * outputs)
    first, second = program.outputs
    forms = bounds.lower({first: Rows(rows.copy()), second: Rows(-rows)}, place)
    margins = (epsilon + forms.lower).reshape(boxes, -1)
    margins[~np.isfinite(margins)] = -np.inf
    worst = margins.argmin(axis=1)
    slopes = forms.slopes.reshape(boxes, 2 * outputs, *low.shape[1:])[np.arange(boxes), worst]
    influence = sum(
        np.abs(bounds.lower({node: Rows(rows.copy())}, place).slopes)
        .reshape(boxes, 2 * outputs, *low.shape[1:])
        .sum(axis=1)
        for node in program.outputs
    )
    return margins[np.arange(boxes), worst], influence, np.where(slopes > 0, low, high)


def _halves(
    low: np.ndarray, high: np.ndarray, influence: np.ndarray, margins: np.ndarray
) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
    """Both halves of every box, cut where width · influence is largest."""
    width = high - low
    with np.errstate(invalid="ignore"):
        gain = np.nan_to_num(influence, posinf=1e300) * width + 1e-9 * width
    axis = gain.reshape(len(low), -1).argmax(axis=1)
    for i, at in enumerate(axis):
        cut = np.unravel_index(at, low.shape[1:])
        middle = low[i][cut] / 2 + high[i][cut] / 2
        for end in range(2):
            part = low[i].copy(), high[i].copy()
            part[1 - end][cut] = middle
            yield float(margins[i]), *part


def violation(
    problem: Problem, points: np.ndarray, low: np.ndarray, high: np.ndarray, epsilon: float
) -> np.ndarray | None:
    """The one of some points with the largest deviation, if that is above epsilon, in the networks'
    type and in float64.
    """
    dtype = np.result_type(problem.original.dtype, problem.reduced.dtype)
    points = representable(points, low, high, dtype)
    computed = deviations(problem.original, problem.reduced, points)
    computed = computed.reshape(len(points), -1).max(axis=1)
    best = int(computed.argmax())
    if not computed[best] > epsilon:
        return None
    values = problem.program.forward(points[best : best + 1].astype(np.float64))
    first, second = (values[node] for node in problem.program.outputs)
    if problem.softmax or np.abs(second - first).max() > epsilon:
        return points[best]
    return None


def first_points(problem: Problem, index: np.ndarray, seed: int = 0) -> np.ndarray:
    """Points of some boxes where outputs are far apart, shape (boxes, points, *input_shape), by
    gradient ascent on the difference of every output, in both directions: from the center where
    there are many inputs, from the best of random points where there are few.
    """
    if problem.low[0].size > FEW_INPUTS:
        return _from_centers(problem, index)
    return np.stack([_from_random(problem, box, seed) for box in index])


def _from_centers(problem: Problem, index: np.ndarray) -> np.ndarray:
    low, high = problem.low[index], problem.high[index]
    center = low / 2 + high / 2
    values = problem.program.forward(center)
    first, second = (values[node].reshape(len(index), -1) for node in problem.program.outputs)
    largest = np.abs(second - first).max(axis=0)
    tried = np.sort(np.argsort(-largest, kind="stable")[: STARTS // 2])
    signs = np.concatenate([np.eye(problem.outputs)[tried], -np.eye(problem.outputs)[tried]])
    low, high, center = (np.repeat(x, len(signs), axis=0) for x in (low, high, center))
    steps = STEPS_OF_MAPS if problem.program.has_maps else STEPS_OF_MANY
    signs_of_all = np.tile(signs, (len(index), 1))
    points = _apart(problem, low, high, center, signs_of_all, steps)
    return points.reshape(len(index), len(signs), *low.shape[1:])


def _from_random(problem: Problem, index: int, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    low, high = problem.low[index], problem.high[index]
    points = low + (high - low) * random.random((RANDOM_POINTS, *low.shape))
    corners = np.where(random.random((RANDOM_POINTS, *low.shape)) < 0.5, low, high)
    points = np.concatenate([(low / 2 + high / 2)[None], points, corners])
    values = problem.program.forward(points)
    first, second = (values[node].reshape(len(points), -1) for node in problem.program.outputs)
    change = second - first
    tried = np.sort(np.argsort(-np.abs(change).max(axis=0), kind="stable")[:STARTS])
    chosen = np.argsort(-np.abs(change[:, tried]), axis=0)[: max(1, STARTS // len(tried))]
    starts, output = points[chosen.reshape(-1)], np.tile(tried, len(chosen))
    sign = np.sign(change[chosen.reshape(-1), output])
    signs = np.zeros((len(starts), change.shape[1]))
    signs[np.arange(len(starts)), output] = np.where(sign == 0, 1.0, sign)
    low, high = (np.broadcast_to(end, starts.shape) for end in (low, high))
    return np.concatenate([_apart(problem, low, high, starts, signs, STEPS), starts])


def _apart(
    problem: Problem,
    low: np.ndarray,
    high: np.ndarray,
    starts: np.ndarray,
    signs: np.ndarray,
    steps: int,
) -> np.ndarray:
    """Points where Σ signs · (g − f) is large; signs (points, outputs), the rest as points."""
    weights = signs.reshape(-1, *problem.original.shapes[-1])
    first, second = problem.program.outputs
    return ascend(problem.program, low, high, starts, {first: -weights, second: weights}, steps)
