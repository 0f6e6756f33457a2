"""State_dicts (.pth) and text (.txt): PyTorch's names, orientation and order; foreign writers;
files that do not fit.
"""

import os
import time
import zipfile
from collections import OrderedDict

import every_layer
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from io_networks import NETWORKS, assert_same, network, samples
from torch import nn

from netreduce.errors import ModelFileError, UnsupportedLayerError
from netreduce.formats import load, save
from netreduce.formats.pytorch.module import to_torch, with_parameters_of
from netreduce.formats.pytorch.state_dict import read_state_dict
from netreduce.formats.tensors import to_tensors
from netreduce.formats.text import read_tensors, write_tensors
from netreduce.network import Network
from netreduce.network.architectures import build
from netreduce.network.layers import (
    Activation,
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    Flatten,
    MaxPooling2D,
)

MLP = {"name": "mlp", "hidden": [4, 3]}


def torch_outputs(module, x):
    x = torch.from_numpy(x)
    with torch.inference_mode():
        return module.eval()(x.permute(0, 3, 1, 2) if x.ndim == 4 else x).numpy()


def mlp():
    return build(MLP, (2,), 2, seed=0)


# ---------------------------------------------------------------- PyTorch


@pytest.mark.parametrize("name", NETWORKS)
def test_the_module_computes_the_same(name):
    original = network(name)
    x = samples(original)
    np.testing.assert_allclose(
        torch_outputs(to_torch(original), x), original.predict(x), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", every_layer.NETWORKS)
def test_every_layer_in_pytorch(name):
    original = every_layer.NETWORKS[name]
    x = every_layer.samples(original)
    module = to_torch(original)
    found = torch_outputs(module, x)
    expected = original.predict(x)
    found = found if found.ndim < 4 else found.transpose(0, 2, 3, 1)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert_same(original, with_parameters_of(module, original))


@pytest.mark.parametrize("name", NETWORKS)
def test_modules_go_back(name):
    assert_same(network(name), with_parameters_of(to_torch(network(name)), NETWORKS[name]()))


def test_the_state_dict_has_the_names_of_the_layers():
    names = set(to_torch(network("vgg-small")).state_dict())
    assert {
        "conv2d_1.weight",
        "conv2d_6.bias",
        "batch_normalization_1.running_mean",
        "batch_normalization_7.running_var",
        "dense_2.bias",
    } <= names


def test_saved_files_are_state_dicts(tmp_path):
    original = network("vgg-small")
    save(original, tmp_path / "network.pth")
    module = to_torch(NETWORKS["vgg-small"]())
    module.load_state_dict(torch.load(tmp_path / "network.pth", weights_only=True))
    x = samples(original)
    np.testing.assert_allclose(torch_outputs(module, x), original.predict(x), rtol=1e-4, atol=1e-4)


def user_network():
    """A LeNet-5 with batch normalization as a user of PyTorch would write it, with names of their
    own.
    """
    return nn.Sequential(
        OrderedDict(
            features=nn.Sequential(
                nn.Conv2d(3, 6, 3, padding=1, bias=False),
                nn.BatchNorm2d(6),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ),
            flatten=nn.Flatten(),
            fc1=nn.Linear(6 * 2 * 3, 7),
            act=nn.ReLU(),
            fc2=nn.Linear(7, 2),
        )
    )


def user_template():
    one = np.ones(6, np.float32)
    layers = [
        Conv2D(np.zeros((3, 3, 3, 6)), padding="same"),
        BatchNormalization(one, one, one, one, 1e-5),
        Activation("relu"),
        MaxPooling2D(2),
        Flatten(),
        Dense(np.zeros((36, 7)), activation="relu"),
        Dense(np.zeros((7, 2))),
    ]
    return Network(layers, (4, 6, 3))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model_state_dict": state},
    ],
)
def test_a_users_own_network_is_matched_in_order(tmp_path, wrap):
    torch.manual_seed(0)
    module = user_network()
    module.train()(torch.randn(20, 3, 4, 6))  # statistics, and a counter of batches
    torch.save(wrap(module.state_dict()), tmp_path / "mine.pth")
    loaded = load(tmp_path / "mine.pth", user_template())
    x = samples(loaded, 5)
    np.testing.assert_allclose(loaded.predict(x), torch_outputs(module, x), rtol=1e-5, atol=1e-5)


def test_text_and_state_dict_of_a_user_agree(tmp_path):
    torch.manual_seed(0)
    torch.save(user_network().state_dict(), tmp_path / "mine.pth")
    write_tensors(read_state_dict(tmp_path / "mine.pth"), tmp_path / "mine.txt")
    assert_same(
        load(tmp_path / "mine.pth", user_template()), load(tmp_path / "mine.txt", user_template())
    )


def test_half_precision_is_widened(tmp_path):
    torch.save(to_torch(mlp()).half().state_dict(), tmp_path / "half.pth")
    assert load(tmp_path / "half.pth", mlp()).layers[0].kernel.dtype == np.float32


@pytest.mark.parametrize("suffix", [".pth", ".txt"])
def test_sizes_are_found_in_the_tensors(tmp_path, suffix):
    save(mlp(), tmp_path / f"network{suffix}")
    loaded = load(tmp_path / f"network{suffix}", MLP)
    assert_same(mlp(), loaded)
    image = load(tmp_path / f"network{suffix}", {**MLP, "input_shape": [2, 1, 1], "classes": 2})
    assert image.input_shape == (2, 1, 1)


def test_orders_that_pytorch_cannot_add_are_refused():
    kernel = np.ones((12, 12), np.float32)
    mixed = Network([Flatten(), Dense(kernel), Add()], (2, 2, 3), [(-1,), (0,), (0, 1)])
    with pytest.raises(
        UnsupportedLayerError, match="add_1 combines features that PyTorch has in different orders"
    ):
        to_torch(mixed)


class Exploit:
    def __reduce__(self):
        return (os.system, ("touch exploited",))


def test_files_with_code_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"dense_1.weight": Exploit()}, tmp_path / "code.pth")
    with pytest.raises(
        ModelFileError,
        match=r"code.pth: refused: it carries an object of class \S+system beside the",
    ):
        load(tmp_path / "code.pth", MLP)
    torch.save(to_torch(mlp()), tmp_path / "code.pth")
    with pytest.raises(
        ModelFileError,
        match=r"code.pth: refused: a whole pickled object of class netreduce\S+TorchNetwork",
    ):
        load(tmp_path / "code.pth", MLP)
    assert not (tmp_path / "exploited").exists()


@pytest.mark.parametrize("pickled", [b"\x80\x02X\x01", b"\x80\x02K\x01Q.", b"", b"\x80\x02N."])
def test_damaged_pickles_are_refused(tmp_path, pickled):
    save(mlp(), tmp_path / "network.pth")
    with (
        zipfile.ZipFile(tmp_path / "network.pth") as original,
        zipfile.ZipFile(tmp_path / "damaged.pth", "w") as damaged,
    ):
        for name in original.namelist():
            damaged.writestr(name, pickled if name.endswith("/data.pkl") else original.read(name))
    with pytest.raises(ModelFileError, match=r"damaged.pth: "):
        load(tmp_path / "damaged.pth", MLP)


def test_compressed_archives_are_refused(tmp_path):
    save(mlp(), tmp_path / "network.pth")
    with (
        zipfile.ZipFile(tmp_path / "network.pth") as original,
        zipfile.ZipFile(tmp_path / "bomb.pth", "w", zipfile.ZIP_DEFLATED) as bomb,
    ):
        for name in original.namelist():
            bomb.writestr(name, original.read(name))
    with pytest.raises(ModelFileError, match=r"bomb.pth: the archive is compressed"):
        load(tmp_path / "bomb.pth", MLP)


def state(**changes):
    tensors = {name: torch.from_numpy(array) for name, array in to_tensors(mlp()).items()}
    tensors.update({name.replace("__", "."): tensor for name, tensor in changes.items()})
    return {name: tensor for name, tensor in tensors.items() if tensor is not None}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            lambda: state(dense_2__weight=torch.zeros(4, 3)),
            r"tensor 'dense_2.weight': found shape \(4, 3\), expected \(3, 4\)",
        ),
        (
            lambda: state(dense_2__weight=torch.zeros(12)),
            r"tensor 'dense_2.weight': found shape \(12,\), expected \(3, 4\)",
        ),
        (
            lambda: state(dense_2__bias=None),
            r"the tensors do not fit the architecture: missing dense_2.bias$",
        ),
        (
            lambda: state(extra__weight=torch.zeros(1)),
            r"the tensors do not fit the architecture: not expected extra.weight$",
        ),
        (
            lambda: state(dense_2__bias=None, dense_2__gain=torch.zeros(3)),
            r"missing dense_2.bias; not expected dense_2.gain",
        ),
        (
            lambda: {"w": torch.zeros(1)},
            (
                r"found 1 tensors \(w\) that do not match the 6 expected \(dense_1.weight,"
                r" dense_1.bias, "
            ),
        ),
        (
            lambda: state(dense_1__bias=torch.full((4,), torch.nan)),
            r"tensor 'dense_1.bias': found 4 values that are NaN or infinite",
        ),
        (
            lambda: state(dense_1__bias=torch.zeros(4, dtype=torch.int64)),
            r"tensor 'dense_1.bias': expected dense floating-point numbers, found torch.int64",
        ),
        (
            lambda: state(dense_1__weight=torch.zeros(1).expand(4, 2)),
            r"tensor 'dense_1.weight': claims shape \(4, 2\), the file holds fewer",
        ),
        (
            lambda: state(dense_1__weight=torch.zeros(4, 2).to_sparse()),
            r"tensor 'dense_1.weight': expected dense floating-point numbers",
        ),
        (lambda: {"dense_1.weight": [1.0]}, r"'dense_1.weight' is a list, expected a tensor"),
        (lambda: torch.zeros(3), r"expected a state_dict, found Tensor"),
        (dict, r"expected a state_dict, found dict"),
    ],
)
def test_state_dicts_that_do_not_fit(tmp_path, content, message):
    torch.save(content(), tmp_path / "network.pth")
    with pytest.raises(ModelFileError, match=message) as caught:
        load(tmp_path / "network.pth", mlp())
    assert "network.pth: " in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        "base_model.model.fc1.lora_A.weight",
        "lora_unet_down_blocks_0_attn_to_k.lora_down.weight",
        "lora_te_text_model_mlp_fc1.hada_w1_a",
        "encoder.layer.0.adapters.x.adapter_down.0.weight",
    ],
)
@pytest.mark.parametrize("architecture", [None, "mlp"])
def test_adapters_are_called_by_their_name(tmp_path, name, architecture):
    torch.save({"fc.weight": torch.zeros(4, 2), name: torch.zeros(4, 2)}, tmp_path / "a.bin")
    with pytest.raises(ModelFileError, match=rf"an adapter \(LoRA or its like\): tensor '{name}'"):
        load(tmp_path / "a.bin", architecture)


@pytest.mark.parametrize(("height", "width", "channels"), [(1, 1, 5), (3, 2, 4), (2, 5, 1)])
def test_wide_layers_are_transposed_whole(tmp_path, height, width, channels):
    torch.manual_seed(0)
    features = height * width * channels
    module = nn.Sequential(nn.Flatten(), nn.Linear(features, 1027), nn.Linear(1027, 13))
    torch.save(module.state_dict(), tmp_path / "wide.pth")
    loaded = load(
        tmp_path / "wide.pth",
        {
            "layers": ["flatten", {"dense": 1027}, {"dense": 13}],
            "input_shape": [height, width, channels],
        },
    )
    x = samples(loaded, 3)
    assert all(layer.kernel.flags.c_contiguous for layer in loaded.layers[1:])
    np.testing.assert_allclose(loaded.predict(x), torch_outputs(module, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("suffix", [".pth", ".txt"])
def test_tensors_need_an_architecture(tmp_path, suffix):
    save(mlp(), tmp_path / f"network{suffix}")
    with pytest.raises(
        ModelFileError,
        match=f"network{suffix}: .* holds tensors only: an architecture must say what they are",
    ):
        load(tmp_path / f"network{suffix}")


# ---------------------------------------------------------------- text


def test_the_format(tmp_path):
    save(
        Network(
            [
                Dense(
                    np.array([[1, -0.5], [0.1, 3e-9]], np.float32), np.array([0, 1e10], np.float32)
                )
            ],
            (2,),
        ),
        tmp_path / "network.txt",
    )
    assert (
        (tmp_path / "network.txt").read_bytes()
        == b"Layer: dense_1.weight\n1.0, 0.1, -0.5, 3e-09\n\nLayer: dense_1.bias\n0.0, 1e+10\n\n"
    )


@settings(deadline=None, max_examples=100)
@given(arrays(np.uint32, st.integers(1, 50), elements=st.integers(0, 2**32 - 1)))
def test_every_float32_reads_back_bit_for_bit(tmp_path_factory, bits):
    values = bits.view(np.float32)
    values = values[np.isfinite(values)]
    path = tmp_path_factory.getbasetemp() / "values.txt"
    write_tensors({"values": values}, path)
    assert read_tensors(path)["values"].tobytes() == values.tobytes()


def test_long_tensors_are_read_and_written_in_pieces(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2**32, 200_000, np.uint32).view(np.float32)
    values = bits[np.isfinite(bits)]
    write_tensors({"first": values, "second": values[:5]}, tmp_path / "long.txt")
    assert (tmp_path / "long.txt").read_text().count("\n") == 6
    again = read_tensors(tmp_path / "long.txt")
    assert again["first"].tobytes() == values.tobytes()
    assert again["second"].tobytes() == values[:5].tobytes()


def test_text_is_quick(tmp_path):
    network = build("mlp", (784,), 10, seed=0)
    start = time.process_time()
    save(network, tmp_path / "network.txt")
    load(tmp_path / "network.txt", {"name": "mlp"})
    assert time.process_time() - start < 5


FOREIGN = {
    "spaces": "Layer: a.weight\n1 2 3 4\n\nLayer: a.bias\n5 6\n",
    "no spaces": "Layer:a.weight\n1,2,3,4\nLayer:a.bias\n5,6",
    "scientific": "Layer: a.weight\n1e0, 2.0E+00, .3e1, 400e-2\n\nLayer: a.bias\n+5., 6\n\n",
    "wrapped": "Layer: a.weight\n1, 2,\n3,\n  4\n\nLayer: a.bias\n5\n6\n\n",
    "windows": "\ufeffLayer: a.weight\r\n1, 2, 3, 4\r\n\r\nLayer: a.bias\r\n5, 6\r\n\r\n",
    "blank lines": "\n\nLayer: a.weight\n\n1, 2, 3, 4,\n\n\n\n  Layer :  a.bias  \n\n5, 6\n \n\n\n",
    "long lines": (
        "Layer: a.weight\n"
        + " " * 3_000_000
        + "1, 2, "
        + " " * 1_500_000
        + "3, 4\n\nLayer: a.bias\n5, 6\n"
    ),
}


@pytest.mark.parametrize("text", FOREIGN.values(), ids=FOREIGN)
def test_other_writers_are_understood(tmp_path, text):
    (tmp_path / "network.txt").write_bytes(text.encode())
    loaded = load(tmp_path / "network.txt", Network([Dense(np.zeros((2, 2)))], (2,)))
    np.testing.assert_array_equal(loaded.layers[0].kernel, [[1, 3], [2, 4]])
    np.testing.assert_array_equal(loaded.layers[0].bias, [5, 6])


GOOD = "Layer: dense_1.weight\n1, 2, 3, 4\n\nLayer: dense_1.bias\n5, 6\n\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("3", "three", r"line 2, tensor 'dense_1.weight': 'three' is not a finite float32 number"),
        ("3", "nan", r"line 2, tensor 'dense_1.weight': 'nan' is not"),
        ("6", "-inf", r"line 5, tensor 'dense_1.bias': '-inf' is not"),
        ("6", "1e39", r"line 5, tensor 'dense_1.bias': '1e39' is not"),
        ("6", "1_000", r"line 5, tensor 'dense_1.bias': '1_000' is not"),
        ("6", "0x10", r"line 5, tensor 'dense_1.bias': '0x10' is not"),
        ("6", "6.0.1", r"line 5, tensor 'dense_1.bias': '6.0.1' is not"),
        (
            ", 4",
            "",
            r"tensor 'dense_1.weight' \(line 1\): found 3 values, expected 4 \(shape \(2, 2\)\)",
        ),
        (", 6", ", 6, 7", r"tensor 'dense_1.bias' \(line 4\): found 3 values, expected 2"),
        ("5, 6", "", r"tensor 'dense_1.bias' \(line 4\): found 0 values, expected 2"),
        ("Layer: dense_1.bias\n5, 6\n", "", r"missing dense_1.bias"),
        ("dense_1.bias", "dense_1.bais", r"missing dense_1.bias; not expected dense_1.bais"),
        ("dense_1.bias", "dense_1.weight", r"line 4: tensor 'dense_1.weight' appears twice"),
        ("dense_1.bias", "", r"line 4: a nameless tensor"),
        ("Layer: dense_1.weight\n", "", r"line 1: expected 'Layer: <name>', found '1, 2, 3, 4'"),
        (GOOD, "", r"no tensors found, expected lines 'Layer: <name>'"),
        (GOOD, "\n\n", r"no tensors found"),
    ],
)
def test_text_that_does_not_fit(tmp_path, old, new, message):
    assert old in GOOD
    (tmp_path / "network.txt").write_text(GOOD.replace(old, new, 1))
    with pytest.raises(ModelFileError, match=message) as caught:
        load(tmp_path / "network.txt", Network([Dense(np.zeros((2, 2)))], (2,)))
    assert "network.txt: " in str(caught.value)
