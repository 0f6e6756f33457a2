"""Export of networks for deployment: to ONNX, and to LiteRT."""

from pathlib import Path

from netreduce.errors import ModelFileError
from netreduce.files import replacing
from netreduce.network import Network


def export(network: Network, path: str | Path) -> None:
    """Write a network for deployment: .onnx for ONNX runtimes, .tflite for LiteRT.

    The file reads float32 inputs of shape (batch, *input_shape), channels last. The weights of
    quantized layers are integers in it, and computed with as floats; a network whose activations
    lie on grids (`quantize_activations`) goes to the file as one that runs in integers.

    Parameters
    ----------
    network : Network
    path : path
        Written whole or not at all; the same network gives the same bytes.

    Raises
    ------
    ModelFileError
        Another suffix.
    UnsupportedLayerError
        A layer that the format does not have.

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
    match path.suffix:
        case ".onnx":
            from .onnx.writer import to_onnx

            content = to_onnx(network).SerializeToString(deterministic=True)
        case ".tflite":
            from .litert import to_litert

            content = to_litert(network)
        case suffix:
            raise ModelFileError(
                f"{path}: cannot export to {suffix or 'a file without suffix'!r}; known: .onnx,"
                " .tflite"
            )
    with replacing(path) as temporary:
        temporary.write_bytes(content)
