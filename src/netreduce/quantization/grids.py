"""The grid of a quantized network found again from its weights, for networks whose file does not
say it.
"""

from math import log2

import numpy as np

from netreduce.network import Network
from netreduce.network.layers import Quantization, Weighted

LARGEST_CODE = 255  # of alphabets of at most 8 bits
PRECISION = 2.0**-21  # relative: a level is a product of rounded float32 numbers


def with_grids(network: Network) -> Network:
    """The network with the quantization of every layer whose weights lie on a grid; grids that the
    network already knows stay.

    The kernels move onto the grid, which changes them by no more than rounding did.
    """
    found = {}
    for index, layer in enumerate(network.layers):
        if isinstance(layer, Weighted) and layer.quantization is None:
            grid = find_grid(layer.kernel)
            if grid is not None:
                found[index] = layer.replace(
                    kernel=(grid.scale * grid.codes(layer.kernel)).astype(layer.kernel.dtype),
                    quantization=grid,
                )
    return network.replace(found)


def find_grid(kernel: np.ndarray) -> Quantization | None:
    """The coarsest grid, symmetric about 0, on which all weights lie.

    Odd multiples of a step are taken for the smallest alphabet of 2^b levels that holds them, in
    which zeros are weights of dead inputs; {−r, 0, r} is ternary; other multiples are an alphabet
    of an odd number of levels, 0 among them. Where the outermost levels are unused, the true radius
    is larger. What it was computed from, such as the median of the analog weights, is not in the
    quantized ones.

    Parameters
    ----------
    kernel : ndarray

    Returns
    -------
    Quantization or None
        None where the weights lie on no such grid of at most 8 bits. The alphabet has L = 2^bits
        levels, radius (L − 1) · scale and 2 · scale between neighbouring levels.
    """
    magnitudes = np.unique(np.abs(kernel))
    has_zero, magnitudes = magnitudes[0] == 0, magnitudes[magnitudes > 0]
    if (
        not len(magnitudes)
        or len(magnitudes) > LARGEST_CODE
        or np.count_nonzero(kernel) == len(magnitudes)
    ):
        return None  # no weights but zeros, or numbers that never recur
    step = _common_divisor(magnitudes.astype(np.float64))
    if step is None:
        return None
    codes = np.rint(magnitudes / step)
    step = _step_that_rounds_to(magnitudes, codes)
    if (np.abs(step * codes - magnitudes) > PRECISION * magnitudes).any():
        return None
    top = int(codes[-1])
    if (codes % 2 == 0).any() or (has_zero and top == 1):
        return Quantization(np.asarray(step / 2), log2(2 * top + 1))
    return Quantization(np.asarray(step), float(top.bit_length()))


def _common_divisor(magnitudes: np.ndarray) -> float | None:
    """The largest number of which all magnitudes (ascending) are multiples, None where the largest
    is more than LARGEST_CODE times that.
    """
    largest = magnitudes[-1]
    least = largest / (LARGEST_CODE + 0.5)
    step = largest
    for magnitude in magnitudes:
        a, b = step, magnitude
        while b > least / 2:
            a, b = b, abs(a - b * np.rint(a / b))
        if a < least:
            return None
        step = largest / np.rint(largest / a)  # so that errors do not add up
    return step


def _step_that_rounds_to(magnitudes: np.ndarray, codes: np.ndarray) -> float:
    """The step, float64, whose multiples round to the magnitudes; where there is none, one that
    comes close.
    """
    below, above = (
        (magnitudes.astype(np.float64) + np.nextafter(magnitudes, limit)) / 2
        for limit in (0, np.inf)
    )
    low, high, plain = (
        (below / codes).max(),
        (above / codes).min(),
        magnitudes[-1].astype(np.float64) / codes[-1],
    )
    return plain if low < plain < high else (low + high) / 2
