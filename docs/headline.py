"""Draw README's headline from the results of the default configuration: `make headline`.

The table between the markers of README.md and docs/images/pareto.svg are made anew from
results/metrics/comparison.csv and results/figures/; no number is typed.
"""

import json
import re
import shutil
import sys
from pathlib import Path
from statistics import mean

import pandas

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "src"))

from netreduce.chains.names import chain_name  # noqa: E402

MODEL = "mnist"
CHAINS = (
    "analog",
    "gpfq-bits=4",
    "gpfq-bits=1.58",
    "gptq-bits=1.58",
    "lump-tolerance=0.75",
    "nnrelief-fraction=0.95",
    "nnrelief-fraction=0.95/gpfq-bits=4",
)
MARKED = re.compile(r"(<!-- headline -->\n).*?(<!-- end -->)", re.DOTALL)


def table(results: Path) -> str:
    """Accuracy, agreement and bytes of some chains, means over the seeds."""
    rows = pandas.read_csv(results / "metrics/comparison.csv")
    rows = rows[rows.model == MODEL]
    groups = {chain: rows[rows.chain == chain] for chain in CHAINS}
    original = mean(smallest(groups["analog"]))
    lines = ["| chain | accuracy | same answer | bytes | smaller |", "|---|---:|---:|---:|---:|"]
    for chain, group in groups.items():
        size = mean(smallest(group))
        lines.append(
            f"| {label(chain)} | {group.accuracy.mean():.2%} | {group.agreement.mean():.2%}"
            f" | {size:,.0f} | {original / size:.1f}× |"
        )
    provenance = json.loads((results / "provenance.json").read_text(encoding="utf-8"))
    hidden = provenance["config"]["models"][MODEL]["architecture"]["hidden"]
    return (
        "![Accuracy against bytes of every chain](docs/images/pareto.svg)\n\n"
        + "\n".join(lines)
        + f"\n\nMNIST, hidden layers of {' and '.join(map(str, hidden))} neurons, means of"
        f" {rows.seed.nunique()} seeds on {rows.samples.max():,} test images; bytes of the"
        " smallest lossless packing. Made by `make headline` from the results of the default"
        " configuration.\n"
    )


def smallest(group: pandas.DataFrame) -> pandas.Series:
    return group[["float_bytes", "dense_bytes", "sparse_bytes", "entropy_bytes"]].min(axis=1)


def label(chain: str) -> str:
    if chain == "analog":
        return "as trained"
    return chain_name(chain)


def main(results: Path, root: Path = ROOT) -> None:
    """Write the figure, and the table into README.md."""
    readme = root / "README.md"
    before = readme.read_text(encoding="utf-8")
    text, count = MARKED.subn(lambda found: found[1] + table(results) + found[2], before)
    if count != 1:
        raise SystemExit("README.md: no markers of the headline")
    shutil.copy(results / f"figures/{MODEL}/pareto.svg", root / "docs/images/pareto.svg")
    readme.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "results"))
