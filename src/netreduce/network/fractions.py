"""How many of a total a fraction keeps."""

from numbers import Real

from netreduce.errors import ParameterError


def count_kept(fraction: float, total: int) -> int:
    """How many of a total are kept, at least one; raises ParameterError unless 0 < fraction ≤ 1."""
    check_fraction(fraction)
    return max(1, round(fraction * total))


def check_fraction(fraction: float) -> None:
    """Raise ParameterError unless 0 < fraction ≤ 1."""
    if not (isinstance(fraction, Real) and 0 < fraction <= 1):
        raise ParameterError(f"fraction must be in (0, 1], found {fraction!r}")
