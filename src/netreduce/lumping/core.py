"""The driver: exact, up to a tolerance, down to a number of neurons, or up to a bound."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real

import numpy as np

from netreduce.certificates.attack import representable
from netreduce.certificates.problem import balls as balls_in
from netreduce.errors import ParameterError, SampleError, VerificationError
from netreduce.network import Network

from .activations import Activations
from .approximate import Approximate
from .bound import gains
from .boxes import Box, input_box
from .deviation import Balls, Deviation
from .draft import Draft
from .exact import Choose, exact_step, merge, sweep, sweep_regions
from .record import Lumping, merges_of

MATCHES = ("weights", "activations")
VERIFY_INPUTS = 64  # random ones, and as many corners


def lump(
    network: Network,
    tolerance: float = 0.0,
    input_range: object = None,
    *,
    keep: int | None = None,
    max_bound: float | None = None,
    samples: np.ndarray | None = None,
    match: str = "weights",
    verify: bool = False,
    strict: bool = False,
    around: np.ndarray | None = None,
    radius: float | None = None,
) -> Lumping:
    """Merge neurons (of convolutions: channels) that compute multiples of one another, or nearly
    so.

    By default the function stays the same, and for every input: neurons merge when their weights
    and biases are positive multiples up to the rounding of the parameters (8 units in the last
    place of what was summed; the codes of quantized layers, exactly), identical where the
    activation is not positively homogeneous. Dead and constant neurons go into the next biases;
    neurons that nobody reads go. The neuron that stays is the largest of those that can stand for
    the others without adding to the rounding. Batch normalization, pooling, Flatten, Dropout and
    depthwise convolution between a layer and its readers are seen through. Channels that meet
    others in an Add or a Concatenate merge, exactly, where all layers that make them agree on the
    ratio. The output stays whole, and so do neurons whose merged weights the network's type cannot
    hold, and channels that a grouped or transposed convolution, a product or a normalization reads.

    With a tolerance, a bound or a number of neurons, nearly proportional neurons merge as well, the
    cheapest first: cheap is what moves the outputs least, at worst over the input range. A layer
    quantized before stays so as long as its merged weights lie on its grid, with as many levels as
    they take.

    Parameters
    ----------
    network : Network
    tolerance : float in [0, 1)
        Neurons merge when the cosine between their (weights, bias) is at least 1 − tolerance. 0 is
        exact, or without this limit where keep or max_bound is given.
    input_range : (low, high), optional
        Smallest and largest inputs, numbers or arrays of the network's input_shape, over which the
        bound holds; by default [0, 1]. Arrays can leave out what never happens: pixels that are
        always zero.
    keep : int, optional
        Stop when so many neurons are left in all layers that may be lumped, those beside an Add or
        a Concatenate not counted. Exact merges
        are always made. Merging can end with more, where no two neurons that are left may merge:
        `settings["neurons"]` says how many; `netreduce.select` reaches any number.
    max_bound : float, optional
        Merge as long as no output can move by more than this in real arithmetic; nothing at all
        merges where exact merges, whose parameters are rounded, would exceed it.
    samples : ndarray, shape (samples, *input_shape), optional
        For match="activations".
    match : {"weights", "activations"}
        "activations", for comparison: neurons merge by the cosine between their activations on
        samples, and all that stay take over by least squares.
    verify : bool
        Evaluate both networks on random inputs and on corners of the input range and raise where
        they differ by more than the bound and the rounding of both.
    strict : bool
        Raise where more neurons are left than `keep` asks for.
    around : ndarray, shape (samples, *input_shape), optional
        The bound, and with it `max_bound`, holds in balls around these samples, not on the whole
        range: it is far smaller there. Merges are ordered by what they cost in them.
    radius : float, optional
        Of the balls, as of `certify`.

    Returns
    -------
    Lumping
        `.network`, `.merges`, `.bound`, `.rounding`, `.certified(samples)`, `.record()`.

    Raises
    ------
    ParameterError
        An argument outside its range; parameters that are NaN or infinite; see `strict`.
    UnsupportedLayerError
        A layer of unknown type.
    SampleError
        Samples that are missing, superfluous or of the wrong shape.
    VerificationError
        See `verify`.

    References
    ----------
    Ressi, Romanello, Piazza, Rossi, "Neural Network Reduction with Proportional Lumpability"
    (2022); Prabhakar, "Bisimulations for Neural Network Reduction" (2022).

    Examples
    --------
    The second neuron is twice the first; the weight that reads it goes to the first, times 2:

    >>> from netreduce import Dense, Network, lump
    >>> hidden = Dense([[1.0, 2.0], [-1.0, -2.0]], [0.5, 1.0], "relu")
    >>> network = Network([hidden, Dense([[3.0], [4.0]])], (2,))
    >>> lumping = lump(network)
    >>> [(merge.neuron, merge.into, merge.ratio) for merge in lumping.merges]
    [(0, 1, 0.5)]
    >>> lumping.network.layers[1].kernel
    array([[5.5]])
    >>> bool(lumping.bound[0] < 1e-12)
    True
    """
    box = input_box(network, input_range)
    balls = None
    if around is not None or radius is not None:
        balls = _balls(network, box, around, radius)
        box = input_box(network, (balls.low.min(axis=0), balls.high.max(axis=0)))
    samples = _check(network, tolerance, keep, max_bound, samples, match)
    limited = keep is not None or max_bound is not None
    tolerance = float(tolerance)

    def attempt(limit: float = np.inf, most: float = np.inf) -> Attempt:
        draft = Draft(network)
        sweep_regions(draft)
        base = draft.network
        least = 1.0 if limited and tolerance == 0 else tolerance
        choose: Choose
        if samples is not None:
            choose = Activations(samples, least, limit, most)
        elif limit < 0 or least == 0:
            choose = exact_step
        else:
            choose = Approximate(gains(base.logits()), least, limit, most)
        merge(draft, [box] if balls is None else balls.boxes, choose)
        sweep(draft)
        return Attempt(draft, base, box, getattr(choose, "costs", ()), balls)

    best = _best(attempt, keep, max_bound) if limited else attempt()
    settings = {
        "match": match,
        "tolerance": tolerance,
        "keep": keep,
        "max_bound": max_bound,
        "input_range": [
            float(end.flat[0]) if np.ptp(end) == 0 else end.tolist() for end in (box.low, box.high)
        ],
    }
    if balls is not None:
        settings |= {"around": len(balls.samples), "radius": balls.radius}
    if keep is not None:
        settings["neurons"] = best.neurons
        if strict and best.neurons > keep:
            raise ParameterError(
                f"keep={keep} cannot be reached: no two of the {best.neurons} neurons that are"
                " left may merge"
            )
    lumping = best.lumping(settings)
    if verify:
        check(lumping, box)
    return lumping


@dataclass(frozen=True, eq=False)
class Attempt:
    """A draft that is done, what it was when merging began, and what each merge costs."""

    draft: Draft
    base: Network
    box: Box
    costs: Sequence[float]
    balls: Balls | None = None

    @property
    def neurons(self) -> int:
        """Neurons (channels) left in the layers that may be lumped."""
        return sum(map(len, self.draft.kept.values()))

    @cached_property
    def deviation(self) -> Deviation:
        return Deviation(self.draft, self.base, self.box, self.balls)

    def within(self, bound: float) -> bool:
        """Whether no output can move by more; the quicker bound is looked at first."""
        deviation = self.deviation
        return bool((deviation.quick <= bound).all() or (deviation.bound <= bound).all())

    def lumping(self, settings: dict) -> Lumping:
        draft = self.draft
        return Lumping(
            network=draft.finished() if draft.smaller else draft.original,
            merges=merges_of(draft),
            original=draft.original,
            draft=draft,
            settings=settings,
            deviation=self.deviation,
        )


def _best(attempt: Callable[..., Attempt], keep: int | None, max_bound: float | None) -> Attempt:
    """The attempt with the highest limit on the cost of a merge that keeps enough neurons and the
    bound.
    """
    exact = attempt(limit=-1.0)
    if max_bound is not None and not exact.within(max_bound):
        draft = Draft(exact.draft.original)
        return Attempt(draft, draft.network, exact.box, (), exact.balls)
    fewest = 0 if keep is None else min(keep, exact.neurons)

    def fits(one: Attempt) -> bool:
        return one.neurons >= fewest and (max_bound is None or one.within(max_bound))

    furthest = attempt()
    if fits(furthest):
        return furthest
    limits = np.unique([-1.0, *furthest.costs])
    best, low, high = exact, 0, len(limits) - 1
    while high - low > 1:
        middle = (low + high) // 2
        one = attempt(limits[middle])
        best, low, high = (one, middle, high) if fits(one) else (best, low, middle)
    if keep is not None and best.neurons > fewest:
        one = attempt(limits[high], exact.neurons - fewest)
        best = one if fits(one) else best
    return best


def _balls(network: Network, box: Box, around: np.ndarray | None, radius: float | None) -> Balls:
    if around is None or radius is None:
        missing = "radius" if radius is None else "around"
        raise ParameterError(f"balls need both around and radius, {missing} is missing")
    low, high = balls_in(network, box.low, box.high, around, radius)
    return Balls(np.asarray(around), float(radius), low, high)


def check(lumping: Lumping, box: Box) -> None:
    """Evaluate both networks on random inputs and on corners of the box, or of balls in it.

    Raises
    ------
    VerificationError
        When an output differs by more than the bound and the rounding, or is not a number.
    """
    rng = np.random.default_rng(0)
    shape = (VERIFY_INPUTS, *box.low.shape)
    weights = np.concatenate(
        [
            rng.random(shape),
            rng.integers(0, 2, shape),
            np.zeros((1, *box.low.shape)),
            np.ones((1, *box.low.shape)),
        ]
    )
    balls = lumping.deviation.balls
    if balls is None:
        x = (box.low + weights * (box.high - box.low)).astype(lumping.network.dtype)
    else:
        which = np.arange(len(weights)) % len(balls.low)
        low, high = balls.low[which], balls.high[which]
        x = representable(low + weights * (high - low), low, high, lumping.network.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        before, after = (side.predict(x) for side in (lumping.original, lumping.network))
        difference = np.abs(after.astype(np.float64) - before).max(axis=0)
    allowed = lumping.bound + lumping.rounding
    within = difference <= allowed  # not where either is NaN
    if not within.all():
        worst = int(np.argmax(np.where(within, -np.inf, np.nan_to_num(difference, nan=np.inf))))
        sides = " or ".join(
            name
            for name, outputs in (("original", before), ("lumped", after))
            if not np.isfinite(outputs).all()
        )
        reason = f"; the {sides} network gives values that are not finite" if sides else ""
        raise VerificationError(
            f"lumping: output {worst} differs by {difference.flat[worst]:.3g}, more than the bound"
            f" {allowed.flat[worst]:.3g}{reason}"
        )


def _check(
    network: Network,
    tolerance: float,
    keep: int | None,
    max_bound: float | None,
    samples: np.ndarray | None,
    match: str,
) -> np.ndarray | None:
    """The samples, checked, or None."""
    if not (isinstance(tolerance, Real) and 0 <= tolerance < 1):
        raise ParameterError(f"tolerance must be in [0, 1), found {tolerance!r}")
    if keep is not None and not (isinstance(keep, Integral) and keep >= 1):
        raise ParameterError(f"keep must be a positive number of neurons, found {keep!r}")
    if max_bound is not None and not (isinstance(max_bound, Real) and 0 <= max_bound < np.inf):
        raise ParameterError(f"max_bound must be a number ≥ 0, found {max_bound!r}")
    if match not in MATCHES:
        raise ParameterError(f"match must be one of {', '.join(MATCHES)}, found {match!r}")
    if (samples is not None) != (match == "activations"):
        raise SampleError('samples are for match="activations", and are needed there')
    if samples is None:
        return None
    samples = network.check_samples(samples)
    if not len(samples):
        raise SampleError("no samples")
    return samples
