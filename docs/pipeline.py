"""Draw the pipeline, the rules of the workflow and what each needs: `make pipeline`.

The graph is Snakemake's own, of the default configuration. The picture goes into README, the site
and the thesis.
"""

import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import Patch

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "report/pipeline.svg"
INK, LINE = "#1f2933", "#8a95a1"
STAGES = {  # files of rules, and the colour of theirs
    "data": "#dde3ea",
    "train": "#fbe0b0",
    "convert": "#f6d5e4",
    "quantize": "#cfe3f5",
    "lump": "#cdebdf",
    "compare": "#f8d2bf",
    "certify": "#ded6f2",
    "deploy": "#e6efc2",
    "report": "#eeeeee",
}
SWEEPS = 24  # over the floors, until lines cross little
Graph = dict[str, set[str]]


def graph(folder: Path = ROOT) -> Graph:
    """Of every rule of the default configuration, the rules whose files it needs."""
    command = ["snakemake", "--cores", "1", "--forceall", "--rulegraph", "dot", "--quiet", "all"]
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=folder, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr)
    labels = re.findall(r'^\s*(\d+)\[\s*label = "(\w+)"', done.stdout, re.MULTILINE)
    # one for each method, and for models with alphabets of their own
    names = {number: re.sub("^sweep_.*", "sweep", name) for number, name in labels}
    found: Graph = {name: set() for name in names.values()}
    for below, above in re.findall(r"^\s*(\d+) -> (\d+)", done.stdout, re.MULTILINE):
        found[names[above]].add(names[below])
    return {rule: found[rule] for rule in sorted(found)}


def needed(rules: Graph) -> Graph:
    """The graph without what follows from others, and without rules that need themselves."""
    below = {rule: others - {rule} for rule, others in rules.items()}
    reach: Graph = {}

    def reached(rule: str) -> set[str]:
        if rule not in reach:
            reach[rule] = below[rule].union(*map(reached, below[rule]))
        return reach[rule]

    return {
        rule: {one for one in others if not any(one in reached(two) for two in others - {one})}
        for rule, others in below.items()
    }


def floors(rules: Graph) -> list[list[str]]:
    """Rules floor by floor, each below all that it needs; a line that passes a floor has a place of
    its own there, `above>below@floor`. Places are in the order in which lines cross little.
    """
    height = heights(rules)
    levels: list[list[str]] = [[] for _ in range(max(height.values()) + 1)]
    neighbours: dict[str, list[str]] = {}
    for rule in rules:
        levels[height[rule]].append(rule)
    for rule, others in rules.items():
        for one in sorted(others):
            passed = [f"{one}>{rule}@{level}" for level in range(height[one] + 1, height[rule])]
            for place in passed:
                levels[int(place.rpartition("@")[2])].append(place)
            for a, b in pairwise([one, *passed, rule]):
                neighbours.setdefault(a, []).append(b)
                neighbours.setdefault(b, []).append(a)
    for sweep in range(SWEEPS):
        order = range(1, len(levels)) if sweep % 2 == 0 else range(len(levels) - 2, -1, -1)
        for level in order:
            beside = levels[level + (-1 if sweep % 2 == 0 else 1)]
            place = {name: number / len(beside) for number, name in enumerate(beside)}

            def middle(name: str, place: dict[str, float] = place) -> float:
                known = [place[one] for one in neighbours.get(name, ()) if one in place]
                return sum(known) / len(known) if known else 0.5

            levels[level].sort(key=middle)
    return levels


def heights(rules: Graph) -> dict[str, int]:
    """The floor of every rule: as far down as lengthens no lines."""
    height: dict[str, int] = {}

    def depth(rule: str) -> int:
        if rule not in height:
            height[rule] = max((depth(one) + 1 for one in rules[rule]), default=0)
        return height[rule]

    for rule in sorted(rules, key=depth, reverse=True):
        users = [other for other, needs in rules.items() if rule in needs]
        if users and len(rules[rule]) <= len(users):
            height[rule] = min(height[user] for user in users) - 1
    return height


def stage(rule: str) -> str:
    """The file that a rule stands in."""
    for path in sorted((ROOT / "rules").glob("*.smk")):
        text = path.read_text(encoding="utf-8")
        if re.search(rf"^rule {rule}:|^ +{rule}_rule\(", text, re.MULTILINE):
            return path.stem
    return "report"


def draw(rules: Graph, path: Path) -> None:
    """Rules as boxes in the colour of their file, an arrow to each from what it needs."""
    matplotlib.rcdefaults()
    matplotlib.rcParams |= {"svg.hashsalt": "netreduce", "font.family": "DejaVu Sans"}
    lines = needed(rules)
    levels = floors(lines)
    widest = max(map(len, levels))
    place = {}
    for level, names in enumerate(levels):
        step = min(widest / len(names), 1.6)
        for number, name in enumerate(names):
            place[name] = (step * (number - (len(names) - 1) / 2), -float(level))
    figure, axes = plt.subplots(figsize=(8.6, 0.68 * len(levels) + 0.5), layout="constrained")
    for rule, others in lines.items():
        for one in sorted(others):
            passed = sorted(
                (name for name in place if name.startswith(f"{one}>{rule}@")),
                key=lambda name: -place[name][1],
            )
            arrow(
                axes, [place[name] for name in (one, *passed, rule)], 0.33 if "_" in rule else 0.2
            )
    for rule in rules:
        text = rule.replace("_", "\n") + (" ↻" if rule in rules[rule] else "")
        look = {"boxstyle": "round,pad=0.35", "fc": STAGES[stage(rule)], "ec": "#9fb0c0", "lw": 0.7}
        axes.text(
            *place[rule],
            text,
            ha="center",
            va="center",
            fontsize=8,
            linespacing=1,
            color=INK,
            bbox=look,
        )
    used = [name for name in STAGES if any(stage(rule) == name for rule in rules)]
    patches = [Patch(fc=STAGES[name], ec="#9fb0c0", label=f"rules/{name}.smk") for name in used]
    figure.legend(handles=patches, loc="outside lower center", ncols=5, frameon=False, fontsize=7.5)
    axes.set_xlim(-widest / 2 - 0.2, widest / 2 + 0.2)
    axes.set_ylim(0.45 - len(levels), 0.45)
    axes.axis("off")
    figure.savefig(path, metadata={"Date": None, "Creator": None})
    plt.close(figure)


def arrow(axes: Axes, points: list[tuple[float, float]], above: float) -> None:
    """A line through the places, with its head so much above the last one."""
    xs, ys = zip(*points, strict=True)
    axes.plot(xs[:-1], ys[:-1], color=LINE, linewidth=0.8, solid_joinstyle="round", zorder=0)
    axes.annotate(
        "",
        (xs[-1], ys[-1] + above),
        (xs[-2], ys[-2]),
        arrowprops={"arrowstyle": "-|>", "color": LINE, "lw": 0.8, "shrinkA": 0, "shrinkB": 0},
        zorder=0,
    )


if __name__ == "__main__":
    draw(graph(), PICTURE)
