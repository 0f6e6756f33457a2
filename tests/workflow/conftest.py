"""The quick configuration, run once in a copy of the project; tests look at what it made and at
what a change would rerun.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest

ROOT = Path(__file__).resolve().parents[2]
ODD = "it's a $HOME, ü"  # in the names of folders and files
PARTS = (
    "Snakefile",
    "config.yaml",
    "config",
    "rules",
    "workflow",
    "profiles",
    "envs",
    "src",
    "report",
    "networks",
    "requirements.in",
    "requirements-torch.txt",
)


def snakemake(*arguments, cwd, check=True, before=()):
    """Run Snakemake on two cores; returns what it printed."""
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    done = subprocess.run(
        [*before, "snakemake", "--cores", "2", *arguments],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert (done.returncode == 0) == check, done.stdout
    return done.stdout


class Project:
    """A copy of the project in a folder of its own."""

    def __init__(self, folder):
        self.folder = folder
        folder.mkdir(exist_ok=True)
        for part in PARTS:
            source = ROOT / part
            if source.is_dir():
                shutil.copytree(
                    source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.part*")
                )
            else:
                shutil.copy2(source, folder / part)

    def __truediv__(self, path):
        return self.folder / path

    def snakemake(self, *arguments, check=True):
        """Run Snakemake there on the quick configuration (unless told another one); returns what it
        printed.
        """
        if "--configfile" not in arguments:
            arguments = (*arguments, "--configfile", "config/quick.yaml")
        return snakemake(*arguments, cwd=self.folder, check=check)

    def stale(self, *arguments):
        """Rules that would run now, by name, with the number of their jobs."""
        printed = self.snakemake("all", "--dry-run", "--quiet", "host", *arguments)
        table = re.search(r"^job +count\n[- ]+\n(.*?)\n(?:total|\n)", printed, re.M | re.S)
        return (
            {name: int(count) for name, count in (line.split() for line in table[1].splitlines())}
            if table
            else {}
        )


def digests(folder):
    """A digest of every result: of the bytes, or of the arrays of a network file."""
    found = {}
    for path in sorted((folder / "results").rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir() or "timings" in path.parts:
            continue
        digest = hashlib.sha256()
        if path.suffix == ".h5":
            with h5py.File(path) as file:
                names = []
                file.visit(names.append)
                for key in names:
                    digest.update(key.encode())
                    if isinstance(file[key], h5py.Dataset):
                        digest.update(file[key][()].tobytes())
        elif path.suffix == ".pth":
            continue  # its arrays are those of the text
        else:
            digest.update(path.read_bytes())
        found[name] = digest.hexdigest()
    return found


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """A project in which the quick configuration has run. Tests must leave it as it is."""
    project = Project(tmp_path_factory.mktemp("quick") / ODD)
    project.snakemake()
    return project


@pytest.fixture
def changed(finished, tmp_path):
    """A copy of the finished project, to be changed."""
    copy = tmp_path / "project"
    shutil.copytree(finished.folder, copy, symlinks=True)
    project = Project.__new__(Project)
    project.folder = copy
    return project
