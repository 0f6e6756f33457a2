"""Better bounds of the inputs of functions, by cases of the neurons before them."""

import heapq
import time

import numpy as np

from .bounds import Relaxation
from .branching import Search, search_of
from .cases import Reduced
from .functions import Rectifier


def inputs_of(bounds: Relaxation, reduced: Reduced) -> "list[Inputs]":
    """Of all functions but the first, for the sake of a form in what comes of them."""
    weights = np.maximum(-reduced.coefficients()[0].astype(np.float64), 0)
    parts = [
        Inputs(bounds, index, place, weights[start:stop])
        for index, place, start, stop in zip(
            reduced.functions, reduced.places, reduced.ends[:-1], reduced.ends[1:], strict=True
        )
    ]
    return [part for part in parts if part.search is not None]


class Inputs:
    """Bounds of the inputs of some neurons of a function.

    The bounds of a neuron gain about the same part of their distance each time the number of cases
    doubles; what that does to the upper line, times the weight, is what the next case is chosen by.

    Parameters
    ----------
    index : int
        The function.
    place : ndarray of int, shape (neurons,)
    weights : ndarray, shape (neurons,)
        Coefficients of the upper lines.
    """

    def __init__(self, bounds: Relaxation, index: int, place: np.ndarray, weights: np.ndarray):
        self.bounds, self.index = bounds, index
        self.source = bounds.program.nodes[index].sources[0]
        place, weights = place[weights > 0], weights[weights > 0]
        shape, count = bounds.program.shape(self.source), len(place)
        rows = np.zeros((2 * count, int(np.prod(shape))))
        rows[np.arange(2 * count), np.tile(place, 2)] = np.repeat([1.0, -1.0], count)
        self.place = place
        self.search = search_of(bounds, self.source, rows.reshape(-1, *shape)) if count else None
        low, high = (end[self.source].reshape(-1)[place] for end in (bounds.low, bounds.high))
        self.gains = np.concatenate([high**2, low**2]) * np.tile(weights / (high - low), 2)
        self.queue = [(-gain, form) for form, gain in enumerate(self.gains)]
        heapq.heapify(self.queue)
        self.tried = np.ones(len(self.gains), int)

    def tighten(self, most: float, deadline: float) -> int:
        """Better bounds by at most so many cases more; how many there were."""
        if self.search is None:
            return 0
        before = self.search.looked
        while self.search.looked - before < most and time.monotonic() < deadline:
            forms = self._next(self.search)
            if not forms:
                break
            self.search.step(forms)
        lower = np.array([self.search.lower(form) for form in range(len(self.gains))])
        low, high = (np.full_like(self.bounds.low[self.source], end) for end in (-np.inf, np.inf))
        below, above = np.split(np.minimum(lower, 0.0), 2)
        low.reshape(-1)[self.place], high.reshape(-1)[self.place] = below, -above
        self.bounds.tighten(self.source, low, high)
        operator = self.bounds.program.nodes[self.index].operator
        assert isinstance(operator, Rectifier)
        self.bounds.lines[self.index] = operator.lines(
            self.bounds.low[self.source], self.bounds.high[self.source]
        )
        return self.search.looked - before

    def _next(self, search: Search) -> list[int]:
        """The forms to look at."""
        forms: list[int] = []
        left: dict[int, int] = {}
        waiting = []
        while self.queue and len(forms) < search.size:
            gain, form = heapq.heappop(self.queue)
            if search.is_done(form):
                continue
            if not left.setdefault(form, len(search.open[form])):
                waiting.append((gain, form))
                continue
            left[form] -= 1
            forms.append(form)
            self.tried[form] += 1
            heapq.heappush(self.queue, (-self.gains[form] / self.tried[form], form))
        for item in waiting:
            heapq.heappush(self.queue, item)
        return forms
