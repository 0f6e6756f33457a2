"""Activation functions by name, and the properties that reductions and certificates rely on.

Names are Keras', with three of the field besides: relu6, hard_swish (Keras: hard_silu) and
gelu_tanh, the approximation of gelu by a tanh. hard_sigmoid is relu6(x + 3) / 6, as in PyTorch and
Keras 3; hard_sigmoid_keras2 is 0.2 x + 0.5 between 0 and 1, as in Keras 1 and 2. Some functions
take parameters; a layer that names its activation in one word has the default ones.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from netreduce.errors import ParameterError, UnsupportedLayerError

LEAKY_RELU_SLOPE = 0.2  # Keras' default for the activation "leaky_relu"
SELU_SCALE, SELU_ALPHA = 1.0507009873554805, 1.6732632423543772
SQRT_HALF, SQRT_2_OVER_PI = 0.7071067811865476, 0.7978845608028654


@dataclass(frozen=True)
class ActivationFunction:
    """A scalar function; softmax and log_softmax work along the last axis.

    Attributes
    ----------
    function : callable
        Maps an array to an array of the same shape and dtype.
    positively_homogeneous : bool
        f(c·x) = c·f(x) for every c > 0: what lumping proportional neurons needs.
    slopes : pair of float
        Bounds of (f(y) − f(x)) / (y − x) over all x ≠ y, the largest infinite where f jumps or
        grows without bound.
    elementwise : bool
        Whether a neuron's output depends on its own pre-activation only.
    minimum : pair of float, optional
        Where f is not monotone: it falls up to the first number, takes its least value, the second
        one, there, and rises from there on.
    """

    function: Callable[[np.ndarray], np.ndarray]
    positively_homogeneous: bool = False
    slopes: tuple[float, float] = (0.0, 1.0)
    elementwise: bool = True
    minimum: tuple[float, float] | None = None

    @property
    def lipschitz(self) -> float:
        """|f(x) − f(y)| ≤ lipschitz · |x − y|: what error bounds need."""
        return max(map(abs, self.slopes))

    @property
    def monotone(self) -> bool:
        """Whether f is non-decreasing, so that f maps [l, u] onto [f(l), f(u)]."""
        return self.elementwise and self.minimum is None


def activation_function(name: str, **parameters: float | None) -> ActivationFunction:
    """The activation function of that name.

    Parameters
    ----------
    name : str
        A key of ACTIVATIONS.
    **parameters : float
        Where the function takes any: see PARAMETERS. Others have their defaults.

    Examples
    --------
    >>> activation_function("leaky_relu", negative_slope=0.01).slopes
    (0.01, 1.0)
    >>> activation_function("relu", max_value=6.0).positively_homogeneous
    False
    """
    if name not in ACTIVATIONS:
        raise UnsupportedLayerError(
            f"activation {name!r} is not supported; known: {', '.join(ACTIVATIONS)}"
        )
    known = PARAMETERS.get(name, {})
    for key, value in parameters.items():
        if key not in known:
            raise ParameterError(f"activation {name!r} has no parameter {key!r}")
        if not _in_range(key, value):
            raise ParameterError(f"activation {name!r}: {key} must be {RANGES[key]}, found {value}")
    return _FAMILIES[name](**known | parameters) if parameters else ACTIVATIONS[name]


def _in_range(key: str, value: float | None) -> bool:
    if value is None:
        return key == "max_value"
    return bool(np.isfinite(value)) and (value >= 0 or key in ("negative_slope", "alpha"))


RANGES = {
    "negative_slope": "a finite number",
    "alpha": "a finite number",
    "max_value": "a finite number not below 0, or None",
    "threshold": "a finite number not below 0",
}


def leaky_relu(x: np.ndarray, negative_slope: float = LEAKY_RELU_SLOPE) -> np.ndarray:
    return np.where(x > 0, x, x.dtype.type(negative_slope) * x)


def _leaky_relu(
    negative_slope: float, max_value: float | None, threshold: float
) -> ActivationFunction:
    """x above the threshold, at most max_value; negative_slope · (x − threshold) below it."""
    slopes = (min(negative_slope, 0.0 if max_value is not None else 1.0), max(negative_slope, 1.0))

    def function(x: np.ndarray) -> np.ndarray:
        if max_value is None and threshold == 0:
            return leaky_relu(x, negative_slope)
        limit = x.dtype.type(threshold)
        above = np.where(x > limit, x, 0)
        if max_value is not None:
            above = np.clip(above, 0, x.dtype.type(max_value))
        if negative_slope:
            above = above - x.dtype.type(negative_slope) * np.maximum(limit - x, 0)
        return above

    return ActivationFunction(
        function,
        positively_homogeneous=max_value is None and threshold == 0,
        slopes=slopes if threshold == 0 else (min(slopes[0], 0.0), np.inf),
        minimum=(float(threshold), 0.0) if negative_slope < 0 else None,
    )


def _relu(max_value: float | None, threshold: float) -> ActivationFunction:
    if max_value is None and threshold == 0:
        return ActivationFunction(lambda x: np.maximum(x, 0), positively_homogeneous=True)
    return _leaky_relu(0.0, max_value, threshold)


def _elu(alpha: float) -> ActivationFunction:
    def function(x: np.ndarray) -> np.ndarray:
        negative = np.expm1(np.minimum(x, 0))
        return np.where(x > 0, x, negative if alpha == 1 else x.dtype.type(alpha) * negative)

    return ActivationFunction(
        function,
        slopes=(min(alpha, 0.0), max(alpha, 1.0)),
        minimum=(0.0, 0.0) if alpha < 0 else None,
    )


def _selu(x: np.ndarray) -> np.ndarray:
    scale, alpha = x.dtype.type(SELU_SCALE), x.dtype.type(SELU_SCALE * SELU_ALPHA)
    return np.where(x > 0, scale * x, alpha * np.expm1(np.minimum(x, 0)))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return (0.5 * (1 + np.tanh(0.5 * x))).astype(x.dtype, copy=False)


def _softmax(x: np.ndarray) -> np.ndarray:
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _log_softmax(x: np.ndarray) -> np.ndarray:
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _gelu(x: np.ndarray) -> np.ndarray:
    from scipy.special import erf

    return (0.5 * x * (1 + erf(x / np.sqrt(2.0).astype(x.dtype)))).astype(x.dtype, copy=False)


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    inner = x.dtype.type(SQRT_2_OVER_PI) * (x + x.dtype.type(0.044715) * x * x * x)
    return x.dtype.type(0.5) * x * (1 + np.tanh(inner))


def _hard_sigmoid(x: np.ndarray) -> np.ndarray:
    return np.clip(x + 3, 0, 6) / 6


def _hard_swish(x: np.ndarray) -> np.ndarray:
    return x * _hard_sigmoid(x)


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(x, x.dtype.type(0))


# Parameters that functions take, and their defaults.
PARAMETERS: dict[str, dict[str, Any]] = {
    "relu": {"max_value": None, "threshold": 0.0},
    "leaky_relu": {"negative_slope": LEAKY_RELU_SLOPE, "max_value": None, "threshold": 0.0},
    "elu": {"alpha": 1.0},
}
_FAMILIES: dict[str, Callable[..., ActivationFunction]] = {
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
}

# Slopes and minima are rounded outwards in the last digit.
ACTIVATIONS: dict[str, ActivationFunction] = {
    "linear": ActivationFunction(lambda x: x, positively_homogeneous=True, slopes=(1.0, 1.0)),
    "relu": _relu(**PARAMETERS["relu"]),
    "leaky_relu": _leaky_relu(**PARAMETERS["leaky_relu"]),
    "relu6": ActivationFunction(lambda x: np.clip(x, 0, 6)),
    "elu": _elu(**PARAMETERS["elu"]),
    "selu": ActivationFunction(_selu, slopes=(0.0, 1.758100)),
    "softplus": ActivationFunction(_softplus),
    "softsign": ActivationFunction(lambda x: x / (1 + np.abs(x))),
    "sigmoid": ActivationFunction(_sigmoid, slopes=(0.0, 0.25)),
    "hard_sigmoid": ActivationFunction(_hard_sigmoid, slopes=(0.0, 1 / 6)),
    "hard_sigmoid_keras2": ActivationFunction(
        lambda x: np.clip(x.dtype.type(0.2) * x + x.dtype.type(0.5), 0, 1), slopes=(0.0, 0.2)
    ),
    "tanh": ActivationFunction(np.tanh),
    "exponential": ActivationFunction(np.exp, slopes=(0.0, np.inf)),
    "silu": ActivationFunction(
        lambda x: x * _sigmoid(x), slopes=(-0.1, 1.1), minimum=(-1.27846454, -0.278465)
    ),
    "hard_swish": ActivationFunction(_hard_swish, slopes=(-0.5, 1.5), minimum=(-1.5, -0.375)),
    "gelu": ActivationFunction(_gelu, slopes=(-0.13, 1.13), minimum=(-0.75179152, -0.169972)),
    "gelu_tanh": ActivationFunction(
        _gelu_tanh, slopes=(-0.13, 1.13), minimum=(-0.75246142, -0.170041)
    ),
    "mish": ActivationFunction(
        lambda x: x * np.tanh(_softplus(x)), slopes=(-0.12, 1.09), minimum=(-1.19243121, -0.308844)
    ),
    "softmax": ActivationFunction(_softmax, slopes=(-1.0, 1.0), elementwise=False),
    "log_softmax": ActivationFunction(_log_softmax, slopes=(-1.0, 1.0), elementwise=False),
}
