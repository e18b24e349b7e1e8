"""Every kind of student that is shipped, small and random, finds the same in each format."""

import cv2
import numpy as np
import pytest

from densedist.common.export import FORMATS, export_each
from densedist.common.run_files import locate
from densedist.common.runtimes import RUNTIMES
from densedist.common.task import ImageSource
from densedist.det.inference.export import exporter
from helpers.pages import run_card
from helpers.tiny import BOX_ONLY, HEADS, save_teacher

NO_DATA = ["DATASETS.TRAIN", "()", "DATASETS.TEST", "()", "MODEL.WEIGHTS", "", "INPUT.MIN_SIZE_TEST", "96"]
THRESHOLDS = ["MODEL.RETINANET.SCORE_THRESH_TEST", "0.01", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.01"]
LITE = ["MODEL.TIMM.PRETRAINED", "False"]
RESNET = ["MODEL.RESNETS.RES2_OUT_CHANNELS", "16", "MODEL.RESNETS.STEM_OUT_CHANNELS", "8", "MODEL.RESNETS.NORM", "BN"]
RESNET += ["MODEL.RESNETS.WIDTH_PER_GROUP", "4", "MODEL.PIXEL_STD", "[1000.0, 1000.0, 1000.0]"]
# Packaged configs, and the overrides that make them small. In CI: the first, and those of test_export.py. Each takes
# seconds, as PyTorch follows each operator three times.
KINDS = {
    "digits/mask_rcnn_r10_quarter": [],
    "digits/faster_rcnn_r10_quarter": [*HEADS["cascade"], *BOX_ONLY],
    "vehicles/faster_rcnn_lite0": LITE,
    "vehicles/retinanet_lite0": LITE,
    "coco/faster_rcnn_r50": RESNET,
}

FIXED = "vehicles/faster_rcnn_lite0"  # its graphs take images of one size


@pytest.mark.parametrize("name", [next(iter(KINDS)), *(pytest.param(x, marks=pytest.mark.slow) for x in [*KINDS][1:])])
def test_a_shipped_student_in_every_format(name, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 256, (96, 112, 3), np.uint8))
    save_teacher(tmp_path / "run", *NO_DATA, *THRESHOLDS, *KINDS[name], file=f"det/{name}.yaml")
    (tmp_path / "run" / "weights.pth").rename(tmp_path / "run" / "model_final.pth")
    size = (96, 128) if name == FIXED else None
    made = exporter(locate(str(tmp_path / "run")), ImageSource(1, tmp_path), size)
    done = export_each(FORMATS, made, tmp_path / "export")
    assert done["failures"] == []
    assert done["verification"].keys() == set(FORMATS)
    assert all(figures[0]["value"] > 0 for figures in done["verification"].values())  # detections
    weights = tmp_path / "export" / "weights"
    assert not run_card(weights)["model"].training
    is_stock = "MODEL.RESNETS.NORM" in KINDS[name]  # Detectron2's own backbone
    assert ("densedist" in (weights / "README.md").read_text()) != is_stock
    for runtime in RUNTIMES.values():
        shape = runtime.load(tmp_path / "export" / runtime.file()).inputs[0].shape
        assert shape == (3, *(size or (None, None)))
