"""Quantization alphabets: 2^bits equispaced levels on [−r, r], the odd multiples of a scale
(ternary: −r, 0, r).
"""

from dataclasses import dataclass
from math import isclose, isfinite, log2
from numbers import Real
from typing import TypeGuard

import numpy as np

from netreduce.errors import ParameterError

RADII = ("median", "max", "mse", "output")
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

    def group(self, number: int) -> "Alphabet":
        """The alphabet of one group, where the scale has shape (groups, 1, neurons), (1, 1,
        neurons) or ().
        """
        return (
            self
            if np.ndim(self.scale) == 0
            else Alphabet(self.scale[number if len(self.scale) > 1 else 0], self.top)
        )

    def nearest(self, weights: np.ndarray) -> np.ndarray:
        """Codes (odd or even integers, level = scale · code) of the nearest levels; of two equally
        near ones, the lower.
        """
        return (
            2 * np.clip(np.ceil((weights / self.scale + self.top) / 2 - 0.5), 0, self.top)
            - self.top
        )


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a finite real number, not true or false."""
    return isinstance(value, Real) and not isinstance(value, bool) and isfinite(value)


def level_count(bits: float, zero: bool = False) -> int:
    """Number of levels of an alphabet of that many bits: 2^bits, and 3 for 1.58 (log2 3); with
    `zero`, one less where that number is even.

    Raises
    ------
    ParameterError
        For anything but 1.58 and whole numbers from 2 to 8.

    Examples
    --------
    >>> [level_count(bits) for bits in (1.58, 2, 4)]
    [3, 4, 16]
    >>> level_count(4, zero=True)
    15
    """
    if is_number(bits):
        if isclose(bits, log2(3), abs_tol=0.006):
            return 3
        if bits in range(2, 9):
            return 2 ** int(bits) - zero
    raise ParameterError(
        f"bits must be 1.58 (ternary) or a whole number from 2 to 8, found {bits!r}"
    )


def make_alphabet(
    kernel: np.ndarray,
    bits: float,
    alphabet_scalar: float = 2.0,
    radius: str = "median",
    axes: tuple[int, ...] | None = None,
    keep_zeros: bool = False,
    zero: bool = False,
    power_of_two: bool = False,
) -> Alphabet:
    """The alphabet of a layer.

    Parameters
    ----------
    kernel : ndarray
    bits : number
        See `level_count`.
    alphabet_scalar : float
        Factor of the median; the other radii do not use it.
    radius : {"median", "max", "mse", "output"}
        r = alphabet_scalar · median |W| (the published alphabet), max |W|, or the r in (0, max |W|]
        with the least squared rounding error. "output" is chosen later, by the error of the layer's
        outputs; here it is max |W|, its upper limit.
    axes : tuple of int, optional
        Axes of the kernel that share an alphabet; by default all of them.
    keep_zeros : bool
        Leave weights that are zero out of account: they are pruned, and need no level.
    zero : bool
        2^bits − 1 levels around 0, in place of 2^bits levels without it.
    power_of_two : bool
        Round the scale to the nearest power of two.

    Returns
    -------
    Alphabet
        Where a layer or a channel has no weights but zeros, its radius is 1.

    Raises
    ------
    ParameterError
        When the median is zero where not all weights are.
    """
    top = level_count(bits, zero) - 1
    magnitudes = np.abs(kernel.astype(np.float64))
    keep = axes is not None
    largest = np.max(magnitudes, axis=axes, keepdims=keep)
    r = largest
    if radius == "median":
        if not (keep_zeros and magnitudes.any()):
            r = np.median(magnitudes, axis=axes, keepdims=keep)
        elif axes is None:
            r = np.median(magnitudes[magnitudes > 0])
        else:
            counted = np.ma.masked_equal(magnitudes, 0)
            r = np.ma.filled(np.ma.median(counted, axis=axes, keepdims=keep), 0)
        if (missing := (r == 0) & (largest > 0)).any():
            where = "the layer" if not keep else f"{missing.sum()} of {missing.size} channels"
            raise ParameterError(
                f"no alphabet: the median |W| is zero in {where}; at least half of its weights"
                ' are: radius="max", "mse" or "output" can do without the median'
            )
        r = alphabet_scalar * r
    elif radius == "mse":
        r = _least_squares_radius(kernel, largest, top, axes, kernel != 0 if keep_zeros else True)
    r = np.where(largest > 0, r, 1.0)
    scale = r / top
    return Alphabet(nearest_power_of_two(scale) if power_of_two else scale, top)


def nearest_power_of_two(scale: np.ndarray) -> np.ndarray:
    """Of positive numbers, by their logarithms."""
    return np.asarray(2.0 ** np.rint(np.log2(scale)))


def _least_squares_radius(
    kernel: np.ndarray,
    largest: np.ndarray,
    top: int,
    axes: tuple[int, ...] | None,
    counted: np.ndarray | bool,
) -> np.ndarray:
    largest = np.where(largest > 0, largest, 1.0)
    best, least = largest, np.full_like(largest, np.inf)
    for fraction in np.arange(1, MSE_CANDIDATES + 1) / MSE_CANDIDATES:
        alphabet = Alphabet(fraction * largest / top, top)
        error = ((alphabet.scale * alphabet.nearest(kernel) - kernel) ** 2).sum(
            axis=axes, keepdims=axes is not None, where=counted
        )
        best, least = (
            np.where(error < least, fraction * largest, best),
            np.minimum(error, least),
        )
    return best
