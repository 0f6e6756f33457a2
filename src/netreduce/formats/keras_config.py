"""Networks as Keras configurations: Sequential and Functional models, the form of Keras 1, 2 and 3
in, that of Keras 2 out.
"""

import heapq
import json
from collections.abc import Sequence
from dataclasses import dataclass

from netreduce.errors import ModelFileError, NetreduceError, UnsupportedLayerError
from netreduce.network import INPUT, Network

from .keras_layers import READERS, KerasLayer, WeightReader, keras_class, keras_settings

INPUT_NAME = "input_1"
MERGING = ("Add", "Concatenate")


def parse_json(text: str | bytes, what: str):
    """JSON as an object; raises ModelFileError."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError, TypeError) as error:
        raise ModelFileError(f"{what} is not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise ModelFileError(f"{what} must be a JSON object, found {type(value).__name__}")
    return value


@dataclass(frozen=True)
class KerasModel:
    """A model's layers in topological order and the shape of its input; a source that is no layer's
    name is the input.
    """

    layers: list[KerasLayer]
    input_shape: tuple[int, ...]

    @property
    def sources(self) -> list[tuple[int, ...]]:
        """Indices of the layers that each layer reads, INPUT for the model's input."""
        indices = {layer.name: i for i, layer in enumerate(self.layers)}
        return [
            tuple(indices.get(source, INPUT) for source in layer.sources) for layer in self.layers
        ]

    @property
    def keras_layers(self) -> list[KerasLayer]:
        """The layers in the order that Keras gives them."""
        return [self.layers[i] for i in keras_order(self.sources)]


def parse_model(model: dict) -> KerasModel:
    """Layers and graph of a Sequential or Functional model from its `class_name` and `config`."""
    kind, config = model.get("class_name"), model.get("config")
    if kind == "Sequential":
        return _sequential(config)
    if kind in ("Functional", "Model"):
        return _functional(config)
    raise UnsupportedLayerError(
        f"model of class {kind!r} is not supported, expected Sequential or Functional"
    )


def build_network(model: KerasModel, weights: WeightReader) -> Network:
    """The network of a parsed model; `weights` is asked once for every layer that has some."""
    layers, shapes = [], {INPUT: model.input_shape}
    for index, (entry, sources) in enumerate(zip(model.layers, model.sources, strict=True)):
        if entry.kind not in READERS:
            raise entry.unsupported(
                f"layers of this class are not supported; known: {', '.join(READERS)}"
            )
        inputs = [shapes[source] for source in sources]
        if len(inputs) > 1 and entry.kind not in MERGING:
            raise entry.error(f"reads {len(inputs)} layers, expected one")
        try:
            layer = READERS[entry.kind](entry, inputs[0], weights)
            shapes[index] = layer.output_shape(*inputs)
        except (ModelFileError, UnsupportedLayerError):
            raise
        except (NetreduceError, TypeError) as error:
            raise entry.error(error) from None
        layers.append(layer)
    return Network(layers, model.input_shape, model.sources)


def keras_order(sources: Sequence[tuple[int, ...]]) -> list[int]:
    """Indices of a graph's layers in the order in which Keras lists them and stores their weights.

    Farthest from the output first (by the longest path); among equals, as a depth-first walk from
    the output meets them.
    """
    last = len(sources) - 1
    distance, met = {last: 0}, {}
    for index in range(last, -1, -1):
        for source in sources[index]:
            if index in distance:
                distance[source] = max(distance.get(source, 0), distance[index] + 1)
    waiting = [last]
    while waiting:
        index = waiting.pop()
        if index not in met and index != INPUT:
            met[index] = len(met)
            waiting.extend(reversed(sources[index]))
    return sorted(met, key=lambda index: (-distance[index], met[index]))


def _sequential(config):
    # a list in Keras 1 and early 2
    entries = config if isinstance(config, list) else config.get("layers")
    layers = [_entry(entry) for entry in _list(entries, "layers of the model")]
    if not layers:
        raise ModelFileError("the model has no layers")
    shape = layers[0].get("batch_shape", "batch_input_shape")
    if shape is None and isinstance(config, dict):
        shape = config.get("build_input_shape")
    input_shape = _input_shape(layers[0], shape)
    if layers[0].kind == "InputLayer":
        layers = layers[1:]
    names = ["", *(layer.name for layer in layers)]
    _check_unique(names)
    return KerasModel(
        [
            KerasLayer(layer.name, layer.kind, layer.settings, (names[i],))
            for i, layer in enumerate(layers)
        ],
        input_shape,
    )


def _functional(config):
    entries = _list(config.get("layers"), "layers of the model")
    outputs = _endpoints(config.get("output_layers"), "output")
    inputs = _endpoints(config.get("input_layers"), "input")
    layers = []
    for raw in entries:
        entry = _entry(raw)
        nodes = _list(raw.get("inbound_nodes"), f"inbound_nodes of layer {entry.name!r}")
        if len(nodes) > 1:
            raise entry.unsupported(
                f"the layer is shared: called {len(nodes)} times, expected once"
            )
        sources = tuple(source for node in nodes for source in _node_sources(entry, node))
        layers.append(KerasLayer(entry.name, entry.kind, entry.settings, sources))
    _check_unique([layer.name for layer in layers])
    by_name = {layer.name: layer for layer in layers}
    if inputs not in by_name or by_name[inputs].kind != "InputLayer":
        raise ModelFileError(f"the input layer {inputs!r} is not among the layers")
    if sum(layer.kind == "InputLayer" for layer in layers) > 1:
        raise UnsupportedLayerError("models with several inputs are not supported, expected one")
    model = KerasModel(
        [layer for layer in _topological(layers, by_name) if layer.name != inputs],
        _input_shape(by_name[inputs], by_name[inputs].get("batch_shape", "batch_input_shape")),
    )
    if (
        not model.layers
        or model.layers[-1].name != outputs
        or len(keras_order(model.sources)) < len(model.layers)
    ):
        raise UnsupportedLayerError(
            f"the model has layers that do not lead to its output {outputs!r}"
        )
    return model


def _topological(layers, by_name):
    """The layers so that each comes after those it reads, else in the order of the file."""
    for layer in layers:
        for source in layer.sources:
            if source not in by_name:
                raise layer.error(f"reads layer {source!r}, which does not exist")
        if not layer.sources and layer.kind != "InputLayer":
            raise layer.error("reads no layer")
    position = {layer.name: i for i, layer in enumerate(layers)}
    waiting = {layer.name: len(set(layer.sources)) for layer in layers}
    readers = {layer.name: [] for layer in layers}
    for layer in layers:
        for source in set(layer.sources):
            readers[source].append(layer.name)
    ready = [position[name] for name, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    ordered = []
    while ready:
        layer = layers[heapq.heappop(ready)]
        ordered.append(layer)
        for name in readers[layer.name]:
            waiting[name] -= 1
            if waiting[name] == 0:
                heapq.heappush(ready, position[name])
    if len(ordered) < len(layers):
        raise ModelFileError(
            "the layers form a cycle:"
            f" {', '.join(sorted(name for name, count in waiting.items() if count))}"
        )
    return ordered


def _entry(raw):
    if (
        not isinstance(raw, dict)
        or not isinstance(raw.get("class_name"), str)
        or not isinstance(raw.get("config"), dict | list)
    ):
        raise ModelFileError(f"a layer must have a class_name and a config, found {str(raw)[:100]}")
    kind, settings = raw["class_name"], raw["config"]
    if isinstance(settings, list) or "layers" in settings:
        raise UnsupportedLayerError(
            f"model {raw.get('name', kind)!r} ({kind}): models inside models are not supported"
        )
    name = raw.get("name", settings.get("name"))
    if not isinstance(name, str):
        raise ModelFileError(f"a layer of class {kind} has no name")
    return KerasLayer(name, kind, settings)


def _node_sources(entry, node):
    """Names of the layers that one call reads: [[name, 0, 0, {}], …] in Keras 1 and 2, tensors
    inside args in Keras 3.
    """
    if isinstance(node, dict):
        if _histories(node.get("kwargs")):
            raise entry.unsupported("tensors passed by keyword are not supported")
        references = _histories(node.get("args"))
    else:
        references = node
    sources = []
    for reference in _list(references, f"inbound_nodes of layer {entry.name!r}"):
        if (
            not isinstance(reference, list)
            or len(reference) < 3
            or not isinstance(reference[0], str)
        ):
            raise entry.error(f"inbound node {str(reference)[:100]} is not [layer, node, tensor]")
        if reference[1:3] != [0, 0]:
            raise entry.unsupported(
                f"reads call {reference[1]}, output {reference[2]} of layer {reference[0]!r},"
                " expected 0, 0"
            )
        sources.append(reference[0])
    return sources


def _histories(value):
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            return [value["config"]["keras_history"]]
        return [found for item in value.values() for found in _histories(item)]
    if isinstance(value, list):
        return [found for item in value for found in _histories(item)]
    return []


def _endpoints(value, what):
    """The one layer name in input_layers or output_layers: [name, 0, 0] or [[name, 0, 0]]."""
    value = _list(value, f"{what}_layers of the model")
    if value and not isinstance(value[0], str):
        if len(value) != 1:
            raise UnsupportedLayerError(
                f"models with {len(value)} {what}s are not supported, expected one"
            )
        value = _list(value[0], f"{what}_layers of the model")
    if not value or not isinstance(value[0], str):
        raise ModelFileError(f"{what}_layers of the model name no layer")
    return value[0]


def _list(value, what):
    if not isinstance(value, list):
        raise ModelFileError(f"{what} must be a list, found {type(value).__name__}")
    return value


def _check_unique(names):
    if len(set(names)) < len(names):
        raise ModelFileError(
            "two layers have the same name"
            f" {next(name for name in names if names.count(name) > 1)!r}"
        )


def _input_shape(layer, batch_shape):
    if isinstance(batch_shape, list) and len(batch_shape) == 1 and isinstance(batch_shape[0], list):
        batch_shape = batch_shape[0]
    if not isinstance(batch_shape, list) or len(batch_shape) < 2:
        raise layer.error(f"the model must state its input shape, found {batch_shape!r}")
    if None in batch_shape[1:]:
        raise layer.unsupported(f"inputs of variable size are not supported, found {batch_shape}")
    return tuple(layer.positive("input shape", n) for n in batch_shape[1:])


def config_of_network(network: Network) -> dict:
    """`class_name` and `config` of the Keras model: Sequential where the network is a sequence,
    else Functional.
    """
    dtype = str(network.dtype)
    input_layer = {
        "class_name": "InputLayer",
        "config": {
            "batch_input_shape": [None, *network.input_shape],
            "dtype": dtype,
            "sparse": False,
            "ragged": False,
            "name": INPUT_NAME,
        },
    }
    entries = [
        input_layer,
        *(
            _written(name, layer, dtype)
            for name, layer in zip(network.names, network.layers, strict=True)
        ),
    ]
    if network.is_sequence:
        return {"class_name": "Sequential", "config": {"name": "sequential", "layers": entries}}
    lost = sorted(set(range(len(network.layers))) - set(keras_order(network.sources)))
    if lost:
        raise UnsupportedLayerError(
            f"layer {network.names[lost[0]]} does not lead to the output and cannot be written"
        )
    names = [*network.names, INPUT_NAME]  # INPUT is −1
    for entry, sources in zip(entries, [(), *network.sources], strict=True):
        entry["name"] = entry["config"]["name"]
        entry["inbound_nodes"] = (
            [[[names[source], 0, 0, {}] for source in sources]] if sources else []
        )
    config = {
        "name": "functional",
        "layers": entries,
        "input_layers": [INPUT_NAME, 0, 0],
        "output_layers": [network.names[-1], 0, 0],
    }
    return {"class_name": "Functional", "config": config}


def _written(name, layer, dtype):
    return {
        "class_name": keras_class(layer),
        "config": {"name": name, "trainable": True, "dtype": dtype, **keras_settings(layer)},
    }
