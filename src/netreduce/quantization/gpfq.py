"""Greedy path-following quantization.

E. Lybrand and R. Saab, A greedy algorithm for quantizing neural networks, JMLR 22 (2021); the
sparse modes: J. Zhang, Y. Zhou and R. Saab, Post-training quantization for neural networks with
provable guarantees, SIAM J. Math. Data Sci. 5 (2023).

Each weight is rounded so that the sum of what is quantized so far stays close to its analog
counterpart on the samples: q_t = nearest level to ⟨X̃_t, u_{t−1} + w_t X_t⟩ / ‖X̃_t‖², u_t =
u_{t−1} + w_t X_t − q_t X̃_t. The samples enter through inner products only, so the walk runs on G =
X̃ᵀX and H = X̃ᵀX̃.
"""

import numpy as np

from .walk import HARD, SOFT, walk

DEAD_NORM = 1e-16  # ‖X̃_t‖ below which the published program sets q_t = 0
THRESHOLD = 0.05  # of the sparse modes, as a fraction of the radius
ORTHOGONAL = 1e-10  # |⟨X̃_t, u_{t−1}⟩| below which it rounds w_t itself


def dead_inputs(H) -> np.ndarray:
    """Which inputs are zero on all samples, shape (groups, inputs)."""
    return np.diagonal(H, axis1=1, axis2=2) < DEAD_NORM**2


def gpfq(weights, G, H, alphabet, pruned=None):
    """The greedy walk; weights of dead inputs get code 0.

    Parameters
    ----------
    weights : ndarray, shape (groups, inputs, neurons), float64
    G, H : ndarray, shape (groups, inputs, inputs), float64
        X̃ᵀX and X̃ᵀX̃ of the inputs X of the analog and X̃ of the quantized network.
    alphabet : Alphabet
    pruned : ndarray of bool, as weights, optional
        Weights that get code 0.

    Returns
    -------
    ndarray, shape (groups, inputs, neurons)
        Codes: the quantized weight is scale · code.
    """
    return walk(weights, G, H, alphabet, dead_inputs(H), ORTHOGONAL, pruned=pruned)


def gpfq_soft(weights, G, H, alphabet, threshold=THRESHOLD, pruned=None):
    """The walk with soft thresholding, sign(z) max(|z| − λ, 0), before the nearest level: an ℓ¹
    penalty on the weights.

    λ = threshold · radius, and 0 joins the levels.
    """
    return walk(weights, G, H, alphabet, dead_inputs(H), ORTHOGONAL, SOFT, threshold, pruned=pruned)


def gpfq_hard(weights, G, H, alphabet, threshold=THRESHOLD, pruned=None):
    """The walk with hard thresholding (0 where |z| ≤ λ) before the nearest level.

    λ = threshold · radius, and 0 joins the levels.
    """
    return walk(weights, G, H, alphabet, dead_inputs(H), ORTHOGONAL, HARD, threshold, pruned=pruned)
