"""ImageNet's validation images, streamed from disk as the networks of keras.applications' VGG
family take them.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from netreduce.errors import DataError

from .images import interleave, read_image

log = logging.getLogger(__name__)

CLASSES = 1000
CLASS_FILES = ("classes.txt", "LOC_synset_mapping.txt", "synset_words.txt", "synsets.txt")
LABEL_FILES = ("val.txt", "LOC_val_solution.csv", "imagenet_2012_validation_synset_labels.txt")
BGR_MEAN = np.array([103.939, 116.779, 123.68], np.float32)  # of ImageNet's training images
SUFFIXES = (".jpeg", ".jpg", ".png")


class ImageStream:
    """Image files as mini-batches: every iteration reads them again, so memory holds one batch.

    Parameters
    ----------
    paths : sequence of Path
    labels : sequence of int
        Of the same length.
    classes : tuple of str
    size : tuple of int
        (height, width) to which images are resized.
    batch_size : int

    Attributes
    ----------
    paths, classes
        As given.
    labels : ndarray of int, shape (n,)
    image_shape : tuple of int
        (height, width, 3).
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Sequence[int] | np.ndarray,
        classes: Sequence[str],
        size: tuple[int, int] = (224, 224),
        batch_size: int = 32,
    ):
        self.paths = tuple(paths)
        self.labels = np.array(labels, dtype=int)
        self.classes = tuple(classes)
        self.image_shape = (*size, 3)
        self.batch_size = batch_size

    def __iter__(self) -> Iterator[np.ndarray]:
        """Batches of float32, shape (at most batch_size, height, width, 3); DataError names an
        image that cannot be read.
        """
        for start in range(0, len(self.paths), self.batch_size):
            yield np.stack(
                [
                    preprocess(read_image(path, str(path)), self.image_shape[:2])
                    for path in self.paths[start : start + self.batch_size]
                ]
            )

    def head(self, count: int) -> "ImageStream":
        """The first `count` images."""
        return ImageStream(
            self.paths[:count],
            self.labels[:count],
            self.classes,
            self.image_shape[:2],
            self.batch_size,
        )

    def checked(self, skip_unreadable: bool = False) -> "ImageStream":
        """Decode every image once, before long work starts; DataError names one that cannot be
        read, unless such are to be left out.
        """
        kept = []
        for index, path in enumerate(self.paths):
            try:
                read_image(path, str(path))
            except DataError as error:
                if not skip_unreadable:
                    raise
                log.warning("skipped: %s", error)
            else:
                kept.append(index)
        return ImageStream(
            [self.paths[i] for i in kept],
            self.labels[kept],
            self.classes,
            self.image_shape[:2],
            self.batch_size,
        )


def preprocess(image: Image.Image, size: tuple[int, int] = (224, 224)) -> np.ndarray:
    """An image as VGG16 and VGG19 of keras.applications take it.

    Bit for bit what Keras does in `load_img(path, target_size=size)` and `vgg16.preprocess_input`:
    RGB (grayscale images, of which ImageNet has some, become RGB), resized to the nearest pixel
    without keeping the aspect ratio, then BGR minus ImageNet's mean.

    Parameters
    ----------
    image : PIL.Image.Image
    size : tuple of int
        (height, width).

    Returns
    -------
    ndarray of float32, shape (height, width, 3)
    """
    image = image.convert("RGB")
    if image.size != size[::-1]:
        image = image.resize(size[::-1], Image.Resampling.NEAREST)
    return np.asarray(image, np.float32)[..., ::-1] - BGR_MEAN


def open_imagenet(
    resources: str | Path, size: tuple[int, int] = (224, 224), batch_size: int = 32
) -> ImageStream:
    """The validation images in `<resources>/imagenet/val/`.

    They lie there in one folder per class, `val/<wnid>/*.JPEG`, or flat, `val/*.JPEG`, with a label
    file beside `val/`: lines of a file name and a class number or wnid (`val.txt` of Caffe,
    `LOC_val_solution.csv` of Kaggle), or one wnid per image in the order of the file names
    (`imagenet_2012_validation_synset_labels.txt`). A label file may also list images in class
    folders: then just these are taken.

    Class numbers are those of Keras: the wnids in alphabetical order, from 0. When fewer than 1,000
    wnids occur, a class file beside `val/` must list all of them, one per line in that order
    (`LOC_synset_mapping.txt`, `synset_words.txt`, ...: the first word of a line counts).

    Images of class folders come in the order: first of every class, second of every class, and so
    on; others as the label file lists them.

    Parameters
    ----------
    resources : path-like
    size : tuple of int
        (height, width) to which images are resized.
    batch_size : int

    Raises
    ------
    DataError
        When there are no images or labels, a class folder is missing or empty, a label is out of
        range.
    """
    folder = Path(resources) / "imagenet"
    images = folder / "val"
    if not images.is_dir():
        raise DataError(
            f"{images}: there is no such folder; expected class folders <wnid>/*.JPEG, or images"
            " with a label file beside the folder"
        )
    classes = _class_file(folder)
    label_file = next((folder / name for name in LABEL_FILES if (folder / name).is_file()), None)
    if label_file:
        paths, texts = _listed(label_file, images)
        labels, classes = _numbered(texts, classes, label_file)
        return ImageStream(paths, labels, classes, size, batch_size)
    folders = {path.name: _images(path) for path in sorted(images.iterdir()) if path.is_dir()}
    if not folders:
        raise DataError(
            f"{images}: neither class folders <wnid>/ nor, beside it, a label file"
            f" ({', '.join(LABEL_FILES)})"
        )
    classes = classes or tuple(folders)
    unknown = [name for name in folders if name not in classes]
    if unknown:
        raise DataError(f"{images}/{unknown[0]}: not a class of the class file in {folder}")
    empty = [name for name in classes if not folders.get(name)]
    if empty:
        raise DataError(
            f"{images}: {len(empty)} class folders are missing or empty:"
            f" {', '.join(empty[:5])}{' ...' if len(empty) > 5 else ''}"
        )
    ordered = interleave([folders[name] for name in classes])
    return ImageStream(
        [path for _, path in ordered], [label for label, _ in ordered], classes, size, batch_size
    )


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)


def _class_file(folder: Path) -> tuple[str, ...] | None:
    for name in CLASS_FILES:
        if (folder / name).is_file():
            return tuple(
                line.split()[0] for line in (folder / name).read_text().splitlines() if line.strip()
            )
    return None


def _listed(file: Path, images: Path) -> tuple[list[Path], list[str]]:
    """Image paths and labels (text) of a label file."""
    lines = [
        line.replace(",", " ").split()[:2] for line in file.read_text().splitlines() if line.strip()
    ]
    lines = lines[1:] if lines and lines[0][0] == "ImageId" else lines
    if not lines:
        raise DataError(f"{file}: no labels")
    if all(len(words) == 2 for words in lines):
        paths = [images / (name if Path(name).suffix else f"{name}.JPEG") for name, _ in lines]
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise DataError(
                f"{file}: it lists {len(lines)} images, of which {len(missing)} are not there, such"
                f" as {missing[0]}"
            )
        return paths, [label for _, label in lines]
    paths, labels = _images(images), [words[0] for words in lines]
    if labels[0].isdigit():
        raise DataError(
            f"{file}: bare class numbers; the numbering of ImageNet's development kit is not that"
            " of Keras: expected file names or wnids"
        )
    if len(paths) != len(labels):
        raise DataError(f"{file}: {len(labels)} labels for {len(paths)} images in {images}")
    return paths, labels


def _numbered(
    labels: Sequence[str], classes: tuple[str, ...] | None, file: Path
) -> tuple[list[int], tuple[str, ...]]:
    """Labels as class numbers, and the classes."""
    if all(label.isdigit() for label in labels):
        classes = classes or tuple(map(str, range(CLASSES)))
        wrong = next((label for label in labels if int(label) >= len(classes)), None)
        if wrong:
            raise DataError(f"{file}: label {wrong} is not in 0 ... {len(classes) - 1}")
        return [int(label) for label in labels], classes
    if not classes:
        classes = tuple(sorted(set(labels)))
        if len(classes) != CLASSES:
            raise DataError(
                f"{file}: {len(classes)} wnids; for fewer than {CLASSES}, a class file beside it"
                f" must list all ({', '.join(CLASS_FILES)})"
            )
    numbers = {wnid: number for number, wnid in enumerate(classes)}
    wrong = next((label for label in labels if label not in numbers), None)
    if wrong:
        raise DataError(f"{file}: label {wrong} is not one of the {len(classes)} classes")
    return [numbers[label] for label in labels], classes
