"""Lumping: merging neurons that compute multiples of one another (proportional lumpability, Ressi, Romanello, Piazza, Rossi).

In a layer with a positively homogeneous activation, neuron j is a multiple of neuron i when its weights and bias, as the already lumped layer before sees
them, are c > 0 times those of i. It goes, and the weights that read i grow by c times those that read j: the function stays the same. With a tolerance, nearly
proportional neurons merge too, under a bound on how far any output can move.
"""

import numpy as np

from ..errors import ParameterError, VerificationError
from ..network import Network
from .bound import Box, input_box, logits, output_error, rounding_errors, softmax_error, unit_roundoff
from .dictionary import lump_neural_network, run_neural_network
from .draft import Draft
from .exact import class_counts, exact_step, merge, published_class_counts, sweep
from .record import Lumping, Merge, merges_of, replay

__all__ = [
    "Lumping",
    "Merge",
    "class_counts",
    "lump",
    "lump_neural_network",
    "published_class_counts",
    "replay",
    "run_neural_network",
]


def lump(network: Network, tolerance=0.0, input_range=None, *, verify=False) -> Lumping:
    """Merge neurons and channels that compute multiples of one another."""
    if not 0 <= tolerance < 1:
        raise ParameterError(f"tolerance must be in [0, 1), found {tolerance!r}")
    box = input_box(network, input_range)
    draft = Draft(network)
    sweep(draft)
    base = draft.network
    merge(draft, box, exact_step)
    sweep(draft)
    if draft.steps:
        error = certificate(draft, base, box)
        bound = error if logits(network) is network else softmax_error(error, unit_roundoff(network))
    else:
        error = bound = np.zeros(network.shapes[-1])
    lumping = Lumping(
        network=draft.finished() if draft.steps else network,
        merges=merges_of(network, draft.steps),
        bound=bound,
        original=network,
        steps=tuple(draft.steps),
        settings={"tolerance": float(tolerance), "input_range": None},
        logits_bound=error,
    )
    if verify:
        check(lumping, box)
    return lumping


def certificate(draft: Draft, base: Network, box: Box) -> np.ndarray:
    """How far the outputs (logits) of a draft can be from those of the network that it was when merging began."""
    base, reduced = logits(base), logits(draft.network)
    first, roundoff = min(draft.changed), unit_roundoff(draft.original)
    local = rounding_errors(base, box, first, roundoff)
    for index, error in draft.local.items():
        local[index] = local.get(index, 0.0) + error
    return output_error(base, local) + output_error(reduced, rounding_errors(reduced, box, first, roundoff))


def check(lumping: Lumping, box: Box, count=512) -> None:
    """Evaluate both networks on random inputs and on corners of the box.

    Raises
    ------
    VerificationError
        When an output differs by more than the bound.
    """
    rng = np.random.default_rng(0)
    shape = (count, *box.low.shape)
    weights = np.concatenate([rng.random(shape), rng.integers(0, 2, shape), np.zeros((1, *box.low.shape)), np.ones((1, *box.low.shape))])
    x = (box.low + weights * (box.high - box.low)).astype(lumping.network.dtype)
    difference = np.abs(lumping.network.predict(x).astype(np.float64) - lumping.original.predict(x)).max(axis=0)
    if (difference > lumping.bound).any():
        worst = np.unravel_index(np.argmax(difference - lumping.bound), difference.shape)
        raise VerificationError(
            f"lumping: output {worst[0] if len(worst) == 1 else worst} differs by {difference[worst]:.3g}, more than the bound {lumping.bound[worst]:.3g}"
        )
