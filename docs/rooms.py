"""Draw the rooms of the library and who imports whom: `make rooms`.

A room is a package of netreduce. It stands above all rooms that it imports, so that every arrow
points down; rooms that import each other in a circle are an error.
"""

from itertools import pairwise
from pathlib import Path

import grimp
import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt

PICTURE = Path(__file__).with_name("rooms.svg")
INK, PALE = "#1f2933", "#e8eef4"


def imports() -> dict[str, set[str]]:
    """Of every room, the rooms that it imports."""
    graph = grimp.build_graph("netreduce")
    rooms = sorted(graph.find_children("netreduce") - {"netreduce.__main__"})
    found: dict[str, set[str]] = {}
    for room in rooms:
        others = [other for other in rooms if other != room]
        found[short(room)] = {
            short(other)
            for other in others
            if graph.direct_import_exists(importer=room, imported=other, as_packages=True)
        }
    return found


def short(room: str) -> str:
    return room.removeprefix("netreduce.")


def floors(graph: dict[str, set[str]]) -> list[list[str]]:
    """The rooms floor by floor, the lowest first: each above all that it imports.

    Raises
    ------
    ValueError
        Rooms that import each other in a circle.
    """
    left, done = dict(graph), []
    while left:
        floor = [room for room, below in left.items() if not below & left.keys()]
        if not floor:
            raise ValueError(f"these rooms import each other in a circle: {', '.join(left)}")
        done.append(floor)
        for room in floor:
            del left[room]
    return done


def draw(graph: dict[str, set[str]], path: Path) -> None:
    """Rooms as boxes, imports as arrows; those that follow from others are left out."""
    matplotlib.rcdefaults()
    matplotlib.rcParams |= {"svg.hashsalt": "netreduce", "svg.fonttype": "none"}
    levels = floors(graph)
    height = {room: level for level, floor in enumerate(levels) for room in floor}
    place = {}
    for level, floor in enumerate(levels):
        for number, room in enumerate(floor):
            place[room] = (2.6 * (number - (len(floor) - 1) / 2) + 0.35 * (level % 2), 1.25 * level)
    width = max(len(floor) for floor in levels)
    figure, axes = plt.subplots(figsize=(2.3 * width, 1.15 * len(levels)), layout="constrained")
    reach = reachable(graph)
    for room, below in graph.items():
        for other in sorted(below):
            if any(other in reach[between] for between in below - {other}):
                continue
            (x, y), (u, v) = place[room], place[other]
            bend = 0.12 if height[room] - height[other] > 1 else 0
            axes.annotate(
                "",
                (u, v + 0.3),
                (x, y - 0.3),
                arrowprops={
                    "arrowstyle": "-|>",
                    "color": "#9aa5b1",
                    "lw": 1,
                    "shrinkA": 0,
                    "shrinkB": 0,
                    "connectionstyle": f"arc3,rad={bend}",
                },
            )
    for room, (x, y) in place.items():
        axes.text(
            *(x, y, room),
            ha="center",
            va="center",
            fontsize=11,
            color=INK,
            bbox={"boxstyle": "round,pad=0.5", "fc": PALE, "ec": "#bcccdc"},
        )
    axes.set_xlim(-1.45 * width, 1.45 * width)
    axes.set_ylim(-0.7, 1.25 * (len(levels) - 1) + 0.7)
    axes.axis("off")
    figure.savefig(path, metadata={"Date": None})
    plt.close(figure)


def reachable(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """All rooms below each room."""
    below: dict[str, set[str]] = {}
    for floor in floors(graph):
        for room in floor:
            below[room] = graph[room].union(*(below[other] for other in graph[room]))
    return below


if __name__ == "__main__":
    found = imports()
    for upper, lower in pairwise(reversed(floors(found))):
        print(f"{', '.join(upper)}  above  {', '.join(lower)}")
    draw(found, PICTURE)
