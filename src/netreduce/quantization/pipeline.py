"""Quantization of a whole network: layer after layer, each on the outputs of the quantized layers
before it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields
from numbers import Real
from time import perf_counter
from typing import Any, TypeVar

import numpy as np

from netreduce.errors import ParameterError, UnsupportedLayerError
from netreduce.network import Network
from netreduce.network.layers import Conv2D, Dense, DepthwiseConv2D, Layer, Weighted

from .accumulator import limit_of
from .gram import centred
from .layer import bias_is_weight, corrects_bias, layer_alphabet, layer_weights, quantize_layer
from .propagation import Propagation
from .settings import Setting

T = TypeVar("T")
MEMORY = 1 << 24
QUANTIZABLE = (Dense, Conv2D, DepthwiseConv2D)


def quantize(
    network: Network,
    samples: np.ndarray | Iterable[np.ndarray] | None,
    method: str = "gpfq",
    bits: float | Mapping[int | str, float] = 4,
    alphabet_scalar: float | None = None,
    conv: str | None = None,
    *,
    radius: str | None = None,
    per_channel: bool | None = None,
    quantize_bias: bool = False,
    keep_zeros: bool = False,
    layers: Iterable | None = None,
    activation_order: bool = False,
    seed: int = 0,
    threshold: float | None = None,
    damping: float | None = None,
    zero: bool = False,
    power_of_two: bool = False,
    accumulator_bits: int | None = None,
    sweeps: int = 0,
    correct_bias: bool = False,
    memory: int = MEMORY,
    progress: Callable[[str, int, int], None] | None = None,
) -> Network:
    """Quantize the weights of a network.

    Dense, Conv2D and DepthwiseConv2D layers are quantized one after the other, each on the outputs
    of the already quantized layers before it; all other layers (batch normalization, pooling,
    transposed convolution, ...) stay as they are.

    Parameters
    ----------
    network : Network
    samples : ndarray, shape (samples, *network.input_shape), or iterable of such arrays
        What the method learns from. An iterable of mini-batches must give the same samples each
        time it is iterated; how they are cut into mini-batches does not matter. None will do for
        "msq".
    method : str
        "gpfq" (greedy path-following), "gpfq-soft" and "gpfq-hard" (its sparse modes), "spfq" (its
        stochastic form), "gptq", "gptaq", "qronos", "adaround", "comq", "beacon", or "msq" (every
        weight to its nearest level). The modules of this package cite the papers. "comq" and
        "beacon" choose the scales besides the codes; they begin with those of `radius`, which may
        not be "output", and convolutions need conv="joint".
    bits : number, or mapping of numbers
        2^bits equispaced levels on [−r, r], bits = 2, …, 8; 1.58 stands for log2 3: −r, 0 and r. A
        mapping has the bits of every layer to quantize, by its index or name.
    alphabet_scalar : float, optional
        Asks for the published setting: one alphabet for each layer, r = alphabet_scalar · median
        |W|, and conv="channel". Without it, alphabets and convolutions are those that are best.
    conv : {"joint", "channel"}, optional
        Whether the input channels of a convolution are quantized all together, or every one by
        itself, as the published program does; by default together, unless the radius is "median".
    radius : {"median", "max", "mse", "output"}, optional
        See `make_alphabet`. With "output" the method itself runs with up to 32 radii, each 0.9
        times the last, and the one with the least error of the layer's outputs on the samples is
        kept. By default "median" with an alphabet scalar; else "output", or "mse" without samples
        and for methods that are not for it ("adaround", "comq", "beacon").
    per_channel : bool, optional
        One alphabet for each neuron or output channel, or one for the layer; by default one for
        each, unless the radius is "median". "beacon" always has one for each.
    quantize_bias : bool
        Treat the bias as one more weight, the last one, on a constant input. Where input channels,
        or groups of them, are quantized on their own, the constant is one too, so that the bias
        goes to its nearest level.
    keep_zeros : bool
        Weights that are zero are pruned: they get code 0 and are left out of the radius. The others
        are quantized knowing of them.
    layers : iterable of int or str, optional
        Indices or names of the layers to quantize; by default all that have weights.
    activation_order : bool
        Quantize the weights of a neuron in the order of decreasing ‖X̃_t‖ instead of their own.
    seed : int
        Of the stochastic rounding of "spfq".
    threshold : float, optional
        Of the sparse modes, as a fraction of r.
    damping : float, optional
        Of "gptq", "gptaq" and "qronos", as a fraction of the mean diagonal entry of X̃ᵀX̃; where it
        is given, `sweeps` have it too.
    zero : bool
        2^bits − 1 levels around 0, the integers of that many bits, in place of 2^bits without 0.
    power_of_two : bool
        Scales are powers of two.
    accumulator_bits : int, optional
        No sum of a layer's products and its bias, in whatever order and for whatever inputs, needs
        more bits than these (AXE, see `netreduce.quantization.accumulator`). For "gpfq", "gptq" and
        "qronos" with zero=True and conv="joint", on a network whose activations lie on grids
        (`quantize_activations`).
    sweeps : int
        After the method, so many sweeps of coordinate descent from its codes: each code in turn is
        the best with all others held, and the scales are fitted in between (the steps of "comq").
        Convolutions need conv="joint".
    correct_bias : bool
        The bias takes up the difference of the mean outputs on the samples (bias correction), so
        that the codes need care for what varies only: the matrices are those of inputs less their
        means. Layers whose weights are quantized in several groups are left out.
    memory : int
        Bytes of layer outputs to hold in memory; beyond it they go to a temporary file. What the
        threads work on comes on top of it: 40 MB a thread for the 784-500-300-10 network, 55 for a
        small convolutional one, channel by channel.
    progress : callable, optional
        Called as progress(layer name, layers done, layers in all) before each layer.

    Returns
    -------
    Network
        Each quantized layer has `quantization` and `codes`: kernel = scale · codes, rounded to
        float32. Weights of inputs that are zero on all samples have code 0, even where 0 is not a
        level (`dead_weights` counts them), and so have those of a layer, or with `per_channel` of a
        neuron, whose weights are all zero.

    Raises
    ------
    ParameterError
        For an argument out of range, non-finite weights, a layer without an alphabet (median |W| =
        0), a singular X̃ᵀX̃, or an accumulator too narrow for any weights.
    SampleError
        For samples of the wrong shape, not finite, none at all, or that can be iterated only once;
        for a single one with `correct_bias`.
    UnsupportedLayerError
        When a layer that was asked for has no weights, or none has.
    """
    arguments = {
        "method": method,
        "bits": bits,
        "alphabet_scalar": alphabet_scalar,
        "conv": conv,
        "radius": radius,
        "per_channel": per_channel,
        "quantize_bias": quantize_bias,
        "keep_zeros": keep_zeros,
        "layers": layers,
        "activation_order": activation_order,
        "seed": seed,
        "threshold": threshold,
        "damping": damping,
        "zero": zero,
        "power_of_two": power_of_two,
        "accumulator_bits": accumulator_bits,
        "sweeps": sweeps,
        "correct_bias": correct_bias,
    }
    return _Quantizer(network, samples, memory, progress, keep=False)(
        Setting.of(arguments, samples is not None)
    )


def quantize_many(
    network: Network,
    samples: np.ndarray | Iterable[np.ndarray] | None,
    settings: Iterable[Mapping],
    *,
    memory: int = MEMORY,
    progress: Callable[[str, int, int], None] | None = None,
) -> Iterator[tuple[Mapping, Network, float]]:
    """Quantize one network under many settings, sharing the analog layer outputs and the first
    layer's Gram matrix.

    Parameters
    ----------
    network, samples, memory, progress
        As for `quantize`.
    settings : iterable of mappings
        Arguments of `quantize` by name: method, bits, alphabet_scalar, ...

    Returns
    -------
    iterator of (setting, Network, seconds)
        For each setting, as given, what `quantize` would return, and the time it took; the first
        ones also pay for what is shared.
    """
    settings = list(settings)
    known = [field.name for field in fields(Setting)]
    for setting in settings:
        if unknown := [name for name in setting if name not in known]:
            raise ParameterError(
                f"unknown setting {', '.join(map(repr, unknown))}; known: {', '.join(known)}"
            )
    checked = [Setting.of(setting, samples is not None) for setting in settings]
    quantizer = _Quantizer(network, samples, memory, progress, keep=True)

    def results() -> Iterator[tuple[Mapping, Network, float]]:
        for setting, one in zip(settings, checked, strict=True):
            start = perf_counter()
            result = quantizer(one)
            yield setting, result, perf_counter() - start

    return results()


def dead_weights(layer: Layer) -> int:
    """Number of weights with code 0 in a quantized layer whose alphabet has no level 0: those of
    dead inputs and of neurons without weights.

    The sparse modes of GPFQ have the level 0 besides; there, this counts the zeros of all kinds.
    """
    if not isinstance(layer, Weighted) or layer.quantization is None:
        return 0
    if round(2**layer.quantization.bits) % 2 == 1:
        return 0
    return int(np.count_nonzero(layer.codes == 0))


class _Quantizer:
    """Quantizes a network under one setting after another."""

    def __init__(
        self,
        network: Network,
        samples: np.ndarray | Iterable[np.ndarray] | None,
        memory: int,
        progress: Callable[[str, int, int], None] | None,
        keep: bool,
    ) -> None:
        self.network, self.samples, self.memory, self.keep = network, samples, memory, keep
        self.progress = progress or (lambda name, done, count: None)
        self.propagation: Propagation | None = None
        if not (isinstance(memory, Real) and memory >= 0):
            raise ParameterError(f"memory must be a number of bytes not below 0, found {memory!r}")
        network.check_parameters()

    def __call__(self, setting: Setting) -> Network:
        selected = self._selected(setting.selection)
        settings = {index: setting.of_layer(index, self.network.names[index]) for index in selected}
        alphabets = {
            index: self._named(index, layer_alphabet, self.network.layers[index], settings[index])
            for index in selected
        }
        bits = setting.accumulator_bits
        limits = {
            index: bits and self._named(index, limit_of, self.network, index, bits, setting.conv)
            for index in selected
        }
        propagation = self._propagation(setting, selected)
        quantized = {}
        for done, index in enumerate(selected):
            self.progress(self.network.names[index], done, len(selected))
            layer = self.network.layers[index]
            assert isinstance(layer, Weighted)
            weights = layer_weights(layer, setting)
            given = (
                self._named(index, self._matrices, propagation, index, setting, weights)
                if propagation
                else {}
            )
            quantized[index] = self._named(
                index,
                quantize_layer,
                layer,
                settings[index],
                alphabets[index],
                weights,
                given,
                limits[index],
            )
            if propagation:
                propagation.exchange(index, quantized[index])
        return self.network.replace(quantized)

    def _matrices(
        self, propagation: Propagation, index: int, setting: Setting, weights: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Those of G, H and T that the setting needs."""
        layer, needs = self.network.layers[index], setting.needs
        assert isinstance(layer, Weighted)
        correct = corrects_bias(layer, setting)
        read = index, setting.conv, correct or bias_is_weight(layer, setting)
        if correct:
            weights = np.pad(weights, ((0, 0), (0, 1), (0, 0)))
        if "G" not in needs and "T" in needs:
            T, H = propagation.gram(*read, weights)
            given = {"T": T, "H": H}
        else:
            G, H = propagation.gram(*read)
            given = {"G": G, "H": H, "T": G @ weights} if "T" in needs else {"G": G, "H": H}
        return centred(given) if correct else given

    def _propagation(self, setting: Setting, selected: list[int]) -> Propagation | None:
        """The samples on their way, at the start of the network; None where none are needed."""
        if not setting.needs:
            return None
        if self.propagation is None:
            self.propagation = Propagation(self.network, self.samples, self.memory, self.keep)
        self.propagation.start(selected, setting.needs != {"H"}, setting.whole)
        return self.propagation

    def _selected(self, layers: Iterable | None) -> list[int]:
        """Indices of the layers to quantize, in order."""
        names, weighted = (
            self.network.names,
            [i for i, layer in enumerate(self.network.layers) if isinstance(layer, QUANTIZABLE)],
        )
        if not weighted:
            raise UnsupportedLayerError(
                f"no layer can be quantized: of {', '.join(names)}, none is Dense, Conv2D or"
                " DepthwiseConv2D"
            )
        if layers is None:
            return weighted
        selected = set()
        for layer in layers:
            index = names.index(layer) if layer in names else layer
            if index not in range(len(names)):
                raise ParameterError(
                    f"layers: there is no layer {layer!r}; there are {', '.join(names)}"
                )
            if index not in weighted:
                raise UnsupportedLayerError(
                    f"{names[index]} (layer {index}) is not a Dense, Conv2D or DepthwiseConv2D"
                    " layer, and those alone are quantized: leave it out, and it stays as it is"
                )
            selected.add(index)
        if not selected:
            raise ParameterError("layers: none given")
        return sorted(selected)

    def _named(self, index: int, function: Callable[..., T], *arguments: Any) -> T:
        """Call a function; its errors get the layer's name."""
        try:
            return function(*arguments)
        except ParameterError as error:
            raise ParameterError(f"{self.network.names[index]}: {error}") from None
