"""The sides of DATASETS: data to train on with true labels, with a teacher's labels and without labels, and to test."""

from fvcore.common.config import CfgNode

SIDES = ("TRAIN", "PSEUDO_LABELED", "UNLABELED", "TEST")
LABELED = SIDES[:2]  # whose labels are learned
TRAINED = SIDES[:3]
TRUE, PSEUDO = SIDES[:1], SIDES[1:2]
WITHOUT_TRUTH = SIDES[1:3]
# True in a sample, and in what it is made from, whose labels a teacher wrote; else it is not there.
MARK = "pseudo_labeled"


def labeled_sets(cfg: CfgNode) -> list[str]:
    """List the data sets whose labels are learned, those of DATASETS.TRAIN first."""
    return [str(name) for side in LABELED for name in cfg.DATASETS[side]]
