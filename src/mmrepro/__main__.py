"""The process of one command: how it starts, how it fails, how it ends."""

from __future__ import annotations

import atexit
import errno
import gc
import os
import sys

from mmrepro.cli import app
from mmrepro.errors import MmreproError
from mmrepro.reporting.escape import one_line


def _spare_last_search() -> None:
    """Let the process end without looking through all objects: a sixth of a short command's time."""
    if "triton" not in sys.modules:  # its bindings would print what they think has leaked
        gc.freeze()


def main() -> None:
    """Run a command; a problem the user can mend is one line on stderr and exit status 1."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # large pages: gradients of wide features come a third sooner
    gc.set_threshold(100_000)  # the default searches the objects that imports make a thousand times, and in vain
    atexit.register(_spare_last_search)
    try:
        app()
    except MmreproError as error:
        print(f"mmrepro: {one_line(str(error))}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print("mmrepro: the disk is full; free some space and run the same command again", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
