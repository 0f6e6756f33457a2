"""Layers that read several tensors."""

from dataclasses import dataclass

import numpy as np

from netreduce.errors import ShapeError

from .base import Layer, Shape


@dataclass(frozen=True, eq=False)
class Add(Layer):
    """Sum of all inputs."""

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) < 2 or len(set(shapes)) != 1:
            raise ShapeError(f"Add expects two or more inputs of one shape, found {shapes}")
        return shapes[0]

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        return sum(inputs[1:], start=inputs[0])


@dataclass(frozen=True, eq=False)
class Subtract(Layer):
    """The first input without the second."""

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) != 2 or len(set(shapes)) != 1:
            raise ShapeError(f"Subtract expects two inputs of one shape, found {shapes}")
        return shapes[0]

    def __call__(self, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return x - y


@dataclass(frozen=True, eq=False)
class Multiply(Layer):
    """Product of all inputs, value by value.

    An axis of length 1 is repeated, and axes that an input lacks come before those it has: gates
    of shape (channels,) or (1, 1, channels) go with an image of shape (height, width, channels).

    Examples
    --------
    >>> Multiply().output_shape((8, 8, 16), (16,))
    (8, 8, 16)
    """

    def output_shape(self, *shapes: Shape) -> Shape:
        try:
            if len(shapes) < 2:
                raise ValueError
            return np.broadcast_shapes(*shapes)
        except ValueError:
            raise ShapeError(
                "Multiply expects two or more inputs that agree but for axes of length 1, found"
                f" {shapes}"
            ) from None

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        rank = max(x.ndim for x in inputs)
        first, *others = (x.reshape(len(x), *(1,) * (rank - x.ndim), *x.shape[1:]) for x in inputs)
        for other in others:
            first = first * other
        return first


@dataclass(frozen=True, eq=False)
class Concatenate(Layer):
    """All inputs side by side along the last axis."""

    def output_shape(self, *shapes: Shape) -> Shape:
        if len(shapes) < 2 or len({shape[:-1] for shape in shapes}) != 1:
            raise ShapeError(
                "Concatenate expects two or more inputs that agree but for the last axis, found"
                f" {shapes}"
            )
        return (*shapes[0][:-1], sum(shape[-1] for shape in shapes))

    def __call__(self, *inputs: np.ndarray) -> np.ndarray:
        return np.concatenate(inputs, axis=-1)
