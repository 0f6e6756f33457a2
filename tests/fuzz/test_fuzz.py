"""A short run of the fuzzer; a long one: python tests/fuzz/fuzz.py h5 --count 100000"""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "reader", ["h5", "keras", "pth", "safetensors", "pt2", "onnx", "nnet", "txt", "config"]
)
def test_damaged_files_are_read_or_refused(reader):
    done = subprocess.run(
        [
            sys.executable,
            Path(__file__).with_name("fuzz.py"),
            reader,
            "--count",
            "300",
            "--seed",
            "1",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
