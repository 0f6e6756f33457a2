"""Bits of each layer under a budget."""

import re
from itertools import product

import numpy as np
import pytest

from netreduce.chains.steps import apply, parse_chain
from netreduce.errors import ParameterError, SampleError, UnsupportedLayerError
from netreduce.measures.cost import cost
from netreduce.measures.evaluation import merit
from netreduce.network import Network
from netreduce.network.layers import Add, Conv2D, Dense, Flatten
from netreduce.quantization import quantize
from netreduce.quantization.allocation import _cheapest_errors, allocate_bits

RNG = np.random.default_rng(0)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


NETWORK = Network(
    [
        Conv2D(normal(3, 3, 1, 8), normal(8), "relu"),
        Flatten(),
        Dense(normal(288, 30) / 17, normal(30), "relu"),
        Dense(normal(30, 4), activation="softmax"),
    ],
    (8, 8, 1),
)
SAMPLES = normal(300, 8, 8, 1)
UNSEEN = normal(400, 8, 8, 1)
VALIDATION = UNSEEN, NETWORK.predict(UNSEEN).argmax(axis=1)
SETTING = {"radius": "output", "per_channel": True, "conv": "joint"}


def uniform(bits):
    return quantize(NETWORK, SAMPLES, "gptaq", bits, **SETTING)


@pytest.mark.parametrize("kilobytes", [2.8, 3.5, 5])
def test_within_the_budget_and_never_worse_than_uniform_bits(kilobytes):
    found = allocate_bits(NETWORK, SAMPLES, 1000 * kilobytes, VALIDATION, widths=(1.58, 2, 3, 4))
    assert found.bytes == cost(found.network).entropy_bytes <= 1000 * kilobytes
    assert list(found.bits) == ["conv2d_1", "dense_1", "dense_2"]
    for name, layer in zip(NETWORK.names, found.network.layers, strict=True):
        if name in found.bits:
            assert layer.quantization.bits == pytest.approx(found.bits[name], abs=0.01)
    best = merit(found.network, *VALIDATION)
    fitting = [b for b in (1.58, 2, 3, 4) if cost(uniform(b)).entropy_bytes <= 1000 * kilobytes]
    assert (found.uniform in fitting) if fitting else (found.uniform is None)
    assert all(best >= merit(uniform(bits), *VALIDATION) for bits in fitting)


def test_curves_fall_with_the_bits():
    found = allocate_bits(NETWORK, SAMPLES, 10_000, widths=(1.58, 3, 6))
    assert found.errors.shape == found.sizes.shape == (3, 3)
    assert (np.diff(found.errors, axis=1) < 0).all()
    assert (np.diff(found.sizes, axis=1) > 0).all()


def test_curves_are_those_of_layers_quantized_alone():
    layers = [
        Conv2D(normal(3, 3, 2, 4) / 4, normal(4), "relu", padding="same"),
        Conv2D(normal(3, 3, 4, 2) / 6, normal(2), padding="same"),
        Add(),
        Flatten(),
        Dense(normal(72, 5) / 8, activation="softmax"),
    ]
    network = Network(layers, (6, 6, 2), [(-1,), (0,), (1, -1), (2,), (3,)])
    samples = normal(300, 6, 6, 2)
    found = allocate_bits(network, samples, 10_000, widths=(2, 4))
    target = network.logits().predict(samples)
    for row, layer in enumerate((0, 1, 4)):
        for column, bits in enumerate((2, 4)):
            alone = quantize(network, samples, "gptaq", bits, layers=[layer], **SETTING)
            change = ((alone.logits().predict(samples) - target) ** 2).mean() / target.var()
            assert found.errors[row, column] == pytest.approx(change, rel=1e-4)


def test_the_program_finds_the_best_choice():
    rng = np.random.default_rng(1)
    for _ in range(20):
        errors, sizes = rng.random((3, 3)), rng.integers(1, 20, (3, 3))
        room = rng.integers(sizes.min(axis=1).sum(), sizes.max(axis=1).sum() + 1)

        def total(values, choice):
            return sum(row[k] for row, k in zip(values, choice, strict=True))

        every = [c for c in product(range(3), repeat=3) if total(sizes, c) <= room]
        found = _cheapest_errors(errors, sizes, room)
        assert total(sizes, found) <= room
        assert total(errors, found) == pytest.approx(min(total(errors, c) for c in every))


def test_a_budget_that_nothing_meets():
    smallest = cost(uniform(2)).entropy_bytes
    with pytest.raises(ParameterError, match=f"fits into 500 bytes: .* has {smallest}"):
        allocate_bits(NETWORK, SAMPLES, 500, widths=(2, 3))
    with pytest.raises(ParameterError, match="budget_bytes must be a positive number, found -1"):
        allocate_bits(NETWORK, SAMPLES, -1)


def test_bad_input():
    with pytest.raises(ParameterError, match="widths: none given"):
        allocate_bits(NETWORK, SAMPLES, 5000, widths=())
    with pytest.raises(ParameterError, match=r"validation must be a pair .*, found ndarray"):
        allocate_bits(NETWORK, SAMPLES, 5000, UNSEEN)
    with pytest.raises(SampleError, match=r"labels must have shape \(400,\)"):
        allocate_bits(NETWORK, SAMPLES, 5000, (UNSEEN, VALIDATION[1][:10]))
    with pytest.raises(UnsupportedLayerError, match="no layer can be quantized"):
        allocate_bits(Network([Flatten()], (3, 2)), normal(5, 3, 2), 5000)
    with pytest.raises(SampleError, match="there are no samples"):
        allocate_bits(NETWORK, SAMPLES[:0], 5000)


def test_bits_of_each_layer():
    mixed = quantize(NETWORK, SAMPLES, bits={"conv2d_1": 4, 2: 1.58}, radius="max")
    assert [getattr(layer, "quantization", None) is not None for layer in mixed.layers] == [
        True,
        False,
        True,
        False,
    ]
    assert [len(np.unique(mixed.layers[i].codes)) <= most for i, most in ((0, 16), (2, 3))]
    assert mixed.layers[0].quantization.bits == 4
    with pytest.raises(ParameterError, match="leave out `layers`"):
        quantize(NETWORK, SAMPLES, bits={0: 4}, layers=[0])
    with pytest.raises(ParameterError, match=r"bits must be 1.58 .*found 9"):
        quantize(NETWORK, SAMPLES, bits={0: 4, 2: 9})
    with pytest.raises(ParameterError, match="bits name a layer twice, 'dense_1' and 2"):
        quantize(NETWORK, SAMPLES, bits={2: 4, "dense_1": 2}, radius="max")
    with pytest.raises(ParameterError, match=re.escape("there is no layer 'dense_7'")):
        quantize(NETWORK, SAMPLES, bits={"dense_7": 4})


def test_as_a_step_of_a_chain():
    class Data:
        def images(self, split, count=None):
            return SAMPLES if split == "train" else UNSEEN

        target, labelled, path = "classes", True, "data"

        def targets(self, split, count=None):
            return VALIDATION[1]

    (step,) = parse_chain([{"mixed": {"kilobytes": 3}}])
    assert str(step) == "mixed-kilobytes=3"
    assert cost(apply(step, NETWORK, Data())).entropy_bytes <= 3000
    with pytest.raises(ParameterError, match="needs floating-point weights"):
        parse_chain([{"mixed": 3}, {"gpfq": 4}])


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_layers_that_every_width_rounds_without_error(value):
    layers = [Dense(np.full((6, 5), value), activation="relu"), Dense(np.full((5, 2), value))]
    network = Network(layers, (6,))
    samples = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    found = allocate_bits(network, samples, 5000)
    np.testing.assert_allclose(
        found.network.predict(samples), network.predict(samples), rtol=1e-6, atol=1e-6
    )
