"""Image datasets: what they are (`table`), where they come from (`sources`), how they are built
(`build`) and read (`archive`).
"""

from .archive import SPLITS, Dataset, read

__all__ = ["SPLITS", "Dataset", "read"]
