"""Boxes of a detector of transformers with the scores of all classes, kept on disk: what it gives live, once."""

import pytest
import torch
from detectron2.structures import Boxes
from detectron2.utils.events import EventStorage

from densedist.common.errors import UserError
from densedist.common.randomness import RunPosition
from densedist.det.cache.filling import fill_cache
from densedist.det.loader import training_batches
from densedist.det.models import build_trainee, load_config
from helpers import detectors
from helpers.calling import densedist
from helpers.killing import differences
from helpers.tiny import RETINANET, SMALL, STUDENT

LOSSES = ["DISTILL.KD.WEIGHT", "1.0", "DISTILL.BOX.WEIGHT", "1.0"]
TRAIN = ["DATASETS.TRAIN", "('digits_val[:6]',)", "DATASETS.UNLABELED", "['digits_test[:6]']", "DATASETS.TEST", "()"]
MAP = ["DISTILL.TEACHER.CLASSES.0", "['car','bus']", "DISTILL.TEACHER.CLASSES.4", "person"]
MAP += ["DISTILL.TEACHER.MISSING_CLASSES", "leave_out"]


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detector")
    detectors.write("rt-detr", folder)
    return [*SMALL, *TRAIN, *MAP, *LOSSES, "DISTILL.TEACHER.WEIGHTS", str(folder)]


def first_batch(cfg):
    trainee = build_trainee(cfg)
    fill_cache(cfg, trainee)
    return trainee, next(iter(training_batches(cfg)(RunPosition(0))))


@pytest.mark.parametrize("file", [STUDENT, RETINANET])
def test_what_is_kept_is_what_it_gives_live(words, tmp_path, file):
    """The images of training are not resized here, so both look at the same; and the same losses come out, up to the
    rounding of float16, without a look of the teacher."""
    losses = {}
    for folder in ("", str(tmp_path)):
        trainee, batch = first_batch(load_config(str(file), [*words, "DISTILL.TEACHER.CACHE", folder]))
        teacher = trainee.distillation.teacher
        if folder:
            live = teacher.look([sample["image"] for sample in batch])
            for kept, wanted in zip(teacher.objects(batch), live, strict=True):
                assert len(kept.boxes) == len(wanted.boxes) > 0
                assert bool((Boxes(kept.boxes).area() > 0).all())
                torch.testing.assert_close(kept.boxes, wanted.boxes, rtol=0, atol=0.1)
                torch.testing.assert_close(kept.logits, wanted.logits, rtol=1e-2, atol=1e-2)
                torch.testing.assert_close(kept.background, wanted.background)
            trainee.distillation.teacher.look = None  # which nothing calls now
        torch.manual_seed(0)
        for parameter in trainee.model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.05)
        with EventStorage():
            losses[folder] = {n: x for n, x in trainee.model.train()(batch).items() if "kd" in n or "dist" in n}
    kept, live = losses.values()
    assert set(kept) == {f"loss_{name}{end}" for name in ("kd", "dist") for end in ("", "_unlabeled")}
    for name in kept:
        torch.testing.assert_close(kept[name], live[name], rtol=2e-2, atol=1e-3)


def test_a_run_goes_on_bit_for_bit(words, tmp_path):
    def run(name, *options):
        more = ["DISTILL.TEACHER.CACHE", tmp_path / "kept", "SOLVER.CHECKPOINT_PERIOD", 1, "SEED", 3]
        more += ["SOLVER.MAX_ITER", 2, "OUTPUT_DIR", tmp_path / name]
        densedist("train", "det", "--config-file", str(STUDENT), *options, *words, *more)

    run("whole")
    run("cut")
    (tmp_path / "cut" / "model_final.pth").unlink()
    (tmp_path / "cut" / "last_checkpoint").write_text("model_0000000.pth")
    run("cut", "--resume")
    whole, cut = (torch.load(tmp_path / n / "model_final.pth", weights_only=True) for n in ("whole", "cut"))
    assert differences(whole, cut) == []


def test_another_detector_or_other_limits_are_refused(words, tmp_path):
    keys = [*words, "DISTILL.TEACHER.CACHE", str(tmp_path / "kept")]
    first_batch(load_config(str(STUDENT), keys))
    config = tmp_path / "detector.yaml"
    config.write_text("TASK: det\nMODEL: {KIND: transformers, ROI_HEADS: {SCORE_THRESH_TEST: 0.2}}\n")
    other = load_config(str(STUDENT), [*keys, "DISTILL.TEACHER.CONFIG_FILE", str(config)])
    with pytest.raises(UserError, match=r"was made for another teacher.*\(least, then 0.05, now 0.2\)"):
        fill_cache(other, build_trainee(other))
