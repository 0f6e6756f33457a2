"""What the scripts of the chapters share: their arguments, and records as the thesis reads them."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from netreduce.files import write_json

# accuracy that the text allows a reduced network to lose and still calls it as good as the analog
# one
NEAR = 0.005

Record = dict[str, Any]


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser for the arguments of every chapter."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--output", type=Path, required=True, help="where the data go (.json)")
    return made


def write(path: Path, data: Record) -> None:
    write_json(path, clean(data))


def clean(value: Any) -> Any:
    """The same with NumPy's numbers as Python's, and null for what is not a number."""
    if isinstance(value, dict):
        return {str(key): clean(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [clean(entry) for entry in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value


def records(table: pd.DataFrame) -> list[Record]:
    return table.to_dict("records")
