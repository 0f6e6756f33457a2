"""LiteRT (formerly TensorFlow Lite): files that compute in floats, and in integers."""

from .writer import to_litert

__all__ = ["to_litert"]
