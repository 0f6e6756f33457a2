"""The measure over size of every technique and chain, with the Pareto front: mean over the seeds,
bars from the worst to the best of them. Above over the entropy-coded network, below over the file
for ONNX runtimes, which need not unpack it.
"""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import style
from matplotlib.axes import Axes
from style import BLUE, GREEN, INK, MUTED, ORANGE, PINK, SKY, VERMILION

from netreduce.chains import names

FAMILIES = {
    "analog": (INK, "o"),
    "quantization": (BLUE, "o"),
    "lumping": (ORANGE, "s"),
    "pruning": (GREEN, "^"),
    "factorization": (PINK, "v"),
    "folding": (SKY, "P"),
    "activations": (SKY, "h"),
    "mixed precision": (BLUE, "X"),
    "repair": (INK, "*"),
    "training": (MUTED, "d"),
    "chain": (VERMILION, "D"),
}

# Sizes of a network, with the label of their axis and the height of their panel (inches).
SIZES = {
    "entropy_bytes": ("size of the entropy-coded network (kB)", 4.6),
    "onnx_bytes": ("size of the .onnx file (kB)", 2.9),
}
REACH = 8  # the axis reaches down to so many times the error of the analog network


def family(chain: str) -> str:
    steps = names.steps(chain)
    return "analog" if not steps else steps[0].technique.family if len(steps) == 1 else "chain"


def merged(labels: Iterable[style.Label]) -> list[style.Label]:
    """Labels of points that fall together as one label of several lines."""
    together: list[style.Label] = []
    for x, y, text, color in labels:
        for i, (other_x, other_y, lines, first) in enumerate(together):
            if abs(x / other_x - 1) < 0.012 and abs(y - other_y) < 0.015:
                together[i] = (other_x, other_y, f"{lines}\n{text}", first)
                break
        else:
            together.append((x, y, text, color))
    return together


def main() -> None:
    arguments = style.arguments(__doc__, ("comparison", "table of all chains (.csv)"), model=True)
    table = style.read(arguments.comparison).query("model == @arguments.model")
    table, scale = style.scored(table)
    share = scale.measure.share
    sizes = [column for column in SIZES if column in table]
    points = style.over_seeds(table, "score", *sizes)
    points[sizes] /= 1000
    points[["score", "lowest", "highest"]] *= scale.factor
    # Networks far worse than the analog one would push all others together: they are drawn hollow
    # at the lower edge.
    analog = points.score[points.chain == "analog"].iloc[0]
    if share:
        limits = 100 - max(REACH * (100 - analog), 2), np.inf
    else:
        limits = -np.inf, REACH * analog or np.inf
    points = points.assign(
        family=points.chain.map(family),
        shown=points.score.clip(*limits),
        far=~points.score.between(*limits),
        lowest=points.lowest.clip(*limits),
        highest=points.highest.clip(*limits),
    )

    heights = [SIZES[column][1] for column in sizes]
    figure, panels = style.plt.subplots(
        len(sizes),
        figsize=(style.WIDTH, sum(heights)),
        height_ratios=heights,
        squeeze=False,
    )
    for axes, column in zip(panels.flat, sizes, strict=True):
        draw(axes, points.dropna(subset=column), column, scale)
    used = {name: look for name, look in FAMILIES.items() if (points.family == name).any()}
    handles = [
        style.plt.Line2D([], [], color=color, marker=marker, linestyle="none", markersize=5.5)
        for color, marker in used.values()
    ]
    figure.legend(handles, used, loc="outside upper center", ncols=len(used), handlelength=1)
    for axes, column in zip(panels.flat, sizes, strict=True):
        name_points(axes, points.dropna(subset=column), column, scale)
    style.save(figure, arguments.output)


def draw(axes: Axes, points: style.pd.DataFrame, column: str, scale: style.Scale) -> None:
    """Every chain over one kind of size, in kB, and the front."""
    points = ordered(points, column, scale)
    front = front_of(points, column, scale)
    axes.step(front[column], front.score, where="post", color=MUTED, linewidth=0.9, zorder=1)
    for name, (color, marker) in FAMILIES.items():
        rows = points[points.family == name]
        if len(rows):
            near = rows[~rows.far]
            axes.vlines(
                near[column], near.lowest, near.highest, color=color, linewidth=0.7, alpha=0.7
            )
            for part, face in ((near, color), (rows[rows.far], "white")):
                look = {
                    "color": color,
                    "markerfacecolor": face,
                    "markeredgecolor": "white" if face == color else color,
                    "markeredgewidth": 0.6,
                }
                axes.plot(part[column], part.shown, marker, markersize=5.5, **look)
    axes.set_xscale("log")
    axes.set_xlim(points[column].min() / 1.7, points[column].max() * 1.9)
    axes.set_xlabel(SIZES[column][0])
    axes.set_ylabel(f"test {scale.name}")
    style.log_ticks(axes.xaxis)
    scale.axis(axes, [*points.shown, *points.highest[~points.far]])
    if scale.measure.share:  # room for labels
        axes.set_ylim(top=100 + style.PERFECT - (100 + style.PERFECT - axes.get_ylim()[1]) / 1.25)


def front_of(points: style.pd.DataFrame, column: str, scale: style.Scale) -> style.pd.DataFrame:
    """The chains that no smaller one is as good as, the smallest first."""
    points, share = ordered(points, column, scale), scale.measure.share
    best = (
        points.score.cummax().shift(fill_value=0)
        if share
        else points.score.cummin().shift(fill_value=np.inf)
    )
    return points[points.score > best if share else points.score < best]


def ordered(points: style.pd.DataFrame, column: str, scale: style.Scale) -> style.pd.DataFrame:
    """The smallest first, of equal ones the best."""
    ascending = [True, not scale.measure.share]
    return points.sort_values([column, "score"], ascending=ascending, kind="stable")


def name_points(axes: Axes, points: style.pd.DataFrame, column: str, scale: style.Scale) -> None:
    """The front gets its labels first, then the long ones, for which it is hardest to find room."""
    points = ordered(points, column, scale)
    front = front_of(points, column, scale)
    rest = points.drop(front.index).sort_values(
        "chain", key=lambda chains: -chains.map(names.chain_name).str.len(), kind="stable"
    )
    named = style.pd.concat([front, rest])
    texts = [
        names.chain_name(chain) + (f" ({scale.text(score, digits=1)})" if far else "")
        for chain, score, far in named[["chain", "score", "far"]].to_numpy()
    ]
    colors = [FAMILIES[name][0] for name in named.family]
    corners = list(zip(front[column], front.score, strict=True))
    steps = [
        corners[0],
        *(point for (_, y), (x, top) in pairwise(corners) for point in ((x, y), (x, top))),
    ]
    bars = [
        [(x, low), (x, high)]
        for x, low, high in points.loc[~points.far, [column, "lowest", "highest"]].to_numpy()
    ]
    style.place_labels(
        axes,
        merged(zip(named[column], named.shown, texts, colors, strict=True)),
        lines=[steps, *bars],
    )


if __name__ == "__main__":
    style.run(main)
