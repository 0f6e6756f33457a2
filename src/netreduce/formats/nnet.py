"""Networks in .nnet files, the text format of the networks of ACAS Xu."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from netreduce.errors import ModelFileError
from netreduce.network import Network
from netreduce.network.layers import Dense, Layer, Normalization, Rescaling

from .guard import reading

LARGEST_LAYER = 1 << 20  # neurons


def read_network(path: str | Path) -> Network:
    r"""Read a network from a .nnet file: dense layers with ReLU between them.

    Parameters
    ----------
    path : path
        Comments ("//"), numbers of layers and neurons, the least, largest, mean and range of every
        input (mean and range of the outputs behind them), then rows of weights and biases.

    Returns
    -------
    Network
        It reads inputs and gives outputs in their own units: (x − mean) / range comes first, y ·
        range + mean last, where the file has any other than 0 and 1. Inputs below the least or
        above the largest value of the file are not moved to it, as the format's own evaluation
        does: between them, both compute the same.

    Raises
    ------
    ModelFileError
        The file is missing, or does not hold what it says: names the line, what was found and
        expected.

    Examples
    --------
    >>> from pathlib import Path
    >>> from tempfile import mkdtemp
    >>> path = Path(mkdtemp(), "network.nnet")
    >>> lines = "// one neuron|1,2,1,2|2,1|0|0,0|1,1|0,0,0|1,1,1|2,3|0.5".split("|")
    >>> _ = path.write_text("\n".join(lines))
    >>> read_network(path).predict([[1.0, 1.0]])
    array([[5.5]], dtype=float32)
    """
    path = Path(path)
    with reading(path):
        return _network(_Lines(path.read_text(encoding="utf-8", errors="replace")))


def _network(lines: "_Lines") -> Network:
    count, inputs, outputs, _ = lines.whole("numbers of layers, inputs, outputs and largest layer")
    sizes = lines.whole(f"the sizes of {count} layers and the input", count + 1)
    if count < 1 or sizes[0] != inputs or sizes[-1] != outputs:
        raise ModelFileError(
            f"line {lines.number}: expected {count + 1} sizes from {inputs} to {outputs}, found"
            f" {sizes}"
        )
    if not all(0 < size <= LARGEST_LAYER for size in sizes):
        raise ModelFileError(
            f"line {lines.number}: layers of 1 to {LARGEST_LAYER} neurons are supported, found"
            f" {sizes}"
        )
    lines.skip("a flag")
    lines.numbers("the least value of every input")
    lines.numbers("the largest value of every input")
    mean = lines.numbers("means of the inputs and the outputs", inputs + 1)
    spread = lines.numbers("ranges of the inputs and the outputs", inputs + 1)
    if not (spread > 0).all():
        raise ModelFileError(f"line {lines.number}: ranges must be positive, found {spread}")
    layers: list[Layer] = []
    if mean[:-1].any() or (spread[:-1] != 1).any():
        layers.append(Normalization(mean[:-1], spread[:-1] ** 2))
    for index, (rows, columns) in enumerate(zip(sizes[1:], sizes, strict=False), start=1):
        kernel = [lines.numbers(f"weights of layer {index}", columns) for _ in range(rows)]
        bias = [lines.numbers(f"a bias of layer {index}", 1)[0] for _ in range(rows)]
        activation = "relu" if index < count else "linear"
        layers.append(Dense(np.array(kernel).T, np.array(bias), activation))
    if mean[-1] or spread[-1] != 1:
        layers.append(Rescaling(spread[-1], mean[-1]))
    lines.end()
    return Network(layers, (inputs,))


class _Lines:
    """The lines of a file, one by one, without comments and empty ones."""

    def __init__(self, text: str):
        self.number = 0
        self.lines = self.rest(text)

    def rest(self, text: str) -> Iterator[str]:
        for self.number, line in enumerate(text.splitlines(), start=1):
            if line.strip() and not line.lstrip().startswith("//"):
                yield line

    def skip(self, what: str) -> str:
        try:
            return next(self.lines)
        except StopIteration:
            raise ModelFileError(f"the file ends before {what}") from None

    def numbers(self, what: str, count: int | None = None) -> np.ndarray:
        """A line of numbers with commas between them and, as a rule, behind the last."""
        fields = self.skip(what).strip().rstrip(",").split(",")
        if count is not None and len(fields) != count:
            raise ModelFileError(
                f"line {self.number}: expected {what}, {count} of them, found {len(fields)}"
            )
        try:
            with np.errstate(over="ignore"):
                values = np.array(fields, np.float64).astype(np.float32)
        except ValueError as error:
            raise ModelFileError(f"line {self.number}: expected {what}: {error}") from None
        if not np.isfinite(values).all():
            raise ModelFileError(
                f"line {self.number}: expected {what}, found one that is no number"
            )
        return values

    def whole(self, what: str, count: int = 4) -> list[int]:
        values = self.numbers(what, count)
        if (values != np.rint(values)).any():
            raise ModelFileError(f"line {self.number}: expected {what}, found {values.tolist()}")
        return [int(value) for value in values]

    def end(self) -> None:
        if next(self.lines, None) is not None:
            raise ModelFileError(f"line {self.number}: the file goes on after its last bias")
