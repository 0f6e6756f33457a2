"""Maximum pooling between two linear forms of its window."""

from dataclasses import dataclass

import numba
import numpy as np

from netreduce.network.layers import MaxPooling2D, pad, windows

from .functions import ULP
from .operators import Rows, Shape, densify_rows, opened, settle


@dataclass(frozen=True)
class WindowForms:
    """Forms in the values of a window: below and above its maximum.

    Attributes
    ----------
    lower, upper : ndarray, shape (samples, rows, columns, window, channels)
    upper_shift : ndarray, shape (samples, rows, columns, channels)
        The lower form has no constant: it is one value of the window.
    """

    lower: np.ndarray
    upper: np.ndarray
    upper_shift: np.ndarray


class Maximum:
    """Maximum pooling; padding does not count."""

    def __init__(self, layer: MaxPooling2D, input_shape: Shape):
        self.layer, self.input_shape = layer, input_shape
        self.output_shape = layer.output_shape(input_shape)
        (top, _), (left, _) = layer.padding_widths(input_shape)
        self.before = np.array([top, left])

    @property
    def norm(self) -> float:
        """‖max(x) − max(y)‖₂ is at most so many times ‖x − y‖₂: by windows that overlap."""
        size, strides = self.layer.pool_size, self.layer.strides
        overlap = [-(-n // s) for n, s in zip(size, strides, strict=True)]
        return float(np.sqrt(overlap[0] * overlap[1]))

    def forward(self, x: np.ndarray) -> np.ndarray:
        return self.layer(x)

    def interval(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return self.layer(low), self.layer(high)

    def _windows(self, x: np.ndarray) -> np.ndarray:
        padded = pad(x, self.layer.padding_widths(self.input_shape), -np.inf)
        view = windows(padded, self.layer.pool_size, self.layer.strides)
        return view.reshape(*view.shape[:3], -1, view.shape[5])

    def seen(self, rows: Rows) -> Rows:
        """Changes of the input (zero in the padding) as each window sees them, its values side by
        side: shape (rows, windows' rows, windows' columns, window · channels).
        """
        layer = self.layer
        size = np.array(layer.pool_size)
        part = opened(rows, size, layer.strides, self.before, self.output_shape)
        origin = None if part is None else part.origin
        if part is None:
            whole = densify_rows(rows, self.input_shape).values
            part = Rows(pad(whole, layer.padding_widths(self.input_shape)))
        view = windows(part.values, layer.pool_size, layer.strides)
        values = view.copy().reshape(*view.shape[:3], -1)
        if origin is None:
            return Rows(values)
        return settle(values, origin, (*self.output_shape[:2], values.shape[3]), False)

    def choice(self, x: np.ndarray) -> WindowForms:
        """The largest value of each window at a point."""
        seen = self._windows(x)
        chosen = _one_hot(seen.argmax(axis=3), seen.shape)
        return WindowForms(chosen, chosen, np.zeros(chosen.shape[:3] + chosen.shape[4:]))

    def forms(self, low: np.ndarray, high: np.ndarray) -> WindowForms:
        """Forms that hold for values in [low, high].

        Below: the value with the largest middle. Above: that value m plus, for every other one k
        that can exceed it, the line above max(0, x_k − x_m); or the largest upper bound, where that
        is better in the middle.
        """
        least, most = self._windows(low), self._windows(high)
        padding = np.isneginf(most)
        middle = np.where(padding, -np.inf, least / 2 + most / 2)
        first = middle.argmax(axis=3)[:, :, :, None]
        lower = _one_hot(first[:, :, :, 0], least.shape)
        below, above = (
            np.where(padding, -np.inf, most - np.take_along_axis(least, first, 3)),
            np.where(padding, -np.inf, least - np.take_along_axis(most, first, 3)),
        )
        rival = (below > 0) & (lower == 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = np.where(above < 0, below / (below - above), 1.0)
        slope = np.where(rival, np.where(np.isfinite(slope), slope, 1.0), 0.0)
        # the line must reach 0 at `above` and `below` at `below`
        with np.errstate(invalid="ignore"):
            shift = np.maximum(-slope * above, below - slope * below)
            shift = np.where(rival, shift + ULP * (np.abs(above) + np.abs(below)), 0.0)
        shift = np.where(rival & (above >= 0), 0.0, shift)
        upper = np.where(lower > 0, 1 - slope.sum(axis=3, keepdims=True), slope)
        total = shift.sum(axis=3) * (1 + ULP)
        # 1 − Σ slopes is rounded: by how much that can matter
        size = np.abs(np.where(lower > 0, np.maximum(np.abs(least), np.abs(most)), 0)).sum(axis=3)
        total = np.where(rival.any(axis=3), total + ULP * slope.shape[3] * size, total)
        top = most.max(axis=3)
        with np.errstate(invalid="ignore"):
            value = (np.where(padding, 0.0, middle) * upper).sum(axis=3) + total
        constant = ~(value <= top)
        upper = np.where(constant[:, :, :, None], 0.0, upper)
        return WindowForms(lower, upper, np.where(constant, top, total))

    def transposed(
        self,
        rows: Rows,
        place: np.ndarray,
        forms: WindowForms,
        magnitude: np.ndarray,
        constant: np.ndarray,
        slack: np.ndarray,
    ) -> Rows:
        """Forms in the input that are nowhere larger than these forms in the output."""
        values, origin = rows.values, rows.origin
        size, strides = self.layer.pool_size, np.array(self.layer.strides)
        height, width = (
            (n - 1) * s + k for n, s, k in zip(values.shape[1:3], strides, size, strict=True)
        )
        out = np.zeros((len(values), height, width, values.shape[3]))
        whole = origin is None
        if origin is None:
            origin = np.zeros((1, 2), np.int64)
        _pull_back(
            values,
            np.ascontiguousarray(np.broadcast_to(origin, (len(values), 2))),
            place,
            forms.lower,
            forms.upper,
            forms.upper_shift,
            magnitude,
            *size,
            *self.layer.strides,
            out,
            constant,
            slack,
        )
        return settle(out, origin * strides - self.before, self.input_shape, whole)


def _one_hot(index: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    out = np.zeros(shape)
    np.put_along_axis(out, index[:, :, :, None], 1.0, 3)
    return out


@numba.njit(nogil=True, cache=True)
def _pull_back(
    values: np.ndarray,
    origin: np.ndarray,
    place: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    shift: np.ndarray,
    magnitude: np.ndarray,
    high: int,
    wide: int,
    down: int,
    across: int,
    out: np.ndarray,
    constant: np.ndarray,
    slack: np.ndarray,
) -> None:
    """Add forms in the outputs, values, as forms in the inputs, out, with windows high x wide."""
    for r in range(values.shape[0]):
        s = place[r]
        total, size, count = 0.0, 0.0, 1.0
        for y in range(values.shape[1]):
            row = y + origin[r, 0]
            if row < 0 or row >= shift.shape[1]:
                continue
            for x in range(values.shape[2]):
                column = x + origin[r, 1]
                if column < 0 or column >= shift.shape[2]:
                    continue
                for c in range(values.shape[3]):
                    a = values[r, y, x, c]
                    if a == 0.0:
                        continue
                    if a < 0.0:
                        total += a * shift[s, row, column, c]
                        size += abs(a * shift[s, row, column, c])
                    size += abs(a) * magnitude[s, row, column, c] * (high * wide)
                    count += 1.0
                    for i in range(high):
                        for j in range(wide):
                            k = i * wide + j
                            w = (
                                lower[s, row, column, k, c]
                                if a > 0.0
                                else upper[s, row, column, k, c]
                            )
                            out[r, y * down + i, x * across + j, c] += a * w
        constant[r] += total
        slack[r] += (count + high * wide + 4.0) * 1.1102230246251565e-16 * size
