"""Fold batch normalization into the weights beside it, where the function stays as it is."""

from netreduce.network import INPUT, Network
from netreduce.network.layers import BatchNormalization, Weighted

from .scaling import readers_of, scaled_inputs, scaled_outputs


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
        return _without(network.replace({source: scaled_outputs(layer, slope, shift)}), index)
    readers = readers_of(network, index, slope, shift)
    if not readers:
        return None
    scaled = {reader: scaled_inputs(layer, *affine) for reader, layer, *affine in readers}
    return _without(network.replace(scaled), index)


def _without(network: Network, index: int) -> Network:
    """The network without a layer: its readers read what it read."""
    (source,) = network.sources[index]

    def moved(i: int) -> int:
        i = source if i == index else i
        return i - 1 if i > index else i

    layers = [layer for i, layer in enumerate(network.layers) if i != index]
    sources = [tuple(map(moved, s)) for i, s in enumerate(network.sources) if i != index]
    return Network(layers, network.input_shape, sources)
