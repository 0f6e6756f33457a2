"""A network while it is being lumped: in float64, with the steps taken and the errors they cost.

A step takes channels out of a region and hands what they contributed to the layers that read them.
Let neurons 0, 1, 2 compute h, 2 h and the constant 5, and a neuron of the next layer read them with
the weights (a, b, c) and the bias d. Neuron 0 takes over for 1 with ratio 2, the bias for 2:

    a h + b (2 h) + c 5 + d  =  (a + 2 b) h + (d + 5 c)

`Heirs` holds the ratios and shifts, 2 and 0 for neuron 1, 0 and 5 for neuron 2. The draft also
keeps |a| + 2 |b|, the *size* of the sum, of which rounding is a fraction: a sum that cancels to a
few units in the last place of its size is zero, and neurons behind it are compared no finer than
that. A merge whose sums the given floating type cannot hold (they overflow, or underflow by more
than a few units in the last place of their sizes) is refused.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from netreduce.errors import ParameterError
from netreduce.network import Network
from netreduce.network.channels import Channels
from netreduce.network.layers import (
    BatchNormalization,
    DepthwiseConv2D,
    Layer,
    Quantization,
    Weighted,
)

from .regions import EPSILON, ULPS, Region, find_regions, weighted


@dataclass(frozen=True)
class Step:
    """Neurons (channels) taken out of one layer; indices are those of the original network.

    Attributes
    ----------
    producer : int
        Index of the layer.
    neurons, into : ndarray of int
        Who goes, and who takes over: −1 where the next biases do, or nobody has to.
    ratio : ndarray
        The neuron's pre-activation is `ratio` times that of `into`.
    kinds : ndarray of str
        "multiple", "constant" or "unread".
    mixtures : dict of int to Mixture, optional
        By consumer, where all channels that stay take over.
    """

    producer: int
    neurons: np.ndarray
    into: np.ndarray
    ratio: np.ndarray
    kinds: np.ndarray
    mixtures: "dict[int, Mixture] | None" = None

    def __len__(self) -> int:
        return len(self.neurons)

    def only(self, which: np.ndarray) -> "Step":
        """Some of the neurons; none where all that stay take over together."""
        if self.mixtures:
            which = np.zeros(len(self), bool)
        return Step(
            self.producer,
            self.neurons[which],
            self.into[which],
            self.ratio[which],
            self.kinds[which],
        )


@dataclass(frozen=True)
class Heirs:
    """How each channel that goes follows from the one that takes over.

    Attributes
    ----------
    ratio, shift : ndarray, shape (positions or 1, channels that go, multiplier)
    """

    ratio: np.ndarray
    shift: np.ndarray

    def share(
        self, step: Step, keep: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """The channels that take over, by their place in `keep`, and the weights that each one
        gets.

        Parameters
        ----------
        step : Step
        keep : ndarray of int
            The channels that stay.
        weights : ndarray, shape (blocks, channels that go, multiplier, outputs)
            Those that read the channels that go.
        """
        merged = step.into >= 0
        targets, places = np.unique(step.into[merged], return_inverse=True)
        taken = np.zeros((len(targets), len(weights), *weights.shape[2:]))
        handed = self.ratio[:, merged][..., None] * weights[:, merged]
        np.add.at(taken, places, handed.swapaxes(0, 1))
        return np.searchsorted(keep, targets), taken.swapaxes(0, 1)

    def magnitudes(self) -> "Heirs":
        return Heirs(np.abs(self.ratio), np.abs(self.shift))


@dataclass(frozen=True)
class Reading:
    """What a layer that reads channels outside of regions no longer does.

    Attributes
    ----------
    reader : int
    step : Step
        Its producer is the tensor that is read; its neurons are channels of that.
    share : Heirs
    magnitudes : ndarray, shape (channels, outputs)
        Sums of magnitudes of the weights that read each.
    """

    reader: int
    step: Step
    share: Heirs
    magnitudes: np.ndarray


@dataclass(frozen=True)
class Mixture:
    """How each channel that goes follows from all that stay.

    Attributes
    ----------
    weights : ndarray, shape (multiplier, channels that go, channels that stay)
    shift : ndarray, shape (1, channels that go, multiplier)
    """

    weights: np.ndarray
    shift: np.ndarray

    def share(
        self, step: Step, keep: np.ndarray, weights: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """As of `Heirs`."""
        return np.arange(len(keep)), np.einsum(
            "mjk,qjmo->qkmo", self.weights, weights, optimize=True
        )

    def magnitudes(self) -> "Mixture":
        return Mixture(np.abs(self.weights), np.abs(self.shift))


Share = Heirs | Mixture


class Draft:
    """A network under reduction.

    Attributes
    ----------
    network : Network
        Its present form, in float64.
    epsilon : list of float
        Precision of every layer's parameters as they were given.
    sizes : dict of int to (ndarray, ndarray)
        For layers whose inputs were merged: the sums of magnitudes of the terms of every weight and
        bias, of which rounding is a fraction.
    lost : dict of int to ndarray
        For such layers: what of every weight was taken for rounding, and set to zero.
    kept : dict of int to ndarray
        By region: the original indices of the channels that are left.
    steps : list of Step
        What was taken out, in order.
    shares : list of (dict of int to Heirs or Mixture)
        For each step, what its consumers took over.
    local : dict of int to ndarray
        By layer: what merging has added to the error of its output.
    changed : set of int
        Layers that are not as they were given.
    readings : list of Reading
        What layers do not read any more though it is there; those channels then go.
    dropped : dict of int to ndarray
        By layer outside of regions: the original indices of the channels that went.
    """

    def __init__(self, network: Network):
        network.check_parameters()
        self.original = network
        self.regions = find_regions(network)
        self.epsilon = [_epsilon(layer) for layer in network.layers]
        self.network = network.replace(
            {
                i: _in_double(name, layer)
                for i, (name, layer) in enumerate(zip(network.names, network.layers, strict=True))
            }
        )
        self.sizes: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.lost: dict[int, np.ndarray] = {}
        self.kept = {i: np.arange(weighted(network, i).outputs) for i in self.regions}
        self.steps: list[Step] = []
        self.shares: list[Mapping[int, Share]] = []
        self.local: dict[int, np.ndarray] = {}
        self.changed: set[int] = set()
        self.readings: list[Reading] = []
        self.dropped: dict[int, np.ndarray] = {}

    @property
    def smaller(self) -> bool:
        """Whether anything is gone."""
        return bool(self.steps or self.dropped)

    def take_out(self, region: Region, step: Step, shares: Mapping[int, Share]) -> np.ndarray:
        """Take channels out of a region and hand what they contribute to the layers that read it.

        Parameters
        ----------
        region : Region
        step : Step
            In present indices; it is recorded in original ones.
        shares : mapping of int to Heirs or Mixture
            By consumer.

        Returns
        -------
        ndarray of bool
            For every neuron of the step, whether the given floating type cannot hold what it hands
            over. If there are any, nothing is done.
        """
        producer = region.producer
        keep = np.setdiff1d(np.arange(weighted(self.network, producer).outputs), step.neurons)
        sums = {
            consumer: self._sums(
                consumer, *self._read(region, consumer), keep, step, shares[consumer]
            )
            for consumer in region.consumers
        }
        refused = np.logical_or.reduce(
            [
                self._too_much(consumer, keep, step, shares[consumer], sums[consumer])
                for consumer in region.consumers
            ]
        )
        if refused.any():
            return refused
        layers = self._selected(region, keep)
        for consumer in region.consumers:
            layers[consumer] = self._merged(
                consumer, *self._read(region, consumer), keep, sums[consumer]
            )
        names = self.kept[producer]
        self.steps.append(
            replace(
                step,
                neurons=names[step.neurons],
                into=np.where(step.into >= 0, names[step.into], -1),
            )
        )
        self.shares.append(shares)
        self.kept[producer] = names[keep]
        self.network = self.network.replace(layers)
        self.changed |= layers.keys()
        return refused

    def hand_over(self, index: int, step: Step, share: Heirs) -> np.ndarray:
        """Set the weights with which a layer reads some channels to zero, and hand them to others.

        Parameters
        ----------
        index : int
        step : Step
            Its neurons are channels (entries of the last axis) of what the layer reads.
        share : Heirs

        Returns
        -------
        ndarray of bool
            As of `take_out`.
        """
        layer = weighted(self.network, index)
        channels = self.network.shapes[self.network.sources[index][0]][-1]
        every = np.arange(channels)
        keep = np.setdiff1d(every, step.neurons)
        sums = self._sums(index, channels, 1, keep, step, share)
        refused = self._too_much(index, keep, step, share, sums)
        if refused.any():
            return refused
        read = np.abs(reading_weights(layer.kernel, channels, 1))[:, step.neurons]
        self.readings.append(Reading(index, step, share, read.sum(axis=(0, 2))))
        self.changed.add(index)
        merged = self._merged(index, channels, 1, every, sums.among(keep, channels))
        self.network = self.network.replace({index: merged})
        return refused

    def drop(self, channels: Channels, gone: np.ndarray) -> None:
        """Take out classes of channels that nobody reads.

        Parameters
        ----------
        channels : Channels
            Of the network as it is.
        gone : ndarray of int
            Classes.
        """
        for index in channels.producers():
            (places,) = np.nonzero(np.isin(channels.classes[index], gone))
            if len(places):
                before = self.dropped.get(index, np.empty(0, int))
                outputs = weighted(self.original, index).outputs
                left = np.setdiff1d(np.arange(outputs), before)
                self.dropped[index] = np.union1d(before, left[places])
        network = channels.without(gone)
        sized = self.network.replace(
            {
                index: weighted(self.network, index).replace(
                    kernel=weights, bias=biases, quantization=None
                )
                for index, (weights, biases) in self.sizes.items()
            }
        )
        narrow = Channels(sized).without(gone)
        for index in self.sizes:
            layer = weighted(narrow, index)
            self.sizes[index] = layer.kernel, layer.bias
        changes = {
            index: self._with_former_grid(index, layer)
            for index, layer in enumerate(network.layers)
            if layer is not self.network.layers[index]
        }
        self.changed |= changes.keys()
        self.network = self.network.replace(changes)

    def add_error(self, index: int, error: np.ndarray) -> None:
        """Add to the local error of a layer's output."""
        self.local[index] = self.local.get(index, 0.0) + error

    def finished(self) -> Network:
        """The network in the types in which it was given."""
        return self.original.replace(
            {i: self.stored(i, self.network.layers[i]) for i in sorted(self.changed)}
        )

    def stored(self, index: int, layer: Layer) -> Layer:
        """A layer with its parameters in the types in which they were given."""
        given = self.original.layers[index].arrays()
        changes = {}
        for field, array in layer.arrays().items():
            changes[field] = _cast(array, given[field].dtype)
            if not np.isfinite(changes[field]).all():
                raise ParameterError(
                    f"{self.original.names[index]}: its lumped {field} goes beyond the range of"
                    f" {given[field].dtype}"
                )
        return layer.replace(**changes)

    def _selected(self, region: Region, keep: np.ndarray) -> dict[int, Layer]:
        """The producer and the nodes of a region with the channels that stay."""
        channels = weighted(self.network, region.producer).outputs
        layers = {region.producer: self._select_outputs(region.producer, keep)}
        for node in region.nodes:
            layer = self.network.layers[node]
            if isinstance(layer, BatchNormalization):
                layers[node] = layer.replace(
                    **{
                        name: _select(array, 0, channels, region.multipliers[node], keep)
                        for name, array in layer.arrays().items()
                    }
                )
            elif isinstance(layer, DepthwiseConv2D):
                multiplier = region.multipliers[self.network.sources[node][0]]
                layers[node] = layer.replace(
                    kernel=_select(layer.kernel, 2, channels, multiplier, keep),
                    bias=_select(layer.bias, 0, channels, region.multipliers[node], keep),
                    quantization=_select_scale(layer, 2, channels, multiplier, keep),
                )
        return layers

    def _select_outputs(self, index: int, keep: np.ndarray) -> Layer:
        layer = weighted(self.network, index)
        if index in self.sizes:
            weights, biases = self.sizes[index]
            self.sizes[index] = weights[..., keep], biases[keep]
        return layer.replace(
            kernel=np.take(layer.kernel, keep, axis=-1),
            bias=layer.bias[keep],
            quantization=_select_scale(layer, layer.kernel.ndim - 1, layer.outputs, 1, keep),
        )

    def _read(self, region: Region, index: int) -> tuple[int, int]:
        """Channels, and the multiplier of each, of a region as a layer reads it."""
        channels = weighted(self.network, region.producer).outputs
        return channels, region.multipliers[self.network.sources[index][0]]

    def _sums(
        self,
        index: int,
        channels: int,
        multiplier: int,
        keep: np.ndarray,
        step: Step,
        share: Share,
    ) -> "_Sums":
        """What a layer has for weights and biases after a step of what it reads."""
        layer = weighted(self.network, index)
        blocks = reading_weights(layer.kernel, channels, multiplier)
        sizes, bias_size = self.sizes.get(index, (np.abs(layer.kernel), np.abs(layer.bias)))
        sizes = reading_weights(sizes, channels, multiplier)
        gone, magnitudes = step.neurons, share.magnitudes()
        heirs, taken = share.share(step, keep, blocks[:, gone])
        kernel, kernel_size = blocks[:, keep], sizes[:, keep]
        lost = None
        if len(heirs):
            kernel_size[:, heirs] += magnitudes.share(step, keep, sizes[:, gone])[1]
            sums = kernel[:, heirs] + taken
            rounding = np.abs(sums) <= ULPS * self._precision(index) * kernel_size[:, heirs]
            kernel[:, heirs] = np.where(rounding, 0, sums)
            if (sums[rounding] != 0).any():
                lost = np.zeros_like(kernel)
                lost[:, heirs] = np.where(rounding, np.abs(sums), 0)
        axes = (0, 1, 2)
        return _Sums(
            kernel,
            kernel_size,
            layer.bias + (share.shift[..., None] * blocks[:, gone]).sum(axis=axes),
            bias_size + (magnitudes.shift[..., None] * sizes[:, gone]).sum(axis=axes),
            heirs,
            bool(share.shift.any()),
            lost,
        )

    def _too_much(
        self, index: int, keep: np.ndarray, step: Step, share: Share, sums: "_Sums"
    ) -> np.ndarray:
        """Neurons of a step that make sums which the given type cannot hold."""
        given = self.original.layers[index].arrays()
        tolerance = ULPS * self.epsilon[index]
        weights = sums.kernel[:, sums.heirs]
        off = np.abs(_cast(weights, given["kernel"].dtype) - weights)
        good = off <= tolerance * sums.kernel_size[:, sums.heirs]
        bad = keep[sums.heirs[~good.all(axis=(0, 2, 3))]]
        off = np.abs(_cast(sums.bias, given["bias"].dtype) - sums.bias)
        folded = share.shift.any(axis=(0, 2))
        if len(bad) and isinstance(share, Mixture):
            return np.ones(len(step), bool)
        if sums.shifted and not (off <= tolerance * sums.bias_size).all():
            return np.isin(step.into, bad) | folded
        return np.isin(step.into, bad)

    def _merged(
        self, index: int, channels: int, multiplier: int, keep: np.ndarray, sums: "_Sums"
    ) -> Layer:
        layer = weighted(self.network, index)
        axis = layer.kernel.ndim - 2
        shape = (*layer.kernel.shape[:axis], -1, layer.outputs)
        kernel = sums.kernel.reshape(shape)
        quantization = _select_scale(layer, axis, channels, multiplier, keep)
        if index in self.sizes or len(sums.heirs) or sums.shifted:
            self.sizes[index] = sums.kernel_size.reshape(shape), sums.bias_size
        if sums.lost is not None:
            self.lost[index] = sums.lost.reshape(shape)
        if quantization is not None and (len(sums.heirs) or sums.shifted):
            return _requantized(layer, kernel, sums.bias, quantization, self.sizes[index])
        return layer.replace(kernel=kernel, bias=sums.bias, quantization=quantization)

    def _with_former_grid(self, index: int, layer: Layer) -> Layer:
        """A layer with as many bits as it had, where zeros that took another level are gone."""
        if not isinstance(layer, Weighted) or layer.quantization is None:
            return layer
        given = weighted(self.original, index)
        levels, former = cast(np.ndarray, layer.codes), cast(np.ndarray, given.codes)
        if given.quantization is None or not np.isin(levels, former).all():
            return layer
        return layer.replace(quantization=replace(layer.quantization, bits=given.quantization.bits))

    def _precision(self, index: int) -> float:
        quantized = weighted(self.network, index).quantization is not None
        return EPSILON if quantized else self.epsilon[index]


@dataclass(frozen=True)
class _Sums:
    """Merged weights and biases, and the magnitudes of what was summed; weights by (positions or
    taps, channels that stay, multiplier, outputs).
    """

    kernel: np.ndarray
    kernel_size: np.ndarray
    bias: np.ndarray
    bias_size: np.ndarray
    heirs: np.ndarray
    shifted: bool
    lost: np.ndarray | None

    def among(self, keep: np.ndarray, channels: int) -> "_Sums":
        """The same, with zeros for the channels that are not kept."""

        def wide(weights: np.ndarray) -> np.ndarray:
            found = np.zeros((len(weights), channels, *weights.shape[2:]))
            found[:, keep] = weights
            return found

        return replace(
            self,
            kernel=wide(self.kernel),
            kernel_size=wide(self.kernel_size),
            heirs=keep[self.heirs],
            lost=None if self.lost is None else wide(self.lost),
        )


def channels_read(network: Network, region: Region) -> np.ndarray:
    """Whether each channel of a region has a weight that is not zero in a layer that reads it."""
    channels = weighted(network, region.producer).outputs
    return np.logical_or.reduce(
        [
            (
                reading_weights(
                    weighted(network, consumer).kernel,
                    channels,
                    region.multipliers[network.sources[consumer][0]],
                )
                != 0
            ).any(axis=(0, 2, 3))
            for consumer in region.consumers
        ]
    )


def reading_weights(kernel: np.ndarray, channels: int, multiplier: int) -> np.ndarray:
    """The kernel of a layer that reads a region, by (positions or taps, channels, multiplier,
    outputs).
    """
    return kernel.reshape(-1, channels, multiplier, kernel.shape[-1])


def _epsilon(layer: Layer) -> float:
    return float(
        max((np.finfo(array.dtype).eps for array in layer.arrays().values()), default=EPSILON)
    )


def _cast(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """The array in another type, infinite where it overflows."""
    with np.errstate(over="ignore"):
        return array.astype(dtype)


def _in_double(name: str, layer: Layer) -> Layer:
    changes = {field: array.astype(np.float64) for field, array in layer.arrays().items()}
    if isinstance(layer, Weighted) and layer.quantization is not None:
        kernel = layer.quantization.scale * layer.codes
        if not np.array_equal(kernel.astype(layer.kernel.dtype), layer.kernel):
            raise ParameterError(
                f"{name}: its kernel does not lie on the grid that its quantization claims"
            )
        changes["kernel"] = kernel
        if layer.quantization.quantized_bias:
            changes["bias"] = layer.quantization.scale.reshape(-1) * layer.bias_codes
    return layer.replace(**changes)


def _select(
    array: np.ndarray, axis: int, channels: int, multiplier: int, keep: np.ndarray
) -> np.ndarray:
    """Some channels of an axis that runs over positions, channels and multiplier."""
    shape = array.shape
    split = array.reshape(*shape[:axis], -1, channels, multiplier, *shape[axis + 1 :])
    return np.take(split, keep, axis + 1).reshape(*shape[:axis], -1, *shape[axis + 1 :])


def _select_scale(
    layer: Weighted, axis: int, channels: int, multiplier: int, keep: np.ndarray
) -> Quantization | None:
    """The layer's quantization for some channels of a kernel axis."""
    quantization = layer.quantization
    if quantization is None:
        return None
    scale = quantization.scale.reshape(
        (1,) * (layer.kernel.ndim - quantization.scale.ndim) + quantization.scale.shape
    )
    if scale.shape[axis] == 1:
        return quantization
    return replace(quantization, scale=_select(scale, axis, channels, multiplier, keep))


def _requantized(
    layer: Weighted,
    kernel: np.ndarray,
    bias: np.ndarray,
    quantization: Quantization,
    sizes: tuple[np.ndarray, np.ndarray],
) -> Layer:
    """The layer with merged weights: on its grid, with as many levels as it takes, or analog where
    they left it.
    """
    codes = kernel / quantization.scale
    off = np.abs(codes - np.rint(codes))
    if not (off <= ULPS * EPSILON * sizes[0] / quantization.scale).all():
        return layer.replace(kernel=kernel, bias=bias, quantization=None)
    codes = np.rint(codes)
    levels, former = np.unique(codes), np.unique(cast(np.ndarray, layer.codes))
    if not np.isin(levels, former).all():
        quantization = replace(quantization, bits=float(np.log2(len(levels))))
    if quantization.quantized_bias:
        scale = quantization.scale.reshape(-1)
        places = np.rint(bias / scale)
        on_grid = bool((np.abs(bias / scale - places) <= ULPS * EPSILON * sizes[1] / scale).all())
        quantization = replace(quantization, quantized_bias=on_grid)
        bias = scale * places if on_grid else bias
    return layer.replace(kernel=quantization.scale * codes, bias=bias, quantization=quantization)
