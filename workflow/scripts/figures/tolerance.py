"""What approximate lumping keeps and costs over its tolerance: neurons, the measure, certified
bound for all inputs and on balls around test samples; before and after quantization.
"""

import numpy as np
import style

from netreduce.chains import names

COLUMNS = {
    "lump first, then quantize": ("lump", "lump-quantize"),
    "quantize first, then lump": ("quantize-lump",),
}
ROUNDING = 1e-6  # of the largest bound: less is rounding alone, and not drawn beside balls


def main() -> None:
    arguments = style.arguments(
        __doc__, ("tolerance", "lumping over its tolerance for one model (.csv)")
    )
    table, scale = style.scored(style.read(arguments.tolerance), "test_")
    table = table.assign(
        neurons_kept=100 * table.neurons_kept / table.neurons,
        test_score=scale.factor * table.test_score,
    )
    titles = {"neurons_kept": "neurons (%)", "test_score": scale.name, "bound": "bound"}
    columns = {
        title: table[table.order.isin(orders)]
        for title, orders in COLUMNS.items()
        if table.order.isin(orders).any()
    }
    bounds = table[[name for name in ("bound", "ball_bound") if name in table]].stack()
    bounds = bounds[np.isfinite(bounds)]
    least = ROUNDING * bounds.max() if "ball_bound" in table and len(bounds) else 0.0
    bounds = bounds[bounds > least]
    networks = list(dict.fromkeys(table.network))
    looks = style.network_styles(networks)

    figure, grid = style.plt.subplots(
        3, len(columns), figsize=(style.WIDTH, 3.2), squeeze=False, sharex=True, sharey="row"
    )
    for column, (title, rows) in enumerate(columns.items()):
        for axes, measure in zip(grid[:, column], titles, strict=True):
            for name in networks:
                # Neurons kept and bound belong to the lumping, so quantization afterwards does not
                # change them.
                if measure != "test_score" and name != "analog" and title.startswith("lump"):
                    continue
                line = rows[rows.network == name].sort_values("tolerance")
                if measure == "bound":
                    line = line[line.bound > least]
                axes.plot(
                    line.tolerance, line[measure], label=names.network_name(name), **looks[name]
                )
                if measure == "bound" and "ball_bound" in line:
                    balls = line[line.ball_bound > least]
                    look = style.hollow(looks[name])
                    axes.plot(balls.tolerance, balls.ball_bound, **look, linewidth=0.8)
        grid[0, column].set_title(title, loc="left", fontweight="bold")
        grid[-1, column].set_xlabel("tolerance")
    for axes, text in zip(grid[:, 0], titles.values(), strict=True):
        axes.set_ylabel(text)
    scale.axis(grid[1, 0], table.test_score)
    if len(bounds):
        middle = (bounds.min() * bounds.max()) ** 0.5
        grid[2, 0].set_yscale("log")
        grid[2, 0].set_ylim(
            min(bounds.min() / 1.5, middle / 4), max(bounds.max() * 1.5, middle * 4)
        )  # a decade at least, to have a tick
    grid[2, 0].yaxis.set_minor_locator(style.NullLocator())
    grid[0, 0].set_ylim(0, 106)
    figure.align_ylabels(grid[:, 0])
    handles, labels = grid[1, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), handlelength=2.6)
    if "ball_bound" in table:
        radius = table.ball_radius.dropna().iloc[0]
        kinds = {"all inputs": {}, f"balls of radius {radius}": {"markerfacecolor": "white"}}
        marks = [
            style.plt.Line2D([], [], color=style.MUTED, marker="o", **look)
            for look in kinds.values()
        ]
        grid[2, 0].legend(marks, kinds, handlelength=2, loc="center left")
    style.save(figure, arguments.output)


if __name__ == "__main__":
    style.run(main)
