"""How good a network is: accuracy with its uncertainty, agreement with another network, spread over
seeds.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from netreduce.errors import ParameterError, SampleError
from netreduce.network import Network

Z_95 = 1.959963984540054  # 97.5 % quantile of the normal distribution


@dataclass(frozen=True)
class Evaluation:
    """Accuracy of a network on labelled samples.

    Attributes
    ----------
    accuracy : float
        Share of samples classified as labelled.
    low, high : float
        95 % confidence interval of the accuracy (Wilson).
    correct, samples : int
    agreement : float or None
        Share of samples on which the network and the reference predict the same class.
    """

    accuracy: float
    low: float
    high: float
    correct: int
    samples: int
    agreement: float | None = None


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


def evaluate(
    network: Network, x: np.ndarray, y: np.ndarray, reference: Network | np.ndarray | None = None
) -> Evaluation:
    """Compare a network's predictions with labels, and with another network's predictions.

    Parameters
    ----------
    network : Network
        Its output is one score per class.
    x : ndarray, shape (samples, *input_shape)
    y : ndarray of int, shape (samples,)
        Class of every sample.
    reference : Network or ndarray of int, shape (samples,), optional
        A network, or its predicted classes (`predict_classes`) where many networks are compared
        with the same one.

    Raises
    ------
    SampleError
        No samples, labels that do not fit the samples or the network's outputs, or a reference with
        another number of predictions.
    """
    x, y = _check_labels(network, x, y)
    predicted = predict_classes(network, x)
    agreement = None
    if reference is not None:
        expected = (
            predict_classes(reference, x)
            if isinstance(reference, Network)
            else np.asarray(reference)
        )
        if expected.shape != y.shape:
            raise SampleError(
                f"reference predictions must have shape {y.shape}, one per sample, found"
                f" {expected.shape}"
            )
        agreement = float(np.mean(predicted == expected))
    correct = int(np.count_nonzero(predicted == y))
    return Evaluation(
        correct / len(y), *wilson_interval(correct, len(y)), correct, len(y), agreement
    )


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
    progress: Callable | None = None,
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
    """Class with the largest score for every sample, shape (samples,)."""
    return network.predict(x).argmax(axis=-1)


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
    values = np.asarray(values, np.float64)
    if values.ndim != 1 or not values.size:
        raise ParameterError(
            f"spread needs one or more numbers, found an array of shape {values.shape}"
        )
    std = float(values.std(ddof=1)) if values.size > 1 else 0.0
    return Spread(float(values.mean()), std, float(values.min()), float(values.max()), values.size)


def _check_labels(network, x, y):
    x, y = network.check_samples(x), np.asarray(y)
    if len(network.shapes[-1]) != 1:
        raise SampleError(
            "evaluation needs a network with one score per class, found outputs of shape"
            f" {network.shapes[-1]}"
        )
    if y.shape != (len(x),):
        raise SampleError(f"labels must have shape ({len(x)},), one per sample, found {y.shape}")
    if not len(y):
        raise SampleError("evaluation needs at least one sample, found none")
    classes = network.shapes[-1][0]
    if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= classes:
        raise SampleError(
            f"labels must be integers from 0 to {classes - 1}, found dtype {y.dtype} from {y.min()}"
            f" to {y.max()}"
        )
    return x, y
