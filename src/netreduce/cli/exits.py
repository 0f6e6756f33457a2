"""How scripts and commands end."""

import sys
from collections.abc import Callable

from netreduce.errors import NetreduceError


def run_script(function: Callable[[], None]) -> None:
    """Run a script: `if __name__ == "__main__": run_script(main)`.

    A NetreduceError, a file that the system refuses (a full disk, say) and too little memory end it
    with `error: <message>` on stderr and exit status 1. Any other exception is a bug and keeps its
    traceback.
    """
    try:
        function()
    except (NetreduceError, OSError) as error:
        sys.exit(f"error: {error}")
    except MemoryError as error:
        sys.exit(f"error: out of memory{f': {error}' if str(error) else ''}")
