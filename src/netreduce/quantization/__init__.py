"""Quantization of a network's weights: GPFQ, its rivals under the same interface, and sweeps that
share their work.
"""

from .pipeline import dead_weights, quantize, quantize_many
from .settings import METHODS

__all__ = ["METHODS", "dead_weights", "quantize", "quantize_many"]
