"""Modules of a state_dict and the layers they are: by order, numbers in names, and shapes; two
readings are an error, never a choice.
"""

import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from netreduce.errors import ModelFileError
from netreduce.formats import load
from netreduce.formats.matching import Needed, match, natural_order
from netreduce.network import Network
from netreduce.network.layers import Activation, BatchNormalization, Conv2D, Dense


def deep(depth=12, width=4):
    """Equal layers, more than ten of them."""
    return Network([Dense(np.zeros((width, width)), activation="relu") for _ in range(depth)], (4,))


def deep_module(depth=12, width=4):
    torch.manual_seed(1)
    return nn.Sequential(
        *(part for _ in range(depth) for part in (nn.Linear(width, width), nn.ReLU()))
    )


def outputs(module, x):
    with torch.inference_mode():
        return module.eval()(torch.from_numpy(x)).numpy()


def assert_agrees(path, template, module):
    x = np.random.default_rng(0).random((5, *template.input_shape), np.float32)
    inputs = x if x.ndim == 2 else x.transpose(0, 3, 1, 2)
    expected = outputs(module, np.ascontiguousarray(inputs))
    found = load(path, template).predict(x)
    found = found if found.ndim == 2 else found.transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_more_than_ten_layers_sorted_by_name(tmp_path):
    module = deep_module()
    state = module.state_dict()
    torch.save({name: state[name] for name in sorted(state)}, tmp_path / "sorted.pth")
    assert_agrees(tmp_path / "sorted.pth", deep(), module)


def test_safetensors_are_sorted_by_name(tmp_path):
    module = deep_module()
    save_file(module.state_dict(), tmp_path / "sorted.safetensors")
    assert_agrees(tmp_path / "sorted.safetensors", deep(), module)


def test_an_order_that_contradicts_the_numbers_is_an_error(tmp_path):
    state = deep_module(3).state_dict()
    names = ["4.weight", "4.bias", "0.weight", "0.bias", "2.weight", "2.bias"]
    torch.save({name: state[name] for name in names}, tmp_path / "shuffled.pth")
    with pytest.raises(
        ModelFileError,
        match=r"shuffled.pth: the order of the file and the numbers in its names leave more than"
        r" one way to read it: dense_1 may be '0' or '4'; save the tensors with torch.save",
    ):
        load(tmp_path / "shuffled.pth", deep(3))


def test_an_order_that_the_shapes_prove_may_contradict_the_numbers():
    """A decoder whose layers count down."""
    modules = {"up3": {"weight": (4, 2)}, "up2": {"weight": (3, 4)}, "up1": {"weight": (1, 3)}}
    layers = [Needed(f"dense_{i}", {"weight": s}) for i, s in enumerate([(4, 2), (3, 4), (1, 3)])]
    assert match(modules, layers, ordered=True) == ["up3", "up2", "up1"]


def test_registration_in_another_order_is_mended_by_shapes():
    modules = {"head": {"weight": (2, 9)}, "b1": {"weight": (9, 5)}, "a": {"weight": (5, 3)}}
    layers = [Needed(f"dense_{i}", {"weight": s}) for i, s in enumerate([(5, 3), (9, 5), (2, 9)])]
    assert match(modules, layers, ordered=True) == ["a", "b1", "head"]


def test_names_without_order_are_an_error_where_shapes_do_not_tell():
    modules = {"output": {"weight": (4, 4)}, "input": {"weight": (4, 4)}}
    layers = [Needed(f"dense_{i}", {"weight": (4, 4)}) for i in (1, 2)]
    assert match(modules, layers, ordered=True) == ["output", "input"]  # as PyTorch saves them
    with pytest.raises(ModelFileError, match="dense_1 may be 'output' or 'input'"):
        match(modules, layers, ordered=False)


def test_biases_before_weights_show_that_names_were_sorted():
    modules = {"first": {"bias": (4,), "weight": (4, 4)}, "last": {"bias": (4,), "weight": (4, 4)}}
    layers = [Needed(f"dense_{i}", {"weight": (4, 4), "bias": (4,)}) for i in (1, 2)]
    with pytest.raises(ModelFileError, match="dense_1 may be 'first' or 'last'"):
        match(modules, layers, ordered=True)


def test_another_number_of_modules_fits_nothing():
    assert match({"a": {"weight": (1, 1)}}, [], ordered=True) is None
    layers = [Needed("dense_1", {"weight": (4, 4)})]
    assert match({"a": {"weight": (4, 3)}}, layers, ordered=True) is None


def test_too_many_readings_are_refused():
    names = [f"{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(40)]
    modules = {name: {"weight": (1, 1)} for name in names}
    layers = [Needed(f"dense_{i}", {"weight": (1, 1)}) for i in range(40)]
    with pytest.raises(ModelFileError, match="the names leave too many ways to read the tensors"):
        match(modules, layers, ordered=False)


class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x):
        return self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x)))))


class Blocks(nn.Module):
    """Registered in an order in which nothing runs."""

    def __init__(self):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(4)
        self.layer2 = nn.Sequential(*(Block(4, 4) for _ in range(6)))
        self.layer1 = nn.Sequential(*(Block(4, 4) for _ in range(6)))
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x):
        return self.layer2(self.layer1(torch.relu(self.bn1(self.conv1(x)))))


def blocks_template():
    one = np.ones(4, np.float32)
    norm = BatchNormalization(one, one, one, one, 1e-5)
    same = Conv2D(np.zeros((3, 3, 4, 4)), padding="same")
    block = [same, norm, Activation("relu"), same, norm]
    first = Conv2D(np.zeros((3, 3, 3, 4)), padding="same")
    return Network([first, norm, Activation("relu"), *(block * 12)], (5, 5, 3))


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_blocks_with_convolutions_and_normalization(tmp_path, suffix):
    torch.manual_seed(2)
    module = Blocks()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight)
            part.running_mean.normal_()
    path = tmp_path / f"blocks.{suffix}"
    (torch.save if suffix == "pth" else save_file)(module.state_dict(), path)
    assert_agrees(path, blocks_template(), module)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 30), st.randoms(use_true_random=False), st.booleans())
def test_any_order_of_numbered_modules(count, shuffle: random.Random, prefixed):
    """Whatever the order of the file: in the order of the numbers, or refused."""
    names = [f"net.{i}.linear" if prefixed else f"fc{i}" for i in range(count)]
    given_names = list(names)
    shuffle.shuffle(given_names)
    modules = {name: {"weight": (2, 2)} for name in given_names}
    layers = [Needed(f"dense_{i}", {"weight": (2, 2)}) for i in range(count)]
    assert match(modules, layers, ordered=False) == names
    if given_names in (names, sorted(names)):
        assert match(modules, layers, ordered=True) == names
    else:
        with pytest.raises(ModelFileError, match="leave more than one way to read it"):
            match(modules, layers, ordered=True)


def test_names_in_natural_order():
    names = ["b", "a10", "a2", "a", "a2.b1"]
    assert sorted(names, key=natural_order) == ["a", "a2", "a2.b1", "a10", "b"]
