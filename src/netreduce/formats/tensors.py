"""Networks as named tensors in PyTorch's orientation: what a state_dict holds.

Dense kernels are transposed, convolution kernels go from (rows, columns, inputs, outputs) to
(outputs, inputs, rows, columns), and what follows a Flatten is reordered, since PyTorch flattens
images channel by channel.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from netreduce.errors import ModelFileError, UnsupportedLayerError
from netreduce.network import INPUT, Network
from netreduce.network.architectures import template
from netreduce.network.layers import (
    Activation,
    ActivationGrid,
    Add,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    Layer,
    Multiply,
    Normalization,
    PReLU,
    Rescaling,
    Subtract,
    Weighted,
)

from .guard import check_finite
from .kernels import turned
from .matching import Needed, match, natural_order

Architecture = Network | dict | str | Path | None
NORM_ROLES = {"weight": "gamma", "bias": "beta", "running_mean": "mean", "running_var": "variance"}
FIXED = (Rescaling, Normalization)  # no modules of PyTorch: other state_dicts lack their numbers
ADAPTER = re.compile(  # as the packages peft, lycoris and adapters name their tensors
    r"(^|[._])(lora_(a|b|up|down|embedding_[ab]|magnitude_vector)|(hada|lokr)_w[12](_[ab])?"
    r"|ia3_l|vera_lambda_[bd]|adapter_(down|up))($|[._])",
    re.IGNORECASE,
)
COUNTER = "num_batches_tracked"  # means nothing at inference


def to_tensors(network: Network) -> dict[str, np.ndarray]:
    """The parameters of a network by state_dict name (dense_1.weight, conv2d_1.bias,
    batch_normalization_1.running_mean, …).
    """
    orders = feature_orders(network)
    return {
        f"{name}.{role}": np.ascontiguousarray(array)
        for name, layer, (source, *_) in zip(
            network.names, network.layers, network.sources or (), strict=True
        )
        for role, array in _roles(layer, orders[source]).items()
    }


def from_tensors(
    tensors: Mapping[str, np.ndarray],
    template: Network,
    flat: bool = False,
    ordered: bool = True,
    labels: Mapping[str, str] | None = None,
) -> Network:
    """A network with the template's layers and these parameters.

    Tensors of other names are matched by their roles (weight, bias, running_mean, running_var),
    their shapes, the numbers in their names and their order: see `netreduce.formats.matching`. A
    layer that feeds batch normalization may lack its bias.

    Parameters
    ----------
    tensors : mapping of str to ndarray
        In the order of the state_dict.
    template : Network
    flat : bool
        Whether the tensors have lost their shapes.
    ordered : bool
        Whether the tensors may stand in the order of the layers.
    labels : mapping of str to str, optional
        What messages call the tensors.

    Raises
    ------
    ModelFileError
        Tensors that do not fit: names them, the shape found and the shape expected.
    """
    labels = {name: f"tensor {name!r}" for name in tensors} | dict(labels or {})
    orders = feature_orders(template)
    found = _matched(tensors, template, flat, ordered)
    layers = {}
    for index, (name, layer) in enumerate(zip(template.names, template.layers, strict=True)):
        sources = (template.sources or ())[index]
        if isinstance(layer, FIXED) and not any(key.startswith(f"{name}.") for key in found):
            continue
        order = orders[sources[0]]
        arrays = {}
        for role, expected in _roles(layer, None).items():
            key = found.get(f"{name}.{role}")
            if key is None:
                arrays[role] = np.zeros(expected.shape, np.float32)
                continue
            array = _fitted(tensors[key], expected.shape, flat, labels[key])
            # the file may be mapped into memory: nothing of it stays, and kernels are turned
            arrays[role] = array if isinstance(layer, Weighted) and array.ndim > 1 else array.copy()
        if arrays:
            layers[index] = _with_roles(layer, arrays, order)
    return template.replace(layers)


def network_of(
    tensors: Mapping[str, np.ndarray],
    architecture: Architecture,
    what: str,
    flat: bool = False,
    ordered: bool = True,
    labels: Mapping[str, str] | None = None,
) -> Network:
    """A network of that architecture with the tensors of a file; `what` names the kind of file.

    Raises
    ------
    ModelFileError
        No architecture, or one that the tensors do not fit; changes to a network (LoRA and its
        like) instead of its own weights.
    """
    changes = next((name for name in tensors if ADAPTER.search(name)), None)
    if changes is not None:
        raise ModelFileError(
            f"{what} of an adapter (LoRA or its like): tensor {changes!r} changes the weights of"
            " another network, which are not in this file; merge the two where that network is,"
            " model.merge_and_unload() with the package peft, and save the result"
        )
    if architecture is None:
        raise ModelFileError(f"{what} holds tensors only: an architecture must say what they are")
    if isinstance(architecture, Path):
        raise ModelFileError(f"a file as architecture goes with weights of Keras only, not {what}")
    sizes = _telling_sizes(tensors, ordered)
    network = template(architecture, sizes, "torch")
    if set(tensors) == _names(network):  # as networks trained and written here have them
        network = template(architecture, sizes)
    _check_shortcuts(tensors, architecture, network)
    return from_tensors(tensors, network, flat, ordered, labels)


def _names(network: Network) -> set[str]:
    """The names that the tensors of a network have."""
    return {
        f"{name}.{role}"
        for name, layer in zip(network.names, network.layers, strict=True)
        for role in _roles(layer, None)
    }


def _check_shortcuts(
    tensors: Mapping[str, np.ndarray], architecture: Architecture, network: Network
) -> None:
    """Refuse a residual network without projections where the architecture does not say how its
    shortcuts do without: names and shapes of tensors cannot tell.
    """
    given = {"name": architecture} if isinstance(architecture, str) else architecture
    if not isinstance(given, Mapping) or "shortcut" in given:
        return
    if not str(given.get("name")).startswith("resnet"):
        return
    modules = {name.rpartition(".")[0] for name in tensors}
    projections = sum(
        isinstance(layer, Conv2D) and layer.kernel.shape[:2] == (1, 1) for layer in network.layers
    )
    needed = {name.rpartition(".")[0] for name in _names(network)}
    if len(modules) == len(needed) - 2 * projections:  # and batch normalization
        raise ModelFileError(
            f"{given['name']}: the shortcuts of this file have no weights (option A), and programs"
            " differ in what they do instead: say it, as in {name: "
            f"{given['name']}, shortcut: A, reduce: stride, zeros: both}}, where reduce may be"
            " stride (every second pixel) or average (means of 2×2), and zeros both (half of the"
            " added channels at each end) or end"
        )


def _telling_sizes(tensors: Mapping[str, np.ndarray], ordered: bool) -> list[int]:
    """Numbers of values that tell inputs and classes: those of the first matrix, and the rows of
    the last one; those of all tensors where none is a matrix.
    """
    names = list(tensors) if ordered else sorted(tensors, key=natural_order)
    matrices = [tensors[name] for name in names if tensors[name].ndim == 2]
    if matrices:
        return [matrices[0].size, len(matrices[-1])]
    return [tensors[name].size for name in names]


def _roles(layer: Layer, order: np.ndarray | None) -> dict[str, np.ndarray]:
    """The layer's parameters by their role in PyTorch, as views where possible; `order` is that of
    its input features.
    """
    match layer:
        case Dense():
            kernel = layer.kernel if order is None else layer.kernel[order]
            return {"weight": kernel.T, "bias": layer.arrays()["bias"]}
        case Conv2D() | Conv2DTranspose():
            return {"weight": layer.kernel.transpose(3, 2, 0, 1), "bias": layer.arrays()["bias"]}
        case DepthwiseConv2D():
            rows, columns = layer.kernel.shape[:2]
            return {
                "weight": layer.kernel.reshape(rows, columns, 1, -1).transpose(3, 2, 0, 1),
                "bias": layer.arrays()["bias"],
            }
        case BatchNormalization():
            return {
                role: _channels_first(array, order)
                for role, array in zip(NORM_ROLES, layer.arrays().values(), strict=True)
            }
        case PReLU():
            return {"weight": _channels_first(layer.alpha, order)}
        case Rescaling() | Normalization():
            return {name: _channels_first(array, order) for name, array in layer.arrays().items()}
    return {}


def _with_roles(layer: Layer, arrays: Mapping[str, np.ndarray], order: np.ndarray | None) -> Layer:
    match layer:
        case BatchNormalization():
            return layer.replace(
                **{field: _unordered(arrays[role], order) for role, field in NORM_ROLES.items()}
            )
        case PReLU():
            return layer.replace(alpha=_channels_last(arrays["weight"], layer.alpha.shape, order))
        case Rescaling() | Normalization():
            return layer.replace(
                **{
                    name: _channels_last(array, getattr(layer, name).shape, order)
                    for name, array in arrays.items()
                }
            )
        case Dense():
            kernel = _unordered(turned(arrays["weight"]), order)
        case Weighted():
            kernel = turned(arrays["weight"]).reshape(layer.kernel.shape)
    return layer.replace(kernel=kernel, bias=arrays["bias"], quantization=None)


def _channels_first(array: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    """Numbers that broadcast against the input of a layer, as they stand in PyTorch."""
    if array.ndim == 3:
        return array.transpose(2, 0, 1)
    return np.atleast_1d(array) if order is None or array.size == 1 else array[order]


def _channels_last(
    array: np.ndarray, shape: tuple[int, ...], order: np.ndarray | None
) -> np.ndarray:
    if array.ndim == 3:
        return np.ascontiguousarray(array.transpose(1, 2, 0))
    return (array if array.size == 1 else _unordered(array, order)).reshape(shape)


def _unordered(array: np.ndarray, order: np.ndarray | None) -> np.ndarray:
    if order is None:
        return array
    result = np.empty_like(array)
    result[order] = array
    return result


def feature_orders(network: Network) -> dict[int, np.ndarray | None]:
    """For every layer, INPUT included, the order of its outputs' features in PyTorch: at place i
    stands feature order[i] of ours; None where they agree.

    Raises
    ------
    UnsupportedLayerError
        A layer combines features that stand in different orders.
    """
    orders: dict[int, np.ndarray | None] = {INPUT: None}
    shapes = {INPUT: network.input_shape, **dict(enumerate(network.shapes))}
    for index, (layer, sources) in enumerate(
        zip(network.layers, network.sources or (), strict=True)
    ):
        inputs = [orders[source] for source in sources]
        match layer:
            case Flatten() if len(shapes[sources[0]]) == 3:
                shape = shapes[sources[0]]
                orders[index] = np.arange(np.prod(shape)).reshape(shape).transpose(2, 0, 1).ravel()
                if shape[2] == 1 or shape[:2] == (1, 1):
                    orders[index] = None
            case ActivationGrid():
                raise UnsupportedLayerError(
                    f"{network.names[index]}: rounding of activations to a grid is not known to"
                    " PyTorch and text: export the network to .onnx, save it as .h5, or write the"
                    " one that was given to `quantize_activations`"
                )
            case Flatten() | Dropout() | Activation() | PReLU():
                orders[index] = inputs[0]
            case BatchNormalization() | Rescaling() | Normalization():
                orders[index] = inputs[0]
            case Add() | Subtract() | Multiply():
                if any(
                    order is None or inputs[0] is None or not np.array_equal(order, inputs[0])
                    for order in inputs
                    if order is not inputs[0]
                ):
                    raise UnsupportedLayerError(
                        f"{network.names[index]} combines features that PyTorch has in different"
                        " orders"
                    )
                orders[index] = inputs[0]
            case Concatenate() if any(order is not None for order in inputs):
                sizes = [shapes[source][0] for source in sources]
                parts = [
                    np.arange(size) if order is None else order
                    for size, order in zip(sizes, inputs, strict=True)
                ]
                orders[index] = np.concatenate(
                    [
                        part + offset
                        for part, offset in zip(parts, np.cumsum([0, *sizes]), strict=False)
                    ]
                )
            case _:
                orders[index] = None
    return orders


def _matched(
    tensors: Mapping[str, np.ndarray], template: Network, flat: bool, ordered: bool
) -> dict[str, str]:
    """For every tensor the template needs, the name of the tensor found; a bias that may be missing
    has none.
    """
    shape = (lambda array: array.size) if flat else (lambda array: array.shape)
    needed = [
        Needed(
            name,
            {role: shape(array) for role, array in _roles(layer, None).items()},
            _may_lack(template, index),
            _normalizes(template, index),
        )
        for index, (name, layer) in enumerate(zip(template.names, template.layers, strict=True))
        if layer.arrays()
    ]
    expected = {f"{layer.name}.{role}" for layer in needed for role in layer.roles}
    names = [name for name in tensors if not name.endswith(COUNTER)]
    if set(names) == expected:
        return {name: name for name in names}
    fixed = {
        name
        for name, layer in zip(template.names, template.layers, strict=True)
        if isinstance(layer, FIXED)
    }
    needed = [layer for layer in needed if layer.name not in fixed]
    modules: dict[str, dict[str, object]] = {}
    for name in names:
        module, _, role = name.rpartition(".")
        modules.setdefault(module, {})[role] = shape(tensors[name])
    found = match(modules, needed, ordered)
    if (
        found is None
        and len(modules) == len(needed)
        and all(
            layer.fits(roles, shapes=False)
            for roles, layer in zip(modules.values(), needed, strict=True)
        )
    ):
        found = list(modules)  # a tensor of another shape will be named
    if found is None:
        raise ModelFileError(_misfit(names, expected, needed))
    return {
        f"{layer.name}.{role}": f"{module}.{role}" if module else role
        for module, layer in zip(found, needed, strict=True)
        for role in modules[module]
    }


def _may_lack(template: Network, index: int) -> frozenset[str]:
    """What the module of a layer need not have: a bias where batch normalization follows."""
    readers = template.readers(index)
    normalized = readers and all(
        isinstance(template.layers[reader], BatchNormalization) for reader in readers
    )
    return frozenset({"bias"} if normalized else ())


def _normalizes(template: Network, index: int) -> bool:
    """Whether a layer is batch normalization of the layer with parameters just before it."""
    before = [i for i in range(index) if template.layers[i].arrays()]
    return isinstance(template.layers[index], BatchNormalization) and (
        (template.sources or ())[index] == tuple(before[-1:])
    )


def _misfit(names: list[str], expected: set[str], needed: list[Needed]) -> str:
    wanted = [f"{layer.name}.{role}" for layer in needed for role in layer.roles]
    missing = [name for name in wanted if name not in set(names)]
    extra = [name for name in names if name not in expected]
    if len(missing) < len(wanted):
        parts = [
            f"{word} {', '.join(found)}"
            for word, found in (("missing", missing), ("not expected", extra))
            if found
        ]
        return f"the tensors do not fit the architecture: {'; '.join(parts)}"
    return (
        f"found {len(names)} tensors ({', '.join(names)}) that do not match the {len(wanted)}"
        f" expected ({', '.join(wanted)})"
    )


def _fitted(array: np.ndarray, shape: tuple[int, ...], flat: bool, label: str) -> np.ndarray:
    if flat and array.size != np.prod(shape):
        raise ModelFileError(
            f"{label}: found {array.size} values, expected {np.prod(shape)} (shape {shape})"
        )
    if not flat and array.shape != shape:
        raise ModelFileError(f"{label}: found shape {array.shape}, expected {shape}")
    check_finite(array, label)
    return array.reshape(shape)
