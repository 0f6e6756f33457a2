"""Certificates: the whole of a pair of networks, from the boxes to the numbers."""

import time

import numpy as np

from netreduce.errors import ParameterError
from netreduce.network import INPUT, Network

from .attack import ascend, deviations, representable
from .bounds import SAFE, Relaxation, Rows, run
from .certificate import Certificate
from .problem import Problem, problem_of
from .rounding import rounding_errors
from .search import first_points


def certify(
    original: Network,
    reduced: Network,
    input_range: tuple | None = None,
    *,
    around: np.ndarray | None = None,
    radius: float | None = None,
    seconds: float | None = None,
    classes: bool = False,
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
    classes : bool
        Also certify that both networks give the same class everywhere.

    Returns
    -------
    Certificate

    Raises
    ------
    ShapeError
        Inputs or outputs of different shapes.
    UnsupportedLayerError
        A layer without a linear relaxation: names it.
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
    if seconds is not None and (isinstance(seconds, bool) or not 0 < seconds < np.inf):
        raise ParameterError(f"seconds must be a finite number above 0, found {seconds!r}")
    problem = problem_of(original, reduced, input_range, around, radius)
    if classes and len(original.shapes[-1]) != 1:
        raise ParameterError(
            f"classes need one score per class, found outputs of shape {original.shapes[-1]}"
        )
    boxes = len(problem.low)

    def one(index):
        late = seconds is not None and time.monotonic() - start > seconds
        return _certify_box(problem, index, classes, boxes == 1, late)

    parts = list(run(one, list(range(boxes))))
    arrays = {key: np.stack([part[key] for part in parts]) for key in parts[0]}
    if not problem.balls:
        arrays = {key: value[0] for key, value in arrays.items()}
    late = seconds is not None and time.monotonic() - start > seconds
    return Certificate(
        **arrays,
        radius=None if radius is None else float(radius),
        seconds=time.monotonic() - start,
        boxes=boxes,
        notes=("no time left: intervals only for some boxes",) if late else (),
        limit=seconds,
        problem=problem,
    )


def deviation_bound(
    original: Network, reduced: Network, box: tuple | None = None, refine: bool = False
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
    problem = problem_of(original, reduced, box)
    bounds = Relaxation(problem.program, problem.low, problem.high, threads=refine)
    steps = (Relaxation.refine, Relaxation.refine_difference) if refine else ()
    return _deviation(problem, bounds.propagate(*steps))


def _certify_box(problem, index, classes, threads, late):
    low, high = problem.low[index : index + 1], problem.high[index : index + 1]
    bounds = Relaxation(problem.program, low, high, threads)
    if late:
        bounds.propagate()
    else:
        bounds.propagate(Relaxation.refine, Relaxation.refine_difference)
    result = {"bound": _deviation(problem, bounds)}
    result["rounding"] = _rounding(problem, bounds)
    points = first_points(problem, index)
    dtype = np.result_type(problem.original.dtype, problem.reduced.dtype)
    points = representable(points, low[0], high[0], dtype)
    found = deviations(problem.original, problem.reduced, points)
    result["found"] = found.max(axis=0)
    result["witness"] = points[found.reshape(len(points), -1).max(axis=1).argmax()]
    if classes:
        same, differs = _classes(problem, bounds, points, dtype)
        result["same_class"], result["class_differs"] = np.array(same), np.array(differs)
    return result


def _deviation(problem: Problem, bounds: Relaxation) -> np.ndarray:
    """The bound per output of the only box."""
    program, outputs = problem.program, problem.outputs
    first, second = program.outputs
    shape = program.shape(first)
    rows = np.concatenate([np.eye(outputs), -np.eye(outputs)]).reshape(-1, *shape)
    place = np.zeros(2 * outputs, np.int64)
    lower = bounds.lower({first: Rows(-rows), second: Rows(rows.copy())}, place).lower
    bound = np.maximum(-lower[:outputs], -lower[outputs:])
    apart = np.maximum(
        bounds.high[second] - bounds.low[first], bounds.high[first] - bounds.low[second]
    ).reshape(-1)
    bound = np.fmin(bound, apart * SAFE)
    if second in bounds.difference:
        low, high = bounds.difference[second]
        bound = np.fmin(bound, np.maximum(-low, high).reshape(-1))
    bound = np.maximum(np.where(np.isnan(bound), np.inf, bound), 0).reshape(shape)
    return _of_probabilities(bound) if problem.softmax else bound


def _of_probabilities(error: np.ndarray) -> np.ndarray:
    """What an error of the scores does to probabilities: their gradients have an ℓ1 norm of
    2 p (1 − p) ≤ 1/2.
    """
    worst = error.max(axis=-1, keepdims=True) / 2
    return np.broadcast_to(np.minimum(worst * SAFE, 1.0), error.shape).copy()


def _rounding(problem, bounds):
    program = problem.plain
    if program is not problem.program:
        bounds = Relaxation(program, bounds.low[INPUT], bounds.high[INPUT]).propagate()
    total = 0.0
    for network, end in zip((problem.original, problem.reduced), program.outputs, strict=True):
        error = rounding_errors(bounds, program.needed(end), network.dtype)[end][0]
        if problem.softmax:
            error = _of_probabilities(error) + 32 * float(np.finfo(network.dtype).eps)
        total = total + error
    return total


def _classes(problem, bounds, points, dtype):
    """Whether both networks give one class on the box, and whether a point with two was found."""
    program, outputs = problem.program, problem.outputs
    center = bounds.center
    values = program.forward(center)
    scores = [values[node][0] for node in program.outputs]
    chosen = {int(score.argmax()) for score in scores}
    if len(chosen) == 1:
        label = chosen.pop()
        rows = np.delete(-np.eye(outputs), label, axis=0)
        rows[:, label] = 1.0
        place = np.zeros(len(rows), np.int64)
        margins = [bounds.lower({node: Rows(rows.copy())}, place).lower for node in program.outputs]
        if all((margin > 0).all() for margin in margins):
            return True, False
        points = np.concatenate([points, _towards_others(problem, bounds, rows, margins, dtype)])
    with np.errstate(invalid="ignore", over="ignore"):
        classes = [n.predict(points).argmax(axis=-1) for n in (problem.original, problem.reduced)]
    return False, bool((classes[0] != classes[1]).any())


def _towards_others(problem, bounds, rows, margins, dtype):
    """Points where one network's score of another class comes close, the other network's not."""
    first, second = problem.program.outputs
    weights = np.concatenate([rows, -rows])
    low = np.broadcast_to(bounds.low[INPUT], (len(weights), *bounds.low[INPUT].shape[1:]))
    high = np.broadcast_to(bounds.high[INPUT], low.shape)
    points = ascend(
        problem.program, low, high, low / 2 + high / 2, {first: weights, second: -weights}
    )
    return representable(points, low, high, dtype)
