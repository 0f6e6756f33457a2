"""Memoryless scalar quantization: every weight goes to its nearest level."""

import numpy as np


def msq(weights, alphabet, pruned=None):
    """Codes of the nearest levels, 0 for pruned weights; a function of the weights alone."""
    return (
        alphabet.nearest(weights)
        if pruned is None
        else np.where(pruned, 0, alphabet.nearest(weights))
    )
