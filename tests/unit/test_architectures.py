"""Architectures by name."""

import numpy as np
import pytest

from netreduce.errors import ParameterError
from netreduce.network.architectures import build, template
from netreduce.network.layers import BatchNormalization, Conv2D, Dense, Dropout, Flatten


def parameters(network):
    return sum(array.size for layer in network.layers for array in layer.arrays().values())


def kinds(network):
    return [type(layer).__name__ for layer in network.layers]


def test_mlp_has_the_published_size():
    network = build({"name": "mlp", "hidden": [500, 300]}, (28, 28, 1), 10)
    assert kinds(network) == ["Flatten", "Dense", "Dense", "Dense"]
    assert [layer.kernel.shape for layer in network.layers[1:]] == [
        (784, 500),
        (500, 300),
        (300, 10),
    ]
    assert [layer.activation for layer in network.layers[1:]] == ["relu", "relu", "linear"]


def test_mlp_on_vectors_does_not_flatten():
    assert kinds(build({"name": "mlp", "hidden": [3]}, (4,), 2)) == ["Dense", "Dense"]


def test_mlp_with_batch_normalization_before_the_activation():
    network = build(
        {"name": "mlp", "hidden": [3], "batch_norm": True, "activation": "tanh", "epsilon": 1e-5},
        (4,),
        2,
    )
    assert kinds(network) == ["Dense", "BatchNormalization", "Activation", "Dense"]
    assert network.layers[0].activation == "linear"
    assert network.layers[1].epsilon == 1e-5
    assert network.layers[2].name == "tanh"


def test_lenet5():
    network = build("lenet5", (28, 28, 1), 10)
    assert (
        parameters(network) == 61_706
    )  # LeCun et al. (1998), with full connections between the two convolutions
    assert network.shapes[-1] == (10,)


def test_vgg_small_is_the_published_network():
    network = build("vgg-small", (32, 32, 3), 10)
    assert [layer.outputs for layer in network.layers if isinstance(layer, Conv2D)] == [
        32,
        32,
        64,
        64,
        128,
        128,
    ]
    assert [layer.rate for layer in network.layers if isinstance(layer, Dropout)] == [
        0.2,
        0.3,
        0.4,
        0.5,
    ]
    assert [layer.outputs for layer in network.layers if isinstance(layer, Dense)] == [128, 10]
    for index, layer in enumerate(network.layers):
        if isinstance(layer, BatchNormalization):
            assert network.layers[index - 1].activation == "relu"
    assert parameters(network) == 552_874


def test_resnet20():
    network = build("resnet20", (32, 32, 3), 10, seed=0)
    convolutions = [layer for layer in network.layers if isinstance(layer, Conv2D)]
    assert sum(layer.kernel.shape[0] == 3 for layer in convolutions) == 19
    assert sum(layer.kernel.shape[0] == 1 for layer in convolutions) == 2
    assert kinds(network).count("Add") == 9
    assert network.predict(np.ones((1, 32, 32, 3), np.float32)).shape == (1, 10)


@pytest.mark.parametrize(("name", "size"), [("vgg16", 138_357_544), ("vgg19", 143_667_240)])
def test_vgg_has_the_size_of_keras_applications(name, size):
    network = build(name, (224, 224, 3), 1000)
    assert parameters(network) == size
    assert isinstance(network.layers[-4], Flatten)


def test_seed_decides_the_weights():
    first, again, other = (build("lenet5", (28, 28, 1), 10, seed) for seed in (0, 0, 1))
    for a, b, c in zip(first.layers, again.layers, other.layers, strict=True):
        if a.arrays():
            np.testing.assert_array_equal(a.kernel, b.kernel)
            assert not np.array_equal(a.kernel, c.kernel)


def test_initial_weights_keep_the_scale_of_the_signal():
    network = build({"name": "mlp", "hidden": [400, 400, 400]}, (400,), 10, seed=0)
    x = np.random.default_rng(0).standard_normal((200, 400)).astype(np.float32)
    for layer in network.layers[:-1]:
        x = layer(x)
        assert 0.5 < np.mean(x**2) < 2  # He et al. (2015), equation 10


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        (
            "alexnet",
            (
                "unknown architecture 'alexnet', expected one of mlp, lenet5, vgg-small, resnet20,"
                " vgg16, vgg19"
            ),
        ),
        (
            {"name": "mlp", "widths": [3]},
            (
                "architecture 'mlp': unknown key 'widths', expected one of name, hidden,"
                " activation, batch_norm, epsilon"
            ),
        ),
        ({"hidden": [3]}, "an architecture is a name or a mapping with the key 'name'"),
        (7, "an architecture is a name or a mapping with the key 'name', found 7"),
        ({"name": ["mlp"]}, r"unknown architecture \['mlp'\]"),
        ({"name": "mlp", "hidden": []}, r"hidden must be a list of positive integers, found \[\]"),
        (
            {"name": "mlp", "hidden": "500"},
            "hidden must be a list of positive integers, found '500'",
        ),
        ({"name": "mlp", "hidden": [3, 0]}, "hidden must be a positive integer, found 0"),
        (
            {"name": "mlp", "hidden": [2**63]},
            (
                r"a layer with a kernel of shape \(\d+, 9223372036854775808\) is too large, allowed"
                r" are 268,435,456"
            ),
        ),
        ({"name": "mlp", "hidden": [2.5]}, "hidden must be a positive integer, found 2.5"),
        ({"name": "mlp", "batch_norm": "yes"}, "batch_norm must be true or false, found 'yes'"),
        (
            {"name": "mlp", "activation": "sine"},
            "activation must be one of linear, relu.* found 'sine'",
        ),
        ({"name": "mlp", "epsilon": -1}, "epsilon must be a positive number, found -1"),
    ],
)
def test_misfit_architectures_are_refused(architecture, message):
    with pytest.raises(ParameterError, match=message):
        build(architecture, (28, 28, 1), 10)


def test_too_small_images_are_refused():
    with pytest.raises(
        ParameterError,
        match=(
            r"architecture 'lenet5' does not fit inputs of shape \(8, 8, 1\): a window of 5 does"
            r" not fit"
        ),
    ):
        build("lenet5", (8, 8, 1), 10)
    with pytest.raises(
        ParameterError, match=r"architecture 'lenet5' does not fit inputs of shape \(784,\)"
    ):
        build("lenet5", (784,), 10)


@pytest.mark.parametrize("classes", [0, True, "10"])
def test_classes_are_checked(classes):
    with pytest.raises(ParameterError, match="classes must be a positive integer"):
        build("lenet5", (28, 28, 1), classes)


def test_template_takes_networks_as_they_are():
    network = build("lenet5", (28, 28, 1), 10)
    assert template(network) is network


def test_template_finds_inputs_and_classes_in_the_sizes():
    network = template({"name": "mlp", "hidden": [4]}, [6 * 4, 4, 4 * 3, 3])
    assert network.input_shape == (6,)
    assert network.shapes[-1] == (3,)
    assert template("vgg-small", [7]).shapes[-1] == (7,)


def test_template_prefers_what_is_said():
    network = template({"name": "mlp", "hidden": [4], "input_shape": [2, 3, 1], "classes": 5})
    assert (network.input_shape, network.shapes[-1]) == ((2, 3, 1), (5,))


def test_template_needs_an_input_shape():
    with pytest.raises(ParameterError, match="architecture 'mlp': input_shape is needed"):
        template("mlp")
