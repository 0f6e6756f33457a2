"""Least-squares correction: the weights that come nearest to the original layer's outputs on the
inputs that are left, as He, Zhang and Sun reconstruct feature maps after pruning channels (Channel
pruning for accelerating very deep neural networks, ICCV 2017).
"""

from collections.abc import Iterator

import numpy as np
from scipy.linalg import solve

from netreduce.folding.scaling import scaled_outputs
from netreduce.network.layers import Conv2D, Dense, Layer, Weighted

from .bias import has_quantized_bias, means

DAMPING = 1e-3  # of the mean variance of the inputs: a pull to the weights as they are
ROWS = 1 << 14  # at a time


def fit_weights(layer: Layer, x: np.ndarray, original: Layer, target: np.ndarray) -> Layer:
    """The layer with weights and bias of the least squared difference from the original layer's
    outputs before the activation.

    Parameters
    ----------
    layer, original : Layer
        Layers without weights, with a bias on a grid, or with other outputs stay as they are. Zeros
        of the kernel stay zero. Where its weights are on a grid, or each channel has its own
        (depthwise convolution), one factor for every output is fitted, not every weight.
    x, target : ndarray
        Inputs of the layer and of the original one.
    """
    if not isinstance(layer, Weighted) or not isinstance(original, Weighted):
        return layer
    if layer.bias.shape != original.bias.shape or has_quantized_bias(layer):
        return layer
    wanted = original.linear(target)
    whole = isinstance(layer, Dense) or (isinstance(layer, Conv2D) and layer.groups == 1)
    if whole and layer.quantization is None:
        layer = _fit_kernel(layer, x, wanted)
    else:
        layer = _fit_factors(layer, x, wanted)
    missing = means(wanted) - means(layer.linear(x))
    return layer.replace(bias=(layer.bias + missing).astype(layer.bias.dtype))


def _fit_kernel(layer: Weighted, x: np.ndarray, wanted: np.ndarray) -> Weighted:
    size, outputs = layer.kernel[..., 0].size, layer.outputs
    H, C = np.zeros((size, size)), np.zeros((size, outputs))
    sums, sums_wanted, count = np.zeros(size), np.zeros(outputs), 0
    for rows, targets in _rows(layer, x, wanted):
        H += rows.T @ rows
        C += rows.T @ targets
        sums, sums_wanted = sums + rows.sum(axis=0), sums_wanted + targets.sum(axis=0)
        count += len(rows)
    H -= np.outer(sums, sums) / count
    C -= np.outer(sums, sums_wanted) / count
    kernel = layer.kernel.reshape(size, outputs).astype(np.float64)
    pull = DAMPING * (np.trace(H) / size or 1.0)
    fitted = np.zeros(kernel.shape)
    patterns, members = np.unique(kernel != 0, axis=1, return_inverse=True)
    for number, pattern in enumerate(patterns.T):
        neurons = np.flatnonzero(members.ravel() == number)
        if pattern.any():
            here = np.ix_(pattern, neurons)
            fitted[here] = solve(
                H[np.ix_(pattern, pattern)] + pull * np.eye(int(pattern.sum())),
                C[here] + pull * kernel[here],
                assume_a="pos",
            )
    return layer.replace(kernel=fitted.reshape(layer.kernel.shape).astype(layer.kernel.dtype))


def _rows(
    layer: Weighted, x: np.ndarray, wanted: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows that the kernel is multiplied by, and what should come out, in float64, some samples at
    a time.
    """
    size, outputs = layer.kernel[..., 0].size, layer.outputs
    step = max(1, ROWS * outputs * len(wanted) // wanted.size)
    for start in range(0, len(x), step):
        part = x[start : start + step]
        rows = layer.patches(part) if isinstance(layer, Conv2D) else part
        yield (
            rows.reshape(-1, size).astype(np.float64),
            wanted[start : start + step].reshape(-1, outputs).astype(np.float64),
        )


def _fit_factors(layer: Weighted, x: np.ndarray, wanted: np.ndarray) -> Weighted:
    """The layer with every output's weights times a factor: the slope of the regression of what is
    wanted on what comes out. Where that is not positive, 1.
    """
    found = layer.linear(x).reshape(-1, layer.outputs).astype(np.float64)
    wanted = wanted.reshape(-1, layer.outputs).astype(np.float64)
    found, wanted = found - found.mean(axis=0), wanted - wanted.mean(axis=0)
    inner, square = (found * wanted).sum(axis=0), (found**2).sum(axis=0)
    fits = (inner > 0) & (square > 0)
    factor = np.where(fits, inner / np.where(fits, square, 1.0), 1.0)
    return scaled_outputs(layer, factor, np.zeros(layer.outputs)).replace(bias=layer.bias)
