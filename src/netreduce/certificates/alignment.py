"""A smaller network written as one of the original's shape, neuron by neuron.

Merging replaces neurons by multiples of others, pruning by nothing. So neuron j of the original is
compared with scale_j · (neuron match_j of the reduced network) + offset_j; these, as neurons of
their own, make a network that computes the same function as the reduced one. Its weights are the
original's wherever they may be: a neuron that was merged reads what it read before. Then the
difference of every two neurons is small where the reduction did little, and does not depend on how
large the values are.

Rounding of the new weights is covered as that of sums of so many more terms.
"""

import copy
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from netreduce.network import INPUT

from .functions import Function, Rectifier
from .operators import (
    Convolution,
    GlobalMean,
    Join,
    Matrix,
    Mean,
    Reshape,
    Scale,
    Selection,
    Sum,
)
from .pooling import Maximum
from .program import Node, Operator, Program, pairs_of

MORE_TERMS = 32
Affine = TypeVar("Affine", Matrix, Convolution)


class _NoAlignmentError(Exception):
    """The networks do not do the same thing layer by layer."""


@dataclass(frozen=True)
class Match:
    """Channel j stands for scale_j · (channel index_j of the reduced network) + offset_j."""

    index: np.ndarray
    scale: np.ndarray
    offset: np.ndarray

    @classmethod
    def identity(cls, channels: int) -> "Match":
        return cls(np.arange(channels), np.ones(channels), np.zeros(channels))

    @property
    def is_identity(self) -> bool:
        return bool(
            (self.index == np.arange(len(self.index))).all()
            and (self.scale == 1).all()
            and not self.offset.any()
        )

    def same(self, other: "Match") -> bool:
        return all(
            np.array_equal(getattr(self, key), getattr(other, key))
            for key in ("index", "scale", "offset")
        )


def aligned(program: Program) -> Program | None:
    """The program with the reduced network in the original's shape, or None where that fails."""
    first, second = (sorted(program.needed(end)) for end in program.outputs)
    if len(first) != len(second):
        return None
    result = Program(program.input_shape)
    place = {INPUT: INPUT}  # in the new program, of the original's nodes and the new ones
    twin = {INPUT: INPUT}
    match = {INPUT: Match.identity(program.input_shape[-1])}
    partner = {INPUT: INPUT}
    meets = _meeting(program, first)
    agreed = {INPUT: match[INPUT]}
    try:
        for one, other in zip(first, second, strict=True):
            a, b = program.nodes[one], program.nodes[other]
            if type(a.operator) is not type(b.operator) or tuple(
                partner[s] for s in b.sources
            ) != tuple(a.sources):
                raise _NoAlignmentError
            partner[other] = one
            given = agreed.get(meets[one])
            scales = _keeps_multiples(program, one)
            operator, match[other] = _expanded(a, b, [match[s] for s in b.sources], scales, given)
            agreed.setdefault(meets[one], match[other])
            off = _always_off(program, one)
            if a.shape != b.shape and off.any():
                operator, match[other] = _kept_off(a.operator, operator, match[other], off)
            place[one] = result.add(a.operator, tuple(place[s] for s in a.sources), a.shape, a.name)
            twin[other] = result.add(operator, tuple(twin[s] for s in b.sources), a.shape, b.name)
    except _NoAlignmentError:
        return None
    if not match[program.outputs[1]].is_identity:
        return None
    result.outputs = [place[program.outputs[0]], twin[program.outputs[1]]]
    result.pairs = pairs_of(result)
    return result if result.pairs else None


def _meeting(program: Program, nodes: list[int]) -> dict[int, int]:
    """By node, the first of those whose channels meet its own in sums: they stand for the same."""
    root = {INPUT: INPUT}

    def first(index: int) -> int:
        while root[index] != index:
            index = root[index]
        return index

    for index in nodes:
        operator, sources = program.nodes[index].operator, program.nodes[index].sources
        root[index] = index
        if isinstance(operator, Sum | Rectifier):
            together = {index, *map(first, sources)}
            root.update(dict.fromkeys(together, min(together)))
    return {index: first(index) for index in root}


def _keeps_multiples(program: Program, index: int) -> bool:
    """Whether multiples of a node's values stay multiples behind the functions that read it, and
    behind those that read the sums it goes into.
    """
    readers = [
        (at, node.operator) for at, node in enumerate(program.nodes) if index in node.sources
    ]
    if isinstance(program.nodes[index].operator, Sum):
        linear = (Matrix, Convolution, Mean, GlobalMean)
        readers = [(at, operator) for at, operator in readers if not isinstance(operator, linear)]
    elif not readers:
        return False
    return all(
        isinstance(operator, Rectifier)
        or (isinstance(operator, Sum) and _keeps_multiples(program, at))
        for at, operator in readers
    )


def _always_off(program: Program, index: int) -> np.ndarray:
    """Neurons of a dense layer behind a ReLU and before one that have no weight or bias above 0:
    none need stand for them, and what they are is 0.
    """
    node = program.nodes[index]
    around = [program.nodes[s].operator for s in node.sources if s != INPUT]
    around += [reader.operator for reader in program.nodes if index in reader.sources]
    if (
        not isinstance(node.operator, Matrix)
        or INPUT in node.sources
        or not all(isinstance(f, Rectifier) and not f.slope.any() for f in around)
    ):
        return np.zeros(node.shape, bool)
    return (node.operator.kernel <= 0).all(axis=0) & (node.operator.bias <= 0)


def _kept_off(
    original: Operator, operator: Operator, match: Match, off: np.ndarray
) -> tuple[Operator, Match]:
    """With the original's own weights for neurons that are off, whatever stands for them."""
    assert isinstance(original, Matrix) and isinstance(operator, Matrix)
    kept = copy.copy(operator)
    kept.kernel = np.where(off, original.kernel, operator.kernel)
    kept.transpose = np.ascontiguousarray(kept.kernel.T)
    kept.bias = np.where(off, original.bias, operator.bias)
    return kept, Match(match.index, np.where(off, 0.0, match.scale), match.offset)


def _expanded(
    a: Node, b: Node, matches: list[Match], scales: bool, given: Match | None
) -> tuple[Operator, Match]:
    """The reduced network's operator in the original's shape, and what its channels stand for: of
    weights what those do that they meet, where that is given.
    """
    original, operator, match = a.operator, b.operator, matches[0]
    if isinstance(operator, Matrix) and isinstance(original, Matrix):
        kernel, out = _match_weights(
            original.kernel[None], original.bias, match, operator, scales, given
        )
        expanded = Matrix(kernel[0], out.scale * operator.bias[out.index])
        return _shifted(
            expanded, match.offset @ kernel[0], np.abs(match.offset) @ np.abs(kernel[0])
        ), out
    if isinstance(operator, Convolution) and isinstance(original, Convolution):
        return _expanded_convolution(original, operator, match, scales, given)
    if isinstance(operator, Scale) and isinstance(original, Scale):
        return _expanded_scale(original, operator, match)
    if isinstance(operator, Reshape):
        return original, _flattened(a, b, match)
    if isinstance(operator, Join):
        widths = np.diff([0, *operator.cuts, b.shape[-1]])
        starts = np.concatenate([[0], np.cumsum(widths)[:-1]])
        index = np.concatenate([m.index + s for m, s in zip(matches, starts, strict=True)])
        return original, Match(
            index,
            np.concatenate([m.scale for m in matches]),
            np.concatenate([m.offset for m in matches]),
        )
    if isinstance(operator, Sum):
        if not all(match.same(m) for m in matches) or (match.offset.any()):
            raise _NoAlignmentError
        return original, match
    if isinstance(operator, Maximum):
        if (match.scale < 0).any():
            raise _NoAlignmentError
        return original, match
    if isinstance(operator, Rectifier) and isinstance(original, Rectifier):
        uniform = original.slope.size == 1 or match.is_identity
        if match.offset.any() or (match.scale < 0).any() or not uniform:
            raise _NoAlignmentError
        return (operator if match.is_identity else original), match
    if isinstance(operator, Function):
        if match.offset.any() or not np.isin(match.scale, (1.0,)).all():
            raise _NoAlignmentError
        return original, match
    if isinstance(operator, GlobalMean) or (isinstance(operator, Mean) and not match.offset.any()):
        return original, match
    if isinstance(operator, Selection) and match.is_identity:
        return operator, match
    raise _NoAlignmentError


def _match_weights(
    kernel: np.ndarray,
    bias: np.ndarray,
    match: Match,
    operator: Matrix | Convolution,
    scales: bool,
    given: Match | None,
) -> tuple[np.ndarray, Match]:
    """Which channel of the reduced network each one of the original stands for, where that is not
    given, and its weights.

    kernel : (places, inputs, outputs) of the original, as are the weights; bias : (outputs,).
    """
    target = (
        operator.kernel[None]
        if isinstance(operator, Matrix)
        else operator.layer.kernel.reshape(-1, *operator.layer.kernel.shape[2:])
    )
    inputs = target.shape[1]
    if given and (len(given.index) != kernel.shape[2] or given.index.max() >= target.shape[2]):
        raise _NoAlignmentError
    seen = np.zeros((len(kernel), inputs, kernel.shape[2]))
    for place in range(len(kernel)):
        np.add.at(seen[place], match.index, match.scale[:, None] * kernel[place])
    constant = bias + np.einsum("j,pjt->t", match.offset, kernel)
    out = given or _best(
        np.concatenate([seen.reshape(-1, kernel.shape[2]), constant[None]]),
        np.concatenate([target.reshape(-1, target.shape[2]), operator.bias.reshape(1, -1)]),
        scales,
    )
    # what is missing goes to the weight of the largest neuron of each class
    missing = out.scale * target[:, :, out.index] - seen
    keeper = np.full(inputs, -1)
    for j in np.argsort(match.scale, kind="stable"):
        if match.scale[j] != 0:
            keeper[match.index[j]] = j
    known = keeper >= 0
    if missing[:, ~known].any():
        raise _NoAlignmentError
    kernel = kernel.copy()
    kernel[:, keeper[known]] += missing[:, known] / match.scale[keeper[known]][:, None]
    return kernel, out


def _best(original: np.ndarray, reduced: np.ndarray, scales: bool) -> Match:
    """For every column the closest multiple (or copy) of a column of the other matrix."""
    count = original.shape[1]
    if count == reduced.shape[1]:
        return Match.identity(count)
    with np.errstate(all="ignore"):
        lengths = [np.sqrt((m**2).sum(axis=0)) for m in (original, reduced)]
        if not all(np.isfinite(n).all() for n in lengths):
            raise _NoAlignmentError
        units = [
            m / np.where(n > 0, n, 1) for m, n in zip((original, reduced), lengths, strict=True)
        ]
        cosine = units[0].T @ units[1]
        if scales:
            index = cosine.argmax(axis=1)
            scale = lengths[0] / np.where(lengths[1][index] > 0, lengths[1][index], 1)
            scale = scale * np.maximum(cosine[np.arange(count), index], 0)
            scale = np.where(lengths[1][index] > 0, scale, 0)
        else:
            distance = (
                lengths[0][:, None] ** 2
                + lengths[1] ** 2
                - 2 * cosine * lengths[0][:, None] * lengths[1]
            )
            index, scale = distance.argmin(axis=1), np.ones(count)
    return Match(index, scale, np.zeros(count))


def _shifted(operator: Affine, shift: np.ndarray | float, size: np.ndarray | float) -> Affine:
    """The operator less what the offsets of its inputs add, shift, the sum of magnitudes size."""
    operator.bias_size = np.abs(operator.bias) + 4 * size
    operator.bias = operator.bias - shift
    operator.terms += MORE_TERMS
    return operator


def _expanded_convolution(
    original: Convolution, operator: Convolution, match: Match, scales: bool, given: Match | None
) -> tuple[Convolution, Match]:
    """A convolution of the reduced network, kernel and bias in the original's shape."""
    layer = original.layer
    groups = getattr(layer, "groups", 1), getattr(operator.layer, "groups", 1)
    same = layer.kernel.shape == operator.layer.kernel.shape and groups[0] == groups[1]
    if (
        layer.kernel.shape[:2] != operator.layer.kernel.shape[:2]
        or layer.strides != operator.layer.strides
        or layer.dilation != operator.layer.dilation
        or (original.before != operator.before).any()
        or original.output_shape[:2] != operator.output_shape[:2]
    ):
        raise _NoAlignmentError
    if same and match.is_identity:
        return operator, Match.identity(original.output_shape[-1])
    if groups != (1, 1):
        raise _NoAlignmentError
    if operator.depthwise:
        return _expanded_depthwise(original, operator, match)
    kernel = layer.kernel.reshape(-1, *layer.kernel.shape[2:])
    kernel, out = _match_weights(kernel, original.bias, match, operator, scales, given)
    expanded = Convolution(
        layer.replace(
            kernel=kernel.reshape(layer.kernel.shape), bias=out.scale * operator.bias[out.index]
        ),
        original.input_shape,
    )
    if not match.offset.any():
        return _shifted(expanded, 0.0, 0.0), out
    constant = np.broadcast_to(match.offset, (1, *original.input_shape))
    shift, size = expanded.apply(constant)[0], expanded.magnitude(np.abs(constant))[0]
    return _shifted(expanded, shift, size), out


def _expanded_depthwise(
    original: Convolution, operator: Convolution, match: Match
) -> tuple[Convolution, Match]:
    """A depthwise convolution likewise, every channel on its own."""
    if match.offset.any():
        raise _NoAlignmentError
    first, second = original.layer.kernel, operator.layer.kernel[:, :, match.index]
    if first.shape != second.shape:
        raise _NoAlignmentError
    with np.errstate(all="ignore"):
        ratio = (first * second).sum(axis=(0, 1)) / (second**2).sum(axis=(0, 1))
    ratio = np.where(np.isfinite(ratio) & (ratio > 0), ratio, 1.0)
    multiplier = first.shape[3]
    scale = (ratio * match.scale[:, None]).reshape(-1)
    index = (match.index[:, None] * multiplier + np.arange(multiplier)).reshape(-1)
    expanded = Convolution(
        original.layer.replace(kernel=second * ratio, bias=scale * operator.bias[index]),
        original.input_shape,
    )
    return _shifted(expanded, 0.0, 0.0), Match(index, scale, np.zeros(len(scale)))


def _expanded_scale(original: Scale, operator: Scale, match: Match) -> tuple[Scale, Match]:
    """The original's slopes and shifts, and what they make of the channels."""
    if original.slope.ndim > 1 or operator.slope.ndim != 1:
        if match.is_identity:
            return operator, match
        raise _NoAlignmentError
    if match.is_identity:
        return operator, match
    slope, shift = operator.slope[match.index], operator.bias[match.index]
    if (slope == 0).any():
        raise _NoAlignmentError
    scale = original.slope * match.scale / slope
    offset = original.slope * match.offset + original.bias - scale * shift
    return original, Match(match.index, scale, offset)


def _flattened(a: Node, b: Node, match: Match) -> Match:
    """The match of features, of that of the channels they come from."""
    if len(a.shape) != 1:
        if match.is_identity and a.shape == b.shape:
            return match
        raise _NoAlignmentError
    channels = len(match.index)
    positions = a.shape[0] // channels
    width = b.shape[0] // positions
    index = (np.arange(positions)[:, None] * width + match.index).reshape(-1)
    return Match(index, np.tile(match.scale, positions), np.tile(match.offset, positions))
