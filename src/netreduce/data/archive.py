"""A dataset as one .npz file: the images and labels of a fixed split, ready to load."""

import zipfile
from pathlib import Path

import numpy as np

from netreduce.errors import DataError, ParameterError
from netreduce.files import replacing

SPLITS = ("train", "validation", "test")
ARRAYS = tuple(f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels"))
UNREADABLE = (OSError, EOFError, ValueError, zipfile.BadZipFile)


class Dataset:
    """A dataset file, checked when it is opened; the images of a split are read when they are first
    asked for.

    Parameters
    ----------
    path : path-like
        An .npz file that `write` wrote.

    Attributes
    ----------
    train_images, validation_images, test_images : ndarray of uint8, shape (n, height, width,
    channels) train_labels, validation_labels, test_labels : ndarray of uint8, shape (n,) classes :
    tuple of str
        Names of the classes; a label is an index into them.
    source : str
        Which data these are.
    image_shape : tuple of int
        (height, width, channels): the input shape of a network for these images.

    Raises
    ------
    DataError
        When the file is not there, is not such an archive, or its arrays do not fit together: names
        the array, what was found and expected.
    """

    def __init__(self, path):
        self.path = Path(path)
        try:
            self._file = np.load(self.path, allow_pickle=False)
        except FileNotFoundError:
            raise DataError(f"{path}: there is no such dataset file") from None
        except UNREADABLE as error:
            raise DataError(f"{path}: not a dataset file, or a damaged one ({error})") from None
        missing = [
            name
            for name in (*ARRAYS, "classes", "source")
            if name not in getattr(self._file, "files", ())
        ]
        if missing:
            raise DataError(f"{path}: not a dataset file, it has no {', '.join(missing)}")
        self.classes = tuple(map(str, self._read("classes")))
        self.source = str(self._read("source"))
        headers = {name: self._header(name) for name in ARRAYS}
        _check(
            headers,
            {split: getattr(self, f"{split}_labels") for split in SPLITS},
            self.classes,
            path,
        )
        self.image_shape = headers["train_images"][0][1:]

    def images(self, split: str, count: int | None = None) -> np.ndarray:
        """The first `count` images of a split (all by default) as networks take them: float32 in
        [0, 1], x / 255.
        """
        if split not in SPLITS:
            raise ParameterError(f"split must be one of {', '.join(SPLITS)}, found {split!r}")
        images = getattr(self, f"{split}_images")[:count].astype(np.float32)
        images /= 255
        return images

    def __getattr__(self, name):
        if name not in ARRAYS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        setattr(self, name, self._read(name))
        return self.__dict__[name]

    def _read(self, name):
        try:
            return self._file[name]
        except UNREADABLE as error:
            raise DataError(
                f"{self.path}: {name} cannot be read, the file is damaged ({error})"
            ) from None

    def _header(self, name):
        try:
            with self._file.zip.open(f"{name}.npy") as member:
                np.lib.format.read_magic(member)
                shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        except UNREADABLE as error:
            raise DataError(
                f"{self.path}: {name} cannot be read, the file is damaged ({error})"
            ) from None
        return shape, dtype


def read(path) -> Dataset:
    """Open a dataset file: see `Dataset`."""
    return Dataset(path)


def write(path, arrays: dict[str, np.ndarray], classes: tuple[str, ...], source: str) -> None:
    """Write a dataset file, whole or not at all, always with the same bytes for the same data.

    Parameters
    ----------
    path : path-like
    arrays : dict of str to ndarray
        train_images, train_labels, validation_images, ... as `Dataset` describes them.
    classes : tuple of str
    source : str

    Raises
    ------
    DataError
        When the arrays do not fit together.
    """
    headers = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    _check(headers, {split: arrays[f"{split}_labels"] for split in SPLITS}, classes, path)
    # Not compressed: a step loads MNIST in 0.04 s instead of 0.2 s, and the bytes do not depend on
    # the version of zlib.
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            **{name: arrays[name] for name in ARRAYS},
            classes=np.array(classes),
            source=np.array(source),
        )


def _check(headers, labels, classes, path):
    """Whether the images of all splits look alike, every one has a label, and every label has a
    class.
    """
    image_shape = headers["train_images"][0][1:]
    expected = (
        ", ".join(map(str, image_shape)) if len(image_shape) == 3 else "height, width, channels"
    )
    for split in SPLITS:
        images, dtype = headers[f"{split}_images"]
        if dtype != np.uint8 or len(images) != 4 or images[1:] != image_shape or not images[0]:
            raise DataError(
                f"{path}: {split}_images must be uint8 of shape (n, {expected}) with n ≥ 1, found"
                f" {dtype} of shape {images}"
            )
        shape, dtype = headers[f"{split}_labels"]
        if dtype != np.uint8 or shape != images[:1]:
            raise DataError(
                f"{path}: {split}_labels must be uint8 of shape ({images[0]},), one for every"
                f" image, found {dtype} of shape {shape}"
            )
        wrong = np.flatnonzero(labels[split] >= len(classes))
        if len(wrong):
            found = f"label {labels[split][wrong[0]]} of image {wrong[0]}"
            raise DataError(
                f"{path}: {split}_labels must be in 0 ... {len(classes) - 1} ({len(classes)}"
                f" classes), found {found}"
            )
