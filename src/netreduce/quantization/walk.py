"""The walk that all data-driven methods share: weights one after the other, all neurons at once.

Step t of a neuron with weights w rounds

    z_t = (Σ_{j<t} (G[t, j] w_j − H[t, j] q_j) + G[t, t] w_t) / H[t, t]

With G = X̃ᵀX and H = X̃ᵀX̃ this is the step of GPFQ, ⟨X̃_t, u_{t−1} + w_t X_t⟩ / ‖X̃_t‖². With G = H = F, lower triangular with a unit
diagonal, it is the error feedback w_t + Σ_{j<t} F[t, j] (w_j − q_j) of GPTQ. Only the lower triangles of G and H are read.
"""

import os
from concurrent.futures import ThreadPoolExecutor

import numba
import numpy as np

NEAREST, STOCHASTIC, SOFT, HARD = range(4)
SLAB = 32  # neurons that walk together: their weights stay in the cache, their sums in vector registers


def thread_count() -> int:
    """Threads to use: OMP_NUM_THREADS, as the BLAS does, within what Numba allows."""
    limit = os.environ.get("OMP_NUM_THREADS", "")
    return min(int(limit), numba.config.NUMBA_NUM_THREADS) if limit.isdigit() and int(limit) > 0 else numba.config.NUMBA_NUM_THREADS


def in_threads(function, tasks: int):
    """Call function(start, stop) on the parts of range(tasks), one part a thread; `function` releases the GIL."""
    parts = min(thread_count(), tasks)
    if parts == 1:
        return function(0, tasks)
    bounds = np.linspace(0, tasks, parts + 1).astype(int)
    with ThreadPoolExecutor(parts) as pool:
        list(pool.map(function, bounds[:-1], bounds[1:]))


def walk(weights, G, H, alphabet, dead=None, tolerance=0.0, mode=NEAREST, threshold=0.0, uniform=None, pruned=None) -> np.ndarray:
    """Codes of the quantized weights.

    Parameters
    ----------
    weights : ndarray, shape (groups, inputs, neurons)
    G, H : ndarray, shape (groups, inputs, inputs)
    alphabet : Alphabet
        Its scale broadcasts to (groups, 1, neurons).
    dead : ndarray of bool, shape (groups, inputs), optional
        Inputs whose weights get code 0.
    tolerance : float
        Where the sum over j < t is smaller in magnitude, w_t itself is rounded.
    mode : int
        NEAREST; STOCHASTIC: up with the probability that keeps the mean, drawn with `uniform` (as weights, in [0, 1));
        SOFT, HARD: thresholding before the nearest level, of the alphabet and 0.
    threshold : float
        Of SOFT and HARD, as a fraction of the alphabet's radius.
    pruned : ndarray of bool, as weights, optional
        Weights that get code 0.

    Returns
    -------
    ndarray, shape (groups, inputs, neurons), float64
        Whole numbers; the level is scale · code.
    """
    groups, inputs, neurons = weights.shape
    codes = np.empty(weights.shape)
    dead = np.zeros((groups, inputs), bool) if dead is None else dead
    scale = np.broadcast_to(alphabet.scale, (groups, 1, neurons))[:, 0]
    uniform = np.zeros((groups, 1, neurons)) if uniform is None else uniform
    keep_zeros = pruned is not None
    pruned = pruned if keep_zeros else np.zeros((groups, 1, neurons), bool)
    slabs = -(-neurons // SLAB)

    def run(start, stop):
        _walk(weights, G, H, dead, scale, alphabet.top, tolerance, mode, threshold, uniform, keep_zeros, pruned, codes, slabs, start, stop)

    in_threads(run, groups * slabs)
    return codes


@numba.njit(nogil=True, cache=True)
def _walk(weights, G, H, dead, scale, top, tolerance, mode, threshold, uniform, keep_zeros, pruned, codes, slabs, start, stop):
    inputs, neurons = weights.shape[1:]
    w, q, total = np.zeros((inputs, SLAB)), np.zeros((inputs, SLAB)), np.zeros(SLAB)
    for task in range(start, stop):
        group, first = task // slabs, task % slabs * SLAB
        width = min(SLAB, neurons - first)
        w[:, :width] = weights[group, :, first : first + width]
        for t in range(inputs):
            if dead[group, t]:
                q[t] = 0.0
                codes[group, t, first : first + width] = 0.0
                continue
            total[:] = 0.0
            for j in range(t):
                g, h = G[group, t, j], H[group, t, j]
                for n in range(SLAB):
                    total[n] += g * w[j, n] - h * q[j, n]
            for n in range(width):
                if keep_zeros and pruned[group, t, first + n]:
                    q[t, n] = codes[group, t, first + n] = 0.0
                    continue
                z = w[t, n] if abs(total[n]) < tolerance else (total[n] + G[group, t, t] * w[t, n]) / H[group, t, t]
                draw = uniform[group, t, first + n] if mode == STOCHASTIC else 0.0
                code = _round(z / scale[group, first + n], top, mode, threshold * top, draw)
                codes[group, t, first + n] = code
                q[t, n] = scale[group, first + n] * code


@numba.njit(cache=True)
def _round(z, top, mode, threshold, draw):
    if mode == SOFT:
        z = max(z - threshold, 0.0) if z > 0 else min(z + threshold, 0.0)
    elif mode == HARD and abs(z) <= threshold:
        z = 0.0
    if mode in (SOFT, HARD) and top % 2 == 1 and abs(z) <= 0.5:
        return 0.0
    k = (z + top) / 2
    k = np.floor(k) + (draw < k - np.floor(k)) if mode == STOCHASTIC else np.ceil(k - 0.5)
    return 2 * min(max(k, 0.0), float(top)) - top
