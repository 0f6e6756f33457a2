"""What is done to the values of a dataset before a network takes them."""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from netreduce.errors import DataError

log = logging.getLogger(__name__)

FRACTION = re.compile(r"\s*([\d.]+(?:e[-+]?\d+)?)\s*/\s*([\d.]+(?:e[-+]?\d+)?)\s*", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class Preprocessing:
    """x ↦ (x / divisor − mean) / std, in float32.

    Parameters
    ----------
    divisor : float
        Greater than 0.
    mean, std : ndarray, shape () or (channels,)
        One number, or one for every entry of the last axis.
    low, high : ndarray, shape () or (channels,)
        The values that occur, before preprocessing, lie between these.

    Examples
    --------
    >>> pixels = Preprocessing(255.0, np.array([0.5]), 0.25, 0, 255)
    >>> pixels(np.array([[0, 255]], np.uint8))
    array([[-2.,  2.]], dtype=float32)
    >>> pixels.range
    (array([-2.]), array([2.]))
    """

    divisor: float = 1.0
    mean: np.ndarray | float = 0.0
    std: np.ndarray | float = 1.0
    low: np.ndarray | float = 0.0
    high: np.ndarray | float = 1.0

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """The values as networks take them."""
        x = x.astype(np.float32)
        if self.divisor != 1:
            x /= np.float32(self.divisor)
        if np.any(self.mean):
            x -= np.asarray(self.mean, np.float32)
        if np.any(np.asarray(self.std) != 1):
            x /= np.asarray(self.std, np.float32)
        return x

    @property
    def range(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest preprocessed values, one number or one for every channel; rounding is
        monotone, so no sample's values lie outside.
        """
        low, high, *_ = np.broadcast_arrays(self.low, self.high, self.mean, self.std)
        return self(low).astype(np.float64), self(high).astype(np.float64)

    def arrays(self) -> dict[str, np.ndarray]:
        """The numbers by name, for a file; `from_arrays` takes them back."""
        return {
            field.name: np.asarray(getattr(self, field.name), np.float64) for field in fields(self)
        }


NAMES = tuple(field.name for field in fields(Preprocessing))


def chosen(entry: Mapping[str, Any], xs: Sequence[np.ndarray], where: str) -> Preprocessing:
    """The preprocessing that an entry of `datasets` asks for, of data whose training samples come
    first; `netreduce.data.own` has the keys.

    Raises
    ------
    DataError
        Numbers that are none, do not fit the channels, or leave in doubt what they mean.
    """
    channels = xs[0].shape[-1]
    divisor = _divisor(entry.get("scale"), xs[0].dtype, where)
    mean: Any = entry.get("mean", 0.0)
    std: Any = entry.get("std", 1.0)
    if entry.get("standardize"):
        if "mean" in entry or "std" in entry:
            raise DataError(f"{where}: standardize computes mean and std, so they cannot be given")
        axes = tuple(range(xs[0].ndim - 1))
        mean = xs[0].mean(axis=axes, dtype=np.float64) / divisor
        std = xs[0].std(axis=axes, dtype=np.float64) / divisor
        still = np.flatnonzero(std <= 1e-12 * np.abs(mean))
        if len(still):
            log.warning("%s: %d channels or columns are constant", where, len(still))
        std[still] = 1
    elif xs[0].dtype == np.uint8 and "scale" not in entry and np.any(np.asarray(mean) > 1):
        raise DataError(
            f"{where}: mean {mean} counts after 8-bit values are divided by 255; say scale: 1/255"
            " if that is meant, scale: 1 if mean is in 0 to 255"
        )
    if xs[0].dtype == np.uint8:
        low, high = np.array(0.0), np.array(255.0)
    else:
        axes = tuple(range(xs[0].ndim - 1))
        low = np.min([x.min(axis=axes) for x in xs], axis=0).astype(np.float64)
        high = np.max([x.max(axis=axes) for x in xs], axis=0).astype(np.float64)
    if "range" in entry:
        low, high = _range(entry["range"], low, high, xs[0].dtype != np.uint8, where)
    numbers = {"divisor": divisor, "mean": mean, "std": std, "low": low, "high": high}
    try:
        arrays = {name: np.asarray(number, np.float64) for name, number in numbers.items()}
    except (TypeError, ValueError):
        raise DataError(
            f"{where}: mean and std must be numbers, or lists of {channels}, found {mean!r} and"
            f" {std!r}"
        ) from None
    return from_arrays(arrays, channels, where)


def _divisor(scale: Any, dtype: np.dtype, where: str) -> float:
    if scale is None:
        return 255.0 if dtype == np.uint8 else 1.0
    match = FRACTION.fullmatch(scale) if isinstance(scale, str) else None
    try:
        divisor = float(match[2]) / float(match[1]) if match else 1 / float(scale)
    except (TypeError, ValueError, ZeroDivisionError):
        divisor = -1.0
    numbers = np.finfo(np.float32)
    if not float(numbers.smallest_normal) <= divisor <= float(numbers.max):
        raise DataError(
            f"{where}: scale must be a positive number or a fraction such as 1/255, in the range of"
            f" float32, found {scale!r}"
        )
    return divisor


def _range(
    given: Any, low: np.ndarray, high: np.ndarray, occurs: bool, where: str
) -> tuple[np.ndarray, np.ndarray]:
    try:
        ends = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        ends = np.empty(0)
    if ends.shape != (2,) or not ends[0] <= ends[1]:
        raise DataError(f"{where}: range must be [low, high], found {given!r}")
    if occurs and (low.min() < ends[0] or high.max() > ends[1]):
        raise DataError(
            f"{where}: range is {ends.tolist()}, but values from {low.min():g} to {high.max():g}"
            " occur"
        )
    return ends[0], ends[1]


def from_arrays(arrays: dict[str, np.ndarray], channels: int, where: str) -> Preprocessing:
    """The preprocessing that `Preprocessing.arrays` wrote.

    Raises
    ------
    DataError
        Numbers that are not finite, of another shape, or not positive where they must be.
    """
    for name, array in arrays.items():
        shapes = [()] if name == "divisor" else [(), (channels,)]
        if array.shape not in shapes or array.dtype.kind not in "fiu":
            raise DataError(
                f"{where}: {name} must be one number, or one for each of the {channels} channels,"
                f" found {array.dtype} of shape {array.shape}"
            )
        if not np.isfinite(array).all() or (name in ("divisor", "std") and (array <= 0).any()):
            kind = "positive and finite" if name in ("divisor", "std") else "finite"
            raise DataError(f"{where}: {name} must be {kind}, found {array.tolist()}")
    made = Preprocessing(float(arrays["divisor"]), *(arrays[k] for k in NAMES[1:]))
    if (np.asarray(made.low) > made.high).any():
        raise DataError(f"{where}: the range must have low ≤ high, found {made.low}, {made.high}")
    return made
