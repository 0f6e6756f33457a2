"""The bits of every layer of networks in mixed precision: a row for each chain, a column for each
layer.
"""

import argparse
from pathlib import Path

import numpy as np
import seaborn
import style

from netreduce.chains import names
from netreduce.formats import load
from netreduce.network.layers import Weighted

MOST = 8  # bits of the darkest cell


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--networks", type=Path, nargs="+", required=True, help="network of each chain (.h5)"
    )
    parser.add_argument("--chains", nargs="+", required=True, help="their paths")
    parser.add_argument("--output", type=Path, required=True, help="where the figure goes (.svg)")
    arguments = parser.parse_args()

    rows = [chosen(path) for path in arguments.networks]
    layers = list(dict.fromkeys(layer for row in rows for layer in row))
    bits = np.array([[row.get(layer, np.nan) for layer in layers] for row in rows])

    figure, axes = style.plt.subplots(figsize=(style.WIDTH, 0.8 + 0.31 * len(rows)))
    colors = seaborn.color_palette("crest", as_cmap=True)
    axes.set_facecolor("#f4f4f4")
    axes.imshow(bits, cmap=colors, vmin=1, vmax=MOST, aspect="auto")
    for (i, j), value in np.ndenumerate(bits):
        if not np.isnan(value):
            color = "white" if value > MOST / 2 else style.INK
            axes.text(j, i, f"{value:g}", ha="center", va="center", fontsize=8, color=color)
    axes.set_xticks(range(len(layers)), [names.layer_name(layer) for layer in layers])
    axes.set_yticks(range(len(rows)), [names.chain_name(chain) for chain in arguments.chains])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.tick_params(axis="x", rotation=30 if len(layers) > 6 else 0)
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    style.save(figure, arguments.output)


def chosen(path: Path) -> dict[str, float]:
    """The bits of the quantized layers of a network, 1.58 of ternary ones."""
    network = load(path)
    return {
        name: round(layer.quantization.bits, 2)
        for name, layer in zip(network.names, network.layers, strict=True)
        if isinstance(layer, Weighted) and layer.quantization is not None
    }


if __name__ == "__main__":
    style.run(main)
