"""Small networks that between them have every layer with every kind of setting."""

import numpy as np

from netreduce.network import Network
from netreduce.network.activations import ACTIVATIONS
from netreduce.network.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Cropping2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
    Multiply,
    Normalization,
    Permute,
    PReLU,
    Rescaling,
    Reshape,
    Subtract,
    UpSampling2D,
    ZeroPadding2D,
)

SHAPE = (7, 6, 2)


def _normal(*shape):
    """Numbers in float32, the same for the same shape."""
    values = np.random.default_rng(shape).standard_normal(shape)
    return (values / np.sqrt(np.prod(shape[:-1]) or 1)).astype(np.float32)


def _norm(channels):
    random = np.random.default_rng(channels)
    signs = np.resize([1, -1], channels)
    return BatchNormalization(
        (signs * random.uniform(0.5, 2, channels)).astype(np.float32),
        *(random.uniform(0.5, 2, channels).astype(np.float32) for _ in range(3)),
        1e-3,
    )


def conv(inputs, outputs, activation="relu", size=3, **options):
    groups = options.get("groups", 1)
    kernel = _normal(size, size, inputs // groups, outputs)
    return Conv2D(kernel, _normal(outputs), activation, **options)


def _behind(*layers):
    """Images through a convolution, the layers, and another convolution."""
    first = [conv(2, 4, padding="same"), *layers]
    channels = Network(first, SHAPE).shapes[-1][-1]
    return [*first, conv(channels, 3, size=2), Flatten()]


def _before(*layers):
    """Images through a convolution and the layers."""
    return [conv(2, 4, padding="same"), *layers]


# what stands between two layers with weights, or at the end
CHAINS = {
    "explicit padding": _behind(conv(4, 4, padding=(1, 0, 2, 1), strides=2)),
    "groups": _behind(conv(4, 8, padding=(1, 1, 1, 1), groups=2), conv(8, 4, groups=4)),
    "groups last": _before(conv(4, 6, "linear", groups=2)),
    "depthwise, padded": _behind(DepthwiseConv2D(_normal(3, 3, 4, 2), padding=(0, 1, 1, 0))),
    "transposed": _behind(
        Conv2DTranspose(_normal(3, 3, 5, 4), _normal(5), "relu", 2, (1, 1, 1, 1), 1)
    ),
    "transposed last": _before(Conv2DTranspose(_normal(2, 2, 3, 4), _normal(3), "linear", 2)),
    "zero padding": _behind(_norm(4), ZeroPadding2D((1, 0, 2, 0))),
    "cropping": _behind(_norm(4), Cropping2D((1, 0, 0, 2))),
    "upsampling": _behind(_norm(4), UpSampling2D((2, 1))),
    "bilinear": _behind(_norm(4), UpSampling2D((1, 2), "bilinear")),
    "largest": _behind(_norm(4), MaxPooling2D(3, 2, (1, 1, 0, 1))),
    "mean": _behind(_norm(4), AveragePooling2D(2, 2, (1, 0, 1, 0))),
    "mean with padding": _behind(
        _norm(4), AveragePooling2D(2, 2, (1, 0, 1, 0), count_padding=True)
    ),
    "global maximum": [*_before(_norm(4), GlobalMaxPooling2D()), Dense(_normal(4, 3))],
    "global mean": [*_before(_norm(4), GlobalAveragePooling2D()), Dense(_normal(4, 3))],
    "reshape": [*_before(_norm(4), Reshape((6, 7, 4)), Flatten()), Dense(_normal(168, 3))],
    "reshape across channels": _behind(_norm(4), Reshape((14, 4, 3))),
    "permute": _behind(_norm(4), Permute((2, 1, 3))),
    "permute channels": _behind(_norm(4), Permute((3, 1, 2))),
    "rescaling": [Rescaling(1 / 255, -0.5), *_behind(Rescaling(_normal(4), _normal(4)))],
    "normalization": [Normalization(_normal(2), np.float32([0.5, 2])), *_behind()],
    "prelu": _behind(PReLU(_normal(4)), Dropout(0.3), PReLU(_normal(7, 6, 4))),
    "one channel": [
        Reshape((1, 42, 2)),
        Conv2D(_normal(1, 5, 2, 4), _normal(4), "relu", (1, 2), (0, 0, 4, 0)),
        MaxPooling2D((1, 2)),
        Reshape((10, 4)),
        Flatten(),
        Dense(_normal(40, 3)),
    ],
}
CHAINS |= {
    f"activation {name}": _behind(_norm(4), Activation(name))
    for name in ACTIVATIONS
    if name != "leaky_relu"
}
CHAINS |= {
    f"fused {name}": [Flatten(), Dense(_normal(84, 5), _normal(5), name), Dense(_normal(5, 3))]
    for name in ACTIVATIONS
}
CHAINS |= {
    "leaky": _behind(_norm(4), Activation("leaky_relu", 0.01)),
    "falling leaky": _behind(_norm(4), Activation("leaky_relu", -0.5)),
    "ceiling": _behind(_norm(4), Activation("relu", max_value=0.5)),
    "threshold": _behind(_norm(4), Activation("relu", threshold=0.5)),
    "ceiling, slope": _behind(_norm(4), Activation("leaky_relu", 0.1, max_value=1.0)),
    "elu": _behind(_norm(4), Activation("elu", alpha=0.5)),
    "softmax last": [Flatten(), Dense(_normal(84, 5), activation="relu"), Dense(_normal(5, 3)),
                     Activation("softmax")],
    "log_softmax last": [
        Flatten(), Dense(_normal(84, 5), activation="relu"),
        Dense(_normal(5, 3), activation="log_softmax"),
    ],
}  # fmt: skip


def squeeze_and_excite(pooling=GlobalAveragePooling2D):
    """A gate of one number per channel, on a residual block."""
    layers = [
        conv(2, 4, padding=(1, 1, 1, 1)),
        conv(4, 4, padding="same"),
        pooling(),
        Dense(_normal(4, 3), _normal(3), "relu"),
        Dense(_normal(3, 4), _normal(4), "hard_sigmoid"),
        Multiply(),
        Add(),
        conv(4, 3),
    ]
    return Network(layers, SHAPE, [(-1,), (0,), (1,), (2,), (3,), (1, 4), (5, 0), (6,)])


def difference():
    """Two branches, their difference and their concatenation."""
    layers = [
        conv(2, 4, padding="same"),
        conv(4, 4, "linear", padding="same"),
        _norm(4),
        Subtract(),
        Concatenate(),
        Multiply(),
        conv(8, 3),
    ]
    return Network(layers, SHAPE, [(-1,), (0,), (1,), (0, 2), (2, 3), (4, 4), (5,)])


NETWORKS = {name: Network(layers, SHAPE) for name, layers in CHAINS.items()} | {
    "squeeze and excite": squeeze_and_excite(),
    "gate of maxima": squeeze_and_excite(GlobalMaxPooling2D),
    "difference": difference(),
}


def samples(network, count=20, seed=0):
    random = np.random.default_rng(seed)
    return random.uniform(0, 1, (count, *network.input_shape)).astype(np.float32)
