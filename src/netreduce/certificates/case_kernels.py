"""Loops over cases and neurons, compiled by Numba; all arrays in float32, signs in int8.

Sums may be taken in any order: what rounding can be covers every one.
"""

import numba
import numpy as np

ANY_ORDER = {"reassoc", "contract"}


@numba.njit(nogil=True, cache=True, fastmath=ANY_ORDER)
def push(
    coefficients: np.ndarray,
    signs: np.ndarray,
    slopes: np.ndarray,
    beta: np.ndarray,
    above: np.ndarray,
    shift: np.ndarray,
    least: np.ndarray,
    biases: np.ndarray,
    error: np.ndarray,
    shift_error: np.float32,
    start: int,
    stop: int,
    pushed: np.ndarray,
    lower: np.ndarray,
) -> None:
    """Forms in the outputs of neurons start to stop become forms in their inputs, `pushed`, with
    the multipliers; `lower` gets the constants, less what rounding can be.
    """
    zero = np.float32(0)
    for r in range(len(coefficients)):
        total, shifts, errors = zero, zero, zero
        for j in range(start, stop):
            c, sign, b = coefficients[r, j], signs[r, j], beta[r, j]
            slope = slopes[r, j] if c > zero else above[j]
            slope = slope if sign == 0 else (np.float32(1) if sign > 0 else least[j])
            p = c * slope
            shifts += min(c, zero) * (shift[j] if sign == 0 else zero)
            errors += (abs(p) + b) * error[j]
            p -= np.float32(sign) * b
            pushed[r, j] = p
            total += p * biases[j]
        lower[r] += total + shifts - (errors - shift_error * shifts)


@numba.njit(nogil=True, cache=True, fastmath=ANY_ORDER)
def concretise(
    inputs: np.ndarray, form_inputs: np.ndarray, form: np.ndarray, lower: np.ndarray
) -> None:
    """The least values of forms in inputs from −1 to 1; of the coefficients only signs are left."""
    zero, one = np.float32(0), np.float32(1)
    for r in range(len(inputs)):
        own = form_inputs[form[r]]
        total = zero
        for k in range(inputs.shape[1]):
            a = inputs[r, k] + own[k]
            total += abs(a)
            inputs[r, k] = one if a > zero else (-one if a < zero else zero)
        lower[r] -= total


@numba.njit(nogil=True, cache=True)
def follow(
    z: np.ndarray,
    coefficients: np.ndarray,
    signs: np.ndarray,
    slopes: np.ndarray,
    above: np.ndarray,
    shift: np.ndarray,
    least: np.ndarray,
    start: int,
    stop: int,
    out: np.ndarray,
) -> None:
    """Outputs of neurons start to stop by the lines that forms take."""
    zero = np.float32(0)
    for r in range(len(z)):
        for j in range(start, stop):
            below, sign = coefficients[r, j] > zero, signs[r, j]
            slope = slopes[r, j] if below else above[j]
            slope = slope if sign == 0 else (np.float32(1) if sign > 0 else least[j])
            out[r, j] = z[r, j] * slope + (zero if below or sign != 0 else shift[j])


@numba.njit(nogil=True, cache=True)
def ascend(
    coefficients: np.ndarray,
    z: np.ndarray,
    signs: np.ndarray,
    least: np.ndarray,
    size: np.float32,
    momentum: np.ndarray,
    slopes: np.ndarray,
    beta: np.ndarray,
) -> None:
    """One step of slopes of lower lines (roots of gradients) and of multipliers (gradients), each
    relative to the largest.
    """
    zero, half, one = np.float32(0), np.float32(0.5), np.float32(1)
    for r in range(len(z)):
        steepest, strongest, largest = np.float32(1e-12), np.float32(1e-12), zero
        for j in range(z.shape[1]):
            c, sign = coefficients[r, j], signs[r, j]
            largest = max(largest, abs(c))
            up = max(c, zero) * z[r, j] if sign == 0 else zero
            m = half * (momentum[0, r, j] + up)
            momentum[0, r, j] = m
            steepest = max(steepest, abs(m))
            m = half * (momentum[1, r, j] - np.float32(sign) * z[r, j])
            momentum[1, r, j] = m
            strongest = max(strongest, abs(m))
        for j in range(z.shape[1]):
            if signs[r, j] == 0:
                m = momentum[0, r, j] / steepest
                root = np.sqrt(abs(m))
                slope = slopes[r, j] + size * (root if m > zero else -root)
                slopes[r, j] = min(max(slope, least[j]), one)
            else:
                m = momentum[1, r, j] / strongest
                beta[r, j] = max(beta[r, j] + size * largest * m, zero)


@numba.njit(nogil=True, cache=True)
def widest(coefficients: np.ndarray, signs: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """The neuron of each case by which the form is farthest below the true one, at most, mostly by
    upper lines; −1 where all are known.
    """
    choice = np.full(len(coefficients), -1)
    for r in range(len(coefficients)):
        most = np.float32(0)
        for j in range(coefficients.shape[1]):
            c = coefficients[r, j]
            score = (-c if c < 0 else np.float32(0.1) * c) * shift[j]
            if signs[r, j] == 0 and score > most:
                choice[r], most = j, score
    return choice
