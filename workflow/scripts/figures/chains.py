"""Heat map of the chains: a row for the techniques around the quantizer, a column for the
quantizer; the measure in colour, size below it.
"""

from collections.abc import Iterable

import numpy as np
import seaborn
import style

from netreduce.chains import names

PLACE, NONE = "quantizer", "no quantizer"
LEAST = 1e-6  # error that smaller ones are drawn as


def split(chain: str) -> tuple[tuple[str, ...], str]:
    """A chain as (row, column): the column is its first quantizer, the row its steps in words with
    PLACE instead of that one.
    """
    words, column = [], NONE
    for step in names.steps(chain):
        if column == NONE and step.technique.family == "quantization":
            column = names.step_name(step)
            words.append(PLACE)
        else:
            words.append(names.step_name(step))
    return tuple(words), column


def table(
    chains: Iterable[str],
) -> tuple[list[tuple[str, ...]], list[str], dict[tuple[tuple[str, ...], str], str]]:
    """Rows, columns and {(row, column): chain}: what stands around the quantizers, without a
    quantizer and with those that others stand around.
    """
    parts = {chain: split(chain) for chain in chains}
    quantized = [part for part in parts.values() if part[1] != NONE]
    combined = [part for part in quantized if len(part[0]) > 1] or quantized
    columns = [NONE, *dict.fromkeys(column for _, column in combined)]
    rows = list(dict.fromkeys(row for row, column in quantized if column in columns)) or [
        row for row, _ in parts.values()
    ]
    without = {row: tuple(word for word in row if word != PLACE) for row in rows}
    cells = {}
    for chain, (words, column) in parts.items():
        for row in rows:
            if column in columns and words == (without[row] if column == NONE else row):
                cells[row, column] = chain
    return rows, columns, cells


def main() -> None:
    arguments = style.arguments(__doc__, ("comparison", "table of all chains (.csv)"), model=True)
    measured = style.read(arguments.comparison).query("model == @arguments.model")
    measured, scale = style.scored(measured)
    points = style.over_seeds(measured, "score", "entropy_bytes").set_index("chain")
    rows, columns, chains = table(points.index)
    cells = {
        place: (scale.factor * points.score[chain], points.entropy_bytes[chain])
        for place, chain in chains.items()
    }
    error = np.full((len(rows), len(columns)), np.nan)
    for (row, column), (score, _) in cells.items():
        wrong = max(100 - score, 0.05) if scale.measure.share else max(score, LEAST)
        error[rows.index(row), columns.index(column)] = np.log10(wrong)

    figure, axes = style.plt.subplots(figsize=(style.WIDTH, 0.8 + 0.31 * len(rows)))
    span = np.nanmin(error), max(np.nanmax(error), np.nanmin(error) + 0.2)
    colors = seaborn.color_palette("crest_r", as_cmap=True)
    axes.set_facecolor("#f4f4f4")
    axes.imshow(error, cmap=colors, vmin=span[0], vmax=span[1], aspect="auto")
    for (row, column), (score, size) in cells.items():
        i, j = rows.index(row), columns.index(column)
        dark = (error[i, j] - span[0]) / (span[1] - span[0]) < 0.55
        text = {"ha": "center", "va": "center", "color": "white" if dark else style.INK}
        axes.text(j, i - 0.16, scale.text(score), fontsize=8, **text)
        axes.text(j, i + 0.22, f"{size / 1000:,.0f} kB", fontsize=6.5, **text)
    axes.set_xticks(
        range(len(columns)),
        [column.replace(" ", "\n", 1).replace(", ", "\n") for column in columns],
    )
    axes.set_yticks(range(len(rows)), [" → ".join(row) or "analog" for row in rows])
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
