"""A user's own data: arrays, tables and folders of images, and what is wrong with them."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from netreduce.data import SPLITS, read
from netreduce.data.archive import write_own
from netreduce.data.arrays import ArrayFile
from netreduce.data.features import read_table
from netreduce.data.fit import fit_to_dataset, network_for, with_preprocessing
from netreduce.data.own import build_own
from netreduce.data.parts import splits_in
from netreduce.data.preprocessing import Preprocessing
from netreduce.errors import DataError, ShapeError
from netreduce.network.architectures import build

RANDOM = np.random.default_rng(0)


@pytest.fixture
def make(tmp_path):
    def made(entry, **options):
        entry = {key: str(tmp_path / entry[key]) for key in SPLITS if key in entry} | {
            key: value for key, value in entry.items() if key not in SPLITS
        }
        build_own("mine", entry, tmp_path / "out.npz", **options)
        return read(tmp_path / "out.npz")

    return made


def pictures(root, classes, count=6, size=(5, 4), mode="RGB", suffix=".png"):
    """<root>/<class>/<number>.png; returns the images by class."""
    made = {}
    for label, name in enumerate(classes):
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        shape = (*size, 3) if mode == "RGB" else size
        made[name] = [
            np.random.default_rng(100 * label + i).integers(0, 256, shape).astype(np.uint8)
            for i in range(count)
        ]
        for i, image in enumerate(made[name]):
            Image.fromarray(image).save(folder / f"{i:02}{suffix}")
    return made


# --- arrays


@pytest.mark.parametrize("shape", [(7,), (4, 3), (4, 4, 3), (2, 3, 2, 2)])
@pytest.mark.parametrize("kind", [np.uint8, np.float32, np.float64, np.int32])
def test_arrays_of_any_shape_come_back_sample_by_sample(tmp_path, make, shape, kind):
    x = (RANDOM.normal(size=(40, *shape)) * 50 + 100).astype(kind)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(40) % 2)
    data = make({"train": "a.npz"})
    assert data.image_shape == shape
    together = np.concatenate([data.images(split) for split in SPLITS])
    expected = x.astype(np.float32) / (255 if kind == np.uint8 else 1)
    assert sorted(map(bytes, together)) == sorted(map(bytes, expected))


def test_given_splits_stay_as_they_are_and_training_samples_are_shuffled_with_their_labels(
    tmp_path, make
):
    x = {split: RANDOM.normal(size=(30, 2)).astype("f4") for split in SPLITS}
    for split in SPLITS:
        np.savez(tmp_path / f"{split}.npz", x=x[split], y=x[split].sum(axis=1))
    data = make({split: f"{split}.npz" for split in SPLITS})
    for split in ("validation", "test"):
        assert np.array_equal(data.images(split), x[split])
        assert np.array_equal(data.targets(split)[:, 0], x[split].sum(axis=1))
    order = [np.flatnonzero((x["train"] == row).all(axis=1))[0] for row in data.images("train")]
    assert sorted(order) == list(range(30)) != order
    assert np.array_equal(data.targets("train")[:, 0], x["train"].sum(axis=1)[order])
    assert (data.target, data.outputs) == ("numbers", 1)


def test_splits_in_one_file_go_by_the_names_of_the_arrays(tmp_path, make):
    x, y = RANDOM.integers(0, 256, (30, 4, 4)).astype(np.uint8), np.arange(30) % 3
    np.savez(tmp_path / "m.npz", x_train=x[:20], y_train=y[:20], x_test=x[20:], y_test=y[20:])
    data = make({"train": "m.npz", "test": "m.npz"})
    assert np.array_equal(data.test_images, x[20:]) and np.array_equal(data.test_labels, y[20:])


def test_a_npy_file_with_labels_in_another(tmp_path, make):
    np.save(tmp_path / "x.npy", np.ones((20, 3)) * np.arange(20)[:, None])
    np.save(tmp_path / "y.npy", np.arange(20) % 2)
    data = make({"train": "x.npy", "label": str(tmp_path / "y.npy")})
    for split in SPLITS:
        assert np.array_equal(data.images(split)[:, 0] % 2, data.targets(split))


@given(st.integers(0, 10_000), st.integers(2, 6), st.floats(0.05, 0.4), st.floats(0.05, 0.4))
@settings(max_examples=25, deadline=None)
def test_a_drawn_split_is_stratified_complete_and_repeatable(
    tmp_path_factory, seed, classes, validation, test
):
    folder = tmp_path_factory.mktemp("split")
    counts = np.random.default_rng(seed).integers(30, 60, classes)
    y = np.repeat(np.arange(classes), counts)
    np.savez(folder / "a.npz", x=np.arange(len(y), dtype=float)[:, None], y=y)
    split = {"validation": validation, "test": test, "seed": seed}
    for name in ("b", "c"):
        build_own("a", {"train": str(folder / "a.npz"), "split": split}, folder / f"{name}.npz")
    assert (folder / "c.npz").read_bytes() == (folder / "b.npz").read_bytes()
    data = read(folder / "b.npz")
    numbers = np.concatenate([data.images(split)[:, 0] for split in SPLITS]).astype(int)
    assert sorted(numbers) == list(range(len(y)))
    for name, share in (("validation", validation), ("test", test)):
        found = np.bincount(data.targets(name), minlength=classes)
        assert (np.abs(found - share * counts) <= 1).all()
    for name in SPLITS:
        assert np.array_equal(y[data.images(name)[:, 0].astype(int)], data.targets(name))


# --- labels


@pytest.mark.parametrize(
    ("y", "entry", "classes", "first"),
    [
        (["b", "a", "c"], {}, ("a", "b", "c"), [1, 0, 2]),
        (["b", "a", "c"], {"classes": ["c", "b", "a"]}, ("c", "b", "a"), [1, 2, 0]),
        ([1, 2, 3], {"classes": [1, 2, 3]}, ("1", "2", "3"), [0, 1, 2]),
        ([0, 1, 2], {"classes": 5}, ("0", "1", "2", "3", "4"), [0, 1, 2]),
        ([0.0, 1.0, 2.0], {"target": "classes"}, ("0", "1", "2"), [0, 1, 2]),
        ([True, False, True], {}, ("0", "1"), [1, 0, 1]),
        (np.eye(3)[[2, 0, 1]], {"target": "classes"}, ("0", "1", "2"), [2, 0, 1]),
    ],
)
def test_classes_and_their_numbers(tmp_path, make, y, entry, classes, first):
    y = np.tile(np.asarray(y), (20, *[1] * (np.ndim(y) - 1)))
    np.savez(tmp_path / "a.npz", x=np.arange(60.0)[:, None], y=y)
    data = make({"train": "a.npz", **entry})
    assert data.classes == classes
    for split in SPLITS:
        assert np.array_equal(
            data.targets(split), np.array(first * 20)[data.images(split)[:, 0].astype(int)]
        )


def test_no_labels_and_autoencoders(tmp_path, make):
    x = RANDOM.integers(0, 256, (40, 4, 4)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", x=x)
    data = make({"train": "a.npz", "target": "input"})
    assert (data.labelled, data.outputs, data.classes) == (True, 16, ())
    assert np.array_equal(data.targets("test"), data.images("test").reshape(-1, 16))
    data = make({"train": "a.npz", "label": "none"})
    assert (data.labelled, data.target, data.outputs) == (False, "classes", None)
    with pytest.raises(DataError, match="the data have no labels"):
        data.targets("test")
    data = make({"train": "a.npz", "label": "none", "classes": 10})
    assert data.outputs == 10


# --- preprocessing


def test_preprocessing_is_that_of_torchvision_and_keras(tmp_path, make):
    x = RANDOM.integers(0, 256, (40, 4, 4, 3)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(40) % 2)
    mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    data = make({"train": "a.npz", "mean": mean, "std": std})
    raw = data.test_images
    f4 = np.float32
    # ToTensor and Normalize
    expected = (raw.astype(f4) / f4(255) - np.array(mean, f4)) / np.array(std, f4)
    assert np.array_equal(data.images("test"), expected)
    low, _ = data.input_range
    assert low.shape == (4, 4, 3)
    assert np.array_equal(low[0, 0], ((0 - np.array(mean, f4)) / np.array(std, f4)).astype(float))
    # Rescaling(1 / 127.5, offset=-1)
    data = make({"train": "a.npz", "scale": "1/127.5", "mean": 1})
    assert np.allclose(data.images("test"), data.test_images / 127.5 - 1, atol=1e-7)
    assert (data.input_range[0].min(), data.input_range[1].max()) == (-1, 1)


def test_standardized_by_the_training_samples_alone(tmp_path, make):
    x = RANDOM.normal(size=(200, 3)) * [1, 10, 0] + [5, -3, 7]
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(200) % 2)
    data = make({"train": "a.npz", "standardize": True})
    train = data.images("train")
    assert np.allclose(train.mean(axis=0), 0, atol=1e-5)
    assert np.allclose(train.std(axis=0), [1, 1, 0], atol=1e-5)
    assert abs(data.images("test").mean(axis=0)).max() > 1e-3


@given(
    st.floats(0.01, 1000),
    st.lists(st.floats(-10, 10, width=32), min_size=2, max_size=2),
    st.lists(st.floats(0.01, 10), min_size=2, max_size=2),
)
def test_no_value_lies_outside_the_range(divisor, mean, std):
    x = np.random.default_rng(0).normal(size=(100, 2)).astype("f4") * 30
    preprocessing = Preprocessing(
        divisor, np.array(mean), np.array(std), x.min(axis=0), x.max(axis=0)
    )
    low, high = preprocessing.range
    assert (preprocessing(x) >= low).all() and (preprocessing(x) <= high).all()


# --- tables


def table(rows=40):
    return pd.DataFrame(
        {
            "width": RANDOM.normal(size=rows),
            "height": RANDOM.integers(0, 9, rows),
            "kind": np.resize(["cat", "dog"], rows),
        }
    )


@pytest.mark.parametrize("file", ["t.csv", "semicolon.csv", "tab.tsv", "t.parquet"])
def test_tables(tmp_path, make, file):
    frame = table()
    if file == "t.parquet":
        frame.to_parquet(tmp_path / file)
    else:
        separator = {"semicolon.csv": ";", "tab.tsv": "\t"}.get(file, ",")
        frame.to_csv(tmp_path / file, index=False, sep=separator)
    data = make({"train": file, "label": "kind"})
    assert (data.image_shape, data.classes, data.target) == ((2,), ("cat", "dog"), "classes")
    rows = {
        tuple(row): kind for *row, kind in frame.astype({"width": "f4"}).itertuples(index=False)
    }
    for split in SPLITS:
        for row, label in zip(data.images(split), data.targets(split), strict=True):
            assert rows[row[0], int(row[1])] == data.classes[label]


def test_several_numbers_as_labels_and_chosen_features(tmp_path, make):
    frame = pd.DataFrame(RANDOM.normal(size=(30, 4)), columns=list("abcd"))
    frame.to_csv(tmp_path / "t.csv", index=False)
    data = make({"train": "t.csv", "label": ["d", "b"], "features": ["c"]})
    assert (data.image_shape, data.outputs, data.target) == ((1,), 2, "numbers")
    rows = frame.astype("f4").to_numpy()
    where = [np.flatnonzero(rows[:, 2] == x)[0] for x in data.images("test")[:, 0]]
    assert np.array_equal(data.targets("test"), rows[where][:, [3, 1]])


# --- folders of images


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_folder_of_images_per_class(tmp_path, make, mode):
    made = pictures(tmp_path / "p", ["zebra", "ant"], mode=mode)
    data = make({"train": "p", "split": {"validation": 0.2, "test": 0.2}})
    assert data.classes == ("ant", "zebra") and data.image_shape == (
        5,
        4,
        3 if mode == "RGB" else 1,
    )
    for split in SPLITS:
        for image, label in zip(getattr(data, f"{split}_images"), data.targets(split), strict=True):
            assert any(
                np.array_equal(image.reshape(other.shape), other)
                for other in made[data.classes[label]]
            )
    assert data.source.startswith("mine: folder of images (PNG), 5×4 ")


def test_resizing_is_pillows(tmp_path, make):
    pictures(tmp_path / "p", ["a", "b"])
    pictures(tmp_path / "q", ["a", "b"], size=(9, 8))
    data = make({"train": "p", "test": "q", "size": [3, 2], "channels": 1})
    assert data.image_shape == (3, 2, 1)
    path = tmp_path / "q" / "a" / "00.png"
    expected = Image.open(path).convert("L").resize((2, 3), Image.Resampling.BILINEAR)
    assert np.array_equal(data.test_images[0, ..., 0], np.asarray(expected))


# --- what is wrong with data


def wrong_table(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    return {"train": "t.csv", "label": "y"}


def wrong_arrays(tmp_path, **arrays):
    np.savez(tmp_path / "a.npz", **arrays)
    return {"train": "a.npz"}


X = np.zeros((12, 3))
Y = np.arange(12) % 2
CASES = {
    "no file": (
        lambda p: {"train": "none.npz"},
        r"none\.npz: there is no such file",
    ),
    "not arrays": (
        lambda p: (p / "a.npz").write_bytes(b"hello there") and {"train": "a.npz"},
        r"a\.npz: neither \.npy nor \.npz",
    ),
    "objects": (
        lambda p: wrong_arrays(p, x=np.array([{}, 1], object), y=Y),
        r"a\.npz: x: expected numbers or text, found object, Python objects, which are not read",
    ),
    "which samples": (
        lambda p: wrong_arrays(p, first=X, second=X, y=Y),
        r"which array holds the samples\? It has first \(12, 3\), second \(12, 3\), y \(12,\);"
        " say features: <name>",
    ),
    "which labels": (
        lambda p: wrong_arrays(p, x=X, one=Y, two=Y),
        r"which array is the label\? .* say label: <name>, or label: none",
    ),
    "no such label": (
        lambda p: wrong_arrays(p, x=X, y=Y) | {"label": "z"},
        r"a\.npz: there is no array 'z' \(label\); it has x \(12, 3\), y \(12,\)",
    ),
    "no labels": (
        lambda p: wrong_arrays(p, x=X),
        "no labels are found in .*say label: <name>, or label: none .*or target: input",
    ),
    "unequal length": (
        lambda p: wrong_arrays(p, x=X, y=Y[:7]),
        r"a\.npz: 12 samples, but 7 labels",
    ),
    "not finite": (
        lambda p: wrong_arrays(p, x=np.where(np.arange(36).reshape(12, 3) == 7, np.nan, 0), y=Y),
        r"a\.npz: x: values must be finite, found nan at index \(2, 1\)",
    ),
    "beyond float32": (
        lambda p: wrong_arrays(p, x=X + 1e300, y=Y),
        r"a\.npz: x: values beyond the range of float32",
    ),
    "channels first": (
        lambda p: wrong_arrays(p, x=np.zeros((12, 3, 8, 8)), y=Y),
        r"look like images with the channels first; say channels: first, or channels: last",
    ),
    "missing labels": (
        lambda p: wrong_arrays(p, x=X, y=np.where(np.arange(12) == 5, np.nan, 0.5)),
        r"a\.npz: 1 labels are missing \(NaN\) or not finite; the first is that of sample 5",
    ),
    "numbers in doubt": (
        lambda p: wrong_arrays(p, x=X, y=np.arange(12)),
        "the labels are 12 different whole numbers in 12 samples; say target: classes, or target:"
        " numbers",
    ),
    "whole floats": (
        lambda p: wrong_arrays(p, x=X, y=Y.astype(float)),
        "whole numbers, stored as floating-point numbers; say target: classes, or target: numbers",
    ),
    "one-hot": (
        lambda p: wrong_arrays(p, x=X, y=np.eye(2)[Y]),
        "each row of the labels has a single 1; say target: classes, or target: numbers",
    ),
    "not one-hot": (
        lambda p: wrong_arrays(p, x=X, y=np.ones((12, 2))) | {"target": "classes"},
        r"labels of shape \(12, 2\) are no classes: not every row has a single 1",
    ),
    "from one": (
        lambda p: wrong_arrays(p, x=X, y=Y + 1) | {"target": "classes"},
        r"the labels run from 1 to 2, not from 0; say which output .* classes: \[1, 2\]",
    ),
    "out of range": (
        lambda p: wrong_arrays(p, x=X, y=Y * 7) | {"classes": 3},
        r"a\.npz: label '7' of sample 1 is not one of the 3 classes 0, 1, 2",
    ),
    "an empty class": (
        lambda p: wrong_arrays(p, x=X, y=Y * 2) | {"target": "classes"},
        r"class '1' has no training samples; where that is meant, say classes: 3",
    ),
    "a single class": (
        lambda p: wrong_arrays(p, x=X, y=Y * 0),
        "a single class, '0'; expected two or more",
    ),
    "text as numbers": (
        lambda p: wrong_arrays(p, x=X, y=Y.astype(str)) | {"target": "numbers"},
        "labels must be numbers of shape",
    ),
    "half a class": (
        lambda p: wrong_arrays(p, x=X, y=Y + 0.5) | {"target": "classes"},
        r"label 0\.5 of sample 0 is no class; say target: numbers",
    ),
    "too few": (
        lambda p: wrong_arrays(p, x=X[:2], y=Y[:2]),
        "2 samples are too few to draw test samples from",
    ),
    "unknown key": (
        lambda p: wrong_arrays(p, x=X, y=Y) | {"labels": "y"},
        "datasets: mine: unknown key 'labels'; known: channels, classes, features, label",
    ),
    "shares": (
        lambda p: wrong_arrays(p, x=X, y=Y) | {"split": {"test": 0.6, "validation": 0.5}},
        "test and validation take all samples",
    ),
    "given and drawn": (
        lambda p: wrong_arrays(p, x=X, y=Y) | {"test": "a.npz", "split": {"test": 0.1}},
        "test is given, so split cannot draw it",
    ),
    "scale": (
        lambda p: wrong_arrays(p, x=X, y=Y) | {"scale": 1e-40},
        "in the range of float32, found 1e-40",
    ),
    "scale of zero": (
        lambda p: wrong_arrays(p, x=X, y=Y) | {"scale": "1/0"},
        "scale must be a positive number or a fraction such as 1/255, .* found '1/0'",
    ),
    "mean of other channels": (
        lambda p: wrong_arrays(p, x=X, y=Y) | {"mean": [1, 2]},
        r"mean must be one number, or one for each of the 3 channels, .* of shape \(2,\)",
    ),
    "std": (
        lambda p: wrong_arrays(p, x=X, y=Y) | {"std": 0},
        "std must be positive and finite, found 0.0",
    ),
    "mean in doubt": (
        lambda p: wrong_arrays(p, x=X.astype(np.uint8), y=Y) | {"mean": 128},
        "mean 128 counts after 8-bit values are divided by 255; say scale: 1/255 .* scale: 1 ",
    ),
    "range": (
        lambda p: wrong_arrays(p, x=X + 3, y=Y) | {"range": [0, 1]},
        r"range is \[0\.0, 1\.0\], but values from 3 to 3 occur",
    ),
    "NaN in a table": (
        lambda p: wrong_table(p, "a,b,y\n1,2,0\n3,,1\n,5,0\n"),
        r"t\.csv: 1 values of column 'a' are missing .* the first is row 3, no value \(NaN\)",
    ),
    "infinite": (
        lambda p: wrong_table(p, "a,y\n1,0\ninf,1\n"),
        r"t\.csv: 1 values of column 'a' .* the first is row 2, inf",
    ),
    "words": (
        lambda p: wrong_table(p, "a,b,y\n1,2,0\n3,red,1\n"),
        r"t\.csv: features must be numbers; column 'b' is not: row 2 of 'b' holds 'red'",
    ),
    "missing label": (
        lambda p: wrong_table(p, "a,y\n1,0\n3,\n"),
        r"t\.csv: 1 labels are missing in column 'y'; the first is row 2",
    ),
    "no such column": (
        lambda p: wrong_table(p, "a,b\n1,0\n"),
        r"t\.csv: there is no column 'y'; the table has a, b",
    ),
    "no names": (
        lambda p: wrong_table(p, "1,2\n3,4\n"),
        r"t\.csv: the first line must name the columns, found numbers only: 1, 2",
    ),
    "twice": (
        lambda p: wrong_table(p, "a,a,y\n3,4,5\n"),
        r"t\.csv: the column 'a' occurs more than once",
    ),
    "longer rows": (
        lambda p: wrong_table(p, "a,y\n3,4,5\n6,7,8\n"),
        r"t\.csv: not a CSV table",
    ),
    "no rows": (lambda p: wrong_table(p, "a,y\n"), r"t\.csv: a table without rows"),
    "empty file": (lambda p: wrong_table(p, ""), r"t\.csv: not a CSV table"),
    "only labels": (
        lambda p: wrong_table(p, "y\n1\n"),
        r"t\.csv: no column is left for the features",
    ),
    "damaged parquet": (
        lambda p: (p / "t.parquet").write_bytes(b"PAR1 and no more") and {"train": "t.parquet"},
        r"t\.parquet: not a Parquet table, or a damaged one",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_what_is_wrong_is_named(tmp_path, make, case):
    prepare, message = CASES[case]
    with pytest.raises(DataError, match=message):
        make(prepare(tmp_path))
    assert not (tmp_path / "out.npz").exists()


def wrong_folder(tmp_path, change):
    pictures(tmp_path / "p", ["a", "b"])
    return change(tmp_path / "p") or {"train": "p"}


def put(folder, name, image, **options):
    image.save(folder / name, **options)


FOLDER_CASES = {
    "sizes": (
        lambda p: put(p / "a", "99.png", Image.new("RGB", (9, 9))),
        r"99\.png: 9×9 pixels where .*00\.png has 5×4; .* need size: \[height, width\]",
    ),
    "grey": (
        lambda p: put(p / "b", "99.png", Image.new("L", (4, 5))),
        r"b/99\.png: grey where .*00\.png is in colour; say channels: 1 .* or channels: 3",
    ),
    "deep": (
        lambda p: put(p / "b", "99.png", Image.fromarray(np.zeros((5, 4), np.uint16))),
        r"99\.png: more than 8 bits a channel \(mode I;16\); give such images as an array",
    ),
    "unreadable": (
        lambda p: (p / "a" / "03.png").write_bytes(b"no") and None,
        r"a/03\.png: not an image in one of the formats PNG, JPEG",
    ),
    "cut": (
        lambda p: (p / "a" / "03.png").write_bytes((p / "a" / "03.png").read_bytes()[:60]) and None,
        r"a/03\.png: the image cannot be read",
    ),
    "not a picture": (
        lambda p: (p / "a" / "Thumbs.db").write_bytes(b"x") and None,
        r"Thumbs\.db: not the name of an image",
    ),
    "empty": (
        lambda p: (p / "c").mkdir(),
        r"p/c: there are no images in the class folder",
    ),
    "animated": (
        lambda p: put(
            p / "a",
            "99.gif",
            Image.new("L", (4, 5)),
            save_all=True,
            append_images=[Image.new("L", (4, 5), 255)],
        ),
        r"99\.gif: 2 images in one file, expected one",
    ),
    "splits": (
        lambda p: (p / "a").rename(p / "train") and (p / "b").rename(p / "test") and None,
        r"its folders are test, train, which are splits, not classes",
    ),
    "unknown class": (
        lambda p: {"train": "p", "classes": ["a", "c"]},
        r"p/b: not one of the classes a, c",
    ),
    "flat": (
        lambda p: {"train": "p/a"},
        r"there are no class folders in it, .* label: none, or target: input",
    ),
    "size": (lambda p: {"train": "p", "size": [3]}, r"size must be \[height, width\]"),
    "resize": (
        lambda p: {"train": "p", "resize": "best"},
        "resize must be one of bilinear, bicubic, nearest, found 'best'",
    ),
}


@pytest.mark.parametrize("case", FOLDER_CASES)
def test_what_is_wrong_with_a_folder_is_named(tmp_path, make, case):
    change, message = FOLDER_CASES[case]
    with pytest.raises(DataError, match=message):
        make(wrong_folder(tmp_path, change))


def test_a_picture_with_too_many_pixels_is_refused(tmp_path, make, monkeypatch):
    pictures(tmp_path / "p", ["a", "b"])
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 15)
    with pytest.raises(DataError, match=r"00\.png: the image cannot be read \(.*15 pixels"):
        make({"train": "p"})


def test_a_header_that_claims_more_than_the_file_holds(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((10, 3)))
    content = (tmp_path / "a.npy").read_bytes()
    for shape, message in (
        (b"(90, 3), ", "takes 2,160 bytes, found 240"),
        (b"(9999999999, 3), ", "takes 239,999,999,976 bytes, more than"),
    ):
        # the header is padded, so that a longer shape takes the place of spaces
        grown = content.replace(b"(10, 3), }" + b" " * (len(shape) - 9), shape + b"}", 1)
        (tmp_path / "b.npy").write_bytes(grown)
        with pytest.raises(DataError, match=message):
            ArrayFile(tmp_path / "b.npy")


def test_a_dataset_file_of_own_data_that_does_not_fit_together(tmp_path):
    x = {f"{split}_images": np.zeros((2, 3), np.float32) for split in SPLITS}
    y = {f"{split}_labels": np.zeros((2, 1), np.float32) for split in SPLITS}
    for change, message in (
        ({"test_images": np.zeros((2, 4), np.float32)}, r"test_images must be .*\(n, 3\)"),
        ({"test_images": np.zeros((2, 3))}, "test_images must be uint8 or float32"),
        ({"train_labels": np.zeros((1, 1), np.float32)}, "train_labels must be 2, one for every"),
        ({"test_labels": np.zeros((2, 2), np.float32)}, "test_labels must be float32"),
    ):
        with pytest.raises(DataError, match=message):
            write_own(tmp_path / "a.npz", {**x, **y, **change}, (), "", "numbers", Preprocessing())
    with pytest.raises(DataError, match="target must be one of classes, numbers, input"):
        write_own(tmp_path / "a.npz", x, (), "", "words", Preprocessing())


# --- networks for them


@pytest.mark.parametrize(
    "entry",
    [{}, {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}, {"scale": "1/127.5", "mean": 1}],
)
def test_preprocessing_as_layers_in_front(tmp_path, make, entry):
    x = RANDOM.integers(0, 256, (40, 4, 4, 3)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(40) % 2)
    data = make({"train": "a.npz", **entry})
    network = network_for(data, {"name": "mlp", "hidden": [5]}, seed=0)
    whole = with_preprocessing(network, data)
    expected = network.predict(data.images("test"))
    assert np.allclose(whole.predict(data.test_images.astype("f4")), expected, atol=1e-5)


def test_networks_have_the_outputs_that_the_targets_need(tmp_path, make):
    x = RANDOM.integers(0, 256, (40, 4, 4)).astype(np.uint8)
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(40) % 2)
    mlp = {"name": "mlp", "hidden": [5]}
    assert network_for(make({"train": "a.npz"}), mlp).shapes[-1] == (2,)
    assert network_for(make({"train": "a.npz"}), {**mlp, "classes": 1}).shapes[-1] == (1,)
    assert network_for(make({"train": "a.npz", "target": "input"}), mlp).shapes[-1] == (16,)
    unlabelled = make({"train": "a.npz", "label": "none"})
    with pytest.raises(ShapeError, match=r"do not say how many outputs .* say classes: <number>"):
        network_for(unlabelled, mlp)
    assert network_for(unlabelled, {**mlp, "classes": 7}).shapes[-1] == (7,)
    for entry, outputs, message in (
        (
            {"target": "input"},
            9,
            r"an autoencoder for samples .* must have 16 outputs",
        ),
        ({}, 3, r"the dataset has 2 classes, so the network must have outputs of shape \(2,\)"),
        ({"target": "numbers"}, 2, r"has 1 numbers for each sample, so .* \(1,\), found \(2,\)"),
    ):
        data = make({"train": "a.npz", **entry})
        with pytest.raises(ShapeError, match=message):
            fit_to_dataset(build(mlp, (16,), outputs), data)
    assert fit_to_dataset(build(mlp, (16,), 2), make({"train": "a.npz"})).input_shape == (4, 4)
    with pytest.raises(ShapeError, match=r"must take \(4, 4\) or \(16,\), found \(15,\)"):
        fit_to_dataset(build(mlp, (15,), 2), make({"train": "a.npz"}))


def test_splits_next_to_the_training_samples_in_one_file(tmp_path):
    arrays = {"X_train": RANDOM.normal(size=(40, 3)), "y_train": np.arange(40) % 2}
    file = tmp_path / "d.npz"
    np.savez(file, **arrays)
    assert splits_in(file) == ()
    np.savez(file, **arrays, X_test=np.ones((20, 3)), y_test=np.arange(20) % 2, x_val=np.ones(3))
    assert splits_in(file) == ("validation", "test")
    np.savez(file, x=np.ones((9, 3)), x_test=np.ones((9, 3)))
    assert splits_in(file) == ()


def test_samples_of_another_split_are_no_labels(make, tmp_path):
    np.savez(tmp_path / "d.npz", x_train=np.ones((40, 3)), x_test=np.ones((40, 3)))
    with pytest.raises(DataError, match="no labels are found"):
        make({"train": "d.npz"})
    assert len(make({"train": "d.npz", "test": "d.npz", "label": "none"}).images("test")) == 40


def test_a_parquet_table_whose_texts_are_not_utf_8(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    offsets = pa.py_buffer(np.array([0, 3, 7], np.int32))
    names = pa.Array.from_buffers(pa.string(), 2, [None, offsets, pa.py_buffer(b"dog\xff\xfewo")])
    parquet.write_table(pa.table({"x": [1.0, 2.0], "kind": names}), tmp_path / "table.parquet")
    with pytest.raises(DataError, match=r"table\.parquet: not a Parquet table, or a damaged one"):
        read_table(tmp_path / "table.parquet")
