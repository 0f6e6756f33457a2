"""Folding: a layer becomes part of the one beside it, and the function stays the same."""

from .batch_norm import fold_batch_norm, pads

__all__ = ["fold_batch_norm", "pads"]
