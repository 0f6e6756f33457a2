"""What commands read and write: networks, data, and outputs that must not be there yet."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from netreduce.data import Dataset, read
from netreduce.data.own import build_own
from netreduce.data.parts import splits_in
from netreduce.errors import DataError, ModelFileError, ParameterError
from netreduce.formats import SUFFIXES, load, save
from netreduce.formats.export import export
from netreduce.network import Network

from .app import DataOptions, OutputOptions, ReadOptions

EXPORTED = (".onnx", ".tflite")


def read_network(path: Path, options: ReadOptions) -> Network:
    """A network from a file, with the architecture that the command line names."""
    return load(path, architecture_of(options.architecture))


def architecture_of(text: str | None) -> Any:
    """An architecture from the command line: a name, mlp:300,100, or JSON as in a configuration."""
    if text is None:
        return None
    if text.lstrip().startswith(("{", "[")):
        try:
            content = json.loads(text)
        except ValueError as error:
            raise ParameterError(f"--architecture: not JSON ({error}): {text}") from None
        return {"layers": content} if isinstance(content, list) else content
    name, colon, widths = text.partition(":")
    if not colon:
        return name
    if name != "mlp":
        raise ParameterError(f"--architecture: only mlp takes widths, found {text!r}")
    try:
        return {"name": name, "hidden": [int(width) for width in widths.split(",")]}
    except ValueError:
        raise ParameterError(
            f"--architecture: expected mlp:300,100 or the like, found {text!r}"
        ) from None


def write_network(network: Network, path: Path) -> None:
    """Write a network; .onnx and .tflite are written for deployment."""
    (export if path.suffix.lower() in EXPORTED else save)(network, path)


def check_target(path: Path, options: OutputOptions) -> None:
    """Raises ModelFileError where no network can be written to a path."""
    known = (*SUFFIXES, *EXPORTED)
    if path.suffix.lower() not in known:
        raise ModelFileError(
            f"{path}: cannot write with the suffix {path.suffix!r}, expected one of"
            f" {', '.join(known)}"
        )
    refuse_existing(path, options)


def refuse_existing(path: Path, options: OutputOptions, folder: bool = False) -> None:
    """Raises ModelFileError where a file, or a folder with content, is there already, and where
    none can be made.
    """
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir():
        raise ModelFileError(f"{path}: {above.name} is a file, expected a folder")
    if not path.exists():
        return
    if path.is_dir() != folder:
        found = "a folder, expected a file" if path.is_dir() else "a file, expected a folder"
        raise ModelFileError(f"{path}: {found}")
    if not options.force and not (folder and not any(path.iterdir())):
        raise ModelFileError(f"{path} exists: --force writes over it")


@contextmanager
def opened(path: Path, options: DataOptions) -> Iterator[Dataset]:
    """The data of a path: a dataset file of the workflow, or data of the user's own."""
    if not path.exists():
        raise DataError(f"{path}: no such file or folder")
    asked = {
        "label": options.label,
        "target": options.target,
        "size": list(options.size) if options.size else None,
        "channels": options.channels,
        "scale": options.scale,
    }
    given = {key: value for key, value in asked.items() if value is not None}
    if not given and _is_dataset(path):
        yield read(path)
        return
    with TemporaryDirectory(prefix="netreduce-") as folder:
        file = Path(folder, "data.npz")
        entry = dict.fromkeys(("train", *splits_in(path)), str(path)) | given
        build_own(path.stem, entry, file, options.seed)
        yield read(file)


def _is_dataset(path: Path) -> bool:
    if path.suffix != ".npz":
        return False
    try:
        read(path)
    except DataError:
        return False
    return True
