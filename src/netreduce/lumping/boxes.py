"""Boxes of tensors by interval arithmetic, and how far rounding can move what is evaluated.

A box is an interval for every value of a tensor. `propagate` takes the boxes of a layer's inputs to
that of its output: x in [−1, 1]² and the neuron relu(2 x₀ − x₁ + 1), for example, give
z in 1 ± (2 + 1) and so [0, 4]. Beside it stands what the evaluation of the layer in a floating type
can be off: for any order of summation (the γ_n of Higham, "Accuracy and stability of numerical
algorithms", section 3.1), with numbers below the smallest normal one flushed to zero or not, and
infinitely where a sum may overflow.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from netreduce.errors import ParameterError
from netreduce.network import Network
from netreduce.network.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    GlobalAveragePooling2D,
    Layer,
    Multiply,
    Normalization,
    PReLU,
    Rescaling,
    Subtract,
    UpSampling2D,
    Weighted,
)

from .regions import EPSILON, activation_name, activation_of

DEFAULT_RANGE = (0.0, 1.0)
BLOCK = 1 << 17  # numbers
Error = np.ndarray | float


@dataclass(frozen=True)
class Box:
    """Elementwise bounds of a tensor."""

    low: np.ndarray
    high: np.ndarray

    @property
    def center(self) -> np.ndarray:
        return (self.low + self.high) / 2

    @property
    def radius(self) -> np.ndarray:
        return (self.high - self.low) / 2

    @property
    def magnitude(self) -> np.ndarray:
        return np.maximum(np.abs(self.low), np.abs(self.high))

    def within(self, middle: np.ndarray, radius: np.ndarray) -> "Box":
        """The part of the box that is so near to a point."""
        return Box(np.fmax(self.low, middle - radius), np.fmin(self.high, middle + radius))

    def wider(self, by: Error) -> "Box":
        return Box(self.low - by, self.high + by)


@dataclass(frozen=True)
class Arithmetic:
    """A floating type as it rounds.

    Attributes
    ----------
    roundoff : float
        Relative error of one operation, with that of the certificate itself, in float64.
    least : float
        Smallest normal number: the absolute error where results underflow.
    largest : float
    """

    roundoff: float
    least: float
    largest: float

    @classmethod
    def of(cls, network: Network) -> "Arithmetic":
        """That in which a network is evaluated."""
        info = np.finfo(network.dtype)
        return cls(float(info.eps) / 2 + EPSILON, float(info.tiny), float(info.max))

    def gamma(self, terms: int) -> float:
        return terms * self.roundoff / (1 - terms * self.roundoff)

    def error(self, terms: int, size: np.ndarray, underflow: Error = 0.0) -> np.ndarray:
        """Of a sum of so many products with these magnitudes; `underflow`: how many times the
        smallest normal number may be lost.
        """
        error = self.gamma(terms) * size + 2 * self.least * (underflow + terms)
        return np.where(size <= self.largest, error, np.inf)


REAL = Arithmetic(EPSILON, float(np.finfo(np.float64).tiny), float(np.finfo(np.float64).max))


def input_box(network: Network, input_range: Any = None) -> Box:
    """The box of inputs: (low, high), numbers or arrays of the network's input_shape; [0, 1] by
    default. Ends that the network's type rounds are taken with what they round to.

    Raises
    ------
    ParameterError
        When it is not a pair, of another shape, not finite or empty.
    """
    expected = f"expected a pair (low, high) of numbers or of arrays of shape {network.input_shape}"
    try:
        low, high = (
            np.asarray(end, np.float64)
            for end in (DEFAULT_RANGE if input_range is None else input_range)
        )
    except (TypeError, ValueError):
        raise ParameterError(f"input_range is not a pair; {expected}") from None
    for end in (low, high):
        if end.shape not in ((), network.input_shape):
            raise ParameterError(f"input_range has an end of shape {end.shape}; {expected}")
    low, high = (np.broadcast_to(end, network.input_shape) for end in (low, high))
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low <= high).all()):
        raise ParameterError(
            f"input_range must be finite with low ≤ high, found [{low.min()}, {high.max()}]"
        )
    return Box(
        np.minimum(low, low.astype(network.dtype)), np.maximum(high, high.astype(network.dtype))
    )


def around(boxes: Sequence[Box]) -> Box:
    """The box around some."""
    if len(boxes) == 1:
        return boxes[0]
    low = np.minimum.reduce([box.low for box in boxes])
    return Box(low, np.maximum.reduce([box.high for box in boxes]))


def propagate(layer: Layer, boxes: Sequence[Box], arithmetic: Arithmetic) -> tuple[Box, Error]:
    """The box of a layer's output as it is evaluated, and how far rounding can move it."""
    return activate(layer, *before_activation(layer, boxes, arithmetic), arithmetic)


def before_activation(
    layer: Layer, boxes: Sequence[Box], arithmetic: Arithmetic
) -> tuple[Box, Error]:
    """The same up to the layer's activation."""
    match layer:
        case Weighted():
            return _weighted(layer, boxes[0], arithmetic)
        case BatchNormalization() | Rescaling() | Normalization():
            return _affine(layer, boxes[0], arithmetic)
        case Activation() | PReLU():
            return boxes[0], 0.0
        case Multiply():
            return _product(boxes, arithmetic)
        case Add():
            ends = ([box.low for box in boxes], [box.high for box in boxes])
            low, high = (np.add.reduce(end) for end in ends)
            size = np.add.reduce([box.magnitude for box in boxes])
            error: Error = arithmetic.error(len(boxes), size)
        case Subtract():
            one, other = boxes
            low, high = one.low - other.high, one.high - other.low
            error = arithmetic.error(2, one.magnitude + other.magnitude)
        case Concatenate():
            low = np.concatenate([box.low for box in boxes], axis=-1)
            return Box(low, np.concatenate([box.high for box in boxes], axis=-1)), 0.0
        case AveragePooling2D() | GlobalAveragePooling2D() | UpSampling2D():
            low, high = call(layer, boxes[0].low), call(layer, boxes[0].high)
            count = _averaged(layer, boxes[0].low.shape)
            error = arithmetic.error(count + 1, call(layer, boxes[0].magnitude)) if count else 0.0
        case _:
            return Box(call(layer, boxes[0].low), call(layer, boxes[0].high)), 0.0
    return Box(low, high).wider(error), error


def activate(layer: Layer, box: Box, rounding: Error, arithmetic: Arithmetic) -> tuple[Box, Error]:
    """What a layer's activation makes of a box and of an error in it."""
    if isinstance(layer, PReLU):
        return _piecewise(box, layer.alpha.astype(np.float64), rounding, arithmetic)
    function = activation_of(layer)
    roundoff = arithmetic.roundoff
    if not function.elementwise:
        before = behind_activation(layer, np.broadcast_to(rounding, box.low.shape))
        if activation_name(layer) == "softmax":
            return Box(np.zeros_like(box.low), np.ones_like(box.high)), 16 * roundoff + before
        spread = box.high.max(axis=-1, keepdims=True) - box.low + math.log(box.low.shape[-1])
        own = (16 + spread.shape[-1]) * roundoff * (1 + np.maximum(spread, box.magnitude))
        return Box(-spread - own, np.zeros_like(spread) + own), own + before
    if function.positively_homogeneous:
        return _piecewise(box, slope_below_zero(layer), rounding, arithmetic)
    low, high = function.function(box.low), function.function(box.high)
    if function.minimum is not None:
        place, least_value = function.minimum
        low, high = np.minimum(low, high), np.maximum(low, high)
        low = np.where((box.low < place) & (box.high > place), least_value, low)
    own = 16 * roundoff * np.maximum(1, np.maximum(np.abs(low), np.abs(high)))
    return Box(low - own, high + own), behind_activation(layer, rounding) + own


def slopes(layer: Layer) -> tuple[np.ndarray | float, np.ndarray | float]:
    """The least and largest slope of a layer's activation."""
    if isinstance(layer, PReLU):
        alpha = layer.alpha.astype(np.float64)
        return np.minimum(alpha, 1), np.maximum(alpha, 1)
    return activation_of(layer).slopes


def slope_below_zero(layer: Layer) -> float:
    """Of a positively homogeneous activation."""
    return -float(activation_of(layer).function(-np.ones(1))[0])


def behind_activation(layer: Layer, error: Error, own: float = 0.0) -> np.ndarray:
    """The largest error behind a layer's activation, of an error before it.

    A softmax takes it to all its outputs: its gradient has an ℓ1 norm of 2p(1 − p) ≤ 1/2, that of a
    log_softmax one of 2(1 − p) ≤ 2; `own` is the error of evaluating either.
    """
    function = activation_of(layer)
    if function.elementwise:
        steepest = function.lipschitz
        return np.where(error == 0, 0, np.inf if np.isinf(steepest) else steepest * error)
    most = np.asarray(error).max(axis=-1, keepdims=True)
    softmax = activation_name(layer) == "softmax"
    most = np.fmin(most / 2 + own, 1) if softmax else 2 * most + own
    return np.broadcast_to(most, np.shape(error)).copy()


def own_error(network: Network, index: int, error: np.ndarray) -> np.ndarray:
    """What an error of a layer's pre-activations adds to its output; at the end of the network, to
    the logits.
    """
    layer = network.layers[index]
    if index == len(network.layers) - 1 and not activation_of(layer).elementwise:
        return error
    return behind_activation(layer, error)


def linear(layer: Weighted, kernel: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The linear part of a layer, with another kernel and no bias, for one sample."""
    kernel = kernel.reshape(*layer.kernel.shape[:-1], -1)
    return layer.replace(kernel=kernel, bias=None, quantization=None).linear(x[None])[0]


def linear_in_magnitude(layer: Weighted, x: np.ndarray) -> np.ndarray:
    """The linear part of a layer, with the magnitudes of its kernel and no bias, for a batch."""
    if isinstance(layer, Dense):
        rows = max(1, BLOCK // layer.outputs)  # so that the magnitudes stay in the cache
        blocks = (slice(start, start + rows) for start in range(0, len(layer.kernel), rows))
        return np.add.reduce([x[:, block] @ np.abs(layer.kernel[block]) for block in blocks])
    return layer.replace(kernel=np.abs(layer.kernel), bias=None, quantization=None).linear(x)


def fan_in(layer: Weighted) -> int:
    """Terms in one pre-activation."""
    shape = layer.kernel.shape
    if isinstance(layer, DepthwiseConv2D):
        return math.prod(shape[:2])
    if isinstance(layer, Conv2DTranspose):
        return math.prod(shape[:2]) * shape[3]
    return math.prod(shape[:-1])


def call(layer: Layer, x: np.ndarray) -> np.ndarray:
    """A layer on one sample."""
    return layer(x[None])[0]


def _weighted(layer: Weighted, box: Box, arithmetic: Arithmetic) -> tuple[Box, Error]:
    center = layer.linear(box.center[None])[0]
    ones = np.ones_like(box.low)
    size, radius, taps = linear_in_magnitude(layer, np.stack([box.magnitude, box.radius, ones]))
    terms = fan_in(layer) + 4
    lost = taps + terms * box.magnitude.max(initial=0)
    rounding = arithmetic.error(terms, size + np.abs(layer.bias), lost)
    inner = np.where(np.isfinite(rounding), rounding, 0)
    return Box(center - radius, center + radius).wider(inner), rounding


def _affine(
    layer: BatchNormalization | Rescaling | Normalization, box: Box, arithmetic: Arithmetic
) -> tuple[Box, Error]:
    """slope · x + shift, in any of the forms in which it may be evaluated."""
    slope, shift = layer.affine()
    terms = np.abs(shift)
    mean = np.zeros(())
    if not isinstance(layer, Rescaling):
        mean = np.abs(layer.mean.astype(np.float64))
        terms = np.abs(slope * mean)
    if isinstance(layer, BatchNormalization):
        terms = terms + np.abs(layer.beta)
    lost = np.abs(slope) + box.magnitude + mean
    rounding = arithmetic.error(8, np.abs(slope) * box.magnitude + terms, lost)
    inner = np.where(np.isfinite(rounding), rounding, 0)
    center, radius = slope * box.center + shift, np.abs(slope) * box.radius
    return Box(center - radius, center + radius).wider(inner), rounding


def _piecewise(
    box: Box, slope: np.ndarray | float, rounding: Error, arithmetic: Arithmetic
) -> tuple[Box, Error]:
    """x above zero and slope · x below."""
    low, high = (np.where(end > 0, end, slope * end) for end in (box.low, box.high))
    crosses = (box.low < 0) & (box.high > 0)
    low, high = np.minimum(low, high), np.maximum(low, high)
    low = np.where(crosses, np.minimum(low, 0), low)
    high = np.where(crosses, np.maximum(high, 0), high)
    own: Error = 0.0
    if not np.isin(slope, (0.0, 1.0)).all():
        size = np.maximum(np.abs(low), np.abs(high))
        own = 2 * arithmetic.roundoff * size + 4 * arithmetic.least
    return Box(low, high).wider(own), np.maximum(1, np.abs(slope)) * rounding + own


def _product(boxes: Sequence[Box], arithmetic: Arithmetic) -> tuple[Box, Error]:
    low, high, size = (np.ones(()) for _ in range(3))
    rank = max(box.low.ndim for box in boxes)
    for box in boxes:
        lift = (1,) * (rank - box.low.ndim)
        ends = [end.reshape(*lift, *end.shape) for end in (box.low, box.high)]
        products = [a * b for a in (low, high) for b in ends]
        low, high = np.minimum.reduce(products), np.maximum.reduce(products)
        size = size * np.maximum(np.abs(ends[0]), np.abs(ends[1]))
    largest = max(1.0, *(float(box.magnitude.max(initial=0)) for box in boxes))
    error = arithmetic.error(len(boxes), size, len(boxes) * largest ** (len(boxes) - 1))
    inner = np.where(np.isfinite(error), error, 0)
    return Box(low, high).wider(inner), error


def _averaged(layer: Layer, shape: tuple[int, ...]) -> int:
    """How many values make one: 0 where they are only moved."""
    match layer:
        case AveragePooling2D():
            return math.prod(layer.pool_size)
        case GlobalAveragePooling2D():
            return math.prod(shape[:2])
        case UpSampling2D():
            return 4 if layer.interpolation == "bilinear" else 0
        case _:
            return 0
