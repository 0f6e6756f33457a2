"""Export of networks for deployment: to ONNX, and to LiteRT."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from netreduce.errors import ModelFileError, ParameterError
from netreduce.files import replacing
from netreduce.network import Network
from netreduce.network.layers import Shape

DIALECTS = ("onnx", "qonnx")


class Preprocessing(Protocol):
    """x ↦ (x / divisor − mean) / std, such as that of a dataset
    (`netreduce.data.preprocessing.Preprocessing`); numbers for all channels, or one for each.
    """

    @property
    def divisor(self) -> float: ...

    @property
    def mean(self) -> np.ndarray | float: ...

    @property
    def std(self) -> np.ndarray | float: ...


def export(
    network: Network,
    path: str | Path,
    preprocessing: Preprocessing | None = None,
    metadata: Mapping[str, str] | None = None,
    dialect: str = "onnx",
) -> None:
    """Write a network for deployment: .onnx for ONNX runtimes, .tflite for LiteRT.

    The file reads float32 inputs of shape (batch, *input_shape), channels last. The weights of
    quantized layers are integers in it, and computed with as floats; a network whose activations
    lie on grids (`quantize_activations`) goes to the file as one that runs in integers.

    Parameters
    ----------
    network : Network
    path : path
        Written whole or not at all; the same network gives the same bytes.
    preprocessing : Preprocessing, optional
        Of the dataset (`read(path).preprocessing`): the file's first nodes, so that it reads the
        values that the dataset has (pixels from 0 to 255, as float32).
    metadata : mapping of str to str, optional
        What else the file says: under these keys among the metadata of .onnx and .tflite,
        "description" also where the format has one.
    dialect : str
        Of .onnx: "onnx", or "qonnx" for flows to FPGAs: one sample at a time, with a Quant node for
        every grid; for networks whose weights and activations lie on grids.

    Raises
    ------
    ModelFileError
        Another suffix, or one without that dialect.
    UnsupportedLayerError
        A layer that the format does not have.
    ParameterError
        Metadata that are no text, or preprocessing of another number of channels.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> import netreduce as nr
    >>> path = mkdtemp() + "/network.onnx"
    >>> nr.export(nr.Network([nr.Dense([[1.0], [2.0]])], (2,)), path)
    >>> nr.load(path).predict([[1.0, 1.0]])
    array([[3.]], dtype=float32)
    """
    path = Path(path)
    words = dict(metadata or {})
    for key, value in words.items():
        if not (isinstance(key, str) and isinstance(value, str) and key):
            raise ParameterError(f"metadata must be texts by name, found {key!r}: {value!r}")
    known = DIALECTS if path.suffix == ".onnx" else DIALECTS[:1]
    if dialect not in known:
        raise ModelFileError(
            f"{path}: no dialect {dialect!r} of {path.suffix}; known: {', '.join(known)}"
        )
    steps = [] if preprocessing is None else _steps(preprocessing, network.input_shape)
    match path.suffix:
        case ".onnx":
            from .onnx.wrapping import wrap
            from .onnx.writer import to_onnx

            model = to_onnx(network, dialect)
            if steps or words:
                wrap(model, steps, words)
            content = model.SerializeToString(deterministic=True)
        case ".tflite":
            from .litert import to_litert
            from .litert.wrapping import wrapped

            content = to_litert(network)
            if steps or words:
                content = wrapped(content, steps, words)
        case suffix:
            raise ModelFileError(
                f"{path}: cannot export to {suffix or 'a file without suffix'!r}; known: .onnx,"
                " .tflite"
            )
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def _steps(preprocessing: Preprocessing, shape: Shape) -> list[tuple[str, np.ndarray]]:
    """What preprocessing does to a value, one after the other: divide by a number, or subtract it;
    numbers in float32.
    """
    numbers = [
        ("Div", np.asarray(preprocessing.divisor, np.float32), 1),
        ("Sub", np.asarray(preprocessing.mean, np.float32), 0),
        ("Div", np.asarray(preprocessing.std, np.float32), 1),
    ]
    for _, number, _ in numbers:
        if number.size > 1 and number.shape != shape[-1:]:
            raise ParameterError(
                f"preprocessing has numbers for {number.size} channels, and the network reads"
                f" inputs of shape {shape}"
            )
    return [(operator, number) for operator, number, idle in numbers if np.any(number != idle)]
