import copy
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lumping_networks import from_dictionary

from netreduce.errors import ParameterError, UnsupportedLayerError
from netreduce.lumping import lump, lump_neural_network, run_neural_network

TOY = {
    "k": 4,
    "S": [{0, 1}, {2, 3}, {4, 5}, {6}],
    "W": {
        1: {(0, 2): 0.1, (1, 3): 0.2, (0, 3): 0.3, (1, 2): 0.4},
        2: {(2, 4): 0.5, (3, 4): 0.6, (2, 5): 1, (3, 5): 1.2},
        3: {(4, 6): 0.7, (5, 6): 0.8},
    },
    "b": {1: {2: 0.1, 3: 0.2}, 2: {4: 0.3, 5: 0.6}, 3: {6: 0.4}},
    "A": {1: {2: "ReLU", 3: "ReLU"}, 2: {4: "ReLU", 5: "ReLU"}, 3: {6: "ReLU"}},
}
POINTS = {
    (0, 0): 1.481,
    (1, 1): 2.746,
    (1, 0): 2.010,
    (0, 1): 2.217,
    (-5, -5): 1.090,
    (2, 3): 4.747,
}
PUBLISHED = """4
{0: {0: [0], 1: [1]}, 1: {(2,): [2], (3,): [3]}, 2: {(4, 5): [4, 5]}, 5: 0.5, 3: {(6,): [6]}}
{1: {(0, (2,)): 0.1, (1, (2,)): 0.4, (0, (3,)): 0.3, (1, (3,)): 0.2}, 2: {((2,), (4,)): 0.5, ((3,), (4,)): 0.6}, 3: {((4, 5), (6,)): 1.1}}
{1: {(2,): 0.1, (3,): 0.2}, 2: {(4,): 0.3}, 3: {(6,): 0.4}}
{1: {(2,): 'ReLU', (3,): 'ReLU'}, 2: {(4,): 'ReLU'}, 3: {(6,): 'ReLU'}}"""


def network(rows, outputs=(1.0, 1.0), activations=("ReLU", "ReLU")):
    """One input, the hidden neurons 10, 11, ... with (weight, bias) as given, the output 20."""
    hidden = range(10, 10 + len(rows))
    return {
        "k": 3,
        "S": [{0}, set(hidden), {20}],
        "W": {
            1: {(0, s): w for s, (w, _) in zip(hidden, rows, strict=True)},
            2: {(s, 20): w for s, w in zip(hidden, outputs, strict=True)},
        },
        "b": {1: {s: b for s, (_, b) in zip(hidden, rows, strict=True)}, 2: {20: 0.0}},
        "A": {1: dict(zip(hidden, activations, strict=True)), 2: {20: "Linear"}},
    }


def deviation(original, lumped, points=(-2.0, -0.3, 0.0, 0.4, 3.0)):
    return max(
        abs(
            sum(run_neural_network(original, [x]).values())
            - sum(run_neural_network(lumped, [x]).values())
        )
        for x in points
    )


@pytest.mark.parametrize("point", POINTS)
def test_toy_example_before_and_after(point):
    lumped = lump_neural_network(TOY)
    assert abs(run_neural_network(TOY, point)[6] - POINTS[point]) < 1e-12
    assert abs(run_neural_network(lumped, point)[(6,)] - POINTS[point]) < 1e-12
    x = np.array([point], np.float64)
    assert abs(lump(from_dictionary(TOY)).network.predict(x)[0, 0] - POINTS[point]) < 1e-12


def test_toy_example_classes_weights_and_form():
    k, S, W, b, A = lump_neural_network(TOY)
    assert k == 4
    assert S == {
        0: {0: [0], 1: [1]},
        1: {(2,): [2], (3,): [3]},
        2: {(4, 5): [4, 5]},
        3: {(6,): [6]},
    }
    assert W[3] == {((4, 5), (6,)): pytest.approx(2.3, abs=1e-12)}
    assert W[2] == {((2,), (4, 5)): 0.5, ((3,), (4, 5)): 0.6}
    assert b[2] == {(4, 5): 0.3} and A[2] == {(4, 5): "ReLU"}


def test_the_result_is_a_network_again():
    once = lump_neural_network(TOY)
    k, S, W, _, _ = lump_neural_network(once)
    assert k == 4 and list(S[2]) == [((4, 5),)]
    assert list(W[3].values()) == list(once[2][3].values())


def test_toy_example_as_published():
    assert "\n".join(map(str, lump_neural_network(TOY, convention="thesis"))) == PUBLISHED


def test_tuples_and_mappings_of_inputs():
    as_tuple = tuple(TOY[key] for key in "kSWbA")
    assert lump_neural_network(as_tuple) == lump_neural_network(TOY)
    assert run_neural_network(as_tuple, {1: 3, 0: 2}) == run_neural_network(TOY, (2, 3))


# Defects of the published algorithm, and what the exact convention does instead.


def as_network(published, original):
    """A published result in a form that can be evaluated: its targets and biases get the names of
    its classes.
    """
    k, S, W, b, A = published
    S = {i: S[i] for i in range(k)}
    named = {i: {(key[0],): key for key in S[i]} for i in range(1, k)}
    return (
        k,
        S,
        {i: {(r, named[i][s]): w for (r, s), w in W[i].items()} for i in W},
        {i: {named[i][s]: v for s, v in b[i].items()} for i in b},
        {i: {named[i][s]: v for s, v in A[i].items()} for i in A},
    )


def test_published_is_right_for_equal_neurons_only():
    equal, double = network([(1.0, 0.5), (1.0, 0.5)]), network([(1.0, 0.5), (2.0, 1.0)])
    assert deviation(equal, as_network(lump_neural_network(equal, "thesis"), equal)) == 0
    assert deviation(double, as_network(lump_neural_network(double, "thesis"), double)) > 1
    assert deviation(double, lump_neural_network(double)) < 1e-12


def test_published_merges_opposite_neurons():
    opposite = network([(1.0, 0.5), (-1.0, -0.5)])
    assert list(lump_neural_network(opposite, "thesis")[1][1]) == [(10, 11)]
    assert list(lump_neural_network(opposite)[1][1]) == [(10,), (11,)]


def test_published_cannot_divide_by_a_zero_bias():
    twins = network([(1.0, 0.0), (1.0, 0.0)])
    with pytest.raises(
        ParameterError, match=r"layer 1, neuron 11: the published algorithm divides by its bias"
    ):
        lump_neural_network(twins, "thesis")
    assert list(lump_neural_network(twins)[1][1]) == [(10, 11)]


def test_published_lets_a_neuron_of_zeros_swallow_all_others():
    zeros = network([(0.0, 0.0), (1.0, 0.5), (-3.0, 2.0)], (1.0, 1.0, 1.0), ("ReLU",) * 3)
    assert list(lump_neural_network(zeros, "thesis")[1][1]) == [(10, 11, 12)]
    assert list(lump_neural_network(zeros)[1][1]) == [(10,), (11,), (12,)]


def test_published_ignores_activations_and_merges_outputs():
    mixed = network([(1.0, 0.5), (1.0, 0.5)], activations=("ReLU", "LeakyReLU"))
    assert list(lump_neural_network(mixed, "thesis")[1][1]) == [(10, 11)]
    assert list(lump_neural_network(mixed)[1][1]) == [(10,), (11,)]
    outputs = {
        "k": 2,
        "S": [{10}, {11, 12}],
        "W": {1: {(10, 11): 1.0, (10, 12): 2.0}},
        "b": {1: {11: 1.0, 12: 2.0}},
        "A": {1: {11: "ReLU", 12: "ReLU"}},
    }
    assert list(lump_neural_network(outputs, "thesis")[1][1]) == [(11, 12)]
    assert list(lump_neural_network(outputs)[1][1]) == [(11,), (12,)]


def two_layers(first, second):
    """Neurons 10, 11 = 2 · neuron 10, then 15 and 16 with the rows given, then the output 20."""
    return {
        "k": 4,
        "S": [{0}, {10, 11}, {15, 16}, {20}],
        "W": {
            1: {(0, 10): 1.0, (0, 11): 2.0},
            2: {(10, 15): first[0], (11, 15): first[1], (10, 16): second[0], (11, 16): second[1]},
            3: {(15, 20): 1.0, (16, 20): 1.0},
        },
        "b": {1: {10: 0.5, 11: 1.0}, 2: {15: 1.0, 16: 1.0}, 3: {20: 0.0}},
        "A": {1: {10: "ReLU", 11: "ReLU"}, 2: {15: "ReLU", 16: "ReLU"}, 3: {20: "Linear"}},
    }


def test_published_compares_unscaled_sums():
    """Rows (1, 2) and (2, 1) are different functions of equal sum; (1, 2) and (3, 1) are equal
    functions of different sums.
    """
    different, same = two_layers((1.0, 2.0), (2.0, 1.0)), two_layers((1.0, 2.0), (3.0, 1.0))
    assert list(lump_neural_network(different, "thesis")[1][2]) == [(15, 16)]
    assert list(lump_neural_network(different)[1][2]) == [(15,), (16,)]
    assert list(lump_neural_network(same, "thesis")[1][2]) == [(15,), (16,)]
    assert list(lump_neural_network(same)[1][2]) == [(15, 16)]
    assert deviation(same, lump_neural_network(same)) < 1e-12


def test_published_takes_small_ids_for_layers():
    small = copy.deepcopy(network([(1.0, 0.5)], (1.0,), ("ReLU",)))
    small["S"][1], small["W"][1], small["b"][1], small["A"][1] = (
        {1},
        {(0, 1): 1.0},
        {1: 0.5},
        {1: "ReLU"},
    )
    small["W"][2] = {(1, 20): 1.0}
    with pytest.raises(
        ParameterError, match="layer 1, neuron 1: the published algorithm takes it for layer 1"
    ):
        lump_neural_network(small, "thesis")
    assert list(lump_neural_network(small)[1][1]) == [(1,)]


@given(
    st.lists(st.tuples(*[st.fractions(-4, 4, max_denominator=20)] * 3), min_size=1, max_size=4),
    st.data(),
)
@settings(max_examples=40, deadline=None)
def test_exact_finds_all_multiples_and_keeps_the_function(rows, data):
    """Rows of two weights and a bias, some of them multiples of earlier ones in decimals, not in
    binary fractions.
    """
    copies = data.draw(
        st.lists(
            st.tuples(
                st.integers(0, len(rows) - 1), st.fractions(Fraction(1, 10), 10, max_denominator=10)
            ),
            max_size=4,
        )
    )
    rows = [*rows, *([c * v for v in rows[i]] for i, c in copies)]
    hidden = [f"h{i}" for i in range(len(rows))]
    N = {
        "k": 3,
        "S": [["x", "y"], hidden, ["out"]],
        "W": {
            1: {
                (r, s): float(row[k])
                for s, row in zip(hidden, rows, strict=True)
                for k, r in enumerate("xy")
            },
            2: {(s, "out"): 1.0 for s in hidden},
        },
        "b": {1: {s: float(row[2]) for s, row in zip(hidden, rows, strict=True)}, 2: {"out": 0.0}},
        "A": {1: dict.fromkeys(hidden, "ReLU"), 2: {"out": "Linear"}},
    }
    lumped = lump_neural_network(N)
    rays = {tuple(v / max(map(abs, row)) for v in row) if any(row) else (0, 0, 0) for row in rows}
    assert len(lumped[1][1]) == len(rays)
    for point in ((0.3, -1.0), (2.0, 1.0), (-1.0, -1.0)):
        assert run_neural_network(lumped, point)[("out",)] == pytest.approx(
            run_neural_network(N, point)["out"], abs=1e-10
        )


# Bad input


def broken(change):
    N = copy.deepcopy(TOY)
    change(N)
    return N


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda N: N.update(k=3), "k must be the number of layers in S.*here 4, found 3"),
        (
            lambda N: N["S"].__setitem__(2, {4, 5, 2}),
            "layer 2, neuron 2: the id is taken by a neuron of layer 1",
        ),
        (
            lambda N: N["W"][2].pop((3, 4)),
            r"layer 2, neuron 4: the edge from 3 is missing from W\[2\]",
        ),
        (
            lambda N: N["W"][2].update({(0, 4): 1.0}),
            (
                r"layer 2, neuron 4: the edge from 0 joins no neurons of these layers but stands in"
                r" W\[2\]"
            ),
        ),
        (lambda N: N["W"].pop(3), "layer 3: W, b and A need an entry"),
        (lambda N: N["b"][1].pop(3), "layer 1, neuron 3: no bias given"),
        (
            lambda N: N["A"][1].update({9: "ReLU"}),
            "layer 1, neuron 9: activation of an unknown neuron",
        ),
        (
            lambda N: N["A"][2].update({5: "Wavelet"}),
            "layer 2, neuron 5: activation 'wavelet' is not supported",
        ),
        (
            lambda N: N["A"][2].update({5: "Softmax"}),
            "layer 2, neuron 5: activation 'Softmax' couples neurons",
        ),
        (
            lambda N: N["W"][1].update({(0, 2): float("nan")}),
            "layer 1, neuron 2: the weight from 0 is nan",
        ),
        (lambda N: N["b"][3].update({6: float("inf")}), "layer 3, neuron 6: the bias is inf"),
        (lambda N: N.pop("A"), "must be a mapping with the keys k, S, W, b, A or a tuple"),
    ],
)
def test_bad_dictionaries(change, message):
    for convention in ("exact", "thesis"):
        with pytest.raises((ParameterError, UnsupportedLayerError), match=message):
            lump_neural_network(broken(change), convention)


def test_unknown_convention():
    with pytest.raises(
        ParameterError, match="convention must be one of exact, thesis, found 'paper'"
    ):
        lump_neural_network(TOY, convention="paper")


def test_wrong_number_of_inputs():
    for inputs in ([1.0], [1.0, 2.0, 3.0], {0: 1.0, 2: 2.0}):
        with pytest.raises(ParameterError, match="2 input neurons"):
            run_neural_network(TOY, inputs)
