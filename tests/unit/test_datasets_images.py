"""Folders of images: CIFAR-10 as images, and ImageNet as a stream."""

import io
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from netreduce.data import read
from netreduce.data.build import build
from netreduce.data.imagenet import ImageStream, open_imagenet, preprocess
from netreduce.data.images import interleave
from netreduce.data.table import entry
from netreduce.errors import DataError

CLASSES = ("airplane", "bird", "cat")
CIFAR = replace(entry("cifar10"), classes=CLASSES, sources=())
JPEG = "JPEG", ".jpg"
PNG = "PNG", ".png"


def picture(seed, shape=(32, 32, 3)):
    return np.random.default_rng(seed).integers(0, 256, shape).astype(np.uint8)


def class_folders(root, counts=(4, 4, 4), test=1, kind=PNG):
    """train/<class>/NNN, test/<class>/NNN; the seed of an image tells its place: 100 · class +
    number, 1000 and up for testing.
    """
    for label, name in enumerate(CLASSES):
        for split, offset, count in (("train", 0, counts[label]), ("test", 1000, test)):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(picture(offset + 100 * label + i)).save(
                    folder / f"{i:03}{kind[1]}", kind[0]
                )
    return root


def made(tmp_path, **options):
    build(CIFAR, tmp_path, tmp_path / "out.npz", **options)
    return read(tmp_path / "out.npz")


def test_a_folder_of_images(tmp_path):
    class_folders(tmp_path / "cifar10")
    data = made(tmp_path)
    images = np.concatenate([data.train_images, data.validation_images])
    # First of every class, second of every class, and so on: a split anywhere holds all classes.
    assert np.array_equal(
        images, [picture(100 * label + i) for i in range(4) for label in range(3)]
    )
    assert np.array_equal(
        np.concatenate([data.train_labels, data.validation_labels]), [0, 1, 2] * 4
    )
    assert np.array_equal(data.test_images, [picture(1000), picture(1100), picture(1200)])
    assert (len(data.train_images), len(data.validation_images)) == (
        10,
        2,
    )  # 45,000 : 5,000 as in the official files
    assert data.source == "CIFAR-10, folder of images (PNG)"


def test_jpeg_is_called_recompressed(tmp_path):
    class_folders(tmp_path / "cifar10", kind=JPEG)
    assert made(tmp_path).source == "CIFAR-10, folder of images (JPEG: recompressed with loss)"


@pytest.mark.parametrize(
    ("suffix", "mode"), [(".tar.xz", "w:xz"), (".tar.gz", "w:gz"), (".tar", "w")]
)
def test_an_archive_of_images_is_the_same(tmp_path, suffix, mode):
    class_folders(tmp_path / "a" / "cifar10")
    (tmp_path / "b" / "cifar10").mkdir(parents=True)
    with tarfile.open(tmp_path / "b" / "cifar10" / f"images{suffix}", mode) as archive:
        for path in sorted((tmp_path / "a" / "cifar10").iterdir(), reverse=True):
            archive.add(path, f"images/{path.name}")
    made(tmp_path / "a")
    made(tmp_path / "b")
    assert (tmp_path / "a" / "out.npz").read_bytes() == (tmp_path / "b" / "out.npz").read_bytes()


def test_two_archives_of_images(tmp_path):
    (tmp_path / "cifar10").mkdir()
    for name in ("a.tar.xz", "b.tar"):
        (tmp_path / "cifar10" / name).write_bytes(b"")
    with pytest.raises(
        DataError, match=r"more than one archive of images: a\.tar\.xz, b\.tar; leave one"
    ):
        made(tmp_path)


def test_a_truncated_archive_of_images(tmp_path):
    class_folders(tmp_path / "images")
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:xz") as archive:
        archive.add(tmp_path / "images", "")
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / "images.tar.xz").write_bytes(out.getvalue()[:-2000])
    with pytest.raises(DataError, match=r"images\.tar\.xz: a truncated or corrupt archive"):
        made(tmp_path)


def test_the_official_files_go_before_images(tmp_path):
    class_folders(tmp_path / "cifar10")
    (tmp_path / "cifar10" / "cifar-10-binary.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"cifar-10-binary\.tar\.gz: truncated or corrupt archive"):
        made(tmp_path)


def test_neither_files_nor_images(tmp_path):
    with pytest.raises(
        DataError,
        match=(
            r"by hand, unpacked or in cifar-10-binary.tar.gz:[\s\S]*with the classes airplane,"
            r" bird, cat"
        ),
    ):
        made(tmp_path)


def test_a_missing_or_empty_class_folder(tmp_path):
    root = class_folders(tmp_path / "cifar10")
    for path in (root / "train" / "bird").iterdir():
        path.unlink()
    message = "cifar10: there are no images in train/bird: the folder is missing or empty"
    with pytest.raises(DataError, match=message):
        made(tmp_path)
    (root / "train" / "bird" / ".hidden").write_bytes(b"")
    with pytest.raises(DataError, match=message):
        made(tmp_path)
    (root / "train" / "bird" / ".hidden").unlink()
    (root / "train" / "bird").rmdir()
    with pytest.raises(DataError, match=message):
        made(tmp_path)


def test_only_training_images(tmp_path):
    class_folders(tmp_path / "cifar10", test=0)
    with pytest.raises(DataError, match="no images in test/airplane, test/bird, test/cat"):
        made(tmp_path)


def test_an_unknown_class_folder(tmp_path):
    class_folders(tmp_path / "cifar10")
    (tmp_path / "cifar10" / "test" / "dogs").mkdir()
    (tmp_path / "cifar10" / "test" / "dogs" / "0.png").write_bytes(b"")
    with pytest.raises(DataError, match="test/dogs is not one of the classes airplane, bird, cat"):
        made(tmp_path)


@pytest.mark.parametrize(
    "damage", [lambda content: b"", lambda content: b"no image", lambda content: content[:-200]]
)
@pytest.mark.parametrize("kind", [PNG, JPEG])
def test_an_unreadable_image_is_named_and_skipped_only_if_asked(tmp_path, damage, kind, caplog):
    root = class_folders(tmp_path / "cifar10", kind=kind)
    bad = root / "train" / "bird" / f"001{kind[1]}"
    bad.write_bytes(damage(bad.read_bytes()))
    with pytest.raises(
        DataError,
        match=rf"cifar10/train/bird/001\{kind[1]}: (the image cannot be read|not an image)",
    ):
        made(tmp_path)
    assert not (tmp_path / "out.npz").exists()
    data = made(tmp_path, skip_unreadable=True)
    assert np.array_equal(
        np.concatenate([data.train_labels, data.validation_labels]),
        [0, 1, 2, 0, 2, 0, 1, 2, 0, 1, 2],
    )
    assert data.source.endswith("without 1 unreadable ones")
    assert "train/bird/001" in caplog.text


@pytest.mark.parametrize("mode", ["L", "LA", "1", "I;16"])
def test_a_grayscale_image(tmp_path, mode):
    root = class_folders(tmp_path / "cifar10")
    Image.new(mode, (32, 32)).save(root / "test" / "cat" / "000.png")
    with pytest.raises(
        DataError, match=r"test/cat/000\.png: a grayscale image \(mode .*\), expected colour"
    ):
        made(tmp_path)


@pytest.mark.parametrize("mode", ["P", "RGBA"])
def test_other_colour_images_become_rgb(tmp_path, mode):
    root = class_folders(tmp_path / "cifar10")
    Image.new("RGB", (32, 32), (255, 0, 0)).convert(mode).save(root / "test" / "cat" / "000.png")
    assert (made(tmp_path).test_images[2] == (255, 0, 0)).all()


def test_an_image_of_another_size(tmp_path):
    root = class_folders(tmp_path / "cifar10")
    Image.fromarray(picture(0, (20, 30, 3))).save(root / "train" / "cat" / "000.png")
    with pytest.raises(DataError, match=r"train/cat/000\.png: 20×30 pixels, expected 32×32"):
        made(tmp_path)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_interleaving_keeps_every_file_and_the_order_in_a_class(counts):
    folders = [[f"{i:03}" for i in range(count)] for count in counts]
    order = interleave(folders)
    for label, names in enumerate(folders):
        assert [name for found, name in order if found == label] == names
    for stop in range(len(order)):
        taken = [sum(label == found for found, _ in order[:stop]) for label in range(len(counts))]
        assert all(a >= min(max(taken) - 1, count) for a, count in zip(taken, counts, strict=True))


# --- ImageNet

WNIDS = ("n01440764", "n01443537", "n01484850")


def photograph(seed, size=(40, 50)):
    return Image.fromarray(picture(seed, (*size, 3)))


@pytest.fixture
def imagenet(tmp_path):
    """val/<wnid>/*.JPEG with 2, 3 and 1 images."""
    for label, (wnid, count) in enumerate(zip(WNIDS, (2, 3, 1), strict=True)):
        folder = tmp_path / "imagenet" / "val" / wnid
        folder.mkdir(parents=True)
        for i in range(count):
            photograph(10 * label + i).save(folder / f"ILSVRC2012_val_{10 * label + i:08}.JPEG")
    return tmp_path


@pytest.fixture
def flat(tmp_path):
    """val/*.JPEG, 4 images."""
    (tmp_path / "imagenet" / "val").mkdir(parents=True)
    for i in range(4):
        photograph(i).save(tmp_path / "imagenet" / "val" / f"ILSVRC2012_val_{i + 1:08}.JPEG")
    return tmp_path


@pytest.mark.parametrize("size", [(224, 224), (20, 30), (50, 40)])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_preprocessing_is_that_of_keras(tmp_path, size, mode):
    keras = pytest.importorskip("keras")
    photograph(0).convert(mode).save(tmp_path / "a.JPEG")
    expected = keras.applications.vgg16.preprocess_input(
        keras.utils.img_to_array(keras.utils.load_img(tmp_path / "a.JPEG", target_size=size))[None]
    )
    with Image.open(tmp_path / "a.JPEG") as image:
        ours = preprocess(image, size)
    assert ours.dtype == np.float32
    assert np.array_equal(ours, expected[0])


def test_class_folders_are_streamed(imagenet):
    stream = open_imagenet(imagenet, (24, 20), batch_size=4)
    assert stream.classes == WNIDS
    assert stream.image_shape == (24, 20, 3)
    assert stream.labels.tolist() == [0, 1, 2, 0, 1, 1]
    batches = list(stream)
    assert [batch.shape for batch in batches] == [(4, 24, 20, 3), (2, 24, 20, 3)]
    for path, image in zip(stream.paths, np.concatenate(batches), strict=True):
        with Image.open(path) as original:
            assert np.array_equal(image, preprocess(original, (24, 20)))
    for first, second in zip(batches, stream, strict=True):  # may be iterated again
        assert np.array_equal(first, second)


def test_the_head_of_a_stream(imagenet):
    head = open_imagenet(imagenet, (8, 8)).head(4)
    assert head.labels.tolist() == [0, 1, 2, 0]
    assert [len(batch) for batch in head] == [4]


def test_a_class_file_numbers_the_classes(imagenet):
    lines = "\n".join(f"{wnid} some name, another" for wnid in reversed(WNIDS))
    (imagenet / "imagenet" / "synset_words.txt").write_text(lines + "\n")
    stream = open_imagenet(imagenet)
    assert stream.classes == WNIDS[::-1]
    assert [path.parent.name for path in stream.paths] == [
        stream.classes[label] for label in stream.labels
    ]


def test_class_folders_that_the_class_file_does_not_have_or_that_are_missing(imagenet):
    file = imagenet / "imagenet" / "classes.txt"
    file.write_text("\n".join(WNIDS[:2]))
    with pytest.raises(DataError, match="val/n01484850: not a class of the class file"):
        open_imagenet(imagenet)
    file.write_text("\n".join([*WNIDS, "n01491361"]))
    with pytest.raises(DataError, match="1 class folders are missing or empty: n01491361"):
        open_imagenet(imagenet)


def test_an_empty_class_folder(imagenet):
    (imagenet / "imagenet" / "val" / "n09999999").mkdir()
    with pytest.raises(DataError, match="1 class folders are missing or empty: n09999999"):
        open_imagenet(imagenet)


def test_no_images_at_all(tmp_path):
    with pytest.raises(
        DataError, match=r"imagenet/val: there is no such folder; expected class folders"
    ):
        open_imagenet(tmp_path)
    (tmp_path / "imagenet" / "val").mkdir(parents=True)
    with pytest.raises(
        DataError, match="neither class folders <wnid>/ nor, beside it, a label file"
    ):
        open_imagenet(tmp_path)


def test_flat_images_with_numbers(flat):
    (flat / "imagenet" / "val.txt").write_text(
        "".join(f"ILSVRC2012_val_{i:08}.JPEG {label}\n" for i, label in ((3, 65), (1, 999), (2, 0)))
    )
    stream = open_imagenet(flat)
    assert [path.name[-6:] for path in stream.paths] == ["3.JPEG", "1.JPEG", "2.JPEG"]
    assert stream.labels.tolist() == [65, 999, 0]
    assert len(stream.classes) == 1000


def test_flat_images_with_kaggles_labels(flat):
    (flat / "imagenet" / "classes.txt").write_text("\n".join(WNIDS))
    rows = [
        f"ILSVRC2012_val_{i:08},{wnid} 85 1 499 272 {wnid} 1 2 3 4"
        for i, wnid in ((1, WNIDS[2]), (4, WNIDS[0]))
    ]
    (flat / "imagenet" / "LOC_val_solution.csv").write_text(
        "\n".join(["ImageId,PredictionString", *rows])
    )
    stream = open_imagenet(flat)
    assert stream.labels.tolist() == [2, 0]
    assert [path.name[-6:] for path in stream.paths] == ["1.JPEG", "4.JPEG"]


def test_flat_images_with_one_wnid_each(flat):
    (flat / "imagenet" / "classes.txt").write_text("\n".join(WNIDS))
    labels = flat / "imagenet" / "imagenet_2012_validation_synset_labels.txt"
    labels.write_text("\n".join([WNIDS[1], WNIDS[1], WNIDS[0], WNIDS[2]]))
    assert open_imagenet(flat).labels.tolist() == [1, 1, 0, 2]
    labels.write_text("\n".join(WNIDS))
    with pytest.raises(DataError, match="3 labels for 4 images"):
        open_imagenet(flat)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no labels"),
        (
            "ILSVRC2012_val_00000009.JPEG 1",
            r"lists 1 images, of which 1 are not there, such as .*val_00000009\.JPEG",
        ),
        ("ILSVRC2012_val_00000001.JPEG 1000", r"label 1000 is not in 0 ... 999"),
        (
            "ILSVRC2012_val_00000001.JPEG n01440764",
            "1 wnids; for fewer than 1000, a class file beside it must list all",
        ),
        ("490\n361\n171\n822", "bare class numbers"),
    ],
)
def test_bad_label_files(flat, text, message):
    (flat / "imagenet" / "val.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        open_imagenet(flat)


def test_a_wnid_that_is_no_class(flat):
    (flat / "imagenet" / "classes.txt").write_text("\n".join(WNIDS))
    (flat / "imagenet" / "val.txt").write_text("ILSVRC2012_val_00000001.JPEG n09999999")
    with pytest.raises(DataError, match=r"val\.txt: label n09999999 is not one of the 3 classes"):
        open_imagenet(flat)


def test_an_unreadable_image_in_a_stream(imagenet, caplog):
    bad = imagenet / "imagenet" / "val" / WNIDS[1] / "ILSVRC2012_val_00000010.JPEG"
    bad.write_bytes(bad.read_bytes()[:-300])
    stream = open_imagenet(imagenet, (8, 8))
    for use in (list, ImageStream.checked):
        with pytest.raises(
            DataError, match=r"ILSVRC2012_val_00000010\.JPEG: the image cannot be read"
        ):
            use(stream)
    rest = stream.checked(skip_unreadable=True)
    assert rest.labels.tolist() == [0, 2, 0, 1, 1]
    assert sum(map(len, rest)) == 5
    assert "ILSVRC2012_val_00000010.JPEG" in caplog.text
