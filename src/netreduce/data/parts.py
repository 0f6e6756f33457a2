"""The samples of one file or folder, and splits drawn out of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from netreduce.errors import DataError

from .archive import SPLITS
from .arrays import ArrayFile

SHARE = 0.15  # of the samples, for a split that is not given
SAMPLES = ("x", "images", "data", "features", "inputs", "samples")
LABELS = ("y", "labels", "label", "targets", "target", "classes")
TABLES = (".csv", ".tsv", ".parquet", ".pq")


@dataclass
class Part:
    """Samples as they stand in one file or folder: y are labels as they are there, or None."""

    path: Path
    x: np.ndarray
    y: np.ndarray | None
    kind: str  # in words
    classes: tuple[str, ...] = ()  # of a folder
    columns: tuple[str, ...] = ()  # of a table

    def take(self, index: np.ndarray) -> "Part":
        """Some of the samples."""
        y = None if self.y is None else self.y[index]
        return replace(self, x=self.x[index], y=y)


def read_part(entry: Mapping[str, Any], split: str) -> Part:
    """The samples of one file or folder."""
    path = Path(entry[split])
    if path.is_dir():
        return _read_folder(entry, path)
    label = entry.get("label")
    with_label = label is not None and label != "none"
    if path.suffix.lower() in TABLES or (path.is_file() and _magic(path) == b"PAR1"):
        return _read_columns(entry, path, label if with_label else None)
    return _read_arrays(entry, path, split, label if with_label else None)


def splits_in(path: str | Path) -> tuple[str, ...]:
    """The splits besides "train" whose samples a .npz file has next to those for training, such as
    x_test next to x_train.
    """
    path = Path(path)
    if path.is_dir() or path.suffix.lower() != ".npz":
        return ()
    names = {name.lower() for name in ArrayFile(path).headers}
    train, *others = (
        (split, any(s in names for name in SAMPLES for s in _spellings(name, split)))
        for split in SPLITS
    )
    return tuple(split for split, there in others if there and train[1])


def draw(
    parts: dict[str, Part],
    split: Mapping[str, Any],
    stratified: bool,
    random: np.random.Generator,
    where: str,
) -> str:
    """Draw the splits that are not given out of the training samples; returns how, in words."""
    missing = [name for name in ("test", "validation") if name not in parts]
    if not missing:
        return ""
    train = parts["train"]
    shares = [split.get(name, SHARE) for name in missing]
    if sum(shares) >= 1:
        raise DataError(
            f"{where}: split: {' and '.join(missing)} take all samples, the shares are"
            f" {', '.join(map(str, shares))}"
        )
    groups = (
        [np.flatnonzero(train.y == label) for label in np.unique(np.asarray(train.y))]
        if stratified
        else [np.arange(len(train.x))]
    )
    taken: dict[str, list[np.ndarray]] = {name: [] for name in missing}
    left = []
    for group in groups:
        order = random.permutation(group)
        ends = np.round(np.cumsum(shares) * len(order)).astype(int)
        *drawn, rest = np.split(order, ends)
        for name, index in zip(missing, drawn, strict=True):
            taken[name].append(index)
        left.append(rest)
    for name in missing:
        index = np.sort(np.concatenate(taken[name]))
        if not len(index):
            raise DataError(
                f"{where}: {len(train.x)} samples are too few to draw {name} samples from; give"
                f" {name}, or a larger share (split)"
            )
        parts[name] = train.take(index)
    index = np.sort(np.concatenate(left))
    if not len(index):
        raise DataError(f"{where}: no training samples are left")
    parts["train"] = train.take(index)
    words = " and ".join(
        f"{100 * share:g} % for {'testing' if name == 'test' else 'validation'}"
        for name, share in zip(missing, shares, strict=True)
    )
    return f", {words} drawn at random{', the same share of every class' if stratified else ''}"


def _read_folder(entry: Mapping[str, Any], path: Path) -> Part:
    from .folders import read_folder

    size, channels = entry.get("size"), entry.get("channels")
    if channels not in (None, 1, 3):
        raise DataError(f"{path}: channels of images must be 1 or 3, found {channels!r}")
    if size is not None and (len(size) != 2 or min(size) < 1):
        raise DataError(f"{path}: size must be [height, width], found {size}")
    classes = entry.get("classes")
    labelled = entry.get("label") != "none" and entry.get("target") != "input"
    if isinstance(entry.get("label"), str) and labelled:
        raise DataError(
            f"{path}: the labels of images are their folders, found a label in the"
            f" configuration: {entry['label']!r}"
        )
    x, y, names, formats = read_folder(
        path,
        classes=tuple(map(str, classes)) if isinstance(classes, list) else None,
        labelled=labelled,
        size=tuple(size) if size else None,
        channels=channels,
        resize=entry.get("resize", "bilinear"),
    )
    height, width, depth = x.shape[1:]
    colour = "grey" if depth == 1 else "RGB"
    resized = f", resized ({entry.get('resize', 'bilinear')})" if size else ""
    kind = f"folder of images ({', '.join(formats)}), {height}×{width} {colour}{resized}"
    labels = None if y is None else np.array(names)[y]
    return Part(path, x, labels, kind, names)


def _read_columns(entry: Mapping[str, Any], path: Path, label: str | list[str] | None) -> Part:
    from .features import columns, read_table

    wanted = [] if label is None else [label] if isinstance(label, str) else list(label)
    x, y, names = columns(read_table(path), path, wanted, entry.get("features"))
    return Part(path, x, y, f"table of {len(names)} features", columns=names)


def _read_arrays(entry: Mapping[str, Any], path: Path, split: str, label: str | None) -> Part:
    file = ArrayFile(path)
    name = _named(file, entry.get("features"), SAMPLES, split, "features")
    if name is None:
        raise DataError(
            f"{path}: which array holds the samples? It has {_contents(file)}; say features: <name>"
        )
    x = file.load(name)
    y = None
    if label is not None and Path(label).suffix == ".npy":
        y = ArrayFile(label.format(split=split)).load("")
    elif label is not None or (entry.get("label") != "none" and entry.get("target") != "input"):
        found = _named(file, label, LABELS, split, "label", besides=name)
        y = None if found is None else file.load(found)
    x = _samples(x, path, name, entry.get("channels"))
    return Part(path, x, y, f"arrays of shape {x.shape[1:]}".replace(",)", ")"))


def _named(
    file: ArrayFile,
    wanted: Any,
    usual: Sequence[str],
    split: str,
    key: str,
    besides: str | None = None,
) -> str | None:
    """The name of an array: the wanted one, one of the usual ones, or the only one there is."""
    samples = {spelled for part in SPLITS for name in SAMPLES for spelled in _spellings(name, part)}
    names = [
        n for n in file.headers if n != besides and (key != "label" or n.lower() not in samples)
    ]
    if wanted is not None:
        if not isinstance(wanted, str) or wanted not in file.headers:
            raise DataError(
                f"{file.path}: there is no array {wanted!r} ({key}); it has {_contents(file)}"
            )
        return wanted
    lower = {name.lower(): name for name in names}
    for name in usual:
        for spelled in _spellings(name, split):
            if spelled in lower:
                return lower[spelled]
    fitting = [lower[name] for name in usual if name in lower]
    if len(fitting) == 1 or (not fitting and len(names) == 1):
        return (fitting or names)[0]
    if len(fitting) > 1 or (names and key == "label"):
        raise DataError(
            f"{file.path}: which array is the {key}? It has {_contents(file)}; say {key}: <name>"
            f"{', or label: none' if key == 'label' else ''}"
        )
    return None


def _spellings(name: str, split: str) -> tuple[str, ...]:
    short = {"validation": "val"}.get(split, split)
    return f"{name}_{split}", f"{split}_{name}", f"{name}_{short}", f"{short}_{name}"


def _contents(file: ArrayFile) -> str:
    return ", ".join(
        f"{name or 'one array'} {shape}" for name, (shape, _) in list(file.headers.items())[:10]
    )


def _samples(x: np.ndarray, path: Path, name: str, channels: Any) -> np.ndarray:
    """Samples as uint8 or float32, channels last."""
    where = f"{path}: {name or 'the array'}"
    if x.dtype.kind not in "biuf":
        raise DataError(f"{where}: samples must be numbers, found {x.dtype}")
    if x.ndim < 2 or not x.size:
        raise DataError(
            f"{where}: expected samples of shape (samples, ...), at least one, found {x.shape}"
        )
    if channels not in (None, "first", "last"):
        if x.ndim == 3 and channels == 1:
            x = x[..., None]
        elif x.ndim != 4 or x.shape[-1] != channels:
            raise DataError(
                f"{where}: channels of arrays must be first, last, or their number {x.shape[-1]},"
                f" found {channels!r}"
            )
    elif channels == "first" and x.ndim > 2:
        x = np.moveaxis(x, 1, -1)
    elif channels is None and x.ndim == 4 and x.shape[1] in (1, 3) and x.shape[-1] not in (1, 3, 4):
        raise DataError(
            f"{where}: samples of shape {x.shape[1:]} look like images with the channels first; say"
            " channels: first, or channels: last where the last axis holds them"
        )
    if x.dtype.kind == "f" and not np.isfinite(x).all():
        index = tuple(map(int, np.argwhere(~np.isfinite(x))[0]))
        raise DataError(f"{where}: values must be finite, found {x[index]} at index {index}")
    if x.dtype == np.uint8:
        return np.ascontiguousarray(x)
    with np.errstate(over="ignore"):
        made = np.ascontiguousarray(x, np.float32)
    if not np.isfinite(made).all():
        raise DataError(f"{where}: values beyond the range of float32")
    return made


def _magic(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)
