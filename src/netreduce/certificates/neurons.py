"""Deciding whether a form is positive on a box by cases of unstable neurons (branch and bound).

Where that would take many cases, the inputs of functions are bounded by cases first. Lines are
closer then, and the cases of the form start again.
"""

import time

import numpy as np

from .bounds import Relaxation
from .branching import search_of
from .cases import TINY32
from .functions import Rectifier
from .inputs import Inputs, inputs_of
from .operators import Linear, Rows
from .program import Program

FIRST_LOOK = 500  # cases after which, and after twice as many, and so on, it is seen how it goes
GAIN = 8  # how many times fewer better bounds of inputs may make them
WORTH = 4  # times as many cases as there were: starting again is worth it
INNER = 1 / 8  # of the cases needed: so many at least should be of inputs
MOST_BYTES = 1 << 31  # of open cases


def can_split(program: Program) -> bool:
    """Whether all that is not linear are ReLUs, of any slope up to 1 below zero."""
    return all(
        isinstance(node.operator, Linear)
        or (isinstance(node.operator, Rectifier) and _can_split(node.operator))
        for node in program.nodes
    )


def _can_split(operator: Rectifier) -> bool:
    steep = np.abs(operator.slope)
    return bool((operator.convex & ((steep == 0) | (steep > TINY32))).all())


def is_positive(
    bounds: Relaxation, node: int, row: np.ndarray, most: int | None, deadline: float
) -> tuple[bool, int]:
    """Whether a form in the values of a node is certainly positive on a box.

    Parameters
    ----------
    bounds : Relaxation
        Of one box; those of the inputs of functions may become tighter.
    row : ndarray
        The form.
    most : int or None
        Cases to look at; as many as there is time for, within MOST_BYTES.
    deadline : float
        Of time.monotonic().

    Returns
    -------
    bool, int
        Whether it is, and how many cases were looked at.
    """
    search = search_of(bounds, node, row[None])
    if search is None:
        return _is_positive_throughout(bounds, node, row), 0
    start, before, inner = time.monotonic(), 0, 0  # cases before this search, those of inputs
    inputs: list[Inputs] | None = None
    look, former = FIRST_LOOK, -np.inf
    fit = MOST_BYTES // (9 * search.reduced.neurons + 400)
    while not search.is_done(0):
        now, looked = time.monotonic(), before + search.looked
        left = fit - search.looked - inner
        left = left if most is None else min(left, most - looked)
        if now > deadline or left <= 0:
            return False, looked
        if search.looked >= look:
            needed = search.looked * 2.0 ** _doublings(former, search.lower(0))
            limit = most if most is not None else looked * (deadline - start) / (now - start)
            if needed > limit * (1 if inner else GAIN):
                return False, looked
            if look > FIRST_LOOK and needed * INNER > inner and needed > WORTH * search.looked:
                inputs = inputs_of(bounds, search.reduced) if inputs is None else inputs
                share = min(2 * needed * INNER, 4 * search.looked, left) / max(len(inputs), 1)
                found = sum(function.tighten(share, deadline) for function in inputs)
                if found:
                    again = search_of(bounds, node, row[None])
                    if again is None:
                        return _is_positive_throughout(bounds, node, row), looked + found
                    inner, before, search = inner + found, looked + found, again
                    look, former = FIRST_LOOK, -np.inf
                    continue
            look, former = 2 * search.looked, search.lower(0)
        search.step([0] * search.size)
    return bool(search.lower(0) > 0), before + search.looked


def _is_positive_throughout(bounds: Relaxation, node: int, row: np.ndarray) -> bool:
    """Without cases."""
    return bool(bounds.lower({node: Rows(row[None] * 1.0)}, np.zeros(1, int)).lower[0] > 0)


def _doublings(former: float, worst: float) -> float:
    """How often the number of cases must double until the worst bound is positive: it gains about
    the same every time.
    """
    if worst == -np.inf:
        return 1000.0
    return min(-worst / max(worst - former, 1e-300), 1000.0)
