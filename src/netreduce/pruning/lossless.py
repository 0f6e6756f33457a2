"""Lossless compression: neurons that never change their side go, and the outputs stay.

Over a box of inputs a ReLU that is never active is zero, and one that is always active is linear.
Zeros go. Of linear neurons whose weights are linearly dependent, w_i = Σ α_k w_k, a neuron follows
from the others, h_i = Σ α_k h_k + (b_i − Σ α_k b_k), and what reads it reads those. A layer whose
neurons are all linear is none, and goes into the next. That a neuron is stable is proved: by the
linear relaxation of `netreduce.certificates`, and for those few that no search could refute, by
cases (branch and bound).

T. Serra, A. Kumar and S. Ramalingam, Lossless compression of deep neural networks, CPAIOR 2020
(arXiv 2001.00218).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.linalg import qr, solve_triangular

from netreduce.certificates.attack import ascend
from netreduce.certificates.bounds import Relaxation
from netreduce.certificates.functions import Rectifier
from netreduce.certificates.neurons import can_split, is_positive
from netreduce.certificates.problem import input_box
from netreduce.certificates.program import compile_networks
from netreduce.errors import ParameterError, VerificationError
from netreduce.lumping import lump
from netreduce.lumping.record import replay as replay_lumping
from netreduce.measures.cost import layer_costs
from netreduce.network import INPUT, Network
from netreduce.network.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
)

TOLERANCE = 1e-5  # how far computed outputs may differ, as a part of the largest, at least 1
VERIFY_INPUTS = 64  # random ones, and as many corners
TRIED = 512  # random inputs and corners on which neurons show both sides
CASES = 400  # of other neurons, to decide about one
ROUNDING = 2e-9  # of what is summed: so near to zero is zero; bounds are too wide by about that
LARGEST = 1e3  # sum of the coefficients of a dependence, of weights of length 1
ULPS = 8  # of a weight: up to where weights count as linearly dependent


@dataclass(frozen=True, eq=False)
class Lossless:
    """A network without the neurons that it does not need on a range of inputs.

    Attributes
    ----------
    network : Network
    removed : dict of str to int
        By layer of the original: how many of its neurons (channels) are gone.
    """

    network: Network
    removed: dict[str, int]
    steps: dict = field(repr=False)

    def record(self) -> dict:
        """What was done, ready for JSON: the steps that `replay` repeats, and `removed`."""
        return {**self.steps, "removed": self.removed}


def lossless(network: Network, input_range: tuple | None = None) -> Lossless:
    """Take out what a network does not need on a range of inputs: the outputs stay, up to rounding.

    Neurons (channels) that are never active go; those of a dense layer that are always active, if
    they are linearly dependent; dense layers all of whose neurons are always active merge with the
    next one, if that makes no more weights; multiples merge as in `netreduce.lump`. Quantized
    layers are left as they are.

    Parameters
    ----------
    network : Network
    input_range : pair, optional
        (low, high), numbers or arrays of the input's shape; [0, 1] by default.

    Returns
    -------
    Lossless
        `.network`, `.removed`, `.record()`.

    Raises
    ------
    ParameterError
        A range that is empty or not finite; parameters that are NaN or infinite.
    UnsupportedLayerError
        A layer without a linear relaxation.
    VerificationError
        Outputs that differ by more than 1e-5 of the largest, on random inputs and corners of the
        range: large weights that cancel.

    Examples
    --------
    On [0, 1] the first neuron is never active; the others always are, and the last is their sum:

    >>> from netreduce import Dense
    >>> hidden = Dense([[-1.0, 1.0, 0.0, 1.0], [-1.0, 0.0, 2.0, 2.0]], [0, 1, 1, 3], "relu")
    >>> network = Network([hidden, Dense(np.ones((4, 1)), activation="relu"), Dense([[1.0]])], (2,))
    >>> compressed = lossless(network)
    >>> compressed.removed
    {'dense_1': 4, 'dense_2': 1}
    >>> compressed.network.layers[0].kernel.ravel(), compressed.network.layers[0].bias
    (array([2., 4.]), array([5.]))
    """
    network.check_parameters()
    low, high = input_box(network.input_shape, input_range)
    never, always = _stable(network, low, high)
    steps: dict = {
        "input_range": [
            float(end.flat[0]) if np.ptp(end) == 0 else end.tolist() for end in (low, high)
        ],
        "inactive": {network.names[i]: np.flatnonzero(mask).tolist() for i, mask in never.items()},
        "dependent": {},
        "linear": [],
    }
    changed = _silenced(network, steps["inactive"])
    for index, active in always.items():
        found = _dependence(changed, index, active)
        if found:
            steps["dependent"][network.names[index]] = found
            changed = _handed_over(changed, network.names[index], found)
        layer = network.layers[index]
        if (active | never[index]).all() and isinstance(layer, Dense):
            steps["linear"].append(network.names[index])
            changed = _linear(changed, network.names[index])
    lumping = lump(changed, input_range=(low, high))
    steps["lumping"] = lumping.record()
    compressed, merged = _joined(lumping.network)
    _verify(network, compressed, low, high)
    removed = {
        cost.name: cost.neurons - (0 if cost.name in merged else left.neurons)
        for cost, left in zip(layer_costs(network), layer_costs(lumping.network), strict=True)
        if cost.name in merged or left.neurons < cost.neurons
    }
    return Lossless(compressed, removed, steps)


def replay(network: Network, record: Mapping) -> Network:
    """Repeat what a record of `Lossless` says.

    Parameters
    ----------
    network : Network
        The one that was compressed, or one of the same layers.
    record : mapping
        From `Lossless.record`.

    Returns
    -------
    Network

    Raises
    ------
    ParameterError
        A record of other layers.
    """
    changed = _silenced(network, record["inactive"])
    for name in dict.fromkeys([*record["dependent"], *record["linear"]]):
        if name in record["dependent"]:
            changed = _handed_over(changed, name, record["dependent"][name])
        if name in record["linear"]:
            changed = _linear(changed, name)
    return _joined(replay_lumping(changed, record["lumping"]))[0]


def _stable(
    network: Network, low: np.ndarray, high: np.ndarray
) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
    """By layer, in order: which neurons (channels) are never, and which are always, active."""
    program = compile_networks([network.logits()], ["network"])
    bounds = Relaxation(program, low[None], high[None])
    values = program.forward(_points(low, high, TRIED, seed=0))
    split = can_split(program)

    def refine(bounds: Relaxation, node: int) -> None:
        bounds.refine(node)
        if split and values[node].ndim == 2:
            _decide(bounds, node, values[node])

    bounds.propagate(refine)
    before = {
        node.name.removeprefix("network: "): node.sources[0]
        for node in program.nodes
        if isinstance(node.operator, Rectifier) and not node.operator.slope.any()
    }
    never: dict[int, np.ndarray] = {}
    always: dict[int, np.ndarray] = {}
    for index, layer in enumerate(network.layers):
        if not isinstance(layer, Dense | Conv2D) or layer.quantization is not None:
            continue
        function = _function(network, index)
        if function is not None and network.readers(function):
            node = before[network.names[function]]
            axes = tuple(range(bounds.low[node].ndim - 1))
            zero = ROUNDING * bounds.size[node]
            never[index] = np.asarray((bounds.high[node] <= zero).all(axis=axes))
            always[index] = np.asarray((bounds.low[node] >= -zero).all(axis=axes)) & ~never[index]
    return never, always


def _decide(bounds: Relaxation, node: int, values: np.ndarray) -> None:
    """Tighten the bounds of neurons that are stable, though the relaxation does not show it."""
    low, high = bounds.low[node][0], bounds.high[node][0]
    seen_on, seen_off = (np.asarray((sign * values > 0).any(axis=0)) for sign in (1, -1))
    open_ = np.flatnonzero((low < 0) & (high > 0) & ~(seen_on & seen_off))
    if not len(open_):
        return
    rows = np.zeros((len(open_), low.size))
    rows[np.arange(len(open_)), open_] = np.where(seen_on[open_], -1.0, 1.0)
    start, lowest, highest = (
        np.repeat(end, len(open_), axis=0)
        for end in (bounds.center, bounds.low[INPUT], bounds.high[INPUT])
    )
    points = ascend(bounds.program, lowest, highest, start, {node: rows})
    refuted = (bounds.program.forward(points)[node] * rows).sum(axis=1) > 0
    for neuron, row in zip(open_[~refuted], rows[~refuted], strict=True):
        if is_positive(bounds, node, -row, CASES, np.inf)[0]:
            end = bounds.high if row[neuron] > 0 else bounds.low
            end[node][0, neuron] = 0.0


def _function(network: Network, index: int) -> int | None:
    """The layer that has the ReLU of a layer with weights: itself, or one behind it."""
    while getattr(network.layers[index], "activation", "linear") == "linear":
        readers = network.readers(index)
        if len(readers) != 1:
            return None
        index = readers[0]
        layer = network.layers[index]
        if isinstance(layer, Activation) and layer.name == "relu":
            return index
        if not isinstance(layer, BatchNormalization | Dropout):
            return None
    return index if getattr(network.layers[index], "activation", None) == "relu" else None


def _silenced(network: Network, inactive: Mapping[str, list[int]]) -> Network:
    """The network with the inputs of these neurons' ReLUs set to zero."""
    changes = {}
    for name, neurons in inactive.items():
        index, last = _indices(network, name, neurons)
        while neurons:
            layer = network.layers[index]
            arrays = {
                key: array.copy()
                for key, array in layer.arrays().items()
                if key in ("kernel", "bias", "gamma", "beta")
            }
            for array in arrays.values():
                array[..., neurons] = 0
            changes[index] = layer.replace(**arrays) if arrays else layer
            if index == last:
                break
            (index,) = network.readers(index)
    return network.replace(changes)


def _indices(network: Network, name: str, neurons: Sequence[int] = ()) -> tuple[int, int]:
    """A layer by name, with neurons of these numbers, and the one that has its ReLU."""
    index = network.names.index(name) if name in network.names else -1
    function = _function(network, index) if index >= 0 else None
    if function is None:
        raise ParameterError(f"the record is of another network: no layer {name} with a ReLU")
    outputs = network.shapes[index][-1]
    if max(neurons, default=-1) >= outputs:
        raise ParameterError(
            f"the record is of another network: neuron {max(neurons)} of {name}, which has"
            f" {outputs}"
        )
    return index, function


def _dependence(network: Network, index: int, active: np.ndarray) -> dict | None:
    """Of a dense layer's linear neurons those that follow from others, and how."""
    layer = network.layers[index]
    if not isinstance(layer, Dense) or layer.activation != "relu" or not _readers(network, index):
        return None
    linear = np.flatnonzero(active)
    W = layer.kernel[:, linear].astype(np.float64)
    norms = np.linalg.norm(W, axis=0)
    norms[norms == 0] = 1
    R, order = qr(W / norms, mode="r", pivoting=True)
    epsilon = ULPS * float(np.finfo(layer.kernel.dtype).eps)
    rank = int((np.abs(np.diagonal(R)) > epsilon).sum())
    basis, gone = order[:rank], order[rank:]
    alpha = solve_triangular(R[:rank, :rank], R[:rank, rank:])
    calm = np.abs(alpha).sum(axis=0) <= LARGEST
    alpha, gone = alpha[:, calm] * norms[gone[calm]] / norms[basis][:, None], gone[calm]
    off = np.abs(W[:, gone] - W[:, basis] @ alpha)
    exact = (off <= epsilon * (np.abs(W[:, gone]) + np.abs(W[:, basis]) @ np.abs(alpha))).all(
        axis=0
    )
    if not exact.any():
        return None
    alpha, gone = alpha[:, exact], gone[exact]
    bias = layer.bias[linear].astype(np.float64)
    return {
        "neurons": linear[gone].tolist(),
        "into": linear[basis].tolist(),
        "weights": alpha.T.tolist(),
        "shift": (bias[gone] - bias[basis] @ alpha).tolist(),
    }


def _handed_over(network: Network, name: str, found: Mapping) -> Network:
    """The network whose layers read dependent neurons from those that they follow from."""
    gone, into = np.array(found["neurons"]), np.array(found["into"], int)
    alpha, shift = np.array(found["weights"]).reshape(len(gone), len(into)), found["shift"]
    changes = {}
    index = _indices(network, name, [*found["neurons"], *found["into"]])[0]
    for reader in _readers(network, index):
        layer = network.layers[reader]
        assert isinstance(layer, Dense)
        kernel = layer.kernel.astype(np.float64)
        bias = layer.bias + shift @ kernel[gone]
        kernel[into] += alpha.T @ kernel[gone]
        kernel[gone] = 0
        changes[reader] = layer.replace(
            kernel=kernel.astype(layer.kernel.dtype), bias=bias.astype(layer.bias.dtype)
        )
    return network.replace(changes)


def _linear(network: Network, name: str) -> Network:
    """The network without the ReLU of a layer."""
    index = _indices(network, name)[1]
    layer = network.layers[index]
    linear = Activation("linear") if isinstance(layer, Activation) else None
    return network.replace({index: linear or layer.replace(activation="linear")})


def _joined(network: Network) -> tuple[Network, list[str]]:
    """The network with linear dense layers made one with the next, where that makes no more
    parameters; and the names of those that are gone.
    """
    names, merged = list(network.names), []
    while (pair := _linear_pair(network)) is not None:
        first, second = pair
        one, two = network.layers[first], network.layers[second]
        assert isinstance(one, Dense) and isinstance(two, Dense)
        kernel = one.kernel.astype(np.float64) @ two.kernel
        bias = one.bias.astype(np.float64) @ two.kernel + two.bias
        layers = list(network.layers)
        layers[second] = two.replace(
            kernel=kernel.astype(two.kernel.dtype), bias=bias.astype(two.bias.dtype)
        )
        del layers[first]
        (before,) = network.sources[first]
        sources = [
            tuple(before if s == first else s - (s > first) for s in of_layer)
            for index, of_layer in enumerate(network.sources)
            if index != first
        ]
        network = Network(layers, network.input_shape, sources)
        merged.append(names.pop(first))
    return network, merged


def _linear_pair(network: Network) -> tuple[int, int] | None:
    """A linear dense layer and the one that alone reads it, if one of both is not larger."""
    for first, one in enumerate(network.layers):
        readers = network.readers(first)
        if not isinstance(one, Dense) or one.activation != "linear" or len(readers) != 1:
            continue
        two = network.layers[readers[0]]
        if not isinstance(two, Dense) or not one.quantization is two.quantization is None:
            continue
        parameters = one.kernel.size + one.outputs + two.kernel.size
        if len(one.kernel) * two.outputs <= parameters:
            return first, readers[0]
    return None


def _verify(network: Network, compressed: Network, low: np.ndarray, high: np.ndarray) -> None:
    x = _points(low, high, VERIFY_INPUTS, seed=1).astype(network.dtype)
    before, after = (side.predict(x).astype(np.float64) for side in (network, compressed))
    off, allowed = np.abs(after - before).max(), TOLERANCE * max(1.0, np.abs(before).max())
    if not off <= allowed:  # nor NaN
        raise VerificationError(
            f"lossless: outputs differ by {off:.3g} on the range, more than {allowed:.3g}: large"
            " weights cancel, or values overflow"
        )


def _points(low: np.ndarray, high: np.ndarray, count: int, seed: int) -> np.ndarray:
    """So many random points of a box, and so many of its corners."""
    random, shape = np.random.default_rng(seed), (count, *low.shape)
    weights = np.concatenate([random.random(shape), random.integers(0, 2, shape)])
    return low + weights * (high - low)


def _readers(network: Network, index: int) -> list[int]:
    """The dense layers that read a layer, if all that read it are, and none is quantized."""
    found: list[int] = []
    waiting = [index]
    while waiting:
        readers = network.readers(waiting.pop())
        for reader in readers:
            layer = network.layers[reader]
            if isinstance(layer, Dropout):
                waiting.append(reader)
            elif isinstance(layer, Dense) and layer.quantization is None:
                found.append(reader)
            else:
                return []
    return found
