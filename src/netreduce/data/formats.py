"""The formats in which datasets are published, decoded to training images and labels, test images
and labels (uint8).
"""

import io
from collections.abc import Sequence

import numpy as np

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def idx_files(contents: Sequence[bytes]) -> Arrays:
    """Four IDX files (LeCun): training images and labels, test images and labels."""
    train_images, train_labels, test_images, test_labels = map(_idx, contents)
    return train_images[..., None], train_labels, test_images[..., None], test_labels


def _idx(content: bytes) -> np.ndarray:
    """An array of bytes: two zero bytes, type 8 (uint8), the number of axes; each axis as a
    big-endian int32; the values in row-major order.
    """
    axes = content[3]
    shape = np.frombuffer(content, ">i4", axes, offset=4)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def cifar_batches(contents: Sequence[bytes]) -> Arrays:
    """Files of CIFAR-10's binary version, the last one for testing: rows of a label and the red,
    green and blue plane of a 32×32 image.
    """
    *batches, test = (np.frombuffer(content, np.uint8).reshape(-1, 3073) for content in contents)
    train = np.concatenate(batches)
    return _planes(train), train[:, 0], _planes(test), test[:, 0]


def _planes(rows: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(rows[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


DIGITS_TEST = 300


def digits(contents: Sequence[bytes]) -> Arrays:
    """The digits of UCI and scikit-learn: lines of 64 pixels in 0 ... 16 and a label; the last 300
    are for testing.

    A pixel v becomes round(255 v / 16), halves up, so that 16 becomes 255; round(16 u / 255) gives
    v back, no information is lost.
    """
    rows = np.loadtxt(io.BytesIO(contents[0]), dtype=int, delimiter=",")
    images = ((255 * rows[:, :64] + 8) // 16).astype(np.uint8).reshape(-1, 8, 8, 1)
    labels = rows[:, 64].astype(np.uint8)
    return (
        images[:-DIGITS_TEST],
        labels[:-DIGITS_TEST],
        images[-DIGITS_TEST:],
        labels[-DIGITS_TEST:],
    )
