"""Greedy path-following quantization.

E. Lybrand and R. Saab, A greedy algorithm for quantizing neural networks, JMLR 22 (2021); the
sparse modes: J. Zhang, Y. Zhou and R. Saab, Post-training quantization for neural networks with
provable guarantees, SIAM J. Math. Data Sci. 5 (2023).

Each weight is rounded so that the sum of what is quantized so far stays close to its analog
counterpart on the samples: q_t = nearest level to ⟨X̃_t, u_{t−1} + w_t X_t⟩ / ‖X̃_t‖², u_t = u_{t−1}
+ w_t X_t − q_t X̃_t. The samples enter through inner products only, so the walk runs on G = X̃ᵀX and
H = X̃ᵀX̃.

The published program sets q_t = 0 where ‖X̃_t‖ < 1e-16, and rounds w_t itself where |⟨X̃_t, u_{t−1}⟩|
< 1e-10. Both cutoffs depend on the unit of the inputs. Here an input is dead when it is zero on all
samples, and the second cutoff is relative (`orthogonal`).
"""

import numpy as np

from .accumulator import Budget
from .alphabet import Alphabet
from .walk import HARD, SOFT, walk

THRESHOLD = 0.05  # of the sparse modes, as a fraction of the radius
ORTHOGONAL = 1e-12  # |⟨X̃_t, u_{t−1}⟩| below which w_t itself is rounded, see `orthogonal`


def dead_inputs(H: np.ndarray) -> np.ndarray:
    """Which inputs are zero on all samples, shape (groups, inputs)."""
    return np.diagonal(H, axis1=1, axis2=2) == 0


def orthogonal(H: np.ndarray) -> np.ndarray:
    """The |⟨X̃_t, u_{t−1}⟩| that counts as zero, in units of the alphabet's radius; shape (groups,
    inputs).

    It is ORTHOGONAL · ‖X̃_t‖ · (root mean square of all ‖X̃_j‖): neither the unit of the inputs nor
    that of the weights matters.
    """
    norms = np.sqrt(np.diagonal(H, axis1=1, axis2=2))
    return ORTHOGONAL * norms * np.sqrt(np.mean(norms**2, axis=1, keepdims=True))


def gpfq(
    weights: np.ndarray,
    G: np.ndarray,
    H: np.ndarray,
    alphabet: Alphabet,
    pruned: np.ndarray | None = None,
    budget: Budget | None = None,
) -> np.ndarray:
    """The greedy walk; weights of dead inputs get code 0.

    Parameters
    ----------
    weights : ndarray, shape (groups, inputs, neurons), float64
    G, H : ndarray, shape (groups, inputs, inputs), float64
        X̃ᵀX and X̃ᵀX̃ of the inputs X of the analog and X̃ of the quantized network.
    alphabet : Alphabet
    pruned : ndarray of bool, as weights, optional
        Weights that get code 0.
    budget : Budget, optional
        What the sums of every neuron may take.

    Returns
    -------
    ndarray, shape (groups, inputs, neurons)
        Codes: the quantized weight is scale · code.

    Examples
    --------
    The second input repeats the first, so the second weight makes up for the first one's error.

    >>> H = np.ones((1, 2, 2))
    >>> alphabet = Alphabet(np.asarray(0.5), 2)  # levels −1, 0, 1
    >>> weights = np.array([[[0.4], [0.4]]])
    >>> (alphabet.scale * gpfq(weights, H, H, alphabet)).ravel()
    array([0., 1.])
    """
    dead = dead_inputs(H)
    return walk(weights, G, H, alphabet, dead, orthogonal(H), pruned=pruned, budget=budget)


def gpfq_soft(
    weights: np.ndarray,
    G: np.ndarray,
    H: np.ndarray,
    alphabet: Alphabet,
    threshold: float = THRESHOLD,
    pruned: np.ndarray | None = None,
) -> np.ndarray:
    """The walk with soft thresholding, sign(z) max(|z| − λ, 0), before the nearest level: an ℓ¹
    penalty on the weights.

    λ = threshold · radius. The paper's alphabet has the level 0; one that lacks it gets it here.
    """
    dead = dead_inputs(H)
    return walk(weights, G, H, alphabet, dead, orthogonal(H), SOFT, threshold, pruned=pruned)


def gpfq_hard(
    weights: np.ndarray,
    G: np.ndarray,
    H: np.ndarray,
    alphabet: Alphabet,
    threshold: float = THRESHOLD,
    pruned: np.ndarray | None = None,
) -> np.ndarray:
    """The walk with hard thresholding (0 where |z| ≤ λ) before the nearest level, λ = threshold ·
    radius.

    The paper's levels are 0 and ±(λ + kδ). Those of an alphabet without 0, of scale s, are ±s, ±3s,
    …: with the 0 that they get here, the paper's for λ = s, δ = 2s, which is threshold = 1 / top.
    With other thresholds, and with alphabets that have 0, the levels are not the paper's.
    """
    dead = dead_inputs(H)
    return walk(weights, G, H, alphabet, dead, orthogonal(H), HARD, threshold, pruned=pruned)
