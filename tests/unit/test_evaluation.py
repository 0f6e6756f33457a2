import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn.metrics import mean_squared_error, r2_score, roc_auc_score, top_k_accuracy_score

from netreduce.errors import ParameterError, SampleError
from netreduce.measures.evaluation import (
    accuracy,
    evaluate,
    merit,
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


SCORES = np.array([[-1.5], [0.25], [0.75], [0.1], [0.75], [-0.2]], np.float32)
BINARY = np.array([0, 1, 1, 0, 0, 1])


@pytest.mark.parametrize("end", ["linear", "sigmoid"])
def test_two_classes_by_one_output(end):
    network = Network([Dense(np.ones((1, 1), np.float32), activation=end)], (1,))
    found = evaluate(network, SCORES, BINARY, reference=network)
    assert (found.correct, found.samples, found.agreement, found.top5) == (3, 6, 1, None)
    assert found.auc == pytest.approx(roc_auc_score(BINARY, SCORES[:, 0]))
    assert evaluate(network, SCORES[:1], BINARY[:1]).auc is None


def test_one_output_of_another_kind_is_no_class():
    network = Network([Dense(np.ones((1, 1), np.float32), activation="tanh")], (1,))
    with pytest.raises(SampleError, match=r"need a sigmoid or a logit .* found tanh"):
        evaluate(network, SCORES, BINARY)
    with pytest.raises(SampleError, match="integers from 0 to 1, found dtype int64 from 0 to 2"):
        evaluate(Network([Dense(np.ones((1, 1), np.float32))], (1,)), SCORES, 2 * BINARY)


@given(st.integers(0, 1000), st.integers(6, 9), st.integers(1, 40))
def test_the_five_highest_scores(seed, classes, samples):
    random = np.random.default_rng(seed)
    x = random.normal(size=(samples, classes))
    y = random.integers(0, classes, samples)
    found = evaluate(Network([Dense(np.eye(classes))], (classes,)), x, y)
    expected = top_k_accuracy_score(y, x, k=5, labels=np.arange(classes))
    assert found.top5 == pytest.approx(expected)


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(2, 60))
def test_the_area_under_the_curve_with_ties(seed, levels, samples):
    random = np.random.default_rng(seed)
    x, y = random.integers(0, levels + 1, (samples, 1)), random.integers(0, 2, samples)
    found = evaluate(Network([Dense(np.ones((1, 1)))], (1,)), x, y).auc
    if len(set(y)) == 2:
        assert found == pytest.approx(roc_auc_score(y, x[:, 0]))
    else:
        assert found is None


@given(st.integers(0, 1000), st.integers(1, 4), st.integers(2, 60))
def test_numbers(seed, outputs, samples):
    random = np.random.default_rng(seed)
    x, y = random.normal(size=(2, samples, outputs))
    network = Network([Dense(np.eye(outputs))], (outputs,))
    found = evaluate(network, x, y, reference=2 * x)
    assert found.mean_squared_error == pytest.approx(mean_squared_error(y, x))
    assert found.r2 == pytest.approx(r2_score(y, x, multioutput="variance_weighted"))
    assert found.low <= found.mean_squared_error <= found.high
    assert found.relative_difference == pytest.approx(0.5)
    assert merit(network, x, y) == -found.mean_squared_error
    if outputs == 1:
        assert evaluate(network, x, y[:, 0]) == evaluate(network, x, y)


def test_the_interval_of_the_squared_error_covers_it_19_times_in_20():
    random, network = np.random.default_rng(0), Network([Dense(np.eye(1))], (1,))
    found = [
        evaluate(network, np.zeros((400, 1)), random.normal(size=(400, 1))) for _ in range(400)
    ]
    assert 0.92 < np.mean([result.low <= 1 <= result.high for result in found]) < 0.98


def test_an_image_as_target_is_compared_value_by_value():
    network = Network([Conv2D(np.ones((1, 1, 1, 1), np.float32))], (2, 2, 1))
    x = np.arange(8.0).reshape(2, 2, 2, 1)
    assert evaluate(network, x, x.reshape(2, 4) + 1).mean_squared_error == 1


def test_numbers_that_do_not_fit():
    for y, message in (
        (np.zeros((4, 2)), r"must have shape \(4, 3\), found \(4, 2\)"),
        (np.full((4, 3), np.nan), "targets must be finite, found 12 NaN"),
    ):
        with pytest.raises(SampleError, match=message):
            evaluate(IDENTITY, X, y)
    with pytest.raises(SampleError, match="at least one sample"):
        evaluate(IDENTITY, X[:0], np.zeros((0, 3)))
    with pytest.raises(SampleError, match=r"the reference must have outputs of shape \(4, 3\)"):
        evaluate(IDENTITY, X, np.zeros((4, 3)), reference=np.zeros(4))


def test_outputs_that_are_no_numbers_are_the_worst():
    network = Network([Dense(np.full((1, 1), np.nan))], (1,))
    assert merit(network, np.ones((2, 1)), np.ones((2, 1))) == -np.inf


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
