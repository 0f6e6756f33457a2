"""How far the outputs of a lumped network can be from those of the original, over a box of inputs.

In real arithmetic (`bound`) and for the evaluation of both in their floating type (`rounding`). The
bound is the smaller of two:

- the errors of all merges, carried to the outputs (`bound.Propagation`): quick, and good where
  merges are nearly exact and layers few;
- the difference of the original and the lumped network in its shape (`expansion`), by that of
  their weights or by linear relaxations of both (`netreduce.certificates`): for exact lumping of
  ten layers ten thousand times smaller. Where channels that meet in an Add or a Concatenate
  went, certificates find that shape from the weights.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np

from netreduce.certificates import deviation_bound
from netreduce.errors import UnsupportedLayerError
from netreduce.measures.cost import layer_costs
from netreduce.network import Network
from netreduce.network.layers import Weighted

from .bound import Propagation
from .boxes import Arithmetic, Box, behind_activation, linear, own_error
from .draft import Draft
from .expansion import expanded, in_double
from .regions import weighted

WORK = 1e10  # multiplications times neurons up to which relaxations are refined neuron by neuron


@dataclass(frozen=True, eq=False)
class Balls:
    """All inputs of the box no farther than the radius from one of some samples, value by value."""

    samples: np.ndarray
    radius: float
    low: np.ndarray
    high: np.ndarray

    @property
    def boxes(self) -> list[Box]:
        return [Box(low, high) for low, high in zip(self.low, self.high, strict=True)]

    def hold(self, x: np.ndarray) -> bool:
        """Whether an input lies in one of them."""
        inside = (x >= self.low) & (x <= self.high)
        return bool(inside.reshape(len(inside), -1).all(axis=1).any())


@dataclass(frozen=True, eq=False)
class Deviation:
    """The difference between a network and its lumping.

    Attributes
    ----------
    draft : Draft
        Done.
    base : Network
        What it was when merging began.
    box : Box
        Of the inputs.
    balls : Balls or None
        In the box, where the bound need hold in them only.
    """

    draft: Draft
    base: Network
    box: Box
    balls: Balls | None = None

    @property
    def bound(self) -> np.ndarray:
        """How far the outputs can be from those of the original network in real arithmetic."""
        return self._of_outputs(self.of_logits)

    @property
    def rounding(self) -> np.ndarray:
        """What the evaluation of both networks in floating type can add to that."""
        if not self.draft.smaller:
            return self._nothing
        own = 32 * Arithmetic.of(self.draft.original).roundoff
        return self._of_outputs(self.rounding_of_logits, own)

    @cached_property
    def of_logits(self) -> np.ndarray:
        """The bound of the outputs before a softmax at the end."""
        if not self.draft.smaller:
            return self._nothing
        return np.fmin(self.quick, self._in_one_shape())

    @cached_property
    def quick(self) -> np.ndarray:
        """The same from the errors of the merges alone."""
        if not self.draft.smaller:
            return self._nothing
        before, after = self._sides
        merged = dict(self.draft.local)
        for index, error in self._storage(before).items():
            merged[index] = merged.get(index, 0.0) + error
        return before.output_error(merged) + after.output_error(self._storage(after))

    @cached_property
    def rounding_of_logits(self) -> np.ndarray:
        """The rounding of the outputs before a softmax at the end."""
        if not self.draft.smaller:
            return self._nothing
        first, arithmetic = min(self.draft.changed), Arithmetic.of(self.draft.original)
        before, after = self._sides
        return before.rounding_error(first, arithmetic) + after.rounding_error(first, arithmetic)

    @property
    def _nothing(self) -> np.ndarray:
        return np.zeros(self.draft.original.shapes[-1])

    @cached_property
    def _sides(self) -> tuple[Propagation, Propagation]:
        """Both networks over the box, without a softmax at the end."""
        return (
            Propagation(self.base.logits(), self.box),
            Propagation(self.draft.network.logits(), self.box),
        )

    def _in_one_shape(self) -> np.ndarray:
        """The bound from the original and the lumped network in its shape: by the differences of
        their weights, layer by layer, or by relaxation; by relaxation alone where the steps do not
        tell what that network is.
        """
        other = expanded(self.draft)
        if other is None:
            return self._relaxed(self.draft.original.logits(), self.draft.finished().logits())
        original = in_double(self.draft.original)
        first, second = (Propagation(n.logits(), self.box) for n in (original, other.network))
        own, apart = {}, {}
        for index, (weights, biases) in other.rounding.items():
            one, layer = weighted(original, index), weighted(other.network, index)
            own[index] = self._off(second, index, weights, biases)
            change = first.change(index, layer.kernel - one.kernel, layer.bias - one.bias)
            apart[index] = own[index] + own_error(self.draft.network, index, change)
        relaxed = self._relaxed(first.network, second.network)
        return np.fmin(second.output_error(apart), relaxed + second.output_error(own))

    def _relaxed(self, first: Network, second: Network) -> np.ndarray:
        """The bound by linear relaxation; infinite where none is known of a layer."""
        box = (self.box.low, self.box.high)
        around: dict[str, Any] = {}
        if self.balls is not None:
            around = {"around": self.balls.samples, "radius": self.balls.radius}
        macs = sum(layer.macs for layer in layer_costs(self.draft.original))
        refine = macs * sum(map(math.prod, self.draft.original.shapes)) <= WORK
        try:
            return deviation_bound(first, second, box, refine, **around)
        except UnsupportedLayerError:
            return self._nothing + np.inf

    def _storage(self, side: Propagation) -> dict[int, np.ndarray]:
        """The errors of layers of which weights are not stored as they are in the draft: merged
        ones, and those on a grid.
        """
        errors = {}
        for index in self.draft.changed:
            layer = side.network.layers[index]
            if isinstance(layer, Weighted):
                stored = cast(Weighted, self.draft.stored(index, layer))
                weights = np.abs(stored.kernel - layer.kernel)
                biases = np.abs(stored.bias - layer.bias)
                if weights.any() or biases.any():
                    errors[index] = self._off(side, index, weights, biases)
        return errors

    def _off(
        self, side: Propagation, index: int, weights: np.ndarray, biases: np.ndarray
    ) -> np.ndarray:
        """The error of a layer's output when its weights and biases are off by so much."""
        layer, box = weighted(side.network, index), side.boxes[side.network.sources[index][0]]
        before = linear(layer, weights, box.magnitude) + biases
        return own_error(self.draft.network, index, before)

    def _of_outputs(self, error: np.ndarray, own: float = 0.0) -> np.ndarray:
        original = self.draft.original
        ends = self.draft.smaller and original.logits() is not original
        return behind_activation(original.layers[-1], error, own) if ends else error
