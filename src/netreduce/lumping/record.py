"""What lumping did: the result with its certificate, and a record to save and replay."""

from dataclasses import dataclass, field, replace

import numpy as np

from netreduce.errors import ParameterError
from netreduce.measures.cost import layer_costs
from netreduce.network import Network

from .bound import Box, logits
from .draft import Draft, Mixture, Step
from .exact import merge
from .transport import take_out


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
    bound : ndarray
        For every output, how far it can be from that of the original network, over the input range
        and with the rounding of both in their floating type.
    rounding : ndarray
        The part of it that is due to the evaluation in floating type, at its worst and for any
        order of summation.
    """

    network: Network
    merges: list[Merge]
    bound: np.ndarray
    rounding: np.ndarray
    original: Network = field(repr=False)
    steps: tuple[Step, ...] = field(repr=False)
    settings: dict = field(repr=False)
    logits_bound: np.ndarray = field(repr=False)  # the same before a softmax at the end

    def certified(self, samples) -> float:
        """Share of samples (inside the input range) on which the bound rules out that the
        prediction has changed.

        Parameters
        ----------
        samples : ndarray, shape (samples, *input_shape)
        """
        if not self.steps:
            return 1.0
        outputs = logits(self.network).predict(samples).astype(np.float64)
        rows = np.arange(len(outputs))
        top = outputs.argmax(axis=1)
        reach = outputs + self.logits_bound
        reach[rows, top] = -np.inf
        return float(np.mean(outputs[rows, top] - self.logits_bound[top] > reach.max(axis=1)))

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
        For a record of other layers.
    """
    draft = Draft(network)
    indices = {network.names[index]: index for index in draft.regions}
    steps = []
    for entry in record["steps"]:
        name = entry["layer"]
        if name not in indices or max(entry["neurons"]) >= network.layers[indices[name]].outputs:
            raise ParameterError(
                f"the record takes neurons out of {name}, where this network has none to take out"
            )
        columns = (
            np.array(entry["neurons"]),
            np.array(entry["into"]),
            np.array(entry["ratio"], float),
            np.array(entry["kinds"]),
        )
        mixtures = {
            network.names.index(consumer): Mixture(
                np.array(mixture["weights"]), np.array(mixture["shift"])
            )
            for consumer, mixture in entry.get("mixtures", {}).items()
        }
        steps.append(Step(indices[name], *columns, mixtures or None))
    forward = {step.producer: step for step in steps if step.kinds[0] != "unread"}
    first = next((k for k, step in enumerate(steps) if step.kinds[0] != "unread"), len(steps))
    for step in steps[:first]:
        take_out(draft, draft.regions[step.producer], _present(draft, step))
    if forward:
        nothing = np.empty(0, int)

        def choose(draft, region, description, reach):
            return _present(
                draft,
                forward.get(
                    region.producer, Step(region.producer, nothing, nothing, nothing, nothing)
                ),
            )

        merge(draft, Box(np.zeros(network.input_shape), np.zeros(network.input_shape)), choose)
    for step in steps[first + len(forward) :]:
        take_out(draft, draft.regions[step.producer], _present(draft, step))
    return draft.finished()


def merges_of(network: Network, steps) -> list[Merge]:
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


def _present(draft, step):
    """A step in the indices of the channels that are left."""
    left = draft.kept[step.producer]
    return replace(
        step,
        neurons=np.searchsorted(left, step.neurons),
        into=np.where(step.into >= 0, np.searchsorted(left, step.into), -1),
    )


def _mixtures(network, step):
    return {
        network.names[consumer]: {
            "weights": mixture.weights.tolist(),
            "shift": mixture.shift.tolist(),
        }
        for consumer, mixture in step.mixtures.items()
    }


def _bits(cost):
    return round(cost.bits_per_weight * cost.weights + 32 * (cost.parameters - cost.weights))
