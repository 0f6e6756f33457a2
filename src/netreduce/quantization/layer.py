"""One layer quantized: its alphabet, its codes, and the layer that they make."""

from collections.abc import Mapping

import numpy as np

from netreduce.errors import ParameterError
from netreduce.network.layers import Conv2D, DepthwiseConv2D, Quantization, Weighted

from .accumulator import Limit
from .alphabet import Alphabet, make_alphabet, nearest_power_of_two
from .comq import output_error, refine
from .gram import from_groups, has_one_group, to_groups
from .msq import msq
from .settings import METHODS, Setting

# Radii that radius="output" tries, as fractions of the largest |W|: each is 0.9 times the last.
OUTPUT_FRACTIONS = 0.9 ** np.arange(32)
# With a narrow accumulator also wider ones, on which the weights are smaller integers.
LIMITED_FRACTIONS = 0.9 ** np.arange(-20, 32)
ENOUGH = 0.6  # of the best radius of every neuron: narrower ones are not tried
COPIES = 1 << 19  # weights that the method sees at a time then


def quantize_layer(
    layer: Weighted,
    setting: Setting,
    alphabet: Alphabet,
    weights: np.ndarray,
    given: Mapping[str, np.ndarray],
    limit: Limit | None = None,
) -> Weighted:
    """The layer with its weights, and where asked its bias, on an alphabet.

    Parameters
    ----------
    layer : Dense, Conv2D or DepthwiseConv2D
    setting : Setting
    alphabet : Alphabet
        As `layer_alphabet` gives it; its scale broadcasts to the kernel.
    weights : ndarray, shape (groups, inputs, neurons), float64
        As `layer_weights` gives them.
    given : mapping
        Those of the matrices G = X̃ᵀX and H = X̃ᵀX̃ of the layer's inputs, and the target T = Gw, that
        the setting needs (see `gram`); of centred inputs where the bias is corrected.
    limit : Limit, optional
        The accumulator of its sums.

    Raises
    ------
    ParameterError
        An accumulator too narrow for any weights.
    """
    bias = layer.bias.astype(np.float64)
    pruned = _pruned(layer, setting, alphabet)
    with_bias = bias_is_weight(layer, setting)
    if with_bias and pruned is not None:
        unused = (bias == 0) & setting.keep_zeros
        pruned = np.concatenate([pruned, unused[None, None]], axis=1)
    if setting.radius == "output":
        alphabet, codes = _best_on_outputs(layer, setting, alphabet, weights, given, pruned, limit)
    else:
        codes, chosen = setting.run(
            weights, given, _in_groups(alphabet, layer, setting.conv), pruned, limit
        )
        if METHODS[setting.method].scales:
            alphabet = Alphabet(chosen.scale.reshape(alphabet.scale.shape), alphabet.top)
    in_groups = _in_groups(alphabet, layer, setting.conv)
    if setting.sweeps:
        codes, in_groups = refine(
            codes,
            weights,
            given["T"],
            given["H"],
            in_groups,
            setting.damping or 0.0,
            setting.sweeps,
            pruned,
        )
        alphabet = Alphabet(in_groups.scale.reshape(alphabet.scale.shape), alphabet.top)
    if limit is not None:
        limit.check(in_groups.scale, weights)
    kernel_codes = from_groups(codes[:, : codes.shape[1] - with_bias], layer, setting.conv)
    changes = {"kernel": (alphabet.scale * kernel_codes).astype(layer.kernel.dtype)}
    if setting.quantize_bias:
        of_bias = Alphabet(alphabet.scale.reshape(-1), alphabet.top)
        bias_codes = (
            codes[0, -1]
            if with_bias
            else msq(bias, of_bias, bias == 0 if setting.keep_zeros else None)
        )
        changes["bias"] = (of_bias.scale * bias_codes).astype(layer.bias.dtype)
    elif corrects_bias(layer, setting):
        missing = given["wanted"] - given["seen"] @ (in_groups.scale * codes)[0]
        changes["bias"] = (bias + missing).astype(layer.bias.dtype)
    bits = setting.width if not setting.zero else float(np.log2(alphabet.top + 1))
    return layer.replace(
        **changes, quantization=Quantization(alphabet.scale, bits, setting.quantize_bias)
    )


def bias_is_weight(layer: Weighted, setting: Setting) -> bool:
    """Whether the bias is quantized as one more weight."""
    return setting.quantize_bias and has_one_group(layer, setting.conv)


def corrects_bias(layer: Weighted, setting: Setting) -> bool:
    """Whether the bias takes up the means, and the codes what varies."""
    return setting.correct_bias and has_one_group(layer, setting.conv)


def layer_weights(layer: Weighted, setting: Setting) -> np.ndarray:
    """The weights to quantize in groups (see `gram`), and the bias where it is one of them."""
    weights = to_groups(layer.kernel.astype(np.float64), layer, setting.conv)
    if not bias_is_weight(layer, setting):
        return weights
    return np.concatenate([weights, layer.bias.astype(np.float64)[None, None]], axis=1)


def layer_alphabet(layer: Weighted, setting: Setting) -> Alphabet:
    """The alphabet of a layer; with radius="output" the widest one, from which that choice begins.

    Where a neuron has no weights but zeros, only its bias says how large its alphabet must be.

    Raises
    ------
    ParameterError
        No alphabet (see `make_alphabet`), or a method that chooses the scales of whole output
        channels where each input channel of a convolution is quantized by itself.
    """
    if setting.chooses_scales and isinstance(layer, Conv2D) and setting.conv == "channel":
        what = "sweeps" if setting.sweeps else f"method {setting.method!r}"
        raise ParameterError(
            f'{what} chooses one scale for all weights of an output channel: use conv="joint"'
        )
    axes = _axes(layer, setting)
    alphabet = make_alphabet(
        layer.kernel,
        setting.width,
        setting.alphabet_scalar,
        setting.radius,
        axes,
        setting.keep_zeros,
        setting.zero,
        setting.power_of_two,
    )
    silent = ~layer.kernel.any(axis=axes, keepdims=axes is not None)
    if not (setting.quantize_bias and silent.any()):
        return alphabet
    sizes = np.abs(layer.bias.astype(np.float64))
    sizes = sizes.reshape(silent.shape) if axes is not None else sizes.max()
    scale = np.where(silent & (sizes > 0), sizes / alphabet.top, alphabet.scale)
    return Alphabet(nearest_power_of_two(scale) if setting.power_of_two else scale, alphabet.top)


def _axes(layer: Weighted, setting: Setting) -> tuple[int, ...] | None:
    """Axes of the kernel that share an alphabet, None for all."""
    if not setting.by_neuron:
        return None
    return (0, 1) if isinstance(layer, DepthwiseConv2D) else tuple(range(layer.kernel.ndim - 1))


def _pruned(layer: Weighted, setting: Setting, alphabet: Alphabet) -> np.ndarray | None:
    """Which weights, in groups, must get code 0; None where none must."""
    axes = _axes(layer, setting)
    silent = ~layer.kernel.any(axis=axes, keepdims=axes is not None)
    if setting.keep_zeros:
        return to_groups(layer.kernel == 0, layer, setting.conv)
    if silent.any() and not alphabet.has_zero:
        return to_groups(np.broadcast_to(silent, layer.kernel.shape), layer, setting.conv)
    return None


def _in_groups(alphabet: Alphabet, layer: Weighted, conv: str) -> Alphabet:
    if np.ndim(alphabet.scale) == 0:
        return alphabet
    return Alphabet(to_groups(alphabet.scale, layer, conv), alphabet.top)


def _best_on_outputs(
    layer: Weighted,
    setting: Setting,
    widest: Alphabet,
    weights: np.ndarray,
    given: Mapping[str, np.ndarray],
    pruned: np.ndarray | None,
    limit: Limit | None,
) -> tuple[Alphabet, np.ndarray]:
    """The alphabet, of those with a fraction of the largest radius, whose codes by the method give
    the least ‖Xw − X̃q‖² on the samples, and the codes; for every neuron where each has its own.
    From the widest on, until none has found a better one for a good way below its best.

    The method runs once for as many radii as fit into memory, on that many copies of the neurons.
    """
    neurons = weights.shape[2]
    shared = np.ndim(widest.scale) == 0
    scale = widest.scale if shared else _in_groups(widest, layer, setting.conv).scale
    T, H = given["T"], given["H"]
    given = setting.factorized(given)
    best, at = np.full(scale.shape, np.inf), np.zeros(scale.shape)
    chosen, codes = scale, np.zeros(weights.shape)
    together = max(1, COPIES // weights.size)
    fractions = OUTPUT_FRACTIONS if limit is None else LIMITED_FRACTIONS
    if setting.power_of_two:
        fractions = 2.0 ** np.unique(np.floor(np.log2(fractions)))[::-1]
    for start in range(0, len(fractions), together):
        tried = fractions[start : start + together]
        candidates = [scale * fraction for fraction in tried]
        groups = 1 if shared else len(scale)
        spread = [np.broadcast_to(candidate, (groups, 1, neurons)) for candidate in candidates]
        copies = (1, 1, len(candidates))
        found, _ = setting.run(
            np.tile(weights, copies),
            {**given, "T": np.tile(T, copies)},
            Alphabet(np.concatenate(spread, axis=2), widest.top),
            None if pruned is None else np.tile(pruned, copies),
            limit,
        )
        parts = np.split(found, len(candidates), axis=2)
        for fraction, candidate, part in zip(tried, candidates, parts, strict=True):
            errors = output_error(candidate * part, T, H)
            if limit is not None:
                room = limit.budget(candidate, neurons).has_room(weights)
                errors = np.where(room[:, None], errors, np.inf)
            total = errors.sum() if shared else _by_alphabet(errors, layer, len(scale))
            better = total < best
            best, chosen = np.where(better, total, best), np.where(better, candidate, chosen)
            at, codes = np.where(better, fraction, at), np.where(better, part, codes)
        if (tried[-1] < ENOUGH * at).all():
            break
    if not shared and isinstance(layer, Conv2D):
        chosen = chosen[:: len(scale) // layer.groups]
    return Alphabet(chosen.reshape(widest.scale.shape), widest.top), codes


def _by_alphabet(errors: np.ndarray, layer: Weighted, count: int) -> np.ndarray:
    """Errors of the neurons in each group, summed over the groups that share their alphabets; as
    many as there are groups of alphabets.
    """
    if isinstance(layer, DepthwiseConv2D):
        return errors
    apart = layer.groups if isinstance(layer, Conv2D) else 1
    sums = errors.reshape(apart, -1, *errors.shape[1:]).sum(axis=1)
    return np.repeat(sums, count // apart, axis=0)
