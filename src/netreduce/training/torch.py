"""Training in PyTorch."""

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from netreduce.formats.torch_module import to_torch, with_parameters_of
from netreduce.network import Network
from netreduce.training import check_training, learning_rates

from .augmentation import augment

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
    schedule: str = "cosine",
    precision: str = "float32",
    augmentation: dict | None = None,
    seed: int = 0,
    threads: int | None = None,
    device: str | None = None,
) -> tuple[Network, list[dict]]:
    """Train a network to classify images, by cross-entropy on its logits.

    Parameters
    ----------
    network : Network
        Architecture and initial weights; its last layer is linear.
    images, validation_images : ndarray of float32, shape (samples, *input_shape)
    labels, validation_labels : ndarray of int, shape (samples,)
    epochs, batch_size : int
    optimizer : {"adam", "adamw", "sgd"}
        sgd has Nesterov momentum 0.9.
    learning_rate, weight_decay : float
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
        validation_loss, validation_accuracy.

    Raises
    ------
    ParameterError, SampleError
        A setting that is not known, images or labels that do not fit the network.
    """
    check_training(
        network,
        images,
        labels,
        optimizer=optimizer,
        schedule=schedule,
        precision=precision,
        augmentation=augmentation,
    )
    check_training(network, validation_images, validation_labels)
    if threads is not None:
        torch.set_num_threads(threads)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    order = torch.Generator().manual_seed(seed)

    model = to_torch(network).to(device, memory_format=torch.channels_last)
    x, y = _tensors(images, labels, device)
    validation = _tensors(validation_images, validation_labels, device)
    steps = epochs * -(-len(x) // batch_size)
    descent = _optimizer(optimizer, model.parameters(), learning_rate, weight_decay)
    rates = iter(learning_rates(schedule, learning_rate, steps).tolist())
    history = []
    with tqdm(total=steps, unit="step", mininterval=5) as progress:
        for epoch in range(1, epochs + 1):
            model.train()
            seen = torch.zeros(2, device=device, dtype=torch.float64)
            for index in torch.randperm(len(x), generator=order).split(batch_size):
                batch, target = x[index.to(device)], y[index.to(device)]
                batch = augment(batch, **(augmentation or {}))
                with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                    logits = model(batch).float()
                loss = nn.functional.cross_entropy(logits, target)
                descent.zero_grad(set_to_none=True)
                loss.backward()
                descent.param_groups[0]["lr"] = next(rates)
                descent.step()
                seen += torch.stack(
                    (loss.detach() * len(target), (logits.detach().argmax(1) == target).sum())
                )
                progress.update()
            loss, accuracy = (seen / len(x)).tolist()
            validation_loss, validation_accuracy = _evaluate(model, *validation)
            history.append(
                {
                    "epoch": epoch,
                    "training_loss": loss,
                    "training_accuracy": accuracy,
                    "validation_loss": validation_loss,
                    "validation_accuracy": validation_accuracy,
                }
            )
            progress.set_postfix(
                epoch=epoch, loss=f"{loss:.4f}", validation=f"{validation_accuracy:.4f}"
            )
    return with_parameters_of(model.cpu(), network), history


def _tensors(images, labels, device):
    x = torch.from_numpy(np.ascontiguousarray(images))
    if x.ndim == 4:  # channels last in memory, channels first in PyTorch's shapes
        x = x.permute(0, 3, 1, 2)
    return x.to(device), torch.from_numpy(labels.astype(np.int64)).to(device)


def _optimizer(name, parameters, learning_rate, weight_decay):
    settings = {"lr": learning_rate, "weight_decay": weight_decay, "fused": True}
    if name == "sgd":
        return torch.optim.SGD(parameters, momentum=0.9, nesterov=True, **settings)
    return {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name](parameters, **settings)


@torch.inference_mode()
def _evaluate(model, x, y):
    model.eval()
    logits = torch.cat([model(batch) for batch in x.split(EVALUATION_BATCH)])
    return (
        nn.functional.cross_entropy(logits, y).item(),
        (logits.argmax(1) == y).double().mean().item(),
    )
