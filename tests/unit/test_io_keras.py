"""Files against Keras itself: what we write it loads, what it writes we load, and both compute the
same.
"""

import json
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import h5py
import keras
import numpy as np
import pytest
from io_networks import NETWORKS, assert_same, network, quantized, samples
from keras import layers as L

from netreduce.errors import ModelFileError, UnsupportedLayerError
from netreduce.formats import load, save
from netreduce.quantization.activations import quantize_activations

SUFFIXES = (".h5", ".keras")


def predicted(model, x):
    return np.asarray(model(x, training=False))


def assert_computes(model, network, tolerance=1e-5):
    x = samples(network)
    expected = predicted(model, x)
    np.testing.assert_allclose(
        network.predict(x), expected, atol=tolerance * max(1, np.abs(expected).max())
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", NETWORKS)
def test_keras_loads_what_we_write(tmp_path, name, suffix):
    original = network(name)
    path = tmp_path / f"network{suffix}"
    save(original, path)
    model = keras.models.load_model(path, compile=False)
    assert_computes(model, original)
    if suffix == ".keras":
        model.save(tmp_path / "again.keras")
        assert_computes(model, load(tmp_path / "again.keras"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_quantized_networks_are_ordinary_to_keras(tmp_path, suffix):
    original = quantized(network("branching"))
    save(original, tmp_path / f"network{suffix}")
    model = keras.models.load_model(tmp_path / f"network{suffix}")
    assert_computes(model, original)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_keras_reads_grids_of_activations_only_where_a_class_for_them_is_registered(
    tmp_path, suffix
):
    path, analog = tmp_path / f"network{suffix}", network("resnet20")
    rounded = quantize_activations(analog, samples(analog), method="mse")
    save(rounded, path)
    assert_same(load(path), rounded)
    with pytest.raises(ValueError, match="Unknown layer: 'netreduce>ActivationGrid'"):
        keras.models.load_model(path)

    class ActivationGrid(L.Layer):
        def __init__(self, scale, zero_point, bits, **options):
            super().__init__(**options)
            self.scale, self.zero_point, self.bits = scale, zero_point, bits

        def call(self, x):
            end = 2 ** (self.bits - 1)
            steps = keras.ops.round(x / self.scale)
            return self.scale * keras.ops.clip(
                steps, -end - self.zero_point, end - 1 - self.zero_point
            )

    with keras.saving.custom_object_scope({"netreduce>ActivationGrid": ActivationGrid}):
        assert_computes(keras.models.load_model(path), rounded, 1e-4)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"scale": 0}, "scale of an ActivationGrid must be finite and positive"),
        ({"scale": [1.0]}, "scale must be a finite number, found"),
        ({"zero_point": 0.5}, "zero_point must be a whole number, found 0.5"),
        ({"zero_point": 200}, "zero_point of an ActivationGrid"),
        ({"bits": 9}, "bits of an ActivationGrid must be from 2 to 8, found 9"),
        ({"bits": True}, "bits must be a positive integer, found True"),
    ],
)
def test_damaged_grids_of_activations_are_refused(tmp_path, settings, message):
    path = tmp_path / "network.h5"
    analog = network("mlp")
    save(quantize_activations(analog, samples(analog)), path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        grids = (
            layer["config"]
            for layer in config["config"]["layers"]
            if layer["class_name"] == "netreduce>ActivationGrid"
        )
        next(grids).update(settings)
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(ModelFileError, match="activation_grid_1") as caught:
        load(path)
    assert message in str(caught.value)


def test_batches_of_any_size_are_predicted(tmp_path):
    original = network("branching")
    save(original, tmp_path / "network.h5")
    x = samples(original, 5)
    model = keras.models.load_model(tmp_path / "network.h5")
    np.testing.assert_allclose(
        model.predict(x, batch_size=2, verbose=0), original.predict(x), atol=1e-5
    )


def sequential():
    return keras.Sequential(
        [
            keras.Input((8, 7, 3)),
            L.Conv2D(4, (3, 2), strides=2, padding="same", activation="relu", use_bias=False),
            L.BatchNormalization(scale=False),
            L.ReLU(),
            L.DepthwiseConv2D(2, depth_multiplier=2, dilation_rate=1, activation="leaky_relu"),
            L.BatchNormalization(center=False, epsilon=1e-5),
            L.MaxPooling2D(2, strides=1, padding="same"),
            L.AveragePooling2D((1, 2), padding="valid"),
            L.Dropout(0.3),
            L.Flatten(),
            L.Dense(5, activation="gelu"),
            L.LeakyReLU(negative_slope=0.3),
            L.Dense(4, activation=keras.activations.silu),
            L.Activation("relu6"),
            L.Dense(3),
            L.Softmax(),
        ]
    )


def functional():
    inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(4, 3, padding="same", name="block1.stem")(inputs)
    left = L.Conv2D(4, 1)(x)
    right = L.BatchNormalization()(x)
    x = L.Add()([right, left, x])
    x = L.ReLU(max_value=6)(x)
    x = L.Concatenate()([x, right])
    pooled, flat = L.GlobalAveragePooling2D()(x), L.Dense(2, activation="tanh")(L.Flatten()(x))
    return keras.Model(
        inputs, L.Dense(3, activation="softmax")(L.Concatenate(axis=1)([flat, pooled]))
    )


def drawn(model):
    """Statistics of batch normalization as training would leave them."""
    random = np.random.default_rng(0)
    model.set_weights(
        [random.uniform(0.5, 1.5, w.shape) * 0.5 if w.ndim == 1 else w for w in model.get_weights()]
    )
    return model


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("make", [sequential, functional])
def test_we_load_what_keras_writes(tmp_path, make, suffix):
    model = drawn(make())
    model.save(tmp_path / f"network{suffix}")
    assert_computes(model, load(tmp_path / f"network{suffix}"))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_compiled_model_with_its_optimizer_is_loaded(tmp_path, suffix):
    model = sequential()
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(np.ones((4, 8, 7, 3)), np.zeros(4), verbose=0)
    model.save(tmp_path / f"network{suffix}")
    assert_computes(model, load(tmp_path / f"network{suffix}"))


@pytest.mark.parametrize("name", ["network.weights.h5", "legacy.h5"])
def test_weight_files_of_keras(tmp_path, name):
    original = network("resnet20")
    save(original, tmp_path / "network.h5")
    model = keras.models.load_model(tmp_path / "network.h5", compile=False)
    if name == "legacy.h5":
        from h5py import File
        from keras.src.legacy.saving.legacy_h5_format import save_weights_to_hdf5_group

        with File(tmp_path / name, "w") as file:
            save_weights_to_hdf5_group(file, model)
    else:
        model.save_weights(tmp_path / name)
    assert_same(original, load(tmp_path / name, NETWORKS["resnet20"]()))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_networks_go_through_keras_unchanged(tmp_path, suffix):
    original = network("mlp")
    save(original, tmp_path / f"network{suffix}")
    keras.models.load_model(tmp_path / f"network{suffix}", compile=False).save(
        tmp_path / f"again{suffix}"
    )
    assert_same(original, load(tmp_path / f"again{suffix}"))


@pytest.mark.parametrize(
    ("policy", "kind", "tolerance"),
    [
        *(("float16", "float16", 3e-3), ("mixed_float16", "float16", 3e-3)),
        *(("bfloat16", "bfloat16", 3e-2), ("float64", None, 1e-12)),
    ],
)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_half_precision_is_computed_in_float32_and_said(
    tmp_path, caplog, suffix, policy, kind, tolerance
):
    keras.utils.set_random_seed(0)
    layers = [
        L.Conv2D(6, 3, activation="relu", dtype=policy),
        L.BatchNormalization(dtype=policy),
        L.Flatten(dtype=policy),
        L.Dense(4, dtype=policy, name="last"),
    ]
    model = keras.Sequential([keras.Input((8, 8, 2)), *layers])
    model.save(tmp_path / f"half{suffix}")
    caplog.clear()
    loaded = load(tmp_path / f"half{suffix}")
    assert_computes(model, loaded, tolerance)
    said = [record.getMessage() for record in caplog.records if "netreduce" in record.name]
    if kind is None:
        assert not said
        return
    assert len(said) == 1
    assert f"and 3 more: Keras computes in {kind}, netreduce in float32; their outputs" in said[0]
    wide = keras.models.clone_model(
        model,
        clone_function=lambda layer: type(layer).from_config(
            {**layer.get_config(), "dtype": "float32"}
        ),
    )
    wide.set_weights([np.asarray(weight, np.float32) for weight in model.get_weights()])
    assert_computes(wide, loaded, 1e-6)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_keras_has_quantized_is_refused_by_name(tmp_path, suffix):
    model = keras.Sequential([keras.Input((4,)), L.Dense(3, name="first"), L.Identity()])
    model.save(tmp_path / f"network{suffix}")
    assert_computes(model, load(tmp_path / f"network{suffix}"))
    model.quantize("int8")
    model.save(tmp_path / f"network{suffix}")
    message = r"layer 'first' \(Dense\): quantized by Keras \(dtype policy 'int8_from_float32'\)"
    with pytest.raises(UnsupportedLayerError, match=message):
        load(tmp_path / f"network{suffix}")


@keras.saving.register_keras_serializable("mylab")
def swish(x):
    return x * 2


def swish2(x):
    return x * 2


@keras.saving.register_keras_serializable("mylab")
class Dense(L.Dense):
    def call(self, x):
        return super().call(x) * 2


class Dense2(L.Dense):
    pass


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_keras_can_do_and_we_cannot_is_refused(tmp_path, suffix):
    inputs = keras.Input((4,))
    shared = L.Dense(4, name="twice")
    inner = keras.Sequential([keras.Input((4,)), L.Dense(4)], name="inner")
    again = inner(inner(inputs))
    outputs = {
        r"'trick' \(Lambda\): layers of this class are not supported": L.Lambda(
            lambda x: x * 2, name="trick"
        )(inputs),
        r"'twice' \(Dense\): the layer is shared: called 2 times": shared(shared(inputs)),
        r"'inner' \(Sequential\): the layer is shared: called 2 times": again,
        r"'training' \(Dropout\): called with .*training.*, which is not supported": L.Dropout(
            0.5, name="training"
        )(inputs, training=True),
        r"'swish_1' \(Activation\): activation 'mylab>swish' is a function of the user's own": (
            L.Activation(swish, name="swish_1")(inputs)
        ),
        r"'plain' \(Dense\): activation 'swish2' is a function of the user's own": L.Dense(
            2, activation=swish2, name="plain"
        )(inputs),
        r"'registered' \(mylab>Dense|Dense\): a class of the user's own .*mylab>Dense": Dense(
            2, name="registered"
        )(inputs),
        r"'unregistered' \(Dense2\): a class of the user's own|layers of this class are not": (
            Dense2(2, name="unregistered")(inputs)
        ),
        r"models with 2 outputs are not supported": [L.Dense(2)(inputs), L.Dense(3)(inputs)],
        r"'bits' \(UnitNormalization\): layers of this class are not supported": (
            L.UnitNormalization(name="bits")(inputs)
        ),
    }
    for message, output in outputs.items():
        keras.Model(inputs, output).save(tmp_path / f"network{suffix}")
        with pytest.raises(UnsupportedLayerError, match=message):
            load(tmp_path / f"network{suffix}")
