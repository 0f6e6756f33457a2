"""What all pruning has in common, magnitude pruning, and retraining."""

from itertools import pairwise

import numpy as np
import pytest

from netreduce.errors import ParameterError, SampleError
from netreduce.measures.evaluation import accuracy
from netreduce.network import Network
from netreduce.network.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    Flatten,
    Quantization,
)
from netreduce.pruning import prune, prune_iteratively
from netreduce.pruning.magnitude import magnitude
from netreduce.quantization.activations import quantize_activations
from netreduce.training.retraining import retrain


def mlp(widths=(12, 20, 16, 3), seed=0):
    rng = np.random.default_rng(seed)
    shapes = list(pairwise(widths))
    layers = [
        Dense(
            (rng.normal(size=s) / s[0] ** 0.5).astype(np.float32),
            0.1 * rng.normal(size=s[1]).astype(np.float32),
            "relu",
        )
        for s in shapes
    ]
    return Network([*layers[:-1], layers[-1].replace(activation="linear")], widths[:1])


def blobs(samples=2000, seed=0):
    """Three classes around three centres."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, samples)
    return (np.eye(3, 12)[labels] + 0.2 * rng.normal(size=(samples, 12))).astype(np.float32), labels


def nonzeros(network):
    return [np.count_nonzero(layer.kernel) for layer in network.layers]


def test_magnitude_keeps_the_largest_of_all_weights():
    network = mlp()
    pruned = magnitude(network, 0.25)
    before, after = (
        np.concatenate([layer.kernel.ravel() for layer in n.layers]) for n in (network, pruned)
    )
    kept = after != 0
    assert kept.sum() == round(0.25 * len(before))
    assert np.abs(before[kept]).min() >= np.abs(before[~kept]).max()
    np.testing.assert_array_equal(after[kept], before[kept])
    for one, other in zip(network.layers, pruned.layers, strict=True):
        np.testing.assert_array_equal(one.bias, other.bias)


def test_magnitude_by_layer_keeps_the_fraction_of_each():
    assert nonzeros(magnitude(mlp(), 0.3, scope="layer")) == [72, 96, 14]


def test_magnitude_with_equal_weights_keeps_no_more_than_asked():
    assert nonzeros(magnitude(Network([Dense(np.ones((10, 10)))], (10,)), 0.07)) == [7]


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_magnitude_of_everything_changes_nothing(scope):
    network = mlp()
    for one, other in zip(network.layers, magnitude(network, 1, scope).layers, strict=True):
        np.testing.assert_array_equal(one.kernel, other.kernel)


def test_a_pruned_quantized_layer_stays_on_its_grid():
    codes = np.array([[-3, -1], [1, 3]])
    network = Network([Dense(0.5 * codes, quantization=Quantization(0.5, 2))], (2,))
    np.testing.assert_array_equal(magnitude(network, 0.5).layers[0].codes, [[-3, 0], [0, 3]])


def test_folding_takes_out_what_became_constant_and_changes_no_output():
    network = mlp()
    x, _ = blobs()
    loose, folded = (prune(network, x, fraction=0.4, fold=fold) for fold in (False, True))
    assert folded.shapes[0] < loose.shapes[0]
    np.testing.assert_allclose(folded.predict(x), loose.predict(x), rtol=1e-5, atol=1e-5)


def test_iterations_prune_further_and_the_last_is_what_prune_returns():
    x, _ = blobs()
    steps = list(prune_iteratively(mlp(), x, fraction=0.8, iterations=3))
    counts = [sum(nonzeros(step)) for step in steps]
    assert counts[0] > counts[1] > counts[2]
    assert nonzeros(prune(mlp(), x, fraction=0.8, iterations=3, fold=False)) == nonzeros(steps[-1])


def test_retraining_holds_the_zeros_and_brings_the_accuracy_back():
    training, test = blobs(), blobs(seed=1)
    network = magnitude(retrain(mlp(), *training, epochs=10), 0.2)
    retrained = retrain(network, *training, epochs=10)
    for before, after in zip(network.layers, retrained.layers, strict=True):
        np.testing.assert_array_equal(after.kernel[before.kernel == 0], 0)
        assert (after.kernel[before.kernel != 0] != before.kernel[before.kernel != 0]).any()
    assert accuracy(retrained, *test) > max(accuracy(network, *test), 0.9)


def test_retraining_of_convolutions_holds_zeros_and_the_statistics_of_batch_normalization():
    rng = np.random.default_rng(0)
    kernel = rng.normal(size=(3, 3, 1, 4)).astype(np.float32)
    kernel[..., 1] = 0
    norm = BatchNormalization(*rng.random((4, 4)).astype(np.float32))
    layers = [
        Conv2D(kernel, activation="linear", padding="same"),
        norm,
        Activation("relu"),
        Flatten(),
    ]
    network = Network(
        [*layers, Dense(rng.normal(size=(64, 2)).astype(np.float32)), Activation("softmax")],
        (4, 4, 1),
    )
    x, y = rng.random((40, 4, 4, 1)).astype(np.float32), rng.integers(0, 2, 40)
    retrained = retrain(network, x, y, epochs=3)
    np.testing.assert_array_equal(retrained.layers[0].kernel[..., 1], 0)
    np.testing.assert_array_equal(retrained.layers[1].mean, norm.mean)
    np.testing.assert_array_equal(retrained.layers[1].variance, norm.variance)
    assert (retrained.layers[1].gamma != norm.gamma).all()
    rows = np.arange(40)
    loss = [-np.log(n.predict(x)[rows, y]).mean() for n in (network, retrained)]
    assert loss[1] < loss[0]


def test_retraining_is_deterministic():
    first, second, other = (retrain(mlp(), *blobs(), epochs=2, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.layers[0].kernel, second.layers[0].kernel)
    assert (first.layers[0].kernel != other.layers[0].kernel).any()


def test_pruning_with_retraining_in_between():
    training = blobs()
    network = retrain(mlp(), *training, epochs=10)
    plain, retrained = (
        prune(network, training[0], fraction=0.7, iterations=4, epochs=epochs, training=training)
        for epochs in (0, 5)
    )
    assert sum(nonzeros(retrained)) < 0.25 * sum(nonzeros(network))
    assert accuracy(retrained, *blobs(seed=1)) > max(accuracy(plain, *blobs(seed=1)), 0.85)


@pytest.mark.parametrize("fraction", [0, -0.1, 1.01, float("nan")])
@pytest.mark.parametrize("method", ["nnrelief", "magnitude", "structured"])
def test_a_fraction_out_of_range(method, fraction):
    with pytest.raises(ParameterError, match=r"fraction must be in \(0, 1\], found"):
        prune(mlp(), blobs()[0], method, fraction=fraction)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"method": "optimal"},
            "pruning method must be one of nnrelief, magnitude, structured, found 'optimal'",
        ),
        ({"iterations": 0}, "iterations must be at least 1"),
        ({"epochs": -1}, "epochs at least 0, found 1 and -1"),
        ({"epochs": 2}, "2 epochs of retraining need training images and labels"),
        (
            {"method": "magnitude", "scope": "neuron"},
            "scope must be 'global' or 'layer', found 'neuron'",
        ),
    ],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ParameterError, match=message):
        prune(mlp(), blobs()[0], **{"fraction": 0.5, **arguments})


def test_pruning_everything_away():
    layers = [Dense(np.full((4, 4), 0.01), None, "relu"), Dense(np.ones((4, 3)))]
    with pytest.raises(
        ParameterError, match="dense_1: pruning by magnitude leaves no weight that is not zero"
    ):
        prune(Network(layers, (4,)), method="magnitude", fraction=0.3)


def test_retraining_a_quantized_network():
    network = Network([Dense(np.ones((2, 2)), quantization=Quantization(1, 2))], (2,))
    with pytest.raises(ParameterError, match="dense_1 is quantized: retrain before quantizing"):
        retrain(network, np.ones((3, 2)), np.zeros(3, int), epochs=1)


def test_retraining_without_a_label_for_each_image():
    with pytest.raises(
        SampleError,
        match=r"one label for each of the 3 images is needed, found labels of shape \(2,\)",
    ):
        retrain(mlp(), np.ones((3, 12)), np.zeros(2, int), epochs=1)


def test_of_a_sigmoid_at_the_end_logits_are_taught_too():
    """Where probabilities are all nearly 0 or 1, their differences teach nothing."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 4)).astype(np.float32)
    kernels = [rng.normal(size=(4, 1)) + shift for shift in (0, 30)]
    taught, plain = (
        retrain(network, x, None, epochs=2, original=original, distil=1).layers[0].kernel
        for original, network in (
            [Network([Dense(kernel, activation=end)], (4,)) for kernel in kernels]
            for end in ("sigmoid", "linear")
        )
    )
    np.testing.assert_array_equal(taught, plain)


@pytest.mark.parametrize("end", ["linear", "softmax"])
def test_a_network_learns_what_another_one_answers(end):
    """Of logits, which differ where probabilities are nearly alike."""
    (x, y), (test, _) = blobs(600), blobs(600, seed=1)
    original = retrain(mlp(), x, y, epochs=10)
    last = len(original.layers) - 1
    original = original.replace({last: original.layers[last].replace(activation=end)})
    small = magnitude(original, 0.3)

    def off(network):
        return np.abs(network.logits().predict(test) - original.logits().predict(test)).mean()

    wrong = (y + 1) % 3
    taught = retrain(small, x, None, epochs=10, original=original, distil=1)
    partly = retrain(small, x, wrong, epochs=10, original=original, distil=0.5)
    ignored = retrain(small, x, wrong, epochs=10, original=original)
    assert off(taught) < 0.5 * off(small)
    assert off(taught) < off(partly) < off(ignored)
    assert taught.layers[last].activation == end
    for before, after in zip(small.layers, taught.layers, strict=True):
        np.testing.assert_array_equal(after.kernel[before.kernel == 0], 0)
    again = retrain(small, x, wrong, epochs=10, original=original, distil=1)
    np.testing.assert_array_equal(again.layers[0].kernel, taught.layers[0].kernel)


def test_numbers_and_activations_on_grids_are_taught_too():
    """As they are, without a network's end that a loss of classes would bring along."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 12)).astype(np.float32)
    original = quantize_activations(mlp(), x, bits=3)
    numbers = original.predict(x)
    small = magnitude(mlp(), 0.5)
    taught = retrain(small, x, -numbers, epochs=20, original=original, distil=1)

    def off(network, targets):
        return ((network.predict(x) - targets) ** 2).mean()

    assert off(taught, numbers) < 0.5 * off(small, numbers)
    half = retrain(small, x, -numbers, epochs=20, original=original, distil=0.5)
    assert off(half, 0) < 0.5 * off(taught, 0)  # halfway between the numbers and their opposites


def strips(count, seed=0):
    """Images of a bright column on the left (0) or on the right (1) half of four columns."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, count)
    x = 0.1 * rng.random((count, 3, 4, 1))
    x[np.arange(count), :, 3 * labels] += 1
    return x.astype(np.float32), labels


def strip_network():
    rng = np.random.default_rng(0)
    kernels = [rng.normal(size=size) / 10 for size in ((2, 2, 1, 4), (48, 2))]
    kernels = [kernel.astype(np.float32) for kernel in kernels]
    layers = [Conv2D(kernels[0], activation="relu", padding="same"), Flatten(), Dense(kernels[1])]
    return Network(layers, (3, 4, 1))


def test_retraining_on_changed_images():
    x, y = strips(400)
    network = strip_network()
    plain, moved, again, other = (
        retrain(network, x, y, epochs=25, augmentation=augmentation, seed=seed)
        for augmentation, seed in (
            (None, 0),
            ({"shift": 1}, 0),
            ({"shift": 1, "flip": False}, 0),
            ({"shift": 1}, 1),
        )
    )
    shifted = np.zeros_like(x)
    shifted[:, :, :-1] = x[:, :, 1:]
    seen = y == 1  # of these, the column is still there
    assert accuracy(moved, shifted[seen], y[seen]) > 0.95
    np.testing.assert_array_equal(moved.layers[0].kernel, again.layers[0].kernel)
    assert (moved.layers[0].kernel != plain.layers[0].kernel).any()
    assert (moved.layers[0].kernel != other.layers[0].kernel).any()
    # where half of the images are mirrored, left and right are the same
    mirrored = retrain(network, x, y, epochs=25, augmentation={"flip": True})
    assert accuracy(plain, x, y) > 0.95
    assert 0.4 < accuracy(mirrored, x, y) < 0.6


def test_the_teacher_sees_the_changed_images():
    x, y = strips(400)
    original = retrain(strip_network(), x, y, epochs=25)
    student = strip_network()
    taught = retrain(student, x, None, 25, original=original, distil=1, augmentation={"flip": True})
    assert accuracy(taught, x, y) > 0.95
    assert accuracy(taught, x[:, :, ::-1], 1 - y) > 0.95


def test_retraining_in_bfloat16():
    x, y = strips(400)
    full, half, again = (
        retrain(strip_network(), x, y, epochs=25, precision=precision)
        for precision in ("float32", "bfloat16", "bfloat16")
    )
    assert half.dtype == np.float32
    np.testing.assert_array_equal(half.layers[0].kernel, again.layers[0].kernel)
    assert (half.layers[0].kernel != full.layers[0].kernel).any()
    assert accuracy(half, x, y) > 0.95


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"distil": 1.5}, ParameterError, "distil must be a number from 0 to 1, found 1.5"),
        ({"distil": np.nan}, ParameterError, "distil must be a number from 0 to 1, found nan"),
        ({"distil": 0.5}, ParameterError, "distil=0.5 needs the original network, found None"),
        (
            {"distil": 1, "original": mlp((12, 5, 4))},
            ParameterError,
            r"the original has inputs and outputs of shapes \(\(12,\), \(4,\)\), the network"
            r" \(\(12,\), \(3,\)\)",
        ),
        (
            {"precision": "float16"},
            ParameterError,
            "precision must be one of float32, bfloat16, found 'float16'",
        ),
        ({"augmentation": {"turn": 1}}, ParameterError, "unknown augmentation 'turn'"),
        ({"augmentation": {"flip": True}}, ParameterError, "augmentation needs images"),
        (
            {"augmentation": {"shift": -1}},
            ParameterError,
            "shift must be a whole number from 0, found -1",
        ),
        (
            {"augmentation": ["flip"]},
            ParameterError,
            r"augmentation must be a mapping, found \['flip'\]",
        ),
        ({"epochs": 0}, ParameterError, "epochs must be a whole number from 1, found 0"),
        ({"epochs": 1.5}, ParameterError, "epochs must be a whole number from 1, found 1.5"),
        ({"seed": None}, ParameterError, "seed must be a whole number from 0, found None"),
        ({"labels": None}, SampleError, "one label for each of the 2000 images is needed"),
        (
            {"labels": ["a"] * 2000},
            SampleError,
            "labels must be classes or numbers, found dtype <U",
        ),
    ],
)
def test_settings_of_retraining_that_do_not_fit(arguments, error, message):
    x, y = blobs()
    with pytest.raises(error, match=message):
        retrain(mlp(), x, **{"labels": y, "epochs": 1, **arguments})


def test_nothing_to_learn_from():
    with pytest.raises(SampleError, match="no images to learn from"):
        retrain(mlp(), np.ones((0, 12)), None, epochs=1, original=mlp(), distil=1)
