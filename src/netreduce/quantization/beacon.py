"""Beacon: codes by their direction alone, then the scale that fits them.

S. Zhang and R. Saab, Beacon: post-training quantization with integrated grid selection (2025).

The error ‖Xw − δ X̃c‖² with the best scale δ is ‖Xw‖² sin² of the angle between Xw and X̃c. So the
codes c maximize the cosine of that angle: greedily, the first t codes against the first t weights,
and then one code at a time, all others held, until none changes. The scale is ⟨Xw, X̃c⟩ / ‖X̃c‖²;
every neuron has its own, and none is searched.
"""

import numba
import numpy as np

from netreduce.threads import in_threads

from .alphabet import Alphabet
from .comq import best_scale
from .gpfq import dead_inputs

SWEEPS = 20  # at most; the paper makes 4 to 6
TIE = 1e-12  # cosines nearer to each other than this are equal


def beacon(
    weights: np.ndarray,
    G: np.ndarray,
    H: np.ndarray,
    alphabet: Alphabet,
    sweeps: int = SWEEPS,
    pruned: np.ndarray | None = None,
) -> tuple[np.ndarray, Alphabet]:
    """Codes and the alphabet with the scales that fit them; weights of dead inputs get code 0.

    Parameters
    ----------
    weights : ndarray, shape (groups, inputs, neurons), float64
    G, H : ndarray, shape (groups, inputs, inputs), float64
        X̃ᵀX and X̃ᵀX̃ of the inputs X of the analog and X̃ of the quantized network.
    alphabet : Alphabet
        Of equally good codes, the one nearest to w_t in this alphabet is taken; all codes of one
        sign are equally good for the first weight of a neuron.
    sweeps : int
        Largest number of sweeps over all codes.
    pruned : ndarray of bool, as weights, optional
        Weights that get code 0.

    Returns
    -------
    codes : ndarray, shape (groups, inputs, neurons)
    alphabet : Alphabet
        Its scale has shape (groups, 1, neurons).
    """
    groups, _, neurons = weights.shape
    fixed = np.broadcast_to(dead_inputs(H)[:, :, None], weights.shape)
    fixed = fixed if pruned is None else fixed | pruned
    target = G @ weights
    scale = np.ascontiguousarray(np.broadcast_to(alphabet.scale, (groups, 1, neurons)))
    codes = np.zeros(weights.shape)

    def part(first: int, last: int) -> None:
        _maximize(
            weights, target, G, H, scale[:, 0], alphabet.top, fixed, codes, sweeps, first, last
        )

    in_threads(part, neurons)
    codes *= np.where((codes * target).sum(axis=1, keepdims=True) < 0, -1, 1)
    return codes, Alphabet(best_scale(codes, target, H, scale), alphabet.top)


@numba.njit(nogil=True, cache=True)
def _maximize(
    weights: np.ndarray,
    target: np.ndarray,
    G: np.ndarray,
    H: np.ndarray,
    scale: np.ndarray,
    top: int,
    fixed: np.ndarray,
    codes: np.ndarray,
    sweeps: int,
    first: int,
    last: int,
) -> None:
    """Codes of some neurons; `inner` is ⟨Xw, X̃c⟩ and `square` ‖X̃c‖²."""
    groups, inputs, _ = weights.shape
    for group, n in np.ndindex(groups, last - first):
        n += first
        g, h, s = G[group], H[group], target[group, :, n]
        w, c = weights[group, :, n] / scale[group, n], np.zeros(inputs)
        pull, reach = np.zeros(inputs), np.zeros(inputs)  # XᵀX̃c and X̃ᵀX̃c
        inner, square = 0.0, 0.0
        for t in range(inputs):  # against X_1 w_1 + … + X_t w_t
            inner += pull[t] * w[t]
            if fixed[group, t, n]:
                continue
            along = 0.0
            for j in range(t + 1):
                along += g[t, j] * w[j]
            c[t] = _best_code(inner, square, along, reach[t], h[t, t], top, w[t])
            inner += c[t] * along
            square += c[t] * (2 * reach[t] + c[t] * h[t, t])
            for j in range(inputs):
                pull[j] += c[t] * g[t, j]
                reach[j] += c[t] * h[t, j]
        for _ in range(sweeps):  # against Xw
            changed = False
            inner, square = 0.0, 0.0
            for t in range(inputs):
                inner += c[t] * s[t]
                square += c[t] * reach[t]
            for t in range(inputs):
                if fixed[group, t, n]:
                    continue
                across = reach[t] - c[t] * h[t, t]
                rest = inner - c[t] * s[t]
                left = square - c[t] * (2 * across + c[t] * h[t, t])
                code = _best_code(rest, left, s[t], across, h[t, t], top, c[t])
                if code != c[t]:
                    changed = True
                    for j in range(inputs):
                        reach[j] += (code - c[t]) * h[t, j]
                    c[t] = code
                    inner = rest + code * s[t]
                    square = left + code * (2 * across + code * h[t, t])
            if not changed:
                break
        for t in range(inputs):
            codes[group, t, n] = c[t]


@numba.njit(cache=True)
def _best_code(
    inner: float, square: float, along: float, across: float, norm: float, top: int, near: float
) -> float:
    """The code p with the largest (inner + p · along) / √(square + 2 p · across + p² · norm); of
    equal ones, the nearest to `near`.
    """
    best, code = -np.inf, 0.0
    for k in range(top + 1):
        p = float(2 * k - top)
        length = square + p * (2 * across + p * norm)
        value = (inner + p * along) / np.sqrt(length) if length > TIE * norm else 0.0
        tie = TIE * max(abs(best), abs(value)) if best > -np.inf else 0.0
        if value > best + tie or (value >= best - tie and abs(p - near) < abs(code - near)):
            best, code = max(best, value), p
    return code
