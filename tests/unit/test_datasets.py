"""The dataset file, the formats that it is made from, the table, and the script."""

import gzip
import hashlib
import os
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as numpy_arrays

from netreduce.data import formats, read
from netreduce.data.archive import ARRAYS, write
from netreduce.data.build import build
from netreduce.data.sources import File, Source
from netreduce.data.table import DATASETS, entry
from netreduce.errors import DataError, ParameterError

ROOT = Path(__file__).resolve().parents[2]


def small_arrays(seed=0, shape=(4, 4, 1), classes=3):
    random = np.random.default_rng(seed)
    counts = {"train": 6, "validation": 2, "test": 4}
    return {
        name: (
            random.integers(0, 256, (counts[name.split("_")[0]], *shape)).astype(np.uint8)
            if name.endswith("images")
            else random.integers(0, classes, counts[name.split("_")[0]]).astype(np.uint8)
        )
        for name in ARRAYS
    }


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes() + array.tobytes()


class InMemory(Source):
    """A source that gives what it was given."""

    def __init__(self, contents):
        self.contents = contents

    def fetch(self, files, archive):
        return ((file, self.contents[file.name]) for file in files)


def entry_of(template, contents, **changes):
    """An entry like one of the table, with the checksums of these contents and a source that has
    them.
    """
    files = tuple(
        File(name, len(content), hashlib.sha256(content).hexdigest())
        for name, content in contents.items()
    )
    return replace(template, files=files, sources=(InMemory(contents),), **changes)


# --- the file


def test_what_is_written_is_read(tmp_path):
    arrays = small_arrays()
    write(tmp_path / "a.npz", arrays, ("x", "y", "z"), "made up")
    data = read(tmp_path / "a.npz")
    for name, array in arrays.items():
        assert np.array_equal(getattr(data, name), array)
    assert (data.classes, data.source, data.image_shape) == (("x", "y", "z"), "made up", (4, 4, 1))


def test_images_are_float32_in_0_1(tmp_path):
    arrays = small_arrays()
    write(tmp_path / "a.npz", arrays, ("x", "y", "z"), "")
    images = read(tmp_path / "a.npz").images("test")
    assert images.dtype == np.float32
    assert np.array_equal(images, arrays["test_images"].astype("float32") / 255)
    assert np.array_equal(
        read(tmp_path / "a.npz").images("train", 3),
        arrays["train_images"][:3].astype("float32") / 255,
    )


def test_an_unknown_split_or_attribute(tmp_path):
    write(tmp_path / "a.npz", small_arrays(), ("x", "y", "z"), "")
    with pytest.raises(
        ParameterError, match="split must be one of train, validation, test, found 'valid'"
    ):
        read(tmp_path / "a.npz").images("valid")
    with pytest.raises(AttributeError, match="valid_images"):
        read(tmp_path / "a.npz").valid_images  # noqa: B018


def test_same_data_same_bytes(tmp_path):
    write(tmp_path / "a.npz", small_arrays(), ("x", "y", "z"), "s")
    write(tmp_path / "b.npz", small_arrays(), ("x", "y", "z"), "s")
    with zipfile.ZipFile(tmp_path / "a.npz") as file:
        assert {member.date_time for member in file.infolist()} == {
            (1980, 1, 1, 0, 0, 0)
        }  # never the time of writing
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_no_such_file(tmp_path):
    with pytest.raises(DataError, match=r"none\.npz: there is no such dataset file"):
        read(tmp_path / "none.npz")


@pytest.mark.parametrize("content", [b"", b"not an archive at all", b"PK\x03\x04 cut"])
def test_not_an_archive(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.npz: not a dataset file, or a damaged one"):
        read(tmp_path / "a.npz")


def test_a_damaged_file(tmp_path):
    write(tmp_path / "a.npz", small_arrays(), ("x", "y", "z"), "s")
    content = bytearray((tmp_path / "a.npz").read_bytes())
    (tmp_path / "cut.npz").write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match="damaged"):
        read(tmp_path / "cut.npz")
    content[content.index(small_arrays()["train_images"].tobytes()) + 5] ^= 1
    (tmp_path / "flipped.npz").write_bytes(content)
    with pytest.raises(
        DataError, match=r"flipped\.npz: train_images cannot be read, the file is damaged"
    ):
        read(tmp_path / "flipped.npz").images("train")


def test_another_npz_file(tmp_path):
    np.savez(tmp_path / "a.npz", x_train=np.zeros(3), classes=np.array(["a"]))
    with pytest.raises(DataError, match=r"it has no train_images, .*source"):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"train_images": np.zeros((6, 4, 4), np.uint8)},
            (
                r"train_images must be uint8 of shape \(n, height, width, channels\).*found uint8"
                r" of shape"
            ),
        ),
        (
            {"test_images": np.zeros((4, 4, 5, 1), np.uint8)},
            (
                r"test_images must be uint8 of shape \(n, 4, 4, 1\).*found uint8 of shape \(4, 4,"
                r" 5, 1\)"
            ),
        ),
        (
            {"test_images": np.zeros((4, 4, 4, 1), np.float32)},
            "test_images must be uint8 .* found float32",
        ),
        ({"test_images": np.zeros((0, 4, 4, 1), np.uint8)}, "n ≥ 1"),
        (
            {"validation_labels": np.zeros(3, np.uint8)},
            (
                r"validation_labels must be uint8 of shape \(2,\), one for every image, found uint8"
                r" of shape \(3,\)"
            ),
        ),
        (
            {"validation_labels": np.zeros(2, np.int64)},
            "validation_labels must be uint8 .* found int64",
        ),
        (
            {"train_labels": np.array([0, 1, 2, 3, 0, 0], np.uint8)},
            r"train_labels must be in 0 ... 2 \(3 classes\), found label 3 of image 3",
        ),
    ],
)
def test_arrays_that_do_not_fit_together(tmp_path, changes, message):
    arrays = small_arrays() | changes
    with pytest.raises(DataError, match=message):
        write(tmp_path / "a.npz", arrays, ("x", "y", "z"), "")
    assert not list(tmp_path.iterdir())
    np.savez(tmp_path / "b.npz", **arrays, classes=np.array(["x", "y", "z"]), source=np.array(""))
    with pytest.raises(DataError, match=message):
        read(tmp_path / "b.npz")


# --- the formats


@given(numpy_arrays(np.uint8, st.tuples(st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))))
def test_idx_files(images):
    labels = np.arange(len(images), dtype=np.uint8)
    decoded = formats.idx_files([idx(images), idx(labels), idx(images[:1]), idx(labels[:1])])
    for array, expected in zip(
        decoded, (images[..., None], labels, images[:1, ..., None], labels[:1]), strict=True
    ):
        assert np.array_equal(array, expected)


def test_cifar_batches():
    images = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3)).astype(np.uint8)
    labels = np.arange(9, dtype=np.uint8)
    # The published layout, spelt out: label, then all red values, all green, all blue, row by row.
    rows = [
        bytes([label])
        + b"".join(
            bytes(image[y, x, channel] for y in range(32) for x in range(32))
            for channel in range(3)
        )
        for image, label in zip(images, labels, strict=True)
    ]
    batches = [b"".join(rows[:2]), b"".join(rows[2:5]), b"".join(rows[5:])]
    train_images, train_labels, test_images, test_labels = formats.cifar_batches(batches)
    assert np.array_equal(train_images, images[:5])
    assert np.array_equal(train_labels, labels[:5])
    assert np.array_equal(test_images, images[5:])
    assert np.array_equal(test_labels, labels[5:])


def test_digits_lose_nothing():
    lines = "".join(
        ",".join(map(str, [*np.roll(np.arange(64) % 17, i), i % 10])) + "\n" for i in range(310)
    ).encode()
    train_images, train_labels, test_images, _ = formats.digits([lines])
    images = np.concatenate([train_images, test_images])
    assert images.dtype == train_labels.dtype == np.uint8
    assert (len(train_images), len(test_images)) == (10, 300)
    assert (images.min(), images.max()) == (0, 255)
    original = np.array([np.roll(np.arange(64) % 17, i) for i in range(310)]).reshape(-1, 8, 8, 1)
    assert np.array_equal(np.rint(images.astype(float) * 16 / 255), original)
    assert np.array_equal(train_labels, np.arange(10))


# --- building


def test_mnist_is_split_in_the_order_of_the_files(tmp_path):
    random = np.random.default_rng(0)
    images, labels = (
        random.integers(0, 256, (60, 28, 28)).astype(np.uint8),
        random.integers(0, 10, 60).astype(np.uint8),
    )
    contents = dict(
        zip(
            [file.name for file in entry("mnist").files],
            [idx(images), idx(labels), idx(images[:7]), idx(labels[:7])],
            strict=True,
        )
    )
    build(entry_of(entry("mnist"), contents, train=60, validation=10), tmp_path, tmp_path / "m.npz")
    data = read(tmp_path / "m.npz")
    assert np.array_equal(data.train_images, images[:50, ..., None])
    assert np.array_equal(data.train_labels, labels[:50])
    assert np.array_equal(data.validation_images, images[50:, ..., None])
    assert np.array_equal(data.validation_labels, labels[50:])
    assert np.array_equal(data.test_images, images[:7, ..., None])
    assert data.source == "MNIST"


def test_a_label_out_of_range_in_the_files(tmp_path):
    batch = bytes([1]) + bytes(3072)
    contents = {file.name: batch * 4 for file in entry("cifar10").files}
    contents["test_batch.bin"] = batch + bytes([10]) + bytes(3072)
    with pytest.raises(
        DataError, match=r"test_labels must be in 0 ... 9 \(10 classes\), found label 10 of image 1"
    ):
        build(entry_of(entry("cifar10"), contents), tmp_path, tmp_path / "c.npz")
    assert not (tmp_path / "c.npz").exists()


def test_digits_for_real(tmp_path):
    datasets = pytest.importorskip("sklearn.datasets")
    build(entry("digits"), tmp_path, tmp_path / "d.npz")
    data = read(tmp_path / "d.npz")
    pixels, labels = datasets.load_digits(return_X_y=True)
    images = np.concatenate([data.train_images, data.validation_images, data.test_images])
    assert [len(getattr(data, name)) for name in ARRAYS] == [1197, 1197, 300, 300, 300, 300]
    assert np.array_equal(np.rint(images.reshape(-1, 64) * (16 / 255)), pixels)
    assert np.array_equal(
        np.concatenate([data.train_labels, data.validation_labels, data.test_labels]), labels
    )
    assert all(
        set(getattr(data, f"{split}_labels")) == set(range(10))
        for split in ("train", "validation", "test")
    )


# --- the table


def test_the_table_is_sound():
    for name, dataset in DATASETS.items():
        assert dataset.name == name
        assert len(dataset.image_shape) == 3
        assert len(set(dataset.classes)) == 10
        assert 0 < dataset.validation < dataset.train
        assert all(len(file.sha256) == 64 and file.size > 0 for file in dataset.files)
        assert all(
            source.url.startswith("https://") and source.url.endswith("/")
            for source in dataset.sources
            if hasattr(source, "url")
        )


def test_an_unknown_dataset():
    with pytest.raises(
        DataError, match="there is no dataset 'mist'; known: mnist, fashion_mnist, digits, cifar10"
    ):
        entry("mist")


# --- the script


def run_script(*arguments):
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    command = [sys.executable, ROOT / "workflow/scripts/data.py", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def test_the_script(tmp_path):
    pytest.importorskip("sklearn")
    done = run_script(
        "--dataset",
        "digits",
        "--resources",
        tmp_path / "resources",
        "--output",
        tmp_path / "out" / "digits.npz",
    )
    assert done.returncode == 0, done.stderr
    assert read(tmp_path / "out" / "digits.npz").image_shape == (8, 8, 1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["digits.npz"]


def test_the_script_says_what_is_wrong_in_one_message(tmp_path):
    folder = tmp_path / "resources" / "mnist"
    folder.mkdir(parents=True)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(b"other labels"))
    done = run_script(
        "--dataset",
        "mnist",
        "--resources",
        tmp_path / "resources",
        "--output",
        tmp_path / "out" / "mnist.npz",
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert "train-labels-idx1-ubyte.gz" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()
