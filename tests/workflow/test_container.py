"""The container as far as it can be tried without a container engine: what its files, its user and
its programs allow.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()


@pytest.fixture(scope="module")
def image(tmp_path_factory):
    """The files that COPY . . brings: all that .dockerignore lets through."""
    folder = tmp_path_factory.mktemp("image")
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert ignored[0] == "*"
    for name in ignored[1:]:
        if name.startswith("!"):
            source = ROOT / name[1:]
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, folder / name[1:])
    return folder


@pytest.mark.parametrize(
    "config", ["config.yaml", "config/quick.yaml", "config/cifar10.yaml", "config/thesis.yaml"]
)
def test_its_files_are_enough_without_git_and_npm(image, tmp_path, config):
    (tmp_path / "bash").symlink_to(shutil.which("bash"))
    done = subprocess.run(
        [
            Path(sys.executable).with_name("snakemake"),
            "all",
            "--dry-run",
            "--quiet",
            "--cores",
            "2",
            "--configfile",
            config,
        ],
        cwd=image,
        env={"PATH": f"{Path(sys.executable).parent}:{tmp_path}", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_runs_all_on_eight_cores_as_an_ordinary_user():
    assert re.findall(r"^(?:USER|VOLUME|CMD) .*", DOCKERFILE, re.M) == [
        "USER netreduce",
        "VOLUME /netreduce/results",
        'CMD ["snakemake", "--cores", "8"]',
    ]
    assert re.search(r"useradd --uid [1-9]\d* .*netreduce", DOCKERFILE)
    assert "COPY --chown=netreduce: . ." in DOCKERFILE


def test_its_python_is_one_that_the_requirements_hold_for():
    minor = int(re.search(r"^FROM python:3\.(\d+)-slim", DOCKERFILE, re.M)[1])
    assert 11 <= minor <= 13
