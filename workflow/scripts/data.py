"""Get a dataset and write it as one .npz file: images and labels of the training, validation and
test split.
"""

import argparse
import json
import logging

from netreduce.cli.exits import run_script
from netreduce.data.build import build
from netreduce.data.own import build_own
from netreduce.data.table import entry


def data() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", required=True)
    parser.add_argument(
        "--resources",
        required=True,
        help="folder with a folder per dataset, for files put there by hand and for downloads",
    )
    parser.add_argument(
        "--own",
        type=json.loads,
        default={},
        help="the entry of own data in the config, as JSON; {} for a dataset of the table",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the order and split of own data")
    parser.add_argument("--output", required=True)
    parser.add_argument(
        "--skip-unreadable", action="store_true", help="leave out image files that cannot be read"
    )
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if args.own:
        build_own(args.dataset, args.own, args.output, args.seed)
    else:
        build(entry(args.dataset), args.resources, args.output, args.skip_unreadable)


if __name__ == "__main__":
    run_script(data)
