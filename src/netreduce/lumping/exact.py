"""Exact lumping: channels of one signature, up to the rounding of the parameters, found by sorting
random projections.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from netreduce.network import INPUT, Network
from netreduce.network.layers import (
    Activation,
    Add,
    BatchNormalization,
    Concatenate,
    Cropping2D,
    Dense,
    Dropout,
    Flatten,
    Layer,
    Shape,
    UpSampling2D,
    Weighted,
    ZeroPadding2D,
)

from .boxes import Arithmetic, Box, around, fan_in, linear, own_error, propagate
from .draft import Draft, Step, channels_read
from .joined import Handed, Joined, drop_unread
from .matching import match
from .regions import EPSILON, POOLING, Region, activation_name, weighted
from .signatures import Description, describe
from .transport import Reach, take_out

Choose = Callable[[Draft, Region, Description, Reach], Step]

NEVER_NEGATIVE = (
    "relu",
    "relu6",
    "sigmoid",
    "hard_sigmoid",
    "hard_sigmoid_keras2",
    "softplus",
    "exponential",
    "softmax",
)


def sweep(draft: Draft) -> None:
    """Take out the channels that nobody reads."""
    sweep_regions(draft)
    while drop_unread(draft):
        sweep_regions(draft)


def sweep_regions(draft: Draft) -> None:
    """Take out, from the back to the front, the channels of regions that nobody reads."""
    for producer in sorted(draft.regions, reverse=True):
        region = draft.regions[producer]
        read = channels_read(draft.network, region)
        if not read.any():
            read[0] = True  # a layer keeps one channel at least
        gone = np.flatnonzero(~read)
        if len(gone):
            take_out(
                draft,
                region,
                Step(
                    producer,
                    gone,
                    np.full(len(gone), -1),
                    np.zeros(len(gone)),
                    np.full(len(gone), "unread"),
                ),
            )


def merge(
    draft: Draft,
    inputs: Sequence[Box],
    choose: Choose,
    given: Mapping[int, Handed] | None = None,
) -> None:
    """Go through the layers from the front and take out of each region what `choose` says; let
    layers that read others read no multiples (`joined`).

    Parameters
    ----------
    draft : Draft
    inputs : sequence of Box
        The network's inputs are in one of them.
    choose : callable
        (draft, region, description, reach) → Step, where reach goes from a layer to a box around
        its outputs.
    given : mapping of int to (Step, Heirs), optional
        By layer outside of regions, what it no longer reads, as a record says.
    """
    joined = Joined(draft)
    boxes, signs = {INPUT: inputs}, {INPUT: np.zeros(draft.network.input_shape[-1], bool)}
    arithmetic = Arithmetic.of(draft.original)

    def reach(tensor: int) -> Box:
        for index in range(len(boxes) - 1, tensor + 1):
            layer, sources = draft.network.layers[index], draft.network.sources[index]
            read = zip(*(boxes[s] for s in sources), strict=True)
            boxes[index] = [propagate(layer, parts, arithmetic)[0] for parts in read]
        return around(boxes[tensor])

    def forget(index: int) -> None:
        for later in [i for i in boxes if i >= index]:
            del boxes[later]

    for index, sources in enumerate(draft.network.sources):
        if joined.hand_over(index, reach, given):
            forget(index)
        if index in draft.sizes:
            draft.add_error(index, _error_of_sums(draft, index, reach(sources[0])))
        if index in draft.regions:
            region = draft.regions[index]
            description = describe(draft, region, signs[sources[0]])
            step = choose(draft, region, description, reach)
            if len(step):
                take_out(draft, region, step, description, reach)
                forget(index)
        joined.follow(index, signs[sources[0]])
        signs[index] = _never_negative(
            draft.network.layers[index], [signs[s] for s in sources], draft.network.shapes[index]
        )


def exact_step(draft: Draft, region: Region, description: Description, reach: Reach) -> Step:
    """Constants to fold and multiples to merge, of one region."""
    quantized = weighted(draft.network, region.producer).quantization is not None
    channels = len(description.pivot)
    into, kinds = np.full(channels, -1), np.full(channels, "", "U8")
    kinds[description.foldable] = "constant"
    stuck = np.flatnonzero(description.constant & ~description.foldable)
    if len(stuck):
        heir, heard = _constants(description, stuck)
        into[heard], kinds[heard] = heir, "constant"
    leaders = match(description.rays, _order(description, quantized))
    merged = leaders >= 0
    into[merged], kinds[merged] = leaders[merged], "multiple"
    gone = np.flatnonzero(kinds != "")
    if len(gone) == channels:
        gone = gone[1:]  # a layer keeps one channel at least
    ratio = np.zeros(len(gone))
    multiple = kinds[gone] == "multiple"
    ratio[multiple] = description.ratio(gone[multiple], into[gone[multiple]])
    return Step(region.producer, gone, into[gone], ratio, kinds[gone])


def class_counts(network: Network) -> dict[str, int]:
    """Number of equivalence classes (1) in every layer whose channels may be merged, outputs and
    layers beside a sum left out.

    Neurons count as one class when they are multiples of one another, as the lumped layers before
    see them; all neurons of zeros are one class.

    Parameters
    ----------
    network : Network

    Returns
    -------
    dict of str to int
        By layer name.

    Examples
    --------
    >>> from netreduce import Dense, Network
    >>> hidden = Dense([[1.0, 2.0, -1.0]], [0.5, 1.0, -0.5], "relu")
    >>> class_counts(Network([hidden, Dense([[3.0], [4.0], [5.0]])], (1,)))
    {'dense_1': 2}
    """
    counts: dict[str, int] = {}

    def choose(draft: Draft, region: Region, description: Description, reach: Reach) -> Step:
        leaders = match(description.rays, np.arange(len(description.pivot)))
        gone = np.flatnonzero(leaders >= 0)
        counts[network.names[region.producer]] = len(leaders) - len(gone)
        return Step(
            region.producer,
            gone,
            leaders[gone],
            description.ratio(gone, leaders[gone]),
            np.full(len(gone), "multiple"),
        )

    box = Box(np.zeros(network.input_shape), np.ones(network.input_shape))
    merge(Draft(network), [box], choose)
    return counts


def published_class_counts(network: Network) -> dict[str, int]:
    """Number of classes as the published program for real networks counts them: for comparison, not
    right.

    It looks at dense layers only and leaves out the last; takes the ratio ρ = b(s) / b(s') of
    biases, skips s' where its bias is zero, accepts any sign of ρ, so that a neuron of zeros
    swallows every later one, and compares unscaled sums over the classes before to a relative 1e-5.

    Parameters
    ----------
    network : Network

    Returns
    -------
    dict of str to int
        By layer name.

    Examples
    --------
    The third neuron is −1 times the first, which behind a ReLU is no multiple:

    >>> from netreduce import Dense, Network
    >>> hidden = Dense([[1.0, 2.0, -1.0]], [0.5, 1.0, -0.5], "relu")
    >>> published_class_counts(Network([hidden, Dense([[3.0], [4.0], [5.0]])], (1,)))
    {'dense_1': 1}
    """
    counts: dict[str, int] = {}
    classes: list[list[int]] = []
    dense = [i for i, layer in enumerate(network.layers) if isinstance(layer, Dense)]
    for index in dense[:-1]:
        layer = weighted(network, index)
        kernel, bias = layer.kernel.astype(np.float64), layer.bias.astype(np.float64)
        if sum(len(members) for members in classes) == len(kernel):
            kernel = np.stack([kernel[members].sum(axis=0) for members in classes])
        classes, remaining = [], np.arange(layer.outputs)
        while len(remaining):
            first, others = remaining[0], remaining[1:]
            others = others[bias[others] != 0]
            for start in range(0, len(kernel), 64):
                rows = slice(start, start + 64)
                equal = np.isclose(
                    bias[first] / bias[others] * kernel[rows, others],
                    kernel[rows, [first]],
                    rtol=1e-5,
                    atol=0,
                )
                others = others[equal.all(axis=0)]
                if not len(others):
                    break
            classes.append([first, *others])
            remaining = np.setdiff1d(remaining, classes[-1])
        counts[network.names[index]] = len(classes)
    return counts


def _constants(description: Description, stuck: np.ndarray) -> tuple[int, np.ndarray]:
    """Of constant channels that no bias can take up: the one that takes over, and those it stands
    for, which are zero wherever it is.
    """
    values = np.concatenate(
        [
            value[:, stuck].swapaxes(1, 2).reshape(-1, len(stuck))
            for value in description.values.values()
        ]
    )
    sizes, heard = np.abs(values), values != 0
    heir = np.lexsort((-np.arange(len(stuck)), sizes.max(axis=0), heard.sum(axis=0)))[-1]
    others = (heard <= heard[:, [heir]]).all(axis=0)
    others[heir] = False
    return int(stuck[heir]), stuck[others]


def _order(description: Description, quantized: bool) -> np.ndarray:
    """Channels that are not constant, those first that stand for others with the least rounding.

    What counts is the size of what is summed to a channel, over what it contributes: c times a
    channel with cancelling weights, or with a large shift behind it, is c times as far off. To a
    factor of 8 in that, the largest channel is first, so that ratios are at most 1; of quantized
    ones the smallest, so that they are whole numbers.
    """
    size = description.pivot if quantized else -description.magnitude
    keys = (size, _power_of_8(description.shift), _power_of_8(description.cancellation))
    order = np.lexsort(keys)
    return order[~description.constant[order]]


def _power_of_8(sizes: np.ndarray) -> np.ndarray:
    return np.where(sizes > 0, np.frexp(sizes)[1] // 3, np.iinfo(np.int32).min)


def _error_of_sums(draft: Draft, index: int, box: Box) -> np.ndarray:
    """What the merged weights and biases of a layer lost: sums that were rounding and are zero now,
    and the rounding of all sums in float64.
    """
    layer = weighted(draft.network, index)
    weights, biases = draft.sizes[index]
    own = (fan_in(weighted(draft.original, index)) + 8) * EPSILON
    lost = own * weights + draft.lost.get(index, 0.0)
    before = linear(layer, lost, box.magnitude) + own * biases
    return own_error(draft.network, index, before)


def _never_negative(layer: Layer, signs: Sequence[np.ndarray], shape: Shape) -> np.ndarray:
    """Which features (channels) of a layer's output are never negative, given its inputs'."""
    sign = signs[0]
    if activation_name(layer) in NEVER_NEGATIVE:
        return np.ones(shape[-1], bool)
    match layer:
        case Weighted():
            return np.zeros(shape[-1], bool)
        case BatchNormalization():
            slope, shift = layer.affine()
            return (shift >= 0) & ((slope == 0) | (slope > 0) & sign)
        case Flatten():
            return np.tile(sign, shape[0] // len(sign))
        case Add():
            return np.logical_and.reduce(signs)
        case Concatenate():
            return np.concatenate(signs)
        case Activation() if layer.name != "log_softmax":
            return sign
        case Dropout() | ZeroPadding2D() | Cropping2D() | UpSampling2D():
            return sign
        case _ if isinstance(layer, POOLING):
            return sign
        case _:
            return np.zeros(shape[-1], bool)
