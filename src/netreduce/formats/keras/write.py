"""Networks as Keras models: configurations in the form of Keras 2, which Keras 3 reads as well.

Layers that Keras has no class for are written as several that compute the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from netreduce.errors import UnsupportedLayerError
from netreduce.network import INPUT, Network
from netreduce.network.layers import (
    Activation,
    ActivationGrid,
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
    Layer,
    MaxPooling2D,
    Multiply,
    Normalization,
    Permute,
    PReLU,
    Rescaling,
    Reshape,
    Shape,
    Subtract,
    UpSampling2D,
    ZeroPadding2D,
    padding_widths,
)

from .config import keras_order
from .layers import GRID

INPUT_NAME = "input_1"
# What Keras calls a function that has another name here, and functions that Keras 2 had not, or
# computes otherwise.
NAMES = {"hard_swish": "hard_silu"}
OF_KERAS_3 = ("hard_sigmoid", "hard_silu", "log_softmax", "mish")
OWN = ("gelu_tanh", "hard_sigmoid_keras2")  # Keras has no name for these
NOT_NEGATIVE = ("relu", "relu6", "sigmoid", "hard_sigmoid", "softplus", "exponential", "softmax")


@dataclass(frozen=True)
class Written:
    """A layer as Keras has it, with its arrays in order; `sources` are indices, INPUT the input."""

    name: str
    kind: str
    settings: dict
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    sources: tuple[int, ...] = ()
    few_values: bool = False


def written_layers(network: Network) -> list[Written]:
    """The layers of the Keras model, in topological order."""
    found: list[Written] = []
    place = {INPUT: INPUT}  # of the last part of every layer
    for index, (name, layer, sources) in enumerate(
        zip(network.names, network.layers, network.sources or (), strict=True)
    ):
        inputs = [network.input_shape if s == INPUT else network.shapes[s] for s in sources]
        before = [None if s == INPUT else network.layers[s] for s in sources]
        try:
            parts = _parts(layer, inputs, before)
        except UnsupportedLayerError as error:
            raise UnsupportedLayerError(f"layer {name!r}: {error}") from None
        reads = tuple(place[source] for source in sources)
        for part_name, part in parts:
            shape = inputs[0]
            entry = Written(
                name + part_name,
                keras_class(part),
                _settings(part, shape),
                _arrays(part, shape),
                reads,
                getattr(part, "quantization", None) is not None,
            )
            found.append(entry)
            reads, inputs = (len(found) - 1,), [part.output_shape(*inputs)]
        place[index] = len(found) - 1
    return found


def config_of_network(network: Network) -> dict:
    """`class_name` and `config` of the Keras model: Sequential where the network is a sequence,
    else Functional.
    """
    dtype = str(network.dtype)
    input_layer: dict = {
        "class_name": "InputLayer",
        "config": {
            "batch_input_shape": [None, *network.input_shape],
            "dtype": dtype,
            "sparse": False,
            "ragged": False,
            "name": INPUT_NAME,
        },
    }
    written = written_layers(network)
    entries = [
        input_layer,
        *(
            {
                "class_name": layer.kind,
                "config": {
                    "name": layer.name,
                    "trainable": True,
                    "dtype": dtype,
                    **layer.settings,
                },
            }
            for layer in written
        ),
    ]
    if network.is_sequence:
        return {"class_name": "Sequential", "config": {"name": "sequential", "layers": entries}}
    all_sources = [layer.sources for layer in written]
    lost = sorted(set(range(len(written))) - set(keras_order(all_sources)))
    if lost:
        raise UnsupportedLayerError(
            f"layer {written[lost[0]].name} does not lead to the output and cannot be written"
        )
    names = [*(layer.name for layer in written), INPUT_NAME]  # INPUT is −1
    for entry, sources in zip(entries, [(), *all_sources], strict=True):
        entry["name"] = entry["config"]["name"]
        entry["inbound_nodes"] = (
            [[[names[source], 0, 0, {}] for source in sources]] if sources else []
        )
    config = {
        "name": "functional",
        "layers": entries,
        "input_layers": [INPUT_NAME, 0, 0],
        "output_layers": [written[-1].name, 0, 0],
    }
    return {"class_name": "Functional", "config": config}


def needs_keras_3(network: Network) -> bool:
    """Whether a function of the network is none of Keras 2's."""
    return any(layer.settings.get("activation") in OF_KERAS_3 for layer in written_layers(network))


def keras_class(layer: Layer) -> str:
    """Name of the Keras class that computes what the layer computes; Keras has none for grids of
    activations, and reads no file with GRID unless a class is registered by that name.
    """
    if isinstance(layer, ActivationGrid):
        return GRID
    if isinstance(layer, Activation):
        if layer.max_value is not None or layer.threshold:
            return "ReLU"
        if layer.name == "leaky_relu":
            return "LeakyReLU"
        if layer.alpha != 1:
            return "ELU"
    return type(layer).__name__


def _parts(
    layer: Layer, inputs: list[Shape], before: list[Layer | None]
) -> list[tuple[str, Layer]]:
    """Layers that Keras has and that compute the same one after the other, with what their names
    have behind that of the layer.
    """
    shape = inputs[0]
    if isinstance(layer, Activation) and layer.name in OWN:
        return _own_function(layer.name)
    activation = getattr(layer, "activation", "linear")
    if activation in OWN:
        linear = _parts(layer.replace(activation="linear"), inputs, before)
        return [*linear, *_own_function(activation)]
    match layer:
        case Conv2D() | DepthwiseConv2D():
            widths = layer.padding_widths(shape)
            if isinstance(layer.padding, str):
                return [("", layer)]
            same = padding_widths(
                shape[:2], layer.kernel.shape[:2], layer.strides, "same", layer.dilation
            )
            return _padded(layer, layer.padding, widths == same)
        case MaxPooling2D() | AveragePooling2D():
            return _pooling_parts(layer, shape, before[0])
        case Conv2DTranspose():
            return _transposed_parts(layer, shape)
        case Normalization() if sum(n > 1 for n in _normalized(layer, shape)) > 1:
            mean, variance = (
                np.broadcast_to(array, shape).ravel() for array in (layer.mean, layer.variance)
            )
            flat = Normalization(mean, variance)
            return [("_flat", Flatten()), ("", flat), ("_shape", Reshape(shape))]
    return [("", layer)]


def _own_function(name: str) -> list[tuple[str, Layer]]:
    if name == "hard_sigmoid_keras2":
        return [
            ("_scaled", Rescaling(np.array(0.2, np.float32), np.array(0.5, np.float32))),
            ("_clipped", Activation("relu", max_value=1.0)),
        ]
    raise UnsupportedLayerError(f"Keras has no name for the activation {name!r}")


def _padded(
    layer: Conv2D | DepthwiseConv2D | MaxPooling2D | AveragePooling2D,
    sides: tuple[int, int, int, int],
    is_same: bool,
) -> list[tuple[str, Layer]]:
    if not any(sides):
        return [("", layer.replace(padding="valid"))]
    if is_same:
        return [("", layer.replace(padding="same"))]
    return [("_padding", ZeroPadding2D(sides)), ("", layer.replace(padding="valid"))]


def _pooling_parts(
    layer: MaxPooling2D | AveragePooling2D, shape: Shape, before: Layer | None
) -> list[tuple[str, Layer]]:
    counted = isinstance(layer, AveragePooling2D) and layer.count_padding
    (top, bottom), (left, right) = widths = layer.padding_widths(shape)
    sides = (top, bottom, left, right)
    same = padding_widths(shape[:2], layer.pool_size, layer.strides or (1, 1), "same")
    if counted:
        return _padded(layer.replace(count_padding=False), sides, False)
    if isinstance(layer.padding, str):
        return [("", layer)]
    if widths != same and any(sides):
        function = getattr(before, "activation", getattr(before, "name", None))
        if isinstance(layer, AveragePooling2D) or function not in NOT_NEGATIVE:
            raise UnsupportedLayerError(
                f"Keras has no padding {layer.padding} of pooling for inputs of shape {shape}, only"
                " 'valid' and 'same'"
            )
    return _padded(layer, sides, widths == same)


def _transposed_parts(layer: Conv2DTranspose, shape: Shape) -> list[tuple[str, Layer]]:
    """Four numbers of padding are cut off behind a "valid" one."""
    if isinstance(layer.padding, str):
        return [("", layer)]
    more, cut = [], []
    for axis, (start, length) in enumerate(layer.crop(shape)):
        span = (shape[axis] - 1) * layer.strides[axis] + layer.kernel.shape[axis]
        more.append(max(start + length - span, layer.strides[axis] - layer.kernel.shape[axis], 0))
        cut += [start, span + more[-1] - start - length]
    whole = layer.replace(padding="valid", output_padding=tuple(more))
    return [("", whole), *([("_cropping", Cropping2D(tuple(cut)))] if any(cut) else [])]


def _settings(layer: Layer, shape: Shape) -> dict:
    """The settings of the Keras class, but for name and type."""
    for kind, settings in SETTINGS.items():
        if isinstance(layer, kind):
            return settings(layer, shape)
    raise UnsupportedLayerError(
        f"layers of type {type(layer).__name__} cannot be written as Keras layers"
    )


def _arrays(layer: Layer, shape: Shape) -> dict[str, np.ndarray]:
    if isinstance(layer, Rescaling | Normalization):
        return {}  # in the settings
    if isinstance(layer, PReLU):
        return {"alpha": layer.alpha.reshape(_spread(layer.alpha, shape))}
    return layer.arrays()


def _spread(array: np.ndarray, shape: Shape) -> Shape:
    """The shape of an array with as many axes as what it is broadcast against."""
    return (1,) * (len(shape) - array.ndim) + array.shape


def _window_settings(layer: Conv2D | DepthwiseConv2D | Conv2DTranspose) -> dict:
    dilation = getattr(layer, "dilation", (1, 1))
    return {
        "kernel_size": layer.kernel.shape[:2],
        "strides": layer.strides,
        "padding": layer.padding,
        "data_format": "channels_last",
        "dilation_rate": dilation,
        "activation": NAMES.get(layer.activation, layer.activation),
        "use_bias": True,
    }


def _conv_settings(layer: Conv2D, shape: Shape) -> dict:
    groups = {"groups": layer.groups} if layer.groups > 1 else {}
    return {"filters": layer.outputs, **_window_settings(layer), **groups}


def _transposed_settings(layer: Conv2DTranspose, shape: Shape) -> dict:
    more = {} if layer.output_padding is None else {"output_padding": layer.output_padding}
    return {"filters": layer.outputs, **_window_settings(layer), **more}


def _pooling_settings(layer: MaxPooling2D | AveragePooling2D, shape: Shape) -> dict:
    return {
        "pool_size": layer.pool_size,
        "padding": layer.padding,
        "strides": layer.strides,
        "data_format": "channels_last",
    }


def _activation_settings(layer: Activation, shape: Shape) -> dict:
    match keras_class(layer):
        case "ReLU":
            return {
                "max_value": layer.max_value,
                "negative_slope": layer.negative_slope if layer.name == "leaky_relu" else 0.0,
                "threshold": layer.threshold,
            }
        case "LeakyReLU":
            return {"alpha": layer.negative_slope}
        case "ELU":
            return {"alpha": layer.alpha}
    return {"activation": NAMES.get(layer.name, layer.name)}


def _normalized(layer: Normalization, shape: Shape) -> Shape:
    """The shape of its arrays together, with as many axes as the input."""
    spread = np.broadcast_shapes(layer.mean.shape, layer.variance.shape)
    return (1,) * (len(shape) - len(spread)) + spread


def _normalization_settings(layer: Normalization, shape: Shape) -> dict:
    """Along one axis, or along none: of a list of axes Keras forgets when it reads Keras 2."""
    spread = _normalized(layer, shape)
    stored = [n for n in spread if n > 1]
    mean, variance = (
        np.broadcast_to(array, spread).reshape(stored).tolist()
        for array in (layer.mean, layer.variance)
    )
    axes = [axis for axis, n in enumerate(spread, start=1) if n > 1]
    return {"axis": axes[0] if axes else None, "mean": mean, "variance": variance}


def _prelu_settings(layer: PReLU, shape: Shape) -> dict:
    spread = _spread(layer.alpha, shape)
    return {"shared_axes": [axis for axis, n in enumerate(spread, start=1) if n == 1] or None}


def _sides(sides: tuple[int, int, int, int]) -> list[list[int]]:
    top, bottom, left, right = sides
    return [[top, bottom], [left, right]]


SETTINGS: dict[type[Layer], Callable[..., dict]] = {
    Dense: lambda layer, shape: {
        "units": layer.outputs,
        "activation": NAMES.get(layer.activation, layer.activation),
        "use_bias": True,
    },
    Conv2D: _conv_settings,
    DepthwiseConv2D: lambda layer, shape: {
        "depth_multiplier": layer.kernel.shape[3],
        **_window_settings(layer),
    },
    Conv2DTranspose: _transposed_settings,
    BatchNormalization: lambda layer, shape: {
        "axis": -1,
        "epsilon": layer.epsilon,
        "center": True,
        "scale": True,
    },
    MaxPooling2D: _pooling_settings,
    AveragePooling2D: _pooling_settings,
    Dropout: lambda layer, shape: {"rate": layer.rate},
    ActivationGrid: lambda layer, shape: {
        "scale": layer.scale,
        "zero_point": layer.zero_point,
        "bits": layer.bits,
    },
    Activation: _activation_settings,
    PReLU: _prelu_settings,
    Rescaling: lambda layer, shape: {
        "scale": layer.scale.tolist(),
        "offset": layer.offset.tolist(),
    },
    Normalization: _normalization_settings,
    Concatenate: lambda layer, shape: {"axis": -1},
    **dict.fromkeys(
        (Flatten, GlobalAveragePooling2D, GlobalMaxPooling2D),
        lambda layer, shape: {"data_format": "channels_last"},
    ),
    Reshape: lambda layer, shape: {"target_shape": layer.shape},
    Permute: lambda layer, shape: {"dims": layer.order},
    ZeroPadding2D: lambda layer, shape: {
        "padding": _sides(layer.padding),
        "data_format": "channels_last",
    },
    Cropping2D: lambda layer, shape: {
        "cropping": _sides(layer.cropping),
        "data_format": "channels_last",
    },
    UpSampling2D: lambda layer, shape: {
        "size": layer.size,
        "interpolation": layer.interpolation,
        "data_format": "channels_last",
    },
    **dict.fromkeys((Add, Subtract, Multiply), lambda layer, shape: {}),
}
