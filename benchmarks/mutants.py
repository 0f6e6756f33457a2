"""Small changes to the code, one at a time, and whether a test notices (mutation testing): all that
mutmut makes, or a sample drawn at random from every package in proportion.

    python benchmarks/mutants.py --sample 300 --seed 1

[tool.mutmut] in pyproject.toml says which code is changed. Of every change the tests in TESTS that
reach the changed function run, the quickest first, up to the one that fails. Stopped by ctrl-C it
tells what it has found so far.
"""

import argparse
import os
import random
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("MUTANT_UNDER_TEST", "mutant_generation")

from mutmut import __main__ as mutmut
from mutmut.runners.harness import PytestRunner
from mutmut.state import state
from mutmut.stats import status_by_exit_code

TESTS = [
    *("test_quantization*.py", "test_lumping*.py", "test_pruning*.py"),
    *("test_golden.py", "test_integers.py", "test_allocation.py"),
]
NOTICED = ("killed", "timeout")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sample", type=int, help="how many of the changes (default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--processes", type=int, help="default: one for each processor")
    arguments = parser.parse_args()

    mutmut.config().pytest_add_cli_args_test_selection = [
        str(file) for pattern in TESTS for file in sorted(Path("tests/unit").glob(pattern))
    ]
    PytestRunner.run_tests = quickest_first(PytestRunner.run_tests)  # type: ignore[method-assign]
    generate(arguments.processes or os.cpu_count() or 1)
    names = sorted(name for names in verdicts().values() for name in names)
    if arguments.sample is not None:
        names = sample(names, arguments.sample, arguments.seed)
    place = {name: number for number, name in enumerate(names)}
    mutmut.estimated_worst_case_time = place.__getitem__  # by which it sorts
    mutmut._run([] if arguments.sample is None else names, arguments.processes)
    tell(names)


def generate(processes: int) -> None:
    """Write mutants/: a copy of the code with all changes in it, each behind a switch."""
    os.makedirs("mutants", exist_ok=True)
    mutmut.copy_src_dir()
    mutmut.copy_also_copy_files()
    mutmut.setup_source_paths()
    mutmut.create_mutants(processes)


def quickest_first(run_tests):  # type: ignore[no-untyped-def]
    """PytestRunner.run_tests in the order of the tests' times."""

    def ordered(self: PytestRunner, *, mutant_name: str | None, tests: Iterable[str]) -> int:
        seconds = state().duration_by_test
        return run_tests(
            self, mutant_name=mutant_name, tests=sorted(tests, key=lambda t: (seconds[t], t))
        )

    return ordered


def verdicts() -> dict[str, Mapping[str, int | None]]:
    """By file, the changes by name with what became of them."""
    _, files = mutmut.collect_source_file_mutation_data(mutant_names=())
    return {file: data.exit_code_by_key for file, data in files.items()}


def package(name: str) -> str:
    """netreduce.lumping.exact.x_f__mutmut_1 is of lumping."""
    return name.split(".")[1]


def sample(names: list[str], count: int, seed: int) -> list[str]:
    """So many of the changes, from every package in proportion, in an order in which the first ones
    are a sample too.
    """
    generator = random.Random(seed)
    sizes = Counter(map(package, names))
    chosen: list[str] = []
    for room in sorted(sizes):
        of_room = [name for name in names if package(name) == room]
        chosen += generator.sample(of_room, round(count * len(of_room) / len(names)))
    return generator.sample(chosen, len(chosen))


def tell(names: list[str]) -> None:
    """Print how many were noticed, by package, and the names of those that were not."""
    code = {name: value for found in verdicts().values() for name, value in found.items()}
    names = [name for name in names if code[name] is not None]
    became = {name: status_by_exit_code[code[name]] for name in names}
    for room, count in sorted(Counter(map(package, names)).items()):
        seen = Counter(became[name] for name in names if package(name) == room)
        noticed = sum(seen[status] for status in NOTICED)
        print(f"{room}: {noticed} of {count} noticed ({noticed / count:.1%}); {dict(seen)}")
    noticed = sum(status in NOTICED for status in became.values())
    print(f"all: {noticed} of {len(names)} noticed ({noticed / max(len(names), 1):.1%})")
    for name in names:
        if became[name] not in NOTICED:
            print(f"{became[name]}: {name}   (mutmut show {name})")


if __name__ == "__main__":
    main()
