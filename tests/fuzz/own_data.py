"""A user's own data for the fuzzer: files to start from, how to damage them, what reads them."""

import io
import re
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from netreduce.data import read
from netreduce.data.features import columns, read_table
from netreduce.data.folders import image_kind
from netreduce.data.images import read_image
from netreduce.data.own import build_own

SHAPES = ("()", "(0,)", "(-1,)", "(9999999999, 9)", "(2, 3, -4)", "(True,)", "((1,), 2)", "3", "{}")
TYPES = ("|O", "<f8", ">i2", "|S9", "<U1000000000", "|V3", "<c16", "<M8[ns]", "f2,i4", "|b1", "")


def seeds(kind: str) -> list[bytes]:
    rng = np.random.default_rng(0)
    if kind == "npz":
        x, y = rng.normal(size=(24, 3, 2)), np.arange(24) % 2
        packed, plain, alone = io.BytesIO(), io.BytesIO(), io.BytesIO()
        np.savez(plain, x=x, y=y)
        np.savez_compressed(packed, x_train=x.astype("u1"), y_train=np.array(["a", "b"])[y])
        np.save(alone, np.asfortranarray(x))
        return [plain.getvalue(), packed.getvalue(), alone.getvalue()]
    if kind == "table":
        frame = pd.DataFrame(rng.normal(size=(20, 3)).round(3), columns=list("abc"))
        frame["kind"] = np.resize(["cat", 'dog, or "wolf"'], 20)
        frame["count"] = np.arange(20)
        texts = [frame.to_csv(index=False, sep=sep).encode() for sep in ",;\t"]
        return [*texts, frame.to_parquet(), frame.to_parquet(compression=None)]
    if kind == "image":
        pictures = [
            Image.fromarray(rng.integers(0, 256, shape).astype("u1"))
            for shape in ((9, 7), (9, 7, 3), (9, 7, 4))
        ]
        made = []
        for name in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"):
            for picture in pictures[: 2 if name in ("JPEG", "PPM") else 3]:
                file = io.BytesIO()
                picture.save(file, name)
                made.append(file.getvalue())
        return made
    with tempfile.TemporaryDirectory() as folder:
        made = []
        for number, target in enumerate(("classes", "numbers", "input")):
            source, output = Path(folder, f"{number}.npz"), Path(folder, f"{number}.data")
            np.savez(source, x=rng.normal(size=(40, 3)), y=(np.arange(40) % 2) + 0.0)
            build_own("a", {"train": str(source), "target": target}, output)
            made.append(output.read_bytes())
        return made


def npy_member(name: str, part: bytes, rng: np.random.Generator) -> bytes:
    """Another shape, type or order in the header of an array, of the same length where it fits."""
    end = part.find(b"\n") + 1
    header = part[10:end].decode("latin-1")
    match rng.integers(4):
        case 0:
            changed = re.sub(r"'shape': [^}]*?, }", f"'shape': {rng.choice(SHAPES)}, }}", header)
        case 1:
            changed = re.sub(r"'descr': '[^']*'", f"'descr': '{rng.choice(TYPES)}'", header)
        case 2:
            changed = header.replace("False", "True")
        case _:
            at = int(rng.integers(len(header)))
            changed = header[:at] + str(rng.choice(list("{}()',:0 \x00é"))) + header[at + 1 :]
    fixed = changed.rstrip()[: len(header) - 1].ljust(len(header) - 1) + "\n"
    return part[:10] + fixed.encode("latin-1") + part[end:]


def png_chunks(content: bytes, rng: np.random.Generator) -> bytes:
    """A PNG file with one chunk changed, and its checksum right again."""
    chunks, place = [], 8
    while place + 8 <= len(content):
        (size,) = struct.unpack(">I", content[place : place + 4])
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + size]))
        place += size + 12
    chosen = int(rng.integers(len(chunks)))
    name, part = chunks[chosen]
    changed = bytearray(part or b"\x00")
    if name == b"IDAT" and rng.random() < 0.5:
        raw = bytearray(zlib.decompress(part))
        raw[int(rng.integers(len(raw)))] ^= 1 << int(rng.integers(8))
        changed = bytearray(zlib.compress(bytes(raw[: int(rng.integers(1, len(raw) + 1))])))
    else:
        changed[int(rng.integers(len(changed)))] = int(rng.choice([0, 1, 0x7F, 0x80, 0xFF]))
    chunks[chosen] = (name, bytes(changed))
    packed = (
        struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
        for name, part in chunks
    )
    return content[:8] + b"".join(packed)


def read_arrays(path: Path) -> None:
    build_own("a", {"train": str(path)}, path.with_name("out.npz"))


def read_features(path: Path) -> None:
    table = read_table(path)
    names = [name for name in table.columns if name == "kind"]
    columns(table, path, names)


def read_picture(path: Path) -> None:
    image_kind(path)
    read_image(path, str(path)).convert("RGB")


def read_dataset(path: Path) -> None:
    data = read(path)
    for split in ("train", "validation", "test"):
        data.images(split)
        data.targets(split)


READERS = {
    "npz": read_arrays,
    "table": read_features,
    "image": read_picture,
    "dataset": read_dataset,
}
