"""Images in files, one folder per class."""

import io
import logging
import tarfile
import warnings
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePath, PurePosixPath
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from netreduce.errors import DataError

log = logging.getLogger(__name__)

File = TypeVar("File", str, Path)

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")


def class_folders(
    source: Path,
    classes: tuple[str, ...],
    image_shape: tuple[int, int, int],
    skip_unreadable: bool = False,
) -> tuple[tuple[np.ndarray, ...], tuple[str, ...], int]:
    """Training and test images from train/<class>/* and test/<class>/*, in a folder or in a tar
    archive.

    The images of a split are in the order: first of every class, second of every class, and so on,
    where the images of a class are sorted by file name. So any stretch of them holds the classes in
    nearly equal parts.

    Parameters
    ----------
    source : Path
        Folder or tar archive (compressed or not).
    classes : tuple of str
        Names of the folders.
    image_shape : tuple of int
        (height, width, 3) that every image must have.
    skip_unreadable : bool
        Leave out images that cannot be read, instead of an error.

    Returns
    -------
    arrays : tuple of ndarray of uint8
        Training images and labels, test images and labels.
    formats : tuple of str
        Formats of the image files, such as JPEG.
    skipped : int
        Images that were left out.

    Raises
    ------
    DataError
        When a class folder is missing, empty or unknown; when an image cannot be read, is grayscale
        or has another size: names it.
    """
    files = _members(source)
    folders: dict[tuple[str, str], list[str]] = {}
    for split, class_name, name in sorted(files):
        if class_name not in classes:
            raise DataError(
                f"{source}: {split}/{class_name} is not one of the classes {', '.join(classes)}"
            )
        folders.setdefault((split, class_name), []).append(name)
    for split in ("train", "test"):
        empty = [class_name for class_name in classes if (split, class_name) not in folders]
        if empty:
            raise DataError(
                f"{source}: there are no images in"
                f" {', '.join(f'{split}/{name}' for name in empty)}: the folder is missing or empty"
            )
    arrays, formats, skipped = [], set(), 0
    for split in ("train", "test"):
        images, labels = [], []
        for label, name in interleave([folders[split, class_name] for class_name in classes]):
            where = f"{source}/{split}/{classes[label]}/{name}"
            try:
                image = read_image(files[split, classes[label], name], where)
            except DataError as error:
                if not skip_unreadable:
                    raise
                log.warning("skipped: %s", error)
                skipped += 1
                continue
            formats.add(str(image.format))
            images.append(_pixels(image, image_shape, where))
            labels.append(label)
        arrays += [np.array(images, np.uint8).reshape(-1, *image_shape), np.array(labels, np.uint8)]
    return tuple(arrays), tuple(sorted(formats)), skipped


def interleave(folders: Iterable[list[File]]) -> list[tuple[int, File]]:
    """(class, file) of every file: first of every class, second of every class, and so on."""
    ranked = [
        (rank, label, name)
        for label, names in enumerate(folders)
        for rank, name in enumerate(names)
    ]
    return [(label, name) for _, label, name in sorted(ranked)]


def read_image(file: Path | bytes, where: str) -> Image.Image:
    """Open and decode an image file (path or bytes); DataError that names it (`where`) when that
    cannot be done, or when it has more pixels than Pillow takes for harmless.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image = Image.open(
                io.BytesIO(file) if isinstance(file, bytes) else file, formats=FORMATS
            )
            image.load()
    except UnidentifiedImageError:
        raise DataError(f"{where}: not an image in a format that Pillow reads") from None
    except Exception as error:  # Pillow's plugins raise whatever a damaged file leads to
        raise DataError(f"{where}: the image cannot be read ({error})") from None
    return image


def _pixels(image: Image.Image, image_shape: tuple[int, ...], where: str) -> np.ndarray:
    if Image.getmodebase(image.mode) == "L":
        raise DataError(f"{where}: a grayscale image (mode {image.mode}), expected colour")
    if (image.height, image.width) != image_shape[:2]:
        raise DataError(
            f"{where}: {image.height}×{image.width} pixels, expected"
            f" {image_shape[0]}×{image_shape[1]}"
        )
    return np.asarray(image.convert("RGB"))


def _members(source: Path) -> dict[tuple[str, ...], Path | bytes]:
    """(split, class, file name) → path, or content, of every file train/<class>/<name> and
    test/<class>/<name>; hidden ones do not count.
    """
    files: Mapping[PurePath, Path | bytes]
    if source.is_dir():
        files = {
            path.relative_to(source): path
            for split in ("train", "test")
            for path in source.glob(f"{split}/*/*")
        }
    else:
        try:
            with tarfile.open(source) as archive:
                files = {
                    PurePosixPath(member.name): content.read()
                    for member in archive
                    if member.isfile() and (content := archive.extractfile(member))
                }
        except (OSError, EOFError, tarfile.TarError, zlib.error) as error:
            raise DataError(f"{source}: a truncated or corrupt archive ({error})") from None
    parts = {path.parts[-3:]: file for path, file in files.items()}
    return {
        key: file
        for key, file in parts.items()
        if len(key) == 3 and key[0] in ("train", "test") and not key[2].startswith(".")
    }
