"""Structured pruning: whole neurons and channels are taken out (Li, Kadav, Durdanovic, Samet and
Graf, ICLR 2017).
"""

import math
from dataclasses import replace

import numpy as np

from netreduce.network import Network
from netreduce.network.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Conv2DTranspose,
    Cropping2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Layer,
    MaxPooling2D,
    Normalization,
    PReLU,
    Rescaling,
    UpSampling2D,
    Weighted,
    ZeroPadding2D,
)

from .weights import count_kept

CHANNELWISE = (
    Activation,
    Dropout,
    MaxPooling2D,
    AveragePooling2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    ZeroPadding2D,
    Cropping2D,
    UpSampling2D,
)


def structured(network: Network, fraction: float) -> Network:
    """Keep in every hidden layer the neurons or channels whose incoming weights have the largest ℓ¹
    norm.

    The others are gone, and what reads the layer is narrowed to match. Layers whose channels meet
    those of another layer (addition, product, concatenation), mix with the positions (Reshape,
    Permute) or are read by groups stay whole, and so do convolutions with groups and the output.

    Parameters
    ----------
    network : Network
    fraction : float
        Part of a layer's neurons that is kept, in (0, 1].

    Returns
    -------
    Network
    """
    for index in range(len(network.layers)):
        layer = network.layers[index]
        if not _is_whole(layer) or not layer.function.elementwise:
            continue
        outputs = 2 if isinstance(layer, Conv2DTranspose) else layer.kernel.ndim - 1
        others = tuple(axis for axis in range(layer.kernel.ndim) if axis != outputs)
        norms = np.abs(layer.kernel).sum(axis=others, dtype=np.float64)
        kept = np.sort(np.argsort(-norms, kind="stable")[: count_kept(fraction, layer.outputs)])
        changes = _narrow_readers(network, index, kept)
        if changes is not None:
            network = network.replace({**changes, index: _take(layer, outputs, kept, kept)})
    return network


def _is_whole(layer: Layer) -> bool:
    """Whether every output of a layer with weights reads all input channels."""
    return isinstance(layer, Dense | Conv2DTranspose) or (
        isinstance(layer, Conv2D) and layer.groups == 1
    )


def _narrow_readers(network, index, kept) -> dict[int, Layer] | None:
    """The layers after `index`, reading only some of its channels; None where they cannot."""
    readers = network.readers(index)
    if not readers:
        return None
    changes = {}
    for reader in readers:
        layer, passed = network.layers[reader], kept
        if _is_whole(layer):
            inputs = {Dense: 0, Conv2D: 2, Conv2DTranspose: 3}[type(layer)]
            changes[reader] = _take(layer, inputs, kept)
            continue
        if isinstance(layer, DepthwiseConv2D):
            multiplier = layer.kernel.shape[3]
            passed = (kept[:, None] * multiplier + np.arange(multiplier)).ravel()
            changes[reader] = _take(layer, 2, kept, passed)
        elif isinstance(layer, BatchNormalization):
            changes[reader] = layer.replace(
                **{name: array[kept] for name, array in layer.arrays().items()}
            )
        elif isinstance(layer, PReLU | Rescaling | Normalization):
            changes[reader] = layer.replace(
                **{
                    name: array[..., kept] if array.ndim and array.shape[-1] > 1 else array
                    for name, array in layer.arrays().items()
                }
            )
        elif isinstance(layer, Flatten):
            *image, channels = network.shapes[index]
            passed = (np.arange(math.prod(image))[:, None] * channels + kept).ravel()
        elif not isinstance(layer, CHANNELWISE):
            return None
        if isinstance(layer, Weighted | Activation) and not layer.function.elementwise:
            return None
        further = _narrow_readers(network, reader, passed)
        if further is None:
            return None
        changes |= further
    return changes


def _take(layer, axis, kept, kept_outputs=slice(None)):
    """The layer with some of the slices of its kernel along one axis, and of its bias."""
    quantization = layer.quantization
    if quantization is not None and quantization.scale.ndim:
        scale = quantization.scale.reshape(
            (1,) * (layer.kernel.ndim - quantization.scale.ndim) + quantization.scale.shape
        )
        if scale.shape[axis] > 1:
            quantization = replace(quantization, scale=np.take(scale, kept, axis))
    return layer.replace(
        kernel=np.take(layer.kernel, kept, axis),
        bias=layer.bias[kept_outputs],
        quantization=quantization,
    )
