"""Repair: what it makes equal, what it leaves, and that it helps."""

import numpy as np
import pytest

from netreduce.chains.steps import apply, parse_chain
from netreduce.errors import ParameterError, SampleError
from netreduce.folding import fold_batch_norm
from netreduce.network import Network
from netreduce.network.layers import (
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
)
from netreduce.pruning import prune
from netreduce.quantization import quantize
from netreduce.repair import REPAIRS, repair


def random_network(seed=0):
    rng = np.random.default_rng(seed)

    def norm(size):
        return BatchNormalization(
            rng.random(size) + 0.5, rng.normal(size=size), rng.normal(size=size), rng.random(size)
        )

    layers = [
        Conv2D(rng.normal(size=(3, 3, 2, 6)), rng.normal(size=6), "linear", padding="same"),
        norm(6),
        DepthwiseConv2D(rng.normal(size=(3, 3, 6, 1)), activation="relu", padding="same"),
        Add(),
        Flatten(),
        Dense(rng.normal(size=(6 * 36, 12)) / 10, rng.normal(size=12), "relu"),
        Dense(rng.normal(size=(12, 4)), rng.normal(size=4)),
    ]
    sources = [(-1,), (0,), (1,), (1, 2), (3,), (4,), (5,)]
    return Network(layers, (6, 6, 2), sources)


SAMPLES = np.random.default_rng(1).normal(size=(300, 6, 6, 2))
UNSEEN = np.random.default_rng(2).normal(size=(300, 6, 6, 2))


def error(network, original, samples=UNSEEN):
    return np.linalg.norm(network.predict(samples) - original.predict(samples))


def before_last(network):
    return network.predict(SAMPLES).mean(axis=0)


@pytest.mark.parametrize("what", REPAIRS)
def test_what_is_not_broken_stays(what):
    original = random_network()
    if what == "batch_norm":  # first those of its own inputs
        original = repair(original, original, SAMPLES, what)
    repaired = repair(original, original, SAMPLES, what)
    np.testing.assert_allclose(
        repaired.predict(UNSEEN), original.predict(UNSEEN), rtol=1e-7, atol=1e-9
    )


@pytest.mark.parametrize("what", ["bias", "least_squares"])
def test_outputs_get_the_mean_of_the_original(what):
    original = random_network()
    broken = quantize(original, None, "msq", 2, radius="mse")
    repaired = repair(broken, original, SAMPLES, what)
    np.testing.assert_allclose(before_last(repaired), before_last(original), atol=1e-9)
    assert error(repaired, original) < error(broken, original)


def test_weights_on_a_grid_keep_their_codes():
    original = random_network()
    broken = quantize(original, None, "msq", 3, radius="mse")
    for what in REPAIRS:
        repaired = repair(broken, original, SAMPLES, what)
        for layer, before in zip(repaired.layers, broken.layers, strict=True):
            if getattr(layer, "quantization", None) is not None:
                np.testing.assert_array_equal(layer.codes, before.codes)
    with_bias = quantize(original, None, "msq", 3, radius="mse", quantize_bias=True)
    repaired = repair(with_bias, original, SAMPLES, "least_squares")
    np.testing.assert_array_equal(repaired.layers[5].bias, with_bias.layers[5].bias)


def test_pruned_weights_stay_zero_and_the_others_are_the_least_squares_solution():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(8, 5))
    original = Network([Dense(kernel, rng.normal(size=5))], (8,))
    samples = rng.normal(size=(400, 8)) @ rng.normal(size=(8, 8))
    broken = original.replace({0: Dense(np.where(rng.random((8, 5)) < 0.5, kernel, 0))})
    repaired = repair(broken, original, samples, "least_squares").layers[0]
    np.testing.assert_array_equal(repaired.kernel == 0, broken.layers[0].kernel == 0)
    wanted = original.predict(samples)
    for neuron in range(5):
        used = broken.layers[0].kernel[:, neuron] != 0
        rows = np.column_stack([samples[:, used], np.ones(len(samples))])
        best = np.linalg.lstsq(rows, wanted[:, neuron], rcond=None)[0]
        np.testing.assert_allclose(repaired.kernel[used, neuron], best[:-1], atol=0.02)


def test_layers_that_lost_inputs_take_over():
    """Neurons gone: the layer behind is fitted to what is left, the narrower one stays."""
    original = random_network()
    narrow, last = original.layers[5], original.layers[6]
    kept = np.arange(12) % 4 != 0
    broken = original.replace(
        {
            5: Dense(narrow.kernel[:, kept], narrow.bias[kept], "relu"),
            6: Dense(last.kernel[kept], last.bias),
        }
    )
    repaired = repair(broken, original, SAMPLES, "least_squares")
    np.testing.assert_array_equal(repaired.layers[5].kernel, broken.layers[5].kernel)
    assert error(repaired, original) < 0.8 * error(broken, original)


def test_batch_normalization_gets_the_moments_of_its_inputs():
    original = random_network()
    broken = quantize(original, None, "msq", 1.58, radius="mse")
    repaired = repair(broken, original, SAMPLES, "batch_norm")
    inputs = broken.layers[0](SAMPLES)
    np.testing.assert_allclose(repaired.layers[1].mean, inputs.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(repaired.layers[1].variance, inputs.var(axis=(0, 1, 2)))
    for index in (0, 2, 5, 6):
        assert repaired.layers[index] is broken.layers[index]


def test_the_original_may_have_its_batch_normalization_still():
    original = random_network()
    broken = quantize(fold_batch_norm(original), None, "msq", 2, radius="mse")
    assert error(repair(broken, original, SAMPLES), original) < error(broken, original)


def test_bad_input():
    original = random_network()
    with pytest.raises(ParameterError, match="what must be one of bias, batch_norm, least_squares"):
        repair(original, original, SAMPLES, "all")
    with pytest.raises(ParameterError, match=r"layer by layer: .* found conv2d.* and dense"):
        repair(Network([Dense(np.ones((2, 2)))], (2,)), original, SAMPLES)
    with pytest.raises(SampleError, match="no samples"):
        repair(original, original, SAMPLES[:0])
    with pytest.raises(SampleError):
        repair(original, original, np.ones((3, 2)))


def test_as_a_step_of_a_chain():
    """It is given what the chain began with."""
    original = random_network()

    class Data:
        target, labelled, path = "classes", True, "data"

        def images(self, split, count=None):
            return SAMPLES

        def targets(self, split, count=None):
            return original.predict(SAMPLES).argmax(axis=1)

    network = original
    for step in parse_chain([{"magnitude": 0.3}, "repair"]):
        network = apply(step, network, Data(), original=original)
    expected = repair(prune(original, None, "magnitude", fraction=0.3), original, SAMPLES)
    np.testing.assert_array_equal(network.predict(UNSEEN), expected.predict(UNSEEN))


def test_batch_norm_of_one_sample():
    network = Network([BatchNormalization(*np.ones((4, 3)))], (3,))
    with pytest.raises(SampleError, match="batch normalization needs more than one sample"):
        repair(network, network, np.ones((1, 3)), "batch_norm")


def test_samples_that_are_none():
    network = random_network()
    with pytest.raises(SampleError, match="samples must have shape"):
        repair(network, network, None)
