"""Export of a network to LiteRT (formerly TensorFlow Lite), through Keras and TensorFlow's
converter.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import keras
import tensorflow as tf

from netreduce.formats import save
from netreduce.network import Network


def to_litert(network: Network) -> bytes:
    """The network as a LiteRT file in float32 that reads (batch, *input_shape)."""
    with TemporaryDirectory() as folder:
        path = Path(folder, "network.keras")
        save(network, path)
        return tf.lite.TFLiteConverter.from_keras_model(
            keras.saving.load_model(path, compile=False)
        ).convert()
