"""A user's own data: arrays, image folders and tables, made into a dataset file.

An entry of `datasets` in the configuration says where they are and what they mean:

================ ================================================================================
key              meaning
================ ================================================================================
train            .npz or .npy file, folder of images (one folder per class), CSV or Parquet table
validation, test the same, with the samples of these splits; drawn from `train` where they are not
                 given
split            shares to draw, and the seed: {validation: 0.15, test: 0.15, seed: 0}
label            name of the labels in an .npz file, path of a .npy file of them, column of a table,
                 or columns; `none` where there are no labels
features         name of the samples in an .npz file; columns of a table
target           what a network should answer: `classes`, `numbers`, or `input` (an autoencoder)
classes          number of classes, or their labels in the order of the network's outputs
size             [height, width] to which images are resized
resize           bilinear (with antialiasing, by default), bicubic or nearest
channels         of images 1 (grey) or 3 (RGB); of arrays `first` or `last`, where the channels are
scale            what the values are multiplied by first, such as 1/255 (for 8-bit values by
                 default)
mean, std        then subtracted and divided by: one number, or one for every channel or column
standardize      true: mean and std are those of the training samples
range            [low, high] of the values before all this, where it is not 0 to 255 or what occurs
================ ================================================================================
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from netreduce.errors import DataError

from .archive import SPLITS, TARGETS, write_own
from .labels import check_every_class, number_classes, numbers, target_of
from .parts import Part, draw, read_part
from .preprocessing import chosen

log = logging.getLogger(__name__)

KEYS = {
    *SPLITS,
    *("split", "label", "features", "target", "classes", "size", "resize", "channels"),
    *("scale", "mean", "std", "standardize", "range"),
}


def build_own(name: str, entry: Mapping[str, Any], output: str | Path, seed: int = 0) -> None:
    """Read a user's own data and write them as a dataset file.

    Parameters
    ----------
    name : str
        Of the dataset.
    entry : mapping
        See the table above.
    output : path-like
        The .npz file to write; `netreduce.data.read` reads it.
    seed : int
        Of the order of the training samples, and of the split where `split` has none.

    Raises
    ------
    DataError
        Data that are not there, cannot be read, do not fit together, or whose meaning is in doubt:
        names the file, the column or array, and what can be done.

    Examples
    --------
    >>> import tempfile
    >>> from netreduce.data import read
    >>> folder = tempfile.mkdtemp()
    >>> x, y = np.random.default_rng(0).normal(size=(80, 3)), np.arange(80) % 2
    >>> np.savez(f"{folder}/mine.npz", x=x, y=y)
    >>> build_own("mine", {"train": f"{folder}/mine.npz"}, f"{folder}/data.npz")
    >>> data = read(f"{folder}/data.npz")
    >>> data.images("train").shape, data.images("test").shape, data.target, data.classes
    ((56, 3), (12, 3), 'classes', ('0', '1'))
    """
    where = f"datasets: {name}"
    _check_entry(entry, where)
    parts = {split: read_part(entry, split) for split in SPLITS if entry.get(split)}
    _check_alike(parts, entry, where)
    target = target_of(entry, parts, where)
    labelled = parts["train"].y is not None and target != "input"
    classes: tuple[str, ...] = ()
    if target == "classes":
        classes = number_classes(entry, parts, where)
    elif labelled:
        for part in parts.values():
            part.y = numbers(part)
    else:
        for part in parts.values():
            part.y = None
    split = dict(entry.get("split") or {})
    random = np.random.default_rng(split.get("seed", seed))
    drawn = draw(parts, split, target == "classes" and labelled, random, where)
    parts["train"] = parts["train"].take(random.permutation(len(parts["train"].x)))
    if target == "classes" and labelled:
        check_every_class(parts["train"], classes, bool(entry.get("classes")))
    arrays = {f"{s}_images": parts[s].x for s in SPLITS}
    if labelled:
        arrays |= {f"{s}_labels": y for s in SPLITS if (y := parts[s].y) is not None}
    preprocessing = chosen(entry, [parts[s].x for s in SPLITS], where)
    source = f"{name}: {parts['train'].kind}{drawn}"
    write_own(output, arrays, classes, source, target, preprocessing)
    log.info("%s", source)
    log.info(
        "%s samples of shape %s, target %s%s; networks take (x / %g − mean) / std",
        " + ".join(str(len(parts[s].x)) for s in SPLITS),
        parts["train"].x.shape[1:],
        target,
        "" if labelled or target == "input" else ", without labels",
        preprocessing.divisor,
    )


def _check_entry(entry: Mapping[str, Any], where: str) -> None:
    if unknown := [key for key in entry if key not in KEYS]:
        raise DataError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(sorted(KEYS))}")
    if not entry.get("train"):
        raise DataError(f"{where}: train is needed, the path of the training samples")
    if entry.get("target", "classes") not in TARGETS:
        raise DataError(
            f"{where}: target must be one of {', '.join(TARGETS)}, found {entry['target']!r}"
        )
    split = entry.get("split") or {}
    for key, share in split.items():
        if key == "seed":
            continue
        if key not in ("validation", "test"):
            raise DataError(f"{where}: split takes validation, test and seed, found {key!r}")
        if entry.get(key):
            raise DataError(f"{where}: {key} is given, so split cannot draw it")
        if not 0 < share < 1:
            raise DataError(f"{where}: split: {key} must lie between 0 and 1, found {share}")


def _check_alike(parts: Mapping[str, Part], entry: Mapping[str, Any], where: str) -> None:
    train = parts["train"]
    for key in ("size", "resize"):
        if entry.get(key) and not train.kind.startswith("folder of images"):
            raise DataError(f"{where}: {key} is for folders of images, found {train.kind}")
    for part in parts.values():
        if part.y is not None and len(part.y) != len(part.x):
            raise DataError(f"{part.path}: {len(part.x)} samples, but {len(part.y)} labels")
        if part.x.shape[1:] != train.x.shape[1:]:
            raise DataError(
                f"{part.path}: samples of shape {part.x.shape[1:]}, where those of {train.path}"
                f" have {train.x.shape[1:]}"
            )
        if part.x.dtype != train.x.dtype:
            raise DataError(
                f"{part.path}: samples are {part.x.dtype}, where those of {train.path} are"
                f" {train.x.dtype}"
            )
        if part.columns != train.columns:
            raise DataError(
                f"{part.path}: its features are {', '.join(part.columns[:10])}; those of"
                f" {train.path} are {', '.join(train.columns[:10])}"
            )
        if (part.y is None) != (train.y is None):
            raise DataError(
                f"{part.path}: {'without' if part.y is None else 'with'} labels, {train.path} is"
                f" {'without' if train.y is None else 'with'} them"
            )
