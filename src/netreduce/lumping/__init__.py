"""Lumping: merging neurons that compute multiples of one another (proportional lumpability, Ressi,
Romanello, Piazza, Rossi).

In a layer with a positively homogeneous activation, neuron j is a multiple of neuron i when its
weights and bias, as the already lumped layer before sees them, are c > 0 times those of i. It goes,
and the weights that read i grow by c times those that read j: the function stays the same. With a
tolerance, nearly proportional neurons merge too, under a bound on how far any output can move.
"""

from .core import lump
from .dictionary import lump_neural_network, run_neural_network
from .exact import class_counts, published_class_counts
from .record import Lumping, Merge, replay

__all__ = [
    "Lumping",
    "Merge",
    "class_counts",
    "lump",
    "lump_neural_network",
    "published_class_counts",
    "replay",
    "run_neural_network",
]
