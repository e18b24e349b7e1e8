"""The quickstart of segmentation: a DeepLabV3 teacher, a small PSPNet student, their picture."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
from matplotlib.image import imread

from densedist.common.report.panels import Panel, draw_with_bars
from densedist.common.run_files import CONFIG
from densedist.common.task import Demonstration
from densedist.seg.data.frames import Frame, frames
from densedist.seg.drawing import class_legend, colorize
from densedist.seg.labels import Classes
from densedist.seg.models import load_config

SHOWN = ("teacher", "student alone", "student, DIST")
IMAGES = 4  # of the test split, from the first


def draw(models: Mapping[str, Mapping[str, float]], folders: Mapping[str, Path], file: Path) -> None:
    """Draw mIoU as bars, and what the models of SHOWN predict for test images.

    Args:
        models: for each row of the table its metrics in percent, the first of which is drawn.
        folders: the OUTPUT_DIR of each row by name, with predictions as labelIds in inference/labelIds.
        file: the PNG to write.
    """
    classes = Classes.of(load_config(str(folders[SHOWN[0]] / CONFIG), []))
    test = frames("digits", "test", "DATASETS.TEST", need_labels=True)[:IMAGES]
    lines = {"image": [imread(frame["image"]) for frame in test]}
    lines["truth"] = [_colors(frame["label"], classes) for frame in test]
    lines |= {name: [_colors(_predicted(folders[name], frame), classes) for frame in test] for name in SHOWN}
    panels = {name: [Panel(picture, "") for picture in pictures] for name, pictures in lines.items()}
    miou = {name: dict(list(metrics.items())[:1]) for name, metrics in models.items()}
    draw_with_bars(miou, panels, file, legend=class_legend(classes.names, classes.colors))


def _predicted(folder: Path, frame: Frame) -> str:
    return str(folder / "inference" / "labelIds" / f"{frame['name']}_pred_labelIds.png")


def _colors(label_image: str, classes: Classes) -> np.ndarray:
    label_ids = cv2.imread(label_image, cv2.IMREAD_UNCHANGED)
    return colorize(classes.train_ids[label_ids], classes.colors)


DEMONSTRATION = Demonstration(
    teacher="seg/digits/deeplabv3_r18.yaml",
    student="seg/digits/pspnet_r10_quarter.yaml",
    # Chosen on val, each among the values that the README lists.
    kd=("DISTILL.DIST.WEIGHT", "0.0", "DISTILL.KD.WEIGHT", "1.0", "DISTILL.KD.TAU", "4.0"),
    dist=("DISTILL.DIST.WEIGHT", "1.0", "DISTILL.DIST.TAU", "4.0"),
    unlabeled=("DATASETS.UNLABELED", "['train']"),
    test=("DATASETS.TEST", "['test']", "TEST.SAVE_LABEL_IDS", "True"),
    metrics=("mIoU", "mACC", "pACC"),
    draw=draw,
)
