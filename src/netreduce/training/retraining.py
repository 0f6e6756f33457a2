"""Retraining of a reduced network in PyTorch: weights that are zero stay zero."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from netreduce.errors import ParameterError
from netreduce.network import Network
from netreduce.training import PRECISIONS, check_augmentation, check_choice, check_count

LEARNING_RATE = 3e-3  # sparse networks bear, and need, more than dense ones
WEIGHT_DECAY = 1e-4  # small weights carry little signal, so that the next iteration prunes them


def retrain(
    network: Network,
    images: np.ndarray,
    labels: np.ndarray | None,
    epochs: int,
    *,
    original: Network | None = None,
    distil: float = 0.0,
    augmentation: Mapping[str, Any] | None = None,
    precision: str = "float32",
    seed: int = 0,
) -> Network:
    """Train a network further, by Adam on the loss that the labels call for
    (`netreduce.training.loss_for`), with the learning rate falling linearly to zero.

    Zero weights and zero biases stay zero; the mean and variance of batch normalization stay as
    they are, and nothing is dropped out. The same seed and number of threads give the same weights,
    bit for bit.

    Parameters
    ----------
    network : Network
        Ends in one score per class: logits, or softmax; in one score for two classes: a logit, or
        sigmoid; or in numbers.
    images : ndarray, shape (n, *network.input_shape)
    labels : ndarray of int, shape (n,), or of float, shape (n, outputs), or None
        None with distil=1.
    epochs : int
    original : Network, optional
        To distil.
    distil : float in [0, 1]
        The part of the loss that is the mean squared distance to the original's logits, or numbers,
        the rest being that of the labels: 1 needs no labels.
    augmentation : dict, optional
        {"shift": pixels, "flip": bool}, as in training: see `netreduce.training.torch.train`.
    precision : {"float32", "bfloat16"}
        As in training.
    seed : int
        Of the order of the images and of augmentation.

    Returns
    -------
    Network

    Raises
    ------
    ParameterError
        A layer is quantized: training would leave its grid; parameters that are NaN or infinite; a
        setting that is not known; an original that is missing, or of other inputs or outputs.
    SampleError
        Images that do not fit the network, or labels that do not fit the images.

    Examples
    --------
    A network that is taught what another one computes:

    >>> from netreduce import Dense
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(256, 4)).astype("float32")
    >>> original, network = (
    ...     Network([Dense(rng.normal(size=(4, 3)).astype("float32"))], (4,)) for _ in range(2)
    ... )
    >>> taught = retrain(network, x, None, epochs=300, original=original, distil=1)
    >>> before, after = (abs(n.predict(x) - original.predict(x)).mean() for n in (network, taught))
    >>> bool(after < before / 2)
    True
    """
    import torch

    from netreduce.formats.pytorch.module import with_parameters_of

    from .descent import descend, hold_zeros
    from .lesson import lesson
    from .modules import in_pytorch

    lessons = lesson(network, images, labels, original, distil)
    for name, layer in zip(network.names, network.layers, strict=True):
        if getattr(layer, "quantization", None) is not None:
            raise ParameterError(f"{name} is quantized: retrain before quantizing")
    check_choice("precision", precision, PRECISIONS)
    check_count("epochs", epochs, 1)
    check_count("seed", seed, 0)
    check_augmentation(network, augmentation)
    model, _ = in_pytorch(lessons.network)
    hold_zeros(model.parameters())
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    descend(model, optimizer, lessons, epochs, seed, augmentation, precision)
    return with_parameters_of(model, network)


def retrain_on(
    network: Network,
    training: tuple[np.ndarray, np.ndarray],
    original: Network,
    epochs: int,
    distil: float = 0.0,
    shift: int = 0,
    flip: bool = False,
    precision: str = "float32",
    seed: int = 0,
) -> Network:
    """`retrain` as a step of chains, behind one that took neurons or weights out."""
    return retrain(
        network,
        *training,
        epochs=epochs,
        original=original,
        distil=distil,
        augmentation={"shift": shift, "flip": flip},
        precision=precision,
        seed=seed,
    )
