"""COMQ: coordinate descent on codes and scales.

A. Zhang, Z. Yang, N. Wang, Y. Qi, J. Xin, X. Li and P. Yin, COMQ: a backpropagation-free algorithm
for post-training quantization (2024).

The error ‖Xw − δ X̃c‖² is minimized over one code c_t at a time, all others held, and after each
sweep over the codes over the scale δ: both have closed forms. Before the first sweep the weights
are the analog ones; the first sweep is then GPFQ's walk, where X̃ = X. The codes of a neuron are
visited in the order of decreasing |w_t| ‖X̃_t‖ (the paper's greedy order).
"""

import numba
import numpy as np

from netreduce.threads import in_threads

from .alphabet import Alphabet
from .gpfq import dead_inputs
from .gptq import damped

SWEEPS = 4  # the paper's number; what follows changes little


def comq(
    weights: np.ndarray,
    target: np.ndarray,
    H: np.ndarray,
    alphabet: Alphabet,
    sweeps: int = SWEEPS,
    pruned: np.ndarray | None = None,
) -> tuple[np.ndarray, Alphabet]:
    """Codes and the alphabet with the scales that fit them; weights of dead inputs get code 0.

    Parameters
    ----------
    weights : ndarray, shape (groups, inputs, neurons), float64
    target : ndarray, as weights
        X̃ᵀXw of the inputs X of the analog and X̃ of the quantized network.
    H : ndarray, shape (groups, inputs, inputs), float64
        X̃ᵀX̃.
    alphabet : Alphabet
        The scales to begin with: one for all, or of shape (groups, 1, neurons).
    sweeps : int
        Number of sweeps over all codes.
    pruned : ndarray of bool, as weights, optional
        Weights that get code 0.

    Returns
    -------
    codes : ndarray, shape (groups, inputs, neurons)
    alphabet : Alphabet
    """
    fixed = _fixed(weights, H, pruned)
    levels = np.where(fixed, 0.0, weights)
    return _descend(np.zeros(weights.shape), levels, weights, target, H, alphabet, fixed, sweeps)


def refine(
    codes: np.ndarray,
    weights: np.ndarray,
    target: np.ndarray,
    H: np.ndarray,
    alphabet: Alphabet,
    damping: float,
    sweeps: int,
    pruned: np.ndarray | None = None,
) -> tuple[np.ndarray, Alphabet]:
    """Codes of another method after sweeps from there, and the alphabet with the scales that fit
    them.

    The error to minimize is ‖Xw − X̃q‖² + λ ‖q − w‖², λ = damping · (mean diagonal entry of H): what
    the samples leave open stays near the weights. It never rises. Parameters are those of `comq`.
    """
    fixed = _fixed(weights, H, pruned)
    codes = np.where(fixed, 0.0, codes)
    wider = np.stack([damped(h, damping) for h in H])
    target = target + (wider - H) @ np.where(fixed, 0.0, weights)
    alphabet = Alphabet(best_scale(codes, target, wider, alphabet.scale), alphabet.top)
    levels = alphabet.scale * codes
    return _descend(codes, levels, weights, target, wider, alphabet, fixed, sweeps)


def _fixed(weights: np.ndarray, H: np.ndarray, pruned: np.ndarray | None) -> np.ndarray:
    dead = np.broadcast_to(dead_inputs(H)[:, :, None], weights.shape)
    return dead if pruned is None else dead | pruned


def _descend(
    codes: np.ndarray,
    levels: np.ndarray,
    weights: np.ndarray,
    target: np.ndarray,
    H: np.ndarray,
    alphabet: Alphabet,
    fixed: np.ndarray,
    sweeps: int,
) -> tuple[np.ndarray, Alphabet]:
    """Codes and alphabet after sweeps that begin with `levels`."""
    norms = np.sqrt(np.diagonal(H, axis1=1, axis2=2))[:, :, None]
    order = np.argsort(-np.abs(weights) * norms, axis=1, kind="stable")
    for _ in range(sweeps):
        before = codes
        codes = _sweep(levels, target - H @ levels, H, alphabet, fixed, order)
        alphabet = Alphabet(best_scale(codes, target, H, alphabet.scale), alphabet.top)
        levels = alphabet.scale * codes
        if np.array_equal(codes, before):
            break
    return codes, alphabet


def best_scale(
    codes: np.ndarray, target: np.ndarray, H: np.ndarray, scale: np.ndarray
) -> np.ndarray:
    """The δ with the least ‖Xw − δ X̃c‖², ⟨Xw, X̃c⟩ / ‖X̃c‖², for all neurons that share one; `scale`
    itself where that is not positive.

    Parameters
    ----------
    codes, target : ndarray, shape (groups, inputs, neurons)
        `target` is X̃ᵀXw.
    H : ndarray, shape (groups, inputs, inputs)
    scale : ndarray, shape () or (groups, 1, neurons)
    """
    axes = None if np.ndim(scale) == 0 else 1
    inner = (codes * target).sum(axis=axes, keepdims=axes is not None)
    squares = (codes * (H @ codes)).sum(axis=axes, keepdims=axes is not None)
    fits = (inner > 0) & (squares > 0)
    return np.where(fits, inner / np.where(fits, squares, 1.0), scale)


def output_error(levels: np.ndarray, target: np.ndarray, H: np.ndarray) -> np.ndarray:
    """‖Xw − X̃q‖² of every neuron less ‖Xw‖², −2 q·X̃ᵀXw + q·(Hq), shape (groups, 1, neurons); q are
    its `levels`, the other parameters those of `best_scale`.
    """
    return np.asarray((levels * (H @ levels - 2 * target)).sum(axis=1, keepdims=True))


def _sweep(
    levels: np.ndarray,
    residual: np.ndarray,
    H: np.ndarray,
    alphabet: Alphabet,
    fixed: np.ndarray,
    order: np.ndarray,
) -> np.ndarray:
    """Codes after one sweep from `levels`; `residual` is X̃ᵀ(Xw − X̃ levels)."""
    groups, _, neurons = levels.shape
    scale = np.broadcast_to(alphabet.scale, (groups, 1, neurons))[:, 0]
    codes = np.zeros(levels.shape)

    def part(first: int, last: int) -> None:
        _visit(levels, residual, H, scale, alphabet.top, fixed, order, codes, first, last)

    in_threads(part, neurons)
    return codes


@numba.njit(nogil=True, cache=True)
def _visit(
    levels: np.ndarray,
    residual: np.ndarray,
    H: np.ndarray,
    scale: np.ndarray,
    top: int,
    fixed: np.ndarray,
    order: np.ndarray,
    codes: np.ndarray,
    first: int,
    last: int,
) -> None:
    groups, inputs, _ = levels.shape
    for group, n in np.ndindex(groups, last - first):
        n += first
        s = scale[group, n]
        left = residual[group, :, n].copy()
        for step in range(inputs):
            t = order[group, step, n]
            if fixed[group, t, n]:
                continue
            z = (levels[group, t, n] + left[t] / H[group, t, t]) / s
            k = np.ceil((z + top) / 2 - 0.5)
            code = 2 * min(max(k, 0.0), float(top)) - top
            codes[group, t, n] = code
            change = s * code - levels[group, t, n]
            if change != 0:
                for j in range(inputs):
                    left[j] -= change * H[group, t, j]
