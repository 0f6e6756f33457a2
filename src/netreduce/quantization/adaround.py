"""AdaRound: whether each weight goes to the level below or above it, learned layer by layer.

M. Nagel, R. A. Amjad, M. van Baalen, C. Louizos and T. Blankevoort, Up or down? Adaptive rounding
for post-training quantization, ICML 2020.

Of the levels around w_t the upper one is taken in part: q_t = below + step · h(v_t), where h is
the rectified sigmoid, and ‖Xw − X̃q‖² + λ Σ (1 − |2 h(v_t) − 1|^β) is minimized over v by Adam. β
falls from 20 to 2, so that the penalty ends with every h at 0 or 1; for the first fifth of the
steps there is none. The paper draws samples for every step, and has the activation function behind
the layer in the error; here each step takes the gradient on all samples, by G and H, before the
activation, so that nothing is drawn. A neuron that the last rounding of h leaves with a larger
error than the nearest levels have keeps these.
"""

import numpy as np

from .alphabet import Alphabet
from .comq import output_error
from .gpfq import dead_inputs
from .msq import msq

STEPS = 1000
RATE = 0.01
LOW, HIGH = -0.1, 1.1  # what the sigmoid is stretched to, before it is cut to [0, 1]
BETA = 20.0, 2.0  # at the start and at the end
WARM_UP = 0.2  # share of the steps without penalty
PENALTY = 0.1  # λ, where errors are in steps of the alphabet and the mean diagonal entry of H is 1
DECAYS = 0.9, 0.999  # of Adam
TINY = 1e-8


def adaround(
    weights: np.ndarray,
    target: np.ndarray,
    H: np.ndarray,
    alphabet: Alphabet,
    pruned: np.ndarray | None = None,
) -> np.ndarray:
    """Codes by AdaRound, each next to its weight; weights of dead inputs get code 0.

    Parameters
    ----------
    weights : ndarray, shape (groups, inputs, neurons), float64
    target : ndarray, as weights
        X̃ᵀXw of the inputs X of the analog and X̃ of the quantized network.
    H : ndarray, shape (groups, inputs, inputs), float64
        X̃ᵀX̃.
    alphabet : Alphabet
    pruned : ndarray of bool, as weights, optional
        Weights that get code 0.

    Returns
    -------
    ndarray, shape (groups, inputs, neurons)
    """
    fixed = np.broadcast_to(dead_inputs(H)[:, :, None], weights.shape)
    fixed = fixed if pruned is None else fixed | pruned
    size = np.diagonal(H, axis1=1, axis2=2).mean(axis=1)[:, None, None]
    size = np.where(size > 0, size, 1.0)
    place = (weights / alphabet.scale + alphabet.top) / 2  # in steps from the lowest level
    below = np.clip(np.floor(place), 0, alphabet.top - 1)
    zero = alphabet.top / 2
    # the gradient of ‖Xw − X̃q‖² / 2 in h is curvature @ (h − what is fixed) − slope, in steps
    slope = target / (2 * alphabet.scale * size) - (H / size) @ np.where(fixed, 0.0, below - zero)
    upper = _minimize(slope, H / size, np.clip(place - below, 0, 1), fixed)
    nearest = msq(weights, alphabet, fixed)
    codes = np.where(fixed, 0.0, 2 * (below + (upper > 0.5)) - alphabet.top)
    errors = [output_error(alphabet.scale * found, target, H) for found in (codes, nearest)]
    return np.where(errors[0] < errors[1], codes, nearest)


def _minimize(
    slope: np.ndarray, curvature: np.ndarray, start: np.ndarray, fixed: np.ndarray
) -> np.ndarray:
    """The shares h of the upper levels after the last step; 0 where the weight is fixed."""
    slope, curvature = slope.astype(np.float32), curvature.astype(np.float32)
    share = (np.clip(start, 0.01, 0.99).astype(np.float32) - LOW) / (HIGH - LOW)
    v = np.log(share / (1 - share))
    mean, square = np.zeros_like(v), np.zeros_like(v)
    warm = round(WARM_UP * STEPS)
    for step in range(1, STEPS + 1):
        sigmoid = 1 / (1 + np.exp(-v))
        h = np.clip(sigmoid * (HIGH - LOW) + LOW, 0, 1)
        h[fixed] = 0
        gradient = curvature @ h - slope
        if step > warm:
            beta = BETA[0] + (BETA[1] - BETA[0]) * (step - warm) / (STEPS - warm)
            away = 2 * h - 1
            gradient -= PENALTY * beta * np.sign(away) * np.abs(away) ** np.float32(beta - 1)
        gradient *= (HIGH - LOW) * sigmoid * (1 - sigmoid)
        gradient[(h == 0) | (h == 1)] = 0
        mean += (1 - DECAYS[0]) * (gradient - mean)
        square += (1 - DECAYS[1]) * (gradient**2 - square)
        corrected = np.sqrt(square / np.float32(1 - DECAYS[1] ** step)) + TINY
        v -= RATE / np.float32(1 - DECAYS[0] ** step) * mean / corrected
    return h
