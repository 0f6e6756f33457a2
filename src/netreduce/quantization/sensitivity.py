"""What quantization did to every layer of a network: its bits, its error, its bytes."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from netreduce.errors import ParameterError
from netreduce.measures.packing import layer_bytes
from netreduce.network import INPUT, Network
from netreduce.network.layers import BatchNormalization, Layer, Weighted

from .pipeline import QUANTIZABLE


def sensitivity(
    original: Network, quantized: Network, samples: np.ndarray
) -> Iterator[dict[str, Any]]:
    """A row for every layer with parameters.

    Parameters
    ----------
    original, quantized : Network
        Networks with the same layers, but for their weights.
    samples : ndarray, shape (samples, *original.input_shape)

    Yields
    ------
    dict
        layer: its name; weights: the number of its parameters; layer_bits: None for a layer that is
        not quantized; skipped: why not, None for one that is; error: ‖y' − y‖ / ‖y‖ of what it puts
        out before the activation, both layers on the inputs that the original has, None where that
        is not defined; bytes: packed, by entropy coding; share: of the bytes of all these layers.

    Raises
    ------
    ParameterError
        Networks whose layers are not the same.
    SampleError
        Samples of another shape.

    Examples
    --------
    >>> from netreduce import Dense, quantize
    >>> network = Network([Dense([[1.0, 3.0]]), Dense([[1.0], [0.5]])], (1,))
    >>> ternary = quantize(network, None, "msq", bits=1.58, radius="mse", per_channel=False,
    ...                    layers=[0])
    >>> for row in sensitivity(network, ternary, np.ones((1, 1))):
    ...     print(row["layer"], row["layer_bits"], row["skipped"], round(row["error"], 3))
    dense_1 1.58 None 0.316
    dense_2 None not asked for 0.0
    """
    if [type(layer) for layer in original.layers] != [type(layer) for layer in quantized.layers]:
        raise ParameterError(
            "a row for every layer needs networks with the same layers, found"
            f" {', '.join(original.names)} and {', '.join(quantized.names)}"
        )
    places = [i for i, layer in enumerate(original.layers) if layer.arrays()]
    sizes = {index: layer_bytes(quantized, index) for index in places}
    errors = _errors(original, quantized, samples)
    for index in places:
        layer = quantized.layers[index]
        grid = getattr(layer, "quantization", None)
        yield {
            "layer": original.names[index],
            "weights": sum(array.size for array in layer.arrays().values()),
            "layer_bits": None if grid is None else grid.bits,
            "skipped": None if grid is not None else _reason(layer),
            "error": errors[index],
            "bytes": sizes[index],
            "share": sizes[index] / sum(sizes.values()),
        }


def _errors(original: Network, quantized: Network, samples: np.ndarray) -> dict[int, float | None]:
    samples = original.check_samples(samples).astype(original.dtype, copy=False)
    values = [samples, *original.activations(samples)]
    errors: dict[int, float | None] = {}
    for index, sources in enumerate(original.sources):
        inputs = [values[0 if source == INPUT else source + 1] for source in sources]
        right, found = (
            _before_activation(network.layers[index], inputs).astype(np.float64)
            for network in (original, quantized)
        )
        norm, moved = np.linalg.norm(right), np.linalg.norm(found - right)
        errors[index] = float(moved / norm) if norm else 0.0 if not moved else None
    return errors


def _before_activation(layer: Layer, inputs: list[np.ndarray]) -> np.ndarray:
    return layer.linear(*inputs) if isinstance(layer, Weighted) else layer(*inputs)


def _reason(layer: Layer) -> str:
    if isinstance(layer, BatchNormalization):
        return "batch normalization: quantized where it is folded into a layer with weights"
    if isinstance(layer, QUANTIZABLE):
        return "not asked for"
    return f"{type(layer).__name__}: only Dense, Conv2D and DepthwiseConv2D are quantized"
