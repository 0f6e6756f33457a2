"""Weights whose sums cannot overflow an accumulator of so many bits, whatever the inputs.

I. Colbert et al., Accumulator-aware post-training quantization (AXE), arXiv:2409.17092. An input
that lies on a grid (`ActivationGrid`) is one of the steps −low, …, high, so that the sum of its
products with integer weights w, in any order, stays between

    −low Σ w⁺ − high Σ w⁻ + min(b, 0)    and    high Σ w⁺ + low Σ w⁻ + max(b, 0)

with w⁺ and w⁻ the positive and the negative parts, and b the bias in the same units. Both must fit
into the accumulator. In the walk, the weights are first drawn towards zero, by soft thresholding
with the λ that projects the analog weights to the ℓ1 ball of radius (most + least) / (high + low),
and then a code is cut off where the sums of those before it leave no more room.
"""

from dataclasses import dataclass

import numpy as np

from netreduce.errors import ParameterError
from netreduce.network import INPUT, Network
from netreduce.network.integers import moves
from netreduce.network.layers import ActivationGrid, Conv2D, DepthwiseConv2D, Weighted

from .gram import to_groups
from .l1_ball import threshold

MARGIN = 1  # units that a bias may be rounded otherwise than here


@dataclass(frozen=True, eq=False)
class Budget:
    """What the sums of every neuron may take, in products of a step and an integer weight.

    Attributes
    ----------
    low, high : float
        How many steps an input can be below and above zero.
    least, most : ndarray, shape (groups, neurons)
        How far the sums may go below and above zero.
    """

    low: float
    high: float
    least: np.ndarray
    most: np.ndarray

    def group(self, number: int) -> "Budget":
        """That of one group."""
        part = slice(number, number + 1)
        return Budget(self.low, self.high, self.least[part], self.most[part])

    def spend(self, codes: np.ndarray) -> tuple[np.ndarray, "Budget"]:
        """Codes of one input, shape (groups, neurons), cut off where there is no room for them, and
        what is left.
        """
        up, down = self.largest()
        codes = np.clip(codes, -2 * down, 2 * up)
        up, down = np.maximum(codes / 2, 0), np.maximum(-codes / 2, 0)
        least = self.least - self.low * up - self.high * down
        most = self.most - self.high * up - self.low * down
        return codes, Budget(self.low, self.high, least, most)

    def largest(self) -> tuple[np.ndarray, np.ndarray]:
        """The largest weights, positive and negative, that there is room for."""
        with np.errstate(divide="ignore"):
            up = np.minimum(self.most / self.high, self.least / self.low)
            down = np.minimum(self.most / self.low, self.least / self.high)
        return np.floor(np.maximum(up, 0)), np.floor(np.maximum(down, 0))

    def has_room(self, weights: np.ndarray) -> np.ndarray:
        """Whether each neuron has room for its bias, and for one of its weights if it has any."""
        up, down = self.largest()
        fits = (self.least >= 0) & (self.most >= 0)
        return fits & ((np.maximum(up, down) >= 1) | ~weights.any(axis=1))

    def shrinkage(self, weights: np.ndarray, scale: np.ndarray) -> np.ndarray:
        """The λ of every neuron, shape (groups, neurons), by which its weights, shape (groups,
        inputs, neurons), have to shrink to lie in the ℓ1 ball.
        """
        radius = 2 * scale * np.maximum(self.most + self.least, 0) / (self.high + self.low)
        return threshold(weights, radius)


@dataclass(frozen=True, eq=False)
class Limit:
    """An accumulator of a layer.

    Attributes
    ----------
    bits : int
        Of two's complement.
    grid : ActivationGrid
        On which the layer's inputs lie.
    bias : ndarray, shape (groups, neurons)
    """

    bits: int
    grid: ActivationGrid
    bias: np.ndarray

    def budget(self, scale: np.ndarray, neurons: int) -> Budget:
        """The budget of alphabets with a scale that broadcasts to (groups, 1, neurons); of neurons
        that stand several times one after the other.
        """
        copies = neurons // self.bias.shape[1]
        bias = np.tile(self.bias, (1, copies))
        scale = np.broadcast_to(scale, (len(bias), 1, neurons))[:, 0]
        bias = np.rint(bias / (2 * scale * self.grid.scale))
        most = 2.0 ** (self.bits - 1) - 1 - MARGIN
        zero_point = self.grid.zero_point
        return Budget(
            float(zero_point - self.grid.low),
            float(self.grid.high - zero_point),
            most + np.minimum(bias, 0),
            most - np.maximum(bias, 0),
        )

    def check(self, scale: np.ndarray, weights: np.ndarray) -> None:
        """Raise ParameterError where there is no room for any weights."""
        full = ~self.budget(scale, weights.shape[2]).has_room(weights)
        if full.any():
            raise ParameterError(
                f"accumulators of {self.bits} bits are too narrow for any weights of"
                f" {np.count_nonzero(full)} of its {full.size} neurons: inputs of {self.grid.bits}"
                " bits times 1, and the bias, take more"
            )


def limit_of(network: Network, index: int, bits: int, conv: str) -> Limit:
    """The accumulator of one layer of a network, whose input channels are quantized together.

    Raises
    ------
    ParameterError
        The layer's inputs lie on no grid.
    """
    layer, (source,) = network.layers[index], network.sources[index]
    assert isinstance(layer, Weighted)
    while source != INPUT and moves(network.layers[source]):
        (source,) = network.sources[source]
    grid = None if source == INPUT else network.layers[source]
    if not isinstance(grid, ActivationGrid):
        raise ParameterError(
            "what it reads is not on a grid, so that its sums have no width: use"
            " `quantize_activations` first"
        )
    if isinstance(layer, Conv2D) and conv == "channel":
        raise ParameterError(
            'accumulator_bits is for all weights of a sum together: use conv="joint"'
        )
    outputs = 2 if isinstance(layer, DepthwiseConv2D) else layer.kernel.ndim - 1
    shape = (1,) * outputs + layer.kernel.shape[outputs:]
    bias = to_groups(layer.bias.astype(np.float64).reshape(shape), layer, conv)
    return Limit(bits, grid, bias[:, 0])
