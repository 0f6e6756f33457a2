"""Real PyTorch files, with the architectures that their repositories publish, against modules of
these architectures in PyTorch.
"""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

import netreduce as nr
from netreduce.errors import ModelFileError

SHARED = Path(__file__).resolve().parents[2].parent / "shared/networks"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared beside the checkout")


class Block(nn.Module):
    """A residual block; across a change of size: zeros as channels, and every second pixel or the
    means of 2×2.
    """

    def __init__(self, inputs, outputs, stride, bias, average):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=bias)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=bias)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.added, self.average = (outputs - inputs) // 2, average

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.added:
            x = F.avg_pool2d(x, 2, 2) if self.average else x[:, :, ::2, ::2]
            x = F.pad(x, (0, 0, 0, 0, self.added, self.added))
        return F.relu(x + y)


def blocks(bias, average):
    sizes = [(16, 16, 1)] * 3 + [(16, 32, 2)] + [(32, 32, 1)] * 2 + [(32, 64, 2)]
    return [Block(*size, bias, average) for size in [*sizes, (64, 64, 1), (64, 64, 1)]]


class ResNetOptionA(nn.Module):
    """akamaster/pytorch_resnet_cifar10."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        parts = blocks(bias=False, average=False)
        self.layer1, self.layer2, self.layer3 = (
            nn.Sequential(*parts[i : i + 3]) for i in (0, 3, 6)
        )
        self.linear = nn.Linear(64, 10)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(F.relu(self.bn1(self.conv1(x))))))
        return self.linear(F.avg_pool2d(x, x.size(3)).view(x.size(0), -1))


class ResNetAverage(nn.Module):
    """atreides-K/Basic-Image-Classification-ML."""

    def __init__(self):
        super().__init__()
        self.conv0 = nn.Conv2d(3, 16, 3, padding=1)
        self.bn0 = nn.BatchNorm2d(16)
        self.convs = nn.Sequential(*blocks(bias=True, average=True))
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = self.convs(F.relu(self.bn0(self.conv0(x))))
        return self.fc(F.avg_pool2d(x, 8, 1).view(x.size(0), -1))


def in_sequence(*parts):
    return lambda: nn.Sequential(*parts)


def dense(*sizes):
    parts = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        parts += [nn.Linear(inputs, outputs), nn.ReLU()]
    return in_sequence(*parts[:-1])


LENET = [
    nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
]  # fmt: skip
LENET_LAYERS = [
    {"conv": {"filters": 6, "kernel": 5}}, "relu", {"max_pool": 2},
    {"conv": {"filters": 16, "kernel": 5}}, "relu", {"max_pool": 2},
]  # fmt: skip
FILES = {
    # khushbujpatel/lenet_mnist
    "lenet5_state_dict.pt": (
        in_sequence(
            *LENET, nn.Conv2d(16, 120, 5), nn.ReLU(), nn.Flatten(),
            nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10), nn.LogSoftmax(dim=-1),
        ),
        {
            "layers": [
                *LENET_LAYERS, {"conv": {"filters": 120, "kernel": 5}}, "relu", "flatten",
                {"dense": 84}, "relu", {"dense": 10}, "log_softmax",
            ],
            "input_shape": [32, 32, 1],
        },
    ),
    # FYH620/lenet-mnist-openvino
    "lenet_pytorch.pth": (
        in_sequence(
            *LENET, nn.Flatten(), nn.Linear(256, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(),
            nn.Linear(84, 10),
        ),
        {
            "layers": [
                *LENET_LAYERS, "flatten", {"dense": 120}, "relu", {"dense": 84}, "relu",
                {"dense": 10},
            ],
            "input_shape": [28, 28, 1],
        },
    ),
    # Verified-Intelligence/auto_LiRPA
    "lirpa_mnist_cnn.pth": (
        in_sequence(
            nn.Conv2d(1, 8, 4, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 4, 2, 1), nn.ReLU(), nn.Flatten(),
            nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10),
        ),
        {
            "layers": [
                {"conv": {"filters": 8, "kernel": 4, "strides": 2, "padding": 1}}, "relu",
                {"conv": {"filters": 16, "kernel": 4, "strides": 2, "padding": 1}}, "relu",
                "flatten", {"dense": 256}, "relu", {"dense": 10},
            ],
            "input_shape": [28, 28, 1],
        },
    ),
    "lirpa_mnist_fc.pth": (dense(784, 128, 64, 10), {"name": "mlp", "hidden": [128, 64]}),
    # cxlvinchau/LiNNA
    "linna_mnist_3x100.pth": (
        dense(784, 100, 100, 100, 10),
        {"name": "mlp", "hidden": [100, 100, 100]},
    ),
    # udacity/deep-reinforcement-learning
    "udacity_dqn.pth": (dense(8, 64, 64, 4), {"name": "mlp", "hidden": [64, 64]}),
    "resnet20_option_a.th": (
        ResNetOptionA,
        {"name": "resnet20", "shortcut": "A", "reduce": "stride", "zeros": "both"},
    ),
    "resnet20_pytorch.pth": (
        ResNetAverage,
        {"name": "resnet20", "shortcut": "A", "reduce": "average", "zeros": "both"},
    ),
}  # fmt: skip


def tensors(name):
    content = torch.load(SHARED / name, "cpu", weights_only=True)
    return list(content.get("state_dict", content).items())


@pytest.mark.parametrize("name", FILES)
def test_the_network_computes_what_pytorch_does(name):
    make, architecture = FILES[name]
    module = make().eval()
    names = [key for key in module.state_dict() if not key.endswith("num_batches_tracked")]
    found = [tensor for key, tensor in tensors(name) if not key.endswith("num_batches_tracked")]
    module.load_state_dict(dict(zip(names, found, strict=True)), strict=False)

    network = nr.load(SHARED / name, architecture)
    x = np.random.default_rng(0).random((20, *network.input_shape), np.float32)
    inputs = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    with torch.inference_mode():
        expected = module(torch.from_numpy(inputs)).numpy()
    difference = np.abs(network.predict(x) - expected).max() / np.abs(expected).max()
    assert difference < 1e-5


@pytest.mark.parametrize("name", ["resnet20_option_a.th", "resnet20_pytorch.pth"])
def test_shortcuts_without_weights_must_be_told(name):
    with pytest.raises(
        ModelFileError,
        match=r"resnet20: the shortcuts of this file have no weights \(option A\), and programs"
        r" differ .* \{name: resnet20, shortcut: A, reduce: stride, zeros: both\}",
    ):
        nr.load(SHARED / name, "resnet20")
