"""Grids for the activations of a network: what flows between its layers, in integers."""

from collections.abc import Iterable

import numpy as np

from netreduce.errors import ParameterError, SampleError
from netreduce.folding import fold_batch_norm
from netreduce.network import INPUT, Network
from netreduce.network.integers import clips, moves, tail
from netreduce.network.layers import (
    Activation,
    ActivationGrid,
    Add,
    BatchNormalization,
    Layer,
    Weighted,
)

from .samples import Samples

METHODS = ("minmax", "percentile", "mse")
BINS = 4096  # of the histogram of a tensor
BEYOND = 5e-5  # share of the values that "percentile" leaves out at either end
ADDING = Weighted | Add | BatchNormalization  # whose sums a relu reads as they are
# Ranges of grids, which are of float32 numbers.
SMALLEST, LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
FRACTIONS = np.arange(1, 101) / 100  # of the range, that "mse" tries


def quantize_activations(
    network: Network,
    samples: np.ndarray | Iterable[np.ndarray] | None,
    bits: int = 8,
    method: str = "minmax",
    symmetric: bool = False,
) -> Network:
    """Put the input of a network, and what flows between its layers, on grids of integers.

    Batch normalization is folded first, where that is exact, and stays a layer elsewhere. Then an
    `ActivationGrid` stands behind the input and behind every layer that computes something new: not
    behind pooling of the largest, Flatten and their like, which keep the grid that they read, nor
    between a layer with weights (or Add, or batch normalization) and its relu. Other activations
    between layers become layers of their own, between two grids. The output is not rounded, nor
    what leads to it from the last layer with weights through activations alone.

    `quantize` on such a network rounds its weights knowing of the rounded activations, towards the
    network without grids: so GPFQ and Qronos make up for both errors. `IntegerNetwork` evaluates
    the two together in integers, and `export` writes them to .onnx and .tflite.

    Parameters
    ----------
    network : Network
        Its weights may be quantized already.
    samples : ndarray, shape (samples, *network.input_shape), or iterable of such arrays
        An iterable is iterated twice, unless the method is "minmax".
    bits : int
        From 2 to 8.
    method : {"minmax", "percentile", "mse"}
        The range of a grid: all that was seen; without the 0.005 % at either end; or the one with
        the least squared error of rounding. The last two count values in 4096 bins.
    symmetric : bool
        Code 0 is zero, and the range as wide below it as above.

    Returns
    -------
    Network

    Raises
    ------
    ParameterError
        Arguments out of range, activations that lie on grids already, parameters that are NaN or
        infinite, a tensor that is zero on all samples, or of a range that float32 cannot span:
        names its layer.
    SampleError
        For samples of the wrong shape, not finite, none at all, or that overflow.

    Examples
    --------
    >>> from netreduce import Dense
    >>> network = Network([Dense([[1.0]], activation="relu"), Dense([[2.0]])], (1,))
    >>> quantized = quantize_activations(network, np.array([[0.0], [1.0]]))
    >>> quantized.names
    ('activation_grid_1', 'dense_1', 'activation_grid_2', 'dense_2')
    >>> quantized.layers[0].zero_point, round(1 / quantized.layers[0].scale)
    (-128, 255)
    """
    if isinstance(bits, bool) or bits not in range(2, 9):
        raise ParameterError(f"bits of activations must be a whole number from 2 to 8: {bits!r}")
    if method not in METHODS:
        raise ParameterError(f"method must be one of {', '.join(METHODS)}, found {method!r}")
    for name, layer in zip(network.names, network.layers, strict=True):
        if isinstance(layer, ActivationGrid):
            raise ParameterError(f"{name}: the activations of this network lie on grids already")
    network.check_parameters()
    network = _apart(fold_batch_norm(network))
    tensors = _tensors(network)
    grids = {}
    for tensor, values in _seen(network, samples, tensors, method != "minmax").items():
        where = "the input" if tensor == INPUT else f"the output of {network.names[tensor]}"
        if values.low == values.high:
            raise ParameterError(f"{where} is zero on all samples: there is no range for a grid")
        if not SMALLEST <= values.high - values.low <= LARGEST:
            raise ParameterError(
                f"{where} has a range of {values.high - values.low:.3g} on these samples: a grid is"
                " of float32 numbers, which cannot span it"
            )
        grids[tensor] = values.grid(int(bits), method, symmetric)
    return _with_grids(network, grids)


def _apart(network: Network) -> Network:
    """The network with the activations of its weights as layers, unless they are relu or lead to
    the output alone.
    """
    last = tail(network)
    layers: list[Layer] = []
    sources: list[tuple[int, ...]] = []
    place = {INPUT: INPUT}
    for index, layer in enumerate(network.layers):
        sources.append(tuple(place[source] for source in network.sources[index]))
        if (
            isinstance(layer, Weighted)
            and layer.activation not in ("linear", "relu")
            and index not in last
        ):
            layers += [layer.replace(activation="linear"), Activation(layer.activation)]
            sources.append((len(layers) - 2,))
        else:
            layers.append(layer)
        place[index] = len(layers) - 1
    return Network(layers, network.input_shape, sources)


def _tensors(network: Network) -> list[int]:
    """The tensors that get grids of their own, by the layers that they come from."""
    last = tail(network)
    found = [INPUT]
    for index, layer in enumerate(network.layers):
        readers = [network.layers[reader] for reader in network.readers(index)]
        clipped = isinstance(layer, ADDING) and len(readers) == 1 and clips(readers[0])
        if index not in last and readers and not moves(layer) and not clipped:
            found.append(index)
    return found


def _with_grids(network: Network, grids: dict[int, ActivationGrid]) -> Network:
    layers: list[Layer] = [grids[INPUT]]
    sources: list[tuple[int, ...]] = [(INPUT,)]
    place = {INPUT: 0}
    for index, layer in enumerate(network.layers):
        layers.append(layer)
        sources.append(tuple(place[source] for source in network.sources[index]))
        if index in grids:
            layers.append(grids[index])
            sources.append((len(layers) - 2,))
        place[index] = len(layers) - 1
    return Network(layers, network.input_shape, sources)


class _Values:
    """What was seen of a tensor: its ends, zero between them, and how often what lies in a bin."""

    def __init__(self) -> None:
        self.low = self.high = 0.0
        self.counts = np.zeros(BINS, np.int64)

    def widen(self, values: np.ndarray) -> None:
        self.low = min(self.low, float(values.min()))
        self.high = max(self.high, float(values.max()))

    def count(self, values: np.ndarray) -> None:
        if self.high - self.low >= SMALLEST:
            self.counts += np.histogram(values, BINS, (self.low, self.high))[0]

    def grid(self, bits: int, method: str, symmetric: bool) -> ActivationGrid:
        if method == "percentile":
            shares = np.cumsum(self.counts) / self.counts.sum()
            edges = np.linspace(self.low, self.high, BINS + 1)
            low = edges[np.searchsorted(shares, BEYOND)]
            high = edges[np.searchsorted(shares, 1 - BEYOND) + 1]
            return _grid(min(low, 0.0), max(high, 0.0), bits, symmetric)
        if method == "minmax":
            return _grid(self.low, self.high, bits, symmetric)
        edges = np.linspace(self.low, self.high, BINS + 1)
        centers = (edges[1:] + edges[:-1]) / 2
        candidates = [_grid(f * self.low, f * self.high, bits, symmetric) for f in FRACTIONS]
        errors = [(self.counts * (grid(centers) - centers) ** 2).sum() for grid in candidates]
        return candidates[int(np.argmin(errors))]


def _grid(low: float, high: float, bits: int, symmetric: bool) -> ActivationGrid:
    """The grid of a range that has zero in it, and is not empty."""
    most = (1 << bits - 1) - 1
    if symmetric:
        return ActivationGrid(max(-low, high) / most, 0, bits)
    scale = (high - low) / ((1 << bits) - 1)
    zero_point = np.clip(np.rint(-most - 1 - low / scale), -most - 1, most)
    return ActivationGrid(scale, int(zero_point), bits)


def _seen(
    network: Network,
    samples: np.ndarray | Iterable[np.ndarray] | None,
    tensors: list[int],
    counted: bool,
) -> dict[int, _Values]:
    """What the samples show of some tensors, mini-batch by mini-batch."""
    seen = {tensor: _Values() for tensor in tensors}
    chunks = Samples(network, samples)
    for use in (_Values.widen, _Values.count)[: 1 + counted]:
        for chunk in chunks:
            use(seen[INPUT], chunk)
            for index, values in enumerate(network.activations(chunk)):
                if index in seen:
                    if not np.isfinite(values).all():
                        raise SampleError(
                            f"{network.names[index]}: its outputs overflow on these samples"
                        )
                    use(seen[index], values)
    return seen
