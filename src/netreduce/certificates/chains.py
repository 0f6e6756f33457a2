"""How far errors can get in chains of dense layers: activations as averaged operators.

An activation with slopes in [0, 1] makes of an error e the error D e, and D = (1 + S) / 2 with
|S| ≤ 1. So W₂ D W₁ e has a norm of at most (‖W₂ W₁‖ + ‖W₂‖ ‖W₁‖) ‖e‖ / 2, and so on: of k layers
the mean over all 2^(k−1) ways to cut their product, each way the product of the norms of its parts
(Combettes and Pesquet, "Lipschitz certificates for layered network structures driven by averaged
activation operators", 2020, arXiv 1903.01014). Norms of products of ten layers are far smaller than
products of ten norms.
"""

from collections.abc import Sequence

import numpy as np

from .norms import SAFE, length, spectral_norm

ROUNDING = 2.0**-52
INPUT = -1


class Chain:
    """A chain of linear maps, each with an activation of slopes in [0, 1] behind it.

    Parameters
    ----------
    sizes : sequence of int
        Features of the input and of what each step gives.
    steps : sequence of ndarray or None
        The linear maps: kernels (inputs, outputs), or slopes (features,); None changes nothing.
    bends : sequence of bool
        Whether the step's activation is not the identity.
    """

    def __init__(
        self, sizes: Sequence[int], steps: Sequence[np.ndarray | None], bends: Sequence[bool]
    ):
        self.sizes, self.steps, self.bends = sizes, steps, bends
        self._products: dict[tuple[int, int], tuple[np.ndarray, float]] = {}
        self._norms: dict[tuple[int, int], tuple[np.ndarray, float]] = {}

    def reach(self, start: int, error: np.ndarray) -> dict[int, np.ndarray]:
        """How far the inputs of the activations of all steps behind one can be moved.

        Parameters
        ----------
        start : int
            A step, or INPUT.
        error : ndarray, shape (features,) or (boxes, features)
            Bounds of an error of its output.
        """
        size, found = _lengths(error), {}
        cuts: dict[int, float | np.ndarray] = {start: 1.0}
        for index in range(start + 1, len(self.steps)):
            each, whole = np.zeros(()), np.zeros(())
            for cut, weight in cuts.items():
                columns, total = self._norms_of(cut, index)
                if cut == start:
                    product, rounding = self._product(cut, index)
                    most = _beside(size, columns)
                    values = np.fmin(most, error @ np.abs(product) + (rounding * size)[..., None])
                    each = each + weight * values
                    whole = whole + weight * np.minimum(size * total, _lengths(values))
                else:
                    each, whole = each + _beside(weight, columns), whole + weight * total
            found[index] = each * SAFE
            if self.bends[index]:
                cuts = {cut: weight / 2 for cut, weight in cuts.items()}
                cuts[index] = whole / 2 * SAFE
        return found

    def _product(self, start: int, end: int) -> tuple[np.ndarray, float]:
        """The product of the steps behind `start` up to `end`, and a bound of the norm of its
        rounding.
        """
        if (start, end) not in self._products:
            step = self.steps[end]
            if end == start + 1:
                before, size = np.eye(self.sizes[end]), 1.0
            else:
                before, rounding = self._product(start, end - 1)
                size = rounding / ROUNDING
            after, factor, terms = before, 1.0, 0
            if step is not None and step.ndim == 2:
                after, terms = before @ step, len(step)
                factor = float(np.linalg.norm(step))
            elif step is not None:
                after, terms, factor = before * step, 1, float(np.abs(step).max(initial=0))
            if terms:
                size = (size + float(np.linalg.norm(before)) * (terms + 2)) * factor
            self._products[start, end] = after, size * ROUNDING
        return self._products[start, end]

    def _norms_of(self, start: int, end: int) -> tuple[np.ndarray, float]:
        """Norms of the columns of a product, and its own."""
        if (start, end) not in self._norms:
            product, rounding = self._product(start, end)
            columns = np.sqrt((product**2).sum(axis=0)) + rounding
            self._norms[start, end] = columns * SAFE, spectral_norm(product) + rounding
        return self._norms[start, end]


def _lengths(values: np.ndarray) -> np.ndarray:
    """Euclidean norms along the last axis."""
    return np.array([length(row) for row in values] if values.ndim == 2 else length(values))


def _beside(weights: float | np.ndarray, columns: np.ndarray) -> np.ndarray:
    """weights · columns for each weight: shape (features,) or (boxes, features)."""
    return np.asarray(weights)[..., None] * columns
