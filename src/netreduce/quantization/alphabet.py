"""Quantization alphabets: 2^bits equispaced levels on [−r, r], the odd multiples of a scale
(ternary: −r, 0, r).
"""

from dataclasses import dataclass
from math import isclose, log2
from numbers import Real

import numpy as np

from netreduce.errors import ParameterError

RADII = ("median", "max", "mse")
MSE_CANDIDATES = 200  # radii tried by radius="mse"


@dataclass(frozen=True, eq=False)
class Alphabet:
    """The levels scale · (2k − top), k = 0 … top; `scale` broadcasts against the weights.

    Attributes
    ----------
    scale : ndarray
        Half the distance between neighbouring levels, float64.
    top : int
        Number of levels less one: the largest code.
    """

    scale: np.ndarray
    top: int

    @property
    def has_zero(self) -> bool:
        return self.top % 2 == 0

    def group(self, number) -> "Alphabet":
        """The alphabet of one group, where the scale has shape (groups, 1, neurons), (1, 1,
        neurons) or ().
        """
        return (
            self
            if np.ndim(self.scale) == 0
            else Alphabet(self.scale[number if len(self.scale) > 1 else 0], self.top)
        )

    def nearest(self, weights) -> np.ndarray:
        """Codes (odd or even integers, level = scale · code) of the nearest levels; of two equally
        near ones, the lower.
        """
        return (
            2 * np.clip(np.ceil((weights / self.scale + self.top) / 2 - 0.5), 0, self.top)
            - self.top
        )


def level_count(bits) -> int:
    """Number of levels of an alphabet of that many bits: 2^bits, and 3 for 1.58 (log2 3).

    Raises
    ------
    ParameterError
        For anything but 1.58 and whole numbers from 2 to 8.
    """
    if isinstance(bits, Real) and not isinstance(bits, bool):
        if isclose(bits, log2(3), abs_tol=0.006):
            return 3
        if bits in range(2, 9):
            return 2 ** int(bits)
    raise ParameterError(
        f"bits must be 1.58 (ternary) or a whole number from 2 to 8, found {bits!r}"
    )


def make_alphabet(
    kernel, bits, alphabet_scalar=2.0, radius="median", axes=None, keep_zeros=False
) -> Alphabet:
    """The alphabet of a layer.

    Parameters
    ----------
    kernel : ndarray
    bits : number
        See `level_count`.
    alphabet_scalar : float
        Factor of the median; the other radii do not use it.
    radius : {"median", "max", "mse"}
        r = alphabet_scalar · median |W| (the published alphabet), max |W|, or the r in (0, max |W|]
        with the least squared rounding error.
    axes : tuple of int, optional
        Axes of the kernel that share an alphabet; by default all of them.
    keep_zeros : bool
        Leave weights that are zero out of account: they are pruned, and need no level.

    Raises
    ------
    ParameterError
        When the radius is zero: a layer, or a channel, of zeros (or, with the median, one in which
        half of the weights are zero).
    """
    top = level_count(bits) - 1
    magnitudes = np.abs(kernel.astype(np.float64))
    keep = axes is not None
    if radius == "median" and keep_zeros and magnitudes.any():
        r = np.ma.filled(
            np.ma.median(np.ma.masked_equal(magnitudes, 0), axis=axes, keepdims=keep), 0
        )
    else:
        r = (np.median if radius == "median" else np.max)(magnitudes, axis=axes, keepdims=keep)
    if not (np.asarray(r) > 0).all():
        advice = (
            'at least half of its weights are: radius="max" or "mse" can do without the median'
            if magnitudes.any()
            else "all its weights are"
        )
        raise ParameterError(
            f"no alphabet: the {'median' if radius == 'median' else 'maximum'} |W| is zero in"
            f" {_count(r)}; {advice}"
        )
    if radius == "median":
        r = alphabet_scalar * r
    elif radius == "mse":
        r = _least_squares_radius(kernel, r, top, axes, kernel != 0 if keep_zeros else True)
    return Alphabet(np.asarray(r) / top, top)


def _count(r):
    return "the layer" if np.ndim(r) == 0 else f"{np.count_nonzero(r == 0)} of {r.size} channels"


def _least_squares_radius(kernel, largest, top, axes, counted):
    best, least = largest, np.inf
    for fraction in np.arange(1, MSE_CANDIDATES + 1) / MSE_CANDIDATES:
        alphabet = Alphabet(fraction * largest / top, top)
        error = ((alphabet.scale * alphabet.nearest(kernel) - kernel) ** 2).sum(
            axis=axes, keepdims=axes is not None, where=counted
        )
        best, least = np.where(error < least, fraction * largest, best), np.minimum(error, least)
    return best
