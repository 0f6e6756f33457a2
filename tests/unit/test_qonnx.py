"""Networks in integers as QONNX models: the codes of `IntegerNetwork`, by Quant as defined."""

import numpy as np
import onnx
import pytest
from integer_networks import KINDS, on_grids, samples, up_to
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

import netreduce as nr
from netreduce import IntegerNetwork, Network
from netreduce.errors import ModelFileError, UnsupportedLayerError
from netreduce.formats.onnx.writer import to_onnx
from netreduce.network.layers import ActivationGrid, Dense


class Quant(OpRun):
    """https://github.com/fastmachinelearning/qonnx/blob/main/docs/qonnx-custom-ops/quant_op.md"""

    op_domain = "qonnx.custom_op.general"

    def _run(self, x, scale, zero_point, bits, signed=None, narrow=None, rounding_mode=None):
        assert (signed, narrow, rounding_mode) == (1, 0, "ROUND")
        assert bits >= 2  # one bit stands for -1 and 1, without zero
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        codes = np.clip(np.round(x / scale + zero_point), low, high)
        return (((codes - zero_point) * scale).astype(np.float32),)


def run(network, x):
    model = to_onnx(network, "qonnx")
    evaluator = ReferenceEvaluator(model, new_ops=[Quant])
    return np.concatenate([evaluator.run(None, {"input": x[i : i + 1]})[0] for i in range(len(x))])


@pytest.mark.parametrize(("bits", "weight_bits"), [(8, 8), (8, 2), (4, 4)])
@pytest.mark.parametrize(
    "kind", ["dense relu", "conv in groups", "depthwise", "batch norm", "average pooling", "add"]
)
def test_codes_and_scores(kind, bits, weight_bits):
    network = on_grids(KINDS[kind], bits, weight_bits=weight_bits)
    x = samples(network, 5)
    index = max(i for i, layer in enumerate(network.layers) if isinstance(layer, ActivationGrid))
    integers = IntegerNetwork(network)
    found = network.layers[index].codes(run(up_to(network, index), x))
    assert np.mean(found == integers.codes(x)[index]) >= 0.999
    np.testing.assert_allclose(run(network, x), integers.predict(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("factor", [0.0, -1.0])
def test_weights_of_zeros_or_of_one_sign(factor):
    network = KINDS["dense relu"]
    last = network.layers[-1]
    changed = network.replace(
        {len(network.layers) - 1: last.replace(kernel=factor * (last.kernel < -0.2))}
    )
    network = on_grids(changed, weight_bits=2)
    x = samples(network, 5)
    integers = IntegerNetwork(network)
    assert integers.weights[max(integers.weights)].kernel.max() == 0
    np.testing.assert_allclose(run(network, x), integers.predict(x), rtol=0, atol=1e-5)


def test_a_node_for_every_grid_says_its_bits(tmp_path):
    network = on_grids(KINDS["flatten"], 6, weight_bits=4)
    nr.export(network, tmp_path / "net.onnx", metadata={"chain": "a/b"}, dialect="qonnx")
    model = onnx.load(tmp_path / "net.onnx")
    assert {entry.domain for entry in model.opset_import} == {"", Quant.op_domain}
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_value == 1
    constants = {entry.name: onnx.numpy_helper.to_array(entry) for entry in model.graph.initializer}
    quants = [node for node in model.graph.node if node.op_type == "Quant"]
    assert [constants[node.input[3]].item() for node in quants] == [6, 4, 6, 4]


def test_what_is_refused(tmp_path):
    network = on_grids(KINDS["dense"])
    for name, dialect in (("a.tflite", "qonnx"), ("a.onnx", "qdq")):
        with pytest.raises(ModelFileError, match=rf"{name}: no dialect '{dialect}' of .*; known"):
            nr.export(network, tmp_path / name, dialect=dialect)
    analog = Network([Dense(np.ones((3, 2)))], (3,))
    with pytest.raises(UnsupportedLayerError, match="dense_1: what it reads is not on a grid"):
        nr.export(analog, tmp_path / "a.onnx", dialect="qonnx")
    assert not list(tmp_path.iterdir())
