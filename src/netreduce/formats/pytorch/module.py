"""Networks as PyTorch modules and back."""

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from netreduce.errors import UnsupportedLayerError
from netreduce.formats.tensors import feature_orders, from_tensors, to_tensors
from netreduce.network import INPUT, Network
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
    Weighted,
    Widths,
    ZeroPadding2D,
)

Tensor: TypeAlias = torch.Tensor
MOMENTUM = 0.1  # weight of a new batch in the running statistics
LEAST_DEVIATION = 1e-7  # Normalization divides by no less

ACTIVATIONS: dict[str, Callable[..., Tensor]] = {
    "linear": lambda x: x,
    "relu6": functional.relu6,
    "elu": functional.elu,
    "selu": functional.selu,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "sigmoid": torch.sigmoid,
    "hard_sigmoid": functional.hardsigmoid,
    "hard_sigmoid_keras2": lambda x: torch.clamp(0.2 * x + 0.5, 0, 1),
    "tanh": torch.tanh,
    "exponential": torch.exp,
    "silu": functional.silu,
    "hard_swish": functional.hardswish,
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "mish": functional.mish,
    "softmax": lambda x: functional.softmax(x, dim=1 if x.ndim == 4 else -1),
    "log_softmax": lambda x: functional.log_softmax(x, dim=1 if x.ndim == 4 else -1),
}


def to_torch(network: Network) -> nn.Module:
    """The network as a PyTorch module.

    Images are channels first, as usual in PyTorch: (samples, channels, height, width); vectors that
    come out have the network's order. The modules are named as the layers, so that the state_dict
    holds conv2d_1.weight, batch_normalization_1.running_mean, dense_1.bias, …

    Raises
    ------
    UnsupportedLayerError
        A layer that combines features which PyTorch has in different orders.

    Examples
    --------
    >>> import netreduce as nr
    >>> network = nr.Network([nr.Conv2D(np.ones((3, 3, 1, 2)), padding=(1, 1, 1, 1))], (8, 8, 1))
    >>> module = to_torch(network)
    >>> list(module.state_dict()), module(torch.zeros(5, 1, 8, 8).double()).shape
    (['conv2d_1.weight', 'conv2d_1.bias'], torch.Size([5, 2, 8, 8]))
    """
    module = TorchNetwork(network)
    module.load_state_dict(
        {name: torch.from_numpy(array.copy()) for name, array in to_tensors(network).items()}
    )
    return module


def with_parameters_of(module: nn.Module, network: Network) -> Network:
    """The network with the parameters of a module of the same architecture."""
    return from_tensors(
        {name: tensor.cpu().numpy().copy() for name, tensor in module.state_dict().items()}, network
    )


class TorchNetwork(nn.Module):
    """A module with one child per layer that has parameters."""

    def __init__(self, network: Network):
        super().__init__()
        self.steps: list[tuple[str, Layer, Shape, Shape, tuple[int, ...]]] = []
        shapes = {INPUT: network.input_shape, **dict(enumerate(network.shapes))}
        dtype = torch.from_numpy(np.empty(0, network.dtype)).dtype
        self.orders = feature_orders(network)
        for index, (name, layer, sources) in enumerate(
            zip(network.names, network.layers, network.sources or (), strict=True)
        ):
            shape = shapes[sources[0]]
            child = _child(layer, shape)
            if child is not None:
                self.add_module(name, child.to(dtype))
            self.steps.append((name, layer, shape, shapes[index], sources))
        self.last_readers = {
            source: index
            for index, sources in enumerate(network.sources or ())
            for source in sources
        }

    def forward(self, x: Tensor) -> Tensor:
        values = {INPUT: x}
        for index, (name, layer, shape, result, sources) in enumerate(self.steps):
            inputs = [values[source] for source in sources]
            if isinstance(layer, Reshape | Permute):
                inputs = [self._in_order(sources[0], inputs[0])]
            child = self._modules.get(name)
            if child is not None and not isinstance(layer, Weighted):
                values[index] = child(*inputs)
            elif isinstance(layer, Weighted) and child is not None:
                values[index] = activated(_weighted(layer, child, shape, inputs[0]), layer)
            else:
                values[index] = _call(layer, shape, result, self.training, inputs)
            for source in set(sources):
                if self.last_readers[source] == index:
                    del values[source]
        return self._in_order(index, values[index])

    def _in_order(self, index: int, x: Tensor) -> Tensor:
        """A vector with its features as the network has them."""
        order = self.orders[index]
        return x if order is None else x[:, np.argsort(order)]


def activated(x: Tensor, layer: Weighted | Activation) -> Tensor:
    """An activation layer, or the activation of a layer with weights."""
    if isinstance(layer, Weighted):
        layer = Activation(layer.activation)
    if layer.name not in ("relu", "leaky_relu"):
        return ACTIVATIONS[layer.name](x, **layer.parameters)
    slope = layer.negative_slope if layer.name == "leaky_relu" else 0.0
    if layer.max_value is None and layer.threshold == 0:
        return functional.leaky_relu(x, slope) if slope else functional.relu(x)
    limit = layer.threshold
    above = torch.where(x > limit, x, torch.zeros_like(x))
    if layer.max_value is not None:
        above = above.clamp(0, layer.max_value)
    return above - slope * functional.relu(limit - x)


class _Scale(nn.Module):
    """scale · x + offset, neither of which is trained."""

    scale: Tensor
    offset: Tensor

    def __init__(self, scale: Sequence[int], offset: Sequence[int]):
        super().__init__()
        self.register_buffer("scale", torch.empty(scale))
        self.register_buffer("offset", torch.empty(offset))

    def forward(self, x: Tensor) -> Tensor:
        return x * _along_channels(self.scale, x) + _along_channels(self.offset, x)


class _Normalize(nn.Module):
    """(x − mean) / sqrt(variance), neither of which is trained."""

    mean: Tensor
    variance: Tensor

    def __init__(self, mean: Sequence[int], variance: Sequence[int]):
        super().__init__()
        self.register_buffer("mean", torch.empty(mean))
        self.register_buffer("variance", torch.empty(variance))

    def forward(self, x: Tensor) -> Tensor:
        deviation = self.variance.sqrt().clamp_min(LEAST_DEVIATION)
        return (x - _along_channels(self.mean, x)) / _along_channels(deviation, x)


class _Slopes(nn.Module):
    """A slope below zero for each value, or each channel, or all."""

    def __init__(self, shape: Sequence[int]):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(shape))

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x > 0, x, _along_channels(self.weight, x) * x)


class _NormalizeLast(nn.BatchNorm1d):
    """Batch normalization along the last axis of a table."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(-1, 1)).movedim(1, -1)


def _along_channels(numbers: Tensor, x: Tensor) -> Tensor:
    """Numbers that broadcast along the channels of an image, or along the last axis."""
    return numbers[:, None, None] if numbers.ndim == 1 and x.ndim == 4 else numbers


def _child(layer: Layer, shape: Shape) -> nn.Module | None:
    make = nn.utils.skip_init
    match layer:
        case Dense():
            return make(nn.Linear, *layer.kernel.shape)
        case Conv2D() | DepthwiseConv2D():
            groups = shape[2] if isinstance(layer, DepthwiseConv2D) else layer.groups
            return make(
                nn.Conv2d,
                shape[2],
                layer.outputs,
                layer.kernel.shape[:2],
                layer.strides,
                _both_sides(layer.padding_widths(shape)) or 0,
                layer.dilation,
                groups,
            )
        case Conv2DTranspose():
            padding, more = _transposed_padding(layer, shape)
            return make(
                nn.ConvTranspose2d,
                shape[2],
                layer.outputs,
                layer.kernel.shape[:2],
                layer.strides,
                padding,
                more,
            )
        case BatchNormalization():
            kind = {1: nn.BatchNorm1d, 2: _NormalizeLast, 3: nn.BatchNorm2d}[len(shape)]
            return kind(len(layer.gamma), layer.epsilon, MOMENTUM)
        case PReLU():
            return _Slopes(_channels_first(layer.alpha.shape))
        case Rescaling():
            return _Scale(*map(_channels_first, (layer.scale.shape, layer.offset.shape)))
        case Normalization():
            return _Normalize(*map(_channels_first, (layer.mean.shape, layer.variance.shape)))
    return None


def _weighted(layer: Weighted, child: nn.Module, shape: Shape, x: Tensor) -> Tensor:
    """Pre-activations of a layer with weights."""
    match layer:
        case Conv2D() | DepthwiseConv2D():
            padding = layer.padding_widths(shape)
            return child(x if _both_sides(padding) else _pad(x, padding))
        case Conv2DTranspose():
            (top, rows), (left, columns) = layer.crop(shape)
            out = child(x)
            if _transposed_padding(layer, shape)[0] != (0, 0):
                return out
            return out[:, :, top : top + rows, left : left + columns]
    return child(x)


def _call(
    layer: Layer, shape: Shape, result: Shape, training: bool, inputs: Sequence[Tensor]
) -> Tensor:
    x, *others = inputs
    match layer:
        case MaxPooling2D():
            padding = layer.padding_widths(shape)
            own = _own_padding(padding, layer.pool_size)
            if own is None:
                x, own = _pad(x, padding, -torch.inf), (0, 0)
            return functional.max_pool2d(x, layer.pool_size, layer.strides, own)
        case AveragePooling2D():
            padding = layer.padding_widths(shape)
            own = _own_padding(padding, layer.pool_size)
            if own is not None:
                counted = layer.count_padding
                return functional.avg_pool2d(
                    x, layer.pool_size, layer.strides, own, count_include_pad=counted
                )
            mean = functional.avg_pool2d(_pad(x, padding), layer.pool_size, layer.strides)
            if layer.count_padding:
                return mean
            return mean / functional.avg_pool2d(
                _pad(torch.ones_like(x[:1, :1]), padding), layer.pool_size, layer.strides
            )
        case GlobalAveragePooling2D():
            return x.mean(dim=(2, 3))
        case GlobalMaxPooling2D():
            return x.amax(dim=(2, 3))
        case ZeroPadding2D():
            top, bottom, left, right = layer.padding
            return _pad(x, ((top, bottom), (left, right)))
        case Cropping2D():
            top, _, left, _ = layer.cropping
            return x[:, :, top : top + result[0], left : left + result[1]]
        case UpSampling2D():
            corners = {"align_corners": False} if layer.interpolation == "bilinear" else {}
            factors = tuple(map(float, layer.size))
            return functional.interpolate(
                x, scale_factor=factors, mode=layer.interpolation, **corners
            )
        case Flatten():
            return x.flatten(1)
        case Reshape():
            return _as_pytorch(_as_network(x).reshape(-1, *layer.shape))
        case Permute():
            return _as_pytorch(_as_network(x).permute(0, *layer.order))
        case Dropout():
            return functional.dropout(x, layer.rate, training)
        case Activation():
            return activated(x, layer)
        case Add():
            return sum(others, start=x)
        case Subtract():
            return x - others[0]
        case Multiply():
            return _product(inputs)
        case Concatenate():
            axis = 1 if x.ndim == 4 else -1
            return torch.cat((x, *others), dim=axis)
    raise UnsupportedLayerError(f"layers of type {type(layer).__name__} are not known to PyTorch")


def _product(factors: Sequence[Tensor]) -> Tensor:
    rank = max(x.ndim for x in factors)
    product, *others = (
        x.reshape(len(x), *(1,) * (rank - x.ndim), *x.shape[1:])
        for x in (_as_network(factor) if rank == 4 else factor for factor in factors)
    )
    for other in others:
        product = product * other
    return _as_pytorch(product)


def _as_network(x: Tensor) -> Tensor:
    """Images channels last; vectors and tables as they are."""
    return x.movedim(1, -1) if x.ndim == 4 else x


def _as_pytorch(x: Tensor) -> Tensor:
    """Images channels first; vectors and tables as they are."""
    return x.movedim(-1, 1) if x.ndim == 4 else x


def _channels_first(shape: Shape) -> Shape:
    return (shape[2], *shape[:2]) if len(shape) == 3 else shape or (1,)


def _transposed_padding(
    layer: Conv2DTranspose, shape: Shape
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Padding and output padding of PyTorch's transposed convolution: what the layer takes away
    where PyTorch can do that by itself; else nothing, and what is missing at the end.
    """
    full = [
        (n - 1) * s + k
        for n, k, s in zip(shape[:2], layer.kernel.shape[:2], layer.strides, strict=True)
    ]
    (top, rows), (left, columns) = layer.crop(shape)
    down, across = rows - (full[0] - 2 * top), columns - (full[1] - 2 * left)
    if 0 <= down < layer.strides[0] and 0 <= across < layer.strides[1]:
        return (top, left), (down, across)
    return (0, 0), (max(0, top + rows - full[0]), max(0, left + columns - full[1]))


def _own_padding(padding: Widths, pool_size: tuple[int, int]) -> tuple[int, int] | None:
    """The padding where PyTorch's pooling does it by itself: the same on both sides, at most half
    of the window.
    """
    sides = _both_sides(padding)
    if sides is None or any(2 * p > k for p, k in zip(sides, pool_size, strict=True)):
        return None
    return sides


def _both_sides(padding: Widths) -> tuple[int, int] | None:
    """The padding where it is the same on both sides, which a convolution does by itself; else
    None.
    """
    (top, bottom), (left, right) = padding
    return (top, left) if top == bottom and left == right else None


def _pad(x: Tensor, padding: Widths, value: float = 0.0) -> Tensor:
    rows, columns = padding
    return functional.pad(x, (*columns, *rows), value=value) if any(rows + columns) else x
