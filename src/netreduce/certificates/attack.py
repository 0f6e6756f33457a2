"""Search for inputs that drive two networks apart, or over a class boundary: projected gradient
ascent from many points at once (Madry et al., 2018).

Gradients are those of the program, in float64; what counts is what the networks compute.
"""

import numpy as np

from netreduce.network import INPUT, Network

from .enclosures import Enclosure
from .functions import Function
from .kernels import flat
from .operators import Linear, Rows, densify_rows
from .program import Program

STEPS = 30


def ascend(
    program: Program,
    low: np.ndarray,
    high: np.ndarray,
    start: np.ndarray,
    weights: dict[int, np.ndarray],
    steps: int = STEPS,
) -> np.ndarray:
    """Points of boxes where weighted outputs are large.

    Parameters
    ----------
    low, high, start : ndarray, shape (points, *input_shape)
    weights : dict of int to ndarray, shape (points, *shape)
        By node: the objective is Σ weights · values.

    Returns
    -------
    ndarray, shape (points, *input_shape)
        The best ones on the way.
    """
    x, half = start, (high - low) / 2
    best, best_value = start.copy(), np.full(len(start), -np.inf)
    for step in range(steps + 1):
        values = program.forward(x)
        value = sum(
            (w * values[node]).reshape(len(x), -1).sum(axis=1) for node, w in weights.items()
        )
        better = value > best_value
        best[better], best_value[better] = x[better], value[better]
        if step == steps:
            break
        move = np.sign(gradient(program, x, values, weights))
        x = np.clip(x + move * half * (1 - step / steps), low, high)
    return best


def gradient(
    program: Program, x: np.ndarray, values: list[np.ndarray], weights: dict[int, np.ndarray]
) -> np.ndarray:
    """Gradients of Σ weights · values at points, shape as x; not through enclosures."""
    pending = {node: Rows(w.copy()) for node, w in weights.items()}
    for index in range(max(pending), -1, -1):
        rows = pending.pop(index, None)
        if rows is None:
            continue
        node = program.nodes[index]
        operator, source = node.operator, node.sources[0]
        if isinstance(operator, Enclosure):
            continue
        before = x if source == INPUT else values[source]
        if isinstance(operator, Linear):
            given = operator.transposed(rows)
        elif isinstance(operator, Function):
            given = (Rows(rows.values * operator.derivative(before)),)
        else:
            count = len(x)
            given = (
                operator.transposed(
                    rows,
                    np.arange(count),
                    operator.choice(before),
                    flat(np.zeros_like(values[index])),
                    np.zeros(count),
                    np.zeros(count),
                ),
            )
        for target, part in zip(node.sources, given, strict=True):
            shape = program.shape(target)
            pending[target] = (
                pending[target].plus(part, shape) if target in pending else Rows(part.values.copy())
            )
    rows = pending.get(INPUT)
    return np.zeros_like(x) if rows is None else densify_rows(rows, program.input_shape).values


def representable(
    points: np.ndarray, low: np.ndarray, high: np.ndarray, dtype: np.dtype
) -> np.ndarray:
    """The points in another floating type, still inside their boxes wherever it has numbers."""
    out = points.astype(dtype)
    out = np.where(out < low, np.nextafter(out, dtype.type(np.inf)), out)
    return np.where(out > high, np.nextafter(out, dtype.type(-np.inf)), out)


def deviations(original: Network, reduced: Network, points: np.ndarray) -> np.ndarray:
    """|g(x) − f(x)| as the networks compute it, infinite where either is not finite."""
    with np.errstate(invalid="ignore", over="ignore"):
        out = np.abs(reduced.predict(points).astype(float) - original.predict(points).astype(float))
    return np.where(np.isfinite(out), out, np.inf)
