"""The graph and the tensors of a .pt2 archive, as torch.export.save of PyTorch 2.8 and later writes
it: JSON and raw numbers. Nothing in it is unpickled or evaluated.
"""

import json
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from netreduce.errors import ModelFileError, UnsupportedLayerError
from netreduce.formats.guard import check_finite

ATEN = "torch.ops.aten."
FLOATS = {6: "<f2", 7: "<f4", 8: "<f8"}  # PyTorch's numbers of types, as serialized
BFLOAT16 = 13
INTEGERS = {1: "<u1", 2: "<i1", 3: "<i2", 4: "<i4", 5: "<i8", 12: "?"}
LARGEST_JSON = 1 << 26
AGAIN = "load it with torch.export.load and save it again with PyTorch 2.8 or later"


class Name(str):
    """The name of a tensor among arguments, where a plain text is no name."""

    __slots__ = ()


@dataclass(frozen=True)
class Node:
    """An operation of the graph.

    Attributes
    ----------
    operation : str
        In ATen, without its overload: conv2d, relu, …
    in_place : bool
        Whether it changes its first argument (relu_).
    arguments : mapping of str to object
        By name, those with values other than the default; tensors by `Name`.
    outputs : tuple of str
    shapes : tuple of tuple of int
        Of the outputs, for one sample; None for those that do not begin with the batch.
    keeps_type : bool
        Whether the outputs are numbers of the type of the input.
    """

    name: str
    operation: str
    in_place: bool
    arguments: Mapping[str, Any]
    outputs: tuple[str, ...]
    shapes: tuple[tuple[int, ...] | None, ...]
    keeps_type: bool

    def reads(self) -> Iterator[Name]:
        """The tensors among the arguments."""
        for argument in self.arguments.values():
            for item in argument if isinstance(argument, list) else [argument]:
                if isinstance(item, Name):
                    yield item

    def __str__(self) -> str:
        return f"node {self.name!r} ({self.operation})"


class Program:
    """A program of one input and one output.

    Attributes
    ----------
    nodes : list of Node
    constants : dict of str to ndarray
        Parameters, buffers and constants by the names that nodes call them.
    input_name, output_name : str
    input_shape : tuple of int
        Of one sample.
    """

    def __init__(self, archive: zipfile.ZipFile):
        self._archive = archive
        self._root = self._find_root()
        model = self._find_model()
        content = self._json(f"models/{model}.json")["graph_module"]
        graph, signature = content["graph"], content["signature"]
        tensors = graph.get("tensor_values", {})
        self._sizes = {name: entry["sizes"] for name, entry in tensors.items()}
        self._types = {name: entry["dtype"] for name, entry in tensors.items()}
        targets = self._read_signature(signature)
        self._batch = self._sizes[self.input_name][0]
        shape = self._shape(self.input_name)
        if not shape:
            raise UnsupportedLayerError(
                f"input {self.input_name!r} has {len(self._sizes[self.input_name])} axes, expected"
                " samples first and one axis or more besides"
            )
        if self._types[self.input_name] not in {*FLOATS, BFLOAT16}:
            raise UnsupportedLayerError(f"input {self.input_name!r} is no floating-point number")
        self.input_shape = shape
        self.nodes = [self._node(entry) for entry in graph["nodes"]]
        wanted = {str(name) for node in self.nodes for name in node.reads()}
        stored = {**self._tensors("weights", model), **self._tensors("constants", model)}
        self.constants = {
            name: self._array(f"{kind} {target!r}", *stored[target])
            for name, (kind, target) in targets.items()
            if name in wanted
        }

    def _find_root(self) -> str:
        names = self._archive.namelist()
        if "serialized_exported_program.json" in names:
            raise ModelFileError(f"the .pt2 file is of an older form: {AGAIN}")
        if any(member.compress_type != zipfile.ZIP_STORED for member in self._archive.infolist()):
            raise ModelFileError("the archive is compressed, which PyTorch never does")
        roots = [name.removesuffix("archive_format") for name in names]
        found = [root for root, name in zip(roots, names, strict=True) if root != name]
        if len(found) != 1:
            raise ModelFileError("the archive lacks archive_format")
        return found[0]

    def _find_model(self) -> str:
        start = f"{self._root}models/"
        models = [
            name.removeprefix(start).removesuffix(".json")
            for name in self._archive.namelist()
            if name.startswith(start) and name.endswith(".json")
        ]
        if len(models) != 1:
            raise ModelFileError(
                f"expected one program in the .pt2 file, found {', '.join(models) or 'none'}"
                " (compiled packages hold no program that could be read)"
            )
        return models[0]

    def _json(self, name: str) -> Any:
        content = self._bytes(name)
        if len(content) > LARGEST_JSON:
            raise ModelFileError(f"{name} has {len(content):,} bytes, at most {LARGEST_JSON:,}")
        return json.loads(content)

    def _bytes(self, name: str) -> bytes:
        try:
            return self._archive.read(self._root + name)
        except KeyError:
            raise ModelFileError(f"the archive lacks {name}") from None

    def _read_signature(self, signature: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
        """Find input and output; what the other inputs of the graph are, by name."""
        targets: dict[str, tuple[str, str]] = {}
        inputs: list[str] = []
        for spec in signature["input_specs"]:
            (kind, entry), *_ = spec.items()
            if kind == "user_input":
                inputs.append(entry["arg"].get("as_tensor", {}).get("name", ""))
            elif kind in ("parameter", "buffer", "tensor_constant"):
                targets[entry["arg"]["name"]] = (kind, entry[f"{kind}_name"])
            else:
                raise UnsupportedLayerError(f"inputs of kind {kind} are not supported")
        outputs = []
        for spec in signature["output_specs"]:
            (kind, entry), *_ = spec.items()
            if kind == "user_input_mutation":
                continue  # of a batch that nobody sees again
            if kind != "user_output":
                raise UnsupportedLayerError(
                    f"the program has an output of kind {kind}: a network changes nothing but its"
                    " output; export the module in evaluation mode"
                )
            outputs.append(entry["arg"].get("as_tensor", {}).get("name", ""))
        self.input_name = _one("input", inputs)
        self.output_name = _one("output", outputs)
        return targets

    def _node(self, entry: Mapping[str, Any]) -> Node:
        target = entry["target"]
        operation = target.removeprefix(ATEN).partition(".")[0] if ATEN in target else target
        outputs: list[str] = []
        for output in entry["outputs"]:
            (kind, value), *_ = output.items()
            if kind == "as_tensor":
                outputs.append(value["name"])
            elif kind == "as_tensors":
                outputs += [item["name"] for item in value]
        return Node(
            str(entry.get("name") or next(iter(outputs), target)),
            operation.removesuffix("_"),
            operation.endswith("_"),
            {item["name"]: _argument(item["arg"]) for item in entry["inputs"]},
            tuple(outputs),
            tuple(self._shape(name) for name in outputs),
            all(self._types[name] == self._types[self.input_name] for name in outputs),
        )

    def _shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of one sample; None for tensors whose first axis is not the batch."""
        sizes = self._sizes[name]
        if not sizes or _symbol(sizes[0]) != _symbol(self._batch):
            return None
        if any("as_int" not in size for size in sizes[1:]):
            raise UnsupportedLayerError(
                f"tensor {name!r}: only the batch axis may be free, found sizes"
                f" {[_symbol(size) for size in sizes]}"
            )
        return tuple(int(size["as_int"]) for size in sizes[1:])

    def _tensors(self, kind: str, model: str) -> dict[str, tuple[str, Mapping[str, Any]]]:
        """For every tensor by its name in the module, the member that holds it and its entry."""
        config = self._json(f"data/{kind}/{model}_{kind}_config.json")["config"]
        return {
            name: (f"data/{kind}/{entry['path_name']}", entry) for name, entry in config.items()
        }

    def _array(self, label: str, member: str, entry: Mapping[str, Any]) -> np.ndarray:
        """A tensor: float64 stays, other floating-point numbers become float32."""
        meta = entry["tensor_meta"]
        dtype = meta["dtype"]
        if entry["use_pickle"]:
            raise ModelFileError(f"{label} is a pickled object, which can run code: refused")
        if meta["layout"] != 7 or dtype not in {*FLOATS, *INTEGERS, BFLOAT16}:
            raise ModelFileError(
                f"{label}: expected dense real numbers, found type {dtype}, layout {meta['layout']}"
            )
        raw = self._bytes(member)
        if dtype == BFLOAT16:
            stored = (np.frombuffer(raw, "<u2").astype("<u4") << 16).view("<f4")
        else:
            stored = np.frombuffer(raw, FLOATS.get(dtype) or INTEGERS[dtype])
        sizes = [int(size["as_int"]) for size in meta["sizes"]]
        strides = [int(stride["as_int"]) for stride in meta["strides"]]
        start = int(meta["storage_offset"]["as_int"])
        last = start + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
        if start < 0 or min((*sizes, *strides), default=0) < 0 or last >= len(stored) or 0 in sizes:
            raise ModelFileError(
                f"{label}: claims shape {tuple(sizes)}, the file holds {len(stored)} values"
            )
        if np.prod(sizes, dtype=float) > len(stored):
            raise ModelFileError(f"{label}: repeats {len(stored)} values to shape {tuple(sizes)}")
        array = np.lib.stride_tricks.as_strided(
            stored[start:], sizes, [stride * stored.itemsize for stride in strides], writeable=False
        )
        if dtype in INTEGERS:
            return array
        array = np.ascontiguousarray(array, np.float64 if dtype == 8 else np.float32)
        check_finite(array, label)
        return array


def _argument(entry: Mapping[str, Any]) -> Any:
    (kind, value), *_ = entry.items()
    match kind:
        case "as_tensor":
            return Name(value["name"])
        case "as_tensors" | "as_optional_tensors":
            return [_optional(item) for item in value]
        case "as_none":
            return None
        case "as_sym_int":
            return value.get("as_int")
        case "as_sym_ints":
            return [item.get("as_int") for item in value]
        case "as_float":
            return float(value)
    return value


def _optional(item: Mapping[str, Any]) -> Name | None:
    tensor = item.get("as_tensor", item)
    return Name(tensor["name"]) if "name" in tensor else None


def _symbol(size: Mapping[str, Any]) -> int | str:
    return size["as_int"] if "as_int" in size else str(size["as_expr"]["expr_str"])


def _one(kind: str, names: list[str]) -> str:
    if len(names) != 1 or not names[0]:
        found = ", ".join(name or "one that is no tensor" for name in names) or "none"
        raise UnsupportedLayerError(f"a network has one {kind}, found {len(names)} ({found})")
    return names[0]
