"""What the labels of a user's own data are: classes or numbers, as stated or beyond doubt."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from netreduce.errors import DataError

from .parts import Part

log = logging.getLogger(__name__)

MOST = 100_000  # classes
MANY, FEW = 10, 10  # more integers than this, each with fewer samples: numbers, or classes?


def target_of(entry: Mapping[str, Any], parts: Mapping[str, Part], where: str) -> str:
    """What a network should answer, as stated, or as the labels say beyond doubt."""
    stated = entry.get("target")
    y = parts["train"].y
    if stated == "input":
        return "input"
    if y is None:
        if entry.get("label") != "none":
            raise DataError(
                f"{where}: no labels are found in {parts['train'].path}; say label: <name>, or"
                " label: none (networks are compared with the original), or target: input (an"
                " autoencoder)"
            )
        return str(stated or "classes")
    if stated or y.dtype.kind in "US":
        return str(stated or "classes")
    doubt = None
    if y.ndim == 2 and np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all():
        doubt = "each row of the labels has a single 1"
    elif y.dtype.kind == "f" and y.ndim == 1 and (y == np.round(y)).all():
        doubt = "the labels are whole numbers, stored as floating-point numbers"
    elif y.dtype.kind in "iu" and y.ndim == 1:
        distinct = len(np.unique(y))
        if MANY < distinct > len(y) / FEW and not entry.get("classes"):
            doubt = f"the labels are {distinct} different whole numbers in {len(y)} samples"
    elif y.dtype.kind in "iu":
        doubt = "the labels are whole numbers in several columns"
    if doubt:
        raise DataError(f"{where}: {doubt}; say target: classes, or target: numbers")
    return "numbers" if y.dtype.kind == "f" else "classes"


def numbers(part: Part) -> np.ndarray | None:
    """Labels as float32, shape (samples, outputs)."""
    y = part.y
    if y is None:
        return None
    if y.dtype.kind not in "biuf" or y.ndim > 2:
        raise DataError(
            f"{part.path}: labels must be numbers of shape (samples,) or (samples, outputs), found"
            f" {y.dtype} of shape {y.shape}"
        )
    with np.errstate(over="ignore"):
        numbers = y.astype(np.float32).reshape(len(y), -1)
    wrong = np.flatnonzero(~np.isfinite(numbers).all(axis=1))
    if len(wrong):
        raise DataError(
            f"{part.path}: {len(wrong)} labels are missing (NaN) or not finite; the first is that"
            f" of sample {wrong[0]}"
        )
    return numbers


def number_classes(
    entry: Mapping[str, Any], parts: Mapping[str, Part], where: str
) -> tuple[str, ...]:
    """Number the labels of all parts; returns the names of the classes."""
    given = entry.get("classes")
    if parts["train"].y is None:
        return _names(given) if given else ()
    found = {split: _class_labels(part) for split, part in parts.items()}
    labels = np.concatenate(list(found.values()))
    names: tuple[str, ...]
    if given:
        names = _names(given)
    elif labels.dtype.kind == "U":
        names = parts["train"].classes or tuple(sorted(set(labels.tolist())))
    else:
        if labels.min() != 0:
            raise DataError(
                f"{where}: the labels run from {labels.min()} to {labels.max()}, not from 0; say"
                " which output of the network each one is, such as classes:"
                f" {np.unique(labels).tolist()[:10]}"
            )
        if labels.max() >= MOST:
            raise DataError(f"{where}: label {labels.max()}; at most {MOST:,} classes are known")
        names = tuple(map(str, range(int(labels.max()) + 1)))
    if len(names) < 2:
        raise DataError(f"{where}: a single class, {names[0]!r}; expected two or more")
    places = {name: number for number, name in enumerate(names)}
    kind = np.uint8 if len(names) <= 256 else np.int32
    for split, part in parts.items():
        texts = found[split].astype(str)
        distinct, inverse = np.unique(texts, return_inverse=True)
        if wrong := [text for text in distinct.tolist() if text not in places]:
            first = int(np.flatnonzero(texts == wrong[0])[0])
            raise DataError(
                f"{part.path}: label {wrong[0]!r} of sample {first} is not one of the"
                f" {len(names)} classes {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
            )
        part.y = np.array([places[text] for text in distinct.tolist()], kind)[inverse]
    return names


def check_every_class(train: Part, classes: tuple[str, ...], stated: bool) -> None:
    y = np.asarray(train.y)
    empty = [name for number, name in enumerate(classes) if not (y == number).any()]
    if empty and not stated:
        raise DataError(
            f"{train.path}: class {empty[0]!r} has no training samples"
            f"{f' ({len(empty)} classes have none)' if len(empty) > 1 else ''}; where that is"
            f" meant, say classes: {len(classes)}"
        )
    if empty:
        log.warning("%s: no training samples of %s", train.path, ", ".join(empty[:10]))


def _names(given: int | Sequence[Any]) -> tuple[str, ...]:
    names = tuple(map(str, range(given) if isinstance(given, int) else given))
    if len(set(names)) < len(names):
        raise DataError(f"classes: a name occurs twice in {', '.join(names)}")
    return names


def _class_labels(part: Part) -> np.ndarray:
    """Labels as integers or text, one for every sample."""
    y = np.asarray(part.y)
    if y.dtype.kind == "S":
        return np.char.decode(y, "utf-8", "replace")
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim == 2 and y.dtype.kind in "biuf":
        if not (np.isin(y, (0, 1)).all() and (y.sum(axis=1) == 1).all()):
            raise DataError(
                f"{part.path}: labels of shape {y.shape} are no classes: not every row has a single"
                " 1"
            )
        return np.asarray(y.argmax(axis=1))
    if y.ndim != 1:
        raise DataError(f"{part.path}: one class for every sample, found labels of shape {y.shape}")
    if y.dtype.kind == "f":
        wrong = np.flatnonzero(~np.isfinite(y))
        if len(wrong):
            raise DataError(
                f"{part.path}: {len(wrong)} labels are missing (NaN) or not finite; the first is"
                f" that of sample {wrong[0]}"
            )
        wrong = np.flatnonzero((y != np.round(y)) | (np.abs(y) > 2**53))
        if len(wrong):
            raise DataError(
                f"{part.path}: label {y[wrong[0]]} of sample {wrong[0]} is no class; say target:"
                " numbers"
            )
    if y.dtype.kind == "U":
        missing = np.flatnonzero(y == "")
        if len(missing):
            raise DataError(
                f"{part.path}: {len(missing)} labels are missing (empty); the first is that of"
                f" sample {missing[0]}"
            )
        return y
    return y.astype(np.int64)
