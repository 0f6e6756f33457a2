"""Bundle a result with all that repeats it: an RO-Crate (zip) of the project, its data, and every
job that led to the result.

Each job (a CreateAction of the Process Run Crate profile) knows its command line with all values
from the config, its inputs (data, parent networks, code) and its outputs; each file has its
SHA-256. `snakemake --configfile run.yaml` in the unpacked bundle makes everything again. Where the
images are left out, their digests stay.
"""

import argparse
import base64
import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from rocrate.model.contextentity import ContextEntity
from rocrate.model.softwareapplication import SoftwareApplication
from rocrate.rocrate import ROCrate

from netreduce.cli.exits import run_script
from netreduce.files import replacing

OUTSIDE = "resources/outside"  # where files from outside the project go


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--results",
        type=Path,
        nargs="+",
        required=True,
        help="what to bundle, with all it was made from",
    )
    parser.add_argument(
        "--provenance", type=Path, required=True, help="configuration, commit and versions (.json)"
    )
    parser.add_argument(
        "--records", type=Path, required=True, help="Snakemake's records of its jobs"
    )
    parser.add_argument(
        "--project", type=Path, nargs="+", required=True, help="files and folders of the project"
    )
    parser.add_argument("--home", type=Path, required=True, help="folder of the project")
    parser.add_argument(
        "--without-images", action="store_true", help="leave out the samples of the datasets"
    )
    parser.add_argument("--output", type=Path, required=True, help="where the bundle goes (.zip)")
    arguments = parser.parse_args()

    provenance = json.loads(arguments.provenance.read_text())
    jobs = lineage([*arguments.results, arguments.provenance], read_records(arguments.records))
    for job in jobs:
        job["input"] = [file for name in job["input"] for file in behind(name, arguments.home)]
    project = sorted(
        file
        for top in arguments.project
        for file in [top, *top.rglob("*")]
        if file.is_file() and "__pycache__" not in file.parts
    )
    inputs = {Path(name) for job in jobs for name in job["input"]}
    made = {Path(name) for job in jobs for name in job["output"]}
    ours = {
        path
        for path in {*project, *inputs}
        if path.is_relative_to(arguments.home) and ".." not in path.parts
    }
    config = provenance["config"]
    tops = {above(entry[key]) for entry, key in named(config)}
    moved = {
        str(path): str(path.relative_to(arguments.home))
        for path in ours | tops
        if path.is_relative_to(arguments.home)
    }
    moved |= places(
        {path for path in inputs - ours if path.is_absolute() or ".." in path.parts},
        {path for path in tops if path.is_absolute() or ".." in path.parts},
    )
    for entry, key in named(config):
        top = above(entry[key])
        entry[key] = str(Path(moved.get(str(top), top), Path(entry[key]).relative_to(top)))
    data = [
        file
        for entry in config["models"].values()
        for file in Path("resources", entry["dataset"]).rglob("*")
        if file.is_file()
    ]

    left_out = {*data, *samples(jobs, set(project))} if arguments.without_images else set()

    crate = ROCrate()
    crate.name = config["report"]["title"]
    crate.description = (
        "Results of a netreduce run, with the project, the data and the record of every job that"
        " made them."
    )
    crate.datePublished = datetime.fromtimestamp(max(job["endtime"] for job in jobs), UTC)
    files = {}
    for path in sorted({*project, *data, *inputs, *made}):
        properties = {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
        place = moved.get(str(path), str(path))
        if path in left_out:
            properties |= {"@type": "File", "description": "left out of this bundle"}
            files[str(path)] = crate.add(ContextEntity(crate, place, properties))
        else:
            files[str(path)] = crate.add_file(path, place, properties=properties)
    versions = [
        crate.add(
            SoftwareApplication(crate, f"#{name}", {"name": name, "softwareVersion": version})
        )
        for name, version in {"netreduce": provenance["commit"], **provenance["versions"]}.items()
    ]
    crate.root_dataset["mentions"] = versions
    for job in jobs:
        action = crate.add_action(
            versions[0],
            f"#{job['rule']}/{job['output'][0]}",
            [files[name] for name in job["input"]],
            [files[name] for name in job["output"]],
            {
                "name": job["rule"],
                "description": job["shellcmd"],
                "startTime": _time(job["starttime"]),
                "endTime": _time(job["endtime"]),
            },
        )
        crate.root_dataset.append_to("mentions", action)
    with tempfile.TemporaryDirectory() as folder, replacing(arguments.output) as temporary:
        run = Path(folder, "run.yaml")
        run.write_text(yaml.safe_dump(config, sort_keys=False))
        crate.add_file(
            run,
            "run.yaml",
            properties={
                "name": "run.yaml",
                "description": "The configuration of the run, as --configfile",
            },
        )
        crate.write_zip(temporary)


def read_records(folder: Path) -> dict[str, dict[str, Any]]:
    """Snakemake's record for every output; its name is the output's path in base64, in folders
    where it is long.
    """
    records = {}
    for file in folder.rglob("*"):
        if file.is_file():
            name = "".join(part.removeprefix("@") for part in file.relative_to(folder).parts)
            records[base64.urlsafe_b64decode(name).decode()] = json.loads(file.read_text())
    return records


def lineage(results: Iterable[Path], records: Mapping[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The jobs behind the results, each with its outputs, in the order in which they ended."""
    jobs: dict[tuple[str, str], dict[str, Any]] = {}
    for name, record in records.items():
        job = jobs.setdefault((record["rule"], record["shellcmd"]), {**record, "output": []})
        job["output"].append(name)
    found: dict[tuple[str, str], dict[str, Any]] = {}
    waiting = list(map(str, results))
    while waiting:
        made = records.get(waiting.pop())
        if made and (key := (made["rule"], made["shellcmd"])) not in found:
            found[key] = {**jobs[key], "output": sorted(jobs[key]["output"])}
            waiting += made["input"]
    return sorted(found.values(), key=lambda job: (job["endtime"], job["output"]))


def named(config: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    """Where a configuration names files of the user's: networks, and own data."""
    for table in ("models", "published", "imagenet"):
        yield from ((entry, "weights") for entry in config[table].values() if "weights" in entry)
    for entry in config["datasets"].values():
        label = str(entry.get("label", ""))
        yield from ((entry, split) for split in ("train", "validation", "test") if split in entry)
        yield from [(entry, "label")] if label.endswith(".npy") else []


def above(name: str) -> Path:
    """What a name stands for that holds all its files: itself, or the folder above `{split}`."""
    path = Path(name)
    while "{" in str(path):
        path = path.parent
    return path


def places(files: set[Path], tops: set[Path]) -> dict[str, str]:
    """Places in the bundle for files from outside the project, and for the files and folders that
    the configuration names: what lies in such a folder stays together.
    """
    held = {top for top in tops if any(file.is_relative_to(top) for file in files)}
    alone = {file for file in files if not any(file.is_relative_to(top) for top in held)}
    found: dict[str, str] = {}
    for number, top in enumerate(sorted(held | alone), 1):
        found[str(top)] = f"{OUTSIDE}/{number}-{top.name}"
        for file in files - held:
            if file.is_relative_to(top):
                found[str(file)] = str(Path(found[str(top)], file.relative_to(top)))
    return found


def samples(jobs: Iterable[dict[str, Any]], project: set[Path]) -> set[Path]:
    """The datasets that were made, and what they were made from beside the project's files."""
    return {
        path
        for job in jobs
        if job["rule"] == "data"
        for path in map(Path, [*job["output"], *job["input"]])
        if path not in project
    }


def behind(name: str, home: Path) -> list[str]:
    """An input of a job; in place of a list of code, the files in it."""
    if Path(name).parent != Path(".snakemake/code"):
        return [name]
    lines = Path(name).read_text().splitlines()
    return [str(home / line.partition("  ")[2]) for line in lines]


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()


if __name__ == "__main__":
    run_script(main)
