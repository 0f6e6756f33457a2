"""Euclidean norms, rounded up."""

import numpy as np

SAFETY = 1 + 1e-9  # covers the rounding of the sums of non-negative terms that make a bound


def length(values: np.ndarray) -> float:
    largest = float(values.max(initial=0))
    if not 0 < largest < np.inf:
        return largest
    return largest * float(np.linalg.norm((values / largest).ravel())) * SAFETY
