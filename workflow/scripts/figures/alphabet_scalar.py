"""The measure over the alphabet scalar, GPFQ against MSQ, a panel for each bit width (the published
figure).
"""

import style

from netreduce.chains import names


def main() -> None:
    arguments = style.arguments(__doc__, ("sweep", "sweep tables of one model (.csv)"))
    table, scale = style.scored(style.read(arguments.sweep), "test_")
    table = table[table.alphabet_scalar.notna()]
    pair = [method for method in ("gpfq", "msq") if method in set(table.method)] or list(
        table.method.unique()
    )
    table = table[table.method.isin(pair)]
    widths = sorted(table.bits.unique())

    figure, panels = style.panels(len(widths), 2, 2.0, sharex=True, sharey="row")
    analog = scale.factor * table.analog_test_score.iloc[0]
    for axes, bits in zip(panels, widths, strict=True):
        for method in pair:
            rows = table[(table.bits == bits) & (table.method == method)].sort_values(
                "alphabet_scalar"
            )
            axes.plot(
                rows.alphabet_scalar,
                scale.factor * rows.test_score,
                label=style.method_name(method),
                **style.method_style(method),
            )
            best = rows.loc[scale.best(rows.validation_score)]
            axes.plot(best.alphabet_scalar, scale.factor * best.test_score, **style.RING)
        axes.axhline(analog, **style.ANALOG)
        axes.set_title(names.bits_name(bits), loc="left", fontweight="bold")
    scores = scale.factor * table.test_score
    scale.rows(panels, [[*scores[table.bits == bits], analog] for bits in widths])
    style.integer_axis(panels[0].xaxis)
    figure.supxlabel("alphabet scalar", fontsize=9.5)
    figure.supylabel(f"test {scale.name}", fontsize=9.5)
    handles, labels = panels[0].get_legend_handles_labels()
    chosen = style.plt.Line2D([], [], **style.RING)
    line = style.plt.Line2D([], [], **style.ANALOG)
    figure.legend(
        [*handles, line, chosen],
        [*labels, "analog", "best on validation"],
        loc="outside upper center",
        ncols=4,
        handlelength=2.6,
    )
    style.save(figure, arguments.output)


if __name__ == "__main__":
    style.run(main)
