"""Keras configurations: Sequential and Functional models, as Keras 1, 2 and 3 write them, models
inside models included.
"""

from __future__ import annotations

import heapq
import json
import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from netreduce.errors import ModelFileError, UnsupportedLayerError
from netreduce.network import INPUT

from .layers import UNKNOWN, KerasLayer, Origin

log = logging.getLogger(__name__)

ROUNDING = {"float16": "1e-3", "bfloat16": "1e-2"}
MODELS = ("Sequential", "Functional", "Model")
STATED = "stated input shape"


@dataclass(frozen=True)
class KerasModel:
    """A model's layers in topological order and the shape of its input; a source that is no layer's
    name is the input.
    """

    layers: tuple[KerasLayer, ...]
    input_shape: tuple[int, ...]

    @property
    def keras_layers(self) -> list[KerasLayer]:
        """The layers in the order that Keras gives them."""
        return layers_in_order(self.layers)


def layers_in_order(layers: Sequence[KerasLayer]) -> list[KerasLayer]:
    """The layers of a model in the order that Keras gives them."""
    return [layers[i] for i in keras_order(_sources(layers))]


def parse_json(text: object, what: str) -> dict:
    """JSON as an object; raises ModelFileError."""
    try:
        value = json.loads(text)  # type: ignore[arg-type]
    except (ValueError, RecursionError, TypeError) as error:
        raise ModelFileError(f"{what} is not valid JSON ({error})") from None
    if not isinstance(value, dict):
        raise ModelFileError(f"{what} must be a JSON object, found {type(value).__name__}")
    return value


def origin(version: object, backend: object) -> Origin:
    """What wrote a file, from its keras_version and backend, which may be missing."""
    version, backend = (
        value.decode("utf-8", "replace") if isinstance(value, bytes) else value
        for value in (version, backend)
    )
    numbers = re.match(r"(\d{1,4})\.(\d{1,4})", version) if isinstance(version, str) else None
    return Origin(
        (int(numbers[1]), int(numbers[2])) if numbers else None,
        backend if isinstance(backend, str) else None,
    )


def parse_model(model: dict, written_by: Origin = UNKNOWN) -> KerasModel:
    """Layers and graph of a Sequential or Functional model from its `class_name` and `config`."""
    kind, config = model.get("class_name"), model.get("config")
    if kind not in MODELS:
        raise UnsupportedLayerError(
            f"model of class {kind!r} is not supported, expected Sequential or Functional"
        )
    KerasLayer(str(kind), str(kind)).check_own(model)
    if written_by.version is None and "module" in model and "keras_version" not in model:
        written_by = written_by._replace(version=(3, 0))  # the form of Keras 3
    layers, first, shape = _model(_Place("", written_by), kind, _plain(config))
    if not layers and kind == "Sequential":
        raise ModelFileError("the model has no layers")
    leaves = _leaves(layers)
    _check_unique([layer.name for layer in leaves])
    _check_precision(leaves)
    return KerasModel(layers, _input_shape(first, shape))


def _check_precision(layers: Sequence[KerasLayer]) -> None:
    """Refuse layers that Keras has quantized; say that those which compute in two bytes in Keras
    compute in float32 here.
    """
    for layer in layers:
        if "_from_" in layer.computes_in:
            raise layer.unsupported(
                f"quantized by Keras (dtype policy {layer.computes_in!r}), which is not supported:"
                " give the model as it was before model.quantize"
            )
    short = {layer.name: layer.computes_in for layer in layers if layer.computes_in in ROUNDING}
    if short:
        name, kind = next(iter(short.items()))
        log.warning(
            "layer %r%s: Keras computes in %s, netreduce in float32; their outputs differ by the"
            " rounding in Keras, about %s of the largest one",
            name,
            f" and {len(short) - 1} more" if len(short) > 1 else "",
            kind,
            ROUNDING[kind],
        )


def _leaves(layers: Sequence[KerasLayer]) -> list[KerasLayer]:
    return [
        leaf for layer in layers for leaf in (_leaves(layer.layers) if layer.layers else [layer])
    ]


@dataclass(frozen=True)
class _Place:
    """Where a model lies: the names of those around it, and what wrote the file."""

    prefix: str
    origin: Origin


def _model(
    place: _Place, kind: str, config: object
) -> tuple[tuple[KerasLayer, ...], KerasLayer, object]:
    """Layers of a model, its first one, and the input shape as it is stated there."""
    return (_sequential if kind == "Sequential" else _functional)(place, config)


def _plain(value: object) -> object:
    """Arrays that are written as objects, as the numbers or lists that they are."""
    if isinstance(value, dict):
        if value.get("type") == "ndarray" and "value" in value:
            return value["value"]
        if value.get("class_name") == "__numpy__" and isinstance(value.get("config"), dict):
            return value["config"].get("value")
        return {key: _plain(child) for key, child in value.items()}
    if isinstance(value, list):
        return [_plain(child) for child in value]
    return value


def keras_order(sources: Sequence[tuple[int, ...]]) -> list[int]:
    """Indices of a graph's layers in the order in which Keras lists them and stores their weights.

    Farthest from the output first (by the longest path); among equals, as a depth-first walk from
    the output meets them.
    """
    last = len(sources) - 1
    distance: dict[int, int] = {last: 0}
    met: dict[int, int] = {}
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


def _sources(layers: Sequence[KerasLayer]) -> list[tuple[int, ...]]:
    """Indices of the layers that each layer reads, INPUT for the model's input."""
    indices = {layer.name: i for i, layer in enumerate(layers)}
    return [tuple(indices.get(source, INPUT) for source in layer.sources) for layer in layers]


def _sequential(place: _Place, config: object) -> tuple[tuple[KerasLayer, ...], KerasLayer, object]:
    # a list in Keras 1 and early 2
    entries = config if isinstance(config, list) else _object(config).get("layers")
    layers = [_entry(place, entry) for entry in _list(entries, "layers of the model")]
    if not layers:
        raise ModelFileError("the model has no layers")
    first = layers[0]
    shape = first.get("batch_shape", "batch_input_shape")
    if shape is None and isinstance(config, dict):
        shape = config.get("build_input_shape")
    if shape is None and first.kind in MODELS:
        shape = first.settings.get(STATED)
    if first.kind == "InputLayer":
        layers = layers[1:]
    names = ["", *(layer.name for layer in layers)]
    _check_unique(names)
    chained = [replace(layer, sources=(names[i],)) for i, layer in enumerate(layers)]
    return tuple(chained), first, shape


def _functional(place: _Place, config: object) -> tuple[tuple[KerasLayer, ...], KerasLayer, object]:
    config = _object(config)
    entries = _list(config.get("layers"), "layers of the model")
    outputs, inputs = (
        place.prefix + _endpoints(config.get(f"{what}_layers"), what)
        for what in ("output", "input")
    )
    parsed = [_entry(place, raw) for raw in entries]
    models = {entry.name for entry in parsed if entry.kind in MODELS}
    layers = []
    for raw, entry in zip(entries, parsed, strict=True):
        nodes = _list(raw.get("inbound_nodes"), f"inbound_nodes of layer {entry.name!r}")
        if len(nodes) > 1:
            raise entry.unsupported(
                f"the layer is shared: called {len(nodes)} times, expected once"
            )
        sources = tuple(
            place.prefix + source
            for node in nodes
            for source in _node_sources(entry, node, models, place.prefix)
        )
        layers.append(replace(entry, sources=sources))
    _check_unique([layer.name for layer in layers])
    by_name = {layer.name: layer for layer in layers}
    if inputs not in by_name or by_name[inputs].kind != "InputLayer":
        raise ModelFileError(f"the input layer {inputs!r} is not among the layers")
    if sum(layer.kind == "InputLayer" for layer in layers) > 1:
        raise UnsupportedLayerError("models with several inputs are not supported, expected one")
    ordered = [layer for layer in _topological(layers, by_name) if layer.name != inputs]
    if (
        not ordered
        or ordered[-1].name != outputs
        or len(keras_order(_sources(ordered))) < len(ordered)
    ):
        raise UnsupportedLayerError(
            f"the model has layers that do not lead to its output {outputs!r}"
        )
    first = by_name[inputs]
    return tuple(ordered), first, first.get("batch_shape", "batch_input_shape")


def _topological(
    layers: Sequence[KerasLayer], by_name: Mapping[str, KerasLayer]
) -> list[KerasLayer]:
    """The layers so that each comes after those it reads, else in the order of the file."""
    for layer in layers:
        for source in layer.sources:
            if source not in by_name:
                raise layer.error(f"reads layer {source!r}, which does not exist")
        if not layer.sources and layer.kind != "InputLayer":
            raise layer.error("reads no layer")
    position = {layer.name: i for i, layer in enumerate(layers)}
    waiting = {layer.name: len(set(layer.sources)) for layer in layers}
    readers: dict[str, list[str]] = {layer.name: [] for layer in layers}
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


def _entry(place: _Place, raw: object) -> KerasLayer:
    if (
        not isinstance(raw, dict)
        or not isinstance(raw.get("class_name"), str)
        or not isinstance(raw.get("config"), dict | list)
    ):
        raise ModelFileError(f"a layer must have a class_name and a config, found {str(raw)[:100]}")
    kind, settings = raw["class_name"], raw["config"]
    name = raw.get("name", settings.get("name") if isinstance(settings, dict) else kind.lower())
    if not isinstance(name, str):
        raise ModelFileError(f"a layer of class {kind} has no name")
    entry = KerasLayer(
        place.prefix + name,
        kind,
        settings if isinstance(settings, dict) else {},
        origin=place.origin,
        is_operation=".ops" in str(raw.get("module")),
    )
    entry.check_own(raw)
    if kind not in MODELS:
        if "layers" in entry.settings or isinstance(settings, list):
            raise entry.unsupported("models of this class inside models are not supported")
        return entry
    layers, _, shape = _model(_Place(f"{entry.name}/", place.origin), kind, settings)
    trainable = entry.settings.get("trainable", True)
    return replace(entry, layers=layers, settings={STATED: shape, "trainable": trainable})


def _node_sources(
    entry: KerasLayer, node: object, models: Collection[str], prefix: str
) -> list[str]:
    """Names of the layers that one call reads: [[name, 0, 0, {}], …] in Keras 1 and 2, tensors
    inside args in Keras 3.
    """
    references = node
    if isinstance(node, dict):
        args, kwargs = node.get("args"), node.get("kwargs")
        if _histories(kwargs):
            raise entry.unsupported("tensors passed by keyword are not supported")
        if any(arg is not None and not _histories(arg) for arg in _list(args, "args of a call")):
            raise entry.unsupported(f"called with more than tensors, {str(args)[:100]}")
        references = _histories(args)
        _check_call(entry, kwargs)
    sources = []
    for reference in _list(references, f"inbound_nodes of layer {entry.name!r}"):
        if (
            not isinstance(reference, list)
            or len(reference) < 3
            or not isinstance(reference[0], str)
        ):
            raise entry.error(f"inbound node {str(reference)[:100]} is not [layer, node, tensor]")
        calls = (0, 1) if prefix + reference[0] in models else (0,)  # call 0 of a model is its own
        if reference[1] not in calls or reference[2] != 0:
            raise entry.unsupported(
                f"reads call {reference[1]}, output {reference[2]} of layer {reference[0]!r},"
                " expected 0, 0"
            )
        _check_call(entry, reference[3] if len(reference) > 3 else None)
        sources.append(reference[0])
    return sources


def _check_call(entry: KerasLayer, keywords: object) -> None:
    """Refuse calls that compute something else, such as what training=True does."""
    given = keywords if isinstance(keywords, dict) else {}
    if any(value not in (None, False) for value in given.values()):
        raise entry.unsupported(f"called with {str(given)[:100]}, which is not supported")


def _histories(value: object) -> list:
    if isinstance(value, dict):
        if value.get("class_name") == "__keras_tensor__":
            return [value["config"]["keras_history"]]
        return [found for item in value.values() for found in _histories(item)]
    if isinstance(value, list):
        return [found for item in value for found in _histories(item)]
    return []


def _endpoints(value: object, what: str) -> str:
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


def _list(value: object, what: str) -> list:
    if not isinstance(value, list):
        raise ModelFileError(f"{what} must be a list, found {type(value).__name__}")
    return value


def _object(value: object) -> dict:
    if not isinstance(value, dict):
        raise ModelFileError(f"config of the model must be an object, found {type(value).__name__}")
    return value


def _check_unique(names: Sequence[str]) -> None:
    if len(set(names)) < len(names):
        raise ModelFileError(
            "two layers have the same name"
            f" {next(name for name in names if names.count(name) > 1)!r}"
        )


def _input_shape(layer: KerasLayer, batch_shape: object) -> tuple[int, ...]:
    if isinstance(batch_shape, list) and len(batch_shape) == 1 and isinstance(batch_shape[0], list):
        batch_shape = batch_shape[0]
    if not isinstance(batch_shape, list) or len(batch_shape) < 2:
        raise layer.error(f"the model must state its input shape, found {batch_shape!r}")
    if None in batch_shape[1:]:
        raise layer.unsupported(f"inputs of variable size are not supported, found {batch_shape}")
    return tuple(layer.positive("input shape", n) for n in batch_shape[1:])
