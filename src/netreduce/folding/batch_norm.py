"""Fold batch normalization into the weights beside it, where the function stays as it is."""

from dataclasses import replace

import numpy as np

from netreduce.network import INPUT, Network
from netreduce.network.layers import (
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    Layer,
    MaxPooling2D,
    Shape,
)

WEIGHTED = (Dense, Conv2D, DepthwiseConv2D)


def fold_batch_norm(network: Network) -> Network:
    """The same function with fewer batch normalizations.

    Behind a linear layer that nothing else reads, a batch normalization becomes part of it.
    Otherwise it goes forward into the weights that read it, past Dropout, Flatten and average
    pooling, and past max pooling where its slopes are not negative. It stays where a reader is
    another kind of layer, or a convolution that pads: the zeros at the border are added after the
    shift. Quantized kernels keep their codes (up to sign) and get a scale per channel.

    Parameters
    ----------
    network : Network

    Returns
    -------
    Network
        Computes the same up to rounding.
    """
    index = 0
    while index < len(network.layers):
        folded = (
            _folded(network, index)
            if isinstance(network.layers[index], BatchNormalization)
            else None
        )
        network, index = (network, index + 1) if folded is None else (folded, 0)
    return network


def pads(layer: Layer, shape: Shape) -> bool:
    """Whether a weight layer adds zeros around an input of that shape."""
    return isinstance(layer, Conv2D | DepthwiseConv2D) and any(
        map(any, layer.padding_widths(shape))
    )


def _folded(network, index):
    """The network without the batch normalization at that index, or None where it has to stay."""
    (source,) = network.sources[index]
    last = index == len(network.layers) - 1
    if last and source != index - 1:
        return None
    slope, shift = network.layers[index].affine()
    layer = None if source == INPUT else network.layers[source]
    if (
        isinstance(layer, WEIGHTED)
        and layer.activation == "linear"
        and network.readers(source) == (index,)
    ):
        return _without(network.replace({source: _scaled_outputs(layer, slope, shift)}), index)
    readers = {} if last else _readers(network, index, slope, shift)
    if not readers:
        return None
    return _without(
        network.replace(
            {i: _scaled_inputs(network.layers[i], *affine) for i, affine in readers.items()}
        ),
        index,
    )


def _readers(network, index, slope, shift):
    """Slope and shift of each input of the weight layers that read the tensor, or nothing where
    they cannot take them up.
    """
    found = {}
    for reader in network.readers(index):
        layer = network.layers[reader]
        if isinstance(layer, WEIGHTED):
            if shift.any() and pads(layer, network.shapes[index]):
                return {}
            found[reader] = slope, shift
        elif isinstance(layer, Dropout | Flatten | AveragePooling2D | GlobalAveragePooling2D) or (
            isinstance(layer, MaxPooling2D) and (slope >= 0).all()
        ):
            repeats = network.shapes[reader][-1] // len(slope)
            behind = (
                {}
                if reader == len(network.layers) - 1
                else _readers(network, reader, np.tile(slope, repeats), np.tile(shift, repeats))
            )
            if not behind:
                return {}
            found |= behind
        else:
            return {}
    return found


def _scaled_outputs(layer, slope, shift):
    factor = slope.reshape(layer.kernel.shape[2:]) if isinstance(layer, DepthwiseConv2D) else slope
    return _scaled(layer, factor, slope * layer.bias + shift)


def _scaled_inputs(layer, slope, shift):
    kernel = layer.kernel.astype(np.float64)
    if isinstance(layer, DepthwiseConv2D):
        return _scaled(
            layer, slope[:, None], layer.bias + (shift[:, None] * kernel).sum(axis=(0, 1)).ravel()
        )
    return _scaled(
        layer,
        slope[:, None],
        layer.bias + (shift[:, None] * kernel).sum(axis=tuple(range(kernel.ndim - 1))),
    )


def _scaled(layer, factor, bias):
    """The layer with its kernel times a factor that broadcasts against it, and another bias."""
    quantization = layer.quantization
    if quantization is None:
        kernel = layer.kernel * factor
    else:
        scale = quantization.scale * np.where(factor == 0, 1, np.abs(factor))
        kernel = scale * (layer.codes * np.sign(factor))
        quantization = replace(quantization, scale=scale, quantized_bias=False)
    return layer.replace(
        kernel=kernel.astype(layer.kernel.dtype),
        bias=bias.astype(layer.bias.dtype),
        quantization=quantization,
    )


def _without(network, index):
    """The network without a layer: its readers read what it read."""
    (source,) = network.sources[index]

    def moved(i):
        i = source if i == index else i
        return i - 1 if i > index else i

    layers = [layer for i, layer in enumerate(network.layers) if i != index]
    sources = [tuple(map(moved, s)) for i, s in enumerate(network.sources) if i != index]
    return Network(layers, network.input_shape, sources)
