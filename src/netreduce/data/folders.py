"""Folders of images of a user's own: one folder per class, or all in one where they have none."""

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from netreduce.errors import DataError

from .images import FORMATS, interleave, read_image

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
LARGEST = 4 << 30  # bytes of all images
DEEP = ("I", "F")  # modes with more than 8 bits, which Pillow cuts off when it makes them L or RGB
RESIZING = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "nearest": Image.Resampling.NEAREST,
}
SPLIT_NAMES = {"train", "training", "test", "testing", "val", "valid", "validation"}


def read_folder(
    folder: str | Path,
    *,
    classes: Sequence[str] | None = None,
    labelled: bool = True,
    size: tuple[int, int] | None = None,
    channels: int | None = None,
    resize: str = "bilinear",
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...], tuple[str, ...]]:
    """The images of a folder.

    Parameters
    ----------
    folder : path-like
        <folder>/<class>/<image>; without labels <folder>/<image>. Hidden files do not count.
    classes : sequence of str, optional
        Names of the class folders, in the order of the network's outputs; the folders there are, in
        alphabetical order, by default.
    labelled : bool
    size : (height, width), optional
        To which images are resized, whatever their aspect ratio; needed where they have several.
    channels : {1, 3}, optional
        Grey or RGB; needed where some images are grey and others in colour.
    resize : {"bilinear", "bicubic", "nearest"}
        As Pillow and torchvision do it, with antialiasing.

    Returns
    -------
    images : ndarray of uint8, shape (n, height, width, channels)
        First of every class, second of every class, and so on, sorted by name within a class.
    labels : ndarray of int, shape (n,), or None
    classes : tuple of str
    formats : tuple of str
        Of the files, such as PNG.

    Raises
    ------
    DataError
        A class folder is missing, empty or unknown; an image cannot be read, has more than 8 bits a
        channel or is animated; images of several sizes, or both grey and in colour, where it is not
        said what to make of them: names the file.
    """
    folder = Path(folder)
    if resize not in RESIZING:
        raise DataError(f"resize must be one of {', '.join(RESIZING)}, found {resize!r}")
    paths, labels, classes = _files(folder, classes, labelled)
    kinds = [image_kind(path) for path in paths]
    if size is None:
        size = _only_size(paths, kinds)
    if channels is None:
        channels = _only_channels(paths, kinds)
    shape = (len(paths), *size, channels)
    if np.prod(shape, dtype=object) > LARGEST:
        raise DataError(
            f"{folder}: {len(paths)} images of {size[0]}×{size[1]}×{channels} take more than"
            f" {LARGEST:,} bytes; take fewer, or a smaller size"
        )
    images = np.empty(shape, np.uint8)
    for place, path in enumerate(paths):
        image = read_image(path, str(path)).convert("L" if channels == 1 else "RGB")
        if (image.height, image.width) != size:
            image = image.resize(size[::-1], RESIZING[resize])
        images[place] = np.asarray(image).reshape(shape[1:])
    formats = tuple(sorted({kind for _, _, kind in kinds}))
    return images, labels, tuple(classes), formats


def _files(
    folder: Path, classes: Sequence[str] | None, labelled: bool
) -> tuple[list[Path], np.ndarray | None, Sequence[str]]:
    if not labelled:
        paths = _images(folder)
        if not paths:
            raise DataError(f"{folder}: there are no images in the folder{_within(folder)}")
        return paths, None, ()
    found = {
        path.name: path
        for path in sorted(folder.iterdir())
        if path.is_dir() and not path.name.startswith(".")
    }
    if not found:
        raise DataError(
            f"{folder}: there are no class folders in it, expected <class>/<image>; images without"
            " classes need label: none, or target: input"
        )
    if set(map(str.lower, found)) <= SPLIT_NAMES:
        raise DataError(
            f"{folder}: its folders are {', '.join(found)}, which are splits, not classes; give"
            f" each as its own: train: {folder / next(iter(found))}, test: ..."
        )
    if classes is None:
        classes = tuple(found)
    unknown = [name for name in found if name not in classes]
    if unknown:
        raise DataError(
            f"{folder / unknown[0]}: not one of the classes {', '.join(map(str, classes[:20]))}"
        )
    names = {name: _images(path) for name, path in found.items()}
    empty = [name for name, files in names.items() if not files]
    if empty:
        raise DataError(f"{folder / empty[0]}: there are no images in the class folder")
    ordered = interleave([[str(path) for path in names.get(name, ())] for name in classes])
    return (
        [Path(path) for _, path in ordered],
        np.array([label for label, _ in ordered]),
        classes,
    )


def _within(folder: Path) -> str:
    return ", only folders" if any(path.is_dir() for path in folder.iterdir()) else ""


def _images(folder: Path) -> list[Path]:
    files = sorted(
        path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")
    )
    strange = [path for path in files if path.suffix.lower() not in SUFFIXES]
    if strange:
        raise DataError(
            f"{strange[0]}: not the name of an image, expected one that ends in"
            f" {', '.join(SUFFIXES)}"
        )
    return files


def image_kind(path: Path) -> tuple[tuple[int, int], int, str]:
    """Size (height, width), channels and format of an image, from its header."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=FORMATS) as image:
                if Image.getmodebase(image.mode) in DEEP or image.mode.startswith(DEEP):
                    raise DataError(
                        f"{path}: more than 8 bits a channel (mode {image.mode}); give such images"
                        " as an array (.npz)"
                    )
                if (frames := getattr(image, "n_frames", 1)) > 1:
                    raise DataError(f"{path}: {frames} images in one file, expected one")
                grey = Image.getmodebase(image.mode) == "L"
                return (image.height, image.width), 1 if grey else 3, str(image.format)
    except UnidentifiedImageError:
        raise DataError(
            f"{path}: not an image in one of the formats {', '.join(FORMATS)}"
        ) from None
    except DataError:
        raise
    except Exception as error:  # Pillow's plugins raise whatever a damaged header leads to
        raise DataError(f"{path}: the image cannot be read ({error})") from None


def _only_size(
    paths: Sequence[Path], kinds: Sequence[tuple[tuple[int, int], int, str]]
) -> tuple[int, int]:
    size = kinds[0][0]
    for path, (other, _, _) in zip(paths, kinds, strict=True):
        if other != size:
            raise DataError(
                f"{path}: {other[0]}×{other[1]} pixels where {paths[0]} has {size[0]}×{size[1]};"
                " images of several sizes need size: [height, width] to resize them to"
            )
    return size


def _only_channels(paths: Sequence[Path], kinds: Sequence[tuple[tuple[int, int], int, str]]) -> int:
    channels = kinds[0][1]
    for path, (_, other, _) in zip(paths, kinds, strict=True):
        if other != channels:
            words = {1: "grey", 3: "in colour"}
            raise DataError(
                f"{path}: {words[other]} where {paths[0]} is {words[channels]}; say channels: 1"
                " (all grey) or channels: 3 (all RGB)"
            )
    return channels
