"""Names of methods that are no loss, known without PyTorch, and the refusal of names that are mistyped."""

from collections.abc import Collection, Sequence

from densedist.common.errors import UserError
from densedist.common.nearest import did_you_mean

NONE, UNLABELED, LABELS = "none", "unlabeled", "labels"
INTER, INTRA = "inter", "intra"  # the terms of DIST alone
BEST = "best"  # stands for a method of the task: Task.best


def no_method(name: str, known: Collection[str]) -> UserError:
    """Return the refusal of a part of a method that is not known."""
    near = did_you_mean(name, known, most=1)
    return UserError(f"--methods: there is no {name}; want {', '.join(known)}, joined by + if need be{near}")


def no_data(name: str) -> UserError:
    """Return the refusal of a method that needs images without labels, where none are named."""
    return UserError(f"--methods: {name} needs --unlabeled: name a folder of images, or data sets")


def refuse_unknown(words: Sequence[str], losses: Collection[str], unlabeled: Sequence[str]) -> None:
    """Refuse what is mistyped in methods that were split at commas, as far as it shows without their keys.

    Args:
        losses: in capital letters.
        unlabeled: the data sets of --unlabeled.

    Raises:
        UserError: a part that is no method, or one that needs --unlabeled.
    """
    known = [NONE, *(loss.lower() for loss in losses), INTER, INTRA, UNLABELED, LABELS, BEST]
    has_keys = False
    for word in words:
        first = word.partition("+")[0].partition("@")[0]
        if first not in known and has_keys:
            continue  # one more value of a key, as 2 in dist@TAU=1,2
        has_keys = "@" in word
        # A value behind @ may have a + of its own, as the folder of a method's run has.
        for name in [first] if has_keys else word.split("+"):
            if name not in known:
                raise no_method(name, known)
            if name in (UNLABELED, LABELS, BEST) and not unlabeled:
                raise no_data(name)
