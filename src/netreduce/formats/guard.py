"""Reading untrusted files: every failure becomes an error that names the file."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from netreduce.errors import ModelFileError, NetreduceError, UnsupportedLayerError

MALFORMED = (
    OSError,
    BadZipFile,
    zlib.error,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    RecursionError,
    MemoryError,
)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Errors of the block name the file; what a malformed file causes becomes a ModelFileError."""
    try:
        yield
    except UnsupportedLayerError as error:
        raise UnsupportedLayerError(f"{path}: {error}") from None
    except NetreduceError as error:
        raise ModelFileError(f"{path}: {error}") from None
    except FileNotFoundError:
        raise ModelFileError(f"{path}: no such file") from None
    except MALFORMED as error:
        raise ModelFileError(
            f"{path}: not a valid network file ({type(error).__name__}: {error})"
        ) from error


def check_finite(array: np.ndarray, what: str) -> None:
    """Refuse an array that holds NaN or an infinite value; `what` names it."""
    values = array.ravel(order="K")
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(values @ values):  # one pass over memory
            return
    finite = np.isfinite(array)
    if not finite.all():
        raise ModelFileError(
            f"{what}: found {np.count_nonzero(~finite)} values that are NaN or infinite"
        )
