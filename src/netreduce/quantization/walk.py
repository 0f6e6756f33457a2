"""The walk that all data-driven methods share: weights one after the other, all neurons at once.

Step t of a neuron with weights w rounds

    z_t = (Σ_{j<t} (G[t, j] w_j − H[t, j] q_j) + G[t, t] w_t) / H[t, t]

With G = X̃ᵀX and H = X̃ᵀX̃ this is the step of GPFQ, ⟨X̃_t, u_{t−1} + w_t X_t⟩ / ‖X̃_t‖². With G =
H = F, lower triangular with a unit diagonal, it is the error feedback w_t + Σ_{j<t} F[t, j] (w_j −
q_j) of GPTQ. Only the lower triangles of G and H are read.
"""

import numba
import numpy as np

from netreduce.threads import in_threads

from .accumulator import Budget
from .alphabet import Alphabet

NEAREST, STOCHASTIC, SOFT, HARD = range(4)
BLOCK = 128  # steps after which the sums over j < t so far are a matrix product
SLAB = 32  # neurons that walk together, so that what the steps of a block add is in the cache


def walk(
    weights: np.ndarray,
    G: np.ndarray,
    H: np.ndarray,
    alphabet: Alphabet,
    dead: np.ndarray | None = None,
    tolerance: np.ndarray | None = None,
    mode: int = NEAREST,
    threshold: float = 0.0,
    uniform: np.ndarray | None = None,
    pruned: np.ndarray | None = None,
    budget: Budget | None = None,
) -> np.ndarray:
    """Codes of the quantized weights.

    Parameters
    ----------
    weights : ndarray, shape (groups, inputs, neurons)
    G, H : ndarray, shape (groups, inputs, inputs)
    alphabet : Alphabet
        Its scale broadcasts to (groups, 1, neurons).
    dead : ndarray of bool, shape (groups, inputs), optional
        Inputs whose weights get code 0.
    tolerance : ndarray, shape (groups, inputs), optional
        Where the sum over j < t is smaller in magnitude than this times the alphabet's radius, w_t
        itself is rounded.
    mode : int
        NEAREST; STOCHASTIC: up with the probability that keeps the mean, drawn with `uniform` (as
        weights, in [0, 1)); SOFT, HARD: thresholding before the nearest level, of the alphabet and
        0.
    threshold : float
        Of SOFT and HARD, as a fraction of the alphabet's radius.
    pruned : ndarray of bool, as weights, optional
        Weights that get code 0.
    budget : Budget, optional
        What the sums of every neuron may take; of an alphabet with 0.

    Returns
    -------
    ndarray, shape (groups, inputs, neurons), float64
        Whole numbers; the level is scale · code.
    """
    groups, inputs, neurons = weights.shape
    codes, levels = np.zeros((2, *weights.shape))
    dead = np.zeros((groups, inputs), bool) if dead is None else dead
    tolerance = np.zeros((groups, inputs)) if tolerance is None else tolerance
    scale = np.array(np.broadcast_to(alphabet.scale, (groups, 1, neurons)), order="C")[:, 0]
    uniform = np.zeros((groups, 1, neurons)) if uniform is None else uniform
    keep_zeros = pruned is not None
    pruned = pruned if keep_zeros else np.zeros((groups, 1, neurons), bool)
    # in one layout for all, as Numba compiles anew for each
    plain = np.ascontiguousarray
    arrays = plain(weights), plain(G), plain(H), plain(dead), scale
    tolerance, uniform, pruned = plain(tolerance), plain(uniform), plain(pruned)
    rounding = alphabet.top, tolerance, mode, threshold, uniform, keep_zeros, pruned
    if budget is None:
        nothing = np.zeros((groups, 1))
        limits = False, 0.0, 0.0, nothing, nothing, nothing
    else:
        shrinkage = budget.shrinkage(weights, scale)
        limits = True, budget.low, budget.high, budget.least.copy(), budget.most.copy(), shrinkage

    def part(first_slab: int, last_slab: int) -> None:
        first, last = first_slab * SLAB, min(last_slab * SLAB, neurons)
        w, q = weights[:, :, first:last], levels[:, :, first:last]
        for start in range(0, inputs, BLOCK):
            block = slice(start, min(start + BLOCK, inputs))
            if G is H:
                before = H[:, block, :start] @ (w[:, :start] - q[:, :start])
            else:
                before = G[:, block, :start] @ w[:, :start] - H[:, block, :start] @ q[:, :start]
            _walk(*arrays, rounding, limits, before, codes, levels, start, first)

    in_threads(part, -(-neurons // SLAB))
    return codes


@numba.njit(nogil=True, cache=True)
def _walk(
    weights: np.ndarray,
    G: np.ndarray,
    H: np.ndarray,
    dead: np.ndarray,
    scale: np.ndarray,
    rounding: tuple,
    limits: tuple,
    before: np.ndarray,
    codes: np.ndarray,
    levels: np.ndarray,
    start: int,
    left: int,
) -> None:
    """Steps start, start + 1, ... of neurons left, left + 1, ...; `before` holds what their sums
    over j get from the weights before those.
    """
    top, tolerance, mode, threshold, uniform, keep_zeros, pruned = rounding
    limited, low, high, least, most, shrinkage = limits
    groups, steps, neurons = before.shape
    w, q, total = np.zeros((steps, SLAB)), np.zeros((steps, SLAB)), np.zeros(SLAB)
    for group, slab in np.ndindex(groups, -(-neurons // SLAB)):
        first, width = left + slab * SLAB, min(SLAB, neurons - slab * SLAB)
        for step in range(steps):
            t = start + step
            for n in range(width):
                w[step, n] = weights[group, t, first + n]
                total[n] = before[group, step, first - left + n]
                q[step, n] = 0.0
            if dead[group, t]:
                continue
            for j in range(step):
                g, h = G[group, t, start + j], H[group, t, start + j]
                for n in range(SLAB):
                    total[n] += g * w[j, n] - h * q[j, n]
            for n in range(width):
                if keep_zeros and pruned[group, t, first + n]:
                    continue
                z = (
                    w[step, n]
                    if abs(total[n]) < tolerance[group, t] * scale[group, first + n] * top
                    else (total[n] + G[group, t, t] * w[step, n]) / H[group, t, t]
                )
                if limited:
                    z = np.sign(z) * max(abs(z) - shrinkage[group, first + n], 0.0)
                draw = uniform[group, t, first + n] if mode == STOCHASTIC else 0.0
                code = _round(z / scale[group, first + n], top, mode, threshold * top, draw)
                if limited:
                    below, above = least[group, first + n], most[group, first + n]
                    if code > 0:
                        code = min(code, 2 * _room(above, high, below, low))
                        least[group, first + n] -= low * code / 2
                        most[group, first + n] -= high * code / 2
                    else:
                        code = max(code, -2 * _room(above, low, below, high))
                        least[group, first + n] += high * code / 2
                        most[group, first + n] += low * code / 2
                codes[group, t, first + n] = code
                levels[group, t, first + n] = q[step, n] = scale[group, first + n] * code


@numba.njit(cache=True)
def _room(above: float, up: float, below: float, down: float) -> float:
    """The largest weight that takes so much for each of its units, up and down."""
    largest = np.inf
    if up > 0:
        largest = np.floor(above / up)
    if down > 0:
        largest = min(largest, np.floor(below / down))
    return max(largest, 0.0)


@numba.njit(cache=True)
def _round(z: float, top: int, mode: int, threshold: float, draw: float) -> float:
    if mode == SOFT:
        z = max(z - threshold, 0.0) if z > 0 else min(z + threshold, 0.0)
    elif mode == HARD and abs(z) <= threshold:
        z = 0.0
    if mode in (SOFT, HARD) and top % 2 == 1 and abs(z) <= 0.5:
        return 0.0
    k = (z + top) / 2
    k = np.floor(k) + (draw < k - np.floor(k)) if mode == STOCHASTIC else np.ceil(k - 0.5)
    return 2 * min(max(k, 0.0), float(top)) - top
