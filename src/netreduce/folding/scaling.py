"""Scaling channels where they are made and where they are read."""

from dataclasses import replace
from typing import TypeAlias

import numpy as np

from netreduce.network import Network
from netreduce.network.layers import (
    Activation,
    AveragePooling2D,
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


def readers_of(network: Network, index: int, slope: np.ndarray, shift: np.ndarray) -> Readers:
    """The weight layers that read a layer's outputs when every channel becomes slope · x + shift,
    with slope and shift of each of their inputs; nothing where they cannot take them up.
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
        passes = (
            isinstance(layer, (*TRANSPARENT, ZeroPadding2D))
            or (isinstance(layer, MaxPooling2D | GlobalMaxPooling2D) and (slope >= 0).all())
            or (
                isinstance(layer, Activation)
                and layer.function.positively_homogeneous
                and not shift.any()
                and (slope > 0).all()
            )
        )
        moved = isinstance(layer, Permute) and layer.order[-1] != len(layer.order)
        if not passes or moved or rest:
            return []
        behind = readers_of(network, reader, np.tile(slope, repeats), np.tile(shift, repeats))
        if not behind:
            return []
        found += behind
    return found


def scaled_outputs(layer: Weighted, slope: np.ndarray, shift: np.ndarray) -> Weighted:
    match layer:
        case DepthwiseConv2D():
            factor = slope.reshape(layer.kernel.shape[2:])
        case Conv2DTranspose():
            factor = slope[:, None]
        case _:
            factor = slope
    return _scaled(layer, factor, slope * layer.bias + shift)


def scaled_inputs(layer: Weighted, slope: np.ndarray, shift: np.ndarray) -> Weighted:
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


def pads(layer: Layer, shape: Shape) -> bool:
    """Whether a layer adds zeros around an input of that shape, and lets them count."""
    if isinstance(layer, ZeroPadding2D):
        return any(layer.padding)
    if isinstance(layer, Conv2D | DepthwiseConv2D | AveragePooling2D):
        counts = getattr(layer, "count_padding", True)
        return counts and any(map(any, layer.padding_widths(shape)))
    return False
