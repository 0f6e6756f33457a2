"""Windows of images, and the padding around them."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np

from netreduce.errors import ParameterError, ShapeError, UnsupportedLayerError

from .base import four

Padding: TypeAlias = str | tuple[int, int, int, int]
Widths: TypeAlias = tuple[tuple[int, int], tuple[int, int]]


def padding(value: str | Sequence[int]) -> Padding:
    """A padding as it stands in a layer: "valid", "same", or (top, bottom, left, right)."""
    if isinstance(value, str) and value in ("valid", "same"):
        return value
    try:
        if isinstance(value, str) or not isinstance(value, Iterable):
            raise ParameterError
        return four("padding", value)
    except ParameterError:
        raise UnsupportedLayerError(
            "padding must be 'valid', 'same' or four whole numbers (top, bottom, left, right),"
            f" found {value!r}"
        ) from None


def window_padding(value: str | Sequence[int]) -> Padding:
    """The same, four zeros being "valid"."""
    found = padding(value)
    return "valid" if found == (0, 0, 0, 0) else found


def padding_widths(
    size: Sequence[int],
    kernel_size: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    dilation: Sequence[int] = (1, 1),
) -> Widths:
    """Padding before and after, of rows and of columns, for an image of that size.

    "same" is Keras': as many windows as strides fit into the image, the odd pixel at the end.

    Examples
    --------
    >>> padding_widths((32, 32), (3, 3), (2, 2), "same")
    ((0, 1), (0, 1))
    >>> padding_widths((32, 32), (3, 3), (2, 2), (1, 1, 1, 1))
    ((1, 1), (1, 1))
    """
    if padding == "valid":
        return (0, 0), (0, 0)
    if not isinstance(padding, str):
        top, bottom, left, right = padding
        return (top, bottom), (left, right)
    rows, columns = zip(size, kernel_size, strides, dilation, strict=True)
    return _same(*rows), _same(*columns)


def _same(size: int, kernel: int, stride: int, dilation: int) -> tuple[int, int]:
    total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    return total // 2, total - total // 2


def pad(x: np.ndarray, widths: Widths, fill: float = 0) -> np.ndarray:
    """An image batch with rows and columns of a value around it."""
    if any(map(any, widths)):
        return np.pad(x, [(0, 0), *widths, (0, 0)], constant_values=fill)
    return x


def windows(
    x: np.ndarray,
    kernel_size: Sequence[int],
    strides: Sequence[int],
    dilation: Sequence[int] = (1, 1),
) -> np.ndarray:
    """The windows of a padded image batch, as a view.

    Parameters
    ----------
    x : ndarray, shape (batch, height, width, channels)
    kernel_size, strides, dilation : pair of int

    Returns
    -------
    ndarray, shape (batch, rows, columns, kernel rows, kernel columns, channels)
    """
    spans = tuple(d * (k - 1) + 1 for k, d in zip(kernel_size, dilation, strict=True))
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axis=(1, 2))
    return view[:, :: strides[0], :: strides[1], :, :: dilation[0], :: dilation[1]].transpose(
        0, 1, 2, 4, 5, 3
    )


def window_counts(
    size: Sequence[int],
    kernel_size: Sequence[int],
    strides: Sequence[int],
    padding: Padding,
    dilation: Sequence[int] = (1, 1),
) -> tuple[int, int]:
    """Number of window positions along both axes."""
    widths = padding_widths(size, kernel_size, strides, padding, dilation)
    counts = []
    for n, k, s, d, both in zip(size, kernel_size, strides, dilation, widths, strict=True):
        span = d * (k - 1) + 1
        if n + sum(both) < span:
            padded = "without padding" if padding == "valid" else f"padded by {sum(both)}"
            raise ShapeError(f"a window of {span} does not fit into an image of {n} {padded}")
        counts.append((n + sum(both) - span) // s + 1)
    return counts[0], counts[1]
