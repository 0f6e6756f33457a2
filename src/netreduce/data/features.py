"""Tables of features: CSV and Parquet files, one row per sample."""

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from netreduce.errors import DataError

PARQUET = b"PAR1"
SEPARATORS = (",", ";", "\t")
LARGEST = 1 << 29  # values of a table, 4 GiB as float64
LARGEST_FILE = 2 << 30
NUMBER = r"\s*[-+]?[\d.]+(?:[eE][-+]?\d+)?\s*"
UNREADABLE = (pd.errors.ParserError, pd.errors.EmptyDataError, ValueError, OverflowError)


def read_table(path: str | Path) -> pd.DataFrame:
    """A table: Parquet, or CSV in UTF-8 with a line of names, separated by commas, semicolons or
    tabs; told by its content, not by its suffix.

    Raises
    ------
    DataError
        Not such a file, damaged, empty, too large, or with a name that occurs twice.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            magic = file.read(len(PARQUET))
        size = path.stat().st_size
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    if size > LARGEST_FILE:
        raise DataError(f"{path}: {size:,} bytes, more than {LARGEST_FILE:,}")
    table = _parquet(path) if magic == PARQUET else _csv(path)
    if not len(table):
        raise DataError(f"{path}: a table without rows")
    return table


def columns(
    table: pd.DataFrame,
    path: str | Path,
    label: Sequence[str],
    features: Sequence[str] | None = None,
) -> tuple[np.ndarray, np.ndarray | None, tuple[str, ...]]:
    """Features and labels of a table.

    Parameters
    ----------
    table : DataFrame
    path : path-like
        For messages.
    label : sequence of str
        Names of the columns that are labels; none without labels.
    features : sequence of str, optional
        Names of the columns that are features; all others by default.

    Returns
    -------
    x : ndarray of float32, shape (rows, features)
    y : ndarray, shape (rows,), or (rows, labels) for several; or None
    names : tuple of str
        Of the features.

    Raises
    ------
    DataError
        A column that is not there, is no number, or lacks a value: names the column and the row,
        counted from 1 below the line of names.
    """
    if features is None:
        features = [name for name in table.columns if name not in label]
    for name in (*label, *features):
        if name not in table.columns:
            known = ", ".join(map(str, table.columns[:20]))
            raise DataError(f"{path}: there is no column {name!r}; the table has {known}")
    if both := [name for name in features if name in label]:
        raise DataError(f"{path}: column {both[0]!r} cannot be both a feature and a label")
    if not features:
        raise DataError(f"{path}: no column is left for the features")
    words = [name for name in features if not _numeric(table[name])]
    if words:
        named = ", ".join(map(repr, words[:5])) + (", ..." if len(words) > 5 else "")
        row, found = _first_word(table[words[0]])
        raise DataError(
            f"{path}: features must be numbers; column {named} {'is' if len(words) == 1 else 'are'}"
            f" not: row {row} of {words[0]!r} holds {found!r}. Leave such columns out (features:"
            " [...]), or code them as numbers"
        )
    x = np.empty((len(table), len(features)), np.float32)
    for place, name in enumerate(features):
        values = table[name].to_numpy(np.float64, na_value=np.nan)
        with np.errstate(over="ignore"):
            x[:, place] = values
        wrong = np.flatnonzero(~np.isfinite(x[:, place]))
        if len(wrong):
            found = "no value (NaN)" if np.isnan(values[wrong[0]]) else f"{values[wrong[0]]}"
            raise DataError(
                f"{path}: {len(wrong)} values of column {name!r} are missing or not finite as"
                f" float32; the first is row {wrong[0] + 1}, {found}"
            )
    return x, _labels(table, path, label) if label else None, tuple(features)


def _labels(table: pd.DataFrame, path: str | Path, label: Sequence[str]) -> np.ndarray:
    for name in label:
        missing = np.flatnonzero(table[name].isna())
        if len(missing):
            raise DataError(
                f"{path}: {len(missing)} labels are missing in column {name!r}; the first is row"
                f" {missing[0] + 1}"
            )
    if len(label) == 1:
        column = table[label[0]]
        if not _numeric(column):
            return column.astype(str).to_numpy(str)
        kind = np.int64 if column.dtype.kind in "iub" else np.float64
        return column.to_numpy(kind)
    for name in label:
        if not _numeric(table[name]):
            row, found = _first_word(table[name])
            raise DataError(
                f"{path}: several labels must be numbers; row {row} of {name!r} holds {found!r}"
            )
    return np.column_stack([table[name].to_numpy(np.float64) for name in label])


def _numeric(column: pd.Series) -> bool:
    return pd.api.types.is_numeric_dtype(column) and column.dtype.kind != "c"


def _first_word(column: pd.Series) -> tuple[int, object]:
    """Row (from 1) and value of the first entry that is no number."""
    numbers = pd.to_numeric(column.astype(str), errors="coerce")
    row = int(np.flatnonzero(numbers.isna() & column.notna()).min(initial=len(column)))
    row = row if row < len(column) else 0
    return row + 1, str(column.iloc[row])[:40]


def _csv(path: Path) -> pd.DataFrame:
    try:
        with path.open(encoding="utf-8-sig") as file:
            head = file.readline(1 << 20)
        how = {"sep": max(SEPARATORS, key=head.count), "encoding": "utf-8-sig"}
        names = pd.read_csv(path, **how, header=None, nrows=1, dtype=str, keep_default_na=False)
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)
            table = pd.read_csv(path, **how, index_col=False, low_memory=False)
        table.columns = names.iloc[0]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: neither Parquet nor a table in UTF-8 ({error})") from None
    except (*UNREADABLE, pd.errors.ParserWarning) as error:
        raise DataError(f"{path}: not a CSV table ({str(error).strip()})") from None
    if all(re.fullmatch(NUMBER, str(name)) for name in table.columns):
        raise DataError(
            f"{path}: the first line must name the columns, found numbers only:"
            f" {', '.join(map(str, table.columns[:5]))}"
        )
    return _named(table, path)


def _parquet(path: Path) -> pd.DataFrame:
    import pyarrow
    from pyarrow import parquet

    try:
        file = parquet.ParquetFile(path)
        rows, width = file.metadata.num_rows, file.metadata.num_columns
        if rows * width > LARGEST:
            raise DataError(f"{path}: {rows:,} rows of {width:,} columns, more than {LARGEST:,}")
        content = file.read()
        content.validate(
            full=True
        )  # texts that are not UTF-8 would fail later, where they are used
        table = content.to_pandas(ignore_metadata=True)
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{path}: not a Parquet table, or a damaged one ({error})") from None
    return _named(table, path)


def _named(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    table.columns = table.columns.map(str)
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise DataError(f"{path}: the column {twice[0]!r} occurs more than once")
    return table
