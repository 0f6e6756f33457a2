"""Model folding: clusters become their mean, statistics are those of the members."""

from itertools import pairwise

import numpy as np
import pytest
from test_channels import beside_each_other, random_graph

import netreduce as nr
from netreduce.errors import ParameterError, SampleError, UnsupportedLayerError
from netreduce.network import Network
from netreduce.network.channels import Channels
from netreduce.network.layers import Dense, Quantization
from netreduce.pruning.fold_neurons import _clusters, _incoming, fold_neurons


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def mlp(widths=(6, 10, 8, 3)):
    layers = [Dense(normal(*pair), normal(pair[1]), "relu") for pair in pairwise(widths)]
    return Network(layers, widths[:1])


def test_public_name():
    assert nr.fold_neurons is fold_neurons


@pytest.mark.parametrize("repair", [False, True])
def test_equal_neurons_fold_without_a_trace(repair):
    hidden = np.repeat(normal(6, 4), 3, axis=1)
    network = Network([Dense(hidden, np.repeat(normal(4), 3), "relu"), Dense(normal(12, 2))], (6,))
    x = normal(50, 6)
    folded = fold_neurons(network, x, 1 / 3, repair=repair)
    assert folded.layers[0].outputs == 4
    np.testing.assert_allclose(folded.predict(x), network.predict(x), atol=1e-4)


def test_nothing_folds_where_all_are_kept():
    network, x = mlp(), normal(50, 6)
    folded = fold_neurons(network, x, 1.0)
    np.testing.assert_allclose(folded.predict(x), network.predict(x), atol=1e-4)


def test_repair_gives_every_neuron_the_mean_statistics_of_its_cluster():
    network, x = mlp((6, 10, 3)), normal(400, 6)
    channels = Channels(network)
    members = channels.members([0])
    labels = _clusters(_incoming(channels, [0], members), 5, 0)
    clusters = [labels == label for label in dict.fromkeys(labels.tolist())]
    before, after = (side.layers[0].linear(x) for side in (network, fold_neurons(network, x, 0.5)))
    for statistic in (np.mean, np.std):
        of_members = statistic(before, axis=0)
        wanted = [of_members[cluster].mean() for cluster in clusters]
        np.testing.assert_allclose(statistic(after, axis=0), wanted, atol=1e-4)


@pytest.mark.parametrize("seed", range(8))
def test_random_graphs(seed):
    network = random_graph(np.random.default_rng([3, seed]))
    groups = Channels(network).groups()
    x = normal(20, 6, 6, 2)
    if not groups:
        with pytest.raises(UnsupportedLayerError, match="no hidden layer"):
            fold_neurons(network, x, 0.5)
        return
    folded = fold_neurons(network, x, 0.5)
    assert np.isfinite(folded.predict(x)).all()
    counts = [len(Channels(network).members(group)) for group in groups]
    left = [len(Channels(folded).members(group)) for group in Channels(folded).groups()]
    assert left == [max(1, round(0.5 * count)) for count in counts]


def test_equal_rows_and_layers_side_by_side():
    zeros = Network([Dense(np.zeros((6, 8)), activation="relu"), Dense(normal(8, 2))], (6,))
    assert fold_neurons(zeros, normal(9, 6), 0.5).layers[0].outputs == 4
    network, x = beside_each_other(), normal(9, 6, 6, 4)
    folded = fold_neurons(network, x, 0.5)
    assert np.isfinite(folded.predict(x)).all()


def test_the_seed_decides():
    network, x = mlp(), normal(50, 6)
    one, two = (fold_neurons(network, x, 0.5, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.layers[1].kernel, two.layers[1].kernel)


def test_what_is_refused():
    network, x = mlp(), normal(50, 6)
    with pytest.raises(ParameterError, match=r"fraction must be in \(0, 1\], found 0"):
        fold_neurons(network, x, 0)
    with pytest.raises(ParameterError, match="seed must be a whole number from 0, found -1"):
        fold_neurons(network, x, 0.5, seed=-1)
    with pytest.raises(SampleError, match="folding repairs statistics on samples, found none"):
        fold_neurons(network, None, 0.5)
    with pytest.raises(SampleError, match="samples must have shape"):
        fold_neurons(network, normal(5, 7), 0.5)
    codes = network.layers[0].replace(
        kernel=np.ones((6, 10)), quantization=Quantization(np.asarray(1.0), 2.0)
    )
    with pytest.raises(UnsupportedLayerError, match="dense_1 is quantized: fold neurons before"):
        fold_neurons(network.replace({0: codes}), x, 0.5)
    with pytest.raises(UnsupportedLayerError, match="no hidden layer has neurons"):
        fold_neurons(Network([Dense(normal(6, 3))], (6,)), x, 0.5)
