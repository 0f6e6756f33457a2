"""Stochastic path-following quantization: the walk of GPFQ with stochastic rounding.

J. Zhang and R. Saab, SPFQ: a stochastic algorithm and its error analysis for neural network
quantization (2023), with first-order data alignment: aligning w to X̃ and then quantizing is, at
each step, one stochastic rounding of GPFQ's argument.
"""

import numpy as np

from .alphabet import Alphabet
from .gpfq import dead_inputs
from .walk import STOCHASTIC, walk


def spfq(
    weights: np.ndarray,
    G: np.ndarray,
    H: np.ndarray,
    alphabet: Alphabet,
    rng: np.random.Generator,
    pruned: np.ndarray | None = None,
) -> np.ndarray:
    """As `gpfq`, but each argument goes to the level above or below it, with the probabilities that
    keep its mean.

    The published shortcut of GPFQ, w_t itself where the walk so far is orthogonal to X̃_t, would not
    keep the mean and is not taken. Beyond the alphabet's ends there is nothing to choose. `rng` is
    a numpy Generator.
    """
    return walk(
        weights,
        G,
        H,
        alphabet,
        dead_inputs(H),
        mode=STOCHASTIC,
        uniform=rng.random(weights.shape),
        pruned=pruned,
    )
