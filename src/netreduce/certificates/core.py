"""Certificates: the whole of a pair of networks, from the boxes to the numbers."""

import time
from typing import Any

import numpy as np

from netreduce.errors import ParameterError
from netreduce.network import INPUT, Network

from .attack import STEPS, ascend, deviations, representable
from .bounds import SAFE, Relaxation, Rows, run
from .certificate import Certificate
from .neurons import can_split, is_positive
from .problem import Problem, is_number, problem_of
from .rounding import rounding_errors
from .search import STEPS_OF_MAPS, first_points

MOST_CASES = 400_000  # of neurons, for the class of one box, without a time limit
GROUP = 32  # boxes that are bounded together
GROUP_IN_TIME = 4  # the same, where there is a limit of time
GROUP_NUMBERS = 1 << 18  # values of nodes, of all of them


def certify(
    original: Network,
    reduced: Network,
    input_range: tuple | None = None,
    *,
    around: np.ndarray | None = None,
    radius: float | None = None,
    seconds: float | None = None,
    classes: bool = False,
    intervals: bool = False,
) -> Certificate:
    """How far the outputs of a reduced network can be from those of the original.

    Parameters
    ----------
    original, reduced : Network
        Any two networks with inputs of one shape and outputs of one shape.
    input_range : pair, optional
        (low, high), numbers or arrays of the input's shape; [0, 1] by default.
    around : ndarray, shape (samples, *input_shape), optional
        Certify a ball around each of these samples, not the whole range.
    radius : float, optional
        Of the balls: no input is farther from the sample's. Balls end where the range ends.
    seconds : float, optional
        How long it may take, `Certificate.holds` included; without it, the same is done every time.
        With it, classes are searched for in as many cases as there is time: each box has an equal
        part of it, and what the boxes before it have left.
    classes : bool
        Also certify that both networks give the same class everywhere.
    intervals : bool
        Whether layers without a linear relaxation may take part, by intervals of their values:
        products of layers, softmax inside a network, grids of activations. What both networks have
        in common does not cancel there.

    Returns
    -------
    Certificate

    Raises
    ------
    ShapeError
        Inputs or outputs of different shapes.
    UnsupportedLayerError
        A layer without a linear relaxation: names it. Allowed with intervals.
    ParameterError, SampleError
        An empty or infinite range, a radius ≤ 0, samples outside the range, seconds ≤ 0.

    Notes
    -----
    Bounds are those of CROWN (Zhang et al., 2018, arXiv 1811.00866) and DeepPoly (Singh et al.,
    2019) on both networks at once; see docs/certificates.md.

    Examples
    --------
    >>> import numpy as np
    >>> from netreduce import Dense, Network, certify
    >>> f = Network([Dense([[1.0, -1.0]], activation="relu"), Dense([[1.0], [1.0]])], (1,))
    >>> g = f.replace({1: Dense([[1.0], [0.75]])})
    >>> certificate = certify(f, g, (-1, 1))
    >>> certificate.bound.round(6), certificate.found
    (array([0.25]), array([0.25]))
    >>> certificate.holds(0.3), certificate.holds(0.2)
    ('yes', 'no')
    """
    start = time.monotonic()
    if seconds is not None and not (is_number(seconds) and 0 < seconds < np.inf):
        raise ParameterError(f"seconds must be a finite number above 0, found {seconds!r}")
    problem = problem_of(original, reduced, input_range, around, radius, intervals)
    if classes and len(original.shapes[-1]) != 1:
        raise ParameterError(
            f"classes need one score per class, found outputs of shape {original.shapes[-1]}"
        )
    boxes = len(problem.low)

    deadline = np.inf if seconds is None else start + seconds
    size = _group(problem) if seconds is None else min(_group(problem), GROUP_IN_TIME)
    groups = [np.arange(i, min(i + size, boxes)) for i in range(0, boxes, size)]

    alone = len(groups) == 1 or problem.program.has_maps  # these need the memory for themselves

    def one(index: np.ndarray) -> dict[str, np.ndarray]:
        share = np.inf if seconds is None else start + seconds * (index[-1] + 1) / boxes
        return _certify_boxes(problem, index, classes, alone, deadline, share)

    parts = list(run(one, groups, not alone))
    arrays: dict[str, Any] = {
        key: np.concatenate([part[key] for part in parts]) for key in parts[0]
    }
    cases = int(arrays.pop("cases", np.zeros(1)).sum())
    if not problem.is_of_balls:
        arrays = {key: value[0] for key, value in arrays.items()}
    late = time.monotonic() > deadline
    return Certificate(
        **arrays,
        radius=None if radius is None else float(radius),
        seconds=time.monotonic() - start,
        boxes=boxes + cases,
        notes=("no time left: intervals only for some boxes",) if late else (),
        limit=seconds,
        problem=problem,
    )


def deviation_bound(
    original: Network,
    reduced: Network,
    box: tuple | None = None,
    refine: bool = False,
    *,
    around: np.ndarray | None = None,
    radius: float | None = None,
) -> np.ndarray:
    """An upper bound of |reduced(x) − original(x)| over a box, per output, in real arithmetic.

    Cheaper than `certify`: intervals for the values inside the networks, linear forms for what
    happens to their differences, no search.

    Parameters
    ----------
    box : pair, optional
        (low, high), numbers or arrays of the input's shape; [0, 1] by default.
    refine : bool
        Linear forms for the values inside the networks too, as `certify` has them.
    around, radius : optional
        Balls in the box, as of `certify`: the bound holds in all of them.

    Returns
    -------
    ndarray, shape (*outputs,)

    Examples
    --------
    >>> from netreduce import Dense, Network
    >>> f = Network([Dense([[1.0, -1.0]], activation="relu"), Dense([[1.0], [1.0]])], (1,))
    >>> deviation_bound(f, f.replace({1: Dense([[1.0], [0.75]])}), (-1, 1)).round(6)
    array([0.25])
    """
    problem = problem_of(original, reduced, box, around, radius)
    steps = (Relaxation.refine, Relaxation.refine_difference) if refine else ()
    size = _group(problem)

    def worst(start: int) -> np.ndarray:
        part = slice(start, start + size)
        bounds = Relaxation(problem.program, problem.low[part], problem.high[part], threads=refine)
        return _deviation(problem, bounds.propagate(*steps)).max(axis=0)

    return np.maximum.reduce([worst(i) for i in range(0, len(problem.low), size)])


def _group(problem: Problem) -> int:
    """How many boxes are bounded together."""
    if problem.program.has_maps:
        return 1
    numbers = sum(int(np.prod(node.shape)) for node in problem.program.nodes)
    return max(1, min(GROUP, GROUP_NUMBERS // numbers))


def _certify_boxes(
    problem: Problem,
    index: np.ndarray,
    classes: bool,
    threads: bool,
    deadline: float,
    share: float,
) -> dict[str, np.ndarray]:
    low, high = problem.low[index], problem.high[index]
    late = time.monotonic() > deadline
    forward = problem.program.has_maps and not late
    bounds = Relaxation(problem.program, low, high, threads, forward)
    steps = () if late else (Relaxation.refine, Relaxation.refine_difference)
    bounds.propagate(*steps)
    points = _representable(problem, bounds, first_points(problem, index))
    boxes, count = points.shape[:2]
    computed = deviations(
        problem.original, problem.reduced, points.reshape(-1, *low.shape[1:])
    ).reshape(boxes, count, *problem.original.shapes[-1])
    worst = computed.reshape(boxes, count, -1).max(axis=2).argmax(axis=1)
    result = {
        "bound": _deviation(problem, bounds),
        "rounding": _rounding(problem, bounds),
        "found": computed.max(axis=1),
        "witness": points[np.arange(boxes), worst],
    }
    if classes:
        result["same_class"], result["class_differs"], result["cases"] = _classes(
            problem, bounds, points, share, deadline
        )
    return result


def _representable(problem: Problem, bounds: Relaxation, points: np.ndarray) -> np.ndarray:
    """Points (boxes, points, ...) in the networks' type, still in their boxes."""
    dtype = np.result_type(problem.original.dtype, problem.reduced.dtype)
    low, high = (end[INPUT][:, None] for end in (bounds.low, bounds.high))
    return representable(points, low, high, dtype)


def _deviation(problem: Problem, bounds: Relaxation) -> np.ndarray:
    """The bound per box and output."""
    program, outputs, boxes = problem.program, problem.outputs, bounds.boxes
    first, second = program.outputs
    rows = np.tile(np.concatenate([np.eye(outputs), -np.eye(outputs)]), (boxes, 1))
    rows = rows.reshape(-1, *program.shape(first))
    place = np.repeat(np.arange(boxes), 2 * outputs)
    lower = bounds.lower({first: Rows(-rows), second: Rows(rows)}, place).lower
    bound = np.maximum(*(-lower.reshape(boxes, 2, outputs).swapaxes(0, 1)))
    apart = np.maximum(
        bounds.high[second] - bounds.low[first], bounds.high[first] - bounds.low[second]
    )
    bound = np.fmin(bound, apart.reshape(boxes, -1) * SAFE)
    if second in bounds.difference:
        low, high = bounds.difference[second]
        bound = np.fmin(bound, np.maximum(-low, high).reshape(boxes, -1))
    bound = np.maximum(np.where(np.isnan(bound), np.inf, bound), 0)
    bound = bound.reshape(boxes, *program.shape(first))
    return _of_probabilities(bound) if problem.softmax else bound


def _of_probabilities(error: np.ndarray) -> np.ndarray:
    """What an error of the scores does to probabilities: their gradients have an ℓ1 norm of
    2 p (1 − p) ≤ 1/2.
    """
    worst = error.max(axis=-1, keepdims=True) / 2
    return np.broadcast_to(np.minimum(worst * SAFE, 1.0), error.shape).copy()


def _rounding(problem: Problem, bounds: Relaxation) -> np.ndarray:
    program = problem.plain
    if program is not problem.program:
        bounds = Relaxation(program, bounds.low[INPUT], bounds.high[INPUT]).propagate()
    errors: list[np.ndarray] = []
    for network, end in zip((problem.original, problem.reduced), program.outputs, strict=True):
        error = rounding_errors(bounds, program.needed(end), network.dtype)[end]
        if problem.softmax:
            small = _of_probabilities(error) + 32 * float(np.finfo(network.dtype).eps)
            error = np.where(np.isfinite(error), small, np.inf)
        errors.append(error)
    return errors[0] + errors[1]


def _classes(
    problem: Problem, bounds: Relaxation, points: np.ndarray, share: float, deadline: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By box: whether both networks certainly give one class, and whether a point was found where
    they differ, and how many cases of neurons were looked at. Cases end at `share`, attacks at
    `deadline`, of time.monotonic().
    """
    program, boxes, classes = problem.program, bounds.boxes, problem.outputs
    scores = [program.forward(bounds.center)[node] for node in program.outputs]
    labels = scores[0].argmax(axis=1)
    rows = np.stack([np.delete(-np.eye(classes), label, axis=0) for label in labels])
    rows[np.arange(boxes), :, labels] = 1.0  # score of the class less that of each other one
    place = np.repeat(np.arange(boxes), classes - 1)
    lower = [
        bounds.lower({node: Rows(rows.reshape(-1, classes).copy())}, place).lower
        for node in program.outputs
    ]
    margins = np.stack(lower).reshape(2, boxes, -1)
    same = margins.min(axis=(0, 2), initial=np.inf) > 0
    differs, cases = np.zeros(boxes, bool), np.zeros(boxes, int)
    open_ = np.nonzero(~same)[0]
    for number, box in enumerate(map(int, open_)):
        tried = points[box]
        if time.monotonic() < deadline:
            others = _towards_others(problem, bounds, box, rows[box])
            tried = np.concatenate([tried, others])
        with np.errstate(invalid="ignore", over="ignore"):
            found = np.stack(
                [n.predict(tried).argmax(axis=-1) for n in (problem.original, problem.reduced)]
            )
        differs[box] = (found[0] != found[1]).any()
        now = time.monotonic()
        if (found == labels[box]).all() and can_split(program) and now < share:
            until = now + (share - now) / (len(open_) - number)
            same[box], cases[box] = _by_cases(bounds, box, margins[:, box], rows[box], until)
    return same, differs, cases


def _by_cases(
    bounds: Relaxation, box: int, margins: np.ndarray, rows: np.ndarray, deadline: float
) -> tuple[bool, int]:
    """Whether all margins are positive when neurons are taken case by case, the worst first, and
    how many cases were looked at; margins (2, classes − 1), rows (classes − 1, classes).
    """
    looked, here = 0, bounds.alone(box)
    for at in np.argsort(margins, axis=None, kind="stable"):
        network, row = np.unravel_index(at, margins.shape)
        if margins[network, row] > 0:
            break
        node = bounds.program.outputs[network]
        most = MOST_CASES - looked if np.isinf(deadline) else None
        positive, count = is_positive(here, node, rows[row], most, deadline)
        looked += count
        if not positive:
            return False, looked
    return True, looked


def _towards_others(problem: Problem, bounds: Relaxation, box: int, rows: np.ndarray) -> np.ndarray:
    """Points where one network's score of another class comes close, the other network's not."""
    first, second = problem.program.outputs
    weights = np.concatenate([rows, -rows])
    low, high = (
        np.repeat(end[INPUT][box][None], len(weights), axis=0) for end in (bounds.low, bounds.high)
    )
    steps = STEPS_OF_MAPS if problem.program.has_maps else STEPS
    against = {first: weights, second: -weights}
    points = ascend(problem.program, low, high, low / 2 + high / 2, against, steps)
    dtype = np.result_type(problem.original.dtype, problem.reduced.dtype)
    return representable(points, low, high, dtype)
