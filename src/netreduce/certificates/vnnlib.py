"""VNN-LIB 2.0: a claim about two networks as files that any verifier reads, and back.

A property file holds the negation of the claim: "some input of the box moves some output by more
than ε". So unsat means that the claim holds, and a model of sat is a counterexample.
(https://www.vnnlib.org; the benchmark of isomorphic networks has such files.)
"""

import itertools
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from netreduce.errors import ModelFileError, ParameterError
from netreduce.files import replacing
from netreduce.network import Network

from .problem import input_box, is_number, problem_of

Index = tuple[int, ...]
Form = dict[tuple[str, Index], float]  # weights, by variable and element
Expression = str | list  # of expressions

TOKEN = re.compile(r"[()]|[^\s()]+")
ELEMENT = re.compile(r"([A-Za-z_]\w*)\[([\d,\s]*)\]")
INDEXED = re.compile(r"\[[^\]]*\]")
LARGEST_FILE = 1 << 26  # bytes
DEEPEST = 100


@dataclass(frozen=True, eq=False)
class Claim:
    """|g(x) − f(x)| ≤ epsilon for every output and every input in [low, high]."""

    low: np.ndarray
    high: np.ndarray
    epsilon: float


def write_vnnlib(
    folder: str | Path,
    original: Network,
    reduced: Network,
    epsilon: float,
    input_range: tuple | None = None,
) -> None:
    """Write original.onnx, reduced.onnx and property.vnnlib.

    Parameters
    ----------
    epsilon : float
        The claim: no output moves by more.
    input_range : pair, optional
        (low, high), as for `certify`.

    Raises
    ------
    ShapeError, ParameterError, UnsupportedLayerError
        As `certify`; also for a layer that ONNX lacks.
    """
    if not (is_number(epsilon) and 0 <= epsilon < math.inf):
        raise ParameterError(f"epsilon must be a finite number ≥ 0, found {epsilon!r}")
    from netreduce.formats.export import export  # needs onnx, which certificates do not

    problem_of(original, reduced, input_range)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    export(original, folder / "original.onnx")
    export(reduced, folder / "reduced.onnx")
    low, high = input_box(original.input_shape, input_range)
    with replacing(folder / "property.vnnlib") as temporary:
        temporary.write_text(
            _property(low, high, original.shapes[-1], float(epsilon)), encoding="utf-8"
        )


def read_vnnlib(path: str | Path) -> Claim:
    """The claim whose negation a property file holds.

    Raises
    ------
    ModelFileError
        The file is missing, damaged, or holds anything but a box of inputs that both networks
        share, and deviations of outputs: says what.

    Examples
    --------
    >>> import tempfile
    >>> from netreduce import Dense, Network
    >>> f, g = (Network([Dense([[w], [0.0]])], (2,)) for w in (1.0, 1.1))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_vnnlib(folder, f, g, 0.25, (-1, 2))
    ...     claim = read_vnnlib(f"{folder}/property.vnnlib")
    >>> claim.low, claim.high, claim.epsilon
    (array([-1., -1.]), array([2., 2.]), 0.25)
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise ModelFileError(f"{path}: larger than {LARGEST_FILE:,} bytes")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path}: cannot be read: {error}") from None
    try:
        return _claim(_expressions(text))
    except _PropertyError as error:
        raise ModelFileError(f"{path}: {error}") from None


class _PropertyError(Exception):
    pass


def _property(low: np.ndarray, high: np.ndarray, outputs: tuple[int, ...], epsilon: float) -> str:
    shape, out = (", ".join(map(str, (1, *s))) for s in (low.shape, outputs))
    lines = ["(vnnlib-version <2.0>)", ""]
    for name, relation in (("f", ""), ("g", "\n  (isomorphic-to f)")):
        lines.append(
            f"(declare-network {name}{relation}\n"
            f"  (declare-input X_{name} real [{shape}])\n"
            f"  (declare-output Y_{name} real [{out}])\n)"
        )
    lines.append("")
    for index in itertools.product(*map(range, low.shape)):
        at = ",".join(map(str, (0, *index)))
        lines.append(f"(assert (>= X_f[{at}] {_number(low[index])}))")
        lines.append(f"(assert (<= X_f[{at}] {_number(high[index])}))")
        lines.append(f"(assert (== X_g[{at}] X_f[{at}]))")
    lines += ["", "(assert (or"]
    for index in itertools.product(*map(range, outputs)):
        at = ",".join(map(str, (0, *index)))
        lines.append(f"  (> (- Y_g[{at}] Y_f[{at}]) {_number(epsilon)})")
        lines.append(f"  (> (- Y_f[{at}] Y_g[{at}]) {_number(epsilon)})")
    return "\n".join([*lines, "))", ""])


def _number(value: float) -> str:
    """A decimal number that reads back to the same float64."""
    return np.format_float_positional(value, unique=True, trim="0")


def _expressions(text: str) -> list:
    """The file as nested lists."""
    text = "\n".join(line.split(";")[0] for line in text.splitlines())
    text = INDEXED.sub(lambda match: re.sub(r"\s", "", match.group()), text)
    stack: list[list] = [[]]
    for token in TOKEN.findall(text):
        if token == "(":
            stack.append([])
            if len(stack) > DEEPEST:
                raise _PropertyError(f"brackets nested more than {DEEPEST} deep")
        elif token == ")":
            if len(stack) == 1:
                raise _PropertyError("a closing bracket without an opening one")
            stack[-2].append(stack.pop())
        else:
            stack[-1].append(token)
    if len(stack) != 1:
        raise _PropertyError("an opening bracket is not closed")
    return stack[0]


def _claim(expressions: list) -> Claim:
    inputs, outputs, conditions = _declarations(expressions)
    bounds: dict[tuple[int, ...], list[float]] = {}
    deviations: list[tuple[tuple[int, ...], float, float]] = []
    if len(inputs) != 2 or len(outputs) != 2:
        raise _PropertyError("expected two networks, each with one input and one output")
    first = next(iter(inputs))
    shape = inputs[first]
    for condition in conditions:
        for atom, alternative in _atoms(condition, False):
            form, constant, strict_equal = _linear(atom)
            names = {name for name, _ in form}
            if names <= inputs.keys():
                if not alternative:
                    _add_bound(bounds, form, constant, strict_equal, inputs)
                    continue
            elif names == outputs.keys() and len(form) == 2 and not strict_equal:
                deviations.append(_deviation(form, constant, list(outputs)))
                continue
            raise _PropertyError(f"not a bound of an input nor a deviation of an output: {atom}")
    low, high = np.full(shape, -np.inf), np.full(shape, np.inf)
    for index, (least, most) in bounds.items():
        low[index], high[index] = least, most
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        raise _PropertyError("an input has no bound")
    epsilons = {epsilon for _, _, epsilon in deviations}
    if len(epsilons) != 1:
        raise _PropertyError(f"expected deviations of one size, found {sorted(epsilons)}")
    squeezed = shape[1:] if len(shape) > 1 and shape[0] == 1 else shape
    return Claim(low.reshape(squeezed), high.reshape(squeezed), epsilons.pop())


def _declarations(
    expressions: list[Expression],
) -> tuple[dict[str, Index], dict[str, Index], list[Expression]]:
    """Shapes of inputs and of outputs by name, and the conditions."""
    inputs: dict[str, tuple[int, ...]] = {}
    outputs: dict[str, tuple[int, ...]] = {}
    conditions: list[Expression] = []
    for expression in expressions:
        match expression:
            case ["vnnlib-version", version]:
                if version.strip("<>") != "2.0":
                    raise _PropertyError(f"expected version 2.0, found {version}")
            case ["declare-network", str(), *parts]:
                for part in parts:
                    match part:
                        case ["declare-input" | "declare-output" as kind, name, _, shape]:
                            known = inputs if kind == "declare-input" else outputs
                            known[name] = _shape(shape)
                        case ["isomorphic-to" | "equal-to", str()]:
                            pass
                        case _:
                            raise _PropertyError(f"a declaration that is not known: {part}")
            case ["assert", condition]:
                conditions.append(condition)
            case _:
                raise _PropertyError(f"an expression that is not known: {expression}")
    return inputs, outputs, conditions


def _shape(text: Any) -> Index:
    try:
        shape: Index = tuple(int(n) for n in text.strip("[]").split(",") if n)
    except (AttributeError, ValueError):
        shape = ()
    if not shape or min(shape) < 1 or math.prod(shape) > 1 << 24:
        raise _PropertyError(f"expected a shape, found {text}")
    return shape


def _atoms(condition: Expression, alternative: bool) -> Iterator[tuple[Expression, bool]]:
    """The comparisons of a condition, and whether each is one of several alternatives."""
    match condition:
        case ["and", *parts]:
            for part in parts:
                yield from _atoms(part, alternative)
        case ["or", *parts]:
            for part in parts:
                yield from _atoms(part, alternative or len(parts) > 1)
        case _:
            yield condition, alternative


def _linear(atom: Expression) -> tuple[Form, float, bool]:
    """A comparison as Σ form ≤ constant, and whether it is an equation."""
    match atom:
        case ["<=" | "<", left, right]:
            sides, equal = (left, right), False
        case [">=" | ">", left, right]:
            sides, equal = (right, left), False
        case ["==" | "=", left, right]:
            sides, equal = (left, right), True
        case _:
            raise _PropertyError(f"expected a comparison, found {atom}")
    form: Form = {}
    constant = 0.0
    for side, sign in zip(sides, (1.0, -1.0), strict=True):
        for key, weight in _terms(side, sign):
            if key is None:
                constant -= weight
            else:
                form[key] = form.get(key, 0.0) + weight
    return {key: weight for key, weight in form.items() if weight}, constant, equal


def _terms(
    expression: Expression, weight: float
) -> Iterator[tuple[tuple[str, Index] | None, float]]:
    """The products of a sum: an element, or None for a constant, and its weight."""
    match expression:
        case str() if found := ELEMENT.fullmatch(expression):
            index = tuple(int(n) for n in found[2].split(",") if n)
            yield (found[1], index), weight
        case str():
            try:
                yield None, weight * float(expression)
            except ValueError:
                raise _PropertyError(f"expected a number, found {expression}") from None
        case ["+", *parts]:
            for part in parts:
                yield from _terms(part, weight)
        case ["-", part]:
            yield from _terms(part, -weight)
        case ["-", part, *others]:
            yield from _terms(part, weight)
            for other in others:
                yield from _terms(other, -weight)
        case ["*", str(factor), part] if not ELEMENT.fullmatch(factor):
            for key, inner in _terms(part, weight):
                yield key, inner * float(factor)
        case _:
            raise _PropertyError(f"not a linear expression: {expression}")


def _add_bound(
    bounds: dict[Index, list[float]],
    form: Form,
    constant: float,
    equal: bool,
    inputs: dict[str, Index],
) -> None:
    """Take a bound of an input, form ≤ or = constant, into its interval."""
    if len(form) == 2 and equal and constant == 0:
        (first, second), weights = list(form), list(form.values())
        if first[0] != second[0] and first[1] == second[1] and sum(weights) == 0:
            return  # the networks share this input
    if len(form) != 1:
        raise _PropertyError(f"expected a bound of one input, found {form}")
    (((name, index), weight),) = form.items()
    shape = inputs[name]
    if len(index) != len(shape) or any(i >= n for i, n in zip(index, shape, strict=True)):
        raise _PropertyError(f"{name}{list(index)} is outside of shape {shape}")
    least, most = bounds.setdefault(index, [-math.inf, math.inf])
    value = constant / weight
    if weight < 0 or equal:
        least = max(least, value)
    if weight > 0 or equal:
        most = min(most, value)
    bounds[index] = [least, most]


def _deviation(form: Form, constant: float, names: list[str]) -> tuple[Index, float, float]:
    """± (g_i − f_i) ≤ −ε, as (i, sign, ε)."""
    (first, second), weights = list(form), list(form.values())
    if first[1] != second[1] or weights[0] + weights[1] != 0:
        raise _PropertyError(f"expected the difference of one output, found {form}")
    sign = form[next(key for key in form if key[0] == names[1])]
    return first[1], sign, -constant / abs(sign)
