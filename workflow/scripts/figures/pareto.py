"""The measure over size of every technique and chain, with the Pareto front: mean over the seeds,
bars from the worst to the best of them.
"""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import style
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
    share, factor = scale.measure.share, scale.factor
    points = style.over_seeds(table, "score", "entropy_bytes")
    points = points.assign(
        kilobytes=points.entropy_bytes / 1000,
        score=factor * points.score,
        family=points.chain.map(family),
    )
    points = points.sort_values(["kilobytes", "score"], ascending=[True, not share], kind="stable")
    best = (
        points.score.cummax().shift(fill_value=0)
        if share
        else points.score.cummin().shift(fill_value=np.inf)
    )
    front = points[points.score > best if share else points.score < best]
    # Networks far worse than the analog one would push all others together: they are drawn hollow
    # at the lower edge.
    analog = points.score[points.chain == "analog"].iloc[0]
    if share:
        bottom, top = 100 - max(REACH * (100 - analog), 2), np.inf
    else:
        bottom, top = -np.inf, REACH * analog or np.inf
    points = points.assign(
        shown=points.score.clip(bottom, top), far=~points.score.between(bottom, top)
    )

    figure, axes = style.plt.subplots(figsize=(style.WIDTH, 4.6))
    axes.step(front.kilobytes, front.score, where="post", color=MUTED, linewidth=0.9, zorder=1)
    for name, (color, marker) in FAMILIES.items():
        rows = points[points.family == name]
        if len(rows):
            near = rows[~rows.far]
            axes.vlines(
                near.kilobytes,
                (factor * near.lowest).clip(bottom, top),
                (factor * near.highest).clip(bottom, top),
                color=color,
                linewidth=0.7,
                alpha=0.7,
            )
            for part, face in ((near, color), (rows[rows.far], "white")):
                look = {
                    "color": color,
                    "markerfacecolor": face,
                    "markeredgecolor": "white" if face == color else color,
                    "markeredgewidth": 0.6,
                }
                axes.plot(part.kilobytes, part.shown, marker, markersize=5.5, **look)
    axes.set_xscale("log")
    axes.set_xlim(points.kilobytes.min() / 1.7, points.kilobytes.max() * 1.9)
    axes.set_xlabel("size of the entropy-coded network (kB)")
    axes.set_ylabel(f"test {scale.name}")
    style.log_ticks(axes.xaxis)
    scale.axis(axes, [*points.shown, *(factor * points.highest[~points.far]).clip(bottom, top)])
    if share:  # room for labels
        axes.set_ylim(top=100 + style.PERFECT - (100 + style.PERFECT - axes.get_ylim()[1]) / 1.25)
    used = {name: look for name, look in FAMILIES.items() if (points.family == name).any()}
    handles = [
        style.plt.Line2D([], [], color=color, marker=marker, linestyle="none", markersize=5.5)
        for color, marker in used.values()
    ]
    figure.legend(handles, used, loc="outside upper center", ncols=len(used), handlelength=1)

    # The front gets its labels first, then the long ones, for which it is hardest to find room.
    rest = points.drop(front.index).sort_values(
        "chain", key=lambda chains: -chains.map(names.chain_name).str.len(), kind="stable"
    )
    ordered = style.pd.concat([points.loc[front.index], rest])
    texts = [
        names.chain_name(chain) + (f" ({scale.text(score, digits=1)})" if far else "")
        for chain, score, far in ordered[["chain", "score", "far"]].to_numpy()
    ]
    colors = [FAMILIES[name][0] for name in ordered.family]
    corners = list(zip(front.kilobytes, front.score, strict=True))
    steps = [
        corners[0],
        *(point for (_, y), (x, top) in pairwise(corners) for point in ((x, y), (x, top))),
    ]
    bars = [
        [(x, max(factor * low, bottom)), (x, min(factor * high, top))]
        for x, low, high in points.loc[~points.far, ["kilobytes", "lowest", "highest"]].to_numpy()
    ]
    style.place_labels(
        axes,
        merged(zip(ordered.kilobytes, ordered.shown, texts, colors, strict=True)),
        lines=[steps, *bars],
    )
    style.save(figure, arguments.output)


if __name__ == "__main__":
    style.run(main)
