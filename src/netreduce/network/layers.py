"""Layers as frozen dataclasses of NumPy arrays, in Keras' orientation (channels last) and Keras'
names.

A layer is called on one batch per input and returns a batch; `output_shape` does the same for
shapes without the batch axis.
"""

import math
from dataclasses import dataclass, field
from dataclasses import replace as _replace

import numpy as np

from netreduce.errors import ParameterError, ShapeError, UnsupportedLayerError

from .activations import LEAKY_RELU_SLOPE, activation_function, leaky_relu

# convolutions copy patches in blocks of about this size: they stay in the cache
PATCH_BYTES = 1 << 19
FEW_CHANNELS = 4


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

    def __post_init__(self):
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

    def output_shape(self, *shapes: tuple[int, ...]) -> tuple[int, ...]:
        """Shape of the output without the batch axis; ShapeError where inputs do not fit."""
        return shapes[0]

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def replace(self, **changes) -> "Layer":
        """A copy of the layer with some fields changed."""
        return _replace(self, **changes)

    def arrays(self) -> dict[str, np.ndarray]:
        """The layer's parameter arrays by field name."""
        return {}


@dataclass(frozen=True, eq=False)
class _Weighted(Layer):
    """A layer with a kernel, a bias and an activation; `linear` is everything before the
    activation.
    """

    kernel: np.ndarray
    bias: np.ndarray | None = None
    activation: str = "linear"
    quantization: Quantization | None = field(default=None, kw_only=True)

    KERNEL_RANK = 0

    def __post_init__(self):
        kernel = _parameter(self.kernel)
        if kernel.ndim != self.KERNEL_RANK:
            raise ShapeError(
                f"{type(self).__name__}: kernel must have {self.KERNEL_RANK} axes, found shape"
                f" {kernel.shape}"
            )
        bias = (
            np.zeros(self._outputs(kernel), kernel.dtype)
            if self.bias is None
            else _parameter(self.bias)
        )
        if bias.shape != (self._outputs(kernel),):
            raise ShapeError(
                f"{type(self).__name__}: bias must have shape ({self._outputs(kernel)},) for a"
                f" kernel of shape {kernel.shape}, found {bias.shape}"
            )
        activation_function(self.activation)
        object.__setattr__(self, "kernel", kernel)
        object.__setattr__(self, "bias", bias)

    @staticmethod
    def _outputs(kernel):
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

    def arrays(self):
        return {"kernel": self.kernel, "bias": self.bias}

    def linear(self, x: np.ndarray) -> np.ndarray:
        """Pre-activations of a batch."""
        raise NotImplementedError

    def __call__(self, x):
        out = self.linear(x)
        if self.activation == "relu":  # without a second array: the first one is nobody else's
            return np.maximum(out, 0, out=out)
        return activation_function(self.activation).function(out)


@dataclass(frozen=True, eq=False)
class Dense(_Weighted):
    """Fully connected layer: activation(x @ kernel + bias), kernel of shape (inputs, outputs)."""

    KERNEL_RANK = 2

    def output_shape(self, shape):
        if shape != (self.kernel.shape[0],):
            raise ShapeError(
                f"Dense with a kernel of shape {self.kernel.shape} expects inputs of shape"
                f" ({self.kernel.shape[0]},), found {shape}"
            )
        return (self.outputs,)

    def linear(self, x):
        out = x @ self.kernel
        out += self.bias
        return out


@dataclass(frozen=True, eq=False)
class _Convolution(_Weighted):
    strides: tuple[int, int] = (1, 1)
    padding: str = "valid"
    dilation: tuple[int, int] = (1, 1)

    KERNEL_RANK = 4

    def __post_init__(self):
        super().__post_init__()
        object.__setattr__(self, "strides", _pair("strides", self.strides))
        object.__setattr__(self, "dilation", _pair("dilation", self.dilation))
        _check_padding(self.padding)

    def output_shape(self, shape):
        if len(shape) != 3 or shape[2] != self.kernel.shape[2]:
            raise ShapeError(
                f"{type(self).__name__} with a kernel of shape {self.kernel.shape} "
                f"expects inputs of shape (height, width, {self.kernel.shape[2]}), found {shape}"
            )
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
        return pad(x, self.kernel.shape[:2], self.strides, self.padding, self.dilation)


@dataclass(frozen=True, eq=False)
class Conv2D(_Convolution):
    """2-D convolution, kernel of shape (kernel rows, kernel columns, input channels, output
    channels).
    """

    def linear(self, x):
        patches = self.patches(x)
        batch, rows, columns = patches.shape[:3]
        matrix = self.kernel.reshape(-1, self.outputs)
        out = np.empty((batch, rows, columns, self.outputs), np.result_type(x, matrix))
        step = max(1, PATCH_BYTES // (rows * columns * matrix.shape[0] * x.itemsize))
        for start in range(0, batch, step):
            block = out[start : start + step].reshape(-1, self.outputs)
            np.matmul(_rows(patches[start : start + step]), matrix, out=block)
            block += self.bias
        return out


@dataclass(frozen=True, eq=False)
class DepthwiseConv2D(_Convolution):
    """Convolution of every input channel by itself, kernel of shape (kernel rows, kernel columns,
    input channels, multiplier).
    """

    @staticmethod
    def _outputs(kernel):
        return kernel.shape[2] * kernel.shape[3]

    def linear(self, x):
        patches = self.patches(x)
        out = np.zeros((*patches.shape[:3], *self.kernel.shape[2:]), np.result_type(x, self.kernel))
        for i, j in np.ndindex(self.kernel.shape[:2]):
            out += patches[:, :, :, i, j, :, None] * self.kernel[i, j]
        return out.reshape(*out.shape[:3], -1) + self.bias


@dataclass(frozen=True, eq=False)
class BatchNormalization(Layer):
    """Inference-time batch normalization along the last axis: gamma · (x − mean) / sqrt(variance +
    epsilon) + beta.
    """

    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    epsilon: float = 1e-3

    def __post_init__(self):
        for name in ("gamma", "beta", "mean", "variance"):
            array = _parameter(getattr(self, name))
            if array.shape != np.shape(self.gamma) or array.ndim != 1:
                raise ShapeError(
                    f"BatchNormalization: {name} must have shape ({np.size(self.gamma)},), found"
                    f" {array.shape}"
                )
            object.__setattr__(self, name, array)
        object.__setattr__(self, "epsilon", float(self.epsilon))
        if not (self.variance + self.epsilon > 0).all():
            raise ParameterError("BatchNormalization: variance + epsilon must be positive")

    def output_shape(self, shape):
        if shape[-1] != len(self.gamma):
            raise ShapeError(
                f"BatchNormalization of {len(self.gamma)} channels expects inputs of shape (...,"
                f" {len(self.gamma)}), found {shape}"
            )
        return shape

    def arrays(self):
        return {
            "gamma": self.gamma,
            "beta": self.beta,
            "mean": self.mean,
            "variance": self.variance,
        }

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Slope and intercept per channel, float64: the layer computes slope · x + intercept."""
        slope = self.gamma.astype(np.float64) / np.sqrt(
            self.variance.astype(np.float64) + self.epsilon
        )
        return slope, self.beta - slope * self.mean

    def __call__(self, x):
        slope, intercept = self.affine()
        out = x * slope.astype(x.dtype)
        out += intercept.astype(x.dtype)
        return out


@dataclass(frozen=True, eq=False)
class _Pooling2D(Layer):
    pool_size: tuple[int, int] = (2, 2)
    strides: tuple[int, int] | None = None
    padding: str = "valid"

    def __post_init__(self):
        object.__setattr__(self, "pool_size", _pair("pool_size", self.pool_size))
        object.__setattr__(
            self,
            "strides",
            _pair("strides", self.pool_size if self.strides is None else self.strides),
        )
        _check_padding(self.padding)

    def output_shape(self, shape):
        _check_image(self, shape)
        return (*window_counts(shape[:2], self.pool_size, self.strides, self.padding), shape[2])

    def _windows(self, x, fill):
        view = windows(
            pad(x, self.pool_size, self.strides, self.padding, fill=fill),
            self.pool_size,
            self.strides,
        )
        return [view[:, :, :, i, j] for i, j in np.ndindex(self.pool_size)]


@dataclass(frozen=True, eq=False)
class MaxPooling2D(_Pooling2D):
    """Maximum over windows; padding does not count."""

    def __call__(self, x):
        first, *others = self._windows(x, -np.inf)
        out = first.copy()
        for window in others:
            np.maximum(out, window, out=out)
        return out


@dataclass(frozen=True, eq=False)
class AveragePooling2D(_Pooling2D):
    """Mean over windows; padding does not count."""

    def __call__(self, x):
        counts = sum(self._windows(np.ones((1, *x.shape[1:3], 1), x.dtype), 0))
        return sum(self._windows(x, 0)) / counts


@dataclass(frozen=True, eq=False)
class GlobalAveragePooling2D(Layer):
    """Mean of every channel over all positions."""

    def output_shape(self, shape):
        _check_image(self, shape)
        return (shape[2],)

    def __call__(self, x):
        return x.mean(axis=(1, 2), dtype=x.dtype)


@dataclass(frozen=True, eq=False)
class Flatten(Layer):
    """All axes into one, row-major (rows, columns, channels)."""

    def output_shape(self, shape):
        return (int(np.prod(shape)),)

    def __call__(self, x):
        return x.reshape(len(x), -1)


@dataclass(frozen=True, eq=False)
class Dropout(Layer):
    """Does nothing at inference; kept so that a network survives a round trip."""

    rate: float = 0.5

    def __call__(self, x):
        return x


@dataclass(frozen=True, eq=False)
class Activation(Layer):
    """An activation function as a layer of its own; negative_slope matters to leaky_relu only."""

    name: str
    negative_slope: float = LEAKY_RELU_SLOPE

    def __post_init__(self):
        activation_function(self.name)

    def __call__(self, x):
        return (
            leaky_relu(x, self.negative_slope)
            if self.name == "leaky_relu"
            else activation_function(self.name).function(x)
        )


@dataclass(frozen=True, eq=False)
class Add(Layer):
    """Sum of all inputs."""

    def output_shape(self, *shapes):
        if len(shapes) < 2 or len(set(shapes)) != 1:
            raise ShapeError(f"Add expects two or more inputs of one shape, found {shapes}")
        return shapes[0]

    def __call__(self, *inputs):
        return sum(inputs[1:], start=inputs[0])


@dataclass(frozen=True, eq=False)
class Concatenate(Layer):
    """All inputs side by side along the last axis."""

    def output_shape(self, *shapes):
        if len(shapes) < 2 or len({shape[:-1] for shape in shapes}) != 1:
            raise ShapeError(
                "Concatenate expects two or more inputs that agree but for the last axis, found"
                f" {shapes}"
            )
        return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))

    def __call__(self, *inputs):
        return np.concatenate(inputs, axis=-1)


def pad(x, kernel_size, strides, padding, dilation=(1, 1), fill=0) -> np.ndarray:
    """An image batch with the padding that windows of that size need."""
    if padding == "same":
        widths = [
            _same_padding(*axis)
            for axis in zip(x.shape[1:3], kernel_size, strides, dilation, strict=True)
        ]
        if any(map(any, widths)):
            return np.pad(x, [(0, 0), *widths, (0, 0)], constant_values=fill)
    return x


def windows(x, kernel_size, strides, dilation=(1, 1)) -> np.ndarray:
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


def window_counts(size, kernel_size, strides, padding, dilation=(1, 1)) -> tuple[int, int]:
    """Number of window positions along both axes."""
    counts = []
    for n, k, s, d in zip(size, kernel_size, strides, dilation, strict=True):
        span = d * (k - 1) + 1
        if padding == "valid" and n < span:
            raise ShapeError(
                f"a window of {span} does not fit into an image of {n} without padding"
            )
        counts.append(-(-n // s) if padding == "same" else (n - span) // s + 1)
    return tuple(counts)


def _rows(patches):
    """Patches as a matrix, a row each; copied along image rows where the rows of a patch are too
    short to be copied by themselves.
    """
    size = math.prod(patches.shape[3:])
    if patches.shape[5] < FEW_CHANNELS:
        return patches.transpose(3, 4, 5, 0, 1, 2).reshape(size, -1).T
    return patches.reshape(-1, size)


def _same_padding(size, kernel, stride, dilation):
    """Padding before and after, as Keras does it: the odd pixel goes to the end."""
    total = max((-(-size // stride) - 1) * stride + dilation * (kernel - 1) + 1 - size, 0)
    return total // 2, total - total // 2


def _parameter(array):
    array = np.asarray(array)
    if array.dtype.kind not in "fiu":
        raise ShapeError(f"parameters must be real numbers, found dtype {array.dtype}")
    return array if array.dtype in (np.float32, np.float64) else array.astype(np.float32)


def _pair(name, value):
    pair = (value, value) if np.ndim(value) == 0 else tuple(value)
    if len(pair) != 2 or any(int(v) != v or v < 1 for v in pair):
        raise ParameterError(f"{name} must be one or two positive integers, found {value!r}")
    return tuple(int(v) for v in pair)


def _check_padding(padding):
    if padding not in ("valid", "same"):
        raise UnsupportedLayerError(f"padding must be 'valid' or 'same', found {padding!r}")


def _check_image(layer, shape):
    if len(shape) != 3:
        raise ShapeError(
            f"{type(layer).__name__} expects inputs of shape (height, width, channels), found"
            f" {shape}"
        )
