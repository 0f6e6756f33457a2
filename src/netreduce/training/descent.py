"""Steps of an optimizer in PyTorch."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import nn

from .augmentation import augment
from .lesson import Lesson

BATCH_SIZE = 128


def descend(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    lessons: Lesson,
    epochs: int,
    seed: int,
    augmentation: Mapping[str, Any] | None = None,
    precision: str = "float32",
) -> None:
    """Take the steps of an optimizer, with its learning rates falling linearly to zero."""
    x = lessons.x
    steps = epochs * -(-len(x) // BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    random = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for index in torch.split(torch.randperm(len(x), generator=random), BATCH_SIZE):
            optimizer.zero_grad()
            batch = augment(x[index], **(augmentation or {}), generator=random)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                loss = lessons.off(model(batch).to(x.dtype), batch, index)
            loss.backward()
            optimizer.step()
            schedule.step()


def hold_zeros(parameters: Iterable[nn.Parameter]) -> None:
    """What is zero gets no gradient."""
    for parameter in parameters:
        parameter.register_hook(partial(torch.mul, (parameter != 0).to(parameter.dtype)))
