"""Large sequential networks: weight files as keras.applications has them, ImageNet streamed from
disk; small stand-ins for both.
"""

import csv
import os
import runpy
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from netreduce import (
    Conv2D,
    Dense,
    Flatten,
    MaxPooling2D,
    Network,
    SampleError,
    load,
    quantize,
    save,
)
from netreduce.data.imagenet import open_imagenet
from netreduce.measures.evaluation import top_accuracies
from netreduce.network.architectures import build
from netreduce.quantization import gram

SCRIPTS = Path(__file__).resolve().parents[2] / "workflow" / "scripts"
WNIDS = ("n01440764", "n01443537", "n01484850", "n01491361", "n01494475", "n01496331")


# Weight files of keras.applications


def write_weights(path, layers):
    """A weight file in the layout of keras.applications: (name, arrays) of every layer, those
    without weights too.
    """
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = np.array([name.encode() for name, _ in layers])
        for name, arrays in layers:
            group = file.create_group(name)
            names = [f"{name}_{letter}_1:0" for letter, _ in zip("Wb", arrays, strict=False)]
            group.attrs["weight_names"] = np.array([n.encode() for n in names], dtype="S")
            for dataset, array in zip(names, arrays, strict=True):
                group.create_dataset(dataset, data=array)


@pytest.mark.parametrize("name", ["vgg16", "vgg19"])
def test_vgg_computes_what_keras_computes(tmp_path, name):
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    keras = pytest.importorskip("keras")
    model = getattr(keras.applications, name.upper())(
        weights=None, input_shape=(32, 32, 3), classes=6
    )
    path = tmp_path / f"{name}_weights_tf_dim_ordering_tf_kernels.h5"
    write_weights(path, [(layer.name, layer.get_weights()) for layer in model.layers])
    network = load(path, {"name": name, "input_shape": (32, 32, 3), "classes": 6})
    images = np.random.default_rng(0).normal(0, 60, (2, 32, 32, 3)).astype(np.float32)
    exponentials = np.exp(network.predict(images))
    np.testing.assert_allclose(
        exponentials / exponentials.sum(axis=1, keepdims=True),
        model.predict(images, verbose=0),
        atol=1e-4,
    )


def test_weights_need_their_architecture(tmp_path):
    write_weights(
        tmp_path / "weights.h5", [("fc", [np.ones((3, 2), np.float32), np.ones(2, np.float32)])]
    )
    with pytest.raises(
        Exception,
        match=(
            r"weights\.h5: the file holds weights but no model_config: an architecture must say"
            r" what they are"
        ),
    ):
        load(tmp_path / "weights.h5")
    with pytest.raises(
        Exception, match=r"weights\.h5: found weights of 1 layers \(fc\), expected 16"
    ):
        load(tmp_path / "weights.h5", {"name": "vgg16", "input_shape": (32, 32, 3), "classes": 2})


def test_vgg16_at_full_size_has_the_published_number_of_parameters():
    shapes = build({"name": "vgg16"}, (224, 224, 3), 1000)  # zeros: pages that are never touched
    assert (
        sum(array.size for layer in shapes.layers for array in layer.arrays().values())
        == 138_357_544
    )


# Images from disk


def small_vgg(classes=6, size=24):
    """Two blocks and two Dense layers, on images of BGR minus mean."""
    rng = np.random.default_rng(0)

    def weights(*shape):
        return rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape).astype(np.float32)

    layers = [
        Conv2D(weights(3, 3, 3, 8), activation="relu", padding="same"),
        MaxPooling2D(2),
        Conv2D(weights(3, 3, 8, 8), activation="relu", padding="same"),
        MaxPooling2D(2),
        Flatten(),
        Dense(weights((size // 4) ** 2 * 8, 30), activation="relu"),
        Dense(weights(30, classes)),
    ]
    return Network(layers, (size, size, 3))


@pytest.fixture
def resources(tmp_path):
    """Twelve validation images of odd sizes in one folder with a label file, one of them grey."""
    rng = np.random.default_rng(1)
    folder = tmp_path / "resources" / "imagenet" / "val"
    folder.mkdir(parents=True)
    lines = []
    for number in range(12):
        name = f"ILSVRC2012_val_{number + 1:08d}.JPEG"
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize(
            (40 + number, 33)
        )
        (coarse.convert("L") if number == 5 else coarse).save(folder / name)
        lines.append(f"{name} {WNIDS[number % len(WNIDS)]}")
    (folder.parent / "val.txt").write_text("\n".join(lines))
    (folder.parent / "synset_words.txt").write_text("".join(f"{wnid} a name\n" for wnid in WNIDS))
    return tmp_path / "resources"


def run(monkeypatch, network, resources, output, **changes):
    """Run the script as its rule does; the networks' paths."""
    save(network, output / "network.h5")
    arguments = {
        "weights": output / "network.h5",
        "architecture": "null",
        "resources": resources,
        "layers": "dense",
        "methods": ["gpfq", "msq"],
        "bits": 1.58,
        "alphabet_scalars": [2, 3],
        "conv": "channel",
        "samples": 7,
        "test_images": "null",
        "seed": 0,
        "networks": output / "networks",
        "table": output / "table.csv",
        "timings": output / "timings.csv",
        **changes,
    }
    words = [str(SCRIPTS / "imagenet.py")]
    for name, value in arguments.items():
        words += [
            f"--{name.replace('_', '-')}",
            *map(str, value if isinstance(value, list) else [value]),
        ]
    monkeypatch.setattr(sys, "argv", words)
    runpy.run_path(words[0], run_name="__main__")
    return [
        arguments["networks"] / f"{method}_1.58bit_{scalar}.h5"
        for method in arguments["methods"]
        for scalar in arguments["alphabet_scalars"]
    ]


@pytest.mark.parametrize("layers", ["dense", "all"])
def test_quantized_on_streamed_images_as_on_images_in_memory(
    tmp_path, monkeypatch, capsys, resources, layers
):
    network = small_vgg()
    paths = run(monkeypatch, network, resources, tmp_path, layers=layers)
    stream = open_imagenet(resources, (24, 24))
    images = np.concatenate(list(stream))
    assert images.shape == (12, 24, 24, 3)
    chosen = [
        i
        for i, layer in enumerate(network.layers)
        if isinstance(layer, Dense if layers == "dense" else (Dense, Conv2D))
    ]
    rows = list(csv.DictReader((tmp_path / "table.csv").open(newline="")))
    for path, row in zip(paths, rows, strict=True):
        expected = quantize(
            network,
            images[:7],
            row["method"],
            bits=1.58,
            alphabet_scalar=float(row["alphabet_scalar"]),
            layers=chosen,
        )
        found = load(path)
        for layer, other in zip(found.layers, expected.layers, strict=True):
            assert getattr(layer, "quantization", None) is None or np.array_equal(
                layer.codes, other.codes
            )
            np.testing.assert_array_equal(
                *(each.arrays().get("kernel", 0) for each in (layer, other))
            )
        ranks = np.argsort(-found.predict(images[7:]), axis=1)
        for k in (1, 5):
            assert float(row[f"top{k}"]) == np.mean(
                (ranks[:, :k] == stream.labels[7:, None]).any(axis=1)
            )
        assert (row["samples"], row["test_images"], row["layers"]) == ("7", "5", layers)
    printed = capsys.readouterr().out
    assert f"quantizing dense_1, layer {len(chosen) - 1} of {len(chosen)}" in printed
    assert "analog: 5 of 5 images evaluated" in printed


def test_so_many_test_images_as_asked(tmp_path, monkeypatch, resources):
    run(
        monkeypatch,
        small_vgg(),
        resources,
        tmp_path,
        methods=["msq"],
        alphabet_scalars=[2],
        test_images=3,
    )
    (row,) = csv.DictReader((tmp_path / "table.csv").open(newline=""))
    assert row["test_images"] == "3"


@pytest.mark.parametrize(
    ("network", "changes", "message"),
    [
        (
            small_vgg(classes=10),
            {},
            r"the images are of 6 classes, found a network with outputs of shape \(10,\)",
        ),
        (
            Network([Dense(np.ones((12, 6)))], (12,)),
            {},
            r"images have shape \(height, width, 3\), found a network for inputs of shape \(12,\)",
        ),
        (
            Network([Flatten(), Dense(np.ones((16, 6)))], (4, 4, 1)),
            {},
            r"found a network for inputs of shape \(4, 4, 1\)",
        ),
        (
            small_vgg(),
            {"samples": 12},
            r"12 images to quantize on and at least one to evaluate on are needed, found 12 images",
        ),
    ],
    ids=["classes", "flat", "grey", "few"],
)
def test_a_network_that_does_not_fit_is_refused(
    tmp_path, monkeypatch, resources, network, changes, message
):
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        run(monkeypatch, network, resources, tmp_path, **changes)
    assert not list(tmp_path.glob("*_*.h5"))


def test_an_unreadable_image_is_named_before_any_work(tmp_path, monkeypatch, capsys, resources):
    last = resources / "imagenet" / "val" / "ILSVRC2012_val_00000012.JPEG"
    last.write_bytes(last.read_bytes()[:200])
    with pytest.raises(SystemExit, match=r"error: .*ILSVRC2012_val_00000012\.JPEG: "):
        run(monkeypatch, small_vgg(), resources, tmp_path)
    assert capsys.readouterr().out == ""


def test_gram_matrices_of_many_inputs_come_in_panels(monkeypatch):
    network = small_vgg()
    images = np.random.default_rng(2).normal(0, 60, (20, 24, 24, 3)).astype(np.float32)
    whole = [
        quantize(network, images, method, bits=2, alphabet_scalar=3, conv="joint")
        for method in ("gpfq", "gptq")
    ]
    monkeypatch.setattr(gram, "LARGE", 16)
    monkeypatch.setattr(gram, "PANEL", 24)
    for expected, method in zip(whole, ("gpfq", "gptq"), strict=True):
        found = quantize(network, images, method, bits=2, alphabet_scalar=3, conv="joint")
        for layer, other in zip(found.layers, expected.layers, strict=True):
            np.testing.assert_array_equal(
                *(each.arrays().get("kernel", 0) for each in (layer, other))
            )


# Accuracy over batches


def test_top_accuracies():
    network = Network([Dense(np.eye(4, dtype=np.float32))], (4,))
    scores = np.array([[4, 3, 2, 1], [1, 2, 3, 4], [0, 0, 0, 0], [1, 3, 2, 4]], np.float32)
    labels = np.array([0, 2, 0, 0])
    seen = []
    assert top_accuracies(
        network, [scores[:3], scores[3:]], labels, (1, 2, 4), lambda *done: seen.append(done)
    ) == (0.5, 0.75, 1.0)
    assert seen == [(3, 4), (4, 4)]


@pytest.mark.parametrize("count", [0, 3])
def test_top_accuracies_need_a_label_for_every_sample(count):
    network = Network([Dense(np.eye(4, dtype=np.float32))], (4,))
    with pytest.raises(
        SampleError, match=f"at least one, found {count} labels and {4 * bool(count)} samples"
    ):
        top_accuracies(network, [np.eye(4, dtype=np.float32)] * bool(count), np.zeros(count, int))
