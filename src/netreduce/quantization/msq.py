"""Memoryless scalar quantization: every weight goes to its nearest level."""

import numpy as np

from .alphabet import Alphabet


def msq(weights: np.ndarray, alphabet: Alphabet, pruned: np.ndarray | None = None) -> np.ndarray:
    """Codes of the nearest levels, 0 for pruned weights; a function of the weights alone."""
    codes = alphabet.nearest(weights)
    return codes if pruned is None else np.where(pruned, 0, codes)
