"""Neurons of each layer and the equivalence classes that lumping finds among them: exact, and as
the published program counts them.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd
import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from netreduce.chains import names

MOST_IN_LINE = 3  # panels beside each other whose titles fit in a line
PUBLISHED = {"color": "white", "edgecolor": style.VERMILION, "hatch": "/////", "linewidth": 0.6}


def draw(axes: Axes, table: pd.DataFrame, networks: Sequence[str], separator: str = " ") -> None:
    """Bars for one layer, a row for each network; where there are several models, their mean with a
    whisker from the least to the most.
    """
    neurons = table.neurons.max()
    for place, network in enumerate(networks):
        rows = table[table.network == network]
        if rows.empty:
            continue
        axes.barh(place, neurons, 0.74, color="#e6eef4", linewidth=0, label="neurons")
        bars = [(rows.classes, "classes, exact", {"color": style.BLUE, "linewidth": 0})]
        if rows.published_classes.notna().all():
            bars.append((rows.published_classes, "classes, published count", PUBLISHED))
        for offset, (counts, label, look) in zip((-0.18, 0.18), bars, strict=False):
            axes.barh(place + offset, counts.mean(), 0.26, label=label, **look)
            if counts.min() < counts.max():
                axes.hlines(
                    place + offset, counts.min(), counts.max(), color=style.INK, linewidth=0.8
                )
            text = f"{counts.mean():.1f}".removesuffix(".0")
            axes.annotate(
                text,
                (neurons, place + offset),
                xytext=(4, 0),
                textcoords="offset points",
                va="center",
                fontsize=7.5,
            )
        axes.vlines(
            rows.neurons_after.mean(),
            place - 0.42,
            place + 0.42,
            color=style.INK,
            linewidth=1.6,
            label="left after lumping",
        )
    axes.set_title(
        f"{names.layer_name(table.layer.iloc[0])}:{separator}{neurons:.0f} neurons",
        loc="left",
        fontweight="bold",
    )
    axes.set_yticks(range(len(networks)), [names.network_name(network) for network in networks])
    axes.set_ylim(len(networks) - 0.45, -0.55)
    axes.set_xlim(0, neurons * 1.18)
    axes.xaxis.set_major_locator(style.MaxNLocator(integer=True, nbins=4))
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend above all panels: neurons, classes, what is left."""
    found: dict[str, Any] = {}
    for axes in panels:
        found |= {
            label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
    order = sorted(found, key=lambda label: ("left" in label, "classes" in label, label))
    figure.supxlabel("neurons", fontsize=9.5)
    handles = [found[label] for label in order]
    figure.legend(handles=handles, labels=order, loc="outside upper center", ncols=4)


def main() -> None:
    arguments = style.arguments(__doc__, ("lumping", "equivalence classes of one model (.csv)"))
    table = style.read(arguments.lumping)
    layers, networks = list(table.layer.unique()), list(table.network.unique())
    figure, panels = style.panels(len(layers), 4, 0.75 + 0.36 * len(networks), sharey=True)
    for axes, layer in zip(panels, layers, strict=True):
        draw(
            axes, table[table.layer == layer], networks, "\n" if len(layers) > MOST_IN_LINE else " "
        )
    legend(figure, panels)
    style.save(figure, arguments.output)


if __name__ == "__main__":
    style.run(main)
