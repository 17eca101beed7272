"""The one kind of error a user is meant to read."""


class MmreproError(Exception):
    """A problem the user can mend: one line that names the file, key or value, and the fix.

    The command line prints the message without a traceback and exits with status 1.
    """
