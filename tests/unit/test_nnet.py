"""Networks from .nnet files."""

from pathlib import Path

import numpy as np
import pytest

from netreduce.errors import ModelFileError
from netreduce.formats.nnet import read_network

LINES = [
    *("// a comment", "//", "2,2,1,3,", "2,3,1,", "0,", "-1,-2,", "1,2,"),
    *("10.0,20.0,5.0,", "2.0,4.0,3.0,"),
    *("1.0,2.0,", "3.0,-4.0,", "-5.0,6.0,", "0.5,", "-0.5,", "0.25,"),
    *("1.0,-2.0,3.0,", "7.0,"),
]


def write(folder: Path, lines: list[str]) -> Path:
    path = folder / "net.nnet"
    path.write_text("\n".join(lines))
    return path


def test_inputs_and_outputs_are_in_their_own_units(tmp_path: Path) -> None:
    network = read_network(write(tmp_path, LINES))
    assert network.names == ("normalization_1", "dense_1", "dense_2", "rescaling_1")
    x = np.array([[10.5, 19.0], [9.0, 24.0], [10.0, 20.0]], np.float32)
    z = (x - [10, 20]) / [2, 4]
    hidden = np.maximum(z @ np.array([[1, 3, -5], [2, -4, 6]]) + [0.5, -0.5, 0.25], 0)
    expected = (hidden @ np.array([[1], [-2], [3]]) + 7) * 3 + 5
    np.testing.assert_allclose(network.predict(x), expected, rtol=1e-6)


def test_without_normalization_there_are_dense_layers_alone(tmp_path: Path) -> None:
    lines = [*LINES[:7], "0,0,0", "1,1,1", *LINES[9:], ""]
    assert read_network(write(tmp_path, lines)).names == ("dense_1", "dense_2")


@pytest.mark.parametrize(
    ("line", "text", "message"),
    [
        (2, "2,2,1", "line 3: expected numbers of layers, .*, 4 of them, found 3"),
        (2, "3,2,1,3", "line 4: expected the sizes of 3 layers and the input, 4 of them, found 3"),
        (3, "2,3,2", "line 4: expected 3 sizes from 2 to 1"),
        (3, "2,-3,1", "line 4: layers of 1 to 1048576 neurons"),
        (3, "2,2.5,1", "line 4: expected the sizes of 2 layers and the input, found"),
        (7, "0,0", "line 8: expected means of the inputs and the outputs, 3 of them, found 2"),
        (8, "1,0,1", "line 9: ranges must be positive"),
        (9, "1,nan", "line 10: expected weights of layer 1, found one that is no number"),
        (9, "1,x", "line 10: expected weights of layer 1: could not convert"),
        (9, "1,1e99", "line 10: expected weights of layer 1, found one that is no number"),
        (16, "7\n8", "line 18: the file goes on after its last bias"),
        (16, "", "the file ends before a bias of layer 2"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, line: int, text: str, message: str) -> None:
    path = write(tmp_path, [*LINES[:line], text, *LINES[line + 1 :]])
    with pytest.raises(ModelFileError, match=rf"net\.nnet: {message}"):
        read_network(path)
