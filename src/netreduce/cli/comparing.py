"""netreduce compare: a table, a figure, a page, and the networks."""

import re
from collections.abc import Sequence
from html import escape
from importlib import import_module
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory

import numpy as np

from netreduce.chains.names import chain_name
from netreduce.chains.steps import Step, apply, parse_chain
from netreduce.data import Dataset
from netreduce.data.fit import fit_to_dataset
from netreduce.errors import NetreduceError, ParameterError
from netreduce.files import filled, replacing, write_json, write_table
from netreduce.formats import save
from netreduce.network import Network
from netreduce.network.layers import ActivationGrid

from .app import DataOptions, OutputOptions, ReadOptions
from .files import opened, read_network, refuse_existing
from .printing import print_json, print_table, progress, words
from .reducing import measures, parse

DEFAULT = (
    *("gpfq=4", "gpfq=2", "gpfq=1.58", "msq=4", "msq=1.58", "gptq=2", "qronos=2"),
    *("lump", "magnitude=0.3", "nnrelief=0.95", "structured=0.7", "select=0.7", "lowrank=0.6"),
    *("nnrelief=0.95/gpfq=4/lump", "select=0.7/gpfq=4", "select=0.5/gpfq=2"),
)


def compare(
    path: Path,
    data: Path,
    chains: Path | None,
    folder: Path,
    samples: int,
    latency: bool,
    read: ReadOptions,
    options: DataOptions,
    output: OutputOptions,
) -> None:
    import_module("matplotlib")  # where it is missing, nothing is computed or written
    refuse_existing(folder, output, folder=True)
    wanted = [parse(text) for text in DEFAULT] if chains is None else read_chains(chains)
    network = read_network(path, read)
    with TemporaryDirectory(prefix="netreduce-") as temporary:
        part = Path(temporary, "report")
        with opened(data, options) as dataset:
            rows, skipped, networks = _compared(
                network, dataset, wanted, samples, options.seed, part
            )
            times = _times(networks, dataset) if latency else {}
        rows = filled([row | times.get(str(row["chain"]), {}) for row in rows])
        write_table(part / "comparison.csv", rows)
        write_json(part / "comparison.json", {"rows": rows, "skipped": skipped})
        figure(rows, part / "pareto.svg")
        page(path, rows, skipped, part / "index.html")
        copytree(part, folder, dirs_exist_ok=True)
    if output.json:
        print_json({"rows": rows, "skipped": skipped})
        return
    measure = list(rows[0])[1]
    print_table(
        str(path),
        [
            {
                "chain": title(row),
                measure: row[measure],
                "bytes": row["bytes"],
                "MACs": row["MACs"],
                **{name: value for name, value in row.items() if name.endswith(" ms")},
            }
            for row in rows
        ],
    )
    for name, reason in skipped.items():
        print(f"left out: {name}: {reason}")
    print(f"{folder / 'index.html'}")


def _compared(
    network: Network,
    dataset: Dataset,
    chains: Sequence[Sequence[Step]],
    samples: int,
    seed: int,
    folder: Path,
) -> tuple[list[dict[str, object]], dict[str, str], dict[str, Network]]:
    """A row for every chain, whose network goes into the folder, why others were left out, and the
    networks.
    """
    original = fit_to_dataset(network, dataset)
    rows = [{"chain": "analog", **measures(original, original, dataset)}]
    skipped: dict[str, str] = {}
    networks = {"analog": original}
    for chain in progress(chains, "comparing", len(chains)):
        name = "/".join(map(str, chain))
        try:
            reduced = original
            for step in chain:
                reduced = apply(step, reduced, dataset, samples, seed, original)
        except NetreduceError as error:
            skipped[name] = str(error)
            continue
        save(reduced, folder / "networks" / f"{name.replace('/', '__')}.h5")
        networks[name] = reduced
        rows.append({"chain": name, **measures(original, reduced, dataset)})
    return rows, skipped, networks


def _times(networks: dict[str, Network], dataset: Dataset) -> dict[str, dict[str, object]]:
    """Milliseconds by chain, runtime and batch; networks that round activations, which run in
    integers elsewhere, have none.
    """
    from netreduce.measures.latency import BATCH_SIZES, measure_latency

    x = dataset.images("test")
    x = np.resize(x, (max(BATCH_SIZES), *x.shape[1:]))  # repeated where there are fewer
    analog = {
        name: network
        for name, network in networks.items()
        if not any(isinstance(layer, ActivationGrid) for layer in network.layers)
    }
    times: dict[str, dict[str, object]] = {}
    for row in measure_latency(analog, x):
        column = f"{row.runtime} {row.batch} ms"
        times.setdefault(row.network, {})[column] = round(1000 * row.fastest, 4)
    return times


def read_chains(path: Path) -> list[tuple[Step, ...]]:
    """The chains of a YAML file; a mapping may hold them under `chains`."""
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path}: not YAML ({' '.join(str(error).split())})") from None
    entries = content.get("chains") if isinstance(content, dict) else content
    if not isinstance(entries, list) or not entries:
        raise ParameterError(f"{path}: expected a list of chains, found {type(entries).__name__}")
    try:
        return [parse(one) if isinstance(one, str) else parse_chain(one) for one in entries]
    except ParameterError as error:
        raise ParameterError(f"{path}: {error}") from None


def title(row: dict[str, object]) -> str:
    """A chain in words."""
    return chain_name(str(row["chain"]))


def figure(rows: Sequence[dict[str, object]], path: Path) -> None:
    """Quality over size, with the front of what nothing else beats in both."""
    import matplotlib

    matplotlib.use("svg")
    with matplotlib.rc_context({"svg.hashsalt": "netreduce", "font.size": 9}):
        _draw(rows, path)


def _draw(rows: Sequence[dict[str, object]], path: Path) -> None:
    from matplotlib import pyplot as plt
    from matplotlib.ticker import LogLocator

    measure = list(rows[0])[1]
    better = 1 if measure != "mean_squared_error" else -1
    points = [
        (float(str(row["bytes"])) / 1000, float(str(row[measure])), title(row)) for row in rows
    ]
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    best = -float("inf")
    for kilobytes, value, name in sorted(points, key=lambda point: (point[0], -better * point[1])):
        front = better * value > best
        best = max(best, better * value)
        axes.plot(kilobytes, value, "o", color="#0072B2" if front else "#9AA5B1", markersize=6)
        if front:
            axes.annotate(
                name, (kilobytes, value), xytext=(6, -10), textcoords="offset points", fontsize=8
            )
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.xaxis.set_minor_formatter("")
    axes.grid(color="#E4E7EB", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.set_xlabel("size, entropy-coded (kB)")
    axes.set_ylabel(f"test {measure.replace('_', ' ')}")
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as temporary:
        figure.savefig(temporary, metadata={"Date": None})
    plt.close(figure)


def page(
    network: Path, rows: Sequence[dict[str, object]], skipped: dict[str, str], path: Path
) -> None:
    """One HTML page with the figure and the table, without anything from elsewhere."""
    of_original = "_of_original"
    names = [name for name in rows[0] if not name.endswith(of_original)]
    original = [
        f"{name.removesuffix(of_original).replace('_', ' ')} {words(value)}"
        for name, value in rows[0].items()
        if name.endswith(of_original)
    ]
    head = "".join(f"<th>{escape(name.replace('_', ' '))}</th>" for name in names)
    body = "".join(
        f"<tr><th>{escape(title(row))}</th>"
        + "".join(f"<td>{escape(words(row[name]))}</td>" for name in names[1:])
        + "</tr>"
        for row in rows
    )
    left = "".join(f"<li>{escape(name)}: {escape(why)}</li>" for name, why in skipped.items())
    svg = path.with_name("pareto.svg").read_text(encoding="utf-8")
    svg = re.sub(r"^.*?(?=<svg)", "", svg, flags=re.DOTALL)
    content = PAGE.format(
        title=escape(network.name),
        original=escape(", ".join(original)),
        svg=svg,
        head=head,
        body=body,
        skipped=f"<h2>Left out</h2><ul>{left}</ul>" if left else "",
    )
    with replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}: what it costs to be smaller</title>
<meta name="viewport" content="width=device-width">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem;
  color: #1f2933; background: #fff }}
svg {{ width: 100%; height: auto; max-width: 52rem }}
div {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 0.9rem }}
th, td {{ padding: 0.35rem 0.8rem; text-align: right; border-bottom: 1px solid #e4e7eb }}
th:first-child {{ text-align: left; font-weight: 500 }}
thead th {{ font-weight: 600; vertical-align: bottom }}
</style></head><body>
<h1>{title}</h1>
<p>Each point is a chain of techniques; the blue ones are not beaten in both size and quality. The
networks are in <code>networks/</code>, the table in <code>comparison.csv</code>. The original, with
numbers of 32 bits: {original}.</p>
{svg}
<div><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>
{skipped}
</body></html>
"""
