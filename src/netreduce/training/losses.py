"""The losses of `netreduce.training.LOSSES` in PyTorch."""

import numpy as np
import torch
from torch.nn import functional


def loss_of(name: str, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """A loss of `netreduce.training.LOSSES`, mean over a batch."""
    if name == "cross entropy":
        return functional.cross_entropy(outputs, target)
    if name == "binary cross entropy":
        return functional.binary_cross_entropy_with_logits(outputs[:, 0], target.float())
    if outputs.ndim == 4:  # targets are images with the channels last
        outputs = outputs.permute(0, 2, 3, 1)
    return functional.mse_loss(outputs.flatten(1), target)


def correct(name: str, outputs: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """How many of a batch are classified as labelled; none of numbers."""
    if name == "cross entropy":
        return (outputs.argmax(1) == target).sum()
    if name == "binary cross entropy":
        return ((outputs[:, 0] > 0) == (target == 1)).sum()
    return torch.zeros((), dtype=torch.long, device=outputs.device)


def tensors(images: np.ndarray, labels: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Samples as PyTorch takes them, and classes as int64 or numbers as float32."""
    x = torch.from_numpy(np.ascontiguousarray(images))
    if x.ndim == 4:  # channels last in memory, channels first in PyTorch's shapes
        x = x.permute(0, 3, 1, 2)
    kind = np.float32 if labels.dtype.kind == "f" else np.int64
    return x, torch.from_numpy(labels.astype(kind))
