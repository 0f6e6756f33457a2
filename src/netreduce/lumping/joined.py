"""Channels that meet others in an Add or a Concatenate, merged where they are read.

Channel j of a sum is a multiple of channel i when it is one in every summand, by the same ratio:

    x_j = 2 x_i  and  y_j = 2 y_i     make     x_j + y_j = 2 (x_i + y_i)

So every tensor outside of the regions gets a *signature*: each of its channels is alpha · g + tau,
and channels of one label share g. A layer's rays (`signatures`) make its labels; an Add makes new
ones, of the labels and the ratios of its summands; what works channel by channel passes them on.
A Dense or Conv2D layer that reads such a tensor reads one channel of each label, and the weights of
the others become zero: 3 x_i + 4 x_j is 11 x_i. A channel that nobody reads any more, wherever it
shows (`netreduce.network.channels`), then goes from all layers that make it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np

from netreduce.folding import pads
from netreduce.network import INPUT
from netreduce.network.channels import Channels
from netreduce.network.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2DTranspose,
    Cropping2D,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
    Shape,
    UpSampling2D,
    Weighted,
    ZeroPadding2D,
)

from .boxes import own_error
from .differences import Differences
from .draft import Draft, Heirs, Step, reading_weights
from .matching import match
from .regions import ULPS, activation_of, mixes, weighted
from .signatures import Opening, Part, Ray, State, affine_ray, follow, opened, started
from .transport import Reach

Handed = tuple[Step, Heirs]
PASSING = (
    AveragePooling2D,
    Cropping2D,
    Dropout,
    GlobalAveragePooling2D,
    UpSampling2D,
    ZeroPadding2D,
)


@dataclass(frozen=True)
class Signature:
    """Channels (entries of the last axis) of one label share g in alpha · g + tau.

    Attributes
    ----------
    labels : ndarray of int, shape (channels,)
        Below the number of channels; of constant channels they say nothing.
    state : State
        Arrays of shape (1, channels, 1).
    epsilon : float
        Precision of the parameters that made it.
    """

    labels: np.ndarray
    state: State
    epsilon: float

    @property
    def constant(self) -> np.ndarray:
        return self.state.constant[0, :, 0]

    @property
    def alpha(self) -> np.ndarray:
        """Zero where it is constant."""
        return np.where(self.constant, 0, self.state.alpha[0, :, 0])

    @property
    def offset(self) -> np.ndarray:
        """tau, or the value where it is constant."""
        return np.where(self.constant, self.state.value[0, :, 0], self.state.tau[0, :, 0])


class Joined:
    """The tensors of a draft that lie in no region, followed from the front.

    Parameters
    ----------
    draft : Draft
    """

    def __init__(self, draft: Draft) -> None:
        network = draft.network
        self.draft = draft
        self.found: dict[int, Signature] = {}
        regions = draft.regions.values()
        inside = {INPUT, *(t for region in regions for t in (region.producer, *region.nodes))}
        self.readers = {
            index
            for index, (source, *_) in enumerate(network.sources)
            if mixes(network.layers[index]) and source not in inside
        }
        if not self.readers:
            return
        self.channels = Channels(network)
        self.readers = {i for i in self.readers if self._may_go(network.sources[i][0]).any()}
        self.needed: set[int] = set()
        waiting = [network.sources[reader][0] for reader in self.readers]
        while waiting:
            tensor = waiting.pop()
            if tensor in self.needed or tensor == INPUT:
                continue
            self.needed.add(tensor)
            if not mixes(network.layers[tensor]):
                waiting += network.sources[tensor]
        self.sizes = np.zeros(len(self.channels.removable))
        for index in self.needed:
            if mixes(network.layers[index]):
                columns = np.abs(weighted(network, index).kernel).reshape(
                    -1, network.shapes[index][-1]
                )
                np.maximum.at(
                    self.sizes, self.channels.classes[index], columns.max(axis=0, initial=0)
                )
        self.found[INPUT] = _fresh(network.input_shape[-1])

    def hand_over(self, index: int, reach: Reach, given: Mapping[int, Handed] | None) -> bool:
        """Let a layer read one channel of every label; whether anything has changed.

        Parameters
        ----------
        index : int
        reach : callable
            From a layer to the box of its output.
        given : mapping of int to (Step, Heirs), optional
            By reader, what a record says; by default what the signatures do.
        """
        if index not in self.readers:
            return False
        if given is not None and index not in given:
            return False
        step, share = self._step(index) if given is None else given[index]
        while len(step):
            refused = self.draft.hand_over(index, step, share)
            if not refused.any():
                if given is None:
                    self._add_error(index, step, share, reach)
                return True
            step = step.only(~refused)
            share = Heirs(share.ratio[:, ~refused], share.shift[:, ~refused])
        return False

    def follow(self, index: int, nonnegative: np.ndarray) -> None:
        """Find the signature of a layer's output.

        Parameters
        ----------
        index : int
        nonnegative : ndarray of bool
            Features (channels) of the layer's input that are never negative.
        """
        if not self.readers or index not in self.needed or index in self.found:
            return
        network = self.draft.network
        layer = network.layers[index]
        if mixes(layer):
            self._open(index, nonnegative)
            return
        sources = network.sources[index]
        before = [self.found[source] for source in sources]
        shape = network.input_shape if sources[0] == INPUT else network.shapes[sources[0]]
        order = self._order(index)
        self.found[index] = self._behind(index, before, shape, order)

    def _behind(
        self, index: int, before: list[Signature], shape: Shape, order: np.ndarray
    ) -> Signature:
        layer, first = self.draft.network.layers[index], before[0]
        match layer:
            case Add():
                return _sum(before, order)
            case Concatenate():
                return _side_by_side(before, self.draft.network.sources[index])
            case Flatten():
                return _at_positions(first, int(np.prod(shape[:-1])))
            case (
                Activation()
                | BatchNormalization()
                | DepthwiseConv2D()
                | MaxPooling2D()
                | GlobalMaxPooling2D()
            ) if activation_of(layer).elementwise:
                epsilon = max(first.epsilon, self.draft.epsilon[index])
                state, ray = follow(layer, first.state, shape, epsilon)
                labels, rays = first.labels, [ray] if ray else []
                if isinstance(layer, DepthwiseConv2D):
                    labels = np.repeat(labels, layer.kernel.shape[3])
                    state, rays = _by_entry(state), [_ray_by_entry(one) for one in rays]
                constant = state.constant[0, :, 0]
                if rays:
                    labels = _refined(labels, rays, order[~constant[order]])
                return Signature(labels, state, epsilon)
            case _ if isinstance(layer, PASSING):
                return _unshifted(first) if pads(layer, shape) else first
            case _:
                return _fresh(self.draft.network.shapes[index][-1])

    def _open(self, index: int, nonnegative: np.ndarray) -> None:
        """The signature of what a layer makes, batch normalization directly behind included."""
        draft, layer = self.draft, weighted(self.draft.network, index)
        opening: Opening = opened(draft, index)
        states, rays = started(draft, index, opening, nonnegative)
        state = states[opening.close]
        if not activation_of(layer).elementwise:
            self.found[opening.close] = _fresh(layer.outputs)
            return
        order = self._order(opening.close)
        labels = _refined(np.zeros(layer.outputs, int), rays, order[~state.constant[0, order, 0]])
        self.found[opening.close] = Signature(labels, state, draft.epsilon[index])

    def _step(self, index: int) -> tuple[Step, Heirs]:
        """What a layer need not read, and what takes over."""
        network, layer = self.draft.network, weighted(self.draft.network, index)
        source = network.sources[index][0]
        found, order = self.found[source], self._order(source)
        padded = pads(layer, network.shapes[source])
        labels, constant = found.labels, found.constant
        if padded and found.offset[~constant].any():
            ray = affine_ray(found.state, found.epsilon)[0]
            labels = _refined(labels, [ray], order[~constant[order]])
        live = order[~constant[order]]
        _, first, which = np.unique(labels[live], return_index=True, return_inverse=True)
        into = np.full(len(labels), -1)
        into[live] = live[first][which]
        heard = (reading_weights(layer.kernel, len(labels), 1) != 0).any(axis=(0, 2, 3))
        gone = heard & self._may_go(source) & (into != np.arange(len(labels)))
        gone &= ~constant | (found.offset == 0) | (not padded)
        (neurons,) = np.nonzero(gone)
        into = into[neurons]
        multiple = into >= 0
        ratio = np.where(multiple, found.alpha[neurons], 0)
        ratio[multiple] /= found.alpha[into[multiple]]
        shift = found.offset[neurons] - ratio * np.where(multiple, found.offset[into], 0)
        shift = np.where(multiple & padded, 0, shift)
        kinds = np.where(multiple, "multiple", "constant")
        step = Step(source, neurons, into, ratio, kinds)
        return step, Heirs(ratio[None, :, None], shift[None, :, None])

    def _add_error(self, index: int, step: Step, share: Heirs, reach: Reach) -> None:
        """Note what the output of a layer is off by because multiples are none quite."""
        multiple = step.kinds == "multiple"
        if not multiple.any():
            return
        offsets = {tensor: found.offset for tensor, found in self.found.items()}
        error = np.zeros(len(step))
        error[multiple] = Differences(self.draft.network, offsets, reach).at(
            step.producer,
            step.neurons[multiple],
            step.into[multiple],
            step.ratio[multiple],
            share.shift[0, multiple, 0],
        )
        before = error @ self.draft.readings[-1].magnitudes
        self.draft.add_error(index, own_error(self.draft.network, index, before))

    def _may_go(self, tensor: int) -> np.ndarray:
        return self.channels.removable[self.channels.classes[tensor]]

    def _order(self, tensor: int) -> np.ndarray:
        """The channels of a tensor, those that stay anyway and the largest first: the same wherever
        a class shows.
        """
        classes = self.channels.classes[tensor]
        return np.lexsort((np.arange(len(classes)), -self.sizes[classes], self._may_go(tensor)))


def drop_unread(draft: Draft) -> bool:
    """Take out the channels outside of regions that nobody reads, wherever they show; whether there
    were any.
    """
    network = draft.network
    if all(mixes(layer) for layer in network.layers):
        return False
    channels = Channels(network)
    groups = [g for g in channels.groups() if not draft.regions.keys() & set(g)]
    if not groups:
        return False
    read = np.zeros(len(channels.removable), bool)
    for layer, (source, *_) in zip(network.layers, network.sources, strict=True):
        if not isinstance(layer, Weighted) or isinstance(layer, DepthwiseConv2D):
            continue
        kernel = layer.kernel
        if isinstance(layer, Conv2DTranspose):
            kernel = np.swapaxes(kernel, -1, -2)
        classes = channels.classes[source]
        if mixes(layer) or isinstance(layer, Conv2DTranspose):
            heard = (kernel.reshape(-1, len(classes), kernel.shape[-1]) != 0).any(axis=(0, 2))
            read[classes[heard]] = True
        else:
            read[classes] = True
    gone = np.zeros(len(read), bool)
    for group in groups:
        members = channels.members(group)
        gone[members] = ~read[members]
        for index in group:
            if gone[channels.classes[index]].all():
                gone[channels.classes[index][0]] = False  # a layer keeps one channel at least
    if not gone.any():
        return False
    draft.drop(channels, np.flatnonzero(gone))
    return True


def _fresh(channels: int) -> Signature:
    """Channels of which nothing is known."""
    column = np.zeros((1, channels, 1))
    never = np.zeros(column.shape, bool)
    state = State(np.ones(column.shape), column, column, never, column, never)
    return Signature(np.arange(channels), state, 0.0)


def _refined(labels: np.ndarray, rays: Sequence[Ray], order: np.ndarray) -> np.ndarray:
    """New labels: channels share one when they shared the old one and have the same rays."""
    old = Ray((Part(labels[None, None].astype(np.float64), 0.0),))
    leaders = match([old, *rays], order)
    return np.where(leaders >= 0, leaders, np.arange(len(labels)))


def _sum(summands: list[Signature], order: np.ndarray) -> Signature:
    epsilon = max(one.epsilon for one in summands)
    alphas = np.stack([one.alpha for one in summands])
    scale = np.abs(alphas).max(axis=0)
    constant = scale == 0
    scale = np.where(constant, 1, scale)
    labels = np.stack([np.where(one.alpha == 0, -1, one.labels) for one in summands])
    ray = Ray(
        (
            Part((alphas / scale)[:, None], ULPS * epsilon),
            Part(labels[:, None].astype(np.float64), 0.0),
        )
    )
    offset = np.add.reduce([one.offset for one in summands])
    size = np.add.reduce(
        [
            np.where(one.constant, np.abs(one.offset), one.state.tau_size[0, :, 0])
            for one in summands
        ]
    )
    state = State(
        *(
            array[None, :, None]
            for array in (scale, offset, size, constant, offset, np.zeros(len(scale), bool))
        )
    )
    fresh = np.zeros(len(scale), int)
    return Signature(_refined(fresh, [ray], order[~constant[order]]), state, epsilon)


def _side_by_side(parts: list[Signature], sources: Sequence[int]) -> Signature:
    """Of a concatenation: labels of different tensors differ."""
    start: dict[int, int] = {}
    places = np.cumsum([0, *(len(part.labels) for part in parts)])
    for place, source in zip(places, sources, strict=False):
        start.setdefault(source, place)
    labels = [part.labels + start[source] for part, source in zip(parts, sources, strict=True)]
    return Signature(
        np.concatenate(labels),
        _each(lambda *arrays: np.concatenate(arrays, axis=1), *(part.state for part in parts)),
        max(part.epsilon for part in parts),
    )


def _at_positions(found: Signature, positions: int) -> Signature:
    """Of Flatten: a channel at another position is another."""
    channels = len(found.labels)
    labels = found.labels + channels * np.arange(positions)[:, None]
    state = _each(lambda array: np.tile(array, (1, positions, 1)), found.state)
    return Signature(labels.ravel(), state, found.epsilon)


def _unshifted(found: Signature) -> Signature:
    """Among zeros: channels with a shift are no longer as others."""
    shifted, channels = found.offset != 0, len(found.labels)
    labels = np.where(shifted, channels + np.arange(channels), found.labels)
    labels = np.unique(labels, return_inverse=True)[1]

    def chosen(old: np.ndarray, new: np.ndarray) -> np.ndarray:
        return np.asarray(np.where(shifted[None, :, None], new, old))

    return Signature(labels, _each(chosen, found.state, _fresh(channels).state), found.epsilon)


def _by_entry(state: State) -> State:
    """The channels that a depthwise convolution makes, one after the other."""
    return _each(lambda array: array.reshape(1, -1, 1), state)


def _ray_by_entry(ray: Ray) -> Ray:
    def flat(array: np.ndarray) -> np.ndarray:
        return np.moveaxis(array, 1, 2).reshape(len(array), 1, -1)

    parts = (
        Part(flat(part.vectors), part.tolerance, None if part.sizes is None else flat(part.sizes))
        for part in ray.parts
    )
    return Ray(tuple(parts), ray.identical)


def _each(change: Callable[..., np.ndarray], *states: State) -> State:
    """The same change of all arrays."""
    return State(
        *(change(*(getattr(state, field.name) for state in states)) for field in fields(State))
    )
