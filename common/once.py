"""What one process finds out for all of them."""

from collections.abc import Callable

from detectron2.utils import comm

from common.errors import UserError


def once(check: Callable[[], None]) -> None:
    """Run check() in the main process only, while the others wait.

    Raises:
        UserError: what check raised, in every process.
    """
    complaint = ""
    if comm.is_main_process():
        try:
            check()
        except UserError as error:
            complaint = str(error)
    if complaint := comm.all_gather(complaint)[0]:
        raise UserError(complaint)
