"""Where files come from: the user's folder, mirrors, package managers; what is said when none has
them.
"""

import gzip
import hashlib
import io
import os
import socket
import stat
import tarfile
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from netreduce.data import sources
from netreduce.data.sources import (
    DebianPackage,
    File,
    Mirror,
    NpmPackage,
    PythonPackage,
    Unavailable,
    decompress,
    obtain,
    present,
    unpack,
)
from netreduce.data.table import entry
from netreduce.errors import DataError

CONTENTS = {"train-images-idx3-ubyte": b"many images " * 50, "train-labels-idx1-ubyte": b"labels"}


def file_of(name, content):
    return File(name, len(content), hashlib.sha256(content).hexdigest())


FILES = tuple(file_of(name, content) for name, content in CONTENTS.items())


def dataset(*sources_, archive=None, image_folder=False):
    return replace(
        entry("mnist"), files=FILES, sources=sources_, archive=archive, image_folder=image_folder
    )


def tar(contents, mode="w:gz", folder="some/folder/"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(folder + name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return out.getvalue()


class Fake(sources.Source):
    """Gives some contents, counts how often it is asked, and fails when it has no more."""

    def __init__(self, contents, reason="has no more"):
        self.contents, self.reason, self.asked = contents, reason, []

    def fetch(self, files, archive):
        self.asked.append([file.name for file in files])
        for file in files:
            if file.name not in self.contents:
                raise Unavailable(self.reason)
            yield file, self.contents[file.name]

    def __str__(self):
        return "a fake"


# --- the user's folder


@pytest.mark.parametrize("nested", ["", "raw/MNIST/"])
@pytest.mark.parametrize("rename", [str, lambda name: name.replace("-idx", ".idx")])
@pytest.mark.parametrize(
    "pack",
    [
        lambda name, content: (name, content),
        lambda name, content: (f"{name}.gz", gzip.compress(content)),
    ],
)
def test_files_put_by_hand_come_first(tmp_path, nested, rename, pack):
    for name, content in CONTENTS.items():
        name, content = pack(rename(name), content)
        (tmp_path / nested / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / nested / name).write_bytes(content)
    fake = Fake(CONTENTS)
    assert obtain(dataset(fake), tmp_path) == list(CONTENTS.values())
    assert not fake.asked


def test_a_folder_named_like_a_file_is_no_file(tmp_path):
    name, content = next(iter(CONTENTS.items()))
    (tmp_path / name).mkdir()
    (tmp_path / name / name).write_bytes(content)
    assert present(dataset(), tmp_path) == [tmp_path / name / name]


def test_a_gzipped_name_without_gzip(tmp_path):
    for name, content in CONTENTS.items():
        (tmp_path / f"{name}.gz").write_bytes(content)  # browsers unpack on the fly
    assert obtain(dataset(), tmp_path) == list(CONTENTS.values())


@pytest.mark.parametrize("name", ["all.tar.gz", "all.tar"])
def test_an_archive_put_by_hand(tmp_path, name):
    (tmp_path / name).write_bytes(tar(CONTENTS, "w" if name.endswith("tar") else "w:gz"))
    assert obtain(dataset(archive="all.tar.gz"), tmp_path) == list(CONTENTS.values())


def test_a_wrong_file_put_by_hand_is_an_error_with_both_digests(tmp_path):
    name, content = next(iter(CONTENTS.items()))
    (tmp_path / name).write_bytes(content[:-1])
    fake = Fake(CONTENTS)
    with pytest.raises(DataError) as error:
        obtain(dataset(fake), tmp_path)
    message = str(error.value)
    assert str(tmp_path / name) in message
    assert f"found 599 bytes with SHA-256 {hashlib.sha256(content[:-1]).hexdigest()}" in message
    assert f"expected 600 bytes with SHA-256 {FILES[0].sha256}" in message
    assert "remove it to have it fetched" in message
    assert not fake.asked


def test_a_wrong_copy_beside_a_right_one_does_not_matter(tmp_path):
    name, content = next(iter(CONTENTS.items()))
    (tmp_path / name).write_bytes(b"wrong")
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / name).write_bytes(content)
    assert obtain(dataset(Fake(CONTENTS)), tmp_path) == list(CONTENTS.values())


@pytest.mark.parametrize("cut", [5, 15, 30])
def test_truncated_gzip_put_by_hand(tmp_path, cut):
    name, content = next(iter(CONTENTS.items()))
    (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content)[:cut])
    with pytest.raises(DataError, match=rf"{name}\.gz: truncated or corrupt gzip data"):
        obtain(dataset(), tmp_path)


@pytest.mark.skipif(
    os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind this user"
)
def test_a_file_that_may_not_be_read(tmp_path):
    name = next(iter(CONTENTS))
    (tmp_path / name).write_bytes(b"")
    (tmp_path / name).chmod(0)
    with pytest.raises(DataError, match=r"cannot be read \(Permission denied\)"):
        obtain(dataset(), tmp_path)


# --- sources in turn


def test_fetched_files_are_kept(tmp_path):
    fake = Fake(CONTENTS)
    assert obtain(dataset(fake), tmp_path / "new") == list(CONTENTS.values())
    assert obtain(dataset(fake), tmp_path / "new") == list(CONTENTS.values())
    assert len(fake.asked) == 1
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == sorted(CONTENTS)


def test_what_one_source_lacks_the_next_one_gives(tmp_path):
    first, second = CONTENTS
    fakes = [Fake({first: CONTENTS[first]}), Fake({first: b"wrong"}), Fake(CONTENTS)]
    assert obtain(dataset(*fakes), tmp_path) == list(CONTENTS.values())
    assert [fake.asked for fake in fakes] == [[[first, second]], [[second]], [[second]]]


def test_when_all_fail_every_reason_is_given_and_nothing_wrong_is_kept(tmp_path):
    wrong = Fake(dict.fromkeys(CONTENTS, b"<html>log in first</html>"))
    with pytest.raises(DataError) as error:
        obtain(dataset(wrong, Fake({}, "the moon is full")), tmp_path / "mnist")
    message = str(error.value)
    assert message.startswith("MNIST: no source has all the files\n")
    assert f"{tmp_path}/mnist/: no train-images-idx3-ubyte, train-labels-idx1-ubyte" in message
    assert (
        f"found 25 bytes with SHA-256 {hashlib.sha256(b'<html>log in first</html>').hexdigest()},"
        " expected 600 bytes" in message
    )
    assert "a fake: the moon is full" in message
    assert f"Put them into {tmp_path}/mnist/ by hand, as they are or gzipped:" in message
    for file in FILES:
        assert f"{file.name}  {file.size} bytes  SHA-256 {file.sha256}" in message
    assert not (tmp_path / "mnist").exists()


def test_advice_for_an_archive_and_for_images(tmp_path):
    with pytest.raises(
        DataError,
        match=(
            r"by hand, unpacked or in all\.tar\.gz:[\s\S]*or images as .*train/<class>/\*,"
            r" .*test/<class>/\*"
        ),
    ):
        obtain(dataset(archive="all.tar.gz", image_folder=True), tmp_path)


@pytest.mark.parametrize("cut", [10, 60, 120])
def test_a_truncated_archive(cut):
    with pytest.raises(Unavailable, match="truncated or corrupt archive"):
        list(unpack(tar(CONTENTS)[:cut], FILES))


def test_an_archive_that_lacks_a_file():
    with pytest.raises(Unavailable, match="an archive without train-labels-idx1-ubyte"):
        list(unpack(tar({FILES[0].name: b""}), FILES))


def test_a_corrupt_gzip():
    content = bytearray(gzip.compress(b"data" * 100))
    content[-6] ^= 1
    with pytest.raises(Unavailable, match="truncated or corrupt gzip data"):
        decompress(bytes(content))


# --- mirrors, from a server on this machine


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content, length = self.server.pages.get(self.path, (None, 0))
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "*")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.pages = {}
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def mirror_of(server):
    return Mirror(f"http://127.0.0.1:{server.server_port}/data/")


def test_a_mirror(server, tmp_path):
    for name, content in CONTENTS.items():
        server.pages[f"/data/{name}.gz"] = gzip.compress(content), len(gzip.compress(content))
    assert obtain(dataset(mirror_of(server)), tmp_path) == list(CONTENTS.values())
    server.pages.clear()
    assert obtain(dataset(mirror_of(server)), tmp_path) == list(
        CONTENTS.values()
    )  # not downloaded again


def test_a_mirror_with_an_archive(server, tmp_path):
    content = tar(CONTENTS)
    server.pages["/data/all.tar.gz"] = content, len(content)
    assert obtain(dataset(mirror_of(server), archive="all.tar.gz"), tmp_path) == list(
        CONTENTS.values()
    )


def test_a_mirror_without_the_file(server, tmp_path):
    with pytest.raises(
        DataError, match=r"127\.0\.0\.1:\d+/data/: train-images-idx3-ubyte\.gz: 404"
    ):
        obtain(dataset(mirror_of(server)), tmp_path)


def test_a_download_that_breaks_off(server, tmp_path):
    content = gzip.compress(CONTENTS[FILES[0].name])
    server.pages[f"/data/{FILES[0].name}.gz"] = content[:20], len(content)
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte\.gz: .*(IncompleteRead|20 bytes read)"
    ):
        obtain(dataset(mirror_of(server)), tmp_path / "mnist")
    assert not (tmp_path / "mnist").exists()


def test_a_mirror_that_refuses_or_does_not_answer(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(sources, "TIMEOUT", (0.2, 0.2))
    with socket.socket() as listening, socket.socket() as closed:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        closed.bind(("127.0.0.1", 0))
        silent, refusing = (
            Mirror(f"http://127.0.0.1:{s.getsockname()[1]}/") for s in (listening, closed)
        )
        with pytest.raises(DataError) as error:
            obtain(dataset(silent, refusing), tmp_path)
    assert f"{silent.url}: train-images-idx3-ubyte.gz: timed out" in str(error.value)
    assert "Connection refused" in str(error.value)


# --- package managers: stand-ins for the clients, then the real ones


@pytest.fixture
def client(monkeypatch, tmp_path):
    """Installs shell scripts as the only programs of some names."""
    if os.name == "nt":
        pytest.skip("needs a POSIX shell")
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(
        sources.shutil,
        "which",
        lambda name: str(folder / name) if (folder / name).exists() else None,
    )

    def install(name, script):
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(stat.S_IRWXU)

    return install


def test_an_npm_package(client, tmp_path):
    (tmp_path / "package.tgz").write_bytes(tar(CONTENTS, folder="package/data/"))
    client(
        "npm", f'[ "$1 $2" = "pack numbers@1.0.0" ] && cp {tmp_path}/package.tgz numbers-1.0.0.tgz'
    )
    assert dict(NpmPackage("numbers", "1.0.0").fetch(FILES, None)) == dict(
        zip(FILES, CONTENTS.values(), strict=True)
    )


def test_a_debian_package(client, tmp_path):
    for name, content in CONTENTS.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content))
    client("apt-get", '[ "$1" = download ] && touch numbers_1_all.deb')
    client(
        "dpkg-deb",
        f'[ "$1 $2" = "-x numbers_1_all.deb" ] && mkdir -p usr/share/numbers && cp {tmp_path}/*.gz'
        " usr/share/numbers",
    )
    assert dict(DebianPackage("numbers", "usr/share/numbers/").fetch(FILES, None)) == dict(
        zip(FILES, CONTENTS.values(), strict=True)
    )


def test_a_debian_package_without_a_file(client):
    client("apt-get", "touch numbers_1_all.deb")
    client("dpkg-deb", "true")
    with pytest.raises(Unavailable, match=r"cannot be read \(No such file or directory\)"):
        list(DebianPackage("numbers", "usr/share/numbers/").fetch(FILES, None))


@pytest.mark.parametrize(
    ("source", "name"), [(NpmPackage("a", "1"), "npm"), (DebianPackage("a", "b/"), "apt-get")]
)
def test_clients_that_are_absent_or_fail(client, monkeypatch, source, name):
    with pytest.raises(Unavailable, match=f"^{name} is not installed$"):
        list(source.fetch(FILES, None))
    client(
        name,
        "echo first >&2; echo E: no such package >&2; echo A complete log of this run is there >&2;"
        " exit 3",
    )
    with pytest.raises(Unavailable, match=r"^E: no such package$"):
        list(source.fetch(FILES, None))
    client(name, "exit 3")
    with pytest.raises(Unavailable, match=f"^{name} ended with status 3$"):
        list(source.fetch(FILES, None))
    client(name, "exec sleep 5")
    monkeypatch.setattr(sources, "CLIENT_TIMEOUT", 0.1)
    with pytest.raises(Unavailable, match=rf"^{name} took more than 0\.1 s$"):
        list(source.fetch(FILES, None))


def test_a_python_package():
    with pytest.raises(Unavailable, match=r"^it is not installed$"):
        list(PythonPackage("no such", "no_such_module", "data/").fetch(FILES, None))
    with pytest.raises(Unavailable, match="cannot be read"):
        list(PythonPackage("numpy", "numpy", "data/").fetch(FILES, None))


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_the_package_for_real(name):
    dataset = entry(name)
    try:
        contents = dict(dataset.sources[-1].fetch(dataset.files, None))
    except Unavailable as reason:
        pytest.skip(f"{dataset.sources[-1]}: {reason}")
    assert list(contents) and set(contents) == set(dataset.files)
    for file, content in contents.items():
        file.check(content)
        assert len(content) == file.size
