"""What lumping did: the result with its certificate, and a record to save and replay."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from netreduce.errors import ParameterError, SampleError
from netreduce.measures.cost import LayerCost, layer_costs
from netreduce.measures.evaluation import threshold
from netreduce.network import Network

from .boxes import Box
from .deviation import Deviation
from .draft import Draft, Mixture, Step
from .exact import merge
from .regions import Region, weighted
from .signatures import Description
from .transport import Reach, take_out


@dataclass(frozen=True)
class Merge:
    """A neuron (channel) that lumping took out; indices are those of the original network.

    Attributes
    ----------
    layer : str
    neuron : int
    into : int or None
        The neuron that takes over; None where the next biases do, or where nobody read it.
    ratio : float
        What the neuron computes is `ratio` times what `into` computes.
    kind : {"multiple", "constant", "unread"}
    """

    layer: str
    neuron: int
    into: int | None
    ratio: float
    kind: str


@dataclass(frozen=True, eq=False)
class Lumping:
    """A lumped network.

    Attributes
    ----------
    network : Network
    merges : list of Merge

    Examples
    --------
    >>> from netreduce import Dense, Network, lump
    >>> hidden = Dense([[1.0, 2.0], [1.0, 2.01]], [0.0, 0.0], "relu")
    >>> network = Network([hidden, Dense([[1.0], [1.0]])], (2,))
    >>> lumping = lump(network, tolerance=0.01)  # one neuron is nearly twice the other
    >>> lumping.network.layers[1].kernel.shape, lumping.bound.round(4)
    ((1, 1), array([0.0025]))
    """

    network: Network
    merges: list[Merge]
    original: Network = field(repr=False)
    steps: tuple[Step, ...] = field(repr=False)
    settings: dict = field(repr=False)
    deviation: Deviation = field(repr=False)

    @cached_property
    def bound(self) -> np.ndarray:
        """For every output, how far it can be from that of the original network over the input
        range, in real arithmetic: for exact lumping what the rounding of parameters costs. Computed
        when first asked for.
        """
        return self.deviation.bound

    @cached_property
    def rounding(self) -> np.ndarray:
        """What the evaluation of both networks in their floating type can add, for any order of
        summation.
        """
        return self.deviation.rounding

    def certified(self, samples: np.ndarray) -> float:
        """Share of samples on which the bound, with the rounding, rules out that the prediction has
        changed.

        Parameters
        ----------
        samples : ndarray, shape (samples, *input_shape)

        Raises
        ------
        SampleError
            Samples outside the input range (the balls), for which the bound does not hold, or of
            another shape.
        """
        samples = self.original.check_samples(samples)
        self._check_range(samples)
        if not self.steps:
            return 1.0
        outputs = self.network.logits().predict(samples).astype(np.float64)
        bound = self.deviation.of_logits + self.deviation.rounding_of_logits
        if outputs.shape[1] == 1:
            distance = np.abs(outputs - threshold(self.network))
            return float(np.mean(distance > bound))
        rows = np.arange(len(outputs))
        top = outputs.argmax(axis=1)
        reach = outputs + bound
        reach[rows, top] = -np.inf
        return float(np.mean(outputs[rows, top] - bound[top] > reach.max(axis=1)))

    def _check_range(self, samples: np.ndarray) -> None:
        box, balls = self.deviation.box, self.deviation.balls
        if balls is not None:
            outside = [i for i, sample in enumerate(samples) if not balls.hold(sample)]
            if outside:
                raise SampleError(
                    f"{len(outside)} of {len(samples)} samples, the first of them number"
                    f" {outside[0]}, lie in none of the balls in which the bound holds"
                )
            return
        inside = (samples >= box.low) & (samples <= box.high)
        if not inside.all():
            sample, *place = (int(i) for i in np.argwhere(~inside)[0])
            low, high = (end[tuple(place)] for end in (box.low, box.high))
            raise SampleError(
                f"sample {sample} has the value {samples[sample, *place]:.6g} at {tuple(place)},"
                f" outside the input range [{low:.6g}, {high:.6g}] for which the bound holds;"
                " lump with an input_range that holds all samples"
            )

    def record(self) -> dict:
        """What was done, ready for JSON: settings, bound, costs by layer before and after, and the
        steps that `replay` repeats.
        """
        before, after = (
            {layer.name: layer for layer in layer_costs(network)}
            for network in (self.original, self.network)
        )
        multiples = dict.fromkeys(before, 0)
        for merged in self.merges:
            multiples[merged.layer] += merged.kind == "multiple"
        layers = {
            name: {
                "classes": layer.neurons - multiples[name],
                **{
                    f"{count}_{when}": value
                    for when, side in (("before", layer), ("after", after[name]))
                    for count, value in (
                        ("neurons", side.neurons),
                        ("parameters", side.parameters),
                        ("macs", side.macs),
                        ("bits", _bits(side)),
                    )
                },
            }
            for name, layer in before.items()
        }
        steps = [
            {
                "layer": self.original.names[step.producer],
                "neurons": step.neurons.tolist(),
                "into": step.into.tolist(),
                "ratio": step.ratio.tolist(),
                "kinds": step.kinds.tolist(),
                **({"mixtures": _mixtures(self.original, step)} if step.mixtures else {}),
            }
            for step in self.steps
        ]
        return {
            **self.settings,
            "bound": self.bound.tolist(),
            "rounding": self.rounding.tolist(),
            "layers": layers,
            "steps": steps,
        }


def replay(network: Network, record: dict) -> Network:
    """Repeat a recorded lumping.

    Parameters
    ----------
    network : Network
        The one that was lumped, or one of the same layers.
    record : dict
        From `Lumping.record`.

    Returns
    -------
    Network

    Raises
    ------
    ParameterError
        For a record of other layers, or of merges whose weights this network's type cannot hold.

    Examples
    --------
    >>> from netreduce import Dense, Network, lump
    >>> network = Network([Dense([[1.0, 2.0]], activation="relu"), Dense([[3.0], [4.0]])], (1,))
    >>> lumping = lump(network)
    >>> replay(network, lumping.record()).layers[1].kernel
    array([[5.5]])
    """
    draft = Draft(network)
    steps = [_recorded(draft, entry) for entry in record["steps"]]
    forward = {step.producer: step for step in steps if step.kinds[0] != "unread"}
    first = next((k for k, step in enumerate(steps) if step.kinds[0] != "unread"), len(steps))
    for step in steps[:first]:
        take_out(draft, draft.regions[step.producer], _present(draft, step))
    if forward:
        nothing = np.empty(0, int)

        def choose(draft: Draft, region: Region, description: Description, reach: Reach) -> Step:
            empty = Step(region.producer, nothing, nothing, nothing, nothing)
            return _present(draft, forward.get(region.producer, empty))

        merge(draft, Box(np.zeros(network.input_shape), np.zeros(network.input_shape)), choose)
    for step in steps[first + len(forward) :]:
        take_out(draft, draft.regions[step.producer], _present(draft, step))
    for step in steps:
        left = draft.kept[step.producer]
        if np.isin(step.neurons, left).any():
            raise ParameterError(
                f"the record takes neuron {np.intersect1d(step.neurons, left)[0]} out of"
                f" {network.names[step.producer]}; the merged weights are beyond the range of this"
                " network's type"
            )
    return draft.finished()


def _recorded(draft: Draft, entry: dict) -> Step:
    """A step of a record."""
    network, name = draft.original, entry["layer"]
    indices = {network.names[index]: index for index in draft.regions}
    outputs = weighted(network, indices[name]).outputs if name in indices else 0
    if max(*entry["neurons"], *entry["into"]) >= outputs:
        raise ParameterError(
            f"the record takes neurons out of {name}, where this network has none to take out"
        )
    mixtures = {
        network.names.index(consumer): Mixture(
            np.array(mixture["weights"]), np.array(mixture["shift"])
        )
        for consumer, mixture in entry.get("mixtures", {}).items()
    }
    return Step(
        indices[name],
        np.array(entry["neurons"]),
        np.array(entry["into"]),
        np.array(entry["ratio"], float),
        np.array(entry["kinds"]),
        mixtures or None,
    )


def merges_of(network: Network, steps: Iterable[Step]) -> list[Merge]:
    """The steps neuron by neuron."""
    return [
        Merge(
            network.names[step.producer],
            int(neuron),
            int(into) if into >= 0 else None,
            float(ratio),
            str(kind),
        )
        for step in steps
        for neuron, into, ratio, kind in zip(
            step.neurons, step.into, step.ratio, step.kinds, strict=True
        )
    ]


def _present(draft: Draft, step: Step) -> Step:
    """A step in the indices of the channels that are left."""
    left = draft.kept[step.producer]
    return replace(
        step,
        neurons=np.searchsorted(left, step.neurons),
        into=np.where(step.into >= 0, np.searchsorted(left, step.into), -1),
    )


def _mixtures(network: Network, step: Step) -> dict[str, dict[str, list]]:
    return {
        network.names[consumer]: {
            "weights": mixture.weights.tolist(),
            "shift": mixture.shift.tolist(),
        }
        for consumer, mixture in (step.mixtures or {}).items()
    }


def _bits(cost: LayerCost) -> int:
    return round(cost.bits_per_weight * cost.weights + 32 * (cost.parameters - cost.weights))
