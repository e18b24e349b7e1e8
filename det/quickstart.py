"""The detection study of tools/quickstart.py: a Cascade Mask R-CNN teacher, a small Faster R-CNN student."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from detectron2.modeling import build_model

from common.quickstart import Row, Task
from det.config import without_distillation
from det.quickstart_picture import draw
from det.training import load_config, main

CONFIGS = Path(__file__).parents[1] / "configs" / "det" / "digits"


def _parameters(config: str, overrides: list[str]) -> int:
    model = build_model(without_distillation(load_config(config, overrides)))
    return sum(parameter.numel() for parameter in model.parameters())


def _draw(rows: Sequence[Row], folders: Mapping[str, Path], file: Path) -> None:
    shown = {name: folders[name] for name in ("teacher", "student alone", "student, DIST")}
    draw({row.name: row.metrics for row in rows}, shown, file)


TASK = Task(
    tool="tools/train_det.py",
    main=main,
    parameters=_parameters,
    teacher=CONFIGS / "cascade_mask_rcnn_r10t.yaml",
    student=CONFIGS / "faster_rcnn_r10_quarter.yaml",
    # Chosen on digits_val, each among the values that the README lists.
    kd=("DISTILL.DIST.WEIGHT", "0.0", "DISTILL.KD.WEIGHT", "1.0", "DISTILL.KD.TAU", "10.0"),
    dist=("DISTILL.DIST.WEIGHT", "1.0", "DISTILL.DIST.TAU", "6.0"),
    unlabeled=("DATASETS.UNLABELED", "('digits_train',)"),
    test=("DATASETS.TEST", "('digits_test',)"),
    results="bbox",
    metrics=("AP", "AP50", "AP75"),
    draw=_draw,
)
