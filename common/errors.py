"""The one exception that a tool shows as a single line."""


class UserError(Exception):
    """Something in the user's config, files or data that the message tells how to put right.

    The tools print it as one line, without a traceback, and exit with code 2.
    """
