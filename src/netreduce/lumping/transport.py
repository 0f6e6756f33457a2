"""Carry "channel j is ratio · channel i + shift" from the layer that computes both to the weights
that read them, and what is lost on the way.
"""

from functools import partial

import numpy as np

from netreduce.folding.batch_norm import pads
from netreduce.network.layers import Activation, BatchNormalization, DepthwiseConv2D

from .bound import linear, linear_in_magnitude, lipschitz, own_error
from .draft import Draft, Heirs, Step, reading_weights
from .regions import activation_of


def take_out(draft: Draft, region, step: Step, description=None, reach=None) -> None:
    """Take channels out of a region and note the errors.

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
    if description is None:
        nothing = np.zeros((1, len(step), 1))
        shares = dict.fromkeys(region.consumers, Heirs(nothing, nothing))
    elif step.mixtures:
        shares = step.mixtures
        for consumer, mixture in shares.items():
            draft.add_error(
                consumer, mixture_error(draft.network, region, step, consumer, mixture, reach)
            )
    else:
        shares, errors, dropped = transport(draft.network, region, step, description, reach)
        for index, error in errors.items():
            draft.add_error(index, _among_all(draft.network, region, step, index, error))
        for consumer, error in dropped.items():
            layer = draft.network.layers[consumer]
            multiplier = region.multipliers[draft.network.sources[consumer][0]]
            weights = reading_weights(
                np.abs(layer.kernel), draft.network.layers[region.producer].outputs, multiplier
            )[:, step.neurons]
            dropped_error = (error[..., None] * weights).sum(axis=(0, 1, 2))
            draft.add_error(consumer, own_error(draft.network, consumer, dropped_error))
    draft.take_out(region, step, shares)


def transport(network, region, step, description, reach):
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
    channels = network.layers[region.producer].outputs
    states = {description.close: (ratio[None, :, None], np.zeros((1, len(gone), 1)))}
    errors, shares, dropped = {}, {}, {}
    if multiple.any():
        box = reach(network.sources[region.producer][0])
        errors[description.close] = ray_errors(
            network, region, description, gone, into, ratio, box
        )[..., None]
    for node in region.nodes:
        source = network.sources[node][0]
        if source in states:
            box = partial(reach, source) if multiple.any() else None
            error, states[node] = _through(
                network.layers[node],
                *states[source],
                gone,
                into,
                channels,
                box,
                network.shapes[source],
            )
            if multiple.any() and np.any(error):
                errors[node] = error
    for consumer in region.consumers:
        source, layer = network.sources[consumer][0], network.layers[consumer]
        c, d = states[source]
        values = description.values[consumer][:, gone]
        constant = (step.kinds == "constant")[:, None]
        # before a padded convolution one constant stands for another
        heirs = constant & (step.into >= 0)[:, None]
        others = np.where(heirs, description.values[consumer][:, step.into], 1)
        quotients = np.divide(values, others, out=np.zeros_like(values), where=others != 0)
        c = np.where(multiple[:, None], c, np.where(heirs, quotients, 0))
        d = np.where(multiple[:, None], d, np.where(constant & ~heirs, values, 0))
        if pads(layer, network.shapes[source]):
            if d.any():
                dropped[consumer] = np.abs(d)
            d = np.zeros_like(d)
        shares[consumer] = Heirs(c, d)
    return shares, errors, dropped


def _among_all(network, region, step, index, error):
    """Errors of the channels that go, shape (..., channels, multiplier), among zeros for the
    others, as they lie in the layer's output.
    """
    everyone = np.zeros(
        (*error.shape[:-2], network.layers[region.producer].outputs, error.shape[-1])
    )
    everyone[..., step.neurons, :] = np.where((step.kinds == "multiple")[:, None], error, 0)
    shape = network.shapes[index]
    return (
        everyone.reshape(*shape[:-1], -1) if everyone.size == np.prod(shape) else everyone.ravel()
    )


def mixture_error(network, region, step, consumer, mixture, reach) -> np.ndarray:
    """A bound of the error of a consumer's output when mixtures of the channels that stay stand for
    those that go, each anywhere in its interval.
    """
    source, layer = network.sources[consumer][0], network.layers[consumer]
    box = reach(source)
    channels, multiplier = network.layers[region.producer].outputs, region.multipliers[source]
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


def ray_errors(network, region, description, gone, into, ratio, box) -> np.ndarray:
    """Bounds of |σ(z_j) − ratio σ(z_i)| over the box, shape (*positions, pairs): σ's Lipschitz
    constant times the extreme of an affine function.
    """
    layer = network.layers[region.producer]
    weights, intercepts, factor = description.weights, description.intercepts, description.factor
    difference = weights[:, gone] * factor[gone] - weights[:, into] * (ratio * factor[into])
    shift = intercepts[gone] * factor[gone] - ratio * (intercepts[into] * factor[into])
    error = np.abs(linear(layer, difference, box.center) + shift) + linear(
        layer, np.abs(difference), box.radius
    )
    return error * (lipschitz(layer) if description.close == region.producer else 1.0)


def _through(layer, c, d, gone, into, channels, box, shape):
    """The error that a channel-wise layer adds, and ratio and shift behind it."""
    multiplier = c.shape[2]
    if isinstance(layer, BatchNormalization):
        slope, shift = (array.reshape(-1, channels, multiplier) for array in layer.affine())
        quotient = np.divide(
            slope[:, gone],
            slope[:, into],
            out=np.zeros_like(slope[:, gone]),
            where=slope[:, into] != 0,
        )
        ratio = c * quotient
        return np.zeros_like(d), (
            ratio,
            slope[:, gone] * d + shift[:, gone] - ratio * shift[:, into],
        )
    if isinstance(layer, Activation):
        error = np.abs(d)
        if not activation_of(layer)[0].positively_homogeneous:
            reach = (
                0.0
                if box is None
                else box()
                .magnitude.reshape(-1, channels, multiplier)
                .max(axis=0, keepdims=True)[:, into]
            )
            error, c = error + np.abs(c - 1) * reach, np.ones_like(c)
        return lipschitz(layer) * error, (c, np.zeros_like(d))
    if isinstance(layer, DepthwiseConv2D):
        return _through_depthwise(layer, c, d, gone, into, channels, box, shape)
    return np.zeros_like(d), (c, d)


def _through_depthwise(layer, c, d, gone, into, channels, box, shape):
    rows, columns, _, factor = layer.kernel.shape
    kernel = layer.kernel.reshape(rows * columns, channels, -1, factor)
    bias = layer.bias.reshape(channels, -1, factor)
    mine, theirs = kernel[:, gone], kernel[:, into]
    ratio = np.ones_like(mine[0])
    if activation_of(layer)[0].positively_homogeneous:
        pivot = np.abs(theirs).argmax(axis=0)[None]
        numerator, denominator = (
            np.take_along_axis(array, pivot, axis=0)[0] for array in (mine, theirs)
        )
        ratio = c[0, ..., None] * np.divide(
            numerator, denominator, out=np.zeros_like(numerator), where=denominator != 0
        )
        ratio = np.where(denominator == 0, 1, ratio)
    error = 0.0
    if box is not None:
        box = box()
        difference = c[0, ..., None] * mine - ratio * theirs

        def convolved(weights, x):
            x = x.reshape(*shape[:2], channels, -1)[:, :, into].reshape(*shape[:2], -1)
            return layer.replace(
                kernel=weights.reshape(rows, columns, -1, factor), bias=None, quantization=None
            ).linear(x[None])[0]

        error = np.abs(
            convolved(difference, box.center)
            + convolved(d[0, ..., None] * mine, np.ones(shape))
            + (bias[gone] - ratio * bias[into]).ravel()
        )
        error = (error + convolved(np.abs(difference), box.radius)).reshape(
            *error.shape[:2], len(gone), -1
        )
    ratio = ratio.reshape(1, len(gone), -1)
    return lipschitz(layer) * error * np.ones(ratio.shape[1:]), (ratio, np.zeros_like(ratio))
