"""Arrays in HDF5 files: written without time stamps, read without trusting the file."""

import mmap
import zlib
from math import prod

import h5py
import numpy as np

from netreduce.errors import ModelFileError
from netreduce.network import Network
from netreduce.network.layers import Layer, Quantization

CHUNK_BYTES = 1 << 20
SMALL_BYTES = 1 << 12  # below this, chunks cost more than compression saves
COMPRESSION_LEVEL = 5  # level 9 takes twenty times as long for a tenth of the size
# What a file may hold unpacked: any network up to 1 GiB; beyond that, no more than weights of a few
# bits compress to.
FREE_BYTES, LARGEST_RATIO = 1 << 30, 64
FILTERS = (
    [],
    [h5py.h5z.FILTER_SHUFFLE],
    [h5py.h5z.FILTER_DEFLATE],
    [h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE],
)
HEAP = b"GCOL\1\0\0\0"  # how a collection of strings of variable length begins
QUANTIZATION = "quantization"  # a group that Keras does not look at


def write_array(group: h5py.Group, path: str, array: np.ndarray, few_values: bool = False) -> None:
    """Write one array, compressed unless it is small.

    Shuffling the bytes helps with arbitrary numbers; of an array of `few_values` it hides that
    whole numbers recur.
    """
    if array.nbytes < SMALL_BYTES:
        group.create_dataset(path, data=array, track_times=False)
        return
    chunks, room = [], CHUNK_BYTES // array.itemsize
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


def is_quantized(layer: Layer) -> bool:
    """Whether the weights of the layer lie on a known grid."""
    return getattr(layer, "quantization", None) is not None


def write_quantization(file: h5py.File, network: Network) -> None:
    """Write the grids on which the weights of quantized layers lie."""
    for name, layer in zip(network.names, network.layers, strict=True):
        if is_quantized(layer):
            group = file.require_group(QUANTIZATION).create_group(name)
            write_array(group, "scale", layer.quantization.scale)
            group.attrs["bits"] = float(layer.quantization.bits)
            group.attrs["quantized_bias"] = int(layer.quantization.quantized_bias)


def check_heaps(content: bytes | mmap.mmap) -> None:
    """Refuse a file whose strings HDF5 would never finish reading: it goes on by the size of free
    space, even if that is zero.
    """
    start = content.find(HEAP)
    while start >= 0:
        end, place = start + int.from_bytes(content[start + 8 : start + 16], "little"), start + 16
        while place + 16 <= min(end, len(content)):
            index, size = (
                int.from_bytes(content[place + a : place + b], "little")
                for a, b in ((0, 2), (8, 16))
            )
            if not index and size < 16:
                raise ModelFileError(f"the strings at byte {start:,} of the HDF5 file are damaged")
            place += 16 + (size + 7) // 8 * 8 if index else size
        start = content.find(HEAP, start + 1)


class ArrayReader:
    """Reads arrays and attributes of one open file; what it allocates is bounded by the size of the
    file.
    """

    def __init__(self, file: h5py.File, file_size: int):
        self.file = file
        self._budget = FREE_BYTES + LARGEST_RATIO * file_size

    def group(self, path: str) -> h5py.Group:
        """The group of that path from the root."""
        return self._object(path, h5py.Group, "group")

    def names(self, path: str, attribute: str) -> list[str]:
        """A list of strings in an attribute, which Keras splits into numbered parts when it is
        long.
        """
        attributes = self.group(path).attrs
        parts = [attribute] if attribute in attributes else []
        while not (parts and parts[0] == attribute) and f"{attribute}{len(parts)}" in attributes:
            parts.append(f"{attribute}{len(parts)}")
        if not parts:
            raise ModelFileError(f"group {path!r} has no attribute {attribute!r}")
        names = [
            name.decode("utf-8") if isinstance(name, bytes) else name
            for part in parts
            for name in np.ravel(attributes[part]).tolist()
        ]
        if not all(isinstance(name, str) for name in names):
            raise ModelFileError(
                f"attribute {attribute!r} of group {path!r} must hold names, found {names[:3]}"
            )
        return names

    def array(self, path: str, what: str, shape: tuple[int, ...] | None = None) -> np.ndarray:
        """An array of finite real numbers, of that shape if one is given; `what` names it in
        messages.
        """
        dataset = self._object(path, h5py.Dataset, "dataset")
        if (
            dataset.dtype.kind != "f"
            or dataset.dtype.itemsize not in (2, 4, 8)
            or dataset.shape is None
        ):
            raise ModelFileError(f"{what}: expected floating-point numbers, found {dataset.dtype}")
        if shape is not None and dataset.shape != shape:
            raise ModelFileError(f"{what}: found shape {dataset.shape}, expected {shape}")
        self._check_storage(dataset, what)
        array = dataset[()]
        if not np.isfinite(array).all():
            raise ModelFileError(
                f"{what}: found {np.count_nonzero(~np.isfinite(array))} values that are NaN or"
                " infinite"
            )
        return array.astype(np.float64 if array.dtype.itemsize == 8 else np.float32, copy=False)

    def quantized(self, network: Network) -> Network:
        """The network with the grids of its quantized layers, where the file holds them."""
        if QUANTIZATION not in self.file:
            return network
        layers = dict(zip(network.names, network.layers, strict=True))
        found = {}
        for name in self.group(QUANTIZATION):
            if not hasattr(layers.get(name), "quantization"):
                raise ModelFileError(
                    f"quantization of layer {name!r}, which does not exist or has no kernel"
                )
            found[network.names.index(name)] = self._quantized(name, layers[name])
        return network.replace(found)

    def _quantized(self, name, layer):
        path = f"{QUANTIZATION}/{name}"
        attributes = self.group(path).attrs
        bits, quantized_bias = float(attributes["bits"]), bool(attributes["quantized_bias"])
        scale = self.array(f"{path}/scale", f"layer {name!r}: quantization scale")
        fits = (
            scale.ndim <= layer.kernel.ndim
            and np.broadcast_shapes(scale.shape, layer.kernel.shape) == layer.kernel.shape
        )
        if not fits or not 1 <= bits <= 32:
            raise ModelFileError(
                f"layer {name!r}: quantization with {bits} bits and a scale of shape {scale.shape}"
                " does not fit its kernel"
            )
        quantized = layer.replace(quantization=Quantization(scale, bits, quantized_bias))
        on_grid = np.array_equal(layer.kernel, (scale * quantized.codes).astype(layer.kernel.dtype))
        if quantized_bias:
            on_grid &= np.array_equal(
                layer.bias, (scale.reshape(-1) * quantized.bias_codes).astype(layer.bias.dtype)
            )
        if not on_grid:
            raise ModelFileError(
                f"layer {name!r}: the weights do not lie on the grid of their quantization"
            )
        return quantized

    def _object(self, path, kind, word):
        """Follow hard links only: soft and external links could lead into other files."""
        found = self.file
        for part in filter(None, path.split("/")):
            link = found.get(part, getlink=True) if isinstance(found, h5py.Group) else None
            if not isinstance(link, h5py.HardLink):
                raise ModelFileError(
                    f"{word} {path!r} is missing"
                    if link is None
                    else f"{word} {path!r} is a link, which is not followed"
                )
            found = found[part]
        if not isinstance(found, kind):
            raise ModelFileError(f"{path!r} must be a {word}, found {type(found).__name__}")
        return found

    def _check_storage(self, dataset, what):
        """Refuse data that lie elsewhere or unpack to more than the file can reasonably hold,
        before anything is allocated.
        """
        properties = dataset.id.get_create_plist()
        filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
        if dataset.is_virtual or dataset.external or filters not in FILTERS:
            raise ModelFileError(
                f"{what}: stored in a way that is not read (HDF5 filters {filters}, virtual or"
                " external data)"
            )
        size, stored = prod(dataset.shape) * dataset.dtype.itemsize, dataset.id.get_storage_size()
        self._budget -= size
        if self._budget < 0 or (size and not stored) or (not filters and stored < size):
            raise ModelFileError(
                f"{what}: claims {size:,} bytes of shape {dataset.shape}, the file stores"
                f" {stored:,} of them"
            )
        if dataset.chunks and any(
            chunk > length for chunk, length in zip(dataset.chunks, dataset.shape, strict=True)
        ):
            raise ModelFileError(
                f"{what}: chunks of shape {dataset.chunks} are larger than the data,"
                f" {dataset.shape}"
            )
        if h5py.h5z.FILTER_DEFLATE in filters:
            self._check_streams(dataset, filters.index(h5py.h5z.FILTER_DEFLATE), what)

    def _check_streams(self, dataset, deflate, what):
        """HDF5 inflates a chunk whatever its length, and makes up chunks that are missing: make
        sure that each is there, as long as it should be.

        What deflating would not shrink, HDF5 stores as it is, with the bit of that filter set.
        """
        chunks, size = [], prod(dataset.chunks) * dataset.dtype.itemsize
        dataset.id.chunk_iter(lambda info: chunks.append((info.chunk_offset, info.size)))
        expected = prod(
            -(-length // chunk) for length, chunk in zip(dataset.shape, dataset.chunks, strict=True)
        )
        if len(chunks) != expected:
            raise ModelFileError(
                f"{what}: the file stores {len(chunks):,} of its {expected:,} chunks"
            )
        for offset, stored in chunks:
            if stored > size + size // 100 + 100:
                raise ModelFileError(
                    f"{what}: claims {stored:,} bytes for a compressed chunk of {size:,}"
                )
            skipped, stream = dataset.id.read_direct_chunk(offset)
            inflated = (
                len(stream)
                if skipped == 1 << deflate
                else 0
                if skipped
                else _inflated(stream, size)
            )
            if inflated != size:
                raise ModelFileError(
                    f"{what}: a compressed chunk is damaged, expected {size:,} bytes in it"
                )


def _inflated(stream, limit):
    """Length of a deflate stream's content, or −1 where it is longer than the limit or broken."""
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(stream, limit)
        return (
            len(content)
            if inflater.eof or not inflater.decompress(inflater.unconsumed_tail, 1)
            else -1
        )
    except zlib.error:
        return -1
