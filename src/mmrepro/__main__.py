"""The process of one command: how it starts, how it fails, how it ends."""

from __future__ import annotations

import atexit
import errno
import gc
import io
import os
import sys

from mmrepro.cli import app
from mmrepro.errors import MmreproError
from mmrepro.housekeeping.screen import STOPPED
from mmrepro.reporting.escape import one_line
from mmrepro.runtime.interruption import INTERRUPTION, STATUS, Stopped

FULL = "the disk is full; free some space and run the same command again"
REMEDIES = {
    errno.ENOSPC: FULL,
    errno.EDQUOT: FULL,
    errno.EROFS: "the disk is read-only; make it writable, or work in another folder",
    errno.EACCES: "permission denied; change the owner or mode, or work in another folder",
    errno.EPERM: "permission denied; change the owner or mode, or work in another folder",
    errno.ENAMETOOLONG: "the name is too long for the file system; shorten it",
    errno.EIO: "the disk has an error; check it",
    errno.EMFILE: "too many open files; raise `ulimit -n`",
    errno.ENOTDIR: "a file stands where a folder is wanted; name another place",
    errno.EEXIST: "a file stands where a folder is wanted; name another place",
    errno.EISDIR: "a folder stands where a file is wanted; name another place",
}
"""What the machine refuses -> what the user can do about it."""


def _spare_last_search() -> None:
    """Let the process end without looking through all objects: a sixth of a short command's time."""
    if "triton" not in sys.modules:  # its bindings would print what they think has leaked
        gc.freeze()


def main() -> None:
    """Run a command; a problem the user can mend is one line on stderr and exit status 1."""
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")  # large pages: gradients of wide features come a third sooner
    gc.set_threshold(100_000)  # the default searches the objects that imports make a thousand times, and in vain
    atexit.register(_spare_last_search)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal without the letter shows its number
    try:
        with INTERRUPTION.heeded():
            app()
    except MmreproError as error:
        print(f"mmrepro: {one_line(str(error))}", file=sys.stderr)
        sys.exit(1)
    except Stopped:
        print(STOPPED, file=sys.stderr)
        sys.exit(STATUS)
    except OSError as error:
        remedy = REMEDIES.get(error.errno or 0)
        if remedy is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"mmrepro: {one_line(where)}{remedy}", file=sys.stderr)
        sys.exit(1)
    except MemoryError:
        print("mmrepro: not enough memory; grant more, or run fewer jobs at once", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
