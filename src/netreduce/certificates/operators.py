"""Linear operators of a program: forward, forward in magnitude, and transposed on rows.

`Rows` are linear forms: row r stands for Σ values[r] · (the output of a node). On feature maps a
row covers a window only, whose upper left corner is `origin[r]`; outside it is zero. So
convolutions are transposed window by window, and no matrix of a convolution is ever built. Changes
of a node's values are rows too, and are carried forward likewise.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, reduce
from typing import TYPE_CHECKING, Self

import numpy as np

from netreduce.network.layers import (
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Conv2DTranspose,
    DepthwiseConv2D,
    Layer,
    Normalization,
    Rescaling,
    UpSampling2D,
)

from .kernels import mask, put
from .norms import spectral_norm

if TYPE_CHECKING:
    from scipy.sparse import csr_array

SCATTER = 1 << 17  # numbers that a transposed convolution adds up at a time
Shape = tuple[int, ...]


@dataclass
class Rows:
    """Linear forms in the values of one node, or changes of its values.

    Attributes
    ----------
    values : ndarray, shape (rows, window rows, window columns, channels) or (rows, features)
    origin : ndarray of int, shape (rows, 2), or None
        Upper left corner of each row's window, which may reach beyond the map (with zeros); None
        where it is the whole map, or a vector.
    """

    values: np.ndarray
    origin: np.ndarray | None = None

    @property
    def origins(self) -> np.ndarray:
        """The origin of each row, (0, 0) of whole maps and vectors."""
        count = len(self.values)
        if self.origin is None:
            return np.zeros((count, 2), np.int64)
        return np.ascontiguousarray(np.broadcast_to(self.origin, (count, 2)))

    def plus(self, other: "Rows", shape: Shape) -> "Rows":
        """The sum of forms in the same node, of that shape."""
        if self.origin is not None and other.origin is not None:
            offsets = other.origin - self.origin
            if (offsets == offsets[0]).all():
                return _union(self, other, offsets[0])
        if len(shape) == 3:
            return Rows(densify_rows(self, shape).values + densify_rows(other, shape).values)
        return Rows(self.values + other.values)


class Linear:
    """A linear map of one or more nodes plus a constant.

    Attributes
    ----------
    bias : ndarray that broadcasts to the output, or None
    bias_size : ndarray or None
        Magnitudes of the constants that are added up to the bias when the layers are evaluated one
        by one, where they are more than one.
    terms : int
        Most products that are summed for one number, forward or transposed.
    """

    input_shape: Shape
    bias: np.ndarray | None = None
    bias_size: np.ndarray | None = None
    terms: int = 1

    def apply(self, *inputs: np.ndarray) -> np.ndarray:
        """The map without its bias, for a batch."""
        raise NotImplementedError

    def magnitude(self, *inputs: np.ndarray) -> np.ndarray:
        """The map with the magnitudes of its coefficients, for a batch."""
        return self.apply(*inputs)

    @property
    def narrow(self) -> "Linear":
        """The map with coefficients rounded to float32, where that makes `apply` faster."""
        return self

    @cached_property
    def norm(self) -> float:
        """At least the spectral norm of the map, of one input: ‖W‖₂² ≤ ‖W‖₁ ‖W‖∞, weights ≥ 0."""
        shape = self.input_shape
        columns = self.transposed(Rows(np.ones((1, *self._output_shape()))))[0].values.max()
        return float(np.sqrt(self.magnitude(np.ones((1, *shape))).max() * columns))

    @property
    def row_norms(self) -> np.ndarray | float:
        """At least the Euclidean norm of the weights of each output; broadcasts to the output."""
        return self.norm

    def _output_shape(self) -> Shape:
        return self.apply(np.zeros((1, *self.input_shape))).shape[1:]

    def transposed(self, rows: Rows) -> tuple[Rows, ...]:
        """The forms in the inputs that equal these forms in the output, bias apart."""
        raise NotImplementedError

    def carried(self, *changes: Rows | None) -> Rows:
        """What changes of the inputs (None: of another one only) change in the output, row by row,
        in float32.
        """
        (rows,) = filter(None, changes)
        whole = densify_rows(rows, self.input_shape).values
        return Rows(np.ascontiguousarray(self.narrow.apply(whole), np.float32))

    def minus(self, other: Self) -> "Linear | None":
        """The difference of two maps of one kind; None where it is zero."""
        return None

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        out = self.apply(*inputs)
        return out if self.bias is None else out + self.bias


class Matrix(Linear):
    """x @ kernel + bias."""

    bias: np.ndarray

    def __init__(self, kernel: np.ndarray, bias: np.ndarray):
        self.kernel = np.ascontiguousarray(kernel, np.float64)
        self.transpose = np.ascontiguousarray(self.kernel.T)
        self.bias = np.asarray(bias, np.float64)
        self.terms = max(kernel.shape)

    def normalized(self, norm: BatchNormalization) -> "Matrix":
        """The map followed by batch normalization."""
        slope, shift = norm.affine()
        operator = Matrix(self.kernel * slope, self.bias * slope + shift)
        operator.bias_size = _constants_of(norm) + np.abs(slope * self.bias)
        return operator

    def minus(self, other: Self) -> "Matrix":
        return Matrix(self.kernel - other.kernel, self.bias - other.bias)

    @cached_property
    def narrow(self) -> "Linear":
        operator = copy.copy(self)
        operator.kernel = self.kernel.astype(np.float32)
        return operator

    @cached_property
    def norm(self) -> float:
        return spectral_norm(self.kernel)

    @cached_property
    def row_norms(self) -> np.ndarray:
        return np.sqrt((self.kernel**2).sum(axis=0)) * (1 + 1e-9)

    def apply(self, *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        return x @ self.kernel

    def magnitude(self, *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        return x @ np.abs(self.kernel)

    def transposed(self, rows: Rows) -> tuple[Rows, ...]:
        return (Rows(rows.values @ self.transpose),)

    def carried(self, *changes: Rows | None) -> Rows:
        (rows,) = filter(None, changes)
        return Rows(self.narrow.apply(rows.values))


class Convolution(Linear):
    """A convolution, also depthwise; average pooling is one with equal weights."""

    bias: np.ndarray

    def __init__(self, layer: Conv2D | DepthwiseConv2D, input_shape: Shape):
        self.layer = layer.replace(
            kernel=layer.kernel.astype(np.float64),
            bias=np.zeros(layer.outputs),
            activation="linear",
            quantization=None,
        )
        self.bias = layer.bias.astype(np.float64)
        self.input_shape = input_shape
        self.output_shape = layer.output_shape(input_shape)
        self.depthwise = isinstance(layer, DepthwiseConv2D)
        kernel = self.layer.kernel
        rows, columns, inputs, outputs = kernel.shape
        groups = getattr(layer, "groups", 1)
        most = outputs if self.depthwise else max(inputs, outputs // groups)
        self.terms = rows * columns * most
        (top, _), (left, _) = layer.padding_widths(input_shape)
        self.before = np.array([top, left])

    def normalized(self, norm: BatchNormalization) -> "Convolution":
        """The map followed by batch normalization."""
        slope, shift = norm.affine()
        kernel = self.layer.kernel
        factor = slope.reshape(kernel.shape[2:]) if self.depthwise else slope
        operator = Convolution(
            self.layer.replace(kernel=kernel * factor, bias=self.bias * slope + shift),
            self.input_shape,
        )
        operator.bias_size = _constants_of(norm) + np.abs(slope * self.bias)
        return operator

    def minus(self, other: Self) -> "Convolution":
        kernel = self.layer.kernel - other.layer.kernel
        change = Convolution(self.layer.replace(kernel=kernel), self.input_shape)
        change.bias = self.bias - other.bias
        return change

    @cached_property
    def narrow(self) -> "Convolution":
        operator = copy.copy(self)
        kernel = self.layer.kernel.astype(np.float32)
        zero = np.zeros(self.layer.outputs, np.float32)
        operator.layer = self.layer.replace(kernel=kernel, bias=zero)
        return operator

    @cached_property
    def norm(self) -> float:
        kernel, strides = self.layer.kernel, self.layer.strides
        places = kernel.reshape(-1, *kernel.shape[2:])
        if isinstance(self.layer, DepthwiseConv2D):
            return float(np.sqrt((places**2).sum(axis=2)).sum(axis=0).max() * (1 + 1e-9))
        # by places of the kernel; and as one matrix, each input in so many windows
        windows = math.prod(-(-n // s) for n, s in zip(kernel.shape[:2], strides, strict=True))
        if any(d > 1 for d in self.layer.dilation):
            windows = math.prod(kernel.shape[:2])
        parts = [places[:, :, outputs] for _, outputs in self.layer.parts()]
        return max(
            min(
                sum(spectral_norm(place) for place in part),
                math.sqrt(windows) * spectral_norm(part.reshape(-1, part.shape[2])),
            )
            for part in parts
        )

    @cached_property
    def row_norms(self) -> np.ndarray:
        kernel = self.layer.kernel
        axes = (0, 1) if self.depthwise else (0, 1, 2)
        return np.sqrt((kernel**2).sum(axis=axes)).reshape(-1) * (1 + 1e-9)

    def apply(self, *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        return self.layer.linear(x)

    def magnitude(self, *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        return self.layer.replace(kernel=np.abs(self.layer.kernel)).linear(x)

    def transposed(self, rows: Rows) -> tuple[Rows, ...]:
        values, origin = rows.values, rows.origin
        count, height, width = values.shape[:3]
        kernel, (down, across) = self.layer.kernel, self.layer.strides
        spacing = self.layer.dilation
        size = [
            (n - 1) * s + (k - 1) * d + 1
            for n, s, k, d in zip(
                (height, width), (down, across), kernel.shape[:2], spacing, strict=True
            )
        ]
        out = np.zeros((count, *size, self.input_shape[2]))
        block = max(1, SCATTER // max(1, height * width * kernel[..., 0].size))
        for start in range(0, count, block):
            part = slice(start, start + block)
            for target, placed in self._products(values[part]):
                for i, j in np.ndindex(kernel.shape[:2]):
                    top, left = i * spacing[0], j * spacing[1]
                    out[
                        part,
                        top : top + (height - 1) * down + 1 : down,
                        left : left + (width - 1) * across + 1 : across,
                        target,
                    ] += placed(i, j)
        whole = origin is None
        if origin is None:
            origin = np.zeros((1, 2), np.int64)
        return (settle(out, origin * (down, across) - self.before, self.input_shape, whole),)

    def carried(self, *changes: Rows | None) -> Rows:
        (rows,) = filter(None, changes)
        layer = self.layer
        span = (np.array(layer.kernel.shape[:2]) - 1) * layer.dilation + 1
        seen = opened(rows, span, layer.strides, self.before, self.output_shape)
        if seen is None:
            return super().carried(rows)
        values = self.narrow.layer.replace(padding="valid").linear(seen.values)
        return settle(values, seen.origins, self.output_shape, False)

    def _products(
        self, values: np.ndarray
    ) -> Iterator[tuple[slice, Callable[[int, int], np.ndarray]]]:
        """For every group: its input channels, and what each place of the kernel adds there, shape
        (rows, window rows, window columns, input channels of the group).
        """
        kernel = self.layer.kernel
        if isinstance(self.layer, DepthwiseConv2D):
            split = values.reshape(*values.shape[:3], *kernel.shape[2:])
            yield slice(None), lambda i, j: np.einsum("rhwcm,cm->rhwc", split, kernel[i, j])
            return
        for inputs, outputs in self.layer.parts():
            part = kernel[..., outputs]
            matrix = part.reshape(-1, part.shape[3]).T
            columns = (values[..., outputs].reshape(-1, part.shape[3]) @ matrix).reshape(
                *values.shape[:3], *part.shape[:3]
            )
            yield inputs, _at(columns)


class TransposedConvolution(Linear):
    """A transposed convolution."""

    bias: np.ndarray

    def __init__(self, layer: Conv2DTranspose, input_shape: Shape):
        self.layer = layer.replace(
            kernel=layer.kernel.astype(np.float64),
            bias=np.zeros(layer.outputs),
            activation="linear",
            quantization=None,
        )
        self.bias = layer.bias.astype(np.float64)
        self.input_shape, self.output_shape = input_shape, layer.output_shape(input_shape)
        self.terms = layer.kernel[..., 0].size * max(layer.kernel.shape[2:])

    def minus(self, other: Self) -> "TransposedConvolution":
        return TransposedConvolution(
            self.layer.replace(
                kernel=self.layer.kernel - other.layer.kernel, bias=self.bias - other.bias
            ),
            self.input_shape,
        )

    @cached_property
    def norm(self) -> float:
        kernel = self.layer.kernel
        return sum(spectral_norm(place) for place in kernel.reshape(-1, *kernel.shape[2:]))

    def apply(self, *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        return self.layer.linear(x)

    def magnitude(self, *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        return self.layer.replace(kernel=np.abs(self.layer.kernel)).linear(x)

    def transposed(self, rows: Rows) -> tuple[Rows, ...]:
        values = densify_rows(rows, self.output_shape).values
        kernel, strides = self.layer.kernel, self.layer.strides
        (top, _), (left, _) = self.layer.crop(self.input_shape)
        size = [
            (n - 1) * s + k
            for n, s, k in zip(self.input_shape[:2], strides, kernel.shape[:2], strict=True)
        ]
        canvas = np.zeros((len(values), *size, self.output_shape[2]))
        inside = values[:, : size[0] - top, : size[1] - left]
        canvas[:, top : top + inside.shape[1], left : left + inside.shape[2]] = inside
        return (Rows(Conv2D(kernel, strides=strides).linear(canvas)),)


class Scale(Linear):
    """slope · x + shift, both broadcasting against the input."""

    bias: np.ndarray

    def __init__(self, slope: np.ndarray, shift: np.ndarray, bias_size: np.ndarray | None = None):
        self.slope, self.bias, self.bias_size = slope, shift, bias_size

    @classmethod
    def of(cls, layer: BatchNormalization | Rescaling | Normalization) -> "Scale":
        slope, shift = layer.affine()
        if isinstance(layer, BatchNormalization):
            return cls(slope, shift, _constants_of(layer))
        return cls(slope, shift, np.abs(shift))

    def minus(self, other: Self) -> "Scale":
        return Scale(self.slope - other.slope, self.bias - other.bias)

    @cached_property
    def norm(self) -> float:
        return float(np.abs(self.slope).max())

    @property
    def row_norms(self) -> np.ndarray:
        return np.abs(self.slope)

    def apply(self, *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        return x * self.slope

    def magnitude(self, *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        return x * np.abs(self.slope)

    def transposed(self, rows: Rows) -> tuple[Rows, ...]:
        return (self._scaled(rows, self.slope),)

    def carried(self, *changes: Rows | None) -> Rows:
        (rows,) = filter(None, changes)
        return self._scaled(rows, self.slope.astype(np.float32))

    def _scaled(self, rows: Rows, slope: np.ndarray) -> Rows:
        if rows.origin is not None and slope.ndim > 1:
            rows = densify_rows(rows, slope.shape)
        return Rows(rows.values * slope, rows.origin)


class Sum(Linear):
    """The sum of all inputs, each with a sign."""

    def __init__(self, signs: tuple[float, ...], shape: Shape):
        self.signs, self.shape = signs, shape
        self.terms = len(signs)

    norm = 1.0

    def apply(self, *inputs: np.ndarray) -> np.ndarray:
        return np.asarray(sum(sign * x for sign, x in zip(self.signs, inputs, strict=True)))

    def magnitude(self, *inputs: np.ndarray) -> np.ndarray:
        return np.asarray(sum(inputs))

    def transposed(self, rows: Rows) -> tuple[Rows, ...]:
        return tuple(Rows(sign * rows.values, rows.origin) for sign in self.signs)

    def carried(self, *changes: Rows | None) -> Rows:
        parts = [
            Rows(np.float32(sign) * rows.values, rows.origin)
            for sign, rows in zip(self.signs, changes, strict=True)
            if rows is not None
        ]
        return reduce(lambda one, other: one.plus(other, self.shape), parts)


class Join(Linear):
    """Inputs side by side along the last axis."""

    def __init__(self, shapes: tuple[Shape, ...]):
        self.shapes = shapes
        self.cuts = np.cumsum([shape[-1] for shape in shapes])[:-1]

    norm = 1.0

    def apply(self, *inputs: np.ndarray) -> np.ndarray:
        return np.concatenate(inputs, axis=-1)

    def transposed(self, rows: Rows) -> tuple[Rows, ...]:
        return tuple(Rows(part, rows.origin) for part in np.split(rows.values, self.cuts, axis=-1))

    def carried(self, *changes: Rows | None) -> Rows:
        there = [rows for rows in changes if rows is not None]
        if len(there) > 1:
            changes = tuple(
                rows and densify_rows(rows, shape)
                for rows, shape in zip(changes, self.shapes, strict=True)
            )
            there = [rows for rows in changes if rows is not None]
        size, origin = there[0].values.shape[:-1], there[0].origin
        values = [
            np.zeros((*size, shape[-1]), np.float32) if rows is None else rows.values
            for rows, shape in zip(changes, self.shapes, strict=True)
        ]
        return Rows(np.concatenate(values, axis=-1), origin)


class Reshape(Linear):
    """The same values in another shape."""

    def __init__(self, input_shape: Shape, shape: Shape):
        self.input_shape, self.shape = input_shape, shape

    norm = 1.0

    def apply(self, *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        return x.reshape(len(x), *self.shape)

    def transposed(self, rows: Rows) -> tuple[Rows, ...]:
        values = densify_rows(rows, self.shape).values
        return (Rows(values.reshape(-1, *self.input_shape)),)


class Selection(Linear):
    """Values in other places, repeated, left out, interpolated, with zeros between: what a layer
    without weights does, as a sparse matrix.
    """

    def __init__(self, matrix: "csr_array", input_shape: Shape, shape: Shape):
        self.matrix, self.input_shape, self.shape = matrix, input_shape, shape
        self.terms = int(max(np.diff(matrix.indptr).max(), np.bincount(matrix.indices).max()))

    @classmethod
    def of(cls, layer: Layer, input_shape: Shape) -> "Selection":
        """Of a layer that puts values in other places, or zeros."""
        from scipy.sparse import csr_array  # few networks need it, and it takes long to import

        shape = layer.output_shape(input_shape)
        count = math.prod(input_shape)
        places = layer(np.arange(1.0, count + 1).reshape(1, *input_shape)).reshape(-1)
        filled = np.nonzero(places)[0]
        matrix = csr_array(
            (np.ones(len(filled)), (filled, places[filled].astype(int) - 1)),
            shape=(places.size, count),
        )
        return cls(matrix, input_shape, shape)

    @classmethod
    def interpolating(cls, layer: UpSampling2D, input_shape: Shape) -> "Selection":
        """Of bilinear upsampling."""
        from scipy.sparse import coo_array, csr_array, eye_array, kron

        matrix = eye_array(input_shape[2])
        for axis in (1, 0):
            size, factor = input_shape[axis], layer.size[axis]
            low, high, share = layer.neighbours(size, factor)
            rows = np.arange(size * factor)
            along = coo_array(
                (
                    np.concatenate([1 - share, share]),
                    (np.concatenate([rows, rows]), np.concatenate([low, high])),
                ),
                shape=(size * factor, size),
            )
            matrix = kron(along, matrix)
        return cls(csr_array(matrix), input_shape, layer.output_shape(input_shape))

    def apply(self, *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        return (x.reshape(len(x), -1) @ self.matrix.T).reshape(len(x), *self.shape)

    def transposed(self, rows: Rows) -> tuple[Rows, ...]:
        values = densify_rows(rows, self.shape).values
        flat = values.reshape(len(values), -1) @ self.matrix
        return (Rows(flat.reshape(-1, *self.input_shape)),)


class GlobalMean(Linear):
    """The mean of every channel over all positions."""

    def __init__(self, shape: Shape):
        self.input_shape = self.shape = shape
        self.positions = math.prod(shape[:-1])
        self.terms = self.positions

    def apply(self, *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        return x.mean(axis=tuple(range(1, x.ndim - 1)))

    def transposed(self, rows: Rows) -> tuple[Rows, ...]:
        values = (rows.values / self.positions)[:, None, None]
        # a copy, also of a single position: what comes next works in place
        return (Rows(np.broadcast_to(values, (len(values), *self.shape)).copy()),)


class Mean(Linear):
    """Average pooling; padding does not count."""

    def __init__(self, layer: AveragePooling2D, shape: Shape):
        self.input_shape = shape
        ones = np.ones((*layer.pool_size, shape[2], 1))
        self.sums = Convolution(
            DepthwiseConv2D(ones, strides=layer.strides, padding=layer.padding), shape
        )
        self.counts = np.broadcast_to(layer.counts(shape)[0].astype(float), self.sums.output_shape)
        self.terms = math.prod(layer.pool_size) + 1

    def apply(self, *inputs: np.ndarray) -> np.ndarray:
        (x,) = inputs
        return self.sums.apply(x) / self.counts

    def carried(self, *changes: Rows | None) -> Rows:
        sums = self.sums.carried(*changes)
        if not (self.counts == self.counts.flat[0]).all():
            sums = densify_rows(sums, self.counts.shape)
            return Rows(sums.values / self.counts.astype(np.float32))
        return Rows(sums.values / np.float32(self.counts.flat[0]), sums.origin)

    def transposed(self, rows: Rows) -> tuple[Rows, ...]:
        if (self.counts == self.counts.flat[0]).all():
            return self.sums.transposed(Rows(rows.values / self.counts.flat[0], rows.origin))
        whole = densify_rows(rows, self.counts.shape)
        return self.sums.transposed(Rows(whole.values / self.counts))


def one_hot(shape: Shape, index: tuple[np.ndarray, ...], value: float | np.ndarray = 1.0) -> Rows:
    """Rows that are one value each: index holds an array for each axis of the shape."""
    count = len(index[0])
    if len(shape) != 3:
        values = np.zeros((count, *shape))
        values[np.arange(count), *index] = value
        return Rows(values)
    values = np.zeros((count, 1, 1, shape[2]))
    values[np.arange(count), 0, 0, index[2]] = value
    return Rows(values, np.stack(index[:2], axis=1).astype(np.int64))


def settle(values: np.ndarray, origin: np.ndarray, shape: Shape, whole: bool) -> Rows:
    """Windows of a map of that shape, with zeros outside it; whole maps where they come from whole
    maps (and have one origin) or are as large.
    """
    height, width = values.shape[1:3]
    if whole:
        top, left = -origin[0]
        out = np.zeros((len(values), *shape), values.dtype)
        inside = values[:, top : top + shape[0], left : left + shape[1]]
        out[:, : inside.shape[1], : inside.shape[2]] = inside
        return Rows(out)
    if height >= shape[0] and width >= shape[1]:
        return densify_rows(Rows(values, origin), shape)
    mask(values, origin, shape[0], shape[1])
    return Rows(values, origin)


def opened(
    rows: Rows, span: np.ndarray, strides: tuple[int, int], before: np.ndarray, shape: Shape
) -> Rows | None:
    """What the windows see that changes reach, windows of `span` values, moved by strides over a
    map with padding `before` it: values, and the place of the first window of each row. None where
    they are all there are, in a map of that shape.
    """
    if rows.origin is None:
        return None
    counts = (np.array(rows.values.shape[1:3]) + span - 2) // strides + 1
    if (counts >= shape[:2]).any():
        return None
    first = -((span - 1 - before - rows.origin) // strides)
    size = (counts - 1) * strides + span
    values = np.zeros((len(rows.values), *size, rows.values.shape[3]), rows.values.dtype)
    put(rows.values, rows.origin - (first * strides - before), values)
    return Rows(values, first)


def densify_rows(rows: Rows, shape: Shape) -> Rows:
    """The same forms as whole maps."""
    if rows.origin is None:
        return rows
    whole = np.zeros((len(rows.values), *shape), rows.values.dtype)
    put(rows.values, rows.origins, whole)
    return Rows(whole)


def _at(columns: np.ndarray) -> Callable[[int, int], np.ndarray]:
    return lambda i, j: columns[:, :, :, i, j]


def _union(first: Rows, second: Rows, offset: np.ndarray) -> Rows:
    sizes = [np.array(rows.values.shape[1:3]) for rows in (first, second)]
    corner = np.minimum(0, offset)
    end = np.maximum(sizes[0], offset + sizes[1])
    out = np.zeros((len(first.values), *(end - corner), first.values.shape[3]), first.values.dtype)
    for rows, (top, left), (height, width) in (
        (first, -corner, sizes[0]),
        (second, offset - corner, sizes[1]),
    ):
        out[:, top : top + height, left : left + width] += rows.values
    return Rows(out, first.origin + corner)


def _constants_of(norm: BatchNormalization) -> np.ndarray:
    return np.abs(norm.beta.astype(np.float64)) + np.abs(norm.affine()[0] * norm.mean)
