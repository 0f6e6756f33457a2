"""Euclidean norms, rounded up."""

import math

import numpy as np

SAFETY = 1 + 1e-9  # covers the rounding of the sums of non-negative terms that make a bound
LARGE_MATRIX = 1024  # up to which its largest singular value is computed


def spectral_norm(matrix: np.ndarray) -> float:
    """The largest singular value; for large matrices a cheaper bound of it."""
    if not np.isfinite(matrix).all():
        return np.inf
    scale = float(np.abs(matrix).max(initial=0))
    if scale == 0:
        return 0.0
    matrix = matrix / scale
    if min(matrix.shape) > LARGE_MATRIX:
        return scale * math.sqrt(
            np.abs(matrix).sum(axis=0).max() * np.abs(matrix).sum(axis=1).max()
        )
    gram = matrix.T @ matrix if matrix.shape[0] >= matrix.shape[1] else matrix @ matrix.T
    return scale * math.sqrt(np.linalg.norm(gram, 2) * SAFETY)


def length(values: np.ndarray) -> float:
    largest = float(values.max(initial=0))
    if not 0 < largest < np.inf:
        return largest
    return largest * float(np.linalg.norm((values / largest).ravel())) * SAFETY
