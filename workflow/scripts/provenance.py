"""Record how the results were made: configuration, seed, commit, and the versions of the programs
used.
"""

import argparse
import json
import platform
import re
from importlib import metadata
from pathlib import Path

from netreduce.cli.exits import run_script
from netreduce.files import write_json


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--config", type=Path, required=True, help="file with the whole configuration (.json)"
    )
    parser.add_argument("--commit", required=True, help="commit of the project, or 'unknown'")
    parser.add_argument(
        "--requirements",
        type=Path,
        nargs="+",
        required=True,
        help="files that pin the packages (requirements.in)",
    )
    parser.add_argument("--output", type=Path, required=True, help="where the record goes (.json)")
    arguments = parser.parse_args()

    config = json.loads(arguments.config.read_text())
    pinned = re.findall(
        r"^([A-Za-z0-9_.-]+)==(\S+)",
        "\n".join(path.read_text() for path in arguments.requirements),
        re.M,
    )
    write_json(
        arguments.output,
        {
            "commit": arguments.commit,
            "seed": config["seed"],
            "versions": {
                "python": platform.python_version(),
                **{name: _version(name, version) for name, version in pinned},
            },
            "config": config,
        },
    )


def _version(name: str, pinned: str) -> str:
    """The installed version, whichever build; where each step has an environment of its own, the
    one they are all pinned to.
    """
    try:
        return metadata.version(name).partition("+")[0]
    except metadata.PackageNotFoundError:
        return pinned


if __name__ == "__main__":
    run_script(main)
