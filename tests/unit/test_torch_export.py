"""Live PyTorch modules and .pt2 files: the network computes what the module computes, or the
operation that it cannot express is named.
"""

import io
import json
import zipfile

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F

import netreduce as nr
from netreduce.errors import ModelFileError, UnsupportedLayerError, VerificationError
from netreduce.formats.pytorch import graph as torch_graph


class Conv(nn.Sequential):
    """Convolution, batch normalization, activation: what most architectures are made of."""

    def __init__(self, inputs, outputs, kernel=3, stride=1, groups=1, act=nn.ReLU):
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            act(inplace=True),
        )


class Vgg(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2, 2),
            nn.Conv2d(8, 12, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2, 2),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((2, 2))
        self.classifier = nn.Sequential(
            nn.Linear(12 * 4, 20), nn.ReLU(True), nn.Dropout(), nn.Linear(20, 5)
        )

    def forward(self, x):
        x = torch.flatten(self.avgpool(self.features(x)), 1)
        return self.classifier(x)


class Residual(nn.Module):
    """Option "A": every second pixel, zeros as further channels. "B": a projection."""

    def __init__(self, inputs, outputs, stride, option):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Sequential()
        if stride != 1 and option == "A":
            self.shortcut = Zeros(outputs // 4)
        elif stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x):
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += self.shortcut(x)
        return F.relu(out)


class Zeros(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, x):
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.channels, self.channels))


class ResNet(nn.Module):
    def __init__(self, option, blocks=1):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        widths = (16, 16, 32, 64)
        self.layers = nn.Sequential(
            *(
                Residual(
                    widths[stage] if block == 0 else widths[stage + 1],
                    widths[stage + 1],
                    2 if stage and not block else 1,
                    option,
                )
                for stage in range(3)
                for block in range(blocks)
            )
        )
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        out = self.layers(F.relu(self.bn1(self.conv1(x))))
        out = F.avg_pool2d(out, out.size()[3])
        return self.linear(out.view(out.size(0), -1))


class Inverted(nn.Module):
    def __init__(self, inputs, outputs, stride, expansion):
        super().__init__()
        hidden = inputs * expansion
        self.use = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            Conv(inputs, hidden, 1, act=nn.ReLU6),
            Conv(hidden, hidden, 3, stride, groups=hidden, act=nn.ReLU6),
            nn.Conv2d(hidden, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x):
        return x + self.conv(x) if self.use else self.conv(x)


class MobileNet(nn.Sequential):
    def __init__(self):
        super().__init__(
            Conv(3, 8, 3, 2, act=nn.ReLU6),
            Inverted(8, 12, 2, 2),
            Inverted(12, 12, 1, 2),
            Conv(12, 24, 1, act=nn.Hardswish),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(24, 5),
        )


class DenseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(8 + 4 * i), nn.ReLU(), nn.Conv2d(8 + 4 * i, 4, 3, 1, 1, bias=False)
            )
            for i in range(3)
        )
        self.norm = nn.BatchNorm2d(20)
        self.pool = nn.AvgPool2d(2, 2)
        self.classifier = nn.Linear(20, 4)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.stem(x)), 3, 2, 1)
        for layer in self.layers:
            x = torch.cat([x, layer(x)], 1)
        x = F.relu(self.norm(self.pool(x)))
        return self.classifier(x.mean([2, 3]))


class SqueezeExcite(nn.Module):
    def __init__(self, by_linear):
        super().__init__()
        self.by_linear = by_linear
        self.conv = nn.Conv2d(3, 8, 3, 2)
        self.down = nn.Linear(8, 2) if by_linear else nn.Conv2d(8, 2, 1)
        self.up = nn.Linear(2, 8) if by_linear else nn.Conv2d(2, 8, 1)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        x = F.silu(self.conv(x))
        if self.by_linear:
            gate = F.adaptive_avg_pool2d(x, 1).view(x.size(0), 8)
            gate = torch.sigmoid(self.up(F.relu(self.down(gate)))).view(x.size(0), 8, 1, 1)
            x = x * gate.expand_as(x)
        else:
            gate = x.mean((2, 3), keepdim=True)
            x = F.hardsigmoid(self.up(F.relu(self.down(gate)))) * x
        return self.head(F.adaptive_max_pool2d(x, 1).flatten(1))


class ShuffleUnit(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 1, groups=1)
        self.grouped = nn.Conv2d(8, 8, 3, padding=1, groups=2)
        self.depthwise = nn.Conv2d(8, 16, 3, padding=(2, 1), dilation=(2, 1), groups=8)
        self.last = nn.Conv2d(12, 4, 1)

    def forward(self, x):
        x = F.relu(self.grouped(self.first(x)))
        x = x.view(x.size(0), 2, 4, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
        x = F.leaky_relu(self.depthwise(x), 0.1)
        first, second = x.chunk(2, dim=1)
        return F.pixel_shuffle(self.last(torch.cat([second, first[:, :4]], 1)), 2)


class Mover(nn.Module):
    """Elements in other places, by operations that have names of their own."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(12, 6, 3)
        self.last = nn.Linear(6, 3)

    def forward(self, x):
        x = F.channel_shuffle(self.first(F.pixel_unshuffle(x, 2)), 3).amax((2, 3))
        return self.last(torch.roll(x.flip(1), 2, 1))


class Picker(nn.Module):
    """Channels and features by their numbers, repeated, and halves of which one gates the other."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3)
        self.second = nn.Conv2d(5, 4, 1)
        self.last = nn.Linear(72, 4)

    def forward(self, x):
        x = F.glu(self.first(x), 1)[:, [2, 0, 0, -1]]
        x = torch.cat([x.index_select(1, torch.tensor([3])), x[:, 0:1].repeat(1, 4, 1, 1)], 1)
        x = F.glu(self.last(self.second(x)[:, 1].flatten(1)))
        return x.repeat(1, 2)


def autoencoder():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, stride=2, padding=1),
        nn.ELU(),
        nn.Conv2d(6, 8, 3, stride=2, padding=1),
        nn.PReLU(8),
        nn.ConvTranspose2d(8, 6, 3, stride=2, padding=1, output_padding=1),
        nn.GELU(),
        nn.ConvTranspose2d(6, 4, 4, stride=2, padding=1, groups=2),
        nn.Softplus(),
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Upsample(scale_factor=(1, 2), mode="bilinear"),
        nn.ZeroPad2d((1, -1, 0, 2)),
        nn.Conv2d(4, 1, (3, 2), padding="same"),
        nn.Sigmoid(),
    )


def one_dimensional():
    return nn.Sequential(
        nn.Conv1d(4, 8, 5, padding=2),
        nn.BatchNorm1d(8),
        nn.LeakyReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(8, 8, 3, groups=8, padding=1, bias=False),
        nn.AvgPool1d(3, 2, 1),
        nn.ConvTranspose1d(8, 4, 2, 2),
        nn.Flatten(),
        nn.Linear(4 * 8, 6),
        nn.BatchNorm1d(6),
        nn.Tanh(),
        nn.LogSoftmax(dim=1),
    )


class Arithmetic(nn.Module):
    """Normalization by hand, sums and products with numbers, arrays and other values."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5, 0.6]).view(1, 3, 1, 1))
        self.scale = nn.Parameter(torch.rand(3, 1, 1))
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.weight = nn.Parameter(torch.randn(3 * 36, 7))

    def forward(self, x):
        x = (x - self.mean) / 0.25 * self.scale
        y = self.conv(x)
        z = 1 - torch.sub(x, y, alpha=2) + 3 * y * x - (-x)
        z = F.hardtanh(z, -0.5, 4).clamp(max=3.5).clamp_min(-0.25)
        return (
            torch.exp(z.reshape(x.size(0), -1) @ self.weight / 50)
            + torch.exp(self.scale).view(3)[0]
        )


class Pools(nn.Module):
    """Windows that begin before the image and end behind it."""

    def forward(self, x):
        a = F.max_pool2d(x, 3, 2, ceil_mode=True)
        b = F.avg_pool2d(x, 2, 2, ceil_mode=True)
        c = F.avg_pool2d(x, 3, 2, 1, count_include_pad=False)
        d = F.avg_pool2d(x, (3, 1), 2, (1, 0))
        parts = [a, b, c[:, :, : a.shape[2], : a.shape[3]], d[:, :, : a.shape[2], : a.shape[3]]]
        return torch.cat(parts, 1).amax((2, 3)).flatten(1)


class InPlace(nn.Module):
    """A change that a view made before it sees as well."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.linear = nn.Linear(4, 2)

    def forward(self, x):
        y = self.conv(x)
        view = y.view(y.size(0), 4, -1)
        y.add_(1.0).relu_()
        return self.linear(view.mean(2))


class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(6, 6)

    def forward(self, x):
        return self.linear(F.gelu(self.linear(F.selu(x)), approximate="tanh"))


MODULES = {
    "mover": (Mover, (3, 8, 10)),
    "picker": (Picker, (3, 8, 14)),
    "vgg": (Vgg, (3, 16, 24)),
    "resnet with padding": (lambda: ResNet("A"), (3, 16, 16)),
    "resnet with projections": (lambda: ResNet("B", 2), (3, 16, 16)),
    "mobilenet": (MobileNet, (3, 16, 16)),
    "densenet": (DenseNet, (3, 32, 32)),
    "squeeze-excite by convolutions": (lambda: SqueezeExcite(False), (3, 11, 9)),
    "squeeze-excite by linear": (lambda: SqueezeExcite(True), (3, 11, 9)),
    "shuffled channels": (ShuffleUnit, (3, 6, 5)),
    "autoencoder": (autoencoder, (1, 16, 12)),
    "one-dimensional": (one_dimensional, (4, 16)),
    "arithmetic": (Arithmetic, (3, 6, 6)),
    "pools": (Pools, (3, 10, 8)),
    "in place": (InPlace, (3, 6, 6)),
    "shared parameters": (Shared, (6,)),
    "flat image": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(48, 3)), (3, 4, 4)),
    "image out": (lambda: nn.Conv2d(3, 2, 3, bias=False), (3, 5, 4)),
    "flattened image out": (lambda: nn.Sequential(nn.Conv2d(3, 2, 3), nn.Flatten()), (3, 5, 4)),
    "table": (lambda: nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Flatten()), (3, 4)),
    "larger by pooling": (lambda: nn.AdaptiveAvgPool2d((3, 4)), (2, 1, 2)),
    "nothing": (lambda: nn.Sequential(nn.Identity(), nn.Dropout(0.0)), (5,)),
}


def trained(make):
    """A module whose statistics of batch normalization are not those it begins with."""
    torch.manual_seed(0)
    module = make()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias)
            part.running_mean.normal_()
            part.running_var.uniform_(0.5, 2)
    return module.eval()


def outputs(module, x):
    with torch.inference_mode():
        return module(x).numpy()


def last(array):
    """Channels first as channels last."""
    return np.moveaxis(array, 1, -1) if array.ndim == 4 else array


def assert_computes(network, module, x):
    expected = last(outputs(module, x))
    inputs = np.moveaxis(x.numpy(), 1, -1) if network.input_shape != x.shape[1:] else x.numpy()
    found = network.predict(inputs)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("name", MODULES)
def test_the_network_computes_what_the_module_does(name):
    make, shape = MODULES[name]
    module = trained(make)
    network = nr.from_torch(module, torch.zeros(1, *shape))
    assert_computes(network, module, torch.rand(5, *shape))


@pytest.mark.parametrize("name", ["resnet with padding", "one-dimensional", "arithmetic"])
@pytest.mark.parametrize(("free", "decomposed"), [(False, False), (True, True)])
def test_exported_files_are_read(tmp_path, name, free, decomposed):
    make, shape = MODULES[name]
    module = trained(make)
    batch = {0: torch.export.Dim("batch")} if free else None
    with torch.no_grad():
        program = torch.export.export(
            module, (torch.rand(3, *shape),), dynamic_shapes=(batch,) if free else None
        )
    path = tmp_path / "network.bin"  # not by suffix
    torch.export.save(program.run_decompositions() if decomposed else program, path)
    assert_computes(nr.load(path), module, torch.rand(2, *shape))


def test_the_module_stays_as_it_is():
    module = Vgg().train()
    module.features.eval()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    nr.from_torch(module, torch.rand(4, 3, 16, 16))
    assert module.training and not module.features.training
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


def test_layers_are_as_few_as_can_be():
    network = nr.from_torch(trained(Vgg), torch.zeros(1, 3, 16, 16))
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == [
        *("Conv2D", "Conv2D", "MaxPooling2D", "Conv2D", "MaxPooling2D", "AveragePooling2D"),
        *("Flatten", "Dense", "Dense"),
    ]
    assert network.layers[0].activation == network.layers[7].activation == "relu"
    assert network.layers[0].padding == (1, 1, 1, 1)


class Calls(nn.Module):
    """A module that is one function of its input."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: torch.cumsum(x, 1), r"node 'cumsum' \(cumsum\): inputs of shape \(3, 6, 6\);.*"),
        (lambda x: F.group_norm(x, 3), r"\(group_norm\).* not supported. Known are: _adaptive"),
        (lambda x: x.mean(0, keepdim=True) + x, r"\(mean\): it does not keep the samples"),
        (lambda x: x[1:], r"\(slice\): it does not keep the samples of a batch apart"),
        (lambda x: x.flatten(0, 1), r"\(flatten\): it does not keep the samples of a batch apart"),
        (lambda x: F.pad(x, (1, 1), value=2.0), r"padding with 2.0 is not supported"),
        (lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), r"mode = 'reflect' is not supported"),
        (lambda x: F.adaptive_avg_pool2d(x, 4), r"pooling of \(6, 6\) to \(4, 4\): the sizes must"),
        (
            lambda x: F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True),
            r"align_corners = True is not supported, only False",
        ),
        (lambda x: F.interpolate(x, size=8), r"upsampling of \(6, 6\) to \(8, 8\): the sizes must"),
        (
            lambda x: F.interpolate(x, scale_factor=(2.1, 2.2)),
            r"upsampling of \(6, 6\) to \(12, 13\): the sizes must be multiples",
        ),
        (
            lambda x: F.interpolate(x, scale_factor=2.1),
            r"upsampling of \(6, 6\) to \(12, 12\) by \[2.1, 2.1\]: the factors must be whole",
        ),
        (lambda x: x.repeat(2, 1, 1, 1), r"\(repeat\): it does not keep the samples of a batch"),
        (
            lambda x: x[:, torch.tensor([True, False, True])],
            r"'index': only the batch axis may be free|expected whole numbers to pick by",
        ),
        (lambda x: x[:, [0, 1], [1, 2]], r"\(index\): only constant numbers along one axis"),
        (lambda x: x.flip(3), r"picked that do not follow each other in equal steps"),
        (lambda x: F.max_pool2d(x, 2, dilation=2), r"pooling with dilation is not supported"),
        (
            lambda x: F.avg_pool2d(x, 3, 2, 1, ceil_mode=True),
            r"an average that counts its padding but not what ceil_mode adds",
        ),
        (lambda x: x.mean(1), r"it goes over axes \[1\]: only rows and columns can be"),
        (lambda x: x + x.mean((2, 3), keepdim=True), r"shapes .* differ: only equal ones can be"),
        (lambda x: x / (x + 1), r"a quotient of two values is not supported"),
        (lambda x: torch.cat([x, x], 2), r"only channels can be"),
        (lambda x: x.half().float(), r"\(to\): it makes numbers of another type"),
        (lambda x: x.clamp(x.mean()), r"its limits depend on the input|does not keep the samples"),
        (lambda x: F.dropout(x, 0.5, True), r"dropout in training: export the module in eval"),
        (lambda x: F.dropout2d(x, 0.5, True), r"dropout in training: export the module in eval"),
        (lambda x: F.softplus(x, beta=2), r"beta = 2(.0)? is not supported, only 1"),
        (lambda x: (x, x), r"a network has one output, found 2"),
        (lambda x: F.batch_norm(x, None, None, training=True), r"statistics of the batch"),
    ],
)
def test_what_a_network_cannot_express_is_named(function, message):
    with pytest.raises(UnsupportedLayerError, match=message):
        nr.from_torch(Calls(function), torch.rand(2, 3, 6, 6))


@pytest.mark.parametrize("onnx", [False, True])
@pytest.mark.parametrize(
    ("low", "high"), [(-65504, 65504), (-3e38, 3e38), (-1e6, None), (None, 1e6), (-1, 20)]
)
def test_limits_far_away_round_nothing_between_them(low, high, onnx, tmp_path):
    module = trained(lambda: nn.Sequential(nn.Linear(5, 40), Calls(lambda x: x.clamp(low, high))))
    x = torch.linspace(-9, 9, 15).reshape(3, 5)
    expected = module(x).detach().numpy()
    if onnx:
        torch.onnx.export(module, (x,), tmp_path / "net.onnx", dynamo=False, dynamic_axes={})
        network = nr.load(tmp_path / "net.onnx")
        found = network.predict(x[None].numpy())[0]
    else:
        found = nr.from_torch(module, x).predict(x.numpy())
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("example", [torch.zeros(5), np.zeros((2, 3)), None])
def test_examples_are_batches_of_samples(example):
    with pytest.raises(UnsupportedLayerError, match="the example must be a tensor of samples"):
        nr.from_torch(nn.Linear(3, 3), example)


def test_modules_that_cannot_be_traced_are_refused():
    with pytest.raises(UnsupportedLayerError, match=r"torch.export cannot trace the module \("):
        nr.from_torch(Calls(lambda x: x * 2 if x.sum() > 0 else x), torch.rand(2, 3))
    with pytest.raises(UnsupportedLayerError, match=r"torch.export cannot trace the module \("):
        nr.from_torch(nn.Linear(3, 3), torch.rand(2, 4))


def test_two_inputs_are_refused(tmp_path):
    class Sum(nn.Module):
        def forward(self, x, y):
            return x + y

    torch.export.save(torch.export.export(Sum(), (torch.rand(2, 3),) * 2), tmp_path / "sum.pt2")
    with pytest.raises(UnsupportedLayerError, match=r"sum.pt2: a network has one input, found 2"):
        nr.load(tmp_path / "sum.pt2")


def test_disagreement_is_an_error(monkeypatch):
    monkeypatch.setitem(
        torch_graph.OPERATORS,
        "relu",
        torch_graph.OPERATORS["tanh"],
    )
    with pytest.raises(
        VerificationError, match=r"on the example the network and the module differ"
    ):
        nr.from_torch(nn.ReLU(), torch.rand(2, 3))


# ---------------------------------------------------------------- damaged and hostile files


def archive(path, **changes):
    """An exported file with some members exchanged; None leaves one out."""
    content = io.BytesIO()
    with torch.no_grad():
        module = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
        torch.export.save(torch.export.export(module, (torch.rand(2, 3),)), content)
    with zipfile.ZipFile(content) as original, zipfile.ZipFile(path, "w") as changed:
        for name in original.namelist():
            key = name.partition("/")[2].replace("/", "__").partition(".")[0]
            part = changes.get(key, original.read(name))
            if callable(part):
                part = json.dumps(part(json.loads(original.read(name)))).encode()
            if part is not None:
                changed.writestr(name, part)
    return path


def weights(**changes):
    def change(content):
        content["config"]["0.weight"].update(changes)
        return content

    return change


def meta(**changes):
    def change(content):
        content["config"]["0.weight"]["tensor_meta"].update(changes)
        return content

    return change


def size(**changes):
    def change(content):
        content["graph_module"]["graph"]["tensor_values"]["linear"]["sizes"][1].update(changes)
        return content

    return change


CONFIG = "data__weights__model_weights_config"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {CONFIG: weights(use_pickle=True)},
            r"parameter '0.weight' is a pickled object, which can",
        ),
        ({CONFIG: weights(path_name="nowhere")}, r"the archive lacks data/weights/nowhere"),
        ({CONFIG: meta(sizes=[{"as_int": 9}] * 2)}, r"claims shape \(9, 9\), the file holds 6"),
        ({CONFIG: meta(strides=[{"as_int": -1}] * 2)}, r"claims shape \(2, 3\), the file holds 6"),
        (
            {
                CONFIG: meta(
                    sizes=[{"as_int": 1 << 20}, {"as_int": 3}],
                    strides=[{"as_int": 0}, {"as_int": 1}],
                )
            },
            r"repeats 6 values to shape",
        ),
        ({CONFIG: meta(dtype=9)}, r"expected dense real numbers, found type 9"),
        (
            {"data__weights__weight_0": np.full(6, np.nan, "f4").tobytes()},
            r"'0.weight': found 6 values that are NaN or infinite",
        ),
        (
            {"data__weights__weight_0": b"abc"},
            r"network.pt2: not a valid network file \(ValueError",
        ),
        ({"models__model": None}, r"expected one program in the .pt2 file, found none"),
        ({"models__model": b"{}"}, r"network.pt2: not a valid network file \(KeyError"),
        ({"models__model": b"[" * 100_000}, r"not a valid network file \(RecursionError"),
        (
            {"models__model": size(as_int=7)},
            r"node 'linear' \(linear\): computes shape \(2,\), the program says \(7,\)",
        ),
    ],
)
def test_files_that_are_not_in_order(tmp_path, changes, message):
    with pytest.raises(ModelFileError, match=message):
        nr.load(archive(tmp_path / "network.pt2", **changes))


def test_whole_files_of_the_same_making_are_read(tmp_path):
    assert nr.load(archive(tmp_path / "network.pt2")).layers[0].activation == "relu"


def test_files_of_older_forms_name_the_way_out(tmp_path):
    with zipfile.ZipFile(tmp_path / "old.pt2", "w") as old:
        old.writestr("serialized_exported_program.json", "{}")
    with pytest.raises(ModelFileError, match=r"of an older form: load it with torch.export.load"):
        nr.load(tmp_path / "old.pt2")


# ---------------------------------------------------------------- state_dicts of PyTorch

OPTION_A = {"name": "resnet20", "shortcut": "A", "reduce": "stride", "zeros": "both"}


@pytest.mark.parametrize(("option", "architecture"), [("A", OPTION_A), ("B", "resnet20")])
@pytest.mark.parametrize("way", ["torch", "sorted", "safetensors"])
def test_a_resnet20_of_pytorch(tmp_path, option, architecture, way):
    module = trained(lambda: ResNet(option, 3))
    state, path = module.state_dict(), tmp_path / "resnet.bin"
    if way == "safetensors":
        save_file(state, path)
    else:
        torch.save(
            {name: state[name] for name in sorted(state)} if way == "sorted" else state, path
        )
    assert_computes(nr.load(path, architecture), module, torch.rand(4, 3, 32, 32))


def test_normalization_and_slopes_of_pytorch(tmp_path):
    module = trained(
        lambda: nn.Sequential(
            nn.Linear(6, 5), nn.BatchNorm1d(5), nn.LeakyReLU(), nn.Linear(5, 4), nn.BatchNorm1d(4),
            nn.LeakyReLU(), nn.Linear(4, 3),
        )
    )  # fmt: skip
    for part in (module[1], module[4]):
        part.running_var.mul_(1e-4)  # so that the epsilon matters
    torch.save(module.state_dict(), tmp_path / "mlp.pth")
    description = {"name": "mlp", "hidden": [5, 4], "batch_norm": True, "activation": "leaky_relu"}
    assert_computes(nr.load(tmp_path / "mlp.pth", description), module, torch.rand(9, 6))
    keras = nr.load(tmp_path / "mlp.pth", {**description, "framework": "keras"})
    assert [keras.layers[i].epsilon for i in (1, 4)] == [1e-3, 1e-3]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_modules_in_half_precision_compute_in_float32(dtype):
    torch.manual_seed(0)
    module = torch.nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)).to(dtype)
    x = torch.randn(8, 6)
    network = nr.from_torch(module, x.to(dtype))
    assert module[0].weight.dtype == dtype and network.dtype == np.float32
    expected = module.float()(x).detach().numpy()
    np.testing.assert_allclose(network.predict(x.numpy()), expected, atol=1e-5)
