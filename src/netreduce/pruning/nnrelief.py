"""NNrelief: keep the connections that carry most of a neuron's incoming signal.

A. Dekhovich, D. Tax, M. Sluiter and M. Bessa, Neural network relief: a pruning algorithm based on
neural activity, Machine Learning 113 (2024).
"""

from collections.abc import Iterator

import numpy as np

from netreduce.errors import ParameterError, SampleError
from netreduce.network import INPUT, Network
from netreduce.network.fractions import check_fraction
from netreduce.network.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Layer,
    PReLU,
    Weighted,
)

BATCH = 256
PRUNED = (Dense, Conv2D, DepthwiseConv2D)
BEHIND = (Activation, BatchNormalization, Dropout, PReLU)
NORMS = ("sum", "frobenius")


def nnrelief(network: Network, samples: np.ndarray, fraction: float, norm: str = "sum") -> Network:
    """Keep, for every neuron, the smallest set of incoming connections that carries a fraction of
    its signal.

    The importance of connection i → j is s_ij = mean |w_ij x_i| / Σ_i mean |w_ij x_i|, means over
    the samples; the bias is one more connection, with x = 1. In convolutions a connection is the
    kernel slice from an input channel to an output channel, and its signal the sum over the slice,
    averaged over all positions, or, as the authors' program for VGG has it, the Frobenius norm of
    these sums over all positions. Signals are those of the network before pruning. A neuron that is
    zero on all samples, behind normalization and activation, loses all of its connections.

    Parameters
    ----------
    network : Network
    samples : ndarray, shape (samples, *network.input_shape)
    fraction : float
        α of the paper, in (0, 1].
    norm : {"sum", "frobenius"}
        How the signals of a convolution's positions are one number.

    Returns
    -------
    Network

    Raises
    ------
    ParameterError
        An argument out of range; parameters that are NaN or infinite.
    SampleError
        No samples, or samples that do not fit the network.
    """
    check_fraction(fraction)
    if norm not in NORMS:
        raise ParameterError(f"norm must be one of {', '.join(NORMS)}, found {norm!r}")
    if samples is None or not len(samples):
        raise SampleError("nnrelief measures signals on samples, found none")
    network.check_parameters()
    changes: dict[int, Layer] = {}
    for index, (inputs, fires) in _signals(network, network.check_samples(samples)).items():
        layer = network.layers[index]
        assert isinstance(layer, Weighted)
        signals = _connections(layer, inputs, norm)
        kept = _carriers(signals, fraction) & (fires if network.readers(index) else True)
        changes[index] = layer.replace(
            kernel=np.where(_spread(layer, kept[:-1]), layer.kernel, 0),
            bias=np.where(kept[-1], layer.bias, 0),
        )
    return network.replace(changes)


def _signals(network: Network, samples: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """For every layer with weights: mean |x| of what its weights read at each position, shape
    (positions, kernel rows, kernel columns, input channels) or (1, inputs), and which neurons ever
    fire.
    """
    indices = [i for i, layer in enumerate(network.layers) if isinstance(layer, PRUNED)]
    heard = {index: _heard(network, index) for index in indices}
    sums: dict[int, np.ndarray] = {}
    fires: dict[int, np.ndarray] = {}
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH].astype(network.dtype, copy=False)
        fired = {}
        for index, x, output in _passes(network, batch):
            layer = network.layers[index]
            if isinstance(layer, PRUNED):
                magnitudes = np.abs(x).astype(np.float64)
                windows = magnitudes if isinstance(layer, Dense) else layer.patches(magnitudes)
                shape = (len(batch), -1, *windows.shape[1 - layer.kernel.ndim :])
                total = windows.reshape(shape).sum(axis=0)
                sums[index] = sums[index] + total if index in sums else total
            fired[index] = np.asarray(output.any(axis=tuple(range(output.ndim - 1))))
        for index in indices:
            now: np.ndarray = fired[heard[index]]
            fires[index] = np.asarray(np.logical_or(fires.get(index, False), now))
    return {index: (sums[index] / len(samples), fires[index]) for index in indices}


def _heard(network: Network, index: int) -> int:
    """The layer whose output says whether a neuron is dead: behind normalization and activation."""
    readers = network.readers(index)
    while len(readers) == 1 and isinstance(network.layers[readers[0]], BEHIND):
        index = readers[0]
        readers = network.readers(index)
    return index


def _passes(network: Network, batch: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Index, first input and output of every layer; each is let go after its last reader."""
    last_reader = {
        source: index for index, sources in enumerate(network.sources) for source in sources
    }
    values = {INPUT: batch}
    for index, output in enumerate(network.activations(batch)):
        sources = network.sources[index]
        yield index, values[sources[0]], output
        values[index] = output
        for source in set(sources):
            if last_reader[source] == index:
                del values[source]


def _connections(layer: Weighted, inputs: np.ndarray, norm: str) -> np.ndarray:
    """Signals of the connections and, last, of the bias, shape (connections + 1, neurons)."""
    weights, bias = np.abs(layer.kernel).astype(np.float64), np.abs(layer.bias).astype(np.float64)
    positions = len(inputs)
    if norm == "sum":
        inputs = inputs.mean(axis=0, keepdims=True)
    if isinstance(layer, Dense):
        signals = inputs[..., None] * weights
    elif isinstance(layer, DepthwiseConv2D):
        signals = np.einsum("pijc,ijcm->pcm", inputs, weights).reshape(len(inputs), 1, -1)
    elif isinstance(layer, Conv2D) and layer.groups > 1:
        signals = (layer.reading(inputs) * weights).sum(axis=(1, 2))
    else:
        signals = np.einsum("pijc,ijcn->pcn", inputs, weights, optimize=True)
    if norm == "sum" or isinstance(layer, Dense):
        return np.vstack([signals[0], bias])
    return np.vstack([np.linalg.norm(signals, axis=0), bias * np.sqrt(positions)])


def _spread(layer: Weighted, kept: np.ndarray) -> np.ndarray:
    """Which connections are kept → weights, in a shape that broadcasts to the kernel."""
    return kept.reshape(layer.kernel.shape[2:]) if isinstance(layer, DepthwiseConv2D) else kept


def _carriers(signals: np.ndarray, fraction: float) -> np.ndarray:
    """In each column the smallest set of entries whose sum is that fraction of the column's sum."""
    order = np.argsort(-signals, axis=0, kind="stable")
    ranked = np.take_along_axis(signals, order, axis=0)
    before = np.cumsum(ranked, axis=0) - ranked
    kept = np.empty(signals.shape, bool)
    np.put_along_axis(kept, order, (before < fraction * signals.sum(axis=0)) & (ranked > 0), axis=0)
    return kept
