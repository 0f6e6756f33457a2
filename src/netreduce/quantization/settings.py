"""What can be asked of `quantize`: the methods and their arguments."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from numbers import Integral
from typing import Any

import numpy as np

from netreduce.errors import ParameterError

from .accumulator import Limit
from .adaround import adaround
from .alphabet import RADII, Alphabet, is_number, level_count
from .beacon import beacon
from .comq import comq
from .gpfq import gpfq, gpfq_hard, gpfq_soft
from .gptaq import factorize as factorize_gptaq
from .gptaq import gptaq
from .gptq import factorize as factorize_gptq
from .gptq import gptq
from .msq import msq
from .qronos import factorize as factorize_qronos
from .qronos import qronos
from .spfq import spfq


@dataclass(frozen=True)
class Method:
    """How a method is called: function(weights, those of G, H and the target T = Gw that it needs,
    alphabet, its own options), for codes; or, where `scales` says so, for codes and the alphabet
    that it has chosen.

    `radius` is by default that of its alphabets, where there are samples. `whole` says whether it
    reads all of G, or its lower triangle only; `by_neuron` whether every neuron must have its own
    alphabet; `limited` whether it keeps to a Budget. `factorize`, of those of G and H that it needs
    and the damping, is what it does whatever the weights and alphabet.
    """

    function: Callable
    needs: str = "GH"
    radius: str = "output"
    options: tuple[str, ...] = ()
    whole: bool = False
    scales: bool = False
    by_neuron: bool = False
    limited: bool = False
    factorize: Callable | None = None


METHODS = {
    "gpfq": Method(gpfq, limited=True),
    "gpfq-soft": Method(gpfq_soft, options=("threshold",)),
    "gpfq-hard": Method(gpfq_hard, options=("threshold",)),
    "spfq": Method(spfq, options=("seed",)),
    "msq": Method(msq, needs=""),
    "gptq": Method(gptq, needs="H", options=("damping",), limited=True, factorize=factorize_gptq),
    "gptaq": Method(gptaq, options=("damping",), whole=True, factorize=factorize_gptaq),
    "qronos": Method(
        qronos, needs="TH", options=("damping",), limited=True, factorize=factorize_qronos
    ),
    "adaround": Method(adaround, needs="TH", radius="mse"),
    "comq": Method(comq, needs="TH", radius="mse", scales=True),
    "beacon": Method(beacon, radius="mse", whole=True, scales=True, by_neuron=True),
}


# Methods whose codes `sweeps` improves: not those that choose codes at random or zeros besides the
# alphabet, nor those that sweep themselves.
REFINED = ("msq", "gpfq", "gptq", "gptaq", "qronos", "adaround")

# What the other arguments must be where one is set.
NEEDED: Mapping[str, Mapping[str, object]] = {
    "accumulator_bits": {
        "zero": True,
        "quantize_bias": False,
        "sweeps": 0,
        "correct_bias": False,
    },
    "sweeps": {"power_of_two": False},
    "correct_bias": {"quantize_bias": False},
}

FLAGS = (
    "per_channel",
    "quantize_bias",
    "keep_zeros",
    "activation_order",
    "zero",
    "power_of_two",
    "correct_bias",
)


ALPHABET = ("alphabet_scalar", "radius", "per_channel", "conv")
SWEPT = ("method", "bits", *ALPHABET)  # what tables of sweeps say of a setting


@dataclass(frozen=True)
class Setting:
    """The arguments of `quantize` that say what to do, complete; it documents them."""

    method: str = "gpfq"
    bits: float | Mapping[int | str, float] = 4
    alphabet_scalar: float = 2.0
    conv: str = "channel"
    radius: str = "median"
    per_channel: bool = False
    quantize_bias: bool = False
    keep_zeros: bool = False
    layers: Iterable | None = None
    activation_order: bool = False
    seed: int = 0
    threshold: float | None = None
    damping: float | None = None
    zero: bool = False
    power_of_two: bool = False
    accumulator_bits: int | None = None
    sweeps: int = 0
    correct_bias: bool = False

    @classmethod
    def of(cls, arguments: Mapping[str, Any], samples: bool) -> "Setting":
        """The setting that arguments of `quantize` ask for: where an alphabet scalar or the median
        is among them, what they leave open is as published; else it is what is best, with samples
        or without.
        """
        left_open = [name for name in ALPHABET if arguments.get(name) is None]
        given = {name: value for name, value in arguments.items() if name not in left_open}
        radius = given.get("radius", "median")
        if "alphabet_scalar" in given and radius != "median":
            raise ParameterError(f'alphabet_scalar needs radius="median", found {radius!r}')
        if "alphabet_scalar" in given or given.get("radius") == "median":
            return cls(**given)
        wanted = given.get("method", cls.method)
        radii = [method.radius for name, method in METHODS.items() if name == wanted]
        radius = radii[0] if samples and radii else "mse"
        return cls(**{"conv": "joint", "radius": radius, "per_channel": True, **given})

    def __post_init__(self) -> None:
        if self.method not in tuple(METHODS):
            raise ParameterError(
                f"method must be one of {', '.join(METHODS)}, found {self.method!r}"
            )
        for name in FLAGS:
            if not isinstance(value := getattr(self, name), bool | np.bool_):
                raise ParameterError(f"{name} must be True or False, found {value!r}")
        self._check_layers()
        for bits in self.bits.values() if isinstance(self.bits, Mapping) else [self.bits]:
            level_count(bits, self.zero)
        if not (is_number(self.alphabet_scalar) and self.alphabet_scalar > 0):
            raise ParameterError(
                f"alphabet_scalar must be a positive number, found {self.alphabet_scalar!r}"
            )
        if self.radius not in RADII:
            raise ParameterError(
                f"radius must be one of {', '.join(map(repr, RADII))}, found {self.radius!r}"
            )
        if self.conv not in ("channel", "joint"):
            raise ParameterError(f"conv must be 'channel' or 'joint', found {self.conv!r}")
        for name in ("seed", "sweeps"):
            value = getattr(self, name)
            if not (is_number(value) and isinstance(value, Integral) and value >= 0):
                raise ParameterError(f"{name} must be a whole number not below 0, found {value!r}")
        self._check_method()
        for name, needed in NEEDED.items():
            for other, wanted in needed.items():
                if getattr(self, name) and getattr(self, other) != wanted:
                    raise ParameterError(f"{name} needs {other}={wanted!r}")

    def _check_layers(self) -> None:
        if isinstance(self.bits, Mapping) and self.layers is not None:
            raise ParameterError("bits for each layer name the layers: leave out `layers`")
        chosen = self.selection
        if chosen is None:
            return
        if isinstance(chosen, str) or not isinstance(chosen, Iterable):
            raise ParameterError(f"layers must be a list of indices or names, found {chosen!r}")
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(chosen))  # an iterator could be read once
        for layer in self.selection or ():
            if not isinstance(layer, str | Integral) or isinstance(layer, bool | np.bool_):
                raise ParameterError(f"layers are named by index or name, found {layer!r}")

    def _check_method(self) -> None:
        """Of arguments that are not for every method."""
        method = METHODS[self.method]
        if method.scales and (self.radius == "output" or self.power_of_two):
            excluded = 'radius="output"' if self.radius == "output" else "power_of_two"
            raise ParameterError(
                f"{excluded} is not for method {self.method!r}, which fits its scales to the"
                " outputs itself"
            )
        if self.sweeps and self.method not in REFINED:
            raise ParameterError(
                f"sweeps is not for method {self.method!r}; methods whose codes it improves:"
                f" {', '.join(REFINED)}"
            )
        for name in ("threshold", "damping"):
            value = getattr(self, name)
            if value is not None and name not in method.options:
                raise ParameterError(f"method {self.method!r} has no {name}")
            if value is not None and not (is_number(value) and value >= 0):
                raise ParameterError(f"{name} must be a number not below 0, found {value!r}")
        bits = self.accumulator_bits
        if bits is not None and not (is_number(bits) and bits in range(2, 33)):
            raise ParameterError(
                f"accumulator_bits must be a whole number from 2 to 32, found {bits!r}"
            )
        if bits is not None and not method.limited:
            known = ", ".join(name for name, method in METHODS.items() if method.limited)
            raise ParameterError(
                f"accumulator_bits is not for method {self.method!r}; methods that keep to it:"
                f" {known}"
            )

    @property
    def selection(self) -> Iterable | None:
        """Indices or names of the layers that are meant; None for all."""
        return self.layers if not isinstance(self.bits, Mapping) else list(self.bits)

    def of_layer(self, index: int, name: str) -> "Setting":
        """The setting with the bits of one layer."""
        if not isinstance(self.bits, Mapping):
            return self
        if name in self.bits and index in self.bits:
            raise ParameterError(f"bits name a layer twice, {name!r} and {index}")
        return replace(self, bits=self.bits[name if name in self.bits else index])

    @property
    def width(self) -> float:
        """The bits, where they are the same for all layers that are meant."""
        assert not isinstance(self.bits, Mapping)
        return self.bits

    @property
    def by_neuron(self) -> bool:
        """Whether every neuron or output channel has its own alphabet."""
        return self.per_channel or METHODS[self.method].by_neuron

    @property
    def chooses_scales(self) -> bool:
        """Whether scales are chosen besides the codes, by the method or the sweeps after it."""
        return METHODS[self.method].scales or self.sweeps > 0

    @property
    def needs(self) -> frozenset[str]:
        """Which of G, H and T are read by the method and by what is chosen besides."""
        fits = self.radius == "output" or self.sweeps or self.correct_bias
        return frozenset(METHODS[self.method].needs + ("TH" if fits else ""))

    @property
    def whole(self) -> bool:
        """Whether all of G is read, where it is read at all, or its lower triangle only."""
        return METHODS[self.method].whole or self.activation_order or "T" in self.needs

    def run(
        self,
        weights: np.ndarray,
        given: Mapping[str, Any],
        alphabet: Alphabet,
        pruned: np.ndarray | None = None,
        limit: Limit | None = None,
    ) -> tuple[np.ndarray, Alphabet]:
        """Codes by the method, of weights in groups (see `gram`), and their alphabet; `given` are
        those of G, H and T that it needs.
        """
        method = METHODS[self.method]
        options = self._options
        if "seed" in options:
            options["rng"] = np.random.default_rng(options.pop("seed"))
        if limit is not None:
            options["budget"] = limit.budget(alphabet.scale, weights.shape[2])
        if "factors" in given:
            options["factors"] = given["factors"]
        matrices, order = self._ordered(given, method.needs)
        if order is not None:
            weights = np.take_along_axis(weights, order, 1)
            pruned = None if pruned is None else np.take_along_axis(pruned, order, 1)
        found = method.function(weights, *matrices, alphabet, pruned=pruned, **options)
        codes, chosen = found if method.scales else (found, alphabet)
        if order is not None:
            in_order, codes = codes, np.empty(weights.shape)
            np.put_along_axis(codes, order, in_order, 1)
        return codes, chosen

    def factorized(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        """`given` with what the method makes of it whatever the alphabet, for several runs."""
        factorize = METHODS[self.method].factorize
        if factorize is None:
            return given
        matrices, _ = self._ordered(given, METHODS[self.method].needs.replace("T", ""))
        return {**given, "factors": factorize(*matrices, **self._options)}

    @property
    def _options(self) -> dict[str, Any]:
        """Options of the method that are set."""
        names = METHODS[self.method].options
        return {name: value for name in names if (value := getattr(self, name)) is not None}

    def _ordered(
        self, given: Mapping[str, Any], letters: str
    ) -> tuple[list[np.ndarray], np.ndarray | None]:
        """Those of G, H and T in the order of the walk, and that order where it is not the
        inputs' own.
        """
        matrices = [given[letter] for letter in letters]
        if not (self.activation_order and matrices):
            return matrices, None
        norms = np.diagonal(given["H"], axis1=1, axis2=2)
        order = np.argsort(-norms, axis=1, kind="stable")[:, :, None]
        rows = [np.take_along_axis(matrix, order, 1) for matrix in matrices]
        across = order.transpose(0, 2, 1)
        return [
            matrix if letter == "T" else np.take_along_axis(matrix, across, 2)
            for letter, matrix in zip(letters, rows, strict=True)
        ], order
