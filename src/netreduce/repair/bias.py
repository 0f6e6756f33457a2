"""Bias correction: M. Nagel, M. van Baalen, T. Blankevoort and M. Welling, Data-free quantization
through weight equalization and bias correction, ICCV 2019, section 4.2; with means from samples
(their appendix D).
"""

import numpy as np

from netreduce.network.layers import Layer, Weighted


def correct_bias(layer: Layer, x: np.ndarray, original: Layer, target: np.ndarray) -> Layer:
    """The layer with the bias that gives every output, before the activation, the mean that the
    original layer's has on its own inputs.

    Parameters
    ----------
    layer, original : Layer
        Layers without weights, with a bias on a grid, or of different shapes stay as they are.
    x, target : ndarray
        Inputs of the layer and of the original one.
    """
    if not isinstance(layer, Weighted) or not isinstance(original, Weighted):
        return layer
    if layer.bias.shape != original.bias.shape or has_quantized_bias(layer):
        return layer
    missing = means(original.linear(target)) - means(layer.linear(x))
    return layer.replace(bias=(layer.bias + missing).astype(layer.bias.dtype))


def has_quantized_bias(layer: Weighted) -> bool:
    return layer.quantization is not None and layer.quantization.quantized_bias


def means(y: np.ndarray) -> np.ndarray:
    """Mean of every channel."""
    return y.mean(axis=tuple(range(y.ndim - 1)), dtype=np.float64)
