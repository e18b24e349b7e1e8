"""docs/own_models.md: its whole configs are trained with. docs/export.md: its code runs the exported ONNX."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import densedist as api
from densedist.common.run_files import locate
from densedist.seg.models import load_trained
from densedist.seg.segmenter import predict
from helpers import folders, scenes, tiny
from helpers.calling import densedist
from helpers.pages import block, blocks, lines

PAGE = "own_models.md"
SIZE = (90, 150)  # of a photograph, not that of the data
SHORT = ["SOLVER.MAX_ITER", "1", "SOLVER.IMS_PER_BATCH", "2", "DATALOADER.NUM_WORKERS", "0", "TEST.EXAMPLES", "0"]
SHORT += ["REHEARSAL", "False"]
DET = ["MODEL.WEIGHTS", "", "INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64", "MODEL.FPN.OUT_CHANNELS", "8"]
DET += ["MODEL.ROI_BOX_HEAD.FC_DIM", "16", "SOLVER.STEPS", "()", "SOLVER.BASE_LR", "0.0001"]
DET += ["MODEL.BACKBONE.FREEZE_AT", "0", "MODEL.RESNETS.NORM", "BN"]  # without weights to start from
TWO = ["MODEL.ROI_HEADS.NUM_CLASSES", "2", "DATASETS.CLASSES", "['cup', 'bowl']"]
SEG = ["MODEL.ENCODER.WEIGHTS", "", "INPUT.CROP_SIZE", "[64, 64]", "SOLVER.WARMUP_ITERS", "0"]


def commands(task):
    """The ones below a task's config: check and train."""
    found = lines(text for _, text in blocks(PAGE, "sh"))
    return [words[3:] for words in found if words[4] == task and "student.yaml" in words]


@pytest.mark.parametrize("task", ["det", "seg"])
def test_the_whole_config_trains(task, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if task == "det":
        folders.coco(tmp_path / "photos")
        tiny.save_teacher(tmp_path / "teacher", *TWO, *tiny.BOX_ONLY)
        text, more = block(PAGE, "yaml", "needs-boxes"), DET
    else:
        folders.masks(tmp_path / "photos")
        classes = [{"name": name, "ids": [n], "color": [n, n, n]} for n, name in enumerate(("road", "car"))]
        scenes.save_teacher(tmp_path / "teacher", "DATASETS.CLASSES", classes, "MODEL.CLASS_WEIGHTS", "[]")
        text, more = block(PAGE, "yaml", "needs-masks"), SEG
    (tmp_path / "teacher" / "weights.pth").rename(tmp_path / "teacher" / "model_final.pth")
    Path("student.yaml").write_text(text)
    check, train = commands(task)
    densedist(*check)
    densedist(*train, *SHORT, *more)
    assert "loss_dist" in Path("output/student/metrics.json").read_text()


def run(mark, names):
    """What the code of docs/export.md gives, in a process that has nothing of ours and no PyTorch."""
    program = block("export.md", "python", mark)
    program += f"import sys; assert not {{'torch', 'densedist'}} & set(sys.modules)\nnp.savez('out.npz', {names})\n"
    Path("program.py").write_text(program)
    subprocess.run([sys.executable, "program.py"], check=True)
    return np.load("out.npz")


def export(save, tmp_path, monkeypatch):
    """An exported random student in output/student, and a photograph."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "output").mkdir()
    save(tmp_path / "output" / "student")
    (tmp_path / "output" / "student" / "weights.pth").rename("output/student/model_final.pth")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)).save("photo.png")
    Image.open("photo.png").save("photo.jpg", quality=95)
    densedist("export", "--weights", "output/student", "--format", "onnx", "--images", "2")


def test_a_detector_is_run_by_onnxruntime_alone(tmp_path, monkeypatch):
    keys = ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.15", "INPUT.MAX_SIZE_TEST", "200"]
    export(lambda folder: tiny.save_teacher(folder, *keys, file=tiny.STUDENT), tmp_path, monkeypatch)
    found = run("needs-detector", "boxes=boxes, scores=scores, classes=classes")
    ours = api.predict("output/student", ["photo.jpg"], score_threshold=0.15)
    assert len(ours) == len(found["boxes"]) > 0
    boxes = np.array([entry["bbox"] for entry in ours])
    boxes[:, 2:] += boxes[:, :2]
    np.testing.assert_allclose(np.sort(found["boxes"].clip(0, max(SIZE)), 0), np.sort(boxes, 0), atol=0.1)


def test_a_segmentation_model_is_run_by_onnxruntime_alone(tmp_path, monkeypatch):
    save = lambda folder: scenes.save_teacher(folder, "TEST.SCALES", "[0.75]", file=scenes.STUDENT)  # noqa: E731
    export(save, tmp_path, monkeypatch)
    found = run("needs-segmenter", "numbers=np.asarray(numbers), logits=logits")
    assert found["logits"].shape[2:] == (68, 112)
    assert found["numbers"].shape == SIZE
    trained = load_trained(locate("output/student"))
    image = torch.from_numpy(np.array(Image.open("photo.jpg").convert("RGB")).transpose(2, 0, 1).copy())
    assert (predict(trained.model, image) == found["numbers"]).mean() > 0.9
