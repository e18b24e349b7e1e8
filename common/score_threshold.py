"""From which score on predictions count: --score-threshold, and SCORE_THRESHOLD of a method."""

from densedist.common.errors import UserError

SCORE = 0.5


def check_score(score: float | str, name: str = "--score-threshold") -> float:
    """The score as a number.

    Args:
        name: what gave it, for the message.

    Raises:
        UserError: it is none from 0 to 1.
    """
    try:
        number = float(score)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise UserError(f"{name} is {score}: want a number from 0 to 1")
    return number
