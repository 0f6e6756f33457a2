"""Projection onto ℓ¹ balls, neuron by neuron."""

import numpy as np


def threshold(v: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """The λ for which sign(v) · max(|v| − λ, 0) is the nearest point of the ℓ¹ ball, 0 inside it.

    J. Duchi, S. Shalev-Shwartz, Y. Singer and T. Chandra, Efficient projections onto the ℓ1-ball
    for learning in high dimensions, ICML 2008, figure 1.

    Parameters
    ----------
    v : ndarray, shape (groups, inputs, neurons)
    radius : ndarray, shape (groups, neurons)

    Returns
    -------
    ndarray, shape (groups, neurons)

    Examples
    --------
    >>> threshold(np.array([[[3.0], [1.0]]]), np.array([[2.0]]))
    array([[1.]])
    """
    sizes = -np.sort(-np.abs(v), axis=1)
    excess = np.cumsum(sizes, axis=1) - radius[:, None]
    counts = np.arange(1, v.shape[1] + 1)[None, :, None]
    last = np.maximum((sizes * counts > excess).sum(axis=1, keepdims=True), 1) - 1
    return np.maximum(np.take_along_axis(excess / counts, last, axis=1)[:, 0], 0.0)
