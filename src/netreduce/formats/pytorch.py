"""PyTorch state_dicts (.pth): tensors only, files that carry code are refused."""

import io
import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from netreduce.errors import ModelFileError
from netreduce.files import replacing
from netreduce.network import Network
from netreduce.network.architectures import template

from .guard import reading
from .tensors import COUNTER, from_tensors, to_tensors

WRAPPERS = ("state_dict", "model_state_dict")


def read_network(path: Path, architecture) -> Network:
    """Read a network of a known architecture from a state_dict."""
    with reading(path):
        if architecture is None:
            raise ModelFileError(
                "a state_dict holds tensors only: an architecture must say what they are"
            )
        tensors = _read(path)
        return from_tensors(
            tensors, template(architecture, [array.size for array in tensors.values()])
        )


def write_network(network: Network, path: Path) -> None:
    """Write the state_dict of a network, whole or not at all."""
    content = io.BytesIO()  # PyTorch would put the name of the temporary file into the file
    torch.save(
        {name: torch.from_numpy(array.copy()) for name, array in to_tensors(network).items()},
        content,
    )
    with replacing(path) as temporary:
        temporary.write_bytes(content.getbuffer())


def read_state_dict(path: Path) -> dict[str, np.ndarray]:
    """Tensors by name, in the order of the file, as they stand in PyTorch; counters of batches are
    left out.

    Raises
    ------
    ModelFileError
        The file is damaged, or holds anything but tensors.
    """
    with reading(path):
        return _read(path)


def _read(path):
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ModelFileError("the archive is compressed, which PyTorch never does")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, struct.error, AssertionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise ModelFileError(
            "refused: a .pth must hold tensors and nothing else, this one is damaged or carries"
            f" other objects or code ({reason})"
        ) from None
    for wrapper in WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if not isinstance(content, Mapping) or not content:
        raise ModelFileError(f"expected a state_dict, found {type(content).__name__}")
    return {
        str(name): _array(name, tensor)
        for name, tensor in content.items()
        if not str(name).endswith(COUNTER)
    }


def _array(name, tensor):
    if not isinstance(tensor, torch.Tensor):
        raise ModelFileError(f"{name!r} is a {type(tensor).__name__}, expected a tensor")
    if (
        tensor.layout != torch.strided
        or not tensor.is_floating_point()
        or tensor.is_quantized
        or tensor.is_meta
    ):
        raise ModelFileError(
            f"tensor {name!r}: expected dense floating-point numbers, found {tensor.dtype}"
            f" ({tensor.layout})"
        )
    if tensor.untyped_storage().nbytes() < tensor.numel() * tensor.element_size():
        raise ModelFileError(
            f"tensor {name!r}: claims shape {tuple(tensor.shape)}, the file holds fewer values"
        )
    wide = tensor.dtype == torch.float64
    return np.ascontiguousarray(
        tensor.detach().to(torch.float64 if wide else torch.float32).numpy()
    )
