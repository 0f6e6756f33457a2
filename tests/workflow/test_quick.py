"""The workflow end to end on the quick configuration."""

import csv
import hashlib
import json
import os
import re
import shutil
import zipfile
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import onnxruntime
import pandas as pd
import pytest
import yaml
from conftest import ODD, Project, digests
from PIL import Image

from netreduce import IntegerNetwork, certify, export, load
from netreduce.data import read
from netreduce.measures.deployment import predict_file

pytestmark = pytest.mark.workflow
BEFORE_THE_SWEEP = {"data", "train", "text", "rebuild", "analog"}
SWEEPS = {"sweep_gpfq", "sweep_msq"}


def rows(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_thesis_and_every_step_are_there(finished):
    assert (finished / "results/report/thesis.pdf").read_bytes().startswith(b"%PDF")
    for path in (
        "results/data/digits.npz",
        "results/trained/digits.pth",
        "results/txt/digits.txt",
        "results/keras/digits.h5",
        "results/sweep/digits/msq_2bit_3.h5",
        "results/quantized/digits_1.58bit.h5",
        "results/lumped/digits_4bit.h5",
        "results/lumped/digits_4bit.json",
    ):
        assert (finished / path).stat().st_size > 0


def test_conversion_is_exact(finished):
    metrics = json.loads((finished / "results/metrics/conversion/digits.json").read_text())
    assert metrics["text_bit_for_bit"] is True
    assert metrics["max_logit_difference"] <= metrics["logit_tolerance"] == 1e-4
    assert metrics["equal_predictions"] == metrics["test_images"] > 0


def test_quantized_network_is_the_best_on_validation(finished):
    for bits in ("1.58", "2", "4"):
        sweep = rows(finished / f"results/sweep/digits/{bits}bit.csv")
        assert len(sweep) == 2 * 3
        chosen = json.loads(
            (finished / f"results/metrics/quantized/digits_{bits}bit.json").read_text()
        )
        assert chosen["validation_accuracy"] == max(
            float(row["validation_accuracy"]) for row in sweep
        )
        selected = load(finished / f"results/quantized/digits_{bits}bit.h5")
        same = load(
            finished
            / f"results/sweep/digits/{chosen['method']}_{bits}bit_{chosen['alphabet_scalar']:g}.h5"
        )
        levels = {"1.58": 3, "2": 4, "4": 16}[bits]
        for layer, other in zip(selected.layers, same.layers, strict=True):
            if layer.arrays():
                np.testing.assert_array_equal(layer.kernel, other.kernel)
                assert len(np.unique(layer.codes)) <= levels + 1  # and the zero of dead inputs


def test_lumped_network_computes_the_same_function(finished):
    with np.load(finished / "results/data/digits.npz") as data:
        images = data["test_images"].astype(np.float32) / 255
    for bits in ("1.58", "2", "4"):
        before = load(finished / f"results/quantized/digits_{bits}bit.h5").predict(images)
        after = load(finished / f"results/lumped/digits_{bits}bit.h5").predict(images)
        np.testing.assert_allclose(after, before, atol=1e-4)


def test_every_network_has_its_certificates(finished):
    table = pd.read_csv(
        finished / "results/metrics/certificates.csv", dtype={"network": str, "radius": str}
    )
    chains = list(pd.read_csv(finished / "results/metrics/comparison.csv").chain.unique())
    networks = ["analog", "1.58", "2", "4", *chains[1:]]
    assert list(table.network) == [name for name in networks for _ in range(2)]
    assert list(table.radius) == ["1/255", "4/255"] * len(networks)
    assert set(table.seed) == {0} and set(table.images) == {10} and table.notes.isna().all()
    assert table.certified_agreement.between(0, 1).all()
    assert (table.found <= table.bound + table.rounding).all()
    images = np.load(finished / "results/data/digits.npz")["test_images"][:10] / np.float32(255)
    original = load(finished / "results/keras/digits.h5")
    for network, path, file in (
        ("4", "quantized/digits_4bit.h5", "4bit"),
        ("gpfq-bits=4/lump-tolerance=0", *["chains/digits/gpfq-bits=4/lump-tolerance=0"] * 2),
    ):
        path = path if path.endswith(".h5") else f"{path}/network.h5"
        reduced = load(finished / f"results/{path}")
        direct = certify(original, reduced, around=images, radius=4 / 255, classes=True)
        row = table[(table.network == network) & (table.radius == "4/255")].iloc[0]
        assert row.certified_agreement == direct.same_class.mean()
        assert row.bound == pytest.approx(np.median(direct.bound.max(axis=1)), rel=1e-12)
        file = file.removeprefix("chains/digits/")
        record = json.loads((finished / f"results/certificates/digits/{file}.json").read_text())
        assert record["balls"][1]["bound"] == row.bound
    for figure in ("certified_bits", "certified_chains"):
        assert (finished / f"results/figures/digits/{figure}.svg").exists()


def test_lumping_over_its_tolerance_is_certified_on_balls(finished):
    table = pd.read_csv(finished / "results/metrics/tolerance/digits.csv")
    assert set(table.ball_radius) == {"1/255"}
    assert (table.ball_bound <= table.bound).all()
    assert table.ball_certified_agreement.between(0, 1).all()


def test_networks_are_not_certified_unasked(changed):
    edit(changed / "config/quick.yaml", r"certificates:\n(?:  .*\n)+", "")
    stale = changed.stale()
    assert not stale.keys() & {"certify", "certificates", "chapter_certified"}
    printed = changed.snakemake("results/certificates/digits/4bit.json", "-n", check=False)
    assert "certificates: radius and images are needed to certify a network" in printed
    changed.snakemake("results/metrics/tolerance/digits.csv")
    table = pd.read_csv(changed / "results/metrics/tolerance/digits.csv")
    assert not [name for name in table if name.startswith("ball_")]


def test_nothing_is_left_to_do(finished):
    assert finished.stale() == {}


def test_touching_any_file_reruns_nothing(changed):
    for path in changed.folder.rglob("*"):
        if path.is_file() and ".snakemake" not in path.parts:
            os.utime(path)
    assert changed.stale() == {}


OTHER = "{dataset: digits, architecture: mlp, training: {epochs: 1}}"


def edit(path, pattern, replacement):
    text = path.read_text()
    new = re.sub(pattern, replacement, text, count=1)
    assert new != text
    path.write_text(new)


def test_an_alphabet_scalar_reruns_the_sweep_and_what_follows(changed):
    edit(
        changed / "config/quick.yaml",
        r"alphabet_scalars: \[2, 3, 4\]",
        "alphabet_scalars: [2, 3, 5]",
    )
    stale = changed.stale()
    assert stale.keys() >= {*SWEEPS, "select", "lump", "tolerance", "evaluate", "thesis"}
    assert stale["sweep_gpfq"] == stale["sweep_msq"] == 3
    assert not stale.keys() & BEFORE_THE_SWEEP


def test_the_code_of_lumping_reruns_lumping_and_what_follows(changed):
    module = changed / "src/netreduce/lumping/__init__.py"
    module.write_text(module.read_text() + "\n_CHANGED = True\n")
    stale = changed.stale()
    assert stale.keys() >= {"lump", "classes", "tolerance", "evaluate", "thesis"}
    assert not stale.keys() & (BEFORE_THE_SWEEP | SWEEPS | {"select", "layers"})


def test_every_row_of_the_comparison_is_made_again_by_its_path(changed):
    table = pd.read_csv(changed / "results/metrics/comparison.csv")
    own_seed = table.seed.iloc[0]
    paths = [
        f"results/chains/{replicate}/{row.chain}/metrics.json"
        for row in table.itertuples()
        for replicate in [row.model if row.seed == own_seed else f"{row.model}-seed{row.seed}"]
    ]
    shutil.rmtree(changed / "results/chains")
    changed.snakemake(*paths)
    for path, row in zip(paths, table.itertuples(), strict=True):
        made = json.loads((changed / path).read_text())
        assert (made["accuracy"], made["entropy_bytes"]) == (row.accuracy, row.entropy_bytes), path
        folder = changed / f"results/chains/{path.split('/')[2]}"
        analog = changed / f"results/keras/{folder.name}.h5"
        network = analog if row.chain == "analog" else folder / row.chain / "network.h5"
        export(load(network), changed / "network.onnx")
        size = (changed / "network.onnx").stat().st_size
        assert size == made["onnx_bytes"] == row.onnx_bytes


def test_keras_loads_what_lumping_wrote(finished):
    keras = pytest.importorskip("keras")
    network = keras.models.load_model(finished / "results/lumped/digits_4bit.h5", compile=False)
    images = np.load(finished / "results/data/digits.npz")["test_images"].astype(np.float32) / 255
    ours = load(finished / "results/lumped/digits_4bit.h5").predict(images)
    np.testing.assert_allclose(network.predict(images, verbose=0), ours, atol=1e-4)


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("results/lumped/nosuch_4bit.h5", "unknown model 'nosuch'; the config has: digits"),
        ("results/lumped/digits_0bit.h5", "'0' bits make no alphabet"),
        ("results/lumped/digits_1bit.h5", "'1' bits make no alphabet"),
        ("results/quantized/digits_-2bit.h5", "'-2' bits make no alphabet"),
        ("results/quantized/digits_fourbit.h5", "'four' bits make no alphabet"),
        ("results/keras/nosuch.h5", "unknown model 'nosuch'"),
        ("results/best/nosuch/gpfq_4bit.h5", "unknown model 'nosuch'; the config has: digits"),
        ("results/figures/nosuch/bits.svg", "unknown model 'nosuch'"),
    ],
)
def test_a_bad_target_is_refused(finished, target, message):
    assert message in finished.snakemake(target, "--dry-run", check=False)


@pytest.mark.parametrize(
    ("pattern", "replacement", "message"),
    [
        ("alphabet_scalars:", "alphabet_scalers:", "alphabet_scalers"),
        ("seed: 0", "sede: 0", "sede"),
        (r"bits: \[1.58", "bits: [1", "bits"),
        (r"bits: \[1.58", "bits: [four", "bits"),
        (r"alphabet_scalars: \[2", "alphabet_scalars: [-2", "alphabet_scalars"),
        (r"(alphabet_scalars): \[.*\]", r"\1: {beacon: [2]}", "'beacon'"),
        (r"(alphabet_scalars): \[.*\]", r"\1: {gpfq: [0], msq: [2]}", "alphabet_scalars']['gpfq']"),
        (r"(alphabet_scalars): \[.*\]", r"\1: {gpfq: [2]}", "config, sweep: msq has no alphabets"),
        (
            r"models: \[digits\]",
            "models: [nosuch]",
            "config, comparison: models: unknown model 'nosuch'; the config has: digits",
        ),
        (
            "comparison:",
            "report: {models: [nosuch]}\ncomparison:",
            "config, report: models: unknown model 'nosuch'; the config has: digits",
        ),
        ("lumping:", "lumping:\n  chains: [[lamp: 0]]", "config, lumping: chains: "),
        (
            "lumping:",
            "lumping:\n  chains: [[activations: 8]]",
            "config, lumping: chains: chain activations-bits=8: networks whose activations are",
        ),
        (r"nnrelief: 0.95\]", "nnreleif: 0.95]", "nnreleif"),
        (r"nnrelief: 0.95\]", "nnrelief: 1.95]", "1.95"),
        (r"gpfq: \{bits: 4\}\]", "gpfq: {bots: 4}]", "bots"),
        (
            r"- \[magnitude: 0.5\]",
            "- [nnrelief: {fraction: 0.95, epochs: 0}]",
            "config, comparison: chains: nnrelief-fraction=0.95 stands twice",
        ),
        ("images: 10", "images: 0", "certificates"),
        ("images: 10", "images: 10\n  sample: 3", "sample"),
        ("images: 10", "images: 10\n  seconds: 0", "seconds"),
        (r"radius: \[1/255", "radius: [0", "radius"),
        (r"radius: \[1/255", "radius: [-1/255", "radius"),
        (r"radius: \[1/255", "radius: [0/255", "radius"),
        (r"radius: \[1/255", "radius: [a pixel", "A number above 0, or a fraction such as 2/255"),
        (
            r"radius: \[1/255",
            "radius: [8/510",
            "config, certificates: radius: 8/510 stands twice, as 4/255",
        ),
        (
            "images: 10",
            "images: 10\n  models: [nosuch]",
            "config, certificates: models: unknown model 'nosuch'; the config has: digits",
        ),
        ("  digits:", f"  digits: {OTHER}\n  digits:", "'digits' stands twice, expected once"),
        ("  digits:", f"  Digits: {OTHER}\n  digits:", "'Digits' and 'digits' differ in capital"),
        (
            "  digits:",
            f"  digits-seed1: {OTHER}\n  digits:",
            "'digits-seed1' is also the name of 'digits' trained from seed 1",
        ),
        (
            "  digits:",
            "  digits:\n    grid: {widths: [[3]]}",
            "config, models: digits: grid: unknown key 'widths'; known: hidden, ",
        ),
        (
            "  digits:",
            "  digits:\n    grid: {batch_size: []}",
            "config, models: digits: grid: batch_size: expected a list of values, found []",
        ),
    ],
)
def test_a_bad_config_is_refused_before_any_job_runs(changed, pattern, replacement, message):
    edit(changed / "config/quick.yaml", pattern, replacement)
    assert message in changed.snakemake("--dry-run", check=False)


@pytest.mark.parametrize("path", ["config.yaml", "config/cifar10.yaml", "config/thesis.yaml"])
def test_every_configuration_can_be_planned(changed, path):
    assert changed.stale("--configfile", path)["thesis"] == 1


def test_the_pretrained_network_can_be_trained_anew(changed):
    edit(
        changed / "config/cifar10.yaml",
        r"    weights: .*\n    # (.*)\n    # (.*)\n",
        r"    \1\n    \2\n",
    )
    assert changed.stale("--configfile", "config/cifar10.yaml")["train"] == 1


def test_class_counts_of_chains_and_networks_without_figures(changed):
    edit(
        changed / "config/quick.yaml",
        "lumping:",
        "lumping:\n  chains: [[nnrelief: {fraction: 0.8, fold: false}]]",
    )
    edit(
        changed / "config/quick.yaml",
        "  digits:\n",
        "  other: {dataset: digits, architecture: {name: mlp, hidden: [16]}, training: {epochs:"
        " 2}}\n  digits:\n",
    )
    with open(changed / "config/quick.yaml", "a") as config:
        config.write("report: {models: [digits]}\n")
    assert changed.stale()["figure"] > 0
    changed.snakemake("results/figures/architectures.svg", "results/report/thesis.pdf")
    table = pd.read_csv(changed / "results/metrics/lumping/digits.csv")
    assert list(table.network.unique()) == [
        "analog",
        "1.58",
        "2",
        "4",
        "nnrelief-fraction=0.8-fold=false",
    ]
    assert (table.neurons_after <= table.classes).all() and (table.classes <= table.neurons).all()
    assert not (changed / "results/figures/other").exists()


def test_a_chain_in_integers_is_compared_and_not_certified(changed):
    edit(
        changed / "config/quick.yaml",
        r"    - \[magnitude: 0.5\]",
        "    - [gpfq: {bits: 4}, activations: 8]",
    )
    assert "certify" not in changed.stale()
    path = "results/chains/digits/gpfq-bits=4/activations-bits=8"
    changed.snakemake(f"{path}/metrics.json")
    found = json.loads((changed / path / "metrics.json").read_text())
    integers = IntegerNetwork(load(changed / path / "network.h5"))
    data = read(changed / "results/data/digits.npz")
    classes = integers.predict(data.images("test")).argmax(axis=1)
    assert found["correct"] == np.count_nonzero(classes == data.targets("test"))
    assert found["correct"] > 0.9 * found["samples"]


def test_a_grid_of_models_is_recorded_as_what_it_stands_for(changed):
    edit(
        changed / "config/quick.yaml",
        "  digits:\n",
        f"  net: {OTHER[:-1]}, grid: {{hidden: [[9, 8], [7]]}}}}\n  digits:\n",
    )
    changed.snakemake("results/provenance.json")
    models = json.loads((changed / "results/provenance.json").read_text())["config"]["models"]
    assert list(models) == ["net-9-8", "net-7", "digits"]
    assert models["net-7"]["architecture"] == {"name": "mlp", "hidden": [7]}
    assert "grid" not in models["net-7"]


@pytest.mark.parametrize(
    ("table", "chapters"),
    [
        ("metrics/training/digits.csv", ["experiments"]),
        ("metrics/networks/digits.csv", ["quantized", "reproduction", "deployment"]),
        ("metrics/lumping/digits.csv", ["lumped"]),
        ("metrics/comparison.csv", ["comparison", "reproduction"]),
        ("metrics/certificates.csv", ["certified"]),
    ],
)
def test_a_changed_table_remakes_its_chapters_and_the_thesis(changed, table, chapters):
    path = changed / "results" / table
    path.write_text(path.read_text() + "\n")
    stale = changed.stale()
    made = [f"chapter_{chapter}" for chapter in chapters]
    assert [stale.pop(rule) for rule in (*made, "thesis", "all")] == [1] * (len(chapters) + 2)
    assert not [rule for rule in stale if rule.startswith("chapter_")]
    assert stale.keys() <= {"figure", "landing", "deployed"}


OWN = """
models:
  keras:
    dataset: outside
    framework: keras
    architecture: {name: mlp, hidden: [16]}
    training: {epochs: 3}
  mine: {dataset: digits, weights: mine.h5}
  other: {dataset: digits, weights: other.pth, architecture: {name: mlp, hidden: [64, 32]}}
  blind: {dataset: bare, weights: other.pth, architecture: {name: mlp, hidden: [64, 32]}}
sweep: {methods: [gpfq], bits: [2], alphabet_scalars: [2], samples: 500}
lumping: {tolerances: [0]}
comparison: {models: [mine, blind], chains: [[gpfq: {bits: 4}]]}
"""


@pytest.fixture(scope="module")
def own(finished, tmp_path_factory):
    """A project with the smallest configuration, on networks trained in Keras and elsewhere, one of
    them, and images in folders and without labels outside the project; with its bundle.
    """
    folder = tmp_path_factory.mktemp("own")
    project = Project(folder / "project")
    shutil.copy(finished / "results/keras/digits.h5", project / f"{ODD}.h5")
    shutil.copy(finished / "results/trained/digits.pth", folder / f"{ODD}.pth")
    config = yaml.safe_load(OWN)
    config["models"]["mine"]["weights"] = f"{ODD}.h5"
    for name in ("other", "blind"):
        config["models"][name]["weights"] = str(folder / f"{ODD}.pth")
    with np.load(finished / "results/data/digits.npz") as data:
        for number, label in enumerate(data["train_labels"][:600]):
            image = folder / ODD / f"digit {label}" / f"{number}.png"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(data["train_images"][number, ..., 0]).save(image)
        np.save(folder / "bare.npy", data["train_images"][:600])
    bare = {"train": str(folder / "bare.npy"), "label": "none", "target": "classes"}
    config["datasets"] = {"outside": {"train": str(folder / ODD)}, "bare": bare}
    (project / "own.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    landing = "results/report/landing.html"
    project.snakemake("results/bundle.zip", landing, "--configfile", "own.yaml")
    return project


def test_networks_trained_in_keras_and_elsewhere_with_the_smallest_configuration(own):
    mine, other = (load(own / f"results/quantized/{name}_2bit.h5") for name in ("mine", "other"))
    for ours, theirs in zip(mine.layers, other.layers, strict=True):
        assert all(
            np.array_equal(array, theirs.arrays()[name]) for name, array in ours.arrays().items()
        )
    assert load(own / "results/lumped/keras_2bit.h5").shapes[-1] == (10,)


def test_without_labels_networks_are_measured_by_the_agreement_with_the_original(own):
    data = read(own / "results/data/bare.npz")
    assert not data.labelled
    original = load(own / "results/keras/blind.h5")
    for split, name in (("validation", "quantized/blind_2bit"), ("test", "lumped/blind_2bit")):
        images = data.images(split)
        classes = [
            network.predict(images).argmax(axis=1)
            for network in (original, load(own / f"results/{name}.h5"))
        ]
        agreement = np.mean(classes[0] == classes[1])
        if split == "validation":  # by which the setting was chosen
            chosen = json.loads((own / "results/metrics/quantized/blind_2bit.json").read_text())
            assert chosen["validation_agreement"] == agreement
        else:
            (lumped,) = (
                row
                for row in rows(own / "results/metrics/networks/blind.csv")
                if row["network"] == "lumped"
            )
            assert float(lumped["agreement"]) == agreement == int(lumped["correct"]) / len(images)
            assert agreement < 1
    for table in ("networks/blind", "tolerance/blind", "layers/blind", "comparison"):
        columns = (own / f"results/metrics/{table}.csv").read_text().partition("\n")[0]
        assert "agreement" in columns and ("accuracy" in columns) == (table == "comparison")
    words = json.loads((own / "results/report/comparison.json").read_text())
    assert words["blind"]["measure"]["title"] == "agreement with the original"
    assert words["mine"]["measure"]["title"] == "accuracy"
    assert "agreement with the original" in (own / "results/report/landing.html").read_text()


def test_a_bundle_knows_how_each_result_was_made(own):
    with zipfile.ZipFile(own / "results/bundle.zip") as bundle:
        entities = {
            unquote(entity["@id"]): entity
            for entity in json.loads(bundle.read("ro-crate-metadata.json"))["@graph"]
        }
        for name in set(bundle.namelist()) - {"ro-crate-metadata.json", "run.yaml"}:
            assert entities[name]["sha256"] == hashlib.sha256(bundle.read(name)).hexdigest()
    made = {
        unquote(result["@id"]): entity
        for entity in entities.values()
        if entity["@type"] == "CreateAction"
        for result in entity["result"]
    }
    assert {
        "results/report/thesis.pdf",
        "results/lumped/mine_2bit.json",
        "results/data/digits.npz",
        "results/provenance.json",
    } <= set(made)
    lump = made["results/lumped/mine_2bit.h5"]
    assert {"@id": "results/quantized/mine_2bit.h5"} in lump["object"]
    assert {"@id": "src/netreduce/lumping/__init__.py"} in lump["object"]
    assert "--input-range 0 1" in lump["description"]
    assert entities["#numpy"]["softwareVersion"] == np.__version__


def test_a_bundle_without_images_keeps_their_digests(own, tmp_path):
    copy = Project.__new__(Project)
    copy.folder = tmp_path / "project"
    shutil.copytree(own.folder, copy.folder, symlinks=True)
    with open(copy / "own.yaml", "a") as config:
        config.write("bundle: {images: false}\n")
    copy.snakemake("results/bundle.zip", "--configfile", "own.yaml")
    with zipfile.ZipFile(copy / "results/bundle.zip") as bundle:
        held = set(bundle.namelist())
        entities = json.loads(bundle.read("ro-crate-metadata.json"))["@graph"]
    assert "results/data/digits.npz" not in held and "results/keras/mine.h5" in held
    left = [entity for entity in entities if entity.get("description") == "left out of this bundle"]
    digest = hashlib.sha256((copy / "results/data/digits.npz").read_bytes()).hexdigest()
    assert ("digits.npz", digest) in [(entity["name"], entity["sha256"]) for entity in left]
    assert not held & {entity["@id"] for entity in left}
    assert not [name for name in held if name.startswith("resources/digits")]
    with zipfile.ZipFile(own / "results/bundle.zip") as bundle:
        assert "results/data/digits.npz" in bundle.namelist()


def test_a_bundle_makes_its_results_again(own, tmp_path):
    with zipfile.ZipFile(own / "results/bundle.zip") as bundle:
        bundle.extractall(tmp_path)
    shutil.rmtree(tmp_path / "results")
    project = Project.__new__(Project)
    project.folder = tmp_path
    config = yaml.safe_load((tmp_path / "run.yaml").read_text())
    given = [config["models"]["other"]["weights"], config["datasets"]["outside"]["train"]]
    assert not any(Path(path).is_absolute() for path in given)
    paths = ["results/lumped/other_2bit.h5", "results/data/outside.npz"]
    project.snakemake(*paths, "--configfile", "run.yaml")
    for path in paths:
        assert digests(tmp_path)[path] == digests(own.folder)[path]


def test_files_in_integers_are_what_the_table_says(finished):
    table = pd.read_csv(finished / "results/metrics/deployed.csv")
    assert list(table.file) == ["onnx", "tflite", *2 * ["onnx", "reference", "tflite"]]
    assert list(table.weights) == [32, 32, 8, 8, 8, 4, 4, 4]
    data = np.load(finished / "results/data/digits.npz")
    images = data["test_images"].astype(np.float32) / 255
    quantized = table[(table.weights < 32) & (table.file != "reference")]
    for row in quantized.itertuples():
        path = finished / f"results/exported/digits_w{row.weights}a8.{row.file}"
        assert path.stat().st_size == row.bytes
        predicted = predict_file(path, images).argmax(axis=1)
        assert np.mean(predicted == data["test_labels"]) == row.accuracy
        assert row.as_evaluated >= 0.99
        analog = table[(table.weights == 32) & (table.file == row.file)].iloc[0]
        assert row.accuracy >= analog.accuracy - 0.02
        assert row.bytes <= 1.1 * row.weights / 32 * analog.bytes + 8000
    assert table.accumulator.max() <= 32


def test_deployable_export_and_its_latency(changed):
    changed.snakemake("results/exported/digits_4bit.onnx", "results/timings/latency/digits.csv")
    images = np.load(changed / "results/data/digits.npz")["test_images"].astype(np.float32) / 255
    (outputs,) = onnxruntime.InferenceSession(changed / "results/exported/digits_4bit.onnx").run(
        None, {"input": images}
    )
    np.testing.assert_allclose(
        outputs, load(changed / "results/quantized/digits_4bit.h5").predict(images), atol=1e-4
    )
    table = pd.read_csv(changed / "results/timings/latency/digits.csv", dtype={"network": str})
    assert set(table.network) == {"analog", "1.58", "2", "4"}
    assert set(table.batch) == {1, 256}
    assert {"numpy", "onnxruntime"} <= set(table.runtime)
    assert (table.seconds > 0).all()


def test_files_in_integers_are_timed_where_asked(changed):
    edit(changed / "config/quick.yaml", r"(deployment:\n  models: .*)", r"\1\n  latency: true")
    changed.snakemake("results/figures/digits/deployment.svg", "results/report/deployment.json")
    table = pd.read_csv(changed / "results/timings/deployed/digits.csv")
    names = [f"digits_{what}" for what in ("analog", "w8a8", "w4a8")]
    assert set(table.file) == {
        f"{name}.{suffix}" for name in names for suffix in ("onnx", "tflite")
    }
    assert set(table.batch) == {1, 256} and 1 in set(table.threads)
    assert (table.seconds > 0).all()
    told = json.loads((changed / "results/report/deployment.json").read_text())
    assert len(told["digits"]["latency"]["files"]) == 6


def test_a_failing_step_leaves_no_file_and_names_the_cause(changed):
    text = changed / "results/txt/digits.txt"
    lines = text.read_text().split("\n")
    lines[1] = lines[1].replace(", ", ", what, ", 1)
    text.write_text("\n".join(lines))
    printed = changed.snakemake("results/keras/digits.h5", "--force", check=False)
    assert re.search(r"error: .*digits\.txt.*line 2.*dense_1\.weight.*'what'", printed)
    assert not list(Path(changed / "results/keras").glob("*.part*"))
    assert not (changed / "results/keras/digits.h5").exists()
