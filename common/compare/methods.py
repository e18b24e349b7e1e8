"""Names of methods, and the keys that train with them."""

from collections.abc import Mapping, Sequence

from densedist.common.distill.registry import LOSSES
from densedist.common.errors import UserError

NONE = "none"


def methods() -> Mapping[str, tuple[str, ...]]:
    """What switches each method on; "+" joins them. Losses of one's own are among them (see IMPORTS)."""
    return {
        NONE: (),
        **{loss.lower(): (f"DISTILL.{loss}.WEIGHT", "1.0") for loss in LOSSES},
        "inter": ("DISTILL.DIST.WEIGHT", "1.0", "DISTILL.DIST.GAMMA", "0.0"),
        "intra": ("DISTILL.DIST.WEIGHT", "1.0", "DISTILL.DIST.BETA", "0.0"),
        "unlabeled": (),  # with DATASETS.UNLABELED as --unlabeled says
    }


def switches(method: str, unlabeled: Sequence[str]) -> list[str]:
    """The overrides that train with a method, e.g. "dist+mimic", and switch all other losses off.

    Args:
        unlabeled: DATASETS.UNLABELED of the part "unlabeled".

    Raises:
        UserError: an unknown part, or "unlabeled" without data.
    """
    known = methods()
    words = [word for loss in LOSSES for word in (f"DISTILL.{loss}.WEIGHT", "0.0")]
    for part in method.split("+"):
        if part not in known:
            raise UserError(f"--methods: there is no {part}; want {', '.join(known)}, joined by + if need be")
        words += known[part]
        if part == "unlabeled":
            if not unlabeled:
                raise UserError("--methods: unlabeled needs --unlabeled with the names of the data")
            words += ["DATASETS.UNLABELED", str(list(unlabeled))]
    return words
