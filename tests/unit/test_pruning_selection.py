"""Selection: what is kept, that the others take over, and what is refused."""

from itertools import pairwise

import numpy as np
import pytest
from test_channels import beside_each_other, random_graph

import netreduce as nr
from netreduce.errors import ParameterError, SampleError, UnsupportedLayerError
from netreduce.network import Network
from netreduce.network.channels import Channels
from netreduce.network.layers import (
    Add,
    BatchNormalization,
    Conv2D,
    Dense,
    Flatten,
    MaxPooling2D,
    Quantization,
)
from netreduce.pruning.selection import METHODS, _eliminated, _selected, _Selection, select
from netreduce.pruning.structured import structured


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape)


def mlp(widths=(8, 12, 10, 4)):
    pairs = list(pairwise(widths))
    layers = [Dense(normal(*pair), normal(pair[1]), "relu") for pair in pairs]
    return Network([*layers[:-1], layers[-1].replace(activation="linear")], widths[:1])


def cnn():
    norm = BatchNormalization(*(np.abs(normal(6, seed=i)) + 0.1 for i in range(4)))
    layers = [
        Conv2D(normal(3, 3, 2, 6), normal(6), "relu", padding="same"),
        norm,
        MaxPooling2D(),
        Conv2D(normal(3, 3, 6, 8), normal(8), "relu"),
        Flatten(),
        Dense(normal(32, 3), normal(3)),
    ]
    return Network(layers, (8, 8, 2))


def relative_error(network, reduced, x):
    target = network.predict(x)
    return np.linalg.norm(reduced.predict(x) - target) / np.linalg.norm(target)


def test_public_name():
    assert nr.select is select


@pytest.mark.parametrize("network", [mlp(), cnn()], ids=["mlp", "cnn"])
def test_nothing_is_lost_where_all_are_kept(network):
    x = normal(300, *network.input_shape)
    assert relative_error(network, select(network, x, fraction=1.0), x) < 1e-4


def test_neurons_that_are_sums_of_others_go_without_a_trace():
    hidden = normal(8, 5)
    hidden = np.hstack([hidden, hidden @ normal(5, 7)])
    network = Network([Dense(hidden, np.zeros(12)), Dense(normal(12, 3), normal(3))], (8,))
    x = normal(100, 8)
    reduced = select(network, x, keep=5)
    assert reduced.layers[0].outputs == 5
    assert relative_error(network, reduced, x) < 1e-4


@pytest.mark.parametrize("network", [mlp((8, 40, 40, 4)), cnn()], ids=["mlp", "cnn"])
@pytest.mark.parametrize("fraction", [0.75, 0.5])
def test_it_beats_pruning_by_norm(network, fraction):
    x, unseen = normal(600, *network.input_shape), normal(200, *network.input_shape, seed=1)
    selected = select(network, x, fraction=fraction)
    normed = structured(network, fraction)
    assert selected.shapes == normed.shapes
    assert relative_error(network, selected, unseen) < 0.7 * relative_error(network, normed, unseen)


def test_the_last_weights_are_the_least_squares_solution():
    network = Network([Dense(normal(6, 9), normal(9), "relu"), Dense(normal(9, 3))], (6,))
    x = normal(200, 6)
    reduced = select(network, x, layers={"dense_1": 5})
    hidden = np.hstack([reduced.layers[0](x), np.ones((200, 1))])
    best = np.linalg.lstsq(hidden, network.predict(x), rcond=None)[0]
    np.testing.assert_allclose(reduced.layers[1].kernel, best[:-1], atol=1e-4)
    np.testing.assert_allclose(reduced.layers[1].bias, best[-1], atol=1e-4)


def test_elimination_and_selection_are_greedy_by_their_definition():
    network = Network([Dense(normal(6, 7), normal(7), "relu"), Dense(normal(7, 3))], (6,))
    x = normal(100, 6)
    selection = _Selection(network, x, "elimination")
    selection._start()
    reader, members = selection._reader(1), selection.groups[0].members

    def error(kept):
        columns = np.append(np.isin(reader.owner[:-1], kept), True)
        return -reader.explained(columns)

    left = list(members)
    for gone in _eliminated([reader], members, 6)[0]:
        assert gone == min(left, key=lambda one: error([m for m in left if m != one]))
        left.remove(gone)
    taken = []
    for one in _selected([reader], members, 6):
        rest = [m for m in members if m not in taken]
        assert one == min(rest, key=lambda m: error([*taken, m]))
        taken.append(one)


def analog_least_squares(network, x, kept):
    """What the second layer is, when those neurons stand for all, in the analog network."""
    hidden = network.layers[0](x)
    share = np.linalg.lstsq(hidden[:, kept], hidden, rcond=None)[0]
    return share @ network.layers[1].kernel


def lasso(parts, penalty):
    """By coordinate descent: how much of each part makes up their sum."""
    total, beta = sum(parts), np.ones(len(parts))
    for _ in range(500):
        for c, part in enumerate(parts):
            rest = total - sum(
                b * p for k, (b, p) in enumerate(zip(beta, parts, strict=True)) if k != c
            )
            fit = (part * rest).sum()
            beta[c] = np.sign(fit) * max(abs(fit) - penalty, 0) / (part * part).sum()
    return beta


@pytest.mark.parametrize("method", ["variance", "greedy", "thinet", "lasso"])
def test_published_methods_choose_by_their_definition(method):
    network = Network([Dense(normal(6, 7), normal(7), "relu"), Dense(normal(7, 3))], (6,))
    x = normal(300, 6)
    hidden = network.layers[0](x)

    def unexplained(kept):
        return np.linalg.norm(
            hidden - hidden[:, kept] @ np.linalg.lstsq(hidden[:, kept], hidden)[0]
        )

    kept: list[int] = []
    if method == "variance":
        kept = sorted(np.argsort(hidden.var(axis=0))[-4:])
    elif method == "greedy":
        for _ in range(4):
            rest = [i for i in range(7) if i not in kept]
            kept.append(min(rest, key=lambda i: unexplained([*kept, i])))
    elif method == "lasso":
        parts = [np.outer(hidden[:, i], network.layers[1].kernel[i]) for i in range(7)]
        largest = max(abs((part * sum(parts)).sum()) for part in parts)
        penalties = largest * np.linspace(0.01, 0.99, 60)
        kept = next(s for p in penalties if len(s := np.flatnonzero(lasso(parts, p)).tolist()) == 4)
    else:
        gone: list[int] = []
        for _ in range(3):
            rest = [i for i in range(7) if i not in gone]
            W = network.layers[1].kernel
            gone.append(
                min(rest, key=lambda i: np.linalg.norm(hidden[:, [*gone, i]] @ W[[*gone, i]]))
            )
        kept = [i for i in range(7) if i not in gone]
    reduced = select(network, x, layers={"dense_1": 4}, method=method)
    np.testing.assert_array_equal(
        reduced.layers[0].kernel, network.layers[0].kernel[:, sorted(kept)]
    )
    np.testing.assert_allclose(
        reduced.layers[1].kernel, analog_least_squares(network, x, sorted(kept)), atol=1e-3
    )
    np.testing.assert_array_equal(reduced.layers[1].bias, network.layers[1].bias)


def test_elimination_is_better_than_what_was_published():
    network, x, unseen = mlp((8, 40, 40, 4)), normal(600, 8), normal(200, 8, seed=1)
    errors = {
        method: relative_error(network, select(network, x, keep=40, method=method), unseen)
        for method in METHODS
    }
    assert min(errors, key=errors.__getitem__) == "elimination"


def test_layers_keep_multiples():
    network, x = mlp((8, 40, 37, 4)), normal(600, 8)
    for keep in (60, 48, 33):
        widths = [layer.outputs for layer in select(network, x, keep=keep, multiple=8).layers[:2]]
        assert keep - 8 < sum(widths) <= keep and all(w % 8 == 0 or w == 37 for w in widths)
    widths = [layer.outputs for layer in select(network, x, fraction=0.7, multiple=16).layers]
    assert widths == [32, 32, 4]
    widths = [layer.outputs for layer in select(network, x, fraction=0.95, multiple=16).layers]
    assert widths == [40, 37, 4]
    with pytest.raises(ParameterError, match="keep must be a number of neurons from 32 to"):
        select(network, x, keep=31, multiple=16)
    with pytest.raises(ParameterError, match="multiple must be a whole number from 1, found 0"):
        select(network, x, keep=31, multiple=0)


def test_mini_batches_are_as_good_as_an_array_and_results_repeat():
    network, x = cnn(), normal(300, 8, 8, 2)
    one, two = select(network, x, keep=9), select(network, [x[:100], x[100:]], keep=9)
    for a, b in zip(one.layers, two.layers, strict=True):
        for name, array in a.arrays().items():
            np.testing.assert_array_equal(array, b.arrays()[name])


def test_a_total_is_kept_to_and_shared_out_by_what_it_costs():
    wide = np.hstack([normal(8, 4)] * 5)  # 16 of 20 neurons repeat others
    layers = [
        Dense(wide, np.zeros(20), "relu"),
        Dense(normal(20, 20), normal(20), "relu"),
        Dense(normal(20, 3)),
    ]
    network, x = Network(layers, (8,)), normal(400, 8)
    reduced = select(network, x, keep=24)
    widths = [layer.outputs for layer in reduced.layers]
    assert sum(widths[:2]) == 24
    assert widths[0] < widths[1]
    assert relative_error(network, reduced, x) < 1e-4


@pytest.mark.parametrize("seed", range(12))
def test_random_graphs(seed):
    rng = np.random.default_rng([2, seed])
    network = random_graph(rng)
    channels = Channels(network)
    x = rng.standard_normal((60, 6, 6, 2))
    if not channels.groups():
        with pytest.raises(UnsupportedLayerError, match="no hidden layer"):
            select(network, x, fraction=0.5)
        return
    reduced = select(network, x, fraction=0.6)
    assert np.isfinite(reduced.predict(x)).all()
    counts = [
        (len(channels.members(group)), len(Channels(reduced).members(other)))
        for group, other in zip(channels.groups(), Channels(reduced).groups(), strict=True)
    ]
    assert all(after == max(1, round(0.6 * before)) for before, after in counts)


def test_residual_blocks_are_reduced_whole():
    convs = [Conv2D(normal(3, 3, 4, 4, seed=i), normal(4), padding="same") for i in range(3)]
    network = Network(
        [*convs, Add(), Flatten(), Dense(normal(64, 2))],
        (4, 4, 4),
        [(-1,), (0,), (1,), (0, 2), (3,), (4,)],
    )
    x = normal(200, 4, 4, 4)
    reduced = select(network, x, fraction=0.75)
    assert [layer.outputs for layer in reduced.layers if isinstance(layer, Conv2D)] == [3, 3, 3]
    assert relative_error(network, reduced, x) < relative_error(
        network, structured(network, 0.75), x
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "one of keep, fraction and layers says how many"),
        ({"keep": 3, "fraction": 0.5}, "one of keep, fraction and layers"),
        ({"keep": 0}, "keep must be a number of neurons from 2 to the 22 that can go, found 0"),
        ({"keep": 23}, "keep must be a number of neurons from 2 to the 22 that can go, found 23"),
        ({"keep": 5.5}, "keep must be a number of neurons"),
        ({"keep": 5, "method": "best"}, "method must be one of elimination, variance, greedy"),
        ({"fraction": "half"}, r"fraction must be in \(0, 1\], found 'half'"),
        ({"fraction": 0}, r"fraction must be in \(0, 1\], found 0"),
        (
            {"layers": {"dense_3": 2}},
            "'dense_3' has no neurons that can go; there are dense_1, dense_2",
        ),
        ({"layers": {"dense_1": 0}}, "dense_1 can keep 1 to 12 of its neurons, found 0"),
        ({"layers": {"dense_1": 13}}, "dense_1 can keep 1 to 12 of its neurons, found 13"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ParameterError, match=message):
        select(mlp(), normal(50, 8), **arguments)


def test_what_cannot_be_reduced():
    with pytest.raises(UnsupportedLayerError, match="no hidden layer has neurons"):
        select(Network([Dense(normal(3, 2))], (3,)), normal(5, 3), keep=1)
    network = mlp()
    quantized = network.layers[1].replace(
        kernel=np.ones((12, 10)), quantization=Quantization(np.asarray(1.0), 2.0)
    )
    with pytest.raises(UnsupportedLayerError, match="dense_2 is quantized: select neurons before"):
        select(network.replace({1: quantized}), normal(5, 8), keep=5)
    with pytest.raises(SampleError, match=r"samples must have shape \(samples, 8\)"):
        select(network, normal(5, 7), keep=5)
    with pytest.raises(SampleError, match="this method learns from samples"):
        select(network, None, keep=5)


@pytest.mark.parametrize("method", METHODS)
def test_silent_layers_and_layers_side_by_side(method):
    silent = Network([Dense(np.zeros((5, 8)), activation="relu"), Dense(normal(8, 3))], (5,))
    x = normal(30, 5)
    reduced = select(silent, x, fraction=0.5, method=method)
    np.testing.assert_array_equal(reduced.predict(x), silent.predict(x))
    network, x = beside_each_other(), normal(30, 6, 6, 4)
    reduced = select(network, x, keep=2, method=method)
    assert np.isfinite(reduced.predict(x)).all()
    assert min(layer.outputs for layer in reduced.layers if layer.arrays()) == 1


@pytest.mark.parametrize("count", [1, 2, 5])
def test_as_few_samples_as_there_can_be(count):
    network = mlp()
    reduced = select(network, normal(count, 8), keep=9)
    assert sum(layer.outputs for layer in reduced.layers[:-1]) == 9
    assert np.isfinite(reduced.predict(normal(20, 8))).all()


def test_fewer_samples_than_neurons():
    network = mlp((8, 40, 40, 4))
    reduced = select(network, normal(10, 8), fraction=0.5)
    assert np.isfinite(reduced.predict(normal(50, 8))).all()
    assert max(np.abs(layer.kernel).max() for layer in reduced.layers) < 100


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("index", [0, 2])
def test_parameters_that_are_no_numbers(value, index):
    network = mlp()
    kernel = network.layers[index].kernel.copy()
    kernel[0, 0] = value
    broken = network.replace({index: network.layers[index].replace(kernel=kernel)})
    message = f"dense_{index + 1}: 1 values of its kernel are NaN or infinite"
    with pytest.raises(ParameterError, match=message):
        select(broken, normal(50, 8), fraction=0.5)
