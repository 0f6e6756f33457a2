"""One look for all figures: type, colours, names, axes of accuracy, labels that do not overlap.

Colours are Okabe and Ito's, safe for the colour-blind. Every series also has a marker and a line
style of its own, for print in grey.
"""

import argparse
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from netreduce.chains.techniques import TECHNIQUES
from netreduce.cli.exits import run_script
from netreduce.files import replacing
from netreduce.measures.kinds import Measure, measure_of

Label = tuple[float, float, str, str]  # x, y in data coordinates, text, color

WIDTH = 6.1  # inches: the text width of the thesis, so that type in figures has its nominal size
INK, MUTED, FAINT = "#1a1a1a", "#6f6f6f", "#d9d9d9"
BLUE, ORANGE, GREEN, VERMILION, PINK, SKY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
)
SERIES = [
    (BLUE, "-", "o"),
    (ORANGE, "--", "s"),
    (GREEN, "-.", "^"),
    (VERMILION, (0, (1, 1)), "D"),
    (PINK, (0, (5, 1, 1, 1, 1, 1)), "v"),
    (SKY, ":", "P"),
]
ANALOG = {
    "color": INK,
    "linewidth": 0.9,
    "linestyle": (0, (4, 2)),
}  # the line at the analog accuracy
CEILING = {"linewidth": 0.8, "linestyle": (0, (1, 2))}  # the line that no network can be above
RING = {
    "linestyle": "none",
    "marker": "o",
    "markersize": 9,
    "markerfacecolor": "none",
    "markeredgecolor": INK,
    "markeredgewidth": 0.8,
}  # a choice
ANGLES = np.deg2rad(
    [0, 45, -45, 90, -90, 22.5, -22.5, 67.5, -67.5, 180, 135, -135, 112.5, -112.5, 157.5, -157.5]
)  # of labels, best first
TICK_DISTANCE = 11  # points: ticks closer than this would overlap
PERFECT = (
    0.01  # percent: the error that 100 % is drawn at on an axis that is logarithmic in the error
)
SHORT = {"agreement": "agreement", "relative_difference": "relative difference"}
METHODS = [name for name, technique in TECHNIQUES.items() if technique.family == "quantization"]

plt.rcParams.update(
    {
        "font.family": "STIXGeneral",
        "mathtext.fontset": "stix",
        "font.size": 9,
        "axes.titlesize": 9.5,
        "axes.labelsize": 9.5,
        "xtick.labelsize": 8.5,
        "ytick.labelsize": 8.5,
        "legend.fontsize": 8.5,
        "legend.frameon": False,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": MUTED,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.labelcolor": INK,
        "ytick.labelcolor": INK,
        "axes.linewidth": 0.6,
        "xtick.major.width": 0.6,
        "ytick.major.width": 0.6,
        "xtick.major.size": 3,
        "ytick.major.size": 3,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": "#ececec",
        "grid.linewidth": 0.6,
        "lines.linewidth": 1.3,
        "lines.markersize": 4,
        "hatch.linewidth": 0.6,
        "figure.constrained_layout.use": True,
        "figure.constrained_layout.h_pad": 0.06,
        "figure.constrained_layout.w_pad": 0.06,
        "svg.fonttype": "path",
        "svg.hashsalt": "netreduce",
        "lines.solid_capstyle": "round",
        "patch.edgecolor": "white",
        "patch.force_edgecolor": True,
        "patch.linewidth": 0.8,
        "xtick.minor.size": 3.2,
        "ytick.minor.size": 3.2,
        "xtick.minor.width": 0.8,
        "ytick.minor.width": 0.8,
    }
)


def arguments(
    description: str | None, *tables: tuple[str, str], model: bool = False
) -> argparse.Namespace:
    """Parse the arguments of a figure: its tables, the model where a table holds several, the
    output.
    """
    parser = argparse.ArgumentParser(description=description)
    for name, text in tables:
        parser.add_argument(f"--{name}", type=Path, nargs="+", required=True, help=text)
    if model:
        parser.add_argument("--model", required=True, help="the model to draw")
    parser.add_argument("--output", type=Path, required=True, help="where the figure goes (.svg)")
    return parser.parse_args()


def read(paths: Iterable[Path]) -> pd.DataFrame:
    """Tables in one frame; bit widths and names of networks stay text."""
    return pd.concat(
        [pd.read_csv(path, dtype={"network": str}) for path in paths], ignore_index=True
    )


def certificates(paths: Iterable[Path], model: str) -> pd.DataFrame:
    """The certificates of a model's networks, radii as text; those that could not be certified, and
    columns without a number, are not there.
    """
    table = pd.concat(
        [pd.read_csv(path, dtype={"network": str, "radius": str}) for path in paths],
        ignore_index=True,
    )
    table = table[(table.model == model) & table.bound.notna()] if "bound" in table else table[:0]
    return table.dropna(axis=1, how="all")


def over_seeds(table: pd.DataFrame, *measures: str) -> pd.DataFrame:
    """One row for each chain: the mean of every measure over the seeds, and the lowest and highest
    of the first measure.
    """
    groups = table.groupby("chain", sort=False)
    first = groups[measures[0]]
    return pd.DataFrame(
        {
            **{measure: groups[measure].mean() for measure in measures},
            "lowest": first.min(),
            "highest": first.max(),
        }
    ).reset_index()


@dataclass(frozen=True)
class Scale:
    """How the measure of a table is drawn: shares of the samples in percent, on an axis that is
    logarithmic in the error; errors as they are.
    """

    measure: Measure

    @property
    def factor(self) -> int:
        return 100 if self.measure.share else 1

    @property
    def name(self) -> str:
        """The measure with its unit, for axes."""
        short = SHORT.get(self.measure.name, self.measure.title)
        return f"{short} (%)" if self.measure.share else short

    def text(self, value: float, digits: int = 2) -> str:
        return f"{value:.{digits}f} %" if self.measure.share else f"{value:.4g}"

    def best(self, values: pd.Series) -> Any:
        """Index of the best value of a series."""
        return values.idxmax() if self.measure.share else values.idxmin()

    def axis(self, axes: Axes, values: ArrayLike) -> None:
        (accuracy_axis if self.measure.share else error_axis)(axes, values)

    def rows(self, panels: Sequence[Axes], values: Iterable[Sequence[float]]) -> None:
        """The same for panels of which each row shares its axis; `values` holds those of each
        panel.
        """
        rows: dict[Axes, list[float]] = {}
        for axes, here in zip(panels, values, strict=True):
            first = next(
                other
                for other in panels
                if other is axes or axes.get_shared_y_axes().joined(axes, other)
            )
            rows.setdefault(first, []).extend(here)
        for first, here in rows.items():
            self.axis(first, here)


def scored(table: pd.DataFrame, prefix: str = "") -> tuple[pd.DataFrame, Scale]:
    """A table with `score` in place of the name of its measure, and the scale of that."""
    table = table.dropna(axis=1, how="all")
    measure = measure_of(table.columns, prefix)
    names = {
        column: column.removesuffix(measure.name) + "score"
        for column in table.columns
        if column.endswith(measure.name)
    }
    return table.rename(columns=names), Scale(measure)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as SVG, the same bytes every time."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})
    plt.close(figure)


def run(function: Callable[[], None]) -> None:
    """Run a figure's script."""
    run_script(function)


def hollow(look: dict[str, Any]) -> dict[str, Any]:
    """The same line style with hollow marks."""
    return {**look, "markerfacecolor": "white", "markeredgecolor": look["color"]}


def radius_legend(figure: Figure, axes: Axes) -> None:
    """A legend of the radii on the axes, and of filled and hollow marks."""
    handles, labels = axes.get_legend_handles_labels()
    grey: dict[str, Any] = {"color": MUTED, "marker": "o", "linestyle": "none", "markersize": 5}
    handles.append(plt.Line2D([], [], **grey))
    handles.append(plt.Line2D([], [], **grey, markerfacecolor="white"))
    labels += ["certified", "found"]
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), handlelength=2)


def method_style(method: str) -> dict[str, Any]:
    """Line style of a quantization method."""
    return series_style(METHODS.index(method))


def series_style(index: int) -> dict[str, Any]:
    """Line style of series number `index`."""
    color, line, marker = SERIES[index % len(SERIES)]
    return {
        "color": color,
        "linestyle": line,
        "marker": marker,
        "markeredgecolor": "white",
        "markeredgewidth": 0.5,
    }


def network_styles(names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Line styles of a network at several bit widths: black for the analog one, darker for more
    bits.
    """
    bits = [name for name in names if name != "analog"]
    shades = plt.get_cmap("viridis")(np.linspace(0, 1, len(bits) + 3))[1:-2, :3][::-1]
    styles: dict[str, dict[str, Any]] = (
        {"analog": {"color": INK, "linestyle": "-", "marker": "o"}} if "analog" in names else {}
    )
    for name, shade, (_, line, marker) in zip(bits, shades, (SERIES * len(bits))[1:], strict=False):
        styles[name] = {"color": shade, "linestyle": line, "marker": marker}
    return {
        name: {**style, "markeredgecolor": "white", "markeredgewidth": 0.5}
        for name, style in styles.items()
    }


def method_name(method: str) -> str:
    return TECHNIQUES[method].title


def accuracy_axis(axes: Axes, values: ArrayLike) -> None:
    """Make y (percent) logarithmic in the error, so that 10 % and 98 % are both legible, with
    limits that hold all values and round ticks.
    """
    accuracies = np.asarray(values, float)
    error = 100 - accuracies[np.isfinite(accuracies)] + PERFECT
    low, high = error.min() / 1.25, min(error.max() * 1.2, 100 + PERFECT)
    axes.set_yscale(
        "function",
        functions=(
            lambda y: -np.log10(np.clip(100 - y + PERFECT, 1e-6, None)),
            lambda z: 100 + PERFECT - 10.0 ** (-z),
        ),
    )
    axes.set_ylim(100 + PERFECT - high, 100 + PERFECT - low)
    if high / low > 6:
        digits = (
            (1, 3) if high / low > 300 else (1, 2, 5) if high / low > 15 else (1, 1.5, 2, 3, 5, 7)
        )
        ticks = [100, *(100 - digit * 10.0**power for power in range(-1, 3) for digit in digits)]
    else:
        step = next(
            step for step in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20) if high - low <= 7 * step
        )
        ticks = list(step * np.arange(0, 100 / step + 1))
    ticks = sorted(
        round(tick, 6) for tick in ticks if 100 - high <= tick <= min(100 - low + PERFECT, 100)
    )
    axes.yaxis.set_major_locator(FixedLocator(_apart(axes, ticks[::-1])))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))


def error_axis(axes: Axes, values: ArrayLike) -> None:
    """Make y logarithmic for errors that are all positive, with limits that hold all of them;
    linear from 0 where there is none at all.
    """
    numbers = np.asarray(values, float)
    numbers = numbers[np.isfinite(numbers)]
    low, high = numbers.min(), numbers.max()
    if low <= 0:
        axes.set_ylim(-0.03 * high or -1, 1.06 * high or 1)
        return
    axes.set_yscale("log")
    axes.set_ylim(low / (high / low) ** 0.05 / 1.05, high * (high / low) ** 0.05 * 1.05)
    if high > 4 * low:
        log_ticks(axes.yaxis)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))


def _apart(axes: Axes, ticks: Sequence[float]) -> list[float]:
    """Those of the ticks on y, each at some distance from the last one taken."""
    heights = axes.transData.transform([(0, tick) for tick in ticks])[:, 1] * 72 / axes.figure.dpi
    kept: list[float] = []
    last = np.inf
    for tick, height in zip(ticks, heights, strict=True):
        if abs(height - last) >= TICK_DISTANCE:
            kept.append(tick)
            last = height
    return kept


def integer_axis(axis: Axis) -> None:
    axis.set_major_locator(MaxNLocator(integer=True, nbins=8))


def log_ticks(axis: Axis) -> None:
    """Ticks 1, 2, 5, 10, ..., over many decades the powers of ten, written as plain numbers. Call
    it when the limits are final.
    """
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 300 * low else (1,), numticks=20))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}"))


def slant(axes: Axes, wanted: bool) -> None:
    """Turn the names under x where there are too many to stand side by side."""
    if wanted:
        axes.tick_params(axis="x", rotation=35)
        for label in axes.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")


def panels(number: int, columns: int, height: float, **keywords: Any) -> tuple[Figure, list[Axes]]:
    """A grid over the text width, of so many columns if that leaves no cell empty. Returns the
    figure and the panels in reading order.
    """
    columns = columns + 1 if number % columns and number > columns else columns
    rows = int(np.ceil(number / columns))
    columns = int(np.ceil(number / rows))
    width = WIDTH if columns > 1 else min(WIDTH, 4.6)
    figure, grid = plt.subplots(
        rows, columns, figsize=(width, height * rows), squeeze=False, **keywords
    )
    flat = list(grid.flat)
    for spare in flat[number:]:
        spare.remove()
    for above, below in zip(flat, flat[columns:number] + [None] * columns, strict=False):
        if below is None:
            above.tick_params(labelbottom=True)
    return figure, flat[:number]


def label_lines(
    axes: Axes,
    labels: Sequence[Label],
    side: str = "right",
    gap: float = 1.15,
    shift: float = 6,
) -> None:
    """Write names at line ends, beside (x, y), moved apart vertically so that none overlaps.

    `labels` are (x, y, text, color) in data coordinates. Call it when the limits of the axes are
    final.
    """
    if not labels:
        return
    _figure(axes).draw_without_rendering()
    size = plt.rcParams["legend.fontsize"]
    step = size * gap * axes.figure.dpi / 72
    points = sorted(
        ((*axes.transData.transform((x, y)), x, y, text, color) for x, y, text, color in labels),
        key=lambda point: point[1],
    )
    heights = spread([point[1] for point in points], step, *axes.bbox.intervaly)
    for height, (_, at, x, y, text, color) in zip(heights, points, strict=True):
        axes.annotate(
            text,
            (x, y),
            xytext=(shift if side == "right" else -shift, (height - at) * 72 / axes.figure.dpi),
            textcoords="offset points",
            va="center",
            ha="left" if side == "right" else "right",
            color=color,
            fontsize=size,
            annotation_clip=False,
        )


def spread(positions: Iterable[float], step: float, low: float, high: float) -> list[float]:
    """Sorted positions moved apart to at least `step`, as little as possible, and kept within [low,
    high] if they fit.
    """

    def centre(wanted: list[float]) -> float:
        width = step * (len(wanted) - 1)
        middle = float(np.mean(wanted))
        return min(max(middle, low + width / 2), max(high - width / 2, low + width / 2))

    groups = [(centre([position]), [position]) for position in positions]
    for _ in count():
        for i in range(len(groups) - 1):
            (a, first), (b, second) = groups[i], groups[i + 1]
            if b - a < step * (len(first) + len(second)) / 2 - 1e-9:
                groups[i : i + 2] = [(centre(first + second), first + second)]
                break
        else:
            break
    return [
        middle + step * (i - (len(wanted) - 1) / 2)
        for middle, wanted in groups
        for i in range(len(wanted))
    ]


def place_labels(
    axes: Axes,
    labels: Sequence[Label],
    lines: Iterable[Sequence[tuple[float, float]]] = (),
    size: float = 7.5,
) -> list[str]:
    """Write names beside points where they cover neither one another nor a point, with a thin line
    to points that end up further away.

    `labels` are (x, y, text, color) in data coordinates, the most important first; `lines` are
    sequences of (x, y) to keep clear as well. A label for which there is no room is left out;
    returns the texts left out. Call it when the limits of the axes are final.
    """
    _figure(axes).draw_without_rendering()
    point = axes.figure.dpi / 72
    frame = axes.bbox.extents
    marks = [axes.transData.transform(label[:2]) for label in labels]
    taken = np.array([(*(mark - 3 * point), *(mark + 3 * point)) for mark in marks]).reshape(-1, 4)
    for line in lines:
        for start, end in pairwise(axes.transData.transform(line)):
            taken = np.vstack([taken, _boxes(start, end, point)])
    ways = [
        (radius, np.array([np.cos(angle), np.sin(angle)]))
        for radius in (5, 8, 12, 17, 23, 30, 38, 48, 60, 75)
        for angle in ANGLES
    ]
    omitted = []
    for (x, y, text, color), mark in zip(labels, marks, strict=True):
        probe = axes.annotate(text, (x, y), fontsize=size)
        half = np.add(np.divide(probe.get_window_extent().size, 2), (point, 0))
        probe.remove()
        for radius, way in ways:
            center = mark + radius * point * way + half * np.clip(2 * way, -1, 1)
            box = np.array([*(center - half), *(center + half)])
            own = box[None]
            if radius > 8:
                nearest = np.clip(mark, box[:2], box[2:])
                start = mark + (nearest - mark) * min(1, 5 * point / np.hypot(*(nearest - mark)))
                own = np.vstack([own, _boxes(start, nearest, point / 4)])
            if (
                (box[:2] >= frame[:2]).all()
                and (box[2:] <= frame[2:]).all()
                and not _overlap(own, taken)
            ):
                taken = np.vstack([taken, own])
                look: dict[str, Any] = {
                    "textcoords": "offset points",
                    "ha": "center",
                    "va": "center",
                    "fontsize": size,
                    "color": color,
                }
                axes.annotate(
                    text, (x, y), xytext=tuple((center - mark) / point), linespacing=1.05, **look
                )
                if radius > 8:
                    arrow = {
                        "arrowstyle": "-",
                        "color": MUTED,
                        "linewidth": 0.4,
                        "shrinkA": 0,
                        "shrinkB": 3,
                    }
                    axes.annotate(
                        "",
                        (x, y),
                        xytext=(nearest - mark) / point,
                        textcoords="offset points",
                        arrowprops=arrow,
                    )
                break
        else:
            omitted.append(text)
    return omitted


def _figure(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def _boxes(start: np.ndarray, end: np.ndarray, reach: float) -> np.ndarray:
    """Boxes (left, bottom, right, top) that cover a line."""
    steps = np.linspace(0, 1, 2 + int(np.hypot(*(end - start)) / (3 * reach)))[:, None]
    points = start + steps * (end - start)
    return np.hstack([points - reach, points + reach])


def _overlap(boxes: np.ndarray, others: np.ndarray) -> bool:
    """Whether any of the boxes touches any of the others."""
    boxes = boxes[:, None]
    return bool(
        ((boxes[..., :2] < others[:, 2:]) & (boxes[..., 2:] > others[:, :2])).all(axis=-1).any()
    )
