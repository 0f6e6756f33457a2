"""What lumping did: the result with its certificate, and a record to save and replay."""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from netreduce.errors import ParameterError, SampleError
from netreduce.measures.cost import LayerCost, layer_costs
from netreduce.measures.evaluation import threshold
from netreduce.network import Network
from netreduce.network.channels import Channels
from netreduce.network.layers import Weighted

from .boxes import Box
from .deviation import Deviation
from .draft import Draft, Heirs, Mixture, Step
from .exact import merge
from .joined import Handed
from .regions import Region, mixes, weighted
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
    draft: Draft = field(repr=False)
    settings: dict = field(repr=False)
    deviation: Deviation = field(repr=False)

    @property
    def steps(self) -> tuple[Step, ...]:
        """What was taken out of layers that meet no others, in order."""
        return tuple(self.draft.steps)

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

    def certified(self, samples: np.ndarray, outputs: np.ndarray | None = None) -> float:
        """Share of samples on which the bound, with the rounding, rules out that the prediction has
        changed.

        Parameters
        ----------
        samples : ndarray, shape (samples, *input_shape)
        outputs : ndarray, shape (samples, scores), optional
            What `network.logits()` computes of them, where that is known.

        Raises
        ------
        SampleError
            Samples outside the input range (the balls), for which the bound does not hold, or of
            another shape.
        """
        samples = self.original.check_samples(samples)
        self._check_range(samples)
        if not self.draft.smaller:
            return 1.0
        if outputs is None:
            outputs = self.network.logits().predict(samples)
        outputs = outputs.astype(np.float64)
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
            for step in self.draft.steps
        ]
        joined = {"readings": _readings(self.draft), "dropped": _dropped(self.draft)}
        return {
            **self.settings,
            "bound": self.bound.tolist(),
            "rounding": self.rounding.tolist(),
            "layers": layers,
            "steps": steps,
            **(joined if self.draft.dropped else {}),
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
    given = {
        _layer(network, entry["layer"]): _handed(network, entry)
        for entry in record.get("readings", ())
    }
    steps = [_recorded(draft, entry) for entry in record["steps"]]
    forward = {step.producer: step for step in steps if step.kinds[0] != "unread"}
    first = next((k for k, step in enumerate(steps) if step.kinds[0] != "unread"), len(steps))
    for step in steps[:first]:
        take_out(draft, draft.regions[step.producer], _present(draft, step))
    if forward or given:
        nothing = np.empty(0, int)

        def choose(draft: Draft, region: Region, description: Description, reach: Reach) -> Step:
            empty = Step(region.producer, nothing, nothing, nothing, nothing)
            return _present(draft, forward.get(region.producer, empty))

        zeros = np.zeros(network.input_shape)
        merge(draft, [Box(zeros, zeros)], choose, given)
    if record.get("dropped"):
        _drop(draft, record["dropped"])
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


def merges_of(draft: Draft) -> list[Merge]:
    """What went, neuron by neuron."""
    network = draft.original
    in_regions = [
        Merge(
            network.names[step.producer],
            int(neuron),
            int(into) if into >= 0 else None,
            float(ratio),
            str(kind),
        )
        for step in draft.steps
        for neuron, into, ratio, kind in zip(
            step.neurons, step.into, step.ratio, step.kinds, strict=True
        )
    ]
    return in_regions + _joined_merges(draft)


def _joined_merges(draft: Draft) -> list[Merge]:
    """Of channels outside of regions. One that has several heirs, each for some layers, is said to
    have none.
    """
    network = draft.original
    classes = Channels(network).classes
    heirs: dict[int, set[int]] = {}
    for reading in draft.readings:
        of_tensor, step = classes[reading.step.producer], reading.step
        for neuron, into in zip(step.neurons, step.into, strict=True):
            heir = int(of_tensor[into]) if into >= 0 else -1
            heirs.setdefault(int(of_tensor[neuron]), set()).add(heir)
    found = []
    for index, neurons in sorted(draft.dropped.items()):
        for neuron in neurons.tolist():
            several = heirs.get(int(classes[index][neuron]), set())
            (into,) = np.nonzero(np.isin(classes[index], list(several)))
            if several == {-1}:
                merge = Merge(network.names[index], neuron, None, 0.0, "constant")
            elif len(several) != 1 or not len(into):
                merge = Merge(network.names[index], neuron, None, 0.0, "unread")
            else:
                ratio = _ratio(weighted(network, index), neuron, int(into[0]))
                merge = Merge(network.names[index], neuron, int(into[0]), ratio, "multiple")
            found.append(merge)
    return found


def _ratio(layer: Weighted, neuron: int, into: int) -> float:
    """Of the largest weights of two neurons, or of their biases."""
    weights = np.abs(layer.kernel.astype(np.float64)).reshape(-1, layer.outputs)
    mine, other = weights[:, neuron].max(initial=0), weights[:, into].max(initial=0)
    if not mine or not other:
        mine, other = (abs(float(layer.bias[k])) for k in (neuron, into))
    return float(mine / other) if other else 0.0


def _readings(draft: Draft) -> list[dict]:
    return [
        {
            "layer": draft.original.names[reading.reader],
            "neurons": reading.step.neurons.tolist(),
            "into": reading.step.into.tolist(),
            "ratio": reading.share.ratio.ravel().tolist(),
            "shift": reading.share.shift.ravel().tolist(),
            "kinds": reading.step.kinds.tolist(),
        }
        for reading in draft.readings
    ]


def _dropped(draft: Draft) -> dict[str, list[int]]:
    return {
        draft.original.names[index]: neurons.tolist()
        for index, neurons in sorted(draft.dropped.items())
    }


def _layer(network: Network, name: str) -> int:
    if name not in network.names:
        raise ParameterError(f"the record is of another network: no layer {name}")
    return network.names.index(name)


def _handed(network: Network, entry: dict) -> Handed:
    """What a layer no longer reads, of a record."""
    index = _layer(network, entry["layer"])
    source = network.sources[index][0]
    channels = network.shapes[source][-1] if source >= 0 else 0
    if max(*entry["neurons"], *entry["into"]) >= channels or not mixes(network.layers[index]):
        raise ParameterError(
            f"the record is of another network: {entry['layer']} does not read so many channels"
        )
    ratio, shift = (np.array(entry[key], float)[None, :, None] for key in ("ratio", "shift"))
    step = Step(
        source,
        np.array(entry["neurons"], int),
        np.array(entry["into"], int),
        ratio.ravel(),
        np.array(entry["kinds"]),
    )
    return step, Heirs(ratio, shift)


def _drop(draft: Draft, recorded: dict[str, list[int]]) -> None:
    """Take out channels that a record says nobody reads."""
    channels = Channels(draft.network)
    gone = []
    for name, neurons in recorded.items():
        classes = channels.classes[_layer(draft.network, name)]
        places = np.array(neurons, int)
        if max(neurons) >= len(classes) or not channels.removable[classes[places]].all():
            raise ParameterError(
                f"the record takes neurons out of {name}, where this network has none to take out"
            )
        gone.append(classes[places])
    draft.drop(channels, np.unique(np.concatenate(gone)))


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
