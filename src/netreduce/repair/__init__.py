"""Repair: the parameters that a reduction left alone make up for what it did."""

from .repair import REPAIRS, repair

__all__ = ["REPAIRS", "repair"]
