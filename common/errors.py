"""The one exception that a tool shows as a single line."""


class UserError(Exception):
    """Something in the user's config, files or data that the message tells how to put right.

    The tools print it as one line, without a traceback, and exit with code 2.
    """

    def __str__(self) -> str:
        # Another process sends its whole traceback as the message; the last line is ours.
        last = super().__str__().strip().rpartition("\n")[2]
        return last.removeprefix(USER_ERROR)


USER_ERROR = f"{UserError.__module__}.{UserError.__name__}: "  # what it looks like in a traceback
