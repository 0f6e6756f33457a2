"""Where the files of a dataset come from: the user's own folder, https mirrors, packages that carry
them.
"""

import gzip
import hashlib
import importlib.util
import io
import logging
import shutil
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from netreduce.errors import DataError
from netreduce.files import replacing

if TYPE_CHECKING:
    from .table import Entry

log = logging.getLogger(__name__)

TIMEOUT = (
    4,
    20,
    # seconds to connect, and between two bytes: without network the next source is tried
    # soon
)
CLIENT_TIMEOUT = 300  # seconds for a package manager to fetch one package
CORRUPT = (EOFError, gzip.BadGzipFile, tarfile.TarError, zlib.error)


class Unavailable(Exception):
    """Why a source does not give a file."""


@dataclass(frozen=True)
class File:
    """A file of a dataset: its name, size in bytes and SHA-256 when decompressed."""

    name: str
    size: int
    sha256: str

    def check(self, content: bytes) -> None:
        """Raise Unavailable unless this is the content of the file."""
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            found, expected = (
                f"{size:,} bytes with SHA-256 {sha256}"
                for size, sha256 in ((len(content), digest), (self.size, self.sha256))
            )
            raise Unavailable(
                f"{self.name} is not the right file, truncated or corrupt: found {found}, expected"
                f" {expected}"
            )

    def __str__(self) -> str:
        return f"{self.name}  {self.size:,} bytes  SHA-256 {self.sha256}"


Contents = Iterator[tuple[File, bytes]]


class Source:
    """Something that has the files of a dataset."""

    def fetch(self, files: tuple[File, ...], archive: str | None) -> Contents:
        """The files that it has, decompressed, not yet checked; Unavailable says why it has none
        (any more).
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Mirror(Source):
    """A folder on the web with every file gzipped, or with the archive of all files."""

    url: str

    def fetch(self, files: tuple[File, ...], archive: str | None) -> Contents:
        if archive:
            yield from unpack(self._download(archive), files)
        else:
            for file in files:
                yield file, decompress(self._download(f"{file.name}.gz"))

    def _download(self, name: str) -> bytes:
        import pooch
        import requests

        pooch.get_logger().setLevel(logging.WARNING)
        log.info("downloading %s%s", self.url, name)
        with tempfile.TemporaryDirectory() as folder:
            try:
                # Mirrors compress differently: what is checked is the content.
                pooch.retrieve(
                    self.url + name,
                    None,
                    name,
                    folder,
                    downloader=pooch.HTTPDownloader(timeout=TIMEOUT, chunk_size=1 << 16),
                )
            except (requests.RequestException, OSError) as error:
                raise Unavailable(f"{name}: {_root_cause(error)}") from None
            return (Path(folder) / name).read_bytes()

    def __str__(self) -> str:
        return self.url


@dataclass(frozen=True)
class NpmPackage(Source):
    """A package for npm that carries the files."""

    package: str
    version: str

    def fetch(self, files: tuple[File, ...], archive: str | None) -> Contents:
        with tempfile.TemporaryDirectory() as folder:
            options = [
                "--ignore-scripts",
                "--loglevel=error",
                "--fetch-retries=0",
                f"--fetch-timeout={1000 * TIMEOUT[1]}",
            ]
            _run(["npm", "pack", f"{self.package}@{self.version}", *options], folder)
            (package,) = Path(folder).glob("*.tgz")
            yield from unpack(package.read_bytes(), files)

    def __str__(self) -> str:
        return f"npm package {self.package} {self.version}"


@dataclass(frozen=True)
class DebianPackage(Source):
    """A package for Debian and Ubuntu that carries the files, gzipped, in a folder; fetching and
    unpacking it needs no root.
    """

    package: str
    folder: str

    def fetch(self, files: tuple[File, ...], archive: str | None) -> Contents:
        with tempfile.TemporaryDirectory() as folder:
            options = [
                "-qq",
                "-o",
                "Acquire::Retries=0",
                "-o",
                f"Acquire::http::Timeout={TIMEOUT[0]}",
            ]
            _run(["apt-get", "download", *options, self.package], folder)
            (package,) = Path(folder).glob("*.deb")
            _run(["dpkg-deb", "-x", package.name, "."], folder)
            for file in files:
                yield file, decompress(_read(Path(folder, self.folder, f"{file.name}.gz")))

    def __str__(self) -> str:
        return f"Debian package {self.package}"


@dataclass(frozen=True)
class PythonPackage(Source):
    """An installed Python package that carries the files, gzipped, in a folder."""

    package: str
    module: str
    folder: str

    def fetch(self, files: tuple[File, ...], archive: str | None) -> Contents:
        spec = importlib.util.find_spec(self.module)
        if spec is None or spec.origin is None:
            raise Unavailable("it is not installed")
        for file in files:
            yield (
                file,
                decompress(_read(Path(spec.origin).parent / self.folder / f"{file.name}.gz")),
            )

    def __str__(self) -> str:
        return f"Python package {self.package}"


def obtain(entry: "Entry", folder: Path) -> list[bytes]:
    """Contents of the files of a dataset, each one checked, from the first sources that have them.

    Parameters
    ----------
    entry : Entry
        A dataset of the table: its files, its sources and the archive in which the files come, if
        they do.
    folder : Path
        Where the user may put the files (gzipped or not, in subfolders or not); tried first.
        Fetched files are kept there.

    Returns
    -------
    list of bytes
        In the order of the entry's files.

    Raises
    ------
    DataError
        When a file in `folder` has not the right content; when no source has the files: the message
        lists every source with its reason, and the files to put into `folder` by hand.
    """
    contents = _local(entry, folder)
    reasons = [
        f"{folder}/: no {', '.join(file.name for file in entry.files if file not in contents)}"
    ]
    for source in entry.sources:
        wanted = tuple(file for file in entry.files if file not in contents)
        if not wanted:
            break
        try:
            for file, content in source.fetch(wanted, entry.archive):
                file.check(content)
                with replacing(folder / file.name) as temporary:
                    temporary.write_bytes(content)
                contents[file] = content
        except Unavailable as reason:
            reasons.append(f"{source}: {reason}")
    missing = [file for file in entry.files if file not in contents]
    if missing:
        raise DataError(
            "\n".join(
                [
                    _list(f"{entry.title}: no source has all the files", reasons),
                    _by_hand(entry, folder, missing),
                ]
            )
        )
    return [contents[file] for file in entry.files]


def present(entry: "Entry", folder: Path) -> list[Path]:
    """What the user put into a folder, or its subfolders, under the names of the dataset's files or
    of their archive.
    """
    names = {_plain(file.name) for file in entry.files}
    if entry.archive:
        names.add(_plain(entry.archive))
    return sorted(
        path for path in folder.rglob("*") if _plain(path.name) in names and path.is_file()
    )


def _local(entry: "Entry", folder: Path) -> dict[File, bytes]:
    contents: dict[File, bytes] = {}
    reasons = []
    for path in present(entry, folder):
        wanted = [file for file in entry.files if file not in contents]
        try:
            for file, content in _contents(path, wanted, entry.archive):
                file.check(content)
                contents[file] = content
        except Unavailable as reason:
            reasons.append(f"{path}: {reason}")
    if reasons and len(contents) < len(entry.files):
        raise DataError(
            "\n".join([*reasons, "Put the right file there, or remove it to have it fetched."])
        )
    return contents


def _contents(path: Path, files: Sequence[File], archive: str | None) -> Contents:
    """Those of the files that a path holds: one, or all if it is the archive."""
    if archive and _plain(path.name) == _plain(archive):
        yield from unpack(_read(path), files) if files else ()
    else:
        for file in files:
            if _plain(path.name) == _plain(file.name):
                yield file, decompress(_read(path))


def _by_hand(entry: "Entry", folder: Path, files: Sequence[File]) -> str:
    how = f"unpacked or in {entry.archive}" if entry.archive else "as they are or gzipped"
    advice = _list(f"Put them into {folder}/ by hand, {how}:", files)
    if entry.image_folder:
        advice += (
            f"\nor images as {folder}/train/<class>/*, {folder}/test/<class>/*, with the classes"
            f" {', '.join(entry.classes)}."
        )
    return advice


def _list(head: str, items: Iterable[object]) -> str:
    return "\n  ".join([head, *map(str, items)])


def _plain(name: str) -> str:
    """Copies of the IDX files are called train-images.idx3-ubyte, and either may be gzipped."""
    return name.removesuffix(".gz").replace(".", "-")


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise Unavailable(f"cannot be read ({error.strerror})") from None


def decompress(content: bytes) -> bytes:
    """The content of a file that may be gzipped; Unavailable when it is damaged."""
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except CORRUPT as error:
        raise Unavailable(f"truncated or corrupt gzip data ({error})") from None


def unpack(content: bytes, files: Sequence[File]) -> Contents:
    """Those files out of a tar archive, whatever the folder in it; Unavailable when it is damaged
    or lacks one.
    """
    wanted = {file.name: file for file in files}
    try:
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            for member in archive:
                file = (
                    wanted.pop(PurePosixPath(member.name).name, None) if member.isfile() else None
                )
                if file:
                    opened = archive.extractfile(member)
                    yield file, opened.read() if opened else b""
    except CORRUPT as error:
        raise Unavailable(f"truncated or corrupt archive ({error})") from None
    if wanted:
        raise Unavailable(f"an archive without {', '.join(wanted)}")


def _root_cause(error: BaseException) -> str:
    while error.__context__:
        error = error.__context__
    return str(error) or type(error).__name__


def _run(command: Sequence[str], folder: str) -> None:
    """Run a package manager's client in a folder; Unavailable with the last line of its complaint
    when it fails.
    """
    client = shutil.which(command[0])
    if not client:
        raise Unavailable(f"{command[0]} is not installed")
    log.info("running %s", " ".join(command))
    try:
        done = subprocess.run(
            [client, *command[1:]],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=CLIENT_TIMEOUT,
        )
    except subprocess.TimeoutExpired:
        raise Unavailable(f"{command[0]} took more than {CLIENT_TIMEOUT} s") from None
    if done.returncode:
        complaint = [
            line.strip()
            for line in done.stderr.splitlines()
            if line.strip() and "complete log" not in line
        ]
        raise Unavailable(
            complaint[-1] if complaint else f"{command[0]} ended with status {done.returncode}"
        )
