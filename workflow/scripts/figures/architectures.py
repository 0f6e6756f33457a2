"""Equivalence classes per layer and architecture: a row of panels for each architecture, with the
mean over its networks.
"""

import style

from classes import draw, legend


def main() -> None:
    arguments = style.arguments(
        __doc__, ("lumping", "equivalence classes, one table for each network (.csv)")
    )
    tables = [style.read([path]) for path in arguments.lumping]
    architectures: dict[tuple, list[style.pd.DataFrame]] = {}
    for table in tables:
        first = table[table.network == table.network.iloc[0]]
        architectures.setdefault(tuple(zip(first.layer, first.neurons, strict=True)), []).append(
            table
        )
    networks = list(dict.fromkeys(network for table in tables for network in table.network))

    columns = max(map(len, architectures))
    height = (0.55 + 0.3 * len(networks)) * len(architectures) + 0.6
    figure, grid = style.plt.subplots(
        len(architectures), columns, figsize=(style.WIDTH, height), squeeze=False, sharey=True
    )
    for row, (architecture, members) in zip(grid, architectures.items(), strict=True):
        together = style.pd.concat(members, ignore_index=True)
        for axes, (layer, _) in zip(row, architecture, strict=False):
            draw(axes, together[together.layer == layer], networks)
        for axes in row[len(architecture) :]:
            axes.remove()
    legend(figure, figure.axes)
    style.save(figure, arguments.output)


if __name__ == "__main__":
    style.run(main)
