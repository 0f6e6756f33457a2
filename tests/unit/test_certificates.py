"""Certificates: no input moves an output by more than they say, whatever the layers."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from certificates_networks import ELEMENTWISE, KINDS, Maker, disturbed, mlp, pair

import netreduce as nr
from netreduce.certificates import deviation_bound
from netreduce.certificates.attack import gradient
from netreduce.certificates.enclosures import Grid, Product, Softmax
from netreduce.certificates.functions import Function, function_of
from netreduce.certificates.operators import Rows, densify_rows, one_hot
from netreduce.certificates.pooling import Maximum
from netreduce.certificates.problem import problem_of
from netreduce.certificates.program import compile_networks
from netreduce.network.layers import ActivationGrid, Multiply

ACASXU = Path(__file__).resolve().parents[3] / "shared" / "acasxu"


def box(random, shape, width=None):
    low = random.uniform(-1, 1, shape)
    width = 10 ** random.uniform(-3, 0.3) if width is None else width
    return low, low + width * random.random(shape)


def points_of(random, low, high, count=200):
    share = random.choice([0.0, 0.3, 0.5, 1.0, random.random()], (count, *low.shape))
    return np.clip(low + share * (high - low), low, high)


def real_deviation(certificate, points, dtype=np.longdouble):
    """|g − f| in long double, layers as they are, batch normalization folded: bounds can be so
    tight that the rounding of outputs in float64 exceeds them.
    """
    values = certificate.problem.program.forward(points.astype(dtype))
    first, second = (values[node] for node in certificate.problem.program.outputs)
    return np.abs(second - first), first, second


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_no_input_moves_an_output_by_more_than_the_bound(kind, seed):
    original, reduced, random = pair(kind, seed)
    low, high = box(random, original.input_shape)
    certificate = nr.certify(original, reduced, (low, high), classes=True)
    points = points_of(random, low, high)
    deviation, first, second = real_deviation(certificate, points)
    np.testing.assert_allclose(
        first, original.predict(points), atol=1e-4 * (1 + np.abs(first).max())
    )
    assert (deviation <= certificate.bound).all()
    assert (deviation <= deviation_bound(original, reduced, (low, high))).all()
    allowed = certificate.bound + certificate.rounding
    computed = np.abs(
        reduced.predict(points).astype(float) - original.predict(points).astype(float)
    )
    inside = points.astype(np.float32)
    inside = ((inside >= low) & (inside <= high)).reshape(len(points), -1).all(axis=1)
    assert (computed[inside] <= allowed).all()
    assert (certificate.found <= allowed).all()
    assert certificate.found.max() >= 0.5 * computed.max()
    if certificate.same_class:
        assert (first.argmax(axis=1) == first[0].argmax()).all()
        assert (second.argmax(axis=1) == first[0].argmax()).all()


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_lines_lie_on_both_sides_of_every_activation(name):
    random = np.random.default_rng(1)
    function = function_of(nr.Activation(name))
    low = random.uniform(-6, 6, 200) * random.choice([1, 0.01], 200)
    high = low + 10 ** random.uniform(-9, 1, 200)
    high[:5] = low[:5]
    lines = function.lines(low, high)
    z = np.concatenate([low + (high - low) * np.linspace(0, 1, 2000)[:, None], [high]])
    z = np.clip(z, low, high)
    value = function.forward(z)
    assert (lines.lower_slope * z + lines.lower_shift <= value).all()
    assert (lines.upper_slope * z + lines.upper_shift >= value).all()
    least, most = function.interval(low, high)
    assert (least <= value).all() and (value <= most).all()
    gap = (lines.upper_slope - lines.lower_slope) * (low + high) / 2
    gap += lines.upper_shift - lines.lower_shift
    assert (gap <= (most - least) * 1.001 + 1e-9).all()
    if np.isfinite(function.slopes).all():
        d_low, d_high = -random.random(200), random.random(200) - 0.5
        d_high = np.maximum(d_low, d_high)
        slope, shift, above_slope, above = function.difference_lines(d_low, d_high)
        y = random.uniform(-5, 5, (500, 200))
        d = d_low + (d_high - d_low) * random.random((500, 200))
        change = function.forward(y + d) - function.forward(y)
        assert (slope * d + shift <= change + 1e-13).all()
        assert (above_slope * d + above >= change - 1e-13).all()


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_bounds_of_networks_with_every_activation(name):
    make = Maker(3)
    original = mlp(make, [name])
    reduced = disturbed(original, make.random, 0.05)
    low, high = box(make.random, original.input_shape, 0.2)
    certificate = nr.certify(original, reduced, (low, high))
    dtype = np.float64 if name == "gelu" else np.longdouble  # SciPy's erf has no other
    points = points_of(make.random, low, high, 2000)
    deviation, *_ = real_deviation(certificate, points, dtype)
    assert (deviation <= certificate.bound).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_are_those_of_differences(kind):
    original, reduced, random = pair(kind, 11)
    problem = problem_of(original, reduced)
    x = random.random((2, *original.input_shape))
    values = problem.program.forward(x)
    node = problem.program.outputs[1]
    weights = random.standard_normal(values[node].shape)
    slopes = gradient(problem.program, x, values, {node: weights})
    direction = random.standard_normal(x.shape)
    step = 1e-7
    ends = [
        (problem.program.forward(x + s * step * direction)[node] * weights).sum(axis=1)
        for s in (1, -1)
    ]
    expected = (ends[0] - ends[1]) / (2 * step)
    along = (slopes * direction).reshape(2, -1).sum(axis=1)
    np.testing.assert_allclose(along, expected, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("kind", ["chain", "windows", "residual", "shapes"])
def test_changes_of_a_few_values_are_carried_forward_as_those_of_whole_maps(kind):
    original, _, random = pair(kind, 3)
    program = compile_networks([original])
    for node in program.nodes:
        operator = node.operator
        shapes = [program.shape(source) for source in node.sources]
        if isinstance(operator, Function):
            continue
        index = [tuple(random.integers(0, n, 9) for n in shape) for shape in shapes]
        changes = [one_hot(shape, at, 2.0) for shape, at in zip(shapes, index, strict=True)]
        changes = [Rows(rows.values.astype(np.float32), rows.origin) for rows in changes]
        whole = [
            densify_rows(rows, shape).values for rows, shape in zip(changes, shapes, strict=True)
        ]
        if isinstance(operator, Maximum):
            carried, expected = operator.seen(changes[0]), operator.seen(Rows(whole[0])).values
        else:
            carried, expected = operator.carried(*changes), operator.apply(*whole)
        carried = densify_rows(carried, expected.shape[1:]).values
        np.testing.assert_allclose(carried, expected, rtol=1e-5, atol=1e-6)
        if len(changes) > 1:
            alone = densify_rows(operator.carried(changes[0], None), expected.shape[1:]).values
            others = [np.zeros_like(values) for values in whole[1:]]
            np.testing.assert_allclose(alone, operator.apply(whole[0], *others), rtol=1e-5)


def test_balls_of_a_convolutional_network_with_pooling_keep_their_class():
    make = Maker(5)
    layers = [make.conv(1, 8, "relu", padding="same"), nr.MaxPooling2D(2)]
    layers += [make.conv(8, 8, "relu", padding="same"), nr.MaxPooling2D(2), nr.Flatten()]
    original = nr.Network([*layers, make.dense(32, 3)], (8, 8, 1))
    reduced = disturbed(original, make.random, 0.01)
    images = make.random.random((4, 8, 8, 1))
    certificate = nr.certify(original, reduced, around=images, radius=1e-3, classes=True)
    assert certificate.same_class.all()
    assert (certificate.bound <= 1.5 * certificate.found.max()).all()


def test_equal_networks_are_certified_equal():
    original, _, random = pair("chain", 2)
    low, high = box(random, original.input_shape, 0.5)
    certificate = nr.certify(original, original, (low, high))
    assert (certificate.bound < 1e-9).all() and (certificate.found == 0).all()
    assert certificate.holds(1e-6) == "yes"


def test_what_networks_have_in_common_cancels():
    original, _, random = pair("mlp", 4)
    last = original.layers[-1]
    moved = original.replace({3: last.replace(bias=last.bias + np.float32(0.25))})
    certificate = nr.certify(original, moved, box(random, original.input_shape, 3.0))
    np.testing.assert_allclose(certificate.bound, 0.25, atol=1e-6)


def test_balls_around_samples_are_certified_one_by_one():
    original, reduced, random = pair("mlp", 6)
    samples = random.random((5, *original.input_shape)).astype(np.float32)
    certificate = nr.certify(original, reduced, around=samples, radius=0.01, classes=True)
    assert certificate.bound.shape == (5, 3) and certificate.witness.shape == samples.shape
    for i, sample in enumerate(samples):
        low, high = np.maximum(sample - 0.01, 0), np.minimum(sample + 0.01, 1)
        one = nr.certify(original, reduced, (low, high), classes=True)
        np.testing.assert_allclose(certificate.bound[i], one.bound, rtol=1e-5)
        assert certificate.same_class[i] == one.same_class
        assert (np.abs(certificate.witness[i] - sample) <= 0.01 + 1e-7).all()


def test_softmax_at_the_end_of_both():
    original, reduced, random = pair("mlp", 8)
    ends = [
        nr.Network([*network.layers, nr.Activation("softmax")], network.input_shape)
        for network in (original, reduced)
    ]
    low, high = box(random, original.input_shape, 0.3)
    certificate = nr.certify(*ends, (low, high))
    points = points_of(random, low, high)
    computed = np.abs(ends[1].predict(points) - ends[0].predict(points))
    assert (computed <= certificate.bound + certificate.rounding).all()
    assert (certificate.bound <= 1).all()
    with pytest.raises(nr.ShapeError, match=r"original network ends in a softmax and the reduced"):
        nr.certify(ends[0], reduced)


def test_a_claim_that_the_bound_does_not_decide_is_decided_by_cutting():
    make = Maker(5)
    original = mlp(make, ["relu"])
    reduced = disturbed(original, make.random, 0.1)
    low, high = box(make.random, original.input_shape, 2.0)
    certificate = nr.certify(original, reduced, (low, high))
    bound, found = certificate.bound.max(), certificate.found.max()
    assert bound > 1.2 * found
    decision = certificate.holds(1.1 * found)
    assert decision == "yes" and decision.boxes > 0
    decision = certificate.holds(0.9 * found)
    assert decision == "no"
    x = decision.counterexample[None]
    assert ((x >= low) & (x <= high)).all()
    assert np.abs(reduced.predict(x) - original.predict(x)).max() > 0.9 * found


def test_without_time_a_claim_is_undecided():
    original, reduced, _ = pair("mlp", 6)
    certificate = nr.certify(original, reduced, (-1, 1), seconds=1e-9)
    assert certificate.notes and (certificate.found <= certificate.bound + 1e-4).all()
    assert certificate.holds(1.0001 * float(certificate.found.max())) == "undecided"


def test_without_time_there_are_no_attacks(monkeypatch):
    original, reduced, _ = pair("mlp", 6)
    monkeypatch.setattr("netreduce.certificates.core._towards_others", None)
    certificate = nr.certify(original, reduced, (-1, 1), seconds=1e-9, classes=True)
    assert certificate.notes and not certificate.same_class


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "tanh", "relu6"])
@pytest.mark.parametrize("shape", [(4,), (4, 4, 2)])
def test_networks_that_begin_with_a_function(name, shape):
    make = Maker(7)
    layers = [nr.Activation(name), make.dense(4, 5, "relu"), make.dense(5, 3)]
    if len(shape) == 3:
        layers[1:] = [make.conv(2, 3, "relu"), nr.Flatten(), make.dense(12, 3)]
    original = nr.Network(layers, shape)
    reduced = disturbed(original, make.random, 0.05)
    certificate = nr.certify(original, reduced, (-1, 1), classes=True)
    x = make.random.uniform(-1, 1, (2000, *shape)).astype(np.float32)
    deviation = np.abs(reduced.predict(x) - original.predict(x)).max(axis=0)
    assert (deviation <= certificate.bound + certificate.rounding).all()
    assert (certificate.bound < 10 * certificate.found).all()


@pytest.mark.skipif(not ACASXU.exists(), reason="needs ../shared/acasxu")
@pytest.mark.parametrize("instance", [0, 3])
def test_counterexamples_are_confirmed_by_onnx_runtime(instance):
    import onnxruntime

    from netreduce.formats.onnx.reader import read_network

    with (ACASXU / "instances.csv").open() as file:
        row = list(csv.DictReader(file))[instance]
    paths = [ACASXU / row[key] for key in ("original", "reduced")]
    low = np.array([0.6, -0.5, -0.5, 0.45, -0.45], np.float32)
    high = np.array([0.679857769, 0.5, 0.5, 0.5, -0.45], np.float32)
    networks = [read_network(path) for path in paths]
    shape = networks[0].input_shape
    certificate = nr.certify(*networks, (low.reshape(shape), high.reshape(shape)))
    decision = certificate.holds(0.05)
    assert decision == "no"
    x = decision.counterexample.reshape(-1)
    assert x.dtype == np.float32 and (x >= low).all() and (x <= high).all()
    sessions = [onnxruntime.InferenceSession(path) for path in paths]
    values = [s.run(None, {s.get_inputs()[0].name: x})[0] for s in sessions]
    assert np.abs(values[1] - values[0]).max() > 0.05


def test_json_out_and_in():
    original, reduced, random = pair("mlp", 3)
    samples = random.random((2, *original.input_shape)).astype(np.float32)
    certificate = nr.certify(original, reduced, around=samples, radius=0.1, classes=True)
    certificate.holds(0.9 * float(certificate.found.max()))
    text = certificate.to_json()
    again = nr.Certificate.from_json(text)
    for key in ("bound", "rounding", "found", "witness", "same_class", "class_differs"):
        np.testing.assert_array_equal(getattr(again, key), getattr(certificate, key))
    assert again.to_json() == text and again.decisions.keys() == certificate.decisions.keys()
    assert again.holds(0.9 * float(certificate.found.max())) == "no"
    between = float(certificate.found.max() + certificate.bound.max()) / 2
    assert again.holds(1e9) == "yes" and again.holds(between) == "undecided"
    for broken, message in (
        ("nonsense", "must be JSON"),
        ("[1]", "format"),
        (json.dumps({"format": "netreduce-certificate-1"}), "lacks bound"),
        (text.replace('"radius": 0.1', '"radius": "x"'), "damaged"),
    ):
        with pytest.raises(nr.ModelFileError, match=message):
            nr.Certificate.from_json(broken)


def test_infinity_and_nan_are_never_within_a_bound():
    original, reduced, _ = pair("mlp", 6)
    kernel = np.full_like(reduced.layers[0].kernel, 3e38)
    wild = reduced.replace({0: reduced.layers[0].replace(kernel=kernel, activation="relu")})
    wild = wild.replace({1: wild.layers[1].replace(kernel=wild.layers[1].kernel * 1e30)})
    certificate = nr.certify(original, wild)
    assert not (certificate.bound < 1e3).any()
    assert certificate.holds(1e3) != "yes"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"input_range": (1, 0)}, nr.ParameterError, "empty"),
        ({"input_range": (0, np.inf)}, nr.ParameterError, "finite"),
        ({"input_range": (0, np.nan)}, nr.ParameterError, "finite"),
        ({"input_range": 3}, nr.ParameterError, "not a pair"),
        ({"input_range": (np.zeros(7), 1)}, nr.ParameterError, r"shape \(7,\)"),
        ({"around": np.zeros((1, 4))}, nr.ParameterError, "radius is missing"),
        ({"radius": 0.1}, nr.ParameterError, "around is missing"),
        ({"around": np.zeros((1, 4)), "radius": 0}, nr.ParameterError, "above 0, found 0"),
        ({"around": np.zeros((1, 4)), "radius": np.nan}, nr.ParameterError, "found nan"),
        ({"around": np.zeros((1, 4)), "radius": "1"}, nr.ParameterError, "radius .* found '1'"),
        ({"around": np.full((2, 4), 2.0), "radius": 0.1}, nr.ParameterError, "2 of 2 outside"),
        ({"around": np.zeros((0, 4)), "radius": 0.1}, nr.ParameterError, "at least one"),
        ({"around": np.zeros((1, 5)), "radius": 0.1}, nr.SampleError, "shape"),
        ({"seconds": 0}, nr.ParameterError, "seconds"),
        ({"seconds": True}, nr.ParameterError, "seconds .* found True"),
        ({"seconds": "5"}, nr.ParameterError, "seconds .* found '5'"),
    ],
)
def test_bad_arguments(arguments, error, message):
    original, reduced, _ = pair("normalized", 0)
    with pytest.raises(error, match=message):
        nr.certify(original, reduced, **arguments)


def test_networks_that_cannot_be_compared():
    make = Maker(0)
    original = nr.Network([make.dense(4, 3)], (4,))
    with pytest.raises(nr.ShapeError, match=r"inputs .* \(4,\) \(original\) and \(5,\)"):
        nr.certify(original, nr.Network([make.dense(5, 3)], (5,)))
    with pytest.raises(nr.ShapeError, match=r"outputs .* \(3,\) \(original\) and \(2,\)"):
        nr.certify(original, nr.Network([make.dense(4, 2)], (4,)))
    gated = nr.Network([make.dense(4, 3), Multiply()], (4,), [(-1,), (0, 0)])
    with pytest.raises(nr.UnsupportedLayerError, match=r"reduced: multiply_1: .*Multiply"):
        nr.certify(original, gated)
    middle = nr.Network([make.dense(4, 3, "softmax"), make.dense(3, 3)], (4,))
    with pytest.raises(nr.UnsupportedLayerError, match=r"dense_1: .*softmax"):
        nr.certify(original, middle)
    for epsilon in (-1, np.nan, True, "1", None):
        with pytest.raises(nr.ParameterError, match=f"epsilon .* found {epsilon!r}"):
            nr.certify(original, original).holds(epsilon)


def gated(make):
    """Products of layers and softmax inside a network."""
    layers = [make.dense(3, 4, "tanh"), make.dense(3, 4), Multiply(), make.dense(4, 5, "softmax")]
    sources = [(-1,), (-1,), (0, 1), (2,), (3, 1), (4,)]
    return nr.Network([*layers, nr.Concatenate(), make.dense(9, 3)], (3,), sources)


def gated_maps(make):
    layers = [make.conv(2, 4, "relu", padding="same"), nr.GlobalAveragePooling2D()]
    layers += [make.dense(4, 4, "sigmoid"), Multiply(), make.conv(4, 2, "relu"), nr.Flatten()]
    sources = [(-1,), (0,), (1,), (0, 2), (3,), (4,), (5,), (6,)]
    tail = [make.dense(18, 3), nr.Activation("log_softmax")]
    return nr.Network([*layers, *tail], (5, 5, 2), sources)


def on_grids(make):
    layers = [make.dense(3, 6, "relu"), ActivationGrid(0.05, -128), make.dense(6, 3)]
    return nr.Network([ActivationGrid(1 / 64), *layers, ActivationGrid(0.05)], (3,))


@pytest.mark.parametrize("kind", [gated, gated_maps, on_grids])
@pytest.mark.parametrize("seed", range(4))
def test_layers_without_lines_take_part_by_intervals_where_asked(kind, seed):
    make = Maker(seed, random_type(seed))
    original = kind(make)
    reduced = disturbed(original, make.random, 0.02)
    low, high = box(make.random, original.input_shape, 0.05)
    with pytest.raises(nr.UnsupportedLayerError, match=r"no linear relaxation of .* is known"):
        nr.certify(original, reduced, (low, high))
    certificate = nr.certify(original, reduced, (low, high), classes=True, intervals=True)
    points = points_of(make.random, low, high, 2000)
    deviation, first, second = real_deviation(certificate, points)
    assert (deviation <= certificate.bound).all() and np.isfinite(certificate.bound).all()
    assert np.isfinite(certificate.rounding).all()
    assert (certificate.found <= certificate.bound + certificate.rounding).all()
    assert certificate.bound.max() < 100 * certificate.found.max()
    if certificate.same_class:
        assert (first.argmax(axis=1) == second.argmax(axis=1)).all()


def test_intervals_hold_for_all_inputs_between_their_ends():
    random = np.random.default_rng(0)
    low = random.uniform(-3, 3, (50, 6))
    high = low + random.random((50, 6)) * random.choice([1e-6, 1, 30], (50, 6))
    ends = [(low, high), (-high[:, ::-1], 1.0 - low[:, ::-1])]
    for operator in (
        Product(Multiply()),
        Softmax(nr.Activation("softmax")),
        Softmax(nr.Activation("log_softmax")),
        Grid(ActivationGrid(0.25, 1, 4)),
    ):
        taken = ends if isinstance(operator, Product) else ends[:1]
        least, most = operator.interval(*taken)
        reached = np.full_like(low, np.inf), np.full_like(low, -np.inf)
        for _ in range(2000):
            x = [a + (b - a) * random.integers(0, 2, low.shape) for a, b in taken]
            value = operator.forward(
                *(np.clip(v, a, b) for v, (a, b) in zip(x, taken, strict=True))
            )
            assert (least <= value).all() and (value <= most).all()
            reached = np.minimum(reached[0], value), np.maximum(reached[1], value)
        np.testing.assert_allclose(reached[0], least, atol=1e-6)  # the ends are reached
        np.testing.assert_allclose(reached[1], most, atol=1e-6)


def planted(make, copies=4):
    """A deep network with batch normalization in which some neurons are multiples of others."""
    layers = []
    for inputs, outputs in ((6, 12), (12, 12), (12, 12)):
        dense, norm = make.dense(inputs, outputs), make.norm(outputs)
        arrays = [dense.kernel, dense.bias, norm.mean, norm.beta]
        kernel, bias, mean, beta = (array.copy() for array in arrays)
        for into in range(copies):
            ratio, neuron = np.float32(make.random.uniform(0.3, 3)), outputs - 1 - into
            kernel[:, neuron], bias[neuron] = ratio * kernel[:, into], ratio * bias[into]
            mean[neuron], beta[neuron] = ratio * mean[into], ratio * beta[into]
        gamma, variance = norm.gamma.copy(), norm.variance.copy()
        gamma[-copies:], variance[-copies:] = gamma[:copies][::-1], variance[:copies][::-1]
        layers += [
            dense.replace(kernel=kernel, bias=bias),
            norm.replace(gamma=gamma, beta=beta, mean=mean, variance=variance),
            nr.Activation("relu"),
        ]
    return nr.Network([*layers, make.dense(12, 3)], (6,))


def test_merged_neurons_cost_what_rounding_their_weights_costs():
    original = planted(Maker(2))
    lumped = nr.lump(original).network
    assert lumped.shapes[0] != original.shapes[0]
    certificate = nr.certify(original, lumped, (-1, 1))
    assert 0 < certificate.bound.max() < 1e-4
    assert deviation_bound(original, lumped, (-1, 1)).max() < 1e-4
    deviation, *_ = real_deviation(
        certificate, points_of(np.random.default_rng(0), -np.ones(6), np.ones(6))
    )
    assert (deviation <= certificate.bound).all()


def test_networks_of_another_shape_are_written_in_the_shape_of_the_original():
    """Whatever neurons are taken away or merged, both programs compute the same."""
    for seed in range(12):
        make = Maker(seed)
        original = planted(make)
        smaller = nr.lump(original, tolerance=0.2).network
        problem = problem_of(original, smaller)
        assert problem.program is not problem.plain
        x = make.random.random((50, 6))
        values = problem.program.forward(x)[problem.program.outputs[1]]
        np.testing.assert_allclose(
            values, problem.plain.forward(x)[problem.plain.outputs[1]], rtol=1e-9, atol=1e-9
        )
        certificate = nr.certify(original, smaller)
        expected = np.abs(values - problem.plain.forward(x)[problem.plain.outputs[0]])
        assert (expected <= certificate.bound).all()


def test_cases_of_neurons_certify_what_one_relaxation_does_not():
    """On small networks with one input the truth is known."""
    from netreduce.certificates.bounds import Relaxation
    from netreduce.certificates.neurons import is_positive

    decided = 0
    for seed in range(12):
        make = Maker(seed)
        network = mlp(make, ["relu", "leaky_relu"] if seed % 3 == 0 else ["relu"])
        first = make.dense(1, network.input_shape[0], "relu")
        network = nr.Network([first, *network.layers], (1,))
        problem = problem_of(network, network, (-1, 1))
        node = problem.program.outputs[0]
        line = problem.program.forward(np.linspace(-1, 1, 4001)[:, None])[node] @ [1.0, -1.0, 0.5]
        for margin in (0.05, -0.05):
            bounds = Relaxation(problem.program, problem.low, problem.high)
            bounds.propagate(Relaxation.refine)
            bias = margin - line.min()
            last = problem.program.nodes[node].operator
            last.bias = last.bias + np.array([bias, 0.0, 0.0])
            bounds.size[node] = bounds.size[node] + abs(bias)
            row = np.array([1.0, -1.0, 0.5])
            plain = bounds.lower({node: Rows(row[None].copy())}, np.zeros(1, int)).lower[0]
            positive, cases = is_positive(bounds, node, row, 3000, np.inf)
            assert not (positive and margin < 0)
            decided += positive and plain < 0 and cases > 0
            last.bias = last.bias - np.array([bias, 0.0, 0.0])
    assert decided >= 2


def test_with_a_time_limit_cases_are_limited_by_time_only(monkeypatch):
    make = Maker(2)
    layers = [make.dense(5, 20, "relu"), make.dense(20, 20, "relu"), make.dense(20, 3)]
    network = nr.Network(layers, (5,))
    around = make.random.random((12, 5)).astype(np.float32)

    def certified(**limit):
        certificate = nr.certify(
            network, network, around=around, radius=0.15, classes=True, **limit
        )
        return certificate.same_class, certificate.boxes

    enough, cases = certified()
    monkeypatch.setattr("netreduce.certificates.core.MOST_CASES", 1)
    few, fewer = certified()
    timed, _ = certified(seconds=60)
    assert few.sum() < enough.sum() == timed.sum() and fewer < cases


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "count"),
    [("mlp", 50000), ("normalized", 28000), ("deep", 10000)]
    + [(kind, 3000) for kind in ("chain", "windows", "residual", "shapes")],
)
def test_no_violation_in_many_random_pairs_under_attack(kind, count):
    for seed in range(1000, 1000 + count):
        attack(kind, seed)


@pytest.mark.parametrize("kind", KINDS)
def test_no_violation_in_a_few_random_pairs_under_attack(kind):
    for seed in range(3):
        attack(kind, seed)


def attack(kind, seed):
    """The certificate of a random pair over a random box against the worst points found."""
    original, reduced, random = pair(kind, seed, random_type(seed))
    low, high = box(random, original.input_shape)
    certificate = nr.certify(original, reduced, (low, high), classes=True)
    deviation, first, second = real_deviation(certificate, points_of(random, low, high, 50))
    witness = certificate.witness[None].astype(float)
    assert (deviation <= certificate.bound).all(), (kind, seed)
    assert (real_deviation(certificate, witness)[0] <= certificate.bound).all(), (kind, seed)
    assert (certificate.found <= certificate.bound + certificate.rounding).all(), (kind, seed)
    if certificate.same_class:
        assert not certificate.class_differs, (kind, seed)
        assert (first.argmax(axis=1) == second.argmax(axis=1)).all(), (kind, seed)


def random_type(seed):
    return np.float64 if seed % 5 == 0 else np.float32


@pytest.mark.parametrize("last", ["linear", "softmax"])
def test_numbers_too_large_for_the_type_make_the_rounding_infinite(last):
    hidden = nr.Dense(np.full((2, 2), 1e20, np.float32), np.zeros(2, np.float32))
    original = nr.Network([hidden, hidden, nr.Activation(last)], (2,))
    certificate = nr.certify(original, original.replace({1: hidden.replace(bias=np.ones(2))}))
    with np.errstate(over="ignore", invalid="ignore"):
        assert not np.isfinite(original.predict(np.ones((1, 2), np.float32))).all()
    assert np.isinf(certificate.rounding).all()
    assert (certificate.found <= certificate.bound + certificate.rounding).all()


def test_an_overflow_at_one_output_hides_no_counterexample_at_another():
    original = nr.Network([nr.Dense(np.ones((1, 1))), nr.Dense(np.zeros((1, 2)))], (1,))
    reduced = original.replace({1: nr.Dense(np.array([[1.0, 0.0]]))})
    certificate = nr.certify(original, reduced)
    certificate.rounding = np.array([certificate.rounding[0], np.inf])
    certificate.found = np.array([certificate.found[0], np.inf])
    assert certificate.holds(0.5) == "no"


def test_classes_of_networks_without_functions():
    original = nr.Network([nr.Dense(np.array([[1.0, -1.0]]))], (1,))
    certificate = nr.certify(original, original, (-1, 1), classes=True)
    assert certificate.same_class == np.False_


def test_a_convolution_of_the_same_shape_before_a_narrower_one():
    random = np.random.default_rng(0)
    first = nr.Conv2D(random.standard_normal((3, 3, 1, 4)), activation="relu")
    kernel = random.standard_normal((3, 3, 4, 5))
    kernel[..., 4] = 2 * kernel[..., 1]
    head = random.standard_normal((4, 5, 2))

    def network(channels, weights):
        second = nr.Conv2D(kernel[..., :channels], activation="relu")
        last = nr.Dense(weights.reshape(-1, 2))
        return nr.Network([first, second, nr.Flatten(), last], (6, 6, 1))

    merged = head[:, :4].copy()
    merged[:, 1] += 2 * head[:, 4]
    certificate = nr.certify(network(5, head), network(4, merged))
    assert (certificate.bound < 1e-6).all()


def test_means_of_a_single_position():
    random = np.random.default_rng(0)

    def network(channels):
        first = nr.Conv2D(random.standard_normal((3, 3, 1, channels)), activation="relu")
        last = nr.Dense(random.standard_normal((channels, 2)))
        return nr.Network([first, nr.GlobalAveragePooling2D(), last], (3, 3, 1))

    original, reduced = network(3), network(2)
    x = random.random((200, 3, 3, 1))
    certificate = nr.certify(original, reduced)
    assert (np.abs(original.predict(x) - reduced.predict(x)).max(axis=0) <= certificate.bound).all()
