"""Fold batch normalization into the weights beside it, where the function stays as it is."""

from dataclasses import replace
from typing import TypeAlias

import numpy as np

from netreduce.network import INPUT, Network
from netreduce.network.layers import (
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Conv2DTranspose,
    Cropping2D,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Layer,
    MaxPooling2D,
    Permute,
    Reshape,
    Shape,
    UpSampling2D,
    Weighted,
    ZeroPadding2D,
)

# what an affine function of every channel passes, whatever the numbers
TRANSPARENT = (
    Dropout,
    Flatten,
    Reshape,
    Permute,
    Cropping2D,
    UpSampling2D,
    AveragePooling2D,
    GlobalAveragePooling2D,
)
Readers: TypeAlias = list[tuple[int, Weighted, np.ndarray, np.ndarray]]


def fold_batch_norm(network: Network) -> Network:
    """The same function with fewer batch normalizations.

    Behind a linear layer that nothing else reads, a batch normalization becomes part of it.
    Otherwise it goes forward into the weights that read it, past layers that move, repeat or
    average values (Dropout, Flatten, Reshape, cropping, upsampling, average pooling), and past max
    pooling where its slopes are not negative. It stays where a reader is another kind of layer,
    where a Reshape or Permute mixes its channels with positions, and, unless it shifts nothing,
    where zeros are added at the border: before a convolution or a pooling that counts its padding,
    a ZeroPadding2D, or a transposed convolution, to the border of which fewer pixels contribute.
    Quantized kernels keep their codes (up to sign) and get a scale per channel.

    Parameters
    ----------
    network : Network

    Returns
    -------
    Network
        Computes the same up to rounding.

    Raises
    ------
    ParameterError
        Parameters that are NaN or infinite.

    Examples
    --------
    >>> from netreduce import BatchNormalization, Dense
    >>> norm = BatchNormalization([2.0], [1.0], [0.0], [1.0], epsilon=0)
    >>> folded = fold_batch_norm(Network([Dense([[3.0]]), norm], (1,)))
    >>> [type(layer).__name__ for layer in folded.layers], folded.layers[0].kernel
    (['Dense'], array([[6.]]))
    """
    network.check_parameters()
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
    """Whether a layer adds zeros around an input of that shape, and lets them count."""
    if isinstance(layer, ZeroPadding2D):
        return any(layer.padding)
    if isinstance(layer, Conv2D | DepthwiseConv2D | AveragePooling2D):
        counts = getattr(layer, "count_padding", True)
        return counts and any(map(any, layer.padding_widths(shape)))
    return False


def _folded(network: Network, index: int) -> Network | None:
    """The network without the batch normalization at that index, or None where it has to stay."""
    (source,) = network.sources[index]
    if index == len(network.layers) - 1 and source != index - 1:
        return None  # the output would be that of another layer
    norm = network.layers[index]
    assert isinstance(norm, BatchNormalization)
    slope, shift = norm.affine()
    layer = None if source == INPUT else network.layers[source]
    if (
        isinstance(layer, Weighted)
        and layer.activation == "linear"
        and network.readers(source) == (index,)
    ):
        return _without(network.replace({source: _scaled_outputs(layer, slope, shift)}), index)
    readers = _readers(network, index, slope, shift)
    if not readers:
        return None
    scaled = {reader: _scaled_inputs(layer, *affine) for reader, layer, *affine in readers}
    return _without(network.replace(scaled), index)


def _readers(network: Network, index: int, slope: np.ndarray, shift: np.ndarray) -> Readers:
    """The weight layers that read the tensor, with slope and shift of each input, or nothing where
    they cannot take them up.
    """
    found: Readers = []
    for reader in network.readers(index):
        layer, shape = network.layers[reader], network.shapes[index]
        if shift.any() and (isinstance(layer, Conv2DTranspose) or pads(layer, shape)):
            return []
        if isinstance(layer, Weighted):
            found.append((reader, layer, slope, shift))
            continue
        repeats, rest = divmod(network.shapes[reader][-1], len(slope))
        passes = isinstance(layer, (*TRANSPARENT, ZeroPadding2D)) or (
            isinstance(layer, MaxPooling2D | GlobalMaxPooling2D) and (slope >= 0).all()
        )
        moved = isinstance(layer, Permute) and layer.order[-1] != len(layer.order)
        if not passes or moved or rest:
            return []
        behind = _readers(network, reader, np.tile(slope, repeats), np.tile(shift, repeats))
        if not behind:
            return []
        found += behind
    return found


def _scaled_outputs(layer: Weighted, slope: np.ndarray, shift: np.ndarray) -> Weighted:
    match layer:
        case DepthwiseConv2D():
            factor = slope.reshape(layer.kernel.shape[2:])
        case Conv2DTranspose():
            factor = slope[:, None]
        case _:
            factor = slope
    return _scaled(layer, factor, slope * layer.bias + shift)


def _scaled_inputs(layer: Weighted, slope: np.ndarray, shift: np.ndarray) -> Weighted:
    if isinstance(layer, Conv2DTranspose):
        return _scaled(layer, slope, layer.bias.astype(np.float64))
    kernel = layer.kernel.astype(np.float64)
    if isinstance(layer, Conv2D):
        slope, shift = layer.reading(slope), layer.reading(shift)
    else:
        slope, shift = slope[:, None], shift[:, None]
    contributions = shift * kernel
    if isinstance(layer, DepthwiseConv2D):
        added = contributions.sum(axis=(0, 1)).ravel()
    else:
        added = contributions.sum(axis=tuple(range(kernel.ndim - 1)))
    return _scaled(layer, slope, layer.bias + added)


def _scaled(layer: Weighted, factor: np.ndarray, bias: np.ndarray) -> Weighted:
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


def _without(network: Network, index: int) -> Network:
    """The network without a layer: its readers read what it read."""
    (source,) = network.sources[index]

    def moved(i: int) -> int:
        i = source if i == index else i
        return i - 1 if i > index else i

    layers = [layer for i, layer in enumerate(network.layers) if i != index]
    sources = [tuple(map(moved, s)) for i, s in enumerate(network.sources) if i != index]
    return Network(layers, network.input_shape, sources)
