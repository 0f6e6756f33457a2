"""GPTQ: rounding one weight after the other, the others making up for the error.

E. Frantar, S. Ashkboos, T. Hoefler and D. Alistarh, GPTQ (OPTQ): accurate post-training
quantization for generative pre-trained transformers, ICLR 2023.

The paper rounds w_t and moves the later weights by −(w_t − q_t) / U[t, t] · U[t, t+1:], where H⁻¹ =
Uᵀ U. Unrolled, the weight that step t rounds is w_t + Σ_{j<t} F[t, j] (w_j − q_j), with the
original w and H = Fᵀ D F, F lower triangular with a unit diagonal: a walk, which needs one Cholesky
factorization and no inverse, and whose blocks are the paper's lazy batches.
"""

import numpy as np

from netreduce.errors import ParameterError

from .accumulator import Budget
from .alphabet import Alphabet
from .gpfq import dead_inputs
from .walk import walk

DAMPING = 0.01  # of the mean diagonal entry of H, as in the paper
SINGULAR = 1e-13  # least squared pivot of a regular H, as a fraction of the diagonal entry


def gptq(
    weights: np.ndarray,
    H: np.ndarray,
    alphabet: Alphabet,
    damping: float = DAMPING,
    pruned: np.ndarray | None = None,
    budget: Budget | None = None,
    factors: np.ndarray | None = None,
) -> np.ndarray:
    """Codes by GPTQ, in the order of the inputs; weights of dead inputs get code 0.

    Parameters
    ----------
    weights : ndarray, shape (groups, inputs, neurons), float64
    H : ndarray, shape (groups, inputs, inputs), float64
        X̃ᵀX̃ of the layer's inputs in the quantized network.
    alphabet : Alphabet
    damping : float
        What is added to the diagonal of H, as a fraction of its mean.
    pruned : ndarray of bool, as weights, optional
        Weights that get code 0.
    budget : Budget, optional
        What the sums of every neuron may take.
    factors : ndarray, optional
        What `factorize` makes of H and the damping, where it is known.

    Returns
    -------
    ndarray, shape (groups, inputs, neurons)
    """
    F = factorize(H, damping) if factors is None else factors
    return walk(weights, F, F, alphabet, dead_inputs(H), pruned=pruned, budget=budget)


def factorize(H: np.ndarray, damping: float = DAMPING) -> np.ndarray:
    """The F of every group's damped H."""
    return np.stack([feedback(cholesky_upper(damped(h, damping), damping)) for h in H])


def damped(H: np.ndarray, damping: float) -> np.ndarray:
    """H (inputs × inputs) with damping · (mean diagonal entry of the live inputs) added to the
    diagonal, and 1 for dead inputs.
    """
    dead = dead_inputs(H[None])[0]
    live = np.diagonal(H)[~dead]
    return H + np.diag(np.where(dead, 1.0, damping * live.mean() if len(live) else 0.0))


def cholesky_upper(H: np.ndarray, damping: float) -> np.ndarray:
    """The upper triangular R of H = R Rᵀ.

    Raises
    ------
    ParameterError
        When H is singular to working precision; the message says which damping it had.
    """
    from scipy.linalg import LinAlgError, cholesky  # long to import, and few methods need it

    try:
        R = cholesky(H[::-1, ::-1], lower=True)[::-1, ::-1]
        singular = bool((np.diagonal(R) ** 2 < SINGULAR * np.diagonal(H)).any())
    except LinAlgError:
        singular = True
    if singular:
        raise ParameterError(
            f"H = X̃ᵀX̃ with damping {damping:g} is singular (inputs depend linearly on each other,"
            " or are more than the samples): use a larger damping"
        )
    return R


def feedback(R: np.ndarray) -> np.ndarray:
    """The F of H = Fᵀ D F, lower triangular with a unit diagonal, from H = R Rᵀ."""
    return np.ascontiguousarray((R / np.diagonal(R)).T)
