"""What all layers share."""

from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import replace as _replace
from typing import Any, Self, TypeAlias

import numpy as np

from netreduce.errors import ParameterError, ShapeError

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Quantization:
    """The grid on which a layer's weights lie: kernel = scale · codes, with integer codes.

    The alphabet of 2^bits equispaced levels on [−r, r] is the odd multiples of scale = r / (2^bits
    − 1) up to r (ternary: scale = r / 2, even multiples), so a code is at most 2^bits − 1 in
    magnitude. Code 0 is the weight of a dead input wherever 0 is not a level.

    Attributes
    ----------
    scale : ndarray
        Spacing of the grid, float64; a scalar per layer, or an array that broadcasts against the
        kernel (per output channel).
    bits : float
        log2 of the number of levels of the alphabet.
    quantized_bias : bool
        Whether the bias lies on the same grid.
    """

    scale: np.ndarray
    bits: float
    quantized_bias: bool = False

    def __post_init__(self) -> None:
        scale = np.asarray(self.scale, np.float64)
        if not (np.isfinite(scale).all() and (scale > 0).all()):
            raise ParameterError(f"quantization scale must be finite and positive, found {scale}")
        object.__setattr__(self, "scale", scale)

    def codes(self, weights: np.ndarray) -> np.ndarray:
        """Integer codes (int32) of weights that lie on the grid."""
        scale = self.scale if np.ndim(weights) > 1 else self.scale.reshape(-1)
        return np.rint(weights / scale).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Layer:
    """Base of all layers."""

    # so written, for type checkers, that a layer may take any number of inputs
    def output_shape(self, *shapes: Any, **_: Any) -> Shape:
        """Shape of the output without the batch axis; ShapeError where inputs do not fit."""
        return shapes[0]

    def __call__(self, *inputs: Any, **_: Any) -> np.ndarray:
        raise NotImplementedError

    def replace(self, **changes: Any) -> Self:
        """A copy of the layer with some fields changed."""
        return _replace(self, **changes)

    def arrays(self) -> dict[str, np.ndarray]:
        """The layer's parameter arrays by field name."""
        return {}


def parameter(array: object) -> np.ndarray:
    """An array of real numbers, in float32 unless it is in float64; a plain number is float32."""
    plain = isinstance(array, int | float) and not isinstance(array, bool)
    array = np.asarray(array, np.float32 if plain else None)
    if array.dtype.kind not in "fiu":
        raise ShapeError(f"parameters must be real numbers, found dtype {array.dtype}")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def pair(name: str, value: Any, least: int = 1) -> tuple[int, int]:
    """One or two whole numbers as two."""
    both = tuple(value) if isinstance(value, Iterable) else (value, value)
    if len(both) != 2 or not all(_is_whole(v) and v >= least for v in both):
        what = "positive integers" if least else "integers not below 0"
        raise ParameterError(f"{name} must be one or two {what}, found {value!r}")
    return int(both[0]), int(both[1])


def four(name: str, value: Any) -> tuple[int, int, int, int]:
    """Rows or columns at the top, bottom, left and right; one number stands for all four."""
    sides = tuple(value) if isinstance(value, Iterable) else (value,) * 4
    if len(sides) != 4 or not all(_is_whole(v) and v >= 0 for v in sides):
        raise ParameterError(
            f"{name} must be four whole numbers (top, bottom, left, right), found {value!r}"
        )
    top, bottom, left, right = map(int, sides)
    return top, bottom, left, right


def whole_numbers(name: str, values: Any) -> Shape:
    """A list of positive whole numbers."""
    numbers = tuple(values) if isinstance(values, Iterable) else ()
    if not numbers or not all(_is_whole(v) and v >= 1 for v in numbers):
        raise ParameterError(f"{name} must be positive integers, found {values!r}")
    return tuple(map(int, numbers))


def _is_whole(value: object) -> bool:
    if isinstance(value, float | np.floating):
        return float(value).is_integer()
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def check_image(layer: Layer, shape: Shape) -> None:
    """Raise ShapeError unless a shape is that of an image."""
    if len(shape) != 3:
        raise ShapeError(
            f"{type(layer).__name__} expects inputs of shape (height, width, channels), found"
            f" {shape}"
        )


def set_field(layer: Layer, name: str, value: object) -> None:
    """Set a field of a frozen layer while it is being made."""
    object.__setattr__(layer, name, value)
