"""Arrays in HDF5 files: written by HDF5's own library without time stamps, read without it.

Files are strangers', and HDF5's C library does not survive every damaged one. What is read goes
through pyfive, which is pure Python, with bounds on what a file that refers to itself can cost: no
more bytes than twice the file, no more memory than its arrays may reasonably fill.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from pyfive.btree import (
    BTreeV1Groups,
    BTreeV1RawDataChunks,
    BTreeV2AttrNames,
    BTreeV2GroupNames,
)
from pyfive.core import UNDEFINED_ADDRESS, InvalidHDF5File
from pyfive.dataobjects import DataObjects
from pyfive.misc_low_level import FORMAT_SIGNATURE, FractalHeap, Heap, SuperBlock, SymbolTable
from pyfive.p5t import P5SequenceType, P5Type

from netreduce.errors import ModelFileError
from netreduce.formats.guard import MALFORMED, check_finite

if TYPE_CHECKING:
    import h5py

CHUNK_BYTES = 1 << 20
SMALL_BYTES = 1 << 12  # below this, chunks cost more than compression saves
COMPRESSION_LEVEL = 4  # level 5 takes half as long again for 3 % of the size, 9 thirty times
# What a file may hold unpacked: any network up to 1 GiB; beyond that, no more than weights of a few
# bits compress to.
FREE_BYTES, LARGEST_RATIO = 1 << 30, 64
READ_BYTES, READ_RATIO, READ_COST = 1 << 20, 2, 16  # what a read of structure costs at least
HEADER_READS = 1000  # a header of more parts than this is damaged
DEFLATE, SHUFFLE = 1, 2
FILTERS: tuple[list[int], ...] = ([], [SHUFFLE], [DEFLATE], [SHUFFLE, DEFLATE])
# Numbers of messages in object headers (HDF5 file format specification, section IV.A.2).
DATASPACE, LINK_INFO, DATATYPE, LINK, EXTERNAL, LAYOUT, ATTRIBUTE, SYMBOLS, ATTRIBUTE_INFO = (
    *(0x1, 0x2, 0x3, 0x6, 0x7, 0x8, 0xC, 0x11),
    0x15,
)
COMPACT, CONTIGUOUS, CHUNKED = range(3)
# Floating-point types by size, sign, exponent (place, bits), mantissa (place, bits) and bias.
FLOATS = {
    (2, 15, 10, 5, 0, 10, 15): "f2",
    (4, 31, 23, 8, 0, 23, 127): "f4",
    (8, 63, 52, 11, 0, 52, 1023): "f8",
    (2, 15, 7, 8, 0, 7, 127): "bfloat16",
}


def write_array(group: h5py.Group, path: str, array: np.ndarray, few_values: bool = False) -> None:
    """Write one array, compressed unless it is small.

    Shuffling the bytes helps with arbitrary numbers; of an array of `few_values` it hides that
    whole numbers recur.
    """
    if array.nbytes < SMALL_BYTES:
        group.create_dataset(path, data=array, track_times=False)
        return
    chunks: list[int] = []
    room = CHUNK_BYTES // array.itemsize
    for length in reversed(array.shape):
        chunks.insert(0, max(1, min(length, room)))
        room //= chunks[0]
    group.create_dataset(
        path,
        data=array,
        chunks=tuple(chunks),
        compression="gzip",
        compression_opts=COMPRESSION_LEVEL,
        shuffle=not few_values,
        track_times=False,
    )


class HDF5File:
    """Groups, attributes and arrays of the HDF5 file with that content.

    Only hard links are followed: others could lead into other files.
    """

    def __init__(self, content: bytes):
        if not content.startswith(FORMAT_SIGNATURE):
            raise ModelFileError("not an HDF5 file: its signature is missing")
        self._source = _Source(content)
        self._objects: dict[int, _Object] = {}
        self._budget = FREE_BYTES + LARGEST_RATIO * len(content)
        with _understood("the file"):
            superblock = SuperBlock(self._source, 0)
            if superblock._contents["base_address"]:
                raise ModelFileError("an HDF5 file behind a user block is not read")
            self._root = self._at(superblock.offset_to_dataobjects)

    def members(self, path: str) -> list[str]:
        """Names in the group of that path from the root, sorted."""
        return sorted(self._object(path, "group").links)

    def has(self, path: str) -> bool:
        """Whether something is there."""
        group, _, name = path.rpartition("/")
        return name in self._object(group, "group").links

    def attribute(self, path: str, name: str) -> Any:
        """An attribute of a group, strings as bytes; None where it is not there."""
        return self._object(path, "group").attribute(name)

    def names(self, path: str, attribute: str) -> list[str]:
        """A list of strings in an attribute, which Keras splits into numbered parts when it is
        long.
        """
        parts = [self.attribute(path, attribute)]
        if parts[0] is None:
            parts = []
            while (part := self.attribute(path, f"{attribute}{len(parts)}")) is not None:
                parts.append(part)
        if not parts:
            raise ModelFileError(f"group {path!r} has no attribute {attribute!r}")
        found = [name for part in parts for name in np.ravel(part).tolist()]
        if not all(isinstance(name, bytes) for name in found):
            raise ModelFileError(
                f"attribute {attribute!r} of group {path!r} must hold names, found {found[:3]}"
            )
        try:
            return [name.decode("utf-8") for name in found]
        except UnicodeDecodeError as error:
            raise ModelFileError(
                f"attribute {attribute!r} of group {path!r} must hold names ({error})"
            ) from None

    def array(
        self,
        path: str,
        what: str,
        shape: tuple[int, ...] | None = None,
        bfloat16: bool = False,
    ) -> np.ndarray:
        """An array of finite real numbers, of that shape if one is given; `what` names it in
        messages, `bfloat16` says what numbers of two bytes without a type are.
        """
        dataset = self._object(path, "dataset")
        with _understood(what):
            array = self._array(dataset, what, shape, bfloat16)
        check_finite(array, what)
        return array

    def _array(
        self, dataset: _Object, what: str, shape: tuple[int, ...] | None, bfloat16: bool
    ) -> np.ndarray:
        kind = dataset.float_type(bfloat16)
        if kind not in FLOATS.values() and kind not in (">f2", ">f4", ">f8"):
            raise ModelFileError(f"{what}: expected floating-point numbers, found {kind}")
        if dataset.shape is None:
            raise ModelFileError(f"{what}: expected floating-point numbers, found nothing")
        if shape is not None and dataset.shape != shape:
            raise ModelFileError(f"{what}: found shape {dataset.shape}, expected {shape}")
        stored_type = np.dtype("<u2" if kind == "bfloat16" else kind)
        array = self._stored(dataset, stored_type, what).reshape(dataset.shape)
        if kind == "bfloat16":
            return (array.astype(np.uint32) << 16).view(np.float32)
        return array.astype(np.float64 if stored_type.itemsize == 8 else np.float32)

    def _stored(self, dataset: _Object, dtype: np.dtype, what: str) -> np.ndarray:
        """What the file stores for a dataset, in order.

        Data that lie elsewhere, or unpack to more than the file can reasonably hold, are refused
        before anything is allocated.
        """
        filters = [int(entry["filter_id"]) for entry in dataset.filter_pipeline or ()]
        _, layout, place = dataset.get_id_storage_params()
        if (
            layout not in (COMPACT, CONTIGUOUS, CHUNKED)
            or dataset.find_msg_type(EXTERNAL)
            or filters not in FILTERS
        ):
            raise ModelFileError(
                f"{what}: stored in a way that is not read (HDF5 filters {filters}, virtual or"
                " external data)"
            )
        shape = dataset.shape
        size = prod(shape) * dtype.itemsize
        self._budget -= size
        if layout == CHUNKED:
            return self._chunked(dataset, dtype, filters, size, what)
        if layout == COMPACT:
            (stored,) = struct.unpack_from("<H", dataset.msg_data, place)
            content = dataset.msg_data[place + 2 : place + 2 + stored]
        else:
            (address,) = struct.unpack_from("<Q", dataset.msg_data, place)
            content = b"" if address == UNDEFINED_ADDRESS else self._source.part(address, size)
        self._check_claim(shape, size, len(content), what)
        return np.frombuffer(content, dtype, prod(shape))

    def _check_claim(self, shape: tuple[int, ...], size: int, stored: int, what: str) -> None:
        if self._budget < 0 or stored < size:
            raise ModelFileError(
                f"{what}: claims {size:,} bytes of shape {shape}, the file stores {stored:,} of"
                " them"
            )

    def _chunked(
        self, dataset: _Object, dtype: np.dtype, filters: list[int], size: int, what: str
    ) -> np.ndarray:
        shape, chunk = dataset.shape, tuple(dataset.chunks)
        if dataset._chunk_address == UNDEFINED_ADDRESS or self._budget < 0:
            self._check_claim(shape, size, 0, what)
        if len(chunk) != len(shape) or any(
            not 0 < part <= length for part, length in zip(chunk, shape, strict=True)
        ):
            raise ModelFileError(
                f"{what}: chunks of shape {chunk} are larger than the data, {shape}"
            )
        counts = [-(-length // part) for length, part in zip(shape, chunk, strict=True)]
        if prod(counts) * 8 * (len(shape) + 3) > len(self._source.content):  # what an index takes
            self._check_claim(shape, size, 0, what)
        tree = BTreeV1RawDataChunks(self._source, dataset._chunk_address, len(shape) + 1)
        chunks = {
            key["chunk_offset"][:-1]: (key["filter_mask"], address, key["chunk_size"])
            for node in tree.all_nodes.get(0, ())
            for key, address in zip(node["keys"], node["addresses"], strict=True)
        }
        expected = {
            tuple(place * part for place, part in zip(places, chunk, strict=True))
            for places in np.ndindex(*counts)
        }
        if chunks.keys() != expected:
            raise ModelFileError(
                f"{what}: the file stores {len(chunks.keys() & expected):,} of its"
                f" {len(expected):,} chunks"
            )
        array = np.empty(shape, dtype)
        for offset, (skipped, address, stored) in chunks.items():
            content = self._source.part(address, stored)
            values = _unpacked(content, skipped, filters, prod(chunk), dtype, what)
            place = tuple(slice(start, start + n) for start, n in zip(offset, chunk, strict=True))
            target = array[place]
            target[...] = values.reshape(chunk)[tuple(map(slice, target.shape))]
        return array

    def _object(self, path: str, kind: str) -> _Object:
        """The group or dataset of that path."""
        found = self._root
        for part in filter(None, path.split("/")):
            with _understood(f"{kind} {path!r}"):
                link = found.links.get(part) if found.is_group else None
                if not isinstance(link, int):
                    raise ModelFileError(
                        f"{kind} {path!r} is missing"
                        if link is None
                        else f"{kind} {path!r} is a link, which is not followed"
                    )
                found = self._at(link)
        if not (found.is_group if kind == "group" else found.is_dataset):
            raise ModelFileError(f"{path!r} must be a {kind}, which it is not")
        return found

    def _at(self, address: int) -> _Object:
        if address not in self._objects:
            self._objects[address] = _Object(self._source, address)
        return self._objects[address]


class _Source:
    """The content of a file, as pyfive reads it, until it has read too much."""

    closed = False

    def __init__(self, content: bytes):
        self.content = content
        self.place = 0
        self.left = READ_BYTES + READ_RATIO * len(content)
        self.reads_left: int | None = None

    def seek(self, place: int) -> None:
        self.place = place

    def read(self, size: int) -> bytes:
        found = self.content[self.place : self.place + size] if size > 0 else b""
        self.place += len(found)
        self.left -= max(len(found), READ_COST)
        if self.reads_left is not None:
            self.reads_left -= 1
        if self.left < 0 or self.reads_left == 0:
            raise ModelFileError("the structure of the HDF5 file refers to itself")
        return found

    def part(self, place: int, size: int) -> memoryview:
        """Data, which are read once; shorter than the size where the file ends before."""
        return memoryview(self.content)[place : place + size]


class _Object(DataObjects):
    """A group or dataset, by its header.

    Names and values are looked for inside their own message or record only, and what all names of a
    group take together is no more than what holds them.
    """

    def __init__(self, source: _Source, address: int):
        source.reads_left = HEADER_READS
        super().__init__(source, address)
        source.reads_left = None

    @property
    def is_group(self) -> bool:
        return any(map(self.find_msg_type, (SYMBOLS, LINK, LINK_INFO)))

    @cached_property
    def links(self) -> dict[str, int | str]:
        """Address by name, a path instead of it where the link is a soft one, and nothing behind
        an external one.
        """
        with _understood("a group"):
            return self.get_links()

    def attribute(self, name: str) -> Any:
        with _understood(f"attribute {name!r}"):
            for record in self._attribute_records():
                (version, length) = struct.unpack_from("<BxH", record)
                start = 9 if version == 3 else 8
                if record[start : start + length].rstrip(b"\0") == name.encode():
                    return self._parse_attribute_msg(record, 0)[1]
        return None

    def float_type(self, bfloat16: bool) -> str:
        """The type of a dataset's numbers, as NumPy or FLOATS name it if they are real numbers."""
        message = self._message(DATATYPE)
        kind, *bits, size = struct.unpack_from("<BBBBI", message)
        if kind & 15 == 1:
            exponent_and_mantissa = struct.unpack_from("<HHBBBBI", message, 8)[2:]
            name = FLOATS.get((size, bits[1], *exponent_and_mantissa))
            plain = bits[0] & 0x7E == 0x20  # no padding, an implied first bit of the mantissa
            if name is None or not plain or (name == "bfloat16" and bits[0] & 1):
                return f"a floating-point type of {size} bytes of its own"
            return f">{name}" if bits[0] & 1 else name
        if kind & 15 == 5 and size == 2 and (bfloat16 or self.attribute("dtype") == b"bfloat16"):
            return "bfloat16"
        return str(self.ptype.dtype)

    def _message(self, kind: int) -> bytes:
        """The one message of that kind."""
        message = self.find_msg_type(kind)[0]
        start = message["offset_to_message"]
        if message.get("flags", 0) & 2:
            raise ModelFileError("a type that datasets share is not read")
        return self.msg_data[start : start + message["size"]]

    def _attribute_records(self) -> Iterator[bytes]:
        for message in self.find_msg_type(ATTRIBUTE):
            start = message["offset_to_message"]
            yield self.msg_data[start : start + message["size"]]
        for message in self.find_msg_type(ATTRIBUTE_INFO):
            flags = self.msg_data[message["offset_to_message"] + 1]
            place = message["offset_to_message"] + 2 + 2 * (flags & 1)
            heap, tree = struct.unpack_from("<QQ", self.msg_data, place)
            if heap != UNDEFINED_ADDRESS:
                yield from self._heap_records(heap, BTreeV2AttrNames(self.fh, tree))

    def _heap_records(self, address: int, tree: Any) -> Iterator[bytes]:
        heap = FractalHeap(self.fh, address)
        left = len(heap.managed)
        for record in tree.iter_records():
            content = heap.get_data(record["heapid"])
            left -= len(content)
            if left < 0:
                raise ModelFileError("records of the HDF5 file overlap")
            yield content

    def _attr_value(self, ptype: P5Type, buf: bytes, count: int, offset: int) -> Any:
        if isinstance(ptype, P5SequenceType) or count > len(buf):
            raise ModelFileError(f"{count:,} values of {type(ptype).__name__} are not read")
        return super()._attr_value(ptype, buf, count, offset)

    def _get_link_from_link_msg(self, link_msg: dict) -> tuple[str, int | str]:
        start = link_msg["offset_to_message"]
        return self._decode_link(self.msg_data[start : start + link_msg["size"]])

    def _decode_link(self, content: bytes) -> tuple[str, int | str]:
        flags = content[1]
        if flags & 8 and content[2] == 64:  # an external link: read as a soft one to nowhere
            content = content[:2] + b"\1" + content[3:]
        return self._decode_link_msg(content, 0)[1]

    def _iter_links_btree_v1(
        self, btree_address: int, heap_address: int
    ) -> Iterator[tuple[str, int | str]]:
        heap = _Names(self.fh, heap_address)
        for address in BTreeV1Groups(self.fh, btree_address).symbol_table_addresses():
            table = SymbolTable(self.fh, address)
            table.assign_name(heap)
            yield from table.get_links(heap).items()

    def _iter_links_btree_v2(
        self, name_btree_address: int, order_btree_address: int | None, heap_address: int
    ) -> Iterator[tuple[str, int | str]]:
        tree = BTreeV2GroupNames(self.fh, name_btree_address)
        for record in self._heap_records(heap_address, tree):
            yield self._decode_link(record)


class _Names(Heap):
    """The names in a group, each read once."""

    def __init__(self, source: _Source, address: int):
        super().__init__(source, address)
        self.left = len(self.data)

    def get_object_name(self, offset: int) -> bytes:
        name = super().get_object_name(offset)
        self.left -= len(name) + 1
        if self.left < 0:
            raise ModelFileError("names in the HDF5 file overlap")
        return name


@contextmanager
def _understood(what: str) -> Iterator[None]:
    """Whatever pyfive trips over, the file is damaged or of a kind that it does not read."""
    try:
        yield
    except (*MALFORMED, AssertionError, struct.error, InvalidHDF5File) as error:
        raise ModelFileError(
            f"{what}: damaged, or of a kind of HDF5 that is not read"
            f" ({type(error).__name__}{f': {error}' if str(error) else ''})"
        ) from None


def _unpacked(
    content: memoryview,
    skipped: int,
    filters: list[int],
    count: int,
    dtype: np.dtype,
    what: str,
) -> np.ndarray:
    """The values of one chunk.

    What a filter would not shrink is stored without it, with the bit of that filter set.
    """
    size = count * dtype.itemsize
    applied = [name for place, name in enumerate(filters) if not skipped >> place & 1]
    if DEFLATE in applied:
        if len(content) > size + size // 100 + 100:
            raise ModelFileError(
                f"{what}: claims {len(content):,} bytes for a compressed chunk of {size:,}"
            )
        unpacked: bytes | memoryview = _inflated(content, size)
    else:
        unpacked = content
    if len(unpacked) != size:
        raise ModelFileError(
            f"{what}: a compressed chunk is damaged, expected {size:,} bytes in it"
        )
    if SHUFFLE in applied:
        unpacked = np.ascontiguousarray(
            np.frombuffer(unpacked, np.uint8).reshape(dtype.itemsize, count).T
        ).data
    return np.frombuffer(unpacked, dtype)


def _inflated(stream: memoryview, limit: int) -> bytes:
    """Content of a deflate stream; nothing where it is longer than the limit or broken."""
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(stream, limit)
        return (
            content if inflater.eof or not inflater.decompress(inflater.unconsumed_tail, 1) else b""
        )
    except zlib.error:
        return b""
