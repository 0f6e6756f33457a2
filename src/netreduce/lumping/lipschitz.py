"""Networks as chains of dense layers, for how far errors get in them (`netreduce.certificates`)."""

import numpy as np

from netreduce.certificates.chains import Chain
from netreduce.network import Network
from netreduce.network.layers import BatchNormalization, Dense, Layer

from .boxes import slopes
from .regions import activation_of


def chain_of(network: Network) -> Chain:
    """A chain of dense layers with activations of slopes in [0, 1], in float64; a step a layer."""
    sizes = [network.input_shape[0], *(shape[0] for shape in network.shapes)]
    steps = [_step(layer) for layer in network.layers]
    bends = [activation_of(layer).slopes != (1.0, 1.0) for layer in network.layers]
    return Chain(sizes, steps, bends)


def averaged(layer: Layer) -> bool:
    """Whether a layer's activation has slopes in [0, 1]."""
    least, greatest = slopes(layer)
    return bool(np.min(least) >= 0 and np.max(greatest) <= 1)


def _step(layer: Layer) -> np.ndarray | None:
    if isinstance(layer, Dense):
        return layer.kernel
    return layer.affine()[0] if isinstance(layer, BatchNormalization) else None
