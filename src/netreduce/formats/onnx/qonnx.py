"""Networks with integer activations as QONNX models, for flows to FPGAs (FINN, hls4ml).

Weights and activations go through a Quant node each, which says scale, zero point and bits, and
stay floats in between (Pappalardo et al., arXiv 2206.07527). Biases are those of `IntegerNetwork`.
"""

import numpy as np

from netreduce.network import INPUT, Network
from netreduce.network.integers import IntegerNetwork
from netreduce.network.layers import ActivationGrid, Dense, Weighted

from .writer import Graph, arranged

DOMAIN = "qonnx.custom_op.general"


class QonnxGraph(Graph):
    """The graph of a network that `IntegerNetwork` evaluates; raises as that does."""

    domains = (DOMAIN,)
    batch = 1

    def __init__(self, network: Network) -> None:
        self.evaluated = IntegerNetwork(network)
        super().__init__(self.evaluated.network)
        self.index = INPUT  # of the layer that is being written

    def layer(self, index: int) -> None:
        layer, (source, *_) = self.network.layers[index], self.sources[index]
        self.index = index
        if not isinstance(layer, ActivationGrid):
            super().layer(index)
            return
        self.title = self.evaluated.names[index]
        scale = np.array(layer.scale, np.float32)
        codes = self.quant(self.channels_first(source), scale, layer.zero_point, layer.bits)
        (self.first if self.is_image(index) else self.last)[index] = codes

    def parameters(self, layer: Weighted) -> list[str]:
        weights = self.evaluated.weights[self.index]
        codes = arranged(layer, weights.kernel).astype(np.float32)
        scale = weights.scale if isinstance(layer, Dense) else weights.scale[:, None, None, None]
        # two at least: one bit, signed, means -1 and 1
        bits = max(int(max(codes.max(), -codes.min() - 1)).bit_length() + 1, 2)
        kernel = self.quant(self.constant(codes * scale, "kernel"), scale, 0, bits)
        bias = (weights.bias * weights.bias_scale).astype(np.float32)
        return [kernel, self.constant(bias, "bias")]

    def quant(self, x: str, scale: np.ndarray, zero_point: int, bits: int) -> str:
        """Values on the grid of two's complement integers of so many bits."""
        numbers = [self.constant(scale, "scale"), self.number(zero_point), self.number(bits)]
        return self.node(
            "Quant", [x, *numbers], domain=DOMAIN, signed=1, narrow=0, rounding_mode="ROUND"
        )
