"""Structured pruning: whole neurons and channels are taken out (Li, Kadav, Durdanovic, Samet and
Graf, ICLR 2017).
"""

import numpy as np

from netreduce.network import Network
from netreduce.network.channels import Channels
from netreduce.network.fractions import count_kept
from netreduce.network.layers import Conv2DTranspose, Weighted


def structured(network: Network, fraction: float) -> Network:
    """Keep in every hidden layer the neurons or channels whose incoming weights have the largest ℓ¹
    norm.

    The others are gone, and what reads the layer is narrowed to match before its own norms are
    taken. Channels that must go together (an addition joins them) are one, with the sum of their
    norms.

    Parameters
    ----------
    network : Network
    fraction : float
        Part of a layer's neurons that is kept, in (0, 1].

    Returns
    -------
    Network

    Raises
    ------
    ParameterError
        A fraction out of range; parameters that are NaN or infinite.

    Examples
    --------
    >>> from netreduce import Dense
    >>> hidden = Dense(np.array([[1.0, 5.0, 3.0]]), activation="relu")
    >>> network = Network([hidden, Dense(np.ones((3, 2)))], (1,))
    >>> structured(network, 0.67).layers[0].kernel
    array([[5., 3.]])
    """
    network.check_parameters()
    for number in range(len(Channels(network).groups())):
        channels = Channels(network)  # of the network without what has gone so far
        group = channels.groups()[number]
        members = channels.members(group)
        norms = np.zeros(len(channels.removable))
        for index in group:
            layer = network.layers[index]
            assert isinstance(layer, Weighted)
            np.add.at(norms, channels.classes[index], _incoming(layer))
        kept = count_kept(fraction, len(members))
        network = channels.without(members[np.argsort(-norms[members], kind="stable")[kept:]])
    return network


def _incoming(layer: Weighted) -> np.ndarray:
    """The ℓ¹ norm of the weights that come into each neuron or channel."""
    made = layer.kernel.ndim - (2 if isinstance(layer, Conv2DTranspose) else 1)
    axes = tuple(axis for axis in range(layer.kernel.ndim) if axis != made)
    return np.abs(layer.kernel).sum(axis=axes, dtype=np.float64)
