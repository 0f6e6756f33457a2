"""Accuracy over size of every technique and chain, with the Pareto front: mean over the seeds, bars from the worst to the best of them."""

import style
from style import BLUE, GREEN, INK, MUTED, ORANGE, VERMILION

FAMILIES = {
    "analog": (INK, "o"),
    "quantization": (BLUE, "o"),
    "lumping": (ORANGE, "s"),
    "pruning": (GREEN, "^"),
    "chain": (VERMILION, "D"),
}


def family(chain):
    technique = chain.partition("-")[0]
    if "/" in chain:
        return "chain"
    if technique == "analog":
        return "analog"
    if technique == "lump":
        return "lumping"
    return "quantization" if technique in style.METHODS else "pruning"


def main():
    arguments = style.arguments(__doc__, ("comparison", "table of all chains (.csv)"), model=True)
    table = style.read(arguments.comparison).query("model == @arguments.model")
    points = style.over_seeds(table, "accuracy", "bytes_entropy")
    points = points.assign(size=points.bytes_entropy / 1000, family=points.chain.map(family)).sort_values(["size", "accuracy"], ascending=[True, False])
    front = points[points.accuracy > points.accuracy.cummax().shift(fill_value=0)]

    figure, axes = style.plt.subplots(figsize=(style.WIDTH, 4.9))
    axes.step(front["size"], 100 * front.accuracy, where="post", color=MUTED, linewidth=0.9, zorder=1)
    for name, (color, marker) in FAMILIES.items():
        rows = points[points.family == name]
        if len(rows):
            axes.vlines(rows["size"], 100 * rows.lowest, 100 * rows.highest, color=color, linewidth=0.7, alpha=0.7)
            axes.plot(rows["size"], 100 * rows.accuracy, marker, color=color, markersize=5.5, markeredgecolor="white", markeredgewidth=0.5, label=name)
    axes.set_xscale("log")
    axes.set_xlim(points["size"].min() / 1.7, points["size"].max() * 1.9)
    axes.set_xlabel("size of the entropy-coded network (kB)")
    axes.set_ylabel("test accuracy (%)")
    axes.xaxis.set_major_formatter(style.FuncFormatter(lambda x, _: f"{x:,.0f}" if x >= 1 else f"{x:g}"))
    style.accuracy_axis(axes, 100 * points[["lowest", "highest"]].to_numpy().ravel())
    ordered = style.pd.concat([front, points.drop(front.index)])
    labels = [(row.size_kb, 100 * row.accuracy, style.chain_name(row.chain), FAMILIES[row.family][0]) for row in ordered.rename(columns={"size": "size_kb"}).itertuples()]
    figure.legend(loc="outside upper center", ncols=len(FAMILIES), handlelength=1)
    corners = [(x, 100 * y) for x, y in zip(front["size"], front.accuracy, strict=True)]
    steps = [corners[0], *(point for (_, y), (x, top) in zip(corners, corners[1:], strict=False) for point in ((x, y), (x, top)))]
    style.place_labels(axes, labels, lines=[steps])
    style.save(figure, arguments.output)


if __name__ == "__main__":
    style.run(main)
