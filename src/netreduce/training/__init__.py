"""Training of networks, in PyTorch (`torch`) and in Keras (`keras`)."""

import math
import os
from collections.abc import Mapping, Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np

from netreduce.errors import ParameterError, SampleError
from netreduce.network import Network

# Read when PyTorch is first imported. Without it, its threads spin while they wait for one another:
# on a machine that has other work to do, training with two threads took eight times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

OPTIMIZERS = ("adam", "adamw", "sgd")
SCHEDULES = ("none", "cosine", "onecycle")
AUGMENTATIONS = ("shift", "flip")
PRECISIONS = ("float32", "bfloat16")
LOSSES = ("cross entropy", "binary cross entropy", "mean squared error")


def check_training(
    network: Network,
    images: np.ndarray,
    labels: np.ndarray,
    *,
    optimizer: str = "adam",
    schedule: str = "none",
    l1: float = 0.0,
    precision: str = "float32",
    augmentation: Mapping[str, Any] | None = None,
) -> str:
    """Refuse, before any work, settings that are not known and data that do not fit the network.

    Returns
    -------
    str
        The loss, one of LOSSES: cross entropy for classes, binary cross entropy for two classes and
        one output, mean squared error for numbers.

    Raises
    ------
    ParameterError, SampleError
    """
    for name, value, allowed in (
        ("optimizer", optimizer, OPTIMIZERS),
        ("schedule", schedule, SCHEDULES),
        ("precision", precision, PRECISIONS),
    ):
        check_choice(name, value, allowed)
    if not (isinstance(l1, Real) and 0 <= l1 < math.inf):
        raise ParameterError(f"l1 must be a number ≥ 0, found {l1!r}")
    check_augmentation(network, augmentation)
    network.check_samples(images)
    return loss_for(network, images, labels)


def check_choice(name: str, value: object, allowed: Sequence[str]) -> None:
    """Refuse a setting that is none of those allowed (ParameterError)."""
    if value not in allowed:
        raise ParameterError(f"{name} must be one of {', '.join(allowed)}, found {value!r}")


def check_count(name: str, value: object, least: int) -> None:
    """Refuse a setting that is no whole number from the least one (ParameterError)."""
    if not (isinstance(value, Integral) and least <= int(value) < 1 << 63):
        raise ParameterError(f"{name} must be a whole number from {least}, found {value!r}")


def check_augmentation(network: Network, augmentation: Mapping[str, Any] | None) -> None:
    """Refuse random changes of images that are not known, or that the network's inputs have no use
    for.

    Raises
    ------
    ParameterError
    """
    given = augmentation or {}
    if not isinstance(given, Mapping):
        raise ParameterError(f"augmentation must be a mapping, found {given!r}")
    for key in given:
        if key not in AUGMENTATIONS:
            raise ParameterError(
                f"unknown augmentation {key!r}, expected {' or '.join(AUGMENTATIONS)}"
            )
    check_count("shift", given.get("shift", 0), 0)
    if any(given.values()) and len(network.input_shape) != 3:
        raise ParameterError(
            f"augmentation needs images, the network takes inputs of shape {network.input_shape}"
        )


def loss_for(network: Network, images: np.ndarray, labels: np.ndarray) -> str:
    """The loss that labels call for: see `check_training`.

    Raises
    ------
    SampleError
        Labels that do not fit the images or the network's outputs.

    Examples
    --------
    >>> from netreduce import Dense, Network
    >>> network = Network([Dense(np.eye(3))], (3,))
    >>> loss_for(network, np.eye(3), np.array([0, 1, 2])), loss_for(network, np.eye(3), np.eye(3))
    ('cross entropy', 'mean squared error')
    """
    labels, shape = np.asarray(labels), network.shapes[-1]
    if labels.dtype.kind == "f" and len(images):
        if labels.shape != (len(images), math.prod(shape)):
            raise SampleError(
                f"numbers to learn must have shape ({len(images)}, {math.prod(shape)}), one for"
                f" each of the network's outputs, found {labels.shape}"
            )
        if not np.isfinite(labels).all():
            raise SampleError("numbers to learn must be finite, found NaN or infinite ones")
        return "mean squared error"
    if labels.shape != (len(images),) or not len(images):
        raise SampleError(
            f"one label for each of the {len(images)} images is needed, found labels of shape"
            f" {labels.shape}"
        )
    if labels.dtype.kind not in "biuf":
        raise SampleError(f"labels must be classes or numbers, found dtype {labels.dtype}")
    classes = max(shape[-1], 2)
    if len(shape) != 1 or labels.min() < 0 or labels.max() >= classes:
        raise SampleError(
            f"labels must lie in 0 … {classes - 1} (the network's outputs: {shape}),"
            f" found {labels.min()} … {labels.max()}"
        )
    return "cross entropy" if shape[0] > 1 else "binary cross entropy"


def history_row(
    epoch: int, loss: str, training: Sequence[float], validation: Sequence[float]
) -> dict[str, float]:
    """An epoch of the history, from (loss, accuracy) on the training and the validation samples;
    where numbers are learned, the losses alone.
    """
    row: dict[str, float] = {"epoch": epoch}
    for split, (value, accuracy) in (("training", training), ("validation", validation)):
        row[f"{split}_loss"] = value
        if loss != "mean squared error":
            row[f"{split}_accuracy"] = accuracy
    return row


def learning_rates(schedule: str, peak: float, steps: int) -> np.ndarray:
    """The learning rate of every step.

    none: constant; cosine: from the peak down to 0 (Loshchilov and Hutter, 2017, without restarts);
    onecycle: up to the peak from a 25th of it in the first 30 % of the steps, then down to 0, both
    along a cosine (Smith and Topin, 2018).
    """
    if schedule == "none":
        return np.full(steps, peak)
    if schedule == "cosine":
        return peak * _falling(steps)
    rise = round(0.3 * steps)
    return peak * np.concatenate([1 - 0.96 * _falling(rise), _falling(steps - rise)])


def _falling(steps: int) -> np.ndarray:
    return np.asarray((1 + np.cos(np.pi * np.arange(steps) / max(steps, 1))) / 2)
