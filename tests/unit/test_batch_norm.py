import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netreduce.folding.batch_norm import fold_batch_norm
from netreduce.network import Network
from netreduce.network.layers import (
    Activation,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    MaxPooling2D,
    Quantization,
)


def norm(rng, channels, positive=False):
    gamma = rng.uniform(0.5, 2, channels) * (1 if positive else rng.choice([-1, 1], channels))
    return BatchNormalization(
        gamma,
        rng.standard_normal(channels),
        rng.standard_normal(channels),
        rng.uniform(0.5, 2, channels),
    )


def conv(rng, inputs, outputs, activation="relu", **options):
    return Conv2D(
        rng.standard_normal((3, 3, inputs, outputs)),
        rng.standard_normal(outputs),
        activation,
        **options,
    )


def dense(rng, inputs, outputs, activation="relu"):
    return Dense(rng.standard_normal((inputs, outputs)), rng.standard_normal(outputs), activation)


def norms_left(network):
    return sum(isinstance(layer, BatchNormalization) for layer in network.layers)


def same_function(network, folded, seed=0):
    x = np.random.default_rng(seed).standard_normal((20, *network.input_shape))
    np.testing.assert_allclose(folded.predict(x), network.predict(x), rtol=1e-11, atol=1e-11)


@given(
    st.integers(0, 10**6),
    st.sampled_from(
        [
            "dense",
            "valid",
            "depthwise",
            "flatten",
            "pool",
            "average",
            "global",
            "dropout",
            "backward",
            "chain",
        ]
    ),
)
@settings(max_examples=60, deadline=None)
def test_folds_where_exact(seed, kind):
    rng = np.random.default_rng(seed)
    image, behind = conv(rng, 2, 4), conv(rng, 4, 3, "linear")
    layers = {
        "dense": [dense(rng, 6, 5), norm(rng, 5), dense(rng, 5, 3)],
        "valid": [image, norm(rng, 4), behind],
        "depthwise": [
            image,
            norm(rng, 4),
            DepthwiseConv2D(rng.standard_normal((2, 2, 4, 3)), None, "tanh"),
            Flatten(),
            dense(rng, 108, 2),
        ],
        "flatten": [image, norm(rng, 4), Flatten(), dense(rng, 64, 3)],
        "pool": [
            image,
            norm(rng, 4, positive=True),
            MaxPooling2D(2),
            behind.replace(kernel=behind.kernel[:2, :2]),
        ],
        "average": [
            image,
            norm(rng, 4),
            AveragePooling2D(2, padding="same"),
            Flatten(),
            dense(rng, 16, 3),
        ],
        "global": [image, norm(rng, 4), GlobalAveragePooling2D(), dense(rng, 4, 3)],
        "dropout": [image, norm(rng, 4), Dropout(0.3), behind],
        "backward": [
            conv(rng, 2, 4, "linear", padding="same"),
            norm(rng, 4),
            Activation("relu"),
            conv(rng, 4, 3, padding="same"),
        ],
        "chain": [
            conv(rng, 2, 4, "linear"),
            norm(rng, 4),
            norm(rng, 4),
            Activation("relu"),
            norm(rng, 4),
            norm(rng, 4),
            behind,
        ],
    }[kind]
    network = Network(layers, (6,) if kind == "dense" else (6, 6, 2))
    folded = fold_batch_norm(network)
    assert norms_left(folded) == 0
    same_function(network, folded, seed)


def depthwise_behind(rng):
    return DepthwiseConv2D(rng.standard_normal((3, 3, 4, 1)), None, "relu", padding="same")


@pytest.mark.parametrize(
    "behind",
    [
        lambda rng: [conv(rng, 4, 3, padding="same")],
        lambda rng: [depthwise_behind(rng)],
        lambda rng: [MaxPooling2D(2), Flatten(), dense(rng, 36, 2)],
        lambda rng: [Activation("relu"), Flatten(), dense(rng, 144, 2)],
        lambda rng: [],
    ],
    ids=["padded", "padded depthwise", "negative slope before a maximum", "activation", "output"],
)
def test_stays_where_folding_is_wrong(behind):
    rng = np.random.default_rng(3)
    bn = norm(rng, 4)
    bn = bn.replace(gamma=-np.abs(bn.gamma))
    network = Network([conv(rng, 2, 4, padding="same"), bn, *behind(rng)], (6, 6, 2))
    assert fold_batch_norm(network) is network


def test_a_norm_without_shift_folds_into_a_padded_convolution():
    rng = np.random.default_rng(0)
    bn = norm(rng, 4)
    bn = bn.replace(beta=np.zeros(4), mean=np.zeros(4))
    network = Network([conv(rng, 2, 4), bn, conv(rng, 4, 3, padding="same")], (6, 6, 2))
    assert norms_left(fold_batch_norm(network)) == 0
    same_function(network, fold_batch_norm(network))


def test_padding_that_adds_nothing_does_not_hinder():
    rng = np.random.default_rng(0)
    pointwise = Conv2D(rng.standard_normal((1, 1, 4, 3)), padding="same")
    network = Network([conv(rng, 2, 4), norm(rng, 4), pointwise], (6, 6, 2))
    assert norms_left(fold_batch_norm(network)) == 0
    same_function(network, fold_batch_norm(network))


def test_residual_block():
    """The norm behind a linear convolution folds even beside a sum, the one behind the sum stays
    before its activation.
    """
    rng = np.random.default_rng(0)
    layers = [
        conv(rng, 2, 2, "linear", padding="same"),
        norm(rng, 2),
        Add(),
        norm(rng, 2),
        Activation("relu"),
        conv(rng, 2, 3),
    ]
    network = Network(layers, (6, 6, 2), [(-1,), (0,), (1, -1), (2,), (3,), (4,)])
    folded = fold_batch_norm(network)
    assert [type(layer) for layer in folded.layers] == [
        Conv2D,
        Add,
        BatchNormalization,
        Activation,
        Conv2D,
    ]
    assert folded.sources == ((-1,), (0, -1), (1,), (2,), (3,))
    same_function(network, folded)


def test_two_readers_of_which_one_pads():
    rng = np.random.default_rng(0)
    layers = [
        conv(rng, 2, 4),
        norm(rng, 4),
        conv(rng, 4, 3, padding="same"),
        conv(rng, 4, 3, padding="valid"),
        Flatten(),
        Flatten(),
    ]
    network = Network([*layers[:4], Flatten()], (6, 6, 2), [(-1,), (0,), (1,), (1,), (3,)])
    assert fold_batch_norm(network) is network


@pytest.mark.parametrize("behind", [False, True])
def test_quantized_layers_stay_on_a_grid(behind):
    rng = np.random.default_rng(0)
    scale = 0.25
    codes = rng.integers(-1, 2, (6, 4))
    quantized = Dense(
        (scale * codes).astype(np.float32),
        rng.standard_normal(4).astype(np.float32),
        "linear",
        quantization=Quantization(scale, 1.58),
    )
    bn = norm(rng, 6 if behind else 4)
    bn = bn.replace(gamma=np.r_[0, bn.gamma[1:]])
    layers = [dense(rng, 5, 6), bn, quantized] if behind else [quantized, bn, dense(rng, 4, 3)]
    network = Network(layers, (layers[0].kernel.shape[0],))
    folded = fold_batch_norm(network)
    assert norms_left(folded) == 0
    layer = folded.layers[1 if behind else 0]
    assert set(np.unique(layer.codes)) <= {-1, 0, 1}
    np.testing.assert_array_equal(
        (layer.quantization.scale * layer.codes).astype(np.float32), layer.kernel
    )
    x = rng.standard_normal((20, *network.input_shape))
    np.testing.assert_allclose(folded.predict(x), network.predict(x), rtol=1e-5, atol=1e-5)


def test_types_are_kept():
    rng = np.random.default_rng(0)
    layer = Dense(np.ones((2, 2), np.float32), np.ones(2, np.float32), "linear")
    folded = fold_batch_norm(Network([layer, norm(rng, 2)], (2,)))
    assert folded.dtype == np.float32 and len(folded.layers) == 1


def test_a_layer_that_something_else_reads_is_left_alone():
    rng = np.random.default_rng(0)
    layers = [dense(rng, 4, 5, "linear"), norm(rng, 5), Add(), dense(rng, 5, 2)]
    network = Network(layers, (4,), [(-1,), (0,), (0, 1), (2,)])
    folded = fold_batch_norm(network)
    assert norms_left(folded) == 1
    same_function(network, folded)


def test_the_output_stays_the_output():
    """Batch normalization at the end, of a layer that is not the one before it."""
    rng = np.random.default_rng(0)
    layers = [dense(rng, 4, 5, "linear"), dense(rng, 4, 5), norm(rng, 5)]
    network = Network(layers, (4,), [(-1,), (-1,), (0,)])
    folded = fold_batch_norm(network)
    assert norms_left(folded) == 1
    same_function(network, folded)


def test_a_folded_bias_is_no_longer_on_the_grid():
    rng = np.random.default_rng(0)
    grid = Quantization(0.25, 4, quantized_bias=True)
    codes, bias_codes = rng.integers(-7, 8, (4, 5)), rng.integers(-7, 8, 5)
    layer = Dense(0.25 * codes, 0.25 * bias_codes, quantization=grid)
    folded = fold_batch_norm(Network([layer, norm(rng, 5)], (4,)))
    assert not folded.layers[0].quantization.quantized_bias
    assert folded.layers[0].bias_codes is None
