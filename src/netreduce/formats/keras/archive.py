"""Keras 3 networks (.keras): an archive of the configuration (config.json) and the weights
(model.weights.h5).
"""

import io
import json
import zipfile
from pathlib import Path, PurePosixPath

from netreduce.errors import ModelFileError
from netreduce.files import replacing
from netreduce.formats.guard import reading
from netreduce.network import Network

from .build import build_network
from .config import keras_order, origin, parse_json, parse_model
from .hdf5 import FREE_BYTES, LARGEST_RATIO, HDF5File, write_array
from .store import (
    WeightsByClass,
    groups_by_class,
    layers_in_keras_order,
    read_quantization,
    write_quantization,
)
from .write import config_of_network, written_layers

METADATA_NAME, METADATA = "metadata.json", {"keras_version": "3.0.0"}
MODULES = {"Sequential": "keras", "Functional": "keras.src.models.functional"}
FIXED_DATE = (1980, 1, 1, 0, 0, 0)


def read_network(path: Path) -> Network:
    """Read a .keras file."""
    with reading(path), zipfile.ZipFile(path) as archive:
        config = parse_json(_member(archive, "config.json", path), "config.json")
        weights = _member(archive, "model.weights.h5", path)
        model = parse_model(config, origin(_version(archive, path), None))
        file = HDF5File(weights)
        network = build_network(model, WeightsByClass(file, model.keras_layers))
        return read_quantization(file, network)


def write_network(network: Network, path: Path) -> None:
    """Write a .keras file, whole or not at all."""
    config = config_of_network(network)
    members = {
        METADATA_NAME: json.dumps(METADATA).encode(),
        "config.json": (
            json.dumps(
                {"module": MODULES[config["class_name"]], **config, "registered_name": None}
            ).encode()
        ),
        "model.weights.h5": _weights(network),
    }
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, FIXED_DATE), content)


def _weights(network: Network) -> bytes:
    import h5py  # slow to import, and not what files are read with

    content = io.BytesIO()
    written = written_layers(network)
    groups = groups_by_class(layers_in_keras_order(network))
    with h5py.File(content, "w") as file:
        file.create_group("vars")
        for index in keras_order([layer.sources for layer in written]):
            layer = written[index]
            variables = file.create_group(f"{groups[layer.name]}/vars")
            for i, array in enumerate(layer.arrays.values()):
                write_array(variables, str(i), array, layer.few_values)
        write_quantization(file, network)
    return content.getvalue()


def _version(archive: zipfile.ZipFile, path: Path) -> object:
    """The version of Keras that wrote the file, where it says so."""
    if METADATA_NAME not in archive.namelist():
        return None
    return parse_json(_member(archive, METADATA_NAME, path), METADATA_NAME).get("keras_version")


def _member(archive: zipfile.ZipFile, name: str, path: Path) -> bytes:
    """Content of one member; nothing is ever unpacked to disk."""
    for member in archive.namelist():
        if (
            member.startswith(("/", "\\"))
            or ".." in PurePosixPath(member.replace("\\", "/")).parts
            or member.count(":")
        ):
            raise ModelFileError(f"the archive has a member outside of itself, {member!r}")
    if archive.namelist().count(name) != 1:
        raise ModelFileError(
            f"the archive must hold {name} once, found {', '.join(archive.namelist()) or 'nothing'}"
        )
    size = archive.getinfo(name).file_size
    if size > FREE_BYTES + LARGEST_RATIO * path.stat().st_size:
        raise ModelFileError(f"{name} claims {size:,} bytes in a file of {path.stat().st_size:,}")
    try:
        return archive.read(name)
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ModelFileError(f"{name} is damaged ({error})") from None
