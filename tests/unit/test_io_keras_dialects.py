"""What Keras files leave out, or say in words of their own: read as it was meant, or refused."""

import io
import json
import struct
import time
import zipfile

import h5py
import numpy as np
import pytest
from test_io_h5 import B, W, dense, entry, functional, inputs, sequential, write_h5

import netreduce as nr
from netreduce.errors import ModelFileError, UnsupportedLayerError
from netreduce.formats import load
from netreduce.network.layers import Activation, BatchNormalization, Conv2D, Dense


def write_keras(path, model, version="3.0.0", **weights):
    """A .keras file by hand: `weights` holds a list of arrays per group."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, arrays in weights.items():
            for i, array in enumerate(arrays):
                file[f"layers/{name}/vars/{i}"] = array
    with zipfile.ZipFile(path, "w") as archive:
        if version:
            archive.writestr("metadata.json", json.dumps({"keras_version": version}))
        archive.writestr("config.json", json.dumps(model))
        archive.writestr("model.weights.h5", content.getvalue())
    return path


# ---------------------------------------------------------------- classes and functions of users


@pytest.mark.parametrize(
    "raw",
    [
        {"class_name": "mylab>Dense"},
        {"module": None, "registered_name": "mylab>Dense"},
        {"module": "mylab.layers"},
        {"module": "__main__", "registered_name": "Dense"},
        {"module": "keras_extras.layers", "registered_name": None},
        {"module": "keras.layers", "registered_name": "Custom>Dense"},
    ],
)
@pytest.mark.parametrize("kind", ["h5", "keras"])
def test_a_class_of_the_users_is_not_taken_for_that_of_keras(tmp_path, raw, kind):
    model = sequential({**dense(), **raw})
    path = tmp_path / f"network.{kind}"
    if kind == "h5":
        write_h5(path, model, {"d": [W, B]})
    else:
        write_keras(path, model, dense=[W, B])
    with pytest.raises(
        UnsupportedLayerError, match=r"layer 'd' .*(user's own|layers of this class are not)"
    ):
        load(path)


@pytest.mark.parametrize("module", [None, "keras.layers", "tf_keras.src.layers.core.dense"])
def test_a_class_of_keras(tmp_path, module):
    model = sequential({**dense(), "module": module, "registered_name": None})
    found = load(write_keras(tmp_path / "network.keras", model, dense=[W, B]))
    np.testing.assert_array_equal(found.layers[0].kernel, W)


def test_a_model_of_the_users_own_class(tmp_path):
    model = {**sequential(dense()), "module": "mylab", "registered_name": "mylab>Sequential"}
    with pytest.raises(UnsupportedLayerError, match=r"a class of the user's own \(module 'mylab'"):
        load(write_keras(tmp_path / "network.keras", model, dense=[W, B]))


def function(name, module, **more):
    return {"module": module, "class_name": "function", "config": name, **more}


@pytest.mark.parametrize(
    ("activation", "version", "message"),
    [
        (function("swish", "builtins", registered_name="function"), "2.15.0", r"'swish' is a function of the user's own"),
        (function("swish", "__main__", registered_name="swish"), "3.0.0", r"'swish' is a function of the user's own"),
        (function("mylab>swish", "mylab", registered_name="mylab>swish"), "3.0.0", r"'mylab>swish' is a function of"),
        (function("relu", "keras.ops", registered_name="relu"), "3.0.0", r"'relu' is a function of the user's own"),
        ("mylab>swish", "2.4.0", r"activation 'mylab>swish' is not supported"),
        ("swish", "2.2.4-tf", r"'swish' is a function of the user's own: Keras has one of that name since version 2.3"),
        ("relu6", "2.1.6", r"'relu6' is a function of the user's own"),
        ("leaky_relu", "2.8.0", r"'leaky_relu' is a function of the user's own"),
        ("gelu", "2.3.0", r"'gelu' is a function of the user's own"),
        ("gelu_tanh", "3.0.0", r"'gelu_tanh' is not supported"),
        ("hard_sigmoid_keras2", "2.1.0", r"'hard_sigmoid_keras2' is not supported"),
        ({"class_name": "LeakyReLU", "module": "mylab", "config": {}}, "3.0.0", r"a class of the user's own"),
        ({"class_name": "LeakyReLU", "config": None}, "3.0.0", r"activation without settings"),
        ({"class_name": "PReLU", "config": {}}, "3.0.0", r"'PReLU \(not a function of Keras\)'"),
        ("hard_sigmoid", "", r"'hard_sigmoid' is 0.2 x \+ 0.5 in Keras 1 and 2, and x / 6 \+ 0.5 in Keras 3"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["Dense", "Activation"])
def test_a_function_of_the_users_is_not_taken_for_that_of_keras(
    tmp_path, kind, activation, version, message
):
    layer = entry(kind, "d", units=3, activation=activation)
    path = write_h5(
        tmp_path / "network.h5",
        sequential(layer),
        {"d": [W, B]},
        **({"keras_version": version} if version else {}),
    )
    with pytest.raises((UnsupportedLayerError, ModelFileError), match=message):
        load(path)


@pytest.mark.parametrize(
    ("activation", "version", "expected"),
    [
        ("swish", "2.3.0-tf", Activation("silu")),
        ("hard_sigmoid", "2.15.0", Activation("hard_sigmoid_keras2")),
        ("hard_sigmoid", "1.2.2", Activation("hard_sigmoid_keras2")),
        ("hard_sigmoid", "3.1.0", Activation("hard_sigmoid")),
        ("hard_silu", "3.1.0", Activation("hard_swish")),
        (function("silu", "keras.src.activations.activations"), "3.1.0", Activation("silu")),
        (
            {"class_name": "LeakyReLU", "module": "keras.layers", "config": {"alpha": 0.1}},
            "2.15.0",
            Activation("leaky_relu", 0.1),
        ),
    ],
)
def test_a_function_of_keras(tmp_path, activation, version, expected):
    model = sequential(entry("Activation", "a", activation=activation))
    path = write_h5(tmp_path / "network.h5", model, {}, keras_version=version)
    assert vars(load(path).layers[0]) == vars(expected)


# ---------------------------------------------------------------- kernels turned round


def convolved(x, kernel, bias, padding, strides):
    """What Theano computes, channels last: a convolution, padded by half a kernel."""
    kernel = kernel[::-1, ::-1]
    rows, columns = kernel.shape[:2]
    height, width = x.shape[1:3]
    if padding == "same":
        halves = (rows // 2,) * 2, (columns // 2,) * 2
        x = np.pad(x, [(0, 0), *halves, (0, 0)])
    windows = np.lib.stride_tricks.sliding_window_view(x, (rows, columns), axis=(1, 2))
    out = np.einsum("nhwcij,ijco->nhwo", windows, kernel)[:, :: strides[0], :: strides[1]] + bias
    if padding == "same":
        out = out[:, : -(-height // strides[0]), : -(-width // strides[1])]
    return out


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (1, 3)])
@pytest.mark.parametrize("size", [(3, 3), (2, 4), (1, 5)])
@pytest.mark.parametrize("form", ["keras 1", "keras 1, th", "keras 2", "keras 2, first"])
def test_theano(tmp_path, padding, strides, size, form):
    random = np.random.default_rng(0)
    x = random.normal(size=(2, 8, 7, 2)).astype("f4")
    kernel, bias = random.normal(size=(*size, 2, 3)).astype("f4"), B
    stored, first = kernel, "th" in form or "first" in form
    if form.startswith("keras 1"):
        layer = entry(
            "Convolution2D", "c", nb_filter=3, nb_row=size[0], nb_col=size[1],
            border_mode=padding, subsample=list(strides), dim_ordering="th" if first else "tf",
        )  # fmt: skip
        stored = kernel.transpose(3, 2, 0, 1) if first else kernel
    else:
        layer = entry(
            "Conv2D", "c", filters=3, kernel_size=list(size), padding=padding,
            strides=list(strides), data_format="channels_first" if first else "channels_last",
        )  # fmt: skip
    model = sequential(layer, shape=(2, 8, 7) if first else (8, 7, 2))
    for backend in ("theano", "tensorflow"):
        path = write_h5(
            tmp_path / "network.h5",
            model,
            {"c": [stored, bias]},
            backend=backend,
            keras_version=form[6] + ".1.0",
        )
        found = load(path).predict(x.transpose(0, 3, 1, 2) if first else x)
        found = found.transpose(0, 2, 3, 1) if first else found
        if backend == "theano":
            expected = convolved(x, kernel, bias, padding, strides)
        else:
            expected = Conv2D(kernel, bias, padding=padding, strides=strides)(x)
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("layer", "attributes", "message"),
    [
        (entry("Convolution2D", "c", nb_filter=3, nb_row=1, nb_col=1), {"keras_version": "1.2.0"}, r"layer 'c' .* does not say whether its kernels are turned round \(.*'theano'\) or not \('tensorflow'\): set the attribute 'backend'"),
        (entry("Conv2D", "c", filters=3, kernel_size=1), {"backend": "mystery"}, r"the backend 'mystery' is not known"),
        (entry("DepthwiseConv2D", "c", kernel_size=1), {"backend": "theano"}, r"layer 'c' \(DepthwiseConv2D\): how the backend 'theano'"),
        (entry("UpSampling2D", "c", interpolation="bilinear"), {"keras_version": "2.2.4"}, r"layer 'c' .*'bilinear' before Keras 2.3"),
        (entry("MaxPooling2D", "c", padding="same"), {"backend": "theano"}, r"layer 'c' \(MaxPooling2D\): how the backend 'theano'"),
    ],
)  # fmt: skip
def test_what_is_in_doubt_is_refused(tmp_path, layer, attributes, message):
    weights = {"c": [np.ones((1, 1, 2, 3), "f4"), B]}
    model = sequential(layer, shape=(4, 4, 2))
    with pytest.raises(UnsupportedLayerError, match=message):
        load(write_h5(tmp_path / "network.h5", model, weights, **attributes))


def test_the_backend_may_stand_with_the_weights(tmp_path):
    kernel = np.arange(3, dtype="f4").reshape(1, 3, 1, 1)
    model = sequential(entry("Conv2D", "c", filters=1, kernel_size=[1, 3]), shape=(1, 3, 1))
    path = write_h5(tmp_path / "network.h5", model, {"c": [kernel, B[:1]]})
    with h5py.File(path, "a") as file:
        file["model_weights"].attrs["backend"] = "theano"
    np.testing.assert_array_equal(load(path).layers[0].kernel, kernel[:, ::-1])


# ---------------------------------------------------------------- arrays


def test_an_array_under_the_name_of_another_is_refused(tmp_path):
    """All four have one shape: their names alone tell them apart."""
    names = ["gamma", "beta", "moving_mean", "moving_variance"]
    for order, refused in ((names, False), (names[::-1], True)):
        with h5py.File(tmp_path / "network.h5", "w") as file:
            model = sequential(entry("BatchNormalization", "b"), shape=(3,))
            file.attrs["model_config"] = json.dumps(model)
            group = file.create_group("model_weights/b")
            group.attrs["weight_names"] = [f"b/{name}:0".encode() for name in order]
            for name in names:
                group[f"b/{name}:0"] = B + 1
        if refused:
            with pytest.raises(ModelFileError, match=r"found 'moving_variance' where 'gamma' is"):
                load(tmp_path / "network.h5")
        else:
            assert isinstance(load(tmp_path / "network.h5").layers[0], BatchNormalization)


@pytest.mark.parametrize("marked", [True, False])
def test_bfloat16(tmp_path, marked):
    kernel = np.float32([[1.0, -2.5], [3e38, 2**-120]])
    stored = (kernel.view("u4") >> 16).astype("u2").view("V2")
    dtype = {"class_name": "DTypePolicy", "config": {"name": "bfloat16"}}
    layer = entry("Dense", "d", units=2, use_bias=False, **({} if marked else {"dtype": dtype}))
    path = write_h5(tmp_path / "network.h5", sequential(layer, shape=(2,)), {"d": [stored]})
    if marked:
        with h5py.File(path, "a") as file:
            file["model_weights/d/d/w0:0"].attrs["dtype"] = "bfloat16"
    expected = ((kernel.view("u4") >> 16) << 16).view("f4")
    np.testing.assert_array_equal(load(path).layers[0].kernel, expected)


def of_type(file, kind, content):
    del file["model_weights/d/d/w0:0"]
    space = h5py.h5s.create_simple(W.shape)
    dataset = h5py.h5d.create(file["model_weights/d/d"].id, b"w0:0", kind, space)
    dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, content, mtype=kind)


def floats(size, *fields):
    kind = {2: h5py.h5t.IEEE_F16LE, 4: h5py.h5t.IEEE_F32LE}[size].copy()
    kind.set_fields(*fields[:-1])
    kind.set_ebias(fields[-1])
    return kind


def test_types_of_floating_point_numbers(tmp_path):
    path = write_h5(tmp_path / "network.h5", sequential(dense()), {"d": [W, B]})
    halves = (W.view("u4") >> 16).astype("u2")
    for kind, content in (
        (h5py.h5t.IEEE_F32BE, W.astype(">f4")),
        (h5py.h5t.IEEE_F16LE, W.astype("f2")),
        (h5py.h5t.IEEE_F64BE, W.astype(">f8")),
        (floats(2, 15, 7, 8, 0, 7, 127), halves),
    ):
        with h5py.File(path, "a") as file:
            of_type(file, kind, content)
        np.testing.assert_array_equal(load(path).layers[0].kernel, W)
    for kind in (floats(4, 31, 23, 8, 0, 23, 100), floats(2, 15, 10, 5, 0, 10, 14)):
        with h5py.File(path, "a") as file:
            of_type(file, kind, np.zeros(W.shape, f"u{kind.get_size()}"))
        with pytest.raises(ModelFileError, match=r"found a floating-point type of . bytes of its"):
            load(path)


@pytest.mark.parametrize("settings", [{"libver": "latest"}, {"track_order": True}, {}])
def test_groups_and_attributes_in_every_form(tmp_path, settings):
    layers = [dense("first"), *(entry("Dense", f"d{i}", units=3) for i in range(40))]
    path = tmp_path / "network.h5"
    with h5py.File(path, "w", **settings) as file:
        for i in range(30):
            file.attrs[f"more{i}"] = "x" * i
        file.attrs["model_config"] = json.dumps(sequential(*layers))
        order = {"track_order": True} if "track_order" in settings else {}
        group = file.create_group("model_weights", **order)
        for i, layer in enumerate(layers):
            name = layer["config"]["name"]
            part = group.create_group(name, **order)
            part.attrs["weight_names"] = [f"{name}/kernel:0", f"{name}/bias:0"]
            part[f"{name}/kernel:0"] = W if i == 0 else np.eye(3, dtype="f4") * i
            part[f"{name}/bias:0"] = B
    found = load(path)
    np.testing.assert_array_equal(found.layers[40].kernel, np.eye(3) * 40)


def test_chunks_of_the_newest_form_are_refused(tmp_path):
    path = write_h5(tmp_path / "network.h5", sequential(dense()), {"d": [W, B]})
    with h5py.File(path, "a", libver="latest") as file:
        del file["model_weights/d/d/w0:0"]
        file["model_weights/d/d"].create_dataset("w0:0", data=W, chunks=(2, 3))
    with pytest.raises(ModelFileError, match=r"layer 'd': kernel: .*HDF5 that is not read"):
        load(path)


def test_an_index_that_doubles_from_level_to_level_ends(tmp_path):
    """Thirty levels with two entries each, both the same: a billion nodes in two kilobytes."""
    path = write_h5(tmp_path / "network.h5", sequential(dense()), {"d": [W, B]})
    with h5py.File(path, "a") as file:
        del file["model_weights/d/d/w0:0"]
        file["model_weights/d/d"].create_dataset("w0:0", data=W, chunks=(2, 3))
    content = bytearray(path.read_bytes())
    leaf = content.find(b"TREE\1\0")
    place = content.find(struct.pack("<Q", leaf))
    below = leaf
    for level in range(1, 31):
        at = len(content)
        content += b"TREE\1" + struct.pack("<BHQQ", level, 2, 2**64 - 1, 2**64 - 1)
        content += 2 * struct.pack("<II3QQ", 0, 0, 0, 0, 0, below)
        below = at
    content[place : place + 8] = struct.pack("<Q", below)
    path.write_bytes(content)
    start = time.process_time()
    with pytest.raises(ModelFileError, match=r"kernel: .*|refers to itself"):
        load(path)
    assert time.process_time() - start < 5


def test_a_number_for_an_image_of_any_size_takes_no_memory(tmp_path):
    size = 2**20
    model = sequential(
        entry(
            "Normalization", "n", axis=[1, 2], mean=0.5, variance={"type": "ndarray", "value": 4}
        ),
        entry("GlobalMaxPooling2D", "g"),
        shape=(size, size, 1),
    )
    found = load(write_h5(tmp_path / "network.h5", model, {}))
    assert found.shapes == ((size, size, 1), (1,))
    assert found.layers[0].variance.size == 1


def test_a_normalization_along_an_axis_that_is_not_the_last(tmp_path):
    layer = entry("Normalization", "n", axis=1, mean=[1.0, 2.0], variance=[1.0, 4.0])
    found = load(write_h5(tmp_path / "network.h5", sequential(layer, shape=(2, 2)), {}))
    x = np.ones((1, 2, 2), "f4")
    np.testing.assert_array_equal(found.predict(x)[0], [[0, 0], [-0.5, -0.5]])


# ---------------------------------------------------------------- weights alone


def weights_only(path, keras_3, **arrays):
    with h5py.File(path, "w") as file:
        if keras_3:
            for group, found in arrays.items():
                for i, array in enumerate(found.values()):
                    file[f"layers/{group}/vars/{i}"] = array
            return path
        file.attrs["layer_names"] = list(arrays)
        for group, found in arrays.items():
            file.create_group(group).attrs["weight_names"] = [f"{group}/{n}:0" for n in found]
            for name, array in found.items():
                file[f"{group}/{group}/{name}:0"] = array
    return path


NORM = {"gamma": B + 1, "beta": B + 2, "moving_mean": B + 3, "moving_variance": B + 4}


@pytest.mark.parametrize("keras_3", [True, False])
def test_layers_without_bias_scale_or_offset(tmp_path, keras_3):
    template = nr.Network([Dense(W * 0, B), BatchNormalization(B, B, B, B + 1)], (4,))
    for left_out in ([], ["gamma"], ["beta"], ["gamma", "beta"]):
        norm = {name: array for name, array in NORM.items() if name not in left_out}
        path = weights_only(
            tmp_path / "weights.h5", keras_3, dense={"kernel": W}, batch_normalization=norm
        )
        if keras_3 and len(left_out) == 1:
            with pytest.raises(ModelFileError, match=r"without gamma or without beta: it does not"):
                load(path, template)
            continue
        first, second = load(path, template).layers
        np.testing.assert_array_equal(first.kernel, W)
        np.testing.assert_array_equal(first.bias, B * 0)
        np.testing.assert_array_equal(second.gamma, norm.get("gamma", np.ones(3)))
        np.testing.assert_array_equal(second.beta, norm.get("beta", np.zeros(3)))
        np.testing.assert_array_equal(second.variance, B + 4)


@pytest.mark.parametrize("keras_3", [True, False])
def test_the_architecture_may_be_the_configuration_of_keras(tmp_path, keras_3):
    model = functional(
        **{
            "in": (inputs(4), ()),
            "dense": (dense("dense", use_bias=False), ["in"]),
            "batch_normalization": (
                entry("BatchNormalization", "batch_normalization", scale=False),
                ["dense"],
            ),
        }
    )
    norm = {name: array for name, array in NORM.items() if name != "gamma"}
    path = weights_only(
        tmp_path / "weights.h5", keras_3, dense={"kernel": W}, batch_normalization=norm
    )
    described = tmp_path / "model.json"
    described.write_text(json.dumps({**model, "keras_version": "2.15.0", "backend": "tensorflow"}))
    for architecture in (described, str(described)):
        found = load(path, architecture=architecture)
        np.testing.assert_array_equal(found.layers[1].beta, B + 2)
    described.write_text("{")
    with pytest.raises(ModelFileError, match=r"model.json: the configuration is not valid JSON"):
        load(path, architecture=described)
    with pytest.raises(ModelFileError, match=r"missing.json: no such file"):
        load(path, architecture="missing.json")
