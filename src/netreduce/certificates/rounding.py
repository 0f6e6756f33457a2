"""What floating-point evaluation of networks can add: for any order of summation, in their type.

Every node adds a local error, γ_n times the magnitudes of what it sums (Higham, section 3.1), and
passes on those of its inputs: value by value at most by the magnitudes of its coefficients and
slopes, in the Euclidean norm at most by its own. The latter is smaller behind many layers.
"""

from functools import reduce

import numpy as np

from netreduce.network import INPUT

from .bounds import SAFE, Relaxation, by_box, length
from .enclosures import Enclosure
from .functions import Function, Rectifier
from .operators import Linear

STEPS = 8  # roundings of a number besides its sum: batch normalization, casts of parameters
FUNCTION_ULPS = 16
OVERFLOW = 4  # how far below the largest number sums are still taken to stay finite


def rounding_errors(bounds: Relaxation, nodes: set[int], dtype: np.dtype) -> dict[int, np.ndarray]:
    """How far the computed values of nodes may be from those in real arithmetic.

    Parameters
    ----------
    nodes : set of int
        Those of one network.
    dtype : dtype
        In which it is evaluated.

    Returns
    -------
    dict of int to ndarray, shape (boxes, *shape)
        Infinite where numbers may be too large for the type.
    """
    zero = np.zeros_like(bounds.low[INPUT])
    unit = float(np.finfo(dtype).eps) / 2
    least = float(np.finfo(dtype).smallest_normal)
    errors = {INPUT: _unless_overflow(zero, bounds.magnitude(INPUT), dtype)}
    norms = {INPUT: length(errors[INPUT])}
    for index in sorted(nodes):
        node = bounds.program.nodes[index]
        operator, inputs = node.operator, [errors[s] for s in node.sources]
        total = reduce(np.add, [norms[s] for s in node.sources])
        own: np.ndarray | float = 0.0
        if isinstance(operator, Linear):
            terms = operator.terms + STEPS
            factor = terms * unit / (1 - terms * unit) if terms * unit < 0.5 else np.inf
            size = operator.magnitude(
                *(bounds.magnitude(s) + e for s, e in zip(node.sources, inputs, strict=True))
            )
            for constant in (operator.bias, operator.bias_size):
                if constant is not None:
                    size = size + np.abs(constant)
            rows = np.broadcast_to(operator.row_norms, node.shape)
            passed = np.fmin(operator.magnitude(*inputs), by_box(total, rows.ndim) * rows)
            own = factor * size + terms * least
            total = operator.norm * total
        elif isinstance(operator, Function):
            steep = max(map(abs, operator.slopes))
            passed, total = steep * inputs[0], steep * total
            size = bounds.magnitude(index) + passed
            if not isinstance(operator, Rectifier) or operator.slope.any():
                own = FUNCTION_ULPS * unit * np.maximum(1, size)
        elif isinstance(operator, Enclosure):
            sizes = [bounds.magnitude(s) for s in node.sources]
            passed = operator.rounding(sizes, inputs, unit)
            size, total = bounds.magnitude(index) + passed, np.full(len(zero), np.inf)
        else:
            passed = size = operator.forward(inputs[0])
            total = operator.norm * total
        error = _unless_overflow((passed + own) * SAFE, size, dtype)
        errors[index] = error
        own = length(np.broadcast_to(own, error.shape))
        norms[index] = np.fmin((total + own) * SAFE, length(error))
    return errors


def _unless_overflow(error: np.ndarray, size: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The errors of a node, shape (boxes, *shape); infinite, of all its values, in boxes where what
    it sums may be too large for the type.
    """
    sizes = np.maximum(size, error).reshape(len(error), -1).max(axis=1, initial=0.0)
    fits = sizes < float(np.finfo(dtype).max) / OVERFLOW  # NaN does not
    return np.where(fits.reshape(-1, *[1] * (error.ndim - 1)), error, np.inf)
