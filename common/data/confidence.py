"""How sure a teacher has to be of its labels, and whether they count the more, the surer it was."""

from dataclasses import dataclass

from detectron2.config import CfgNode


@dataclass(frozen=True)
class Confidence:
    """What PSEUDO_LABELS asks of the scores of labels.

    Args:
        by_score: each label counts times its score.
        least: labels of a lower score do not count, neither as right nor as wrong.
    """

    by_score: bool = False
    least: float = 0.0

    @classmethod
    def of(cls, cfg: CfgNode) -> "Confidence":
        return cls(cfg.PSEUDO_LABELS.CONFIDENCE == "score", cfg.PSEUDO_LABELS.MIN_SCORE)

    @property
    def needs_scores(self) -> bool:
        return self.by_score or self.least > 0

    @property
    def asked(self) -> str:
        """Return the key that needs scores, with its value, for messages."""
        if self.by_score:
            return "PSEUDO_LABELS.CONFIDENCE is score"
        return f"PSEUDO_LABELS.MIN_SCORE is {self.least:g}"
