"""What the command-line scripts share."""

import sys
from collections.abc import Callable

from .errors import NetreduceError


def main(function: Callable[[], None]) -> None:
    """Run a script: `if __name__ == "__main__": main(function)`.

    A NetreduceError ends it with `error: <message>` on stderr and exit status 1. Any other exception is a bug and keeps its traceback.
    """
    try:
        function()
    except NetreduceError as error:
        sys.exit(f"error: {error}")
