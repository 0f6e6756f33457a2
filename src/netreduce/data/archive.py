"""A dataset as one .npz file: the samples and labels of a fixed split, ready to load."""

from collections.abc import Mapping
from math import prod
from pathlib import Path

import numpy as np

from netreduce.errors import DataError, ParameterError
from netreduce.files import replacing

from .arrays import UNREADABLE
from .preprocessing import NAMES, Preprocessing, from_arrays

SPLITS = ("train", "validation", "test")
ARRAYS = tuple(f"{split}_{kind}" for split in SPLITS for kind in ("images", "labels"))
TARGETS = ("classes", "numbers", "input")
PIXELS = Preprocessing(255.0, 0.0, 1.0, 0.0, 255.0)
Header = tuple[tuple[int, ...], np.dtype]


class Dataset:
    """A dataset file, checked when it is opened; the samples of a split are read when they are
    first asked for.

    Parameters
    ----------
    path : path-like
        An .npz file that `write` or `write_own` wrote.

    Attributes
    ----------
    train_images, validation_images, test_images : ndarray, shape (n, *image_shape)
        As they were given: uint8 or float32; of the datasets of the table uint8, shape (n, height,
        width, channels).
    train_labels, validation_labels, test_labels : ndarray
        Classes: integers, shape (n,), of the datasets of the table uint8. Numbers: float32, shape
        (n, outputs). Not there without labels.
    target : {"classes", "numbers", "input"}
        What a network should answer: a class, numbers, or its input (an autoencoder).
    labelled : bool
        Whether the right answers are known.
    classes : tuple of str
        Names of the classes; a label is an index into them. Empty where there are none.
    source : str
        Which data these are.
    image_shape : tuple of int
        The input shape of a network for these samples: (height, width, channels) of images.
    preprocessing : Preprocessing
        What `images` does to the values; pixels of the table's datasets become x / 255.
    own : bool
        Whether these are a user's own data, not a dataset of the table.

    Raises
    ------
    DataError
        When the file is not there, is not such an archive, or its arrays do not fit together: names
        the array, what was found and expected.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    validation_images: np.ndarray
    validation_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            self._file = np.load(self.path, allow_pickle=False)
        except FileNotFoundError:
            raise DataError(f"{path}: there is no such dataset file") from None
        except UNREADABLE as error:
            raise DataError(f"{path}: not a dataset file, or a damaged one ({error})") from None
        names = getattr(self._file, "files", ())
        if names:
            self._check_sizes()
        self.own = "target" in names
        self.target = str(self._read("target")) if self.own else "classes"
        self.labelled = self.target == "input" or not self.own or "train_labels" in names
        with_labels = self.labelled and self.target != "input"
        wanted = ARRAYS if with_labels else tuple(f"{split}_images" for split in SPLITS)
        needed = (*wanted, "classes", "source", *(NAMES if self.own else ()))
        if missing := [name for name in needed if name not in names]:
            raise DataError(f"{path}: not a dataset file, it has no {', '.join(missing)}")
        self.classes = tuple(map(str, np.ravel(self._read("classes"))))
        self.source = str(self._read("source"))
        headers = {name: self._header(name) for name in wanted}
        labels = (
            {split: getattr(self, f"{split}_labels") for split in SPLITS} if with_labels else {}
        )
        if self.own:
            _check_own(headers, labels, self.target, self.classes, path)
        else:
            _check(headers, labels, self.classes, path)
        self.image_shape = headers["train_images"][0][1:]
        self.preprocessing = PIXELS
        if self.own:
            numbers = {name: self._read(name) for name in NAMES}
            self.preprocessing = from_arrays(numbers, self.image_shape[-1], str(path))

    def images(self, split: str, count: int | None = None) -> np.ndarray:
        """The first `count` samples of a split (all by default) as networks take them: float32,
        preprocessed; of the table's datasets x / 255, in [0, 1].
        """
        self._check_split(split)
        images: np.ndarray = getattr(self, f"{split}_images")[:count]
        return self.preprocessing(images)

    def targets(self, split: str, count: int | None = None) -> np.ndarray:
        """What a network should answer on the same samples: classes, shape (n,), or numbers as
        float32, shape (n, outputs); of an autoencoder its preprocessed inputs in one row each.

        Raises
        ------
        DataError
            There are no labels.
        """
        self._check_split(split)
        if not self.labelled:
            raise DataError(f"{self.path}: the data have no labels")
        if self.target == "input":
            images = self.images(split, count)
            return images.reshape(len(images), -1)
        labels: np.ndarray = getattr(self, f"{split}_labels")[:count]
        return labels

    @property
    def outputs(self) -> int | None:
        """So many outputs a network for these data has, at most (two classes can do with one
        output); None where the data do not say.
        """
        if self.target == "input":
            return prod(self.image_shape)
        if self.target == "classes":
            return len(self.classes) or None
        return int(self.train_labels.shape[1]) if self.labelled else None

    @property
    def input_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Least and largest values that networks see, arrays of image_shape: what `netreduce.lump`
        takes as input_range.
        """
        low, high = (np.broadcast_to(end, self.image_shape) for end in self.preprocessing.range)
        return low, high

    def __getattr__(self, name: str) -> np.ndarray:
        if name not in ARRAYS:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        setattr(self, name, self._read(name))
        array: np.ndarray = self.__dict__[name]
        return array

    def _check_split(self, split: str) -> None:
        if split not in SPLITS:
            raise ParameterError(f"split must be one of {', '.join(SPLITS)}, found {split!r}")

    def _read(self, name: str) -> np.ndarray:
        try:
            return np.asarray(self._file[name])
        except UNREADABLE as error:
            raise DataError(
                f"{self.path}: {name} cannot be read, the file is damaged ({error})"
            ) from None

    def _check_sizes(self) -> None:
        """Whether every array is as large as its header says; reading it would take as much memory
        as that says.
        """
        for name in self._file.files:
            shape, dtype = self._header(name)
            size = self._file.zip.getinfo(f"{name}.npy").file_size
            if prod(shape) * dtype.itemsize > size:
                raise DataError(
                    f"{self.path}: {name} cannot be read, the file is damaged ({dtype} of shape"
                    f" {shape} in {size} bytes)"
                )

    def _header(self, name: str) -> Header:
        try:
            with self._file.zip.open(f"{name}.npy") as member:
                np.lib.format.read_magic(member)
                shape, _, dtype = np.lib.format.read_array_header_1_0(member)
        except UNREADABLE as error:
            raise DataError(
                f"{self.path}: {name} cannot be read, the file is damaged ({error})"
            ) from None
        return shape, dtype


def read(path: str | Path) -> Dataset:
    """Open a dataset file: see `Dataset`."""
    return Dataset(path)


def write(
    path: str | Path, arrays: Mapping[str, np.ndarray], classes: tuple[str, ...], source: str
) -> None:
    """Write a dataset file, whole or not at all, always with the same bytes for the same data.

    Parameters
    ----------
    path : path-like
    arrays : dict of str to ndarray
        train_images, train_labels, validation_images, ... of uint8, as `Dataset` describes them.
    classes : tuple of str
    source : str

    Raises
    ------
    DataError
        When the arrays do not fit together.
    """
    headers = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    _check(headers, {split: arrays[f"{split}_labels"] for split in SPLITS}, classes, path)
    _save(path, {name: arrays[name] for name in ARRAYS}, classes, source)


def write_own(
    path: str | Path,
    arrays: Mapping[str, np.ndarray],
    classes: tuple[str, ...],
    source: str,
    target: str,
    preprocessing: Preprocessing,
) -> None:
    """Write a user's own data: `write`, for samples of any shape and any kind of target.

    Parameters
    ----------
    path : path-like
    arrays : dict of str to ndarray
        train_images, validation_images, test_images; labels of all of them, or of none.
    classes : tuple of str
    source : str
    target : {"classes", "numbers", "input"}
    preprocessing : Preprocessing

    Raises
    ------
    DataError
        When the arrays do not fit together.
    """
    headers = {name: (array.shape, array.dtype) for name, array in arrays.items()}
    labels = {s: arrays[f"{s}_labels"] for s in SPLITS if f"{s}_labels" in arrays}
    _check_own(headers, labels, target, classes, path)
    numbers = preprocessing.arrays()
    _save(path, {**arrays, "target": np.array(target), **numbers}, classes, source)


def _save(
    path: str | Path, arrays: Mapping[str, np.ndarray], classes: tuple[str, ...], source: str
) -> None:
    # Not compressed: a step loads MNIST in 0.04 s instead of 0.2 s, and the bytes do not depend on
    # the version of zlib.
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez(
            file,
            allow_pickle=False,
            **arrays,
            classes=np.array(classes, dtype=str),
            source=np.array(source),
        )


def _check(
    headers: Mapping[str, Header],
    labels: Mapping[str, np.ndarray],
    classes: tuple[str, ...],
    path: str | Path,
) -> None:
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
        _check_classes(labels[split], split, classes, path)


def _check_own(
    headers: Mapping[str, Header],
    labels: Mapping[str, np.ndarray],
    target: str,
    classes: tuple[str, ...],
    path: str | Path,
) -> None:
    """The same for a user's own data."""
    if target not in TARGETS:
        raise DataError(f"{path}: target must be one of {', '.join(TARGETS)}, found {target!r}")
    sample_shape = headers["train_images"][0][1:]
    for split in SPLITS:
        shape, dtype = headers[f"{split}_images"]
        if dtype not in (np.uint8, np.float32) or not sample_shape or shape[1:] != sample_shape:
            raise DataError(
                f"{path}: {split}_images must be uint8 or float32 of shape (n,"
                f" {', '.join(map(str, sample_shape)) or '...'}), found {dtype} of shape {shape}"
            )
        if not prod(shape):
            raise DataError(f"{path}: {split}_images are none, of shape {shape}")
        if split not in labels:
            continue
        found, kind = labels[split].shape, labels[split].dtype
        if found[:1] != shape[:1]:
            raise DataError(
                f"{path}: {split}_labels must be {shape[0]}, one for every sample, found an array"
                f" of shape {found}"
            )
        if target == "classes":
            if kind.kind not in "iu" or len(found) != 1:
                raise DataError(
                    f"{path}: {split}_labels must be integers of shape ({shape[0]},), found {kind}"
                    f" of shape {found}"
                )
            _check_classes(labels[split], split, classes, path)
        elif kind != np.float32 or len(found) != 2 or found[1:] != labels["train"].shape[1:]:
            raise DataError(
                f"{path}: {split}_labels must be float32 of shape ({shape[0]}, outputs), found"
                f" {kind} of shape {found}"
            )


def _check_classes(
    labels: np.ndarray, split: str, classes: tuple[str, ...], path: str | Path
) -> None:
    wrong = np.flatnonzero((labels < 0) | (labels >= len(classes)))
    if len(wrong):
        found = f"label {labels[wrong[0]]} of image {wrong[0]}"
        raise DataError(
            f"{path}: {split}_labels must be in 0 ... {len(classes) - 1} ({len(classes)}"
            f" classes), found {found}"
        )
