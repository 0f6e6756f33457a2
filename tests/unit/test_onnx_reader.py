"""Networks from ONNX files compute what ONNX Runtime computes, or are refused by name."""

import warnings
from itertools import pairwise, permutations
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from netreduce.errors import ModelFileError, UnsupportedLayerError
from netreduce.formats.export import export
from netreduce.formats.onnx.reader import read_network
from netreduce.network import Network
from netreduce.network.layers import Activation, Conv2D, Dense, Permute

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
    versions = {"": opset, "ai.onnx.ml": 3}
    imports = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


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


IMAGE = {"x": ["n", 4, 7, 6]}
LINE = {"x": ["n", 4, 9]}
VECTOR = {"x": ["n", 6]}
make = helper.make_node
OPERATORS = {
    "convolution": ([make("Conv", ["x", "k", "b"], ["y"], pads=[1, 0, 2, 1], strides=[2, 1])],
                    IMAGE, {"k": (5, 4, 3, 2), "b": (5,)}),
    "groups": ([make("Conv", ["x", "k"], ["y"], group=2, dilations=[2, 1])], IMAGE,
               {"k": (6, 2, 3, 2)}),
    "depthwise": ([make("Conv", ["x", "k"], ["y"], group=4, auto_pad="SAME_UPPER", strides=[2, 2])],
                  IMAGE, {"k": (8, 1, 3, 2)}),
    "padding before": ([make("Conv", ["x", "k"], ["y"], auto_pad="SAME_LOWER", strides=[2, 2])],
                       IMAGE, {"k": (3, 4, 4, 2)}),
    "line": ([make("Conv", ["x", "k", "b"], ["1"], pads=[1, 2], strides=[2]),
              make("MaxPool", ["1"], ["2"], kernel_shape=[2]),
              make("GlobalAveragePool", ["2"], ["y"])], LINE, {"k": (5, 4, 3), "b": (5,)}),
    "transposed": ([make("ConvTranspose", ["x", "k", "b"], ["y"], pads=[1, 0, 1, 1],
                         strides=[2, 2], output_padding=[1, 0])],
                   IMAGE, {"k": (4, 3, 3, 4), "b": (3,)}),
    "transposed line": ([make("ConvTranspose", ["x", "k"], ["y"], strides=[3], pads=[1, 0],
                              output_padding=[2])], LINE, {"k": (4, 3, 4)}),
    "transposed to a size": ([make("ConvTranspose", ["x", "k"], ["y"], strides=[2, 2],
                                   auto_pad="SAME_UPPER")], IMAGE, {"k": (4, 3, 3, 3)}),
    "normalized": ([make("BatchNormalization", ["x", "a", "b", "c", "d"], ["y"])], IMAGE,
                   {"a": (4,), "b": (4,), "c": (4,), "d": np.float32([1, 2, 0.5, 3])}),
    "largest": ([make("MaxPool", ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 2],
                      pads=[1, 0, 1, 1])], IMAGE, {}),
    "largest, rounded up": ([make("MaxPool", ["x"], ["y"], kernel_shape=[2, 3], strides=[3, 2],
                                  ceil_mode=1)], IMAGE, {}),
    "mean": ([make("AveragePool", ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 2],
                   pads=[1, 0, 1, 1])], IMAGE, {}),
    "mean with padding": ([make("AveragePool", ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 2],
                                pads=[1, 0, 1, 1], count_include_pad=1)], IMAGE, {}),
    "mean, rounded up": ([make("AveragePool", ["x"], ["y"], kernel_shape=[2, 2], strides=[2, 2],
                               ceil_mode=1)], IMAGE, {}),
    "mean of axes": ([make("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)], IMAGE, {}),
    "mean of channels": ([make("ReduceMean", ["x"], ["y"], axes=[1])], IMAGE, {}),
    "largest of an axis": ([make("ReduceMax", ["x"], ["y"], axes=[-1])], IMAGE, {}),
    "sum of axes": ([make("ReduceSum", ["x", "a"], ["y"], keepdims=0)], IMAGE,
                    {"a": np.array([1, 3])}),
    "padded": ([make("Pad", ["x", "p"], ["y"])], IMAGE, {"p": np.array([0, 0, 1, 2, 0, 0, 0, 3])}),
    "padded channels": ([make("Pad", ["x", "p"], ["y"])], IMAGE,
                        {"p": np.array([0, 2, 0, 0, 0, 1, 0, 0])}),
    "cut": ([make("Slice", ["x", "s", "e", "a"], ["y"])], IMAGE,
            {"s": np.array([1, 0]), "e": np.array([6, -2]), "a": np.array([2, 3])}),
    "every second pixel": ([make("Slice", ["x", "s", "e", "a", "t"], ["y"])], IMAGE,
                           {"s": np.array([0, 1]), "e": np.array([99, 99]),
                            "a": np.array([2, 3]), "t": np.array([2, 3])}),
    "nearest": ([make("Resize", ["x", "", "s"], ["y"], mode="nearest",
                      coordinate_transformation_mode="asymmetric", nearest_mode="floor")], IMAGE,
                {"s": np.float32([1, 1, 2, 3])}),
    "nearest of half pixels": ([make("Resize", ["x", "", "", "z"], ["y"])], {"x": [1, 4, 7, 6]},
                               {"z": np.array([1, 4, 14, 18])}),
    "bilinear": ([make("Resize", ["x", "", "s"], ["y"], mode="linear",
                       coordinate_transformation_mode="pytorch_half_pixel")], IMAGE,
                 {"s": np.float32([1, 1, 2, 2])}),
    "flattened": ([make("Flatten", ["x"], ["1"]), make("Gemm", ["1", "w", "b"], ["y"])], IMAGE,
                  {"w": (168, 5), "b": (5,)}),
    "flattened, then normalized": ([make("Flatten", ["x"], ["1"]), make("Mul", ["1", "m"], ["y"])],
                                   IMAGE, {"m": (168,)}),
    "shape computed": ([make("Shape", ["x"], ["s"]), make("Gather", ["s", "zero"], ["n"]),
                        make("Unsqueeze", ["n", "axes"], ["n1"]),
                        make("Concat", ["n1", "rest"], ["t"], axis=0),
                        make("Reshape", ["x", "t"], ["1"]), make("MatMul", ["1", "w"], ["y"])],
                       IMAGE, {"zero": np.array(0), "axes": np.array([0]),
                               "rest": np.array([-1]), "w": (168, 5)}),
    "transposed product": ([make("Transpose", ["x"], ["1"], perm=[1, 0]),
                            make("MatMul", ["w", "1"], ["2"]),
                            make("Transpose", ["2"], ["y"], perm=[1, 0])],
                           {"x": [1, 6]}, {"w": (5, 6)}),
    "rows": ([make("MatMul", ["x", "w"], ["1"]), make("Add", ["1", "b"], ["y"])], LINE,
             {"w": (9, 5), "b": (5,)}),
    "signal of vectors": ([make("Unsqueeze", ["x", "a"], ["1"]), make("Conv", ["1", "k"], ["2"]),
                           make("Squeeze", ["2", "a"], ["y"])], VECTOR,
                          {"a": np.array([1]), "k": (1, 1, 3)}),
    "image of vectors": ([make("Reshape", ["x", "s"], ["1"]), make("Conv", ["1", "k"], ["y"])],
                         VECTOR, {"s": np.array([0, 2, 1, 3]), "k": (3, 2, 1, 2)}),
    "normalization": ([make("Sub", ["x", "a"], ["1"]), make("Div", ["1", "b"], ["2"]),
                       make("Conv", ["2", "k"], ["y"])], IMAGE,
                      {"a": (4, 1, 1), "b": np.float32([1, 2, 3, 4]).reshape(1, 4, 1, 1),
                       "k": (2, 4, 1, 1)}),
    "a constant for every pixel": ([make("Sub", ["a", "x"], ["y"])], IMAGE, {"a": (4, 7, 6)}),
    "residual": ([make("Conv", ["x", "k"], ["1"]), make("Add", ["1", "x"], ["2"]),
                  make("Relu", ["2"], ["3"]), make("Sub", ["3", "1"], ["y"])], IMAGE,
                 {"k": (4, 4, 1, 1)}),
    "side by side": ([make("Relu", ["x"], ["1"]), make("Concat", ["x", "1"], ["y"], axis=1)], IMAGE,
                     {}),
    "one below the other": ([make("Relu", ["x"], ["1"]), make("Concat", ["x", "1"], ["y"], axis=2)],
                            IMAGE, {}),
    "gated": ([make("GlobalMaxPool", ["x"], ["1"]), make("Sigmoid", ["1"], ["2"]),
               make("Mul", ["2", "x"], ["y"])], IMAGE, {}),
    "softmax of channels": ([make("Softmax", ["x"], ["y"], axis=1)], IMAGE, {}),
    "softmax of rows": ([make("LogSoftmax", ["x"], ["y"], axis=2)], IMAGE, {}),
    "slopes": ([make("PRelu", ["x", "a"], ["y"])], IMAGE, {"a": (4, 1, 1)}),
    "between": ([make("Clip", ["x", "a", "b"], ["y"])], IMAGE,
                {"a": np.float32(-0.5), "b": np.float32(0.25)}),
    "at most": ([make("Min", ["x", "b"], ["y"])], IMAGE, {"b": np.float32(0.25)}),
    "swish of hard sigmoid": ([make("HardSigmoid", ["x"], ["1"], alpha=1 / 6),
                               make("Mul", ["1", "x"], ["y"])], IMAGE, {}),
    "gelu": ([make("Div", ["x", "a"], ["1"]), make("Erf", ["1"], ["2"]),
              make("Add", ["2", "one"], ["3"]), make("Mul", ["x", "3"], ["4"]),
              make("Mul", ["4", "h"], ["y"])], IMAGE,
             {"a": np.float32(2**0.5), "one": np.float32(1), "h": np.float32(0.5)}),
    "a part of a function read twice": (
        [make("Gemm", ["x", "w"], ["0"]), make("Sigmoid", ["0"], ["1"]),
         make("Mul", ["1", "h"], ["2"]), make("Tanh", ["1"], ["3"]),
         make("Add", ["2", "3"], ["y"])],
        VECTOR, {"w": (6, 5), "h": np.float32(0.5)}),
    "a function under two names": (
        [make("Gemm", ["x", "w"], ["0"]), make("Sigmoid", ["0"], ["1"]),
         make("Identity", ["1"], ["2"]), make("Relu", ["1"], ["3"]), make("Flatten", ["2"], ["4"]),
         make("Add", ["3", "4"], ["y"])],
        VECTOR, {"w": (6, 5)}),
    "functions of one layer": (
        [make("Gemm", ["x", "w"], ["0"]), make("Exp", ["0"], ["1"]), make("Flatten", ["1"], ["f"]),
         make("Sigmoid", ["0"], ["s"]), make("Mul", ["s", "0"], ["m"]),
         make("Add", ["m", "f"], ["y"])],
        VECTOR, {"w": (6, 5)}),
    "mish": ([make("Softplus", ["x"], ["1"]), make("Tanh", ["1"], ["2"]),
              make("Mul", ["x", "2"], ["y"])], IMAGE, {}),
    "channels and rows of a slice": (
        [make("Slice", ["x", "starts", "ends", "axes", "steps"], ["y"])], IMAGE,
        {"starts": np.array([-1, 1, 0]), "ends": np.array([-4, 99, 6]),
         "axes": np.array([1, 2, 3]), "steps": np.array([-2, 3, 1])}),
    "a slice of a line": ([make("Slice", ["x", "one", "four", "two"], ["y"])], LINE,
                          {"one": np.array([1]), "four": np.array([4]), "two": np.array([2])}),
    "channels of a line": ([make("Gather", ["x", "c"], ["1"], axis=1),
                            make("Relu", ["1"], ["y"])], LINE, {"c": np.array([3, -4, 1])}),
    "a vector backwards": ([make("Slice", ["x", "last", "first", "axis", "step"], ["y"])], VECTOR,
                           {"last": np.array([-1]), "first": np.array([-7]),
                            "axis": np.array([1]), "step": np.array([-1])}),
    "parts of channels": (
        [make("Conv", ["x", "k"], ["0"]), make("Split", ["0", "sizes"], ["1", "2", "3"], axis=1),
         make("Relu", ["1"], ["4"]), make("Neg", ["3"], ["5"]),
         make("Concat", ["5", "4", "2"], ["y"], axis=1)],
        IMAGE, {"k": (6, 4, 3, 3), "sizes": np.array([1, 3, 2])}),
    "equal parts of a vector": (
        [make("Gemm", ["x", "w"], ["0"]), make("Split", ["0"], ["1", "2"], axis=-1),
         make("Sigmoid", ["2"], ["3"]), make("Mul", ["1", "3"], ["y"])], VECTOR, {"w": (6, 8)}),
    "rows in parts": ([make("Split", ["x"], ["1", "2"], axis=3),
                       make("Add", ["1", "2"], ["y"])], IMAGE, {}),
    "picked channels": ([make("Gather", ["x", "c"], ["y"], axis=1)], IMAGE,
                        {"c": np.array([2, 0, -1, 2])}),
    "one channel": ([make("Gather", ["x", "c"], ["1"], axis=1), make("Flatten", ["1"], ["2"]),
                     make("MatMul", ["2", "w"], ["y"])], IMAGE, {"c": np.array(3), "w": (42, 3)}),
    "picked features": ([make("Gather", ["x", "c"], ["y"], axis=1)], VECTOR,
                        {"c": np.array([[5, 0], [2, 2]])}),
    "depth to space": ([make("DepthToSpace", ["x"], ["1"], blocksize=2),
                        make("Conv", ["1", "k"], ["y"])], IMAGE, {"k": (2, 1, 3, 3)}),
    "depth to space by columns": ([make("Concat", ["x", "x"], ["1"], axis=1),
                                   make("DepthToSpace", ["1"], ["y"], blocksize=2, mode="CRD")],
                                  IMAGE, {}),
    "space to depth": ([make("SpaceToDepth", ["x"], ["1"], blocksize=2),
                        make("Conv", ["1", "k"], ["y"])], {"x": ["n", 3, 4, 6]},
                       {"k": (5, 12, 1, 2)}),
    "repeated channels": ([make("Tile", ["x", "times"], ["y"])], IMAGE,
                          {"times": np.array([1, 2, 1, 1])}),
    "one channel as several": ([make("Expand", ["x", "shape"], ["1"]),
                                make("Conv", ["1", "k"], ["y"])], {"x": ["n", 1, 5, 4]},
                               {"shape": np.array([1, 3, 1, 1]), "k": (2, 3, 2, 2)}),
    "transposed convolution in groups": (
        [make("ConvTranspose", ["x", "k", "b"], ["y"], group=2, strides=[2, 1],
              pads=[1, 0, 0, 1])], IMAGE, {"k": (4, 3, 3, 2), "b": (6,)}),
    "a scaled sigmoid": ([make("Sigmoid", ["x"], ["1"]), make("Mul", ["1", "a"], ["y"])], IMAGE,
                         {"a": np.float32(3)}),
}  # fmt: skip


@pytest.mark.parametrize("name", OPERATORS)
def test_operators(name: str, tmp_path: Path) -> None:
    nodes, inputs, arrays = OPERATORS[name]
    constants = {
        key: value if isinstance(value, np.ndarray | np.generic) else normal(*value)
        for key, value in arrays.items()
    }
    path = tmp_path / "net.onnx"
    onnx.save(model(nodes, inputs, {"y": None}, **constants), path)
    network = read_network(path)
    batch = 1 if inputs["x"][0] == 1 else 3
    x = 2 * normal(batch, *inputs["x"][1:])
    samples = x if x.shape[1:] == network.input_shape else np.moveaxis(x, 1, -1)
    expected = computed(path, x)
    found = network.predict(samples)
    if found.shape != expected.shape:  # channels last, or without axes of length 1
        found = np.moveaxis(found, -1, 1) if found.ndim > 2 else found.reshape(expected.shape)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


SKLEARN = {"domain": "ai.onnx.ml"}
NUMBERS = normal(18).tolist()
LINEAR_MODELS = {
    "a regression of scaled features": [
        make("Scaler", ["x"], ["1"], offset=NUMBERS[:6], scale=NUMBERS[6:12], **SKLEARN),
        make("LinearRegressor", ["1"], ["y"], coefficients=NUMBERS, intercepts=NUMBERS[:3],
             targets=3, **SKLEARN)],
    "three classes": [
        make("LinearClassifier", ["x"], ["label", "1"], coefficients=NUMBERS,
             intercepts=NUMBERS[:3], classlabels_ints=[0, 1, 2], post_transform="SOFTMAX",
             **SKLEARN),
        make("Normalizer", ["1"], ["y"], norm="L1", **SKLEARN)],
    "two classes": [
        make("Scaler", ["x"], ["0"], offset=[0.5], scale=[2.0], **SKLEARN),
        make("LinearClassifier", ["0"], ["label", "1"],
             coefficients=[-n for n in NUMBERS[:6]] + NUMBERS[:6], intercepts=[-0.3, 0.3],
             classlabels_strings=["no", "yes"], post_transform="LOGISTIC", **SKLEARN),
        make("Normalizer", ["1"], ["y"], norm="L1", **SKLEARN)],
    "scores": [
        make("LinearClassifier", ["x"], ["label", "y"], coefficients=NUMBERS,
             intercepts=NUMBERS[:3], classlabels_ints=[4, 5, 6], **SKLEARN)],
}  # fmt: skip


@pytest.mark.parametrize("name", LINEAR_MODELS)
def test_linear_models_of_sklearn(name: str, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(model(LINEAR_MODELS[name], VECTOR, {"y": None}), path)
    agrees(path, read_network(path), 2 * normal(5, 6))


REFUSALS = {
    "shares of no probabilities": (
        [make("Normalizer", ["x"], ["y"], norm="L1", **SKLEARN)], VECTOR,
        r"\(Normalizer\): it divides by the sum of its inputs"),
    "shares of single probabilities": (
        [make("LinearClassifier", ["x"], ["label", "1"], coefficients=NUMBERS,
              classlabels_ints=[0, 1, 2], post_transform="LOGISTIC", **SKLEARN),
         make("Normalizer", ["1"], ["y"], norm="L1", **SKLEARN)], VECTOR,
        r"\(Normalizer\): it divides by the sum of its inputs"),
    "a label": (
        [make("LinearClassifier", ["x"], ["label", "1"], coefficients=NUMBERS,
              classlabels_ints=[0, 1, 2], **SKLEARN),
         make("Cast", ["label"], ["y"], to=onnx.TensorProto.FLOAT)], VECTOR,
        r"\(LinearClassifier\): its output 'label' is not supported"),
    "too few coefficients": (
        [make("LinearRegressor", ["x"], ["y"], coefficients=NUMBERS[:5], **SKLEARN)], VECTOR,
        r"\(LinearRegressor\): 5 coefficients of 1 outputs and 6 features with post_transform"),
    "a probit": (
        [make("LinearRegressor", ["x"], ["y"], coefficients=NUMBERS[:6], post_transform="PROBIT",
              **SKLEARN)], VECTOR, r"6 features with post_transform PROBIT are not supported"),
    "two products": ([make("MatMul", ["x", "x"], ["y"])], {"x": ["n", 2, 2]},
                     r"\(MatMul\): the product of two activations"),
    "a slice of samples": ([make("Slice", ["x", "zero", "three"], ["y"])], VECTOR,
                           r"\(Slice\): it works along the batch axis"),
    "samples twice": ([make("Tile", ["x", "pair"], ["y"])], VECTOR,
                      r"\(Tile\): it works along the batch axis"),
    "a sample": ([make("Gather", ["x", "zero"], ["y"])], VECTOR,
                 r"\(Gather\): it works along the batch axis"),
    "no feature": ([make("Slice", ["x", "zero", "zero", "zero"], ["y"])], VECTOR,
                   r"\(Slice\): of shape \(1, 6\) nothing is left"),
    "missing parts": ([make("Split", ["x", "pair"], ["y", "z"], axis=1)], VECTOR,
                      r"\(Split\): parts of \[2, 1\] do not make up axis 1 of shape \(1, 6\)"),
    "mirrored rows": ([make("Slice", ["x", "back", "start", "last", "back"], ["1"]),
                       make("Relu", ["1"], ["y"])], IMAGE,
                      r"picked that do not follow each other in equal steps"),
    "dilations": ([make("ConvTranspose", ["x", "k"], ["y"], dilations=[2, 2])], IMAGE,
                  r"\(ConvTranspose\): dilations"),
    "pools of four axes": ([make("MaxPool", ["x"], ["y"], kernel_shape=[2, 2, 2])],
                           {"x": ["n", 1, 3, 4, 5]}, r"\(MaxPool\): expected an input of shape"),
    "reflections": ([make("Pad", ["x", "pads"], ["y"], mode="reflect")], IMAGE,
                    r"\(Pad\): only zeros are supported as padding, found mode 'reflect'"),
    "corners": ([make("Resize", ["x", "", "scales"], ["y"], mode="linear",
                      coordinate_transformation_mode="align_corners")], IMAGE,
                r"\(Resize\): linear with coordinate_transformation_mode 'align_corners'"),
    "error function": ([make("Erf", ["x"], ["y"])], VECTOR,
                       r"\(Erf\): supported only as a part of gelu"),
    "over samples": ([make("Softmax", ["x"], ["y"], axis=0)], VECTOR,
                     r"\(Softmax\): it works along the batch axis"),
    "mean over samples": ([make("ReduceMean", ["x"], ["y"], axes=[0])], VECTOR,
                          r"\(ReduceMean\): it works along the batch axis"),
    "joined samples": ([make("Concat", ["x", "x"], ["y"], axis=0)], VECTOR,
                       r"\(Concat\): it works along the batch axis"),
    "joined constant": ([make("Concat", ["x", "vector"], ["y"], axis=0)], VECTOR,
                        r"\(Concat\): it joins a constant and an activation"),
    "widened": ([make("Add", ["x", "vector"], ["y"])], {"x": ["n", 1]},
                r"\(Add\): a constant of shape \(1, 6\) widens an input of shape \(1, 1\)"),
    "rounded": ([make("Cast", ["x"], ["y"], to=onnx.TensorProto.FLOAT16)], VECTOR,
                r"\(Cast\): activations are floats"),
    "dropout": ([make("Dropout", ["x", "", "yes"], ["y"])], VECTOR,
                r"\(Dropout\): training mode"),
    "free pixels": ([make("Relu", ["x"], ["y"])], {"x": ["n", 3, "h", "w"]},
                    r"only the batch axis may be free, found shape \['n', 3, 'h', 'w'\]"),
    "without input": ([make("Identity", ["vector"], ["y"])], VECTOR,
                      r"output 'y' does not depend on the input"),
    "unknown name": ([make("Add", ["x", "nowhere"], ["y"])], VECTOR,
                     r"nothing writes its input 'nowhere'"),
    "another library": ([make("FusedMatMul", ["x", "x"], ["y"], domain="com.microsoft")], VECTOR,
                        r"com.microsoft.FusedMatMul of an activation is not supported"),
    "batch of eight": ([make("Conv", ["x", "k"], ["y"])], {"x": [8, 4, 5, 5]},
                       r"\(Conv\): expected an input of shape .* free or 1, found \(8, 4, 5, 5\)"),
    "large constants": ([make("ConstantOfShape", ["huge"], ["1"]),
                         make("Add", ["x", "1"], ["y"])], VECTOR,
                        r"makes a constant beyond 16777216 elements"),
    "large activations": ([make("Relu", ["x"], ["y"])], {"x": ["n", 1 << 40]},
                          r"is beyond 16777216 elements"),
    "arithmetic of nodes": ([make("Loop", ["vector"], ["1"]), make("Add", ["x", "1"], ["y"])],
                            VECTOR, r"\(Loop\): not computed from constants"),
}  # fmt: skip
CONSTANTS = {
    "zero": np.array([1]),
    "three": np.array([3]),
    "pair": np.array([2, 1]),
    "back": np.array([-1]),
    "start": np.array([-99]),
    "last": np.array([3]),
    "k": np.ones((4, 4, 2, 2), np.float32),
    "pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]),
    "scales": np.float32([1, 1, 2, 2]),
    "vector": np.ones((1, 6), np.float32),
    "yes": np.array(True),
    "huge": np.array([1 << 30, 1 << 30]),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(name: str, tmp_path: Path) -> None:
    nodes, inputs, message = REFUSALS[name]
    path = tmp_path / "net.onnx"
    path.write_bytes(model(nodes, inputs, {"y": None}, **CONSTANTS).SerializeToString())
    with pytest.raises((UnsupportedLayerError, ModelFileError), match=rf"net\.onnx: .*{message}"):
        read_network(path)


def test_files_older_than_the_rules_of_broadcasting(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    file = model([make("Relu", ["x"], ["y"])], VECTOR, {"y": None}, opset=6)
    path.write_bytes(file.SerializeToString())
    with pytest.raises(UnsupportedLayerError, match="operator set 6 is older than 7"):
        read_network(path)


def test_functions_of_the_file_are_inlined_and_bombs_are_not(tmp_path: Path) -> None:
    def function(name: str, nodes: list[onnx.NodeProto]) -> onnx.FunctionProto:
        return helper.make_function("f", name, ["a"], ["b"], nodes, imports)

    imports = [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    path = tmp_path / "net.onnx"
    file = model([make("twice", ["x"], ["y"], domain="f")], VECTOR, {"y": ["n", 6]})
    file.opset_import.append(imports[1])
    file.functions.append(function("twice", [make("Add", ["a", "a"], ["b"])]))
    onnx.save(file, path)
    agrees(path, read_network(path), normal(3, 6))
    file.functions[0].CopyFrom(function("twice", [make("twice", ["a"], ["b"], domain="f")]))
    onnx.save(file, path)
    with pytest.raises(ModelFileError, match="function 'twice' calls itself"):
        read_network(path)
    del file.functions[:]
    names = ["twice", *(f"level{i}" for i in range(30))]
    for name, inner in pairwise(names):
        calls = [make(inner, ["a"], ["c"], domain="f"), make(inner, ["c"], ["b"], domain="f")]
        file.functions.append(function(name, calls))
    onnx.save(file, path)
    with pytest.raises(UnsupportedLayerError, match="more than 100000 nodes"):
        read_network(path)


def test_weights_beside_the_file_are_read_and_those_elsewhere_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    path = folder / "net.onnx"
    file = model([make("MatMul", ["x", "w"], ["y"])], VECTOR, {"y": ["n", 50]}, w=normal(6, 50))
    onnx.save(file, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    agrees(path, read_network(path), normal(3, 6))
    (tmp_path / "w.bin").write_bytes((folder / "w.bin").read_bytes())
    file = onnx.load(path, load_external_data=False)
    for location in ("../w.bin", str(tmp_path / "w.bin")):
        file.graph.initializer[0].external_data[0].value = location
        path.write_bytes(file.SerializeToString())
        with pytest.raises(ModelFileError, match=r"net\.onnx: initializer 'w'"):
            read_network(path)


def test_integers_of_other_tools_keep_their_grid(tmp_path: Path) -> None:
    codes = np.random.default_rng(0).integers(-128, 128, (6, 5)).astype(np.int8)
    nodes = [
        make("DequantizeLinear", ["q", "s"], ["w"], axis=1),
        make("Gemm", ["x", "w"], ["y"]),
    ]
    path = tmp_path / "net.onnx"
    scale = np.float32([0.1, 0.2, 0.3, 0.4, 0.5])
    onnx.save(model(nodes, VECTOR, {"y": ["n", 5]}, q=codes, s=scale), path)
    (layer,) = read_network(path).layers
    assert isinstance(layer, Dense)
    assert layer.quantization is not None
    assert layer.quantization.bits == 8
    np.testing.assert_array_equal(layer.quantization.scale, scale)
    np.testing.assert_array_equal(layer.codes, codes)
    np.testing.assert_array_equal(layer.kernel, codes * scale)


def test_class_labels_beside_the_scores_are_left_out(tmp_path: Path) -> None:
    nodes = [
        make("Scaler", ["x"], ["1"], domain="ai.onnx.ml", offset=[1.0] * 6, scale=[0.5] * 6),
        make("MatMul", ["1", "w"], ["2"]),
        make("Softmax", ["2"], ["3"]),
        make("ArgMax", ["3"], ["label"], axis=1),
        make("ZipMap", ["3"], ["y"], domain="ai.onnx.ml", classlabels_int64s=[0, 1, 2]),
    ]
    file = model(nodes, VECTOR, {"y": None}, w=normal(6, 3))
    file.graph.output[0].type.Clear()
    file.graph.output.append(helper.make_tensor_value_info("label", onnx.TensorProto.INT64, ["n"]))
    path = tmp_path / "net.onnx"
    path.write_bytes(file.SerializeToString())
    x = normal(4, 6)
    logits = (x - 1) / 2 @ normal(6, 3)
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(read_network(path).predict(x), expected, rtol=1e-5)


def test_channels_stay_last_where_the_file_has_them_last(tmp_path: Path) -> None:
    nodes = [
        make("Mul", ["x", "s"], ["0"]),
        make("Transpose", ["0"], ["1"], perm=[0, 3, 1, 2]),
        make("Conv", ["1", "k"], ["2"]),
        make("Transpose", ["2"], ["y"], perm=[0, 2, 3, 1]),
    ]
    path = tmp_path / "net.onnx"
    arrays = {"s": np.float32(0.5), "k": normal(2, 3, 2, 2)}
    onnx.save(model(nodes, {"x": ["n", 6, 5, 3]}, {"y": ["n", 5, 4, 2]}, **arrays), path)
    network = read_network(path)
    assert network.names == ("rescaling_1", "conv2d_1")
    agrees(path, network, normal(3, 6, 5, 3))


@pytest.mark.parametrize("opset", [11, 17])
def test_networks_of_pytorch(opset: int, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    from torch import nn

    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Sequential(
                nn.Conv2d(4, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
            )
            self.second = nn.Sequential(nn.Conv2d(8, 8, 3, 1, 1), nn.SiLU(), nn.BatchNorm2d(8))
            self.short = nn.Conv2d(4, 8, 1, 2)
            self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(8, 8, 1), nn.Sigmoid())

        def forward(self, x: "torch.Tensor") -> "torch.Tensor":
            y = self.second(self.first(x))
            y = torch.relu(y * self.gate(y) + self.short(x)).mean((2, 3))
            return y.view(y.size(0), -1)

    torch.manual_seed(0)
    module = nn.Sequential(
        *(nn.Conv2d(3, 4, 5, padding=2), nn.Hardswish(), nn.MaxPool2d(3, 2, 1), Block()),
        *(nn.Linear(8, 5), nn.BatchNorm1d(5), nn.GELU(), nn.Dropout(0.3), nn.Linear(5, 3)),
    )
    for child in module.modules():
        if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
            nn.init.normal_(child.running_mean)
            nn.init.uniform_(child.running_var, 0.5, 2)
    module.eval()
    x = torch.randn(2, 3, 13, 12)
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (x,),
            path,
            dynamo=False,
            opset_version=opset,
            input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
        )
    network = read_network(path)
    assert network.input_shape == (13, 12, 3)
    expected = module(x).detach().numpy()
    found = network.predict(x.numpy().transpose(0, 2, 3, 1))
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


REFUSED = {
    "marabou_certificate_and_controller_mandal.onnx": "one output, found 3",
    "marabou_multiinput_add.onnx": "one output, found 2",
    "marabou_oneinput_twobranches.onnx": "one output, found 2",
}


@pytest.mark.skipif(not (SHARED / "networks").is_dir(), reason="needs ../shared/networks")
def test_real_networks() -> None:
    paths = sorted((SHARED / "networks").glob("*.onnx"))
    assert len(paths) == 21
    for path in paths:
        if path.name in REFUSED:
            with pytest.raises(UnsupportedLayerError, match=REFUSED[path.name]):
                read_network(path)
            continue
        network = read_network(path)
        entry = onnxruntime.InferenceSession(path).get_inputs()[0]
        shape = [length if isinstance(length, int) else 1 for length in entry.shape]
        for seed in range(3):
            x = normal(*shape, seed=seed)
            sample = x if len(shape) > 1 and shape[0] == 1 else x[None]
            if sample.shape[1:] != network.input_shape:
                sample = np.moveaxis(sample, 1, -1)
            agrees(path, network, x, sample)


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
    with pytest.raises(ModelFileError, match=r"net\.onnx: not an ONNX file"):
        read_network(path)


@pytest.mark.parametrize("axes", list(permutations((1, 2, 3))))
@pytest.mark.parametrize("convolution", [True, False])
@pytest.mark.parametrize(
    "end", [[], [Activation("softmax")], [Activation("softmax"), Permute((2, 1, 3))]]
)
def test_images_that_come_in_channels_last_go_out_as_the_file_has_them(
    tmp_path, axes, convolution, end
):
    first = [Conv2D(normal(2, 2, 3, 4))] if convolution else []
    network = Network([*first, Activation("tanh"), Permute(axes), *end], (6, 5, 3))
    export(network, tmp_path / "network.onnx")
    x = normal(2, 6, 5, 3)
    found = read_network(tmp_path / "network.onnx").predict(x)
    np.testing.assert_allclose(found, network.predict(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("back", [False, True])
def test_signals_come_in_and_go_out_channels_last(tmp_path, back):
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"])]
    nodes += [helper.make_node("ConvTranspose", ["c", "v"], ["y"], strides=[2])] if back else []
    nodes += [] if back else [helper.make_node("Relu", ["c"], ["y"])]
    shapes = {"x": ["n", 4, 9]}, {"y": ["n", 5, 16] if back else ["n", 6, 7]}
    made = model(nodes, *shapes, w=normal(6, 4, 3), v=normal(6, 5, 4))
    onnx.save(made, tmp_path / "network.onnx")
    network = read_network(tmp_path / "network.onnx")
    x = normal(2, 4, 9)
    expected = computed(tmp_path / "network.onnx", x).swapaxes(1, 2)
    found = network.predict(x.swapaxes(1, 2))
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused(tmp_path, value):
    kernel = normal(3, 4)
    kernel[1, 2] = value
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    onnx.save(model([node], {"x": ["n", 3]}, {"y": ["n", 4]}, w=kernel), tmp_path / "network.onnx")
    with pytest.raises(
        ModelFileError, match=r"layer 'dense_1': kernel: found 1 values that are NaN"
    ):
        read_network(tmp_path / "network.onnx")
