"""What a network file is, by its content: the first bytes, and the members of an archive."""

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

from netreduce.errors import ModelFileError

HDF5 = b"\x89HDF\r\n\x1a\n"
ZIP = (b"PK\x03\x04", b"PK\x05\x06")
PICKLE = tuple(bytes((0x80, protocol)) for protocol in range(2, 6))
TORCH_PICKLE = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # PyTorch's magic number, before 1.6
KNOWN = (
    "known are HDF5 and .keras of Keras, a state_dict of PyTorch, .pt2 of torch.export.save,"
    " safetensors, ONNX, .nnet, and text with lines 'Layer: <name>'"
)
FOREIGN = (  # offset, bytes, what it is and what to do
    (0, b"\x1f\x8b", "compressed with gzip: unpack it first"),
    (0, b"BZh", "compressed with bzip2: unpack it first"),
    (0, b"\xfd7zXZ", "compressed with xz: unpack it first"),
    (0, b"\x93NUMPY", "a NumPy array, not a network"),
    (4, b"TFL3", "a LiteRT (TensorFlow Lite) file: load the network that it was made from"),
    (
        257,
        b"ustar",
        "a tar archive: unpack it first, or save the tensors with PyTorch 0.4 on",
    ),
    (
        0,
        b"version https://git-lfs",
        "a pointer of Git LFS, not the file itself: fetch it with 'git lfs pull'",
    ),
    (0, b"<", "a page in HTML or XML, not a network: was the download complete?"),
)
HEAD = 4096
ONNX_GRAPH, ONNX_VERSION, ONNX_FIELDS = 7, 1, frozenset((*range(1, 9), 14, 20, 25, 26))
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers


def kind_of(path: Path) -> str:
    """The kind of a network file.

    Returns
    -------
    {"hdf5", "keras", "pytorch", "pt2", "safetensors", "onnx", "nnet", "text"}
        The suffix counts only for text without a beginning that tells.

    Raises
    ------
    ModelFileError
        No network, or one of a kind that is not read: what it is, and what to do instead.
    """
    if path.is_dir():
        raise ModelFileError(_directory(path))
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEAD)
        for kind, recognized in _KINDS.items():
            if recognized(head, size, file.seek, file.read):
                return _kind_of_archive(path) if kind == "zip" else kind
    for offset, signature, meaning in FOREIGN:
        if head[offset:].lstrip().startswith(signature):
            raise ModelFileError(f"this is {meaning}")
    if head.startswith(PICKLE):
        raise ModelFileError(
            "refused: a pickled Python object, which can run code when it is read; save the"
            ' tensors alone: torch.save(module.state_dict(), "weights.pth")'
        )
    if head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        raise ModelFileError(
            "JSON holds an architecture, not the numbers: load the file of the weights, and give"
            " this one as its architecture"
        )
    by_suffix = {".txt": "text", ".nnet": "nnet"}.get(path.suffix.lower())
    if by_suffix:
        return by_suffix
    found = f"begins with {head[:12]!r}" if head else "is empty"
    raise ModelFileError(f"not a valid network file: it {found}; {KNOWN}")


def _is_hdf5(head: bytes, size: int, seek: Callable, read: Callable) -> bool:
    offset = 0  # or behind a block of the user's: 512, 1024, 2048, …
    while offset + len(HDF5) <= size:
        seek(offset)
        if read(len(HDF5)) == HDF5:
            return True
        offset = 2 * offset or 512
    return False


def _is_safetensors(head: bytes, size: int, *_: Callable) -> bool:
    return head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= size - 8


def _is_onnx(head: bytes, size: int, seek: Callable, read: Callable) -> bool:
    """Whether the fields of a ModelProto, a graph and a version among them, fill the file."""
    offset, fields = 0, set()
    while offset < size:
        seek(offset)
        block = read(20)
        tag, used = _varint(block)
        field, wire = tag >> 3, tag & 7
        if not used or field not in ONNX_FIELDS:
            return False
        value, more = _varint(block[used:])
        if wire == LENGTH and more:
            offset += used + more + value
        elif wire == VARINT and more:
            offset += used + more
        else:
            return False
        fields.add(field)
    return offset == size and {ONNX_GRAPH, ONNX_VERSION} <= fields


def _varint(block: bytes) -> tuple[int, int]:
    """A number of variable length and the bytes it takes; none where it does not end."""
    value = 0
    for count, byte in enumerate(block[:10]):
        value |= (byte & 0x7F) << 7 * count
        if byte < 0x80:
            return value, count + 1
    return 0, 0


def _is_text(head: bytes, *_others: object) -> bool:
    name, colon, _values = head.lstrip(b"\xef\xbb\xbf \t\r\n").partition(b":")
    return bool(colon) and name.strip() == b"Layer"


_KINDS: dict[str, Callable[..., bool]] = {
    "zip": lambda head, *_: head.startswith(ZIP),
    "pytorch": lambda head, *_: head[2:].startswith(TORCH_PICKLE) and head.startswith(PICKLE),
    "safetensors": _is_safetensors,
    "text": _is_text,
    "nnet": lambda head, *_: head.lstrip().startswith(b"//"),
    "hdf5": _is_hdf5,
    "onnx": _is_onnx,
}


def _kind_of_archive(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        raise ModelFileError("the archive is damaged or cut short") from None
    inner = {name.partition("/")[2] for name in names}  # PyTorch puts all into one folder
    if "archive_format" in inner or "serialized_exported_program.json" in names:
        return "pt2"
    if "constants.pkl" in inner and any(name.startswith("code/") for name in inner):
        raise ModelFileError(
            "refused: a TorchScript program, which is code; save its tensors alone,"
            ' torch.save(torch.jit.load("program.pt").state_dict(), "weights.pth"), and give the'
            " architecture"
        )
    if any(name.endswith("data.pkl") for name in inner):
        return "pytorch"
    if {"config.json", "model.weights.h5"} & set(names):
        return "keras"
    raise ModelFileError(f"an archive of {_some(names)} is no network; {KNOWN}")


def _directory(path: Path) -> str:
    if (path / "saved_model.pb").is_file():
        return (
            "a SavedModel of TensorFlow, which is code; save the Keras model itself:"
            ' model.save("network.keras")'
        )
    return "a folder, expected a file"


def _some(names: Sequence[str]) -> str:
    return (
        ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        or "no members"
    )
