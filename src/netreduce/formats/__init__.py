"""Networks in files: Keras (.h5, .keras), PyTorch state_dicts (.pth) and text (.txt), told apart by
suffix.
"""

from pathlib import Path

from netreduce.errors import ModelFileError
from netreduce.network import Network

SUFFIXES = (".h5", ".keras", ".pth", ".txt")


def load(path: str | Path, architecture: Network | dict | str | None = None) -> Network:
    """Read a network.

    Parameters
    ----------
    path : path
        A Keras file (.h5, .keras), a PyTorch state_dict (.pth) or its text (.txt).
    architecture : Network, dict or str, optional
        What the tensors mean, for files that hold tensors only (.pth, .txt, and Keras weight
        files): a network of the same architecture, or a description as in
        `netreduce.network.architectures`, which may hold `input_shape` and `classes` as well (found
        from the tensors, or the architecture's usual ones, where it does not). Files that hold a
        whole network need none and ignore it.

    Returns
    -------
    Network

    Raises
    ------
    ModelFileError
        The file is missing, damaged, or does not fit the architecture: names the file and the layer
        or tensor, what was found and expected.
    UnsupportedLayerError
        The file holds a layer or topology that `Network` cannot express.
    """
    path = Path(path)
    match _suffix(path):
        case ".h5":
            from .keras_h5 import read_network

            return read_network(path, architecture)
        case ".keras":
            from .keras_zip import read_network

            return read_network(path)
        case ".pth":
            from .pytorch import read_network

            return read_network(path, architecture)
        case ".txt":
            from .text import read_network

            return read_network(path, architecture)


def save(network: Network, path: str | Path) -> None:
    """Write a network, whole or not at all; the same network gives the same bytes.

    .h5 and .keras are complete Keras models and keep the quantization of the layers; .pth and .txt
    hold the tensors only, named and oriented as in the state_dict of
    `netreduce.formats.torch_module.to_torch(network)`.

    Raises
    ------
    ModelFileError
        Unknown suffix.
    """
    path = Path(path)
    match _suffix(path):
        case ".h5":
            from .keras_h5 import write_network
        case ".keras":
            from .keras_zip import write_network
        case ".pth":
            from .pytorch import write_network
        case ".txt":
            from .text import write_network
    write_network(network, path)


def _suffix(path):
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ModelFileError(
            f"{path}: unknown suffix {path.suffix!r}, expected one of {', '.join(SUFFIXES)}"
        )
    return suffix
