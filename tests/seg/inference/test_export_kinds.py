"""Every kind of student that is shipped, small and random, is the same in each format."""

import cv2
import numpy as np
import pytest
import torch

from densedist.common.export import FORMATS, export_each
from densedist.common.run_files import locate
from densedist.common.task import ImageSource
from densedist.seg.inference.export import exporter
from helpers.pages import run_card
from helpers.scenes import CONFIGS, save_teacher

NO_DATA = ["DATASETS.TRAIN", "[]", "DATASETS.TEST", "[]", "MODEL.ENCODER.WEIGHTS", "", "MODEL.WEIGHTS", ""]
STAGES = ["MODEL.ARGS.layers", "[1, 1, 1, 1]", "MODEL.ARGS.channels", "[8, 8, 8, 16]", "MODEL.ARGS.stem_width", "8"]
MIT = ["MODEL.ARCHITECTURE", "Segformer", "MODEL.ENCODER.NAME", "mit_b0"]
# Packaged configs, and the overrides that make them small. Each takes half a minute: CI has test_export.py.
KINDS = {
    "idd_lite/deeplabv3plus_lite0": ["MODEL.ARGS.decoder_channels", "8", "MODEL.ENCODER.DEPTH", "3"],
    "idd_lite/pspnet_lite0": ["MODEL.ARGS.psp_out_channels", "8", "MODEL.ENCODER.DEPTH", "3"],
    "cityscapes/pspnet_r18": [*STAGES, "MODEL.ARGS.psp_out_channels", "8"],
    "cityscapes/deeplabv3_r18": [*STAGES, "MODEL.ARGS.decoder_channels", "8"],
    "digits/base": [*MIT, "MODEL.ARGS.decoder_segmentation_channels", "8"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS)
def test_a_shipped_student_in_every_format(name, tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8))
    save_teacher(tmp_path / "run", *NO_DATA, *KINDS[name], file=CONFIGS / f"{name}.yaml")
    (tmp_path / "run" / "weights.pth").rename(tmp_path / "run" / "model_final.pth")
    made = exporter(locate(str(tmp_path / "run")), ImageSource(1, tmp_path))
    done = export_each(FORMATS, made, tmp_path / "export")
    assert done["failures"] == []
    assert done["verification"].keys() == set(FORMATS)
    assert not run_card(tmp_path / "export" / "weights")["model"].training
    assert all(torch.isfinite(torch.tensor(figures[0]["value"])) for figures in done["verification"].values())
