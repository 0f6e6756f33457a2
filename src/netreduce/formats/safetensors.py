"""Tensors in safetensors files, which store them sorted: only their names tell the order of the
layers.
"""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from netreduce.errors import ModelFileError
from netreduce.network import Network

from .guard import reading
from .pytorch.state_dict import array_of
from .tensors import COUNTER, Architecture, network_of


def read_network(path: Path, architecture: Architecture) -> Network:
    """Read a network of a known architecture from a safetensors file."""
    with reading(path):
        return network_of(_read(path), architecture, "a safetensors file", ordered=False)


def _read(path: Path) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, framework="pt") as file:
            return {
                name: array_of(name, file.get_tensor(name))
                for name in file.offset_keys()
                if not name.endswith(COUNTER)
            }
    except SafetensorError as error:
        raise ModelFileError(f"the safetensors file is damaged ({error})") from None
