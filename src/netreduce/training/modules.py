"""Networks as PyTorch modules to train, or to learn from."""

import torch
from torch import nn

from netreduce.formats.pytorch.module import to_torch
from netreduce.network import Network
from netreduce.network.layers import Activation, ActivationGrid


def in_pytorch(network: Network) -> tuple[nn.Module, Network]:
    """The network as a module, and one without grids of activations, whose names the module has.

    The module computes as in use: dropout and the statistics of batch normalization rest.
    """
    grids = {
        index: layer
        for index, layer in enumerate(network.layers)
        if isinstance(layer, ActivationGrid)
    }
    plain = network.replace(dict.fromkeys(grids, Activation("linear")))
    model = to_torch(plain).eval()
    for index, grid in grids.items():
        model.add_module(plain.names[index], RoundedActivation(grid))
    # typed without memory_format, which it takes
    return model.to(memory_format=torch.channels_last), plain  # type: ignore[call-overload]


class RoundedActivation(nn.Module):
    """An ActivationGrid with the gradient of one that only cuts off."""

    def __init__(self, grid: ActivationGrid) -> None:
        super().__init__()
        self.scale = grid.scale
        self.low, self.high = grid.low - grid.zero_point, grid.high - grid.zero_point

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        inside = (x / self.scale).clamp(self.low, self.high)
        return self.scale * straight_through(inside, torch.round(inside))


def straight_through(x: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """What was rounded, with the gradient of x."""
    return x + (rounded - x).detach()
