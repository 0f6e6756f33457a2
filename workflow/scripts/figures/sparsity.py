"""Accuracy over the share of weights that stay different from zero, for every pruning technique: mean over the seeds."""

import style

from netreduce import names

FAMILIES = ("pruning", "factorization")


def main():
    arguments = style.arguments(__doc__, ("comparison", "table of all chains (.csv)"), model=True)
    table = style.read(arguments.comparison).query("model == @arguments.model")
    points = style.over_seeds(table, "accuracy", "nonzero_weights")
    analog = points.set_index("chain").loc["analog"]
    points["kept"] = 100 * points.nonzero_weights / analog.nonzero_weights
    single = [steps[0] if len(steps) == 1 and steps[0].technique.family in FAMILIES else None for steps in map(names.steps, points.chain)]
    pruned = points.assign(step=single, technique=[step and step.name for step in single]).dropna(subset="step")

    figure, axes = style.plt.subplots(figsize=(style.WIDTH, 3.1))
    axes.axhline(100 * analog.accuracy, **style.ANALOG)
    labels = []
    for index, (_, rows) in enumerate(pruned.groupby("technique", sort=False)):
        rows = rows.sort_values("kept")
        look = style.series_style(index)
        axes.vlines(rows.kept, 100 * rows.lowest, 100 * rows.highest, color=look["color"], linewidth=0.7)
        axes.plot(rows.kept, 100 * rows.accuracy, **look | {"markersize": 5})
        labels += [(row.kept, 100 * row.accuracy, names.step_name(row.step), look["color"]) for row in rows.itertuples()]
    axes.set_xscale("log")
    axes.set_xlim(min([10, *pruned.kept]) / 1.6, 120)
    style.log_ticks(axes.xaxis)
    axes.set_xlabel("weights different from zero (% of those of the analog network)")
    axes.set_ylabel("test accuracy (%)")
    style.accuracy_axis(axes, 100 * style.pd.concat([pruned.lowest, pruned.highest, style.pd.Series([analog.accuracy])]))
    left = axes.get_xlim()[0]
    axes.annotate("analog", (left, 100 * analog.accuracy), xytext=(4, 3), textcoords="offset points", fontsize=7.5)
    style.place_labels(axes, labels, lines=[[(left, 100 * analog.accuracy), (120, 100 * analog.accuracy)]])
    style.save(figure, arguments.output)


if __name__ == "__main__":
    style.run(main)
