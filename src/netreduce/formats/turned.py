"""Kernels turned from PyTorch's order of axes, outputs first, into ours, outputs last; always
copied, so that nothing stays of a file that was mapped into memory.
"""

import sys

import numpy as np

ROWS = 16  # that are copied at a time


def turned(kernel: np.ndarray) -> np.ndarray:
    """A kernel of shape (outputs, inputs) as (inputs, outputs), one of shape (outputs, inputs,
    rows, columns) as (rows, columns, inputs, outputs).

    Examples
    --------
    >>> turned(np.ones((10, 3, 5, 5))).shape
    (5, 5, 3, 10)
    """
    if "torch" in sys.modules and kernel.dtype == np.float32 and kernel.flags.writeable:
        return _shuffled(np.ascontiguousarray(kernel))
    axes = (*range(2, kernel.ndim), 1, 0)
    result = np.empty([kernel.shape[axis] for axis in axes], kernel.dtype)
    # where rows lie a power of 2 apart, as of 1,024 numbers, whole columns push each other out of
    # the processor's cache: a few rows at a time do not
    for start in range(0, len(kernel), ROWS):
        result[..., start : start + ROWS] = kernel[start : start + ROWS].transpose(axes)
    return result


def _shuffled(kernel: np.ndarray) -> np.ndarray:
    """The kernel turned by PyTorch, where that is there anyway, four times as fast: to shuffle the
    channels of one pixel in groups is to transpose the matrix of groups, in tiles that fit into
    registers.
    """
    import torch

    outputs, inputs, *size = kernel.shape
    pixel = torch.from_numpy(kernel).as_strided(
        (1, kernel.size, 1, 1), (kernel.size, 1, kernel.size, kernel.size)
    )
    matrix = torch.channel_shuffle(pixel, outputs).numpy()
    if not size:
        return matrix.reshape(inputs, outputs)
    return np.ascontiguousarray(np.moveaxis(matrix.reshape(inputs, *size, outputs), 0, -2))
