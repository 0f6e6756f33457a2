"""The lumped network in the shape of the original, to be compared with it neuron by neuron.

Where neuron 1 was merged into neuron 0 as twice it, the lumped network reads neuron 0 with the
weight w̃ = fl(a + 2 b). The same function is computed by a network that still has neuron 1, with
twice the weights and the bias of neuron 0, and that reads both:

    (w̃ − 2 b) h + b (2 h)  =  w̃ h

So each of its neurons is near that of the original, also where both are far from zero, and a bound
of the difference of two networks of one shape (`netreduce.certificates`) is small.
"""

from dataclasses import dataclass
from typing import cast

import numpy as np

from netreduce.folding import pads
from netreduce.network import Network
from netreduce.network.layers import Activation, BatchNormalization, DepthwiseConv2D, Weighted

from .draft import Draft, Heirs, Step, reading_weights
from .regions import EPSILON, Region, weighted


@dataclass(frozen=True, eq=False)
class Expansion:
    """A lumped network in the shape of the original, in float64.

    Attributes
    ----------
    network : Network
    rounding : dict of int to (ndarray, ndarray)
        By layer, what the rounding of float64 can have made of its weights and biases.
    """

    network: Network
    rounding: dict[int, tuple[np.ndarray, np.ndarray]]


def expanded(draft: Draft) -> Expansion | None:
    """The lumped network in the shape of the original; None where a region has what this cannot
    undo: see `_is_plain`; and where channels went that meet in an Add or a Concatenate.
    """
    original, lumped = draft.original, draft.finished()
    if (
        draft.readings
        or draft.dropped
        or not all(_is_plain(original, draft.regions[step.producer], step) for step in draft.steps)
    ):
        return None
    layers = dict(enumerate(in_double(original).layers))
    rounding = {}
    for index in sorted(draft.changed):
        layer = layers[index]
        if not isinstance(layer, Weighted):
            continue
        weights = _Sums(layer.kernel.copy(), np.abs(layer.kernel))
        biases = _Sums(layer.bias.copy(), np.abs(layer.bias))
        outputs = draft.kept.get(index, np.arange(layer.outputs))
        _inputs_back(draft, index, weighted(lumped, index), outputs, weights, biases)
        if index in draft.regions:
            _outputs_back(draft, draft.regions[index], weights, biases)
        layers[index] = layer.replace(kernel=weights.values, bias=biases.values, quantization=None)
        # a sum of the weight that is stored and those of all channels that went, and a product
        terms = 8 + sum(len(step) for step in draft.steps)
        rounding[index] = terms * EPSILON * weights.sizes, terms * EPSILON * biases.sizes
    return Expansion(original.replace(layers), rounding)


def in_double(network: Network) -> Network:
    """The network with its parameters in float64."""
    return network.replace(
        {
            index: layer.replace(
                **{name: array.astype(np.float64) for name, array in layer.arrays().items()}
            )
            for index, layer in enumerate(network.layers)
        }
    )


@dataclass
class _Sums:
    """Numbers and the magnitudes of what was summed to them."""

    values: np.ndarray
    sizes: np.ndarray


def _inputs_back(
    draft: Draft, index: int, layer: Weighted, outputs: np.ndarray, weights: _Sums, biases: _Sums
) -> None:
    """Let the outputs that are left read the channels that went, with the weights they had."""
    region = next((r for r in draft.regions.values() if index in r.consumers), None)
    kernel, bias = layer.kernel.astype(np.float64), layer.bias.astype(np.float64)
    if region is None:
        weights.values[..., outputs], biases.values[outputs] = kernel, bias
        return
    channels = weighted(draft.original, region.producer).outputs
    multiplier = region.multipliers[draft.original.sources[index][0]]
    given = reading_weights(weights.values[..., outputs], channels, multiplier)
    back = np.zeros_like(given)
    kept = draft.kept[region.producer]
    back[:, kept] = reading_weights(kernel, len(kept), multiplier)
    steps = [
        (step, cast(Heirs, shares[index]))
        for step, shares in zip(draft.steps, draft.shares, strict=True)
        if step.producer == region.producer
    ]
    for step, _ in steps:
        read = (step.kinds != "unread")[:, None, None]
        back[:, step.neurons] = np.where(read, given[:, step.neurons], 0)
    sizes, bias_sizes = np.abs(back), np.abs(bias)
    for step, share in steps:
        handed = share.shift[..., None] * given[:, step.neurons]
        bias, bias_sizes = (
            bias - handed.sum(axis=(0, 1, 2)),
            bias_sizes + np.abs(handed).sum(axis=(0, 1, 2)),
        )
        merged = step.into >= 0
        taken = share.ratio[:, merged, :, None] * given[:, step.neurons[merged]]
        np.subtract.at(back.swapaxes(0, 1), step.into[merged], taken.swapaxes(0, 1))
        np.add.at(sizes.swapaxes(0, 1), step.into[merged], np.abs(taken).swapaxes(0, 1))
    shape = weights.values[..., outputs].shape
    weights.values[..., outputs], weights.sizes[..., outputs] = (
        back.reshape(shape),
        sizes.reshape(shape),
    )
    biases.values[outputs], biases.sizes[outputs] = bias, bias_sizes


def _outputs_back(draft: Draft, region: Region, weights: _Sums, biases: _Sums) -> None:
    """Give the multiples that were merged their weights and biases; constants, whatever makes them
    constant, and unread neurons keep those they had.
    """
    slope, shift = _norm_behind(draft.original, region)
    for step in draft.steps:
        if step.producer == region.producer:
            multiple = step.kinds == "multiple"
            gone, into, ratio = step.neurons[multiple], step.into[multiple], step.ratio[multiple]
            stretch = ratio * slope[into] / slope[gone]
            weights.values[..., gone] = stretch * weights.values[..., into]
            weights.sizes[..., gone] = np.abs(weights.values[..., gone])
            terms = (
                stretch * biases.values[into],
                ratio * shift[into] / slope[gone],
                -shift[gone] / slope[gone],
            )
            biases.values[gone] = sum(terms)
            biases.sizes[gone] = sum(map(np.abs, terms))


def _norm_behind(network: Network, region: Region) -> tuple[np.ndarray, np.ndarray]:
    """Slope and shift of the batch normalization directly behind a linear layer."""
    index, layer = region.producer, weighted(network, region.producer)
    slope, shift = np.ones(layer.outputs), np.zeros(layer.outputs)
    while layer.activation == "linear":
        reader, *others = network.readers(index)
        norm = network.layers[reader]
        if others or not isinstance(norm, BatchNormalization):
            break
        index = reader
        slope, shift = slope * norm.affine()[0], norm.affine()[0] * shift + norm.affine()[1]
    return slope, shift


def _is_plain(network: Network, region: Region, step: Step) -> bool:
    """Whether ratios at the layer and shifts at the readers tell all: no depthwise convolution, no
    activation or padding behind a batch normalization that is not directly behind the layer, and no
    activation behind which a multiple is none.
    """
    multiple = step.kinds == "multiple"
    if any(isinstance(network.layers[node], DepthwiseConv2D) for node in region.nodes):
        return False
    if step.mixtures or not multiple.any():
        return not step.mixtures
    index, layer = region.producer, weighted(network, region.producer)
    close = {index}
    while layer.activation == "linear":
        reader, *others = network.readers(index)
        if others or not isinstance(network.layers[reader], BatchNormalization):
            break
        index = reader
        close.add(index)
    shifted = set()
    for node in region.nodes:
        source, behind = network.sources[node][0], network.layers[node]
        if isinstance(behind, Activation) and (
            source in shifted
            or not (behind.function.positively_homogeneous or (step.ratio[multiple] == 1).all())
        ):
            return False
        if source in shifted or (
            isinstance(network.layers[node], BatchNormalization) and node not in close
        ):
            shifted.add(node)
    return not any(
        network.sources[consumer][0] in shifted
        and pads(network.layers[consumer], network.shapes[network.sources[consumer][0]])
        for consumer in region.consumers
    )
