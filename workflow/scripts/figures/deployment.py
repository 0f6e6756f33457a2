"""The measure of files that run in integers over their size, and over the time that they take for
one sample on one thread.
"""

import style
from matplotlib.axes import Axes
from style import BLUE, GREEN, INK, ORANGE, PINK, SKY, VERMILION

COLORS = (INK, BLUE, ORANGE, GREEN, VERMILION, PINK, SKY)
MARKERS = {"onnx": "o", "tflite": "s"}
LINES = {"onnx": "-", "tflite": "--"}
PANELS = {
    "kilobytes": "size of the file (kB)",
    "microseconds": "time for one sample on one thread (µs)",
}


def main() -> None:
    arguments = style.arguments(
        __doc__,
        ("deployed", "table of the files (.csv)"),
        ("latency", "of the model's files (.csv)"),
        model=True,
    )
    table = style.read(arguments.deployed).query("model == @arguments.model")
    table, scale = style.scored(table[table.file != "reference"])
    table = table.assign(
        kilobytes=table["bytes"] / 1000,
        microseconds=microseconds(table, style.read(arguments.latency), arguments.model),
        score=scale.factor * table.score,
        color=colors(table),
    )
    figure, axes = style.plt.subplots(1, 2, figsize=(style.WIDTH, 3.1), sharey=True)
    for place, (column, label) in zip(axes, PANELS.items(), strict=True):
        draw(place, table, column)
        place.set_xlabel(label)
    axes[0].set_ylabel(f"test {scale.name}")
    scale.axis(axes[0], table.score)
    for place, column in zip(axes, PANELS, strict=True):
        labels = [
            (getattr(row, column), row.score, name(row.weights, row.activations), row.color)
            for row in table.itertuples()
        ]
        style.place_labels(place, labels)
    handles = [
        style.plt.Line2D([], [], color=INK, marker=marker, linestyle=LINES[file])
        for file, marker in MARKERS.items()
    ]
    figure.legend(
        handles, [f".{file}" for file in MARKERS], loc="outside upper center", ncols=len(MARKERS)
    )
    style.save(figure, arguments.output)


def draw(axes: Axes, table: style.pd.DataFrame, column: str) -> None:
    for file, rows in table.groupby("file", sort=False):
        rows = rows.sort_values("weights")
        axes.plot(rows[column], rows.score, LINES[file], color=style.MUTED, linewidth=0.7)
        for row in rows.itertuples():
            axes.plot(getattr(row, column), row.score, MARKERS[file], color=row.color, markersize=5)
    axes.set_xscale("log")
    axes.set_xlim(table[column].min() / 1.7, table[column].max() * 1.7)
    style.log_ticks(axes.xaxis)


def colors(table: style.pd.DataFrame) -> list[str]:
    """A colour for each width of weights, the widest first."""
    widths = sorted(table.weights.unique(), reverse=True)
    return [COLORS[widths.index(width) % len(COLORS)] for width in table.weights]


def name(weights: float, activations: float) -> str:
    return "float" if weights == 32 else f"W{weights:g}A{activations:g}"


def microseconds(table: style.pd.DataFrame, latency: style.pd.DataFrame, model: str) -> list[float]:
    """For one sample on one thread, of every file of a table."""
    seconds = latency.query("threads == 1 and batch == 1").set_index("file").seconds
    names = {"float": "analog"}
    found = []
    for row in table.itertuples():
        what = name(row.weights, row.activations)
        found.append(1e6 * seconds[f"{model}_{names.get(what, what.lower())}.{row.file}"])
    return found


if __name__ == "__main__":
    style.run(main)
