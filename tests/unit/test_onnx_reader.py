"""Networks from ONNX files compute what ONNX Runtime computes, or are refused by name."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from netreduce.errors import ModelFileError, UnsupportedLayerError
from netreduce.formats.onnx_reader import read_network
from netreduce.network import Network

SHARED = Path(__file__).resolve().parents[3] / "shared"
onnxruntime.set_default_logger_severity(3)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return (0.5 * np.random.default_rng([seed, *shape]).normal(size=shape)).astype(np.float32)


def model(
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list],
    outputs: dict[str, list],
    opset: int = 17,
    **constants: np.ndarray,
) -> onnx.ModelProto:
    def entries(shapes: dict[str, list]) -> list[onnx.ValueInfoProto]:
        return [
            helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
            for name, shape in shapes.items()
        ]

    graph = helper.make_graph(
        nodes,
        "network",
        entries(inputs),
        entries(outputs),
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def computed(path: Path, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def agrees(path: Path, network: Network, x: np.ndarray, samples: np.ndarray | None = None) -> None:
    """The network computes what ONNX Runtime computes of the file."""
    expected = computed(path, x)
    found = network.predict(x if samples is None else samples)
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.ravel(), expected.ravel(), rtol=0, atol=1e-5 * scale)


@pytest.mark.skipif(not (SHARED / "acasxu").is_dir(), reason="needs ../shared/acasxu")
def test_networks_of_acas_xu() -> None:
    paths = sorted((SHARED / "acasxu").glob("*.onnx"))
    assert len(paths) == 20
    for path in paths:
        network = read_network(path)
        assert [type(layer).__name__ for layer in network.layers] == ["Dense"] * 7
        for x in normal(3, 5):
            agrees(path, network, x, x[None])


def test_matrix_products_and_biases_in_every_form(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "a", "b"], ["1"], transB=1, alpha=0.5, beta=2.0),
        helper.make_node("Relu", ["1"], ["2"]),
        helper.make_node("MatMul", ["2", "c"], ["3"]),
        helper.make_node("Add", ["d", "3"], ["4"]),
        helper.make_node("Relu", ["4"], ["5"]),
        helper.make_node("MatMul", ["5", "e"], ["6"]),
        helper.make_node("Sub", ["6", "f"], ["y"]),
    ]
    shapes = {"a": (5, 4), "b": (5,), "c": (5, 3), "d": (3,), "e": (3, 2), "f": (2,)}
    arrays = {name: normal(*shape) for name, shape in shapes.items()}
    path = tmp_path / "net.onnx"
    onnx.save(model(nodes, {"x": ["n", 4]}, {"y": ["n", 2]}, **arrays), path)
    network = read_network(path)
    assert [layer.activation for layer in network.layers] == ["relu", "relu", "linear"]
    agrees(path, network, normal(6, 4))


def test_images_are_flattened_in_the_order_of_the_file(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Flatten", ["x"], ["1"]),
        helper.make_node("MatMul", ["1", "a"], ["y"]),
    ]
    path = tmp_path / "net.onnx"
    onnx.save(model(nodes, {"x": ["n", 2, 3, 4]}, {"y": ["n", 5]}, a=normal(24, 5)), path)
    agrees(path, read_network(path), normal(3, 2, 3, 4))


def test_refusals_name_the_node_or_what_the_file_has(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    node = helper.make_node("Einsum", ["x"], ["y"], name="odd", equation="ij->ij")
    onnx.save(model([node], {"x": ["n", 2]}, {"y": ["n", 2]}), path)
    with pytest.raises(
        UnsupportedLayerError, match=r"net.onnx: node 'odd' \(Einsum\): Einsum of an"
    ):
        read_network(path)
    node = helper.make_node("Add", ["x", "z"], ["y"])
    onnx.save(model([node], {"x": ["n", 2], "z": ["n", 2]}, {"y": ["n", 2]}), path)
    with pytest.raises(UnsupportedLayerError, match=r"one input, found 2 \('x', 'z'\)"):
        read_network(path)
    path.write_bytes(b"\x00" * 100)
    with pytest.raises(ModelFileError, match=r"net.onnx: not an ONNX file"):
        read_network(path)
