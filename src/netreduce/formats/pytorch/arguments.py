"""The arguments of a PyTorch operation, resolved and checked."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from netreduce.errors import ModelFileError, ShapeError, UnsupportedLayerError

from .program import Node
from .values import Builder, Value

Operator: TypeAlias = Callable[[Builder, "Arguments"], Value | list[Value]]


class Arguments:
    """The arguments of a node by name, tensors as values or arrays."""

    def __init__(self, given: Mapping[str, Any], node: Node):
        self._given = given
        self.shapes = node.shapes

    def get(self, name: str, default: Any = None) -> Any:
        """An argument as it is."""
        return self._given.get(name, default)

    @property
    def x(self) -> Value:
        """The tensor that the operation is about."""
        value = self._given.get("self", self._given.get("input"))
        if not isinstance(value, Value):
            raise UnsupportedLayerError("a constant is combined with the input in this order")
        return value

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first output, one sample of it."""
        shape = self.shapes[0]
        if shape is None:
            raise UnsupportedLayerError("it does not keep the samples of a batch apart")
        return shape

    def constant(self, name: str) -> np.ndarray:
        """An array that does not depend on the input."""
        value = self.optional(name)
        if value is None:
            raise UnsupportedLayerError(f"it has no {name}")
        return value

    def optional(self, name: str) -> np.ndarray | None:
        """An array that does not depend on the input, or None."""
        value = self._given.get(name)
        if value is not None and not isinstance(value, np.ndarray):
            raise UnsupportedLayerError(f"its {name} depends on the input")
        return value

    def ints(self, name: str, default: int | Sequence[int], count: int) -> tuple[int, ...]:
        """So many whole numbers; one stands for all."""
        value = self._given.get(name, default)
        value = [value] if isinstance(value, int) else value
        if value == []:
            value = [default] if isinstance(default, int) else default
        if len(value) == 1:
            value = [*value] * count
        if len(value) != count:
            raise ModelFileError(f"{name} has {len(value)} numbers, expected {count}")
        return tuple(int(number) for number in value)

    def expect(self, name: str, *allowed: object) -> None:
        """Refuse an option with other values than these, the first of which is its default."""
        value = self._given.get(name, allowed[0])
        if value not in allowed:
            raise UnsupportedLayerError(
                f"{name} = {value!r} is not supported, only"
                f" {', '.join(repr(option) for option in allowed)}"
            )


def like(builder: Builder, index: int, arguments: Arguments) -> Value:
    """An image that a layer computes, in the shape that the program gives it."""
    return builder.like(index, arguments.shape)


def axis_of(dim: int, value: Value) -> int:
    """An axis of the graph as one of a sample."""
    rank = value.places.ndim + 1
    if not -rank <= dim < rank:
        raise ShapeError(f"axis {dim} of {rank} axes")
    if dim % rank == 0:
        raise UnsupportedLayerError("it does not keep the samples of a batch apart")
    return dim % rank - 1
