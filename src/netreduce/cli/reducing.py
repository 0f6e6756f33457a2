"""netreduce quantize, reduce."""

import re
from pathlib import Path

from netreduce.chains.names import chain_name
from netreduce.chains.steps import Step, apply, parse_chain
from netreduce.data import Dataset
from netreduce.data.fit import fit_to_dataset
from netreduce.errors import ParameterError
from netreduce.measures.cost import cost
from netreduce.measures.evaluation import evaluate, trial
from netreduce.network import Network

from .app import DataOptions, OutputOptions, ReadOptions
from .files import check_target, opened, read_network, write_network
from .inspecting import report
from .printing import progress


def reduce(
    path: Path,
    data: Path,
    chain: str,
    target: Path,
    samples: int,
    read: ReadOptions,
    options: DataOptions,
    output: OutputOptions,
) -> None:
    check_target(target, output)
    steps = parse(chain)
    network = read_network(path, read)
    with opened(data, options) as dataset:
        original = fit_to_dataset(network, dataset)
        reduced = original
        for step in progress(steps, "reducing", len(steps)):
            reduced = apply(step, reduced, dataset, samples, options.seed, original)
        write_network(reduced, target)
        row = measures(original, reduced, dataset)
    chain = "/".join(map(str, steps))
    report({"network": str(target), "chain": chain, "steps": chain_name(chain), **row}, output)


def measures(original: Network, reduced: Network, dataset: Dataset) -> dict[str, object]:
    """What a network costs and how well it does on the test samples, beside the original."""
    test = trial(dataset, "test", original)
    before, after = cost(original), cost(reduced)
    found = evaluate(reduced, test.x, test.y, original)
    name = test.measure.name
    return {
        name: test.score(reduced),
        f"{name}_of_original": test.score(original),
        "agreement": getattr(found, "agreement", None),
        "bytes": after.entropy_bytes,
        "bytes_of_original": before.float_bytes,
        "neurons": after.neurons,
        "neurons_of_original": before.neurons,
        "MACs": after.macs,
    }


def parse(chain: str) -> tuple[Step, ...]:
    """The steps of a chain as the command line spells it: `nnrelief=0.95 / gpfq=4 / lump`, or as a
    path does: `nnrelief-fraction=0.95/gpfq-bits=4/lump-tolerance=0`.

    Examples
    --------
    >>> "/".join(map(str, parse("nnrelief=0.95 / gpfq=4-conv=joint / lump")))
    'nnrelief-fraction=0.95/gpfq-bits=4-conv=joint/lump-tolerance=0'
    """
    parts = [re.sub(r"\s*=\s*", "=", part.strip()) for part in chain.split("/")]
    if not all(parts):
        raise ParameterError(f"--chain: a step is empty: {chain!r}")
    return parse_chain([_entry(part) for part in parts])


def quantizing(
    method: str,
    bits: float,
    alphabet_scalar: str | None,
    radius: str | None,
    per_channel: bool | None,
    conv: str | None,
) -> str:
    """The chain of one quantizer; what stays at the command's defaults is left to the method's."""
    words = {
        "bits": f"{bits:g}",
        "alphabet_scalar": alphabet_scalar,
        "conv": conv,
        "radius": radius,
        "per_channel": None if per_channel is None else str(per_channel).lower(),
    }
    words = {name: value for name, value in words.items() if value is not None}
    return "-".join([method, *(f"{name}={value}" for name, value in words.items())])


def _entry(text: str) -> object:
    """A step as a configuration has it."""
    first, *others = re.split(r"-(?=[a-z_]+=)", text)
    name, equals, value = first.partition("=")
    pairs = [pair.split("=", 1) for pair in others]
    if not equals:
        return {name: _values(pairs, text)} if pairs else name
    from netreduce.chains.techniques import TECHNIQUES

    parameters = TECHNIQUES[name].parameters if name in TECHNIQUES else {}
    if not parameters:
        return {name: _value(value)}
    return {name: _values([[next(iter(parameters)), value], *pairs], text)}


def _values(pairs: list[list[str]], text: str) -> dict[str, object]:
    values = {key: _value(word) for key, word in pairs}
    if len(values) < len(pairs):
        raise ParameterError(f"--chain: a parameter is given twice: {text}")
    return values


def _value(text: str) -> object:
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text)
    except ValueError:
        return text
