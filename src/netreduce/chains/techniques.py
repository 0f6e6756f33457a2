"""The table of reduction techniques.

A technique is a function from a Network to a Network. `TECHNIQUES` says for each name which
function it is and which parameters it takes; whatever lists, sweeps, draws or reports techniques
reads this table, so a new technique is one module and one line here.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from numbers import Real
from typing import TypeGuard

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
    needs : mapping of str to object
        The values that other parameters must have, if any, where this one has any but its default.
    """

    allowed: str
    accepts: Callable[[object], bool]
    default: object = REQUIRED
    needs: Mapping[str, object] = field(default_factory=dict)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a finite real number, not true or false."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


def _integer(low: int, default: int) -> Parameter:
    return Parameter(
        f"a whole number from {low}",
        lambda value: is_number(value) and value == int(value) and value >= low,
        default,
    )


def _choice(*values: str) -> Parameter:
    return Parameter(" or ".join(values), lambda value: value in values, values[0])


def _flag(default: bool) -> Parameter:
    return Parameter("true or false", lambda value: isinstance(value, bool), default)


FLAG = _flag(True)
FRACTION = Parameter("a number in (0, 1]", lambda value: is_number(value) and 0 < value <= 1)
TOLERANCE = Parameter("a number in [0, 1)", lambda value: is_number(value) and 0 <= value < 1, 0)
PART = Parameter("a number from 0 to 1", lambda value: is_number(value) and 0 <= value <= 1, 0)
BITS = Parameter(
    "1.58 (ternary) or a whole number from 2 to 8",
    lambda value: is_number(value) and value in (1.58, *range(2, 9)),
)
WHOLE_BITS = Parameter(
    "a whole number from 2 to 8", lambda value: is_number(value) and value in range(2, 9)
)
ACCUMULATOR = Parameter(
    "a whole number from 2 to 32",
    lambda value: value is None or (is_number(value) and value in range(2, 33)),
    None,
    {"zero": True, "sweeps": 0, "correct_bias": False},
)
SCALAR = Parameter(
    "a positive number, best (chosen on the validation images), or null (not as published)",
    lambda value: value in (None, "best") or (is_number(value) and value > 0),
    None,
    {"radius": "median"},
)
RADIUS = Parameter(
    "median, max, mse, output, or null (median with an alphabet scalar, else the method's best)",
    lambda value: value in (None, "median", "max", "mse", "output"),
    None,
)
CONVOLUTIONS = Parameter(
    "joint, channel, or null (channel with radius median, else joint)",
    lambda value: value in (None, "joint", "channel"),
    None,
)
BY_NEURON = Parameter(
    "true, false, or null (true, unless the radius is median)",
    lambda value: value is None or isinstance(value, bool),
    None,
)
DAMPING = Parameter(
    "a number not below 0, or null (the method's own)",
    lambda value: value is None or (is_number(value) and value >= 0),
    None,
)


def _positive(default: object = REQUIRED) -> Parameter:
    return Parameter("a positive number", lambda value: is_number(value) and value > 0, default)


@dataclass(frozen=True)
class Technique:
    """One line of the table.

    Attributes
    ----------
    title : str
        Name in tables and figures.
    family : str
        quantization, activations, mixed precision, lumping, pruning, factorization, folding,
        repair, training. Techniques of a family are drawn alike.
    function : str
        "module:function". It is called as function(network, **parameters), and gets besides those
        of these arguments that it names: `samples` (training images), `training` and `validation`
        (pairs of samples and labels), `input_range` (of the samples), `original` (the network that
        the chain began with), `seed`. It returns a Network, or an object with a Network as its
        attribute `network`.
    parameters : mapping of str to Parameter
        The first one is the one that `name: value` sets.
    fixed : mapping
        Arguments that the line itself sets; None for `samples` withholds them from a function that
        could do without.
    analog : bool
        Whether it needs floating-point weights, so that it cannot follow a quantizer.
    on_grid : bool
        Whether it needs weights on grids, so that it must follow a quantizer.
    """

    title: str
    family: str
    function: str
    parameters: Mapping[str, Parameter] = field(default_factory=dict)
    fixed: Mapping[str, object] = field(default_factory=dict)
    analog: bool = False
    on_grid: bool = False

    @property
    def quantizes(self) -> bool:
        """Whether its networks have weights on grids."""
        return self.family in ("quantization", "mixed precision")

    @property
    def rounds_activations(self) -> bool:
        """Whether its networks have activations on grids."""
        return self.family == "activations"

    @property
    def module(self) -> str:
        """Module that holds the function."""
        return self.function.partition(":")[0]

    def load(self) -> Callable:
        """The function itself."""
        return getattr(import_module(self.module), self.function.partition(":")[2])


def _quantizer(title: str, method: str, **more: Parameter) -> Technique:
    """A quantizer with all choices of alphabets; and with sweeps after it, SPFQ alone without."""
    sweeps = {} if method == "spfq" else {"sweeps": _integer(0, 0)}
    parameters = {
        "bits": BITS,
        "alphabet_scalar": SCALAR,
        "conv": CONVOLUTIONS,
        "radius": RADIUS,
        "per_channel": BY_NEURON,
        "zero": _flag(False),
        "correct_bias": _flag(False),
        **sweeps,
    }
    return _quantization(title, {**parameters, **more}, {"method": method})


def _fitter(title: str, method: str, **parameters: Parameter) -> Technique:
    """A quantizer without a choice of alphabets: it chooses its scales itself, of whole output
    channels, beginning with those of the least squared rounding error, or keeps these.
    """
    fixed = {"method": method, "conv": "joint", "radius": "mse"}
    return _quantization(title, {"bits": BITS, **parameters, "zero": _flag(False)}, fixed)


def _quantization(
    title: str, parameters: Mapping[str, Parameter], fixed: Mapping[str, object]
) -> Technique:
    return Technique(
        title,
        "quantization",
        "netreduce.quantization.validated:quantize_validated",
        parameters,
        fixed,
        analog=True,
    )


def _pruner(title: str, method: str, **parameters: Parameter) -> Technique:
    return Technique(
        title,
        "pruning",
        "netreduce.pruning:prune",
        {"fraction": FRACTION, **parameters, "fold": FLAG},
        {"method": method},
    )


TECHNIQUES = {
    "gpfq": _quantizer("GPFQ", "gpfq", accumulator_bits=ACCUMULATOR),
    "msq": _quantizer("MSQ", "msq"),
    "gptq": _quantizer("GPTQ", "gptq", damping=DAMPING, accumulator_bits=ACCUMULATOR),
    "qronos": _quantizer("Qronos", "qronos", damping=DAMPING, accumulator_bits=ACCUMULATOR),
    "spfq": _quantizer("SPFQ", "spfq"),
    "gptaq": _quantizer("GPTAQ", "gptaq", damping=DAMPING),
    "adaround": _fitter("AdaRound", "adaround", per_channel=FLAG),
    "comq": _fitter("COMQ", "comq", per_channel=FLAG),
    "beacon": _fitter("Beacon", "beacon"),
    "activations": Technique(
        "Activations",
        "activations",
        "netreduce.quantization.activations:quantize_activations",
        {
            "bits": WHOLE_BITS,
            "method": _choice("mse", "minmax", "percentile"),
            "symmetric": _flag(False),
        },
    ),
    "mixed": Technique(
        "Mixed precision",
        "mixed precision",
        "netreduce.quantization.allocation:allocate_kilobytes",
        {"kilobytes": _positive(), "method": _choice("gptaq", "gpfq", "gptq", "qronos")},
        analog=True,
    ),
    "lump": Technique(
        "Lumping", "lumping", "netreduce.lumping:lump", {"tolerance": TOLERANCE}, {"samples": None}
    ),
    "nnrelief": _pruner("NNrelief", "nnrelief", iterations=_integer(1, 1), epochs=_integer(0, 0)),
    "magnitude": _pruner("Magnitude", "magnitude", scope=_choice("global", "layer")),
    "structured": _pruner("Structured", "structured"),
    "select": Technique(
        "Selection",
        "pruning",
        "netreduce.pruning.selection:select",
        {
            "fraction": FRACTION,
            "method": _choice("elimination", "variance", "greedy", "thinet", "lasso"),
            "multiple": _integer(1, 1),
        },
        analog=True,
    ),
    "fold_neurons": Technique(
        "Model folding",
        "pruning",
        "netreduce.pruning.fold_neurons:fold_neurons",
        {"fraction": FRACTION, "repair": FLAG},
        analog=True,
    ),
    "lossless": Technique("Lossless", "lumping", "netreduce.pruning.lossless:lossless"),
    "lowrank": Technique(
        "Low rank",
        "factorization",
        "netreduce.factorization:lowrank",
        {"fraction": FRACTION},
        analog=True,
    ),
    "retrain": Technique(
        "Retraining",
        "training",
        "netreduce.training.retraining:retrain_on",
        {
            "epochs": _integer(1, 1),
            "distil": PART,
            "shift": _integer(0, 0),
            "flip": _flag(False),
            "precision": _choice("float32", "bfloat16"),
        },
        analog=True,
    ),
    "finetune": Technique(
        "Fine-tuning",
        "training",
        "netreduce.training.finetuning:finetune_on",
        {"epochs": _integer(1, 1), "scales": _flag(False), "distil": PART},
        on_grid=True,
    ),
    "fold_batch_norm": Technique(
        "Fold batch norm", "folding", "netreduce.folding:fold_batch_norm", analog=True
    ),
    "equalize": Technique("Equalization", "folding", "netreduce.folding:equalize", analog=True),
    "magr": Technique(
        "MagR",
        "folding",
        "netreduce.quantization.magr:magr",
        {"strength": _positive(0.05)},
        analog=True,
    ),
    "repair": Technique(
        "Repair",
        "repair",
        "netreduce.repair:repair",
        {"what": _choice("bias", "batch_norm", "least_squares")},
    ),
}
