"""A network: an immutable sequence of layers, or a small graph of them."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from netreduce.errors import ParameterError, SampleError, ShapeError

from .layers import Activation, Layer, Shape

INPUT = -1  # the source that stands for the network's input
SHOWN = 12  # layers up to which repr names each


@dataclass(frozen=True, eq=False)
class Network:
    """Layers in topological order; without `sources`, each one feeds the next.

    Parameters
    ----------
    layers : sequence of Layer
        The last one computes the output.
    input_shape : tuple of int
        Shape of one sample, without the batch axis.
    sources : sequence of tuple of int, optional
        For every layer the indices of the layers it reads, INPUT (−1) for the network's input.

    Attributes
    ----------
    shapes : tuple of tuple of int
        Output shape of every layer, without the batch axis.
    names : tuple of str
        A unique name for every layer, such as conv2d_1, dense_2; files and messages use them.

    Raises
    ------
    ShapeError
        When layers do not fit together: names the layer, the shape found and the shape expected.

    Examples
    --------
    >>> from netreduce import Dense
    >>> Network([Dense(np.ones((4, 3)), activation="relu"), Dense(np.ones((3, 2)))], (4,))
    <Network (4,) → (2,): dense_1, dense_2; 23 parameters>
    """

    layers: Sequence[Layer]
    input_shape: tuple[int, ...]
    sources: Sequence[tuple[int, ...]] = None  # type: ignore[assignment]  # each the one before
    shapes: tuple[tuple[int, ...], ...] = field(init=False, repr=False)
    names: tuple[str, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        layers = tuple(self.layers)
        if not layers:
            raise ShapeError("a network needs at least one layer")
        for index, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise ShapeError(
                    f"layer {index} is a {type(layer).__name__}, not a netreduce layer"
                )
        sources = (
            tuple((i - 1,) for i in range(len(layers)))
            if self.sources is None
            else tuple(map(tuple, self.sources))
        )
        set_ = object.__setattr__
        set_(self, "layers", layers)
        set_(self, "input_shape", tuple(int(n) for n in self.input_shape))
        set_(self, "sources", sources)
        set_(self, "names", _names(layers))
        set_(self, "shapes", self._infer_shapes())

    def _infer_shapes(self) -> tuple[Shape, ...]:
        if len(self.sources) != len(self.layers):
            raise ShapeError(
                f"{len(self.layers)} layers need as many sources, found {len(self.sources)}"
            )
        shapes: list[Shape] = []
        for index, (name, layer, sources) in enumerate(
            zip(self.names, self.layers, self.sources, strict=True)
        ):
            if not sources or any(not INPUT <= source < index for source in sources):
                raise ShapeError(
                    f"{name} (layer {index}) must read earlier layers or the input (−1), found"
                    f" sources {sources}"
                )
            inputs = [self.input_shape if source == INPUT else shapes[source] for source in sources]
            try:
                shapes.append(layer.output_shape(*inputs))
            except (ShapeError, TypeError) as error:
                raise ShapeError(f"{name} (layer {index}): {error}") from None
        return tuple(shapes)

    @property
    def is_sequence(self) -> bool:
        """Whether each layer reads just the one before it."""
        return all(sources == (index - 1,) for index, sources in enumerate(self.sources))

    @property
    def dtype(self) -> np.dtype:
        """Floating type in which the network computes: that of its widest parameter, float32 if it
        has none.
        """
        return np.result_type(
            np.float32, *(array for layer in self.layers for array in layer.arrays().values())
        )

    def readers(self, index: int) -> tuple[int, ...]:
        """Indices of the layers that read the output of layer `index`."""
        return tuple(i for i, sources in enumerate(self.sources) if index in sources)

    def replace(self, layers: Mapping[int, Layer]) -> "Network":
        """A copy of the network with the layers at some indices exchanged."""
        return Network(
            [layers.get(i, layer) for i, layer in enumerate(self.layers)],
            self.input_shape,
            self.sources,
        )

    def activations(self, x: np.ndarray) -> Iterator[np.ndarray]:
        """Outputs of every layer in turn for one batch; each is let go after its last reader."""
        return self.activations_from({INPUT: x})

    def activations_from(
        self, values: dict[int, np.ndarray], start: int = 0
    ) -> Iterator[np.ndarray]:
        """Outputs of the layers from `start` on in turn, from what they read. These go into
        `values`, and out of it after their last reader.
        """
        last_reader = {
            source: index for index, sources in enumerate(self.sources) for source in sources
        }
        for index in range(start, len(self.layers)):
            sources = self.sources[index]
            values[index] = self.layers[index](*(values[source] for source in sources))
            yield values[index]
            for source in sources:
                if last_reader[source] == index:
                    values.pop(source, None)

    def predict(self, x: np.ndarray, batch_size: int = 256) -> np.ndarray:
        """Outputs of the network; where weights and activations all lie on grids, computed in
        integers, as its exported file does (`IntegerNetwork`).

        Parameters
        ----------
        x : ndarray, shape (samples, *input_shape)
        batch_size : int
            Samples that go through the layers at a time.

        Returns
        -------
        ndarray, shape (samples, *shapes[-1])
        """
        from .integers import IntegerNetwork, in_integers

        if in_integers(self):
            return IntegerNetwork(self).predict(x, batch_size)
        x = self.check_samples(x)
        out = np.empty((len(x), *self.shapes[-1]), self.dtype)
        for start in range(0, len(x), batch_size):
            batch = x[start : start + batch_size].astype(self.dtype, copy=False)
            out[start : start + batch_size] = deque(self.activations(batch), maxlen=1).pop()
        return out

    def check_samples(self, x: ArrayLike) -> np.ndarray:
        """Samples as an array of shape (samples, *input_shape); raises SampleError otherwise."""
        x = np.asarray(x)
        if x.ndim != len(self.input_shape) + 1 or x.shape[1:] != self.input_shape:
            expected = ", ".join(map(str, self.input_shape))
            raise SampleError(f"samples must have shape (samples, {expected}), found {x.shape}")
        if x.dtype.kind not in "fiub":
            raise SampleError(f"samples must be real numbers, found dtype {x.dtype}")
        if x.dtype.kind == "f" and not np.isfinite(x).all():
            raise SampleError(
                f"samples must be finite, found {np.count_nonzero(~np.isfinite(x))} NaN or infinite"
                " values"
            )
        return x

    def check_parameters(self) -> None:
        """Raise ParameterError that names layer and array where a value is NaN or infinite."""
        for name, layer in zip(self.names, self.layers, strict=True):
            for field_name, array in layer.arrays().items():
                if not np.isfinite(array).all():
                    raise ParameterError(
                        f"{name}: {np.count_nonzero(~np.isfinite(array))} values of its"
                        f" {field_name} are NaN or infinite"
                    )

    def logits(self) -> "Network":
        """The network without a softmax or log_softmax at its end."""
        last, index = self.layers[-1], len(self.layers) - 1
        function = getattr(last, "function", None)
        if function is None or function.elementwise:
            return self
        if not isinstance(last, Activation):
            return self.replace({index: last.replace(activation="linear")})
        if index and self.sources[-1] == (index - 1,):
            return Network(self.layers[:-1], self.input_shape, self.sources[:-1])
        return self.replace({index: Activation("linear")})

    def __repr__(self) -> str:
        parameters = sum(a.size for layer in self.layers for a in layer.arrays().values())
        names = self.names
        if len(names) > SHOWN:
            names = (*names[:3], f"… {len(names) - 4} more …", names[-1])
        return (
            f"<Network {self.input_shape} → {self.shapes[-1]}: {', '.join(names)};"
            f" {parameters:,} parameters>"
        )

    def summary(self) -> str:
        """A table of layers, output shapes and parameter counts."""
        rows = [("layer", "output shape", "parameters", "reads")]
        for i, (name, layer) in enumerate(zip(self.names, self.layers, strict=True)):
            count = sum(array.size for array in layer.arrays().values())
            reads = ", ".join("input" if s == INPUT else self.names[s] for s in self.sources[i])
            rows.append(
                (name, str(self.shapes[i]), f"{count:,}", "" if self.is_sequence else reads)
            )
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            for row in rows
        )


def _names(layers: Sequence[Layer]) -> tuple[str, ...]:
    counts: dict[str, int] = {}
    names = []
    for layer in layers:
        kind = SHORT_NAMES.get(type(layer).__name__, type(layer).__name__.lower())
        counts[kind] = counts.get(kind, 0) + 1
        names.append(f"{kind}_{counts[kind]}")
    return tuple(names)


SHORT_NAMES = {
    "ActivationGrid": "activation_grid",
    "BatchNormalization": "batch_normalization",
    "DepthwiseConv2D": "depthwise_conv2d",
    "MaxPooling2D": "max_pooling2d",
    "AveragePooling2D": "average_pooling2d",
    "GlobalAveragePooling2D": "global_average_pooling2d",
    "GlobalMaxPooling2D": "global_max_pooling2d",
    "Conv2DTranspose": "conv2d_transpose",
    "ZeroPadding2D": "zero_padding2d",
    "UpSampling2D": "up_sampling2d",
}
