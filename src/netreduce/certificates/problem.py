"""What is to be certified: two networks over boxes."""

from dataclasses import dataclass
from numbers import Real
from typing import TypeGuard

import numpy as np

from netreduce.errors import ParameterError, ShapeError
from netreduce.network import Network

from .alignment import aligned
from .program import NAMES, Program, compile_networks

DEFAULT_RANGE = (0.0, 1.0)


@dataclass(frozen=True, eq=False)
class Problem:
    """Two networks with the same inputs and outputs, over one or more boxes.

    Attributes
    ----------
    plain : Program
        Of both, without a softmax at the end.
    program : Program
        The same, the reduced network in the original's shape where that is possible.
    softmax : bool
        Whether both end in a softmax.
    low, high : ndarray, shape (boxes, *input_shape)
    is_of_balls : bool
        Whether the boxes are balls around samples, one or more, or one box.
    """

    original: Network
    reduced: Network
    plain: Program
    program: Program
    softmax: bool
    low: np.ndarray
    high: np.ndarray
    is_of_balls: bool

    @property
    def outputs(self) -> int:
        """Numbers of one output."""
        return int(np.prod(self.original.shapes[-1]))


def problem_of(
    original: Network,
    reduced: Network,
    input_range: tuple | None = None,
    around: np.ndarray | None = None,
    radius: float | None = None,
    intervals: bool = False,
) -> Problem:
    """The problem; raises ShapeError, ParameterError or SampleError where it is none."""
    for what, first, second in (
        ("inputs", original.input_shape, reduced.input_shape),
        ("outputs", original.shapes[-1], reduced.shapes[-1]),
    ):
        if first != second:
            raise ShapeError(
                f"the networks must have {what} of one shape, found {first} (original) and"
                f" {second} (reduced)"
            )
    low, high = input_box(original.input_shape, input_range)
    if (around is None) != (radius is None):
        missing = "radius" if radius is None else "around"
        raise ParameterError(f"balls need both around and radius, {missing} is missing")
    if around is not None and radius is not None:
        low, high = balls(original, low, high, around, radius)
    else:
        low, high = low[None], high[None]
    ends = [_ends_in_softmax(network) for network in (original, reduced)]
    if ends[0] != ends[1]:
        with_, without = NAMES if ends[0] else reversed(NAMES)
        raise ShapeError(
            f"the {with_} network ends in a softmax and the {without} one does not: probabilities"
            " and scores cannot be compared"
        )
    networks = [n.logits() if ends[0] else n for n in (original, reduced)]
    plain = compile_networks(networks, intervals=intervals)
    program = plain if plain.pairs else aligned(plain) or plain
    return Problem(original, reduced, plain, program, ends[0], low, high, around is not None)


def input_box(shape: tuple[int, ...], input_range: tuple | None) -> tuple[np.ndarray, np.ndarray]:
    """The box of inputs: a pair of numbers or of arrays of that shape; [0, 1] by default."""
    expected = f"expected a pair (low, high) of numbers or of arrays of shape {shape}"
    try:
        low, high = (
            np.asarray(end, np.float64)
            for end in (DEFAULT_RANGE if input_range is None else input_range)
        )
    except (TypeError, ValueError):
        raise ParameterError(f"input_range is not a pair; {expected}") from None
    for end in (low, high):
        if end.shape not in ((), shape):
            raise ParameterError(f"input_range has an end of shape {end.shape}; {expected}")
    low, high = (np.broadcast_to(end, shape) for end in (low, high))
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise ParameterError(f"input_range must be finite, found [{low.min()}, {high.max()}]")
    if not (low <= high).all():
        at = tuple(map(int, np.unravel_index(np.argmax(low - high), shape))) if shape else ()
        raise ParameterError(
            f"input_range is empty: low {low[at]} is above high {high[at]} at input {at}"
        )
    return low, high


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is one real number, of Python or NumPy; True and False are none."""
    return isinstance(value, Real) and not isinstance(value, bool)


def balls(
    network: Network, low: np.ndarray, high: np.ndarray, around: np.ndarray, radius: float
) -> tuple[np.ndarray, np.ndarray]:
    """The ends of balls around samples in a box, shape (samples, *input_shape) each.

    Raises
    ------
    ParameterError, SampleError
        A radius ≤ 0; no samples, of another shape, or outside the box.
    """
    if not (is_number(radius) and 0 < radius < np.inf):
        raise ParameterError(f"radius must be a finite number above 0, found {radius!r}")
    samples = network.check_samples(around).astype(np.float64)
    if not len(samples):
        raise ParameterError("around must hold at least one sample, found none")
    outside = ((samples < low) | (samples > high)).reshape(len(samples), -1).any(axis=1)
    if outside.any():
        raise ParameterError(
            f"samples must lie in the input range, found {np.count_nonzero(outside)} of"
            f" {len(samples)} outside, the first of them number {int(np.argmax(outside))}"
        )
    # the ends of a ball are rounded outwards
    below = np.nextafter(samples - radius, -np.inf)
    above = np.nextafter(samples + radius, np.inf)
    return np.maximum(below, low), np.minimum(above, high)


def _ends_in_softmax(network: Network) -> bool:
    last = network.layers[-1]
    return "softmax" in (getattr(last, "activation", None), getattr(last, "name", None))
