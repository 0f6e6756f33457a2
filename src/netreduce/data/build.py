"""Building a dataset file."""

from pathlib import Path

from netreduce.errors import DataError

from .archive import write
from .sources import obtain, present
from .table import Entry


def build(
    entry: Entry, resources: str | Path, output: str | Path, skip_unreadable: bool = False
) -> None:
    """Get the data of a dataset and write them, split into training, validation and test images.

    Parameters
    ----------
    entry : Entry
        A dataset of the table.
    resources : path-like
        The user's files are in, and fetched files are kept in, its folder <entry.name>/.
    output : path-like
        The .npz file to write.
    skip_unreadable : bool
        Leave out image files that cannot be read, instead of an error.

    Raises
    ------
    DataError
        When no source has the data, or the data are not what they should be.
    """
    folder = Path(resources) / entry.name
    images = _image_folder(entry, folder)
    if images:
        from .images import class_folders

        arrays, formats, skipped = class_folders(
            images, entry.classes, entry.image_shape, skip_unreadable
        )
        source = (
            f"{entry.title}, folder of images"
            f" ({', '.join(formats)}{': recompressed with loss' if 'JPEG' in formats else ''})"
        )
        source += f", without {skipped} unreadable ones" if skipped else ""
    else:
        arrays = entry.decode(obtain(entry, folder))
        source = entry.title
    train_images, train_labels, test_images, test_labels = arrays
    train = len(train_images) * (entry.train - entry.validation) // entry.train
    splits = {
        "train_images": train_images[:train],
        "train_labels": train_labels[:train],
        "validation_images": train_images[train:],
        "validation_labels": train_labels[train:],
        "test_images": test_images,
        "test_labels": test_labels,
    }
    write(output, splits, entry.classes, source)


def _image_folder(entry: Entry, folder: Path) -> Path | None:
    """The folder or archive of images that the user put into `folder`; None when there is none, or
    when the dataset's own files are there.
    """
    if not entry.image_folder or present(entry, folder):
        return None
    if (folder / "train").exists() or (folder / "test").exists():
        return folder
    archives = sorted(folder.glob("*.tar*"))
    if len(archives) > 1:
        raise DataError(
            f"{folder}: more than one archive of images:"
            f" {', '.join(path.name for path in archives)}; leave one"
        )
    return archives[0] if archives else None
