"""Kernels as frameworks with channels first have them, and as layers have them."""

import sys
from types import ModuleType

import numpy as np

from netreduce.errors import UnsupportedLayerError

LARGEST_KERNEL = 1 << 28
ROWS = 16  # that are copied at a time


def turned(kernel: np.ndarray) -> np.ndarray:
    """A kernel of shape (outputs, inputs) as (inputs, outputs), one of shape (outputs, inputs,
    rows, columns) as (rows, columns, inputs, outputs); always copied, so that nothing stays of a
    file that was mapped into memory.

    Examples
    --------
    >>> turned(np.ones((10, 3, 5, 5))).shape
    (5, 5, 3, 10)
    """
    torch = sys.modules.get("torch")
    if torch is not None and kernel.dtype == np.float32 and kernel.flags.writeable:
        return _shuffled(np.ascontiguousarray(kernel), torch)
    axes = (*range(2, kernel.ndim), 1, 0)
    result = np.empty([kernel.shape[axis] for axis in axes], kernel.dtype)
    # where rows lie a power of 2 apart, as of 1,024 numbers, whole columns push each other out of
    # the processor's cache: a few rows at a time do not
    for start in range(0, len(kernel), ROWS):
        result[..., start : start + ROWS] = kernel[start : start + ROWS].transpose(axes)
    return result


def _shuffled(kernel: np.ndarray, torch: ModuleType) -> np.ndarray:
    """The kernel turned by PyTorch, where that is there anyway, four times as fast: to shuffle the
    channels of one pixel in groups is to transpose the matrix of groups, in tiles that fit into
    registers.
    """
    outputs, inputs, *size = kernel.shape
    pixel = torch.from_numpy(kernel).as_strided(
        (1, kernel.size, 1, 1), (kernel.size, 1, kernel.size, kernel.size)
    )
    matrix: np.ndarray = torch.channel_shuffle(pixel, outputs).numpy()
    if not size:
        return matrix.reshape(inputs, outputs)
    return np.ascontiguousarray(np.moveaxis(matrix.reshape(inputs, *size, outputs), 0, -2))


def ungrouped(kernel: np.ndarray, groups: int) -> np.ndarray:
    """The kernel of a transposed convolution in groups, (rows, columns, outputs of a group,
    inputs), as one without: zeros between the groups.

    Examples
    --------
    >>> ungrouped(np.ones((1, 1, 1, 4)), 2)[0, 0]
    array([[1., 1., 0., 0.],
           [0., 0., 1., 1.]])
    """
    if groups == 1:
        return kernel
    rows, columns, outputs, inputs = kernel.shape
    if kernel.size * groups > LARGEST_KERNEL:
        raise UnsupportedLayerError(f"{groups} groups make too large a kernel")
    whole = np.zeros((rows, columns, outputs * groups, inputs), kernel.dtype)
    for group in range(groups):
        read = slice(group * inputs // groups, (group + 1) * inputs // groups)
        whole[:, :, group * outputs : (group + 1) * outputs, read] = kernel[..., read]
    return whole
