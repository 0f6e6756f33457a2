"""The workflow in other folders than its own, as a module of another workflow, and under names
with spaces, quotes, dollars and umlauts.
"""

import json
import shutil
import subprocess

import pytest
import yaml
from conftest import ODD, ROOT, Project, digests, snakemake

from netreduce import load

pytestmark = pytest.mark.workflow
LUMPED = "results/lumped/digits_4bit.h5"
FOREIGN = """
configfile: "my config.yaml"


module netreduce:
    snakefile:
        {snakefile!r}
    config:
        config["netreduce"]
    prefix:
        {prefix!r}


use rule * from netreduce


rule first_of_mine:
    output:
        "mine.txt",
    shell:
        "echo $PYTHONHASHSEED > {{output}}"
"""


@pytest.fixture
def elsewhere(finished, tmp_path):
    """Another folder, with all that comes before the sweep, so that little is left to do."""
    folder = tmp_path / ODD
    for part in ("data", "trained", "txt", "keras"):
        shutil.copytree(finished / "results" / part, folder / "results" / part)
    shutil.copy(finished / "config/quick.yaml", folder / f"{ODD}.yaml")
    return folder


def test_with_directory(finished, elsewhere):
    snakemake(
        *("--directory", elsewhere, "--snakefile", finished / "Snakefile"),
        *("--configfile", elsewhere / f"{ODD}.yaml", "--", LUMPED),
        cwd=elsewhere.parent,
    )
    assert digests(elsewhere)[LUMPED] == digests(finished.folder)[LUMPED]


def test_with_snakefile(finished, elsewhere):
    snakemake(
        *("--snakefile", finished / "Snakefile", "--configfile", f"{ODD}.yaml", "--", LUMPED),
        cwd=elsewhere,
    )
    assert digests(elsewhere)[LUMPED] == digests(finished.folder)[LUMPED]


def test_without_configfile_it_takes_the_one_in_the_folder_or_its_own(finished, tmp_path):
    arguments = ("--snakefile", finished / "Snakefile", "--dry-run")
    assert "mnist" in snakemake(*arguments, "results/lumped/mnist_4bit.h5", cwd=tmp_path)
    shutil.copy(finished / "config/quick.yaml", tmp_path / "config.yaml")
    assert "digits" in snakemake(*arguments, LUMPED, cwd=tmp_path)


@pytest.fixture
def foreign(finished, elsewhere):
    """The folder of another workflow that uses netreduce as a module, under a prefix."""
    prefix = f"reduction {ODD}"
    (elsewhere / prefix).mkdir()
    (elsewhere / "results").rename(elsewhere / prefix / "results")
    text = FOREIGN.format(snakefile=str(finished / "Snakefile"), prefix=prefix)
    (elsewhere / "Snakefile").write_text(text)
    config = yaml.safe_load((elsewhere / f"{ODD}.yaml").read_text())
    (elsewhere / "my config.yaml").write_text(json.dumps({"netreduce": config}))
    return elsewhere, prefix


def test_as_a_module(finished, foreign):
    folder, prefix = foreign
    snakemake("--", f"{prefix}/{LUMPED}", "mine.txt", cwd=folder)
    assert digests(folder / prefix)[LUMPED] == digests(finished.folder)[LUMPED]
    assert not (folder / "results").exists()


def test_a_module_takes_networks_of_the_workflow_around_it(finished, foreign):
    folder, prefix = foreign
    shutil.copy(finished / "results/keras/digits.h5", folder / f"{ODD}.h5")
    config = {"models": {"mine": {"dataset": "digits", "weights": f"{ODD}.h5"}}}
    (folder / "my config.yaml").write_text(yaml.safe_dump({"netreduce": config}))
    snakemake("--", f"{prefix}/results/keras/mine.h5", cwd=folder)
    assert load(folder / prefix / "results/keras/mine.h5").shapes[-1] == (10,)


def test_a_module_takes_data_of_the_workflow_around_it(tmp_path):
    project = Project(tmp_path / "project")
    folder = tmp_path / ODD
    (folder / "my plates/a").mkdir(parents=True)
    (folder / "my plates/a/1.png").touch()
    (folder / "Snakefile").write_text(
        FOREIGN.format(snakefile=str(project / "Snakefile"), prefix="part")
    )
    config = {
        "models": {
            "mine": {"dataset": "plates", "architecture": "lenet5", "training": {"epochs": 1}}
        },
        "datasets": {"plates": {"train": "my plates", "size": [8, 8]}},
    }
    (folder / "my config.yaml").write_text(yaml.safe_dump({"netreduce": config}))
    printed = snakemake("--dry-run", "--", "part/results/data/plates.npz", cwd=folder)
    assert "Missing output files: part/results/data/plates.npz" in printed


def test_a_module_without_a_config(foreign):
    folder, prefix = foreign
    snakefile = folder / "Snakefile"
    text = snakefile.read_text()
    snakefile.write_text(text.replace('    config:\n        config["netreduce"]\n', ""))
    printed = snakemake("--dry-run", "--", f"{prefix}/{LUMPED}", cwd=folder, check=False)
    assert "module netreduce has no configuration; expected `config:`" in printed


def test_braces_in_the_path_of_the_checkout(tmp_path):
    project = Project(tmp_path / "in {braces}")
    printed = project.snakemake("--dry-run", check=False)
    assert f"{project.folder}: Snakemake takes braces in this path for wildcards" in printed
    assert "Traceback" not in printed


def test_a_working_directory_that_cannot_be_written(finished):
    namespace = ["unshare", "--mount", "--map-root-user"]
    mount = [*namespace, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no mount namespaces here")
    printed = snakemake(
        *("--directory", "/mnt", "--snakefile", finished / "Snakefile", "--dry-run"),
        *("--configfile", finished / "config/quick.yaml"),
        cwd=finished.folder,
        check=False,
        before=[*namespace, "sh", "-c", 'mount -t tmpfs -o ro tmpfs /mnt && exec "$@"', "sh"],
    )
    assert "/mnt: the working directory cannot be written (Read-only file system)" in printed
    assert "Traceback" not in printed


def test_what_the_catalog_of_workflows_wants():
    """The folder layout and the files that https://snakemake.github.io/snakemake-workflow-catalog
    looks for.
    """
    usage = yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]
    assert usage["mandatory-flags"]["flags"] is None
    assert usage["software-stack-deployment"]["conda"] is True
    assert (ROOT / "Snakefile").is_file() and (ROOT / "config/README.md").is_file()
    assert len(list((ROOT / "rules").glob("*.smk"))) > 0


def test_lint_finds_nothing():
    assert "good condition" in snakemake("--lint", cwd=ROOT)
