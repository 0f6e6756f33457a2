"""Every kind of layer with its options: what Keras writes is loaded and computes the same, and what
is written then Keras loads and computes the same.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import pytest
from keras import layers as L

import netreduce as nr
from netreduce.errors import ModelFileError, UnsupportedLayerError
from netreduce.formats import load, save

IMAGE, FIRST, LINE, VECTOR = (8, 7, 4), (4, 9, 8), (9, 4), (6,)


def gate(x):
    """Squeeze and excite."""
    squeezed = L.GlobalAveragePooling2D(keepdims=True)(x)
    return L.Multiply()([x, L.Dense(4, activation="sigmoid")(squeezed)])


def residual(x):
    inner = keras.Sequential(
        [keras.Input(IMAGE), L.Conv2D(4, 3, padding="same"), L.BatchNormalization()], name="inner"
    )
    return L.Add()([inner(x), x])


def nested_functional(x):
    given = keras.Input(IMAGE)
    frozen = L.Conv2D(4, 1, name="frozen", trainable=False)(given)
    y = L.BatchNormalization(name="norm")(L.SeparableConv2D(4, 3, name="separable")(frozen))
    y = keras.Sequential([L.ReLU(), L.Conv2D(3, 2), L.BatchNormalization(trainable=False)])(y)
    return L.Flatten()(keras.Model(given, y, name="body")(x))


def first_graph(x):
    y = L.Conv2D(4, 3, padding="same", data_format="channels_first")(x)
    z = L.Concatenate(axis=1)([L.Add()([x, y]), y, L.Multiply()([y, y])])
    kept = L.GlobalMaxPooling2D(keepdims=True, data_format="channels_first")(z)
    z = L.Conv2D(3, 2, data_format="channels_first")(L.Multiply()([z, kept]))
    z = L.BatchNormalization(axis=1)(z)
    pooled = L.GlobalAveragePooling2D(data_format="channels_first")(z)
    return L.Concatenate()([pooled, L.Flatten()(z), L.Dense(2)(L.Flatten()(z))])


ZOO = {
    "conv groups": (IMAGE, lambda: L.Conv2D(6, 3, groups=2, padding="same", strides=2)),
    "conv dilated": (IMAGE, lambda: L.Conv2D(3, 2, dilation_rate=(2, 1), use_bias=False)),
    "conv leaky": (IMAGE, lambda: L.Conv2D(3, 2, activation=L.LeakyReLU(negative_slope=0.1))),
    "depthwise": (IMAGE, lambda: L.DepthwiseConv2D(3, 2, "same", 2, activation="relu6")),
    "separable": (IMAGE, lambda: L.SeparableConv2D(5, 3, 2, "same", depth_multiplier=2)),
    "separable dilated": (IMAGE, lambda: L.SeparableConv2D(5, 3, dilation_rate=2, use_bias=False)),
    "transposed": (IMAGE, lambda: L.Conv2DTranspose(3, 3, strides=2)),
    "transposed same": (IMAGE, lambda: L.Conv2DTranspose(3, (2, 5), strides=2, padding="same")),
    "transposed short": (IMAGE, lambda: L.Conv2DTranspose(3, 2, strides=3, activation="elu")),
    "transposed more": (
        IMAGE,
        lambda: L.Conv2DTranspose(3, 3, strides=2, padding="same", output_padding=1),
    ),
    "zero padding": (IMAGE, lambda: L.ZeroPadding2D(((1, 0), (2, 3)))),
    "padded conv": (IMAGE, lambda: [L.ZeroPadding2D(1), L.Conv2D(3, 3, strides=2)]),
    "padded pooling": (IMAGE, lambda: [L.ZeroPadding2D(1), L.MaxPooling2D(3, 2)]),
    "cropping": (IMAGE, lambda: L.Cropping2D(((1, 0), (2, 1)))),
    "up": (IMAGE, lambda: L.UpSampling2D((2, 3))),
    "up bilinear": (IMAGE, lambda: L.UpSampling2D(2, interpolation="bilinear")),
    "max pooling": (IMAGE, lambda: L.MaxPooling2D((3, 2), strides=2, padding="same")),
    "average pooling": (IMAGE, lambda: L.AveragePooling2D(3, strides=2, padding="same")),
    "global max": (IMAGE, lambda: L.GlobalMaxPooling2D()),
    "global max kept": (IMAGE, lambda: L.GlobalMaxPooling2D(keepdims=True)),
    "global average": (IMAGE, lambda: L.GlobalAveragePooling2D()),
    "reshape": (IMAGE, lambda: [L.Reshape((-1, 8)), L.Reshape((4, 7, 8))]),
    "permute": (IMAGE, lambda: [L.Permute((3, 1, 2)), L.Flatten(), L.Dense(3)]),
    "prelu": (IMAGE, lambda: L.PReLU("glorot_uniform")),
    "prelu shared": (IMAGE, lambda: L.PReLU("glorot_uniform", shared_axes=[1, 2])),
    "prelu vector": (VECTOR, lambda: L.PReLU("uniform")),
    "dense on images": (IMAGE, lambda: L.Dense(3, activation="softmax")),
    "rescaling": (IMAGE, lambda: L.Rescaling(1 / 127.5, offset=-1)),
    "rescaling channels": (IMAGE, lambda: L.Rescaling([1.0, 2.0, 0.5, 3.0], [0.0, 1.0, 2.0, 3.0])),
    "normalization": (
        IMAGE,
        lambda: L.Normalization(mean=[0.1, 0.2, 0.3, 0.4], variance=[1.0, 2.0, 3.0, 0.0]),
    ),
    "normalization of all": (IMAGE, lambda: L.Normalization(None, mean=0.3, variance=2.0)),
    "normalization inverted": (VECTOR, lambda: L.Normalization(None, 0.3, 2.0, invert=True)),
    "normalization adapted": (VECTOR, lambda: adapted(L.Normalization(), VECTOR)),
    "normalization of an axis": (IMAGE, lambda: adapted(L.Normalization(axis=(1, 3)), IMAGE)),
    "relu": (VECTOR, lambda: L.ReLU(0.5, 0.1, 0.25)),
    "relu threshold": (VECTOR, lambda: L.ReLU(threshold=0.3)),
    "elu": (VECTOR, lambda: L.ELU(0.7)),
    "softmax": (IMAGE, lambda: L.Softmax()),
    **{
        f"activation {name}": (VECTOR, lambda name=name: L.Activation(name))
        for name in (
            *("selu", "softplus", "softsign", "sigmoid", "hard_sigmoid", "tanh", "exponential"),
            *("silu", "hard_silu", "gelu", "mish", "log_softmax", "leaky_relu", "relu6", "swish"),
        )
    },
    "dense activation": (VECTOR, lambda: L.Dense(4, activation="hard_silu")),
    "dense relu": (VECTOR, lambda: L.Dense(4, activation=L.ReLU(max_value=0.5))),
    "does nothing": (
        IMAGE,
        lambda: [
            L.RandomFlip(),
            L.RandomRotation(0.1),
            L.RandomZoom(0.1),
            L.RandomTranslation(0.1, 0.1),
            L.RandomContrast(0.1),
            L.SpatialDropout2D(0.1),
            L.GaussianNoise(0.1),
            L.GaussianDropout(0.1),
            L.AlphaDropout(0.1),
            L.ActivityRegularization(0.1),
            L.Conv2D(2, 2),
            L.Dropout(0.1),
        ],
    ),
    "only noise": (VECTOR, lambda: L.GaussianNoise(0.1)),
    "conv1d": (LINE, lambda: L.Conv1D(5, 3, strides=2, padding="same", activation="relu")),
    "conv1d causal": (
        LINE,
        lambda: [L.Conv1D(5, 3, dilation_rate=2, padding="causal"), L.Flatten()],
    ),
    "conv1d groups": (LINE, lambda: L.Conv1D(6, 3, groups=2)),
    "separable1d": (LINE, lambda: L.SeparableConv1D(5, 3, depth_multiplier=2, strides=2)),
    "depthwise1d": (LINE, lambda: L.DepthwiseConv1D(3, strides=2, padding="same")),
    "transposed1d": (LINE, lambda: L.Conv1DTranspose(3, 3, strides=2, padding="same")),
    "line": (
        LINE,
        lambda: [
            L.ZeroPadding1D((1, 2)),
            L.Conv1D(5, 3),
            L.BatchNormalization(),
            L.PReLU("uniform", shared_axes=[1]),
            L.MaxPooling1D(2, strides=1, padding="same"),
            L.AveragePooling1D(2),
            L.UpSampling1D(3),
            L.Cropping1D((1, 1)),
            L.SpatialDropout1D(0.2),
            L.Dense(4, activation="tanh"),
            L.GlobalMaxPooling1D(),
            L.Dense(2),
        ],
    ),
    "line kept": (LINE, lambda: [L.GlobalAveragePooling1D(keepdims=True), L.Conv1D(2, 1)]),
    "subtract": (VECTOR, lambda: lambda x: L.Subtract()([L.Dense(3)(x), L.Dense(3)(x)])),
    "average": (VECTOR, lambda: lambda x: L.Average()([L.Dense(3)(x) for _ in range(3)])),
    "operators": (VECTOR, lambda: lambda x: L.Dense(3)(x) * L.Dense(3)(x) + L.Dense(3)(x)),
    "gate": (IMAGE, lambda: gate),
    "gate of a vector": (
        IMAGE,
        lambda: lambda x: L.Multiply()([x, L.Dense(4)(L.Flatten()(x))]),
    ),
    "concatenated lines": (
        LINE,
        lambda: lambda x: L.Concatenate()([L.Conv1D(2, 3, padding="same")(x), x]),
    ),
    "nested sequential": (IMAGE, lambda: residual),
    "nested functional": (IMAGE, lambda: nested_functional),
    "channels first": (
        FIRST,
        lambda: [
            L.ZeroPadding2D(((1, 0), (2, 1)), data_format="channels_first"),
            L.Conv2D(5, 3, data_format="channels_first", activation="relu"),
            L.BatchNormalization(axis=1),
            L.PReLU("uniform", shared_axes=[2, 3]),
            L.MaxPooling2D(2, data_format="channels_first"),
            L.UpSampling2D((1, 2), data_format="channels_first"),
            L.Softmax(axis=1),
            L.Flatten(),
            L.Dropout(0.1),
            L.ReLU(),
            L.Dense(3),
        ],
    ),
    "channels first, flattened last": (
        FIRST,
        lambda: [
            L.Conv2D(5, 3, data_format="channels_first"),
            L.Flatten(data_format="channels_first"),
            L.BatchNormalization(),
        ],
    ),
    "channels first, flattened": (
        FIRST,
        lambda: [
            L.Conv2D(5, 3, data_format="channels_first"),
            L.Flatten(),
            L.BatchNormalization(),
            L.Dense(2),
        ],
    ),
    "channels first to the end": (FIRST, lambda: L.Conv2D(5, 3, data_format="channels_first")),
    "channels first, along rows": (
        FIRST,
        lambda: [
            L.Conv2D(5, 3, data_format="channels_first"),
            L.Activation("softmax"),
            L.BatchNormalization(),
            L.Dense(3),
            L.GlobalAveragePooling2D(data_format="channels_first"),
        ],
    ),
    "channels first at the input": (
        FIRST,
        lambda: [L.BatchNormalization(axis=1), L.Conv2D(5, 3, data_format="channels_first")],
    ),
    "channels first in a graph": (FIRST, lambda: first_graph),
    "nested first": (
        IMAGE,
        lambda: [
            keras.Sequential([keras.Input(IMAGE), L.Conv2D(3, 3), L.BatchNormalization()]),
            L.Conv2D(2, 2),
            keras.Sequential([L.Flatten(), L.Dense(3)]),
        ],
    ),
}


def adapted(layer, shape):
    layer.adapt(np.random.default_rng(1).normal(2, 3, (50, *shape)))
    return layer


def live(name):
    """A model of the zoo with weights and statistics as training would leave them."""
    keras.utils.set_random_seed(0)
    shape, make = ZOO[name]
    made = make()
    if isinstance(made, (list, keras.Layer)):
        model = keras.Sequential(
            [keras.Input(shape), *(made if isinstance(made, list) else [made])]
        )
    else:
        inputs = keras.Input(shape)
        model = keras.Model(inputs, made(inputs))
    random = np.random.default_rng(0)
    for layer in leaves(model):
        if not isinstance(layer, L.Normalization):
            layer.set_weights([random.uniform(0.2, 1, w.shape) for w in layer.get_weights()])
    return model


def leaves(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from leaves(layer)
        else:
            yield layer


def samples(shape):
    return np.random.default_rng(5).normal(size=(3, *shape)).astype("f4")


def assert_agree(model, network, tolerance=1e-5):
    x = samples(network.input_shape)
    expected = np.asarray(model(x, training=False))
    found = network.predict(x)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=tolerance * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("name", ZOO)
def test_a_kind_of_layer(tmp_path, name):
    model = live(name)
    for suffix in (".keras", ".h5"):
        model.save(tmp_path / f"model{suffix}")
        assert_agree(model, load(tmp_path / f"model{suffix}"))
    (tmp_path / "model.json").write_text(model.to_json())
    model.save_weights(tmp_path / "model.weights.h5")
    assert_agree(model, load(tmp_path / "model.weights.h5", architecture=tmp_path / "model.json"))
    network = nr.from_keras(model)
    assert_agree(model, network)
    for suffix in (".keras", ".h5"):
        save(network, tmp_path / f"ours{suffix}")
        assert_agree(keras.models.load_model(tmp_path / f"ours{suffix}", compile=False), network)
        again = load(tmp_path / f"ours{suffix}")
        np.testing.assert_array_equal(
            again.predict(samples(network.input_shape)),
            network.predict(samples(network.input_shape)),
        )


def drawn(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape).astype("f4")


# Layers that Keras has no class for, and that are written as several.
WRITTEN = {
    "padded conv": (IMAGE, [nr.Conv2D(drawn(3, 3, 4, 2), strides=2, padding=(1, 1, 1, 1))]),
    "conv padded as by same": (IMAGE, [nr.Conv2D(drawn(3, 3, 4, 2), padding=(1, 1, 1, 1))]),
    "padded by nothing": (IMAGE, [nr.DepthwiseConv2D(drawn(3, 3, 4, 2), padding=(0, 0, 0, 0))]),
    "padded depthwise": (
        IMAGE,
        [nr.DepthwiseConv2D(drawn(3, 2, 4, 2), drawn(8), "tanh", padding=(2, 0, 1, 0))],
    ),
    "padded max pooling": (
        IMAGE,
        [
            nr.Conv2D(drawn(1, 1, 4, 4), activation="relu"),
            nr.MaxPooling2D(3, 2, padding=(1, 1, 1, 1)),
            nr.Activation("relu6"),
            nr.MaxPooling2D(2, 2, padding=(1, 0, 0, 1)),
        ],
    ),
    "max pooling padded as by same": (IMAGE, [nr.MaxPooling2D(3, 1, padding=(1, 1, 1, 1))]),
    "counted padding": (
        IMAGE,
        [
            nr.AveragePooling2D(3, 2, padding=(1, 1, 1, 1), count_padding=True),
            nr.AveragePooling2D(3, 1, padding="same", count_padding=True),
        ],
    ),
    **{
        f"transposed {padding} {more} {strides}": (
            IMAGE,
            [
                nr.Conv2DTranspose(
                    drawn(3, 4, 2, 4), drawn(2), "relu",
                    strides=strides, padding=padding, output_padding=more,
                )
            ],
        )
        for padding, more, strides in [
            ((1, 1, 1, 1), None, 2), ((1, 0, 0, 2), (1, 0), 2), ((0, 0, 0, 0), (1, 1), (2, 3)),
            ((0, 0, 0, 0), None, 5), ((0, 0, 1, 1), (3, 0), (5, 2)), ("same", (1, 1), 2),
        ]
    },
    "hard sigmoid of Keras 2": (
        VECTOR,
        [
            nr.Dense(drawn(6, 4), activation="hard_sigmoid_keras2"),
            nr.Activation("hard_sigmoid_keras2"),
        ],
    ),
    "functions of Keras 3": (
        VECTOR,
        [
            nr.Dense(drawn(6, 4), activation=name)
            if place == 0
            else nr.Dense(drawn(4, 4), activation=name)
            for place, name in enumerate(("hard_sigmoid", "hard_swish", "mish", "log_softmax"))
        ],
    ),
    "functions with parameters": (
        VECTOR,
        [
            nr.Activation("leaky_relu", 0.1, max_value=1.5, threshold=0.25),
            nr.Activation("relu", max_value=1.0),
            nr.Activation("elu", alpha=0.3),
        ],
    ),
    "normalization by arrays": (
        IMAGE,
        [
            nr.Normalization(drawn(4), 2.0),
            nr.Normalization(drawn(8, 1, 4), np.abs(drawn(1, 7, 4))),
            nr.Rescaling(drawn(8, 7, 4), drawn(7, 1)),
            nr.PReLU(drawn(4)),
            nr.PReLU(0.1),
        ],
    ),
}  # fmt: skip


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
@pytest.mark.parametrize("name", WRITTEN)
def test_layers_that_are_written_as_several(tmp_path, name, suffix):
    shape, layers = WRITTEN[name]
    network = nr.Network(layers, shape)
    save(network, tmp_path / f"network{suffix}")
    model = keras.models.load_model(tmp_path / f"network{suffix}", compile=False)
    assert_agree(model, network)
    x = samples(shape)
    np.testing.assert_array_equal(
        load(tmp_path / f"network{suffix}").predict(x), network.predict(x)
    )


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_grids_of_layers_that_are_written_as_several(tmp_path, suffix):
    codes = np.rint(drawn(3, 3, 4, 2) * 2).astype("f4")
    grid = nr.Quantization(0.25, 4)
    layers = [
        nr.Conv2D(codes * 0.25, strides=2, padding=(1, 1, 1, 1), quantization=grid),
        nr.Conv2DTranspose(codes[..., :2, :] * 0.25, padding=(1, 1, 1, 1), quantization=grid),
    ]
    save(nr.Network(layers, IMAGE), tmp_path / f"network{suffix}")
    for layer in load(tmp_path / f"network{suffix}").layers[:2]:
        assert (layer.quantization.bits, float(layer.quantization.scale)) == (4, 0.25)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nr.MaxPooling2D(3, 2, padding=(1, 1, 1, 1)), r"'max_pooling2d_1': Keras has no pad"),
        (nr.AveragePooling2D(3, 2, padding=(1, 1, 1, 1)), r"'average_pooling2d_1': Keras has no"),
        (nr.Activation("gelu_tanh"), r"layer 'activation_1': Keras has no name for .* 'gelu_tanh'"),
        (nr.Conv2D(drawn(1, 1, 4, 2), activation="gelu_tanh"), r"'conv2d_1': Keras has no name"),
    ],
)  # fmt: skip
def test_layers_that_keras_cannot_have(tmp_path, layer, message):
    with pytest.raises(UnsupportedLayerError, match=message):
        save(nr.Network([layer], IMAGE), tmp_path / "network.keras")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- live models


def relu(x):
    return x * 2


class Mine(L.Dense):
    pass


def test_what_a_live_model_has_of_the_users_own_is_refused():
    for layer, message in (
        (L.Dense(2, activation=relu, name="d"), r"layer 'd': relu is the user's own \(module"),
        (Mine(2, name="m"), r"layer 'm': Mine is the user's own"),
    ):
        with pytest.raises(UnsupportedLayerError, match=message):
            nr.from_keras(keras.Sequential([keras.Input((4,)), layer]))
    with pytest.raises(ModelFileError, match=r"expected a Keras model, found Dense"):
        nr.from_keras(L.Dense(2))


def test_weights_that_are_not_numbers():
    model = keras.Sequential([keras.Input((4,)), L.Dense(2, name="d")])
    model.layers[0].set_weights([np.full((4, 2), np.nan), np.zeros(2)])
    with pytest.raises(ModelFileError, match=r"layer 'd': kernel: found 8 values that are NaN"):
        nr.from_keras(model)
