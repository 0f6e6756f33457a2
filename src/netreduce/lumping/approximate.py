"""Approximate lumping: channels that are nearly proportional join a representative that stays,
cheapest first.

The cost of a merge is what it can move any output: the largest |σ(z_j) − c σ(z_i)| over the box, c
being the weighted median that minimises it, times the gain from there to the outputs. Clusters are
stars around their representatives, so errors do not chain.
"""

import heapq
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from netreduce.network import Network

from .boxes import Box
from .draft import Draft, Step
from .exact import exact_step
from .regions import EPSILON, Region, weighted
from .signatures import Description, Ray
from .transport import Reach, transport

PAIR_NUMBERS = 1 << 22  # of the weights of pairs that are looked at together
Assess = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
Merge = tuple[int, int, float, float]  # the channel, the one it joins, ratio, cost


class Approximate:
    """Chooses the merges of a region: a callable for `exact.merge`.

    Parameters
    ----------
    gains : dict of int to ndarray
        See `bound.gains`.
    tolerance : float
        Channels merge when the cosine between their (weights, bias) is at least 1 − tolerance.
    limit : float
        Largest cost of one merge.
    most : float
        Number of merges after which no more are made.

    Attributes
    ----------
    costs : list of float
        Of the merges made.
    """

    def __init__(
        self,
        gains: Mapping[int, np.ndarray],
        tolerance: float,
        limit: float = np.inf,
        most: float = np.inf,
    ):
        self.gains, self.tolerance, self.limit, self.most = gains, tolerance, limit, most
        self.costs: list[float] = []

    def __call__(
        self, draft: Draft, region: Region, description: Description, reach: Reach
    ) -> Step:
        step = exact_step(draft, region, description, reach)
        heads = np.zeros(len(description.pivot), bool)
        heads[step.into[step.into >= 0]] = True
        open_ = ~description.constant
        open_[step.neurons] = False
        live = np.flatnonzero(open_)
        before = len(self.costs)
        merges = cluster(
            similarity(description.rays, live),
            heads[live],
            1 - self.tolerance,
            lambda cost, made: cost <= self.limit and before + made < self.most,
            lambda j, i: self._assess(draft.network, region, description, reach, live[j], live[i]),
        )
        self.costs += [cost for *_, cost in merges]
        gone = np.array([merge[0] for merge in merges], int)
        into = np.array([merge[1] for merge in merges], int)
        ratio = np.array([merge[2] for merge in merges], float)
        return Step(
            region.producer,
            np.r_[step.neurons, live[gone]],
            np.r_[step.into, live[into]],
            np.r_[step.ratio, ratio],
            np.r_[step.kinds, _multiples(gone)],
        )

    def _assess(
        self,
        network: Network,
        region: Region,
        description: Description,
        reach: Reach,
        gone: np.ndarray,
        into: np.ndarray,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Ratios and costs of channels joining others."""
        box = reach(network.sources[region.producer][0])
        ratio = _ratios(description, gone, into, box)
        step = Step(region.producer, gone, into, ratio, _multiples(gone))
        return ratio, _costs(network, region, description, step, reach, self.gains)


def cluster(
    similarities: np.ndarray,
    heads: np.ndarray,
    least: float,
    allowed: Callable[[float, int], bool],
    assess: Assess,
) -> list[Merge]:
    """Merge each channel into its most similar one that stays, in the order of cost.

    Parameters
    ----------
    similarities : ndarray, shape (n, n)
    heads : ndarray of bool, shape (n,)
        Channels that must stay because others have joined them.
    least : float
        Similarity that two channels must have.
    allowed : callable
        (cost, number of merges made) → whether to go on.
    assess : callable
        (channels that go, channels that take over) → their ratios and costs.

    Returns
    -------
    list of (channel, into, ratio, cost)
    """
    n = len(similarities)
    similarities = np.where(similarities >= max(least - 8 * EPSILON * n, EPSILON), similarities, -1)
    np.fill_diagonal(similarities, -1)
    heads = heads.copy()
    merges: list[Merge] = []
    nearest = similarities.argmax(axis=1) if n else np.empty(0, int)
    starts = np.flatnonzero((similarities[np.arange(n), nearest] > 0) & ~heads)
    ratios, costs = assess(starts, nearest[starts]) if len(starts) else ((), ())
    queue = [
        (cost, j, nearest[j], ratio) for j, ratio, cost in zip(starts, ratios, costs, strict=True)
    ]
    heapq.heapify(queue)
    gone = np.zeros(n, bool)
    while queue:
        cost, j, i, ratio = heapq.heappop(queue)
        if not allowed(cost, len(merges)):
            break
        if heads[j]:
            continue
        if gone[i]:
            i = np.where(gone, -1, similarities[j]).argmax()
            if similarities[j, i] > 0 and not gone[i]:
                (ratio,), (cost,) = assess(np.array([j]), np.array([i]))
                heapq.heappush(queue, (cost, j, i, ratio))
            continue
        gone[j], heads[i] = True, True
        merges.append((int(j), int(i), float(ratio), float(cost)))
    return merges


def similarity(rays: Sequence[Ray], channels: np.ndarray) -> np.ndarray:
    """Cosines between the rays of channels, the least one where there are several; of identical
    rays 2⟨v, w⟩ / (‖v‖² + ‖w‖²).
    """
    least = np.ones((len(channels), len(channels)))
    for ray in rays:
        vectors = [part.of(channels)[0] for part in ray.parts]
        for row in range(vectors[0].shape[1]):
            products = sum(v[:, row].T @ v[:, row] for v in vectors)
            squares = np.diag(products)
            sizes = (
                (squares[:, None] + squares) / 2
                if ray.identical
                else np.sqrt(squares[:, None] * squares)
            )
            np.minimum(
                least,
                np.divide(products, sizes, out=np.ones_like(sizes), where=sizes > 0),
                out=least,
            )
    return least


def _ratios(description: Description, gone: np.ndarray, into: np.ndarray, box: Box) -> np.ndarray:
    """The c > 0 that minimises the largest |z_j − c z_i| over the box (in the mean of the positions
    of a convolution): a weighted median.
    """
    if description.rays[0].identical:
        return np.ones(len(gone))
    taps = len(description.weights) // box.low.shape[-1]
    center, radius = (
        np.tile(array.reshape(-1, array.shape[-1]).mean(axis=0), taps)
        for array in (box.center, box.radius)
    )
    block = max(1, PAIR_NUMBERS // len(description.weights))
    ratios = [
        _weighted_medians(
            *(
                _terms(description, which[start : start + block], center, radius)
                for which in (gone, into)
            )
        )
        for start in range(0, len(gone), block)
    ]
    return np.concatenate(ratios)


def _terms(
    description: Description, channels: np.ndarray, center: np.ndarray, radius: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The terms of which the largest value over the box is the sum of magnitudes, and the plain
    rows.
    """
    weights, factor = (
        description.weights[:, channels] * description.factor[channels],
        description.factor[channels],
    )
    intercepts = description.intercepts[channels] * factor
    return np.vstack([radius[:, None] * weights, center @ weights + intercepts]), np.vstack(
        [weights, intercepts]
    )


def _weighted_medians(
    mine: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray]
) -> np.ndarray:
    """Where the median is not positive, the projection of one row onto the other."""
    (a, row), (b, other) = mine, theirs
    quotients = np.divide(a, b, out=np.zeros_like(a), where=b != 0)
    order = quotients.argsort(axis=0)
    weights = np.take_along_axis(np.abs(b), order, axis=0).cumsum(axis=0)
    middle = (weights >= weights[-1] / 2).argmax(axis=0)
    medians = np.take_along_axis(
        quotients, np.take_along_axis(order, middle[None], axis=0), axis=0
    )[0]
    projections = (row * other).sum(axis=0) / (other * other).sum(axis=0)
    return np.where(medians > 0, medians, projections)


def _costs(
    network: Network,
    region: Region,
    description: Description,
    step: Step,
    reach: Reach,
    gains: Mapping[int, np.ndarray],
) -> np.ndarray:
    """What each merge of a step can move any output."""
    channels = weighted(network, region.producer).outputs
    _, errors, dropped = transport(network, region, step, description, reach)
    costs = np.zeros(len(step))
    for tensor, error in (
        *errors.items(),
        *((network.sources[consumer][0], error) for consumer, error in dropped.items()),
    ):
        gain = gains[tensor].reshape(-1, channels, error.shape[-1])[:, step.neurons]
        # the gain is that of an error at all positions
        error = error.max(axis=(0, 1)) if error.ndim == 4 else error
        costs += (gain * error).sum(axis=(0, 2))
    return np.where(np.isnan(costs), np.inf, costs)


def _multiples(channels: np.ndarray) -> np.ndarray:
    return np.full(len(channels), "multiple")
