"""Distribution of the weights of each layer before quantization (grey area) and after it (bars on
the levels), a column for each bit width.
"""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import style

from netreduce.chains import names
from netreduce.formats import load
from netreduce.network import Network

PAGE = 8.2  # inches: the most that a figure may take of a page


def kernel(network: Network, layer: int) -> Any:
    """The weights of a layer, None where it has none."""
    return getattr(network.layers[layer], "kernel", None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--analog", type=Path, required=True, help="analog network (.h5)")
    parser.add_argument(
        "--quantized",
        type=Path,
        nargs="+",
        required=True,
        help="its quantized networks, one for each bit width",
    )
    parser.add_argument("--bits", type=float, nargs="+", required=True)
    parser.add_argument("--output", type=Path, required=True, help="where the figure goes (.svg)")
    arguments = parser.parse_args()

    analog = load(arguments.analog)
    paths = sorted(zip(arguments.bits, arguments.quantized, strict=True))
    quantized = {bits: load(path) for bits, path in paths}
    layers = [index for index in range(len(analog.layers)) if kernel(analog, index) is not None]

    row_height = 1.1 if len(layers) <= 3 else 0.68
    height = min(row_height * len(layers) + 0.6, PAGE)
    figure, grid = style.plt.subplots(
        len(layers),
        len(quantized),
        figsize=(style.WIDTH, height),
        squeeze=False,
        sharex="row",
        sharey=True,
    )
    for row, index in zip(grid, layers, strict=True):
        weights = kernel(analog, index).ravel()
        reach = max(
            np.quantile(np.abs(weights), 0.995),
            *(np.abs(kernel(network, index)).max() for network in quantized.values()),
        )
        edges = np.linspace(-1.12 * reach, 1.12 * reach, 61)
        density, _ = np.histogram(weights, edges)
        for axes, (bits, network) in zip(row, quantized.items(), strict=True):
            # Both are drawn relative to their highest value: a density and shares of levels have no
            # common unit.
            axes.stairs(density / density.max(), edges, fill=True, color="#cfcfcf", linewidth=0)
            levels, counts = np.unique(kernel(network, index), return_counts=True)
            # An even number of levels has no zero among them: there, zeros are the weights of
            # inputs that are never different from zero.
            dead = (levels == 0) & (bits != names.TERNARY)
            for shown, color in ((~dead, style.BLUE), (dead, style.VERMILION)):
                axes.vlines(
                    levels[shown],
                    0,
                    counts[shown] / counts.max(),
                    color=color,
                    linewidth=max(1.2, 9 / len(levels)),
                )
            axes.set_yticks([])
            axes.grid(visible=False)
            axes.spines["left"].set_visible(False)
            axes.xaxis.set_major_locator(style.MaxNLocator(nbins=3, symmetric=True))
        row[0].set_ylabel(
            names.layer_name(analog.names[index]), rotation=0, ha="right", va="center"
        )
    for axes, bits in zip(grid[0], quantized, strict=True):
        axes.set_title(names.bits_name(bits), fontweight="bold")
    figure.supxlabel("weight", fontsize=9.5)
    style.save(figure, arguments.output)


if __name__ == "__main__":
    style.run(main)
