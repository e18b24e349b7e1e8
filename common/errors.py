"""The one exception that a command shows as a single line, raised on all processes when one raises it."""

from collections.abc import Callable


class UserError(Exception):
    """Something wrong in the user's config, files or data; the message says how to correct it.

    The commands print it as one line, without a traceback, and exit with code 2.
    """

    def __str__(self) -> str:
        # Another process sends its whole traceback as the message; the last line is ours.
        last = super().__str__().strip().rpartition("\n")[2]
        return last.removeprefix(USER_ERROR)


USER_ERROR = f"{UserError.__module__}.{UserError.__name__}: "  # what it looks like in a traceback


def one_line(error: Exception) -> str:
    """Return an error's class and the beginning of its message, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def on_main_process(check: Callable[[], None]) -> None:
    """Run check() in the main process only, while the others wait.

    Raises:
        UserError: what check raised, in every process.
    """
    from detectron2.utils import comm  # here, so that errors can be shown where Detectron2 is missing

    complaint = ""
    if comm.is_main_process():
        try:
            check()
        except UserError as error:
            complaint = str(error)
    if complaint := comm.all_gather(complaint)[0]:
        raise UserError(complaint)
