"""Branch and bound: the cases of forms that are still open, the worst of each form first."""

import heapq

import numpy as np

from .bounds import Relaxation, run
from .cases import Cases, Half, Reduced

BATCH = 64  # cases at a time and thread


class Search:
    """Cases of some forms, by their lower bounds.

    Attributes
    ----------
    size : int
        How many cases are bounded at a time.
    looked : int
        How many were bounded.
    """

    def __init__(self, reduced: Reduced, threads: bool):
        self.reduced, self.threads, self.looked = reduced, threads, 0
        self.size = BATCH * (2 if threads else 1)
        whole = reduced.whole()
        self.open: list[list[tuple[float, int, Half]]] = [
            [(-np.inf, 0, Half(whole, form, 0, 0))] for form in whole.form
        ]
        self.known = np.full(len(whole), np.inf)  # bounds of cases in which all neurons are known
        self.count = 0

    def lower(self, form: int) -> float:
        """What is certain of a form; infinite where it is positive."""
        heap = self.open[form]
        return min(self.known[form], heap[0][0] if heap else np.inf)

    def is_done(self, form: int) -> bool:
        """Whether more cases tell nothing more."""
        heap = self.open[form]
        return not heap or self.known[form] <= heap[0][0]

    def step(self, forms: list[int]) -> None:
        """Look at the worst case of each of these forms; at several, where one is there again."""
        taken = [heapq.heappop(self.open[form]) for form in forms if self.open[form]]
        self.looked += len(taken)
        groups = [taken[i : i + BATCH] for i in range(0, len(taken), BATCH)]
        cases = [Cases.of([half for _, _, half in group]) for group in groups]
        results = run(self.reduced.improved, cases, self.threads)
        for group, (better, lower, choice) in zip(groups, results, strict=True):
            for i in np.nonzero(~(lower > 0))[0]:
                bound, form = max(float(lower[i]), group[i][0]), better.form[i]
                if choice[i] < 0:
                    self.known[form] = min(self.known[form], bound)
                    continue
                for sign in (-1, 1):
                    self.count += 1
                    half = Half(better, int(i), int(choice[i]), sign)
                    heapq.heappush(self.open[form], (bound, self.count, half))


def search_of(bounds: Relaxation, node: int, rows: np.ndarray) -> Search | None:
    """The cases of forms in the values of a node, of one box; None where no neuron is unstable, or
    too many are.
    """
    reduced = Reduced(bounds, 0, node, rows)
    return Search(reduced, bounds.threads) if reduced.neurons and reduced.fits else None
