"""What is lost when a single layer is quantized and all others stay analog, a panel for each bit
width.
"""

import style

from netreduce.chains import names


def main() -> None:
    arguments = style.arguments(__doc__, ("layers", "measure layer by layer (.csv)"))
    table, scale = style.scored(style.read(arguments.layers), "test_")
    table = table.query("kind == 'single'")
    sign = scale.factor if scale.measure.share else -1
    table = table.assign(lost=sign * (table.analog_score - table.test_score))
    widths = sorted(table.bits.unique())
    layers = list(table.drop_duplicates("layer").sort_values("position").layer)
    methods = list(table.method.unique())

    height = 0.6 + 0.11 * len(layers) * (len(methods) + 1)
    figure, panels = style.panels(len(widths), 4, max(height, 1.9), sharey=True)
    for axes, bits in zip(panels, widths, strict=True):
        for place, layer in enumerate(layers):
            if place % 2:
                axes.axhspan(place - 0.5, place + 0.5, color="#f5f5f5", linewidth=0, zorder=0)
            for i, method in enumerate(methods):
                rows = table[
                    (table.bits == bits) & (table.layer == layer) & (table.method == method)
                ]
                y = place + (i - (len(methods) - 1) / 2) * 0.8 / len(methods)
                mark = style.method_style(method) | {
                    "linestyle": "none",
                    "label": style.method_name(method) if place == 0 else None,
                }
                axes.hlines(y, 0, rows.lost, color=mark["color"], linewidth=1)
                axes.plot(rows.lost, [y] * len(rows), **mark)
        axes.axvline(0, color=style.INK, linewidth=0.6)
        axes.set_yticks(range(len(layers)), [names.layer_name(layer) for layer in layers])
        axes.set_ylim(len(layers) - 0.5, -0.5)
        axes.grid(visible=False, axis="y")
        axes.set_title(names.bits_name(bits), loc="left", fontweight="bold")
        axes.margins(x=0.08)
    short = scale.name.removesuffix(" (%)")
    lost = (
        f"test {short} lost (percentage points)"
        if scale.measure.share
        else f"increase of the test {short}"
    )
    figure.supxlabel(lost, fontsize=9.5)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    style.save(figure, arguments.output)


if __name__ == "__main__":
    style.run(main)
