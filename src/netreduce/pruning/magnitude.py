"""Magnitude pruning: the smallest weights become zero (Han, Pool, Tran and Dally, NeurIPS 2015)."""

import numpy as np

from netreduce.errors import ParameterError
from netreduce.network import Network
from netreduce.network.fractions import count_kept
from netreduce.network.layers import Weighted


def magnitude(network: Network, fraction: float, scope: str = "global") -> Network:
    """Keep the weights of largest magnitude; biases stay.

    Parameters
    ----------
    network : Network
    fraction : float
        Part of the weights that is kept, in (0, 1].
    scope : {"global", "layer"}
        Whether all kernels compete, or every layer keeps that fraction of its own.

    Returns
    -------
    Network

    Raises
    ------
    ParameterError
        An argument out of range; parameters that are NaN or infinite.
    """
    network.check_parameters()
    kernels = {
        i: layer.kernel for i, layer in enumerate(network.layers) if isinstance(layer, Weighted)
    }
    if scope == "layer":
        kept = {i: _largest(kernel.ravel(), fraction) for i, kernel in kernels.items()}
    elif scope == "global":
        joint = _largest(np.concatenate([kernel.ravel() for kernel in kernels.values()]), fraction)
        kept = dict(
            zip(
                kernels,
                np.split(joint, np.cumsum([kernel.size for kernel in kernels.values()])[:-1]),
                strict=True,
            )
        )
    else:
        raise ParameterError(f"scope must be 'global' or 'layer', found {scope!r}")
    return network.replace(
        {
            i: network.layers[i].replace(kernel=np.where(kept[i].reshape(kernel.shape), kernel, 0))
            for i, kernel in kernels.items()
        }
    )


def _largest(weights: np.ndarray, fraction: float) -> np.ndarray:
    """Which weights are the largest; of equal ones the first."""
    kept = np.zeros(len(weights), bool)
    kept[np.argsort(-np.abs(weights), kind="stable")[: count_kept(fraction, len(weights))]] = True
    return kept
