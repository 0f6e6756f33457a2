"""NNrelief: keep the connections that carry most of a neuron's incoming signal.

A. Dekhovich, D. Tax, M. Sluiter and M. Bessa, Neural network relief: a pruning algorithm based on
neural activity, Machine Learning 113 (2024).
"""

from collections.abc import Iterator

import numpy as np

from netreduce.errors import SampleError
from netreduce.network import INPUT, Network
from netreduce.network.layers import Conv2D, Dense, DepthwiseConv2D

from .weights import check_fraction

BATCH = 256
PRUNED = (Dense, Conv2D, DepthwiseConv2D)


def nnrelief(network: Network, samples: np.ndarray, fraction: float) -> Network:
    """Keep, for every neuron, the smallest set of incoming connections that carries a fraction of
    its signal.

    The importance of connection i → j is s_ij = mean |w_ij x_i| / Σ_i mean |w_ij x_i|, means over
    the samples; the bias is one more connection, with x = 1. In convolutions a connection is the
    kernel slice from an input channel to an output channel, and its signal the sum over the slice,
    averaged over all positions. Transposed convolutions stay as they are. Signals are those of the
    network before pruning. A neuron whose
    output is zero on all samples loses all of its connections.

    Parameters
    ----------
    network : Network
    samples : ndarray, shape (samples, *network.input_shape)
    fraction : float
        α of the paper, in (0, 1].

    Returns
    -------
    Network

    Raises
    ------
    SampleError
        No samples, or samples that do not fit the network.
    """
    check_fraction(fraction)
    if samples is None or not len(samples):
        raise SampleError("nnrelief measures signals on samples, found none")
    changes = {}
    for index, (inputs, fires) in _signals(network, network.check_samples(samples)).items():
        layer = network.layers[index]
        signals = np.vstack(
            [_connections(layer, np.abs(layer.kernel) * _read(layer, inputs)), np.abs(layer.bias)]
        )
        kept = _carriers(signals, fraction) & (fires if network.readers(index) else True)
        changes[index] = layer.replace(
            kernel=np.where(_spread(layer, kept[:-1]), layer.kernel, 0),
            bias=np.where(kept[-1], layer.bias, 0),
        )
    return network.replace(changes)


def _signals(network, samples) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """For every layer that is pruned: mean |x| of what its weights read, shape (kernel rows, kernel
    columns, input channels) or (inputs,), and which neurons ever fire.
    """
    sums, fires, positions = {}, {}, {}
    for start in range(0, len(samples), BATCH):
        for index, x, output in _passes(
            network, samples[start : start + BATCH].astype(network.dtype, copy=False)
        ):
            layer, magnitudes = network.layers[index], np.abs(x).astype(np.float64)
            windows = magnitudes if isinstance(layer, Dense) else layer.patches(magnitudes)
            axes = tuple(range(windows.ndim - layer.kernel.ndim + 1))
            sums[index] = sums.get(index, 0) + windows.sum(axis=axes)
            positions[index] = positions.get(index, 0) + int(
                np.prod([windows.shape[axis] for axis in axes])
            )
            fires[index] = fires.get(index, False) | output.any(axis=tuple(range(output.ndim - 1)))
    return {index: (sums[index] / positions[index], fires[index]) for index in sums}


def _passes(network, batch) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Index, input and output of every layer with weights; each is let go after its last reader."""
    last_reader = {
        source: index for index, sources in enumerate(network.sources) for source in sources
    }
    values = {INPUT: batch}
    for index, output in enumerate(network.activations(batch)):
        sources = network.sources[index]
        if isinstance(network.layers[index], PRUNED):
            yield index, values[sources[0]], output
        values[index] = output
        for source in sources:
            if last_reader[source] == index:
                values.pop(source, None)  # a layer may read one tensor twice


def _read(layer, inputs):
    """Inputs in a shape that broadcasts to the kernel."""
    return layer.reading(inputs) if isinstance(layer, Conv2D) else inputs[..., None]


def _connections(layer, signals):
    """Signals of single weights → of connections, shape (connections, neurons)."""
    if isinstance(layer, Conv2D):
        return signals.sum(axis=(0, 1))
    return (
        signals.sum(axis=(0, 1)).reshape(1, -1) if isinstance(layer, DepthwiseConv2D) else signals
    )


def _spread(layer, kept):
    """Which connections are kept → weights, in a shape that broadcasts to the kernel."""
    return kept.reshape(layer.kernel.shape[2:]) if isinstance(layer, DepthwiseConv2D) else kept


def _carriers(signals, fraction):
    """In each column the smallest set of entries whose sum is that fraction of the column's sum."""
    order = np.argsort(-signals, axis=0, kind="stable")
    ranked = np.take_along_axis(signals, order, axis=0)
    before = np.cumsum(ranked, axis=0) - ranked
    kept = np.empty(signals.shape, bool)
    np.put_along_axis(kept, order, (before < fraction * signals.sum(axis=0)) & (ranked > 0), axis=0)
    return kept
