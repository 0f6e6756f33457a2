"""Networks as their exported files compute them, in the runtimes of the files."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np

from netreduce.errors import ModelFileError

BATCH = 256
Run: TypeAlias = Callable[[np.ndarray], np.ndarray]


def predict_file(path: str | Path, x: np.ndarray) -> np.ndarray:
    """Outputs of an exported network in its runtime, under that one's default options: ONNX Runtime
    for .onnx, LiteRT as TensorFlow ships it for .tflite.

    Parameters
    ----------
    path : path
    x : ndarray, shape (samples, *input_shape)

    Returns
    -------
    ndarray of float32, shape (samples, *outputs)

    Raises
    ------
    ModelFileError
        Another suffix.
    """
    run = open_file(path)
    x = x.astype(np.float32)
    return np.concatenate([run(x[start : start + BATCH]) for start in range(0, len(x), BATCH)])


def open_file(path: str | Path, threads: int | None = None) -> Run:
    """An exported network, loaded: from a batch (float32) to its outputs.

    Parameters
    ----------
    path : path
    threads : int, optional
        That one batch may take; as many as the runtime likes by default.

    Raises
    ------
    ModelFileError
        Another suffix than `predict_file` knows.
    """
    load = LOADERS.get(Path(path).suffix)
    if load is None:
        known = ", ".join(LOADERS)
        raise ModelFileError(f"{path}: no runtime for {Path(path).suffix!r}; known: {known}")
    return load(Path(path), threads)


def _onnx_runtime(path: Path, threads: int | None) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


def _litert(path: Path, threads: int | None) -> Run:
    from tensorflow.lite.python.interpreter import Interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # where LiteRT will be found one day
        interpreter = Interpreter(model_path=str(path), num_threads=threads)
    (read,), (written,) = interpreter.get_input_details(), interpreter.get_output_details()
    shape: tuple[int, ...] | None = None

    def run(batch: np.ndarray) -> np.ndarray:
        nonlocal shape
        if batch.shape != shape:
            interpreter.resize_tensor_input(read["index"], batch.shape)
            interpreter.allocate_tensors()
            shape = batch.shape
        interpreter.set_tensor(read["index"], batch)
        interpreter.invoke()
        return interpreter.get_tensor(written["index"])

    return run


LOADERS = {".onnx": _onnx_runtime, ".tflite": _litert}
