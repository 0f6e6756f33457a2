"""Activation functions between two lines: what a linear relaxation needs of them.

On [l, u] a line of any slope s becomes a lower bound by the shift min (f(z) − s z). For piecewise
linear functions the minimum is at an end or a kink; for others it is taken over a grid, less what
f can do between its points (a bound of |f''|, or of |f'| where none is known). Slopes are chosen
such that the bound is best in the middle of [l, u]; whatever they are, the lines are bounds.
"""

from dataclasses import dataclass

import numpy as np

from netreduce.network.activations import PARAMETERS, ActivationFunction
from netreduce.network.layers import Activation

GRID = 48  # intervals of the grid
PIECE = 1 << 16  # numbers at a time
ULP = 2.0**-50  # relative error of a few operations in float64
EVALUATION = 2.0**-46  # of an activation function, against max(1, |value|)

# Where a function has kinks, and a bound of |f''| between them (0: piecewise linear)
SHAPES = {
    "relu6": ((0.0, 6.0), 0.0),
    "hard_sigmoid": ((-3.0, 3.0), 0.0),
    "hard_sigmoid_keras2": ((-2.5, 2.5), 0.0),
    "elu": ((0.0,), 1.0),
    "selu": ((0.0,), 1.7582),
    "softplus": ((), 0.25),
    "sigmoid": ((), 0.0963),
    "tanh": ((), 0.77),
    "silu": ((), 0.5),
    "gelu": ((), 0.7979),
    "hard_swish": ((-3.0, 3.0), 1 / 3 + 1e-9),
}
UNKNOWN = ((), None)  # no kinks known, bounds of f' only
Quadruple = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Lines:
    """lower_slope · z + lower_shift ≤ f(z) ≤ upper_slope · z + upper_shift; arrays of one shape."""

    lower_slope: np.ndarray
    lower_shift: np.ndarray
    upper_slope: np.ndarray
    upper_shift: np.ndarray


class Function:
    """An elementwise function."""

    def __init__(self, key: tuple, function: ActivationFunction, shape: tuple = UNKNOWN):
        self.key, self.function = key, function
        self.least = function.minimum[1] if function.minimum else None
        self.kinks, self.curvature = shape

    def same(self, other: "Function") -> bool:
        """Whether it is the same function."""
        return self.key == other.key

    def forward(self, x: np.ndarray) -> np.ndarray:
        return self.function.function(x)

    def derivative(self, x: np.ndarray) -> np.ndarray:
        """About f'(x): steers searches, never a bound."""
        step = 1e-5 * np.maximum(1, np.abs(x))
        return (self.forward(x + step) - self.forward(x - step)) / (2 * step)

    def unstable(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Where tighter bounds of the input can help."""
        return high > low

    def interval(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of f over [low, high]."""
        ends = self.forward(low), self.forward(high)
        least, most = np.minimum(*ends), np.maximum(*ends)
        if self.least is not None:  # falls, then rises: the largest value is at an end
            least = np.minimum(least, self.least)
        for kink in self.kinks:
            value = self.forward(np.full_like(low, kink))
            inside = (low < kink) & (kink < high)
            least = np.where(inside, np.minimum(least, value), least)
            most = np.where(inside, np.maximum(most, value), most)
        return _down(least), _up(most)

    @property
    def slopes(self) -> tuple[float, float]:
        """Bounds of (f(z) − f(y)) / (z − y)."""
        return self.function.slopes

    def difference_lines(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        """Lines in d below and above f(y + d) − f(y) for d in [low, high], shape (4, ...)."""
        least, most = self.slopes
        low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
        crosses = (low < 0) & (high > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            share = np.where(crosses, high / (high - low), np.where(low < 0, 0.0, 1.0))
        share = np.where(np.isfinite(share), share, 0.5)
        upper = least + (most - least) * share
        lower = most - (most - least) * share
        ends = least * low, most * high
        above = np.maximum(ends[0] - upper * low, ends[1] - upper * high)
        ends = most * low, least * high
        below = np.minimum(ends[0] - lower * low, ends[1] - lower * high)
        margin = ULP * max(1.0, abs(least), abs(most)) * (np.abs(low) + np.abs(high))
        return np.stack([lower, below - margin, upper, above + margin])

    def difference(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of f(y + d) − f(y) for d in [low, high]."""
        ends = [slope * end for slope in self.slopes for end in (low, high)]
        least, most = np.minimum.reduce(ends), np.maximum.reduce(ends)
        return least - ULP * np.abs(least), most + ULP * np.abs(most)

    def band(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """slope, below, above: slope · z + below ≤ f(z) ≤ slope · z + above."""
        lines = self.lines(low, high)
        slope, turn = lines.upper_slope, lines.lower_slope - lines.upper_slope
        below = np.minimum(turn * low, turn * high) + lines.lower_shift
        size = np.abs(turn) * np.maximum(np.abs(low), np.abs(high)) + np.abs(lines.lower_shift)
        return slope, below - 2 * ULP * size, lines.upper_shift

    def lines(self, low: np.ndarray, high: np.ndarray) -> Lines:
        flat_low, flat_high = low.reshape(-1), high.reshape(-1)
        parts = [
            self._lines(flat_low[i : i + PIECE], flat_high[i : i + PIECE])
            for i in range(0, flat_low.size, PIECE)
        ]
        return Lines(*(np.concatenate(p).reshape(low.shape) for p in zip(*parts, strict=True)))

    def _lines(self, low: np.ndarray, high: np.ndarray) -> Quadruple:
        """Slopes and shifts of the lines around f on some intervals, all of shape (n,)."""
        with np.errstate(over="ignore", invalid="ignore"):
            return self._finite_lines(low, high)

    def _finite_lines(self, low: np.ndarray, high: np.ndarray) -> Quadruple:
        width = high - low
        middle = low + width / 2
        grid = low + width * np.linspace(0, 1, GRID + 1)[:, None]
        grid[-1] = high
        for kink in self.kinks:
            grid = np.concatenate([grid, np.clip(kink, low, high)[None]])
        values = self.forward(grid)
        step = width / GRID * (1 + ULP)
        with np.errstate(divide="ignore", invalid="ignore"):
            chord = np.where(width > 0, (values[GRID] - values[0]) / width, 0.0)
        slopes = [chord, self.derivative(middle), self.derivative(low), self.derivative(high)]
        best: Quadruple | None = None
        for slope in [np.where(np.isfinite(s), s, 0.0) for s in slopes] + [np.zeros_like(low)]:
            rest = values - slope * grid
            if self.curvature is not None:
                between = self.curvature * step**2 / 8
            else:
                flattest, steepest = self.function.slopes
                between = np.maximum(np.abs(steepest - slope), np.abs(flattest - slope)) * step / 2
            error = between + EVALUATION * (
                np.maximum(1, np.abs(values).max(axis=0)) + np.abs(slope * grid).max(axis=0)
            )
            line = slope, rest.min(axis=0) - error, slope, rest.max(axis=0) + error
            if best is None:
                best = line
                continue
            better_low = line[0] * middle + line[1] > best[0] * middle + best[1]
            better_high = line[2] * middle + line[3] < best[2] * middle + best[3]
            best = (
                np.where(better_low, line[0], best[0]),
                np.where(better_low, line[1], best[1]),
                np.where(better_high, line[2], best[2]),
                np.where(better_high, line[3], best[3]),
            )
        assert best is not None
        least, most = self.interval(low, high)
        flat_low = ~(best[0] * middle + best[1] > least)  # also where it is NaN
        flat_high = ~(best[2] * middle + best[3] < most)
        return (
            np.where(flat_low, 0.0, best[0]),
            np.where(flat_low, least, best[1]),
            np.where(flat_high, 0.0, best[2]),
            np.where(flat_high, most, best[3]),
        )


class Rectifier(Function):
    """ReLU, LeakyReLU, PReLU: slope · z below 0, z above."""

    def __init__(self, slope: float | np.ndarray):
        self.slope = np.asarray(slope, np.float64)
        self.convex = self.slope <= 1

    @property
    def slopes(self) -> tuple[float, float]:
        return float(min(self.slope.min(), 1.0)), float(max(self.slope.max(), 1.0))

    def same(self, other: Function) -> bool:
        return isinstance(other, Rectifier) and np.array_equal(self.slope, other.slope)

    def forward(self, x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, x, self.slope * x)

    def derivative(self, x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, 1.0, self.slope)

    def unstable(self, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        return (low < 0) & (high > 0)

    def interval(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if not self.slope.any():
            return np.maximum(low, 0.0), np.maximum(high, 0.0)
        ends = self.forward(low), self.forward(high)
        least, most = np.minimum(*ends), np.maximum(*ends)
        least = np.where(self.unstable(low, high), np.minimum(least, 0.0), least)
        return least - ULP * np.abs(least), most + ULP * np.abs(most)

    def lines(self, low: np.ndarray, high: np.ndarray) -> Lines:
        crosses = self.unstable(low, high)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            share = np.where(crosses, high / (high - low), 0.0)
        share = np.where(np.isfinite(share), share, 1.0)
        stable = np.where(low >= 0, 1.0, self.slope)
        chord = np.where(crosses, self.slope + (1 - self.slope) * share, stable)
        ends = self.slope * low - chord * low, high - chord * high
        margin = ULP * (1 + np.abs(self.slope)) * (np.abs(low) + np.abs(high))
        above = np.where(crosses, np.maximum(*ends) + margin, 0.0)
        below = np.where(crosses, np.minimum(*ends) - margin, 0.0)
        through = np.where(crosses, np.where(high > -low, 1.0, self.slope), stable)
        zero = np.zeros_like(low)
        return Lines(
            np.where(self.convex, through, chord),
            np.where(self.convex, zero, below),
            np.where(self.convex, chord, through),
            np.where(self.convex, above, zero),
        )

    def band(self, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        lines, zero = self.lines(low, high), np.zeros_like(low)
        return (
            np.where(self.convex, lines.upper_slope, lines.lower_slope),
            np.where(self.convex, zero, lines.lower_shift),
            np.where(self.convex, lines.upper_shift, zero),
        )


def function_of(layer: Activation) -> Function:
    """The function of an activation layer.

    The caller sees to it that it is elementwise.
    """
    function = layer.function
    if layer.name in ("relu", "leaky_relu") and function.positively_homogeneous:
        return Rectifier(-float(function.function(np.asarray(-1.0))))
    usual = layer.parameters == PARAMETERS.get(layer.name, {})
    key = layer.name, *layer.parameters.items()
    return Function(key, function, SHAPES.get(layer.name, UNKNOWN) if usual else UNKNOWN)


def _down(values: np.ndarray) -> np.ndarray:
    return values - EVALUATION * np.maximum(1, np.abs(values))


def _up(values: np.ndarray) -> np.ndarray:
    return values + EVALUATION * np.maximum(1, np.abs(values))
