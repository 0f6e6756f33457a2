"""Write a PyTorch state_dict (.pth) as text, and check that the text reads back bit for bit."""

import argparse
from pathlib import Path

from netreduce.cli.exits import run_script
from netreduce.errors import VerificationError
from netreduce.files import replacing
from netreduce.formats.pytorch.state_dict import read_state_dict
from netreduce.formats.text import read_tensors, write_tensors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True, help="state_dict (.pth)")
    parser.add_argument("--output", type=Path, required=True, help="where the text goes (.txt)")
    arguments = parser.parse_args()

    tensors = read_state_dict(arguments.weights)
    with replacing(arguments.output) as temporary:
        write_tensors(tensors, temporary)
        again = read_tensors(temporary)
        for name, tensor in tensors.items():
            if again[name].tobytes() != tensor.tobytes():
                raise VerificationError(
                    f"{arguments.output}: tensor {name} does not read back bit for bit"
                )


if __name__ == "__main__":
    run_script(main)
