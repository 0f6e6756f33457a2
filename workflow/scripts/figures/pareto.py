"""Accuracy over size of every technique and chain, with the Pareto front: mean over the seeds, bars from the worst to the best of them."""

from itertools import pairwise

import style
from style import BLUE, GREEN, INK, MUTED, ORANGE, PINK, SKY, VERMILION

from netreduce import names

FAMILIES = {
    "analog": (INK, "o"),
    "quantization": (BLUE, "o"),
    "lumping": (ORANGE, "s"),
    "pruning": (GREEN, "^"),
    "factorization": (PINK, "v"),
    "folding": (SKY, "P"),
    "chain": (VERMILION, "D"),
}


def family(chain):
    steps = names.steps(chain)
    return "analog" if not steps else steps[0].technique.family if len(steps) == 1 else "chain"


def main():
    arguments = style.arguments(__doc__, ("comparison", "table of all chains (.csv)"), model=True)
    table = style.read(arguments.comparison).query("model == @arguments.model")
    points = style.over_seeds(table, "accuracy", "entropy_bytes")
    points = points.assign(kilobytes=points.entropy_bytes / 1000, percent=100 * points.accuracy, family=points.chain.map(family))
    points = points.sort_values(["kilobytes", "percent"], ascending=[True, False])
    front = points[points.percent > points.percent.cummax().shift(fill_value=0)]

    figure, axes = style.plt.subplots(figsize=(style.WIDTH, 4.6))
    axes.step(front.kilobytes, front.percent, where="post", color=MUTED, linewidth=0.9, zorder=1)
    for name, (color, marker) in FAMILIES.items():
        rows = points[points.family == name]
        if len(rows):
            look = {"color": color, "marker": marker, "markersize": 5.5, "markeredgecolor": "white", "markeredgewidth": 0.5}
            axes.vlines(rows.kilobytes, 100 * rows.lowest, 100 * rows.highest, color=color, linewidth=0.7, alpha=0.7)
            axes.plot(rows.kilobytes, rows.percent, linestyle="none", label=name, **look)
    axes.set_xscale("log")
    axes.set_xlim(points.kilobytes.min() / 1.7, points.kilobytes.max() * 1.9)
    axes.set_xlabel("size of the entropy-coded network (kB)")
    axes.set_ylabel("test accuracy (%)")
    style.log_ticks(axes.xaxis)
    style.accuracy_axis(axes, 100 * points[["lowest", "highest"]].to_numpy().ravel())
    figure.legend(loc="outside upper center", ncols=len(FAMILIES), handlelength=1)
    ordered = style.pd.concat([front, points.drop(front.index)])
    columns = zip(ordered.kilobytes, ordered.percent, ordered.chain.map(names.chain_name), ordered.family, strict=True)
    labels = [(x, y, text, FAMILIES[family][0]) for x, y, text, family in columns]
    corners = list(zip(front.kilobytes, front.percent, strict=True))
    steps = [corners[0], *(point for (_, y), (x, top) in pairwise(corners) for point in ((x, y), (x, top)))]
    bars = [[(x, 100 * low), (x, 100 * high)] for x, low, high in zip(points.kilobytes, points.lowest, points.highest, strict=True)]
    style.place_labels(axes, labels, lines=[steps, *bars])
    style.save(figure, arguments.output)


if __name__ == "__main__":
    style.run(main)
