"""Turn what a user did wrong into one line and exit code 2, and Ctrl-C into one line and the shell's exit code."""

import errno
import os
import select
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from densedist.common.errors import UserError


@contextmanager
def in_one_line(debug: bool) -> Iterator[None]:
    """Show a UserError or a full disk within the block as one line, and exit with code 2; Ctrl-C likewise with 130.

    Args:
        debug: show the traceback too.
    """
    try:
        yield
    except KeyboardInterrupt as error:
        if debug:
            traceback.print_exception(error)
        if speaks():
            print("interrupted", file=sys.stderr, flush=True)
        sys.exit(128 + signal.SIGINT)
    except (UserError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        if debug:
            traceback.print_exception(error)
        if speaks():
            print(f"error: {error}", file=sys.stderr, flush=True)
        sys.exit(2)


@contextmanager
def quiet_when_unread() -> Iterator[None]:
    """End without a word, with the exit code of SIGPIPE, where nobody reads the output any more, as after `| head`."""
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except BrokenPipeError:
        if not _is_unread():  # another pipe, as that of a worker
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        sys.exit(128 + signal.SIGPIPE)


def _is_unread() -> bool:
    """Return whether standard output is a pipe whose other end is closed."""
    output = select.poll()
    try:
        output.register(sys.stdout.fileno(), 0)
    except OSError:  # no file, as in a notebook
        return False
    return bool(output.poll(0))


def speaks() -> bool:
    """Return whether this process speaks for all: the main one under torchrun, or one that torchrun did not start."""
    return "TORCHELASTIC_RUN_ID" not in os.environ or os.environ.get("RANK", "0") == "0"
