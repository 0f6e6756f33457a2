"""Every step's conda environment holds what its scripts import and nothing else, in the versions
that requirements.txt pins.
"""

import ast
import re
import subprocess
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from snakemake.api import SnakemakeApi
from snakemake.settings.types import ConfigSettings, OutputSettings, Quietness, ResourceSettings

from netreduce.chains.techniques import TECHNIQUES
from netreduce.data.sources import PythonPackage
from netreduce.data.table import DATASETS

ROOT = Path(__file__).resolve().parents[2]
# Where the name of a package is not that of its module: module → package on PyPI, package on PyPI →
# package on conda-forge.
ON_PYPI = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml"}
ON_CONDA_FORGE = {"torch": "pytorch", "typst": "typst-py"}
NOT_ON_CONDA_FORGE = {"ai_edge_litert"}  # netreduce.measures.latency goes without it
READERS = {
    "keras/h5": ".h5",
    "keras/archive": ".keras",
    "pytorch/state_dict": ".pth",
    "safetensors": ".safetensors",
    "pytorch/export": ".pt2",
    "onnx/reader": ".onnx",
    "nnet": ".nnet",
    "text": ".txt",
}  # module of netreduce.formats → suffix that it is for
ENVIRONMENTS = sorted(path.stem for path in (ROOT / "envs").glob("*.yaml"))


@pytest.fixture(scope="module")
def rules():
    config = ConfigSettings(
        config={"imagenet": {"vgg16": {"weights": "vgg16.pth", "architecture": "vgg16"}}}
    )
    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            ResourceSettings(), config, snakefile=ROOT / "Snakefile", workdir=ROOT
        )
        yield list(workflow._workflow.rules)


@cache
def imports(file):
    """Modules that a file imports, as (third-party names, project files)."""
    names, files = set(), set()
    for node in _running(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            targets = [(0, alias.name, ()) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            targets = [(node.level, node.module or "", [alias.name for alias in node.names])]
        else:
            continue
        for level, module, members in targets:
            top = module.partition(".")[0]
            if level:
                base = file.parents[level - 1]
            elif top == "netreduce":
                base = ROOT / "src"
            elif "scripts" in file.parts and (file.parent / f"{top}.py").exists():
                base = file.parent
            else:
                names |= {top} - sys.stdlib_module_names
                continue
            parts = module.split(".") if module else []
            paths = [base.joinpath(*parts[: end + 1]) for end in range(len(parts))] + [
                base.joinpath(*parts, member) for member in members
            ]
            files |= {
                found
                for path in paths
                for found in (path.with_suffix(".py"), path / "__init__.py")
                if found.is_file()
            }
    return names, files - {ROOT / "src/netreduce/__init__.py"}


def _running(node):
    """Nodes of a syntax tree that run: not those for type checkers only."""
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            yield child
            yield from _running(child)


def formats(rule):
    """Suffixes of the network files that a rule reads and writes; all of them where its input
    depends on the config.
    """
    if callable(dict(rule.input.items()).get("weights")):
        return set(READERS.values())
    return {Path(str(path)).suffix for path in [*rule.input, *rule.output] if not callable(path)}


def needed(rule):
    """Packages, by their names on PyPI, that a rule's script imports, directly and through the
    project's modules.
    """
    waiting, seen, names = scripts(rule), set(), set()
    unread = {
        ROOT / f"src/netreduce/formats/{module}.py"
        for module, suffix in READERS.items()
        if suffix not in formats(rule)
    }
    if rule.name != "export":  # certificates export networks for other verifiers; no step does that
        unread.add(ROOT / "src/netreduce/formats/export.py")
    if rule.name == "reduce":  # imports the technique by name
        waiting |= {module_file(technique.module) for technique in TECHNIQUES.values()}
    if rule.name == "data":  # finds the files in packages without importing them
        names |= {
            source.module
            for entry in DATASETS.values()
            for source in entry.sources
            if isinstance(source, PythonPackage)
        }
    while waiting:
        file = waiting.pop()
        seen.add(file)
        found, files = imports(file)
        names |= found
        waiting |= files - seen - unread
    return {ON_PYPI.get(name, name) for name in names}


def scripts(rule):
    """The scripts that a rule runs: one, or each figure's own."""
    if rule.name == "figure":
        return set((ROOT / "workflow/scripts/figures").glob("*.py"))
    return {ROOT / rule.input.script}


def module_file(module):
    path = ROOT / "src" / module.replace(".", "/")
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def environment(step):
    """Packages of an environment with their versions."""
    content = yaml.safe_load((ROOT / "envs" / f"{step}.yaml").read_text())
    assert content.keys() == {"channels", "dependencies"}
    assert content["channels"] == ["conda-forge"]
    return dict(
        re.fullmatch(r"([a-z0-9-]+) ?=([\d.]+)", dependency).groups()
        for dependency in content["dependencies"]
    )


def pinned(*files):
    """Versions in requirements files for the Python of the environments."""
    found = {}
    for file in files:
        for name, version, marker in re.findall(
            r"^([A-Za-z0-9_.-]+)(?:\[[^\]]+\])?==([^ ;\\\n]+)(?: *; *([^\\\n]+))?",
            (ROOT / file).read_text(),
            re.M,
        ):
            if "python_full_version >=" not in marker:
                found[canonicalize_name(name)] = version
    return found


@pytest.mark.parametrize("step", ENVIRONMENTS)
def test_environment_holds_what_the_step_imports_and_no_more(step, rules):
    wanted = {"python"}
    for rule in rules:
        if (
            rule.conda_env
            and Path(str(rule.conda_env)).stem == step
            and "script" in dict(rule.input.items())
        ):
            wanted |= {ON_CONDA_FORGE.get(name, name) for name in needed(rule) - NOT_ON_CONDA_FORGE}
    wanted |= {"tensorflow"} if "keras" in wanted else set()  # Keras needs a backend
    assert set(environment(step)) == wanted


@pytest.mark.parametrize("step", ENVIRONMENTS)
def test_environment_and_requirements_agree_on_versions(step):
    versions = pinned("requirements.txt", "requirements-torch.txt")
    on_pypi = {conda: name for name, conda in ON_CONDA_FORGE.items()}
    dependencies = environment(step)
    assert dependencies.pop("python") == "3.11"
    assert dependencies == {name: versions[on_pypi.get(name, name)] for name in dependencies}


def test_every_rule_that_runs_a_script_names_an_environment_and_leaks_nothing_into_it(rules):
    for rule in rules:
        assert not (rule.is_script or rule.is_run or rule.is_notebook or rule.is_wrapper), (
            f"{rule.name}: only shell keeps Snakemake's packages out"
        )
        if rule.shellcmd:
            assert Path(str(rule.conda_env)).stem in ENVIRONMENTS, rule.name
    assert not any("snakemake" in environment(step) for step in ENVIRONMENTS)


def test_every_environment_is_used(rules):
    assert {Path(str(rule.conda_env)).stem for rule in rules if rule.conda_env} == set(ENVIRONMENTS)


def test_requirements_are_what_is_imported_and_pinned_exactly():
    direct, everything = (
        pinned("requirements.in", "requirements-torch.txt"),
        pinned("requirements.txt", "requirements-torch.txt"),
    )
    assert direct.items() <= everything.items()
    packages = set().union(*(environment(step) for step in ENVIRONMENTS)) - {"python"}
    on_pypi = {conda: name for name, conda in ON_CONDA_FORGE.items()}
    around = {
        "snakemake",
        "pygments",
        "tensorflow-cpu",
        "ai-edge-litert",
        "cyclopts",
        "rich",
        "pyarrow",
    }  # the workflow, its reports, TensorFlow and LiteRT on Linux x86-64, the command line
    assert set(direct) == {on_pypi.get(name, name) for name in packages} | around


def test_what_torch_needs_is_pinned():
    wanted = {
        canonicalize_name(re.match(r"[\w.-]+", line)[0])
        for line in metadata.requires("torch")
        if "extra ==" not in line
    }
    cuda = {name for name in wanted if re.match("nvidia|cuda|triton", name)}
    assert wanted - cuda <= pinned("requirements.txt").keys()


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-test.txt"])
def test_every_pin_has_hashes(file):
    text = (ROOT / file).read_text()
    entries = re.split(r"\n(?=\S)", re.sub(r"^\s*#.*\n?", "", text, flags=re.M).strip())
    for entry in entries:
        assert re.match(r"[a-z0-9._-]+(\[[a-z0-9,_-]+\])?==\S+", entry), entry
        assert "--hash=sha256:" in entry, entry
    assert not re.search(r"^(nvidia|cuda|triton)", text, re.M)


def test_pins_have_the_extras_that_others_ask_for():
    """pip 23, which Python 3.11 brings, takes the newest version of an extra that is not pinned as
    such, and stops because it has no hash.
    """
    pins: dict[str, set[str]] = {}
    for file in ("requirements.txt", "requirements-test.txt"):
        text = (ROOT / file).read_text()
        for name, extras in re.findall(r"^([A-Za-z0-9_.-]+)(?:\[([^\]]+)\])?==", text, re.M):
            pins.setdefault(canonicalize_name(name), set()).update(filter(None, extras.split(",")))
    installed = {canonicalize_name(each.name) for each in metadata.distributions()}
    asked = {
        (canonicalize_name(wanted.name), extra)
        for name in pins.keys() & installed
        for wanted in map(Requirement, metadata.requires(name) or ())
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        for extra in wanted.extras
    }
    assert ("coverage", "toml") in asked
    assert {(name, extra) for name, extra in asked if extra not in pins[name]} == set()


def test_snakemake_reads_the_workflow_without_numpy():
    code = (
        "import sys; sys.modules.update(dict.fromkeys(['numpy', 'scipy', 'h5py', 'pandas',"
        " 'torch'])); from netreduce.chains import steps"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT / "src", check=True)
