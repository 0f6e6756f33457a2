"""Heat map of the chains: a row for the techniques around the quantizer, a column for the quantizer; accuracy in colour, size below it."""

import numpy as np
import style

from netreduce import names

ALONE, NONE = "quantizer alone", "no quantizer"


def split(chain):
    """A chain as (row, column): the first quantizer, in words, is the column, and the row names what stands around it."""
    steps = names.steps(chain)
    for index, step in enumerate(steps):
        if step.technique.family == "quantization":
            around = [*map(names.step_name, steps[:index]), "quantizer", *map(names.step_name, steps[index + 1 :])]
            return " → ".join(around) if len(around) > 1 else ALONE, names.step_name(step)
    return names.chain_name(chain) if steps else ALONE, NONE


def main():
    arguments = style.arguments(__doc__, ("comparison", "table of all chains (.csv)"), model=True)
    table = style.read(arguments.comparison).query("model == @arguments.model")
    points = style.over_seeds(table, "accuracy", "entropy_bytes")
    cells = {split(chain): (100 * accuracy, size) for chain, accuracy, size in zip(points.chain, points.accuracy, points.entropy_bytes, strict=True)}
    rows = list(dict.fromkeys(row for row, _ in cells))
    columns = list(dict.fromkeys(column for _, column in cells))
    error = np.full((len(rows), len(columns)), np.nan)
    for (row, column), (accuracy, _) in cells.items():
        error[rows.index(row), columns.index(column)] = np.log10(max(100 - accuracy, 0.05))

    figure, axes = style.plt.subplots(figsize=(style.WIDTH, 0.8 + 0.31 * len(rows)))
    span = np.nanmin(error), max(np.nanmax(error), np.nanmin(error) + 0.2)
    colors = style.sns.color_palette("crest_r", as_cmap=True)
    axes.set_facecolor("#f4f4f4")
    axes.imshow(error, cmap=colors, vmin=span[0], vmax=span[1], aspect="auto")
    for (row, column), (accuracy, size) in cells.items():
        i, j = rows.index(row), columns.index(column)
        dark = (error[i, j] - span[0]) / (span[1] - span[0]) < 0.55
        text = {"ha": "center", "va": "center", "color": "white" if dark else style.INK}
        axes.text(j, i - 0.16, f"{accuracy:.2f} %", fontsize=8, **text)
        axes.text(j, i + 0.22, f"{size / 1000:,.0f} kB", fontsize=6.5, **text)
    axes.set_xticks(range(len(columns)), [column.replace(" ", "\n", 1).replace(", ", "\n") for column in columns])
    axes.set_yticks(range(len(rows)), rows)
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.grid(visible=False)
    for edge in range(1, len(rows)):
        axes.axhline(edge - 0.5, color="white", linewidth=1.5)
    for edge in range(1, len(columns)):
        axes.axvline(edge - 0.5, color="white", linewidth=1.5)
    for spine in axes.spines.values():
        spine.set_visible(False)
    style.save(figure, arguments.output)


if __name__ == "__main__":
    style.run(main)
