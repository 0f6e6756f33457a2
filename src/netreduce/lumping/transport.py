"""Carry "channel j is ratio · channel i + shift" from the layer that computes both to the weights
that read them, and what is lost on the way.

Let neuron 1 be 3 · neuron 0 up to an error: |relu(z₁) − 3 relu(z₀)| ≤ e over the box of inputs. A
batch normalization behind them with slopes (1, 2) and shifts (5, 7) makes of h₀, h₁ the outputs
h₀ + 5 and 2 h₁ + 7, so the second is 6 · the first − 23, up to 2 e:

    at the layer             ratio 3, shift 0
    at the normalization     ratio 3 · 2 / 1 = 6, shift 2 · 0 + 7 − 6 · 5 = −23

A weight w that reads neuron 1 becomes 6 w on neuron 0 and −23 w in the bias. `transport` returns
these (`Heirs`, by reader) and the errors where they arise, here e at the layer;
`bound.Propagation` carries them to the outputs. A convolution that pads cannot take a shift into
its bias, for the zeros at the border are not shifted: there the shift is dropped, and is an
error.
"""

import math
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np

from netreduce.folding import pads
from netreduce.network import Network
from netreduce.network.layers import Activation, BatchNormalization, DepthwiseConv2D, Layer, Shape

from .boxes import Box, behind_activation, linear, linear_in_magnitude, own_error
from .draft import Draft, Heirs, Mixture, Share, Step, reading_weights
from .regions import EPSILON, Region, activation_of, weighted
from .signatures import Description

Reach = Callable[[int], Box]  # from a layer to the box of its output
Relation = tuple[np.ndarray, np.ndarray]  # ratio and shift, (positions or 1, pairs, multiplier)


def take_out(
    draft: Draft,
    region: Region,
    step: Step,
    description: Description | None = None,
    reach: Reach | None = None,
) -> None:
    """Take channels out of a region and note the errors; not those whose merged weights the given
    floating type cannot hold.

    Parameters
    ----------
    draft : Draft
    region : Region
    step : Step
        In present indices.
    description : Description, optional
        Of the region as it is; without it all channels of the step must be unread.
    reach : callable, optional
        From a layer to the box of its output.
    """
    while len(step):
        before = draft.network
        shares, errors = _shares(before, region, step, description, reach)
        refused = draft.take_out(region, step, shares)
        if not refused.any():
            for index, error in errors.items():
                draft.add_error(index, error)
            return
        step = step.only(~refused)


def _shares(
    network: Network,
    region: Region,
    step: Step,
    description: Description | None,
    reach: Reach | None,
) -> tuple[Mapping[int, Share], dict[int, np.ndarray]]:
    """What each consumer has to do for a step, and the errors of layers' outputs."""
    if description is None or reach is None:
        nothing = np.zeros((1, len(step), 1))
        return dict.fromkeys(region.consumers, Heirs(nothing, nothing)), {}
    if step.mixtures:
        return step.mixtures, {
            consumer: mixture_error(network, region, step, consumer, mixture, reach)
            for consumer, mixture in step.mixtures.items()
        }
    shares, made, dropped = transport(network, region, step, description, reach)
    errors = {
        index: _among_all(network, region, step, index, error) for index, error in made.items()
    }
    for consumer, error in dropped.items():
        layer = weighted(network, consumer)
        weights = reading_weights(
            np.abs(layer.kernel),
            weighted(network, region.producer).outputs,
            region.multipliers[network.sources[consumer][0]],
        )[:, step.neurons]
        before = (error[..., None] * weights).sum(axis=(0, 1, 2))
        errors[consumer] = own_error(network, consumer, before)
    return shares, errors


def transport(
    network: Network, region: Region, step: Step, description: Description, reach: Reach
) -> tuple[dict[int, Heirs], dict[int, np.ndarray], dict[int, np.ndarray]]:
    """What each consumer has to do for a step, and what is lost.

    Returns
    -------
    shares : dict of int to Heirs
        By consumer.
    errors : dict of int to ndarray
        By layer of the region: bounds of the error of its output in the channels that go, shape
        (*positions, channels, multiplier).
    dropped : dict of int to ndarray
        By consumer that pads: the shift that it cannot take up, shape (1, channels, multiplier).
    """
    gone, multiple = step.neurons, step.kinds == "multiple"
    into, ratio = np.where(multiple, step.into, gone), np.where(multiple, step.ratio, 1.0)
    relations: dict[int, Relation] = {
        description.close: (ratio[None, :, None], np.zeros((1, len(gone), 1)))
    }
    errors: dict[int, np.ndarray] = {}
    shares, dropped = {}, {}
    if multiple.any():
        box = reach(network.sources[region.producer][0])
        errors[description.close] = ray_errors(
            network, region, description, gone, into, ratio, box
        )[..., None]
    channels = weighted(network, region.producer).outputs
    for node in region.nodes:
        source = network.sources[node][0]
        if source in relations:
            error, relations[node] = _through(
                network.layers[node],
                relations[source],
                gone,
                into,
                channels,
                partial(reach, source) if multiple.any() else None,
                network.shapes[source],
            )
            if multiple.any() and np.any(error):
                errors[node] = np.asarray(error)
    for consumer in region.consumers:
        source = network.sources[consumer][0]
        share = _share(step, relations[source], description.values[consumer])
        if pads(network.layers[consumer], network.shapes[source]):
            if share.shift.any():
                dropped[consumer] = np.abs(share.shift)
            share = Heirs(share.ratio, np.zeros_like(share.shift))
        shares[consumer] = share
    return shares, errors, dropped


def _share(step: Step, relation: Relation, values: np.ndarray) -> Heirs:
    """Multiples as they are at a consumer; constants by their values: for the bias, or, where one
    stands for another before a convolution that pads, as multiples of that one's.
    """
    multiple = (step.kinds == "multiple")[:, None]
    constant = (step.kinds == "constant")[:, None]
    heirs = constant & (step.into >= 0)[:, None]
    mine, others = values[:, step.neurons], np.where(heirs, values[:, step.into], 1)
    quotients = np.divide(mine, others, out=np.zeros_like(mine), where=others != 0)
    ratio, shift = relation
    return Heirs(
        np.where(multiple, ratio, np.where(heirs, quotients, 0)),
        np.where(multiple, shift, np.where(constant & ~heirs, mine, 0)),
    )


def _among_all(
    network: Network, region: Region, step: Step, index: int, error: np.ndarray
) -> np.ndarray:
    """Errors of the channels that go, shape (*positions, channels, multiplier), among zeros for the
    others, as they lie in the layer's output; one position may stand for all.
    """
    channels, shape = weighted(network, region.producer).outputs, network.shapes[index]
    everyone = np.zeros((*error.shape[:-2], channels, error.shape[-1]))
    multiple = (step.kinds == "multiple")[:, None]
    everyone[..., step.neurons, :] = np.where(multiple, error, 0)
    if len(shape) > 1:
        return everyone.reshape(*everyone.shape[:-2], -1)
    positions = shape[0] // math.prod(everyone.shape[-2:])
    return np.broadcast_to(everyone, (positions, *everyone.shape[-2:])).ravel()


def mixture_error(
    network: Network, region: Region, step: Step, consumer: int, mixture: Mixture, reach: Reach
) -> np.ndarray:
    """A bound of the error of a consumer's output when mixtures of the channels that stay stand for
    those that go, each anywhere in its interval.
    """
    source, layer = network.sources[consumer][0], weighted(network, consumer)
    box = reach(source)
    channels, multiplier = weighted(network, region.producer).outputs, region.multipliers[source]
    keep = np.setdiff1d(np.arange(channels), step.neurons)
    center, radius = (array.reshape(-1, channels, multiplier) for array in (box.center, box.radius))
    off = (
        center[:, step.neurons]
        - np.einsum("mjk,pkm->pjm", mixture.weights, center[:, keep])
        - mixture.shift
    )
    spread = radius[:, step.neurons] + np.einsum(
        "mjk,pkm->pjm", np.abs(mixture.weights), radius[:, keep]
    )
    error = np.zeros(center.shape)
    error[:, step.neurons] = np.abs(off) + spread
    before = linear_in_magnitude(layer, error.reshape(1, *box.low.shape))[0]
    return own_error(network, consumer, before)


def ray_errors(
    network: Network,
    region: Region,
    description: Description,
    gone: np.ndarray,
    into: np.ndarray,
    ratio: np.ndarray,
    box: Box,
) -> np.ndarray:
    """Bounds of |σ(z_j) − ratio σ(z_i)| over the box, shape (*positions, pairs): σ's Lipschitz
    constant times the extreme of an affine function.
    """
    layer = weighted(network, region.producer)
    weights, intercepts, factor = description.weights, description.intercepts, description.factor
    difference = weights[:, gone] * factor[gone] - weights[:, into] * (ratio * factor[into])
    shift = intercepts[gone] * factor[gone] - ratio * (intercepts[into] * factor[into])
    error = np.abs(linear(layer, difference, box.center) + shift)
    error = error + linear(layer, np.abs(difference), box.radius)
    # and the rounding of these numbers themselves, in float64
    sizes = np.abs(difference) + np.abs(weights[:, gone]) * factor[gone]
    biases = np.abs(shift) + np.abs(intercepts[gone]) * factor[gone]
    own = (len(weights) + 8) * EPSILON * (linear(layer, sizes, box.magnitude) + biases)
    error = error + own
    return behind_activation(layer, error) if description.close == region.producer else error


def _through(
    layer: Layer,
    relation: Relation,
    gone: np.ndarray,
    into: np.ndarray,
    channels: int,
    box: Callable[[], Box] | None,
    shape: Shape,
) -> tuple[np.ndarray | float, Relation]:
    """The error that a channel-wise layer adds, and ratio and shift behind it."""
    ratio, shift = relation
    match layer:
        case BatchNormalization():
            return 0.0, _through_norm(layer, relation, gone, into, channels)
        case Activation():
            error = np.abs(shift)
            if not activation_of(layer).positively_homogeneous:
                reach = 0.0
                if box is not None:
                    magnitude = box().magnitude.reshape(-1, channels, ratio.shape[2])
                    reach = magnitude.max(axis=0, keepdims=True)[:, into]
                error, ratio = error + np.abs(ratio - 1) * reach, np.ones_like(ratio)
            return behind_activation(layer, error), (ratio, np.zeros_like(shift))
        case DepthwiseConv2D():
            return _through_depthwise(layer, relation, gone, into, channels, box, shape)
        case _:
            return 0.0, relation


def _through_norm(
    layer: BatchNormalization,
    relation: Relation,
    gone: np.ndarray,
    into: np.ndarray,
    channels: int,
) -> Relation:
    ratio, shift = relation
    slopes, shifts = (array.reshape(-1, channels, ratio.shape[2]) for array in layer.affine())
    mine, theirs = slopes[:, gone], slopes[:, into]
    ratio = ratio * np.divide(mine, theirs, out=np.zeros_like(mine), where=theirs != 0)
    return ratio, mine * shift + shifts[:, gone] - ratio * shifts[:, into]


def _through_depthwise(
    layer: DepthwiseConv2D,
    relation: Relation,
    gone: np.ndarray,
    into: np.ndarray,
    channels: int,
    box: Callable[[], Box] | None,
    shape: Shape,
) -> tuple[np.ndarray | float, Relation]:
    c, d = relation[0][0, ..., None], relation[1][0, ..., None]
    factor = layer.kernel.shape[3]
    kernel = layer.kernel.reshape(-1, channels, c.shape[1], factor)
    mine, theirs = kernel[:, gone], kernel[:, into]
    ratio = np.ones_like(mine[0])
    if activation_of(layer).positively_homogeneous:
        ratio = _pivot_ratios(c, mine, theirs)
    error: np.ndarray | float = 0.0
    if box is not None:
        reach = box()
        ones = np.ones(shape)
        difference = c * mine - ratio * theirs
        biases = layer.bias.reshape(channels, -1, factor)
        bias = (biases[gone] - ratio * biases[into]).ravel()
        convolved = partial(_convolved, layer, into, channels)
        error = np.abs(convolved(difference, reach.center) + convolved(d * mine, ones) + bias)
        error = error + convolved(np.abs(difference), reach.radius)
        own = (len(kernel) + 8) * EPSILON
        error = error + own * convolved(np.abs(c * mine), reach.magnitude)
        error = behind_activation(layer, error.reshape(*error.shape[:2], len(gone), -1))
    ratio = ratio.reshape(1, len(gone), -1)
    return error, (ratio, np.zeros_like(ratio))


def _pivot_ratios(c: np.ndarray, mine: np.ndarray, theirs: np.ndarray) -> np.ndarray:
    """The multiples that depthwise kernels are of others at the others' largest taps."""
    pivot = np.abs(theirs).argmax(axis=0)[None]
    numerator, denominator = (np.take_along_axis(a, pivot, axis=0)[0] for a in (mine, theirs))
    quotient = np.divide(
        numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0
    )
    return np.where(denominator == 0, 1, c * quotient)


def _convolved(
    layer: DepthwiseConv2D,
    into: np.ndarray,
    channels: int,
    weights: np.ndarray,
    x: np.ndarray,
) -> np.ndarray:
    """Depthwise convolution of the channels `into` of one sample with other weights."""
    rows, columns, _, factor = layer.kernel.shape
    x = x.reshape(*x.shape[:2], channels, -1)[:, :, into].reshape(*x.shape[:2], -1)
    kernel = weights.reshape(rows, columns, -1, factor)
    return layer.replace(kernel=kernel, bias=None, quantization=None).linear(x[None])[0]
