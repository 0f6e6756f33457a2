"""Networks as they stand in memory: layers of NumPy arrays, and the graph that connects them."""

from .graph import INPUT, Network

__all__ = ["INPUT", "Network"]
