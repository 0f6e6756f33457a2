"""Data of the chapter on lumping: the toy network, lumped exactly and as published."""

from typing import Any

import tables

from netreduce.cli.exits import run_script
from netreduce.lumping.dictionary import lump_neural_network, run_neural_network

TOY: dict[str, Any] = {
    "k": 4,
    "S": [{0, 1}, {2, 3}, {4, 5}, {6}],
    "W": {
        1: {(0, 2): 0.1, (1, 3): 0.2, (0, 3): 0.3, (1, 2): 0.4},
        2: {(2, 4): 0.5, (3, 4): 0.6, (2, 5): 1, (3, 5): 1.2},
        3: {(4, 6): 0.7, (5, 6): 0.8},
    },
    "b": {1: {2: 0.1, 3: 0.2}, 2: {4: 0.3, 5: 0.6}, 3: {6: 0.4}},
    "A": {1: {2: "ReLU", 3: "ReLU"}, 2: {4: "ReLU", 5: "ReLU"}, 3: {6: "ReLU"}},
}
TOY_INPUTS = [(0, 0), (1, 1), (1, 0), (0, 1), (-5, -5), (2, 3)]


def main() -> None:
    arguments = tables.parser(__doc__).parse_args()
    tables.write(arguments.output, {"toy": toy()})


def toy() -> tables.Record:
    """The toy network, lumped exactly and as published, and what the three networks compute."""
    k, S, W, b, A = exact = lump_neural_network(TOY)
    _, _, published, _, _ = lump_neural_network(TOY, convention="thesis")
    merged = (4, 5)
    edge = next((layer, key) for layer, weights in W.items() for key in weights if key[0] == merged)
    weight = next(w for w in published[edge[0]].values())
    wrong = (k, S, {**W, edge[0]: {edge[1]: weight}}, b, A)
    points = [
        {
            "input": point,
            **{
                name: value(network, point)
                for name, network in (("function", TOY), ("exact", exact), ("published", wrong))
            },
        }
        for point in TOY_INPUTS
    ]
    return {
        "weights": {f"{r}-{s}": w for layer in TOY["W"].values() for (r, s), w in layer.items()},
        "biases": {s: bias for layer in TOY["b"].values() for s, bias in layer.items()},
        "ratio": TOY["b"][2][4] / TOY["b"][2][5],
        "multiple": TOY["b"][2][5] / TOY["b"][2][4],
        "exact_weight": W[edge[0]][edge[1]],
        "published_weight": weight,
        "points": points,
    }


def value(network: Any, point: tuple) -> float:
    return next(iter(run_neural_network(network, point).values()))


if __name__ == "__main__":
    run_script(main)
