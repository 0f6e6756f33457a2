"""Cases of neurons: their bounds hold, rounding in float32 included, and better bounds of inputs
make fewer of them.
"""

from itertools import pairwise

import numpy as np
import pytest
from certificates_networks import Maker, mlp

import netreduce as nr
from netreduce.certificates import branching, inputs, neurons
from netreduce.certificates.bounds import Relaxation
from netreduce.certificates.cases import Cases, Reduced
from netreduce.certificates.neurons import is_positive
from netreduce.certificates.operators import Rows
from netreduce.certificates.problem import problem_of
from netreduce.network.layers import PReLU


def bounds_of(network, low, high):
    problem = problem_of(network, network, (low, high))
    bounds = Relaxation(problem.program, problem.low, problem.high, threads=False)
    return bounds.propagate(Relaxation.refine), problem.program.outputs[0]


def scaled(network, factor):
    """The same classes, with the first layer's numbers and the outputs times a factor."""
    first = network.layers[0]
    changed = nr.Dense(first.kernel * factor, first.bias * factor, activation=first.activation)
    return network.replace({0: changed})


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e25])
@pytest.mark.parametrize("seed", range(8))
def test_a_bound_holds_wherever_the_known_neurons_are_on_or_off(seed, scale):
    make = Maker(seed)
    layers = [make.dense(5, 12, "relu"), make.dense(12, 9, ["relu", "leaky_relu"][seed % 2])]
    network = scaled(nr.Network([*layers, make.dense(9, 3)], (5,)), scale)
    center = make.random.uniform(-1, 1, 5)
    bounds, node = bounds_of(network, center - 0.6, center + 0.6)
    rows = make.random.standard_normal((4, 3))
    reduced = Reduced(bounds, 0, node, rows)
    cases = reduced.whole()
    cases = Cases(*(np.repeat(part, 30, axis=0) for part in vars(cases).values()))
    points = center + make.random.uniform(-0.6, 0.6, (4000, 5))
    values = bounds.program.forward(points.astype(np.longdouble))
    inside = np.concatenate(
        [
            values[bounds.program.nodes[index].sources[0]][:, place]
            for index, place in zip(reduced.functions, reduced.places, strict=True)
        ],
        axis=1,
    )
    # signs as they are somewhere, of some neurons
    at = make.random.integers(0, len(points), len(cases))
    known = make.random.random(cases.signs.shape) < make.random.random((len(cases), 1))
    cases.signs[:] = np.where(known, np.sign(inside[at]), 0)
    for _ in range(4):
        cases, lower, _ = reduced.improved(cases)
        for form, signs, bound in zip(cases.form, cases.signs, lower, strict=True):
            there = (inside * signs >= 0).all(axis=1)
            assert there.any()
            assert bound <= (values[node][there] @ rows[form]).min()
    assert np.isfinite(lower).all()


def cancelling(seed):
    """A network whose output is the small difference of large numbers."""
    random = np.random.default_rng(seed)
    kernel, bias = random.standard_normal((6, 8)), random.standard_normal(8) * 0.1
    twice = np.concatenate([kernel, kernel * (1 + 1e-7 * random.standard_normal((6, 8)))], axis=1)
    last = 1e4 * random.choice([-1, 1], 8)
    return nr.Network(
        [
            nr.Dense(twice, np.tile(bias, 2), activation="relu"),
            nr.Dense(np.concatenate([last, -last])[:, None]),
        ],
        (6,),
    )


def test_what_rounding_can_be_is_taken_off():
    """Where all signs are known, the bound is exact but for rounding, which is larger here than
    what the output can be.
    """
    violated = 0
    for seed in range(20):
        network = cancelling(seed)
        center = np.random.default_rng(seed).uniform(-1, 1, 6)
        bounds, node = bounds_of(network, center - 0.3, center + 0.3)
        reduced = Reduced(bounds, 0, node, np.ones((1, 1)))
        if not reduced.neurons:
            continue
        corners = center + 0.3 * (2.0 * (np.arange(64)[:, None] >> np.arange(6) & 1) - 1)
        values = bounds.program.forward(corners.astype(np.longdouble))
        cases = reduced.whole()
        place = np.concatenate(reduced.places)
        cases = Cases(*(np.repeat(part, 64, axis=0) for part in vars(cases).values()))
        source = bounds.program.nodes[reduced.functions[0]].sources[0]
        cases.signs[:] = np.sign(values[source][:, place])
        _, lower, _ = reduced.improved(cases)
        true = values[node][:, 0]
        assert (lower <= true).all()
        assert (lower >= true - 10.0).all()  # of numbers of 1e5
        for part in (reduced.error, reduced.form_error):
            part[:] = 0
        violated += (reduced.improved(cases)[1] > true).any()
    assert violated > 5


def image_like(seed, widths=(60, 40), inputs_=30):
    make = Maker(seed)
    sizes = [inputs_, *widths]
    layers = [make.dense(a, b, "relu") for a, b in pairwise(sizes)]
    return nr.Network([*layers, make.dense(sizes[-1], 4)], (inputs_,)), make.random


@pytest.mark.parametrize("widths", [(60, 40), (30, 30, 20)])
def test_bounds_of_inputs_get_closer_and_hold(widths):
    network, random = image_like(3, widths)
    center = random.uniform(-1, 1, 30)
    bounds, node = bounds_of(network, center - 0.08, center + 0.08)
    before = bounds.alone(0)
    row = np.array([[1.0, -1.0, 0.0, 0.0]])
    functions = inputs.inputs_of(bounds, Reduced(bounds, 0, node, row))
    assert len(functions) == len(widths) - 1
    points = center + random.uniform(-0.08, 0.08, (3000, 30))
    values = bounds.program.forward(points)
    for function in functions:
        function.tighten(1, np.inf)  # most forms have not been looked at
        assert (bounds.low[function.source] <= values[function.source]).all()
        assert (bounds.high[function.source] >= values[function.source]).all()
        looked = function.tighten(3000, np.inf)
        assert 0 < looked <= 3000 + function.search.size
        source, place = function.source, function.place
        low, high = bounds.low[source][0], bounds.high[source][0]
        assert (before.low[source][0] <= low).all() and (high <= before.high[source][0]).all()
        assert (low <= values[source]).all() and (values[source] <= high).all()
        width = (high - low)[place] / (before.high[source] - before.low[source])[0, place]
        assert width.mean() < 0.93
        lines, z = bounds.lines[function.index], values[source]
        assert (np.maximum(z, 0) <= lines.upper_slope * z + lines.upper_shift).all()
    assert function.tighten(3000, -np.inf) == 0  # no time


def test_better_bounds_of_inputs_save_cases(monkeypatch):
    network, random = image_like(6, (200, 100), 100)
    center = random.uniform(-1, 1, 100)
    row = np.array([1.0, -1.0, 0.0, 0.0])
    bounds, node = bounds_of(network, center - 0.05, center + 0.05)
    search = branching.search_of(bounds, node, row[None])
    while search.looked < 8192:
        search.step([0] * search.size)
    # positive, by a little more than can be shown
    last = bounds.program.nodes[node].operator
    last.bias = last.bias - np.array([0.8 * search.lower(0), 0.0, 0.0, 0.0])
    bounds.size[node] = bounds.size[node] + 5.0
    positive, looked = is_positive(bounds.alone(0), node, row, 400_000, np.inf)
    assert positive and looked < 60_000
    monkeypatch.setattr(neurons, "INNER", 0.0)
    assert not is_positive(bounds.alone(0), node, row, 60_000, np.inf)[0]


def test_what_float32_cannot_hold_is_not_positive():
    make = Maker(1)
    network = scaled(mlp(make, ["relu"]), 1e37)
    shape = network.input_shape
    bounds, node = bounds_of(network, -np.ones(shape), np.ones(shape))
    row = 1e30 * np.ones(network.shapes[-1])
    assert is_positive(bounds, node, row, 3000, np.inf)[0] is False


def test_a_constant_too_large_for_float32_is_not_positive():
    """8e38 − 2e38 relu(x + 1.5) − 1.5e38 |y|, −1.1e38 in a corner: no term but the constant is too
    large.
    """
    kernel = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, -1.0]])
    network = nr.Network(
        [
            nr.Dense(kernel, np.array([1.5, 0.0, 0.0]), activation="relu"),
            nr.Dense(np.array([[-2e38], [-1.5e38], [-1.5e38]]), np.array([8e38])),
        ],
        (2,),
    )
    corner = np.array([1.4, 2.2])
    assert network.predict(corner[None]).item() < 0
    bounds, node = bounds_of(network, -corner, corner)
    assert is_positive(bounds, node, np.ones(1), 1000, np.inf)[0] is False


@pytest.mark.parametrize("first", [nr.Activation("relu"), PReLU(np.array([0.2, -1.0, 0.9]))])
def test_functions_of_the_input_itself(first):
    make = Maker(4)
    network = nr.Network([first, make.dense(3, 5, "relu"), make.dense(5, 2)], (3,))
    bounds, node = bounds_of(network, np.full(3, -0.5), np.full(3, 0.7))
    reduced = Reduced(bounds, 0, node, np.eye(2))
    assert len(reduced.places[0]) == 3
    _, lower, _ = reduced.improved(reduced.whole())
    values = network.predict(make.random.uniform(-0.5, 0.7, (2000, 3)))
    assert (lower <= values.min(axis=0) + 1e-5).all() and (lower > -10).all()
    row = np.array([1.0, 0.0])
    exact = -bounds.lower({node: Rows(-row[None])}, np.zeros(1, int)).lower[0]
    assert not is_positive(bounds.alone(0), node, row, 1000, np.inf)[0] or values[:, 0].min() > 0
    assert exact >= values[:, 0].max() - 1e-5


def test_too_many_unstable_neurons_have_no_cases(monkeypatch):
    network, random = image_like(3)
    center = random.uniform(-1, 1, 30)
    bounds, node = bounds_of(network, center - 0.08, center + 0.08)
    row = np.array([1.0, -1.0, 0.0, 0.0])
    assert branching.search_of(bounds, node, row[None]) is not None
    monkeypatch.setattr("netreduce.certificates.cases.MOST_NUMBERS", 100)
    assert branching.search_of(bounds, node, row[None]) is None
    assert is_positive(bounds, node, row, 1000, np.inf) == (False, 0)


def test_cases_end_with_their_number_and_with_memory(monkeypatch):
    network, random = image_like(6, (200, 100), 100)
    center = random.uniform(-1, 1, 100)
    row = np.array([1.0, -1.0, 0.0, 0.0])
    bounds, node = bounds_of(network, center - 0.05, center + 0.05)
    bounds.program.nodes[node].operator.bias[0] -= 10.0  # never positive
    monkeypatch.setattr(neurons, "GAIN", np.inf)
    positive, looked = is_positive(bounds.alone(0), node, row, 4000, np.inf)
    assert not positive and 4000 <= looked < 4000 + 3 * branching.BATCH
    monkeypatch.setattr(neurons, "MOST_BYTES", 3_000_000)
    positive, looked = is_positive(bounds.alone(0), node, row, None, 1e300)
    assert not positive and looked < 3_000_000 / 400


def test_without_unstable_neurons_one_bound_decides():
    network, random = image_like(3)
    center = random.uniform(-1, 1, 30)
    bounds, node = bounds_of(network, center - 1e-6, center + 1e-6)
    score = bounds.program.forward(bounds.center)[node][0]
    row = np.eye(4)[score.argmax()] - np.eye(4)[score.argmin()]
    assert is_positive(bounds, node, row, 1000, np.inf) == (True, 0)
    assert is_positive(bounds, node, -row, 1000, np.inf) == (False, 0)


@pytest.mark.parametrize(
    ("slope", "split"), [(0.0, True), (-0.5, True), (1.0, True), (1e-40, False), (1.5, False)]
)
def test_slopes_that_cases_can_have(slope, split):
    """Those that float32 holds with full precision, and no more than 1."""
    make = Maker(0)
    slopes = nr.PReLU(np.array([0.25, 0.25, slope]))
    network = nr.Network([make.dense(4, 3), slopes, make.dense(3, 2)], (4,))
    program = problem_of(network, network).program
    assert neurons.can_split(program) is split
