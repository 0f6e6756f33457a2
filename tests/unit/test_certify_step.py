"""The workflow's step that certifies: its numbers are those of `certify` called directly."""

import json
import runpy
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from netreduce import Activation, Dense, Flatten, Network, certify, lump, quantize
from netreduce.data.archive import write, write_own
from netreduce.data.preprocessing import Preprocessing
from netreduce.formats import load, save
from netreduce.measures.cost import cost
from netreduce.measures.evaluation import predict_classes

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow" / "scripts"
RADII = ("1/255", "0.05")
IMAGES = 5


@pytest.fixture
def run(monkeypatch):
    def run(script, *arguments):
        path = SCRIPTS / f"{script}.py"
        monkeypatch.syspath_prepend(str(SCRIPTS))
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        runpy.run_path(str(path))["main"]()

    return run


def network(outputs, rng, last="linear", middle=()):
    def dense(inputs, units, activation):
        kernel = rng.standard_normal((inputs, units)).astype("float32")
        return Dense(kernel, rng.standard_normal(units).astype("float32"), activation)

    return Network([Flatten(), dense(16, 8, "relu"), *middle, dense(8, outputs, last)], (4, 4, 1))


@pytest.fixture
def images():
    return np.random.default_rng(1).integers(0, 256, (12, 4, 4, 1), np.uint8)


@pytest.fixture
def data(tmp_path, images):
    splits = ("train", "validation", "test")
    arrays = {f"{split}_images": images for split in splits}
    arrays |= {f"{split}_labels": np.arange(12, dtype=np.uint8) % 3 for split in splits}
    write(tmp_path / "data.npz", arrays, ("a", "b", "c"), "Mine")
    return tmp_path / "data.npz"


def own(path, images, target, labels=None):
    samples = images.astype(np.float32)
    arrays = {f"{split}_images": samples for split in ("train", "validation", "test")}
    if labels is not None:
        arrays |= {name.replace("images", "labels"): labels for name in arrays}
    classes = ("a", "b") if target == "classes" else ()
    write_own(path, arrays, classes, "Mine", target, Preprocessing(255.0, 0.0, 1.0, 0.0, 255.0))
    return path


@pytest.fixture
def certified(run, tmp_path):
    """What the script writes for a pair of networks."""

    def certified(original, reduced, data, *more, seconds="null"):
        for name, network in (("original", original), ("reduced", reduced)):
            save(network, tmp_path / f"{name}.h5")
        run(
            "certify",
            *("--original", tmp_path / "original.h5", "--reduced", tmp_path / "reduced.h5"),
            *("--data", data, "--images", IMAGES, "--radius", *RADII),
            *("--input-range", 0, 1, "--seconds", seconds, *more),
            *("--output", tmp_path / "record.json"),
        )
        return json.loads((tmp_path / "record.json").read_text())

    return certified


def test_numbers_are_those_of_certify(certified, data, images, tmp_path):
    original = network(3, np.random.default_rng(0))
    reduced = quantize(original, images / np.float32(255), bits=4, alphabet_scalar=3.0)
    record = certified(original, reduced, data)
    assert record["images"] == IMAGES and record["not_certified"] is None
    assert record["entropy_bytes"] == cost(load(tmp_path / "reduced.h5")).entropy_bytes
    samples = images[:IMAGES] / np.float32(255)
    for ball, radius, number in zip(record["balls"], RADII, (1 / 255, 0.05), strict=True):
        direct = certify(original, reduced, around=samples, radius=number, classes=True)
        bound, found = direct.bound.max(axis=1), direct.found.max(axis=1)
        assert ball["radius"] == radius
        assert ball["certified_agreement"] == direct.same_class.mean()
        assert ball["class_differs"] == direct.class_differs.mean()
        assert ball["bound"] == np.median(bound) and ball["found"] == np.median(found)
        assert 0 < ball["found"] <= ball["bound"] + ball["rounding"]
        assert ball["ratio"] == np.median(bound / found)
        assert ball["rounding"] == direct.rounding.max()
        assert ball["notes"] == []
        assert ball["samples"] == {
            "bound": bound.tolist(),
            "found": found.tolist(),
            "same_class": direct.same_class.tolist(),
            "class_differs": direct.class_differs.tolist(),
        }
    assert 0 < record["balls"][0]["certified_agreement"] <= 1


def test_the_same_bytes_each_time(certified, data, tmp_path):
    pair = [network(3, np.random.default_rng(seed)) for seed in (0, 1)]
    certified(*pair, data)
    first = (tmp_path / "record.json").read_bytes()
    certified(*pair, data)
    assert first == (tmp_path / "record.json").read_bytes()


def test_equal_networks_have_no_ratio(certified, data):
    same = network(3, np.random.default_rng(0))
    ball = certified(same, same, data)["balls"][0]
    assert ball["found"] == 0 and ball["bound"] < 1e-9 and ball["ratio"] is None


def test_a_layer_without_a_relaxation_is_said_and_the_run_goes_on(certified, data, run, tmp_path):
    strange = network(3, np.random.default_rng(0), middle=[Activation("softmax")])
    known = network(3, np.random.default_rng(1))
    record = certified(strange, strange, data)
    assert "softmax" in record["not_certified"]
    assert record["balls"] == [{"radius": radius} for radius in RADII]
    (tmp_path / "record.json").rename(tmp_path / "strange.json")
    certified(known, known, data)
    for name, lines in (
        ("rows", ["net,0,analog", "net,0,4"]),
        ("files", [tmp_path / "strange.json", tmp_path / "record.json"]),
    ):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    run(
        "certificates",
        *("--rows", tmp_path / "rows", "--certificates", tmp_path / "files"),
        *("--output", tmp_path / "table.csv"),
    )
    table = pd.read_csv(tmp_path / "table.csv", dtype={"network": str, "radius": str})
    assert list(table.network) == ["analog", "analog", "4", "4"]
    assert list(table.radius) == [*RADII, *RADII]
    assert table.notes[0] == f"not certified: {record['not_certified']}"
    assert table.bound.isna().tolist() == [True, True, False, False]
    assert table.notes.isna().tolist() == [False, False, True, True]


def test_deviations_without_classes(certified, images, tmp_path):
    data = own(tmp_path / "numbers.npz", images, "numbers", np.zeros((12, 2), np.float32))
    pair = [network(2, np.random.default_rng(seed)) for seed in (0, 1)]
    ball = certified(*pair, data)["balls"][0]
    assert not {"certified_agreement", "class_differs"} & ball.keys()
    assert ball["samples"].keys() == {"bound", "found"} and ball["bound"] > 0.9 * ball["found"] > 0


@pytest.mark.parametrize("last", ["linear", "sigmoid"])
def test_two_classes_by_one_output(last, certified, images, tmp_path):
    data = own(tmp_path / "two.npz", images, "classes", np.arange(12) % 2)
    original = network(1, np.random.default_rng(3), last)
    hidden, output = original.layers[1], original.layers[2]
    opposite = original.replace({2: output.replace(kernel=-output.kernel, bias=-output.bias)})
    ball = certified(original, opposite, data)["balls"][0]
    assert ball["certified_agreement"] == 0 and ball["class_differs"] == 1
    close = original.replace({1: hidden.replace(kernel=hidden.kernel * np.float32(1.0001))})
    ball = certified(original, close, data)["balls"][0]
    direct = certify(original, close, around=images[:IMAGES] / np.float32(255), radius=1 / 255)
    assert ball["bound"] == np.median(direct.bound)
    assert ball["certified_agreement"] == 1 and ball["class_differs"] == 0
    samples = images / np.float32(255)
    np.testing.assert_array_equal(
        predict_classes(original, samples), predict_classes(close, samples)
    )


def test_no_time_is_said(certified, data):
    pair = [network(3, np.random.default_rng(seed)) for seed in (0, 1)]
    for ball in certified(*pair, data, seconds="1e-9")["balls"]:
        assert ball["notes"] and ball["bound"] >= ball["found"]


def test_lumping_over_its_tolerance_on_balls(data, images, run, tmp_path):
    original = network(3, np.random.default_rng(0))
    reduced = quantize(original, images / np.float32(255), bits=2, alphabet_scalar=3.0)
    save(original, tmp_path / "analog.h5")
    save(reduced, tmp_path / "2bit.h5")
    (tmp_path / "2bit.json").write_text(
        json.dumps({"method": "gpfq", "bits": 2, "alphabet_scalar": 3.0})
    )

    def rows(*balls):
        run(
            "tolerance",
            *("--analog", tmp_path / "analog.h5", "--bits", 2, "--quantized", tmp_path / "2bit.h5"),
            *("--settings", tmp_path / "2bit.json", "--data", data, "--tolerances", 0, 0.9),
            *("--input-range", 0, 1, "--samples", 12, "--seed", 0, *balls),
            *("--output", tmp_path / "tolerance.csv"),
        )
        return pd.read_csv(tmp_path / "tolerance.csv", dtype={"network": str})

    table = rows("--radius", "1/255", "--images", IMAGES, "--seconds", "null")
    on_balls = [name for name in table if name.startswith("ball_")]
    assert on_balls == ["ball_radius", "ball_bound", "ball_found", "ball_certified_agreement"]
    assert set(table.ball_radius) == {"1/255"}
    samples = images[:IMAGES] / np.float32(255)
    for network_, order in ((original, "lump"), (load(tmp_path / "2bit.h5"), "quantize-lump")):
        row = table[(table.order == order) & (table.tolerance == 0.9)].iloc[0]
        assert row.neurons_kept < row.neurons
        lumped = lump(network_, 0.9).network
        direct = certify(network_, lumped, around=samples, radius=1 / 255, classes=True)
        assert row.ball_bound == np.median(direct.bound.max(axis=1)) < row.bound
        assert row.ball_found == np.median(direct.found.max(axis=1))
        assert row.ball_certified_agreement == direct.same_class.mean()
    lumped = table[(table.order == "lump") & (table.tolerance == 0.9)]
    after = table[(table.order == "lump-quantize") & (table.tolerance == 0.9)]
    assert lumped[on_balls].values.tolist() == after[on_balls].values.tolist()

    without = rows()
    pd.testing.assert_frame_equal(without, table.drop(columns=on_balls))
