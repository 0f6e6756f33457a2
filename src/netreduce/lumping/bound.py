"""Certificates: how far outputs can move, by interval arithmetic over a box of inputs.

Every layer adds a local error to its output; `output_error` carries all of them to the output.
Errors are carried forward as |W| e up to the dense layers at the end, and from there by the
interval of the backward product W_k D W_{k−1} D ..., where D holds the slopes that the activations
can have: that keeps signs apart and is up to twice as tight for every layer.

Boxes and rounding errors hold for any evaluation of a network in its own floating type, in any
order of summation (the γ_n of Higham, "Accuracy and stability of numerical algorithms", section
3.1).
"""

import math
from dataclasses import dataclass

import numpy as np

from netreduce.errors import ParameterError
from netreduce.network import INPUT, Network
from netreduce.network.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    Multiply,
    Normalization,
    PReLU,
    Rescaling,
    Subtract,
    UpSampling2D,
    Weighted,
)
from netreduce.network.layers import GlobalAveragePooling2D as GlobalPooling

from .regions import EPSILON, activation_name, activation_of

DEFAULT_RANGE = (0.0, 1.0)
NORMALIZED = ("softmax", "log_softmax")  # activations whose outputs depend on one another
SAFETY = 1 + 1e-9  # covers the rounding of the sums of non-negative terms that make a bound
BLOCK = 1 << 17  # numbers
STEEPEST = 1e6  # a slope in what merges cost, where bounds take an infinite one


@dataclass(frozen=True)
class Box:
    """Elementwise bounds of a tensor."""

    low: np.ndarray
    high: np.ndarray

    @property
    def center(self):
        return (self.low + self.high) / 2

    @property
    def radius(self):
        return (self.high - self.low) / 2

    @property
    def magnitude(self):
        return np.maximum(np.abs(self.low), np.abs(self.high))


def input_box(network: Network, input_range=None) -> Box:
    """The box of inputs: (low, high), numbers or arrays of the network's input_shape; [0, 1] by
    default.

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
    return Box(low, high)


def unit_roundoff(network: Network) -> float:
    """Relative rounding error of one operation in the network's dtype, and of the certificate's
    own.
    """
    return float(np.finfo(network.dtype).eps) / 2 + EPSILON


def propagate(layer, boxes, roundoff) -> tuple[Box, np.ndarray | float]:
    """The box of a layer's output, and how far rounding can move it."""
    box = boxes[0]
    match layer:
        case Weighted():
            center = layer.linear(box.center[None])[0]
            size, radius = linear_in_magnitude(layer, np.stack([box.magnitude, box.radius]))
            rounding = _gamma(fan_in(layer) + 4, roundoff) * (size + np.abs(layer.bias))
            radius = radius + rounding
            return _activate(layer, Box(center - radius, center + radius), rounding, roundoff)
        case BatchNormalization():
            slope, shift = layer.affine()
            rounding = _gamma(4, roundoff) * (np.abs(slope) * box.magnitude + np.abs(shift))
            center, radius = slope * box.center + shift, np.abs(slope) * box.radius + rounding
            return Box(center - radius, center + radius), rounding
        case Rescaling() | Normalization():
            slope, shift = layer.affine()
            rounding = _gamma(6, roundoff) * (np.abs(slope) * box.magnitude + np.abs(shift))
            center, radius = slope * box.center + shift, np.abs(slope) * box.radius + rounding
            return Box(center - radius, center + radius), rounding
        case Activation():
            return _activate(layer, box, 0.0, roundoff)
        case PReLU():
            low, high = np.sort([_call(layer, box.low), _call(layer, box.high)], axis=0)
            crosses = (box.low < 0) & (box.high > 0)
            low = np.where(crosses, np.minimum(low, 0), low)
            high = np.where(crosses, np.maximum(high, 0), high)
            rounding = 2 * roundoff * np.maximum(np.abs(low), np.abs(high))
            return Box(low - rounding, high + rounding), rounding
        case Subtract():
            rounding = _gamma(2, roundoff) * sum(b.magnitude for b in boxes)
            low, high = box.low - boxes[1].high, box.high - boxes[1].low
            return Box(low - rounding, high + rounding), rounding
        case Multiply():
            low, high, size = box.low, box.high, box.magnitude
            for other in boxes[1:]:
                ends = [end * limit for end in (low, high) for limit in (other.low, other.high)]
                low, high = np.minimum.reduce(ends), np.maximum.reduce(ends)
                size = size * other.magnitude
            rounding = _gamma(2 * len(boxes), roundoff) * size
            return Box(low - rounding, high + rounding), rounding
        case Add():
            rounding = _gamma(len(boxes), roundoff) * sum(b.magnitude for b in boxes)
            return (
                Box(sum(b.low for b in boxes) - rounding, sum(b.high for b in boxes) + rounding),
                rounding,
            )
        case AveragePooling2D() | GlobalPooling() | UpSampling2D():
            count = {
                AveragePooling2D: lambda: math.prod(layer.pool_size),
                GlobalPooling: lambda: math.prod(box.low.shape[:2]),
                UpSampling2D: lambda: 8 * (layer.interpolation == "bilinear"),
            }[type(layer)]()
            rounding = _gamma(count + 1, roundoff) * _call(layer, box.magnitude)
            return (
                Box(_call(layer, box.low) - rounding, _call(layer, box.high) + rounding),
                rounding,
            )
        case Concatenate():
            return (
                Box(
                    np.concatenate([b.low for b in boxes], axis=-1),
                    np.concatenate([b.high for b in boxes], axis=-1),
                ),
                0.0,
            )
        case _:
            return Box(_call(layer, box.low), _call(layer, box.high)), 0.0


def _activate(layer, box, rounding, roundoff):
    function, call, (least, _) = activation_of(layer)
    if not function.elementwise:
        before = normalized_error(layer, np.broadcast_to(rounding, box.low.shape), 0.0)
        if activation_name(layer) == "softmax":
            return Box(np.zeros_like(box.low), np.ones_like(box.high)), 16 * roundoff + before
        spread = box.high.max(axis=-1, keepdims=True) - box.low + np.log(box.low.shape[-1])
        own = (16 + spread.shape[-1]) * roundoff * (1 + np.maximum(spread, box.magnitude))
        return Box(-spread - own, np.zeros_like(spread) + own), own + before
    low, high = call(box.low), call(box.high)
    if function.positively_homogeneous:
        crosses = (box.low < 0) & (box.high > 0)
        low, high = np.minimum(low, high), np.maximum(low, high)
        low, high = (
            np.where(crosses, np.minimum(low, 0), low),
            np.where(crosses, np.maximum(high, 0), high),
        )
        own = 0.0 if least in (0.0, 1.0) else 2 * roundoff * np.maximum(np.abs(low), np.abs(high))
    else:
        if function.minimum is not None:
            place, least_value = function.minimum
            low, high = np.minimum(low, high), np.maximum(low, high)
            low = np.where((box.low < place) & (box.high > place), least_value, low)
        own = 16 * roundoff * np.maximum(1, np.maximum(np.abs(low), np.abs(high)))
    return Box(low - own, high + own), stretched(layer, rounding) + own


def rounding_errors(
    network: Network, box: Box, first: int, roundoff: float
) -> dict[int, np.ndarray]:
    """How far rounding can move the output of each layer from `first` on, the rounding of its
    parameters included.
    """
    last_reader, boxes, local = _last_readers(network), {INPUT: box}, {}
    for index, (layer, sources) in enumerate(zip(network.layers, network.sources, strict=True)):
        boxes[index], rounding = propagate(layer, [boxes[s] for s in sources], roundoff)
        if index >= first:
            local[index] = rounding
        for source in sources:
            if last_reader[source] == index:
                boxes.pop(source, None)
    return local


def output_error(network: Network, local, box: Box) -> np.ndarray:
    """The error of the outputs that local errors of the layers add up to.

    Parameters
    ----------
    network : Network
    local : mapping of int to ndarray
        For some layers a bound of the error they add, broadcasting against their output.
    box : Box
        Of the network's inputs.

    Returns
    -------
    ndarray, shape (*shapes[-1],)
    """
    start, last_reader = _tail(network), _last_readers(network)
    errors = {INPUT: np.zeros(network.input_shape)}
    factors = _factors(network, box)
    for index in range(start):
        sources = network.sources[index]
        error = _transfer(
            network.layers[index], [errors[s] for s in sources], factors.get(index)
        ) + local.get(index, 0.0)
        errors[index] = np.broadcast_to(error, network.shapes[index])
        for source in sources:
            if last_reader[source] == index:
                errors.pop(source, None)
    if start == len(network.layers):
        return _or_infinite(errors[start - 1] * SAFETY)
    low = high = np.eye(network.shapes[-1][0])
    total = 0.0
    for index in reversed(range(start, len(network.layers))):
        if index in local:
            total = total + np.maximum(-low, high) @ np.broadcast_to(
                local[index], network.shapes[index]
            )
        low, high = _pull_back(network.layers[index], low, high)
    return _or_infinite((total + np.maximum(-low, high) @ errors[start - 1]) * SAFETY)


def _or_infinite(error):
    """An error that is not a number comes from an infinite one."""
    return np.where(np.isnan(error), np.inf, error)


def _factors(network, box):
    """By Multiply, the boxes of what it multiplies."""
    found = {
        i: network.sources[i]
        for i, layer in enumerate(network.layers)
        if isinstance(layer, Multiply)
    }
    boxes = {INPUT: box}
    for index in range(max((s for sources in found.values() for s in sources), default=-1) + 1):
        boxes[index] = propagate(
            network.layers[index],
            [boxes[s] for s in network.sources[index]],
            unit_roundoff(network),
        )[0]
    return {i: [boxes[s] for s in sources] for i, sources in found.items()}


def gains(network: Network) -> dict[int, np.ndarray]:
    """How far any output can move for a unit error in one channel of a layer's output, at all
    positions.

    Returns
    -------
    dict of int to ndarray, shape (channels,) of each layer that is not the output
    """
    count = len(network.layers)
    found = {i: np.zeros(network.shapes[i][-1]) for i in range(INPUT, count - 1)} | {
        INPUT: np.zeros(network.input_shape[-1])
    }
    start = _tail(network)
    if start == count:
        found[count - 1] = np.ones(network.shapes[-1][-1])
    else:
        low = high = np.eye(network.shapes[-1][0])
        for index in reversed(range(start, count)):
            low, high = _pull_back(network.layers[index], low, high)
            found[index - 1] = np.maximum(-low, high).max(axis=0)
    for index in reversed(range(start)):
        layer, gain = network.layers[index], found[index]
        offset = 0
        for source in network.sources[index]:
            channels = len(found[source])
            match layer:
                case Weighted():
                    pulled = _gain_of_inputs(layer, gain) * min(lipschitz(layer), STEEPEST)
                case BatchNormalization():
                    pulled = np.abs(layer.affine()[0]) * gain
                case Activation():
                    pulled = min(lipschitz(layer), STEEPEST) * gain
                case Flatten():
                    pulled = gain.reshape(-1, channels).sum(axis=0)
                case Concatenate():
                    pulled = gain[offset : offset + channels]
                    offset += channels
                case _ if len(gain) == channels:
                    pulled = gain
                case _:
                    pulled = gain.sum()
            found[source] = found[source] + pulled
    return found


def _gain_of_inputs(layer, gain):
    weights = np.abs(layer.kernel).reshape(-1, *layer.kernel.shape[-2:]).sum(axis=0)
    if isinstance(layer, DepthwiseConv2D):
        return (weights * gain.reshape(weights.shape)).sum(axis=1)
    if isinstance(layer, Conv2DTranspose):
        return gain @ weights
    if isinstance(layer, Conv2D) and layer.groups > 1:
        return (weights * gain).reshape(len(weights), layer.groups, -1).sum(axis=2).T.ravel()
    return weights @ gain


def logits(network: Network) -> Network:
    """The network without a softmax or log_softmax at its end."""
    last = network.layers[-1]
    if (
        isinstance(last, Activation)
        and last.name in NORMALIZED
        and len(network.layers) > 1
        and network.sources[-1] == (len(network.layers) - 2,)
    ):
        return Network(network.layers[:-1], network.input_shape, network.sources[:-1])
    if getattr(last, "activation", None) in NORMALIZED:
        return network.replace({len(network.layers) - 1: last.replace(activation="linear")})
    return network


def normalized_error(layer, error: np.ndarray, roundoff: float) -> np.ndarray:
    """What an error of the logits does behind a layer's softmax, the gradient of which has an ℓ1
    norm of 2p(1 − p) ≤ 1/2, or log_softmax, whose gradient has one of 2(1 − p) ≤ 2.
    """
    most = error.max(axis=-1, keepdims=True)
    if activation_name(layer) == "softmax":
        most = np.minimum(most / 2 + 32 * roundoff, 1)
    else:
        most = 2 * most + 32 * roundoff
    return np.broadcast_to(most, error.shape).copy()


def linear(layer, kernel, x):
    """The linear part of a layer, with another kernel and no bias, for one sample."""
    kernel = kernel.reshape(*layer.kernel.shape[:-1], -1)
    return layer.replace(kernel=kernel, bias=None, quantization=None).linear(x[None])[0]


def linear_in_magnitude(layer, x):
    """The linear part of a layer, with the magnitudes of its kernel and no bias, for a batch."""
    if isinstance(layer, Dense):
        rows = max(1, BLOCK // layer.outputs)  # so that the magnitudes stay in the cache
        blocks = (slice(start, start + rows) for start in range(0, len(layer.kernel), rows))
        return sum(x[:, block] @ np.abs(layer.kernel[block]) for block in blocks)
    return layer.replace(kernel=np.abs(layer.kernel), bias=None, quantization=None).linear(x)


def fan_in(layer) -> int:
    """Terms in one pre-activation."""
    return layer.kernel.size // layer.outputs


def lipschitz(layer) -> float:
    return max(map(abs, activation_of(layer)[2]))


def own_error(network: Network, index: int, error: np.ndarray) -> np.ndarray:
    """What an error of a layer's pre-activations adds to its output; at the end of the network, to
    the logits.
    """
    layer = network.layers[index]
    if activation_of(layer)[0].elementwise:
        return stretched(layer, error)
    return error if index == len(network.layers) - 1 else normalized_error(layer, error, 0.0)


def stretched(layer, error):
    """The largest error behind a layer's elementwise activation, of an error before it."""
    steepest = lipschitz(layer)
    return np.where(error == 0, 0.0, np.inf) if np.isinf(steepest) else steepest * error


def _transfer(layer, errors, factors=None):
    """The error of a layer's output when its inputs have these; `factors` are the boxes of what a
    Multiply multiplies.
    """
    match layer:
        case Weighted():
            return _through_activation(layer, linear_in_magnitude(layer, errors[0][None])[0])
        case BatchNormalization() | Rescaling() | Normalization():
            return np.abs(layer.affine()[0]) * errors[0]
        case PReLU():
            return np.maximum(np.abs(layer.alpha), 1) * errors[0]
        case Activation():
            return _through_activation(layer, errors[0])
        case Add() | Subtract():
            return sum(errors)
        case Multiply():
            return _of_product(errors, factors)
        case Concatenate():
            return np.concatenate(errors, axis=-1)
        case _:
            return _call(layer, errors[0])


def _of_product(errors, boxes):
    """|xy − x'y'| ≤ |x − x'| |y| + |x| |y − y'| + |x − x'| |y − y'|, one factor after the other."""
    error, size = errors[0], boxes[0].magnitude
    for other, box in zip(errors[1:], boxes[1:], strict=True):
        error = error * box.magnitude + size * other + error * other
        size = size * box.magnitude
    return error


def _through_activation(layer, error):
    return (
        stretched(layer, error)
        if activation_of(layer)[0].elementwise
        else normalized_error(layer, error, 0.0)
    )


def _tail(network):
    """Index from which the network is a chain of layers of vectors with elementwise activations."""
    start = len(network.layers)
    for index in reversed(range(start)):
        layer = network.layers[index]
        source = network.sources[index][0]
        shape = network.input_shape if source == INPUT else network.shapes[source]
        chained = (
            network.sources[index] == (index - 1,)
            and len(shape) == 1
            and len(network.readers(index)) <= 1
        )
        if not (
            chained
            and isinstance(layer, Dense | BatchNormalization | Activation | Dropout | Flatten)
            and activation_of(layer)[0].elementwise
            and np.isfinite(lipschitz(layer))
        ):
            break
        start = index
    return start


def _pull_back(layer, low, high):
    """Bounds of d output / d input of a layer from those of d output / d its output, shape
    (outputs, features).
    """
    if isinstance(layer, Dense | Activation):
        least, greatest = activation_of(layer)[2]
        products = [slope * end for slope in (least, greatest) for end in (low, high)]
        low, high = np.minimum.reduce(products), np.maximum.reduce(products)
    if isinstance(layer, Dense):
        kernel = layer.kernel.astype(np.float64, copy=False)
        center, radius = kernel @ ((low + high) / 2).T, np.abs(kernel) @ ((high - low) / 2).T
        return (center - radius).T, (center + radius).T
    if isinstance(layer, BatchNormalization):
        slope = layer.affine()[0]
        return np.minimum(low * slope, high * slope), np.maximum(low * slope, high * slope)
    return low, high


def _last_readers(network):
    return {source: index for index, sources in enumerate(network.sources) for source in sources}


def _gamma(terms, roundoff):
    return terms * roundoff / (1 - terms * roundoff)


def _call(layer, x):
    return layer(x[None])[0]
