"""Training in PyTorch."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from netreduce.formats.pytorch.module import to_torch, with_parameters_of
from netreduce.network import Network
from netreduce.training import check_training, history_row, learning_rates

from .augmentation import augment
from .losses import correct, loss_of, tensors

EVALUATION_BATCH = 1000


def train(
    network: Network,
    images: np.ndarray,
    labels: np.ndarray,
    validation_images: np.ndarray,
    validation_labels: np.ndarray,
    *,
    epochs: int,
    batch_size: int = 128,
    optimizer: str = "adam",
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    schedule: str = "cosine",
    precision: str = "float32",
    augmentation: Mapping[str, Any] | None = None,
    seed: int = 0,
    threads: int | None = None,
    device: str | None = None,
) -> tuple[Network, list[dict[str, float]]]:
    """Train a network, by the loss that the labels call for: cross entropy on its logits for
    classes, binary cross entropy for two classes and one output, mean squared error for numbers.

    Parameters
    ----------
    network : Network
        Architecture and initial weights; its last layer is linear.
    images, validation_images : ndarray of float32, shape (samples, *input_shape)
    labels, validation_labels : ndarray of int, shape (samples,), or of float, (samples, outputs)
    epochs, batch_size : int
    optimizer : {"adam", "adamw", "sgd"}
        sgd has Nesterov momentum 0.9.
    learning_rate, weight_decay : float
    l1 : float
        Times the sum of the magnitudes of all weights (not biases), added to the loss: leaves more
        neurons that never change their side (`netreduce.lossless`).
    schedule : {"none", "cosine", "onecycle"}
        How the learning rate runs, step by step: see `netreduce.training.learning_rates`.
    precision : {"float32", "bfloat16"}
        Of the products in a training step; weights, their updates and evaluation are float32.
        Processors with AMX and GPUs take bfloat16 at a multiple of the speed (Kalamkar et al.,
        2019).
    augmentation : dict, optional
        {"shift": pixels, "flip": bool}: each image is moved by up to so many pixels either way, and
        mirrored half of the time.
    seed : int
        Order of the images, dropout and augmentation.
    threads : int, optional
        Processor cores; the same number gives the same weights, bit for bit.
    device : str, optional
        Where to compute; a GPU if there is one.

    Returns
    -------
    Network
        After the last epoch.
    list of dict
        For every epoch: epoch, training_loss, training_accuracy (both as seen during the epoch),
        validation_loss, validation_accuracy; for numbers the losses alone.

    Raises
    ------
    ParameterError, SampleError
        A setting that is not known, images or labels that do not fit the network.
    """
    loss_name = check_training(
        network,
        images,
        labels,
        optimizer=optimizer,
        schedule=schedule,
        l1=l1,
        precision=precision,
        augmentation=augmentation,
    )
    check_training(network, validation_images, validation_labels)
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    place = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    order = torch.Generator().manual_seed(seed)

    # typed without memory_format, which it takes
    model = to_torch(network).to(place).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    x, y = _tensors(images, labels, place)
    validation = _tensors(validation_images, validation_labels, place)
    steps = epochs * -(-len(x) // batch_size)
    descent = _optimizer(optimizer, model.parameters(), learning_rate, weight_decay)
    rates = iter(learning_rates(schedule, learning_rate, steps).tolist())
    history = []
    with tqdm(total=steps, unit="step", mininterval=5) as progress:
        for epoch in range(1, epochs + 1):
            model.train()
            seen = torch.zeros(2, device=place, dtype=torch.float64)
            for index in torch.randperm(len(x), generator=order).split(batch_size):
                batch, target = x[index.to(place)], y[index.to(place)]
                batch = augment(batch, **(augmentation or {}))
                with torch.autocast(place.type, torch.bfloat16, enabled=precision == "bfloat16"):
                    outputs = model(batch).float()
                loss = loss_of(loss_name, outputs, target)
                descent.zero_grad(set_to_none=True)
                (loss + l1 * _magnitude(model) if l1 else loss).backward()
                descent.param_groups[0]["lr"] = next(rates)
                descent.step()
                seen += torch.stack(
                    (loss.detach() * len(target), correct(loss_name, outputs.detach(), target))
                )
                progress.update()
            trained = (seen / len(x)).tolist()
            history.append(
                history_row(epoch, loss_name, trained, _evaluate(model, loss_name, *validation))
            )
            progress.set_postfix({name: f"{value:.4g}" for name, value in history[-1].items()})
    return with_parameters_of(model.cpu(), network), history


def _tensors(
    images: np.ndarray, labels: np.ndarray, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = tensors(images, labels)
    return x.to(device), y.to(device)


def _optimizer(
    name: str, parameters: Iterable[nn.Parameter], learning_rate: float, weight_decay: float
) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {"lr": learning_rate, "weight_decay": weight_decay, "fused": True}
    if name == "sgd":
        return torch.optim.SGD(parameters, momentum=0.9, nesterov=True, **settings)
    if name == "adamw":
        return torch.optim.AdamW(parameters, **settings)
    return torch.optim.Adam(parameters, **settings)


def _magnitude(model: nn.Module) -> torch.Tensor:
    """The sum of the magnitudes of all weights."""
    weights = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    return torch.stack([weight.abs().sum() for weight in weights]).sum()


@torch.inference_mode()
def _evaluate(model: nn.Module, loss: str, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    model.eval()
    outputs = torch.cat([model(batch) for batch in torch.split(x, EVALUATION_BATCH)])
    return loss_of(loss, outputs, y).item(), correct(loss, outputs, y).item() / len(y)
