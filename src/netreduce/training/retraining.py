"""Retraining of a pruned network in PyTorch: weights that are zero stay zero."""

from collections.abc import Iterable
from functools import partial

import numpy as np
import torch
from torch import nn

from netreduce.errors import ParameterError
from netreduce.formats.pytorch.module import to_torch, with_parameters_of
from netreduce.network import Network
from netreduce.network.layers import Activation, Layer
from netreduce.training import loss_for

from .losses import loss_of, tensors

BATCH_SIZE = 128
LEARNING_RATE = 3e-3  # sparse networks bear, and need, more than dense ones
BROUGHT = {"cross entropy": "softmax", "binary cross entropy": "sigmoid"}
WEIGHT_DECAY = 1e-4  # small weights carry little signal, so that the next iteration prunes them


def retrain(
    network: Network, images: np.ndarray, labels: np.ndarray, epochs: int, seed: int = 0
) -> Network:
    """Train a network further, by Adam on the loss that the labels call for
    (`netreduce.training.loss_for`), with the learning rate falling linearly to zero.

    Zero weights and zero biases stay zero; the mean and variance of batch normalization stay as
    they are. The same seed and number of threads give the same weights, bit for bit.

    Parameters
    ----------
    network : Network
        Ends in one score per class: logits, or softmax; in one score for two classes: a logit, or
        sigmoid; or in numbers.
    images : ndarray, shape (n, *network.input_shape)
    labels : ndarray of int, shape (n,), or of float, shape (n, outputs)
    epochs : int
    seed : int
        Of the order of the images.

    Returns
    -------
    Network

    Raises
    ------
    ParameterError
        A layer is quantized: training would leave its grid; parameters that are NaN or infinite.
    SampleError
        Images that do not fit the network, or labels that do not fit the images.
    """
    network.check_parameters()
    images, labels = network.check_samples(images), np.asarray(labels)
    loss = loss_for(network, images, labels)
    for name, layer in zip(network.names, network.layers, strict=True):
        if getattr(layer, "quantization", None) is not None:
            raise ParameterError(f"{name} is quantized: retrain before quantizing")
    model = to_torch(without_end(network, loss)).eval()
    hold_zeros(model.parameters())
    x, y = tensors(images.astype(network.dtype, copy=False), labels)
    optimizer = torch.optim.Adam(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    descend(model, optimizer, loss, x, y, epochs, seed)
    return with_parameters_of(model, network)


def retrain_on(
    network: Network,
    training: tuple[np.ndarray, np.ndarray],
    original: Network,
    epochs: int,
    distil: bool = False,
    seed: int = 0,
) -> Network:
    """`retrain` as a step of chains, behind one that took neurons or weights out: on the labels of
    the training samples, or, to `distil`, on what the original network gives for them.
    """
    images, labels = training
    targets = original.predict(images) if distil else labels
    return retrain(network, images, targets, epochs=epochs, seed=seed)


def hold_zeros(parameters: Iterable[nn.Parameter]) -> None:
    """What is zero gets no gradient."""
    for parameter in parameters:
        parameter.register_hook(partial(torch.mul, (parameter != 0).to(parameter.dtype)))


def descend(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: str,
    x: torch.Tensor,
    y: torch.Tensor,
    epochs: int,
    seed: int,
) -> None:
    """Take the steps of an optimizer, with its learning rates falling linearly to zero."""
    y = y.to(x.dtype) if y.is_floating_point() else y
    steps = epochs * -(-len(x) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    order = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.split(torch.randperm(len(x), generator=order), BATCH_SIZE):
            optimizer.zero_grad()
            loss_of(loss, model(x[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()


def without_end(network: Network, loss: str) -> Network:
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
