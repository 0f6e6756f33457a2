"""Training on the grid: codes stay codes, and the network gets better."""

import numpy as np
import pytest

from netreduce.chains.steps import apply, parse_chain, parse_step
from netreduce.errors import ParameterError
from netreduce.measures.evaluation import accuracy
from netreduce.network import Network
from netreduce.network.layers import (
    ActivationGrid,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
)
from netreduce.quantization import quantize
from netreduce.quantization.activations import quantize_activations
from netreduce.training.finetuning import finetune


def teacher(dtype=np.float32):
    """A network whose batch normalization, flattening and groups PyTorch has in another order."""
    rng = np.random.default_rng(0)
    network = Network(
        [
            Conv2D(rng.normal(size=(2, 2, 2, 8)), rng.normal(size=8), activation="relu", groups=2),
            BatchNormalization(np.ones(8), np.zeros(8), np.full(8, 0.5), np.ones(8)),
            DepthwiseConv2D(rng.normal(size=(2, 2, 8, 1)), rng.normal(size=8), activation="relu"),
            Flatten(),
            Dense(rng.normal(size=(128, 4)) / 8, rng.normal(size=4) / 8, activation="softmax"),
        ],
        (6, 6, 4),
    )
    return network.replace(
        {
            i: layer.replace(**{n: array.astype(dtype) for n, array in layer.arrays().items()})
            for i, layer in enumerate(network.layers)
            if layer.arrays()
        }
    )


def data(network, count=600):
    x = np.random.default_rng(1).normal(size=(count, *network.input_shape)).astype(np.float32)
    return x, network.predict(x).argmax(axis=1)


SETTINGS = [
    {"bits": 1.58, "radius": "mse"},
    {"bits": 2, "radius": "mse", "per_channel": False},
    {"bits": 3, "radius": "max", "zero": True},
    {"bits": 3, "radius": "mse", "per_channel": False, "quantize_bias": True},
]


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("scales", [False, True])
def test_codes_stay_on_their_alphabets(setting, scales):
    network = teacher()
    x, y = data(network)
    before = quantize(network, x, "msq", **setting)
    after = finetune(before, x, y, epochs=15, scales=scales)
    moved = 0
    for old, new in zip(before.layers, after.layers, strict=True):
        if getattr(old, "quantization", None) is None:
            continue
        grid = new.quantization
        assert grid.bits == old.quantization.bits
        assert grid.quantized_bias == old.quantization.quantized_bias
        assert grid.scale.shape == old.quantization.scale.shape
        np.testing.assert_array_equal((grid.scale * new.codes).astype(np.float32), new.kernel)
        top = round(2**grid.bits) - 1
        assert np.abs(new.codes).max() <= top
        assert ((new.codes + top) % 2 == 0).all()
        if scales:
            np.testing.assert_array_equal(new.codes, old.codes)
            assert (grid.scale > 0).all()
            changed = (grid.scale != old.quantization.scale).all()
            assert changed != grid.quantized_bias
        else:
            np.testing.assert_array_equal(grid.scale, old.quantization.scale)
            moved += (new.codes != old.codes).sum()
        if grid.quantized_bias:
            np.testing.assert_array_equal(new.bias, old.bias)
            np.testing.assert_array_equal(new.bias_codes, old.bias_codes)
    assert scales or moved > 10
    norm, trained = before.layers[1], after.layers[1]
    np.testing.assert_array_equal(trained.mean, norm.mean)
    np.testing.assert_array_equal(trained.variance, norm.variance)
    assert (trained.gamma != norm.gamma).any()
    assert after.layers[-1].activation == "softmax"


@pytest.mark.parametrize("scales", [False, True])
def test_a_trained_network_is_better(scales):
    network = teacher()
    x, y = data(network)
    before = quantize(network, x, "msq", bits=2, radius="max")
    after = finetune(before, x, y, epochs=60, scales=scales)
    before_loss, after_loss = (
        -np.log(one.predict(x)[np.arange(len(x)), y]).mean() for one in (before, after)
    )
    assert after_loss < 0.9 * before_loss


def test_zeros_where_zero_is_no_level_and_zeros_off_the_grid_stay():
    network = teacher()
    x, y = data(network)
    conv, dense = network.layers[0], network.layers[4]
    kernel, last = np.array(conv.kernel), np.array(dense.kernel)
    kernel[0], last[:30] = 0, 0
    network = network.replace({0: conv.replace(kernel=kernel), 4: dense.replace(kernel=last)})
    before = quantize(network, x, "msq", bits=2, radius="mse", keep_zeros=True, layers=[0, 2])
    after = finetune(before, x, y, epochs=3)
    assert (after.layers[0].codes[0] == 0).all() and (after.layers[0].codes[1:] != 0).all()
    assert (after.layers[4].kernel[:30] == 0).all()
    assert (after.layers[4].kernel[30:] != before.layers[4].kernel[30:]).any()


def test_activations_on_grids_stay_there():
    network = teacher()
    x, y = data(network)
    rounded = quantize_activations(network, x, bits=4)
    before = quantize(rounded, x, "msq", bits=2, radius="mse", per_channel=False)
    after = finetune(before, x, y, epochs=40)
    grids = [i for i, layer in enumerate(before.layers) if isinstance(layer, ActivationGrid)]
    assert len(grids) == 3
    assert all(after.layers[i] is before.layers[i] for i in grids)
    assert accuracy(after, x, y) > accuracy(before, x, y) + 0.05


def test_same_seed_same_weights_and_double_precision_stays():
    network = quantize(teacher(np.float64), None, "msq", bits=2, radius="mse")
    x, y = data(teacher())
    first, second, other = (finetune(network, x, y, epochs=2, seed=seed) for seed in (0, 0, 1))
    for one, again in zip(first.layers, second.layers, strict=True):
        for name, array in one.arrays().items():
            assert array.dtype == np.float64
            np.testing.assert_array_equal(array, again.arrays()[name])
    assert (first.layers[4].bias != other.layers[4].bias).any()


def test_without_a_quantized_layer():
    network = teacher()
    with pytest.raises(ParameterError, match="no layer is quantized: fine-tuning on the grid"):
        finetune(network, *data(network), epochs=1)


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"epochs": "2"}, {"epochs": 1, "seed": -1}])
def test_counts_that_are_none(wrong):
    network = quantize(teacher(), None, "msq")
    with pytest.raises(ParameterError, match="must be a whole number from"):
        finetune(network, *data(network), **wrong)


class Data:
    target, labelled, input_range = "classes", True, (0.0, 1.0)

    def __init__(self, network):
        self.x, self.y = data(network)

    def images(self, split, count=None):
        return self.x[:count]

    def targets(self, split, count=None):
        return self.y[:count]


def test_fine_tuning_as_a_step():
    network = teacher()
    known = Data(network)
    quantizer, tuning = parse_chain([{"msq": 2}, {"finetune": {"epochs": 5}}])
    assert str(tuning) == "finetune-epochs=5" and tuning.label == "Fine-tuning 5"
    assert tuning.trains and tuning.needs_labels and not tuning.needs_analog
    quantized = apply(quantizer, network, known)
    tuned = apply(tuning, quantized, known, original=network)
    assert tuned.layers[0].quantization.bits == 2
    assert accuracy(tuned, *data(network)) > accuracy(quantized, *data(network))
    parse_chain([{"activations": 8}, {"msq": 2}, "finetune"])
    distil = parse_step("finetune-epochs=5-scales=true-distil=1")
    assert not distil.needs_labels
    distilled = apply(distil, quantized, known, original=network)
    np.testing.assert_array_equal(distilled.layers[0].codes, quantized.layers[0].codes)


def test_steps_that_learn_from_labels_refuse_data_without():
    network = quantize(teacher(), None, "msq", bits=2)
    known = Data(teacher())
    known.labelled = False
    for step in ("finetune-epochs=1", "retrain-epochs=1"):
        with pytest.raises(ParameterError, match=f"{step} learns from labels, and the data have"):
            apply(parse_step(step), network, known)


def test_distilling_can_do_without_labels():
    known = Data(teacher())
    known.labelled = False
    network = quantize(teacher(), None, "msq", bits=2)
    step = parse_step("finetune-epochs=1-distil=1")
    assert apply(step, network, known, original=teacher()).layers[0].quantization.bits == 2
