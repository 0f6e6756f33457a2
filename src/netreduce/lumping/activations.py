"""Data-driven lumping, for comparison: by activations on samples, with a least-squares correction
of the next layers.
"""

from collections.abc import Mapping

import numpy as np

from netreduce.folding import pads
from netreduce.network import Network
from netreduce.network.layers import Weighted

from .approximate import cluster
from .draft import Draft, Mixture, Step, reading_weights
from .regions import Region, weighted
from .signatures import Description
from .transport import Reach

RIDGE = 1e-8  # of the mean square of the activations: bounds the least squares' weights
BATCH = 256
Moments = tuple[np.ndarray, np.ndarray]  # mean products of features, and their means


class Activations:
    """Chooses the merges of a region from the activations that samples cause: a callable for
    `exact.merge`.

    A channel may join another that is at least as large when the cosine between their activations
    is at least 1 − tolerance; those that never act on the samples go as well. The cost of a merge
    is the root mean square of what it changes, times the norm of the weights that read it. All
    channels that stay then take over, by least squares.

    Parameters
    ----------
    samples : ndarray
    tolerance, limit, most
        As for `approximate.Approximate`.
    """

    def __init__(
        self,
        samples: np.ndarray,
        tolerance: float,
        limit: float = np.inf,
        most: float = np.inf,
    ):
        self.samples, self.tolerance, self.limit, self.most = samples, tolerance, limit, most
        self.costs: list[float] = []

    def __call__(
        self, draft: Draft, region: Region, description: Description, reach: Reach
    ) -> Step:
        network, channels = draft.network, len(description.pivot)
        sources = {consumer: network.sources[consumer][0] for consumer in region.consumers}
        features = {
            tensor: channels * region.multipliers[tensor]
            for tensor in {description.close, *sources.values()}
        }
        moments = _moments(network, features, self.samples)
        products = moments[description.close][0]
        reading = np.sqrt(
            sum(
                _squared_weights(weighted(network, consumer), channels, region.multipliers[source])
                for consumer, source in sources.items()
            )
        )
        silent = np.flatnonzero(np.diag(products) == 0)[: channels - 1]
        live = np.setdiff1d(np.arange(channels), silent)
        into, ratio = self._clusters(products, reading, live)
        gone = np.union1d(silent, np.flatnonzero(into >= 0)).astype(int)
        keep = np.setdiff1d(np.arange(channels), gone)
        mixtures = {
            consumer: _least_squares(
                moments[source],
                keep,
                gone,
                region.multipliers[source],
                pads(network.layers[consumer], network.shapes[source]),
            )
            for consumer, source in sources.items()
        }
        kinds = np.where(into[gone] >= 0, "multiple", "constant")
        return Step(region.producer, gone, into[gone], ratio[gone], kinds, mixtures)

    def _clusters(
        self, products: np.ndarray, reading: np.ndarray, live: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """For every channel the one that it joins, or −1, and the multiple of it that it is."""
        squares = np.diag(products)

        def assess(j: np.ndarray, i: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            j, i = live[j], live[i]
            ratio = products[j, i] / squares[i]
            return ratio, np.sqrt(np.maximum(squares[j] - ratio * products[j, i], 0)) * reading[j]

        roots = np.sqrt(squares[live])
        sizes = np.outer(roots, roots)
        cosines = np.divide(
            products[np.ix_(live, live)], sizes, out=np.zeros_like(sizes), where=sizes > 0
        )
        # the larger of two stays, so that ratios are at most 1
        rank = np.lexsort((-live, roots)).argsort()
        cosines = np.where(rank[:, None] < rank, cosines, -1)
        before = len(self.costs)
        merges = cluster(
            cosines,
            np.zeros(len(live), bool),
            1 - self.tolerance,
            lambda cost, made: cost <= self.limit and before + made < self.most,
            assess,
        )
        self.costs += [cost for *_, cost in merges]
        into, ratio = np.full(len(squares), -1), np.zeros(len(squares))
        for j, i, c, _ in merges:
            into[live[j]], ratio[live[j]] = live[i], c
        return into, ratio


def _moments(
    network: Network, features: Mapping[int, int], samples: np.ndarray
) -> dict[int, Moments]:
    """By tensor, given the number of its features: their mean products and means, positions
    counting as samples.
    """
    products = {tensor: np.zeros((count, count)) for tensor, count in features.items()}
    totals = {tensor: np.zeros(count) for tensor, count in features.items()}
    counts = dict.fromkeys(features, 0)
    for start in range(0, len(samples), BATCH):
        batch = samples[start : start + BATCH].astype(np.float64)
        for index, value in enumerate(network.activations(batch)):
            if index in features:
                rows = value.reshape(-1, features[index])
                products[index] += rows.T @ rows
                totals[index] += rows.sum(axis=0)
                counts[index] += len(rows)
            if index == max(features):
                break
    return {tensor: (products[tensor] / n, totals[tensor] / n) for tensor, n in counts.items()}


def _squared_weights(layer: Weighted, channels: int, multiplier: int) -> np.ndarray:
    return (reading_weights(layer.kernel, channels, multiplier) ** 2).sum(axis=(0, 2, 3))


def _least_squares(
    moments: Moments, keep: np.ndarray, gone: np.ndarray, multiplier: int, padded: bool
) -> Mixture:
    """The mixture of the channels that stay that is nearest to each that goes; with a constant,
    unless a convolution pads.

    Weights of size w count for as much as an error of RIDGE · w² times the mean square of the
    channels that stay. So there is always one solution, also for identical samples or channels that
    follow from others, and no weight is larger than 5,000 times the size of the channel that goes
    over the root mean square of those that stay.
    """
    products, means = moments
    weights, shifts = [], []
    for k in range(multiplier):
        here, there = keep * multiplier + k, gone * multiplier + k
        center = means * (not padded)
        covariance = products - np.outer(center, center)
        size = float(np.diag(products)[here].mean())
        solved = np.zeros((len(there), len(here)))
        if size > 0:
            inner = covariance[np.ix_(here, here)] / size + RIDGE * np.eye(len(here))
            solved = np.linalg.solve(inner, covariance[np.ix_(here, there)] / size).T
        weights.append(solved)
        shifts.append(center[there] - solved @ center[here])
    return Mixture(np.stack(weights), np.stack(shifts, axis=-1)[None])
