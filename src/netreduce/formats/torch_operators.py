"""What the operations of a PyTorch program are as layers."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from netreduce.errors import ModelFileError, NetreduceError, ShapeError, UnsupportedLayerError
from netreduce.network import INPUT, Network
from netreduce.network.layers import (
    Activation,
    Add,
    AveragePooling2D,
    Conv2D,
    Conv2DTranspose,
    Cropping2D,
    DepthwiseConv2D,
    Dropout,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Layer,
    MaxPooling2D,
    Multiply,
    PReLU,
    Reshape,
    Subtract,
    UpSampling2D,
    ZeroPadding2D,
)

from .rearranged import LARGEST_KERNEL, Builder, Value
from .torch_program import Name, Node, Program

SPATIAL_1D = ("conv1d", "conv_transpose1d", "max_pool1d", "avg_pool1d", "adaptive_avg_pool1d")
Constant = np.ndarray | float | int
Operator = Callable[[Builder, "Arguments"], Value | list[Value]]


class Converter:
    """A network built node by node from a program."""

    def __init__(self, program: Program):
        self._program = program
        shape = program.input_shape
        self._sequence = len(shape) == 2 and any(
            node.operation in SPATIAL_1D for node in program.nodes
        )
        if self._sequence or len(shape) == 3:
            shape = (*shape[1:], shape[0])  # channels last
        self._builder = Builder(shape)
        places = self._builder.whole(INPUT)
        if self._sequence or len(shape) == 3:
            places = np.moveaxis(places, -1, 0)
        self._input = Value(INPUT, places)
        self._values: dict[str, Any] = {**program.constants, program.input_name: self._input}
        self._aliases: dict[str, set[str]] = {}
        self._last_read = {
            str(name): index for index, node in enumerate(program.nodes) for name in node.reads()
        }
        self._last_read[program.output_name] = len(program.nodes)
        self._position = -1

    def add(self, node: Node) -> None:
        """Take in the next node."""
        self._position += 1
        if not node.outputs:
            return  # sizes and assertions
        try:
            found = self._computed(node)
        except UnsupportedLayerError as error:
            raise UnsupportedLayerError(f"{node}: {error}") from None
        except (NetreduceError, IndexError, KeyError, ValueError, TypeError) as error:
            raise ModelFileError(f"{node}: {error or type(error).__name__}") from None
        for name, shape, value in zip(node.outputs, node.shapes, found, strict=False):
            if isinstance(value, Value) and value.shape != shape:
                raise ModelFileError(
                    f"{node}: computes shape {value.shape}, the program says {shape}"
                )
            self._values[name] = value
        for name in node.outputs[len(found) :]:
            if name in self._last_read:
                raise UnsupportedLayerError(f"{node}: its output {name!r} is used")
        self._follow_aliases(node)
        for name in node.reads():
            if self._last_read.get(name) == self._position:
                self._values.pop(name, None)

    def network(self) -> Network:
        """The network, whose output is channels last."""
        return self._builder.network(self._builder.arranged(self._output()))

    def inputs(self, x: np.ndarray) -> np.ndarray:
        """A batch as the module reads it as one that the network reads."""
        flat = np.empty((len(x), math.prod(x.shape[1:])), x.dtype)
        flat[:, self._input.places.ravel()] = x.reshape(len(x), -1)
        return flat.reshape(len(x), *self._builder.shapes[INPUT])

    def outputs(self, y: np.ndarray) -> np.ndarray:
        """A batch of the network's outputs as the module computes them."""
        return np.moveaxis(y, -1, 1) if self._channels_last() else y

    def _output(self) -> Value:
        value = self._values.get(self._program.output_name)
        if not isinstance(value, Value):
            raise UnsupportedLayerError(
                f"output {self._program.output_name!r} does not depend on the input"
            )
        return value.moved(np.moveaxis(value.places, 0, -1)) if self._channels_last() else value

    def _channels_last(self) -> bool:
        """Whether the output is an image or a sequence of features, and not a vector or a table."""
        rank = self._values[self._program.output_name].places.ndim
        return rank == 3 or (rank == 2 and self._sequence)

    def _computed(self, node: Node) -> Sequence[Any]:
        arguments = Arguments(
            {name: self._resolved(value) for name, value in node.arguments.items()}, node
        )
        if not any(isinstance(self._values.get(name), Value) for name in node.reads()):
            return [_folded(node, arguments)]
        operator = OPERATORS.get(node.operation)
        if operator is None:
            inputs = [
                self._values[name].shape
                for name in node.reads()
                if isinstance(self._values.get(name), Value)
            ]
            raise UnsupportedLayerError(
                f"inputs of shape {', '.join(map(str, inputs))}; this operation is not supported."
                f" Known are: {', '.join(sorted(OPERATORS))}"
            )
        if node.shapes[0] is None:
            raise UnsupportedLayerError("it does not keep the samples of a batch apart")
        found = operator(self._builder, arguments)
        return found if isinstance(found, list) else [found]

    def _resolved(self, argument: object) -> object:
        if isinstance(argument, list):
            return [self._resolved(item) for item in argument]
        if not isinstance(argument, Name):
            return argument
        if argument not in self._values:
            raise ModelFileError(f"reads {str(argument)!r}, which nothing computes")
        return self._values[argument]

    def _follow_aliases(self, node: Node) -> None:
        """After an operation in place the names of what it changed stand for the result; views of
        it would have to change as well.
        """
        first = next(node.reads(), None)
        if first is None:
            return
        group = self._aliases.setdefault(first, {str(first)})
        if node.in_place:
            later = [
                name
                for name in group - {str(first)}
                if self._last_read.get(name, -1) > self._position
            ]
            if later:
                raise UnsupportedLayerError(
                    f"{node} changes {str(first)!r} in place while {later[0]!r}, a view of it, is"
                    " read afterwards: export.run_decompositions({}) makes a program without"
                    " changes in place"
                )
            self._values[first] = self._values[node.outputs[0]]
        if node.in_place or node.operation in VIEWS:
            for name in node.outputs:
                group.add(name)
                self._aliases[name] = group


class Arguments:
    """The arguments of a node by name, tensors as values or arrays."""

    def __init__(self, given: Mapping[str, Any], node: Node):
        self._given = given
        self.shape = node.shapes[0] if node.shapes else None
        self.shapes = node.shapes

    def get(self, name: str, default: Any = None) -> Any:
        """An argument as it is."""
        return self._given.get(name, default)

    @property
    def x(self) -> Value:
        """The tensor that the operation is about."""
        value = self._given.get("self", self._given.get("input"))
        if not isinstance(value, Value):
            raise UnsupportedLayerError("a constant is combined with the input in this order")
        return value

    def constant(self, name: str) -> np.ndarray | None:
        """An array that does not depend on the input."""
        value = self._given.get(name)
        if value is not None and not isinstance(value, np.ndarray):
            raise UnsupportedLayerError(f"its {name} depends on the input")
        return value

    def ints(self, name: str, default: int | Sequence[int], count: int) -> tuple[int, ...]:
        """So many whole numbers; one stands for all."""
        value = self._given.get(name, default)
        value = [value] if isinstance(value, int) else value
        if value == []:
            value = [default] if isinstance(default, int) else default
        if len(value) == 1:
            value = [*value] * count
        if len(value) != count:
            raise ModelFileError(f"{name} has {len(value)} numbers, expected {count}")
        return tuple(int(number) for number in value)

    def expect(self, name: str, *allowed: object) -> None:
        """Refuse an option with other values than these, the first of which is its default."""
        value = self._given.get(name, allowed[0])
        if value not in allowed:
            raise UnsupportedLayerError(
                f"{name} = {value!r} is not supported, only"
                f" {', '.join(repr(option) for option in allowed)}"
            )


# ------------------------------------------------------------------ convolutions and dense layers


def _convolution(builder: Builder, arguments: Arguments) -> Value:
    if arguments.get("transposed"):
        return _transposed_convolution(builder, arguments)
    x, weight, bias = _weights(arguments)
    count = weight.ndim - 2
    groups = arguments.get("groups", 1)
    strides = arguments.ints("stride", 1, count)
    dilation = arguments.ints("dilation", 1, count)
    padding = arguments.get("padding", 0)
    if padding == "same":
        total = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        sides = [(both // 2, both - both // 2) for both in total]
    elif padding == "valid":
        sides = [(0, 0)] * count
    else:
        sides = [(p, p) for p in arguments.ints("padding", 0, count)]
    kernel = _images(weight).transpose(2, 3, 1, 0)
    settings = {
        "strides": _two(strides),
        "dilation": _two(dilation),
        "padding": _four(sides),
    }
    if groups > 1 and kernel.shape[2] == 1:
        kernel = kernel.reshape(*kernel.shape[:2], groups, -1)
        layer: Layer = DepthwiseConv2D(kernel, bias, **settings)
    else:
        layer = Conv2D(kernel, bias, **settings, groups=groups)
    return _like(builder, builder.emit(layer, builder.image(x)), arguments)


def _transposed_convolution(builder: Builder, arguments: Arguments) -> Value:
    x, weight, bias = _weights(arguments)
    count = weight.ndim - 2
    if set(arguments.ints("dilation", 1, count)) != {1}:
        raise UnsupportedLayerError("transposed convolutions with dilation are not supported")
    groups = arguments.get("groups", 1)
    blocks = _images(weight).transpose(2, 3, 1, 0)
    if groups > 1:
        rows, columns, outputs, inputs = blocks.shape
        if blocks.size * groups > LARGEST_KERNEL:
            raise UnsupportedLayerError(f"{groups} groups make too large a kernel")
        kernel = np.zeros((rows, columns, outputs * groups, inputs), blocks.dtype)
        for group in range(groups):
            read = slice(group * inputs // groups, (group + 1) * inputs // groups)
            kernel[:, :, group * outputs : (group + 1) * outputs, read] = blocks[..., read]
        blocks = kernel
    more = arguments.ints("output_padding", 0, count)
    layer = Conv2DTranspose(
        blocks,
        bias,
        strides=_two(arguments.ints("stride", 1, count)),
        padding=_four([(p, p) for p in arguments.ints("padding", 0, count)]),
        output_padding=(0, *more)[-2:],
    )
    return _like(builder, builder.emit(layer, builder.image(x)), arguments)


def _weights(arguments: Arguments) -> tuple[Value, np.ndarray, np.ndarray | None]:
    weight, bias = arguments.constant("weight"), arguments.constant("bias")
    if weight is None or weight.ndim not in (3, 4):
        raise UnsupportedLayerError("only convolutions in one and two dimensions are supported")
    if arguments.x.places.ndim != weight.ndim - 1:
        raise UnsupportedLayerError("its input has no batch axis")
    return arguments.x, weight, bias


def _images(weight: np.ndarray) -> np.ndarray:
    """A kernel of one dimension as one of two with height 1."""
    return weight[:, :, None] if weight.ndim == 3 else weight


def _two(numbers: Sequence[int]) -> tuple[int, int]:
    return (1, *numbers)[-2:]  # type: ignore[return-value]


def _four(sides: Sequence[tuple[int, int]]) -> str | tuple[int, int, int, int]:
    """Padding before and after, of rows and columns, as it stands in a layer."""
    (top, bottom), (left, right) = ((0, 0), *sides)[-2:]
    return (top, bottom, left, right) if top or bottom or left or right else "valid"


def _like(builder: Builder, index: int, arguments: Arguments) -> Value:
    """An image that a layer computes, in the shape that the program gives it."""
    return builder.like(index, arguments.shape)


def _linear(builder: Builder, arguments: Arguments) -> Value:
    weight = arguments.constant("weight")
    return builder.dense(arguments.x, weight.T, arguments.constant("bias"))


def _addmm(builder: Builder, arguments: Arguments) -> Value:
    arguments.expect("alpha", 1)
    arguments.expect("beta", 1)
    x, kernel = arguments.get("mat1"), arguments.constant("mat2")
    if not isinstance(x, Value):
        raise UnsupportedLayerError("its first matrix does not depend on the input")
    bias = np.broadcast_to(arguments.constant("self"), kernel.shape[1:])
    return builder.dense(x, kernel, bias)


def _product(builder: Builder, arguments: Arguments) -> Value:
    other = "mat2" if arguments.get("mat2") is not None else "other"
    kernel = arguments.constant(other)
    if kernel.ndim != 2:
        raise UnsupportedLayerError(f"expected a matrix, found an array of shape {kernel.shape}")
    return builder.dense(arguments.x, kernel, None)


def _batch_norm(builder: Builder, arguments: Arguments) -> Value:
    if arguments.get("training", False) or arguments.get("running_mean") is None:
        raise UnsupportedLayerError(
            "it normalizes by the statistics of the batch: export the module in evaluation mode,"
            " with track_running_stats"
        )
    mean = arguments.constant("running_mean")
    weight, bias = arguments.constant("weight"), arguments.constant("bias")
    parameters = {
        "gamma": np.ones_like(mean) if weight is None else weight,
        "beta": np.zeros_like(mean) if bias is None else bias,
        "mean": mean,
        "variance": arguments.constant("running_var"),
    }
    return builder.normalized(arguments.x, parameters, arguments.get("eps", 1e-5))


# ------------------------------------------------------------------------------------ activations


def _activation(name: str, **options: object) -> Operator:
    """An activation by its name here; `options` are arguments that must have these values."""

    def operator(builder: Builder, arguments: Arguments) -> Value:
        for option, value in options.items():
            arguments.expect(option, value)
        return _elementwise(builder, arguments.x, Activation(name))

    return operator


def _elementwise(builder: Builder, x: Value, layer: Layer) -> Value:
    return Value(builder.emit(layer, x.layer), x.places)


def _leaky_relu(builder: Builder, arguments: Arguments) -> Value:
    slope = arguments.get("negative_slope", 0.01)
    return _elementwise(builder, arguments.x, Activation("leaky_relu", slope))


def _elu(builder: Builder, arguments: Arguments) -> Value:
    arguments.expect("scale", 1)
    arguments.expect("input_scale", 1)
    alpha = float(arguments.get("alpha", 1.0))
    return _elementwise(builder, arguments.x, Activation("elu", alpha=alpha))


def _gelu(builder: Builder, arguments: Arguments) -> Value:
    arguments.expect("approximate", "none", "tanh")
    name = "gelu_tanh" if arguments.get("approximate") == "tanh" else "gelu"
    return _elementwise(builder, arguments.x, Activation(name))


def _prelu(builder: Builder, arguments: Arguments) -> Value:
    x, weight = arguments.x, arguments.constant("weight")
    alpha = weight.reshape(-1, *(1,) * (x.places.ndim - 1))
    return _elementwise(builder, x, PReLU(builder.spread(x, alpha, 0)))


def _clamp(builder: Builder, arguments: Arguments) -> Value:
    return _clipped(builder, arguments.x, arguments.get("min"), arguments.get("max"))


def _hardtanh(builder: Builder, arguments: Arguments) -> Value:
    low, high = arguments.get("min_val", -1.0), arguments.get("max_val", 1.0)
    return _clipped(builder, arguments.x, low, high)


def _clipped(builder: Builder, x: Value, low: object, high: object) -> Value:
    """Between two numbers, of which one may be missing: a relu with a ceiling, shifted."""
    if not all(limit is None or isinstance(limit, int | float) for limit in (low, high)):
        raise UnsupportedLayerError("its limits depend on the input, or differ between elements")
    low = None if low is None or low == -math.inf else float(low)
    high = None if high is None or high == math.inf else float(high)
    if low is None and high is None:
        return x
    if low is None:  # −max(−x, −high)
        x = builder.scaled(x, np.float32(-1), np.float32(0))
        x = _clipped(builder, x, -high, None)
        return builder.scaled(x, np.float32(-1), np.float32(0))
    if low == 0:
        layer = Activation("relu6") if high == 6 else Activation("relu", max_value=high)
        return _elementwise(builder, x, layer)
    x = builder.scaled(x, np.float32(1), np.float32(-low))
    x = _clipped(builder, x, 0.0, None if high is None else high - low)
    return builder.scaled(x, np.float32(1), np.float32(low))


def _softmax(name: str) -> Operator:
    def operator(builder: Builder, arguments: Arguments) -> Value:
        x = arguments.x
        axis = _axis(arguments.get("dim"), x)
        last = x.moved(np.moveaxis(x.places, axis, -1))
        index = builder.emit(Activation(name), builder.arranged(last))
        return Value(index, np.moveaxis(builder.whole(index), -1, axis))

    return operator


# ---------------------------------------------------------------------------------------- pooling


def _pooling(kind: type[MaxPooling2D] | type[AveragePooling2D], count: int) -> Operator:
    def operator(builder: Builder, arguments: Arguments) -> Value:
        if set(arguments.ints("dilation", 1, count)) != {1}:
            raise UnsupportedLayerError("pooling with dilation is not supported")
        arguments.expect("divisor_override", None)
        size = arguments.ints("kernel_size", 1, count)
        strides = arguments.ints("stride", size, count)
        padding = arguments.ints("padding", 0, count)
        x, shape = arguments.x, arguments.shape
        beyond = [
            (out - 1) * s + k - (n + 2 * p) if arguments.get("ceil_mode") else 0
            for out, s, k, n, p in zip(shape[1:], strides, size, x.shape[1:], padding, strict=True)
        ]
        sides = [(p, p + max(0, more)) for p, more in zip(padding, beyond, strict=True)]
        settings: dict[str, Any] = {"strides": _two(strides), "padding": _four(sides)}
        if kind is AveragePooling2D:
            counted = bool(arguments.get("count_include_pad", True)) and any(padding)
            if counted and any(more > 0 for more in beyond):
                raise UnsupportedLayerError(
                    "an average that counts its padding but not what ceil_mode adds is not"
                    " supported"
                )
            settings["count_padding"] = counted
        index = builder.emit(kind(_two(size), **settings), builder.image(x))
        return _like(builder, index, arguments)

    return operator


def _adaptive(
    kind: type[MaxPooling2D] | type[AveragePooling2D],
    whole: type[GlobalMaxPooling2D] | type[GlobalAveragePooling2D],
) -> Operator:
    def operator(builder: Builder, arguments: Arguments) -> Value:
        x, shape = arguments.x, arguments.shape
        if x.shape == shape:
            return x
        if _all_one(shape[1:]):
            return _like(builder, builder.emit(whole(), builder.image(x)), arguments)
        if any(n % out for n, out in zip(x.shape[1:], shape[1:], strict=True)):
            raise UnsupportedLayerError(
                f"pooling of {x.shape[1:]} to {shape[1:]}: the sizes must divide, for windows of"
                " one size"
            )
        size = _two([n // out for n, out in zip(x.shape[1:], shape[1:], strict=True)])
        return _like(builder, builder.emit(kind(size), builder.image(x)), arguments)

    return operator


def _reduced(
    kind: type[MaxPooling2D] | type[AveragePooling2D],
    whole: type[GlobalMaxPooling2D] | type[GlobalAveragePooling2D],
) -> Operator:
    """A mean or a maximum over rows, columns or both."""

    def operator(builder: Builder, arguments: Arguments) -> Value:
        x, dims = arguments.x, arguments.get("dim")
        if dims is None or dims == []:
            raise UnsupportedLayerError("it does not keep the samples of a batch apart")
        axes = {_axis(dim, x) for dim in (dims if isinstance(dims, list) else [dims])}
        spatial = set(range(1, x.places.ndim))
        if not axes <= spatial:
            raise UnsupportedLayerError(
                f"it goes over axes {sorted(axis + 1 for axis in axes)}: only rows and columns can"
                " be"
            )
        image = builder.image(x)
        if axes == spatial:
            return _like(builder, builder.emit(whole(), image), arguments)
        size = tuple(x.shape[axis] if axis in axes else 1 for axis in (1, 2))
        return _like(builder, builder.emit(kind(size), image), arguments)

    return operator


# ------------------------------------------------------------------------- moving elements around


def _same(builder: Builder, arguments: Arguments) -> Value:
    return arguments.x


def _dropout(builder: Builder, arguments: Arguments) -> Value:
    if arguments.get("train", False):
        raise UnsupportedLayerError("dropout in training: export the module in evaluation mode")
    rate = arguments.get("p", 0.5)
    return _elementwise(builder, arguments.x, Dropout(rate)) if 0 < rate < 1 else arguments.x


def _reshaped(builder: Builder, arguments: Arguments) -> Value:
    return arguments.x.moved(arguments.x.places.reshape(arguments.shape))


def _squeezed(builder: Builder, arguments: Arguments) -> Value:
    dims = arguments.get("dim", [])
    for dim in dims if isinstance(dims, list) else [dims]:
        rank = arguments.x.places.ndim + (
            2 if len(arguments.shape) > arguments.x.places.ndim else 1
        )
        if dim % rank == 0:
            raise UnsupportedLayerError("it does not keep the samples of a batch apart")
    return _reshaped(builder, arguments)


def _expanded(builder: Builder, arguments: Arguments) -> Value:
    return arguments.x.moved(np.broadcast_to(arguments.x.places, arguments.shape))


def _permute(builder: Builder, arguments: Arguments) -> Value:
    return _transposed(arguments.x, arguments.get("dims"))


def _transpose(builder: Builder, arguments: Arguments) -> Value:
    x = arguments.x
    order = list(range(x.places.ndim + 1))
    first, second = (
        arguments.get(name, arguments.get(f"dim{i}", arguments.get(f"axis{i}"))) % len(order)
        for i, name in enumerate(("dim0", "dim1"))
    )
    order[first], order[second] = order[second], order[first]
    return _transposed(x, order)


def _transposed(x: Value, order: Sequence[int]) -> Value:
    rank = x.places.ndim + 1
    order = [dim % rank for dim in order]
    if order[0] != 0:
        raise UnsupportedLayerError("it does not keep the samples of a batch apart")
    return x.moved(x.places.transpose([dim - 1 for dim in order[1:]]))


def _slice(builder: Builder, arguments: Arguments) -> Value:
    x, dim = arguments.x, arguments.get("dim", 0)
    if dim % (x.places.ndim + 1) == 0:
        start, end = arguments.get("start"), arguments.get("end")
        if start in (None, 0) and (end is None or end >= 1 << 62) and arguments.get("step", 1) == 1:
            return x
        raise UnsupportedLayerError("it does not keep the samples of a batch apart")
    chosen = slice(arguments.get("start"), arguments.get("end"), arguments.get("step", 1))
    return x.moved(x.places[(slice(None),) * _axis(dim, x) + (chosen,)])


def _select(builder: Builder, arguments: Arguments) -> Value:
    x = arguments.x
    return x.moved(np.take(x.places, arguments.get("index"), axis=_axis(arguments.get("dim"), x)))


def _split(builder: Builder, arguments: Arguments) -> list[Value]:
    x, axis = arguments.x, _axis(arguments.get("dim", 0), arguments.x)
    lengths = [0 if shape is None else shape[axis] for shape in arguments.shapes]
    if sum(lengths) != x.shape[axis]:
        raise ModelFileError(f"parts of {lengths} do not make up {x.shape[axis]}")
    return [x.moved(part) for part in np.split(x.places, np.cumsum(lengths)[:-1], axis)]


def _concatenation(builder: Builder, arguments: Arguments) -> Value:
    values = arguments.get("tensors")
    if not all(isinstance(value, Value) for value in values):
        raise UnsupportedLayerError("constants are concatenated with what depends on the input")
    if len(values) == 1:
        return values[0]
    return builder.joined(values, _axis(arguments.get("dim", 0), values[0]))


def _pad(builder: Builder, arguments: Arguments) -> Value:
    arguments.expect("mode", "constant")
    value = arguments.get("value")
    if value not in (None, 0):
        raise UnsupportedLayerError(f"padding with {value} is not supported, only with zeros")
    x, numbers = arguments.x, arguments.get("pad")
    widths = [(numbers[i], numbers[i + 1]) for i in range(0, len(numbers), 2)][::-1]
    widths = [(0, 0)] * (x.places.ndim - len(widths)) + widths
    if len(widths) > x.places.ndim:
        raise UnsupportedLayerError("it does not keep the samples of a batch apart")
    if x.places.ndim == 1:
        index = builder.arranged(x.moved(x.places[None, :, None]))
        index = builder.emit(ZeroPadding2D((0, 0, *_positive(widths[0]))), index)
        return Value(index, builder.whole(index).reshape(arguments.shape))
    index = builder.image(x)
    (top, bottom), (left, right) = ((0, 0), *widths[1:])[-2:]
    if min(top, bottom, left, right) < 0:
        index = builder.emit(Cropping2D([max(0, -n) for n in (top, bottom, left, right)]), index)
    if max(top, bottom, left, right) > 0:
        index = builder.emit(ZeroPadding2D([max(0, n) for n in (top, bottom, left, right)]), index)
    if any(widths[0]):  # channels as columns of an image of one channel
        rows, columns, channels = builder.shapes[index]
        index = builder.emit(Reshape((rows * columns, channels, 1)), index)
        index = builder.emit(ZeroPadding2D((0, 0, *_positive(widths[0]))), index)
        index = builder.emit(Reshape((rows, columns, channels + sum(widths[0]))), index)
    return _like(builder, index, arguments)


def _positive(widths: tuple[int, int]) -> tuple[int, int]:
    if min(widths) < 0:
        raise UnsupportedLayerError("channels are cut off by negative padding")
    return widths


def _upsampling(interpolation: str) -> Operator:
    def operator(builder: Builder, arguments: Arguments) -> Value:
        arguments.expect("align_corners", False)
        x, shape = arguments.x, arguments.shape
        if any(out % n for n, out in zip(x.shape[1:], shape[1:], strict=True)):
            raise UnsupportedLayerError(
                f"upsampling of {x.shape[1:]} to {shape[1:]}: the sizes must be multiples"
            )
        size = _two([out // n for n, out in zip(x.shape[1:], shape[1:], strict=True)])
        return _like(
            builder, builder.emit(UpSampling2D(size, interpolation), builder.image(x)), arguments
        )

    return operator


def _pixel_shuffle(builder: Builder, arguments: Arguments) -> Value:
    x, factor = arguments.x, arguments.get("upscale_factor")
    channels, height, width = x.shape
    parts = x.places.reshape(channels // factor**2, factor, factor, height, width)
    return x.moved(parts.transpose(0, 3, 1, 4, 2).reshape(arguments.shape))


# -------------------------------------------------------------------------------------- arithmetic


def _sum(builder: Builder, arguments: Arguments) -> Value:
    return _combined(builder, arguments, Add(), 1)


def _difference(builder: Builder, arguments: Arguments) -> Value:
    return _combined(builder, arguments, Subtract(), -1)


def _reversed_difference(builder: Builder, arguments: Arguments) -> Value:
    arguments.expect("alpha", 1)
    return builder.scaled(arguments.x, np.float32(-1), _number(arguments.get("other"), arguments.x))


def _combined(builder: Builder, arguments: Arguments, layer: Layer, sign: int) -> Value:
    """x + sign · alpha · other."""
    x, other = arguments.get("self"), arguments.get("other")
    alpha = arguments.get("alpha", 1)
    if isinstance(x, Value) and isinstance(other, Value):
        if alpha != 1:
            other = builder.scaled(other, np.float32(alpha), np.float32(0))
        if x.shape != other.shape:
            raise UnsupportedLayerError(
                f"shapes {x.shape} and {other.shape} differ: only equal ones can be added"
            )
        return _joined(builder, layer, [x, other])
    if isinstance(x, Value):
        return builder.scaled(x, np.float32(1), sign * alpha * _number(other, x))
    return builder.scaled(other, np.float32(sign * alpha), _number(x, other))


def _multiplication(builder: Builder, arguments: Arguments) -> Value:
    x, other = arguments.get("self"), arguments.get("other")
    if isinstance(x, Value) and isinstance(other, Value):
        if x.places.ndim != other.places.ndim:
            raise UnsupportedLayerError(
                f"a product of shapes {x.shape} and {other.shape} is not supported"
            )
        return _joined(builder, Multiply(), [_once(x), _once(other)])
    value, constant = (x, other) if isinstance(x, Value) else (other, x)
    return builder.scaled(value, _number(constant, value), np.float32(0))


def _once(value: Value) -> Value:
    """A value without the copies that it was expanded to: a product makes them itself."""
    copied = [stride == 0 for stride in value.places.strides]
    return value.moved(value.places[tuple(slice(1 if copy else None) for copy in copied)])


def _division(builder: Builder, arguments: Arguments) -> Value:
    arguments.expect("rounding_mode", None)
    x, other = arguments.x, arguments.get("other")
    if isinstance(other, Value):
        raise UnsupportedLayerError("a quotient of two values is not supported")
    return builder.scaled(x, 1 / _number(other, x), np.float32(0))


def _negative(builder: Builder, arguments: Arguments) -> Value:
    return builder.scaled(arguments.x, np.float32(-1), np.float32(0))


def _joined(builder: Builder, layer: Layer, values: Sequence[Value]) -> Value:
    """A layer of several values, element by element."""
    first = values[0]
    shape = builder.shapes[first.layer]
    if all(
        builder.shapes[value.layer] == shape and np.array_equal(value.places, first.places)
        for value in values
    ):
        index = builder.emit(layer, *(value.layer for value in values))
        return Value(index, first.places)
    result = np.broadcast_shapes(*(value.shape for value in values))
    if first.places.ndim in (2, 3):
        return builder.like(builder.emit(layer, *map(builder.image, values)), result)
    index = builder.emit(layer, *map(builder.arranged, values))
    return Value(index, builder.whole(index))


def _number(constant: Constant, value: Value) -> np.ndarray:
    """A constant in float32 (float64 stays), without the axis of the batch."""
    array = np.asarray(constant)
    if isinstance(constant, int | float) or array.dtype != np.float64:
        array = array.astype(np.float32)
    if array.ndim == value.places.ndim + 1:
        if array.shape[0] != 1:
            raise UnsupportedLayerError("a constant differs between the samples of a batch")
        array = array[0]
    return array


# --------------------------------------------------------------------------------- constants, axes


def _folded(node: Node, arguments: Arguments) -> np.ndarray:
    """The result of an operation on constants, computed by PyTorch."""
    import torch

    if node.operation not in FOLDED:
        raise UnsupportedLayerError("this operation on constants is not supported")

    def tensors(value: object) -> object:
        if isinstance(value, np.ndarray):
            return torch.from_numpy(value.copy())
        return [tensors(item) for item in value] if isinstance(value, list) else value

    operation = getattr(torch.ops.aten, node.operation)
    return operation(**{name: tensors(arguments.get(name)) for name in node.arguments}).numpy()


def _axis(dim: int, value: Value) -> int:
    """An axis of the graph as one of a sample."""
    rank = value.places.ndim + 1
    if not -rank <= dim < rank:
        raise ShapeError(f"axis {dim} of {rank} axes")
    if dim % rank == 0:
        raise UnsupportedLayerError("it does not keep the samples of a batch apart")
    return dim % rank - 1


def _all_one(shape: Sequence[int]) -> bool:
    return all(length == 1 for length in shape)


FOLDED = frozenset(
    (
        *("add", "sub", "mul", "div", "neg", "sqrt", "rsqrt", "exp", "reciprocal"),
        *(
            "t",
            "transpose",
            "permute",
            "view",
            "reshape",
            "unsqueeze",
            "squeeze",
            "flatten",
            "select",
        ),
        *("detach", "clone", "alias", "contiguous", "lift_fresh_copy", "_weight_norm"),
    )
)
VIEWS = frozenset(
    (
        *("view", "reshape", "flatten", "permute", "transpose", "t", "swapaxes", "unsqueeze"),
        *("squeeze", "slice", "select", "chunk", "split", "split_with_sizes", "detach", "alias"),
        *("contiguous", "to", "unflatten", "_unsafe_view", "movedim", "numpy_T", "dropout"),
        *("feature_dropout", "expand"),
    )
)
OPERATORS: dict[str, Operator] = {
    **dict.fromkeys(("conv1d", "conv2d", "convolution", "_convolution"), _convolution),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d"), _transposed_convolution),
    "linear": _linear,
    "addmm": _addmm,
    **dict.fromkeys(("mm", "matmul"), _product),
    **dict.fromkeys(
        (
            "batch_norm",
            "native_batch_norm",
            "_native_batch_norm_legit_no_training",
            "cudnn_batch_norm",
        ),
        _batch_norm,
    ),
    **{name: _activation(name) for name in ("relu", "relu6", "sigmoid", "tanh", "silu", "selu")},
    "mish": _activation("mish"),
    "exp": _activation("exponential"),
    "softplus": _activation("softplus", beta=1, threshold=20),
    "hardswish": _activation("hard_swish"),
    "hardsigmoid": _activation("hard_sigmoid"),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "gelu": _gelu,
    **dict.fromkeys(("prelu", "_prelu_kernel"), _prelu),
    **dict.fromkeys(("clamp", "clamp_min", "clamp_max"), _clamp),
    "hardtanh": _hardtanh,
    **dict.fromkeys(("softmax", "_softmax"), _softmax("softmax")),
    **dict.fromkeys(("log_softmax", "_log_softmax"), _softmax("log_softmax")),
    **dict.fromkeys(("max_pool2d", "max_pool2d_with_indices"), _pooling(MaxPooling2D, 2)),
    **dict.fromkeys(("max_pool1d", "max_pool1d_with_indices"), _pooling(MaxPooling2D, 1)),
    "avg_pool2d": _pooling(AveragePooling2D, 2),
    "avg_pool1d": _pooling(AveragePooling2D, 1),
    **dict.fromkeys(
        ("adaptive_avg_pool2d", "_adaptive_avg_pool2d", "adaptive_avg_pool1d"),
        _adaptive(AveragePooling2D, GlobalAveragePooling2D),
    ),
    **dict.fromkeys(
        ("adaptive_max_pool2d", "adaptive_max_pool1d"),
        _adaptive(MaxPooling2D, GlobalMaxPooling2D),
    ),
    "mean": _reduced(AveragePooling2D, GlobalAveragePooling2D),
    "amax": _reduced(MaxPooling2D, GlobalMaxPooling2D),
    **dict.fromkeys(
        (
            *("contiguous", "clone", "alias", "detach", "to", "_to_copy", "lift_fresh_copy"),
            *("identity", "feature_dropout", "alpha_dropout", "native_dropout"),
        ),
        _same,
    ),
    "dropout": _dropout,
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten", "_unsafe_view"), _reshaped),
    **dict.fromkeys(("squeeze", "unsqueeze"), _squeezed),
    **dict.fromkeys(("expand", "expand_as"), _expanded),
    "permute": _permute,
    **dict.fromkeys(("transpose", "swapaxes"), _transpose),
    "slice": _slice,
    "select": _select,
    **dict.fromkeys(("chunk", "split", "split_with_sizes"), _split),
    **dict.fromkeys(("cat", "concat"), _concatenation),
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
    **dict.fromkeys(
        ("upsample_nearest2d", "upsample_nearest1d", "_upsample_nearest_exact2d"),
        _upsampling("nearest"),
    ),
    "upsample_bilinear2d": _upsampling("bilinear"),
    "pixel_shuffle": _pixel_shuffle,
    "add": _sum,
    "sub": _difference,
    "rsub": _reversed_difference,
    "mul": _multiplication,
    "div": _division,
    "neg": _negative,
}
