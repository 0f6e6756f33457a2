"""Feed the readers damaged and hostile files: python tests/fuzz/fuzz.py h5 --count 100000

Every input follows from the reader, the seed and its number: `--first N --count 1` repeats one. A
reader may read an input or refuse it with the library's own errors; anything else is a finding:
another exception, a crash, 20 seconds of work without an answer, more than 1 GiB of memory.
"""

import argparse
import io
import json
import mmap
import os
import resource
import signal
import struct
import sys
import tempfile
import traceback
import zipfile
from functools import cache
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "src"))

import own_data  # noqa: E402

import netreduce as nr  # noqa: E402
from netreduce.chains.steps import parse_chain  # noqa: E402
from netreduce.formats.pytorch.module import to_torch  # noqa: E402
from netreduce.formats.tensors import to_tensors  # noqa: E402
from netreduce.network.architectures import build  # noqa: E402
from netreduce.network.layers import Quantization  # noqa: E402

MEMORY = 1 << 30
SECONDS = 20
MLP = {"name": "mlp", "hidden": [5, 4], "batch_norm": True}
NASTY_NUMBERS = (
    0,
    1,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 40,
    (1 << 63) - 1,
    (1 << 64) - 1,
)
NASTY_VALUES = (
    *(
        None,
        True,
        False,
        0,
        -1,
        1,
        2,
        0.5,
        -0.0,
        1e308,
        10**30,
        2**31,
        2**63,
        float("nan"),
        float("inf"),
    ),
    *(
        "",
        "relu",
        "linear",
        "softmax",
        "valid",
        "same",
        "Dense",
        "Lambda",
        "../../x",
        "/etc/passwd",
        "a" * 5000,
        "__class__",
        "\x00",
        "ü",
        "{}",
    ),
    *(
        [],
        {},
        [[]],
        [None],
        [1, 2, 3],
        [-1, 10**9],
        [10**9, 10**9],
        {"class_name": "Lambda", "config": {"function": "x"}},
        [[[["a", 0, 0, {}]]]],
    ),
)


def seeds(kind):
    """Files to start from, as bytes."""
    rng = np.random.default_rng(0)
    mlp = build(MLP, (6,), 3, seed=0)
    convolutional = nr.Network(
        [
            nr.Conv2D(
                rng.normal(size=(3, 3, 1, 2)).astype("f4"),
                np.zeros(2, "f4"),
                padding="same",
                activation="relu",
            ),
            nr.MaxPooling2D((2, 2)),
            nr.Flatten(),
            nr.Dense(rng.normal(size=(18, 3)).astype("f4"), np.zeros(3, "f4")),
        ],
        (6, 6, 1),
    )
    codes = rng.integers(-1, 2, (40, 40)).astype("f4")  # large enough to be compressed inside
    quantized = nr.Network(
        [nr.Dense(codes * 0.25, np.zeros(40, "f4"), "relu", quantization=Quantization(0.25, 2))],
        (40,),
    )
    if kind in own_data.READERS:
        return own_data.seeds(kind)
    if kind == "config":
        return [(ROOT / name).read_bytes() for name in ("config.yaml", "config/quick.yaml")]
    if kind == "safetensors":
        from safetensors.numpy import save

        tensors = to_tensors(mlp)
        halves = {name: array.astype("f2") for name, array in tensors.items()}
        return [save(tensors), save(halves)]
    if kind == "pt2":
        return [exported(network) for network in (mlp, convolutional, attention(rng))]
    if kind == "nnet":
        return [acas_xu(rng)]
    networks = [mlp] if kind in ("pth", "txt") else [mlp, convolutional, quantized]
    if kind == "onnx":
        from netreduce.formats.onnx.writer import to_onnx

        networks += [gated(rng)]
        return [to_onnx(network).SerializeToString() for network in networks]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"seed.{kind}"
        contents = []
        for network in networks:
            nr.save(network, path)
            contents.append(path.read_bytes())
    return [*contents, channels_first(rng)] if kind == "keras" else contents


def acas_xu(rng):
    """A .nnet file."""
    rows = [[2, 3, 2, 4], [3, 4, 2], [0], [-1, -1, -1], [1, 1, 1], [0, 0.5, 0, 1], [1, 2, 1, 3]]
    rows += [*rng.normal(size=(4, 3)), *rng.normal(size=(4, 1))]
    rows += [*rng.normal(size=(2, 4)), *rng.normal(size=(2, 1))]
    lines = ["// a network", *(",".join(f"{value:g}" for value in row) + "," for row in rows)]
    return "\n".join(lines).encode()


def gated(rng):
    """A network with many of the operators that the export writes."""

    def normal(*shape):
        return rng.normal(size=shape).astype("f4")

    layers = [
        nr.Rescaling(0.5, -1.0),
        nr.Conv2D(normal(3, 3, 2, 4), normal(4), "gelu", padding=(1, 0, 2, 1), strides=2),
        nr.GlobalAveragePooling2D(),
        nr.Dense(normal(4, 4), normal(4), "hard_sigmoid"),
        nr.Multiply(),
        nr.UpSampling2D(2, "bilinear"),
        nr.Cropping2D((1, 0, 0, 2)),
        nr.Conv2DTranspose(normal(2, 2, 3, 4), normal(3), "silu", 2),
        nr.AveragePooling2D(3, 2, "same"),
        nr.Permute((3, 1, 2)),
        nr.Flatten(),
        nr.Activation("softmax"),
    ]
    sources = [(-1,), (0,), (1,), (2,), (1, 3), *((index,) for index in range(4, 11))]
    return nr.Network(layers, (7, 6, 2), sources)


def channels_first(rng):
    """A .keras file with channels first, a model inside the model, and lines."""
    import h5py

    def layer(kind, **settings):
        return {"module": "keras.layers", "class_name": kind, "config": settings}

    first = {"data_format": "channels_first"}
    inner = [
        layer("Conv1D", name="c", filters=2, kernel_size=[3], padding="causal", strides=[1]),
        layer("SeparableConv1D", name="s", filters=3, kernel_size=[2], dilation_rate=[2]),
        layer("BatchNormalization", name="b", axis=-1, scale=False, epsilon=0.01),
    ]
    layers = [
        layer("InputLayer", name="in", batch_shape=[None, 2, 6, 5]),
        layer("ZeroPadding2D", name="z", padding=[[1, 0], [0, 2]], **first),
        layer("Conv2D", name="c", filters=3, kernel_size=[2, 2], use_bias=False, **first),
        layer("PReLU", name="p", shared_axes=[2, 3]),
        layer("Normalization", name="n", axis=[1], mean=None, variance=None),
        layer("Reshape", name="r", target_shape=[-1, 6]),
        {"class_name": "Sequential", "config": {"name": "inner", "layers": inner}},
        layer("Flatten", name="f"),
        layer("Dense", name="d", units=2, activation={"class_name": "ELU", "config": {}}),
    ]
    weights = {
        "conv2d": [(2, 2, 2, 3)],
        "p_re_lu": [(3, 1, 1)],
        "normalization": [(3,), (3,), ()],
        "sequential/layers/conv1d": [(3, 6, 2), (2,)],
        "sequential/layers/separable_conv1d": [(2, 2, 1), (1, 2, 3), (3,)],
        "sequential/layers/batch_normalization": [(3,), (3,), (3,)],
        "dense": [(48, 2), (2,)],
    }
    content, archived = io.BytesIO(), io.BytesIO()
    with h5py.File(content, "w") as file:
        for name, shapes in weights.items():
            for i, shape in enumerate(shapes):
                file[f"layers/{name}/vars/{i}"] = rng.uniform(0.5, 1, shape).astype("f4")
    config = {"class_name": "Sequential", "config": {"name": "outer", "layers": layers}}
    with zipfile.ZipFile(archived, "w") as archive:
        for name, part in (
            ("metadata.json", b'{"keras_version": "3.0.0"}'),
            ("config.json", json.dumps(config).encode()),
            ("model.weights.h5", content.getvalue()),
        ):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), part)
    return archived.getvalue()


def attention(rng):
    """Channels weighed by a gate, added to a branch; the image made larger and smaller."""
    normal = lambda *shape: rng.normal(size=shape).astype("f4")  # noqa: E731
    layers = [
        nr.Conv2D(normal(3, 3, 2, 4), padding=(1, 1, 1, 1), strides=2, activation="relu"),
        nr.GlobalAveragePooling2D(),
        nr.Dense(normal(4, 4), activation="sigmoid"),
        nr.Multiply(),
        nr.Concatenate(),
        nr.Conv2DTranspose(normal(2, 2, 2, 8), strides=2),
        nr.UpSampling2D(2),
        nr.AveragePooling2D(3, 2, padding=(1, 1, 1, 1)),
        nr.ZeroPadding2D((1, 0, 0, 1)),
        nr.Permute((2, 1, 3)),
        nr.Flatten(),
        nr.Dense(normal(338, 2), activation="softmax"),
    ]
    sources = [(-1,), (0,), (1,), (0, 2), (3, 0), *((i,) for i in range(4, 11))]
    return nr.Network(layers, (12, 12, 2), sources)


def exported(network):
    """A network as a program of PyTorch's."""
    import torch

    shape = network.input_shape
    example = torch.zeros(2, *(shape[-1:] + shape[:-1] if len(shape) == 3 else shape))
    content = io.BytesIO()
    with torch.no_grad():
        torch.export.save(torch.export.export(to_torch(network).eval(), (example,)), content)
    return content.getvalue()


def mutate_bytes(content, rng, others):
    """A few random changes of bytes, numbers and blocks."""
    content = bytearray(content)
    for _ in range(1 + rng.geometric(0.4)):
        size = len(content)
        at = int(rng.integers(size)) if size else 0
        match rng.integers(7):
            case 0 | 1 if size:
                content[at] ^= 1 << rng.integers(8)
            case 2:
                width = int(rng.choice([1, 2, 4, 8]))
                number = NASTY_NUMBERS[rng.integers(len(NASTY_NUMBERS))] & ((1 << 8 * width) - 1)
                content[at : at + width] = number.to_bytes(width, "little")
            case 3:
                del content[at : at + int(rng.geometric(0.1))]
            case 4:
                end = at + int(rng.geometric(0.02))
                content[at:at] = content[at:end]
            case 5 if rng.random() < 0.3:
                del content[at:]
            case 6:
                other = others[rng.integers(len(others))]
                start = int(rng.integers(len(other)))
                block = other[start : start + int(rng.geometric(0.02))]
                content[at : at + len(block)] = block
    return bytes(content)


def mutate_json(value, rng):
    """A few random places of a JSON value replaced, removed or repeated."""
    for _ in range(1 + rng.geometric(0.5)):
        places = list(_places(value))
        if not places:
            return value
        parent, key = places[rng.integers(len(places))]
        action = rng.integers(5)
        if action == 0:
            del parent[key]
        elif action == 1 and isinstance(parent, list):
            parent.insert(key, parent[key])
        elif action == 2:
            other, other_key = places[rng.integers(len(places))]
            parent[key] = json.loads(json.dumps(other[other_key]))
        else:
            parent[key] = NASTY_VALUES[rng.integers(len(NASTY_VALUES))]
        value = json.loads(json.dumps(value))
    return value


def _places(value):
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, child in list(items):
        yield value, key
        yield from _places(child)


def mutate_hdf5(content, rng, others):
    """Bytes, the configuration, or whole datasets."""
    import h5py

    action = rng.integers(4)
    if action < 2:
        return mutate_bytes(content, rng, others)
    file_content = io.BytesIO(content)
    try:
        with h5py.File(file_content, "r+") as file:
            if action == 2 and "model_config" in file.attrs:
                file.attrs["model_config"] = json.dumps(
                    mutate_json(json.loads(file.attrs["model_config"]), rng)
                )
            else:
                datasets = []
                file.visititems(
                    lambda name, item: (
                        datasets.append(name) if isinstance(item, h5py.Dataset) else None
                    )
                )
                _replace_dataset(file, datasets[rng.integers(len(datasets))], rng)
    except (OSError, ValueError, RuntimeError, OverflowError):  # what HDF5 does not write
        return mutate_bytes(content, rng, others)
    return file_content.getvalue()


def _replace_dataset(file, name, rng):
    import h5py

    array = np.atleast_1d(file[name][()])
    shape = array.shape
    del file[name]
    match rng.integers(9):
        case 0:
            huge = tuple(int(rng.choice([1, length, 1 << 16, 1 << 28])) for length in shape)
            file.create_dataset(
                name,
                huge,
                "f4",
                chunks=tuple(min(64, length) for length in huge),
                compression="gzip",
            )[(0,) * len(huge)] = 1
        case 1:
            huge = tuple(length * 5000 for length in shape)
            file.create_dataset(name, huge, "f4")
        case 2:
            file.create_dataset(
                name, data=array.astype(rng.choice(["f2", "f8", "i4", "u1", "c8", "S3"]))
            )
        case 3:
            file[name] = h5py.SoftLink(str(rng.choice(["/", "/nowhere", name])))
        case 4:
            file[name] = h5py.ExternalLink("/etc/hostname", "/")
        case 5:
            file.create_group(name)
        case 6:
            array = array.copy()
            array.flat[rng.integers(array.size)] = rng.choice([np.nan, np.inf, 1e38])
            file.create_dataset(name, data=array)
        case 7:
            file.create_dataset(
                name, shape, "f4", external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
            )
        case 8:
            dataset = file.create_dataset(name, shape, "f4", chunks=shape, compression="gzip")
            dataset.id.write_direct_chunk(
                (0,) * len(shape), mutate_bytes(b"x\x9c" + array.tobytes(), rng, [array.tobytes()])
            )


def mutate_zip(content, rng, others, members):
    """Bytes of the archive, or of its members, which are packed again with names and sizes that may
    lie.
    """
    if rng.random() < 0.4:
        return mutate_bytes(content, rng, others)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = [(member.filename, archive.read(member)) for member in archive.infolist()]
    chosen = int(rng.integers(len(parts)))
    name, part = parts[chosen]
    parts[chosen] = (name, members(name, part, rng))
    match rng.integers(12):
        case 0:
            parts.append((str(rng.choice(["../x", "/x", "..\\x", "C:\\x", name])), b"x"))
        case 1:
            del parts[chosen]
        case 2:
            parts[chosen] = (name + "x", part)
    changed = io.BytesIO()
    with zipfile.ZipFile(
        changed, "w", zipfile.ZIP_DEFLATED if rng.random() < 0.2 else zipfile.ZIP_STORED
    ) as archive:
        for name, part in parts:
            archive.writestr(
                zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), part, archive.compression
            )
    return changed.getvalue()


def keras_member(name, part, rng):
    if name.endswith(".json"):
        return (
            json.dumps(mutate_json(json.loads(part), rng)).encode()
            if rng.random() < 0.8
            else mutate_bytes(part, rng, [part])
        )
    return mutate_hdf5(part, rng, [part])


def torch_member(name, part, rng):
    return mutate_bytes(
        part,
        rng,
        [
            part,
            b"cbuiltins\neval\n(V1\ntR.",
            b"cos\nsystem\n(Vtrue\ntR.",
            struct.pack("<BI", 0x58, 0xFFFFFFF0),
        ],
    )


def program_member(name, part, rng):
    if name.endswith(".json") and rng.random() < 0.8:
        return json.dumps(mutate_json(json.loads(part), rng)).encode()
    return mutate_bytes(part, rng, [part])


def mutate_safetensors(content, rng, others):
    """Bytes, or the header."""
    if rng.random() < 0.4:
        return mutate_bytes(content, rng, others)
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(mutate_json(json.loads(content[8 : 8 + length]), rng)).encode()
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def mutate_onnx(content, rng, others):
    """Bytes, or nodes, attributes, shapes and arrays."""
    import onnx

    if rng.random() < 0.4:
        return mutate_bytes(content, rng, others)
    model = onnx.load_model_from_string(content)
    for _ in range(1 + rng.geometric(0.5)):
        _change(model.graph, rng)
    if rng.random() < 0.1:
        model.opset_import[0].version = int(rng.choice([-1, 0, 1, 7, 9, 12, 13, 18, 22, 99]))
    return model.SerializeToString()


OPERATORS = (
    *("Add", "Mul", "Sub", "Div", "Relu", "Flatten", "Reshape", "Transpose", "Concat", "Slice"),
    *("Pad", "Gemm", "MatMul", "Conv", "ConvTranspose", "MaxPool", "AveragePool", "Softmax"),
    *("ReduceMean", "GlobalMaxPool", "BatchNormalization", "Squeeze", "Unsqueeze", "Resize"),
    *("Upsample", "Clip", "PRelu", "Erf", "Pow", "Where", "Shape", "Expand", "Range", "Gather"),
    *("ConstantOfShape", "Cast", "DequantizeLinear", "Min", "Dropout", "Identity", "Loop", "If"),
)


def _change(graph, rng):
    """One random change of a graph of ONNX."""
    from onnx import helper, numpy_helper

    node = graph.node[rng.integers(len(graph.node))] if graph.node else None
    tensor = graph.initializer[rng.integers(len(graph.initializer))] if graph.initializer else None
    names = [name for other in graph.node for name in (*other.input, *other.output)]
    number = int(rng.choice([-(1 << 62), -2, -1, 0, 1, 2, 3, 7, 1 << 20, 1 << 31, (1 << 63) - 1]))
    match rng.integers(11):
        case 0 if node:
            node.op_type = str(rng.choice(OPERATORS))
        case 1 if node and node.input:
            node.input[rng.integers(len(node.input))] = str(rng.choice([*names, ""]))
        case 2 if node:
            node.input.append(str(rng.choice(names)))
        case 3 if node and node.attribute:
            attribute = node.attribute[rng.integers(len(node.attribute))]
            if attribute.ints:
                attribute.ints[rng.integers(len(attribute.ints))] = number
            else:
                attribute.i = number
        case 4 if node:
            names = (
                "axis",
                "group",
                "auto_pad",
                "perm",
                "pads",
                "ceil_mode",
                "to",
                "axes",
                "keepdims",
            )
            name = str(rng.choice(names))
            value = rng.choice([number, 0, 1])
            values = [int(value), [int(value)] * int(rng.integers(1, 5)), "SAME_LOWER", 0.5]
            node.attribute.append(helper.make_attribute(name, values[rng.integers(4)]))
        case 5 if tensor and tensor.dims:
            tensor.dims[rng.integers(len(tensor.dims))] = number
        case 6 if tensor:
            tensor.data_type = int(rng.integers(27))
        case 7 if tensor:
            shape = [int(length) for length in rng.integers(0, 5, rng.integers(0, 5))]
            kind = str(rng.choice(["f4", "f8", "i8", "u1", "?"]))
            array = (3 * rng.normal(size=shape)).astype(kind)
            tensor.CopyFrom(numpy_helper.from_array(np.array(array), tensor.name))
        case 8 if tensor:
            tensor.data_location = 1
            place = str(rng.choice(["../../etc/passwd", "/etc/passwd", "input.onnx", "/dev/zero"]))
            tensor.external_data.add(key="location", value=place)
        case 9:
            kind = graph.input[0].type.tensor_type
            lengths = kind.shape.dim
            if lengths:
                lengths[rng.integers(len(lengths))].dim_value = number
            kind.elem_type = int(rng.choice([1, 1, 1, 7, 10, 11]))
        case 10 if node:
            graph.node.insert(int(rng.integers(len(graph.node))), node)


def mutate_table(content, rng, others):
    """Numbers between commas."""
    return mutate_text(content.replace(b",", b" "), rng, others).replace(b" ", b",")


def mutate_text(content, rng, others):
    tokens = [
        *(b"0.5", b"-1e-3", b"0", b"1e38"),
        b"Layer:",
        b"Layer: a\n",
        b"nan",
        b"inf",
        b"-",
        b"1e999",
        b"1e-999",
        b"0x1",
        b",",
        b",,",
        b"\n\n",
        b"\r",
        b"\x00",
        b"\xff",
        b"1_0",
        "１".encode(),
    ]
    if rng.random() < 0.2:
        return mutate_bytes(content, rng, others)
    words = content.split(b" ")
    for _ in range(1 + rng.geometric(0.4)):
        at = int(rng.integers(len(words)))
        words[at : at + int(rng.integers(3))] = [tokens[rng.integers(len(tokens))]] * int(
            rng.integers(1, 3)
        )
    return b" ".join(words)


def mutate_config(content, rng, others):
    """Bytes, or a value; values are written as JSON, which Snakemake reads too, and YAML's reader
    is slow.
    """
    if rng.random() < 0.2:
        return mutate_bytes(content, rng, others)
    return json.dumps(mutate_json(json.loads(_parsed(content)), rng)).encode()


@cache
def _parsed(content):
    """A file in YAML as JSON."""
    import yaml

    return json.dumps(yaml.safe_load(content))


@cache
def _schema():
    """The schema as JSON, which is read a hundred times as fast."""
    path = Path(tempfile.mkdtemp(prefix="fuzz")) / "schema.json"
    path.write_text(_parsed((ROOT / "workflow/schemas/config.schema.yaml").read_bytes()))
    return str(path)


def read_config(path):
    """What happens to a config file before any job runs. Reading it is Snakemake's: what that trips
    over, it reports itself.
    """
    from snakemake.common.configfile import load_configfile
    from snakemake.exceptions import WorkflowError
    from snakemake.utils import validate

    try:
        config = load_configfile(path)
    except Exception as error:
        raise WorkflowError(str(error)) from None
    validate(config, _schema())
    for entry in config["models"].values():
        if "architecture" in entry:
            build(entry["architecture"], (32, 32, 3), 10)
    for chain in config["comparison"]["chains"]:
        parse_chain(chain)


def mutate_arrays(content, rng, others):
    if content.startswith(b"PK"):
        return mutate_zip(content, rng, others, own_data.npy_member)
    return (
        own_data.npy_member("", content, rng)
        if rng.random() < 0.5
        else mutate_bytes(content, rng, others)
    )


def mutate_features(content, rng, others):
    if content.startswith(b"PAR1"):
        return mutate_bytes(content, rng, others)
    return mutate_text(content, rng, others)


def mutate_image(content, rng, others):
    if content.startswith(b"\x89PNG") and rng.random() < 0.7:
        return own_data.png_chunks(content, rng)
    return mutate_bytes(content, rng, others)


READERS = {
    "h5": (mutate_hdf5, nr.load),
    "keras": (lambda content, rng, others: mutate_zip(content, rng, others, keras_member), nr.load),
    "pth": (
        lambda content, rng, others: mutate_zip(content, rng, others, torch_member),
        lambda path: nr.load(path, MLP),
    ),
    "safetensors": (mutate_safetensors, lambda path: nr.load(path, MLP)),
    "pt2": (lambda content, rng, others: mutate_zip(content, rng, others, program_member), nr.load),
    "onnx": (mutate_onnx, nr.load),
    "nnet": (mutate_table, nr.load),
    "txt": (mutate_text, lambda path: nr.load(path, MLP)),
    "config": (mutate_config, read_config),
    "npz": (mutate_arrays, own_data.READERS["npz"]),
    "dataset": (mutate_arrays, own_data.READERS["dataset"]),
    "table": (mutate_features, own_data.READERS["table"]),
    "image": (mutate_image, own_data.READERS["image"]),
}


def make(kind, contents, seed, number):
    """The input of that number."""
    rng = np.random.default_rng([seed, number])
    mutate, _ = READERS[kind]
    return mutate(contents[rng.integers(len(contents))], rng, contents)


def work(kind, contents, seed, numbers, counts, path):
    """Read the inputs one by one; `counts` is shared with the parent: begun, read, refused."""
    import warnings

    warnings.simplefilter("ignore")
    refusals = [nr.NetreduceError]
    if kind == "config":
        from snakemake.exceptions import WorkflowError

        refusals.append(WorkflowError)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * MEMORY,) * 2)
    for number in numbers:
        path.write_bytes(make(kind, contents, seed, number))
        counts[0] = number + 1
        signal.setitimer(signal.ITIMER_PROF, SECONDS)
        try:
            READERS[kind][1](path)
            counts[1] += 1
        except tuple(refusals) as error:
            counts[2] += 1
            if "MemoryError" in str(error):
                report(kind, number, "ran out of memory")
        except BaseException:
            report(kind, number, traceback.format_exc(limit=-3))
        signal.setitimer(signal.ITIMER_PROF, 0)
        if resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 > MEMORY:
            report(kind, number, "used more than 1 GiB of memory")
            break
    os._exit(0)


def report(kind, number, what):
    print(f"finding: {kind} {number}: {what}", flush=True)
    os.write(FINDINGS, b"x")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("--count", type=int, default=1000, help="number of inputs")
    parser.add_argument("--first", type=int, default=0, help="number of the first one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="write the inputs here instead of reading them")
    arguments = parser.parse_args()

    contents = seeds(arguments.reader)
    end = arguments.first + arguments.count
    if arguments.keep:
        arguments.keep.mkdir(parents=True, exist_ok=True)
        for number in range(arguments.first, end):
            (arguments.keep / f"{number}.{arguments.reader}").write_bytes(
                make(arguments.reader, contents, arguments.seed, number)
            )
        return None

    with tempfile.TemporaryDirectory(prefix="fuzz") as folder:
        tempfile.tempdir = folder
        return fuzz(arguments, contents, end, Path(folder))


def fuzz(arguments, contents, end, folder):
    """Make and read the inputs, in children that are forked anew after a crash."""
    global FINDINGS
    READERS[arguments.reader][1](warm_up(arguments.reader, contents, folder))
    found, FINDINGS = os.pipe()
    os.set_blocking(found, False)
    counts = memoryview(mmap.mmap(-1, 24)).cast("q")
    counts[0] = arguments.first
    while counts[0] < end:
        child = os.fork()
        if not child:
            work(
                arguments.reader,
                contents,
                arguments.seed,
                range(counts[0], end),
                counts,
                folder / f"input.{arguments.reader}",
            )
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            report(
                arguments.reader,
                counts[0] - 1,
                f"ended by {signal.Signals(os.WTERMSIG(status)).name}",
            )
        elif status:
            sys.exit(f"input {counts[0]} could not be made")
    try:
        findings = len(os.read(found, 1 << 20))
    except BlockingIOError:
        findings = 0
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        f"{arguments.reader}: {arguments.count} inputs, {counts[1]} read, {counts[2]} refused,"
        f" {findings} findings; ",
        end="",
    )
    print(
        f"{arguments.count / (used.ru_utime + used.ru_stime):.0f} inputs/s of one core,"
        f" {used.ru_maxrss / 1024:.0f} MiB at most"
    )
    return bool(findings)


def warm_up(kind, contents, folder):
    """A file that is in order, so that the children share what its reader imports."""
    path = folder / f"whole.{kind}"
    path.write_bytes(contents[0])
    return path


if __name__ == "__main__":
    sys.exit(main())
