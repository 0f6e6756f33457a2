"""What lies between a layer and the weights that read it, and what it makes of each channel.

A region is a Dense or Conv2D layer with the channel-wise layers behind it (batch normalization,
pooling, Flatten, Dropout, activations, depthwise convolution) up to the Dense and Conv2D layers
that read them. Inside it a channel computes α · g + τ, where g is determined by the channel's
signature: its ray (incoming weights and bias, over the largest weight) and what the later layers
add to it. Channels of equal signature are affine functions of each other, and the reading weights
can be merged.
"""

from dataclasses import dataclass, replace

import numpy as np

from netreduce.errors import UnsupportedLayerError
from netreduce.folding.batch_norm import pads
from netreduce.network.activations import activation_function
from netreduce.network.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Cropping2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Layer,
    MaxPooling2D,
    Multiply,
    Normalization,
    Permute,
    PReLU,
    Rescaling,
    Reshape,
    Subtract,
    UpSampling2D,
    ZeroPadding2D,
)

POOLING = (MaxPooling2D, AveragePooling2D, GlobalAveragePooling2D)
CHANNELWISE = (BatchNormalization, *POOLING, Flatten, Dropout, Activation, DepthwiseConv2D)
# those that end a region; bounds know what they do to errors
OTHERS = (
    Add,
    Concatenate,
    Conv2DTranspose,
    Cropping2D,
    GlobalMaxPooling2D,
    Multiply,
    Normalization,
    Permute,
    PReLU,
    Rescaling,
    Reshape,
    Subtract,
    UpSampling2D,
    ZeroPadding2D,
)
KNOWN = (Dense, Conv2D, *CHANNELWISE, *OTHERS)

EPSILON = np.finfo(np.float64).eps
# numbers that differ by so many units in the last place, of what was summed to get them, count as
# equal
ULPS = 8


@dataclass(frozen=True)
class Region:
    """A layer whose channels may be merged.

    Attributes
    ----------
    producer : int
        The Dense or Conv2D layer.
    nodes : tuple of int
        The channel-wise layers behind it, in topological order.
    consumers : tuple of int
        The Dense and Conv2D layers that read them.
    multipliers : dict of int to int
        By producer and nodes: into how many channels depthwise convolutions have made each one of
        the producer.
    """

    producer: int
    nodes: tuple[int, ...]
    consumers: tuple[int, ...]
    multipliers: dict[int, int]


def find_regions(network) -> dict[int, Region]:
    """The regions by producer: layers whose every path leads through channel-wise layers to
    weights, never to the output or to another layer, such as Add.

    Raises
    ------
    UnsupportedLayerError
        For a layer that netreduce does not have: names it.
    """
    for name, layer in zip(network.names, network.layers, strict=True):
        if not isinstance(layer, KNOWN):
            raise UnsupportedLayerError(
                f"{name}: lumping does not know what a {type(layer).__name__} computes"
            )
    regions = (
        _region(network, i) for i, layer in enumerate(network.layers) if mixes_all_channels(layer)
    )
    return {region.producer: region for region in regions if region}


def mixes_all_channels(layer: Layer) -> bool:
    """Whether every output of a layer is a weighted sum of all input channels."""
    return isinstance(layer, Dense) or (isinstance(layer, Conv2D) and layer.groups == 1)


def _is_channelwise(layer):
    """Whether a layer treats all channels alike, and all positions, so that an affine function of a
    channel stays one.
    """
    if isinstance(layer, AveragePooling2D) and layer.count_padding:
        return layer.padding == "valid" or not any(layer.padding)
    return isinstance(layer, CHANNELWISE)


def _region(network, producer):
    tensors, nodes, consumers, multipliers = [producer], [], [], {producer: 1}
    while tensors:
        tensor = tensors.pop()
        readers = network.readers(tensor)
        function = activation_of(network.layers[tensor])[0]
        if not readers or not function.elementwise or np.isinf(function.lipschitz):
            return None
        for reader in readers:
            if mixes_all_channels(network.layers[reader]):
                consumers.append(reader)
            elif _is_channelwise(network.layers[reader]):
                nodes.append(reader)
                tensors.append(reader)
                multiplier = (
                    network.layers[reader].kernel.shape[3]
                    if isinstance(network.layers[reader], DepthwiseConv2D)
                    else 1
                )
                multipliers[reader] = multipliers[tensor] * multiplier
            else:
                return None
    return Region(producer, tuple(sorted(nodes)), tuple(sorted(consumers)), multipliers)


def activation_of(layer):
    """The layer's activation: (ActivationFunction, callable, least and largest derivative)."""
    function = getattr(layer, "function", None) or activation_function("linear")
    return function, function.function, function.slopes


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

    def of(self, channels) -> tuple[np.ndarray, np.ndarray]:
        """Scaled vectors and sizes of some channels."""
        scale = self.scale[channels] if np.ndim(self.scale) else self.scale
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
    """

    alpha: np.ndarray
    tau: np.ndarray
    tau_size: np.ndarray
    constant: np.ndarray  # whether it depends on no input,
    value: np.ndarray  # and its value then
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

    def ratio(self, channels, representatives) -> np.ndarray:
        """The multiples of their representatives that channels are."""
        if self.rays[0].identical:
            return np.ones(len(channels))
        return (
            self.pivot[channels]
            / self.pivot[representatives]
            * (self.factor[channels] / self.factor[representatives])
        )


def describe(draft, region, nonnegative) -> Description:
    """Follow the channels of a region.

    Parameters
    ----------
    draft : Draft
    region : Region
    nonnegative : ndarray of bool, shape (features,)
        Features (channels) of the producer's input that are never negative: they tell dead neurons.
    """
    network, epsilon = draft.network, draft.epsilon[region.producer]
    layer = network.layers[region.producer]
    function = activation_of(layer)[0]
    close, weights, weight_size, intercepts, intercept_size, factor = _open_rows(draft, region)
    highest = weights.max(axis=0, initial=0)
    pivot = np.maximum(highest, -weights.min(axis=0, initial=0))
    constant = pivot == 0
    never_positive = (intercepts <= 0) & (highest == 0)
    signed = np.flatnonzero(~np.tile(nonnegative, len(weights) // len(nonnegative)))
    never_positive[never_positive] = (
        weights[np.ix_(signed, np.flatnonzero(never_positive))] == 0
    ).all(axis=0)
    pivot = np.where(constant, np.where(intercepts == 0, 1, np.abs(intercepts)), pivot)
    scale = pivot if function.positively_homogeneous else 1 / factor
    on_grid = layer.quantization is not None and close == region.producer
    rays = [
        Ray(
            (
                Part(
                    weights[:, None],
                    ULPS * (EPSILON if on_grid else epsilon),
                    None if weight_size is None else weight_size[:, None],
                    scale,
                ),
                Part(intercepts[None, None], ULPS * epsilon, intercept_size[None, None], scale),
            ),
            identical=not function.positively_homogeneous,
        )
    ]

    def column(array):
        return np.asarray(array)[None, :, None]

    zeros = np.zeros((1, len(pivot), 1))
    alpha = column(pivot * factor if function.positively_homogeneous else np.ones(len(pivot)))
    state = State(
        alpha, zeros, zeros, column(constant), column(intercepts * factor), column(never_positive)
    )
    if layer.activation != "linear":
        state = _activated(layer, state)
    states = {close: state}
    for node in region.nodes:
        source = network.sources[node][0]
        if source in states:
            shape = network.shapes[source]
            states[node], ray = _follow(network.layers[node], states[source], shape, epsilon)
            rays += [ray] if ray else []
    values, constants, foldables = {}, [], []
    for consumer in region.consumers:
        source = network.sources[consumer][0]
        state = states[source]
        values[consumer] = state.value
        constants.append(state.constant.all(axis=(0, 2)))
        padded = pads(network.layers[consumer], network.shapes[source])
        foldables.append(
            constants[-1] & ~(state.value != 0).any(axis=(0, 2)) if padded else constants[-1]
        )
        if padded and (state.tau != 0).any():
            rays.append(_affine_ray(state, epsilon)[0])
    return Description(
        close,
        weights,
        intercepts,
        factor,
        pivot,
        tuple(rays),
        values,
        np.logical_and.reduce(constants),
        np.logical_and.reduce(foldables),
    )


def units(layer) -> tuple[np.ndarray, np.ndarray]:
    """Kernel over a factor for every output channel: integer codes where the layer is quantized
    with such a scale.
    """
    scale = None if layer.quantization is None else layer.quantization.scale
    if scale is None or (scale.size > 1 and scale.size != scale.shape[-1]):
        return layer.kernel, np.ones(layer.outputs)
    return layer.codes.astype(np.float64), np.broadcast_to(scale.reshape(-1), layer.outputs)


def _open_rows(draft, region):
    """Weights and bias of every channel, batch normalization directly behind a linear layer
    included.
    """
    network, close = draft.network, region.producer
    layer = network.layers[close]
    weights, factor = units(layer)
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
        intercept_size = (
            np.abs(slope) * intercept_size + np.abs(norm.beta) + np.abs(slope * norm.mean)
        )
        weights = weights * np.sign(slope)
        weight_size = None if weight_size is None else weight_size * np.abs(np.sign(slope))
        factor = factor * np.where(slope == 0, 1, np.abs(slope))
    return close, weights, weight_size, intercepts / factor, intercept_size / factor, factor


def _follow(layer, state, shape, epsilon):
    """The state behind a channel-wise layer, and the ray that it adds to the signature, if any."""
    _, channels, multiplier = state.alpha.shape
    match layer:
        case MaxPooling2D():
            signs = np.sign(state.alpha)
            ray = Ray((Part(_rows(signs), 0.0),), identical=True) if (signs < 0).any() else None
            return replace(state, alpha=np.abs(state.alpha)), ray
        case BatchNormalization():
            slope, shift = (array.reshape(-1, channels, multiplier) for array in layer.affine())
            size = np.abs(layer.beta) + np.abs(layer.affine()[0] * layer.mean)
            flat = (slope == 0).astype(
                np.float64
            )  # a channel that is constant here cannot stand for one that is not
            ray = Ray((Part(_rows(flat), 0.0),), identical=True) if flat.any() else None
            return (
                State(
                    alpha=slope * state.alpha,
                    tau=slope * state.tau + shift,
                    tau_size=np.abs(slope) * state.tau_size + size.reshape(slope.shape),
                    constant=state.constant | (slope == 0),
                    value=slope * np.where(state.constant, state.value, 0) + shift,
                    never_positive=np.zeros(slope.shape, bool),
                ),
                ray,
            )
        case Activation():
            ray, scale = _affine_ray(
                state, epsilon, identical=not activation_of(layer)[0].positively_homogeneous
            )
            trivial = not ray.identical and not state.tau.any() and (state.alpha > 0).all()
            return replace(
                _activated(layer, state),
                alpha=scale,
                tau=np.zeros_like(scale),
                tau_size=np.zeros_like(scale),
            ), (None if trivial else ray)
        case DepthwiseConv2D():
            return _follow_depthwise(layer, state, shape, epsilon)
        case _:
            return state, None


def _follow_depthwise(layer, state, shape, epsilon):
    _, channels, multiplier = state.alpha.shape
    kernel = layer.kernel.reshape(-1, channels, multiplier, layer.kernel.shape[3])
    bias = layer.bias.reshape(1, channels, -1)
    padded = pads(layer, shape)

    def flat(array):
        return array.reshape(len(array), channels, -1)

    taps = flat(state.alpha[..., None] * kernel)
    shifts = flat(state.tau[..., None] * kernel)
    shift_sizes = flat(state.tau_size[..., None] * np.abs(kernel))
    intercept, intercept_size = bias, np.abs(bias)
    if not padded:
        intercept, intercept_size = (
            bias + shifts.sum(axis=0),
            intercept_size + shift_sizes.sum(axis=0),
        )
        shifts, shift_sizes = shifts[:0], shift_sizes[:0]
    homogeneous = activation_of(layer)[0].positively_homogeneous
    scale = np.abs(taps).max(axis=0, keepdims=True)
    scale = np.where(scale > 0, scale, 1) if homogeneous else np.ones_like(scale)
    parts = [
        Part(_stacked(vectors / scale), ULPS * epsilon, _stacked(sizes / scale))
        for vectors, sizes in (
            (taps, np.abs(taps)),
            (shifts, shift_sizes),
            (intercept, intercept_size),
        )
        if len(vectors)
    ]
    still = state.constant & ((state.value == 0) | (not padded))
    before = np.where(still, state.value, 0)
    constant = flat(np.repeat(still[..., None], kernel.shape[3], axis=-1)) | (taps == 0).all(
        axis=0, keepdims=True
    )
    value = flat(before[..., None] * kernel).sum(axis=0, keepdims=True) + bias
    zeros = np.zeros_like(scale)
    after = State(scale, zeros, zeros, constant, value, np.zeros(scale.shape, bool))
    return (_activated(layer, after) if layer.activation != "linear" else after), Ray(
        tuple(parts), identical=not homogeneous
    )


def _activated(layer, state):
    """What an activation does to the constants."""
    call = activation_of(layer)[1]
    dead = (
        state.never_positive
        if activation_name(layer) == "relu"
        else np.zeros_like(state.never_positive)
    )
    return replace(
        state,
        constant=state.constant | dead,
        value=np.where(dead, 0, call(np.where(state.constant, state.value, 0))),
        never_positive=dead,
    )


def _affine_ray(state, epsilon, identical=False):
    """(alpha, tau), over the larger magnitude unless `identical`, and what remains of alpha."""
    scale = (
        np.ones_like(state.alpha)
        if identical
        else np.maximum(np.abs(state.alpha), np.abs(state.tau))
    )
    scale = np.where(scale > 0, scale, 1)
    alpha, tau = _rows(state.alpha / scale), _rows(state.tau / scale)
    return (
        Ray(
            (Part(alpha, ULPS * epsilon), Part(tau, ULPS * epsilon, _rows(state.tau_size / scale))),
            identical,
        ),
        scale,
    )


def _rows(array):
    """(positions, channels, multiplier) → (1, rows, channels): one row for each position and
    multiple.
    """
    return np.moveaxis(array, 1, 2).reshape(1, -1, array.shape[1])


def _stacked(array):
    """(entries, channels, multiplier) → (entries, rows, channels)."""
    return np.moveaxis(array, 1, 2)


def activation_name(layer) -> str:
    """Name of the layer's activation."""
    return layer.name if isinstance(layer, Activation) else getattr(layer, "activation", "linear")
