"""Networks and results published elsewhere: alphabets found again, the golden file through the
workflow's scripts, networks that do not fit.
"""

import json
import runpy
import sys
from math import log2
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netreduce import (
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    MaxPooling2D,
    Network,
    cost,
    load,
    save,
)
from netreduce.data.archive import write
from netreduce.network.layers import Quantization
from netreduce.quantization.grids import find_grid, with_grids

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
SCRIPTS = ROOT / "workflow" / "scripts"
CLASSES = tuple("abcdefghij")


def shared(name):
    """A file of the reference material, or the test is skipped."""
    path = SHARED / name
    if not path.exists():
        pytest.skip(f"needs {name} of the reference material")
    return path


def run(script, monkeypatch, **arguments):
    """Run a script of the workflow as its rule does."""
    words = [str(SCRIPTS / f"{script}.py")]
    for name, value in arguments.items():
        words += [
            f"--{name.replace('_', '-')}",
            *map(str, value if isinstance(value, list | tuple) else [value]),
        ]
    monkeypatch.setattr(sys, "argv", words)
    monkeypatch.syspath_prepend(SCRIPTS)
    runpy.run_path(words[0], run_name="__main__")


def dataset(path, images, classes=CLASSES):
    labels = (np.arange(len(images)) % len(classes)).astype(np.uint8)
    splits = {
        f"{split}_{kind}": array
        for split in ("train", "validation", "test")
        for kind, array in (("images", images), ("labels", labels))
    }
    write(path, splits, classes, "test images")
    return path


# Alphabets


@settings(max_examples=200, deadline=None)
@given(
    bits=st.sampled_from([log2(3), 2, 3, 4, 5, 6, 8]),
    radius=st.floats(1e-6, 1e3),
    single=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_alphabet_is_found_again(bits, radius, single, seed):
    levels = round(2**bits)
    codes = np.random.default_rng(seed).choice(np.arange(1 - levels, levels, 2), (40, 30))
    codes.flat[: len(range(1 - levels, levels, 2))] = range(1 - levels, levels, 2)
    scale = radius / (levels - 1)
    # Some programs multiply in float32, so that levels are off by the rounding of both factors.
    kernel = (
        np.float32(scale) * codes.astype(np.float32)
        if single
        else (scale * codes).astype(np.float32)
    )
    grid = find_grid(kernel)
    assert grid.bits == pytest.approx(bits, abs=1e-12)
    assert grid.scale == pytest.approx(scale, rel=1e-6)
    np.testing.assert_array_equal(grid.codes(kernel), codes)
    if not single:
        np.testing.assert_array_equal((grid.scale * codes).astype(np.float32), kernel)


@pytest.mark.parametrize(
    ("codes", "levels", "scale"),
    [
        ([-3, -1, 1, 3, 3], 4, 1),
        ([-3, -1, 0, 1, 3], 4, 1),  # 0: a dead input
        ([-13, 1, 1, 5], 16, 1),  # the outermost levels are unused
        ([-1, 0, 1, 1], 3, 0.5),
        ([-1, 1, 1, 1], 2, 1),
        ([-2, -1, 0, 1, 2, 2], 5, 0.5),
        ([3, 3, 0, -2, 2], 7, 0.5),
        ([254, 254, 1], 509, 0.5),
    ],
)
def test_levels_by_the_multiples_that_occur(codes, levels, scale):
    grid = find_grid(0.3 * np.array(codes, np.float32)[:, None])
    assert round(2**grid.bits) == levels
    assert grid.scale == pytest.approx(0.3 * scale, rel=1e-6)


@pytest.mark.parametrize(
    "kernel",
    [
        np.zeros((3, 4)),
        np.random.default_rng(0).standard_normal((30, 20)),
        np.round(
            np.random.default_rng(0).standard_normal((300, 200)), 3
        ),  # a grid, but of thousands of levels
        np.array([[0.5]]),
        np.array([[1.0, 1.0, 2**0.5]]),
    ],
    ids=["zeros", "analog", "fine", "one weight", "incommensurable"],
)
def test_analog_weights_have_no_grid(kernel):
    assert find_grid(kernel.astype(np.float32)) is None


def test_a_network_gets_the_grids_that_it_lacks(tmp_path):
    rng = np.random.default_rng(1)
    codes = rng.choice([-3, -1, 1, 3], (20, 30))
    known = Quantization(0.25, 2)
    network = Network(
        [
            Dense(np.float32(0.1) * codes.astype(np.float32), activation="relu"),
            Dense(
                (0.25 * rng.choice([-3, -1, 1, 3], (30, 20))).astype(np.float32),
                activation="relu",
                quantization=known,
            ),
            Dense(rng.standard_normal((20, 5)).astype(np.float32)),
        ],
        (20,),
    )
    found = with_grids(network)
    assert found.layers[0].quantization.bits == 2
    assert found.layers[1].quantization is known
    assert found.layers[2] is network.layers[2]
    np.testing.assert_allclose(found.layers[0].kernel, network.layers[0].kernel, rtol=2**-21)
    assert cost(found).bits_per_weight == pytest.approx((2 * 600 + 2 * 600 + 32 * 100) / 1300)
    save(found, tmp_path / "found.h5")  # which refuses weights that are off their grid
    np.testing.assert_array_equal(load(tmp_path / "found.h5").layers[0].codes, codes)


def test_published_alphabets():
    four, ternary = (
        with_grids(load(shared(f"published/cifar10_cnn_gpfq_{name}.h5")))
        for name in ("4bit_scalar5", "1.58bit_scalar2")
    )
    weighted = [i for i, layer in enumerate(four.layers) if "kernel" in layer.arrays()]
    assert len(weighted) == 8
    for i in weighted:
        assert (
            round(2 ** four.layers[i].quantization.bits)
            == len(np.unique(four.layers[i].codes))
            == 16
        )
        assert (
            round(2 ** ternary.layers[i].quantization.bits)
            == len(np.unique(ternary.layers[i].codes))
            == 3
        )
        # Both are of one analog network, with radius 5 and 2 times the median of a layer.
        assert 15 * four.layers[i].quantization.scale / 5 == pytest.approx(
            2 * ternary.layers[i].quantization.scale / 2, rel=1e-6
        )
    assert cost(four).bits_per_weight == 4
    assert cost(ternary).bits_per_weight == pytest.approx(log2(3))


# The published program's own results, file in, file out


def golden_cnn(arrays):
    def weights(layer):
        return [
            arrays[f"analog_{layer}_{k}"]
            for k in range(sum(name.startswith(f"analog_{layer}_") for name in arrays.files))
        ]

    layers = [
        Conv2D(*weights(0), "relu", padding="same"),
        BatchNormalization(*weights(1)),
        MaxPooling2D(2),
        Conv2D(*weights(3), "relu", strides=2),
        BatchNormalization(*weights(4)),
        Dropout(),
        Conv2D(*weights(6), "relu", padding="same"),
        MaxPooling2D(2),
        Flatten(),
        Dense(*weights(9), "relu"),
        BatchNormalization(*weights(10)),
        Dense(*weights(11), "softmax"),
    ]
    return Network(layers, (32, 32, 3))


def test_the_sweep_reproduces_the_golden_cnn(tmp_path, monkeypatch):
    arrays = np.load(ROOT / "tests/golden/gpfq_cnn_2bit.npz")
    save(golden_cnn(arrays), tmp_path / "analog.h5")
    data = dataset(tmp_path / "data.npz", arrays["samples_uint8"])
    run(
        "sweep",
        monkeypatch,
        network=tmp_path / "analog.h5",
        data=data,
        bits=2,
        method="gpfq",
        settings=json.dumps({"3": {"alphabet_scalar": 3, "conv": "channel"}}),
        samples=20,
        seed=0,
        networks=tmp_path / "gpfq_2bit_3.h5",
        best=tmp_path / "best.h5",
        table=tmp_path / "sweep.csv",
        timings=tmp_path / "timings.csv",
    )
    quantized = load(tmp_path / "gpfq_2bit_3.h5")
    compared = 0
    for index in (0, 3, 6, 9, 11):
        np.testing.assert_allclose(
            quantized.layers[index].kernel, arrays[f"quantized_{index}_0"], rtol=2**-22
        )  # the same levels
        compared += quantized.layers[index].kernel.size
    assert compared == 6504


# Any Keras file by config


def published(tmp_path, monkeypatch, network, data):
    save(network, tmp_path / "network.h5")
    files = {
        "metrics": tmp_path / "out" / "network.json",
        "lumped": tmp_path / "out" / "network_lumped.h5",
    }
    run(
        "published",
        monkeypatch,
        weights=tmp_path / "network.h5",
        data=data,
        input_range=(0, 1),
        **files,
    )
    return json.loads(files["metrics"].read_text()), load(files["lumped"])


def test_a_network_made_elsewhere_is_measured_and_lumped(tmp_path, monkeypatch):
    rng = np.random.default_rng(2)
    images = rng.integers(0, 256, (30, 4, 4, 1), np.uint8)
    kernel = (0.25 * rng.choice([-3, -1, 1, 3], (16, 12))).astype(np.float32)
    kernel[:, 7] = kernel[:, 2]
    bias = np.zeros(12, np.float32)
    network = Network(
        [Dense(kernel, bias, "relu"), Dense(rng.standard_normal((12, 10)).astype(np.float32))],
        (16,),
    )
    metrics, lumped = published(
        tmp_path, monkeypatch, network, dataset(tmp_path / "data.npz", images)
    )
    assert metrics["data"] == "test images"
    assert metrics["alphabets"]["dense_1"] == {
        "weights": 192,
        "values": 4,
        "levels": 4,
        "bits": 2.0,
        "step": 0.5,
        "radius": 0.75,
    }
    assert metrics["alphabets"]["dense_2"] == {"weights": 120, "values": 120}
    assert metrics["network"]["agreement"] == metrics["lumped"]["agreement"] == 1
    assert metrics["network"]["neurons"] == metrics["lumped"]["neurons"] + 1 == 22
    assert metrics["lumping"]["neurons_merged"] == 1
    allowed = metrics["lumping"]["bound"] + metrics["lumping"]["rounding"]
    assert metrics["lumping"]["largest_output_difference"] <= allowed < 1e-3
    assert metrics["lumping"]["bound"] < 1e-6  # in real arithmetic
    inputs = (images / 255).astype(np.float32)
    assert lumped.input_shape == (4, 4, 1)
    np.testing.assert_allclose(
        lumped.predict(inputs), network.predict(inputs.reshape(30, 16)), atol=1e-5
    )


@pytest.mark.parametrize(
    ("layers", "input_shape", "message"),
    [
        (
            [Flatten(), Dense(np.ones((12, 10)))],
            (2, 2, 3),
            r"images of shape \(4, 4, 1\), so the network must take .* found \(2, 2, 3\)",
        ),
        (
            [Flatten(), Dense(np.ones((48, 10)))],
            (4, 4, 3),
            r"images of shape \(4, 4, 1\), so the network must take .* found \(4, 4, 3\)",
        ),
        ([Dense(np.ones((15, 10)))], (15,), r"must take \(4, 4, 1\) or \(16,\), found \(15,\)"),
        (
            [Dense(np.ones((16, 7)))],
            (16,),
            r"has 10 classes, so the network must have outputs of shape \(10,\), found \(7,\)",
        ),
    ],
    ids=["size", "colour", "inputs", "classes"],
)
@pytest.mark.parametrize("script", ["bring_in", "published"])
def test_a_network_that_does_not_fit_the_dataset_is_refused_at_once(
    tmp_path, monkeypatch, script, layers, input_shape, message
):
    save(Network(layers, input_shape), tmp_path / "network.h5")
    data = dataset(tmp_path / "data.npz", np.zeros((10, 4, 4, 1), np.uint8))
    outputs = {
        "bring_in": {"architecture": "null", "network": tmp_path / "out.h5"},
        "published": {
            "input_range": (0, 1),
            "metrics": tmp_path / "out.json",
            "lumped": tmp_path / "out.h5",
        },
    }
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        run(script, monkeypatch, weights=tmp_path / "network.h5", data=data, **outputs[script])
    assert not list(tmp_path.glob("out*"))


@pytest.mark.workflow
def test_the_published_network_on_recompressed_images(tmp_path, monkeypatch):
    weights, archive = (
        shared("published/cifar10_cnn_gpfq_4bit_scalar5.h5"),
        shared("data/cifar10-jpeg.tar.xz"),
    )
    (tmp_path / "cifar10").mkdir()
    (tmp_path / "cifar10" / archive.name).symlink_to(archive)
    run("data", monkeypatch, dataset="cifar10", resources=tmp_path, output=tmp_path / "cifar10.npz")
    metrics, _ = published(tmp_path, monkeypatch, load(weights), tmp_path / "cifar10.npz")
    assert "recompressed" in metrics["data"]
    assert metrics["network"]["accuracy"] == pytest.approx(0.794, abs=0.002)
    assert metrics["lumped"]["accuracy"] == metrics["network"]["accuracy"]
    assert metrics["network"]["bits_per_weight"] == 4
