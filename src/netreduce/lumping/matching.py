"""Channels of one signature, found by sorting random projections."""

from collections.abc import Sequence

import numpy as np

from .regions import EPSILON
from .signatures import Part, Ray

PROJECTIONS = 4  # the first sorts the channels, the others spare comparisons


def match(rays: Sequence[Ray], order: np.ndarray) -> np.ndarray:
    """For every channel the first one in `order` that has its signature, or −1 for that one itself
    and for channels not in `order`.

    A channel is compared in full only with those whose random projections are as near as equal
    signatures would have them, so the time is O(channels · entries) unless a class is large.
    """
    channels = rays[0].parts[0].vectors.shape[-1]
    leaders = np.full(channels, -1)
    if len(order) < 2:
        return leaders
    parts = [part for ray in rays for part in ray.parts]
    projections, reach = _project(parts)
    sorting = order[np.argsort(projections[0][order], kind="stable")]
    keys = projections[0][sorting]
    widest = reach[0][order].max()
    low = np.searchsorted(keys, keys - (reach[0][sorting] + widest), "left")
    high = np.searchsorted(keys, keys + (reach[0][sorting] + widest), "right")
    place = np.empty(channels, int)
    place[sorting] = np.arange(len(sorting))
    rank = np.full(channels, channels)
    rank[order] = np.arange(len(order))
    for leader in order[(high - low)[place[order]] > 1]:
        if leaders[leader] >= 0:
            continue
        others = sorting[low[place[leader]] : high[place[leader]]]
        others = others[(rank[others] > rank[leader]) & (leaders[others] < 0)]
        apart = np.abs(projections[:, others] - projections[:, [leader]])
        others = others[(apart <= reach[:, others] + reach[:, [leader]]).all(axis=0)]
        leaders[_equal(parts, leader, others)] = leader
    return leaders


def _equal(parts: Sequence[Part], leader: int, others: np.ndarray) -> np.ndarray:
    """Those of some channels that have the signature of another."""
    for part in parts:
        if len(others):
            (mine, size), (theirs, sizes) = part.of(np.array([leader])), part.of(others)
            near = np.abs(theirs - mine) <= part.tolerance * (sizes + size)
            others = others[near.all(axis=(0, 1))]
    return others


def _project(parts: Sequence[Part]) -> tuple[np.ndarray, np.ndarray]:
    """Random projections of the signatures, shape (PROJECTIONS, channels), and how far rounding can
    move them.
    """
    rng = np.random.default_rng(0)
    channels = parts[0].vectors.shape[-1]
    projections, reach = np.zeros((2, PROJECTIONS, channels))
    for part in parts:
        vectors = part.vectors.reshape(-1, channels)
        directions = rng.standard_normal((PROJECTIONS, len(vectors)))
        sizes = vectors if part.sizes is None else part.sizes.reshape(vectors.shape)
        projections = projections + directions @ vectors / part.scale
        # over the largest, so that squares do not underflow
        largest = np.abs(sizes).max(axis=0, initial=0)
        unit = sizes / np.where(largest > 0, largest, 1)
        lengths = largest * np.sqrt(np.einsum("ij,ij->j", unit, unit)) / part.scale
        tolerance = part.tolerance + len(vectors) * EPSILON  # and the rounding of the products
        reach = reach + tolerance * np.linalg.norm(directions, axis=1)[:, None] * lengths
    return projections, reach
