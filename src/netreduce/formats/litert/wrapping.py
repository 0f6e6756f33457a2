"""What a LiteRT file has besides its network: preprocessing in front, and words about it."""

from collections.abc import Mapping, Sequence

import numpy as np

from .graph import Graph, to_bytes


def wrapped(
    content: bytes, steps: Sequence[tuple[str, np.ndarray]], words: Mapping[str, str]
) -> bytes:
    """A file with steps ("Div" or "Sub", and by what) in front, and with words as its metadata; the
    description also where LiteRT has one.
    """
    from tensorflow.lite.tools import flatbuffer_utils

    model = flatbuffer_utils.read_model_from_bytearray(bytearray(content))
    (main,) = model.subgraphs
    graph = Graph(model, main)
    (given,) = map(int, main.inputs)
    shape = [None, *(int(length) for length in main.tensors[given].shape[1:])]
    others, main.operators = main.operators, []
    x = given
    for operator, array in steps:
        inputs = [x, graph.constant(array, "preprocessing")]
        x = graph.node(operator.upper(), 1, inputs, graph.tensor("preprocessed", "FLOAT32", shape))
    for other in others:
        other.inputs = [x if index == given else int(index) for index in other.inputs]
    main.operators += others
    model.metadata = list(model.metadata or [])
    for key, value in words.items():
        entry, buffer = graph.schema.MetadataT(), graph.schema.BufferT()
        buffer.data = np.frombuffer(value.encode(), np.uint8)
        entry.name, entry.buffer = key, len(model.buffers)
        model.buffers.append(buffer)
        model.metadata.append(entry)
    model.description = words.get("description", model.description)
    return to_bytes(model)
