"""Networks as their exported files compute them, in the runtimes of the files."""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

from netreduce.errors import ModelFileError

BATCH = 256


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
    load = RUNTIMES.get(Path(path).suffix)
    if load is None:
        known = ", ".join(RUNTIMES)
        raise ModelFileError(f"{path}: no runtime for {Path(path).suffix!r}; known: {known}")
    run = load(Path(path))
    x = x.astype(np.float32)
    return np.concatenate([run(x[start : start + BATCH]) for start in range(0, len(x), BATCH)])


def _onnx_runtime(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


def _litert(path: Path) -> Callable[[np.ndarray], np.ndarray]:
    from tensorflow.lite.python.interpreter import Interpreter

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # where LiteRT will be found one day
        interpreter = Interpreter(model_path=str(path))
    (read,), (written,) = interpreter.get_input_details(), interpreter.get_output_details()

    def run(batch: np.ndarray) -> np.ndarray:
        interpreter.resize_tensor_input(read["index"], batch.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(read["index"], batch)
        interpreter.invoke()
        return interpreter.get_tensor(written["index"])

    return run


RUNTIMES = {".onnx": _onnx_runtime, ".tflite": _litert}
