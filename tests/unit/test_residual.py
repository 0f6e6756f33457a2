"""Networks that are no sequence, made in Keras: read, quantized, lumped and evaluated."""

import os

import numpy as np
import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
keras = pytest.importorskip("keras")
layers = keras.layers

from netreduce import (  # noqa: E402
    BatchNormalization,
    Concatenate,
    cost,
    evaluate,
    fold_batch_norm,
    load,
    lump,
    quantize,
    save,
)

TOLERANCE = 1e-4


def conv(filters, size, strides=1):
    return layers.Conv2D(filters, size, strides=strides, padding="same")


def resnet20():
    """ResNet-20 of He et al. (2016), with projection shortcuts."""
    inputs = layers.Input((32, 32, 3))
    x = layers.ReLU()(layers.BatchNormalization()(conv(16, 3)(inputs)))
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(3):
            strides = 2 if stage and not block else 1
            branch = layers.ReLU()(layers.BatchNormalization()(conv(filters, 3, strides)(x)))
            branch = layers.BatchNormalization()(conv(filters, 3)(branch))
            if strides == 2:
                x = layers.BatchNormalization()(conv(filters, 1, 2)(x))
            x = layers.ReLU()(layers.Add()([branch, x]))
    return keras.Model(inputs, layers.Dense(10)(layers.GlobalAveragePooling2D()(x)))


def inception():
    """Branches side by side, one of them pooled, one read twice."""
    inputs = layers.Input((12, 12, 3))
    x = layers.Conv2D(8, 3, activation="relu")(inputs)
    left = layers.Conv2D(6, 1, activation="relu")(x)
    right = layers.BatchNormalization()(
        layers.Conv2D(5, 3, padding="same", activation="leaky_relu")(x)
    )
    pooled = layers.AveragePooling2D(2, strides=1, padding="same")(x)
    x = layers.Concatenate()([left, right, pooled, left])
    x = layers.MaxPooling2D(2)(layers.DepthwiseConv2D(3, activation="relu")(x))
    x = layers.Conv2D(9, 3, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x)))


def random_weights(model, seed=0):
    """Weights of the usual size, and batch normalization as training leaves it."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        arrays = layer.get_weights()
        if isinstance(layer, layers.BatchNormalization):
            size = arrays[0].shape
            arrays = [
                rng.uniform(0.5, 1.5, size),
                rng.normal(0, 0.2, size),
                rng.normal(0, 0.2, size),
                rng.uniform(0.5, 1.5, size),
            ]
        elif arrays:
            arrays = [
                rng.normal(0, np.sqrt(2 / np.prod(arrays[0].shape[:-1])), arrays[0].shape),
                rng.normal(0, 0.1, arrays[1].shape),
            ]
        layer.set_weights(arrays)
    return model


@pytest.fixture(scope="module", params=[resnet20, inception])
def pair(request, tmp_path_factory):
    """A Keras model, the network read from its file, and images."""
    model = random_weights(request.param())
    path = tmp_path_factory.mktemp("keras") / "model.h5"
    model.save(path)
    network = load(path)
    return (
        model,
        network,
        np.random.default_rng(1).random((8, *network.input_shape), dtype=np.float32),
    )


def in_keras(network, path, images):
    save(network, path)
    return keras.models.load_model(path, compile=False).predict(images, verbose=0)


def test_outputs_equal_those_of_keras(pair, tmp_path):
    model, network, images = pair
    expected = model.predict(images, verbose=0)
    np.testing.assert_allclose(network.predict(images), expected, atol=TOLERANCE)
    np.testing.assert_allclose(
        in_keras(network, tmp_path / "again.h5", images), expected, atol=TOLERANCE
    )
    assert cost(network).parameters == model.count_params()


@pytest.mark.parametrize(
    "settings",
    [
        {"conv": "channel"},
        {"conv": "joint"},
        {"method": "msq"},
        {"bits": 1.58, "method": "gptq", "conv": "joint"},
    ],
)
def test_quantized(pair, tmp_path, settings):
    _, network, images = pair
    quantized = quantize(network, images, **{"bits": 4, "alphabet_scalar": 4, **settings})
    for layer in quantized.layers:
        assert (getattr(layer, "quantization", None) is None) == ("kernel" not in layer.arrays())
    assert cost(quantized).levels <= (4 if settings.get("bits") else 17)
    save(quantized, tmp_path / "quantized.h5")
    np.testing.assert_array_equal(
        load(tmp_path / "quantized.h5").predict(images), quantized.predict(images)
    )
    labels = network.predict(images).argmax(axis=1)
    assert 0 <= evaluate(quantized, images, labels).accuracy <= 1


def test_gpfq_beats_msq_on_a_residual_network(pair):
    _, network, images = pair
    expected = network.predict(images)

    def error(method):
        return np.linalg.norm(
            quantize(network, images, method, bits=2, alphabet_scalar=3, conv="joint").predict(
                images
            )
            - expected
        )

    assert error("gpfq") < error("msq")


@pytest.mark.parametrize("tolerance", [0, 0.2])
def test_lumped(pair, tolerance):
    _, network, images = pair
    lumping = lump(network, tolerance, (0, 1))
    difference = np.abs(lumping.network.predict(images) - network.predict(images)).max(axis=0)
    assert (difference <= lumping.bound + lumping.rounding).all()
    labels = network.predict(images).argmax(axis=1)
    assert evaluate(lumping.network, images, labels).accuracy == 1 or tolerance > 0


def with_multiples(network):
    """The network with one channel of every block-internal convolution a multiple of another; with
    their number.
    """
    replaced = {}
    for index, layer in enumerate(network.layers):
        readers = network.readers(index)
        kernel = layer.arrays().get("kernel")
        if (
            kernel is None
            or kernel.ndim != 4
            or len(readers) != 1
            or not isinstance(norm := network.layers[readers[0]], BatchNormalization)
        ):
            continue
        after = (
            network.readers(network.readers(readers[0])[0])
            if len(network.readers(readers[0])) == 1
            else ()
        )
        if len(after) != 1 or "kernel" not in network.layers[after[0]].arrays():
            continue  # its sum with the shortcut is read elsewhere too
        arrays = {name: array.copy() for name, array in layer.arrays().items()}
        for array in arrays.values():
            array[..., 3] = array[..., 1]
        replaced[index] = layer.replace(**arrays)
        arrays = {name: array.copy() for name, array in norm.arrays().items()}
        for array in arrays.values():
            array[3] = array[1]
        arrays["gamma"][3], arrays["beta"][3] = 2 * arrays["gamma"][1], 2 * arrays["beta"][1]
        replaced[readers[0]] = norm.replace(**arrays)
    return network.replace(replaced), len(replaced) // 2


def test_multiples_inside_residual_blocks_merge(tmp_path):
    path = tmp_path / "model.h5"
    random_weights(resnet20()).save(path)
    network, planted = with_multiples(load(path))
    assert planted == 9
    lumping = lump(network, input_range=(0, 1))
    assert sorted(merged.kind for merged in lumping.merges) == ["multiple"] * planted
    assert cost(lumping.network).neurons == cost(network).neurons - planted
    images = np.random.default_rng(2).random((8, 32, 32, 3), dtype=np.float32)
    np.testing.assert_allclose(
        lumping.network.predict(images), network.predict(images), atol=TOLERANCE
    )
    np.testing.assert_allclose(
        in_keras(lumping.network, tmp_path / "lumped.h5", images),
        network.predict(images),
        atol=TOLERANCE,
    )


def test_batch_normalization_folds_in_residual_networks(pair):
    _, network, images = pair
    folded = fold_batch_norm(network)
    assert sum(isinstance(layer, BatchNormalization) for layer in folded.layers) <= 1
    np.testing.assert_allclose(folded.predict(images), network.predict(images), atol=TOLERANCE)


def test_channels_of_a_concatenation_merge_each_for_itself(tmp_path):
    path = tmp_path / "model.h5"
    random_weights(inception()).save(path)
    network = load(path)
    index = next(i for i, layer in enumerate(network.layers) if isinstance(layer, Concatenate))
    left = network.sources[index][0]
    layer = network.layers[left]
    kernel, bias = layer.kernel.copy(), layer.bias.copy()
    kernel[..., 4], bias[4] = 0.5 * kernel[..., 2], 0.5 * bias[2]
    network = network.replace({left: layer.replace(kernel=kernel, bias=bias)})
    images = np.random.default_rng(3).random((20, 12, 12, 3), dtype=np.float32)
    lumping = lump(network, input_range=(0, 1))
    np.testing.assert_allclose(
        lumping.network.predict(images), network.predict(images), atol=TOLERANCE
    )
