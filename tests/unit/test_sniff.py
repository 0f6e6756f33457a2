"""What a file is, its content says: under any suffix; what is not read is refused by its name."""

import argparse
import gzip
import io
import pickle
import sys
import tarfile
import zipfile

import numpy as np
import pytest
import torch
from io_networks import assert_same, network
from safetensors.numpy import save_file
from torch import nn

import netreduce as nr
from netreduce.errors import ModelFileError
from netreduce.formats import load, save
from netreduce.formats.export import export
from netreduce.formats.kernels import turned
from netreduce.formats.sniff import kind_of
from netreduce.formats.tensors import to_tensors
from netreduce.network import Network
from netreduce.network.architectures import build
from netreduce.network.layers import Dense


def small():
    return network("vector")


@pytest.mark.parametrize("suffix", [".h5", ".keras", ".pth", ".txt"])
@pytest.mark.parametrize("name", ["network", "network.onnx", "network.bin", "network.H5"])
def test_the_suffix_does_not_matter(tmp_path, suffix, name):
    save(small(), tmp_path / f"whole{suffix}")
    (tmp_path / f"whole{suffix}").rename(tmp_path / name)
    assert_same(small(), load(tmp_path / name, small()))


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".th", ".ckpt", ".bin", ".tar", ".keras"])
@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_of_any_suffix(tmp_path, suffix, zipped):
    tensors = {name: torch.from_numpy(array) for name, array in to_tensors(small()).items()}
    path = tmp_path / f"network{suffix}"
    torch.save(tensors, path, _use_new_zipfile_serialization=zipped)
    assert kind_of(path) == "pytorch"
    assert_same(small(), load(path, small()))


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_safetensors(tmp_path, dtype):
    rounded = small().replace(
        {i: layer.replace(kernel=np.round(layer.kernel, 1), bias=np.round(layer.bias))
         for i, layer in enumerate(small().layers)}
    )  # fmt: skip
    tensors = {name: array.astype(dtype) for name, array in to_tensors(rounded).items()}
    save_file(tensors, tmp_path / "network.bin")
    loaded = load(tmp_path / "network.bin", {"name": "mlp", "hidden": [8]})
    expected = tensors["dense_1.weight"].T
    assert loaded.layers[0].kernel.dtype == (np.float64 if dtype == "f8" else np.float32)
    np.testing.assert_array_equal(loaded.layers[0].kernel, expected.astype(np.float64))
    with pytest.raises(ModelFileError, match="a safetensors file holds tensors only: an arch"):
        load(tmp_path / "network.bin")


def test_bfloat16_in_safetensors(tmp_path):
    from safetensors.torch import save_file as save_tensors

    tensors = {
        name: torch.from_numpy(array).to(torch.bfloat16)
        for name, array in to_tensors(small()).items()
    }
    save_tensors(tensors, tmp_path / "network.safetensors")
    loaded = load(tmp_path / "network.safetensors", small())
    np.testing.assert_array_equal(
        loaded.layers[1].kernel, tensors["dense_2.weight"].float().numpy().T
    )


def test_onnx_files_are_known_by_their_fields(tmp_path):
    export(small(), tmp_path / "network.onnx")
    (tmp_path / "network.onnx").rename(tmp_path / "network.pth")
    assert kind_of(tmp_path / "network.pth") == "onnx"


def test_hdf5_may_begin_behind_a_block_of_the_users(tmp_path):
    save(small(), tmp_path / "network.h5")
    content = (tmp_path / "network.h5").read_bytes()
    (tmp_path / "network.h5").write_bytes(bytes(1024) + content)
    assert kind_of(tmp_path / "network.h5") == "hdf5"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("// a network\n1,2,3,\n", "nnet"),
        ("\n\n Layer: a.weight\n1, 2\n", "text"),
        ("\ufeffLayer:a.weight\n1, 2\n", "text"),
    ],
)
def test_texts_are_known_by_their_first_line(tmp_path, text, kind):
    (tmp_path / "network").write_text(text, encoding="utf-8")
    assert kind_of(tmp_path / "network") == kind


@pytest.mark.parametrize("suffix", ["txt", "nnet"])
def test_texts_that_begin_otherwise_are_told_by_the_suffix(tmp_path, suffix):
    (tmp_path / f"network.{suffix}").write_text("1, 2, 3")
    assert kind_of(tmp_path / f"network.{suffix}") == {"txt": "text"}.get(suffix, suffix)


class Own(nn.Module):
    """A module of a user's own class."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(2, 2)


def saved(content, **options):
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def script():
    file = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), file)
    return file.getvalue()


def archive(*names):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as content:
        for name in names:
            content.writestr(name, b"x")
    return file.getvalue()


def tar():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as content:
        content.addfile(tarfile.TarInfo("storages"))
    return file.getvalue()


STATE = nn.Linear(2, 2).state_dict()
REFUSED = {
    "a module": (
        lambda: saved(nn.Sequential(nn.Linear(2, 2))),
        r"a whole pickled object of class torch.nn.modules.container.Sequential, .* save the"
        r" tensors alone, torch.save\(module.state_dict\(\), .*torch.export.save",
    ),
    "a module of a user": (
        lambda: saved(Own()),
        r"a whole pickled object of class test_sniff.Own, which runs code",
    ),
    "a module, before PyTorch 1.6": (
        lambda: saved(nn.Linear(2, 2), _use_new_zipfile_serialization=False),
        r"a whole pickled object of class torch.nn.modules.linear.Linear",
    ),
    "arguments": (
        lambda: saved({"state_dict": STATE, "args": argparse.Namespace(lr=0.1)}),
        r"it carries an object of class argparse.Namespace beside the tensors, .*"
        r'torch.load\("checkpoint.pth", weights_only=False\)\["state_dict"\]',
    ),
    "TorchScript": (
        script,
        r"a TorchScript program, which is code; save its tensors alone, torch.save\(torch.jit.load",
    ),
    "two networks": (
        lambda: saved({"generator": STATE, "critic": STATE}),
        r"the checkpoint holds 2 networks, 'generator', 'critic': save one by itself,"
        r' torch.save\(torch.load\("checkpoint.pth"\)\[\'generator\'\], "weights.pth"\)',
    ),
    "another archive": (lambda: archive("a.npy", "b"), r"an archive of a.npy, b is no network"),
    "a large archive": (
        lambda: archive(*"abcdefgh"),
        r"an archive of a, b, c, d, e and 3 more is no network; known are HDF5",
    ),
    "an empty archive": (archive, r"an archive of no members is no network"),
    "half an archive": (lambda: saved(STATE)[:500], r"the archive is damaged or cut short"),
    "a pickle": (lambda: pickle.dumps({"a": np.ones(3)}), r"refused: a pickled Python object"),
    "gzip": (lambda: gzip.compress(b"x"), r"this is compressed with gzip: unpack it first"),
    "tar": (tar, r"this is a tar archive"),
    "a NumPy array": (lambda: b"\x93NUMPY\x01\x00", r"this is a NumPy array, not a network"),
    "LiteRT": (lambda: b"\x1c\x00\x00\x00TFL3....", r"this is a LiteRT \(TensorFlow Lite\) file"),
    "a pointer": (
        lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n",
        r"this is a pointer of Git LFS, not the file itself: fetch it with 'git lfs pull'",
    ),
    "a page": (lambda: b"\n<!DOCTYPE html><html>", r"this is a page in HTML or XML"),
    "JSON": (lambda: b' {"class_name": "Sequential"}', r"JSON holds an architecture, not the num"),
    "nothing": (lambda: b"", r"not a valid network file: it is empty; known are HDF5"),
    "something": (lambda: b"hello", r"not a valid network file: it begins with b'hello'; known"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_is_named(tmp_path, what):
    make, message = REFUSED[what]
    (tmp_path / "file.pth").write_bytes(make())
    with pytest.raises(ModelFileError, match=f"file.pth: .*{message}"):
        load(tmp_path / "file.pth", small())


def test_folders_are_refused(tmp_path):
    with pytest.raises(ModelFileError, match=r"a folder, expected a file"):
        load(tmp_path)
    (tmp_path / "saved_model.pb").write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"a SavedModel of TensorFlow.*model.save\("):
        load(tmp_path)


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda state: {"net": state},
        lambda state: {"model": state, "optimizer": {"state": {}, "param_groups": [{"lr": 0.1}]}},
        lambda state: {"epoch": 3, "best": torch.tensor(0.9), "network.0": state},
        lambda state: {"state_dict": state, "normalize": {"mean": torch.zeros(3)}},
        lambda state: {"callbacks": {"best": {"score": torch.tensor(1.0)}}, "state_dict": state},
    ],
)
def test_state_dicts_under_any_one_key(tmp_path, wrapped):
    tensors = {name: torch.from_numpy(array) for name, array in to_tensors(small()).items()}
    torch.save(wrapped(tensors), tmp_path / "checkpoint.ckpt")
    assert_same(small(), nr.load(tmp_path / "checkpoint.ckpt", small()))


def test_a_file_as_architecture_goes_with_keras_only(tmp_path):
    save(small(), tmp_path / "network.pth")
    with pytest.raises(ModelFileError, match="a file as architecture goes with weights of Keras"):
        load(tmp_path / "network.pth", tmp_path / "model.json")


def test_what_happens_to_the_file_later_changes_nothing(tmp_path):
    path = tmp_path / "network.safetensors"
    original = build({"name": "vgg-small"}, (16, 16, 3), 10, seed=0)
    save_file(to_tensors(original), path)
    loaded = load(path, original)
    with path.open("r+b") as file:  # in place: the memory that was mapped changes
        file.seek(8)
        file.write(bytes(path.stat().st_size - 8))
    assert_same(loaded, original)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "shape", [(3, 5), (40, 17), (5, 1), (40, 3, 2, 7), (6, 1, 3, 3), (4, 2, 1, 1)]
)
def test_kernels_are_turned_and_copied(monkeypatch, shape, dtype):
    kernel = np.random.default_rng(0).normal(size=shape).astype(dtype)
    expected = kernel.transpose((1, 0) if kernel.ndim == 2 else (2, 3, 1, 0))
    for found in (turned(kernel), turned(kernel.copy(order="F")), turned(_fixed(kernel))):
        np.testing.assert_array_equal(found, expected, strict=True)
        assert found.flags.c_contiguous and not np.shares_memory(found, kernel)
    monkeypatch.delitem(sys.modules, "torch")
    np.testing.assert_array_equal(turned(kernel), expected, strict=True)


def _fixed(array):
    array = array.copy()
    array.flags.writeable = False
    return array


def test_values_whose_squares_overflow_are_finite(tmp_path):
    original = Network([Dense(np.array([[3e38, -3e38]], np.float32))], (1,))
    save_file(to_tensors(original), tmp_path / "network.safetensors")
    assert_same(load(tmp_path / "network.safetensors", original), original)
