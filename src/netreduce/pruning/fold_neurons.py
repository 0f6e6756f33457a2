"""Model folding: neurons of similar weights become their mean, and statistics are repaired.

D. Wang, H. Šikić, L. Thiele and O. Saukh, Forget the data and fine-tuning! Just fold the network to
compress, ICLR 2025 (arXiv 2502.10216). Rows of weights are clustered by k-means; a cluster becomes
one neuron with the mean of its weights, and what reads it gets the sum of the weights that read its
members. Means vary less than their members: REPAIR (K. Jordan, H. Sedghi, O. Saukh, R. Entezari and
B. Neyshabur, ICLR 2023) gives each one the mean and the standard deviation, over samples, that its
members had on average before their activation.
"""

import warnings
from collections import Counter
from numbers import Integral

import numpy as np
from scipy.cluster.vq import kmeans2

from netreduce.errors import ParameterError, SampleError, UnsupportedLayerError
from netreduce.network import INPUT, Network
from netreduce.network.channels import Channels
from netreduce.network.fractions import count_kept
from netreduce.network.layers import Conv2DTranspose, DepthwiseConv2D, Layer, Weighted

REPAIRED = 1000  # samples on which statistics are taken, at most
ITERATIONS = 50


def fold_neurons(
    network: Network, samples: np.ndarray, fraction: float, *, repair: bool = True, seed: int = 0
) -> Network:
    """Merge neurons (channels) by k-means on their incoming weights, biases included.

    Channels that must go together (an addition joins them) are one, with the weights of all layers
    that make them.

    Parameters
    ----------
    network : Network
    samples : ndarray, shape (samples, *network.input_shape)
        For the repair: the first 1,000 of them.
    fraction : float
        Part of every hidden layer's neurons that is left, in (0, 1].
    repair : bool
    seed : int
        Of the first centers.

    Returns
    -------
    Network

    Raises
    ------
    ParameterError
        A fraction or a seed out of range; parameters that are NaN or infinite.
    UnsupportedLayerError
        No hidden layer with neurons that can go; a quantized layer.
    SampleError
        No samples, or samples that do not fit.

    Examples
    --------
    >>> from netreduce import Dense
    >>> hidden = Dense([[1.0, 5.0, 1.2], [0.0, 0.0, 0.0]], activation="relu")
    >>> network = Network([hidden, Dense([[1.0], [2.0], [3.0]])], (2,))
    >>> folded = fold_neurons(network, np.ones((4, 2)), 0.67, repair=False)
    >>> folded.layers[0].kernel[0], folded.layers[1].kernel.ravel()
    (array([1.1, 5. ]), array([4., 2.]))
    """
    network.check_parameters()
    for name, layer in zip(network.names, network.layers, strict=True):
        if getattr(layer, "quantization", None) is not None:
            raise UnsupportedLayerError(f"{name} is quantized: fold neurons before quantizing")
    if samples is None or not len(samples):
        raise SampleError("folding repairs statistics on samples, found none")
    if not (isinstance(seed, Integral) and seed >= 0):
        raise ParameterError(f"seed must be a whole number from 0, found {seed!r}")
    samples = network.check_samples(samples)[:REPAIRED].astype(network.dtype)
    channels = Channels(network)
    if not channels.groups():
        raise UnsupportedLayerError("no hidden layer has neurons or channels that can go")
    heirs = np.arange(len(channels.removable))
    for group in channels.groups():
        for members in _alike(channels, channels.members(group)):
            rows = _incoming(channels, group, members)
            labels = _clusters(rows, count_kept(fraction, len(members)), seed)
            for label in np.unique(labels):
                cluster = members[labels == label]
                heirs[cluster] = cluster[0]
    gone = np.flatnonzero(heirs != np.arange(len(heirs)))
    places = {tensor: _places(classes, heirs) for tensor, classes in channels.classes.items()}
    merged = network.replace(
        {
            index: _merged(layer, places[network.sources[index][0]], places[index])
            for index, layer in enumerate(network.layers)
        }
    )
    folded = Channels(merged).without(gone)
    return _repaired(network, folded, samples, places) if repair else folded


def _alike(channels: Channels, members: np.ndarray) -> list[np.ndarray]:
    """The classes by where they show: only those of the same tensors can be one."""
    shows: dict[tuple[int, ...], list[int]] = {}
    for member in members.tolist():
        key = tuple(int(np.sum(c == member)) for c in channels.classes.values())
        shows.setdefault(key, []).append(member)
    return [np.array(part) for part in shows.values()]


def _incoming(channels: Channels, group: list[int], members: np.ndarray) -> np.ndarray:
    """What comes into each class of a group: weights and biases, shape (classes, weights)."""
    parts = []
    for index in group:
        layer = channels.network.layers[index]
        assert isinstance(layer, Weighted)
        if not np.isin(members, channels.classes[index]).all():
            continue
        axis = -2 if isinstance(layer, Conv2DTranspose) else -1
        rows = np.moveaxis(layer.kernel, axis, 0).reshape(layer.outputs, -1)
        rows = np.hstack([rows, layer.bias[:, None]]).astype(np.float64)
        classes = channels.classes[index]
        parts.append(np.stack([rows[classes == member].sum(axis=0) for member in members]))
    return np.hstack(parts)


def _clusters(rows: np.ndarray, number: int, seed: int) -> np.ndarray:
    """The cluster of every row, by k-means; so many clusters, none of them empty."""
    rows = rows / (np.abs(rows).max() or 1.0)
    centers, labels = np.unique(rows, axis=0, return_inverse=True)
    if len(centers) > number:
        with warnings.catch_warnings(category=UserWarning, action="ignore"):  # of empty clusters
            random = np.random.default_rng(seed)
            centers, labels = kmeans2(rows, number, ITERATIONS, minit="++", seed=random)
    far = np.linalg.norm(rows - centers[labels], axis=1)
    while len(np.unique(labels)) < number:  # what is farthest from its center gets its own
        sizes = np.bincount(labels, minlength=number)
        lonely = int(np.argmax(np.where(sizes[labels] > 1, far, -1)))
        labels[lonely] = np.flatnonzero(sizes == 0)[0]
    return labels


def _places(classes: np.ndarray, heirs: np.ndarray) -> np.ndarray:
    """Where in a tensor each channel goes: to the channel of its class' heir, the first to the
    first where a class has several.
    """
    seen: Counter[int] = Counter()
    ranked = []
    for one in classes.tolist():
        ranked.append((one, seen[one]))
        seen[one] += 1
    place = {key: index for index, key in enumerate(ranked)}
    return np.array([place[int(heirs[one]), rank] for one, rank in ranked], int)


def _summed(array: np.ndarray, axis: int, places: np.ndarray, mean: bool) -> np.ndarray:
    """Slices along an axis added up, or averaged, where they go; zeros elsewhere."""
    array = np.moveaxis(array.astype(np.float64), axis, 0)
    sums = np.zeros_like(array)
    np.add.at(sums, places, array)
    if mean:
        counts = np.bincount(places, minlength=len(places)).clip(1)
        sums /= counts.reshape(-1, *[1] * (array.ndim - 1))
    return np.moveaxis(sums, 0, axis)


def _merged(layer: Layer, read: np.ndarray, made: np.ndarray) -> Layer:
    """A layer whose channels are the means of clusters, and that reads their sums."""
    if not isinstance(layer, Weighted):
        arrays = {
            name: _summed(array, -1, made, mean=True).astype(array.dtype)
            for name, array in layer.arrays().items()
            if array.ndim and array.shape[-1] == len(made)
        }
        return layer.replace(**arrays) if arrays else layer
    kernel = layer.kernel
    if isinstance(layer, DepthwiseConv2D):
        kernel = _summed(kernel, -2, read, mean=True)
    elif getattr(layer, "groups", 1) == 1:
        inward, outward = (-1, -2) if isinstance(layer, Conv2DTranspose) else (-2, -1)
        kernel = _summed(_summed(kernel, inward, read, mean=False), outward, made, mean=True)
    return layer.replace(
        kernel=kernel.astype(layer.kernel.dtype),
        bias=_summed(layer.bias, 0, made, mean=True).astype(layer.bias.dtype),
    )


def _repaired(
    network: Network, folded: Network, x: np.ndarray, places: dict[int, np.ndarray]
) -> Network:
    """The folded network with the statistics of its clusters' members, layer after layer."""
    producers = set(Channels(network).producers())
    last_reader = {
        source: index for index, sources in enumerate(network.sources) for source in sources
    }
    before, after = {INPUT: x}, {INPUT: x}
    changes: dict[int, Layer] = {}
    for index, sources in enumerate(network.sources):
        layer, new = network.layers[index], folded.layers[index]
        if index in producers:
            assert isinstance(layer, Weighted) and isinstance(new, Weighted)
            stays = places[index] == np.arange(len(places[index]))
            wanted = _statistics(layer.linear(before[sources[0]]))
            wanted = _summed(wanted, 1, places[index], mean=True)[:, stays]
            found = _statistics(new.linear(after[sources[0]]))
            factor = np.divide(
                wanted[1], found[1], out=np.ones_like(found[1]), where=found[1] > 1e-6 * wanted[1]
            )
            kernel = new.kernel * (
                factor[:, None] if isinstance(layer, Conv2DTranspose) else factor
            )
            bias = factor * (new.bias - found[0]) + wanted[0]
            new = new.replace(
                kernel=kernel.astype(new.kernel.dtype), bias=bias.astype(new.bias.dtype)
            )
            changes[index] = new
        before[index] = layer(*(before[s] for s in sources))
        after[index] = new(*(after[s] for s in sources))
        for source in set(sources):
            if last_reader[source] == index:
                del before[source], after[source]
    return folded.replace(changes)


def _statistics(z: np.ndarray) -> np.ndarray:
    """Mean and standard deviation of every channel, shape (2, channels)."""
    axes = tuple(range(z.ndim - 1))
    return np.stack([z.mean(axis=axes, dtype=np.float64), z.std(axis=axes, dtype=np.float64)])
