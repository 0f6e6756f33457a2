"""Training of networks, in PyTorch (`torch`) and in Keras (`keras`)."""

import os

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


def check_training(
    network: Network,
    images,
    labels,
    *,
    optimizer="adam",
    schedule="none",
    precision="float32",
    augmentation=None,
) -> None:
    """Refuse, before any work, settings that are not known and data that do not fit the network.

    Raises
    ------
    ParameterError, SampleError
    """
    for name, value, allowed in (
        ("optimizer", optimizer, OPTIMIZERS),
        ("schedule", schedule, SCHEDULES),
        ("precision", precision, PRECISIONS),
    ):
        if value not in allowed:
            raise ParameterError(f"{name} must be one of {', '.join(allowed)}, found {value!r}")
    for key in augmentation or {}:
        if key not in AUGMENTATIONS:
            raise ParameterError(
                f"unknown augmentation {key!r}, expected {' or '.join(AUGMENTATIONS)}"
            )
    if any((augmentation or {}).values()) and len(network.input_shape) != 3:
        raise ParameterError(
            f"augmentation needs images, the network takes inputs of shape {network.input_shape}"
        )
    network.check_samples(images)
    labels = np.asarray(labels)
    if labels.shape != (len(images),) or not len(images):
        raise SampleError(
            f"one label for each of the {len(images)} images is needed, found labels of shape"
            f" {labels.shape}"
        )
    classes = network.shapes[-1][-1]
    if len(network.shapes[-1]) != 1 or labels.min() < 0 or labels.max() >= classes:
        raise SampleError(
            f"labels must lie in 0 … {classes - 1} (the network's outputs: {network.shapes[-1]}),"
            f" found {labels.min()} … {labels.max()}"
        )


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


def _falling(steps):
    return (1 + np.cos(np.pi * np.arange(steps) / max(steps, 1))) / 2
