"""Layers between two numbers only: no line is known around them, so no form goes through."""

from typing import TypeAlias

import numpy as np

from netreduce.network.layers import Activation, ActivationGrid, Multiply

from .functions import ULP

SOFTMAX = 2.0**-40  # error of one in float64, against max(1, |value|)
Ends: TypeAlias = tuple[np.ndarray, np.ndarray]


class Enclosure:
    """A layer of which intervals are known. What it does to differences is not."""

    norm = np.inf

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def interval(self, *inputs: Ends) -> Ends:
        """Bounds of the outputs for inputs between bounds, (low, high) of each."""
        raise NotImplementedError

    def rounding(
        self, sizes: list[np.ndarray], errors: list[np.ndarray], unit: float
    ) -> np.ndarray:
        """How far computed outputs may be off, for inputs of such sizes and errors."""
        raise NotImplementedError


class Product(Enclosure):
    """The product of all inputs, value by value."""

    def __init__(self, layer: Multiply):
        self.layer = layer

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        return self.layer(*inputs)

    def interval(self, *inputs: Ends) -> Ends:
        (low, high), *others = inputs
        for ends in others:
            corners = [self.layer(one, end) for one in (low, high) for end in ends]
            low, high = np.minimum.reduce(corners), np.maximum.reduce(corners)
            low, high = low - ULP * np.abs(low), high + ULP * np.abs(high)
        return low, high

    def rounding(
        self, sizes: list[np.ndarray], errors: list[np.ndarray], unit: float
    ) -> np.ndarray:
        whole = self.layer(*(s + e for s, e in zip(sizes, errors, strict=True)))
        return whole - self.layer(*sizes) + 2 * len(sizes) * unit * whole


class Softmax(Enclosure):
    """Softmax along the last axis, or its logarithm: largest where one score is and the others are
    not.
    """

    def __init__(self, layer: Activation):
        self.layer = layer
        self.most = 1.0 if layer.name == "softmax" else 0.0

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        return self.layer(*inputs)

    def interval(self, *inputs: Ends) -> Ends:
        ((low, high),) = inputs
        least, most = self._log(low, high), self._log(high, low)
        if self.most:
            least, most = np.exp(least), np.exp(most)
        margin = [SOFTMAX * np.maximum(1, np.abs(end)) for end in (least, most)]
        least, most = least - margin[0], np.minimum(most + margin[1], self.most)
        return (np.maximum(least, 0.0) if self.most else least), most

    def rounding(
        self, sizes: list[np.ndarray], errors: list[np.ndarray], unit: float
    ) -> np.ndarray:
        # gradients have an ℓ1 norm of 2 p (1 − p) ≤ 1/2; of the logarithm, of 2 (1 − p) ≤ 2
        passed = (0.5 if self.most else 2.0) * errors[0].max(axis=-1, keepdims=True)
        own = (32 + sizes[0].shape[-1]) * unit * np.maximum(1, 2 * sizes[0])
        return passed + own

    @staticmethod
    def _log(own: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Log-softmax of each score, given those of the others."""
        from scipy.special import logsumexp

        count = own.shape[-1]
        scores = np.repeat(others[..., None, :], count, axis=-2)
        scores[..., np.arange(count), np.arange(count)] = own
        return own - logsumexp(scores, axis=-1)


class Grid(Enclosure):
    """Rounding to a grid, which is monotone."""

    def __init__(self, layer: ActivationGrid):
        self.layer = layer

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        return self.layer(*inputs)

    def interval(self, *inputs: Ends) -> Ends:
        ((low, high),) = inputs
        return self.layer(low), self.layer(high)

    def rounding(
        self, sizes: list[np.ndarray], errors: list[np.ndarray], unit: float
    ) -> np.ndarray:
        return errors[0] + self.layer.scale * (1 + 2.0**-20)
