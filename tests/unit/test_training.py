"""Training in PyTorch and in Keras."""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest
import torch
from io_networks import assert_same
from sklearn.datasets import load_digits

from netreduce.errors import ParameterError, SampleError
from netreduce.measures.evaluation import merit
from netreduce.network import Network
from netreduce.network.architectures import build
from netreduce.network.layers import Conv2D
from netreduce.training import check_training, learning_rates, loss_for
from netreduce.training.augmentation import augment
from netreduce.training.retraining import retrain
from netreduce.training.torch import train


@pytest.fixture(scope="module")
def digits():
    """Training images and labels, validation images and labels."""
    images, labels = load_digits(return_X_y=True)
    images = (images.reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    return images[:1000], labels[:1000], images[1000:1400], labels[1000:1400]


MLP = {"name": "mlp", "hidden": [32]}
SETTINGS = {"epochs": 4, "batch_size": 32, "learning_rate": 0.01, "threads": 1}


@pytest.fixture(scope="module", params=["torch", "keras"])
def train_in(request):
    if request.param == "torch":
        return train
    return train_on_the_threads_there_are


def train_on_the_threads_there_are(*arguments, threads, **settings):
    """TensorFlow, which other tests use in this process, takes no other number of threads."""
    from netreduce.training.keras import train as train_in_keras

    return train_in_keras(*arguments, **settings)


@pytest.mark.parametrize(("optimizer", "rate"), [("adam", 0.01), ("adamw", 0.01), ("sgd", 0.1)])
@pytest.mark.parametrize("schedule", ["none", "cosine", "onecycle"])
def test_training_learns(train_in, digits, optimizer, rate, schedule):
    settings = {**SETTINGS, "optimizer": optimizer, "learning_rate": rate, "schedule": schedule}
    trained, history = train_in(build(MLP, (8, 8, 1), 10, seed=0), *digits, **settings)
    assert [row["epoch"] for row in history] == [1, 2, 3, 4]
    assert list(history[0]) == [
        "epoch",
        "training_loss",
        "training_accuracy",
        "validation_loss",
        "validation_accuracy",
    ]
    assert history[-1]["training_loss"] < history[0]["training_loss"]
    accuracy = (trained.predict(digits[2]).argmax(1) == digits[3]).mean()
    assert accuracy == pytest.approx(history[-1]["validation_accuracy"], abs=0.006)
    assert accuracy > 0.85


def test_training_is_repeatable(train_in, digits):
    template = build({**MLP, "batch_norm": True}, (8, 8, 1), 10, seed=0)
    settings = {
        **SETTINGS,
        "epochs": 1,
        "augmentation": {"shift": 1, "flip": True},
        "weight_decay": 1e-4,
    }
    first, first_history = train_in(template, *digits, **settings, seed=3)
    again, again_history = train_in(template, *digits, **settings, seed=3)
    other, _ = train_in(template, *digits, **settings, seed=4)
    assert first_history == again_history
    assert_same(first, again)
    assert not np.array_equal(first.layers[1].kernel, other.layers[1].kernel)


@pytest.mark.parametrize("architecture", ["vgg-small", "resnet20"])
def test_every_parameter_of_a_cnn_is_trained_repeatably(digits, architecture):
    template = build(architecture, (8, 8, 1), 10, seed=0)
    digits = (digits[0][:64], digits[1][:64], *digits[2:])
    trained, again = (train(template, *digits, **{**SETTINGS, "epochs": 1})[0] for _ in range(2))
    assert_same(trained, again)
    for before, after in zip(template.layers, trained.layers, strict=True):
        for name, array in before.arrays().items():
            assert not np.array_equal(array, after.arrays()[name])


def test_bfloat16_learns_too_and_repeatably(digits):
    template = build(MLP, (8, 8, 1), 10, seed=0)
    (full, full_history), (half, history), (again, _) = (
        train(template, *digits, **SETTINGS, precision=precision)
        for precision in ("float32", "bfloat16", "bfloat16")
    )
    assert_same(half, again)
    assert not np.array_equal(half.layers[1].kernel, full.layers[1].kernel)
    assert history[-1]["training_loss"] == pytest.approx(full_history[-1]["training_loss"], rel=0.1)
    assert history[-1]["validation_accuracy"] > 0.85


def test_keras_trains_in_float32_only(digits):
    with pytest.raises(
        ParameterError,
        match=(
            "precision must be float32 in Keras, found 'bfloat16'; framework: torch trains in"
            " bfloat16"
        ),
    ):
        train_on_the_threads_there_are(
            build(MLP, (8, 8, 1), 10), *digits, **SETTINGS, precision="bfloat16"
        )


def test_weight_decay_shrinks_weights(digits):
    template = build(MLP, (8, 8, 1), 10, seed=0)
    norms = []
    for optimizer, weight_decay in (("adam", 0.0), ("adam", 0.01), ("adamw", 0.0), ("adamw", 1.0)):
        trained, _ = train(
            template, *digits, **SETTINGS, optimizer=optimizer, weight_decay=weight_decay
        )
        norms.append(np.linalg.norm(trained.layers[1].kernel))
    assert norms[1] < norms[0]
    assert norms[3] < norms[2]


def test_l1_makes_weights_small_and_leaves_biases_alone(digits):
    template = build(MLP, (8, 8, 1), 10, seed=0)
    plain, _ = train(template, *digits, **SETTINGS)
    sparse, _ = train(template, *digits, **SETTINGS, l1=1e-3)
    magnitudes = [np.abs(network.layers[1].kernel) for network in (plain, sparse)]
    assert np.sum(magnitudes[1]) < 0.8 * np.sum(magnitudes[0])
    assert np.mean(magnitudes[1] < 1e-3) > 3 * np.mean(magnitudes[0] < 1e-3)
    none, _ = train(template, *digits, **SETTINGS, l1=0.0)
    assert_same(none, plain)


@pytest.mark.parametrize("l1", [-1, "much", np.inf])
def test_l1_is_a_number(train_in, digits, l1):
    with pytest.raises(ParameterError, match="l1 must be a number ≥ 0, found"):
        train_in(build(MLP, (8, 8, 1), 10), *digits, **SETTINGS, l1=l1)


@pytest.mark.parametrize(
    ("optimizer", "weight_decay", "l1", "tolerance"),
    [
        ("sgd", 0.01, 0.0, 1e-5),
        ("sgd", 0.0, 0.001, 1e-5),
        ("adam", 0.01, 0.0, 1e-3),
        ("adamw", 0.1, 0.0, 1e-3),
    ],  # Adam makes much of the last bits of gradients near 0
)
def test_both_frameworks_take_the_same_steps(digits, optimizer, weight_decay, l1, tolerance):
    """All images in one batch leave nothing to chance: the two give the same network."""
    template = build("lenet5", (12, 12, 1), 10, seed=0)
    images = np.pad(digits[0][:100], ((0, 0), (2, 2), (2, 2), (0, 0)))
    data = (images, digits[1][:100], images, digits[1][:100])
    settings = {
        "epochs": 2,
        "batch_size": 100,
        "threads": 1,
        "optimizer": optimizer,
        "weight_decay": weight_decay,
        "l1": l1,
    }
    settings["schedule"] = (
        # the momentum of Keras carries the learning rates of earlier steps, that of PyTorch does
        # not
        "none"
    )
    (ours, history), (theirs, their_history) = (
        function(template, *data, **settings)
        for function in (train, train_on_the_threads_there_are)
    )
    for a, b in zip(ours.layers, theirs.layers, strict=True):
        for name, array in a.arrays().items():
            np.testing.assert_allclose(array, b.arrays()[name], atol=tolerance)
    assert history[1]["training_loss"] == pytest.approx(their_history[1]["training_loss"], rel=1e-4)


def test_shifts_move_images_and_fill_with_zeros():
    images = torch.arange(1, 101, dtype=torch.float32).reshape(1, 1, 10, 10).repeat(200, 1, 1, 1)
    torch.manual_seed(0)
    moved = augment(images, shift=2)
    padded = np.pad(images[0, 0].numpy(), 2)
    windows = {padded[i : i + 10, j : j + 10].tobytes() for i in range(5) for j in range(5)}
    found = {image.tobytes() for image in moved[:, 0].numpy()}
    assert found == windows


def test_flips_mirror_about_half_of_the_images():
    images = torch.rand(400, 3, 4, 5)
    torch.manual_seed(0)
    flipped = augment(images, flip=True)
    mirrored = (flipped == images.flip(3)).all(dim=(1, 2, 3))
    same = (flipped == images).all(dim=(1, 2, 3))
    assert (mirrored ^ same).all()
    assert 150 < mirrored.sum() < 250


def test_nothing_asked_nothing_changed():
    images = torch.rand(4, 3, 4, 5)
    assert augment(images) is images


def test_keras_augments_as_pytorch_does():
    from netreduce.training.keras import _augment

    image = np.arange(1, 13, dtype=np.float32).reshape(3, 4, 1)
    padded = np.pad(image, ((1, 1), (1, 1), (0, 0)))
    windows = {padded[i : i + 3, j : j + 4].tobytes() for i in range(3) for j in range(3)}
    windows |= {padded[:, ::-1][i : i + 3, j : j + 4].tobytes() for i in range(3) for j in range(3)}
    found = _augment(np.repeat(image[None], 400, 0), np.random.default_rng(0), shift=1, flip=True)
    assert {x.tobytes() for x in found} == windows


def test_learning_rates():
    np.testing.assert_allclose(learning_rates("none", 0.1, 3), [0.1, 0.1, 0.1])
    np.testing.assert_allclose(
        learning_rates("cosine", 2.0, 4), [2, 1 + np.sqrt(0.5), 1, 1 - np.sqrt(0.5)]
    )
    rates = learning_rates("onecycle", 1.0, 100)
    assert (len(rates), rates.argmax(), rates.max()) == (100, 30, 1.0)
    assert rates[0] == pytest.approx(0.04)
    assert rates[-1] < 0.001
    assert len(learning_rates("onecycle", 1.0, 1)) == 1


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"optimizer": "adagrad"},
            ParameterError,
            "optimizer must be one of adam, adamw, sgd, found 'adagrad'",
        ),
        (
            {"schedule": "step"},
            ParameterError,
            "schedule must be one of none, cosine, onecycle, found 'step'",
        ),
        (
            {"precision": "float16"},
            ParameterError,
            "precision must be one of float32, bfloat16, found 'float16'",
        ),
        (
            {"augmentation": {"rotate": 1}},
            ParameterError,
            "unknown augmentation 'rotate', expected shift or flip",
        ),
        (
            {"labels": np.zeros(3, int)},
            SampleError,
            r"one label for each of the 2 images is needed, found labels of shape \(3,\)",
        ),
        (
            {"labels": np.array([0, 10])},
            SampleError,
            r"labels must lie in 0 … 9 \(the network's outputs: \(10,\)\), found 0 … 10",
        ),
        ({"labels": np.array([-1, 0])}, SampleError, r"labels must lie in 0 … 9"),
        (
            {"images": np.zeros((2, 8, 8, 3))},
            SampleError,
            r"samples must have shape \(samples, 8, 8, 1\), found \(2, 8, 8, 3\)",
        ),
        (
            {"images": np.zeros((0, 8, 8, 1)), "labels": np.zeros(0)},
            SampleError,
            "one label for each of the 0 images",
        ),
    ],
)
def test_settings_and_data_that_do_not_fit(change, error, message):
    arguments = {"images": np.zeros((2, 8, 8, 1)), "labels": np.zeros(2, int), **change}
    with pytest.raises(error, match=message):
        check_training(build(MLP, (8, 8, 1), 10), **arguments)


def test_augmentation_needs_images():
    with pytest.raises(
        ParameterError,
        match=r"augmentation needs images, the network takes inputs of shape \(64,\)",
    ):
        check_training(
            build(MLP, (64,), 10), np.zeros((2, 64)), np.zeros(2, int), augmentation={"shift": 1}
        )


def two_rings(samples=400):
    """Points inside a circle (1) and outside it (0)."""
    random = np.random.default_rng(0)
    x = random.normal(size=(samples, 2)).astype(np.float32)
    return x, (np.linalg.norm(x, axis=1) < 1.1).astype(np.uint8)


def test_one_output_learns_two_classes_by_binary_cross_entropy(train_in):
    x, y = two_rings()
    template = build(MLP, (2,), 1, seed=0)
    settings = {**SETTINGS, "epochs": 15, "learning_rate": 0.05}
    trained, history = train_in(template, x[:300], y[:300], x[300:], y[300:], **settings)
    logits = trained.predict(x[300:])[:, 0].astype(float)
    expected = np.mean(np.log1p(np.exp(-logits)) + (y[300:] == 0) * logits)
    assert history[-1]["validation_loss"] == pytest.approx(expected, rel=1e-5)
    assert history[-1]["validation_accuracy"] == np.mean((logits > 0) == y[300:]) > 0.9


def test_numbers_are_learned_by_their_squared_error(train_in):
    x, _ = two_rings()
    y = np.stack([x[:, 0] * x[:, 1], x.sum(axis=1)], axis=1)
    template = build(MLP, (2,), 2, seed=0)
    settings = {**SETTINGS, "epochs": 15, "learning_rate": 0.05}
    trained, history = train_in(template, x[:300], y[:300], x[300:], y[300:], **settings)
    assert list(history[0]) == ["epoch", "training_loss", "validation_loss"]
    error = np.mean((trained.predict(x[300:]) - y[300:]) ** 2)
    assert history[-1]["validation_loss"] == pytest.approx(error, rel=1e-5)
    assert error < 0.1 * y.var()


@pytest.mark.parametrize(
    ("outputs", "labels", "message"),
    [
        (1, np.array([0, 2]), r"labels must lie in 0 … 1 .*found 0 … 2"),
        (3, np.zeros((2, 2), np.float32), r"must have shape \(2, 3\), .* found \(2, 2\)"),
        (1, np.array([[0.0], [np.nan]]), "must be finite, found NaN"),
    ],
)
def test_labels_that_no_loss_takes(outputs, labels, message):
    with pytest.raises(SampleError, match=message):
        loss_for(build(MLP, (2,), outputs), np.zeros((2, 2)), labels)


@pytest.mark.parametrize(("outputs", "end"), [(1, "sigmoid"), (2, "linear")])
def test_retraining_follows_the_loss(outputs, end):
    x, _ = two_rings()
    targets = (
        (x[:, 0] > x[:, 1]) + 0
        if outputs == 1
        else np.stack([x[:, 0] * x[:, 1], x.sum(axis=1)], axis=1)
    )
    network = build(MLP, (2,), outputs, seed=0)
    last = len(network.layers) - 1
    network = network.replace({last: network.layers[last].replace(activation=end)})
    retrained = retrain(network, x, targets, epochs=60)
    assert merit(retrained, x, targets) > merit(network, x, targets) + 0.1
    assert retrained.layers[last].activation == end


@pytest.mark.parametrize("framework", ["torch", "keras"])
def test_an_image_is_learned_channel_by_channel(framework):
    """A 1×1 convolution learns to swap the channels of its input."""
    x = np.random.default_rng(0).random((64, 3, 4, 2)).astype(np.float32)
    y = x[..., ::-1].reshape(64, -1)
    template = Network([Conv2D(np.eye(2, dtype=np.float32)[None, None])], (3, 4, 2))
    arguments = (template, x, y, x, y)
    settings = {"epochs": 20, "batch_size": 8, "learning_rate": 0.05, "threads": 1}
    chosen = train if framework == "torch" else train_on_the_threads_there_are
    trained, _ = chosen(*arguments, **settings)
    assert np.abs(trained.layers[0].kernel[0, 0] - [[0, 1], [1, 0]]).max() < 0.01
