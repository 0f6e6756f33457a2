"""The measure over the hidden neurons that are left, technique by technique, nothing retrained."""

import style

TITLES = {
    "select": "selection",
    "lump": "lumping",
    "variance": "variance",
    "greedy": "greedy",
    "structured": "by norm",
}
PUBLISHED = {"color": style.INK, "linestyle": "-", "linewidth": 0.8, "markeredgecolor": style.INK}


def main() -> None:
    arguments = style.arguments(__doc__, ("curves", "curves of one model (.csv)"))
    table, scale = style.scored(style.read(arguments.curves), "test_")
    scores = scale.factor * table.test_score
    hidden = table.neurons.max()

    figure, axes = style.plt.subplots(figsize=(style.WIDTH, 2.7))
    axes.axhline(scores[table.neurons.idxmax()], **style.ANALOG)
    for index, (method, rows) in enumerate(table.groupby("method", sort=False)):
        published = {} if method in TITLES else PUBLISHED
        axes.plot(
            rows.neurons,
            scores[rows.index],
            label=TITLES.get(str(method), str(method)),
            **style.series_style(index) | published,
        )
    axes.set_xlim(0, 1.02 * hidden)
    axes.set_xlabel("hidden neurons")
    axes.set_ylabel(f"test {scale.name}")
    scale.axis(axes, scores)
    columns = table.method.nunique()
    figure.legend(loc="outside upper center", ncols=columns, handlelength=2.6, columnspacing=1.4)
    style.save(figure, arguments.output)


if __name__ == "__main__":
    style.run(main)
