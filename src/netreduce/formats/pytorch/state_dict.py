"""PyTorch state_dicts under any suffix: tensors only, files that carry code are refused."""

import io
import pickle
import pickletools
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
import torch

from netreduce.errors import ModelFileError
from netreduce.files import replacing
from netreduce.formats.guard import reading
from netreduce.formats.tensors import COUNTER, Architecture, network_of, to_tensors
from netreduce.network import Network

REFUSED = re.compile(r"GLOBAL (\S+) (?:was not an allowed|whose module \S+ is blocked)")
REASON = re.compile(r"WeightsUnpickler error: *(.*)", re.S)
LEGACY_PREFACE = 3  # pickles before the content in files of PyTorch before 1.6


def read_network(path: Path, architecture: Architecture) -> Network:
    """Read a network of a known architecture from a state_dict."""
    with reading(path):
        return network_of(_read(path), architecture, "a state_dict")


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


def array_of(name: str, tensor: object) -> np.ndarray:
    """A tensor of a file as an array: float64 stays, other floating-point numbers become float32.

    Raises
    ------
    ModelFileError
        Not a dense tensor of floating-point numbers, or one that claims more values than it has.
    """
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


def _read(path: Path) -> dict[str, np.ndarray]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if any(member.compress_type != zipfile.ZIP_STORED for member in archive.infolist()):
                raise ModelFileError("the archive is compressed, which PyTorch never does")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, struct.error, AssertionError) as error:
        raise ModelFileError(_refusal(path, str(error).strip() or type(error).__name__)) from None
    return {
        str(name): array_of(name, tensor)
        for name, tensor in _state_dict(content).items()
        if not str(name).endswith(COUNTER)
    }


def _state_dict(content: object) -> Mapping:
    """The tensors of a checkpoint: the content itself, or what stands under its one key that has a
    state_dict.
    """
    if not isinstance(content, Mapping) or not content:
        raise ModelFileError(f"expected a state_dict, found {type(content).__name__}")
    wrapped = {name: inner for name, inner in content.items() if _is_state_dict(inner)}
    if not wrapped:
        return content
    if len(wrapped) > 1:
        keys = ", ".join(map(repr, wrapped))
        raise ModelFileError(
            f"the checkpoint holds {len(wrapped)} networks, {keys}: save one by itself,"
            f' torch.save(torch.load("checkpoint.pth")[{next(iter(wrapped))!r}], "weights.pth")'
        )
    return next(iter(wrapped.values()))


def _is_state_dict(content: object) -> bool:
    return (
        isinstance(content, Mapping)
        and all(isinstance(tensor, torch.Tensor) for tensor in content.values())
        and any(str(name).rpartition(".")[2] == "weight" for name in content)
    )


def _refusal(path: Path, reason: str) -> str:
    refused = REFUSED.search(reason)
    if refused is None:
        found = REASON.search(reason)
        reason = (found[1] if found else reason).strip().splitlines()[0]
        return (
            "refused: a state_dict must hold tensors and nothing else, this one is damaged or"
            f" carries other objects or code ({reason})"
        )
    whole = _class_of_content(path)
    if whole and whole.startswith("collections."):
        whole = None
    if whole:
        return (
            f"refused: a whole pickled object of class {whole}, which runs code when it is read;"
            " where its class is at home, save the tensors alone,"
            ' torch.save(module.state_dict(), "weights.pth"), or the program,'
            ' torch.export.save(torch.export.export(module, (example,)), "network.pt2")'
        )
    return (
        f"refused: it carries an object of class {refused[1]} beside the tensors, and a state_dict"
        " must hold tensors and nothing else; where you trust the file, save the tensors alone,"
        ' torch.save(torch.load("checkpoint.pth", weights_only=False)["state_dict"], "weights.pth")'
        " (under the key that the checkpoint has)"
    )


def _class_of_content(path: Path) -> str | None:
    """The class of the one object that a file holds; None for dictionaries, and in doubt."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            with archive.open(name) as file:
                return _first_global(file)
    with path.open("rb") as file:
        for _ in range(LEGACY_PREFACE):
            for _ in pickletools.genops(file):
                pass
        return _first_global(file)


def _first_global(file: IO[bytes]) -> str | None:
    for opcode, argument, _ in pickletools.genops(file):
        if opcode.name == "GLOBAL":
            return str(argument).replace(" ", ".")
        if opcode.name not in ("PROTO", "BINPUT", "MARK", "BINUNICODE"):
            return None
    return None
