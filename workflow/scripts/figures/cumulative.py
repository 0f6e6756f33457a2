"""Accuracy as the layers are quantized one after the other, a panel for each bit width."""

import style

from netreduce.chains import names


def main() -> None:
    arguments = style.arguments(__doc__, ("layers", "accuracy layer by layer (.csv)"))
    table = style.read(arguments.layers).query("kind == 'cumulative'")
    analog = 100 * table.analog_accuracy.iloc[0]
    widths = sorted(table.bits.unique())
    layers = table.drop_duplicates("layer").sort_values("position").layer
    methods = list(table.method.unique())

    figure, panels = style.panels(len(widths), 2, 2.05, sharex=True, sharey="row")
    for axes, bits in zip(panels, widths, strict=True):
        for method in methods:
            rows = table[(table.bits == bits) & (table.method == method)].sort_values("position")
            axes.plot(
                [0, *rows.position],
                [analog, *(100 * rows.test_accuracy)],
                label=style.method_name(method),
                **style.method_style(method),
            )
        axes.axhline(analog, **style.ANALOG)
        axes.set_title(names.bits_name(bits), loc="left", fontweight="bold")
        axes.set_xticks(
            range(len(layers) + 1), ["none", *(f"+ {names.layer_name(layer)}" for layer in layers)]
        )
        style.slant(axes, len(layers) > 3)
    style.accuracy_rows(
        panels, [[*(100 * table.test_accuracy[table.bits == bits]), analog] for bits in widths]
    )
    figure.supxlabel("layers quantized", fontsize=9.5)
    figure.supylabel("test accuracy (%)", fontsize=9.5)
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
