"""The library as one installs it: in an environment with nothing but what its wheel declares."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EVERY_FUNCTION = """
import sys, tempfile
import numpy as np
import netreduce as nr

rng = np.random.default_rng(0)
def normal(*shape):
    return rng.normal(size=shape).astype(np.float32)

norm = nr.BatchNormalization(*np.abs(normal(4, 8)))
layers = [nr.Dense(normal(6, 8), activation="relu"), norm, nr.Dense(normal(8, 3))]
network, x, y = nr.Network(layers, (6,)), normal(100, 6), rng.integers(0, 3, 100)
quantized = nr.quantize(network, x, bits=3)
assert len(list(nr.quantize_many(network, x, [{"bits": 2}, {"bits": 4}]))) == 2
assert nr.cost(quantized).entropy_bytes < nr.cost(network).entropy_bytes
assert nr.lump(quantized, verify=True).network.predict(x).shape == (100, 3)
assert nr.prune(network, x, fraction=0.8).predict(x).shape == (100, 3)
assert nr.select(network, x, fraction=0.5).layers[0].outputs == 4
folded = nr.fold_batch_norm(network)
assert nr.evaluate(folded, x, y, network).agreement == 1
assert nr.certify(folded, nr.quantize(folded, x, bits=8), (-1, 1)).bound.shape == (3,)
assert nr.lump_neural_network
folder = tempfile.mkdtemp()
for suffix in (".h5", ".keras", ".txt"):
    nr.save(quantized, f"{folder}/net{suffix}")
np.testing.assert_array_equal(nr.load(f"{folder}/net.h5").predict(x), quantized.predict(x))
nr.export(quantized, f"{folder}/net.onnx")
difference = np.abs(nr.load(f"{folder}/net.onnx").predict(x) - quantized.predict(x))
assert difference.max() < 1e-4 * np.abs(quantized.predict(x)).max()
assert not {"torch", "tensorflow", "keras", "pandas"} & sys.modules.keys()
np.savez(f"{folder}/data.npz", x=x, y=y)
print(folder)
"""


def check(python, tmp_path):
    """Install the project and run every public function and the command line."""
    source = tmp_path / "source"
    shutil.copytree(ROOT / "src", source / "src", ignore=shutil.ignore_patterns("*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([python, "-m", "venv", tmp_path / "env"], check=True)
    bin_ = tmp_path / "env" / "bin"
    install = [bin_ / "pip", "install", "--quiet", "--disable-pip-version-check", source]
    subprocess.run(install, check=True)

    def run(*command):
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)

    done = run(bin_ / "python", "-c", EVERY_FUNCTION)
    assert done.returncode == 0, done.stderr
    folder = done.stdout.strip()
    network, data = f"{folder}/net.keras", f"{folder}/data.npz"
    version = run(bin_ / "netreduce", "--version").stdout.strip()
    assert f"version: {version}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"## {version}\n" in (ROOT / "CHANGELOG.md").read_text()
    shown = run(bin_ / "netreduce", "evaluate", network, "--data", data)
    assert "accuracy" in shown.stdout, shown.stderr
    command = ["reduce", f"{folder}/net.txt", "--architecture", "mlp:8", "--data", data]
    refused = run(bin_ / "netreduce", *command, "--chain", "nnrelief=0.9-epochs=1", "-o", "x.h5")
    assert refused.returncode == 1, refused.stdout


def test_it_needs_what_it_declares_and_no_more(tmp_path):
    check(sys.executable, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
def test_every_python_that_it_claims(version, tmp_path):
    python = shutil.which(f"python{version}")
    if python is None or subprocess.run([python, "--version"], capture_output=True).returncode:
        pytest.skip(f"no Python {version} here")
    check(python, tmp_path)
