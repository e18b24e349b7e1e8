"""A part of the training frames that is set aside, to choose settings on."""

from detectron2.config import CfgNode

from densedist.common.errors import UserError
from densedist.seg.data.frames import SPLIT
from densedist.seg.data.sides import split_frames


def set_aside(cfg: CfgNode, share: float) -> list[str]:
    """Overrides by which the last frames of each split of DATASETS.TRAIN are DATASETS.TEST instead, as slices.

    Args:
        share: of a split's frames, between 0 and 1; at least one frame.

    Raises:
        UserError: a split that cannot be found, or of which nothing would be left.
    """
    kept, aside = [], []
    for split in cfg.DATASETS.TRAIN:
        count = len(split_frames(cfg, split, "DATASETS.TRAIN", need_labels=True))
        last = max(1, round(count * share))
        if last >= count:
            raise UserError(f"--set-aside: {share:g} of the {count} images of {split} leaves none to train on")
        parts = SPLIT.fullmatch(str(split))
        assert parts is not None  # else it has no frames
        other, name, start, _ = parts.groups("")
        name = f"{other}/{name}" if other else name
        end = int(start or 0) + count
        kept.append(f"{name}[{start}:{end - last}]")
        aside.append(f"{name}[{end - last}:{end}]")
    return ["DATASETS.TRAIN", str(kept), "DATASETS.TEST", str(aside)]
