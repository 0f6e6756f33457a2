"""Packed networks: weights as codes, bit-packed, sparse or entropy-coded, and back to the very same
weights.

A packed network is a magic number, a checksum, the header's length, the header (JSON in zstd) and
the payload: the streams of all arrays one after another. Four codings of the payload:

float
    Every parameter as the floating-point number it is.
dense
    A quantized layer's codes as indices into the table of levels that occur, as many base-L digits
    to a 64-bit word as fit (4 bits for 16 levels, 1.6 for ternary); analog parameters as
    floating-point numbers.
sparse
    Positions of the non-zeros (gaps of one byte, or a bit mask where that is shorter) and their
    values as in `dense`; the relative indexing of Han, Mao and Dally, "Deep compression", section
    2.
entropy
    The shorter of `dense` and `sparse` for each array, its streams compressed by zstd (Huffman and
    finite-state entropy coding).
"""

import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import Field, fields
from typing import Any

import numpy as np
import zstandard

from netreduce.errors import ModelFileError, ParameterError, VerificationError
from netreduce.network import INPUT, Network
from netreduce.network import layers as layer_types
from netreduce.network.layers import Layer, Quantization

Encoded = tuple[dict[str, Any], list[bytes]]  # how an array is written, and its streams
CODINGS = ("float", "dense", "sparse", "entropy")
MAGIC = b"netreduce1"
PREFIX = struct.Struct(
    "<10sII"
)  # magic, CRC-32 of what follows it, length of the compressed header
# analog arrays with at most so many distinct values are coded as indices of one byte or less
PALETTE = 256
LONGEST_GAP = 255
ZSTD_LEVEL = 12  # higher ones gain less than 1 % and take several times as long


def pack(network: Network, coding: str = "entropy") -> bytes:
    """The network as the content of a file.

    Parameters
    ----------
    network : Network
    coding : {"entropy", "sparse", "dense", "float"}

    Returns
    -------
    bytes
        `unpack` gives the same network back: same layers, same weights, same grids.

    Raises
    ------
    ParameterError
        Unknown coding.
    VerificationError
        A layer's weights do not lie on the grid that its quantization claims.
    """
    if coding not in CODINGS:
        raise ParameterError(f"coding must be one of {', '.join(CODINGS)}, found {coding!r}")
    layers, streams = [], []
    for name, layer in zip(network.names, network.layers, strict=True):
        entry, parts = _pack_layer(name, layer, coding)
        layers.append(entry)
        streams += parts
    said: dict[str, Any] = {"coding": coding, "input_shape": network.input_shape, "layers": layers}
    if not network.is_sequence:
        said["sources"] = network.sources
    header = _compress(json.dumps(said, separators=(",", ":")).encode())
    content = b"".join((header, *streams))
    return PREFIX.pack(MAGIC, zlib.crc32(content), len(header)) + content


def layer_bytes(network: Network, index: int) -> int:
    """Packed bytes of one layer of a network that reads one tensor, as a network of its own."""
    (source,) = network.sources[index]
    shape = network.input_shape if source == INPUT else network.shapes[source]
    return len(pack(Network([network.layers[index]], shape)))


def unpack(data: bytes) -> Network:
    """The network that `pack` packed.

    Raises
    ------
    ModelFileError
        The bytes are not a packed network, or damaged.
    """
    if len(data) < PREFIX.size or not data.startswith(MAGIC):
        raise ModelFileError(
            f"not a packed network: expected the first bytes {MAGIC!r}, found"
            f" {bytes(data[: len(MAGIC)])!r}"
        )
    _, checksum, length = PREFIX.unpack_from(data)
    content = memoryview(data)[PREFIX.size :]
    if zlib.crc32(content) != checksum:
        raise ModelFileError("packed network is damaged: its checksum does not match its content")
    header = json.loads(_decompress(content[:length]))
    payload = _Payload(content[length:], compressed=header["coding"] == "entropy")
    layers = [_unpack_layer(entry, payload) for entry in header["layers"]]
    return Network(layers, header["input_shape"], header.get("sources"))


def _pack_layer(name: str, layer: Any, coding: str) -> tuple[dict[str, Any], list[bytes]]:
    """Header entry and streams of one layer; a quantization is taken apart into its fields."""
    values = {
        field.name: getattr(layer, field.name) for field in fields(layer) if _is_said(layer, field)
    }
    quantization = values.pop("quantization", None)
    codes: dict[str, np.ndarray] = {}
    if quantization is not None:
        values |= {field.name: getattr(quantization, field.name) for field in fields(quantization)}
        codes = {"kernel": layer.codes} | (
            {"bias": layer.bias_codes} if quantization.quantized_bias else {}
        )
        for field, grid in codes.items():
            if not np.array_equal(
                _dequantize(grid, quantization.scale, values[field].dtype), values[field]
            ):
                raise VerificationError(
                    f"{name}: its {field} does not lie on the grid of its quantization (scale times"
                    " integers)"
                )
    entry: dict[str, Any] = {"type": type(layer).__name__}
    streams: list[bytes] = []
    for field, value in values.items():
        if isinstance(value, np.ndarray):
            integers = None if coding == "float" else codes.get(field)
            form, parts = _encode(value if integers is None else integers, coding)
            value = {
                "dtype": value.dtype.name,
                "shape": value.shape,
                "codes": integers is not None,
                **form,
                "parts": [len(part) for part in parts],
            }
            streams += parts
        entry[field] = value
    return entry, streams


def _is_said(layer: Layer, field: Field) -> bool:
    """Whether a field goes into the file: those by keyword only, where they are not as usual."""
    return not field.kw_only or getattr(layer, field.name) != field.default


def _unpack_layer(entry: dict[str, Any], payload: "_Payload") -> Layer:
    kind = getattr(layer_types, entry["type"])
    values: dict[str, Any] = {}
    on_grid: list[str] = []
    for field, value in entry.items():
        if isinstance(value, dict):
            values[field] = payload.array(value)
            if value["codes"]:
                on_grid.append(field)
        elif field != "type":
            values[field] = value
    if "quantized_bias" in values:
        values["quantization"] = Quantization(
            **{field.name: values.pop(field.name) for field in fields(Quantization)}
        )
        for field in on_grid:
            values[field] = _dequantize(
                values[field], values["quantization"].scale, np.dtype(entry[field]["dtype"])
            )
    layer: Layer = kind(**values)
    return layer


def _dequantize(codes: np.ndarray, scale: np.ndarray, dtype: np.dtype) -> np.ndarray:
    return ((scale if codes.ndim > 1 else scale.reshape(-1)) * codes).astype(dtype)


def _encode(values: np.ndarray, coding: str) -> Encoded:
    """How an array (numbers or integer codes) is written, and its streams."""
    values = values.ravel()
    if coding == "float":
        return {}, [_planes(values)]
    if coding == "dense":
        return _dense(values, np.uint64)
    if coding == "sparse":
        return _sparse(values, np.uint64)
    forms = [
        (form, [_compress(part) for part in parts])
        for form, parts in (_dense(values, np.uint8), _sparse(values, np.uint8))
    ]
    return min(forms, key=lambda encoded: sum(map(len, encoded[1])))


def _dense(values: np.ndarray, smallest: type[np.unsignedinteger]) -> Encoded:
    """All values: the table of levels and indices into it, or the plain numbers."""
    analog = values.dtype.kind == "f"
    if analog and len(np.unique(values[: 4 * PALETTE])) > PALETTE:
        return {}, [_planes(values)]
    levels, indices = np.unique(values, return_inverse=True)
    if analog and (len(levels) > PALETTE or levels.nbytes + values.size >= values.nbytes):
        return {}, [_planes(values)]
    if not analog:
        levels = levels.astype(np.int8 if np.abs(levels).max(initial=0) < 128 else np.int32)
    word = _word(len(levels), smallest)
    return {"table": levels.dtype.name, "word": word.name}, [
        _planes(levels),
        _digits(indices, len(levels), word),
    ]


def _sparse(values: np.ndarray, smallest: type[np.unsignedinteger]) -> Encoded:
    """Where the non-zeros are, and what they are."""
    places = np.flatnonzero(values)
    gaps = _gaps(places)
    mask = np.packbits(values != 0)
    masked = len(mask) < len(gaps)
    form, parts = _dense(values[places], smallest)
    return {"mask": masked, "count": len(places), **form}, [
        (mask if masked else gaps).tobytes(),
        *parts,
    ]


class _Payload:
    """The streams of a packed network, read one array at a time."""

    def __init__(self, data: memoryview, compressed: bool) -> None:
        self.data = data
        self.read: Callable[[memoryview], bytes] = _decompress if compressed else bytes

    def array(self, entry: dict[str, Any]) -> np.ndarray:
        """The numbers, or the integer codes, that `_encode` wrote."""
        parts = []
        for length in entry["parts"]:
            parts.append(self.read(self.data[:length]))
            self.data = self.data[length:]
        shape, dtype = entry["shape"], np.dtype(np.int32 if entry["codes"] else entry["dtype"])
        size = int(np.prod(shape))
        if "mask" not in entry:
            return self._values(entry, parts, size, dtype).reshape(shape)
        values = np.zeros(size, dtype)
        mark = np.frombuffer(parts[0], np.uint8)
        places = np.flatnonzero(np.unpackbits(mark, count=size)) if entry["mask"] else _places(mark)
        values[places] = self._values(entry, parts[1:], entry["count"], dtype)
        return values.reshape(shape)

    @staticmethod
    def _values(
        entry: dict[str, Any], parts: list[bytes], count: int, dtype: np.dtype
    ) -> np.ndarray:
        if "table" not in entry:
            return _from_planes(parts[0], dtype)
        table = _from_planes(parts[0], np.dtype(entry["table"]))
        places = _from_digits(parts[1], len(table), count, np.dtype(entry["word"]))
        return table[places].astype(dtype)


def _word(levels: int, smallest: type[np.unsignedinteger]) -> np.dtype:
    """The smallest unsigned word, from `smallest` on, that holds an index into that many levels."""
    return np.result_type(smallest, np.min_scalar_type(max(levels - 1, 0)))


def _digits_per_word(levels: int, word: np.dtype) -> int:
    count, capacity = 1, 1 << 8 * word.itemsize
    while levels > 1 and levels ** (count + 1) <= capacity:
        count += 1
    return count


def _digits(indices: np.ndarray, levels: int, word: np.dtype) -> bytes:
    """Indices as base-`levels` digits, as many to a word as fit, first digit most significant."""
    if levels <= 1:
        return b""
    count = _digits_per_word(levels, word)
    digits = np.pad(indices, (0, -len(indices) % count)).reshape(-1, count).astype(word)
    words = digits[:, 0]
    for column in digits.T[1:]:
        words = words * word.type(levels) + column
    return _planes(words)


def _from_digits(data: bytes, levels: int, count: int, word: np.dtype) -> np.ndarray:
    if levels <= 1:
        return np.zeros(count, np.intp)
    words = _from_planes(data, word)
    digits = np.empty((len(words), _digits_per_word(levels, word)), np.intp)
    for column in reversed(range(1, digits.shape[1])):
        words, digits[:, column] = np.divmod(words, word.type(levels))
    digits[:, 0] = words
    return digits.ravel()[:count]


def _gaps(places: np.ndarray) -> np.ndarray:
    """Zeros before each non-zero, one byte each; LONGEST_GAP stands for so many zeros and goes on
    with the next byte.
    """
    fillers, rest = np.divmod(np.diff(places, prepend=-1) - 1, LONGEST_GAP)
    gaps = np.full(len(places) + int(fillers.sum()), LONGEST_GAP, np.uint8)
    gaps[np.cumsum(fillers + 1) - 1] = rest
    return gaps


def _places(gaps: np.ndarray) -> np.ndarray:
    filler = gaps == LONGEST_GAP
    return (np.cumsum(gaps.astype(np.int64) + ~filler) - 1)[~filler]


def _planes(array: np.ndarray) -> bytes:
    """Bytes of an array, all first bytes, then all second bytes, ...: exponents compress, mantissas
    hardly.
    """
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return little.view(np.uint8).reshape(-1, array.itemsize).T.tobytes()


def _from_planes(data: bytes, dtype: np.dtype) -> np.ndarray:
    planes = np.frombuffer(data, np.uint8).reshape(dtype.itemsize, -1)
    return np.ascontiguousarray(planes.T).view(dtype.newbyteorder("<")).ravel().astype(dtype)


def _compress(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=ZSTD_LEVEL, write_checksum=False).compress(data)


def _decompress(data: bytes | memoryview) -> bytes:
    return zstandard.ZstdDecompressor().decompress(data)
