"""The library with nothing but what it declares."""

import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SCRIPT = Path(__file__).with_name("public_functions.py")
ALONE = """
import runpy, sys
from importlib.machinery import PathFinder
installed = set(sys.argv.pop(1).split(","))

class Refusing:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if path is None and name in installed:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refusing)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def declared() -> set[str]:
    """The distributions that the declared dependencies bring, themselves included."""
    found: set[str] = set()
    waiting = [name_of(one) for one in PROJECT["dependencies"]]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        found.add(name)
        try:
            waiting += [name_of(one) for one in requires(name) or () if "extra ==" not in one]
        except PackageNotFoundError:  # for another platform or another Python
            continue
    return found


def name_of(requirement: str) -> str:
    found = re.match(r"[A-Za-z0-9._-]+", requirement)
    assert found
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def test_every_public_function_without_other_packages(tmp_path):
    """As in an environment that holds nothing else: every other installed module is refused."""
    allowed = declared()
    others = {
        module
        for module, names in packages_distributions().items()
        if not {re.sub(r"[-_.]+", "-", name).lower() for name in names} & allowed
        and module not in ("netreduce", "_distutils_hack")
    }
    assert {"torch", "tensorflow", "keras", "pandas"} <= others
    done = subprocess.run(
        [sys.executable, "-c", ALONE, ",".join(others), SCRIPT, tmp_path],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT / "src")},
    )
    assert done.returncode == 0, done.stderr
    assert "certify" in done.stdout


def test_the_wheel_is_what_a_registry_takes(tmp_path):
    """Built with what is installed here: no network."""
    pip = ["-m", "pip", "--quiet", "--disable-pip-version-check", "wheel", "--no-deps"]
    project = copied(tmp_path)
    run([sys.executable, *pip, "--no-build-isolation", "--wheel-dir", tmp_path, project])
    (wheel,) = tmp_path.glob("netreduce-*.whl")
    checked = run([sys.executable, "-m", "twine", "check", "--strict", wheel])
    assert "PASSED" in checked
    with ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "netreduce/cli/app.py" in names
    assert not [name for name in names if name.startswith(("tests", "workflow", "docs"))]


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_the_wheel_in_an_environment_of_its_own(tmp_path, version):
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "--version"], capture_output=True).returncode:
        pytest.skip(f"no Python {version}")
    pip = ["-m", "pip", "--quiet", "--disable-pip-version-check"]
    run([sys.executable, *pip, "wheel", "--no-deps", "--wheel-dir", tmp_path, copied(tmp_path)])
    run([python, "-m", "venv", tmp_path / "venv"])
    (wheel,) = tmp_path.glob("netreduce-*.whl")
    inside = tmp_path / "venv/bin/python"
    run([inside, *pip, "install", wheel])
    assert "certify" in run([inside, SCRIPT, tmp_path])
    assert run([tmp_path / "venv/bin/netreduce", "--version"]).strip() == PROJECT["version"]


def copied(folder: Path) -> Path:
    """What a wheel is made of, away from the checkout."""
    copy = folder / "project"
    shutil.copytree(ROOT / "src", copy / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    return copy


def run(command: list) -> str:
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT.parent)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_version_is_the_same_everywhere():
    import netreduce

    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    assert cited
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    released = re.findall(r"^## (\d\S*)", changes, re.MULTILINE)
    assert PROJECT["version"] == netreduce.__version__ == cited[1] == released[0]
