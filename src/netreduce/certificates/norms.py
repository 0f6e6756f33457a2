"""Euclidean norms of linear maps, rounded up."""

import math

import numpy as np

LARGEST_GRAM = 1024  # rows or columns
SAFE = 1 + 1e-9  # covers the rounding of MᵀM and of its largest eigenvalue, and of sums


def spectral_norm(matrix: np.ndarray) -> float:
    """At least ‖matrix‖₂: the root of the largest eigenvalue of MᵀM; of large matrices the bound by
    row and column sums, or Frobenius'.

    Examples
    --------
    >>> round(spectral_norm(np.array([[3.0, 0.0], [4.0, 0.0]])), 6)
    5.0
    """
    if not np.isfinite(matrix).all():
        return np.inf
    scale = float(np.abs(matrix).max(initial=0))
    if scale == 0:
        return 0.0
    matrix = matrix / scale
    if min(matrix.shape) > LARGEST_GRAM:
        sums = [math.sqrt(np.abs(matrix).sum(axis=axis).max()) for axis in (0, 1)]
        return scale * min(sums[0] * sums[1], float(np.linalg.norm(matrix))) * SAFE
    gram = matrix.T @ matrix if matrix.shape[0] > matrix.shape[1] else matrix @ matrix.T
    return scale * math.sqrt(float(np.linalg.eigvalsh(gram)[-1])) * SAFE


def length(values: np.ndarray) -> float:
    """The Euclidean norm of all values, which are none below 0."""
    largest = float(values.max(initial=0))
    if not 0 < largest < np.inf:
        return largest
    return largest * float(np.linalg.norm((values / largest).ravel())) * SAFE
