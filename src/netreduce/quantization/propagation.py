"""The samples on their way through the analog and the quantized network, from one quantized layer
to the next.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from netreduce.errors import SampleError
from netreduce.network import INPUT, Network
from netreduce.network.layers import ActivationGrid, Dropout, Layer, Weighted
from netreduce.threads import in_order

from .gram import accumulate, total, worth_apart
from .samples import Budget, Chunks, Samples

Output = tuple[int, bool]  # a layer, and whether that of the quantized network is meant
Inputs = tuple[Output, Output | None]  # what a layer reads in the quantized and the analog network
Matrices = tuple[np.ndarray, np.ndarray]


class Propagation:
    """Gram matrices of layer inputs; every layer output is computed once and kept for the layers
    that still read it.

    An output is named (layer, quantized): the one of the analog or of the quantized network. Where
    no layer before it is quantized both agree, and only (layer, False) exists. An ActivationGrid
    rounds in the quantized network only, so that weights behind it make up for its errors too.

    Parameters
    ----------
    network : Network
    samples : array or iterable
    memory : int
        Bytes of outputs held in memory; the others are in temporary files.
    keep : bool
        Whether what does not depend on quantized layers (analog outputs, Gram matrices) is kept for
        the next `start`.
    """

    def __init__(
        self,
        network: Network,
        samples: np.ndarray | Iterable[np.ndarray] | None,
        memory: float,
        keep: bool,
    ) -> None:
        self.network, self.keep = network, keep
        self.samples, self.budget = Samples(network, samples), Budget(memory)
        self.outputs: dict[Output, Chunks] = {}
        self.grams: dict[tuple[int, str, bool], Matrices] = {}
        # the target: the network whose activations are not rounded
        self.analog = [
            Dropout() if isinstance(layer, ActivationGrid) else layer for layer in network.layers
        ]
        self.cheap = {INPUT}  # recomputed from the samples rather than kept
        for index, layer in enumerate(network.layers):
            if not layer.arrays() and self.cheap.issuperset(network.sources[index]):
                self.cheap.add(index)

    def start(self, selected: Sequence[int], with_analog: bool, whole: bool) -> None:
        """Begin with the analog network, to quantize the layers `selected`; whether G is wanted,
        and whether all of it.
        """
        self.layers, self.selected, self.with_analog, self.whole = (
            list(self.network.layers),
            selected,
            with_analog,
            whole,
        )
        self.touched: set[int] = set()  # layers whose outputs differ between the two networks
        self._drop({output for output in self.outputs if output[1]})
        for index, layer in enumerate(self.layers):
            if isinstance(layer, ActivationGrid):
                self._touch(index)

    def exchange(self, index: int, layer: Layer) -> None:
        """Put a quantized layer into the quantized network."""
        self.layers[index] = layer
        self._drop({output for output in self.outputs if output[1] and output[0] >= index})
        self._touch(index)

    def _touch(self, index: int) -> None:
        """A layer's outputs differ between the two networks, and those of all behind it."""
        for i, sources in enumerate(self.network.sources):
            if i == index or not self.touched.isdisjoint(sources):
                self.touched.add(i)

    def gram(
        self, index: int, conv: str, constant: bool, weights: np.ndarray | None = None
    ) -> Matrices:
        """G and H of the inputs of layer `index`, or with `weights` Gw and H, as `accumulate` gives
        them; raises SampleError when they are not finite.
        """
        (source,) = self.network.sources[index]
        inputs = (
            self._output(source, True),
            self._output(source, False) if self.with_analog else None,
        )
        key = (index, conv, constant)
        same = source not in self.touched
        known = self.grams.get(key) if same else None

        live = {
            s for sources in self.network.sources[index:] for s in sources if s < index
        } - self.cheap
        kept = {self._output(s, True) for s in live} | (
            {self._output(s, False) for s in live} if self.with_analog else set()
        )
        last = index == self.selected[-1]
        new = {
            output
            for output in kept - self.outputs.keys()
            if not last or (self.keep and not output[1])
        }
        old = {output for output in self.outputs.keys() - kept if output[1] or not self.keep}
        layer = self.network.layers[index]
        assert isinstance(layer, Weighted)
        if known is None:
            apart = worth_apart(
                layer, conv, self.samples.chunk_size * math.prod(self.network.shapes[index][:-1])
            )
            known = total(
                self._passes(
                    apart,
                    inputs,
                    new,
                    old,
                    lambda pairs: accumulate(
                        layer, conv, pairs, constant, self.whole, None if same else weights
                    ),
                )
            )
            self._check(index, known)
            if self.keep and same:
                self.grams[key] = known
        elif new:
            deque(self._passes(True, inputs, new, old, lambda pairs: None), maxlen=0)
        self._drop(old)
        return (known[1] @ weights, known[1]) if same and weights is not None else known

    def _check(self, index: int, matrices: Matrices) -> None:
        if not all(np.isfinite(matrix).all() for matrix in matrices):
            raise SampleError(
                f"{self.network.names[index]}: its inputs overflow on these samples, in the analog"
                " or the quantized network"
            )

    def _output(self, layer: int, quantized: bool) -> Output:
        return layer, quantized and layer in self.touched

    def _passes(
        self,
        apart: bool,
        inputs: Inputs,
        new: set[Output],
        old: set[Output],
        use: Callable[[Iterable], Any],
    ) -> Iterable:
        """What `use` makes of the outputs named in `inputs`: of each chunk by itself, in threads,
        or of all, one after the other.

        Keeps the `new` outputs and lets go of the `old` ones.
        """
        plan = self._plan({output for output in (*inputs, *new) if output is not None})
        self.outputs.update((output, Chunks(self.budget)) for output in new)
        chunks = enumerate(
            self.samples if (INPUT, False) in plan else [None] * self.samples.chunk_count
        )
        if apart:
            return in_order(
                lambda chunk: use([self._step(plan, chunk[0], chunk[1], inputs, new, old)]), chunks
            )
        return [use(self._step(plan, *chunk, inputs, new, old) for chunk in chunks)]

    def _step(
        self,
        plan: Sequence[Output],
        number: int,
        chunk: np.ndarray | None,
        inputs: Inputs,
        new: set[Output],
        old: set[Output],
    ) -> tuple[np.ndarray | None, ...]:
        """Follows the plan for one chunk of the samples; returns the outputs named in `inputs`."""
        values: dict[Output, Any] = {(INPUT, False): chunk}

        def value(output: Output) -> np.ndarray:
            if output not in values:
                values[output] = self.outputs[output][number]
            return values[output]

        for index, quantized in plan:
            if index != INPUT:
                layer = (self.layers if quantized else self.analog)[index]
                values[index, quantized] = layer(
                    *(value(self._output(s, quantized)) for s in self.network.sources[index])
                )
        for output in old:
            del self.outputs[output][number]
        for output in new:
            self.outputs[output][number] = values[output]
        return tuple(None if output is None else value(output) for output in inputs)

    def _plan(self, wanted: Iterable[Output]) -> list[Output]:
        """Outputs to compute, in order, so as to have the wanted ones."""
        plan, waiting = set(), set(wanted)
        while waiting:
            output = waiting.pop()
            if output not in self.outputs and output not in plan:
                plan.add(output)
                index, quantized = output
                if index != INPUT:
                    waiting |= {self._output(s, quantized) for s in self.network.sources[index]}
        return sorted(plan)

    def _drop(self, outputs: Iterable[Output]) -> None:
        for output in outputs:
            self.outputs.pop(output).close()
