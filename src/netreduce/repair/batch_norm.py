"""Batch normalization estimated again: its means and variances are those of the inputs that the
reduced network gives it, as in X. Sun et al., Hybrid 8-bit floating point training and inference
for deep neural networks, NeurIPS 2019 (and others before).
"""

import numpy as np

from netreduce.errors import SampleError
from netreduce.network.layers import BatchNormalization, Layer


def estimate_batch_norm(layer: Layer, x: np.ndarray, original: Layer, target: np.ndarray) -> Layer:
    """The layer with mean and variance of its inputs `x`; layers of other kinds stay as they are.

    Those of the original network are not used: what it learnt about them was of its own inputs.

    Raises
    ------
    SampleError
        One sample, which has no variance.
    """
    if not isinstance(layer, BatchNormalization):
        return layer
    axes = tuple(range(x.ndim - 1))
    if x.size == x.shape[-1]:
        raise SampleError("batch normalization needs more than one sample: one has no variance")
    return layer.replace(
        mean=x.mean(axis=axes, dtype=np.float64).astype(layer.mean.dtype),
        variance=x.var(axis=axes, dtype=np.float64).astype(layer.variance.dtype),
    )
