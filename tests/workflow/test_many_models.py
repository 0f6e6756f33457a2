"""A thousand models: what grows with them does not outgrow the arguments of a command."""

import json

import pandas as pd
import pytest
import yaml
from conftest import Project

pytestmark = pytest.mark.workflow
LONG = "a-name-as-long-as-a-folder-may-have-it" * 4
RATES = [round(0.001 + number / 1e6, 6) for number in range(1000)]
MODELS = [f"{LONG}-rate{rate:g}".replace(".", "_") for rate in RATES]
CHAINS = ["analog", "fold_batch_norm", "msq-bits=4"]


@pytest.fixture
def many(tmp_path):
    """A project with a configuration of a thousand models."""
    project = Project(tmp_path / "project")
    path = project / "config/quick.yaml"
    config = yaml.safe_load(path.read_text())
    config["models"] = {LONG: {**config["models"]["digits"], "grid": {"learning_rate": RATES}}}
    config["comparison"] |= {"models": MODELS, "chains": [["fold_batch_norm"], [{"msq": 4}]]}
    del config["deployment"]
    path.write_text(yaml.safe_dump(config))
    return project


def test_provenance_holds_them_all(many):
    many.snakemake("results/provenance.json")
    recorded = json.loads((many / "results/provenance.json").read_text())["config"]["models"]
    assert len(json.dumps(recorded)) > 1 << 17  # more than one argument can be
    assert list(recorded) == MODELS
    assert [entry["training"]["learning_rate"] for entry in recorded.values()] == RATES


def test_the_table_of_all_chains(many):
    """Six thousand rows, of which each has a file: more than all arguments together can be."""
    seen = {}
    for model in MODELS:
        for seed, name in ((0, model), (1, f"{model}-seed1")):
            for chain in CHAINS:
                file = many / f"results/chains/{name}/{chain}/metrics.json"
                file.parent.mkdir(parents=True)
                file.write_text(json.dumps({"number": len(seen)}))
                seen[model, seed, chain] = len(seen)
    many.snakemake("results/metrics/comparison.csv", "--allowed-rules", "comparison")
    table = pd.read_csv(many / "results/metrics/comparison.csv")
    assert {(row.model, row.seed, row.chain): row.number for row in table.itertuples()} == seen
