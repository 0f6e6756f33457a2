"""Keras files read and written without Keras: configurations of Keras 1 to 3, weight files, damaged
and hostile files.
"""

import io
import json
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
from io_networks import NETWORKS, assert_same, network, quantized

from netreduce.errors import ModelFileError, NetreduceError, UnsupportedLayerError
from netreduce.formats import load, save
from netreduce.formats.keras.config import keras_order
from netreduce.network import Network
from netreduce.network.architectures import build
from netreduce.network.layers import Activation, BatchNormalization, Dense

SHARED = Path(__file__).resolve().parents[3] / "shared"
PUBLISHED = SHARED / "published"


def write_h5(path, model, weights, **attributes):
    """A .h5 file by hand: `weights` holds a list of arrays per layer."""
    with h5py.File(path, "w") as file:
        file.attrs.update(attributes)
        file.attrs["model_config"] = (
            model if isinstance(model, str | bytes | int) else json.dumps(model)
        )
        group = file.create_group("model_weights")
        group.attrs["layer_names"] = [name.encode() for name in weights]
        for name, arrays in weights.items():
            layer = group.create_group(name)
            layer.attrs["weight_names"] = np.array(
                [f"{name}/w{i}:0".encode() for i in range(len(arrays))], dtype="S"
            )
            for i, array in enumerate(arrays):
                layer.create_dataset(f"{name}/w{i}:0", data=array)
    return path


def entry(kind, name, **settings):
    return {"class_name": kind, "config": {"name": name, **settings}}


def sequential(*layers, shape=(4,)):
    layers[0]["config"]["batch_input_shape"] = [None, *shape]
    return {"class_name": "Sequential", "config": {"name": "sequential", "layers": list(layers)}}


def node(*sources):
    return [[[source, 0, 0, {}] for source in sources]] if sources else []


def functional(**layers):
    """A Functional model: name=(entry, names of the layers it reads)."""
    entries = [
        {**described, "name": name, "inbound_nodes": node(*sources)}
        for name, (described, sources) in layers.items()
    ]
    return {
        "class_name": "Functional",
        "config": {
            "name": "model",
            "layers": entries,
            "input_layers": [[entries[0]["name"], 0, 0]],
            "output_layers": [[entries[-1]["name"], 0, 0]],
        },
    }


def inputs(*shape):
    return entry("InputLayer", "in", batch_input_shape=[None, *shape])


def dense(name="d", **settings):
    return entry("Dense", name, units=3, **settings)


W = np.arange(12, dtype=np.float32).reshape(4, 3)
B = np.arange(3, dtype=np.float32)


# ---------------------------------------------------------------- what Keras 1, 2 and 3 wrote


def test_keras_1(tmp_path):
    layers = [
        {
            "class_name": "Convolution2D",
            "config": {
                "name": "convolution2d_1", "batch_input_shape": [None, 6, 6, 2], "nb_filter": 3, "nb_row": 3, "nb_col": 2, "border_mode": "same",
                "subsample": [2, 1], "dim_ordering": "tf", "activation": "relu", "bias": True,
            },
        },
        entry("MaxPooling2D", "maxpooling2d_1", pool_size=[2, 2], strides=[2, 2], border_mode="valid", dim_ordering="tf"),
        entry("Flatten", "flatten_1"),
        entry("Dense", "dense_1", output_dim=3, activation="softmax", bias=False),
        entry("Dropout", "dropout_1", p=0.25),
    ]  # fmt: skip
    weights = {
        "convolution2d_1": [np.ones((3, 2, 2, 3), np.float32), B],
        "dense_1": [np.ones((9, 3), np.float32)],
    }
    found = load(
        write_h5(
            tmp_path / "old.h5",
            {"class_name": "Sequential", "config": layers},
            weights,
            backend="tensorflow",
        )
    )
    assert found.names == ("conv2d_1", "max_pooling2d_1", "flatten_1", "dense_1", "dropout_1")
    assert (found.layers[0].strides, found.layers[0].padding, found.layers[0].activation) == (
        (2, 1),
        "same",
        "relu",
    )
    assert found.layers[3].bias.tolist() == [0, 0, 0]
    assert found.layers[4].rate == 0.25


def test_batch_normalization_without_scale_or_center(tmp_path):
    for settings, arrays, expected in (
        ({"scale": False}, 3, ("ones", "given")),
        ({"center": False}, 3, ("given", "zeros")),
        ({"scale": False, "center": False}, 2, ("ones", "zeros")),
    ):
        model = sequential(
            entry("BatchNormalization", "bn", axis=[1], epsilon=0.01, **settings), shape=(3,)
        )
        layer = load(
            write_h5(tmp_path / "bn.h5", model, {"bn": [B + i for i in range(arrays)]})
        ).layers[0]
        assert layer.epsilon == 0.01
        np.testing.assert_array_equal(layer.gamma, np.ones(3) if expected[0] == "ones" else B)
        np.testing.assert_array_equal(layer.beta, np.zeros(3) if expected[1] == "zeros" else B)
        np.testing.assert_array_equal(layer.mean, B + arrays - 2)


@pytest.mark.parametrize(
    ("described", "expected"),
    [
        (entry("ReLU", "a"), Activation("relu")),
        (entry("ReLU", "a", max_value=6.0), Activation("relu6")),
        (entry("ReLU", "a", negative_slope=0.1), Activation("leaky_relu", 0.1)),
        (
            entry("ReLU", "a", max_value=1, threshold=0.5),
            Activation("relu", max_value=1, threshold=0.5),
        ),
        (entry("ThresholdedReLU", "a", theta=2.0), Activation("relu", threshold=2.0)),
        (entry("ELU", "a", alpha=0.5), Activation("elu", alpha=0.5)),
        (
            entry("LeakyReLU", "a", alpha={"type": "ndarray", "value": 0.25}),
            Activation("leaky_relu", 0.25),
        ),
        (entry("LeakyReLU", "a", alpha=0.3), Activation("leaky_relu", 0.3)),
        (entry("LeakyReLU", "a", negative_slope=0.2), Activation("leaky_relu", 0.2)),
        (entry("LeakyReLU", "a"), Activation("leaky_relu", 0.3)),
        (entry("Softmax", "a", axis=-1), Activation("softmax")),
        (entry("Activation", "a", activation="swish"), Activation("silu")),
        (
            entry(
                "Activation",
                "a",
                activation={
                    "module": "keras.activations",
                    "class_name": "function",
                    "config": "tanh",
                },
            ),
            Activation("tanh"),
        ),
    ],
)
def test_activation_layers(tmp_path, described, expected):
    found = load(write_h5(tmp_path / "network.h5", sequential(described), {})).layers[0]
    assert vars(found) == vars(expected)


def test_functional_models_may_list_their_layers_in_any_order(tmp_path):
    model = functional(
        **{
            "in": (inputs(4), ()),
            "a": (dense("a"), ["in"]),
            "b": (dense("b"), ["in"]),
            "sum": (entry("Add", "sum"), ["b", "a"]),
        }
    )
    model["config"]["layers"].reverse()
    found = load(write_h5(tmp_path / "network.h5", model, {"a": [W, B], "b": [W + 1, B]}))
    assert found.sources == ((-1,), (-1,), (0, 1))
    np.testing.assert_array_equal(found.layers[0].kernel, W + 1)


def test_layer_names_may_hold_slashes(tmp_path):
    found = load(
        write_h5(
            tmp_path / "network.h5", sequential(dense("block1/dense")), {"block1/dense": [W, B]}
        )
    )
    np.testing.assert_array_equal(found.layers[0].kernel, W)


def test_long_lists_of_names_are_split(tmp_path):
    """Keras writes weight_names0, weight_names1, … where one attribute would be too long."""
    path = write_h5(tmp_path / "network.h5", sequential(dense()), {"d": [W, B]})
    with h5py.File(path, "a") as file:
        attributes = file["model_weights/d"].attrs
        del attributes["weight_names"]
        attributes["weight_names0"], attributes["weight_names1"] = [b"d/w0:0"], [b"d/w1:0"]
    np.testing.assert_array_equal(load(path).layers[0].bias, B)


def test_the_order_of_keras():
    # the longest way to the output decides; then who is met first on a walk from the output
    assert keras_order([(-1,), (-1,), (0, 1)]) == [0, 1, 2]
    assert keras_order([(-1,), (-1,), (1, 0)]) == [1, 0, 2]
    assert keras_order([(-1,), (-1,), (1,), (0, 2)]) == [1, 0, 2, 3]
    assert keras_order([(-1,), (0,), (0,), (1, 2, 2)]) == [0, 1, 2, 3]


def test_published_networks_load():
    paths = sorted(PUBLISHED.glob("*.h5"))
    if not paths:
        pytest.skip("needs the published networks of the reference material")
    for path in paths:
        found, ours = load(path), build("vgg-small", (32, 32, 3), 10)
        assert found.shapes == ours.shapes
        assert [type(layer) for layer in found.layers] == [type(layer) for layer in ours.layers]
        assert found.layers[-1].activation == "softmax"


# ---------------------------------------------------------------- weight files


def weight_file(path, network, keras_3=False):
    """What save_weights writes, with names of the file's own."""
    with h5py.File(path, "w") as file:
        if keras_3:
            for i, layer in enumerate(layer for layer in network.layers if layer.arrays()):
                group = file.create_group(f"layers/dense{f'_{i}' if i else ''}/vars")
                for j, array in enumerate(layer.arrays().values()):
                    group.create_dataset(str(j), data=array)
            return path
        names = [
            b"in",
            *(f"block{i}".encode() for i, layer in enumerate(network.layers) if layer.arrays()),
        ]
        file.attrs["layer_names"] = names
        file.create_group("in").attrs["weight_names"] = []
        for name, layer in zip(
            names[1:], (layer for layer in network.layers if layer.arrays()), strict=True
        ):
            group = file.create_group(name.decode())
            group.attrs["weight_names"] = [name + b"_W_1:0", name + b"_b_1:0"]
            for dataset, array in zip(
                group.attrs["weight_names"], layer.arrays().values(), strict=True
            ):
                group.create_dataset(dataset, data=array)
    return path


@pytest.mark.parametrize("keras_3", [False, True])
def test_weight_files_fill_an_architecture(tmp_path, keras_3):
    path = weight_file(tmp_path / "network.weights.h5", network("vector"), keras_3)
    assert_same(network("vector"), load(path, NETWORKS["vector"]()))
    assert_same(
        network("vector"),
        load(path, {"name": "mlp", "hidden": [8], "input_shape": [12], "classes": 3}),
    )


def test_weight_files_that_do_not_fit(tmp_path):
    path = weight_file(tmp_path / "network.h5", network("vector"))
    with pytest.raises(
        ModelFileError,
        match=r"network.h5: the file holds weights but no model_config: an architecture must say",
    ):
        load(path)
    with pytest.raises(
        ModelFileError,
        match=r"network.h5: found weights of 2 layers \(block0, block1\), expected 5",
    ):
        load(path, "lenet5")
    with pytest.raises(
        ModelFileError,
        match=r"network.h5: layer 'dense_1': kernel: found shape \(12, 8\), expected \(12, 9\)",
    ):
        load(path, build({"name": "mlp", "hidden": [9]}, (12,), 3))


# ---------------------------------------------------------------- models that are refused


@pytest.mark.parametrize(
    ("described", "shape", "message"),
    [
        (entry("Lambda", "trick", function=["4wEAAA==", None, None]), (4,), r"layer 'trick' \(Lambda\): layers of this class are not supported"),
        (entry("MyLayer", "mine"), (4,), r"layer 'mine' \(MyLayer\): layers of this class"),
        (dense(activation="hard_shrink"), (4,), r"layer 'd' \(Dense\): activation 'hard_shrink' is not supported"),
        (dense(activation={"class_name": "Mine", "config": {}}), (4,), r"layer 'd' \(Dense\): activation 'Mine \(not a function of Keras\)'"),
        (dense(), (None,), r"layer 'd' \(Dense\): inputs of variable size are not supported, found \[None, None\]"),
        (entry("Conv2D", "c", filters=3, kernel_size=[2, 2], padding="causal"), (4, 4, 2), r"layer 'c' \(Conv2D\): padding='causal' is not"),
        (entry("BatchNormalization", "b", axis=2), (4, 4, 2), r"layer 'b' \(BatchNormalization\): axis=2 is not supported, expected the last"),
        (entry("BatchNormalization", "b", renorm=True), (4,), r"layer 'b' \(BatchNormalization\): renorm=True is not supported"),
        (entry("Softmax", "s", axis=2), (4, 4, 2), r"layer 's' \(Softmax\): axis=2 is not supported"),
    ],
)  # fmt: skip
def test_unsupported_layers_are_named(tmp_path, described, shape, message):
    model = sequential(described, shape=shape)
    with pytest.raises(UnsupportedLayerError, match=message) as caught:
        load(
            write_h5(
                tmp_path / "network.h5",
                model,
                {"c": [np.ones((2, 2, 2, 3), np.float32), B], "d": [W, B]},
            )
        )
    assert "network.h5: " in str(caught.value)


Unsupported, Malformed = UnsupportedLayerError, ModelFileError
GRAPH = {
    "in": (inputs(4), ()),
    "a": (dense("a"), ["in"]),
    "b": (dense("b"), ["in"]),
    "sum": (entry("Add", "sum"), ["a", "b"]),
}


def graph(**changes):
    return functional(**{**GRAPH, **changes})


def in_graph(edit):
    model = graph()
    edit(model["config"])
    return model


def in_sequence(edit):
    model = sequential(dense())
    edit(model["config"])
    return model


@pytest.mark.parametrize(
    ("model", "error", "message"),
    [
        (graph(a=(dense("a"), ["sum"])), Malformed, r"the layers form a cycle: a, sum"),
        (graph(a=(dense("a"), ["a"])), Malformed, r"the layers form a cycle: a, sum"),
        (graph(a=(dense("a"), ["ghost"])), Malformed, r"layer 'a' \(Dense\): reads layer 'ghost', which does not exist"),
        (graph(a=(dense("a"), [])), Malformed, r"layer 'a' \(Dense\): reads no layer"),
        (graph(b=(entry("Dense", "b", units=5), ["in"])), Malformed, r"layer 'sum' \(Add\): Add expects two or more inputs of one shape"),
        (sequential(entry("Add", "sum")), Malformed, r"layer 'sum' \(Add\): Add expects two or more inputs of one shape"),
        (graph(sum=(dense("sum"), ["a", "b"])), Malformed, r"layer 'sum' \(Dense\): reads 2 layers, expected one"),
        (graph(sum=(dense("sum"), ["a"])), Unsupported, r"layers that do not lead to its output 'sum'"),
        (graph(b=(entry("InputLayer", "b", batch_input_shape=[None, 3]), ())), Unsupported, r"models with several inputs"),
        (in_graph(lambda c: c["layers"][1].update(inbound_nodes=2 * node("in"))), Unsupported, r"layer 'a' \(Dense\): the layer is shared: called 2"),
        (in_graph(lambda c: c["layers"][1].update(inbound_nodes=[[["in", 1, 0]]])), Unsupported, r"reads call 1, output 0 of layer 'in'"),
        (in_graph(lambda c: c["layers"][1].update(inbound_nodes=[["in"]])), Malformed, r"layer 'a' \(Dense\): inbound node in is not"),
        (in_graph(lambda c: c["layers"][1].update(inbound_nodes=7)), Malformed, r"inbound_nodes of layer 'a' must be a list, found int"),
        (in_graph(lambda c: c["layers"][1].update(name="b")), Malformed, r"two layers have the same name 'b'"),
        (in_graph(lambda c: c.update(output_layers=[["a", 0, 0], ["sum", 0, 0]])), Unsupported, r"models with 2 outputs are not supported"),
        (in_graph(lambda c: c.update(output_layers=[])), Malformed, r"output_layers of the model name no layer"),
        (in_graph(lambda c: c.update(input_layers=[["a", 0, 0]])), Malformed, r"the input layer 'a' is not among the layers"),
        (in_graph(lambda c: c.pop("layers")), Malformed, r"layers of the model must be a list, found NoneType"),
        (in_sequence(lambda c: c["layers"].clear()), Malformed, r"the model has no layers"),
        (in_sequence(lambda c: c["layers"][0]["config"].pop("name")), Malformed, r"a layer of class Dense has no name"),
        (in_sequence(lambda c: c["layers"][0].pop("config")), Malformed, r"a layer must have a class_name"),
        (in_sequence(lambda c: c["layers"].append(3)), Malformed, r"a layer must have a class_name and a config, found 3"),
        (in_sequence(lambda c: c["layers"][0]["config"].pop("batch_input_shape")), Malformed, r"layer 'd' \(Dense\): the model must state"),
        (in_sequence(lambda c: c["layers"][0]["config"].pop("units")), Malformed, r"layer 'd' \(Dense\): units must be .* found None"),
        (in_sequence(lambda c: c["layers"][0]["config"].update(units=-3)), Malformed, r"units must be .* found -3"),
        (in_sequence(lambda c: c["layers"][0]["config"].update(units=10**30)), Malformed, r"units must be a positive integer"),
        (sequential(entry("Conv2D", "c", filters=3), shape=(4, 4, 2)), Malformed, r"layer 'c' \(Conv2D\): kernel_size must be .* found"),
        (sequential(entry("Conv2D", "c", filters=3, kernel_size=2), shape=(4,)), Malformed, r"layer 'c' \(Conv2D\): expects inputs of shape"),
        (sequential(entry("MaxPooling2D", "m", pool_size=[2, 2, 2]), shape=(4, 4, 2)), Malformed, r"pool_size must be .* found \[2, 2, 2\]"),
        (sequential(entry("MaxPooling2D", "m", pool_size=9), shape=(4, 4, 2)), Malformed, r"layer 'm' \(MaxPooling2D\): a window of 9"),
        (sequential(entry("Dropout", "x", rate="much")), Malformed, r"layer 'x' \(Dropout\): rate must be a finite number, found 'much'"),
        ({"class_name": "MyModel", "config": {}}, Unsupported, r"model of class 'MyModel' is not supported"),
        ({"class_name": "Sequential", "config": 3}, Malformed, r"config of the model must be an object, found int"),
        ({}, Unsupported, r"model of class None is not supported"),
        ("{", Malformed, r"model_config is not valid JSON"),
        ("[" * 100_000, Malformed, r"model_config is not valid JSON"),
        ("[]", Malformed, r"model_config must be a JSON object, found list"),
        (b"\xff\xfe\xfd", Malformed, r"model_config is not valid JSON"),
        (7, Malformed, r"model_config is not valid JSON"),
    ],
)  # fmt: skip
def test_malformed_models_are_refused(tmp_path, model, error, message):
    weights = {name: [W, B] for name in ("a", "b", "d", "sum")}
    weights["b"] = (
        [np.ones((4, 5), np.float32), np.ones(5, np.float32)]
        if 'units": 5' in json.dumps(model, default=str)
        else [W, B]
    )
    with pytest.raises(error, match=message) as caught:
        load(write_h5(tmp_path / "network.h5", model, weights))
    assert str(caught.value).startswith(f"{tmp_path / 'network.h5'}: ")


# ---------------------------------------------------------------- arrays that are refused


def replaced(file, name="w0:0", **settings):
    """Replace a dataset of layer d by another one."""
    group = file["model_weights/d/d"]
    del group[name]
    return group.create_dataset(name, **settings)


def sparse_chunks(file):
    replaced(file, shape=(4, 3), dtype="f4", chunks=(4, 3), compression="gzip")


def missing_chunks(file):
    replaced(file, shape=(4, 3), dtype="f4", chunks=(2, 3), compression="gzip")[:2] = W[:2]


def bomb(file):
    """A chunk that inflates to far more than it should hold."""
    dataset = replaced(file, shape=(4, 3), dtype="f4", chunks=(4, 3), compression="gzip")
    dataset.id.write_direct_chunk((0, 0), zlib.compress(bytes(100_000)))


def swollen(file):
    dataset = replaced(file, shape=(4, 3), dtype="f4", chunks=(4, 3), compression="gzip")
    dataset.id.write_direct_chunk((0, 0), zlib.compress(bytes(48)) + bytes(1000))


def damaged(file):
    dataset = replaced(file, shape=(4, 3), dtype="f4", chunks=(4, 3), compression="gzip")
    dataset.id.write_direct_chunk((0, 0), b"not deflate")


def short(file):
    dataset = replaced(file, shape=(4, 3), dtype="f4", chunks=(4, 3), compression="gzip")
    dataset.id.write_direct_chunk((0, 0), zlib.compress(bytes(8)))


def external(file):
    replaced(file, shape=(4, 3), dtype="f4", external=[("/etc/hostname", 0, 48)])


def soft_link(file):
    file["elsewhere"] = W
    del file["model_weights/d/d/w0:0"]
    file["model_weights/d/d/w0:0"] = h5py.SoftLink("/elsewhere")


def external_link(file):
    del file["model_weights/d/d/w0:0"]
    file["model_weights/d/d/w0:0"] = h5py.ExternalLink("other.h5", "/w")


def virtual(file):
    del file["model_weights/d/d/w0:0"]
    layout = h5py.VirtualLayout((4, 3), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "w", (4, 3))
    file["model_weights/d/d"].create_virtual_dataset("w0:0", layout)


def large_chunks(file):
    replaced(file, shape=(4, 3), maxshape=(None, None), dtype="f4", chunks=(4000, 3000), data=W)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda f: replaced(f, data=W.T), r"layer 'd': kernel: found shape \(3, 4\), expected \(4, 3\)"),
        (lambda f: replaced(f, data=W.astype(np.int32)), r"layer 'd': kernel: expected floating-point numbers, found int32"),
        (lambda f: replaced(f, data=[[b"x"]]), r"layer 'd': kernel: expected floating-point numbers, found"),
        (lambda f: replaced(f, data=h5py.Empty("f4")), r"layer 'd': kernel: expected floating-point numbers"),
        (lambda f: replaced(f, data=W * np.nan), r"layer 'd': kernel: found 12 values that are NaN or infinite"),
        (lambda f: replaced(f, "w1:0", data=B / 0), r"layer 'd': bias: found 3 values that are NaN or infinite"),
        (lambda f: replaced(f, shape=(4, 3), dtype="f4"), r"layer 'd': kernel: claims 48 bytes of shape \(4, 3\), the file stores 0"),
        (sparse_chunks, r"layer 'd': kernel: claims 48 bytes of shape \(4, 3\), the file stores 0"),
        (bomb, r"layer 'd': kernel: a compressed chunk is damaged, expected 48 bytes in it"),
        (swollen, r"layer 'd': kernel: claims 1,0\d\d bytes for a compressed chunk of 48"),
        (damaged, r"layer 'd': kernel: a compressed chunk is damaged"),
        (short, r"layer 'd': kernel: a compressed chunk is damaged"),
        (external, r"layer 'd': kernel: stored in a way that is not read"),
        (virtual, r"layer 'd': kernel: stored in a way that is not read"),
        (lambda f: replaced(f, data=W, chunks=(2, 3), compression="lzf"), r"layer 'd': kernel: stored in a way that is not read \(HDF5 filters"),
        (lambda f: replaced(f, data=W, chunks=(2, 3), scaleoffset=2), r"layer 'd': kernel: stored in a way that is not read"),
        (missing_chunks, r"layer 'd': kernel: the file stores 1 of its 2 chunks"),
        (large_chunks, r"layer 'd': kernel: chunks of shape \(4000, 3000\) are larger than the data, \(4, 3\)"),
        (soft_link, r"dataset 'model_weights/d/d/w0:0' is a link, which is not followed"),
        (external_link, r"dataset 'model_weights/d/d/w0:0' is a link, which is not followed"),
        (lambda f: f["model_weights/d"].attrs.pop("weight_names"), r"group 'model_weights/d' has no attribute 'weight_names'"),
        (lambda f: f["model_weights/d"].attrs.update(weight_names=[b"d/w0:0"]), r"layer 'd': found 1 arrays \(d/w0:0\), expected 2 \(kernel, bias\)"),
        (lambda f: f["model_weights/d"].attrs.update(weight_names=[1, 2]), r"attribute 'weight_names' of group 'model_weights/d' must hold names"),
        (lambda f: f["model_weights/d"].attrs.update(weight_names=[b"d/w0:0", b"d/nothing"]), r"dataset 'model_weights/d/d/nothing' is missing"),
        (lambda f: f["model_weights/d"].attrs.update(weight_names=[b"d/w0:0", b"d"]), r"'model_weights/d/d' must be a dataset, which it is not"),
        (lambda f: f["model_weights"].pop("d"), r"group 'model_weights/d' is missing"),
        (lambda f: f.pop("model_weights"), r"group 'model_weights/d' is missing"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_arrays_that_cannot_be_trusted_are_refused(tmp_path, edit, message):
    path = write_h5(tmp_path / "network.h5", sequential(dense()), {"d": [W, B]})
    with h5py.File(path, "a") as file:
        edit(file)
    with pytest.raises(ModelFileError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_chunk_that_deflating_did_not_shrink(tmp_path):
    path = write_h5(tmp_path / "network.h5", sequential(dense()), {"d": [W, B]})
    with h5py.File(path, "a") as file:
        dataset = replaced(file, shape=W.shape, dtype="f4", chunks=W.shape, compression="gzip")
        dataset.id.write_direct_chunk((0, 0), W.tobytes(), filter_mask=1)
    np.testing.assert_array_equal(load(path).layers[0].kernel, W)


def test_strings_that_are_not_there(tmp_path):
    """HDF5's own library would look for them for ever."""
    path = write_h5(tmp_path / "network.h5", sequential(dense()), {"d": [W, B]})
    content = bytearray(path.read_bytes())
    heap = content.find(b"GCOL")
    content[heap + 16 : heap + 32] = bytes(16)
    path.write_bytes(content)
    with pytest.raises(
        ModelFileError, match=r"network.h5: attribute 'model_config': damaged, or of a kind of HDF5"
    ):
        load(path)


def test_an_attribute_that_ended_the_process(tmp_path):
    path = SHARED / "cases/damaged_attribute.h5"
    if not path.exists():
        pytest.skip("needs the damaged files of the reference material")
    with pytest.raises(ModelFileError, match=r"damaged_attribute.h5: .*damaged"):
        load(path)


def test_ten_gigabytes_that_are_not_there(tmp_path):
    model = sequential(entry("Dense", "d", units=50_000), shape=(50_000,))
    for settings in ({}, {"chunks": (1000, 1000), "compression": "gzip"}):
        path = write_h5(tmp_path / "network.h5", model, {"d": [W, B]})
        with h5py.File(path, "a") as file:
            dataset = replaced(file, shape=(50_000, 50_000), dtype="f4", **settings)
            if settings:
                dataset[:1000, :1000] = 1
        with pytest.raises(
            ModelFileError,
            match=(
                r"layer 'd': kernel: claims 10,000,000,000 bytes of shape \(50000, 50000\), the"
                r" file stores"
            ),
        ):
            load(path)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            lambda f: f["quantization"].move("dense_1", "dense_9"),
            r"quantization of layer 'dense_9', which does not exist or has no kernel",
        ),
        (
            lambda f: f["quantization"].move("dense_1", "flatten_1"),
            r"quantization of layer 'flatten_1', which does not exist or has no kernel",
        ),
        (
            lambda f: f["quantization/dense_1"].attrs.update(bits=99.0),
            r"layer 'dense_1': quantization with 99.0 bits",
        ),
        (
            lambda f: f["quantization/dense_1"].attrs.pop("bits"),
            r"attribute 'bits' of 'quantization/dense_1' must be a number, found None",
        ),
        (
            lambda f: f["quantization/dense_1/scale"].write_direct(np.array(0.3)),
            r"layer 'dense_1': the weights do not lie on the grid",
        ),
        (
            lambda f: f["quantization/dense_1/scale"].write_direct(np.array(-1.0)),
            r"quantization scale must be finite and positive",
        ),
        (
            lambda f: f["quantization/dense_1"].move("scale", "other"),
            r"dataset 'quantization/dense_1/scale' is missing",
        ),
    ],
)
def test_quantization_that_does_not_fit(tmp_path, edit, message):
    layers = [quantized(network("vector")).layers[0]]
    save(Network(layers, (12,)), tmp_path / "network.h5")
    with h5py.File(tmp_path / "network.h5", "a") as file:
        edit(file)
    with pytest.raises(ModelFileError, match=message):
        load(tmp_path / "network.h5")


def test_any_damaged_byte_is_refused_or_harmless(tmp_path):
    """Flip bytes all over a file: loading gives a network or one of our errors, never another
    exception.
    """
    path = tmp_path / "network.h5"
    save(Network([Dense(W), BatchNormalization(B + 1, B, B, B + 1)], (4,)), path)
    content = path.read_bytes()
    random = np.random.default_rng(0)
    for _ in range(60):
        changed = bytearray(content)
        for position in random.integers(0, len(content), 4):
            changed[position] = random.integers(256)
        path.write_bytes(changed)
        try:
            load(path)
        except NetreduceError as error:
            assert str(error).startswith(f"{path}: ")


# ---------------------------------------------------------------- archives


def archive(path, compression=zipfile.ZIP_STORED, **changes):
    """A .keras file with some members exchanged, or left out."""
    save(network("vector"), path)
    with zipfile.ZipFile(path) as original:
        members = {name: original.read(name) for name in original.namelist()}
    members |= {
        {"config": "config.json", "weights": "model.weights.h5"}.get(name, name): content
        for name, content in changes.items()
    }
    with zipfile.ZipFile(path, "w", compression) as changed:
        for name, content in members.items():
            if content is not None:
                changed.writestr(name, content)
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"../escape.txt": b"x"}, r"the archive has a member outside of itself, '../escape.txt'"),
        ({"/etc/passwd": b"x"}, r"the archive has a member outside of itself, '/etc/passwd'"),
        ({"a\\..\\..\\b": b"x"}, r"the archive has a member outside of itself"),
        ({"C:/x": b"x"}, r"the archive has a member outside of itself"),
        (
            {"config": None},
            r"the archive must hold config.json once, found metadata.json, model.weights.h5",
        ),
        (
            {"weights": None},
            r"the archive must hold model.weights.h5 once, found metadata.json, config.json",
        ),
        ({"config": b"{"}, r"config.json is not valid JSON"),
        (
            {"config": b'{"class_name": "Sequential", "config": null}'},
            r"config of the model must be an",
        ),
        ({"weights": b"rubbish"}, r"not an HDF5 file: its signature is missing"),
    ],
)
def test_malformed_archives_are_refused(tmp_path, changes, message):
    with pytest.raises(ModelFileError, match=message) as caught:
        load(archive(tmp_path / "network.keras", **changes))
    assert str(caught.value).startswith(f"{tmp_path / 'network.keras'}: ")


def test_compressed_archives_are_read(tmp_path):
    assert_same(network("vector"), load(archive(tmp_path / "network.keras", zipfile.ZIP_DEFLATED)))


def test_oversized_members_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("netreduce.formats.keras.archive.FREE_BYTES", 0)
    with pytest.raises(ModelFileError, match=r"config.json claims 3,000,000 bytes in a file of"):
        load(archive(tmp_path / "network.keras", zipfile.ZIP_DEFLATED, config=b" " * 3_000_000))


def test_wrong_weights_in_an_archive(tmp_path):
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["layers/dense/vars/0"] = np.ones((12, 8), np.float32)
    with pytest.raises(
        ModelFileError, match=r"layer 'dense_1': found 1 arrays \(0\), expected 2 \(kernel, bias\)"
    ):
        load(archive(tmp_path / "network.keras", weights=content.getvalue()))
