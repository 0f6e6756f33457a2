"""How far errors can get in chains of dense layers: activations as averaged operators.

An activation with slopes in [0, 1] makes of an error e the error D e, and D = (1 + S) / 2 with
|S| ≤ 1. So W₂ D W₁ e has a norm of at most (‖W₂ W₁‖ + ‖W₂‖ ‖W₁‖) ‖e‖ / 2, and so on: of k layers
the mean over all 2^(k−1) ways to cut their product, each way the product of the norms of its parts
(Combettes and Pesquet, "Lipschitz certificates for layered network structures driven by averaged
activation operators", 2020, arXiv 1903.01014). Norms of products of ten layers are far smaller than
products of ten norms.
"""

import numpy as np

from netreduce.certificates.norms import spectral_norm
from netreduce.network import INPUT, Network
from netreduce.network.layers import BatchNormalization, Dense, Layer

from .boxes import slopes
from .norms import SAFETY, length
from .regions import activation_of

ROUNDING = 2.0**-52


class Chain:
    """A network that is a chain of dense layers with activations of slopes in [0, 1].

    Parameters
    ----------
    network : Network
        In float64; see `is_chain`.
    """

    def __init__(self, network: Network):
        self.network = network
        self._products: dict[tuple[int, int], tuple[np.ndarray, float]] = {}
        self._norms: dict[tuple[int, int], tuple[np.ndarray, float]] = {}

    def reach(self, start: int, error: np.ndarray) -> dict[int, np.ndarray]:
        """How far the inputs of the activations of all layers behind one can be moved.

        Parameters
        ----------
        start : int
            A layer, or INPUT.
        error : ndarray, shape (features,)
            Bounds of an error of its output.
        """
        size, found = length(error), {}
        cuts: dict[int, float] = {start: 1.0}
        for index in range(start + 1, len(self.network.layers)):
            each, whole = np.zeros(()), 0.0
            for cut, weight in cuts.items():
                columns, total = self._norms_of(cut, index)
                if cut == start:
                    product, rounding = self._product(cut, index)
                    values = np.fmin(size * columns, error @ np.abs(product) + rounding * size)
                    each = each + weight * values
                    whole += weight * min(size * total, length(values))
                else:
                    each, whole = each + weight * columns, whole + weight * total
            found[index] = each * SAFETY
            if not _is_linear(self.network.layers[index]):
                cuts = {cut: weight / 2 for cut, weight in cuts.items()}
                cuts[index] = whole / 2 * SAFETY
        return found

    def _product(self, start: int, end: int) -> tuple[np.ndarray, float]:
        """The product of the weights of the layers behind `start` up to `end`, and a bound of the
        norm of its rounding.
        """
        if (start, end) not in self._products:
            layer = self.network.layers[end]
            if end == start + 1:
                shape = self.network.input_shape if start == INPUT else self.network.shapes[start]
                before, size = np.eye(shape[0]), 1.0
            else:
                before, rounding = self._product(start, end - 1)
                size = rounding / ROUNDING
            after, factor, terms = before, 1.0, 0
            if isinstance(layer, Dense):
                after, terms = before @ layer.kernel, len(layer.kernel)
                factor = float(np.linalg.norm(layer.kernel))
            elif isinstance(layer, BatchNormalization):
                slope = layer.affine()[0]
                after, terms, factor = before * slope, 1, float(np.abs(slope).max(initial=0))
            if terms:
                size = (size + float(np.linalg.norm(before)) * (terms + 2)) * factor
            self._products[start, end] = after, size * ROUNDING
        return self._products[start, end]

    def _norms_of(self, start: int, end: int) -> tuple[np.ndarray, float]:
        """Norms of the columns of a product, and its own."""
        if (start, end) not in self._norms:
            product, rounding = self._product(start, end)
            columns = np.sqrt((product**2).sum(axis=0)) + rounding
            self._norms[start, end] = columns * SAFETY, spectral_norm(product) + rounding
        return self._norms[start, end]


def averaged(layer: Layer) -> bool:
    """Whether a layer's activation has slopes in [0, 1]."""
    least, greatest = slopes(layer)
    return bool(np.min(least) >= 0 and np.max(greatest) <= 1)


def _is_linear(layer: Layer) -> bool:
    return activation_of(layer).slopes == (1.0, 1.0)
