"""Figures, the summary and the thesis, from small hand-made results."""

import itertools
import json
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import jinja2
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netreduce.chains import names
from netreduce.data.archive import write, write_own
from netreduce.data.preprocessing import Preprocessing
from netreduce.files import write_json, write_table
from netreduce.formats import save
from netreduce.network import Network
from netreduce.network.layers import Dense, Flatten
from netreduce.quantization import quantize

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "workflow" / "scripts"
BITS = ("1.58", "2", "4")
METHODS = ("gpfq", "msq")
FIGURES = (
    "training",
    "alphabet_scalar",
    "bits",
    "cumulative",
    "sensitivity",
    "weights",
    "classes",
    "tolerance",
    "pareto",
    "chains",
    "sparsity",
    "chosen_bits",
    "deployment",
    "neurons",
    "certified_bits",
    "certified_chains",
)
LAYERS = ("dense_1", "dense_2")
CHAINS = (
    "analog",
    "gpfq-bits=4",
    "msq-bits=2",
    "lump-tolerance=0.1",
    "magnitude-fraction=0.2",
    "gpfq-bits=4/lump-tolerance=0",
    "magnitude-fraction=0.2/gpfq-bits=4",
)


@pytest.fixture(scope="module", autouse=True)
def style_importable():
    sys.path.insert(0, str(SCRIPTS / "figures"))
    yield
    sys.path.remove(str(SCRIPTS / "figures"))


@pytest.fixture
def run(monkeypatch):
    def run(script, *arguments):
        folder = "" if script in ("typeset", "latex", "landing") or "/" in script else "figures"
        path = SCRIPTS / folder / f"{script}.py"
        monkeypatch.syspath_prepend(str(path.parent))
        monkeypatch.setattr(sys, "argv", [str(path), *map(str, arguments)])
        runpy.run_path(str(path))["main"]()

    return run


def measures(accuracy, size):
    return {
        "accuracy": accuracy,
        "low": accuracy - 0.01,
        "high": accuracy + 0.01,
        "agreement": 0.98,
        "parameters": 100,
        "nonzeros": 90,
        "weights": 90,
        "nonzero_weights": 80 if size > 200 else 40,
        "neurons": 20,
        "macs": 90,
        "nonzero_macs": 80,
        "bits_per_weight": 4.0,
        "float_bytes": 400,
        "dense_bytes": size,
        "sparse_bytes": size,
        "entropy_bytes": size,
        "activation_bytes": 64,
        "onnx_bytes": size + 100,
    }


def certificates():
    """Of both models; one chain has a layer that no relaxation is known of."""
    numbers = {"class_differs": 0.0, "rounding": 1e-6}
    unknown = dict.fromkeys(("certified_agreement", "bound", "found", "ratio", *numbers), "")
    return [
        {
            "model": model,
            "seed": 0,
            "network": network,
            "radius": radius,
            "images": 10,
            "entropy_bytes": 400 - 50 * place,
            "certified_agreement": 1 - 0.1 * place * size,
            "bound": 0.5 * place * size,
            "found": 0.3 * place * size,
            "ratio": 5 / 3 if place else "",
            **(unknown if network == CHAINS[-1] else numbers),
            "notes": "not certified: f: no relaxation" if network == CHAINS[-1] else "",
        }
        for model, networks in (("net", ("analog", *BITS, *CHAINS[1:])), ("net-b", ("analog", "4")))
        for place, network in enumerate(networks)
        for size, radius in enumerate(("1/255", "2/255"), start=1)
    ]


def deployed():
    """Files of both models, in integers at two widths of weights, and analog."""
    rows = []
    for model in ("net", "net-b"):
        for weights, method in ((32, ""), (8, "gpfq"), (4, "gpfq")):
            for file in ("reference",) * (weights < 32) + ("onnx", "tflite"):
                row = {"model": model, "file": file, "weights": weights, "method": method}
                row |= {
                    "activations": 32 if weights == 32 else 8,
                    "accuracy": 0.9 - 1 / 10**weights,
                }
                row |= {"accumulator": "" if weights == 32 else 20}
                row |= {"bytes": "" if file == "reference" else 900 + 100 * weights}
                row |= {"as_evaluated": "" if weights == 32 else 0.99}
                rows.append(row)
    return rows


def timed():
    """The files of one of them, timed."""
    return [
        {
            "file": f"net_{what}.{suffix}",
            "threads": threads,
            "batch": batch,
            **dict.fromkeys(("fastest", "low", "seconds", "high"), batch * place / 1e5 / threads),
        }
        for place, what in enumerate(("w4a8", "w8a8", "analog"), start=1)
        for suffix in ("onnx", "tflite")
        for threads, batch in ((1, 1), (1, 256), (2, 1), (2, 256))
    ]


def curves():
    """Selection better than structured pruning, which cannot be had with three neurons."""
    rows = [("select", 8, 0.9), ("select", 4, 0.8), ("select", 3, 0.7)]
    rows += [("structured", 8, 0.9), ("structured", 4, 0.5)]
    return [
        {"method": method, "neurons": neurons, "test_accuracy": score}
        for method, neurons, score in rows
    ]


def latencies():
    """A network with half of the operations, and a batch of 256 on which it gains more."""
    return [
        {
            "network": network,
            "runtime": runtime,
            "batch": batch,
            "fastest": seconds * batch,
            "flops": flops,
            "nonzero_flops": flops,
        }
        for network, flops, seconds in (("analog", 800, 2e-6), (CHAINS[3], 400, 1e-6))
        for runtime in ("numpy", "onnxruntime")
        for batch in (1, 256)
    ]


def on_balls(model, tolerance):
    """Columns of lumping over its tolerance, of a model that is certified."""
    if model != "net":
        return {}
    numbers = {"ball_bound": 4 * tolerance, "ball_found": 2 * tolerance}
    return {"ball_radius": "1/255", **numbers, "ball_certified_agreement": 1 - tolerance}


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder with results/ of two models: "net" with everything, "net-b" brought in as a file and
    never compared.
    """
    folder = tmp_path_factory.mktemp("run")
    results = folder / "results"
    rng = np.random.default_rng(0)
    images = rng.random((40, 4, 4, 1), np.float32)
    images[:, 0] = 0
    network = Network(
        [
            Flatten(),
            Dense(
                rng.standard_normal((16, 8)).astype("float32"),
                rng.standard_normal(8).astype("float32"),
                "relu",
            ),
            Dense(rng.standard_normal((8, 3)).astype("float32"), np.zeros(3, "float32"), "linear"),
        ],
        (4, 4, 1),
    )
    (results / "data").mkdir(parents=True)
    splits = {"train": 30, "validation": 9, "test": 12}
    arrays = {
        f"{split}_images": np.zeros((count, 4, 4, 1), np.uint8) for split, count in splits.items()
    }
    arrays |= {
        f"{split}_labels": (np.arange(count) % 3).astype(np.uint8)
        for split, count in splits.items()
    }
    write(results / "data/digits.npz", arrays, ("a", "b", "c"), "Digits")
    for model in ("net", "net-b"):
        (results / "keras").mkdir(exist_ok=True)
        save(network, results / f"keras/{model}.h5")
        lumped, curve, layers = [], [], []
        for step, bits in enumerate(BITS):
            (results / "quantized").mkdir(exist_ok=True)
            save(
                quantize(network, images, method="gpfq", bits=float(bits), alphabet_scalar=2.0),
                results / f"quantized/{model}_{bits}bit.h5",
            )
            rows = [
                {
                    "method": method,
                    "bits": float(bits),
                    "alphabet_scalar": float(scalar),
                    "radius": "median",
                    "per_channel": False,
                    "conv": "channel",
                    "validation_accuracy": (
                        0.9 - 0.01 * abs(scalar - 2) - 0.05 * (method == "msq") + 0.01 * step
                    ),
                    "test_accuracy": 0.9 - 0.05 * (method == "msq") + 0.01 * step,
                    "analog_validation_accuracy": 0.93,
                    "analog_test_accuracy": 0.92,
                    "dead_weights": 32,
                }
                for method in METHODS
                for scalar in (1, 2, 3)
            ]
            other = {"alphabet_scalar": None, "radius": "output", "per_channel": True}
            rows += [
                {**row, **other, "conv": "joint", "validation_accuracy": 0.95 - 0.2 * step}
                for row in (rows[1], rows[4])
            ]
            write_table(results / f"sweep/{model}/{bits}bit.csv", rows)
            write_json(
                results / f"metrics/quantized/{model}_{bits}bit.json",
                {**rows[1], "methods": {"gpfq": rows[1], "msq": rows[4]}},
            )
            for method in METHODS:
                for kind in ("cumulative", "single"):
                    for position, layer in enumerate(LAYERS, start=1):
                        row = {
                            "method": method,
                            "bits": bits,
                            "kind": kind,
                            "layer": layer,
                            "position": position,
                            "test_accuracy": 0.91 - 0.01 * position,
                            "analog_accuracy": 0.92,
                        }
                        layers.append(row)
        for name in ("analog", *BITS):
            lumped.append(
                {
                    "network": name,
                    "layer": "dense_1",
                    "neurons": 8,
                    "classes": 8 - (name == "analog" and model == "net-b"),
                    "published_classes": 8 if model == "net" else "",
                    "neurons_after": 8,
                }
            )
            for order in ("lump",) if name == "analog" else ("lump-quantize", "quantize-lump"):
                for tolerance in (0.0, 0.1):
                    row = {
                        "network": name,
                        "order": order,
                        "tolerance": tolerance,
                        "neurons": 8,
                        "neurons_kept": 8 - int(10 * tolerance),
                    }
                    curve.append(
                        {
                            **row,
                            "test_accuracy": 0.9,
                            "agreement": 0.99,
                            "bound": 40 * tolerance,
                            "certified_share": 1 - tolerance,
                            **on_balls(model, tolerance),
                        }
                    )
        write_table(results / f"metrics/layers/{model}.csv", layers)
        (results / f"metrics/layers/{model}").mkdir()
        write_table(
            results / f"metrics/layers/{model}/sensitivity.csv",
            [
                {
                    "method": method,
                    "bits": float(bits),
                    "layer": layer,
                    "weights": 40,
                    "layer_bits": "" if layer == LAYERS[-1] else float(bits),
                    "skipped": "not asked for" if layer == LAYERS[-1] else "",
                    "error": 0.1,
                    "bytes": 30,
                    "share": 1 / len(LAYERS),
                }
                for method in ("gpfq", "msq")
                for bits in BITS
                for layer in LAYERS
            ],
        )
        write_table(results / f"metrics/lumping/{model}.csv", lumped)
        write_table(results / f"metrics/tolerance/{model}.csv", curve)
        rows = [
            {"network": "analog", "bits": "", **measures(0.92, 400)},
            {"network": "quantized", "bits": 2, **measures(0.9, 60)},
        ]
        write_table(results / f"metrics/networks/{model}.csv", rows)
    history = [
        {
            "epoch": e,
            "training_loss": 1 / e,
            "training_accuracy": 1 - 0.3 / e,
            "validation_loss": 1.2 / e,
            "validation_accuracy": 1 - 0.4 / e,
        }
        for e in (1, 2, 3)
    ]
    write_table(results / "metrics/training/net.csv", history)
    write_json(
        results / "metrics/conversion/net.json",
        {"text_bit_for_bit": True, "max_logit_difference": 2.5e-5},
    )
    compared = [
        {
            "model": "net",
            "seed": seed,
            "chain": chain,
            **measures(0.92 - 0.01 * place - 0.002 * seed, 400 - 50 * place),
        }
        for seed in (0, 1)
        for place, chain in enumerate(CHAINS)
    ]
    write_table(results / "metrics/comparison.csv", compared)
    write_table(results / "metrics/certificates.csv", certificates())
    write_table(results / "metrics/deployed.csv", deployed())
    write_table(results / "timings/deployed/net.csv", timed())
    write_table(results / "metrics/curves/net.csv", curves())
    write_table(results / "timings/latency/chains/net.csv", latencies())
    config = {
        "seed": 0,
        "models": {
            "net": {
                "dataset": "digits",
                "architecture": {"name": "mlp", "hidden": [8]},
                "training": {"epochs": 3, "batch_size": 4, "optimizer": "adam"},
            },
            "net-b": {"dataset": "digits", "weights": "other.h5"},
        },
        "sweep": {
            "methods": list(METHODS),
            "bits": [1.58, 2, 4],
            "alphabet_scalars": [1, 2, 3],
            "samples": 40,
            "conv": "channel",
        },
        "lumping": {"chains": [], "tolerances": [0, 0.1], "input_range": [0, 1]},
        "comparison": {"models": ["net"], "seeds": [0, 1], "samples": 40, "chains": []},
        "curves": {"models": ["net"], "fractions": [0.5], "samples": 40},
        "certificates": {"radius": ["1/255", "2/255"], "images": 10},
        "report": {"title": "Title", "subtitle": "Subtitle", "author": "Author"},
    }
    write_json(
        results / "provenance.json",
        {"commit": "0123456789abcdef", "seed": 0, "versions": {"python": "3.11"}, "config": config},
    )
    return results


def figure_inputs(results, figure, model="net"):
    sweep = sorted(results.glob(f"sweep/{model}/*.csv"))
    compared = ("--comparison", results / "metrics/comparison.csv", "--model", model)
    certified = ("--certificates", results / "metrics/certificates.csv", "--model", model)
    return {
        "training": ("--history", results / f"metrics/training/{model}.csv"),
        "alphabet_scalar": ("--sweep", *sweep),
        "bits": ("--sweep", *sweep),
        "cumulative": ("--layers", results / f"metrics/layers/{model}.csv"),
        "sensitivity": ("--layers", results / f"metrics/layers/{model}.csv"),
        "weights": (
            "--analog",
            results / f"keras/{model}.h5",
            "--quantized",
            *(results / f"quantized/{model}_{bits}bit.h5" for bits in BITS),
            "--bits",
            *BITS,
        ),
        "classes": ("--lumping", results / f"metrics/lumping/{model}.csv"),
        "tolerance": ("--tolerance", results / f"metrics/tolerance/{model}.csv"),
        "pareto": compared,
        "chains": compared,
        "sparsity": compared,
        "chosen_bits": (
            *("--networks", *(results / f"quantized/{model}_{bits}bit.h5" for bits in BITS)),
            *("--chains", *(f"mixed-kilobytes={10 * place + 2}" for place in range(len(BITS)))),
        ),
        "deployment": (
            *("--deployed", results / "metrics/deployed.csv", "--model", model),
            *("--latency", results / f"timings/deployed/{model}.csv"),
        ),
        "neurons": ("--curves", results / f"metrics/curves/{model}.csv"),
        "certified_bits": certified,
        "certified_chains": certified,
    }[figure]


def chapter(run, results, name, output, models=("net", "net-b")):
    """What the script of a chapter writes."""
    of_results = ("--results", results)
    arguments = {
        "lumping": (),
        "experiments": (
            *of_results,
            *("--datasets", "digits", "--models", *models, "--trained", "net"),
            *("--converted", "net"),
        ),
        "quantized": (
            *(*of_results, "--models", *models, "--bits", *BITS),
            *("--detailed", models[0]),
        ),
        "reproduction": (
            *of_results,
            *("--models", *models, "--datasets", *["digits" for _ in models]),
            *("--samples", *["40" for _ in models], "--bits", *BITS),
            *("--published", *sorted((ROOT / "report/published").glob("*.csv"))),
            *("--comparison", results / "metrics/comparison.csv"),
        ),
        "lumped": (*of_results, "--models", *models, "--detailed", *models),
        "deployment": (
            *("--deployed", results / "metrics/deployed.csv"),
            *("--latency", results / "timings/deployed/net.csv"),
        ),
        "comparison": (
            *("--comparison", results / "metrics/comparison.csv"),
            *("--latency", results / "timings/latency/chains/net.csv"),
        ),
        "neurons": ("--curves", results / "metrics/curves/net.csv"),
        "certified": ("--certificates", results / "metrics/certificates.csv"),
    }
    run(f"chapters/{name}", *arguments[name], "--output", output)
    return json.loads(Path(output).read_text())


@pytest.mark.parametrize("figure", FIGURES)
def test_figure_is_drawn_the_same_each_time(figure, results, run, tmp_path):
    pictures = [tmp_path / "a.svg", tmp_path / "b.svg"]
    for picture in pictures:
        run(figure, *figure_inputs(results, figure), "--output", picture)
    first, second = (picture.read_bytes() for picture in pictures)
    assert first == second
    assert b"<svg" in first and b"<text" not in first and b"dc:date" not in first


def test_architectures_are_told_apart_by_their_layers(results, run, tmp_path):
    other = tmp_path / "deep.csv"
    row = {
        "network": "analog",
        "layer": "dense_1",
        "neurons": 9,
        "classes": 7,
        "published_classes": 2,
        "neurons_after": 6,
    }
    write_table(
        other, [row, {**row, "layer": "dense_2"}, {**row, "network": "nnrelief-fraction=0.8"}]
    )
    run(
        "architectures",
        "--lumping",
        results / "metrics/lumping/net.csv",
        results / "metrics/lumping/net-b.csv",
        other,
        "--output",
        tmp_path / "a.svg",
    )
    assert b"<svg" in (tmp_path / "a.svg").read_bytes()


def test_heat_map_sets_chains_beside_what_they_are_without_their_quantizer():
    from chains import NONE, PLACE, table

    pruned, four = "magnitude-fraction=0.2", "gpfq-bits=4"
    rows, columns, cells = table(
        [
            "analog",
            four,
            "msq-bits=2",
            pruned,
            f"{four}/lump-tolerance=0",
            f"{pruned}/{four}",
            "structured-fraction=0.8",
        ]
    )
    alone, lumped, after = (PLACE,), (PLACE, "exact lumping"), ("Magnitude 0.2", PLACE)
    assert rows == [alone, lumped, after]
    assert columns == [NONE, "GPFQ 4 bits"]  # nothing stands around the other quantizer
    assert cells == {
        (alone, NONE): "analog",
        (alone, "GPFQ 4 bits"): four,
        (lumped, "GPFQ 4 bits"): f"{four}/lump-tolerance=0",
        (after, NONE): pruned,
        (after, "GPFQ 4 bits"): f"{pruned}/{four}",
    }


def test_heat_map_without_chains():
    from chains import NONE, PLACE, table

    assert table(["analog", "gpfq-bits=4", "msq-bits=2"])[:2] == (
        [(PLACE,)],
        [NONE, "GPFQ 4 bits", "MSQ 2 bits"],
    )
    assert table(["analog", "lump-tolerance=0"])[:2] == ([(), ("exact lumping",)], [NONE])


def test_names_along_a_line_are_shortened_to_what_differs():
    from sparsity import short

    assert short(
        ["NNrelief 0.9, iterations 8, epochs 2", "NNrelief 0.9, iterations 2, epochs 2"]
    ) == ["NNrelief 0.9, iterations 8, epochs 2", "2"]
    assert short(["Magnitude 0.1", "Magnitude 0.5"]) == ["Magnitude 0.1", "0.5"]
    assert short(["NNrelief 0.9, epochs 1", "NNrelief 0.8, epochs 2"]) == [
        "NNrelief 0.9, epochs 1",
        "NNrelief 0.8, epochs 2",
    ]


def test_every_figure_has_a_caption():
    text = (ROOT / "report/captions/figure.rst").read_text()
    for figure in FIGURES:
        wildcards = SimpleNamespace(figure=figure, model="net")
        caption = jinja2.Template(text).render(snakemake=SimpleNamespace(wildcards=wildcards))
        assert "**net**" in caption and len(caption) > 100
    assert {path.stem for path in (SCRIPTS / "figures").glob("*.py")} == {
        *FIGURES,
        "architectures",
        "style",
    }


def test_names():
    assert [names.bits_name(bits) for bits in (1.58, "1.58", 2, "4", 3.0)] == [
        "ternary",
        "ternary",
        "2 bits",
        "4 bits",
        "3 bits",
    ]
    assert names.chain_name("analog") == "analog"
    assert (
        names.chain_name("nnrelief-fraction=0.95/gpfq-bits=1.58/lump-tolerance=0")
        == "NNrelief 0.95 → GPFQ ternary → exact lumping"
    )
    assert names.chain_name("lump-tolerance=0.3") == "Lumping 0.3"
    published = "gpfq-bits=1.58-alphabet_scalar=best"
    assert names.chain_name(published) == "GPFQ ternary as published"
    assert names.chain_name(f"{published}-conv=joint").endswith("scalar best, conv joint")


@given(st.lists(st.floats(0, 100), min_size=1, max_size=12).map(sorted), st.floats(0.5, 8))
@settings(max_examples=50, deadline=None)
def test_spread_keeps_labels_apart_in_order_and_inside(positions, step):
    import style

    placed = style.spread(positions, step, 0, 100)
    assert all(b - a >= step - 1e-6 for a, b in itertools.pairwise(placed))
    if step * (len(positions) - 1) <= 100:
        assert min(placed) >= -1e-6 and max(placed) <= 100 + 1e-6


@given(st.lists(st.floats(0, 100), min_size=1, max_size=6))
@settings(max_examples=30, deadline=None)
def test_accuracy_axis_shows_all_values_between_ticks(values):
    import style

    figure, axes = style.plt.subplots()
    style.accuracy_axis(axes, values)
    low, high = axes.get_ylim()
    ticks = axes.yaxis.get_major_locator().locs
    style.plt.close(figure)
    assert low <= min(values) + 1e-6 and high >= min(max(values), 99.9) - 1e-6
    assert 2 <= len(ticks) <= 12 and all(low <= tick <= high for tick in ticks)


def test_labels_do_not_overlap():
    import style

    rng = np.random.default_rng(1)
    figure, axes = style.plt.subplots(figsize=(style.WIDTH, 4))
    axes.set(xlim=(0, 1), ylim=(0, 1))
    points = rng.uniform(0.2, 0.8, (25, 2))
    omitted = style.place_labels(
        axes, [(x, y, f"technique number {i}", "black") for i, (x, y) in enumerate(points)]
    )
    boxes = [text.get_window_extent() for text in axes.texts]
    style.plt.close(figure)
    assert len(boxes) + len(omitted) == len(points) and len(boxes) >= 20
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_the_toy_network_of_the_chapter_on_lumping(results, run, tmp_path):
    toy = chapter(run, results, "lumping", tmp_path / "lumping.json")["toy"]
    assert toy["exact_weight"] == pytest.approx(2.3, abs=1e-12)
    assert toy["published_weight"] == pytest.approx(1.1, abs=1e-12)
    values = {tuple(point["input"]): point for point in toy["points"]}
    for point, value in {
        (0, 0): 1.481,
        (1, 1): 2.746,
        (1, 0): 2.010,
        (0, 1): 2.217,
        (-5, -5): 1.090,
        (2, 3): 4.747,
    }.items():
        assert values[point]["function"] == pytest.approx(value, abs=1e-12)
        assert values[point]["exact"] == pytest.approx(value, abs=1e-12)
        assert values[point]["published"] < value - 0.3


def test_experiments_tell_what_was_trained_here(results, run, tmp_path):
    told = chapter(run, results, "experiments", tmp_path / "experiments.json")
    assert told["datasets"]["digits"]["train"] == 30
    net, other = told["models"]["net"], told["models"]["net-b"]
    assert net["history"]["epochs"] == 3 and net["conversion"]["text_bit_for_bit"]
    assert "history" not in other and "conversion" not in other
    assert [layer["weights"] for layer in net["layers"]] == [0, 128, 24]


def test_models_are_kept_apart_and_chosen_on_validation(results, run, tmp_path):
    told = chapter(run, results, "quantized", tmp_path / "quantized.json")["models"]
    net, other = told["net"], told["net-b"]
    assert net["settings"] == other["settings"] == 24
    assert (net["scalars"], net["others"]) == (3, 1)
    settings = [(row["alphabet_scalar"], row["setting"]) for row in net["best"]]
    assert settings == [(None, "output")] * 2 + [(2.0, "2")] * 4
    assert [row["published_score"] for row in net["best"]] == [
        row["test_score"] for row in net["best"]
    ]
    assert [row["bits_name"] for row in net["by_bits"]] == ["ternary", "2 bits", "4 bits"]
    assert [row["bits"] for row in net["selected"]] == [1.58, 2, 4]
    assert [row["name"] for row in net["measures"]] == ["analog", "2 bits"]
    first, *_, last = net["each_layer"]
    assert (first["layer"], first["layer_bits"], first["skipped"]) == ("dense 1", 1.58, None)
    assert (last["layer_bits"], last["skipped"]) == (None, "not asked for")
    assert first["bits_name"] == "ternary" and other["each_layer"] == []


def test_classes_by_model_and_by_architecture(results, run, tmp_path):
    told = chapter(run, results, "lumped", tmp_path / "lumped.json")
    net, other = told["models"]["net"], told["models"]["net-b"]
    assert (
        net["lumping"]["merged"] == 0 and other["lumping"]["totals"][0]["published_classes"] is None
    )
    lump = next(row for row in net["tolerance"]["usable"] if row["order"] == "lump")
    assert lump["near"]["tolerance"] == 0.1 and lump["near"]["neurons_kept"] == 7
    assert "NaN" not in (tmp_path / "lumped.json").read_text()
    (group,) = told["architectures"]
    assert group["models"] == ["net", "net-b"]
    row = {"name": "analog", "layer": "dense 1", "neurons": 8}
    same = {"mean": 8, "min": 8, "max": 8}
    assert group["rows"][0] == {
        **row,
        "classes": {"mean": 7.5, "min": 7, "max": 8},
        "published_classes": same,
        "neurons_after": same,
    }


def test_the_comparison_of_chains(results, run, tmp_path):
    entry = chapter(run, results, "comparison", tmp_path / "comparison.json")["net"]
    rows = {row["chain"]: row for row in entry["rows"]}
    assert entry["seeds"] == 2 and list(rows) == list(CHAINS)
    assert rows["analog"]["score"] == pytest.approx(0.919)
    assert all(
        row["front"] for row in rows.values()
    )  # each chain is smaller and worse than the one before it
    assert entry["smallest"] is None and entry["smallest_chain"] is None  # analog is none
    assert [(pair["before"]["chain"], pair["after"]["chain"]) for pair in entry["lumped_last"]] == [
        ("gpfq-bits=4", "gpfq-bits=4/lump-tolerance=0")
    ]


def test_times_beside_the_original(results, run, tmp_path):
    entry = chapter(run, results, "comparison", tmp_path / "comparison.json")["net"]
    times = entry["latency"]
    assert times["columns"] == [[r, b] for r in ("numpy", "onnxruntime") for b in ("1", "256")]
    assert times["original"] == [2e-6, 512e-6] * 2
    analog, lumped = times["rows"]
    assert analog["faster"] == [1] * 4 and lumped["faster"] == [2] * 4
    assert (lumped["chain"], lumped["flops"]) == (CHAINS[3], 400)


def test_curves_by_neurons_and_method(results, run, tmp_path):
    entry = chapter(run, results, "neurons", tmp_path / "neurons.json")["net"]
    assert (entry["hidden"], entry["score"]) == (8, 0.9)
    assert entry["methods"] == ["select", "structured"]
    assert [row["neurons"] for row in entry["rows"]] == [8, 4, 3]
    assert entry["rows"][1] == {"neurons": 4, "scores": [0.8, 0.5], "best": 0.8}
    assert entry["rows"][2] == {"neurons": 3, "scores": [0.7, None], "best": None}


def test_certified_networks(results, run, tmp_path):
    told = chapter(run, results, "certified", tmp_path / "certified.json")
    entry = told["net"]
    assert entry["images"] == 10 and entry["radii"] == ["1/255", "2/255"] and entry["classes"]
    kinds = [network["kind"] for network in entry["networks"]]
    assert kinds == ["analog", *["quantized"] * 3, *["chain"] * 6]
    refused = entry["networks"][-1]
    assert refused["note"] == "not certified: f: no relaxation"
    assert [ball["bound"] for ball in refused["balls"]] == [None, None]
    small, large = entry["by_radius"]
    assert small["analog"]["certified_agreement"] == 1 and small["ratio"] == pytest.approx(5 / 3)
    assert small["quantized"]["best"]["name"] == "ternary"
    assert small["quantized"]["worst"]["name"] == "4 bits"
    assert (small["quantized"]["count"], small["quantized"]["as_many"]) == (3, 0)
    assert small["chain"]["count"] == 5  # one is not certified
    assert large["quantized"]["worst"]["certified_agreement"] == pytest.approx(0.4)
    assert "chain" not in told["net-b"]["by_radius"][0]


@pytest.fixture
def reproduced(results, run, tmp_path):
    """A function: the chapter on reproduction for a network of the published kind with the given
    ternary accuracies, {(method, scalar): accuracy}.
    """
    rng = np.random.default_rng(0)
    layers = [
        Dense(rng.standard_normal((inputs, outputs), np.float32), np.zeros(outputs, "f4"), "relu")
        for inputs, outputs in ((784, 500), (500, 300), (300, 10))
    ]
    here = shutil.copytree(results, tmp_path / "results")
    save(Network([Flatten(), *layers], (28, 28, 1)), here / "keras/net-b.h5")
    table = (here / "metrics/networks/net-b.csv").read_text().splitlines()
    table = [
        ",".join([line, "10000" if number else "samples"]) for number, line in enumerate(table)
    ]
    (here / "metrics/networks/net-b.csv").write_text("\n".join(table) + "\n")

    def reproduced(accuracies):
        rows = [
            {
                "method": method,
                "bits": 1.58,
                "alphabet_scalar": float(scalar),
                "test_accuracy": accuracy,
                "analog_test_accuracy": 0.98,
            }
            for (method, scalar), accuracy in accuracies.items()
        ]
        write_table(here / "sweep/net-b/1.58bit.csv", rows)
        run(
            "chapters/reproduction",
            *("--results", here, "--models", "net", "net-b", "--datasets", "mnist", "mnist"),
            *("--samples", "40", "5000", "--bits", "1.58"),
            *("--output", tmp_path / "reproduction.json"),
            *("--published", *sorted((ROOT / "report/published").glob("*.csv"))),
        )
        return json.loads((tmp_path / "reproduction.json").read_text())["published"]

    return reproduced


def test_published_tables_stand_beside_a_network_of_the_same_kind(reproduced):
    tables = reproduced({("gpfq", 3): 0.97, ("msq", 3): 0.9})
    row = next(row for row in tables["mnist"]["rows"] if row["alphabet_scalar"] == 3)
    assert (row["our_gpfq"], row["our_msq"]) == (0.97, 0.9) and row["gpfq"] == pytest.approx(0.9739)
    ours = {"model": "net-b", "analog": 0.98, "samples": 5000, "images": 10000}
    assert tables["mnist"]["ours"] == ours
    assert tables["mnist"]["rows"][0]["our_gpfq"] is None
    assert tables["vgg16"]["ours"] is None and tables["cifar10"]["ours"] is None
    assert {point["verdict"] for point in tables["vgg16"]["points"]} == {"not examined"}
    leads = {point["name"]: point["published"] for point in tables["cifar10"]["points"]}
    assert leads["widest"] == {"bits_name": "ternary", "lead": pytest.approx(0.6023, abs=1e-4)}
    assert leads["settings"] == {"count": 20, "of": 20}


@pytest.mark.parametrize(
    ("accuracies", "verdicts"),
    [
        (
            {("gpfq", 2): 0.95, ("msq", 2): 0.93, ("gpfq", 3): 0.972, ("msq", 3): 0.9},
            {"ahead": "holds", "settings": "holds", "steadier": "holds", "lost": "holds"}
            | {"scalars": "holds"},
        ),
        (
            {("gpfq", 2): 0.95, ("msq", 2): 0.96, ("gpfq", 3): 0.9, ("msq", 3): 0.95},
            dict.fromkeys(("ahead", "settings", "steadier", "lost", "scalars"), "does not hold"),
        ),
    ],
)
def test_each_published_point_is_judged_by_the_numbers(accuracies, verdicts, reproduced):
    entry = reproduced(accuracies)["mnist"]
    assert {point["name"]: point["verdict"] for point in entry["points"]} == verdicts
    # The published numbers at the same settings: 95.48 and 97.39 by GPFQ, 93.30 and 90.69 by MSQ.
    agreement = entry["agreement"]
    assert agreement["of"] == 4
    assert agreement["within"] == sum(
        abs(ours - theirs)
        < 1.96 * (theirs * (1 - theirs) / 10000 + ours * (1 - ours) / 10000) ** 0.5
        for ours, theirs in zip(accuracies.values(), (0.9548, 0.933, 0.9739, 0.9069), strict=True)
    )


def test_no_semicolon_of_the_text_ends_an_expression():
    """Typst takes the one right behind `#if … [ … ]` for its own, and the reader never sees it."""
    for chapter in sorted((ROOT / "report/chapters").glob("*.typ")):
        for line in chapter.read_text("utf-8").splitlines():
            assert not re.search(r"#(if|for)\b[^\n]*\]; ", line), f"{chapter.name}: {line}"


def test_what_a_figure_is_drawn_from_is_what_its_caption_says():
    """The thesis and the rules name the same tables."""
    rules = (ROOT / "rules/common.smk").read_text()
    block = re.search(r"^FIGURES = (\{.*?^\})", rules, re.MULTILINE | re.DOTALL)[1]
    known = {"SWEEP": ["results/sweep/{model}/"], "BITS": [], "MIXED": [], "expand": folder}
    of_rules = eval(block, known)
    style = (ROOT / "report/style.typ").read_text()
    block = re.search(r"^#let sources = \((.*?)^\)", style, re.MULTILINE | re.DOTALL)[1]
    of_captions = {
        name: re.findall(r'"([^"]+)"', paths)
        for name, paths in re.findall(r"^  (\w+): \((.*)\),$", block, re.MULTILINE)
    }
    assert of_captions == {
        name: [path for one in tables.values() for path in ([one] if isinstance(one, str) else one)]
        for name, tables in of_rules.items()
    }


def folder(path, **_):
    """In place of Snakemake's expand: the folder that all files are in."""
    shared = path.replace("{{model}}", "model").split("{")[0]
    return [shared[: shared.rindex("/") + 1].replace("model", "{model}")]


def listed(files, folder):
    """A file with the names of others, as long lists come to a script."""
    (folder / "figures.txt").write_text("".join(f"{file}\n" for file in files))
    return folder / "figures.txt"


@pytest.mark.parametrize(("comparison", "architectures"), [(True, False), (False, True)])
def test_thesis_is_typeset_the_same_each_time(comparison, architectures, results, run, tmp_path):
    figures = []
    for figure in FIGURES if comparison else ():
        figures.append(tmp_path / f"figures/net/{figure}.svg")
        run(figure, *figure_inputs(results, figure), "--output", figures[-1])
    if architectures:
        figures.append(tmp_path / "figures/architectures.svg")
        run(
            "architectures",
            "--lumping",
            results / "metrics/lumping/net.csv",
            results / "metrics/lumping/net-b.csv",
            "--output",
            figures[-1],
        )
    data = [results / "provenance.json"]
    told = ("lumping", "experiments", "quantized", "lumped", "reproduction")
    for name in (
        *told,
        *(("comparison", "deployment", "neurons", "certified") if comparison else ()),
    ):
        data.append(tmp_path / f"{name}.json")
        chapter(run, results, name, data[-1])
    for name in ("a", "b"):
        run(
            "typeset",
            *("--source", ROOT / "report/thesis.typ", "--data", *data),
            *("--figures", listed(figures, tmp_path), "--output", tmp_path / f"{name}.pdf"),
            *("--pipeline", ROOT / "report/pipeline.svg"),
        )
    first, second = ((tmp_path / f"{name}.pdf").read_bytes() for name in ("a", "b"))
    assert first == second and first.startswith(b"%PDF")
    assert len(re.findall(rb"/Type\s*/Page\b", first)) > 15
    # PDF/UA-1: the typesetter refuses a figure or a formula without an alternative text.
    assert b"<pdfuaid:part>1<" in first and b"/StructTreeRoot" in first


KINDS = {  # what takes the place of accuracy and agreement in the tables
    "numbers": ("mean_squared_error", "relative_difference", "mean squared error"),
    "no labels": ("agreement", None, "agreement"),
    "numbers without labels": ("relative_difference", None, "relative difference"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_figures_and_thesis_follow_the_measure(kind, results, run, tmp_path):
    measure, second, words = KINDS[kind]
    here = shutil.copytree(results, tmp_path / "results")
    for path in [*here.rglob("*.csv"), *here.rglob("*.json")]:
        text = path.read_text().replace("agreement", second or "beside")
        path.write_text(text.replace("accuracy", measure))
    images = {
        f"{split}_images": np.zeros((count, 4, 4, 1), np.float32)
        for split, count in (("train", 30), ("validation", 9), ("test", 12))
    }
    labels = {
        name.replace("images", "labels"): np.zeros((len(x), 3), np.float32)
        for name, x in images.items()
    }
    target = "classes" if kind == "no labels" else "numbers"
    arrays = {**images, **labels} if kind == "numbers" else images
    write_own(here / "data/digits.npz", arrays, (), "Mine", target, Preprocessing())
    figures = []
    for figure in FIGURES:
        figures.append(tmp_path / f"figures/net/{figure}.svg")
        run(figure, *figure_inputs(here, figure), "--output", figures[-1])
    data = [here / "provenance.json"]
    chapters = ("lumping", "experiments", "quantized", "lumped", "reproduction")
    for name in (*chapters, "comparison", "deployment", "neurons", "certified"):
        data.append(tmp_path / f"{name}.json")
        told = chapter(run, here, name, data[-1])
        if name == "quantized":
            entry = told["models"]["net"]
            assert entry["measure"]["title"].startswith(words)
            best = min if "error" in measure or "difference" in measure else max
            for row in entry["by_bits"]:
                scores = [other["test_score"] for other in (row["gpfq"], row["msq"])]
                assert row["leader"]["test_score"] == best(scores)
    run(
        "typeset",
        *("--source", ROOT / "report/thesis.typ", "--data", *data),
        *("--figures", listed(figures, tmp_path), "--output", tmp_path / "thesis.pdf"),
    )
    assert (tmp_path / "thesis.pdf").read_bytes().startswith(b"%PDF")
    told = text_of(tmp_path / "thesis.pdf")
    assert "must not be chosen by the measure that is reported" in told
    results_of_its_own = told[
        told.rindex("7.1 All networks") : told.index("Lybrand and Saab published")
    ]
    assert "accura" not in results_of_its_own.lower()


def test_a_method_without_alphabet_scalars(results, run, tmp_path):
    """MSQ has the other alphabet alone: figures leave it out, and the thesis says so."""
    here = shutil.copytree(results, tmp_path / "results")
    for path in here.glob("sweep/net*/*.csv"):
        table = pd.read_csv(path)
        table[(table.method == "gpfq") | table.alphabet_scalar.isna()].to_csv(path, index=False)
    provenance = json.loads((here / "provenance.json").read_text())
    provenance["config"]["sweep"]["alphabet_scalars"] = {"gpfq": [1, 2, 3], "spfq": [2, 3]}
    write_json(here / "provenance.json", provenance)
    figures = [tmp_path / f"figures/net/{name}.svg" for name in ("alphabet_scalar", "bits")]
    for path in figures:
        run(path.stem, *figure_inputs(here, path.stem), "--output", path)
    data = [here / "provenance.json"]
    for name in ("lumping", "experiments", "quantized", "lumped", "reproduction"):
        data.append(tmp_path / f"{name}.json")
        chapter(run, here, name, data[-1])
    run(
        "typeset",
        *("--source", ROOT / "report/thesis.typ", "--data", *data),
        *("--figures", listed(figures, tmp_path), "--output", tmp_path / "thesis.pdf"),
    )
    told = text_of(tmp_path / "thesis.pdf")
    assert "The experiments with GPFQ and SPFQ try up to 3 of them, from 1 to 3" in told
    assert "run at every bit width and with every alphabet that there is for it" in told
    assert "and 1 other alphabet. The published alphabet was left out for MSQ." in told


def text_of(pdf):
    """The words of a document, in one line."""
    if not shutil.which("pdftotext"):
        pytest.skip("pdftotext is not there, which reads the words of a document")
    done = subprocess.run(["pdftotext", pdf, "-"], check=True, capture_output=True, text=True)
    return " ".join(done.stdout.split())


def test_latency_is_told_beside_that_of_the_analog_file(results, run, tmp_path):
    told = chapter(run, results, "deployment", tmp_path / "deployment.json")
    assert told["net-b"]["latency"] is None
    latency = told["net"]["latency"]
    assert [(c["batch"], c["threads"]) for c in latency["columns"]] == [
        (1, 1),
        (1, 2),
        (256, 1),
        (256, 2),
    ]
    (row,) = [r for r in latency["files"] if (r["what"], r["file"]) == ("w4a8", "tflite")]
    assert [cell["milliseconds"] for cell in row["cells"]] == pytest.approx(
        [0.01, 0.005, 2.56, 1.28]
    )
    assert [cell["faster"] for cell in row["cells"]] == pytest.approx([3] * 4)


def test_typesetting_names_what_is_missing_and_leaves_no_file(tmp_path, run):
    with pytest.raises(SystemExit, match=r"provenance\.json"):
        run(
            "typeset",
            *("--source", ROOT / "report/thesis.typ", "--data", tmp_path / "provenance.json"),
            *("--output", tmp_path / "thesis.pdf"),
        )
    assert not list(tmp_path.iterdir())


def test_the_landing_page_has_the_chains_that_matter(results, run, tmp_path):
    chapter(run, results, "comparison", tmp_path / "comparison.json")
    arguments = ("--pipeline", ROOT / "report/pipeline.svg", "--output", tmp_path / "a.html")
    run("landing", "--comparison", tmp_path / "comparison.json", *arguments)
    page = (tmp_path / "a.html").read_text()
    assert "<b>net</b>: 7 of 7 rows, means of 2 seeds" in page
    assert "<b>Magnitude 0.2 → GPFQ 4 bits</b>" in page and "<svg" in page and "<?xml" not in page
    run("landing", "--comparison", *arguments)
    assert "<table" not in (tmp_path / "a.html").read_text()


def test_tables_and_figures_for_latex_say_what_the_thesis_says(results, run, tmp_path):
    figures = [tmp_path / "figures/net/bits.svg"]
    run("bits", *figure_inputs(results, "bits"), "--output", figures[0])
    data = [results / "provenance.json"]
    for name in ("lumping", "experiments", "quantized", "lumped", "reproduction", "comparison"):
        data.append(tmp_path / f"{name}.json")
        chapter(run, results, name, data[-1])
    for name in ("a", "b"):
        run(
            "latex",
            *("--source", ROOT / "report/thesis.typ", "--data", *data),
            *("--figures", listed(figures, tmp_path), "--pipeline", ROOT / "report/pipeline.svg"),
            *("--output", tmp_path / f"{name}.zip"),
        )
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    assert files["figures/bits-net.pdf"].startswith(b"%PDF")
    shown = re.findall(r"\\input\{(.*?)\}", files["main.tex"].decode())
    assert {*shown} == {name for name in files if name.endswith(".tex")} - {"main.tex"}
    sizes = files["tables/tab-sizes-net.tex"].decode()
    assert r"\begin{tabular}{lrrrrrr}" in sizes and r"\label{tab-sizes-net}" in sizes
    assert r"analog & 92.00 (91.0--93.0) & 98.00 & 4.00 & 0.4 & 0.4 & 1.0$\times$ \\" in sizes
    for name in shown:
        text = files[name].decode()
        assert text.count("{") == text.count("}") and text.count("$") % 2 == 0, name
        assert text.isascii(), name
        assert set(re.findall(r"\\begin\{(\w+)\}", text)) == set(
            re.findall(r"\\end\{(\w+)\}", text)
        )
