"""What the configuration says beyond its schema: grids, names that collide, times of jobs."""

import doctest
import json
import re
from pathlib import Path
from types import SimpleNamespace

import configuration
import pytest
import yaml
from configuration import (
    GRID,
    certify_minutes,
    check_names,
    check_radii,
    check_repeated,
    check_repeated_keys,
    check_steps,
    check_sweep,
    check_weights,
    expand_grids,
    files_of,
    imagenet_minutes,
    minutes,
    one_of,
    sweep_of,
    sweep_settings,
)
from hypothesis import given
from hypothesis import strategies as st
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings

from netreduce.errors import ParameterError

ROOT = Path(__file__).resolve().parents[2]
NET = {"dataset": "mnist", "architecture": "mlp", "training": {"epochs": 8}}


def test_a_grid_is_a_model_for_each_combination_in_the_order_of_the_config():
    models = {"first": NET, "net": {**NET, "grid": {"hidden": [[30, 10], [20]], "epochs": [1, 2]}}}
    expanded = expand_grids({**models, "last": NET})
    assert list(expanded) == [
        "first",
        *("net-30-10-epochs1", "net-30-10-epochs2", "net-20-epochs1", "net-20-epochs2"),
        "last",
    ]
    assert expanded["net-30-10-epochs2"] == {
        "dataset": "mnist",
        "architecture": {"name": "mlp", "hidden": [30, 10]},
        "training": {"epochs": 2},
    }
    assert NET["training"] == {"epochs": 8}


def test_every_kind_of_value_has_a_name_that_a_model_may_have():
    grid = {
        "batch_norm": [True],
        "learning_rate": [0.001, 1e-5, 2.0],
        "optimizer": ["sgd"],
        "weight_decay": [0],
        "l1": [0.0001],
    }
    assert list(expand_grids({"net": {**NET, "grid": grid}})) == [
        "net-normtrue-rate0_001-sgd-decay0-lasso0_0001",
        "net-normtrue-rate1e-05-sgd-decay0-lasso0_0001",
        "net-normtrue-rate2-sgd-decay0-lasso0_0001",
    ]


def test_the_example_of_a_grid():
    assert doctest.testmod(configuration).failed == 0


def test_the_grid_of_the_thesis_has_thirty_networks():
    config = yaml.safe_load((ROOT / "config/thesis.yaml").read_text())
    models = expand_grids(config["models"])
    assert len(models) == 30
    assert models["mnist-500-300-100-batch440"] == {
        "dataset": "mnist",
        "architecture": {"name": "mlp", "hidden": [500, 300, 100]},
        "training": {"epochs": 8, "batch_size": 440},
    }
    assert set(config["comparison"]["models"]) <= models.keys()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"grid": {"batchsize": [80]}}, "grid: unknown key 'batchsize'; known: hidden, "),
        ({"grid": {"batch_size": []}}, "grid: batch_size: expected a list of values, found"),
        ({"grid": {"batch_size": 80}}, "grid: batch_size: expected a list of values, found 80"),
        ({"grid": {}}, "net: grid: expected lists of values by key, found {}"),
        ({"grid": None}, "net: grid: expected lists of values by key, found None"),
        ({"grid": {"hidden": [[2]]}, "weights": "net.h5"}, "net: grid: a network trained else"),
        ({"grid": {"epochs": [2, 2]}}, "two models are named 'net-epochs2'"),
        ({"grid": {"epochs": [1]}}, "two models are named 'net-epochs1'"),
    ],
)
def test_a_bad_grid_is_named(change, message):
    with pytest.raises(ParameterError, match=r"^config, models: ") as error:
        expand_grids({"net": {**NET, **change}, "net-epochs1": NET})
    assert message in str(error.value)


def test_the_schema_knows_the_keys_of_a_grid():
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    model = schema["$defs"]["model"]["properties"]
    assert set(model["grid"]["properties"]) == set(GRID)
    of_training = {key for key, (section, _) in GRID.items() if section == "training"}
    assert of_training <= set(model["training"]["properties"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a", "a-seed1"], "'a-seed1' is also the name of 'a' trained from seed 1"),
        (["a-seed1", "a"], "'a-seed1' is also the name of 'a' trained from seed 1"),
        (["net", "Net"], "'net' and 'Net' differ in capital letters only"),
    ],
)
def test_names_that_collide_are_refused(names, message):
    with pytest.raises(ParameterError, match=message):
        check_names(dict.fromkeys(names, NET))


def test_names_that_do_not_collide():
    check_names({"a-seed1": NET, "b": NET})
    check_names({"a": {"weights": "a.h5", "dataset": "mnist"}, "a-seed1": NET})  # has no replicates


def test_braces_in_a_path_are_refused(tmp_path):
    config = {"models": {"a": NET}, "published": {}, "imagenet": {}}
    check_weights(config)
    for section in config:
        bad = {**config, section: {"net": {"weights": "nets/{a}.h5"}}}
        message = f"^config, {section}: net: weights: Snakemake takes the braces in 'nets/{{a}}.h5'"
        with pytest.raises(ParameterError, match=message):
            check_weights(bad)
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "1.png").touch()
    assert files_of({"train": str(tmp_path)}, str) == [str(tmp_path / "cats/1.png")]
    (tmp_path / "cats" / "}.png").touch()
    with pytest.raises(ParameterError, match=r"^own data: Snakemake takes the braces in '.*}.png'"):
        files_of({"train": str(tmp_path)}, str)


@given(st.sets(st.text("ab-1", max_size=5)), st.text("ab-1", max_size=6))
def test_the_expression_for_names_matches_them_and_nothing_else(names, text):
    expression = re.compile(one_of(sorted(names)))
    assert all(expression.fullmatch(name) for name in names)
    assert bool(expression.fullmatch(text)) == (text in names)


def test_a_key_that_stands_twice_is_named_with_its_line(tmp_path):
    path = tmp_path / "my config, ü $x.yaml"
    path.write_text("models:\n  a: {dataset: digits}\n  b: {}\n  a: {dataset: mnist}\n")
    with pytest.raises(ParameterError, match=r"ü \$x\.yaml, line 4: 'a' stands twice"):
        check_repeated_keys(path)
    path.write_text(json.dumps({"models": {"a": [{"b": 1}, {"b": 2}]}, "a": 1}))
    check_repeated_keys(path)
    for name in ("config.yaml", "config/quick.yaml", "config/thesis.yaml", "config/cifar10.yaml"):
        check_repeated_keys(ROOT / name)


def test_a_chain_that_stands_twice_is_refused():
    check_repeated("config, comparison: chains", ["a", "b"])
    with pytest.raises(ParameterError, match=r"^config, comparison: chains: a stands twice"):
        check_repeated("config, comparison: chains", ["a", "b", "a"])


def test_settings_of_a_sweep():
    """Published alphabets at every scalar first, and names that can stand in paths."""
    alphabets = [
        {"radius": "output", "per_channel": True, "conv": "joint"},
        {"radius": "max", "per_channel": False, "conv": "channel"},
    ]
    sweep = {"conv": "channel", "alphabet_scalars": [1, 2.5], "alphabets": alphabets}
    published = {"radius": "median", "per_channel": False, "conv": "channel"}
    settings = [
        ("1", {"alphabet_scalar": 1.0, **published}),
        ("2.5", {"alphabet_scalar": 2.5, **published}),
        ("output-neuron-joint", alphabets[0]),
        ("max-layer-channel", alphabets[1]),
    ]
    assert list(sweep_settings(sweep, "gpfq").items()) == settings
    by_method = {**sweep, "alphabet_scalars": {"gpfq": [2.5, 1], "spfq": [3]}}
    assert list(sweep_settings(by_method, "gpfq").items()) == settings
    assert list(sweep_settings(by_method, "spfq")) == ["3", *(name for name, _ in settings[2:])]
    assert list(sweep_settings(by_method, "gptq").items()) == settings[2:]
    assert [*sweep_settings(sweep, "comq")] == [*sweep_settings(by_method, "comq")] == ["fitted"]


def test_methods_and_alphabets_of_a_sweep_must_fit():
    alphabet = {"radius": "output", "per_channel": True, "conv": "joint"}
    sweep = {"methods": ["gpfq", "beacon"], "conv": "channel", "alphabets": [alphabet]}
    models = {"a": {}, "b": {"methods": ["msq", "gptq"]}}

    def check(scalars: object, alphabets: list) -> None:
        own = {**sweep, "alphabet_scalars": scalars, "alphabets": alphabets}
        check_sweep({"sweep": own, "models": models})

    check([2], [])
    check({"gpfq": [2], "msq": [2]}, [alphabet])
    check({"gpfq": [2], "msq": [2], "gptq": [2]}, [])
    where = "^config, sweep: "
    message = "alphabet_scalars: spfq is not among the methods; there are gpfq, beacon, msq, gptq$"
    with pytest.raises(ParameterError, match=where + message):
        check({"gpfq": [2], "spfq": [2]}, [alphabet])
    message = "gptq has no alphabets; expected .*, or alphabet_scalars, as gpfq, msq have them$"
    with pytest.raises(ParameterError, match=where + message):
        check({"gpfq": [2], "msq": [2]}, [])

    models["b"] = {"methods": ["msq", "gptq"], "alphabet_scalars": {"msq": [3], "gptq": [3]}}
    check({"gpfq": [2]}, [])
    assert sweep_of({"sweep": sweep}, models["b"])["alphabet_scalars"] == {"msq": [3], "gptq": [3]}
    with pytest.raises(ParameterError, match=r"^config, sweep: alphabet_scalars: msq is not among"):
        check({"gpfq": [2], "msq": [2]}, [])
    models["b"]["alphabet_scalars"] = {"msq": [3]}
    check({"gpfq": [2]}, [alphabet])
    with pytest.raises(ParameterError, match=r"^config, models, b: gptq has no alphabets"):
        check({"gpfq": [2]}, [])
    models["b"]["alphabet_scalars"] = {"gpfq": [3]}
    with pytest.raises(ParameterError, match=r"^config, models, b: alphabet_scalars: gpfq is not"):
        check({"gpfq": [2]}, [alphabet])


def test_minutes_follow_from_the_work():
    quick = {"dataset": "digits", "architecture": {"name": "mlp", "hidden": [64, 32]}}
    assert minutes(quick, passes=3 * 20) < 15
    mnist = {"dataset": "mnist", "architecture": {"name": "mlp", "hidden": [500, 300]}}
    assert minutes(quick, 3 * 7) < minutes(mnist, 3 * 7) < 60
    cifar10 = {"dataset": "cifar10", "architecture": "vgg-small"}
    hours = [minutes(cifar10, 3 * epochs, threads=2) for epochs in (30, 60)]
    assert 60 < hours[0] < hours[1] and hours[1] - 10 == pytest.approx(2 * (hours[0] - 10), abs=1)
    unknown = {"dataset": "mine", "weights": "net.h5"}
    assert minutes(unknown, 10) > minutes(cifar10, 1)
    network = {"samples": 100, "test_images": 900, "methods": ["msq"], "alphabet_scalars": [2]}
    assert imagenet_minutes(network, 4) < imagenet_minutes({**network, "test_images": 9000}, 4)


def test_minutes_of_certificates_follow_from_the_networks():
    mlp = {"dataset": "mnist", "architecture": {"name": "mlp", "hidden": [500, 300]}}
    settings = {"radius": ["1/255", "2/255"], "images": 20}
    assert certify_minutes(mlp, settings) < 15
    assert certify_minutes(mlp, {**settings, "images": 2000}) > 100
    convolutions = {"dataset": "mnist", "architecture": "lenet5"}
    assert certify_minutes(mlp, settings, 10) < certify_minutes(convolutions, settings, 100)
    unknown = {"dataset": "mine", "weights": "net.h5"}
    assert certify_minutes(unknown, settings) > 100
    assert certify_minutes(unknown, {**settings, "seconds": 30}) == 10 + 1


@pytest.mark.parametrize("radius", [float("nan"), float("inf")])
def test_a_radius_that_is_no_number_is_named(radius):
    with pytest.raises(ParameterError, match=f"expected finite numbers, found {radius}"):
        check_radii(["1/255", radius])


def test_a_radius_that_stands_twice_is_named():
    check_radii(["1/255", 0.5, "1/2550"])
    with pytest.raises(ParameterError, match=r"radius: 2/255 stands twice, as 4/510"):
        check_radii(["1/255", "2/255", "4/510"])


def test_every_job_of_the_quick_configuration_fits_a_partition_of_an_hour():
    config = ConfigSettings(configfiles=[ROOT / "config/quick.yaml"])
    wildcards = SimpleNamespace(model="digits", chain="nnrelief-fraction=0.95")
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            ResourceSettings(), config, snakefile=ROOT / "Snakefile", workdir=ROOT
        )
        asked = {
            rule.name: rule.resources["runtime"].evaluate(wildcards, attempt=1, threads=1).value
            for rule in workflow._workflow.rules
            if rule.shellcmd and rule.name not in ("unknown_network", "unknown_model", "imagenet")
        }
    assert len(asked) > 20 and max(asked.values()) < 60, asked
    assert asked["train"] <= 15


def test_every_architecture_of_the_library_has_a_bound():
    from netreduce.measures.cost import cost
    from netreduce.network.architectures import build

    for name, bound in configuration.MULTIPLICATIONS.items():
        assert bound / 1.2 < cost(build(name, (32, 32, 3), 10)).macs < bound


def test_steps_that_no_chain_or_no_data_can_carry():
    config = {
        "models": {"mine": {"dataset": "bare"}, "other": {"dataset": "mnist"}},
        "datasets": {"bare": {"train": "x.npy", "label": "none"}},
    }
    tuned, distilled = "gpfq-bits=2/finetune-epochs=1", "gpfq-bits=2/finetune-epochs=1-distil=1"
    check_steps([tuned, "nnrelief-fraction=0.9-epochs=1"], ["other"], config)
    check_steps([distilled, "lump-tolerance=0"], ["mine", "other"], config)
    with pytest.raises(
        ParameterError,
        match="chain gpfq-bits=2/finetune-epochs=1, step 2: finetune-epochs=1 learns from labels,"
        " and the data of mine, bare, have none",
    ):
        check_steps([tuned], ["other", "mine"], config)
    for chain in ("retrain-epochs=2", "nnrelief-fraction=0.9-epochs=1"):
        with pytest.raises(ParameterError, match=f"step 1: {chain} learns from labels"):
            check_steps([chain], ["mine"], config)
    with pytest.raises(
        ParameterError,
        match="step 1: finetune-epochs=1 trains weights on a grid: put a quantizer before it",
    ):
        check_steps(["finetune-epochs=1/gpfq-bits=2"], ["other"], config)
