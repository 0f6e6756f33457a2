"""What a region makes of each channel, and so which channels are multiples of one another.

A channel is followed from the layer that computes it to the weights that read it. On the way it is
alpha · g + tau, where g is settled by the channel's *signature*: its ray (incoming weights and
bias, over the largest weight) and what the layers behind add to it. Channels of one signature are
affine functions of each other, and the weights that read them can be merged. For example, one input
x, two neurons with ReLU, and a batch normalization with slopes (1, 2) and shifts (5, 7):

    neuron 0: relu(x + 2)        ray (1, 2)        g        then      g + 5
    neuron 1: relu(3 x + 6)      ray (1, 2)      3 g        then    6 g + 7

Both have the ray (1, 2), so g = relu(x + 2) for both, and neuron 1 is 6 · neuron 0 − 23. Were the
normalization followed by a second ReLU, relu(g + 5) and relu(6 g + 7) would be no multiples: there
(alpha, tau) over the larger of the two becomes part of the signature, (1/5, 1) and (6/7, 1).
"""

from dataclasses import dataclass, replace

import numpy as np

from netreduce.folding import pads
from netreduce.network.layers import (
    Activation,
    BatchNormalization,
    DepthwiseConv2D,
    GlobalMaxPooling2D,
    Layer,
    MaxPooling2D,
    Shape,
    Weighted,
)

from .draft import Draft
from .regions import EPSILON, ULPS, Region, activation_name, activation_of, weighted


@dataclass(frozen=True)
class Part:
    """Numbers that channels must share: vectors / scale, equal up to tolerance · sizes / scale.

    Attributes
    ----------
    vectors : ndarray, shape (entries, rows, channels)
    tolerance : float
    sizes : ndarray, optional
        Of the terms that were summed, as vectors; by default |vectors|.
    scale : ndarray, shape (channels,), or float
    """

    vectors: np.ndarray
    tolerance: float
    sizes: np.ndarray | None = None
    scale: np.ndarray | float = 1.0

    def of(self, channels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Scaled vectors and sizes of some channels."""
        scale = self.scale[channels] if isinstance(self.scale, np.ndarray) else self.scale
        vectors = self.vectors[..., channels] / scale
        return vectors, np.abs(vectors) if self.sizes is None else self.sizes[..., channels] / scale


@dataclass(frozen=True)
class Ray:
    """Parts of one vector per row: its direction counts, or the vector itself where `identical`."""

    parts: tuple[Part, ...]
    identical: bool = False


@dataclass(frozen=True)
class State:
    """A tensor of the region: channel j holds alpha · g + tau. Arrays of shape (positions or 1,
    channels, multiplier).

    Attributes
    ----------
    alpha, tau : ndarray
    tau_size : ndarray
        Sum of the magnitudes of the terms of tau.
    constant : ndarray of bool
        Whether it depends on no input, and
    value : ndarray
        its value then.
    never_positive : ndarray of bool
    """

    alpha: np.ndarray
    tau: np.ndarray
    tau_size: np.ndarray
    constant: np.ndarray
    value: np.ndarray
    never_positive: np.ndarray


@dataclass(frozen=True)
class Description:
    """What a region makes of every channel of its producer.

    Attributes
    ----------
    close : int
        The tensor at which the rays are taken: the producer, or the batch normalization behind a
        linear one.
    weights, intercepts : ndarray, shape (inputs, channels) and (channels,)
        Weights and biases of the channels there, divided by `factor`.
    factor : ndarray, shape (channels,)
    pivot : ndarray, shape (channels,)
        Largest magnitude among the weights of each channel.
    rays : tuple of Ray
        The signature.
    values : dict of int to ndarray
        By consumer: the values of the constant channels, shape (positions or 1, channels,
        multiplier).
    constant, foldable : ndarray of bool, shape (channels,)
        Channels that are constant at every consumer, and those of them that every consumer's bias
        can take up.
    cancellation, shift, magnitude : ndarray, shape (channels,)
        How well each channel can stand for others: the sum of magnitudes behind its largest weight,
        over that weight; the largest shift on the way to the consumers, over alpha; alpha there.
    """

    close: int
    weights: np.ndarray
    intercepts: np.ndarray
    factor: np.ndarray
    pivot: np.ndarray
    rays: tuple[Ray, ...]
    values: dict[int, np.ndarray]
    constant: np.ndarray
    foldable: np.ndarray
    cancellation: np.ndarray
    shift: np.ndarray
    magnitude: np.ndarray

    def ratio(self, channels: np.ndarray, representatives: np.ndarray) -> np.ndarray:
        """The multiples of their representatives that channels are."""
        if self.rays[0].identical:
            return np.ones(len(channels))
        return (
            self.pivot[channels]
            / self.pivot[representatives]
            * (self.factor[channels] / self.factor[representatives])
        )


def describe(draft: Draft, region: Region, nonnegative: np.ndarray) -> Description:
    """Follow the channels of a region.

    Parameters
    ----------
    draft : Draft
    region : Region
    nonnegative : ndarray of bool, shape (features,)
        Features (channels) of the producer's input that are never negative: they tell dead neurons.
    """
    network, epsilon = draft.network, draft.epsilon[region.producer]
    opening = opened(draft, region.producer)
    states, rays = started(draft, region.producer, opening, nonnegative)
    for node in region.nodes:
        source = network.sources[node][0]
        if source in states:
            shape = network.shapes[source]
            states[node], ray = follow(network.layers[node], states[source], shape, epsilon)
            rays += [ray] if ray else []
    values, constants, foldables = {}, [], []
    for consumer in region.consumers:
        source = network.sources[consumer][0]
        state = states[source]
        values[consumer] = state.value
        constants.append(state.constant.all(axis=(0, 2)))
        padded = pads(network.layers[consumer], network.shapes[source])
        silent = ~(state.value != 0).any(axis=(0, 2))
        foldables.append(constants[-1] & silent if padded else constants[-1])
        if padded and (state.tau != 0).any():
            rays.append(affine_ray(state, epsilon)[0])
    read = [states[network.sources[consumer][0]] for consumer in region.consumers]
    return Description(
        opening.close,
        opening.weights,
        opening.intercepts,
        opening.factor,
        opening.pivot,
        tuple(rays),
        values,
        np.logical_and.reduce(constants),
        np.logical_and.reduce(foldables),
        opening.cancellation,
        np.maximum.reduce(
            [opening.shift(region.producer), *(_relative_shift(state) for state in states.values())]
        ),
        np.maximum.reduce([np.abs(state.alpha).max(axis=(0, 2)) for state in read]),
    )


@dataclass(frozen=True)
class Opening:
    """Weights and biases of every channel where the rays are taken, each over `factor`."""

    close: int
    weights: np.ndarray
    weight_size: np.ndarray | None
    intercepts: np.ndarray
    intercept_size: np.ndarray
    factor: np.ndarray

    @property
    def largest(self) -> np.ndarray:
        return np.maximum(self.weights.max(axis=0, initial=0), -self.weights.min(axis=0, initial=0))

    @property
    def pivot(self) -> np.ndarray:
        """What rays are divided by: the largest weight, or the bias where there is none."""
        bias = np.where(self.intercepts == 0, 1, np.abs(self.intercepts))
        return np.where(self.largest == 0, bias, self.largest)

    @property
    def cancellation(self) -> np.ndarray:
        if self.weight_size is None:
            return np.ones(len(self.factor))
        return self.weight_size.max(axis=0, initial=0) / self.pivot

    def shift(self, producer: int) -> np.ndarray:
        """The terms that a batch normalization sums to an intercept, over the largest weight."""
        if self.close == producer:
            return np.zeros(len(self.factor))
        return self.intercept_size / self.pivot


def opened(draft: Draft, producer: int) -> Opening:
    """The channels at a layer, batch normalization directly behind a linear one included."""
    network, close = draft.network, producer
    layer = weighted(network, close)
    weights, factor = _units(layer)
    weights = weights.reshape(-1, layer.outputs)
    intercepts = layer.bias
    weight_size, intercept_size = draft.sizes.get(close, (None, np.abs(layer.bias)))
    if weight_size is not None:
        weight_size = weight_size.reshape(weights.shape) / factor
    while layer.activation == "linear":
        reader, *others = network.readers(close)
        norm = network.layers[reader]
        if others or not isinstance(norm, BatchNormalization):
            break
        close = reader
        slope, shift = norm.affine()
        intercepts = slope * intercepts + shift
        terms = np.abs(norm.beta) + np.abs(slope * norm.mean)
        intercept_size = np.abs(slope) * intercept_size + terms
        weights = weights * np.sign(slope)
        weight_size = None if weight_size is None else weight_size * np.abs(np.sign(slope))
        factor = factor * np.where(slope == 0, 1, np.abs(slope))
    return Opening(
        close, weights, weight_size, intercepts / factor, intercept_size / factor, factor
    )


def _units(layer: Weighted) -> tuple[np.ndarray, np.ndarray]:
    """Kernel over a factor for every output channel: integer codes where the layer is quantized
    with such a scale.
    """
    quantization = layer.quantization
    if quantization is None or quantization.scale.size not in (1, layer.outputs):
        return layer.kernel, np.ones(layer.outputs)
    codes = quantization.codes(layer.kernel).astype(np.float64)
    return codes, np.broadcast_to(quantization.scale.reshape(-1), layer.outputs)


def started(
    draft: Draft, producer: int, opening: Opening, nonnegative: np.ndarray
) -> tuple[dict[int, State], list[Ray]]:
    """The state where the rays are taken, and the first ray: (weights, intercept)."""
    layer, epsilon = weighted(draft.network, producer), draft.epsilon[producer]
    homogeneous = activation_of(layer).positively_homogeneous
    pivot, factor = opening.pivot, opening.factor
    scale = pivot if homogeneous else 1 / factor
    on_grid = layer.quantization is not None and opening.close == producer
    ray = Ray(
        (
            Part(
                opening.weights[:, None],
                ULPS * (EPSILON if on_grid else epsilon),
                None if opening.weight_size is None else opening.weight_size[:, None],
                scale,
            ),
            Part(
                opening.intercepts[None, None],
                ULPS * epsilon,
                opening.intercept_size[None, None],
                scale,
            ),
        ),
        identical=not homogeneous,
    )

    def column(array: np.ndarray) -> np.ndarray:
        return array[None, :, None]

    zeros = np.zeros((1, len(pivot), 1))
    state = State(
        column(pivot * factor if homogeneous else np.ones(len(pivot))),
        zeros,
        zeros,
        column(opening.largest == 0),
        column(opening.intercepts * factor),
        column(_never_positive(opening, nonnegative)),
    )
    if layer.activation != "linear":
        state = _activated(layer, state)
    return {opening.close: state}, [ray]


def _never_positive(opening: Opening, nonnegative: np.ndarray) -> np.ndarray:
    """Channels with no positive weight or bias, and no weight at all for inputs that may be
    negative.
    """
    weights = opening.weights
    found = (opening.intercepts <= 0) & (weights.max(axis=0, initial=0) == 0)
    signed = np.flatnonzero(~np.tile(nonnegative, len(weights) // len(nonnegative)))
    found[found] = (weights[np.ix_(signed, np.flatnonzero(found))] == 0).all(axis=0)
    return found


def _relative_shift(state: State) -> np.ndarray:
    """The largest sum of magnitudes behind a shift, over alpha, of every channel."""
    alpha = np.abs(state.alpha)
    return np.divide(
        state.tau_size,
        alpha,
        out=np.zeros(np.broadcast(state.tau_size, alpha).shape),
        where=alpha > 0,
    ).max(axis=(0, 2))


def follow(layer: Layer, state: State, shape: Shape, epsilon: float) -> tuple[State, Ray | None]:
    """The state behind a channel-wise layer, and the ray that it adds to the signature, if any."""
    match layer:
        case MaxPooling2D() | GlobalMaxPooling2D():
            signs = np.sign(state.alpha)
            ray = Ray((Part(_rows(signs), 0.0),), identical=True) if (signs < 0).any() else None
            return replace(state, alpha=np.abs(state.alpha)), ray
        case BatchNormalization():
            return _follow_norm(layer, state)
        case Activation():
            homogeneous = activation_of(layer).positively_homogeneous
            ray, scale = affine_ray(state, epsilon, identical=not homogeneous)
            trivial = homogeneous and not state.tau.any() and (state.alpha > 0).all()
            after = replace(
                _activated(layer, state),
                alpha=scale,
                tau=np.zeros_like(scale),
                tau_size=np.zeros_like(scale),
            )
            return after, None if trivial else ray
        case DepthwiseConv2D():
            return _follow_depthwise(layer, state, shape, epsilon)
        case _:
            return state, None


def _follow_norm(layer: BatchNormalization, state: State) -> tuple[State, Ray | None]:
    _, channels, multiplier = state.alpha.shape
    slope, shift = (array.reshape(-1, channels, multiplier) for array in layer.affine())
    terms = (np.abs(layer.beta) + np.abs(layer.affine()[0] * layer.mean)).reshape(slope.shape)
    # a channel that is constant here cannot stand for one that is not
    flat = (slope == 0).astype(np.float64)
    ray = Ray((Part(_rows(flat), 0.0),), identical=True) if flat.any() else None
    after = State(
        alpha=slope * state.alpha,
        tau=slope * state.tau + shift,
        tau_size=np.abs(slope) * state.tau_size + terms,
        constant=state.constant | (slope == 0),
        value=slope * np.where(state.constant, state.value, 0) + shift,
        never_positive=np.zeros(slope.shape, bool),
    )
    return after, ray


def _follow_depthwise(
    layer: DepthwiseConv2D, state: State, shape: Shape, epsilon: float
) -> tuple[State, Ray]:
    """A depthwise kernel times alpha, its sum times tau (its taps times tau where it pads) and its
    bias make a ray of their own.
    """
    _, channels, multiplier = state.alpha.shape
    kernel = layer.kernel.reshape(-1, channels, multiplier, layer.kernel.shape[3])
    bias = layer.bias.reshape(1, channels, -1)
    padded = pads(layer, shape)

    def flat(array: np.ndarray) -> np.ndarray:
        return array.reshape(len(array), channels, -1)

    taps = flat(state.alpha[..., None] * kernel)
    shifts = flat(state.tau[..., None] * kernel)
    shift_sizes = flat(state.tau_size[..., None] * np.abs(kernel))
    intercept, intercept_size = bias, np.abs(bias)
    if not padded:
        intercept = bias + shifts.sum(axis=0)
        intercept_size = intercept_size + shift_sizes.sum(axis=0)
        shifts, shift_sizes = shifts[:0], shift_sizes[:0]
    homogeneous = activation_of(layer).positively_homogeneous
    scale = np.abs(taps).max(axis=0, keepdims=True)
    scale = np.where(scale > 0, scale, 1) if homogeneous else np.ones_like(scale)
    parts = tuple(
        Part(_stacked(vectors / scale), ULPS * epsilon, _stacked(sizes / scale))
        for vectors, sizes in (
            (taps, np.abs(taps)),
            (shifts, shift_sizes),
            (intercept, intercept_size),
        )
        if len(vectors)
    )
    still = state.constant & ((state.value == 0) | (not padded))
    before = np.where(still, state.value, 0)
    still = flat(np.repeat(still[..., None], kernel.shape[3], axis=-1))
    zeros = np.zeros_like(scale)
    after = State(
        scale,
        zeros,
        zeros,
        still | (taps == 0).all(axis=0, keepdims=True),
        flat(before[..., None] * kernel).sum(axis=0, keepdims=True) + bias,
        np.zeros(scale.shape, bool),
    )
    if layer.activation != "linear":
        after = _activated(layer, after)
    return after, Ray(parts, identical=not homogeneous)


def _activated(layer: Layer, state: State) -> State:
    """What an activation does to the constants."""
    call = activation_of(layer).function
    is_relu = activation_name(layer) == "relu"
    dead = state.never_positive if is_relu else np.zeros_like(state.never_positive)
    return replace(
        state,
        constant=state.constant | dead,
        value=np.where(dead, 0, call(np.where(state.constant, state.value, 0))),
        never_positive=dead,
    )


def affine_ray(state: State, epsilon: float, identical: bool = False) -> tuple[Ray, np.ndarray]:
    """(alpha, tau), over the larger magnitude unless `identical`, and what remains of alpha."""
    larger = np.maximum(np.abs(state.alpha), np.abs(state.tau))
    scale = np.ones_like(larger) if identical else np.where(larger > 0, larger, 1)
    alpha, tau = _rows(state.alpha / scale), _rows(state.tau / scale)
    parts = (
        Part(alpha, ULPS * epsilon),
        Part(tau, ULPS * epsilon, _rows(state.tau_size / scale)),
    )
    return Ray(parts, identical), scale


def _rows(array: np.ndarray) -> np.ndarray:
    """(positions, channels, multiplier) → (1, rows, channels): one row for each position and
    multiple.
    """
    return np.moveaxis(array, 1, 2).reshape(1, -1, array.shape[1])


def _stacked(array: np.ndarray) -> np.ndarray:
    """(entries, channels, multiplier) → (entries, rows, channels)."""
    return np.moveaxis(array, 1, 2)
