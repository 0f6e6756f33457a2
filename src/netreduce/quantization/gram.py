"""The samples as the methods see them: H = X̃ᵀX̃ and G = X̃ᵀX, accumulated chunk by chunk in float64.

The weights of a layer form groups that are quantized independently: one group for a Dense layer and for a convolution with all
input channels together (conv="joint"); one per input channel for conv="channel" and for a depthwise convolution.
"""

import numba
import numpy as np

from ..layers import Dense, DepthwiseConv2D
from .walk import in_threads

BLOCK_BYTES = 1 << 24  # rows of a float64 matrix that are multiplied at a time


def has_one_group(layer, conv) -> bool:
    return isinstance(layer, Dense) or (conv == "joint" and not isinstance(layer, DepthwiseConv2D))


def to_groups(array, layer, conv) -> np.ndarray:
    """An array of the kernel's shape (or one that broadcasts to it) as (groups, inputs, neurons)."""
    if has_one_group(layer, conv):
        return array.reshape(1, -1, array.shape[-1])
    return array.transpose(2, 0, 1, 3).reshape(array.shape[2], -1, array.shape[3])


def from_groups(groups, layer, conv) -> np.ndarray:
    """Inverse of `to_groups` for the whole kernel."""
    shape = layer.kernel.shape
    if has_one_group(layer, conv):
        return groups.reshape(shape)
    return groups.reshape(shape[2], *shape[:2], shape[3]).transpose(1, 2, 0, 3)


def accumulate(layer, conv, pairs, constant=False):
    """Gram matrices of a layer's inputs.

    Parameters
    ----------
    layer : Dense, Conv2D or DepthwiseConv2D
    conv : {"channel", "joint"}
    pairs : iterable of (quantized, analog)
        Chunks of the layer's input in both networks. `analog` is None when G is not wanted, and `quantized` itself where both agree.
    constant : bool
        Whether a constant input 1 (that of the bias) comes after the others; one group only.

    Returns
    -------
    G, H : ndarray, shape (groups, inputs, inputs), float64
        One array twice when every analog chunk was None or `quantized` itself.
    """
    gram = _Rows(layer, constant) if has_one_group(layer, conv) else _Windows(layer)
    for quantized, analog in pairs:
        gram.add(quantized, quantized if analog is None else analog)
    return gram.result()


class _Rows:
    """One group: the input is a matrix whose rows are samples, or windows of samples."""

    def __init__(self, layer, constant):
        self.layer, self.inputs = layer, layer.kernel[..., 0].size
        size = self.inputs + constant
        self.H, self.G = np.zeros((size, size)), None
        self.buffers = np.ones((2, max(1, BLOCK_BYTES // (8 * size)), size))

    def add(self, quantized, analog):
        if isinstance(self.layer, Dense):
            rows = quantized, analog
            step = self.buffers.shape[1]
        else:
            rows = self.layer.patches(quantized), self.layer.patches(analog)
            step = max(1, self.buffers.shape[1] // (rows[0].shape[1] * rows[0].shape[2]))
        for start in range(0, len(quantized), step):
            X = self._matrix(0, rows[0][start : start + step])
            self.H += X.T @ X
            if analog is not quantized:
                if self.G is None:
                    self.G = np.zeros_like(self.H)
                self.G += X.T @ self._matrix(1, rows[1][start : start + step])

    def _matrix(self, which, rows):
        count = rows.size // self.inputs
        if count > self.buffers.shape[1]:
            self.buffers = np.ones((2, count, self.buffers.shape[2]))
        matrix = self.buffers[which, :count]
        np.copyto(matrix[:, : self.inputs].reshape(rows.shape) if rows.ndim > 2 else matrix[:, : self.inputs], rows)
        return matrix

    def result(self):
        H = self.H[None]
        return (H if self.G is None else self.G[None]), H


class _Windows:
    """One group per channel: the windows of that channel."""

    def __init__(self, layer):
        self.layer = layer
        self.H, self.G = 0.0, None

    def add(self, quantized, analog):
        rows, columns = self.layer.patches(quantized[:1]).shape[1:3]
        padded = self.layer.padded(quantized.astype(np.float64))
        self.H = self.H + self._correlate(padded, padded, rows, columns)
        if analog is not quantized:
            G = self._correlate(padded, self.layer.padded(analog.astype(np.float64)), rows, columns)
            self.G = G if self.G is None else self.G + G

    def _correlate(self, left, right, rows, columns):
        window = self.layer.kernel.shape[:2]
        size, channels = window[0] * window[1], left.shape[-1]
        sums = np.zeros((len(left), size, size, channels))
        in_threads(
            lambda start, stop: _correlate(left, right, rows, columns, *window, *self.layer.strides, *self.layer.dilation, sums, start, stop),
            len(left),
        )
        return sums.sum(axis=0).transpose(2, 0, 1)

    def result(self):
        H = np.ascontiguousarray(self.H)
        return (H if self.G is None else np.ascontiguousarray(self.G)), H


@numba.njit(nogil=True, cache=True)
def _correlate(left, right, rows, columns, height, width, down, across, gap_down, gap_across, sums, start, stop):
    """Adds, per sample and channel, the products of all pairs of window entries over all windows."""
    for sample in range(start, stop):
        for y in range(rows):
            for x in range(columns):
                for a in range(height * width):
                    p = left[sample, y * down + a // width * gap_down, x * across + a % width * gap_across]
                    for b in range(height * width):
                        r = right[sample, y * down + b // width * gap_down, x * across + b % width * gap_across]
                        s = sums[sample, a, b]
                        for c in range(len(s)):
                            s[c] += p[c] * r[c]
