"""The segmentation study of tools/quickstart.py: a DeepLabV3 teacher, a small PSPNet student."""

from pathlib import Path

from common.quickstart import Task
from seg.config import without_distillation
from seg.network import build_network
from seg.quickstart_picture import draw
from seg.training import load_config, main

CONFIGS = Path(__file__).parents[1] / "configs" / "seg" / "digits"


def _parameters(config: str, overrides: list[str]) -> int:
    network = build_network(without_distillation(load_config(config, overrides)))
    return sum(parameter.numel() for parameter in network.smp.parameters())


TASK = Task(
    tool="tools/train_seg.py",
    main=main,
    parameters=_parameters,
    teacher=CONFIGS / "deeplabv3_r18.yaml",
    student=CONFIGS / "pspnet_r10_quarter.yaml",
    # Chosen on val, each among the values that the README lists.
    kd=("DISTILL.DIST.WEIGHT", "0.0", "DISTILL.KD.WEIGHT", "1.0", "DISTILL.KD.TAU", "4.0"),
    dist=("DISTILL.DIST.WEIGHT", "1.0", "DISTILL.DIST.TAU", "4.0"),
    unlabeled=("DATASETS.UNLABELED", "['train']"),
    test=("DATASETS.TEST", "['test']", "TEST.SAVE_LABEL_IDS", "True"),
    results="sem_seg",
    metrics=("mIoU", "mACC", "pACC"),
    draw=draw,
)
