"""Arrays in .npy and .npz files of strangers: headers first, then the arrays that are wanted."""

import lzma
import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from netreduce.errors import DataError

LARGEST = 4 << 30  # bytes of one array
MOST_PACKED = 1100  # times: deflate reaches 1032
NPY, ZIP = b"\x93NUMPY", b"PK"
UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    SyntaxError,
    OverflowError,
    RecursionError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    zlib.error,
    tokenize.TokenError,
    lzma.LZMAError,
    zipfile.BadZipFile,
)


class ArrayFile:
    """The arrays of a file by name; a .npy file has one, without a name.

    Parameters
    ----------
    path : path-like
        Told by its content, not by its suffix.

    Attributes
    ----------
    headers : dict of str to (shape, dtype)

    Raises
    ------
    DataError
        Not such a file, damaged, with Python objects in it, or with an array beyond 4 GiB.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f"{folder}/a.npz", x=np.zeros((2, 3)), y=np.arange(2))
    ...     file = ArrayFile(f"{folder}/a.npz")
    ...     file.headers["x"][0], file.load("y").tolist()
    ((2, 3), [0, 1])
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        with self._reading("the file"):
            with self.path.open("rb") as file:
                magic = file.read(len(NPY))
            if magic == NPY:
                names = [""]
            elif magic.startswith(ZIP):
                with zipfile.ZipFile(self.path) as archive:
                    names = [
                        name.removesuffix(".npy")
                        for name in archive.namelist()
                        if name.endswith(".npy")
                    ]
            else:
                raise DataError(f"{self.path}: neither .npy nor .npz: it starts with {magic!r}")
        self.headers = {name: self._header(name) for name in dict.fromkeys(names)}

    def load(self, name: str) -> np.ndarray:
        """An array of the file."""
        with self._member(name) as (file, _):
            return np.lib.format.read_array(file, allow_pickle=False)

    def _header(self, name: str) -> tuple[tuple[int, ...], np.dtype]:
        with self._member(name) as (file, size):
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0), (3, 0)):
                raise DataError(f"{self._where(name)}: version {version} of .npy is not known")
            read = (
                np.lib.format.read_array_header_1_0
                if version == (1, 0)
                else np.lib.format.read_array_header_2_0
            )
            shape, _, dtype = read(file)
            if dtype.hasobject or dtype.kind not in "biufUS":
                raise DataError(
                    f"{self._where(name)}: expected numbers or text, found {dtype}"
                    f"{', Python objects, which are not read' if dtype.hasobject else ''}"
                )
            if any(length < 0 for length in shape):
                raise DataError(f"{self._where(name)}: a shape with negative lengths, {shape}")
            expected = math.prod(shape) * dtype.itemsize
            if expected > LARGEST:
                raise DataError(
                    f"{self._where(name)}: {dtype} of shape {shape} takes {expected:,} bytes, more"
                    f" than {LARGEST:,}"
                )
            if file.tell() + expected != size:
                raise DataError(
                    f"{self._where(name)}: {dtype} of shape {shape} takes {expected:,} bytes, found"
                    f" {size - file.tell():,}"
                )
            return shape, dtype

    @contextmanager
    def _member(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        """An open .npy file and its size."""
        with self._reading(name or "the array"):
            if name or not self._is_npy():
                with zipfile.ZipFile(self.path) as archive:
                    member = archive.getinfo(f"{name}.npy")
                    packed = min(member.compress_size, self.path.stat().st_size)
                    if member.file_size > MOST_PACKED * packed:
                        raise DataError(
                            f"{self._where(name)}: {member.file_size:,} bytes out of {packed:,} are"
                            " more than compression can do"
                        )
                    with archive.open(member) as file:
                        yield file, member.file_size
            else:
                with self.path.open("rb") as file:
                    yield file, self.path.stat().st_size

    def _is_npy(self) -> bool:
        with self.path.open("rb") as file:
            return file.read(len(NPY)) == NPY

    @contextmanager
    def _reading(self, what: str) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise DataError(f"{self.path}: there is no such file") from None
        except UNREADABLE as error:
            raise DataError(f"{self.path}: {what} cannot be read ({error})") from None

    def _where(self, name: str) -> str:
        return f"{self.path}: {name}" if name else str(self.path)
