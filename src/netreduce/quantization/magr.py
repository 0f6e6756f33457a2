"""MagR: weights with smaller extremes and almost the same outputs, before quantizing.

A. Zhang, N. Wang, Y. Deng, X. Li, Z. Yang and P. Yin, MagR: weight magnitude reduction for
enhancing post-training quantization, NeurIPS 2024.

For every neuron, ½ ‖X v − X w‖² / λ + α ‖v‖_∞ is minimized over v by proximal gradient descent, λ
the largest eigenvalue of XᵀX: v ← prox(v − XᵀX (v − w) / λ). By Moreau's identity the proximal step
takes away from v its projection on the ℓ¹ ball of radius α. Where X has a null space, as inputs
that depend on each other give it, the largest weights fall and the outputs stay.
"""

import numpy as np

from netreduce.errors import ParameterError
from netreduce.network import Network
from netreduce.network.layers import Weighted

from .alphabet import is_number
from .gram import from_groups, to_groups
from .l1_ball import threshold
from .pipeline import MEMORY, QUANTIZABLE
from .propagation import Propagation

STEPS = 150  # the paper's number


def magr(network: Network, samples: np.ndarray, strength: float = 0.05) -> Network:
    """Reduce the largest weights of every neuron, at little change of its outputs on samples.

    Layers are treated one after the other, each on the outputs of those before it. Quantized layers
    and pruned weights, those that are zero, stay as they are.

    Parameters
    ----------
    network : Network
    samples : ndarray, shape (samples, *network.input_shape), or iterable of such arrays
    strength : float
        α in units of the mean |w| of the neuron. The paper's 0.001 for large language models is
        about 0.05 of that.

    Returns
    -------
    Network

    Raises
    ------
    ParameterError
        A strength that is negative or no number; parameters that are not finite.
    SampleError
        Samples that do not fit.

    Examples
    --------
    Two equal inputs: their weights may be exchanged for their mean.

    >>> from netreduce import Dense
    >>> network = Network([Dense([[3.0], [1.0]])], (2,))
    >>> reduced = magr(network, np.ones((10, 2)), strength=0.01)
    >>> reduced.layers[0].kernel.round(1).ravel().tolist()
    [2.0, 2.0]
    """
    if not (is_number(strength) and strength >= 0):
        raise ParameterError(f"strength must be a number not below 0, found {strength!r}")
    network.check_parameters()
    places = [
        index
        for index, layer in enumerate(network.layers)
        if isinstance(layer, QUANTIZABLE) and layer.quantization is None
    ]
    if not places:
        return network
    propagation = Propagation(network, samples, MEMORY, keep=False)
    propagation.start(places, with_analog=False, whole=False)
    reduced = {}
    for index in places:
        layer = network.layers[index]
        assert isinstance(layer, Weighted)
        _, H = propagation.gram(index, "joint", False)
        weights = to_groups(layer.kernel.astype(np.float64), layer, "joint")
        kernel = from_groups(reduce_magnitude(weights, H, strength), layer, "joint")
        reduced[index] = layer.replace(kernel=kernel.astype(layer.kernel.dtype))
        propagation.exchange(index, reduced[index])
    return network.replace(reduced)


def reduce_magnitude(weights: np.ndarray, H: np.ndarray, strength: float) -> np.ndarray:
    """The v of all neurons after the last step.

    Parameters
    ----------
    weights : ndarray, shape (groups, inputs, neurons), float64
    H : ndarray, shape (groups, inputs, inputs), float64
        XᵀX of the inputs.
    strength : float
        α in units of the mean |w| of a neuron.
    """
    largest = np.linalg.eigvalsh(H)[:, -1:, None]
    H = H / np.where(largest > 0, largest, 1.0)
    radius = strength * np.abs(weights).mean(axis=1)
    kept = weights != 0
    v = weights
    for _ in range(STEPS):
        v = kept * (v - H @ (v - weights))
        v = v - project(v, radius)
    return v


def project(v: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """The nearest points of the ℓ¹ balls.

    Parameters
    ----------
    v : ndarray, shape (groups, inputs, neurons)
    radius : ndarray, shape (groups, neurons)
    """
    return np.sign(v) * np.maximum(np.abs(v) - threshold(v, radius)[:, None], 0)
