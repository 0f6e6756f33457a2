"""Layers that treat every value by itself, most of them alike at every position."""

from dataclasses import dataclass, field

import numpy as np

from netreduce.errors import ParameterError, ShapeError
from netreduce.network.activations import (
    LEAKY_RELU_SLOPE,
    PARAMETERS,
    ActivationFunction,
    activation_function,
)

from .base import Layer, Shape, parameter, set_field, whole_numbers

LEAST_DEVIATION = 1e-7  # Normalization divides by no less, as in Keras


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

    def __post_init__(self) -> None:
        for name in ("gamma", "beta", "mean", "variance"):
            array = parameter(getattr(self, name))
            if array.shape != np.shape(self.gamma) or array.ndim != 1:
                raise ShapeError(
                    f"BatchNormalization: {name} must have shape ({np.size(self.gamma)},), found"
                    f" {array.shape}"
                )
            set_field(self, name, array)
        set_field(self, "epsilon", float(self.epsilon))
        if not (self.variance.astype(np.float64) + self.epsilon > 0).all():
            raise ParameterError("BatchNormalization: variance + epsilon must be positive")

    def output_shape(self, shape: Shape) -> Shape:
        if shape[-1] != len(self.gamma):
            raise ShapeError(
                f"BatchNormalization of {len(self.gamma)} channels expects inputs of shape (...,"
                f" {len(self.gamma)}), found {shape}"
            )
        return shape

    def arrays(self) -> dict[str, np.ndarray]:
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

    def __call__(self, x: np.ndarray) -> np.ndarray:
        slope, intercept = self.affine()
        out = x * slope.astype(x.dtype)
        out += intercept.astype(x.dtype)
        return out


@dataclass(frozen=True, eq=False)
class Rescaling(Layer):
    """scale · x + offset; both are numbers, or arrays that broadcast against one input.

    Examples
    --------
    >>> Rescaling(1 / 127.5, -1.0)(np.array([[0.0, 255.0]], np.float32))
    array([[-1.,  1.]], dtype=float32)
    """

    scale: np.ndarray
    offset: np.ndarray = 0.0  # type: ignore[assignment]

    def __post_init__(self) -> None:
        _set_parameters(self, "scale", "offset")

    def output_shape(self, shape: Shape) -> Shape:
        return _fitting(self, shape)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"scale": self.scale, "offset": self.offset}

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Slope and intercept, float64: the layer computes slope · x + intercept."""
        return self.scale.astype(np.float64), self.offset.astype(np.float64)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x * self.scale + self.offset


@dataclass(frozen=True, eq=False)
class Normalization(Layer):
    """(x − mean) / sqrt(variance), the root at least 10⁻⁷; both are numbers, or arrays that
    broadcast against one input.

    Examples
    --------
    >>> Normalization(mean=[1.0, 2.0], variance=[4.0, 0.25])(np.array([[3.0, 3.0]]))
    array([[1., 2.]])
    """

    mean: np.ndarray
    variance: np.ndarray

    def __post_init__(self) -> None:
        _set_parameters(self, "mean", "variance")
        if not (self.variance >= 0).all():
            raise ParameterError("Normalization: variance must not be negative")

    def output_shape(self, shape: Shape) -> Shape:
        return _fitting(self, shape)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"mean": self.mean, "variance": self.variance}

    def affine(self) -> tuple[np.ndarray, np.ndarray]:
        """Slope and intercept, float64: the layer computes slope · x + intercept."""
        slope = 1 / np.maximum(np.sqrt(self.variance.astype(np.float64)), LEAST_DEVIATION)
        return slope, -slope * self.mean

    def __call__(self, x: np.ndarray) -> np.ndarray:
        deviation = np.maximum(np.sqrt(self.variance), self.variance.dtype.type(LEAST_DEVIATION))
        return (x - self.mean) / deviation


@dataclass(frozen=True, eq=False)
class Activation(Layer):
    """An activation function as a layer of its own.

    Parameters
    ----------
    name : str
        A key of `netreduce.network.activations.ACTIVATIONS`.
    negative_slope : float
        Of "leaky_relu".
    alpha : float
        Of "elu": what it tends to far below zero, negative.
    max_value : float, optional
        Of "relu" and "leaky_relu": what they are at most.
    threshold : float
        Of "relu" and "leaky_relu": up to where the input does not count as positive.

    Raises
    ------
    ParameterError
        A parameter that the function does not have.

    Examples
    --------
    >>> Activation("leaky_relu", negative_slope=0.5, max_value=2.0)(np.array([-1.0, 1.0, 3.0]))
    array([-0.5,  1. ,  2. ])
    """

    name: str
    negative_slope: float = LEAKY_RELU_SLOPE
    alpha: float = field(default=1.0, kw_only=True)
    max_value: float | None = field(default=None, kw_only=True)
    threshold: float = field(default=0.0, kw_only=True)

    def __post_init__(self) -> None:
        activation_function(self.name)
        for key, default in _DEFAULTS.items():
            value = getattr(self, key)
            if key not in PARAMETERS.get(self.name, ()) and value != default:
                raise ParameterError(f"activation {self.name!r} has no parameter {key!r}")
        self.function  # noqa: B018 - checks that the parameters are in range

    @property
    def parameters(self) -> dict[str, float | None]:
        """The parameters that the function has."""
        return {key: getattr(self, key) for key in PARAMETERS.get(self.name, ())}

    @property
    def function(self) -> ActivationFunction:
        """The function, with its properties."""
        return activation_function(self.name, **self.parameters)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.function.function(x)


_DEFAULTS = {key: value for known in PARAMETERS.values() for key, value in known.items()}


@dataclass(frozen=True, eq=False)
class PReLU(Layer):
    """x above zero and alpha · x below, with an alpha that broadcasts against one input: one number
    for all, one per channel, or one per value.

    Examples
    --------
    >>> PReLU([0.5, 0.25])(np.array([[-1.0, -1.0], [1.0, 1.0]]))
    array([[-0.5 , -0.25],
           [ 1.  ,  1.  ]])
    """

    alpha: np.ndarray

    def __post_init__(self) -> None:
        _set_parameters(self, "alpha")

    def output_shape(self, shape: Shape) -> Shape:
        return _fitting(self, shape)

    def arrays(self) -> dict[str, np.ndarray]:
        return {"alpha": self.alpha}

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.where(x > 0, x, self.alpha * x)


@dataclass(frozen=True, eq=False)
class ActivationGrid(Layer):
    """Rounds every value to a grid: scale · (code − zero_point), with a code of so many bits.

    code = rint(x / scale) + zero_point, half to even, computed in float32, and the nearest end of
    the range −2^(bits − 1) … 2^(bits − 1) − 1 where it lies outside. Zero is on the grid.

    Parameters
    ----------
    scale : float
        Distance between neighbouring values; rounded to float32.
    zero_point : int
        Code of zero, one of the range.
    bits : int
        From 2 to 8.

    Examples
    --------
    >>> ActivationGrid(0.5, zero_point=-2, bits=2)(np.array([[-1.0, 0.3, 0.6, 9.0]]))
    array([[0. , 0.5, 0.5, 1.5]])
    """

    scale: float
    zero_point: int = 0
    bits: int = 8

    def __post_init__(self) -> None:
        (bits,) = whole_numbers("bits", (self.bits,))
        if not 2 <= bits <= 8:
            raise ParameterError(f"bits of an ActivationGrid must be from 2 to 8, found {bits}")
        set_field(self, "bits", bits)
        scale = float(np.float32(self.scale))
        if not (np.isfinite(scale) and scale > 0):
            raise ParameterError(
                f"scale of an ActivationGrid must be finite and positive, found {self.scale!r}"
            )
        set_field(self, "scale", scale)
        if self.zero_point != int(self.zero_point) or not self.low <= self.zero_point <= self.high:
            raise ParameterError(
                f"zero_point of an ActivationGrid of {bits} bits must be a whole number from"
                f" {self.low} to {self.high}, found {self.zero_point!r}"
            )
        set_field(self, "zero_point", int(self.zero_point))

    @property
    def low(self) -> int:
        """The least code."""
        return -(1 << self.bits - 1)

    @property
    def high(self) -> int:
        """The largest code."""
        return (1 << self.bits - 1) - 1

    def codes(self, x: np.ndarray) -> np.ndarray:
        """Codes (int32) of the nearest values of the grid."""
        steps = np.rint(x.astype(np.float32) / np.float32(self.scale))
        steps = np.clip(steps, self.low - self.zero_point, self.high - self.zero_point)
        return steps.astype(np.int32) + self.zero_point

    def values(self, codes: np.ndarray) -> np.ndarray:
        """The values, float32, that codes stand for."""
        return np.float32(self.scale) * (codes - self.zero_point).astype(np.float32)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.values(self.codes(x)).astype(x.dtype)


@dataclass(frozen=True, eq=False)
class Dropout(Layer):
    """Does nothing at inference; kept so that a network survives a round trip."""

    rate: float = 0.5

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x


def _set_parameters(layer: Layer, *names: str) -> None:
    for name in names:
        array = parameter(getattr(layer, name))
        if not np.isfinite(array).all():
            raise ParameterError(f"{type(layer).__name__}: {name} must be finite")
        set_field(layer, name, array)


def _fitting(layer: Layer, shape: Shape) -> Shape:
    """The input's shape, where the arrays of the layer broadcast against it."""
    for name, array in layer.arrays().items():
        try:
            fits = np.broadcast_shapes(array.shape, shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise ShapeError(
                f"{type(layer).__name__}: {name} of shape {array.shape} does not fit inputs of"
                f" shape {shape}"
            )
    return shape
