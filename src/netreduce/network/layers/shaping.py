"""Layers that move values to other places, repeat them or leave some out."""

import math
from dataclasses import dataclass

import numpy as np

from netreduce.errors import ParameterError, ShapeError, UnsupportedLayerError

from .base import Layer, Shape, check_image, four, pair, set_field, whole_numbers
from .windows import pad


@dataclass(frozen=True, eq=False)
class Flatten(Layer):
    """All axes into one, row-major (rows, columns, channels)."""

    def output_shape(self, shape: Shape) -> Shape:
        return (math.prod(shape),)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), -1)


@dataclass(frozen=True, eq=False)
class Reshape(Layer):
    """The same values, row-major, in another shape.

    Examples
    --------
    >>> Reshape((1, 8, 3)).output_shape((8, 3))
    (1, 8, 3)
    """

    shape: Shape

    def __post_init__(self) -> None:
        set_field(self, "shape", whole_numbers("shape", self.shape))

    def output_shape(self, shape: Shape) -> Shape:
        if math.prod(shape) != math.prod(self.shape):
            raise ShapeError(
                f"Reshape to {self.shape} expects {math.prod(self.shape)} values, found shape"
                f" {shape}"
            )
        return self.shape

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), *self.shape)


@dataclass(frozen=True, eq=False)
class Permute(Layer):
    """The axes in another order; they count from 1, as in Keras.

    Examples
    --------
    >>> Permute((3, 1, 2)).output_shape((32, 24, 3))
    (3, 32, 24)
    """

    order: tuple[int, ...]

    def __post_init__(self) -> None:
        order = whole_numbers("order", self.order)
        if sorted(order) != list(range(1, len(order) + 1)):
            raise ParameterError(
                f"order must hold every axis once, counted from 1, found {self.order!r}"
            )
        set_field(self, "order", order)

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) != len(self.order):
            raise ShapeError(
                f"Permute expects inputs with {len(self.order)} axes, found shape {shape}"
            )
        return tuple(shape[axis - 1] for axis in self.order)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(x.transpose(0, *self.order))


@dataclass(frozen=True, eq=False)
class ZeroPadding2D(Layer):
    """Zeros around an image: rows at the top and bottom, columns left and right.

    Examples
    --------
    >>> ZeroPadding2D((1, 0, 2, 0)).output_shape((32, 32, 3))
    (33, 34, 3)
    """

    padding: tuple[int, int, int, int] = (1, 1, 1, 1)

    def __post_init__(self) -> None:
        set_field(self, "padding", four("padding", self.padding))

    def output_shape(self, shape: Shape) -> Shape:
        check_image(self, shape)
        top, bottom, left, right = self.padding
        return shape[0] + top + bottom, shape[1] + left + right, shape[2]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        top, bottom, left, right = self.padding
        return pad(x, ((top, bottom), (left, right)))


@dataclass(frozen=True, eq=False)
class Cropping2D(Layer):
    """An image without some rows at the top and bottom and some columns left and right.

    Examples
    --------
    >>> Cropping2D((1, 0, 2, 0)).output_shape((32, 32, 3))
    (31, 30, 3)
    """

    cropping: tuple[int, int, int, int] = (0, 0, 0, 0)

    def __post_init__(self) -> None:
        set_field(self, "cropping", four("cropping", self.cropping))

    def output_shape(self, shape: Shape) -> Shape:
        check_image(self, shape)
        top, bottom, left, right = self.cropping
        rows, columns = shape[0] - top - bottom, shape[1] - left - right
        if rows < 1 or columns < 1:
            raise ShapeError(f"Cropping2D: {self.cropping} leaves nothing of shape {shape}")
        return rows, columns, shape[2]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        top, bottom, left, right = self.cropping
        return x[:, top : x.shape[1] - bottom, left : x.shape[2] - right]


@dataclass(frozen=True, eq=False)
class UpSampling2D(Layer):
    """An image that many times as high and wide: pixels repeated, or interpolated between their
    centres ("bilinear"; beyond the outermost centres, the outermost pixels).

    Examples
    --------
    >>> UpSampling2D(2, "bilinear")(np.array([[[[0.0], [4.0]]]]))[0, 0, :, 0]
    array([0., 1., 3., 4.])
    """

    size: tuple[int, int] = (2, 2)
    interpolation: str = "nearest"

    def __post_init__(self) -> None:
        set_field(self, "size", pair("size", self.size))
        if self.interpolation not in ("nearest", "bilinear"):
            raise UnsupportedLayerError(
                f"interpolation must be 'nearest' or 'bilinear', found {self.interpolation!r}"
            )

    def output_shape(self, shape: Shape) -> Shape:
        check_image(self, shape)
        return shape[0] * self.size[0], shape[1] * self.size[1], shape[2]

    def __call__(self, x: np.ndarray) -> np.ndarray:
        for axis, factor in enumerate(self.size, start=1):
            if self.interpolation == "nearest":
                x = np.repeat(x, factor, axis=axis)
            elif factor > 1:
                low, high, share = self.neighbours(x.shape[axis], factor)
                share = share.astype(x.dtype)[(slice(None),) + (None,) * (3 - axis)]
                start = x.take(low, axis)
                x = start + (x.take(high, axis) - start) * share
        return x

    @staticmethod
    def neighbours(size: int, factor: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Along one axis, for every pixel of the output: the two pixels it lies between, and the
        share of the second one.
        """
        place = np.maximum((np.arange(size * factor) + 0.5) / factor - 0.5, 0)
        low = place.astype(int)
        return low, np.minimum(low + 1, size - 1), place - low
