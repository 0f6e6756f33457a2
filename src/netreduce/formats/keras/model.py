"""Networks from live Keras models."""

from __future__ import annotations

import sys
from typing import Any

from netreduce.errors import ModelFileError, UnsupportedLayerError
from netreduce.network import Network

from .build import build_network
from .config import origin, parse_json, parse_model
from .layers import is_own_module
from .store import WeightsOfModel


def from_keras(model: Any) -> Network:
    """The network that a Keras model is, with its weights.

    Parameters
    ----------
    model : keras.Model
        A Sequential or Functional model, of Keras 3 or tf_keras, with one input of known shape and
        one output.

    Returns
    -------
    Network
        Computes what the model computes at inference.

    Raises
    ------
    ModelFileError
        Not a Keras model, or weights that are NaN or infinite.
    UnsupportedLayerError
        A layer, function or topology that `Network` cannot express: names the layer.

    Examples
    --------
    >>> import keras
    >>> import netreduce as nr
    >>> inputs = keras.Input((8, 8, 3))
    >>> model = keras.Model(inputs, keras.layers.Conv2D(4, 3, padding="same")(inputs))
    >>> network = nr.from_keras(model)
    >>> network.shapes
    ((8, 8, 4),)
    """
    if not all(hasattr(model, name) for name in ("to_json", "get_layer", "layers")):
        raise ModelFileError(f"expected a Keras model, found {type(model).__name__}")
    for layer in _leaves(model):
        for made in (layer, getattr(layer, "activation", None)):
            module = getattr(made, "__module__", None)
            if made is not None and not is_own_module(module):
                raise UnsupportedLayerError(
                    f"layer {layer.name!r}: {getattr(made, '__name__', type(made).__name__)} is"
                    f" the user's own (module {module!r}), not Keras'"
                )
    version = getattr(sys.modules.get(type(model).__module__.split(".")[0]), "__version__", None)
    parsed = parse_model(parse_json(model.to_json(), "the configuration"), origin(version, None))
    return build_network(parsed, WeightsOfModel(model, parsed.layers))


def _leaves(model: Any) -> list[Any]:
    return [
        leaf
        for layer in model.layers
        for leaf in (_leaves(layer) if hasattr(layer, "layers") else [layer])
    ]
