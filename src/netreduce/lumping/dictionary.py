"""Lumping in the dictionary form of the papers: N = (k, S, W, b, A).

k is the number of sets in S, the input layer counted; S[i] holds the neurons of layer i, W[i][r, s]
the weight from r in S[i − 1] to s in S[i], b[i][s] and A[i][s] the bias and the activation's name
of s, for i = 1 .. k − 1.

For real networks use `netreduce.lump`: it is thousands of times faster. This form is for reading
beside the papers (Prabhakar, "Bisimulations for Neural Network Reduction", 2022; Ressi, Romanello,
Piazza, Rossi, "Neural Network Reduction with Proportional Lumpability", 2022).
"""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from netreduce.errors import ParameterError, UnsupportedLayerError
from netreduce.network.activations import activation_function

Layers = list[list[Any]]  # the neurons of every layer
Lumped = tuple[int, dict, dict, dict, dict]  # k, S, W, b, A

CONVENTIONS = ("exact", "thesis")
SPELLINGS = {"leakyrelu": "leaky_relu", "identity": "linear", "swish": "silu"}
ROUNDING = 16 * np.finfo(np.float64).eps


def lump_neural_network(N: Any, convention: str = "exact") -> Lumped:
    """Lump a network given as dictionaries.

    Parameters
    ----------
    N : mapping with the keys "k", "S", "W", "b", "A", or the tuple (k, S, W, b, A)
        Neuron ids are any hashable values, different in all layers.
    convention : {"exact", "thesis"}
        "exact": s' joins the class of s when its incoming weights, as the lumped layer before sees
        them, and its bias are c > 0 times those of s (c = 1 unless the activation is positively
        homogeneous); the next layer gets W̃(C, t) = Σ c_r W(r, t). The lumped network computes the
        same function. "thesis": the published transcription, literally, for comparison only: it
        does **not** preserve the function. It takes ρ = b(s) / b(s') and forms Σ ρ_r W(r, t) where
        it must divide, compares unscaled sums, accepts ρ ≤ 0, so that a neuron of zeros swallows
        every later one, cannot handle a zero bias, ignores activations and lumps outputs.

    Returns
    -------
    k, S, W, b, A
        S[i] maps each class, a tuple of neurons headed by the representative, to the list of its
        members (input neurons stand for themselves). "exact": the classes are the neurons of W, b
        and A, so that the result is a network again (`run_neural_network`). "thesis": as published:
        S also holds the ratios ρ by neuron, the targets of W and the keys of b and A are
        (representative,).

    Raises
    ------
    ParameterError
        For a wrong k, ids used twice, missing or superfluous edges, biases or activations, a weight
        that is not finite: names layer and neuron.
    UnsupportedLayerError
        For an unknown activation: names layer and neuron.

    Examples
    --------
    Neuron 3 is twice neuron 2:

    >>> N = {
    ...     "k": 3,
    ...     "S": [[1], [2, 3], [4]],
    ...     "W": {1: {(1, 2): 1.0, (1, 3): 2.0}, 2: {(2, 4): 3.0, (3, 4): 4.0}},
    ...     "b": {1: {2: 0.5, 3: 1.0}, 2: {4: 0.0}},
    ...     "A": {1: {2: "ReLU", 3: "ReLU"}, 2: {4: "Linear"}},
    ... }
    >>> k, S, W, b, A = lump_neural_network(N)
    >>> W[2]
    {((2, 3), (4,)): 11.0}
    >>> run_neural_network((k, S, W, b, A), [1.0])
    {(4,): 16.5}
    """
    if convention not in CONVENTIONS:
        raise ParameterError(
            f"convention must be one of {', '.join(CONVENTIONS)}, found {convention!r}"
        )
    network = _checked(N)
    return _lump_exact(*network) if convention == "exact" else _lump_thesis(*network)


def run_neural_network(N: Any, inputs: Any) -> dict[Hashable, float]:
    """Values of the output neurons.

    Parameters
    ----------
    N : mapping or tuple
        As for `lump_neural_network`.
    inputs : mapping of input neuron to float, or sequence in the order of S[0]

    Returns
    -------
    dict of output neuron to float

    Examples
    --------
    >>> N = {
    ...     "k": 2,
    ...     "S": [[1], [2]],
    ...     "W": {1: {(1, 2): -3.0}},
    ...     "b": {1: {2: 1.0}},
    ...     "A": {1: {2: "ReLU"}},
    ... }
    >>> run_neural_network(N, {1: -2.0})
    {2: 7.0}
    """
    k, S, W, b, A = _checked(N)
    given = inputs if isinstance(inputs, Mapping) else dict(zip(S[0], inputs, strict=False))
    if len(inputs) != len(S[0]) or set(given) != set(S[0]):
        raise ParameterError(
            f"inputs must give a value to each of the {len(S[0])} input neurons, found"
            f" {len(inputs)}"
        )
    values = {s: float(given[s]) for s in S[0]}
    for i in range(1, k):
        values = {
            s: float(
                activation_function(_activation(A, i, s)).function(
                    np.array([sum(W[i][r, s] * v for r, v in values.items()) + b[i][s]])
                )[0]
            )
            for s in S[i]
        }
    return values


def _lump_exact(k: int, S: Layers, W: dict, b: dict, A: dict) -> Lumped:
    classes = {0: {s: [s] for s in S[0]}}
    weights, biases, activations = {}, {}, {}
    members = {
        s: [(s, 1.0)] for s in S[0]
    }  # of every class of the layer before: its neurons with their multiples of the representative
    for i in range(1, k):
        row = {
            s: [sum(c * W[i][r, s] for r, c in group) for group in members.values()] + [b[i][s]]
            for s in S[i]
        }
        size = {
            s: (
                [sum(abs(c * W[i][r, s]) for r, c in group) for group in members.values()]
                + [abs(b[i][s])]
            )
            for s in S[i]
        }
        groups = [] if i < k - 1 else [[(s, 1.0)] for s in S[i]]
        for s in S[i] if i < k - 1 else ():
            for group in groups:
                representative = group[0][0]
                if _activation(A, i, s) == _activation(A, i, representative):
                    multiple = _multiple(row[s], size[s], row[representative], size[representative])
                    if multiple == 1 or (
                        multiple
                        and activation_function(_activation(A, i, s)).positively_homogeneous
                    ):
                        group.append((s, multiple))
                        break
            else:
                groups.append([(s, 1.0)])
        before, members = members, {tuple(s for s, _ in group): group for group in groups}
        classes[i] = {key: list(key) for key in members}
        weights[i] = {
            (source, key): w
            for key in members
            for source, w in zip(before, row[key[0]][:-1], strict=True)
        }
        biases[i] = {key: b[i][key[0]] for key in members}
        activations[i] = {key: A[i][key[0]] for key in members}
    return k, classes, weights, biases, activations


def _multiple(
    row: Sequence[float], size: Sequence[float], other: Sequence[float], other_size: Sequence[float]
) -> float | None:
    """c > 0 with row = c · other up to the rounding of the terms that were summed, or None."""
    mine, sizes, theirs, their_sizes = map(np.array, (row, size, other, other_size))
    pivot = np.argmax(np.abs(theirs))
    if theirs[pivot] == 0:
        return None if mine.any() else 1.0
    multiple = mine[pivot] / theirs[pivot]
    off = np.abs(mine - multiple * theirs)
    if not (multiple > 0 and (off <= ROUNDING * (sizes + multiple * their_sizes)).all()):
        return None
    return 1.0 if abs(multiple - 1) <= ROUNDING else float(multiple)


def _lump_thesis(k: int, S: Layers, W: dict, b: dict, A: dict) -> Lumped:
    classes: dict = {0: {s: [s] for s in S[0]}}
    weights: dict = {}
    biases: dict = {}
    activations: dict = {}
    sums = scaled = {(r, s): W[1][r, s] for s in S[1] for r in S[0]}
    for i in range(1, k):
        classes[i], before = {}, classes[i - 1]
        weights[i], biases[i], activations[i] = {}, {}, {}
        for s in S[i] if i < k - 1 else ():
            if s in range(i + 1):
                raise ParameterError(
                    f"layer {i}, neuron {s!r}: the published algorithm takes it for layer {s!r};"
                    " use convention='exact' or other ids"
                )
        remaining = list(S[i])
        while remaining:
            s = remaining.pop(0)
            group = [s]
            for other in remaining[:]:
                if b[i][other] == 0:
                    raise ParameterError(
                        f"layer {i}, neuron {other!r}: the published algorithm divides by its bias,"
                        " which is zero; use convention='exact'"
                    )
                ratio = b[i][s] / b[i][other]
                if all(ratio * sums[C, other] == sums[C, s] for C in before):
                    group.append(other)
                    remaining.remove(other)
                    classes[other] = ratio
            classes[i][tuple(group)] = group
            weights[i].update({(C, (s,)): scaled[C, s] for C in before})
            biases[i][(s,)] = b[i][s]
            activations[i][(s,)] = A[i][s]
        if i < k - 1:
            sums = {(C, t): sum(W[i + 1][r, t] for r in C) for C in classes[i] for t in S[i + 1]}
            scaled = {
                (C, t): sum(classes.get(r, 1) * W[i + 1][r, t] for r in C)
                for C in classes[i]
                for t in S[i + 1]
            }
    return k, classes, weights, biases, activations


def _checked(N: Any) -> tuple[int, Layers, dict, dict, dict]:
    """(k, S, W, b, A) with the neurons of every layer as a list."""
    try:
        k, S, W, b, A = (N[key] for key in "kSWbA") if isinstance(N, Mapping) else N
    except (KeyError, TypeError, ValueError):
        raise ParameterError(
            "a network must be a mapping with the keys k, S, W, b, A or a tuple of the five"
        ) from None
    if k != len(S) or k < 2:
        raise ParameterError(
            "k must be the number of layers in S, the input layer counted: at least 2 and here"
            f" {len(S)}, found {k!r}"
        )
    S = [_ordered(S[i]) for i in range(k)]
    layer_of: dict[Hashable, int] = {}
    for i, neurons in enumerate(S):
        for s in neurons:
            if layer_of.setdefault(s, i) != i:
                raise ParameterError(
                    f"layer {i}, neuron {s!r}: the id is taken by a neuron of layer {layer_of[s]}"
                )
    for i in range(1, k):
        if i not in W or i not in b or i not in A:
            raise ParameterError(f"layer {i}: W, b and A need an entry for it")
        edges = {(r, s) for r in S[i - 1] for s in S[i]}
        for r, s in sorted(edges.symmetric_difference(W[i]), key=repr):
            problem = (
                "is missing from"
                if (r, s) in edges
                else "joins no neurons of these layers but stands in"
            )
            raise ParameterError(f"layer {i}, neuron {s!r}: the edge from {r!r} {problem} W[{i}]")
        for name, values in (("bias", b[i]), ("activation", A[i])):
            for s in sorted(set(S[i]).symmetric_difference(values), key=repr):
                raise ParameterError(
                    f"layer {i}, neuron {s!r}:"
                    f" {'no ' + name + ' given' if s in S[i] else name + ' of an unknown neuron'}"
                )
        for (r, s), weight in W[i].items():
            if not np.isfinite(weight):
                raise ParameterError(f"layer {i}, neuron {s!r}: the weight from {r!r} is {weight}")
        for s in S[i]:
            if not np.isfinite(b[i][s]):
                raise ParameterError(f"layer {i}, neuron {s!r}: the bias is {b[i][s]}")
            _activation(A, i, s)
    return k, S, W, b, A


def _ordered(neurons: Iterable[Any]) -> list[Any]:
    try:
        return sorted(neurons) if isinstance(neurons, set | frozenset) else list(neurons)
    except TypeError:
        return list(neurons)


def _activation(A: dict, i: int, s: Hashable) -> str:
    """The activation's Keras name."""
    name = str(A[i][s]).lower()
    try:
        function = activation_function(SPELLINGS.get(name, name))
    except UnsupportedLayerError as error:
        raise UnsupportedLayerError(f"layer {i}, neuron {s!r}: {error}") from None
    if not function.elementwise:
        raise UnsupportedLayerError(
            f"layer {i}, neuron {s!r}: activation {A[i][s]!r} couples neurons"
        )
    return SPELLINGS.get(name, name)
