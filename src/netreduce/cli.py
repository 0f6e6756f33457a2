"""What the command-line scripts share."""

import sys
from collections.abc import Callable

from .errors import NetreduceError


def main(function: Callable[[], None]) -> None:
    """Run a script: `if __name__ == "__main__": main(function)`.

    A NetreduceError, a file that the system refuses (a full disk, say) and too little memory end it with `error: <message>` on stderr and
    exit status 1. Any other exception is a bug and keeps its traceback.
    """
    try:
        function()
    except (NetreduceError, OSError) as error:
        sys.exit(f"error: {error}")
    except MemoryError as error:
        sys.exit(f"error: out of memory{f': {error}' if str(error) else ''}")
