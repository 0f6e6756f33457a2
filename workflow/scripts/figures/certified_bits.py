"""Certificates of the chosen quantized networks over the bit width, a line for each radius:
certified agreement, and how far outputs can move beside how far they were found to move.
"""

import numpy as np
import style

from netreduce.chains import names


def main() -> None:
    arguments = style.arguments(
        __doc__, ("certificates", "table of all certificates (.csv)"), model=True
    )
    table = style.certificates(arguments.certificates, arguments.model)
    quantized = table[table.network.str.match(r"\d")]
    analog = table[table.network == "analog"].drop_duplicates("radius").set_index("radius")
    classes = "certified_agreement" in table
    widths = sorted(quantized.network.unique(), key=float)

    width = style.WIDTH if classes else 4.6
    figure, grid = style.plt.subplots(1, 1 + classes, figsize=(width, 2.7), squeeze=False)
    deviation = grid[0, -1]
    deviation.set_ylabel("deviation of any output")
    places = range(len(widths))
    for place, (radius, rows) in enumerate(quantized.groupby("radius", sort=False)):
        rows = rows.set_index("network").reindex(widths)
        look = style.series_style(place)
        if classes:
            axes = grid[0, 0]
            axes.set_ylabel("certified agreement (%)")
            axes.plot(places, 100 * rows.certified_agreement, **look)
            ceiling = {"color": look["color"], **style.CEILING}
            axes.axhline(100 * analog.certified_agreement.get(radius, np.nan), zorder=1, **ceiling)
        deviation.plot(places, rows.bound, label=f"radius {radius}", **look)
        deviation.plot(places, rows.found, **style.hollow(look), linewidth=0.8)
    for axes in grid[0]:
        axes.set_xlim(-0.3, len(widths) - 0.7)
        axes.set_xticks(places, [names.bits_name(bits) for bits in widths])
        axes.set_xlabel("alphabet")
    if len(quantized):
        style.error_axis(deviation, quantized[["bound", "found"]])
    if classes:
        grid[0, 0].margins(y=0.12)
        grid[0, 0].yaxis.set_major_locator(style.MaxNLocator(5, steps=[1, 2, 5, 10]))
    style.radius_legend(figure, deviation)
    style.save(figure, arguments.output)


if __name__ == "__main__":
    style.run(main)
