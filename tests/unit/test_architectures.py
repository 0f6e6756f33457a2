"""Architectures by name, and layer by layer."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from netreduce.errors import ParameterError
from netreduce.formats import load, save
from netreduce.measures.packing import pack
from netreduce.network.architectures import build, template
from netreduce.network.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    ZeroPadding2D,
)


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
                " resnet32, resnet44, resnet56, vgg16, vgg19, or a mapping with the key 'layers'"
            ),
        ),
        (
            {"name": "mlp", "widths": [3]},
            (
                "architecture 'mlp': unknown key 'widths', expected one of name, hidden,"
                " activation, batch_norm, epsilon"
            ),
        ),
        (
            {"hidden": [3]},
            "a name, a mapping with the key 'name', or one with the key 'layers', found {'hidden'",
        ),
        ({"name": "mlp", "layers": ["relu"]}, "or one with the key 'layers', found"),
        (7, "an architecture is a name, a mapping with the key 'name', or .* found 7"),
        (
            {"name": "mlp", "framework": "jax"},
            "framework must be one of keras, torch, found 'jax'",
        ),
        (
            {"name": "resnet20", "shortcut": "A"},
            r"shortcut A needs reduce: stride \(every second pixel\) or average .* programs differ",
        ),
        (
            {"name": "resnet20", "shortcut": "A", "reduce": "stride"},
            "shortcut A needs .* zeros: both .* or end",
        ),
        ({"name": "resnet20", "zeros": "end"}, "settings of shortcut A, found shortcut B"),
        ({"name": "resnet20", "shortcut": "C"}, "shortcut must be A or B, found 'C'"),
        ({"name": "resnet20", "reduce": 2}, "reduce must be stride or average, found 2"),
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


def test_conventions_of_pytorch():
    network = build("resnet20", (32, 32, 3), 10, framework="torch")
    norms = [layer for layer in network.layers if isinstance(layer, BatchNormalization)]
    assert {layer.epsilon for layer in norms} == {1e-5}
    halving = [
        layer
        for layer in network.layers
        if isinstance(layer, Conv2D) and layer.strides == (2, 2) and layer.kernel.shape[0] == 3
    ]
    assert [layer.padding for layer in halving] == [(1, 1, 1, 1)] * 2
    assert network.shapes == build("resnet20", (32, 32, 3), 10).shapes
    ours = build({"name": "resnet20", "framework": "keras"}, (32, 32, 3), 10, framework="torch")
    assert {layer.padding for layer in ours.layers if isinstance(layer, Conv2D)} == {"same"}


@pytest.mark.parametrize("batch_norm", [True, False])
def test_slope_of_leaky_relu(batch_norm):
    architecture = {
        "name": "mlp",
        "hidden": [4, 3],
        "activation": "leaky_relu",
        "batch_norm": batch_norm,
    }
    theirs = build(architecture, (5,), 2, framework="torch")
    slopes = [layer.negative_slope for layer in theirs.layers if isinstance(layer, Activation)]
    assert slopes == [0.01, 0.01]
    assert {layer.activation for layer in theirs.layers if isinstance(layer, Dense)} == {"linear"}
    ours = build(architecture, (5,), 2)
    if batch_norm:
        assert [layer.negative_slope for layer in ours.layers if isinstance(layer, Activation)] == [
            0.2,
            0.2,
        ]
    else:
        assert [layer.activation for layer in ours.layers] == ["leaky_relu", "leaky_relu", "linear"]


@pytest.mark.parametrize(
    ("depth", "size"), [(20, 269_722), (32, 464_154), (44, 658_586), (56, 853_018)]
)
def test_residual_networks_have_the_published_sizes(depth, size):
    """0.27, 0.46, 0.66 and 0.85 million parameters (He et al., 2016, table 6), with option A.

    Their convolutions have no biases, and running statistics are not counted.
    """
    architecture = {
        "name": f"resnet{depth}",
        "shortcut": "A",
        "reduce": "stride",
        "zeros": "both",
    }
    network = build(architecture, (32, 32, 3), 10)
    counted = 0
    for layer in network.layers:
        if isinstance(layer, Conv2D):
            counted += layer.kernel.size
        elif isinstance(layer, BatchNormalization):
            counted += 2 * len(layer.gamma)
        elif isinstance(layer, Dense):
            counted += layer.kernel.size + layer.bias.size
    assert counted == size


def test_shortcuts_without_weights():
    settings = {"shortcut": "A", "reduce": "stride", "zeros": "end"}
    network = build({"name": "resnet20", **settings}, (8, 8, 3), 10, seed=0)
    x = np.random.default_rng(0).random((2, 8, 8, 3)).astype(np.float32)
    values = list(network.activations(x))
    crossings = [i for i, layer in enumerate(network.layers) if isinstance(layer, ZeroPadding2D)]
    assert len(crossings) == 2
    for index in crossings:
        before = values[network.sources[index - 2][0]]
        channels = before.shape[-1]
        np.testing.assert_array_equal(values[index + 1][..., :channels], before[:, ::2, ::2])
        assert not values[index + 1][..., channels:].any()
    settings |= {"reduce": "average", "zeros": "both"}
    network = build({"name": "resnet20", **settings}, (8, 8, 3), 10, seed=0)
    values = list(network.activations(x))
    for index in crossings:
        before = values[network.sources[index - 2][0]]
        quarter = before.shape[-1] // 2
        means = before.reshape(2, before.shape[1] // 2, 2, before.shape[2] // 2, 2, -1).mean((2, 4))
        np.testing.assert_allclose(values[index + 1][..., quarter:-quarter], means, rtol=1e-6)
        assert not values[index + 1][..., :quarter].any()
        assert not values[index + 1][..., -quarter:].any()


LAYERS = [
    {"conv": {"filters": 4, "kernel": [3, 5], "padding": [1, 2], "strides": 2}},
    "batch_norm",
    {"leaky_relu": 0.1},
    {"depthwise_conv": {"kernel": 3, "multiplier": 2, "padding": "same"}},
    {"conv": {"filters": 8, "kernel": 3, "padding": 1, "groups": 4, "activation": "relu"}},
    {"max_pool": {"size": 3, "strides": 2, "padding": 1}},
    {
        "conv_transpose": {
            "filters": 4,
            "kernel": 3,
            "strides": 2,
            "padding": 1,
            "output_padding": 1,
        }
    },
    {"average_pool": {"size": 2, "padding": 1}},
    {"upsampling": {"size": 2, "interpolation": "bilinear"}},
    {"zero_padding": 1},
    {"cropping": [0, 1, 2, 3]},
    "prelu",
    {"dropout": 0.25},
    {"relu": {"max_value": 6}},
    "flatten",
    {"dense": {"units": 6, "activation": "tanh"}},
    {"batch_norm": 0.01},
    {"reshape": [1, 2, 3]},
    "global_max_pool",
    {"dense": 10},
    "log_softmax",
]


def in_pytorch(layers):
    return template({"layers": layers, "input_shape": [12, 16, 2]}, framework="torch")


def test_layer_by_layer_as_in_pytorch():
    """The same layers, written in PyTorch, with the same weights, compute the same."""
    network = in_pytorch(LAYERS)
    network = network.replace(
        {
            i: layer.replace(**{n: drawn(a, n) for n, a in layer.arrays().items()})
            for i, layer in enumerate(network.layers)
            if layer.arrays()
        }
    )
    assert network.names[:3] == ("conv2d_1", "batch_normalization_1", "activation_1")
    assert network.layers[1].epsilon == 1e-5
    module = nn.Sequential(
        nn.Conv2d(2, 4, (3, 5), 2, (1, 2)),
        nn.BatchNorm2d(4),
        nn.LeakyReLU(0.1),
        nn.Conv2d(4, 8, 3, 1, "same", groups=4),
        nn.Conv2d(8, 8, 3, 1, 1, groups=4),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
        nn.ConvTranspose2d(8, 4, 3, 2, 1, 1),
        nn.AvgPool2d(2, padding=1),
        nn.Upsample(scale_factor=2, mode="bilinear"),
        nn.ZeroPad2d(1),
        nn.ZeroPad2d((-2, -3, 0, -1)),
        nn.PReLU(4),
        nn.Dropout(),
        nn.ReLU6(),
        nn.Flatten(),
    ).eval()
    arrays = [
        array
        for layer in network.layers[:14]
        if layer.arrays()
        for array in in_pytorch_order(layer)
    ]
    with torch.no_grad():
        tensors = [t for n, t in module.state_dict().items() if "num_batches" not in n]
        for tensor, array in zip(tensors, arrays, strict=True):
            tensor.copy_(torch.from_numpy(np.ascontiguousarray(array)).reshape(tensor.shape))
        x = np.random.default_rng(1).standard_normal((3, 12, 16, 2)).astype(np.float32)
        expected = module(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    values = list(network.activations(x))
    np.testing.assert_allclose(
        values[13].transpose(0, 3, 1, 2).reshape(3, -1), expected, rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(np.exp(network.predict(x)).sum(axis=1), 1, rtol=1e-5)


def drawn(array, name):
    values = np.random.default_rng(array.shape).uniform(0.3, 1, array.shape)
    signs = 1 if name == "variance" else np.random.default_rng(0).choice([-1, 1], array.shape)
    return (values * signs).astype(np.float32)


def in_pytorch_order(layer):
    arrays = dict(layer.arrays())
    if "kernel" in arrays:
        kernel = arrays["kernel"]
        if type(layer).__name__ == "DepthwiseConv2D":
            kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
        arrays["kernel"] = kernel.transpose(3, 2, 0, 1)
    return arrays.values()


def test_layer_by_layer_as_in_keras():
    layers = [
        {"conv": {"filters": 4, "kernel": 3, "padding": "same", "strides": 2}},
        "relu",
        "batch_norm",
        {"average_pool": {"size": 2, "padding": 1}},
        "flatten",
        {"dense": {"units": 3, "activation": "leaky_relu"}},
    ]
    network = build({"layers": layers}, (8, 8, 1), 3, seed=0)
    assert network.layers[0].padding == "same"
    assert network.layers[2].epsilon == 1e-3
    assert not network.layers[3].count_padding
    assert network.layers[-1].activation == "leaky_relu"
    assert network.layers[0].kernel.any()


def test_a_description_and_a_name_make_the_same_network():
    layers = [
        {"conv": {"filters": 6, "kernel": 5, "padding": "same", "activation": "relu"}},
        {"max_pool": 2},
        {"conv": {"filters": 16, "kernel": 5, "activation": "relu"}},
        {"max_pool": 2},
        "flatten",
        {"dense": {"units": 120, "activation": "relu"}},
        {"dense": {"units": 84, "activation": "relu"}},
        {"dense": 10},
    ]
    described = build({"layers": layers}, (28, 28, 1), 10, seed=3)
    named = build("lenet5", (28, 28, 1), 10, seed=3)
    assert pack(described) == pack(named)


def test_the_inputs_of_a_described_mlp_are_found_in_the_sizes():
    layers = ["flatten", {"dense": {"units": 4, "activation": "relu"}}, {"dense": 3}]
    assert template({"layers": layers}, [24, 4, 12, 3]).input_shape == (6,)
    with pytest.raises(ParameterError, match="an architecture with layers: input_shape is needed"):
        template({"layers": [{"conv": {"filters": 4, "kernel": 3}}]}, [36, 4])


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([], r"layers must be a list of layers, found \[\]"),
        ("relu", "layers must be a list of layers, found 'relu'"),
        (7, "layers must be a list of layers, found 7"),
        (["swosh"], "number 1 is 'swosh', expected one of conv, .* or an activation .linear, relu"),
        ([{"conv": {}, "relu": {}}], "number 1 is {'conv': {}, 'relu': {}}, expected one of"),
        ([["conv"]], r"number 1 is \['conv'\]"),
        (
            ["relu", {"conv": {"filters": 4}}],
            r"layers: number 2 \(conv\): kernel must be given",
        ),
        (
            [{"conv": {"filters": 4, "kernal": 3}}],
            r"\(conv\): unknown setting 'kernal', expected one of filters, kernel, strides",
        ),
        ([{"conv": 4}], r"number 1 \(conv\): settings must be a mapping, found 4"),
        ([{"flatten": {"axis": 1}}], "unknown setting 'axis', it has none"),
        ([{"tanh": {"alpha": 1}}], r"\(tanh\): unknown setting 'alpha', it has none"),
        ([{"conv": {"filters": 0, "kernel": 3}}], "filters must be a positive integer, found 0"),
        ([{"conv": {"filters": 4, "kernel": [3]}}], r"kernel must be one or two .* found \[3\]"),
        (
            [{"conv": {"filters": 4, "kernel": 3, "padding": "full"}}],
            "padding must be 'valid', 'same' or four .* found 'full'",
        ),
        (
            [{"conv": {"filters": 4, "kernel": 3, "groups": 3}}],
            "2 input channels cannot be cut into 3 groups",
        ),
        ([{"conv": {"filters": 4, "kernel": 3, "activation": "x"}}], "activation must be one of"),
        ([{"conv": {"filters": 4, "kernel": 30}}], r"\(conv\): a window of 30 does not fit"),
        ([{"dense": 4}], r"number 1 \(dense\): expected 1 axes, found 3"),
        ([{"max_pool": 0}], "pool_size must be one or two positive integers, found 0"),
        ([{"dropout": 1.5}], r"rate must be in \[0, 1\), found 1.5"),
        ([{"batch_norm": -1}], "epsilon must be a positive number, found -1"),
        ([{"elu": "much"}], "alpha must be a number, found 'much'"),
        ([{"prelu": 3}], "alphas must be channels or 1, found 3"),
        ([{"reshape": [3, 3]}], "expects 9 values"),
        (["leaky_relu"], "Keras' activation has 0.2, its layer LeakyReLU 0.3"),
        (["flatten", {"dense": 4}], r"outputs of shape \(4,\), expected \(10,\)"),
    ],
)
def test_descriptions_that_are_not_understood(layers, message):
    with pytest.raises(ParameterError, match=message):
        build({"layers": layers}, (8, 8, 2), 10)


def test_padding_same_with_strides_is_not_pytorchs():
    layers = [{"conv": {"filters": 4, "kernel": 3, "padding": "same", "strides": 2}}]
    with pytest.raises(ParameterError, match="PyTorch has no padding 'same' with strides"):
        in_pytorch(layers)


SHARED = Path(__file__).resolve().parents[3] / "shared" / "networks"


class Block(nn.Module):
    """A residual block, with a shortcut as two published programs have it (`average` says which),
    or a projection.
    """

    def __init__(self, inputs, outputs, stride, bias, average, project=False):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.stride, self.average, self.added = stride, average, (outputs - inputs) // 2
        self.shortcut = nn.Sequential()
        if project and stride == 2:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        y = self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))
        if len(self.shortcut):
            x = self.shortcut(x)
        elif self.stride == 2:
            x = nn.functional.avg_pool2d(x, 2) if self.average else x[:, :, ::2, ::2]
            x = nn.functional.pad(x, (0, 0, 0, 0, self.added, self.added))
        return torch.relu(x + y)


def residual_network(bias, average, project=False):
    blocks, inputs = [], 16
    for outputs in (16, 32, 64):
        for block in range(3):
            stride = 2 if outputs > 16 and not block else 1
            blocks.append(Block(inputs, outputs, stride, bias, average, project))
            inputs = outputs
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=bias),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 10),
    ).eval()


@pytest.mark.parametrize(
    ("file", "reduce", "wrapped"),
    [("resnet20_option_a.th", "stride", True), ("resnet20_pytorch.pth", "average", False)],
)
def test_residual_networks_trained_in_pytorch_compute_what_they_did(file, reduce, wrapped):
    path = SHARED / file
    if not path.is_file():
        pytest.skip(f"{path} is not there")
    content = torch.load(path, map_location="cpu", weights_only=True)
    tensors = list((content["state_dict"] if wrapped else content).values())
    module = residual_network(bias=not wrapped, average=reduce == "average")
    names = module.state_dict()
    if wrapped:  # written before batches were counted
        names = [name for name in names if "num_batches" not in name]
    module.load_state_dict(dict(zip(names, tensors, strict=True)), strict=False)
    architecture = {"name": "resnet20", "shortcut": "A", "reduce": reduce, "zeros": "both"}
    network = load(path, architecture)
    x = np.random.default_rng(0).standard_normal((8, 32, 32, 3)).astype(np.float32)
    with torch.inference_mode():
        expected = module(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).numpy()
    np.testing.assert_allclose(network.predict(x), expected, atol=1e-4 * np.abs(expected).max())


def trained(module):
    """The module with statistics and weights as after training."""
    torch.manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.running_mean, -0.5, 0.5)
            nn.init.uniform_(part.running_var, 1e-4, 0.5)  # where ε shows
            nn.init.uniform_(part.weight, 0.1, 0.5)
    return module.eval()


def agrees_with_pytorch(module, network, shape):
    x = np.random.default_rng(0).standard_normal((8, *shape)).astype(np.float32)
    inputs = x.transpose(0, 3, 1, 2).copy() if x.ndim == 4 else x
    with torch.inference_mode():
        expected = module(torch.from_numpy(inputs)).numpy()
    np.testing.assert_allclose(network.predict(x), expected, atol=1e-4 * np.abs(expected).max())


def test_a_resnet_with_projections_saved_by_pytorch(tmp_path):
    module = trained(residual_network(bias=False, average=False, project=True))
    torch.save(module.state_dict(), tmp_path / "resnet.pth")
    network = load(tmp_path / "resnet.pth", "resnet20")
    agrees_with_pytorch(module, network, (32, 32, 3))


def test_batch_normalization_and_leaky_relu_saved_by_pytorch(tmp_path):
    module = trained(
        nn.Sequential(
            nn.Linear(6, 5),
            nn.BatchNorm1d(5),
            nn.LeakyReLU(),
            nn.Linear(5, 4),
            nn.BatchNorm1d(4),
            nn.LeakyReLU(),
            nn.Linear(4, 3),
        )
    )
    torch.save(module.state_dict(), tmp_path / "mlp.pth")
    architecture = {
        "name": "mlp",
        "hidden": [5, 4],
        "activation": "leaky_relu",
        "batch_norm": True,
    }
    agrees_with_pytorch(module, load(tmp_path / "mlp.pth", architecture), (6,))
    layers = [{"dense": 5}, "batch_norm", "leaky_relu", {"dense": 4}, "batch_norm", "leaky_relu"]
    layers = {"layers": [*layers, {"dense": 3}]}
    agrees_with_pytorch(module, load(tmp_path / "mlp.pth", layers), (6,))


@pytest.mark.parametrize("suffix", [".pth", ".txt"])
def test_what_was_trained_here_keeps_its_conventions(tmp_path, suffix):
    network = build("resnet20", (32, 32, 3), 10, seed=0)
    save(network, tmp_path / f"ours{suffix}")
    loaded = load(tmp_path / f"ours{suffix}", "resnet20")
    x = np.random.default_rng(0).standard_normal((4, 32, 32, 3)).astype(np.float32)
    np.testing.assert_array_equal(loaded.predict(x), network.predict(x))
