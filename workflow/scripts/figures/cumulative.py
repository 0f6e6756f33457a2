"""The measure as the layers are quantized one after the other, a panel for each bit width."""

import style

from netreduce.chains import names


def main() -> None:
    arguments = style.arguments(__doc__, ("layers", "measure layer by layer (.csv)"))
    table, scale = style.scored(style.read(arguments.layers), "test_")
    table = table.query("kind == 'cumulative'")
    analog = scale.factor * table.analog_score.iloc[0]
    widths = sorted(table.bits.unique())
    layers = table.drop_duplicates("layer").sort_values("position").layer
    methods = list(table.method.unique())

    columns = 4 if len(layers) <= 5 else 2
    figure, panels = style.panels(len(widths), columns, 2.15, sharex=True, sharey="row")
    for axes, bits in zip(panels, widths, strict=True):
        for method in methods:
            rows = table[(table.bits == bits) & (table.method == method)].sort_values("position")
            axes.plot(
                [0, *rows.position],
                [analog, *(scale.factor * rows.test_score)],
                label=style.method_name(method),
                **style.method_style(method),
            )
        axes.axhline(analog, **style.ANALOG)
        axes.set_title(names.bits_name(bits), loc="left", fontweight="bold")
        axes.set_xticks(
            range(len(layers) + 1), ["none", *(f"+ {names.layer_name(layer)}" for layer in layers)]
        )
        style.slant(axes, columns * (len(layers) + 1) > 8)
    scores = scale.factor * table.test_score
    scale.rows(panels, [[*scores[table.bits == bits], analog] for bits in widths])
    figure.supxlabel("layers quantized", fontsize=9.5)
    figure.supylabel(f"test {scale.name}", fontsize=9.5)
    handles, labels = panels[0].get_legend_handles_labels()
    line = style.plt.Line2D([], [], **style.ANALOG)
    figure.legend(
        [*handles, line],
        [*labels, "analog"],
        loc="outside upper center",
        ncols=len(labels) + 1,
        handlelength=2.6,
    )
    style.save(figure, arguments.output)


if __name__ == "__main__":
    style.run(main)
