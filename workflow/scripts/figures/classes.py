"""Neurons of each layer and the equivalence classes that lumping finds among them: exact, and as the published program counts them."""

import style

from netreduce import names


def main():
    arguments = style.arguments(__doc__, ("lumping", "equivalence classes of one model (.csv)"))
    table = style.read(arguments.lumping)
    layers = list(table.layer.unique())
    networks = list(table.network.unique())
    published = table.published_classes.notna().any()

    figure, panels = style.panels(len(layers), 4, 0.75 + 0.36 * len(networks), sharey=True)
    for axes, layer in zip(panels, layers, strict=True):
        rows = table[table.layer == layer].set_index("network").reindex(networks)
        for place, (_, row) in enumerate(rows.iterrows()):
            if row.isna().loc["neurons"]:
                continue
            axes.barh(place, row.neurons, 0.74, color="#e6eef4", linewidth=0, label="neurons" if place == 0 else None)
            top = 0.18 if published else 0
            axes.barh(place - top, row.classes, 0.26, color=style.BLUE, linewidth=0, label="classes, exact" if place == 0 else None)
            kept = {"color": style.INK, "linewidth": 1.6, "label": "left after lumping" if place == 0 else None}
            axes.vlines(row.neurons_after, place - 0.42, place + 0.42, **kept)
            counts = [f"{row.classes:.0f}"]
            if row.notna().loc["published_classes"]:
                look = {"color": "white", "edgecolor": style.VERMILION, "hatch": "/////", "linewidth": 0.6}
                axes.barh(place + top, row.published_classes, 0.26, label="classes, published count" if place == 0 else None, **look)
                counts.append(f"{row.published_classes:.0f}")
            for offset, count in zip((-top, top), counts, strict=False):
                axes.annotate(count, (row.neurons, place + offset), xytext=(4, 0), textcoords="offset points", va="center", fontsize=7.5)
        axes.set_title(f"{names.layer_name(layer)}: {rows.neurons.max():.0f} neurons", loc="left", fontweight="bold")
        axes.set_yticks(range(len(networks)), [names.network_name(network) for network in networks])
        axes.set_ylim(len(networks) - 0.45, -0.55)
        axes.set_xlim(0, rows.neurons.max() * 1.18)
        axes.xaxis.set_major_locator(style.MaxNLocator(integer=True, nbins=4, prune=None))
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    figure.supxlabel("neurons", fontsize=9.5)
    found = {}
    for axes in panels:
        found.update(zip(*axes.get_legend_handles_labels()[::-1], strict=True))
    order = sorted(found, key=lambda name: ("left" in name, "classes" in name, name))
    figure.legend([found[name] for name in order], order, loc="outside upper center", ncols=4)
    style.save(figure, arguments.output)


if __name__ == "__main__":
    style.run(main)
