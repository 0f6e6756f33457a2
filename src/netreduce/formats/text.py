"""Networks as text (.txt): for each tensor a line "Layer: <state_dict name>", a line of its values,
a blank line.

Values are the shortest decimals that read back to the same float32, row-major, with comma and space
between. Read are also values separated by spaces only, in scientific notation, or wrapped over
several lines.
"""

import re
import warnings
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np

from netreduce.errors import ModelFileError
from netreduce.files import replacing
from netreduce.network import Network

from .guard import reading
from .tensors import Architecture, network_of, to_tensors

LARGEST = float(np.finfo(np.float32).max)
WRITE_VALUES = 1 << 16
READ_CHARACTERS = 1 << 20
HEADER = re.compile(r"\s*Layer\s*:\s*(.*?)\s*")
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
WORD = re.compile(r"\S+", re.ASCII)


def read_network(path: Path, architecture: Architecture) -> Network:
    """Read a network of a known architecture from text."""
    with reading(path):
        lines, tensors = _read(path)
        labels = {name: f"tensor {name!r} (line {line})" for name, line in lines.items()}
        return network_of(tensors, architecture, "text", flat=True, labels=labels)


def write_network(network: Network, path: Path) -> None:
    """Write the tensors of a network as text, whole or not at all."""
    with replacing(path) as temporary:
        write_tensors(to_tensors(network), temporary)


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Tensors by name, in the order of the file: float32 vectors, since text says no shapes."""
    with reading(path):
        return _read(path)[1]


def write_tensors(tensors: Mapping[str, np.ndarray], path: Path) -> None:
    """Write float32 tensors as text."""
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        for name, tensor in tensors.items():
            file.write(f"Layer: {name}\n")
            values = tensor.astype(np.float32, copy=False).ravel()
            for start in range(0, len(values), WRITE_VALUES):
                file.write(
                    (", " if start else "") + _decimals(values[start : start + WRITE_VALUES])
                )
            file.write("\n\n")


def _decimals(values: np.ndarray) -> str:
    """The values as text that reads back bit for bit."""
    decimals = values.astype("U").tolist()
    again = np.fromstring(", ".join(decimals), sep=",").astype(np.float32)
    for i in np.flatnonzero(again.view(np.uint32) != values.view(np.uint32)):
        decimals[i] = repr(
            float(values[i])
        )  # the shortest decimal is too close to half-way for a reader that goes through float64
    return ", ".join(decimals)


def _read(path: Path) -> tuple[dict[str, int], dict[str, np.ndarray]]:
    """Line number and values of every tensor."""
    lines: dict[str, int] = {}
    parts: dict[str, list[np.ndarray]] = {}
    current = None
    for number, text in _pieces(path):
        header = HEADER.fullmatch(text)
        if header:
            current = header[1]
            if not current or current in lines:
                found = f"tensor {current!r} appears twice" if current else "a nameless tensor"
                raise ModelFileError(f"line {number}: {found}")
            lines[current], parts[current] = number, []
        elif text.strip():
            if current is None:
                raise ModelFileError(
                    f"line {number}: expected 'Layer: <name>', found {text.strip()[:40]!r}"
                )
            parts[current].append(_values(text, number, current))
    if not lines:
        raise ModelFileError("no tensors found, expected lines 'Layer: <name>'")
    return lines, {
        name: np.concatenate(found) if found else np.empty(0, np.float32)
        for name, found in parts.items()
    }


def _pieces(path: Path) -> Iterator[tuple[int, str]]:
    """Lines with their numbers; long ones in pieces, cut between values."""
    with open(path, encoding="utf-8-sig") as file:
        number, rest = 1, ""
        for piece in iter(partial(file.readline, READ_CHARACTERS), ""):
            ended = piece.endswith("\n")
            piece = rest + piece
            cut = len(piece) if ended else max(piece.rfind(" "), piece.rfind(",")) + 1
            rest = piece[cut:]
            if piece[:cut]:
                yield number, piece[:cut]
            number += ended
        if rest:
            yield number, rest


def _values(text: str, number: int, tensor: str) -> np.ndarray:
    numbers = text.replace(",", " ").strip()
    if not numbers:
        return np.empty(0, np.float32)
    try:
        with warnings.catch_warnings(), np.errstate(over="ignore"):
            warnings.simplefilter("error", DeprecationWarning)
            values = np.fromstring(numbers, sep=" ").astype(np.float32)
        if np.isfinite(values).all():
            return values
    except (ValueError, DeprecationWarning):
        pass
    wrong = next(
        word
        for word in WORD.findall(numbers)
        if not NUMBER.fullmatch(word) or abs(float(word)) > LARGEST
    )
    raise ModelFileError(
        f"line {number}, tensor {tensor!r}: {wrong[:40]!r} is not a finite float32 number"
    )
