"""Which measure tells how good a network is: it follows from what the data say of every sample."""

import math
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """What the tables and figures of a dataset measure networks by.

    Attributes
    ----------
    name : str
        Of its columns: accuracy, test_accuracy, validation_accuracy.
    title : str
        In text.
    share : bool
        Whether it is a share of the samples (0 to 1, more is better), or an error (from 0, less is
        better).
    """

    name: str
    title: str
    share: bool

    def merit(self, value: float) -> float:
        """A number that is larger for better values; NaN is the worst.

        >>> MEASURES["accuracy"].merit(0.9), MEASURES["mean_squared_error"].merit(2.5)
        (0.9, -2.5)
        """
        return -math.inf if math.isnan(value) else value if self.share else -value


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("accuracy", "accuracy", share=True),
        Measure("mean_squared_error", "mean squared error", share=False),
        Measure("agreement", "agreement with the original", share=True),
        Measure("relative_difference", "relative difference from the original", share=False),
    )
}


def measure_for(target: str, labelled: bool = True) -> Measure:
    """The measure for data whose samples have classes, numbers or themselves (`input`) as target;
    without labels networks are compared with the original one.

    >>> measure_for("numbers").title, measure_for("classes", labelled=False).title
    ('mean squared error', 'agreement with the original')
    """
    if target == "classes":
        return MEASURES["accuracy" if labelled else "agreement"]
    return MEASURES["mean_squared_error" if labelled else "relative_difference"]


def measure_of(columns: Iterable[str], prefix: str = "") -> Measure:
    """The measure of which a table has a column `<prefix><name>`.

    >>> measure_of(["bits", "test_accuracy"], "test_").name
    'accuracy'
    """
    found = set(columns)
    return next(m for m in MEASURES.values() if f"{prefix}{m.name}" in found)
