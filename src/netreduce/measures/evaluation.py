"""How good a network is: accuracy with its uncertainty, squared error, agreement with another
network, spread over seeds.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from netreduce.errors import ParameterError, SampleError
from netreduce.network import Network
from netreduce.network.layers import Activation

from .kinds import MEASURES, Measure, measure_for

if TYPE_CHECKING:
    from netreduce.data import Dataset

Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution
TOP = 5
THRESHOLDS = {"linear": 0.0, "sigmoid": 0.5, "hard_sigmoid": 0.5}  # of one output


@dataclass(frozen=True)
class Evaluation:
    """Accuracy of a network on samples of known classes.

    Attributes
    ----------
    accuracy : float
        Share of samples classified as labelled.
    low, high : float
        95 % confidence interval of the accuracy (Wilson).
    correct, samples : int
    agreement : float or None
        Share of samples on which the network and the reference predict the same class.
    top5 : float or None
        Share of samples whose class has one of the five highest scores; None up to five classes.
    auc : float or None
        Area under the receiver operating characteristic of a network with one output; None for
        others, and where only one class occurs.
    """

    accuracy: float
    low: float
    high: float
    correct: int
    samples: int
    agreement: float | None = None
    top5: float | None = None
    auc: float | None = None


@dataclass(frozen=True)
class Deviation:
    """How far the outputs of a network are from numbers they should be.

    Attributes
    ----------
    mean_squared_error : float
        Over all samples and outputs.
    low, high : float
        95 % confidence interval of the mean squared error (normal approximation over the samples).
    r2 : float or None
        1 − (sum of squared errors) / (sum of squared distances of the targets from their mean),
        all outputs together; None for targets that are all alike.
    samples : int
    relative_difference : float or None
        ‖outputs − reference's outputs‖ / ‖reference's outputs‖ (Frobenius norm, all samples).
    """

    mean_squared_error: float
    low: float
    high: float
    r2: float | None
    samples: int
    relative_difference: float | None = None


@dataclass(frozen=True)
class Spread:
    """Mean of a few repeated measurements and how far they scatter.

    Attributes
    ----------
    mean, std, minimum, maximum : float
        std is the sample standard deviation (n − 1), 0 for a single value.
    count : int
    """

    mean: float
    std: float
    minimum: float
    maximum: float
    count: int


@dataclass(frozen=True, eq=False)
class Trial:
    """Samples, what a network should answer on them, and the measure of how well it does.

    Attributes
    ----------
    x : ndarray, shape (samples, *input_shape)
    y : ndarray
        Classes (int) or numbers (float), as `evaluate` takes them.
    measure : Measure
    """

    x: np.ndarray
    y: np.ndarray
    measure: Measure

    def score(self, network: Network) -> float:
        """The measure of a network."""
        return float(getattr(evaluate(network, self.x, self.y, self.y), self.measure.name))

    def pair(self) -> tuple[np.ndarray, np.ndarray]:
        """(x, y)."""
        return self.x, self.y


def evaluate(
    network: Network, x: np.ndarray, y: np.ndarray, reference: Network | np.ndarray | None = None
) -> Evaluation | Deviation:
    """Compare a network's outputs with classes or numbers, and with another network. A network
    whose weights and activations lie on grids is evaluated in integers (`IntegerNetwork`).

    Parameters
    ----------
    network : Network
        Its output is one score per class; or one score for two classes, a logit or behind a
        sigmoid; or the numbers themselves.
    x : ndarray, shape (samples, *input_shape)
    y : ndarray of int, shape (samples,); or of float, shape (samples, outputs) or (samples,)
        Class of every sample; or, as floating-point numbers, what the outputs should be.
    reference : Network or ndarray, optional
        A network; or, where many networks are compared with the same one, its predicted classes
        (`predict_classes`), of numbers its outputs.

    Returns
    -------
    Evaluation for classes, Deviation for numbers

    Raises
    ------
    SampleError
        No samples, labels that do not fit the samples or the network's outputs, or a reference with
        another number of predictions.

    Examples
    --------
    >>> import numpy as np
    >>> from netreduce import Dense, Network, evaluate
    >>> network = Network([Dense(np.eye(2))], (2,))
    >>> found = evaluate(network, np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([0, 0]))
    >>> found.accuracy, found.samples
    (0.5, 2)
    >>> evaluate(network, np.eye(2), np.array([[1.0, 0.0], [0.0, 3.0]])).mean_squared_error
    1.0
    """
    x, y = _check_labels(network, x, y)
    if isinstance(reference, Network):
        reference = reference.predict(x) if _numbers(y) else predict_classes(reference, x)
    return judge(network, network.predict(x), y, reference)


def judge(
    network: Network, outputs: np.ndarray, y: np.ndarray, reference: np.ndarray | None = None
) -> Evaluation | Deviation:
    """As `evaluate`, of outputs that something else computed for the network: a runtime.

    Parameters
    ----------
    outputs : ndarray, shape (samples, *outputs)
    """
    y = np.asarray(y)
    if _numbers(y) and y.ndim == 1:
        y = y[:, None]
    if _numbers(y):
        return _deviation(outputs.reshape(y.shape), y, reference)
    predicted = classes_of(network, outputs)
    agreement = None
    if reference is not None:
        expected = np.asarray(reference)
        if expected.shape != y.shape:
            raise SampleError(
                f"reference predictions must have shape {y.shape}, one per sample, found"
                f" {expected.shape}"
            )
        agreement = float(np.mean(predicted == expected))
    correct = int(np.count_nonzero(predicted == y))
    scores = outputs.shape[1]
    return Evaluation(
        correct / len(y),
        *wilson_interval(correct, len(y)),
        correct,
        len(y),
        agreement,
        top5=_top(outputs, y) if scores > TOP else None,
        auc=_auc(outputs[:, 0], y == 1) if scores == 1 else None,
    )


def trial(
    data: "Dataset", split: str, original: Network | None = None, count: int | None = None
) -> Trial:
    """The first `count` samples of a split (all by default) as a trial; where they have no labels,
    what the original network answers is right.

    Raises
    ------
    SampleError
        No labels, and no original network.
    """
    x = data.images(split, count)
    measure = measure_for(data.target, data.labelled)
    if data.labelled:
        return Trial(x, data.targets(split, count), measure)
    if original is None:
        raise SampleError(f"{data.path}: without labels, an original network to compare with")
    y = (
        predict_classes(original, x)
        if measure.share
        else original.predict(x).reshape(len(x), -1).astype(np.float64)
    )
    return Trial(x, y, measure)


def merit(network: Network, x: np.ndarray, y: np.ndarray) -> float:
    """A number that is larger for better networks: the accuracy, or minus the mean squared error;
    arguments and errors as for `evaluate`.
    """
    found = evaluate(network, x, y)
    if isinstance(found, Evaluation):
        return found.accuracy
    return MEASURES["mean_squared_error"].merit(found.mean_squared_error)


def accuracy(network: Network, x: np.ndarray, y: np.ndarray) -> float:
    """Share of samples that the network classifies as labelled; arguments and errors as for
    `evaluate`.
    """
    x, y = _check_labels(network, x, y)
    return float(np.mean(predict_classes(network, x) == y))


def top_accuracies(
    network: Network,
    batches: Iterable[np.ndarray],
    labels: np.ndarray,
    ranks: Sequence[int] = (1, 5),
    progress: Callable[[int, int], object] | None = None,
) -> tuple[float, ...]:
    """Share of samples whose label is among the k highest scores, for samples too many to hold in
    memory.

    Parameters
    ----------
    network : Network
    batches : iterable of ndarray, shape (n, *input_shape)
    labels : ndarray of int, shape (samples,)
        In the order in which the batches come.
    ranks : sequence of int
        The k.
    progress : callable, optional
        Called as progress(samples done, samples in all) after each batch.

    Raises
    ------
    SampleError
        No samples, or another number of labels than of samples.
    """
    hits, done = np.zeros(len(ranks), int), 0
    for batch in batches:
        order = np.argsort(-network.predict(batch), axis=-1, kind="stable")
        if done + len(batch) <= len(labels):
            found = order == labels[done : done + len(batch), None]
            hits += [np.count_nonzero(found[:, :k]) for k in ranks]
        done += len(batch)
        if progress:
            progress(done, len(labels))
    if done != len(labels) or not done:
        raise SampleError(
            f"evaluation needs as many labels as samples, and at least one, found {len(labels)}"
            f" labels and {done} samples"
        )
    return tuple((hits / done).tolist())


def predict_classes(network: Network, x: np.ndarray) -> np.ndarray:
    """Class with the largest score for every sample, shape (samples,); of a network with one
    output, 1 where it is above 0, or above 0.5 behind a sigmoid.
    """
    return classes_of(network, network.predict(x))


def wilson_interval(successes: int, trials: int) -> tuple[float, float]:
    """95 % confidence interval of a binomial proportion: the score interval of Wilson (1927).

    Its coverage stays near 95 % up to proportions close to 1 (Brown, Cai and DasGupta, 2001), where
    accuracies are.
    """
    if not 0 <= successes <= trials or trials == 0:
        raise ParameterError(
            f"successes must lie between 0 and a positive number of trials, found {successes} of"
            f" {trials}"
        )
    share, ratio = successes / trials, Z_95**2 / trials
    center = (share + ratio / 2) / (1 + ratio)
    half = math.sqrt(share * (1 - share) * ratio + ratio**2 / 4) / (1 + ratio)
    return (0.0 if successes == 0 else center - half), (
        1.0 if successes == trials else center + half
    )


def spread(values: Sequence[float]) -> Spread:
    """Mean and scatter of repeated measurements, such as accuracies over training seeds.

    Raises
    ------
    ParameterError
        No values.
    """
    numbers = np.asarray(values, np.float64)
    if numbers.ndim != 1 or not numbers.size:
        raise ParameterError(
            f"spread needs one or more numbers, found an array of shape {numbers.shape}"
        )
    std = float(numbers.std(ddof=1)) if numbers.size > 1 else 0.0
    return Spread(
        float(numbers.mean()), std, float(numbers.min()), float(numbers.max()), numbers.size
    )


def classes_of(network: Network, outputs: np.ndarray) -> np.ndarray:
    """As `predict_classes`, of outputs that something else computed for the network."""
    if outputs.shape[-1] != 1:
        return np.asarray(outputs.argmax(axis=-1))
    return (outputs[..., 0] > threshold(network)).astype(np.int64)


def threshold(network: Network) -> float:
    """Above what the single output of a network says class 1.

    Raises
    ------
    SampleError
        Its activation is neither linear nor sigmoid.
    """
    last = network.layers[-1]
    activation = last.name if isinstance(last, Activation) else getattr(last, "activation", "")
    if activation not in THRESHOLDS:
        raise SampleError(
            "two classes by one output need a sigmoid or a logit (no activation) at the end, found"
            f" {activation}"
        )
    return THRESHOLDS[activation]


def _deviation(outputs: np.ndarray, y: np.ndarray, reference: np.ndarray | None) -> Deviation:
    outputs = outputs.astype(np.float64)
    errors = ((outputs - y) ** 2).mean(axis=1)
    half = Z_95 * float(errors.std(ddof=1)) / math.sqrt(len(y)) if len(y) > 1 else math.inf
    mean = float(errors.mean())
    spread = float(((y - y.mean(axis=0)) ** 2).sum())
    difference = None
    if reference is not None:
        expected = np.asarray(reference, np.float64)
        if expected.size != y.size or len(expected) != len(y):
            raise SampleError(
                f"the reference must have outputs of shape {y.shape}, found {expected.shape}"
            )
        expected = expected.reshape(y.shape)
        norm, moved = np.linalg.norm(expected), np.linalg.norm(outputs - expected)
        difference = float(moved / norm) if norm else 0.0 if not moved else math.inf
    return Deviation(
        mean,
        max(0.0, mean - half),
        mean + half,
        1 - float(errors.sum()) * y.shape[1] / spread if spread else None,
        len(y),
        difference,
    )


def _top(outputs: np.ndarray, y: np.ndarray) -> float:
    """Share of samples whose class is among the TOP highest scores; of equal ones the first."""
    order = np.argsort(-outputs, axis=1, kind="stable")[:, :TOP]
    return float(np.mean((order == y[:, None]).any(axis=1)))


def _auc(scores: np.ndarray, positive: np.ndarray) -> float | None:
    """Probability that a sample of class 1 has a larger score than one of class 0, ties counted by
    half (Mann and Whitney, 1947).
    """
    ones = int(np.count_nonzero(positive))
    zeros = len(scores) - ones
    if not ones or not zeros:
        return None
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = np.cumsum(counts) - (counts - 1) / 2
    return float((ranks[place[positive]].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def _numbers(y: np.ndarray) -> bool:
    return y.dtype.kind == "f"


def _check_labels(network: Network, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x, y = network.check_samples(x), np.asarray(y)
    shape = network.shapes[-1]
    outputs = math.prod(shape)
    if _numbers(y) and y.shape in ((len(x), outputs), *([(len(x),)] if outputs == 1 else [])):
        if not len(y):
            raise SampleError("evaluation needs at least one sample, found none")
        if not np.isfinite(y).all():
            raise SampleError(
                f"targets must be finite, found {np.count_nonzero(~np.isfinite(y))} NaN or infinite"
                " values"
            )
        return x, y.astype(np.float64).reshape(len(x), outputs)
    if len(shape) != 1:
        raise SampleError(
            f"evaluation needs a network with one score per class, found outputs of shape {shape}"
        )
    if _numbers(y) and y.ndim == 2:
        raise SampleError(
            f"numbers to compare the outputs with must have shape ({len(x)}, {outputs}), found"
            f" {y.shape}"
        )
    if y.shape != (len(x),):
        raise SampleError(f"labels must have shape ({len(x)},), one per sample, found {y.shape}")
    if not len(y):
        raise SampleError("evaluation needs at least one sample, found none")
    classes = max(outputs, 2)
    if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= classes:
        raise SampleError(
            f"labels must be integers from 0 to {classes - 1}, found dtype {y.dtype} from {y.min()}"
            f" to {y.max()}"
        )
    return x, y
