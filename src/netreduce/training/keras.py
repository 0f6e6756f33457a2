"""Training in Keras (TensorFlow backend): the same networks, settings and history as in PyTorch."""

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from netreduce.errors import ParameterError
from netreduce.formats.keras.h5 import write_network
from netreduce.network import Network
from netreduce.training import check_training, history_row, learning_rates

EVALUATION_BATCH = 1000


def train(
    network: Network,
    images: np.ndarray,
    labels: np.ndarray,
    validation_images: np.ndarray,
    validation_labels: np.ndarray,
    *,
    epochs: int,
    batch_size: int = 128,
    optimizer: str = "adam",
    learning_rate: float = 1e-3,
    weight_decay: float = 0.0,
    l1: float = 0.0,
    schedule: str = "cosine",
    precision: str = "float32",
    augmentation: Mapping[str, Any] | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> tuple[Network, list[dict[str, float]]]:
    """Train a network, in float32; parameters, results and errors as of
    `netreduce.training.torch.train`.
    """
    loss_name = check_training(
        network,
        images,
        labels,
        optimizer=optimizer,
        schedule=schedule,
        l1=l1,
        augmentation=augmentation,
    )
    check_training(network, validation_images, validation_labels)
    if precision != "float32":
        raise ParameterError(
            f"precision must be float32 in Keras, found {precision!r}; framework: torch trains in"
            " bfloat16"
        )
    if threads is not None:
        _use_threads(threads)
    keras.utils.set_random_seed(seed)
    tf.config.experimental.enable_op_determinism()
    random = np.random.default_rng(seed)

    model = to_keras(network)
    descent = _optimizer(optimizer, learning_rate, weight_decay)
    step = _step(model, loss_name, descent, 0.0 if optimizer == "adamw" else weight_decay, l1)
    steps = epochs * -(-len(images) // batch_size)
    kind = tf.float32 if labels.dtype.kind == "f" else tf.int64
    rates = iter(learning_rates(schedule, learning_rate, steps))
    history = []
    with tqdm(total=steps, unit="step", mininterval=5) as progress:
        for epoch in range(1, epochs + 1):
            seen = np.zeros(2)
            order = random.permutation(len(images))
            for index in np.split(order, range(batch_size, len(order), batch_size)):
                descent.learning_rate.assign(next(rates))
                batch = _augment(images[index], random, **(augmentation or {}))
                seen += [
                    float(value)
                    for value in step(tf.constant(batch), tf.constant(labels[index], kind))
                ]
                progress.update()
            validated = _evaluate(model, loss_name, validation_images, validation_labels)
            history.append(history_row(epoch, loss_name, (seen / len(images)).tolist(), validated))
            progress.set_postfix({name: f"{value:.4g}" for name, value in history[-1].items()})
    return from_keras(model, network), history


def _use_threads(threads: int) -> None:
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        raise ParameterError(
            "threads: TensorFlow has computed in this process already and takes no other number,"
            f" found {threads}"
        ) from None


def to_keras(network: Network) -> keras.Model:
    """The network as a Keras model; its layers have the network's names."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.h5"
        write_network(network, path)
        return keras.models.load_model(path, compile=False)


def from_keras(model: keras.Model, network: Network) -> Network:
    """The network with the weights of a model of the same architecture and names."""
    trained = {}
    for index, (name, layer) in enumerate(zip(network.names, network.layers, strict=True)):
        fields = layer.arrays()
        if fields:
            trained[index] = layer.replace(
                **dict(zip(fields, model.get_layer(name).get_weights(), strict=True))
            )
    return network.replace(trained)


def _step(
    model: keras.Model,
    loss_name: str,
    optimizer: keras.optimizers.Optimizer,
    weight_decay: float,
    l1: float,
) -> Callable[[tf.Tensor, tf.Tensor], tuple[tf.Tensor, tf.Tensor]]:
    @tf.function(reduce_retracing=True)
    def step(x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            outputs = model(x, training=True)
            losses = _losses(loss_name, outputs, y)
            loss = tf.reduce_mean(losses)
            if l1:
                kernels = [v for v in model.trainable_variables if len(v.shape) > 1]
                loss += l1 * tf.add_n([tf.reduce_sum(tf.abs(kernel)) for kernel in kernels])
        variables = model.trainable_variables
        gradients = [
            gradient + weight_decay * variable
            for gradient, variable in zip(tape.gradient(loss, variables), variables, strict=True)
        ]
        optimizer.apply(gradients, variables)
        return tf.reduce_sum(losses), tf.reduce_sum(_correct(loss_name, outputs, y))

    return step


def _losses(name: str, outputs: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """The loss of every sample, by its name in `netreduce.training.LOSSES`."""
    if name == "cross entropy":
        return tf.nn.sparse_softmax_cross_entropy_with_logits(y, outputs)
    if name == "binary cross entropy":
        return tf.nn.sigmoid_cross_entropy_with_logits(tf.cast(y, tf.float32), outputs[:, 0])
    return tf.reduce_mean((tf.reshape(outputs, tf.shape(y)) - y) ** 2, axis=1)


def _correct(name: str, outputs: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
    """1 for every sample that is classified as labelled, else 0; 0 for numbers."""
    if name == "cross entropy":
        return tf.cast(tf.argmax(outputs, 1) == y, tf.float32)
    if name == "binary cross entropy":
        return tf.cast((outputs[:, 0] > 0) == (y == 1), tf.float32)
    return tf.zeros(tf.shape(y)[0])


def _optimizer(name: str, learning_rate: float, weight_decay: float) -> keras.optimizers.Optimizer:
    if name == "sgd":
        return keras.optimizers.SGD(learning_rate, momentum=0.9, nesterov=True)
    if name == "adamw":
        return keras.optimizers.AdamW(learning_rate, weight_decay=weight_decay, epsilon=1e-8)
    return keras.optimizers.Adam(learning_rate, epsilon=1e-8)


def _augment(
    batch: np.ndarray, random: np.random.Generator, shift: int = 0, flip: bool = False
) -> np.ndarray:
    """As `augmentation.augment`, with images channels last."""
    if flip:
        mirrored = random.random(len(batch)) < 0.5
        batch = np.where(mirrored[:, None, None, None], batch[:, :, ::-1], batch)
    if shift:
        height, width = batch.shape[1:3]
        padded = np.pad(batch, ((0, 0), (shift, shift), (shift, shift), (0, 0)))
        down, right = random.integers(0, 2 * shift + 1, (2, len(batch), 1))
        rows, columns = down + np.arange(height), right + np.arange(width)
        batch = padded[np.arange(len(batch))[:, None, None], rows[:, :, None], columns[:, None, :]]
    return batch


def _evaluate(
    model: keras.Model, loss_name: str, images: np.ndarray, labels: np.ndarray
) -> tuple[float, float]:
    outputs = model.predict(images, batch_size=EVALUATION_BATCH, verbose=0)
    y = labels.astype(np.float32 if labels.dtype.kind == "f" else np.int64)
    found = float(tf.reduce_mean(_losses(loss_name, outputs, y)))
    return found, float(np.mean(_correct(loss_name, tf.constant(outputs), y), dtype=np.float64))
