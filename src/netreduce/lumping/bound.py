"""Certificates: how far outputs can move, by what errors of layers' outputs become at the end.

Every layer adds a local error to its output; `Propagation.output_error` carries all of them to the
output, in three ways, and takes the smallest result:

- value by value, |W| e: an error e = (0.1, 0.2) and the weights (1, −2) make 0.1 + 0.4;
- in the Euclidean norm, ‖W‖ ‖e‖, which forgets places but knows that errors cannot all be at their
  worst for all neurons: after ten layers of a hundred neurons it is ten thousand times smaller;
- backwards through the dense layers at the end, by the interval of W_k D W_{k−1} D ..., where D
  holds the slopes that the activations can have: that keeps signs apart.

A neuron that is active, or dead, over the whole box of inputs, by a margin larger than the error,
has a slope that is known.
"""

import math
from collections.abc import Callable, Mapping
from functools import cache

import numpy as np

from netreduce.certificates.norms import SAFE, length, spectral_norm
from netreduce.network import INPUT, Network
from netreduce.network.layers import (
    Activation,
    Add,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Cropping2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    Layer,
    Multiply,
    Normalization,
    Permute,
    PReLU,
    Rescaling,
    Reshape,
    Subtract,
    Weighted,
    ZeroPadding2D,
)

from .boxes import (
    REAL,
    Arithmetic,
    Box,
    Error,
    activate,
    before_activation,
    behind_activation,
    call,
    fan_in,
    linear,
    linear_in_magnitude,
    propagate,
    slope_below_zero,
    slopes,
)
from .lipschitz import averaged, chain_of
from .regions import activation_of, weighted

STEEPEST = 1e6  # a slope in what merges cost, where bounds take an infinite one
MOVING = (Flatten, Reshape, Permute, Dropout, ZeroPadding2D, Cropping2D)
Interval = tuple[np.ndarray, np.ndarray]


class Propagation:
    """What becomes of errors in a network over a box of inputs.

    Parameters
    ----------
    network : Network
        In float64.
    box : Box
        Of its inputs.

    Attributes
    ----------
    before : list of Box
        What each layer's activation gets.
    boxes : dict of int to Box
        Outputs of the layers, and the input.
    """

    def __init__(self, network: Network, box: Box):
        self.network = network
        is_chain = _tail(network) == 0 and all(map(averaged, network.layers))
        self._chain = chain_of(network) if is_chain else None
        self.before: list[Box] = []
        self.boxes = {INPUT: box}
        self._radii = {INPUT: length(box.radius)}
        # inputs differ from the middle of their box, and so do the values behind them from theirs
        middles = {INPUT: box.center}
        spreads = {INPUT: _Error.of(box.radius * SAFE, np.inf)}
        off = {INPUT: _Error.of(np.zeros_like(box.radius), 0.0)}  # of the middles themselves
        reach = {} if self._chain is None else self._chain.reach(INPUT, spreads[INPUT].values)
        for index, (layer, sources) in enumerate(zip(network.layers, network.sources, strict=True)):
            inner, rounding = before_activation(layer, [self.boxes[s] for s in sources], REAL)
            middle = _before(layer, [middles[s] for s in sources])
            spread = self._before(index, [spreads[s] for s in sources]).plus(rounding)
            if index in reach:
                own = self._before(index, [off[s] for s in sources]).plus(rounding)
                spread = _Error.of(np.fmin(spread.values, reach[index] + own.values), spread.norm)
            inner = inner.within(middle, spread.values)
            self.before.append(inner)
            outer, rounding = activate(layer, inner, rounding, REAL)
            middles[index] = _activated(layer, middle)
            zero = np.zeros(())
            spreads[index] = _through_activation(layer, _slopes(layer, inner, zero), spread).plus(
                rounding
            )
            if index in reach:
                off[index] = own.plus(rounding)
            self.boxes[index] = outer.within(middles[index], spreads[index].values)
            self._radii[index] = spreads[index].norm
        self._middles = middles

    def output_error(self, local: Mapping[int, Error]) -> np.ndarray:
        """The error of the outputs that local errors of the layers add up to.

        Parameters
        ----------
        local : mapping of int to ndarray
            For some layers a bound of the error they add, broadcasting against their output.

        Returns
        -------
        ndarray, shape (*shapes[-1],)
        """
        network = self.network
        errors, ranges = self._forward(lambda index, _: local.get(index, 0.0))
        found = errors[len(network.layers) - 1].values
        if self._chain is not None:
            found = np.fmin(found, self._in_chain(local))
        start = _tail(network)
        if start < len(network.layers):
            low = high = np.eye(network.shapes[-1][0])
            total = np.zeros(network.shapes[-1])
            for index in reversed(range(start, len(network.layers))):
                if index in local:
                    given = np.broadcast_to(local[index], network.shapes[index])
                    total = total + np.maximum(-low, high) @ given
                low, high = _pull_back(network.layers[index], ranges[index], low, high)
            found = np.fmin(found, total + np.maximum(-low, high) @ errors[start - 1].values)
        return np.where(np.isnan(found), np.inf, found * SAFE)

    def _in_chain(self, local: Mapping[int, Error]) -> np.ndarray:
        """The same error, in a chain: from each layer to the outputs at once."""
        assert self._chain is not None
        last, shapes = len(self.network.layers) - 1, self.network.shapes
        total = np.zeros(shapes[last])
        for index, error in local.items():
            values = np.broadcast_to(error, shapes[index])
            total = total + (self._chain.reach(index, values)[last] if index < last else values)
        return total

    def rounding_error(self, first: int, arithmetic: Arithmetic) -> np.ndarray:
        """How far the outputs can be from exact ones when the layers from `first` on are evaluated
        in a floating type, those before alike.
        """
        made: dict[int, Error] = {}

        def local(index: int, errors: "Mapping[int, _Error]") -> Error:
            sources = self.network.sources[index]
            boxes = [self.boxes[s].wider(_finite(errors[s].values)) for s in sources]
            made[index] = propagate(self.network.layers[index], boxes, arithmetic)[1]
            return made[index]

        self._forward(local)
        return self.output_error({i: error for i, error in made.items() if i >= first})

    def change(self, index: int, weights: np.ndarray, biases: np.ndarray) -> np.ndarray:
        """How far a layer's pre-activations move when its weights and biases change so."""
        layer, source = weighted(self.network, index), self.network.sources[index][0]
        middle, box = self._middles[source], self.boxes[source]
        radius = np.fmax(box.high - middle, middle - box.low)
        columns = np.sqrt((weights**2).sum(axis=tuple(range(weights.ndim - 1))))
        if isinstance(layer, DepthwiseConv2D):
            columns = np.sqrt((weights**2).sum(axis=(0, 1))).ravel()
        spread = np.fmin(linear(layer, np.abs(weights), radius), columns * self._radii[source])
        own = REAL.gamma(fan_in(layer) + 8) * (
            linear(layer, np.abs(weights), np.abs(middle)) + np.abs(biases)
        )
        return np.abs(linear(layer, weights, middle) + biases) + spread * SAFE + own

    def _forward(
        self, local: "Callable[[int, Mapping[int, _Error]], Error]"
    ) -> "tuple[dict[int, _Error], list[Interval]]":
        """The errors of all outputs, and the slopes that the activations can have."""
        network = self.network
        errors = {INPUT: _Error(np.zeros(network.input_shape), 0.0)}
        ranges = []
        for index, (layer, sources) in enumerate(zip(network.layers, network.sources, strict=True)):
            error = self._before(index, [errors[s] for s in sources])
            ranges.append(_slopes(layer, self.before[index], error.values))
            error = _through_activation(layer, ranges[-1], error)
            errors[index] = error.plus(local(index, errors))
        return errors, ranges

    def _before(self, index: int, errors: "list[_Error]") -> "_Error":
        """The error that a layer's activation gets."""
        layer, error = self.network.layers[index], errors[0]
        match layer:
            case Weighted():
                columns, whole = self._norms(index)
                values = linear_in_magnitude(layer, error.values[None])[0]
                return _Error.of(np.fmin(values, columns * error.norm), whole * error.norm)
            case BatchNormalization() | Rescaling() | Normalization():
                slope = np.abs(layer.affine()[0])
                return _Error.of(slope * error.values, float(slope.max(initial=0)) * error.norm)
            case Add() | Subtract():
                values = np.add.reduce([e.values for e in errors])
                return _Error.of(values, sum(e.norm for e in errors))
            case Concatenate():
                values = np.concatenate([e.values for e in errors], axis=-1)
                return _Error.of(values, math.hypot(*(e.norm for e in errors)))
            case Multiply():
                boxes = [self.boxes[s] for s in self.network.sources[index]]
                return _Error.of(_of_product(layer, boxes, errors), np.inf)
            case Activation() | PReLU():
                return error
            case _:
                moved = isinstance(layer, MOVING)
                return _Error.of(call(layer, error.values), error.norm if moved else np.inf)

    @cache  # noqa: B019 - a propagation lives as long as one bound
    def _norms(self, index: int) -> tuple[np.ndarray, float]:
        """Euclidean norms of the weights of every neuron, and of the layer as a linear map."""
        layer = weighted(self.network, index)
        kernel = layer.kernel
        if isinstance(layer, Conv2DTranspose):
            kernel = np.swapaxes(kernel, 2, 3)
        if isinstance(layer, DepthwiseConv2D):
            columns = np.sqrt((kernel**2).sum(axis=(0, 1))).ravel()
            return columns, float(np.abs(kernel).sum(axis=(0, 1)).sum(axis=-1).max(initial=0))
        matrix = kernel.reshape(-1, kernel.shape[-1])
        columns = np.sqrt((matrix**2).sum(axis=0))
        # every input stands in so many windows at most
        windows = math.prod(kernel.shape[:-2])
        if isinstance(layer, Conv2D) and layer.groups > 1:
            whole = max(spectral_norm(matrix[:, outputs]) for _, outputs in layer.parts())
        else:
            whole = spectral_norm(matrix)
        return columns, math.sqrt(windows) * whole


class _Error:
    """Bounds of an error, value by value and in the Euclidean norm."""

    def __init__(self, values: np.ndarray, norm: float):
        self.values, self.norm = values, norm

    @classmethod
    def of(cls, values: np.ndarray, norm: float) -> "_Error":
        """Both, the norm no larger than that of the values."""
        return cls(values, min(norm * SAFE, length(values)))

    def plus(self, local: Error) -> "_Error":
        added = np.broadcast_to(local, self.values.shape)
        return _Error.of(self.values + added, self.norm + length(added))


def gains(network: Network) -> dict[int, np.ndarray]:
    """How far any output can move for a unit error in one channel of a layer's output, at all
    positions; what merges are ordered by.

    Returns
    -------
    dict of int to ndarray, shape (channels,) of each layer that is not the output
    """
    count = len(network.layers)
    found = {i: np.zeros(network.shapes[i][-1]) for i in range(count - 1)}
    found[INPUT] = np.zeros(network.input_shape[-1])
    start = _tail(network)
    if start == count:
        found[count - 1] = np.ones(network.shapes[-1][-1])
    else:
        low = high = np.eye(network.shapes[-1][0])
        for index in reversed(range(start, count)):
            layer = network.layers[index]
            low, high = _pull_back(layer, slopes(layer), low, high)
            found[index - 1] = np.maximum(-low, high).max(axis=0)
    for index in reversed(range(start)):
        offset = 0
        for source in network.sources[index]:
            channels = len(found[source])
            gain = found[index]
            if isinstance(network.layers[index], Concatenate):
                gain = gain[offset : offset + channels]
                offset += channels
            found[source] = found[source] + _pulled(network.layers[index], gain, channels)
    return found


def _before(layer: Layer, inputs: list[np.ndarray]) -> np.ndarray:
    """What a layer's activation gets, for one sample."""
    if isinstance(layer, Weighted):
        return layer.linear(inputs[0][None])[0]
    if isinstance(layer, Activation | PReLU):
        return inputs[0]
    return layer(*(x[None] for x in inputs))[0]


def _activated(layer: Layer, before: np.ndarray) -> np.ndarray:
    if isinstance(layer, PReLU):
        return call(layer, before)
    return activation_of(layer).function(before[None])[0]


def _through_activation(layer: Layer, interval: Interval, error: _Error) -> _Error:
    if not activation_of(layer).elementwise:
        return _Error.of(behind_activation(layer, error.values), np.inf)
    steepest = np.maximum(np.abs(interval[0]), np.abs(interval[1]))
    with np.errstate(invalid="ignore"):
        values = np.where(error.values == 0, 0, steepest * error.values)
        return _Error.of(values, float(steepest.max(initial=0)) * error.norm)


def _slopes(layer: Layer, before: Box, error: np.ndarray) -> Interval:
    """The slopes that a layer's activation can have between any point of a box and one that is off
    by the error.
    """
    least, greatest = (np.broadcast_to(slope, before.low.shape) for slope in slopes(layer))
    if isinstance(layer, PReLU) or activation_of(layer).positively_homogeneous:
        slope = layer.alpha if isinstance(layer, PReLU) else slope_below_zero(layer)
        active, dead = before.low > error, before.high < -error
        least, greatest = (
            np.where(active, 1.0, np.where(dead, slope, end)) for end in (least, greatest)
        )
    return least, greatest


def _of_product(layer: Layer, boxes: list[Box], errors: list[_Error]) -> np.ndarray:
    """Π (|x| + e) − Π |x|, as a sum of its terms."""
    sizes = [box.magnitude[None] for box in boxes]
    found = np.zeros(())
    for k in range(len(boxes)):
        factors = [
            errors[k].values[None] if i == k else sizes[i] + (errors[i].values if i < k else 0)
            for i in range(len(boxes))
        ]
        found = found + layer(*factors)[0]
    return found


def _pulled(layer: Layer, gain: np.ndarray, channels: int) -> np.ndarray:
    match layer:
        case DepthwiseConv2D():
            taps = np.abs(layer.kernel).sum(axis=(0, 1)) * gain.reshape(channels, -1)
            return taps.sum(axis=1) * _steepness(layer)
        case Conv2D() if layer.groups > 1:
            parts = [
                np.abs(layer.kernel[..., outputs]).sum(axis=(0, 1)) @ gain[outputs]
                for _, outputs in layer.parts()
            ]
            return np.concatenate(parts) * _steepness(layer)
        case Conv2DTranspose():
            return gain @ np.abs(layer.kernel).sum(axis=(0, 1)) * _steepness(layer)
        case Dense() | Conv2D():
            weights = np.abs(layer.kernel).reshape(-1, *layer.kernel.shape[-2:]).sum(axis=0)
            return weights @ gain * _steepness(layer)
        case BatchNormalization():
            return np.abs(layer.affine()[0]) * gain
        case Activation():
            return _steepness(layer) * gain
        case Flatten():
            return gain.reshape(-1, channels).sum(axis=0)
        case _:
            return gain if len(gain) == channels else np.full(channels, gain.sum())


def _steepness(layer: Layer) -> float:
    return min(activation_of(layer).lipschitz, STEEPEST)


def _tail(network: Network) -> int:
    """Index from which the network is a chain of layers of vectors with elementwise activations."""
    start = len(network.layers)
    for index in reversed(range(start)):
        layer = network.layers[index]
        source = network.sources[index][0]
        shape = network.input_shape if source == INPUT else network.shapes[source]
        chained = network.sources[index] == (index - 1,) and len(shape) == 1
        if not (
            chained
            and isinstance(layer, Dense | BatchNormalization | Activation | Dropout | Flatten)
            and activation_of(layer).elementwise
            and np.isfinite(activation_of(layer).lipschitz)
        ):
            break
        start = index
    return start


def _pull_back(
    layer: Layer, interval: tuple[Error, Error], low: np.ndarray, high: np.ndarray
) -> Interval:
    """Bounds of d output / d input of a layer from those of d output / d its output, shape
    (outputs, features), and the slopes that its activation can have.
    """
    if isinstance(layer, Dense | Activation):
        products = [slope * end for slope in interval for end in (low, high)]
        low, high = np.minimum.reduce(products), np.maximum.reduce(products)
    if isinstance(layer, Dense):
        kernel = layer.kernel.astype(np.float64, copy=False)
        center, radius = kernel @ ((low + high) / 2).T, np.abs(kernel) @ ((high - low) / 2).T
        return (center - radius).T, (center + radius).T
    if isinstance(layer, BatchNormalization):
        slope = layer.affine()[0]
        return np.minimum(low * slope, high * slope), np.maximum(low * slope, high * slope)
    return low, high


def _finite(values: np.ndarray) -> np.ndarray:
    return np.where(np.isfinite(values), values, 0)
