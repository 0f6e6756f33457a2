import ast
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from netreduce.chains import techniques
from netreduce.chains.steps import apply, parse_chain, parse_path, parse_step
from netreduce.chains.techniques import FRACTION, TECHNIQUES, Technique
from netreduce.errors import ParameterError, UnsupportedLayerError
from netreduce.measures.evaluation import evaluate
from netreduce.network import Network
from netreduce.network.integers import IntegerNetwork
from netreduce.network.layers import Dense
from netreduce.pruning import METHODS
from netreduce.quantization.settings import NEEDED

WIDTHS = ((8, 12), (12, 10), (10, 3))


def network(seed=0):
    rng = np.random.default_rng(seed)
    *hidden, last = (
        Dense(
            rng.normal(size=s).astype(np.float32), rng.normal(size=s[1]).astype(np.float32), "relu"
        )
        for s in WIDTHS
    )
    return Network([*hidden, last.replace(activation="linear")], (8,))


class Data:
    """What techniques use of a dataset, labelled by a network."""

    target, labelled, input_range = "classes", True, (0.0, 1.0)

    def __init__(self, teacher):
        rng = np.random.default_rng(1)
        self.splits = {
            "train": rng.random((300, 8)).astype(np.float32),
            "validation": rng.random((100, 8)).astype(np.float32),
        }
        self.train_labels, self.validation_labels = (
            teacher.predict(x).argmax(1) for x in self.splits.values()
        )

    def images(self, split, count=None):
        return self.splits[split][:count]

    def targets(self, split, count=None):
        return getattr(self, f"{split}_labels")[:count]


@pytest.mark.parametrize(
    ("entry", "path"),
    [
        (
            [{"nnrelief": 0.95}, {"gpfq": {"bits": 4}}, {"lump": {"tolerance": 0}}],
            "nnrelief-fraction=0.95/gpfq-bits=4/lump-tolerance=0",
        ),
        (["fold_batch_norm", {"gpfq": 1.58}], "fold_batch_norm/gpfq-bits=1.58"),
        (
            [{"activations": 8.0}, {"gpfq": {"bits": 8, "zero": True}}],
            "activations-bits=8/gpfq-bits=8-zero=true",
        ),
        (
            [{"activations": 8}, {"qronos": {"bits": 4, "zero": True, "accumulator_bits": 16}}],
            "activations-bits=8/qronos-bits=4-zero=true-accumulator_bits=16",
        ),
        ([{"lump": None}], "lump-tolerance=0"),
        ([{"lump": 0.00001}], "lump-tolerance=1e-05"),
        (
            [{"gpfq": {"conv": "joint", "alphabet_scalar": 3.0, "bits": 4.0}}],
            "gpfq-bits=4-alphabet_scalar=3-conv=joint",
        ),
        (
            [{"magnitude": {"fraction": 1, "scope": "layer", "fold": False}}],
            "magnitude-fraction=1-scope=layer-fold=false",
        ),
        (
            [{"nnrelief": {"epochs": 2, "fraction": 0.9, "iterations": 10}}],
            "nnrelief-fraction=0.9-iterations=10-epochs=2",
        ),
    ],
)
def test_a_chain_of_the_config_and_its_path(entry, path):
    chain = parse_chain(entry)
    assert "/".join(map(str, chain)) == path
    assert parse_path(path) == chain
    assert re.fullmatch(r"[A-Za-z0-9_.=+/-]+", path)


VALUES = {
    "fraction": st.floats(0, 1, exclude_min=True),
    "tolerance": st.floats(0, 1, exclude_max=True),
    "bits": st.sampled_from([1.58, *range(2, 9)]),
    "alphabet_scalar": st.one_of(st.none(), st.just("best"), st.floats(1e-3, 1e3)),
    "conv": st.sampled_from([None, "channel", "joint"]),
    "scope": st.sampled_from(["global", "layer"]),
    "iterations": st.integers(1, 99),
    "epochs": st.integers(1, 99),
    "fold": st.booleans(),
    "repair": st.booleans(),
    "distil": st.floats(0, 1),
    "shift": st.integers(0, 9),
    "flip": st.booleans(),
    "precision": st.sampled_from(["float32", "bfloat16"]),
    "method": st.sampled_from(
        [
            *("elimination", "variance", "greedy", "thinet", "lasso"),
            *("gptaq", "gpfq", "gptq", "qronos"),
            *("mse", "minmax", "percentile"),
        ]
    ),
    "multiple": st.integers(1, 64),
    "kilobytes": st.floats(1e-3, 1e6),
    "what": st.sampled_from(["bias", "batch_norm", "least_squares"]),
    "radius": st.sampled_from([None, "median", "max", "mse", "output"]),
    "per_channel": st.sampled_from([None, True, False]),
    "zero": st.booleans(),
    "accumulator_bits": st.none(),  # a number is for chains that round activations
    "symmetric": st.booleans(),
    "scales": st.booleans(),
    "strength": st.floats(1e-3, 10),
    "sweeps": st.integers(0, 20),
    "damping": st.one_of(st.none(), st.floats(0, 10)),
    "correct_bias": st.booleans(),
}


@given(st.data())
def test_every_step_is_read_back_from_its_path(data):
    name = data.draw(st.sampled_from(list(TECHNIQUES)))
    values = {
        key: data.draw(VALUES[key].filter(parameter.accepts))
        for key, parameter in TECHNIQUES[name].parameters.items()
    }
    for key, parameter in TECHNIQUES[name].parameters.items():
        values |= parameter.needs if values[key] != parameter.default else {}
    (step,) = parse_chain([{name: values}])
    assert step.parameters == values
    assert parse_step(str(step)) == step


def test_labels_and_modules():
    (step,) = parse_chain([{"nnrelief": {"fraction": 0.95, "epochs": 2}}])
    assert step.label == "NNrelief 0.95, epochs 2"
    assert step.modules == ("netreduce.pruning",)
    assert parse_step("fold_batch_norm").label == "Fold batch norm"


def test_the_table_names_functions_that_take_its_parameters():
    for name, technique in TECHNIQUES.items():
        accepted = set(inspect.signature(technique.load()).parameters)
        if technique.family == "pruning" and "method" in technique.fixed:
            accepted |= set(inspect.signature(METHODS[technique.fixed["method"]]).parameters)
        assert {*technique.parameters, *technique.fixed} <= accepted, name


CHAINS = [
    [{"msq": 4}, {"lump": 0}],
    [{"lump": 0.01}, {"gpfq": 4}],
    [{"nnrelief": 0.8}, {"lump": 0}],
    [{"structured": 0.5}, {"gptq": 2}, {"lump": 0}],
    [{"lowrank": 0.3}, {"spfq": 4}],
    ["fold_batch_norm", {"magnitude": 0.5}],
    [{"qronos": 4}, {"nnrelief": 0.9}],
    [{"nnrelief": 0.8}, {"gpfq": 4}, {"activations": 8}],
    [{"activations": {"bits": 6, "method": "minmax"}}, {"mixed": 0.9}],
]


@pytest.mark.parametrize("entry", CHAINS, ids=lambda entry: "-".join(map(str, parse_chain(entry))))
def test_chains_run_and_give_a_network_of_the_same_inputs_and_outputs(entry):
    original = network()
    data, reduced = Data(original), original
    for step in parse_chain(entry):
        reduced = apply(step, reduced, data, samples=200)
    assert (reduced.input_shape, reduced.shapes[-1]) == (original.input_shape, original.shapes[-1])
    assert np.isfinite(reduced.predict(data.images("validation"))).all()


def test_a_chain_with_rounded_activations_is_judged_in_integers():
    original = network()
    data, reduced = Data(original), original
    for step in parse_path("gpfq-bits=4-alphabet_scalar=3/activations-bits=4"):
        reduced = apply(step, reduced, data, samples=200)
    x = data.images("validation")
    scores = IntegerNetwork(reduced).predict(x)
    np.testing.assert_array_equal(reduced.predict(x), scores)
    numbers = original.predict(x)
    found = evaluate(reduced, x, numbers)
    assert found.mean_squared_error == np.mean((scores.astype(float) - numbers) ** 2)


def test_sums_of_a_chain_stay_within_their_accumulators():
    original = network()
    data = Data(original)
    widths = []
    for bits in ("", "-accumulator_bits=13"):
        reduced = original
        for step in parse_path(f"activations-bits=8/gpfq-bits=4-conv=joint-zero=true{bits}"):
            reduced = apply(step, reduced, data, 50, 0, original)
        found = IntegerNetwork(reduced).accumulators().values()
        widths.append(max(accumulator.worst for accumulator in found))
    assert widths[0] > 13 >= widths[1]


def test_what_has_no_integers_is_refused_by_its_name_when_it_is_judged():
    original = network()
    data, reduced = Data(original), original
    for step in parse_path("msq-bits=8-alphabet_scalar=3/activations-bits=8"):
        reduced = apply(step, reduced, data, samples=50)
    with pytest.raises(UnsupportedLayerError, match="dense_1: its weights are codes of up to ±255"):
        evaluate(reduced, data.images("validation"), data.validation_labels)


@pytest.mark.parametrize("step", ["lump-tolerance=0", "activations-bits=8", "repair-what=bias"])
def test_only_weights_can_be_rounded_behind_activations(step):
    with pytest.raises(ParameterError, match=f"step 2: {step} cannot follow activations-bits=4"):
        parse_path(f"activations-bits=4/{step}")


@pytest.mark.parametrize("value", [np.nan, -np.inf])
@pytest.mark.parametrize("name", TECHNIQUES)
def test_parameters_that_are_no_numbers_are_refused_by_name(name, value):
    original = network()
    bias = original.layers[1].bias.copy()
    bias[:2] = value
    broken = original.replace({1: original.layers[1].replace(bias=bias)})
    values = {"fraction": 0.5, "bits": 4, "alphabet_scalar": 2, "fold": False, "kilobytes": 9}
    parameters = TECHNIQUES[name].parameters
    (step,) = parse_chain([{name: {key: values[key] for key in values if key in parameters}}])
    with pytest.raises(ParameterError, match="dense_2: 2 values of its bias are NaN or infinite"):
        apply(step, broken, Data(original), samples=50)


def test_the_best_alphabet_scalar_is_that_of_the_validation_images():
    from netreduce.measures.evaluation import accuracy
    from netreduce.quantization.validated import ALPHABET_SCALARS

    original = network()
    data = Data(original)
    validation = (data.images("validation"), data.validation_labels)
    tried = [
        accuracy(
            apply(parse_step(f"msq-bits=2-alphabet_scalar={scalar}"), original, data), *validation
        )
        for scalar in ALPHABET_SCALARS
    ]
    assert accuracy(
        apply(parse_step("msq-bits=2-alphabet_scalar=best"), original, data), *validation
    ) == max(tried)
    assert len(set(tried)) > 1


def test_a_quantizer_has_the_best_alphabet_unless_the_published_setting_is_asked_for():
    from netreduce.quantization import quantize

    original = network()
    data = Data(original)

    def weights(step):
        made = apply(parse_step(step), original, data, samples=100)
        return np.concatenate([layer.kernel.ravel() for layer in made.layers if layer.arrays()])

    best = quantize(original, data.images("train", 100), "gpfq", 3, keep_zeros=True)
    np.testing.assert_array_equal(
        weights("gpfq-bits=3"),
        np.concatenate([layer.kernel.ravel() for layer in best.layers if layer.arrays()]),
    )
    published = weights("gpfq-bits=3-alphabet_scalar=best")
    np.testing.assert_array_equal(weights("gpfq-bits=3-radius=median"), published)
    assert (weights("gpfq-bits=3") != published).any()


def test_the_best_alphabet_scalar_of_numbers_has_the_least_squared_error():
    from netreduce.quantization.validated import ALPHABET_SCALARS

    original = network()
    data = Data(original)
    data.target = "numbers"
    data.validation_labels = original.predict(data.images("validation"))
    tried, best = (
        [
            float(np.mean((apply(parse_step(step), original, data).predict(x) - y) ** 2))
            for step in steps
        ]
        for x, y in [(data.images("validation"), data.validation_labels)]
        for steps in (
            [f"msq-bits=2-alphabet_scalar={scalar}" for scalar in ALPHABET_SCALARS],
            ["msq-bits=2-alphabet_scalar=best"],
        )
    )
    assert best == [min(tried)] and len(set(tried)) > 1


def test_without_labels_the_best_setting_agrees_with_the_network_most():
    original = network()
    labelled, data = Data(original), Data(original)
    data.labelled = False
    one, other = (apply(parse_step("msq-bits=2"), original, given) for given in (labelled, data))
    np.testing.assert_array_equal(one.layers[0].kernel, other.layers[0].kernel)


def test_lumping_in_a_chain_knows_the_range_of_the_data(monkeypatch):
    import netreduce.lumping

    seen = []

    def lump(network, tolerance, samples, input_range):
        seen.append(input_range)

    monkeypatch.setattr(netreduce.lumping, "lump", lump)
    data = Data(network())
    data.input_range = (-2.0, 3.0)
    apply(parse_step("lump-tolerance=0"), network(), data)
    assert seen == [(-2.0, 3.0)]


def test_retraining_in_a_chain():
    original = network()
    data = Data(original)
    step = parse_step("nnrelief-fraction=0.8-iterations=2-epochs=1-fold=false")
    first, second, other = (apply(step, original, data, seed=seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first.layers[0].kernel, second.layers[0].kernel)
    assert (first.layers[0].kernel != other.layers[0].kernel).any()


def test_training_samples_are_read_where_something_is_trained():
    data, original, read = Data(network()), network(), []

    def images(split, count=None):
        read.append((split, count))
        return Data.images(data, split, count)

    data.images = images
    apply(parse_step("magnitude-fraction=0.5"), original, data, samples=50)
    assert ("train", None) not in read
    apply(parse_step("retrain-epochs=1"), original, data, samples=50)
    assert ("train", None) in read


def test_retraining_as_a_step_learns_from_the_training_samples():
    original = network()
    data = Data(original)
    reduced = apply(parse_step("select-fraction=0.5"), original, data, samples=50)
    (step,) = parse_chain([{"retrain": 2}])
    retrained = apply(step, reduced, data)
    assert step.label == "Retraining 2"
    assert retrained.shapes == reduced.shapes
    assert (retrained.layers[0].kernel != reduced.layers[0].kernel).any()
    x = data.images("train", 50)
    distilled = apply(parse_step("retrain-epochs=9-distil=1"), reduced, data, original=original)
    before, after = (
        np.linalg.norm(one.predict(x) - original.predict(x)) for one in (reduced, distilled)
    )
    assert after < before
    step = parse_step("retrain-epochs=2-distil=0.5")
    assert step.needs_labels and step.label == "Retraining 2, distil 0.5"
    halfway = apply(step, reduced, data, original=original)
    assert (halfway.layers[0].kernel != retrained.layers[0].kernel).any()
    with pytest.raises(ParameterError, match=r"retrain-epochs=1 cannot follow msq-bits=4"):
        parse_chain([{"msq": 4}, "retrain"])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"distil": True}, "retrain: distil must be a number from 0 to 1, found True"),
        ({"distil": 1.1}, "retrain: distil must be a number from 0 to 1, found 1.1"),
        ({"shift": -1}, "retrain: shift must be a whole number from 0, found -1"),
        ({"flip": 1}, "retrain: flip must be true or false, found 1"),
        ({"precision": "half"}, "retrain: precision must be float32 or bfloat16, found 'half'"),
        ({"learning_rate": 1}, "retrain has no parameter 'learning_rate'; allowed: epochs, distil"),
    ],
)
def test_settings_of_retraining_that_a_configuration_cannot_have(values, message):
    with pytest.raises(ParameterError, match=message):
        parse_chain([{"select": 0.5}, {"retrain": {"epochs": 2, **values}}])


def test_augmentation_as_a_step_needs_images():
    original = network()
    step = parse_chain([{"retrain": {"epochs": 1, "shift": 2, "flip": True}}])[0]
    assert str(step) == "retrain-epochs=1-shift=2-flip=true"
    with pytest.raises(ParameterError, match="augmentation needs images"):
        apply(step, original, Data(original))


def test_lossless_in_a_chain_knows_the_range_of_the_data(monkeypatch):
    import netreduce.pruning.lossless

    seen = []
    monkeypatch.setattr(
        netreduce.pruning.lossless,
        "lossless",
        lambda network, input_range: seen.append(input_range),
    )
    data = Data(network())
    data.input_range = (-2.0, 3.0)
    apply(parse_step("lossless"), network(), data)
    assert seen == [(-2.0, 3.0)]


def test_a_technique_of_ones_own_is_one_module_and_one_line(monkeypatch):
    def damp(network, samples, seed, factor):
        assert (len(samples), seed) == (50, 7)
        last = len(network.layers) - 1
        return SimpleNamespace(
            network=network.replace(
                {last: network.layers[last].replace(kernel=factor * network.layers[last].kernel)}
            )
        )

    monkeypatch.setitem(sys.modules, "my_module", SimpleNamespace(damp=damp))
    monkeypatch.setitem(
        TECHNIQUES, "damp", Technique("Damping", "pruning", "my_module:damp", {"factor": FRACTION})
    )
    (step,) = parse_chain([{"damp": 0.5}])
    assert (str(step), step.label, step.modules) == (
        "damp-factor=0.5",
        "Damping 0.5",
        ("my_module",),
    )
    original = network()
    reduced = apply(parse_step("damp-factor=0.5"), original, Data(original), samples=50, seed=7)
    np.testing.assert_array_equal(reduced.layers[-1].kernel, 0.5 * original.layers[-1].kernel)
    with pytest.raises(ParameterError, match=r"damp: factor must be a number in \(0, 1\], found 2"):
        parse_chain([{"damp": 2}])


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            [],
            (
                r"a chain must be a list of one or more steps such as \[nnrelief: 0.95, gpfq:"
                r" {bits: 4}\], found \[\]"
            ),
        ),
        ("lump", "a chain must be a list of one or more steps .* found 'lump'"),
        (
            [{"lump": 0}, {"gpqf": {"bits": 4}}],
            (
                r"chain \[lump: 0, gpqf: {bits: 4}\], step 2: unknown technique 'gpqf'; known:"
                r" gpfq, msq, gptq, .*lump"
            ),
        ),
        (
            [{"gpfq": {"bit": 4}}],
            r"step 1: gpfq has no parameter 'bit'; allowed: bits, alphabet_scalar, conv",
        ),
        ([{"fold_batch_norm": {"x": 1}}], r"fold_batch_norm has no parameter 'x'; allowed: none"),
        ([{"fold_batch_norm": 1}], r"step 1: fold_batch_norm has no parameters, found 1"),
        (["gpfq"], r"step 1: gpfq needs bits: 1.58 \(ternary\) or a whole number from 2 to 8"),
        (
            [{"nnrelief": 0}],
            (
                r"chain \[nnrelief: 0\], step 1: nnrelief: fraction must be a number in \(0, 1\],"
                r" found 0"
            ),
        ),
        ([{"magnitude": 1.5}], r"fraction must be a number in \(0, 1\], found 1.5"),
        ([{"structured": float("nan")}], r"fraction must be a number in \(0, 1\], found nan"),
        ([{"lowrank": True}], r"fraction must be a number in \(0, 1\], found True"),
        ([{"lump": 1}], r"tolerance must be a number in \[0, 1\), found 1"),
        (
            [{"gpfq": 5.5}],
            r"bits must be 1.58 \(ternary\) or a whole number from 2 to 8, found 5.5",
        ),
        (
            [{"gpfq": {"bits": 4, "alphabet_scalar": float("inf")}}],
            r"alphabet_scalar must be a positive number, best .*, found inf",
        ),
        (
            [{"gpfq": {"bits": 4, "alphabet_scalar": 3, "radius": "output"}}],
            r"step 1: gpfq: alphabet_scalar needs radius: median$",
        ),
        (
            [{"activations": 8}, {"gpfq": {"bits": 4, "zero": True, "accumulator_bits": 33}}],
            r"step 2: gpfq: accumulator_bits must be a whole number from 2 to 32, found 33",
        ),
        (
            [{"activations": 8}, {"gpfq": {"bits": 4, "accumulator_bits": 16}}],
            r"step 2: gpfq: accumulator_bits needs zero: true$",
        ),
        (
            [{"gpfq": {"bits": 4, "zero": True, "accumulator_bits": 16}}],
            r"step 1: gpfq-.*: accumulator_bits needs activations in a step before",
        ),
        (
            [{"activations": 8}, {"msq": {"bits": 4, "accumulator_bits": 16}}],
            r"step 2: msq has no parameter 'accumulator_bits'; allowed: bits, ",
        ),
        *(
            (
                [
                    {"activations": 8},
                    {"gpfq": {"bits": 4, "zero": True, "accumulator_bits": 16, key: value}},
                ],
                rf"step 2: gpfq: accumulator_bits needs {key}: {needed}$",
            )
            for key, value, needed in [("sweeps", 2, 0), ("correct_bias", True, "false")]
        ),
        (
            [{"gpfq": {"bits": 4, "conv": "both"}}],
            r"conv must be joint, channel, or null .*, found 'both'",
        ),
        (
            [{"nnrelief": {"fraction": 0.9, "iterations": 0}}],
            r"iterations must be a whole number from 1, found 0",
        ),
        (
            [{"nnrelief": {"fraction": 0.9, "epochs": 1.5}}],
            r"epochs must be a whole number from 0, found 1.5",
        ),
        (
            [{"magnitude": {"fraction": 0.9, "fold": "no"}}],
            r"fold must be true or false, found 'no'",
        ),
        (
            [{"lump": 0, "msq": 4}],
            (
                r"step 1: a step must be a name, name: value or name: {parameter: value}, found"
                r" lump: 0, msq: 4"
            ),
        ),
        ([["lump"]], r"chain \[\[lump\]\], step 1: a step must be a name, .* found \[lump\]"),
        (
            [{"gpfq": 4}, {"lump": 0}, {"msq": 2}],
            (
                r"step 3: msq-bits=2 cannot follow gpfq-bits=4: it needs floating-point weights,"
                r" and gpfq quantizes"
            ),
        ),
        ([{"msq": 4}, {"lowrank": 0.5}], r"step 2: lowrank-fraction=0.5 cannot follow msq-bits=4"),
        (
            [{"msq": 4}, {"nnrelief": {"fraction": 0.9, "epochs": 1}}],
            r"step 2: nnrelief-fraction=0.9-epochs=1 cannot follow msq-bits=4",
        ),
    ],
)
def test_bad_chains_are_refused_by_name(entry, message):
    with pytest.raises(ParameterError, match=message):
        parse_chain(entry)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("gpfq-bits=4.0", "chain gpfq-bits=4.0, step 1: 'gpfq-bits=4.0' is spelled gpfq-bits=4"),
        ("lump", "step 1: 'lump' is spelled lump-tolerance=0"),
        ("gpfq-bits=4-zero=false", "is spelled gpfq-bits=4"),
        ("gpfq-conv=joint-bits=4", "is spelled gpfq-bits=4-conv=joint"),
        ("lump-tolerance=0/", "step 2: unknown technique ''"),
        ("lump-tolerance=", "tolerance must be a number in"),
        ("lump tolerance=0", "unknown technique 'lump tolerance=0'"),
    ],
)
def test_every_chain_has_one_path(path, message):
    with pytest.raises(ParameterError, match=message):
        parse_path(path)


def test_the_walk_through_of_adding_a_technique(monkeypatch):
    guide = (Path(__file__).parents[2] / "docs/techniques.md").read_text(encoding="utf-8")
    module_code, line = re.findall(r"```python\n(.*?)```", guide, re.DOTALL)
    module = ModuleType("netreduce.pruning.random")
    exec(module_code, module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    ((name, technique),) = eval(f"{{{line}}}", vars(techniques)).items()
    monkeypatch.setitem(TECHNIQUES, name, technique)
    original = network()
    for entry in ast.literal_eval(
        re.sub(
            r"(\w+): ([\d.]+)",
            r"{'\1': \2}",
            "[" + ",".join(re.findall(r"    - (\[random.*\])", guide)) + "]",
        )
    ):
        reduced = original
        for step in parse_chain(entry):
            reduced = apply(step, reduced, Data(original), samples=100)
        assert 0.3 < np.mean(reduced.layers[0].kernel != 0) < 0.7


def test_chains_and_quantize_need_the_same():
    needed = {
        name: parameter.needs
        for technique in TECHNIQUES.values()
        for name, parameter in technique.parameters.items()
    }
    assert needed["accumulator_bits"]
    assert all(needed[name].items() <= NEEDED[name].items() for name in needed.keys() & NEEDED)
