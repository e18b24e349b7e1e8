"""Losses in words: what a curve says instead of the name in the log."""

import re
from collections.abc import Mapping

from densedist.common.distill.registry import LOSSES

TOTAL = "total_loss"
STAGE = re.compile(r"_stage(\d+)$")  # of a Cascade R-CNN, counted from 0
ENDS = {"_unlabeled": "images without labels", "_aux": "auxiliary head"}


def in_words(name: str, of_task: Mapping[str, str]) -> str:
    """Return "cross entropy, auxiliary head" for "loss_ce_aux", "distillation: DIST" for "loss_dist".

    Args:
        name: a loss's in the log; one that nobody knows stays as it is, but for "loss_".
        of_task: TrainingTask.losses.
    """
    if name == TOTAL:
        return "sum of all"
    distilled = {f"loss_{spec.title or loss.lower()}": f"distillation: {loss}" for loss, spec in LOSSES.items()}
    known, ends, rest = {**distilled, **of_task}, [], name
    if found := STAGE.search(rest):
        rest, ends = rest[: found.start()], [f"stage {int(found[1]) + 1}"]
    for end, words in ENDS.items():
        if rest not in known and rest.endswith(end):
            rest, ends = rest.removesuffix(end), [words, *ends]
    return ", ".join([known.get(rest, rest.removeprefix("loss_")), *ends])
