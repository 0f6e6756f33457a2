"""Certificates on balls around test samples: what the scripts that need them share."""

from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

import numpy as np

from netreduce.certificates import Certificate, certify
from netreduce.data import Dataset
from netreduce.measures.evaluation import threshold
from netreduce.network import Network
from netreduce.network.layers import Dense

Range = tuple[Any, Any]


@dataclass(frozen=True)
class Balls:
    """Balls around the first test samples of a dataset.

    Attributes
    ----------
    samples : ndarray, shape (samples, *input_shape)
    input_range : pair
        Where the balls end.
    classes : bool
        Whether the outputs say a class.
    seconds : float or None
        Limit for each radius.
    """

    samples: np.ndarray
    input_range: Range
    classes: bool
    seconds: float | None = None

    def certify(self, original: Network, reduced: Network, radius: str) -> Certificate:
        """The certificate for balls of a radius, as the configuration has it: 0.01 or 2/255."""

        def certified(first: Network, second: Network, classes: bool) -> Certificate:
            return certify(
                first,
                second,
                self.input_range,
                around=self.samples,
                radius=float(Fraction(radius)),
                seconds=self.seconds,
                classes=classes,
            )

        one_output = original.shapes[-1] == (1,)
        certificate = certified(original, reduced, self.classes and not one_output)
        if self.classes and one_output:
            scores = certified(two_scores(original), two_scores(reduced), True)
            certificate = replace(
                certificate, same_class=scores.same_class, class_differs=scores.class_differs
            )
        return certificate


def balls(
    data: Dataset, count: int, input_range: tuple[float, float], seconds: float | None = None
) -> Balls:
    """The first so many test samples; own data bring their range."""
    return Balls(
        data.images("test", count),
        data.input_range if data.own else input_range,
        data.target == "classes",
        seconds,
    )


def two_scores(network: Network) -> Network:
    """A network with two scores, the second of them the larger one where the only output of the
    given network says class 1.
    """
    limit = threshold(network)
    kernel = np.array([[0.0, 1.0]], network.dtype)
    scores = Dense(kernel, np.array([limit, 0.0], network.dtype))
    sources = [*network.sources, (len(network.layers) - 1,)]
    return Network([*network.layers, scores], network.input_shape, sources)


def summary(certificate: Certificate) -> dict[str, float | None]:
    """Shares and medians over the samples; of each sample the output that deviates most counts.

    `certified_agreement` is the share of samples in whose whole ball both networks certainly give
    one and the same class, `class_differs` that of those in whose ball an input was found to which
    they give different ones; neither is there without classes.
    """
    bound, found = worst(certificate.bound), worst(certificate.found)
    ratios = bound[found > 0] / found[found > 0]
    shares = {}
    if certificate.same_class is not None and certificate.class_differs is not None:
        shares = {
            "certified_agreement": float(np.mean(certificate.same_class)),
            "class_differs": float(np.mean(certificate.class_differs)),
        }
    return {
        **shares,
        "bound": float(np.median(bound)),
        "found": float(np.median(found)),
        "ratio": float(np.median(ratios)) if len(ratios) else None,
        "rounding": float(worst(certificate.rounding).max()),
    }


def worst(values: np.ndarray) -> np.ndarray:
    """The largest of all outputs, for every sample."""
    return values.reshape(len(values), -1).max(axis=1)
