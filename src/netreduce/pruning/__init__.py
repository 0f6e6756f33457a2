"""Pruning: weights set to zero, or whole neurons taken out, by magnitude, by the signal they carry,
or by norm.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from netreduce.errors import ParameterError
from netreduce.network import Network
from netreduce.network.layers import Weighted

from .magnitude import magnitude
from .nnrelief import nnrelief
from .structured import structured

METHODS: dict[str, Callable[..., Network]] = {
    "nnrelief": nnrelief,
    "magnitude": magnitude,
    "structured": structured,
}


def prune(
    network: Network,
    samples: np.ndarray | None = None,
    method: str = "nnrelief",
    *,
    iterations: int = 1,
    epochs: int = 0,
    training: tuple[np.ndarray, np.ndarray] | None = None,
    seed: int = 0,
    fold: bool = True,
    **parameters: Any,
) -> Network:
    """Prune a network, with retraining between the iterations if wanted.

    Parameters
    ----------
    network : Network
    samples : ndarray, shape (samples, *network.input_shape), optional
        What "nnrelief" measures signals on; the other methods do without.
    method : {"nnrelief", "magnitude", "structured"}
        `netreduce.pruning` has a function of that name; its docstring says what it does.
    iterations : int
        How many times the method is applied, each time to the result of the last.
    epochs : int
        Epochs of retraining after each iteration; weights that are zero stay zero.
    training : pair of ndarray, optional
        Images and labels to retrain on.
    seed : int
        Of the order of the images in retraining.
    fold : bool
        Fold neurons that became constant, dead or unread into their surroundings, exactly
        (`netreduce.lump` with tolerance 0).
    **parameters
        Arguments of the method: fraction, and for "magnitude" scope.

    Returns
    -------
    Network

    Raises
    ------
    ParameterError
        Unknown method, an argument out of range, parameters of the network that are NaN or
        infinite, retraining without training images or of a quantized layer, or nothing left of a
        layer.
    SampleError
        Samples that are missing or do not fit the network.

    Examples
    --------
    >>> from netreduce import Dense
    >>> network = Network([Dense([[3.0, 0.1], [0.2, 4.0]])], (2,))
    >>> prune(network, method="magnitude", fraction=0.5).layers[0].kernel
    array([[3., 0.],
           [0., 4.]])
    """
    for pruned in prune_iteratively(
        network,
        samples,
        method,
        iterations=iterations,
        epochs=epochs,
        training=training,
        seed=seed,
        **parameters,
    ):
        network = pruned
    if not fold:
        return network
    from netreduce.lumping import lump  # it takes long to import, and most calls do without it

    return lump(network).network


def prune_iteratively(
    network: Network,
    samples: np.ndarray | None = None,
    method: str = "nnrelief",
    *,
    iterations: int = 1,
    epochs: int = 0,
    training: tuple[np.ndarray, np.ndarray] | None = None,
    seed: int = 0,
    **parameters: Any,
) -> Iterator[Network]:
    """The network after each iteration of `prune`, nothing folded; arguments as there."""
    if method not in METHODS:
        raise ParameterError(
            f"pruning method must be one of {', '.join(METHODS)}, found {method!r}"
        )
    if iterations < 1 or epochs < 0:
        raise ParameterError(
            f"iterations must be at least 1 and epochs at least 0, found {iterations} and {epochs}"
        )
    if epochs and training is None:
        raise ParameterError(
            f"{epochs} epochs of retraining need training images and labels, found none"
        )
    if method == "nnrelief":
        parameters["samples"] = samples
    for iteration in range(iterations):
        network = METHODS[method](network, **parameters)
        for name, layer in zip(network.names, network.layers, strict=True):
            if isinstance(layer, Weighted) and not layer.kernel.any():
                raise ParameterError(
                    f"{name}: pruning by {method} leaves no weight that is not zero; a larger"
                    " fraction would"
                )
        if epochs and training is not None:
            from netreduce.training.retraining import retrain

            x, y = training
            network = retrain(network, x, y, epochs=epochs, seed=seed + iteration)
        yield network
