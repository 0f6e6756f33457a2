"""Folding: what is beside a layer becomes part of it, and the function stays the same."""

from .batch_norm import fold_batch_norm
from .equalization import equalize
from .scaling import pads

__all__ = ["equalize", "fold_batch_norm", "pads"]
