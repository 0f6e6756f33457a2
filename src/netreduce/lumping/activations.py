"""Data-driven lumping, for comparison: by activations on samples, with a least-squares correction
of the next layers.
"""

import numpy as np

from netreduce.folding.batch_norm import pads

from .approximate import cluster
from .draft import Mixture, Step, reading_weights

RIDGE = 1e-8  # of the mean square of the activations: keeps the least squares solvable
BATCH = 256


class Activations:
    """Chooses the merges of a region from the activations that samples cause: a callable for
    `exact.merge`.

    A channel may join another when the cosine between their activations is at least 1 − tolerance;
    those that never act on the samples go as well. The cost of a merge is the root mean square of
    what it changes, times the norm of the weights that read it. All channels that stay then take
    over, by least squares.

    Parameters
    ----------
    samples : ndarray
    tolerance, limit, most
        As for `approximate.Approximate`.
    """

    def __init__(self, samples, tolerance, limit=np.inf, most=np.inf):
        self.samples, self.tolerance, self.limit, self.most = samples, tolerance, limit, most
        self.costs = []

    def __call__(self, draft, region, description, reach) -> Step:
        network, channels = draft.network, len(description.pivot)
        sources = {consumer: network.sources[consumer][0] for consumer in region.consumers}
        features = {
            tensor: channels * region.multipliers[tensor]
            for tensor in {description.close, *sources.values()}
        }
        moments = _moments(network, features, self.samples)
        products = moments[description.close][0]
        squares = np.diag(products)
        reading = np.sqrt(
            sum(
                _squared_weights(network.layers[consumer], channels, region.multipliers[source])
                for consumer, source in sources.items()
            )
        )
        silent = np.flatnonzero(squares == 0)[: channels - 1]
        live = np.setdiff1d(np.arange(channels), silent)

        def assess(j, i):
            j, i = live[j], live[i]
            ratio = products[j, i] / squares[i]
            return ratio, np.sqrt(np.maximum(squares[j] - ratio * products[j, i], 0)) * reading[j]

        sizes = np.sqrt(np.outer(squares[live], squares[live]))
        cosines = np.divide(
            products[np.ix_(live, live)], sizes, out=np.zeros_like(sizes), where=sizes > 0
        )
        before = len(self.costs)
        merges = cluster(
            cosines,
            np.zeros(len(live), bool),
            1 - self.tolerance,
            lambda cost, made: cost <= self.limit and before + made < self.most,
            assess,
        )
        self.costs += [cost for *_, cost in merges]
        into = np.full(channels, -1)
        ratio = np.zeros(channels)
        for j, i, c, _ in merges:
            into[live[j]], ratio[live[j]] = live[i], c
        gone = np.union1d(silent, np.flatnonzero(into >= 0)).astype(int)
        keep = np.setdiff1d(np.arange(channels), gone)
        mixtures = {
            consumer: _least_squares(
                *moments[source],
                keep,
                gone,
                region.multipliers[source],
                pads(network.layers[consumer], network.shapes[source]),
            )
            for consumer, source in sources.items()
        }
        return Step(
            region.producer,
            gone,
            into[gone],
            ratio[gone],
            np.where(into[gone] >= 0, "multiple", "constant"),
            mixtures,
        )


def _moments(network, features, samples):
    """By tensor, given the number of its features: their mean products and means, positions
    counting as samples.
    """
    sums = {
        tensor: (np.zeros((count, count)), np.zeros(count), 0) for tensor, count in features.items()
    }
    for start in range(0, len(samples), BATCH):
        for index, value in enumerate(
            network.activations(samples[start : start + BATCH].astype(np.float64))
        ):
            if index in sums:
                rows = value.reshape(-1, features[index])
                products, totals, count = sums[index]
                sums[index] = products + rows.T @ rows, totals + rows.sum(axis=0), count + len(rows)
            if index == max(sums):
                break
    return {
        tensor: (products / count, totals / count)
        for tensor, (products, totals, count) in sums.items()
    }


def _squared_weights(layer, channels, multiplier):
    return (reading_weights(layer.kernel, channels, multiplier) ** 2).sum(axis=(0, 2, 3))


def _least_squares(products, means, keep, gone, multiplier, padded):
    """The mixture of the channels that stay that is nearest to each that goes; with a constant,
    unless a convolution pads.
    """
    weights, shifts = [], []
    for k in range(multiplier):
        here, there = keep * multiplier + k, gone * multiplier + k
        center = means * (not padded)
        covariance = products - np.outer(center, center)
        inner = covariance[np.ix_(here, here)]
        ridge = RIDGE * max(np.trace(inner) / len(here), np.finfo(float).tiny)
        weights.append(
            np.linalg.solve(inner + ridge * np.eye(len(here)), covariance[np.ix_(here, there)]).T
        )
        shifts.append(center[there] - weights[-1] @ center[here])
    return Mixture(np.stack(weights), np.stack(shifts, axis=-1)[None])
