"""Pooling: the largest value or the mean of windows, or of everything."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import reduce

import numpy as np

from netreduce.errors import ParameterError

from .base import Layer, Shape, check_image, pair, set_field
from .windows import Padding, Widths, pad, padding_widths, window_counts, window_padding, windows


@dataclass(frozen=True, eq=False)
class Pooling2D(Layer):
    """A layer that makes one number of every window of a channel."""

    pool_size: tuple[int, int] = (2, 2)
    strides: tuple[int, int] = None  # type: ignore[assignment]  # those of the windows
    padding: Padding = "valid"

    def __post_init__(self) -> None:
        set_field(self, "pool_size", pair("pool_size", self.pool_size))
        strides = self.pool_size if self.strides is None else self.strides
        set_field(self, "strides", pair("strides", strides))
        set_field(self, "padding", window_padding(self.padding))
        if not isinstance(self.padding, str):
            top, bottom, left, right = self.padding
            rows, columns = self.pool_size
            if max(top, bottom) >= rows or max(left, right) >= columns:
                raise ParameterError(
                    f"padding {self.padding} must be smaller than the windows {self.pool_size}:"
                    " a window would see nothing else"
                )

    def output_shape(self, shape: Shape) -> Shape:
        check_image(self, shape)
        return (*window_counts(shape[:2], self.pool_size, self.strides, self.padding), shape[2])

    def padding_widths(self, shape: Shape) -> Widths:
        """Padding before and after, of rows and of columns, for inputs of that shape."""
        return padding_widths(shape[:2], self.pool_size, self.strides, self.padding)


@dataclass(frozen=True, eq=False)
class MaxPooling2D(Pooling2D):
    """Maximum over windows; padding does not count.

    Examples
    --------
    >>> MaxPooling2D(3, 2, padding=(1, 1, 1, 1)).output_shape((32, 32, 16))
    (16, 16, 16)
    """

    def __call__(self, x: np.ndarray) -> np.ndarray:
        padded = pad(x, self.padding_widths(x.shape[1:]), -np.inf)
        (rows, columns), (down, across) = self.pool_size, self.strides
        by_rows = reduce(np.maximum, _places(padded, (rows, 1), (down, 1)))
        return reduce(np.maximum, _places(by_rows, (1, columns), (1, across)))


@dataclass(frozen=True, eq=False)
class AveragePooling2D(Pooling2D):
    """Mean over windows; padding does not count, unless `count_padding` says so.

    Keras never counts it; PyTorch counts the padding it is given (count_include_pad) by default.

    Examples
    --------
    >>> x = np.ones((1, 2, 2, 1))
    >>> AveragePooling2D(2, padding=(1, 1, 1, 1), count_padding=True)(x)[0, :, :, 0]
    array([[0.25, 0.25],
           [0.25, 0.25]])
    """

    count_padding: bool = field(default=False, kw_only=True)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self._sums(x) / self.counts(x.shape[1:]).astype(x.dtype)

    def counts(self, shape: Shape) -> np.ndarray:
        """How many values the mean of every window is over, shape (1, rows, columns, 1)."""
        if self.count_padding:
            return np.full((1, 1, 1, 1), self.pool_size[0] * self.pool_size[1])
        return self._sums(np.ones((1, *shape[:2], 1)))

    def _sums(self, x: np.ndarray) -> np.ndarray:
        padded = pad(x, self.padding_widths(x.shape[1:]))
        return sum(_places(padded, self.pool_size, self.strides), np.zeros((), x.dtype))


@dataclass(frozen=True, eq=False)
class GlobalAveragePooling2D(Layer):
    """Mean of every channel over all positions."""

    def output_shape(self, shape: Shape) -> Shape:
        check_image(self, shape)
        return (shape[2],)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x.mean(axis=(1, 2), dtype=x.dtype)


@dataclass(frozen=True, eq=False)
class GlobalMaxPooling2D(Layer):
    """Maximum of every channel over all positions."""

    def output_shape(self, shape: Shape) -> Shape:
        check_image(self, shape)
        return (shape[2],)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x.max(axis=(1, 2))


def _places(x: np.ndarray, size: tuple[int, int], strides: tuple[int, int]) -> Iterator[np.ndarray]:
    """The values at each place of all windows of a padded image batch."""
    view = windows(x, size, strides)
    for i, j in np.ndindex(size):
        yield view[:, :, :, i, j]
