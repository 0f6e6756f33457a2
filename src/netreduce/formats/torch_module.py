"""Networks as PyTorch modules and back."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from netreduce.errors import UnsupportedLayerError
from netreduce.network import INPUT, Network
from netreduce.network.activations import LEAKY_RELU_SLOPE
from netreduce.network.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
)

from .tensors import from_tensors, to_tensors

MOMENTUM = 0.1  # weight of a new batch in the running statistics

ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": functional.relu,
    "leaky_relu": lambda x: functional.leaky_relu(x, LEAKY_RELU_SLOPE),
    "relu6": functional.relu6,
    "elu": functional.elu,
    "softplus": functional.softplus,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": functional.silu,
    "gelu": functional.gelu,
    "softmax": lambda x: functional.softmax(x, dim=1),
}


def to_torch(network: Network) -> nn.Module:
    """The network as a PyTorch module.

    Images are channels first, as usual in PyTorch: (samples, channels, height, width). The modules
    are named as the layers, so that the state_dict holds conv2d_1.weight,
    batch_normalization_1.running_mean, dense_1.bias, …
    """
    module = TorchNetwork(network)
    module.load_state_dict(
        {name: torch.from_numpy(array.copy()) for name, array in to_tensors(network).items()}
    )
    return module


def from_torch(module: nn.Module, network: Network) -> Network:
    """The network with the parameters of a module of the same architecture."""
    return from_tensors(
        {name: tensor.cpu().numpy().copy() for name, tensor in module.state_dict().items()}, network
    )


class TorchNetwork(nn.Module):
    """A module with one child per layer that has parameters."""

    def __init__(self, network: Network):
        super().__init__()
        self.steps = []
        shapes = {INPUT: network.input_shape, **dict(enumerate(network.shapes))}
        dtype = torch.from_numpy(np.empty(0, network.dtype)).dtype
        for name, layer, sources in zip(
            network.names, network.layers, network.sources, strict=True
        ):
            shape = shapes[sources[0]]
            child = _child(layer, shape)
            if child is not None:
                self.add_module(name, child.to(dtype))
            self.steps.append((name, layer, shape, sources))
        self.last_readers = {
            source: index for index, sources in enumerate(network.sources) for source in sources
        }

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        values = {INPUT: x}
        for index, (name, layer, shape, sources) in enumerate(self.steps):
            child = self._modules.get(name)
            values[index] = _call(
                layer, child, shape, self.training, *(values[source] for source in sources)
            )
            for source in set(sources):
                if self.last_readers[source] == index:
                    del values[source]
        return values[index]


def _child(layer, shape):
    make = nn.utils.skip_init
    match layer:
        case Dense():
            return make(nn.Linear, *layer.kernel.shape)
        case Conv2D() | DepthwiseConv2D():
            groups = shape[2] if isinstance(layer, DepthwiseConv2D) else layer.groups
            padding = layer.padding_widths(shape)
            return make(
                nn.Conv2d,
                shape[2],
                layer.outputs,
                layer.kernel.shape[:2],
                layer.strides,
                _both_sides(padding) or 0,
                layer.dilation,
                groups,
            )
        case BatchNormalization():
            kind = nn.BatchNorm2d if len(shape) == 3 else nn.BatchNorm1d
            return kind(len(layer.gamma), layer.epsilon, MOMENTUM)
    return None


def _call(layer, child, shape, training, x, *others):
    match layer:
        case Dense():
            return ACTIVATIONS[layer.activation](child(x))
        case Conv2D() | DepthwiseConv2D():
            padding = layer.padding_widths(shape)
            return ACTIVATIONS[layer.activation](
                child(x if _both_sides(padding) else _pad(x, padding))
            )
        case BatchNormalization():
            return child(x)
        case MaxPooling2D():
            padded = _pad(x, layer.padding_widths(shape), -torch.inf)
            return functional.max_pool2d(padded, layer.pool_size, layer.strides)
        case AveragePooling2D():
            padding = layer.padding_widths(shape)
            mean = functional.avg_pool2d(_pad(x, padding), layer.pool_size, layer.strides)
            if layer.count_padding:
                return mean
            return mean / functional.avg_pool2d(
                _pad(torch.ones_like(x[:1, :1]), padding), layer.pool_size, layer.strides
            )
        case GlobalAveragePooling2D():
            return x.mean(dim=(2, 3))
        case Flatten():
            return x.flatten(1)
        case Dropout():
            return functional.dropout(x, layer.rate, training)
        case Activation(name="leaky_relu"):
            return functional.leaky_relu(x, layer.negative_slope)
        case Activation():
            return ACTIVATIONS[layer.name](x)
        case Add():
            return sum(others, start=x)
        case Concatenate():
            return torch.cat((x, *others), dim=1)
    raise UnsupportedLayerError(f"layers of type {type(layer).__name__} are not known to PyTorch")


def _both_sides(padding):
    """The padding where it is the same on both sides, which a convolution does by itself; else
    None.
    """
    return (
        tuple(before for before, _ in padding)
        if all(before == after for before, after in padding)
        else None
    )


def _pad(x, padding, value=0.0):
    rows, columns = padding
    return functional.pad(x, (*columns, *rows), value=value) if any(rows + columns) else x
