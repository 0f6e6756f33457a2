"""What the pruning methods share."""

from collections.abc import Iterator

from netreduce.errors import ParameterError
from netreduce.network import Network
from netreduce.network.layers import Weighted


def weighted_layers(network: Network) -> Iterator[tuple[str, Weighted]]:
    """Names and layers that have a kernel."""
    return (
        (name, layer)
        for name, layer in zip(network.names, network.layers, strict=True)
        if isinstance(layer, Weighted)
    )


def count_kept(fraction: float, total: int) -> int:
    """How many of a total are kept, at least one; raises ParameterError unless 0 < fraction ≤ 1."""
    check_fraction(fraction)
    return max(1, round(fraction * total))


def check_fraction(fraction: float) -> None:
    """Raise ParameterError unless 0 < fraction ≤ 1."""
    if not 0 < fraction <= 1:
        raise ParameterError(f"fraction must be in (0, 1], found {fraction!r}")
