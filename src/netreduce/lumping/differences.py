"""How far a channel can be from a multiple of another, over a box of inputs."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from netreduce.folding import pads
from netreduce.network import INPUT, Network
from netreduce.network.layers import (
    Activation,
    Add,
    BatchNormalization,
    Concatenate,
    Cropping2D,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    Layer,
    UpSampling2D,
    Weighted,
    ZeroPadding2D,
)

from .boxes import behind_activation, linear
from .regions import EPSILON, POOLING, activation_name, activation_of, mixes
from .transport import Reach

PASSING = (*POOLING, Cropping2D, Dropout, UpSampling2D, ZeroPadding2D)


@dataclass(frozen=True)
class Differences:
    """Bounds of |x_j − ratio x_i − shift| for channels j, i of a tensor, at all positions.

    Carried back layer by layer: what an Add makes of two channels differs by no more than its
    summands do, what a batch normalization makes by its slope times as much. Where that says
    nothing, the boxes of both channels do.

    Attributes
    ----------
    network : Network
        In float64.
    offsets : mapping of int to ndarray
        By tensor: tau of each channel, as of `joined.Signature`.
    reach : callable
        From a layer to the box of its output.
    """

    network: Network
    offsets: Mapping[int, np.ndarray]
    reach: Reach

    def at(
        self, tensor: int, j: np.ndarray, i: np.ndarray, ratio: np.ndarray, shift: np.ndarray
    ) -> np.ndarray:
        """The bounds for pairs of channels (entries of the last axis) of one tensor."""
        low, high = (
            end.reshape(-1, end.shape[-1])
            for end in (self.reach(tensor).low, self.reach(tensor).high)
        )
        size = np.maximum(np.abs(low), np.abs(high)).max(axis=0)
        least, most = (
            mine - np.where(ratio > 0, theirs, other) * ratio - shift
            for mine, theirs, other in (
                (low[:, j], high[:, i], low[:, i]),
                (high[:, j], low[:, i], high[:, i]),
            )
        )
        apart = np.maximum(np.abs(least), np.abs(most)).max(axis=0)
        if tensor != INPUT:
            with np.errstate(divide="ignore", invalid="ignore"):
                carried = self._carried(tensor, j, i, ratio, shift)
            apart = np.fmin(apart, carried)
        same = (j == i) & (ratio == 1)
        own = 8 * EPSILON * (size[j] + np.abs(ratio) * size[i] + np.abs(shift))
        return np.where(same, np.abs(shift), apart + own)

    def _carried(
        self, tensor: int, j: np.ndarray, i: np.ndarray, ratio: np.ndarray, shift: np.ndarray
    ) -> np.ndarray:
        layer, sources = self.network.layers[tensor], self.network.sources[tensor]
        source = sources[0]
        match layer:
            case DepthwiseConv2D():
                return self._of_depthwise(tensor, layer, j, i, ratio, shift)
            case Weighted() if mixes(layer):
                before, beside = _before_activation(layer, ratio, shift)
                return beside + self._of_weights(tensor, layer, j, i, ratio, before)
            case Activation():
                before, beside = _before_activation(layer, ratio, shift)
                return beside + behind_activation(layer, self.at(source, j, i, ratio, before))
            case BatchNormalization():
                slope, moved = layer.affine()
                inner = ratio * slope[i] / slope[j]
                before = (shift + ratio * moved[i] - moved[j]) / slope[j]
                known = np.isfinite(inner) & np.isfinite(before)
                inner, before = np.where(known, inner, 0), np.where(known, before, 0)
                off = np.abs(slope[j]) * self.at(source, j, i, inner, before)
                return np.where(known, off, np.inf)
            case Add():
                total, off = np.zeros(len(j)), np.zeros(len(j))
                for one in sources:
                    part = self.offsets[one][j] - ratio * self.offsets[one][i]
                    off = off + self.at(one, j, i, ratio, part)
                    total = total + part
                return off + np.abs(shift - total)
            case Concatenate():
                return self._of_parts(sources, j, i, ratio, shift)
            case Flatten():
                channels = len(self.offsets[source])
                return self.at(source, j % channels, i % channels, ratio, shift)
            case _ if isinstance(layer, PASSING):
                shape = self.network.input_shape if source == INPUT else self.network.shapes[source]
                if pads(layer, shape):
                    return np.abs(shift) + self.at(source, j, i, ratio, np.zeros(len(j)))
                return np.where(ratio >= 0, self.at(source, j, i, ratio, shift), np.inf)
            case _:
                return np.full(len(j), np.inf)

    def _of_weights(
        self,
        tensor: int,
        layer: Weighted,
        j: np.ndarray,
        i: np.ndarray,
        ratio: np.ndarray,
        shift: np.ndarray,
    ) -> np.ndarray:
        box = self.reach(self.network.sources[tensor][0])
        weights = layer.kernel.reshape(-1, layer.outputs)
        difference = weights[:, j] - weights[:, i] * ratio
        sizes = np.abs(weights[:, j]) + np.abs(weights[:, i] * ratio)
        bias = layer.bias[j] - ratio * layer.bias[i] - shift
        bias_size = np.abs(layer.bias[j]) + np.abs(ratio * layer.bias[i]) + np.abs(shift)
        error = np.abs(linear(layer, difference, box.center) + bias)
        error = error + linear(layer, np.abs(difference), box.radius)
        own = (len(weights) + 8) * EPSILON * (linear(layer, sizes, box.magnitude) + bias_size)
        return behind_activation(layer, _largest(error + own))

    def _of_depthwise(
        self,
        tensor: int,
        layer: DepthwiseConv2D,
        j: np.ndarray,
        i: np.ndarray,
        ratio: np.ndarray,
        shift: np.ndarray,
    ) -> np.ndarray:
        """Each channel (c, k) is a sum of taps times channel c of what is read."""
        source = self.network.sources[tensor][0]
        factor = layer.kernel.shape[3]
        shape = self.network.input_shape if source == INPUT else self.network.shapes[source]
        taps = layer.kernel.reshape(-1, shape[-1] * factor)
        mine, theirs = taps[:, j], taps[:, i]
        largest = np.abs(theirs).argmax(axis=0), np.arange(len(i))
        inner = ratio * theirs[largest] / mine[largest]
        known = np.isfinite(inner)
        inner = np.where(known, inner, 0)
        offsets = self.offsets[source]
        moved = offsets[j // factor] - inner * offsets[i // factor]
        before, beside = _before_activation(layer, ratio, shift)
        off = self.at(source, j // factor, i // factor, inner, moved)
        size = self.reach(source).magnitude.reshape(-1, shape[-1]).max(axis=0)[i // factor]
        left = np.abs(mine * inner - theirs * ratio).sum(axis=0) * size
        bias = layer.bias[j] - ratio * layer.bias[i] - before
        constant = np.abs(mine.sum(axis=0) * moved + bias)
        if pads(layer, shape):
            constant = np.abs(mine * moved).sum(axis=0) + np.abs(bias)
        error = np.abs(mine).sum(axis=0) * off + left + constant
        return np.where(known, beside + behind_activation(layer, error), np.inf)

    def _of_parts(
        self,
        sources: tuple[int, ...],
        j: np.ndarray,
        i: np.ndarray,
        ratio: np.ndarray,
        shift: np.ndarray,
    ) -> np.ndarray:
        """Of a concatenation: where both channels come from one tensor."""
        counts = [self.reach(source).low.shape[-1] for source in sources]
        tensors = np.repeat(sources, counts)
        places = np.concatenate([np.arange(count) for count in counts])
        off = np.full(len(j), np.inf)
        for source in set(sources):
            here = (tensors[j] == source) & (tensors[i] == source)
            if here.any():
                off[here] = self.at(
                    source, places[j[here]], places[i[here]], ratio[here], shift[here]
                )
        return off


def _before_activation(
    layer: Layer, ratio: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The shift before a layer's activation that is nearest to one behind it, and what is left:
    infinite where a multiple before is none behind.
    """
    function = activation_of(layer)
    if activation_name(layer) == "linear":
        return shift, np.zeros_like(shift)
    fits = (ratio > 0) & ((ratio == 1) | function.positively_homogeneous) & function.elementwise
    return np.zeros_like(shift), np.where(fits, np.abs(shift), np.inf)


def _largest(values: np.ndarray) -> np.ndarray:
    """Over all positions."""
    return values.reshape(-1, values.shape[-1]).max(axis=0)
