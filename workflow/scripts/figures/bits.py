"""The measure over the bit width for every quantization method, each with the alphabet that is best
on validation.
"""

import style

from netreduce.chains import names


def main() -> None:
    arguments = style.arguments(__doc__, ("sweep", "sweep tables of one model (.csv)"))
    table, scale = style.scored(style.read(arguments.sweep), "test_")
    groups = table.groupby(["method", "bits"], sort=False)
    best = table.loc[[scale.best(rows.validation_score) for _, rows in groups]]
    widths = sorted(best.bits.unique())
    methods = list(best.method.unique())
    analog = scale.factor * table.analog_test_score.iloc[0]

    figure, axes = style.plt.subplots(figsize=(style.WIDTH, 3.1))
    ends = []
    for method in methods:
        rows = best[best.method == method].sort_values("bits")
        scores = scale.factor * rows.test_score.to_numpy()
        axes.plot([widths.index(bits) for bits in rows.bits], scores, **style.method_style(method))
        ends.append((0, scores[0], style.method_name(method), style.method_style(method)["color"]))
    axes.hlines(analog, 0, len(widths) - 1, **style.ANALOG)
    ends.append((0, analog, "analog", style.INK))
    axes.set_xlim(-0.45, len(widths) - 1 + 0.12)
    axes.set_xticks(range(len(widths)), [names.bits_name(bits) for bits in widths])
    axes.set_xlabel("alphabet")
    axes.set_ylabel(f"test {scale.name}")
    scale.axis(axes, [*(scale.factor * best.test_score), analog])
    style.label_lines(axes, ends, side="left")
    style.save(figure, arguments.output)


if __name__ == "__main__":
    style.run(main)
