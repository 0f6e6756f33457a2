"""Quantization that leaves pruned weights at zero, with the alphabet scalar that is best on
validation images where the published setting is asked for.
"""

from collections.abc import Sequence

import numpy as np

from netreduce.measures.evaluation import merit
from netreduce.network import Network
from netreduce.quantization import quantize_many

ALPHABET_SCALARS = tuple(range(1, 7))


def quantize_validated(
    network: Network,
    samples: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray],
    method: str = "gpfq",
    bits: float = 4,
    alphabet_scalar: float | str | None = None,
    conv: str | None = None,
    seed: int = 0,
    radius: str | None = None,
    per_channel: bool | None = None,
    zero: bool = False,
    damping: float | None = None,
    sweeps: int = 0,
    correct_bias: bool = False,
    accumulator_bits: int | None = None,
    alphabet_scalars: Sequence[float] = ALPHABET_SCALARS,
) -> Network:
    """Quantize a network; pruned weights stay zero.

    Parameters
    ----------
    network, samples, method, bits, conv, seed, radius, per_channel, zero, damping, sweeps,
    correct_bias, accumulator_bits
        As for `netreduce.quantize`.
    validation : pair of ndarray
        Samples and their classes (int) or numbers (float); not those that the result is judged by
        in the end. The best setting has the highest accuracy, or the least mean squared error.
    alphabet_scalar : float or "best", optional
        Asks for the published setting; so does radius="median" by itself, with the best scalar.
    alphabet_scalars : sequence of float
        What "best" chooses from; of equally good ones the first.

    Returns
    -------
    Network
    """
    fixed = {
        "method": method,
        "bits": bits,
        "conv": conv,
        "seed": seed,
        "keep_zeros": True,
        "radius": radius,
        "per_channel": per_channel,
        "zero": zero,
        "damping": damping,
        "sweeps": sweeps,
        "correct_bias": correct_bias,
        "accumulator_bits": accumulator_bits,
    }
    if alphabet_scalar is None and radius == "median":
        alphabet_scalar = "best"
    scalars = alphabet_scalars if alphabet_scalar == "best" else [alphabet_scalar]
    settings = [{**fixed, "alphabet_scalar": scalar} for scalar in scalars]
    networks = (quantized for _, quantized, _ in quantize_many(network, samples, settings))
    return (
        max(networks, key=lambda quantized: merit(quantized, *validation))
        if len(settings) > 1
        else next(networks)
    )
