"""Cross-layer equalization: channels of neighbouring layers get weights of like size.

M. Nagel, M. van Baalen, T. Blankevoort and M. Welling, Data-free quantization through weight
equalization and bias correction, ICCV 2019, section 4.1.

With a positively homogeneous activation f, f(s x) = s f(x) for s > 0: a channel may be divided by
s_i where a layer makes it, and multiplied where the next one reads it. With s_i = √(r_i / t_i), r_i
and t_i the largest weights of channel i in the two layers, both become √(r_i t_i): one alphabet
fits all channels of a layer.
"""

import numpy as np

from netreduce.network import Network
from netreduce.network.layers import Conv2D, Conv2DTranspose, DepthwiseConv2D, Weighted

from .scaling import readers_of, scaled_inputs, scaled_outputs

ROUNDS = 20  # over all pairs of layers, at most
SETTLED = 1e-3  # largest relative change of a channel in the last round


def equalize(network: Network) -> Network:
    """The same function, with the weights of every channel of like size in the layer that makes it
    and in those that read it.

    Pairs are layers with weights of which the first has a positively homogeneous activation
    (linear, ReLU, LeakyReLU), and is read by layers with weights only, past such activations,
    pooling, and layers that move, repeat or average values. All others stay as they are, quantized
    layers too, so equalize before quantizing, and fold batch normalization before that.

    Parameters
    ----------
    network : Network

    Returns
    -------
    Network
        Computes the same up to rounding.

    Examples
    --------
    >>> from netreduce import Dense
    >>> network = Network([Dense([[4.0, 1.0]], activation="relu"), Dense([[1.0], [1.0]])], (1,))
    >>> equalized = equalize(network)
    >>> [layer.kernel.ravel().tolist() for layer in equalized.layers]
    [[2.0, 1.0], [2.0, 1.0]]
    """
    network.check_parameters()
    for _ in range(ROUNDS):
        largest = 0.0
        for index in range(len(network.layers)):
            network, change = _equalized(network, index)
            largest = max(largest, change)
        if largest <= SETTLED:
            break
    return network


def _equalized(network: Network, index: int) -> tuple[Network, float]:
    """The network with the channels of one layer equalized with their readers, and the largest
    relative change.
    """
    layer = network.layers[index]
    if (
        not isinstance(layer, Weighted)
        or layer.quantization is not None
        or not layer.function.positively_homogeneous
    ):
        return network, 0.0
    channels = network.shapes[index][-1]
    readers = readers_of(network, index, np.ones(channels), np.zeros(channels))
    if not readers or any(reader.quantization is not None for _, reader, _, _ in readers):
        return network, 0.0
    made = _by_output(layer)
    read = np.max(
        [_by_input(reader).reshape(-1, channels).max(axis=0) for _, reader, _, _ in readers],
        axis=0,
    )
    used = (made > 0) & (read > 0)
    factor = np.where(used, np.sqrt(np.where(used, read, 1) / np.where(used, made, 1)), 1.0)
    changed = {index: scaled_outputs(layer, factor, np.zeros(channels))}
    for place, reader, ones, shift in readers:
        changed[place] = scaled_inputs(reader, np.tile(1 / factor, len(ones) // channels), shift)
    return network.replace(changed), float(np.max(np.abs(factor - 1), initial=0))


def _by_output(layer: Weighted) -> np.ndarray:
    """Largest |weight| of every output channel."""
    magnitudes = np.abs(layer.kernel.astype(np.float64))
    match layer:
        case DepthwiseConv2D():
            return magnitudes.max(axis=(0, 1)).ravel()
        case Conv2DTranspose():
            return magnitudes.max(axis=(0, 1, 3))
        case _:
            return magnitudes.max(axis=tuple(range(magnitudes.ndim - 1)))


def _by_input(layer: Weighted) -> np.ndarray:
    """Largest |weight| of every input channel."""
    magnitudes = np.abs(layer.kernel.astype(np.float64))
    match layer:
        case DepthwiseConv2D():
            return magnitudes.max(axis=(0, 1, 3))
        case Conv2DTranspose():
            return magnitudes.max(axis=(0, 1, 2))
        case Conv2D():
            parts = magnitudes.max(axis=(0, 1)).reshape(magnitudes.shape[2], layer.groups, -1)
            return parts.max(axis=2).T.ravel()
        case _:
            return magnitudes.max(axis=-1)
