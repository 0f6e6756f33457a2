"""Stochastic path-following quantization: the walk of GPFQ with stochastic rounding.

J. Zhang and R. Saab, SPFQ: a stochastic algorithm and its error analysis for neural network
quantization (2023), with first-order data alignment: aligning w to X̃ and then quantizing is, at
each step, one stochastic rounding of GPFQ's argument.
"""

from .gpfq import ORTHOGONAL, dead_inputs
from .walk import STOCHASTIC, walk


def spfq(weights, G, H, alphabet, rng, pruned=None):
    """As `gpfq`, but each argument goes to the level above or below it, with the probabilities that
    keep its mean.

    Beyond the alphabet's ends there is nothing to choose. `rng` is a numpy Generator.
    """
    return walk(
        weights,
        G,
        H,
        alphabet,
        dead_inputs(H),
        ORTHOGONAL,
        STOCHASTIC,
        uniform=rng.random(weights.shape),
        pruned=pruned,
    )
