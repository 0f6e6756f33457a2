"""The table of reduction techniques, and chains of them as config.yaml writes them and as paths spell them.

A technique is a function from a Network to a Network. `TECHNIQUES` says for each name which function it is and which parameters it
takes; whatever lists, sweeps, draws or reports techniques reads this table, so a new technique is one module and one line here.

A chain in config.yaml is a list of steps: `[nnrelief: 0.95, gpfq: {bits: 4}, lump]`. A step is a name, a name with the value of its
first parameter, or a name with several parameters. The path of the same chain is
`nnrelief-fraction=0.95/gpfq-bits=4/lump-tolerance=0`: first parameters always, the others where they differ from their defaults.
"""

import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from numbers import Real
from typing import TYPE_CHECKING

from .errors import ParameterError

if TYPE_CHECKING:  # the workflow reads this table where Snakemake runs, which need not have NumPy
    from .network import Network

REQUIRED = object()


@dataclass(frozen=True)
class Parameter:
    """A parameter of a technique.

    Attributes
    ----------
    allowed : str
        What is allowed, in words, for messages.
    accepts : callable
        Whether a value is allowed.
    default : object
        REQUIRED for a parameter without default.
    """

    allowed: str
    accepts: Callable[[object], bool]
    default: object = REQUIRED


def _is_number(value):
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _integer(low, default):
    return Parameter(f"a whole number from {low}", lambda value: _is_number(value) and value == int(value) and value >= low, default)


def _choice(*values):
    return Parameter(" or ".join(values), lambda value: value in values, values[0])


FLAG = Parameter("true or false", lambda value: isinstance(value, bool), True)
FRACTION = Parameter("a number in (0, 1]", lambda value: _is_number(value) and 0 < value <= 1)
TOLERANCE = Parameter("a number in [0, 1)", lambda value: _is_number(value) and 0 <= value < 1, 0)
BITS = Parameter("1.58 (ternary) or a whole number from 2 to 8", lambda value: _is_number(value) and value in (1.58, *range(2, 9)))
SCALAR = Parameter(
    "a positive number, or best (chosen on the validation images)", lambda value: value == "best" or (_is_number(value) and value > 0), "best"
)


@dataclass(frozen=True)
class Technique:
    """One line of the table.

    Attributes
    ----------
    title : str
        Name in tables and figures.
    family : {"quantization", "lumping", "pruning", "factorization", "folding"}
        Techniques of a family are drawn alike.
    function : str
        "module:function". It is called as function(network, **parameters), and gets besides those of these arguments that it names:
        `samples` (training images), `training` and `validation` (pairs of images and labels), `seed`. It returns a Network, or an
        object with a Network as its attribute `network`.
    parameters : mapping of str to Parameter
        The first one is the one that `name: value` sets.
    fixed : mapping
        Arguments that the line itself sets; None for `samples` withholds them from a function that could do without.
    analog : bool
        Whether it needs floating-point weights, so that it cannot follow a quantizer.
    """

    title: str
    family: str
    function: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    fixed: Mapping[str, object] = field(default_factory=dict)
    analog: bool = False

    @property
    def module(self) -> str:
        """Module that holds the function."""
        return self.function.partition(":")[0]

    def load(self) -> Callable:
        """The function itself."""
        return getattr(import_module(self.module), self.function.partition(":")[2])


def _quantizer(title, method):
    parameters = {"bits": BITS, "alphabet_scalar": SCALAR, "conv": _choice("channel", "joint")}
    return Technique(title, "quantization", "netreduce.validated:quantize_validated", parameters, {"method": method}, analog=True)


def _pruner(title, method, **parameters):
    return Technique(title, "pruning", "netreduce.pruning:prune", {"fraction": FRACTION, **parameters, "fold": FLAG}, {"method": method})


TECHNIQUES = {
    "gpfq": _quantizer("GPFQ", "gpfq"),
    "msq": _quantizer("MSQ", "msq"),
    "gptq": _quantizer("GPTQ", "gptq"),
    "qronos": _quantizer("Qronos", "qronos"),
    "spfq": _quantizer("SPFQ", "spfq"),
    "lump": Technique("Lumping", "lumping", "netreduce.lumping:lump", {"tolerance": TOLERANCE}, {"samples": None}),
    "nnrelief": _pruner("NNrelief", "nnrelief", iterations=_integer(1, 1), epochs=_integer(0, 0)),
    "magnitude": _pruner("Magnitude", "magnitude", scope=_choice("global", "layer")),
    "structured": _pruner("Structured", "structured"),
    "lowrank": Technique("Low rank", "factorization", "netreduce.pruning.lowrank:lowrank", {"fraction": FRACTION}, analog=True),
    "fold_batch_norm": Technique("Fold batch norm", "folding", "netreduce.batch_norm:fold_batch_norm", analog=True),
}


@dataclass(frozen=True)
class Step:
    """A technique with the values of all its parameters; str(step) is its part of a path, `parse_step` reads it back.

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
            f"{self.technique.title} {_text(value)}" if name == self._first else f"{name.replace('_', ' ')} {_text(value)}"
            for name, value in self._shown()
        ]
        return ", ".join(words) or self.technique.title

    def __str__(self):
        return "-".join([self.name, *(f"{name}={_text(value)}" for name, value in self._shown())])

    @property
    def _first(self):
        return next(iter(self.technique.parameters), None)

    def _shown(self):
        defaults = {name: parameter.default for name, parameter in self.technique.parameters.items()}
        return [(name, value) for name, value in self.values if name == self._first or value != defaults[name]]

    @property
    def needs_analog(self) -> bool:
        """Whether it cannot follow a quantizer; training leaves the grid."""
        return self.technique.analog or bool(self.parameters.get("epochs"))


def parse_chain(entry) -> tuple[Step, ...]:
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
        raise ParameterError(f"a chain must be a list of one or more steps such as [nnrelief: 0.95, gpfq: {{bits: 4}}], found {entry!r}")
    return _chain(f"chain {_flow(list(entry))}", [lambda part=part: _step(part) for part in entry])


def parse_path(path: str) -> tuple[Step, ...]:
    """The steps of a chain's path, such as nnrelief-fraction=0.95/gpfq-bits=4; raises ParameterError as `parse_chain` does."""
    return _chain(f"chain {path}", [lambda part=part: parse_step(part) for part in path.split("/")])


def parse_step(text: str) -> Step:
    """The step that str(step) spells.

    Raises
    ------
    ParameterError
        For unknown techniques and parameters, values out of range, and any other spelling than that of str(step).
    """
    name, *pairs = re.split(r"-(?=[a-z_]+=)", text)
    values = dict(pair.split("=", 1) for pair in pairs)
    step = _make_step(name, {key: _value(value) for key, value in values.items()})
    if str(step) != text:
        raise ParameterError(f"{text!r} is spelled {step}")
    return step


def apply(step: Step, network: "Network", data, samples: int = 10_000, seed: int = 0) -> "Network":
    """The network that a step makes of a network.

    Parameters
    ----------
    step : Step
    network : Network
    data : netreduce.datasets.Dataset
        Gives training and validation images to techniques that learn from them.
    samples : int
        Number of training images that data-dependent techniques see.
    seed : int
        Of techniques that draw random numbers.
    """
    function = step.technique.load()
    offers = {
        "samples": lambda: data.images("train", samples),
        "training": lambda: (data.images("train"), data.train_labels),
        "validation": lambda: (data.images("validation"), data.validation_labels),
        "seed": lambda: seed,
    }
    wanted = inspect.signature(function).parameters
    offered = {name: offer() for name, offer in offers.items() if name in wanted and name not in step.technique.fixed}
    result = function(network, **offered, **step.technique.fixed, **step.parameters)
    return getattr(result, "network", result)


def _chain(title, readers):
    steps, quantizer = [], None
    for number, read in enumerate(readers, start=1):
        try:
            step = read()
            if quantizer and step.needs_analog:
                raise ParameterError(f"{step} cannot follow {quantizer}: it needs floating-point weights, and {quantizer.name} quantizes them")
        except ParameterError as error:
            raise ParameterError(f"{title}, step {number}: {error}") from None
        quantizer = step if step.technique.family == "quantization" else quantizer
        steps.append(step)
    return tuple(steps)


def _step(part):
    if isinstance(part, str):
        return _make_step(part, {})
    if not isinstance(part, Mapping) or len(part) != 1:
        raise ParameterError(f"a step must be a name, name: value or name: {{parameter: value}}, found {_flow(part)}")
    ((name, value),) = part.items()
    if value is None:
        value = {}
    if not isinstance(value, Mapping):
        first = next(iter(_technique(name).parameters), None)
        if first is None:
            raise ParameterError(f"{name} has no parameters, found {value!r}")
        value = {first: value}
    return _make_step(name, value)


def _technique(name):
    if name not in TECHNIQUES:
        raise ParameterError(f"unknown technique {name!r}; known: {', '.join(TECHNIQUES)}")
    return TECHNIQUES[name]


def _make_step(name, values):
    parameters = _technique(name).parameters
    for unknown in values:
        if unknown not in parameters:
            raise ParameterError(f"{name} has no parameter {unknown!r}; allowed: {', '.join(parameters) or 'none'}")
    complete = []
    for key, parameter in parameters.items():
        value = values.get(key, parameter.default)
        if value is REQUIRED:
            raise ParameterError(f"{name} needs {key}: {parameter.allowed}")
        if not parameter.accepts(value):
            raise ParameterError(f"{name}: {key} must be {parameter.allowed}, found {value!r}")
        complete.append((key, int(value) if _is_number(value) and value == int(value) else value))
    return Step(name, tuple(complete))


def _text(value):
    return str(value).lower() if isinstance(value, bool) else str(value)


def _value(text):
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text


def _flow(entry):
    """An entry of config.yaml as it stands there."""
    if isinstance(entry, Mapping):
        return ", ".join(f"{key}: {{{_flow(value)}}}" if isinstance(value, Mapping) else f"{key}: {_flow(value)}" for key, value in entry.items())
    return f"[{', '.join(map(_flow, entry))}]" if isinstance(entry, list | tuple) else _text(entry)
