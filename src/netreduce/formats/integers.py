"""Kernels of quantized layers as the narrow integers that files for deployment hold."""

from dataclasses import dataclass

import numpy as np

from netreduce.network.layers import Conv2DTranspose, Quantization, Weighted

WIDTHS = (2, 4, 8, 16)  # bits of the integers that formats have


@dataclass(frozen=True, eq=False)
class IntegerKernel:
    """A kernel as (integers − offset) · step · alive.

    Attributes
    ----------
    integers : ndarray of uint16, of the kernel's shape
    width : int
        Bits that hold each of them: 2, 4, 8 or 16.
    offset : float
        A whole number, or one and a half.
    step : ndarray of float64
        Has as many axes as the kernel, and broadcasts against it.
    spacing : int
        How many codes lie between neighbouring integers: step = spacing · scale.
    quantization : Quantization
        The layer's.
    alive : ndarray of bool, optional
        The same, where inputs are dead whose weight 0 is not a level of the grid.
    """

    integers: np.ndarray
    width: int
    offset: float
    step: np.ndarray
    spacing: int
    quantization: Quantization
    alive: np.ndarray | None = None


def integer_kernel(layer: Weighted) -> IntegerKernel | None:
    """The kernel of a layer as integers, or None for an analog layer, or codes beyond 16 bits.

    Examples
    --------
    >>> from netreduce import Dense, Quantization
    >>> layer = Dense([[-0.5], [0.5], [1.5]], quantization=Quantization(0.5, bits=2))
    >>> kernel = integer_kernel(layer)
    >>> kernel.integers.ravel().tolist(), kernel.offset, kernel.step.item(), kernel.width
    ([0, 1, 2], 0.5, 1.0, 2)
    """
    quantization, codes = layer.quantization, layer.codes
    if quantization is None or codes is None:
        return None
    whole = _narrow(quantization, codes, codes)
    outputs = 2 if isinstance(layer, Conv2DTranspose) else codes.ndim - 1
    alive: np.ndarray = np.any(codes != 0, axis=outputs, keepdims=True)
    if alive.all() or not alive.any():
        return whole
    masked = _narrow(quantization, codes, codes[np.broadcast_to(alive, codes.shape)], alive)
    if masked is None or (whole is not None and whole.width <= masked.width):
        return whole
    return masked


def _narrow(
    quantization: Quantization,
    codes: np.ndarray,
    live: np.ndarray,
    alive: np.ndarray | None = None,
) -> IntegerKernel | None:
    """Codes counted from the least live one in steps as wide as all live ones allow."""
    least, most = int(live.min()), int(live.max())
    spacing = int(np.gcd.reduce(live.ravel() - least))
    spacing = max(int(np.gcd(spacing, 2 * least)), 1)  # half integers at most as the offset
    levels = (most - least) // spacing + 1
    width = next((width for width in WIDTHS if levels <= 1 << width), None)
    if width is None:
        return None
    integers = np.clip((codes - least) // spacing, 0, levels - 1).astype(np.uint16)
    scale = quantization.scale
    step = spacing * scale.reshape((1,) * (codes.ndim - scale.ndim) + scale.shape)
    return IntegerKernel(integers, width, -least / spacing, step, spacing, quantization, alive)
