"""Claims as VNN-LIB files: what is written reads back, and says what the certificate says."""

import numpy as np
import onnxruntime
import pytest
from certificates_networks import pair

import netreduce as nr
from netreduce.certificates import read_vnnlib, write_vnnlib

BENCHMARK = """
(vnnlib-version <2.0>)
(declare-network f
  (declare-input X_f Real [5])
  (declare-output Y_f Real [2])
)
(declare-network g
  (isomorphic-to f) ; another one
  (declare-input X_g Real [5])
  (declare-output Y_g Real [2])
)
(assert (and (== X_f[0] X_g[0]) (== X_f[1] X_g[1])))
(assert (>= X_f[0] 0.6)) (assert (<= X_f[0] 0.679857769))
(assert (and (<= -0.5 X_f[1]) (<= X_f[1] 0.5)))
(assert (>= X_g[2] -0.5)) (assert (<= X_g[2] 0.5))
(assert (>= X_f[3] 0.45)) (assert (<= X_f[3] 0.5))
(assert (== X_f[4] -0.45))
(assert (or
  (>= Y_g[0] (+ Y_f[0] 0.05)) (<= Y_g[0] (- Y_f[0] 0.05))
  (> (- Y_g[1] Y_f[1]) 0.05) (< (+ Y_g[1] (* -1 Y_f[1])) -0.05)
))
"""


def test_what_is_written_reads_back(tmp_path):
    original, reduced, random = pair("chain", 3)
    low = random.uniform(-1, 0, original.input_shape)
    high = low + random.random(original.input_shape)
    write_vnnlib(tmp_path, original, reduced, 0.125, (low, high))
    claim = read_vnnlib(tmp_path / "property.vnnlib")
    np.testing.assert_array_equal(claim.low, low)
    np.testing.assert_array_equal(claim.high, high)
    assert claim.epsilon == 0.125
    x = random.uniform(low, high).astype(np.float32)[None]
    for name, network in (("original", original), ("reduced", reduced)):
        session = onnxruntime.InferenceSession(tmp_path / f"{name}.onnx")
        (y,) = session.run(None, {session.get_inputs()[0].name: x})
        np.testing.assert_allclose(y, network.predict(x), rtol=1e-4, atol=1e-5)


def test_other_ways_of_writing_the_same(tmp_path):
    path = tmp_path / "benchmark.vnnlib"
    path.write_text(BENCHMARK)
    claim = read_vnnlib(path)
    np.testing.assert_array_equal(claim.low, [0.6, -0.5, -0.5, 0.45, -0.45])
    np.testing.assert_array_equal(claim.high, [0.679857769, 0.5, 0.5, 0.5, -0.45])
    assert claim.epsilon == 0.05


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<2.0>", "<1.0>", "version"),
        ("(assert (>= X_f[0] 0.6))", "", "no bound"),
        ("X_f[3] 0.45", "X_f[7] 0.45", "outside"),
        ("(== X_f[4] -0.45)", "(== X_f[4] x)", "number"),
        ("(> (- Y_g[1] Y_f[1]) 0.05)", "(> (- Y_g[1] Y_f[1]) 0.06)", "one size"),
        ("(> (- Y_g[1] Y_f[1]) 0.05)", "(> (- Y_g[1] Y_f[0]) 0.05)", "one output"),
        ("(> (- Y_g[1] Y_f[1]) 0.05)", "(> X_f[1] 0.05)", "not a bound"),
        ("(isomorphic-to f)", "(declare-hidden H Real [3])", "not known"),
        ("))\n", ")\n", "not closed"),
        ("(assert (or", "(prove (or", "not known"),
    ],
)
def test_damaged_files(tmp_path, old, new, message):
    path = tmp_path / "benchmark.vnnlib"
    start, end = BENCHMARK.rsplit(old, 1) if old == "))\n" else BENCHMARK.split(old, 1)
    path.write_text(start + new + end)
    with pytest.raises(nr.ModelFileError, match=message):
        read_vnnlib(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(nr.ModelFileError, match="cannot be read"):
        read_vnnlib(tmp_path / "none.vnnlib")
    original, reduced, _ = pair("mlp", 3)
    for epsilon in (-1, "1"):
        with pytest.raises(nr.ParameterError, match=f"epsilon .* found {epsilon!r}"):
            write_vnnlib(tmp_path, original, reduced, epsilon)
    assert not list(tmp_path.iterdir())
