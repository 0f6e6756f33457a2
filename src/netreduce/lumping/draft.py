"""A network while it is being lumped: in float64, with the changes made so far and the errors they
cost.
"""

from dataclasses import dataclass, replace

import numpy as np

from netreduce.errors import ParameterError
from netreduce.network import Network
from netreduce.network.layers import BatchNormalization, DepthwiseConv2D

from .regions import EPSILON, ULPS, Region, find_regions


@dataclass(frozen=True)
class Heirs:
    """How each channel that goes follows from the one that takes over.

    Attributes
    ----------
    ratio, shift : ndarray, shape (positions or 1, channels that go, multiplier)
    """

    ratio: np.ndarray
    shift: np.ndarray

    def share(self, step, keep, weights):
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
        taken = np.zeros((len(weights), len(targets), *weights.shape[2:]))
        np.add.at(
            taken, (slice(None), places), self.ratio[:, merged][..., None] * weights[:, merged]
        )
        return np.searchsorted(keep, targets), taken

    def magnitudes(self):
        return Heirs(np.abs(self.ratio), np.abs(self.shift))


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

    def share(self, step, keep, weights):
        """As of `Heirs`."""
        return np.arange(len(keep)), np.einsum(
            "mjk,qjmo->qkmo", self.weights, weights, optimize=True
        )

    def magnitudes(self):
        return Mixture(np.abs(self.weights), np.abs(self.shift))


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
    mixtures: dict[int, Mixture] | None = None

    def __len__(self):
        return len(self.neurons)


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
    kept : dict of int to ndarray
        By region: the original indices of the channels that are left.
    steps : list of Step
        What was taken out, in order.
    local : dict of int to ndarray
        By layer: what merging has added to the error of its output.
    """

    def __init__(self, network: Network):
        check_finite(network)
        self.original = network
        self.regions = find_regions(network)
        self.epsilon = [_epsilon(layer) for layer in network.layers]
        self.network = network.replace(
            {
                i: _in_double(name, layer)
                for i, (name, layer) in enumerate(zip(network.names, network.layers, strict=True))
            }
        )
        self.sizes = {}
        self.kept = {i: np.arange(network.layers[i].outputs) for i in self.regions}
        self.steps = []
        self.local = {}
        self.changed = set()

    def add_error(self, index, error) -> None:
        """Add to the local error of a layer's output."""
        self.local[index] = self.local.get(index, 0.0) + error

    def finished(self) -> Network:
        """The network in the types in which it was given."""
        return self.original.replace(
            {
                i: _rounded(self.network.layers[i], self.original.layers[i])
                for i in sorted(self.changed)
            }
        )

    def take_out(self, region: Region, step: Step, shares) -> None:
        """Take channels out of a region and hand what they contribute to the layers that read it.

        Parameters
        ----------
        region : Region
        step : Step
            In present indices; it is recorded in original ones.
        shares : mapping of int to Heirs or Mixture
            By consumer.
        """
        producer = region.producer
        channels = self.network.layers[producer].outputs
        keep = np.setdiff1d(np.arange(channels), step.neurons)
        layers = {producer: self._select_outputs(producer, keep)}
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
        for consumer in region.consumers:
            layers[consumer] = self._merge_inputs(region, consumer, keep, step, shares[consumer])
        names = self.kept[producer]
        self.steps.append(
            replace(
                step,
                neurons=names[step.neurons],
                into=np.where(step.into >= 0, names[step.into], -1),
            )
        )
        self.kept[producer] = names[keep]
        self.network = self.network.replace(layers)
        self.changed |= layers.keys()

    def _select_outputs(self, index, keep):
        layer = self.network.layers[index]
        if index in self.sizes:
            self.sizes[index] = tuple(array[..., keep] for array in self.sizes[index])
        quantization = _select_scale(layer, layer.kernel.ndim - 1, layer.outputs, 1, keep)
        return layer.replace(
            kernel=np.take(layer.kernel, keep, axis=-1),
            bias=layer.bias[keep],
            quantization=quantization,
        )

    def _merge_inputs(self, region, index, keep, step, share):
        layer = self.network.layers[index]
        channels = self.network.layers[region.producer].outputs
        multiplier = region.multipliers[self.network.sources[index][0]]
        axis = layer.kernel.ndim - 2
        blocks = reading_weights(layer.kernel, channels, multiplier)
        sizes, bias_size = self.sizes.get(index, (None, np.abs(layer.bias)))
        sizes = None if sizes is None else reading_weights(sizes, channels, multiplier)

        def sizes_of(which):
            return np.abs(blocks[:, which]) if sizes is None else sizes[:, which]

        bias, kernel, gone = layer.bias, blocks[:, keep], step.neurons
        kernel_size = None if sizes is None else sizes[:, keep]
        shifted = share.shift.any()
        if shifted:
            bias = bias + (share.shift[..., None] * blocks[:, gone]).sum(axis=(0, 1, 2))
            bias_size = bias_size + (np.abs(share.shift)[..., None] * sizes_of(gone)).sum(
                axis=(0, 1, 2)
            )
        heirs, taken = share.share(step, keep, blocks[:, gone])
        if len(heirs):
            kernel_size = np.abs(kernel) if kernel_size is None else kernel_size
            kernel_size[:, heirs] += share.magnitudes().share(step, keep, sizes_of(gone))[1]
            sums = kernel[:, heirs] + taken
            sums[np.abs(sums) <= ULPS * self._precision(index) * kernel_size[:, heirs]] = 0
            kernel[:, heirs] = sums
        shape = (*layer.kernel.shape[:axis], -1, layer.outputs)
        kernel = kernel.reshape(shape)
        if kernel_size is not None or shifted:
            self.sizes[index] = (
                np.abs(kernel) if kernel_size is None else kernel_size.reshape(shape),
                bias_size,
            )
        quantization = _select_scale(layer, axis, channels, multiplier, keep)
        if quantization is not None and (len(heirs) or shifted):
            return _requantized(layer, kernel, bias, quantization, self.sizes[index])
        return layer.replace(kernel=kernel, bias=bias, quantization=quantization)

    def _precision(self, index):
        return (
            EPSILON if self.network.layers[index].quantization is not None else self.epsilon[index]
        )


def channels_read(network, region) -> np.ndarray:
    """Whether each channel of a region has a weight that is not zero in a layer that reads it."""
    channels = network.layers[region.producer].outputs
    return np.logical_or.reduce(
        [
            (
                reading_weights(
                    network.layers[consumer].kernel,
                    channels,
                    region.multipliers[network.sources[consumer][0]],
                )
                != 0
            ).any(axis=(0, 2, 3))
            for consumer in region.consumers
        ]
    )


def reading_weights(kernel, channels, multiplier) -> np.ndarray:
    """The kernel of a layer that reads a region, by (positions or taps, channels, multiplier,
    outputs).
    """
    return kernel.reshape(-1, channels, multiplier, kernel.shape[-1])


def check_finite(network) -> None:
    """Raises ParameterError that names the layer and the array with a NaN or infinite value."""
    for name, layer in zip(network.names, network.layers, strict=True):
        for field, array in layer.arrays().items():
            if not np.isfinite(array).all():
                raise ParameterError(
                    f"{name}: {np.count_nonzero(~np.isfinite(array))} values of its {field} are NaN"
                    " or infinite"
                )


def _epsilon(layer):
    return float(
        max((np.finfo(array.dtype).eps for array in layer.arrays().values()), default=EPSILON)
    )


def _in_double(name, layer):
    changes = {field: array.astype(np.float64) for field, array in layer.arrays().items()}
    if getattr(layer, "quantization", None) is not None:
        kernel = layer.quantization.scale * layer.codes
        if not np.array_equal(kernel.astype(layer.kernel.dtype), layer.kernel):
            raise ParameterError(
                f"{name}: its kernel does not lie on the grid that its quantization claims"
            )
        changes["kernel"] = kernel
        if layer.quantization.quantized_bias:
            changes["bias"] = layer.quantization.scale.reshape(-1) * layer.bias_codes
    return layer.replace(**changes)


def _rounded(layer, original):
    return layer.replace(
        **{
            field: array.astype(original.arrays()[field].dtype)
            for field, array in layer.arrays().items()
        }
    )


def _select(array, axis, channels, multiplier, keep):
    """Some channels of an axis that runs over positions, channels and multiplier."""
    shape = array.shape
    split = array.reshape(*shape[:axis], -1, channels, multiplier, *shape[axis + 1 :])
    return np.take(split, keep, axis + 1).reshape(*shape[:axis], -1, *shape[axis + 1 :])


def _select_scale(layer, axis, channels, multiplier, keep):
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


def _requantized(layer, kernel, bias, quantization, sizes):
    """The layer with merged weights: on its grid, with as many levels as it takes, or analog where
    they left it.
    """
    codes = kernel / quantization.scale
    if (np.abs(codes - np.rint(codes)) > ULPS * EPSILON * sizes[0] / quantization.scale).any():
        return layer.replace(kernel=kernel, bias=bias, quantization=None)
    codes = np.rint(codes)
    levels, former = np.unique(codes), np.unique(layer.codes)
    if not np.isin(levels, former).all():
        quantization = replace(quantization, bits=float(np.log2(len(levels))))
    if quantization.quantized_bias:
        scale = quantization.scale.reshape(-1)
        places = np.rint(bias / scale)
        on_grid = bool((np.abs(bias / scale - places) <= ULPS * EPSILON * sizes[1] / scale).all())
        quantization = replace(quantization, quantized_bias=on_grid)
        bias = scale * places if on_grid else bias
    return layer.replace(kernel=quantization.scale * codes, bias=bias, quantization=quantization)
