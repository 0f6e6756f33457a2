import numpy as np
import pytest

from netreduce.errors import ParameterError, UnsupportedLayerError
from netreduce.factorization.lowrank import factorize, lowrank
from netreduce.network import Network
from netreduce.network.layers import Add, Conv2D, Dense, Flatten, Quantization


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).normal(size=shape).astype(np.float32)


LAYERS = [
    Dense(normal(12, 9), normal(9), "relu"),
    Dense(normal(5, 9), normal(9), "tanh"),
    Conv2D(normal(3, 2, 4, 7), normal(7), "relu", (2, 1), "same"),
    Conv2D(normal(3, 3, 4, 5), normal(5), "linear", 1, "valid", (1, 2)),
]


@pytest.mark.parametrize("layer", LAYERS)
def test_full_rank_is_exact(layer):
    shape = (layer.kernel.shape[0],) if isinstance(layer, Dense) else (8, 9, 4)
    full = min(layer.kernel.size // layer.outputs, layer.outputs)
    x = normal(3, *shape)
    factors = Network(factorize(layer, full), shape)
    np.testing.assert_allclose(factors.predict(x), layer(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("layer", LAYERS)
def test_the_kernel_is_the_best_of_its_rank(layer):
    first, second = factorize(layer, 3)
    matrix = layer.kernel.reshape(-1, layer.outputs)
    product = first.kernel.reshape(-1, 3) @ second.kernel.reshape(3, -1)
    values = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    assert np.linalg.norm(matrix - product) == pytest.approx(np.linalg.norm(values[3:]), rel=1e-5)


def test_layers_are_factorized_where_that_saves_weights():
    network = Network(
        [
            Dense(normal(20, 30), None, "relu"),
            Dense(normal(30, 30), None, "relu"),
            Dense(normal(30, 2)),
        ],
        (20,),
    )
    small = lowrank(network, 0.2)
    assert [layer.kernel.shape for layer in small.layers] == [
        (20, 4),
        (4, 30),
        (30, 6),
        (6, 30),
        (30, 1),
        (1, 2),
    ]
    assert lowrank(network, 1).layers == network.layers


def test_readers_in_a_graph_follow():
    layers = [
        Conv2D(normal(3, 3, 4, 8), None, "relu", 1, "same"),
        Conv2D(normal(3, 3, 8, 8), None, "relu", 1, "same"),
        Add(),
        Flatten(),
    ]
    network = Network(
        [*layers, Dense(normal(128, 3))], (4, 4, 4), [(-1,), (0,), (0, 1), (2,), (3,)]
    )
    small = lowrank(network, 0.5)
    assert small.sources == ((-1,), (0,), (1,), (2,), (1, 3), (4,), (5,), (6,))
    assert small.shapes[-1] == (3,)


def test_a_layer_of_low_rank_loses_nothing():
    network = Network([Dense(normal(20, 3) @ normal(3, 30), normal(30), "relu")], (20,))
    x = normal(5, 20)
    np.testing.assert_allclose(
        lowrank(network, 0.15).predict(x), network.predict(x), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("rank", [0, 10])
def test_a_rank_out_of_range(rank):
    with pytest.raises(
        ParameterError,
        match=rf"rank must be from 1 to 9 for a kernel of shape \(12, 9\), found {rank}",
    ):
        factorize(LAYERS[0], rank)


def test_a_fraction_out_of_range():
    with pytest.raises(ParameterError, match=r"fraction must be in \(0, 1\], found 0"):
        lowrank(Network([Dense(normal(3, 3))], (3,)), 0)


def test_a_quantized_layer():
    network = Network([Dense(np.ones((2, 2)), quantization=Quantization(1, 2))], (2,))
    with pytest.raises(
        UnsupportedLayerError, match="dense_1 is quantized: factorize before quantizing"
    ):
        lowrank(network, 0.5)
