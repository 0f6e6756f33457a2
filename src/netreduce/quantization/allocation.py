"""Bits for every layer under a budget of bytes.

Each layer is quantized alone at every bit width, and what that does to the network's outputs is
measured: its error curve. Errors of layers nearly add up, and so do their packed bytes, so the best
choice under a budget is an integer program (a knapsack with one width for each layer), which HiGHS
solves. The result is compared with uniform bits of the same budget on validation samples, and is
the better of the two. The idea is that of the HAWQ papers (Z. Yao et al., HAWQ-V3: dyadic neural
network quantization, ICML 2021), with measured errors in place of their Hessians.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from numbers import Real

import numpy as np
from scipy.optimize import Bounds, LinearConstraint, milp

from netreduce.errors import ParameterError
from netreduce.measures.evaluation import merit
from netreduce.measures.packing import layer_bytes, pack
from netreduce.network import INPUT, Network
from netreduce.network.layers import Weighted

from .pipeline import QUANTIZABLE, quantize, quantize_many

WIDTHS = (1.58, 2, 3, 4, 5, 6, 8)
CURVE_SAMPLES = 1000  # on which the error curves are measured
BATCH = 256  # of them that go through the layers at a time
SLACK = 1.05  # by which uniform bits may be larger than thought
TRIES = 20  # of a smaller budget where what was chosen is larger than thought


@dataclass(frozen=True, eq=False)
class Allocation:
    """A network quantized within a budget.

    Attributes
    ----------
    network : Network
    bits : dict of str to float
        Bits of every quantized layer, by name.
    bytes : int
        Length of the packed network (entropy coding).
    uniform : float or None
        The bit width that does best on validation among those that fit for all layers alike; None
        where none fits.
    errors, sizes : ndarray, shape (layers, widths)
        The curves: mean squared change of the outputs when the layer alone is quantized, relative
        to their variance; and the packed bytes of the layer.
    """

    network: Network
    bits: dict[str, float]
    bytes: int
    uniform: float | None
    errors: np.ndarray
    sizes: np.ndarray


def allocate_bits(
    network: Network,
    samples: np.ndarray,
    budget_bytes: float,
    validation: tuple[np.ndarray, np.ndarray] | None = None,
    *,
    method: str = "gptaq",
    radius: str = "output",
    per_channel: bool = True,
    conv: str = "joint",
    damping: float | None = None,
    sweeps: int = 0,
    correct_bias: bool = False,
    widths: Sequence[float] = WIDTHS,
) -> Allocation:
    """Choose the bits of every layer, so that the packed network fits into a budget.

    Parameters
    ----------
    network : Network
    samples : ndarray, shape (samples, *network.input_shape)
        What the method learns from.
    budget_bytes : float
        Largest length of the packed network, `netreduce.cost(...).entropy_bytes`.
    validation : pair of ndarray, optional
        Samples with their classes or numbers, as `netreduce.evaluate` takes them, to compare with
        uniform bits on. Without it, the change of the outputs on `samples` decides.
    method, radius, per_channel, conv, damping, sweeps, correct_bias
        As for `netreduce.quantize`.
    widths : sequence of float
        Bits to choose from.

    Returns
    -------
    Allocation

    Raises
    ------
    ParameterError
        A budget that no choice meets: the message says the smallest possible size.

    Examples
    --------
    >>> from netreduce import Dense, cost
    >>> rng = np.random.default_rng(0)
    >>> layers = [Dense(rng.normal(size=(20, 50)), activation="relu"),
    ...           Dense(rng.normal(size=(50, 5)))]
    >>> network = Network(layers, (20,))
    >>> found = allocate_bits(network, rng.normal(size=(200, 20)), budget_bytes=2000)
    >>> found.bytes <= 2000, list(found.bits)
    (True, ['dense_1', 'dense_2'])
    """
    if not (isinstance(budget_bytes, Real) and budget_bytes > 0):
        raise ParameterError(f"budget_bytes must be a positive number, found {budget_bytes!r}")
    if validation is not None and not (
        isinstance(validation, tuple | list) and len(validation) == 2
    ):
        raise ParameterError(
            "validation must be a pair of samples and their classes or numbers, found"
            f" {type(validation).__name__}"
        )
    widths = sorted(set(widths))
    if not widths:
        raise ParameterError("widths: none given")
    network.check_parameters()
    setting = {
        "method": method,
        "radius": radius,
        "per_channel": per_channel,
        "conv": conv,
        "damping": damping,
        "sweeps": sweeps,
        "correct_bias": correct_bias,
    }
    places = [i for i, layer in enumerate(network.layers) if isinstance(layer, QUANTIZABLE)]
    alone = [{**setting, "bits": bits, "layers": [i]} for i in places for bits in widths]
    narrowest, *wider = [{**setting, "bits": bits} for bits in widths]
    settings = [narrowest, *alone, *wider]
    made = (found for _, found, _ in quantize_many(network, samples, settings))

    def goodness(candidate: Network) -> float:
        if validation is not None:
            return merit(candidate, *validation)
        outputs, target = (_outputs(one, samples[:CURVE_SAMPLES]) for one in (candidate, network))
        return -float(((outputs - target) ** 2).mean())

    first = next(made)
    scores = {widths[0]: goodness(first)}  # refuses validation samples that do not fit
    curves = {i: list(islice(made, len(widths))) for i in places}
    sizes = np.array([[layer_bytes(one, i) for one in curves[i]] for i in places])
    errors = _error_curves(network, samples[:CURVE_SAMPLES], curves)
    around = len(pack(first)) - sizes[:, 0].sum()  # bytes of all that is not quantized

    known = {(0,) * len(places): first}  # by the number of the width of every layer
    for number in range(1, len(widths)):
        if around + sizes[:, number].sum() > SLACK * budget_bytes:
            break
        known[(number,) * len(places)] = next(made)
    alike_fitting = {
        widths[choice[0]]: found
        for choice, found in known.items()
        if len(pack(found)) <= budget_bytes
    }

    def quantized(choice: np.ndarray) -> Network:
        if tuple(choice) not in known:
            bits = {i: widths[k] for i, k in zip(places, choice, strict=True)}
            known[tuple(choice)] = quantize(network, samples, bits=bits, **setting)
        return known[tuple(choice)]

    best = _within(budget_bytes, quantized, errors, sizes, around)
    scores |= {bits: goodness(alike_fitting[bits]) for bits in alike_fitting.keys() - scores.keys()}
    uniform = max(sorted(alike_fitting), key=lambda bits: scores[bits], default=None)
    if uniform is not None and scores[uniform] >= goodness(best):
        best = alike_fitting[uniform]
    return Allocation(best, _bits(best), len(pack(best)), uniform, errors, sizes)


def allocate_kilobytes(
    network: Network,
    samples: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray],
    kilobytes: float,
    method: str = "gptaq",
) -> Network:
    """`allocate_bits` with a budget of so many thousand bytes: a step of a chain."""
    return allocate_bits(network, samples, 1000 * kilobytes, validation, method=method).network


def _error_curves(
    network: Network, samples: np.ndarray, curves: Mapping[int, Sequence[Network]]
) -> np.ndarray:
    """Mean squared changes of the outputs relative to their variance, shape (layers, networks), of
    networks that differ from the analog one in one layer each: all before it is computed once.
    """
    analog = network.logits()
    layers = {i: [one.logits().layers[i] for one in found] for i, found in curves.items()}
    target = _outputs(network, samples)
    sums = np.zeros((len(layers), len(next(iter(layers.values())))))
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH].astype(network.dtype, copy=False)
        values = {INPUT: batch}
        analog_outputs = analog.activations_from(values)
        for index in range(len(analog.layers)):
            if index in layers:
                row = list(layers).index(index)
                for column, layer in enumerate(layers[index]):
                    rest = analog.replace({index: layer}).activations_from(dict(values), index)
                    found = deque(rest, maxlen=1).pop().astype(np.float64)
                    sums[row, column] += ((found - target[start : start + BATCH]) ** 2).sum()
            next(analog_outputs)
    return sums / target.size / (float(target.var()) or 1.0)


def _within(
    budget: float,
    quantized: Callable[[np.ndarray], Network],
    errors: np.ndarray,
    sizes: np.ndarray,
    around: float,
) -> Network:
    """The network of the least sum of errors that fits; sizes of layers nearly add up."""
    room, least = budget - around, sizes.min(axis=1).sum()
    for _ in range(TRIES):
        if room < least:
            break
        found = quantized(_cheapest_errors(errors, sizes, room))
        excess = len(pack(found)) - budget
        if excess <= 0:
            return found
        room -= excess
    smallest = quantized(sizes.argmin(axis=1))
    if len(pack(smallest)) > budget:
        raise ParameterError(
            f"no choice of bits fits into {budget:g} bytes: the smallest network has"
            f" {len(pack(smallest))}"
        )
    return smallest


def _cheapest_errors(errors: np.ndarray, sizes: np.ndarray, room: float) -> np.ndarray:
    """For every layer the number of a width, with the least sum of errors in so many bytes."""
    layers, widths = errors.shape
    one_each = np.kron(np.eye(layers), np.ones(widths))
    solution = milp(
        errors.ravel() / (errors.max() or 1.0),
        integrality=np.ones(errors.size),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(sizes.reshape(1, -1), -np.inf, room),
        ],
    )
    return np.asarray(solution.x.reshape(layers, widths).argmax(axis=1))


def _bits(network: Network) -> dict[str, float]:
    return {
        name: layer.quantization.bits
        for name, layer in zip(network.names, network.layers, strict=True)
        if isinstance(layer, Weighted) and layer.quantization is not None
    }


def _outputs(network: Network, samples: np.ndarray) -> np.ndarray:
    """Outputs before a softmax, which would hide errors."""
    return network.logits().predict(samples).astype(np.float64)
