"""Certificates of the chains in the order of their size: certified agreement, and from how far
outputs were found to move to how far they can move; a mark for each radius.
"""

import style

from netreduce.chains import names

ROW, MOST = 0.22, 8.4  # inches: the height of a row, and of all of them
APART = 0.6  # of a row: all its marks
REACH = 1e-3  # the axis of deviations reaches down to this part of the largest one


def main() -> None:
    arguments = style.arguments(
        __doc__, ("certificates", "table of all certificates (.csv)"), model=True
    )
    table = style.certificates(arguments.certificates, arguments.model)
    table = table[~table.network.str.match(r"\d")]
    classes = "certified_agreement" in table
    sizes = table.groupby("network", sort=False).entropy_bytes.first()
    order = sizes.sort_values(ascending=False, kind="stable").index
    chains = table[table.network != "analog"]
    least = REACH * chains.bound.max() if len(chains) else 0.0
    radii = list(table.radius.unique())

    figure, grid = style.plt.subplots(
        1,
        1 + classes,
        figsize=(style.WIDTH, 0.9 + min(ROW * len(order), MOST)),
        squeeze=False,
        sharey=True,
        width_ratios=(2, 3)[-1 - classes :],
    )
    deviation = grid[0, -1]
    for place, radius in enumerate(radii):
        look = {**style.series_style(place), "linestyle": "none", "markersize": 4.5}
        shift = APART * ((place + 0.5) / len(radii) - 0.5)
        rows = table[table.radius == radius].set_index("network").reindex(order)
        heights = [row - shift for row in range(len(order))]
        if classes:
            axes = grid[0, 0]
            shares = 100 * rows.certified_agreement
            axes.plot(shares, heights, label=f"radius {radius}", **look)
            if "analog" in shares.index:
                ceiling = {"color": look["color"], **style.CEILING}
                axes.axvline(shares["analog"], zorder=1, **ceiling)
        rows = rows.assign(height=heights).drop(index="analog", errors="ignore")
        shown = rows[["found", "bound"]].clip(lower=least)
        deviation.hlines(rows.height, shown.found, shown.bound, color=look["color"], linewidth=0.9)
        deviation.plot(shown.found, rows.height, **style.hollow(look))
        deviation.plot(shown.bound, rows.height, label=f"radius {radius}", **look)
    if classes:
        axes = grid[0, 0]
        axes.set_xlabel("certified agreement (%)")
        axes.margins(x=0.12)
        axes.xaxis.set_major_locator(style.MaxNLocator(4, steps=[1, 2, 5, 10]))
    deviation.set_xlabel("deviation of any output")
    if least > 0:
        deviation.set_xscale("log")
        deviation.set_xlim(least / 1.5, 1.5 * chains.bound.max())
        style.log_ticks(deviation.xaxis)
    grid[0, 0].set_yticks(range(len(order)), [names.chain_name(network) for network in order])
    grid[0, 0].set_ylim(-0.6, len(order) - 0.4)
    right = deviation.secondary_yaxis("right")
    right.set_yticks(range(len(order)), [f"{sizes[network] / 1000:,.0f} kB" for network in order])
    right.spines[:].set_visible(False)
    for axes in (*grid[0], right):
        axes.tick_params(axis="y", length=0, labelsize=8)
    for axes in grid[0]:
        axes.grid(visible=False, axis="y")
        for row in range(0, len(order), 2):
            axes.axhspan(row - 0.5, row + 0.5, color="#f6f6f6", linewidth=0, zorder=0)
    style.radius_legend(figure, deviation)
    style.save(figure, arguments.output)


if __name__ == "__main__":
    style.run(main)
