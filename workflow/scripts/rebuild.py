"""Rebuild a network in Keras from its text, and check it against PyTorch on the test images.

Fails unless the text holds the state_dict bit for bit and the logits of both programs agree to
1e-4.
"""

import argparse
import json
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import torch

from netreduce.cli.exits import run_script
from netreduce.data import read
from netreduce.data.fit import network_for
from netreduce.errors import VerificationError
from netreduce.files import replacing, write_json
from netreduce.formats import load, save
from netreduce.formats.pytorch.module import to_torch

LOGIT_TOLERANCE = 1e-4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--text", type=Path, required=True, help="network as text (.txt)")
    parser.add_argument(
        "--weights", type=Path, required=True, help="the state_dict it was written from (.pth)"
    )
    parser.add_argument("--data", type=Path, required=True, help="dataset (.npz)")
    parser.add_argument(
        "--architecture",
        type=json.loads,
        required=True,
        help="architecture as in the config, as JSON",
    )
    parser.add_argument(
        "--network", type=Path, required=True, help="where the Keras network goes (.h5)"
    )
    parser.add_argument(
        "--metrics", type=Path, required=True, help="where the differences found go (.json)"
    )
    arguments = parser.parse_args()

    data = read(arguments.data)
    template = network_for(data, arguments.architecture)
    network = load(arguments.text, template)
    trained = load(arguments.weights, template)
    differing = sum(
        int((a.view(np.uint32) != b.view(np.uint32)).sum())
        for rebuilt, original in zip(network.layers, trained.layers, strict=True)
        for a, b in zip(rebuilt.arrays().values(), original.arrays().values(), strict=True)
    )
    images = data.images("test")
    with torch.inference_mode():
        module = to_torch(trained).eval()
        torch_logits = np.concatenate(
            [
                channels_last(module(channels_first(batch)).numpy())
                for batch in np.split(images, range(500, len(images), 500))
            ]
        )
    # Where the outputs are numbers, their size is that of the data.
    size = 1.0 if data.target == "classes" else max(1.0, float(np.abs(torch_logits).max()))
    tolerance = LOGIT_TOLERANCE * size
    with replacing(arguments.network) as temporary:
        save(network, temporary)
        keras_logits = keras.models.load_model(temporary, compile=False).predict(
            images, batch_size=500, verbose=0
        )
        difference = float(np.abs(keras_logits - torch_logits).max())
        if differing:
            raise VerificationError(
                f"{arguments.text}: {differing} values differ from {arguments.weights}, expected"
                " none"
            )
        if not difference <= tolerance:
            raise VerificationError(
                f"{arguments.network}: logits differ from PyTorch's by {difference:.3g}, expected"
                f" at most {tolerance:g}"
            )
    write_json(
        arguments.metrics,
        {
            "values": sum(
                array.size for layer in network.layers for array in layer.arrays().values()
            ),
            "text_bit_for_bit": differing == 0,
            "max_logit_difference": difference,
            "logit_tolerance": tolerance,
            "test_images": len(images),
            "equal_predictions": (
                int((keras_logits.argmax(1) == torch_logits.argmax(1)).sum())
                if data.target == "classes"
                else None
            ),
        },
    )


def channels_first(x: np.ndarray) -> torch.Tensor:
    return torch.from_numpy((x.transpose(0, 3, 1, 2) if x.ndim == 4 else x).copy())


def channels_last(y: np.ndarray) -> np.ndarray:
    return y.transpose(0, 2, 3, 1) if y.ndim == 4 else y


if __name__ == "__main__":
    run_script(main)
