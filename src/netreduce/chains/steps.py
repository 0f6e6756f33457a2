"""Chains of techniques, as config.yaml writes them and as paths spell them.

A chain in config.yaml is a list of steps: `[nnrelief: 0.95, gpfq: {bits: 4}, lump]`. A step is a
name, a name with the value of its first parameter, or a name with several parameters. The path of
the same chain is `nnrelief-fraction=0.95/gpfq-bits=4/lump-tolerance=0`: first parameters always,
the others where they differ from their defaults.
"""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from netreduce.errors import ParameterError

from .techniques import REQUIRED, TECHNIQUES, Technique, is_number

if TYPE_CHECKING:  # the workflow reads chains where Snakemake runs, which need not have NumPy
    from netreduce.data import Dataset
    from netreduce.network import Network


@dataclass(frozen=True)
class Step:
    """A technique with the values of all its parameters; str(step) is its part of a path,
    `parse_step` reads it back.

    Attributes
    ----------
    name : str
        Key of TECHNIQUES.
    values : tuple of (str, value) pairs
        Every parameter in the table's order, defaults filled in.
    """

    name: str
    values: tuple[tuple[str, object], ...]

    @property
    def technique(self) -> Technique:
        return TECHNIQUES[self.name]

    @property
    def parameters(self) -> dict[str, object]:
        return dict(self.values)

    @property
    def modules(self) -> tuple[str, ...]:
        """Modules that the step runs."""
        return (self.technique.module,)

    @property
    def label(self) -> str:
        """How figures and tables call the step: GPFQ 4, alphabet scalar 3; NNrelief 0.95."""
        words = [
            (
                f"{self.technique.title} {_text(value)}"
                if name == self._first
                else f"{name.replace('_', ' ')} {_text(value)}"
            )
            for name, value in self._shown()
        ]
        return ", ".join(words) or self.technique.title

    def __str__(self) -> str:
        return "-".join([self.name, *(f"{name}={_text(value)}" for name, value in self._shown())])

    @property
    def _first(self) -> str | None:
        return next(iter(self.technique.parameters), None)

    def _shown(self) -> list[tuple[str, object]]:
        defaults = {
            name: parameter.default for name, parameter in self.technique.parameters.items()
        }
        return [
            (name, value)
            for name, value in self.values
            if name == self._first or value != defaults[name]
        ]

    @property
    def needs_analog(self) -> bool:
        """Whether it cannot follow a quantizer; training leaves the grid, if not made for it."""
        return self.technique.analog or (self.trains and not self.technique.on_grid)

    @property
    def trains(self) -> bool:
        """Whether weights are trained."""
        return bool(self.parameters.get("epochs"))

    @property
    def needs_labels(self) -> bool:
        """Whether it learns from labels."""
        return self.trains and self.parameters.get("distil") != 1


def parse_chain(entry: object) -> tuple[Step, ...]:
    """The steps of a chain of config.yaml.

    Parameters
    ----------
    entry : list
        Steps: "lump", {"nnrelief": 0.95}, {"gpfq": {"bits": 4}}.

    Raises
    ------
    ParameterError
        Names the chain, the step, what is wrong with it and what is allowed.
    """
    if not isinstance(entry, list | tuple) or not entry:
        raise ParameterError(
            "a chain must be a list of one or more steps such as [nnrelief: 0.95, gpfq: {bits:"
            f" 4}}], found {entry!r}"
        )
    return _chain(f"chain {_flow(list(entry))}", [partial(_step, part) for part in entry])


def parse_path(path: str) -> tuple[Step, ...]:
    """The steps of a chain's path, such as nnrelief-fraction=0.95/gpfq-bits=4; raises
    ParameterError as `parse_chain` does.
    """
    return _chain(f"chain {path}", [partial(parse_step, part) for part in path.split("/")])


def parse_step(text: str) -> Step:
    """The step that str(step) spells.

    Raises
    ------
    ParameterError
        For unknown techniques and parameters, values out of range, and any other spelling than that
        of str(step).
    """
    name, *pairs = re.split(r"-(?=[a-z_]+=)", text)
    values = dict(pair.split("=", 1) for pair in pairs)
    step = _make_step(name, {key: _value(value) for key, value in values.items()})
    if str(step) != text:
        raise ParameterError(f"{text!r} is spelled {step}")
    return step


def apply(
    step: Step,
    network: "Network",
    data: "Dataset",
    samples: int = 10_000,
    seed: int = 0,
    original: "Network | None" = None,
) -> "Network":
    """The network that a step makes of a network.

    Parameters
    ----------
    step : Step
    network : Network
    data : netreduce.data.Dataset
        Gives training and validation samples to techniques that learn from them, and the range of
        the inputs.
    samples : int
        Number of training images that data-dependent techniques see.
    seed : int
        Of techniques that draw random numbers.
    original : Network, optional
        The network that the chain began with; by default, that is this one.

    Raises
    ------
    ParameterError
        Data without labels for a step that learns from them; and what the technique raises.
    """
    from netreduce.measures.evaluation import trial

    if step.needs_labels and not data.labelled:
        raise ParameterError(f"{step} learns from labels, and the data have none")
    function = step.technique.load()
    offers = {
        "samples": lambda: data.images("train", samples),
        "training": lambda: trial(data, "train", network).pair(),
        "validation": lambda: trial(data, "validation", network).pair(),
        "input_range": lambda: data.input_range,
        "original": lambda: network if original is None else original,
        "seed": lambda: seed,
    }
    wanted = dict(inspect.signature(function).parameters)
    if not step.trains and "training" in wanted and wanted["training"].default is None:
        del wanted["training"]  # all training samples: not read where nothing is trained
    offered = {
        name: offer()
        for name, offer in offers.items()
        if name in wanted and name not in step.technique.fixed
    }
    result = function(network, **offered, **step.technique.fixed, **step.parameters)
    return getattr(result, "network", result)


def _chain(title: str, readers: Iterable[Callable[[], Step]]) -> tuple[Step, ...]:
    steps: list[Step] = []
    quantizer: Step | None = None
    rounded: Step | None = None
    for number, read in enumerate(readers, start=1):
        try:
            step = read()
            if rounded and not (step.technique.quantizes or step.technique.on_grid):
                raise ParameterError(
                    f"{step} cannot follow {rounded}: only the rounding of weights can, so that it"
                    " makes up for that of the activations, and training on the grid"
                )
            if quantizer and step.needs_analog:
                raise ParameterError(
                    f"{step} cannot follow {quantizer}: it needs floating-point weights, and"
                    f" {quantizer.name} quantizes them"
                )
            if step.parameters.get("accumulator_bits") and not rounded:
                raise ParameterError(
                    f"{step}: accumulator_bits needs activations in a step before: a sum has so"
                    " many bits where both its factors are integers"
                )
        except ParameterError as error:
            raise ParameterError(f"{title}, step {number}: {error}") from None
        quantizer = step if step.technique.quantizes else quantizer
        rounded = step if step.technique.rounds_activations else rounded
        steps.append(step)
    return tuple(steps)


def _step(part: object) -> Step:
    if isinstance(part, str):
        return _make_step(part, {})
    if not isinstance(part, Mapping) or len(part) != 1:
        raise ParameterError(
            f"a step must be a name, name: value or name: {{parameter: value}}, found {_flow(part)}"
        )
    ((name, value),) = part.items()
    if value is None:
        value = {}
    if not isinstance(value, Mapping):
        first = next(iter(_technique(name).parameters), None)
        if first is None:
            raise ParameterError(f"{name} has no parameters, found {value!r}")
        value = {first: value}
    return _make_step(name, value)


def _technique(name: str) -> Technique:
    if name not in TECHNIQUES:
        raise ParameterError(f"unknown technique {name!r}; known: {', '.join(TECHNIQUES)}")
    return TECHNIQUES[name]


def _make_step(name: str, values: Mapping[str, object]) -> Step:
    parameters = _technique(name).parameters
    for unknown in values:
        if unknown not in parameters:
            raise ParameterError(
                f"{name} has no parameter {unknown!r}; allowed: {', '.join(parameters) or 'none'}"
            )
    complete = []
    for key, parameter in parameters.items():
        value = values.get(key, parameter.default)
        if value is REQUIRED:
            raise ParameterError(f"{name} needs {key}: {parameter.allowed}")
        if not parameter.accepts(value):
            raise ParameterError(f"{name}: {key} must be {parameter.allowed}, found {value!r}")
        complete.append((key, int(value) if is_number(value) and value == int(value) else value))
    chosen = dict(complete)
    for key, parameter in parameters.items():
        for other, wanted in parameter.needs.items():
            if chosen[key] != parameter.default and chosen[other] not in (wanted, None):
                raise ParameterError(f"{name}: {key} needs {other}: {_text(wanted)}")
    return Step(name, tuple(complete))


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(text: str) -> object:
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text


def _flow(entry: object) -> str:
    """An entry of config.yaml as it stands there."""
    if isinstance(entry, Mapping):
        return ", ".join(
            f"{key}: {{{_flow(value)}}}" if isinstance(value, Mapping) else f"{key}: {_flow(value)}"
            for key, value in entry.items()
        )
    return f"[{', '.join(map(_flow, entry))}]" if isinstance(entry, list | tuple) else _text(entry)
