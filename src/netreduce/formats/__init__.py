"""Networks in files: Keras (.h5, .keras), PyTorch state_dicts, exported programs (.pt2),
safetensors, ONNX, .nnet and text. What a file is, its content says; what is written, the suffix.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from netreduce.errors import ModelFileError
from netreduce.network import Network

from .guard import reading
from .sniff import kind_of

if TYPE_CHECKING:
    from .tensors import Architecture

SUFFIXES = (".h5", ".keras", ".pth", ".txt")  # that networks are written with


def load(path: str | Path, architecture: "Architecture" = None) -> Network:
    """Read a network; what kind of file it is, its content says, whatever its suffix.

    Whole networks are in HDF5 and .keras files of Keras 1 to 3 and of netreduce, in .pt2 files of
    torch.export.save, in ONNX files (torch.onnx, tf2onnx, skl2onnx, …) and in .nnet files.

    Tensors alone, which need `architecture`, are in state_dicts of PyTorch under any suffix (alone,
    or under one key of a checkpoint: "state_dict", "net", …), in safetensors, in text ("Layer:
    <name>", then the values) and in HDF5 of weights only (Keras' save_weights, keras.applications).

    Parameters
    ----------
    path : path
    architecture : Network, dict, str or path, optional
        What the tensors mean, for files that hold tensors only: a network of the same
        architecture, or a description as in `netreduce.network.architectures`, which may hold
        `input_shape` and `classes` as well (found from the tensors, or the architecture's usual
        ones, where it does not); for weights of Keras also the file that `model.to_json()` gave.
        Files that hold a whole network need none and ignore it.

    Returns
    -------
    Network
        Images are (height, width, channels) inside, whatever the file has.

    Raises
    ------
    ModelFileError
        The file is missing, damaged, or does not fit the architecture: names the file and the layer
        or tensor, what was found and expected.
    UnsupportedLayerError
        The file holds a layer or topology that `Network` cannot express.

    Examples
    --------
    >>> import tempfile
    >>> import netreduce as nr
    >>> network = nr.Network([nr.Dense([[1.0], [2.0]])], (2,))
    >>> path = tempfile.mkdtemp() + "/network.keras"
    >>> nr.save(network, path)
    >>> nr.load(path).predict([[1.0, 1.0]])
    array([[3.]])
    """
    path = Path(path)
    with reading(path):
        kind = kind_of(path)
    match kind:
        case "hdf5":
            from .keras import h5

            return h5.read_network(path, architecture)
        case "keras":
            from .keras import archive

            return archive.read_network(path)
        case "pytorch":
            from .pytorch import state_dict

            return state_dict.read_network(path, architecture)
        case "safetensors":
            from . import safetensors

            return safetensors.read_network(path, architecture)
        case "pt2":
            from .pytorch import export

            return export.read_network(path)
        case "onnx":
            from .onnx import reader

            return reader.read_network(path)
        case "nnet":
            from . import nnet

            return nnet.read_network(path)
        case _:
            from . import text

            return text.read_network(path, architecture)


def save(network: Network, path: str | Path) -> None:
    """Write a network, whole or not at all; the same network gives the same bytes.

    .h5 and .keras are complete Keras models and keep the quantization of the layers; .pth and .txt
    hold the tensors only, named and oriented as in the state_dict of
    `netreduce.formats.pytorch.module.to_torch(network)`.

    Raises
    ------
    ModelFileError
        Unknown suffix.
    """
    path = Path(path)
    match _suffix(path):
        case ".h5":
            from .keras.h5 import write_network
        case ".keras":
            from .keras.archive import write_network
        case ".pth":
            from .pytorch.state_dict import write_network
        case ".txt":
            from .text import write_network
    write_network(network, path)


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ModelFileError(
            f"{path}: cannot write with the suffix {path.suffix!r}, expected one of"
            f" {', '.join(SUFFIXES)}"
        )
    return suffix
