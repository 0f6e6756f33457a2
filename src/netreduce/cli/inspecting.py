"""netreduce show, evaluate, convert."""

from dataclasses import asdict
from pathlib import Path

import numpy as np

from netreduce.data.fit import fit_to_dataset
from netreduce.errors import NetreduceError, ParameterError
from netreduce.folding import fold_batch_norm
from netreduce.formats.export import export
from netreduce.lumping import lump
from netreduce.measures.cost import cost, layer_costs
from netreduce.measures.evaluation import evaluate as measured
from netreduce.measures.evaluation import trial
from netreduce.network import Network
from netreduce.network.channels import Channels
from netreduce.network.layers import BatchNormalization, Weighted
from netreduce.quantization.pipeline import QUANTIZABLE

from .app import DataOptions, OutputOptions, ReadOptions
from .files import EXPORTED, check_target, opened, read_network, write_network
from .printing import print_json, print_table


def show(path: Path, read: ReadOptions, output: OutputOptions) -> None:
    network = read_network(path, read)
    macs = {layer.name: layer.macs for layer in layer_costs(network)}
    layers = [
        {
            "layer": name,
            "output": list(shape),
            "parameters": sum(array.size for array in layer.arrays().values()),
            "MACs": macs.get(name, 0),
            "bits": None if (grid := getattr(layer, "quantization", None)) is None else grid.bits,
        }
        for name, layer, shape in zip(network.names, network.layers, network.shapes, strict=True)
    ]
    total = asdict(cost(network))
    techniques = possibilities(network)
    if output.json:
        print_json({"layers": layers, "cost": total, "techniques": techniques})
        return
    print_table(f"{path}, inputs {' × '.join(map(str, network.input_shape))}", layers)
    print_table("cost", [{"": name.replace("_", " "), "value": n} for name, n in total.items()])
    print_table("what can be done", [{"technique": k, "": v} for k, v in techniques.items()])


def possibilities(network: Network) -> dict[str, str]:
    """What each family of techniques finds in a network, in words."""
    weighted = [layer for layer in network.layers if isinstance(layer, Weighted)]
    analog = [
        layer
        for layer in network.layers
        if isinstance(layer, QUANTIZABLE) and layer.quantization is None
    ]
    norms = sum(isinstance(layer, BatchNormalization) for layer in network.layers)
    left = sum(isinstance(layer, BatchNormalization) for layer in fold_batch_norm(network).layers)
    channels = Channels(network)
    neurons = sum(len(channels.members(group)) for group in channels.groups())
    try:
        merges = len(lump(network).merges)
        lumped = f"{merges:,} neurons go exactly; more with a tolerance"
    except NetreduceError as error:
        lumped = f"no: {error}"
    zeros = sum(int(np.count_nonzero(layer.kernel == 0)) for layer in weighted)
    weights = sum(layer.kernel.size for layer in weighted)
    return {
        "quantize": f"{len(analog)} of {len(weighted)} layers with weights are analog",
        "prune": f"{weights:,} weights, {zeros:,} of them zero",
        "select, structured": f"{neurons:,} neurons or channels can go",
        "lump": lumped,
        "fold_batch_norm": f"{norms - left} of {norms} batch normalizations fold",
    }


def evaluate(
    path: Path,
    data: Path,
    reference: Path | None,
    read: ReadOptions,
    options: DataOptions,
    output: OutputOptions,
) -> None:
    network = read_network(path, read)
    other = None if reference is None else read_network(reference, read)
    with opened(data, options) as dataset:
        network = fit_to_dataset(network, dataset)
        if other is not None:
            other = fit_to_dataset(other, dataset)
        test = trial(dataset, "test", other or network)
        found = asdict(measured(network, test.x, test.y, other))
    report({"network": str(path), **found}, output)


def convert(
    path: Path,
    target: Path,
    data: Path | None,
    read: ReadOptions,
    options: DataOptions,
    output: OutputOptions,
) -> None:
    check_target(target, output)
    if data is not None and target.suffix.lower() not in EXPORTED:
        raise ParameterError(
            f"{target}: only {' and '.join(EXPORTED)} hold the preprocessing of --data"
        )
    network = read_network(path, read)
    if data is None:
        write_network(network, target)
    else:
        with opened(data, options) as dataset:
            export(fit_to_dataset(network, dataset), target, dataset.preprocessing)
    report({"network": str(target), "bytes": target.stat().st_size}, output)


def report(row: dict[str, object], output: OutputOptions) -> None:
    """One row of results: a name and a value a line, or JSON."""
    if output.json:
        print_json(row)
        return
    rows = [{"": k.replace("_", " "), "value": v} for k, v in row.items() if v is not None]
    print_table("", rows)
