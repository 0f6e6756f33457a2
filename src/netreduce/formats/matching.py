"""Which modules of a state_dict are which layers of an architecture, where their names are not
those of the layers.

PyTorch saves modules in the order of their registration, which is mostly the one in which they run.
Other writers sort them by name. What names and shapes prove goes before the order of the file:
modules of one kind run in the order of the numbers in their names, a container runs as a whole, and
batch normalization right behind a layer has that layer's number. Where that leaves two readings,
none is chosen.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from netreduce.errors import ModelFileError

MOST_READINGS = 2000  # partial ones, followed at a time
NUMBER = re.compile(r"\d+")


@dataclass(frozen=True)
class Needed:
    """A layer with parameters: its roles with their shapes (numbers of values where the file has
    no shapes), those it may lack, and whether it normalizes what the one before it computes.
    """

    name: str
    roles: Mapping[str, object]
    optional: frozenset[str] = frozenset()
    normalizes: bool = False

    def fits(self, roles: Mapping[str, object], shapes: bool = True) -> bool:
        """Whether a module with these roles (and shapes) can be this layer."""
        return (
            roles.keys() <= self.roles.keys()
            and self.roles.keys() - roles.keys() <= self.optional
            and (not shapes or all(self.roles[role] == shape for role, shape in roles.items()))
        )


def match(
    modules: Mapping[str, Mapping[str, object]], needed: Sequence[Needed], ordered: bool
) -> list[str] | None:
    """For every layer the module that it is; None where no assignment fits.

    Parameters
    ----------
    modules : mapping of str to mapping
        Roles and shapes of every module by its name, in the order of the file.
    needed : sequence of Needed
        In the order in which they run.
    ordered : bool
        Whether the order of the file may be that of the layers.

    Raises
    ------
    ModelFileError
        Two assignments fit: names a layer and what it is in each.

    Examples
    --------
    >>> modules = {f"layers.{i}": {"weight": (4, 4)} for i in (0, 1, 10, 2)}
    >>> layers = [Needed(f"dense_{i}", {"weight": (4, 4)}) for i in (1, 2, 3, 4)]
    >>> match(modules, layers, ordered=True)
    ['layers.0', 'layers.1', 'layers.2', 'layers.10']
    """
    if len(modules) != len(needed):
        return None
    names = list(modules)
    ordered = ordered and not (names == sorted(names) and _bias_first(modules.values()))
    fits = all(layer.fits(modules[name]) for name, layer in zip(names, needed, strict=True))
    counted = _counts_up(names)
    if fits and ordered and counted:
        return names
    readings = _readings(modules, needed, whole=True) or _readings(modules, needed, whole=False)
    if fits and ordered and names != sorted(names) and names not in readings:
        readings.append(names)
    if len(readings) > 1:
        raise ModelFileError(_ambiguity(readings, needed))
    return readings[0] if readings else None


def natural_order(name: str) -> list[str | int]:
    """A key that sorts names by the numbers in them: a2 before a10."""
    parts = re.split(NUMBER, name)
    return [part for pair in zip(parts, [*_numbers(name), 0], strict=True) for part in pair]


def _bias_first(modules: Iterable[Mapping[str, object]]) -> bool:
    """Whether biases come before weights, as in no module of PyTorch: somebody sorted the names."""
    orders = [list(roles) for roles in modules]
    return any(
        order.index("bias") < order.index("weight")
        for order in orders
        if {"bias", "weight"} <= set(order)
    )


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(map(int, NUMBER.findall(name)))


def _kind(name: str) -> str:
    """The name without its numbers."""
    return NUMBER.sub("#", name)


def _counts_up(names: Sequence[str]) -> bool:
    """Whether names that differ in their numbers only stand in the order of these."""
    last: dict[str, tuple[int, ...]] = {}
    for name in names:
        kind, numbers = _kind(name), _numbers(name)
        if numbers < last.get(kind, ()):
            return False
        last[kind] = numbers
    return True


@dataclass(frozen=True)
class _Reading:
    """An assignment of the first layers: how many modules of every kind it has used, the last one
    of them, and the reading before.
    """

    used: tuple[int, ...]
    name: str | None = None
    before: "_Reading | None" = field(default=None, compare=False, repr=False)

    def names(self) -> list[str]:
        found: list[str] = []
        reading: _Reading | None = self
        while reading is not None and reading.name is not None:
            found.append(reading.name)
            reading = reading.before
        return found[::-1]


def _readings(
    modules: Mapping[str, Mapping[str, object]], needed: Sequence[Needed], whole: bool
) -> list[list[str]]:
    """Two of the assignments, or as many as there are, in which the shapes fit and numbers count
    up; with `whole`, in which no container is left before all of it has run.
    """
    queues: dict[str, list[str]] = {}
    for name in modules:
        queues.setdefault(_kind(name), []).append(name)
    kinds = [sorted(queue, key=_numbers) for queue in queues.values()]
    containers = _containers(kinds)
    open_readings = [_Reading((0,) * len(kinds))]
    for layer in needed:
        found: dict[_Reading, int] = {}
        following = []
        for reading in open_readings:
            heads = [
                (i, queue[used])
                for i, (queue, used) in enumerate(zip(kinds, reading.used, strict=True))
                if used < len(queue) and layer.fits(modules[queue[used]])
            ]
            if layer.normalizes:
                heads = [head for head in heads if _siblings(reading.name, head[1])] or heads
            for i, name in heads:
                if whole and not _may_follow(reading, name, containers):
                    continue
                used = (*reading.used[:i], reading.used[i] + 1, *reading.used[i + 1 :])
                extended = _Reading(used, name, reading)
                found[extended] = found.get(extended, 0) + 1
                if found[extended] <= 2:
                    following.append(extended)
        if len(following) > MOST_READINGS:
            raise ModelFileError(
                f"the names leave too many ways to read the tensors at {layer.name}: save them with"
                " torch.save in the order in which the layers run, under names that count up"
            )
        open_readings = following
    return [reading.names() for reading in open_readings[:2]]


def _containers(kinds: Sequence[Sequence[str]]) -> dict[str, dict[int, list[int]]]:
    """For every container and kind, how many of the first modules of that kind lie in it."""
    paths = {path for queue in kinds for name in queue for path in _paths(name)}
    return {
        path: {
            i: list(accumulate((name.startswith(path) for name in queue), initial=0))
            for i, queue in enumerate(kinds)
            if any(name.startswith(path) for name in queue)
        }
        for path in paths
    }


def _paths(name: str) -> list[str]:
    """The containers around a module: "a.", "a.b." of "a.b.c"."""
    return [name[: dot.end()] for dot in re.finditer(r"\.", name)]


def _may_follow(
    reading: _Reading, name: str, containers: Mapping[str, Mapping[int, Sequence[int]]]
) -> bool:
    """Whether all containers that are left on the way to a module have run as a whole."""
    return all(
        counts[reading.used[i]] == counts[-1]
        for path in _paths(reading.name or "")
        if not name.startswith(path)
        for i, counts in containers[path].items()
    )


def _siblings(name: str | None, other: str) -> bool:
    """Whether two modules stand in one container under the same number."""
    parent, _, own = (name or "").rpartition(".")
    other_parent, _, other_own = other.rpartition(".")
    return parent == other_parent and _numbers(own) == _numbers(other_own)


def _ambiguity(readings: Sequence[Sequence[str]], needed: Sequence[Needed]) -> str:
    layer, first, second = next(
        (layer.name, first, second)
        for layer, first, second in zip(needed, *readings[:2], strict=True)
        if first != second
    )
    return (
        "the order of the file and the numbers in its names leave more than one way to read it:"
        f" {layer} may be {first!r} or {second!r}; save the tensors with torch.save in the order"
        f" in which the layers run, under names that count up, or under the names {needed[0].name},"
        f" …, {needed[-1].name}"
    )
