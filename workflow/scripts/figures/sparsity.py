"""The measure over the share of weights that stay different from zero, for every pruning technique:
mean over the seeds.
"""

import re
from collections.abc import Sequence

import style

from netreduce.chains import names

FAMILIES = ("pruning", "factorization")
NUMBER = r"=[\d.]+"


def short(texts: Sequence[str]) -> list[str]:
    """The first name as it is, and of the others what differs where that is one word: NNrelief 0.8,
    0.95.
    """
    words = [text.split(" ") for text in texts]
    differ = [
        place for place, column in enumerate(zip(*words, strict=False)) if len(set(column)) > 1
    ]
    if len(differ) != 1 or len(set(map(len, words))) > 1:
        return list(texts)
    return [texts[0], *(row[differ[0]].strip(",") for row in words[1:])]


def main() -> None:
    arguments = style.arguments(__doc__, ("comparison", "table of all chains (.csv)"), model=True)
    table = style.read(arguments.comparison).query("model == @arguments.model")
    table, scale = style.scored(table)
    points = style.over_seeds(table, "score", "nonzero_weights")
    factor = scale.factor
    analog = points.set_index("chain").loc["analog"]
    points["kept"] = 100 * points.nonzero_weights / analog.nonzero_weights
    single = [
        steps[0] if len(steps) == 1 and steps[0].technique.family in FAMILIES else None
        for steps in map(names.steps, points.chain)
    ]
    pruned = points.assign(step=single).dropna(subset="step")
    pruned["series"] = [
        re.sub(NUMBER, "=", str(step)) for step in pruned.step
    ]  # one line where only numbers differ

    figure, axes = style.plt.subplots(figsize=(style.WIDTH, 3.1))
    axes.axhline(factor * analog.score, **style.ANALOG)
    labels, lines = [], []
    for index, (_, rows) in enumerate(pruned.groupby("series", sort=False)):
        rows = rows.sort_values("kept")
        look = style.series_style(index)
        axes.vlines(
            rows.kept,
            factor * rows.lowest,
            factor * rows.highest,
            color=look["color"],
            linewidth=0.7,
        )
        axes.plot(rows.kept, factor * rows.score, **look | {"markersize": 5})
        lines.append(list(zip(rows.kept, factor * rows.score, strict=True)))
        texts = short([names.step_name(step) for step in rows.step])
        labels += [
            (row.kept, factor * row.score, text, look["color"])
            for row, text in zip(rows.itertuples(), texts, strict=True)
        ]
    axes.set_xscale("log")
    axes.set_xlim(min([10, *pruned.kept]) / 1.6, 120)
    style.log_ticks(axes.xaxis)
    axes.set_xlabel("weights different from zero (% of those of the analog network)")
    axes.set_ylabel(f"test {scale.name}")
    scale.axis(
        axes,
        factor * style.pd.concat([pruned.lowest, pruned.highest, style.pd.Series([analog.score])]),
    )
    left = axes.get_xlim()[0]
    axes.annotate(
        "analog",
        (left, factor * analog.score),
        xytext=(4, 3),
        textcoords="offset points",
        fontsize=7.5,
    )
    style.place_labels(
        axes, labels, lines=[*lines, [(left, factor * analog.score), (120, factor * analog.score)]]
    )
    style.save(figure, arguments.output)


if __name__ == "__main__":
    style.run(main)
