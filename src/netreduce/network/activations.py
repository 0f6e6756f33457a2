"""Activation functions by their Keras names, and the two properties that reductions rely on."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from netreduce.errors import UnsupportedLayerError

LEAKY_RELU_SLOPE = 0.2  # Keras' default for the activation "leaky_relu"


@dataclass(frozen=True)
class ActivationFunction:
    """A scalar function (softmax excepted: it works along the last axis).

    Attributes
    ----------
    function : callable
        Maps an array to an array of the same shape and dtype.
    positively_homogeneous : bool
        f(c·x) = c·f(x) for every c > 0: what lumping proportional neurons needs.
    lipschitz : float
        |f(x) − f(y)| ≤ lipschitz · |x − y|: what error bounds need.
    elementwise : bool
        Whether a neuron's output depends on its own pre-activation only.
    monotone : bool
        Whether f is non-decreasing, so that f maps [l, u] onto [f(l), f(u)].
    """

    function: Callable[[np.ndarray], np.ndarray]
    positively_homogeneous: bool = False
    lipschitz: float = 1.0
    elementwise: bool = True
    monotone: bool = True


def leaky_relu(x, negative_slope=LEAKY_RELU_SLOPE):
    return np.where(x > 0, x, x.dtype.type(negative_slope) * x)


def _sigmoid(x):
    return (0.5 * (1 + np.tanh(0.5 * x))).astype(x.dtype, copy=False)


def _softmax(x):
    exponentials = np.exp(x - x.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)


def _gelu(x):
    from scipy.special import erf

    return (0.5 * x * (1 + erf(x / np.sqrt(2.0).astype(x.dtype)))).astype(x.dtype, copy=False)


ACTIVATIONS = {
    "linear": ActivationFunction(lambda x: x, positively_homogeneous=True),
    "relu": ActivationFunction(lambda x: np.maximum(x, 0), positively_homogeneous=True),
    "leaky_relu": ActivationFunction(leaky_relu, positively_homogeneous=True),
    "relu6": ActivationFunction(lambda x: np.clip(x, 0, 6)),
    "elu": ActivationFunction(lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0)))),
    "softplus": ActivationFunction(lambda x: np.logaddexp(x, x.dtype.type(0))),
    "sigmoid": ActivationFunction(_sigmoid, lipschitz=0.25),
    "tanh": ActivationFunction(np.tanh),
    "silu": ActivationFunction(lambda x: x * _sigmoid(x), lipschitz=1.1, monotone=False),
    "gelu": ActivationFunction(_gelu, lipschitz=1.13, monotone=False),
    "softmax": ActivationFunction(_softmax, lipschitz=1.0, elementwise=False, monotone=False),
}


def activation_function(name: str) -> ActivationFunction:
    """The activation function of that Keras name."""
    try:
        return ACTIVATIONS[name]
    except KeyError:
        raise UnsupportedLayerError(
            f"activation {name!r} is not supported; known: {', '.join(ACTIVATIONS)}"
        ) from None
