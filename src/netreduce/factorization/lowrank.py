"""Low-rank factorization: a layer as two layers, by truncated singular value decomposition.

Dense layers as in Denton, Zaremba, Bruna, LeCun and Fergus (NeurIPS 2014); a convolution as one
with fewer outputs and a 1×1 convolution, as in Zhang, Zou, He and Sun (IEEE TPAMI 38, 2016),
without their data-dependent corrections.
"""

import numpy as np

from netreduce.errors import ParameterError, UnsupportedLayerError
from netreduce.network import INPUT, Network
from netreduce.network.fractions import count_kept
from netreduce.network.layers import Conv2D, Dense, Layer


def lowrank(network: Network, fraction: float) -> Network:
    """Factorize every Dense layer, and every Conv2D without groups, that becomes smaller by it.

    Parameters
    ----------
    network : Network
    fraction : float
        Rank that is kept, as a part of the full rank, in (0, 1].

    Returns
    -------
    Network
        Layers whose two factors would have more weights than they have stay as they are.

    Raises
    ------
    ParameterError
        A fraction out of range; parameters that are NaN or infinite.
    UnsupportedLayerError
        A layer is quantized: its factors would leave the grid.
    """
    network.check_parameters()
    layers: list[Layer] = []
    sources: list[tuple[int, ...]] = []
    place = {INPUT: INPUT}
    for index, (name, layer) in enumerate(zip(network.names, network.layers, strict=True)):
        if getattr(layer, "quantization", None) is not None:
            raise UnsupportedLayerError(f"{name} is quantized: factorize before quantizing")
        parts: tuple[Layer, ...] = (layer,)
        if isinstance(layer, Dense) or (isinstance(layer, Conv2D) and layer.groups == 1):
            inputs, outputs = layer.kernel.size // layer.outputs, layer.outputs
            rank = count_kept(fraction, min(inputs, outputs))
            if rank * (inputs + outputs) < inputs * outputs:
                parts = factorize(layer, rank)
        for number, part in enumerate(parts):
            sources.append(
                (len(layers) - 1,)
                if number
                else tuple(place[source] for source in network.sources[index])
            )
            layers.append(part)
        place[index] = len(layers) - 1
    return Network(layers, network.input_shape, sources)


def factorize(layer: Dense | Conv2D, rank: int) -> tuple[Layer, Layer]:
    """Two layers that compute the best approximation (least squares in the kernel) of that rank,
    and the layer itself at full rank.

    Parameters
    ----------
    layer : Dense or Conv2D
        A kernel of shape (rows, columns, inputs, outputs) counts as a matrix with rows · columns ·
        inputs rows.
    rank : int
        From 1 to the smaller side of the kernel matrix.
    """
    matrix = layer.kernel.reshape(-1, layer.outputs)
    if not 1 <= rank <= min(matrix.shape):
        raise ParameterError(
            f"rank must be from 1 to {min(matrix.shape)} for a kernel of shape"
            f" {layer.kernel.shape}, found {rank!r}"
        )
    left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    root = np.sqrt(values[:rank])
    first = (
        (left[:, :rank] * root).astype(layer.kernel.dtype).reshape(*layer.kernel.shape[:-1], rank)
    )
    second = (root[:, None] * right[:rank]).astype(layer.kernel.dtype)
    inner = layer.replace(kernel=first, bias=None, activation="linear")
    if isinstance(layer, Dense):
        return inner, Dense(second, layer.bias, layer.activation)
    return inner, Conv2D(second[None, None], layer.bias, layer.activation)
