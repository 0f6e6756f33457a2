"""A network from the graph of a PyTorch program."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from netreduce.errors import ModelFileError, NetreduceError, UnsupportedLayerError
from netreduce.network import INPUT, Network

from .arguments import Arguments, Operator
from .elementwise import ELEMENTWISE
from .layers import LAYERS
from .moves import MOVES, VIEWS
from .program import Name, Node, Program
from .values import Builder, Value

SPATIAL_1D = ("conv1d", "conv_transpose1d", "max_pool1d", "avg_pool1d", "adaptive_avg_pool1d")
FOLDED = frozenset(  # operations on constants, which PyTorch computes
    (
        *("add", "sub", "mul", "div", "neg", "sqrt", "rsqrt", "exp", "reciprocal", "_weight_norm"),
        *("t", "transpose", "permute", "view", "reshape", "unsqueeze", "squeeze", "flatten"),
        *("select", "detach", "clone", "alias", "contiguous", "lift_fresh_copy"),
    )
)
OPERATORS: dict[str, Operator] = {**LAYERS, **ELEMENTWISE, **MOVES}


class Converter:
    """A network built node by node from a program."""

    def __init__(self, program: Program):
        self._program = program
        shape = program.input_shape
        self._sequence = len(shape) == 2 and any(
            node.operation in SPATIAL_1D
            or getattr(program.constants.get(str(node.arguments.get("weight"))), "ndim", 0) == 3
            for node in program.nodes
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
        output = self._output()
        return self._builder.network(self._builder.arranged(output.layer, output.places))

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
        if not node.keeps_type and len(node.outputs) == 1:
            raise UnsupportedLayerError("it makes numbers of another type")
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
