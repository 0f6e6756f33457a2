"""Layers as frozen dataclasses of NumPy arrays, in Keras' orientation (channels last) and Keras'
names.

A layer is called on one batch per input and returns a batch; `output_shape` does the same for
shapes without the batch axis.
"""

from .base import Layer, Quantization, Shape
from .channelwise import (
    Activation,
    ActivationGrid,
    BatchNormalization,
    Dropout,
    Normalization,
    PReLU,
    Rescaling,
)
from .joining import Add, Concatenate, Multiply, Subtract
from .pooling import (
    AveragePooling2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
    Pooling2D,
)
from .shaping import Cropping2D, Flatten, Permute, Reshape, UpSampling2D, ZeroPadding2D
from .weighted import Conv2D, Conv2DTranspose, Convolution, Dense, DepthwiseConv2D, Weighted
from .windows import Padding, Widths, pad, padding_widths, window_counts, windows

__all__ = [
    "Activation",
    "ActivationGrid",
    "Add",
    "AveragePooling2D",
    "BatchNormalization",
    "Concatenate",
    "Conv2D",
    "Conv2DTranspose",
    "Convolution",
    "Cropping2D",
    "Dense",
    "DepthwiseConv2D",
    "Dropout",
    "Flatten",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "Layer",
    "MaxPooling2D",
    "Multiply",
    "Normalization",
    "PReLU",
    "Padding",
    "Permute",
    "Pooling2D",
    "Quantization",
    "Rescaling",
    "Reshape",
    "Shape",
    "Subtract",
    "UpSampling2D",
    "Weighted",
    "Widths",
    "ZeroPadding2D",
    "pad",
    "padding_widths",
    "window_counts",
    "windows",
]
