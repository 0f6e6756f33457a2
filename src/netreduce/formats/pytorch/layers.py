"""PyTorch's operations with weights or windows, as layers."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from netreduce.errors import UnsupportedLayerError
from netreduce.formats.kernels import ungrouped
from netreduce.network.layers import (
    AveragePooling2D,
    Conv2D,
    Conv2DTranspose,
    Cropping2D,
    DepthwiseConv2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Layer,
    MaxPooling2D,
    Reshape,
    UpSampling2D,
    ZeroPadding2D,
)

from .arguments import Arguments, Operator, axis_of, like
from .values import Builder, Value


def _convolution(builder: Builder, arguments: Arguments) -> Value:
    if arguments.get("transposed"):
        return _transposed_convolution(builder, arguments)
    x, weight, bias = _weights(arguments, 0)
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
    settings: dict[str, Any] = {
        "strides": _two(strides),
        "dilation": _two(dilation),
        "padding": _four(sides),
    }
    if groups > 1 and kernel.shape[2] == 1:
        kernel = kernel.reshape(*kernel.shape[:2], groups, -1)
        layer: Layer = DepthwiseConv2D(kernel, bias, **settings)
    else:
        layer = Conv2D(kernel, bias, **settings, groups=groups)
    return like(builder, builder.emit(layer, builder.image(x)), arguments)


def _transposed_convolution(builder: Builder, arguments: Arguments) -> Value:
    x, weight, bias = _weights(arguments, 1)
    count = weight.ndim - 2
    if set(arguments.ints("dilation", 1, count)) != {1}:
        raise UnsupportedLayerError("transposed convolutions with dilation are not supported")
    kernel = ungrouped(_images(weight).transpose(2, 3, 1, 0), arguments.get("groups", 1))
    more = arguments.ints("output_padding", 0, count)
    layer = Conv2DTranspose(
        kernel,
        bias,
        strides=_two(arguments.ints("stride", 1, count)),
        padding=_four([(p, p) for p in arguments.ints("padding", 0, count)]),
        output_padding=_two((0, *more)[-2:]),
    )
    return like(builder, builder.emit(layer, builder.image(x)), arguments)


def _weights(arguments: Arguments, axis: int) -> tuple[Value, np.ndarray, np.ndarray]:
    """Input, kernel and bias; the outputs of each group are on that axis of the kernel."""
    weight, bias = arguments.constant("weight"), arguments.optional("bias")
    if weight.ndim not in (3, 4):
        raise UnsupportedLayerError("only convolutions in one and two dimensions are supported")
    if arguments.x.places.ndim != weight.ndim - 1:
        raise UnsupportedLayerError("its input has no batch axis")
    if bias is None:
        outputs = weight.shape[axis] * (arguments.get("groups", 1) if axis else 1)
        bias = np.zeros(outputs, weight.dtype)
    return arguments.x, weight, bias


def _images(weight: np.ndarray) -> np.ndarray:
    """A kernel of one dimension as one of two with height 1."""
    return weight[:, :, None] if weight.ndim == 3 else weight


def _two(numbers: Sequence[int]) -> tuple[int, int]:
    first, second = (1, *numbers)[-2:]
    return first, second


def _four(sides: Sequence[tuple[int, int]]) -> str | tuple[int, int, int, int]:
    """Padding before and after, of rows and columns, as it stands in a layer."""
    (top, bottom), (left, right) = ((0, 0), *sides)[-2:]
    return (top, bottom, left, right) if top or bottom or left or right else "valid"


def _linear(builder: Builder, arguments: Arguments) -> Value:
    weight = arguments.constant("weight")
    return builder.dense(arguments.x, weight.T, arguments.optional("bias"))


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
    weight, bias = arguments.optional("weight"), arguments.optional("bias")
    parameters = {
        "gamma": np.ones_like(mean) if weight is None else weight,
        "beta": np.zeros_like(mean) if bias is None else bias,
        "mean": mean,
        "variance": arguments.constant("running_var"),
    }
    return builder.normalized(arguments.x, parameters, arguments.get("eps", 1e-5))


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
        return like(builder, index, arguments)

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
            return like(builder, builder.emit(whole(), builder.image(x)), arguments)
        if all(out % n == 0 for n, out in zip(x.shape[1:], shape[1:], strict=True)):
            return _enlarged(builder, arguments, "nearest")  # windows of one element
        if any(n % out for n, out in zip(x.shape[1:], shape[1:], strict=True)):
            raise UnsupportedLayerError(
                f"pooling of {x.shape[1:]} to {shape[1:]}: the sizes must divide, for windows of"
                " one size"
            )
        size = _two([n // out for n, out in zip(x.shape[1:], shape[1:], strict=True)])
        return like(builder, builder.emit(kind(size), builder.image(x)), arguments)

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
        axes = {axis_of(dim, x) for dim in (dims if isinstance(dims, list) else [dims])}
        spatial = set(range(1, x.places.ndim))
        if not axes <= spatial:
            raise UnsupportedLayerError(
                f"it goes over axes {sorted(axis + 1 for axis in axes)}: only rows and columns can"
                " be"
            )
        image = builder.image(x)
        if axes == spatial:
            return like(builder, builder.emit(whole(), image), arguments)
        size = _two([x.shape[axis] if axis in axes else 1 for axis in (1, 2)])
        return like(builder, builder.emit(kind(size), image), arguments)

    return operator


def _all_one(shape: Sequence[int]) -> bool:
    return all(length == 1 for length in shape)


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
        index = builder.arranged(x.layer, x.places[None, :, None])
        index = builder.emit(ZeroPadding2D((0, 0, *_positive(widths[0]))), index)
        return Value(index, builder.whole(index).reshape(arguments.shape))
    index = builder.image(x)
    (top, bottom), (left, right) = ((0, 0), *widths[1:])[-2:]
    if min(top, bottom, left, right) < 0:
        cut = (max(0, -top), max(0, -bottom), max(0, -left), max(0, -right))
        index = builder.emit(Cropping2D(cut), index)
    if max(top, bottom, left, right) > 0:
        added = (max(0, top), max(0, bottom), max(0, left), max(0, right))
        index = builder.emit(ZeroPadding2D(added), index)
    if any(widths[0]):  # channels as columns of an image of one channel
        rows, columns, channels = builder.shapes[index]
        index = builder.emit(Reshape((rows * columns, channels, 1)), index)
        index = builder.emit(ZeroPadding2D((0, 0, *_positive(widths[0]))), index)
        index = builder.emit(Reshape((rows, columns, channels + sum(widths[0]))), index)
    return like(builder, index, arguments)


def _positive(widths: tuple[int, int]) -> tuple[int, int]:
    if min(widths) < 0:
        raise UnsupportedLayerError("channels are cut off by negative padding")
    return widths


def _upsampling(interpolation: str) -> Operator:
    return lambda builder, arguments: _enlarged(builder, arguments, interpolation)


def _enlarged(builder: Builder, arguments: Arguments, interpolation: str) -> Value:
    arguments.expect("align_corners", False)
    x, shape = arguments.x, arguments.shape
    if any(out % n for n, out in zip(x.shape[1:], shape[1:], strict=True)):
        raise UnsupportedLayerError(
            f"upsampling of {x.shape[1:]} to {shape[1:]}: the sizes must be multiples"
        )
    factors = [out // n for n, out in zip(x.shape[1:], shape[1:], strict=True)]
    given = arguments.get("scale_factors") or [
        arguments.get(name) for name in ("scales_h", "scales_w", "scales")
    ]
    if [scale for scale in given if scale is not None] not in ([], factors):
        raise UnsupportedLayerError(
            f"upsampling of {x.shape[1:]} to {shape[1:]} by {given}: the factors must be whole"
        )
    layer = UpSampling2D(_two(factors), interpolation)
    return like(builder, builder.emit(layer, builder.image(x)), arguments)


LAYERS: dict[str, Operator] = {
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
    **dict.fromkeys(("pad", "constant_pad_nd"), _pad),
    **dict.fromkeys(
        ("upsample_nearest2d", "upsample_nearest1d", "_upsample_nearest_exact2d"),
        _upsampling("nearest"),
    ),
    "upsample_bilinear2d": _upsampling("bilinear"),
}
