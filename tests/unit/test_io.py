"""What holds for every file format."""

import os

import numpy as np
import pytest
from io_networks import NETWORKS, assert_same, network, quantized, samples

import netreduce
from netreduce.errors import ModelFileError, UnsupportedLayerError
from netreduce.formats import load, save
from netreduce.network import Network
from netreduce.network.layers import Dense, Layer


@pytest.mark.parametrize("suffix", [".h5", ".keras", ".pth", ".txt"])
@pytest.mark.parametrize("name", NETWORKS)
def test_round_trip_is_exact(tmp_path, name, suffix):
    original = network(name)
    path = tmp_path / f"network{suffix}"
    save(original, path)
    assert_same(original, load(path, NETWORKS[name]()))


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
@pytest.mark.parametrize("name", NETWORKS)
def test_quantization_comes_back(tmp_path, name, suffix):
    original = quantized(network(name))
    path = tmp_path / f"network{suffix}"
    save(original, path)
    loaded = load(path)
    assert_same(original, loaded)
    for layer, found in zip(original.layers, loaded.layers, strict=True):
        if hasattr(layer, "kernel"):
            np.testing.assert_array_equal(found.codes, layer.codes)


@pytest.mark.parametrize("suffix", [".pth", ".txt"])
def test_tensors_forget_the_quantization_of_the_template(tmp_path, suffix):
    path = tmp_path / f"network{suffix}"
    save(network("vector"), path)
    assert_same(network("vector"), load(path, quantized(network("vector"))))


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_double_precision_comes_back(tmp_path, suffix):
    original = Network([Dense(np.array([[1 / 3]]), np.array([0.1]))], (1,))
    save(original, tmp_path / f"network{suffix}")
    assert_same(original, load(tmp_path / f"network{suffix}"))


@pytest.mark.parametrize("suffix", [".h5", ".keras", ".pth", ".txt"])
def test_the_same_network_gives_the_same_bytes(tmp_path, suffix, monkeypatch):
    first, second = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    save(quantized(network("resnet20")), first)
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr(os, "getpid", lambda: 4711)
    save(quantized(network("resnet20")), second)
    assert first.read_bytes() == second.read_bytes()


def test_quantized_networks_are_small(tmp_path):
    original = netreduce.Network(
        [Dense(np.random.default_rng(0).normal(size=(784, 500)).astype(np.float32))], (784,)
    )
    save(quantized(original, scale=0.5), tmp_path / "network.h5")
    assert (tmp_path / "network.h5").stat().st_size < 784 * 500 * 4 / 4


def test_the_suffix_may_be_in_capitals(tmp_path):
    save(network("vector"), tmp_path / "NETWORK.H5")
    assert_same(network("vector"), load(str(tmp_path / "NETWORK.H5")))


def test_a_keras_file_ignores_the_architecture(tmp_path):
    save(network("vector"), tmp_path / "network.h5")
    assert_same(network("vector"), load(tmp_path / "network.h5", "lenet5"))


def test_public_names():
    assert netreduce.load is load
    assert netreduce.save is save


@pytest.mark.parametrize("name", ["network.onnx", "network", "network.h5.gz"])
def test_other_suffixes_are_not_written(tmp_path, name):
    with pytest.raises(
        ModelFileError,
        match=rf"{name}: cannot write with the suffix '.*', expected one of .h5, .keras, .pth, .tx",
    ):
        save(network("vector"), tmp_path / name)


@pytest.mark.parametrize("suffix", [".h5", ".keras", ".pth", ".txt"])
def test_missing_files_are_named(tmp_path, suffix):
    with pytest.raises(ModelFileError, match=rf"nothing{suffix}: no such file"):
        load(tmp_path / f"nothing{suffix}", "lenet5")


@pytest.mark.parametrize("suffix", [".h5", ".keras", ".pth", ".txt"])
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"rubbish",
        b"\x89HDF\r\n\x1a\n" + bytes(100),
        b"PK\x03\x04" + bytes(100),
        bytes(range(256)),
    ],
)
def test_rubbish_is_refused(tmp_path, suffix, content):
    path = tmp_path / f"rubbish{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=f"rubbish{suffix}: "):
        load(path, "lenet5")


@pytest.mark.parametrize("suffix", [".h5", ".keras", ".pth", ".txt"])
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.99])
def test_truncated_files_are_refused(tmp_path, suffix, part):
    path = tmp_path / f"network{suffix}"
    save(network("mlp"), path)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(ModelFileError, match=f"network{suffix}: "):
        load(path, NETWORKS["mlp"]())


@pytest.mark.parametrize("suffix", [".h5", ".keras", ".pth", ".txt"])
def test_a_failed_save_leaves_the_old_file(tmp_path, suffix):
    class Strange(Layer):
        def __call__(self, x):
            return x

    path = tmp_path / f"network{suffix}"
    save(network("vector"), path)
    before = path.read_bytes()
    strange = Network([Strange()], (3,))
    if suffix in (".h5", ".keras"):
        with pytest.raises(UnsupportedLayerError, match="Strange cannot be written"):
            save(strange, path)
        assert path.read_bytes() == before
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("suffix", [".h5", ".keras"])
def test_layers_that_lead_nowhere_cannot_be_written(tmp_path, suffix):
    lost = Network([Dense(np.ones((2, 2))), Dense(np.ones((2, 2)))], (2,), [(-1,), (-1,)])
    with pytest.raises(UnsupportedLayerError, match="layer dense_1 does not lead to the output"):
        save(lost, tmp_path / f"network{suffix}")


def test_loaded_networks_compute_the_same(tmp_path):
    original = network("branching")
    save(original, tmp_path / "network.keras")
    x = samples(original)
    np.testing.assert_array_equal(load(tmp_path / "network.keras").predict(x), original.predict(x))
