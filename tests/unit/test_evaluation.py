import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from netreduce.errors import ParameterError, SampleError
from netreduce.measures.evaluation import (
    accuracy,
    evaluate,
    predict_classes,
    spread,
    wilson_interval,
)
from netreduce.network import Network
from netreduce.network.layers import Conv2D, Dense

IDENTITY = Network([Dense(np.eye(3, dtype=np.float32))], (3,))
SWAPPED = Network([Dense(np.eye(3, dtype=np.float32)[:, [1, 0, 2]])], (3,))
X = np.eye(3, dtype=np.float32)[[0, 1, 2, 2]]
Y = np.array([0, 1, 2, 0], np.uint8)


def test_accuracy_with_its_interval():
    result = evaluate(IDENTITY, X, Y)
    assert (result.accuracy, result.correct, result.samples, result.agreement) == (0.75, 3, 4, None)
    assert result.low < 0.75 < result.high
    assert accuracy(IDENTITY, X, Y) == 0.75


def test_agreement_with_another_network_or_its_predictions():
    assert evaluate(IDENTITY, X, Y, reference=SWAPPED).agreement == 0.5
    assert evaluate(IDENTITY, X, Y, reference=predict_classes(SWAPPED, X)).agreement == 0.5
    assert evaluate(IDENTITY, X, Y, reference=IDENTITY).agreement == 1


@given(st.integers(1, 20_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_is_wilsons(counts):
    successes, trials = counts
    expected = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson_interval(successes, trials) == pytest.approx(
        (expected.low, expected.high), abs=1e-12
    )


@pytest.mark.parametrize(("successes", "trials"), [(3, 2), (-1, 2), (0, 0)])
def test_impossible_counts(successes, trials):
    with pytest.raises(ParameterError, match=f"found {successes} of {trials}"):
        wilson_interval(successes, trials)


def test_spread_over_seeds():
    result = spread([0.5, 0.7, 0.9])
    assert (result.mean, result.std, result.minimum, result.maximum, result.count) == pytest.approx(
        (0.7, 0.2, 0.5, 0.9, 3)
    )
    assert spread([0.5]).std == 0


@pytest.mark.parametrize("values", [[], [[1.0]]])
def test_spread_of_nothing(values):
    with pytest.raises(ParameterError, match="one or more numbers"):
        spread(values)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, Y[:3], r"labels must have shape \(4,\), one per sample, found \(3,\)"),
        (X[:0], Y[:0], "at least one sample"),
        (X, np.array([0, 1, 2, 3]), "integers from 0 to 2, found dtype int64 from 0 to 3"),
        (X, Y.astype(float), "integers from 0 to 2, found dtype float64"),
        (X[:, :2], Y, r"samples must have shape \(samples, 3\), found \(4, 2\)"),
    ],
)
def test_samples_and_labels_that_do_not_fit(x, y, message):
    with pytest.raises(SampleError, match=message):
        evaluate(IDENTITY, x, y)


def test_reference_predictions_of_other_samples():
    with pytest.raises(
        SampleError, match=r"reference predictions must have shape \(4,\).*found \(3,\)"
    ):
        evaluate(IDENTITY, X, Y, reference=np.array([0, 1, 2]))


def test_a_network_without_one_score_per_class():
    network = Network([Conv2D(np.ones((1, 1, 1, 1), np.float32))], (2, 2, 1))
    with pytest.raises(
        SampleError, match=r"one score per class, found outputs of shape \(2, 2, 1\)"
    ):
        evaluate(network, np.zeros((1, 2, 2, 1)), [0])
