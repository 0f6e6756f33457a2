"""What the scripts of the chapters share: their arguments, and records as the thesis reads them."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from netreduce.files import write_json
from netreduce.measures.kinds import Measure, measure_of

# What the text allows a reduced network to lose and still calls it as good as the analog one: so
# much of a share of the samples; so large a part of an error, or of the outputs.
NEAR_SHARE = 0.005
NEAR_ERROR = 0.05

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


def scored(table: pd.DataFrame, prefix: str = "") -> tuple[pd.DataFrame, Measure]:
    """A table with `score` in place of the name of its measure, and the measure."""
    table = table.dropna(axis=1, how="all")
    measure = measure_of(table.columns, prefix)
    names = {
        column: column.removesuffix(measure.name) + "score"
        for column in table.columns
        if column.endswith(measure.name)
    }
    return table.rename(columns=names), measure


def describe(measure: Measure) -> Record:
    """A measure as the thesis reads it, with what counts as near."""
    return {**asdict(measure), "near": near(measure)}


def near(measure: Measure) -> float:
    return NEAR_SHARE if measure.share else NEAR_ERROR


def lost(measure: Measure, analog: float, score: float) -> float:
    """How much worse a score is than the analog network's: the difference of shares, by what part
    an error is larger, or the difference from the original itself.
    """
    if measure.share:
        return analog - score
    return (score - analog) / analog if analog else score


def is_near(measure: Measure, analog: float, score: float) -> bool:
    if measure.share:
        return score >= analog - NEAR_SHARE
    return lost(measure, analog, score) <= NEAR_ERROR


def best(measure: Measure, scores: pd.Series) -> Any:
    """Index of the best score."""
    return scores.idxmax() if measure.share else scores.idxmin()


def records(table: pd.DataFrame) -> list[Record]:
    return table.to_dict("records")
