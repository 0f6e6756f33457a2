"""What an ONNX file has besides its network: preprocessing in front, and words about it."""

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper


def wrap(
    model: onnx.ModelProto, steps: Sequence[tuple[str, np.ndarray]], words: Mapping[str, str]
) -> None:
    """Put steps ("Div" or "Sub", and by what) in front of a model that reads "input", and words
    among its metadata; the description also where ONNX has one.
    """
    name, nodes = "input", []
    for number, (operator, array) in enumerate(steps):
        constant = f"preprocessing.{number}"
        model.graph.initializer.append(numpy_helper.from_array(array, constant))
        nodes.append(helper.make_node(operator, [name, constant], [f"{constant}.output"]))
        name = f"{constant}.output"
    for node in model.graph.node:
        node.input[:] = [name if read == "input" else read for read in node.input]
    nodes += model.graph.node
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    for key, value in words.items():
        model.metadata_props.add(key=key, value=value)
    model.doc_string = words.get("description", "")
    onnx.checker.check_model(model)
