"""Random changes of training images."""

import torch
from torch.nn import functional


def augment(
    batch: torch.Tensor,
    shift: int = 0,
    flip: bool = False,
    generator: torch.Generator | None = None,
) -> torch.Tensor:
    """Move every image by up to `shift` pixels either way (edges filled with zeros), and mirror
    half of them.

    Parameters
    ----------
    batch : Tensor, shape (images, channels, height, width)
    shift : int
    flip : bool
    generator : Generator, optional
        Of the random numbers; by default PyTorch's own.
    """
    place = batch.device
    if flip:
        mirrored = torch.rand(len(batch), device=place, generator=generator) < 0.5
        batch = torch.where(mirrored[:, None, None, None], batch.flip(3), batch)
    if shift:
        height, width = batch.shape[2:]
        padded = functional.pad(batch, [shift] * 4)
        down, right = torch.randint(
            0, 2 * shift + 1, (2, len(batch), 1), device=place, generator=generator
        )
        rows = down + torch.arange(height, device=place)
        columns = right + torch.arange(width, device=place)
        images = torch.arange(len(batch), device=place)[:, None, None]
        batch = padded[images, :, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
    return batch
