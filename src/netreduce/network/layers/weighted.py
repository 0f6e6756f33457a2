"""Layers with a kernel and a bias: those that are quantized, lumped and pruned."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from netreduce.errors import ParameterError, ShapeError
from netreduce.network.activations import ActivationFunction, activation_function

from .base import Layer, Quantization, Shape, pair, parameter, set_field, whole_numbers
from .windows import (
    Padding,
    Widths,
    pad,
    padding,
    padding_widths,
    window_counts,
    window_padding,
    windows,
)

# convolutions copy patches in blocks of about this size: they stay in the cache
PATCH_BYTES = 1 << 19
FEW_CHANNELS = 4


@dataclass(frozen=True, eq=False)
class Weighted(Layer):
    """A layer with a kernel, a bias and an activation; `linear` is everything before the
    activation.
    """

    kernel: np.ndarray
    bias: np.ndarray = None  # type: ignore[assignment]  # zeros
    activation: str = "linear"
    quantization: Quantization | None = field(default=None, kw_only=True)

    KERNEL_RANK = 0

    def __post_init__(self) -> None:
        kernel = parameter(self.kernel)
        if kernel.ndim != self.KERNEL_RANK:
            raise ShapeError(
                f"{type(self).__name__}: kernel must have {self.KERNEL_RANK} axes, found shape"
                f" {kernel.shape}"
            )
        bias = (
            np.zeros(self._outputs(kernel), kernel.dtype)
            if self.bias is None
            else parameter(self.bias)
        )
        if bias.shape != (self._outputs(kernel),):
            raise ShapeError(
                f"{type(self).__name__}: bias must have shape ({self._outputs(kernel)},) for a"
                f" kernel of shape {kernel.shape}, found {bias.shape}"
            )
        activation_function(self.activation)
        set_field(self, "kernel", kernel)
        set_field(self, "bias", bias)

    @staticmethod
    def _outputs(kernel: np.ndarray) -> int:
        return kernel.shape[-1]

    @property
    def outputs(self) -> int:
        """Number of neurons (Dense) or output channels (convolutions)."""
        return self._outputs(self.kernel)

    @property
    def codes(self) -> np.ndarray | None:
        """Integer codes of the kernel (kernel = quantization.scale · codes), or None for an analog
        layer.
        """
        return None if self.quantization is None else self.quantization.codes(self.kernel)

    @property
    def bias_codes(self) -> np.ndarray | None:
        """Integer codes of the bias, or None where the bias is analog."""
        return (
            self.quantization.codes(self.bias)
            if self.quantization and self.quantization.quantized_bias
            else None
        )

    @property
    def function(self) -> ActivationFunction:
        """The activation, with its properties."""
        return activation_function(self.activation)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"kernel": self.kernel, "bias": self.bias}

    def linear(self, x: np.ndarray) -> np.ndarray:
        """Pre-activations of a batch."""
        raise NotImplementedError

    def __call__(self, x: np.ndarray) -> np.ndarray:
        out = self.linear(x)
        if self.activation == "relu":  # without a second array: the first one is nobody else's
            return np.maximum(out, 0, out=out)
        return self.function.function(out)


@dataclass(frozen=True, eq=False)
class Dense(Weighted):
    """Fully connected layer: activation(x @ kernel + bias), kernel of shape (inputs, outputs).

    Examples
    --------
    >>> layer = Dense([[1.0, -2.0]], bias=[0.5, 0.5], activation="relu")
    >>> layer(np.array([[1.0], [-1.0]]))
    array([[1.5, 0. ],
           [0. , 2.5]])
    """

    KERNEL_RANK = 2

    def output_shape(self, shape: Shape) -> Shape:
        if shape != (self.kernel.shape[0],):
            raise ShapeError(
                f"Dense with a kernel of shape {self.kernel.shape} expects inputs of shape"
                f" ({self.kernel.shape[0]},), found {shape}"
            )
        return (self.outputs,)

    def linear(self, x: np.ndarray) -> np.ndarray:
        out = x @ self.kernel
        out += self.bias
        return out


@dataclass(frozen=True, eq=False)
class Convolution(Weighted):
    """A layer whose kernel is moved over an image with padding around it."""

    strides: tuple[int, int] = (1, 1)
    padding: Padding = "valid"
    dilation: tuple[int, int] = (1, 1)

    KERNEL_RANK = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        set_field(self, "strides", pair("strides", self.strides))
        set_field(self, "dilation", pair("dilation", self.dilation))
        set_field(self, "padding", window_padding(self.padding))

    @property
    def inputs(self) -> int:
        """Number of input channels."""
        return self.kernel.shape[2]

    def output_shape(self, shape: Shape) -> Shape:
        _check_channels(self, shape, self.inputs)
        return (
            *window_counts(
                shape[:2], self.kernel.shape[:2], self.strides, self.padding, self.dilation
            ),
            self.outputs,
        )

    def patches(self, x: np.ndarray) -> np.ndarray:
        """The windows the kernel sees: a view of the padded input, shape (batch, rows, columns,
        kernel rows, kernel columns, channels).
        """
        return windows(self.padded(x), self.kernel.shape[:2], self.strides, self.dilation)

    def padded(self, x: np.ndarray) -> np.ndarray:
        """The input with its padding."""
        return pad(x, self.padding_widths(x.shape[1:]))

    def padding_widths(self, shape: Shape) -> Widths:
        """Padding before and after, of rows and of columns, for inputs of that shape."""
        return padding_widths(
            shape[:2], self.kernel.shape[:2], self.strides, self.padding, self.dilation
        )


@dataclass(frozen=True, eq=False)
class Conv2D(Convolution):
    """2-D convolution, kernel of shape (kernel rows, kernel columns, input channels / groups,
    output channels).

    With groups, the input channels are cut into so many parts of equal size, and the output
    channels likewise: each part of the outputs reads the part of the inputs of the same number.

    Examples
    --------
    >>> layer = Conv2D(np.ones((3, 3, 2, 8)), strides=2, padding=(1, 1, 1, 1), groups=4)
    >>> layer.output_shape((32, 32, 8))
    (16, 16, 8)
    """

    groups: int = field(default=1, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        (groups,) = whole_numbers("groups", (self.groups,))
        set_field(self, "groups", groups)
        if self.outputs % self.groups:
            raise ShapeError(
                f"Conv2D: {self.outputs} output channels cannot be cut into {self.groups} groups"
            )

    @property
    def inputs(self) -> int:
        return self.kernel.shape[2] * self.groups

    def linear(self, x: np.ndarray) -> np.ndarray:
        patches = self.patches(x)
        batch, rows, columns = patches.shape[:3]
        size = self.kernel[..., 0].size
        out = np.empty((batch, rows, columns, self.outputs), np.result_type(x, self.kernel))
        step = max(1, PATCH_BYTES // (rows * columns * size * self.groups * x.itemsize))
        # added to rows of pixels: NumPy's loops are slow over a short last axis
        bias = np.tile(self.bias, columns)
        for start in range(0, batch, step):
            some = out[start : start + step]
            block = some.reshape(-1, self.outputs)
            for inputs, outputs in self.parts():
                part = _rows(patches[start : start + step, ..., inputs])
                matrix = self.kernel[..., outputs].reshape(size, -1)
                if self.groups == 1:
                    np.matmul(part, matrix, out=block)
                else:
                    block[:, outputs] = part @ matrix
            pixels = some.reshape(-1, bias.size)
            pixels += bias
        return out

    def reading(self, values: np.ndarray) -> np.ndarray:
        """Numbers per input channel as the weights read them: shape (..., input channels) becomes
        (..., input channels / groups, output channels), or 1 in place of the latter without groups.
        """
        if self.groups == 1:
            return values[..., None]
        parts = values.reshape(*values.shape[:-1], self.groups, -1)
        return np.repeat(np.swapaxes(parts, -1, -2), self.outputs // self.groups, axis=-1)

    def parts(self) -> Iterator[tuple[slice, slice]]:
        """The input channels and the output channels of each group."""
        inputs, outputs = self.kernel.shape[2], self.outputs // self.groups
        for group in range(self.groups):
            yield (
                slice(group * inputs, (group + 1) * inputs),
                slice(group * outputs, (group + 1) * outputs),
            )


@dataclass(frozen=True, eq=False)
class DepthwiseConv2D(Convolution):
    """Convolution of every input channel by itself, kernel of shape (kernel rows, kernel columns,
    input channels, multiplier).

    Examples
    --------
    >>> DepthwiseConv2D(np.ones((3, 3, 8, 2)), padding="same").output_shape((32, 32, 8))
    (32, 32, 16)
    """

    @staticmethod
    def _outputs(kernel: np.ndarray) -> int:
        return kernel.shape[2] * kernel.shape[3]

    def linear(self, x: np.ndarray) -> np.ndarray:
        patches = self.patches(x)
        out = np.zeros((*patches.shape[:3], *self.kernel.shape[2:]), np.result_type(x, self.kernel))
        for i, j in np.ndindex(self.kernel.shape[:2]):
            out += patches[:, :, :, i, j, :, None] * self.kernel[i, j]
        return out.reshape(*out.shape[:3], -1) + self.bias


@dataclass(frozen=True, eq=False)
class Conv2DTranspose(Weighted):
    """Transposed convolution, kernel of shape (kernel rows, kernel columns, output channels, input
    channels).

    Every input pixel adds the kernel, times its value, to the window of the output at its place
    times the strides. Of an axis with n pixels that makes strides · (n − 1) + kernel ones, of which
    `padding` takes some away: with four numbers, as many at every side, and `output_padding` more
    are added at the end, as in PyTorch. With "valid" and "same" the output has the size that Keras
    gives it: strides · n + max(kernel − strides, 0) and strides · n pixels without
    `output_padding`.

    Examples
    --------
    >>> kernel = np.ones((3, 3, 4, 8))
    >>> Conv2DTranspose(kernel, strides=2, padding="same").output_shape((16, 16, 8))
    (32, 32, 4)
    >>> Conv2DTranspose(kernel, strides=2, padding=(1, 1, 1, 1)).output_shape((16, 16, 8))
    (31, 31, 4)
    """

    strides: tuple[int, int] = (1, 1)
    padding: Padding = "valid"
    output_padding: tuple[int, int] | None = None

    KERNEL_RANK = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        set_field(self, "strides", pair("strides", self.strides))
        set_field(self, "padding", padding(self.padding))
        if self.output_padding is not None:
            more = pair("output_padding", self.output_padding, least=0)
            if any(m >= s for m, s in zip(more, self.strides, strict=True)):
                raise ParameterError(
                    f"output_padding must be smaller than the strides {self.strides}, found {more}"
                )
            set_field(self, "output_padding", more)

    @staticmethod
    def _outputs(kernel: np.ndarray) -> int:
        return kernel.shape[2]

    @property
    def inputs(self) -> int:
        """Number of input channels."""
        return self.kernel.shape[3]

    def output_shape(self, shape: Shape) -> Shape:
        _check_channels(self, shape, self.inputs)
        (_, rows), (_, columns) = self.crop(shape)
        if rows < 1 or columns < 1:
            raise ShapeError(
                f"Conv2DTranspose: padding {self.padding} leaves nothing of an image of"
                f" {shape[0]}×{shape[1]}"
            )
        return rows, columns, self.outputs

    def crop(self, shape: Shape) -> Widths:
        """By axis, how many of the pixels at the start are taken away, and how many there are in
        the output; those beyond the last window hold the bias alone.
        """
        more = self.output_padding
        result = []
        for axis in (0, 1):
            n, k, s = shape[axis], self.kernel.shape[axis], self.strides[axis]
            full = (n - 1) * s + k
            if isinstance(self.padding, str):
                if more is None:
                    length = n * s + (max(k - s, 0) if self.padding == "valid" else 0)
                else:
                    length = full - (2 * (k // 2) if self.padding == "same" else 0) + more[axis]
                taken = max((n - 1) * s + k - length, 0) // 2 if self.padding == "same" else 0
            else:
                taken = self.padding[2 * axis]
                added = 0 if more is None else more[axis]
                length = full - taken - self.padding[2 * axis + 1] + added
            result.append((taken, length))
        return result[0], result[1]

    def linear(self, x: np.ndarray) -> np.ndarray:
        batch, height, width = x.shape[:3]
        (top, rows), (left, columns) = self.crop(x.shape[1:])
        size, (down, across) = self.kernel.shape[:2], self.strides
        # the image that all windows lie in: nothing is cut off yet
        shape = (
            max((height - 1) * down + size[0], top + rows),
            max((width - 1) * across + size[1], left + columns),
        )
        out = np.zeros((batch, *shape, self.outputs), np.result_type(x, self.kernel))
        matrices = self.kernel.transpose(0, 1, 3, 2)
        for i, j in np.ndindex(size):
            window = out[:, i : i + (height - 1) * down + 1 : down]
            window[:, :, j : j + (width - 1) * across + 1 : across] += x @ matrices[i, j]
        return out[:, top : top + rows, left : left + columns] + self.bias


def _check_channels(layer: Weighted, shape: Shape, channels: int) -> None:
    if len(shape) != 3 or shape[2] != channels:
        raise ShapeError(
            f"{type(layer).__name__} with a kernel of shape {layer.kernel.shape} "
            f"expects inputs of shape (height, width, {channels}), found {shape}"
        )


def _rows(patches: np.ndarray) -> np.ndarray:
    """Patches as a matrix, a row each; copied along image rows where the rows of a patch are too
    short to be copied by themselves.
    """
    size = math.prod(patches.shape[3:])
    if patches.shape[5] < FEW_CHANNELS:
        return patches.transpose(3, 4, 5, 0, 1, 2).reshape(size, -1).T
    return patches.reshape(-1, size)
