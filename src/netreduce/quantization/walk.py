"""The walk that all data-driven methods share: weights one after the other, all neurons at once.

Step t of a neuron with weights w rounds

    z_t = (Σ_{j<t} (G[t, j] w_j − H[t, j] q_j) + G[t, t] w_t) / H[t, t]

With G = X̃ᵀX and H = X̃ᵀX̃ this is the step of GPFQ, ⟨X̃_t, u_{t−1} + w_t X_t⟩ / ‖X̃_t‖². With G = H = F, lower triangular with a unit
diagonal, it is the error feedback w_t + Σ_{j<t} F[t, j] (w_j − q_j) of GPTQ. Only the lower triangles of G and H are read.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numba
import numpy as np

NEAREST, STOCHASTIC, SOFT, HARD = range(4)
BLOCK = 128  # steps after which the sums over j < t so far are a matrix product
SLAB = 32  # neurons that walk together, so that what the steps of a block add is in the cache


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
    codes, levels = np.zeros((2, *weights.shape))
    dead = np.zeros((groups, inputs), bool) if dead is None else dead
    scale = np.broadcast_to(alphabet.scale, (groups, 1, neurons))[:, 0]
    uniform = np.zeros((groups, 1, neurons)) if uniform is None else uniform
    keep_zeros = pruned is not None
    pruned = pruned if keep_zeros else np.zeros((groups, 1, neurons), bool)
    rounding = alphabet.top, tolerance, mode, threshold, uniform, keep_zeros, pruned
    slabs = -(-neurons // SLAB)
    for start in range(0, inputs, BLOCK):
        block = slice(start, min(start + BLOCK, inputs))
        if G is H:
            before = H[:, block, :start] @ (weights[:, :start] - levels[:, :start])
        else:
            before = G[:, block, :start] @ weights[:, :start] - H[:, block, :start] @ levels[:, :start]
        in_threads(partial(_walk, weights, G, H, dead, scale, rounding, before, codes, levels, start, slabs), groups * slabs)
    return codes


@numba.njit(nogil=True, cache=True)
def _walk(weights, G, H, dead, scale, rounding, before, codes, levels, start, slabs, first_task, last_task):
    """Steps start, start + 1, ... of the walk; `before` holds what the sums over j get from the weights before those."""
    top, tolerance, mode, threshold, uniform, keep_zeros, pruned = rounding
    steps, neurons = before.shape[1:]
    w, q, total = np.zeros((steps, SLAB)), np.zeros((steps, SLAB)), np.zeros(SLAB)
    for task in range(first_task, last_task):
        group, first = task // slabs, task % slabs * SLAB
        width = min(SLAB, neurons - first)
        w[:, :width] = weights[group, start : start + steps, first : first + width]
        for step in range(steps):
            t = start + step
            q[step] = 0.0
            if dead[group, t]:
                continue
            total[:width] = before[group, step, first : first + width]
            for j in range(step):
                g, h = G[group, t, start + j], H[group, t, start + j]
                for n in range(SLAB):
                    total[n] += g * w[j, n] - h * q[j, n]
            for n in range(width):
                if keep_zeros and pruned[group, t, first + n]:
                    continue
                z = w[step, n] if abs(total[n]) < tolerance else (total[n] + G[group, t, t] * w[step, n]) / H[group, t, t]
                draw = uniform[group, t, first + n] if mode == STOCHASTIC else 0.0
                code = _round(z / scale[group, first + n], top, mode, threshold * top, draw)
                codes[group, t, first + n] = code
                q[step, n] = scale[group, first + n] * code
            levels[group, t, first : first + width] = q[step, :width]


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
