"""What a reduced network learns from: labels, and the answers of the network that it came from."""

from dataclasses import dataclass
from numbers import Real

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from netreduce.errors import ParameterError, SampleError
from netreduce.network import Network
from netreduce.network.layers import Activation, Layer
from netreduce.training import loss_for

from .losses import loss_of, tensors
from .modules import in_pytorch

BROUGHT = {"cross entropy": "softmax", "binary cross entropy": "sigmoid"}


@dataclass(frozen=True)
class Lesson:
    """Samples, and how far off a network's answers to them are.

    Attributes
    ----------
    network : Network
        The one that learns, without softmax, or sigmoid, where the loss brings it along.
    x : Tensor
        Samples, in the network's precision.
    y : Tensor or None
        Labels.
    loss : str
        Of the labels, one of `netreduce.training.LOSSES`.
    teacher : Module or None
    distil : float
        The part of the loss that is the distance to the teacher's answers.
    """

    network: Network
    x: torch.Tensor
    y: torch.Tensor | None
    loss: str
    teacher: nn.Module | None
    distil: float

    def off(self, answers: torch.Tensor, batch: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        """The loss of a network's answers to a batch, made of the samples of an index."""
        total = torch.zeros((), dtype=answers.dtype)
        if self.y is not None:
            total = (1 - self.distil) * loss_of(self.loss, answers, self.y[index])
        if self.teacher is not None:
            with torch.no_grad():
                right = self.teacher(batch).to(answers.dtype)
            total = total + self.distil * functional.mse_loss(answers, right)
        return total


def lesson(
    network: Network,
    images: np.ndarray,
    labels: np.ndarray | None,
    original: Network | None,
    distil: float,
) -> Lesson:
    """The lesson for a network: labels, unless `distil` is 1, and an original, unless it is 0.

    The distance to the original is the mean squared difference of what the loss of the labels sees:
    of logits, not of probabilities, which teaches better (Kim et al., Comparing Kullback-Leibler
    divergence and mean squared error loss in knowledge distillation, IJCAI 2021).

    Raises
    ------
    ParameterError
        Parameters that are NaN or infinite; a part that is none; no original, or one of other
        inputs or outputs.
    SampleError
        Images that do not fit the network, or labels that do not fit the images.
    """
    network.check_parameters()
    images = network.check_samples(images)
    if not (isinstance(distil, Real) and 0 <= distil <= 1):
        raise ParameterError(f"distil must be a number from 0 to 1, found {distil!r}")
    if not len(images):
        raise SampleError("no images to learn from")
    if distil == 1:
        targets = np.zeros(len(images), int)
        loss = "binary cross entropy" if network.shapes[-1] == (1,) else "cross entropy"
    else:
        targets = np.asarray(labels)
        loss = loss_for(network, images, targets)
    x, y = tensors(images.astype(network.dtype, copy=False), targets)
    teacher = None
    if distil:
        if not isinstance(original, Network):
            raise ParameterError(
                f"distil={distil:g} needs the original network, found {original!r}"
            )
        original.check_parameters()
        ends = [(one.input_shape, one.shapes[-1]) for one in (network, original)]
        if ends[0] != ends[1]:
            raise ParameterError(
                f"the original has inputs and outputs of shapes {ends[1]}, the network {ends[0]}"
            )
        teacher = in_pytorch(_without_end(original, loss))[0].to(x.dtype)
    y = y.to(x.dtype) if y.is_floating_point() else y
    student = _without_end(network, loss)
    return Lesson(student, x, None if distil == 1 else y, loss, teacher, float(distil))


def _without_end(network: Network, loss: str) -> Network:
    """The network without softmax, or sigmoid, which the loss brings along."""
    last = len(network.layers) - 1
    return network.replace({last: _logits(network.layers[last], loss)})


def _logits(layer: Layer, loss: str) -> Layer:
    brought = BROUGHT.get(loss)
    if isinstance(layer, Activation):
        return Activation("linear") if layer.name == brought else layer
    return (
        layer.replace(activation="linear")
        if brought and getattr(layer, "activation", None) == brought
        else layer
    )
