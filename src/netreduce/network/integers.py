"""Evaluation in integers, of networks whose weights and activations lie on grids: the reference for
files that run on integers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from netreduce.errors import ParameterError, UnsupportedLayerError

from .graph import INPUT, Network
from .layers import (
    Activation,
    ActivationGrid,
    Add,
    AveragePooling2D,
    BatchNormalization,
    Concatenate,
    Conv2D,
    Cropping2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Layer,
    MaxPooling2D,
    Permute,
    Quantization,
    Reshape,
    Shape,
    UpSampling2D,
    Weighted,
    ZeroPadding2D,
    pad,
    windows,
)

MOVING = (
    Dropout,
    Flatten,
    Reshape,
    Permute,
    Cropping2D,
    ZeroPadding2D,
    MaxPooling2D,
    GlobalMaxPooling2D,
)
IN_FLOATS = (Activation, Dropout, Flatten, Reshape, Permute)  # what may follow the last sums
ACCUMULATOR_BITS = 32
LARGEST_WEIGHT = 127
RUNTIMES = ("onnxruntime", "litert")


def moves(layer: Layer) -> bool:
    """Whether every output of a layer is one of its inputs, or zero: its grid is that of them."""
    return isinstance(layer, MOVING) or (
        isinstance(layer, UpSampling2D) and layer.interpolation == "nearest"
    )


def clips(layer: Layer) -> bool:
    """Whether a layer is relu, with or without a largest value."""
    return isinstance(layer, Activation) and (
        layer.name == "relu6" or (layer.name == "relu" and layer.threshold == 0)
    )


def tail(network: Network) -> set[int]:
    """The last layer, and those from which the output is reached through activations and layers
    that move values alone: what they compute is not rounded again.
    """
    last = len(network.layers) - 1
    found = {last}
    while isinstance(network.layers[last], IN_FLOATS):
        (last,) = network.sources[last]
        if last == INPUT or len(network.readers(last)) > 1:
            break
        found.add(last)
    return found


def in_integers(network: Network) -> bool:
    """Whether a network is one for `IntegerNetwork`: with activations on grids, and all weights."""
    weighted = [layer for layer in network.layers if isinstance(layer, Weighted)]
    return (
        bool(weighted)
        and any(isinstance(layer, ActivationGrid) for layer in network.layers)
        and all(layer.quantization is not None for layer in weighted)
    )


@dataclass(frozen=True, eq=False)
class IntegerWeights:
    """The weights of a layer as integers that run.

    Attributes
    ----------
    kernel : ndarray of int8, of the kernel's shape
    scale : ndarray of float32, shape (outputs,)
        kernel · scale are the weights.
    bias : ndarray of int32, shape (outputs,)
        In units of bias_scale, rounded half to even.
    bias_scale : ndarray of float32, shape (outputs,)
        Scale of the inputs times that of the weights.
    """

    kernel: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    bias_scale: np.ndarray


@dataclass(frozen=True)
class Accumulator:
    """Width of the sums of one layer, in bits of two's complement.

    Attributes
    ----------
    worst : int
        Whatever the inputs, and in whatever order the products are added.
    observed : int or None
        What the finished sums need on the samples.
    """

    worst: int
    observed: int | None = None


def fit_4_bits(kernel: np.ndarray) -> bool:
    """Whether integer weights are ones of 4 bits."""
    return bool(kernel.min() >= -8 and kernel.max() <= 7)


def integer_weights(layer: Weighted, grid: ActivationGrid, divided: bool = True) -> IntegerWeights:
    """The weights of a layer that reads values on a grid: codes, divided by their largest common
    divisor, or as they are, for the sake of a finer bias.

    Raises
    ------
    UnsupportedLayerError
        Analog weights, codes beyond 8 bits, a scale for every input, a bias beyond 32 bits.
    """
    quantization, codes = layer.quantization, layer.codes
    if quantization is None or codes is None:
        raise UnsupportedLayerError("its weights are analog: quantize them")
    spacing = max(int(np.gcd.reduce(codes, axis=None)), 1) if divided else 1
    kernel = codes // spacing
    if np.abs(kernel).max() > LARGEST_WEIGHT:
        raise UnsupportedLayerError(
            f"its weights are codes of up to ±{np.abs(kernel).max()}, and 8 bits hold"
            f" ±{LARGEST_WEIGHT}: quantize with zero=True, or to fewer bits"
        )
    inner = kernel.ndim - (2 if isinstance(layer, DepthwiseConv2D) else 1)
    scale = quantization.scale.reshape(
        (1,) * (kernel.ndim - quantization.scale.ndim) + (quantization.scale.shape)
    )
    if scale.shape[:inner] != (1,) * inner:
        raise UnsupportedLayerError(
            "its weights have a scale for every input, and sums in integers need one for each"
            " output"
        )
    scale = np.broadcast_to(spacing * scale[(0,) * inner], kernel.shape[inner:]).reshape(-1)
    scale = scale.astype(np.float32)
    bias_scale = np.float32(grid.scale) * scale
    bias = np.rint(layer.bias.astype(np.float64) / bias_scale)
    if not (np.abs(bias) < 1 << ACCUMULATOR_BITS - 1).all():
        raise UnsupportedLayerError("its bias is beyond 32 bits in units of its products")
    return IntegerWeights(kernel.astype(np.int8), scale, bias.astype(np.int32), bias_scale)


def normalization(layer: BatchNormalization, name: str, shape: Shape) -> Weighted:
    """Batch normalization as a layer with weights: of one weight for each channel, ±127 times a
    scale of its own.

    Raises
    ------
    UnsupportedLayerError
        Neither images nor vectors.
    """
    slope, shift = (vector.astype(np.float32) for vector in layer.affine())
    scale = np.where(slope == 0, np.float32(1), np.abs(slope)) / np.float32(LARGEST_WEIGHT)
    kernel = np.sign(slope) * np.float32(LARGEST_WEIGHT) * scale
    if len(shape) == 1:
        return Dense(np.diag(kernel), shift, quantization=Quantization(scale[None], 8))
    if len(shape) != 3:
        raise UnsupportedLayerError(
            f"{name}: BatchNormalization of shape {shape} is not known in integers"
        )
    kernel, scale = (vector[None, None, :, None] for vector in (kernel, scale))
    return DepthwiseConv2D(kernel, shift, quantization=Quantization(scale, 8))


@dataclass(frozen=True, eq=False)
class _Codes:
    """A tensor as codes of a grid."""

    codes: np.ndarray
    grid: ActivationGrid


@dataclass(frozen=True, eq=False)
class _Sums:
    """A tensor as sums in integers (held as float64) times a scale in float32."""

    sums: np.ndarray
    scale: np.ndarray
    largest: float | None = None  # of values: relu's largest value
    # in float64, where the sums are multiplied by a fixed-point number and rounded twice
    exact: np.ndarray | None = None
    away: bool = False  # whether half away from zero then, in place of half up


@dataclass(frozen=True, eq=False)
class _Added:
    """The sum of two tensors of codes, behind a relu or not."""

    first: _Codes
    second: _Codes
    relu: bool = False


_Tensor = _Codes | _Sums | _Added | np.ndarray


class IntegerNetwork:
    """A network evaluated in integers.

    Values between layers are codes of up to 8 bits (`ActivationGrid`), weights are integers of 8
    bits, biases and sums of products integers of 32 bits. In units of float32 numbers s (scales)
    and with zero points z,

    * input: q = saturate(rint(x / s) + z);
    * Dense, Conv2D, DepthwiseConv2D: a = Σ (q − z) w + b, with b = rint(bias / (s · s_w)); relu is
      max(a, 0); the next codes are q' = saturate(rint(float32(a) · m) + z'), m = s · s_w / s' in
      float32, one for each output where its weights have a scale of their own;
    * BatchNormalization: the same with one weight w = ±127 for each channel, s_w = |slope| / 127;
    * average pooling: the same with w = 1 and s_w = 1 / n for n values;
    * max pooling, Flatten, padding and what else moves values, on codes;
    * Add of two tensors, in float32: q' = saturate(rint(fma(u₁, s₁ / s', fma(u₂, s₂ / s', c)))) −
      128 with u = q + 128, and c = z' + 128 − s₁ / s' · (z₁ + 128) − s₂ / s' · (z₂ + 128); with
      fewer than 8 bits, and before a relu that z' does not make by itself, codes of Σ s (q − z);
    * other Add, Concatenate: q' = saturate(rint(Σ s (q − z) / s') + z');
    * other activations of single values: a table of 2^bits codes, q' = saturate(rint(f(s (q − z)) /
      s') + z');
    * behind the last grid, sums times s · s_w in float32, and activations of these.

    rint rounds half to even, saturate takes the nearest of −2^(bits − 1) … 2^(bits − 1) − 1. That
    is what QLinearConv and its like do in ONNX Runtime, and what LiteRT does but for layers with
    weights of 4 bits (−8 … 7) that are convolutions, or dense with an odd number of inputs: with
    m = f / 2^(31 + e), f a whole number of 31 bits, these round a · f / 2^31, and that / 2^e, both
    half up (on x86; both by its matrix product ruy), or half away from zero for convolutions in
    groups (its reference kernel).

    Parameters
    ----------
    network : Network
        As `quantize_activations` and `quantize` make it.
    runtime : str
        Whose rounding: "onnxruntime" or "litert".

    Attributes
    ----------
    network : Network
        With layers with weights in place of batch normalizations.
    weights : dict of int to IntegerWeights
        By the index of the layer.
    rounding_twice : frozenset of int
        Layers that LiteRT rounds as above, where `runtime` says so.

    Raises
    ------
    UnsupportedLayerError
        A layer that cannot be evaluated in integers: names it.
    ParameterError
        A layer whose sums can exceed 32 bits; another runtime.

    Examples
    --------
    >>> from netreduce import ActivationGrid, Dense, Quantization
    >>> dense = Dense([[0.5], [-1.0]], quantization=Quantization(0.5, bits=2))
    >>> network = Network([ActivationGrid(0.25), dense, ActivationGrid(0.25)], (2,))
    >>> integers = IntegerNetwork(network)
    >>> integers.weights[1].kernel.tolist(), integers.codes([[1.0, 0.2]])[2].tolist()
    ([[1], [-2]], [[1]])
    >>> integers.predict([[1.0, 0.2]]), integers.accumulators()
    (array([[0.25]], dtype=float32), {'dense_1': Accumulator(worst=10, observed=None)})
    """

    def __init__(self, network: Network, runtime: str = "onnxruntime") -> None:
        if runtime not in RUNTIMES:
            raise ParameterError(f"runtime must be one of {', '.join(RUNTIMES)}, found {runtime!r}")
        self.names = network.names
        self.tail = tail(network)
        self.normalizations = {
            index: normalization(layer, name, network.shapes[index])
            for index, (layer, name) in enumerate(zip(network.layers, network.names, strict=True))
            if isinstance(layer, BatchNormalization)
        }
        self.network = network.replace(self.normalizations) if self.normalizations else network
        self.weights: dict[int, IntegerWeights] = {}
        self.grids: dict[int, ActivationGrid] = {}  # of tensors of codes
        for index, name in enumerate(self.names):
            try:
                self._plan(index, self.network.layers[index])
            except UnsupportedLayerError as error:
                raise UnsupportedLayerError(f"{name}: {error}") from None
        self.rounding_twice = frozenset(
            index
            for index, weights in self.weights.items()
            if runtime == "litert"
            and index not in self.tail
            and _off_the_fast_path(self.network.layers[index])
            and fit_4_bits(weights.kernel)
        )
        for name, accumulator in self.accumulators().items():
            if accumulator.worst > ACCUMULATOR_BITS:
                raise ParameterError(
                    f"{name}: its sums can take {accumulator.worst} bits, and accumulators have"
                    f" {ACCUMULATOR_BITS}: quantize to fewer bits"
                )

    def _plan(self, index: int, layer: Layer) -> None:
        sources = self.network.sources[index]
        if isinstance(layer, ActivationGrid):
            self.grids[index] = layer
            return
        on_grids = all(source in self.grids for source in sources)
        if moves(layer) and on_grids:
            self.grids[index] = self.grids[sources[0]]
            return
        if index in self.tail and isinstance(layer, IN_FLOATS) and INPUT not in sources:
            return
        if clips(layer) and isinstance(
            self._before(sources[0]), Weighted | Add | AveragePooling2D | GlobalAveragePooling2D
        ):
            return
        if not on_grids:
            raise UnsupportedLayerError(
                "what it reads is not on a grid: `quantize_activations` puts it there"
            )
        match layer:
            case Dense() | Conv2D() | DepthwiseConv2D():
                if layer.activation not in ("linear", "relu") and index not in self.tail:
                    raise UnsupportedLayerError(
                        f"its activation {layer.activation!r} must be a layer of its own, behind a"
                        " grid: `quantize_activations` makes it so"
                    )
                grid, divided = self.grids[sources[0]], index not in self.normalizations
                self.weights[index] = integer_weights(layer, grid, divided)
            case AveragePooling2D() | GlobalAveragePooling2D() | Add() | Concatenate():
                pass
            case Activation() if layer.function.elementwise:
                pass
            case _:
                what = layer.name if isinstance(layer, Activation) else type(layer).__name__
                raise UnsupportedLayerError(f"{what} is not known in integers")

    def _before(self, index: int) -> Layer | None:
        return None if index == INPUT or index in self.grids else self.network.layers[index]

    def predict(self, x: ArrayLike, batch_size: int = 256) -> np.ndarray:
        """Outputs of the network, float32; arguments as those of `Network.predict`."""
        x = self.network.check_samples(x)
        out = np.empty((len(x), *self.network.shapes[-1]), np.float32)
        for start in range(0, len(x), batch_size):
            part = slice(start, start + batch_size)
            out[part] = _floats(self._run(x[part])[len(self.network.layers) - 1])
        return out

    def codes(self, x: ArrayLike) -> dict[int, np.ndarray]:
        """Codes (int8) of every tensor on a grid, by the index of the layer that it comes from."""
        values = self._run(self.network.check_samples(x))
        return {
            index: value.codes.astype(np.int8)
            for index, value in values.items()
            if isinstance(value, _Codes)
        }

    def accumulators(self, x: ArrayLike | None = None) -> dict[str, Accumulator]:
        """By the name of every layer with weights: the width that its sums need.

        Parameters
        ----------
        x : ndarray, shape (samples, *input_shape), optional
            Where the widths are observed.
        """
        observed: dict[int, int] = {}
        if x is not None:
            x = self.network.check_samples(x)
            for start in range(0, len(x), 256):
                self._run(x[start : start + 256], observed)
        return {
            self.names[index]: Accumulator(self._worst(index), observed.get(index))
            for index in self.weights
        }

    def _worst(self, index: int) -> int:
        weights, layer = self.weights[index], self.network.layers[index]
        grid = self.grids[self.network.sources[index][0]]
        ends = [end - grid.zero_point for end in (grid.low, grid.high)]
        kernel = weights.kernel.astype(np.int64)
        axes = (0, 1) if isinstance(layer, DepthwiseConv2D) else tuple(range(kernel.ndim - 1))
        products = np.stack([kernel * end for end in ends])
        most = products.max(axis=0).clip(0).sum(axis=axes).ravel() + weights.bias.clip(0)
        least = products.min(axis=0).clip(None, 0).sum(axis=axes).ravel() + weights.bias.clip(
            None, 0
        )
        return _width(least.min(), most.max())

    def _run(self, x: np.ndarray, observed: dict[int, int] | None = None) -> dict[int, _Tensor]:
        """Every tensor; the widths of the sums go into `observed`."""
        values: dict[int, _Tensor] = {INPUT: x.astype(np.float32)}
        for index, (layer, sources) in enumerate(
            zip(self.network.layers, self.network.sources, strict=True)
        ):
            inputs = [values[source] for source in sources]
            values[index] = out = self._layer(index, layer, inputs)
            if observed is not None and index in self.weights and isinstance(out, _Sums):
                width = _width(out.sums.min(), out.sums.max())
                observed[index] = max(observed.get(index, 0), width)
            if index in self.weights and isinstance(out, _Sums):
                values[index] = _activated(layer, out)
        return values

    def _layer(self, index: int, layer: Layer, inputs: Sequence[_Tensor]) -> _Tensor:
        first = inputs[0]
        if isinstance(layer, ActivationGrid):
            return _Codes(_codes(first, layer), layer)
        if isinstance(first, _Codes) and moves(layer):
            return _Codes(_moved(layer, first), first.grid)
        if isinstance(first, _Sums) and clips(layer):
            return _clipped(layer, first)
        if isinstance(first, _Added) and clips(layer) and _most(layer) is None:
            return _Added(first.first, first.second, relu=True)
        if isinstance(first, _Codes):
            match layer:
                case Weighted():
                    return self._sums(index, layer, first)
                case AveragePooling2D():
                    counts = layer.counts(first.codes.shape[1:])
                    padded = pad(_steps(first), layer.padding_widths(first.codes.shape[1:]))
                    seen = windows(padded, layer.pool_size, layer.strides)
                    return _Sums(seen.sum(axis=(3, 4)), _share(first.grid, counts))
                case GlobalAveragePooling2D():
                    count = math.prod(first.codes.shape[1:3])
                    return _Sums(_steps(first).sum(axis=(1, 2)), _share(first.grid, count))
                case Add() | Concatenate():
                    values = [v for v in inputs if isinstance(v, _Codes)]
                    if isinstance(layer, Add) and len(values) == 2:
                        return _Added(values[0], values[1])
                    return layer(*(np.float64(v.grid.scale) * _steps(v) for v in values))
        # sums in float64 stay so: they are rounded once
        return layer(*(v if isinstance(v, np.ndarray) else _floats(v) for v in inputs))

    def _sums(self, index: int, layer: Weighted, x: _Codes) -> _Sums:
        weights = self.weights[index]
        whole = layer.replace(
            kernel=weights.kernel.astype(np.float64),
            bias=weights.bias.astype(np.float64),
            quantization=None,
        )
        exact = None
        if index in self.rounding_twice:
            exact = np.float64(np.float32(x.grid.scale)) * weights.scale
        away = isinstance(layer, Conv2D) and layer.groups > 1
        return _Sums(whole.linear(_steps(x)), weights.bias_scale, exact=exact, away=away)


def _off_the_fast_path(layer: Layer) -> bool:
    """Whether LiteRT has no kernel of XNNPACK for a layer with weights of 4 bits."""
    return isinstance(layer, Conv2D) or (isinstance(layer, Dense) and len(layer.kernel) % 2 == 1)


def _activated(layer: Layer, sums: _Sums) -> _Tensor:
    """Sums behind the activation of a layer with weights."""
    assert isinstance(layer, Weighted)
    if layer.activation == "linear":
        return sums
    if layer.activation == "relu":
        return replace(sums, sums=np.maximum(sums.sums, 0))
    return layer.function.function(_floats(sums))


def _clipped(layer: Layer, sums: _Sums) -> _Sums:
    return replace(sums, sums=np.maximum(sums.sums, 0), largest=_most(layer))


def _most(layer: Layer) -> float | None:
    """The largest value of a relu."""
    assert isinstance(layer, Activation)
    return 6.0 if layer.name == "relu6" else layer.max_value


def _codes(value: _Tensor, grid: ActivationGrid) -> np.ndarray:
    """A tensor as codes of a grid."""
    if isinstance(value, _Added):
        if grid.bits == 8 and (not value.relu or grid.zero_point == grid.low):
            return _requantized(value, grid)
        value = _floats(value)
    if isinstance(value, np.ndarray):
        if value.dtype == np.float32:
            return grid.codes(value)
        steps = np.rint(value / grid.scale)
    else:
        if isinstance(value, _Codes):
            value = _Sums(_steps(value), np.asarray(np.float32(value.grid.scale)))
        if value.exact is None:
            multiplier = value.scale / np.float32(grid.scale)
            steps = np.rint(value.sums.astype(np.float32) * multiplier)
        else:
            multiplier = value.exact / np.float64(np.float32(grid.scale))
            sign = np.sign(value.sums) if value.away else 1
            steps = sign * _rounded_twice(sign * value.sums, multiplier)
        if value.largest is not None:
            most = np.rint(np.float32(value.largest) / np.float32(grid.scale))
            steps = np.minimum(steps, most)
    steps = np.clip(steps, grid.low - grid.zero_point, grid.high - grid.zero_point)
    return steps.astype(np.int32) + grid.zero_point


def _rounded_twice(sums: np.ndarray, multiplier: np.ndarray) -> np.ndarray:
    """Sums times a fixed-point number of 31 bits and a power of two, rounded after each."""
    share, exponent = np.frexp(multiplier)
    mantissa = np.floor(share * (1 << 31) + 0.5).astype(np.int64)
    left, right = (np.maximum(sign * exponent, 0).astype(np.int64) for sign in (1, -1))
    high = ((sums.astype(np.int64) << left) * mantissa + (1 << 30)) >> 31
    return ((high + ((1 << right) >> 1)) >> right).astype(np.float64)


def _floats(value: _Tensor) -> np.ndarray:
    """A tensor as numbers in float32."""
    if isinstance(value, _Codes):
        return value.grid.values(value.codes)
    if isinstance(value, _Added):
        values = _floats(value.first) + _floats(value.second)
        return np.maximum(values, 0) if value.relu else values
    if isinstance(value, _Sums):
        values = value.sums.astype(np.float32) * value.scale
        return values if value.largest is None else np.minimum(values, np.float32(value.largest))
    return value.astype(np.float32)


def _requantized(value: _Added, grid: ActivationGrid) -> np.ndarray:
    """The codes of a sum. A product of a code and a number in float32 is exact in float64."""
    codes = [tensor.codes + 128.0 for tensor in (value.first, value.second)]
    grids = value.first.grid, value.second.grid
    ratios = [np.float32(one.scale) / np.float32(grid.scale) for one in grids]
    zeros = [one.zero_point + 128 for one in grids]
    shift = grid.zero_point + 128 - sum(z * float(r) for z, r in zip(zeros, ratios, strict=True))
    total = (codes[1] * ratios[1] + np.float64(np.float32(shift))).astype(np.float32)
    total = (codes[0] * ratios[0] + total).astype(np.float32)
    return np.clip(np.rint(total), 0, 255).astype(np.int32) - 128


def _steps(x: _Codes) -> np.ndarray:
    """Codes less that of zero, as float64, in which sums of them are exact."""
    return (x.codes - x.grid.zero_point).astype(np.float64)


def _moved(layer: Layer, x: _Codes) -> np.ndarray:
    return layer(_steps(x)).astype(np.int32) + x.grid.zero_point


def _share(grid: ActivationGrid, count: ArrayLike) -> np.ndarray:
    """Scale of a sum of so many values as their mean."""
    return np.float32(grid.scale) * (np.float32(1) / np.asarray(count, np.float32))


def _width(least: float, most: float) -> int:
    """Bits of two's complement that hold all whole numbers between two."""
    return max(int(most).bit_length(), (-int(least) - 1).bit_length() if least < 0 else 0) + 1
