"""GPTAQ: GPTQ's steps with a second correction, for what the quantized layers before have changed
in the inputs.

Y. Li, R. Yin, D. Lee, S. Xiao and P. Panda, GPTAQ: efficient finetuning-free quantization for
asymmetric calibration, ICML 2025.

After rounding w_t the later weights move by −(w_t − q_t) / U[t, t] · U[t, t+1:] + w_t P[t, t+1:],
where H⁻¹ = Uᵀ U and P = strict(ΔX X̃ᵀ Uᵀ) U: ΔX = X − X̃ are the changes of the inputs, and strict
keeps what is above the diagonal. With the unit triangular M = U / diag U, the weights z that the
steps round solve z (M − P) = w + q (M − I). So z = w A + q (M A − A) with A = (M − P)⁻¹: a walk,
with G = Aᵀ and H = (A − M A)ᵀ + I.
"""

import numpy as np

from .alphabet import Alphabet
from .gpfq import dead_inputs
from .gptq import DAMPING, cholesky_upper, damped
from .walk import walk


def gptaq(
    weights: np.ndarray,
    G: np.ndarray,
    H: np.ndarray,
    alphabet: Alphabet,
    damping: float = DAMPING,
    pruned: np.ndarray | None = None,
    factors: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """Codes by GPTAQ, in the order of the inputs; weights of dead inputs get code 0, and later ones
    make up for what these added in the analog network.

    Parameters
    ----------
    weights : ndarray, shape (groups, inputs, neurons), float64
    G, H : ndarray, shape (groups, inputs, inputs), float64
        X̃ᵀX and X̃ᵀX̃ of the inputs X of the analog and X̃ of the quantized network.
    alphabet : Alphabet
    damping : float
        What is added to the diagonal of H, as a fraction of its mean.
    pruned : ndarray of bool, as weights, optional
        Weights that get code 0.
    factors : pair of ndarray, optional
        What `factorize` makes of G, H and the damping, where it is known.

    Returns
    -------
    ndarray, shape (groups, inputs, neurons)
    """
    ours, theirs = factorize(G, H, damping) if factors is None else factors
    return walk(weights, ours, theirs, alphabet, dead_inputs(H), pruned=pruned)


def factorize(
    G: np.ndarray, H: np.ndarray, damping: float = DAMPING
) -> tuple[np.ndarray, np.ndarray]:
    """The lower triangular matrices of the walks of all groups."""
    ours, theirs = zip(*(_triangles(g, h, damping) for g, h in zip(G, H, strict=True)), strict=True)
    return np.stack(ours), np.stack(theirs)


def _triangles(G: np.ndarray, H: np.ndarray, damping: float) -> tuple[np.ndarray, np.ndarray]:
    from scipy.linalg import solve_triangular

    identity = np.eye(len(H))
    R = cholesky_upper(damped(H, damping), damping)
    U = solve_triangular(R, identity)  # H⁻¹ = R⁻ᵀ R⁻¹ = Uᵀ U
    M = U / np.diagonal(U)[:, None]
    P = np.triu((G.T - H) @ U.T, 1) @ U
    A = solve_triangular(M - P, identity, unit_diagonal=True)
    return np.ascontiguousarray(A.T), np.ascontiguousarray((A - M @ A).T + identity)
