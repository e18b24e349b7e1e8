"""A two-stage teacher's boxes kept on disk: soft labels where the student's RoIs are, however its image was moved."""

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, pairwise_iou
from detectron2.utils.events import EventStorage

from densedist.common import fingerprint
from densedist.common.cache.arrays import Arrays
from densedist.common.cache.filling import fill
from densedist.common.errors import UserError
from densedist.common.randomness import RunPosition
from densedist.det.cache.boxes import BoxesMapper
from densedist.det.cache.filling import fill_cache, training_mapper
from densedist.det.cache.settings import settings
from densedist.det.data.reading import read_input
from densedist.det.inference import samples as pictures
from densedist.det.loader import training_batches
from densedist.det.models import build_trainee, load_config
from densedist.det.taps.found import ON_A_BOX, FoundRoIs, matched
from densedist.det.taps.rois import RecordedRoIs, live_class_logits
from helpers.calling import densedist
from helpers.killing import differences
from helpers.processes import run_processes
from helpers.tiny import DIGITS, SMALL, STUDENT, batch, build_student, config, save_teacher

TRAIN = ["DATASETS.TRAIN", "('digits_val',)", "DATASETS.TEST", "()"]


@pytest.fixture(scope="module")
def teacher_keys(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher"))


def keys(teacher_keys, folder, *more):
    return [*SMALL, *TRAIN, *teacher_keys, "DISTILL.TEACHER.CACHE", str(folder), *map(str, more)]


def loaded(*words):
    return load_config(str(STUDENT), list(words))


def test_an_roi_takes_the_box_that_it_overlaps_most():
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [2.0, 0.0, 12.0, 10.0], [0.0, 0.0, 0.0, 0.0]])
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0], [5.0, 5.0]])
    rois = Boxes(torch.tensor([[0.5, 0.0, 10.5, 10.0], [1.8, 0.0, 11.0, 10.0], [8.0, 0.0, 18.0, 10.0]]))
    background = torch.tensor([-1.0, -2.0])
    expected = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -2.0]])  # the last overlaps by 4/16 of the union

    def soft_labels(rois, count=3):
        return torch.cat([logits[:count], background[None]])[matched(rois, boxes[:count], ON_A_BOX)]

    assert torch.equal(soft_labels(rois), expected)
    assert torch.equal(soft_labels(rois, 0), background.expand(3, 2))
    assert soft_labels(Boxes(torch.zeros(0, 4))).shape == (0, 2)


@pytest.mark.parametrize("flip", ["none", "horizontal"])
@pytest.mark.parametrize("size", [96, 160])
def test_boxes_move_with_the_image(tmp_path, flip, size):
    """The teacher's boxes are the annotations, so they have to be where the student's annotations come to lie."""
    words = ["INPUT.MIN_SIZE_TRAIN", f"({size},)", "INPUT.RANDOM_FLIP", flip]
    cfg = loaded(*SMALL, *TRAIN, *words)
    entries = DatasetCatalog.get("digits_val")
    samples = pictures.test_samples(loaded(*SMALL, "DATASETS.TEST", "('digits_val',)"), None)
    lengths = [len(sample.objects) for sample in samples]
    shapes = {"boxes": [9, 4], "logits": [9, 3], "background": [3]}

    def see(number):
        boxes, size = torch.zeros(9, 4), torch.tensor([entries[number]["width"], entries[number]["height"]] * 2)
        boxes[: lengths[number]] = samples[number].objects.gt_boxes.tensor / size
        return {"boxes": boxes, "logits": torch.full((9, 3), number), "background": torch.zeros(3)}

    fill(tmp_path / "kept", [e["file_name"] for e in entries], {}, lambda _: {"shapes": shapes}, see)
    kept = {entry["file_name"]: (Arrays(tmp_path / "kept"), n) for n, entry in enumerate(entries)}
    np.random.seed(0)
    for labeled in (True, False):
        for number, entry in enumerate(entries):
            given = dict(entry) if labeled else {k: v for k, v in entry.items() if k != "annotations"}
            sample = BoxesMapper(cfg, kept)(given)
            assert ("instances" in sample) == labeled
            boxes, logits, _ = sample["teacher"]
            assert (logits == number).all()
            assert (boxes[lengths[number] :] == 0).all() or flip == "horizontal"
            assert (Boxes(boxes).area()[lengths[number] :] == 0).all()
            if labeled:
                ours = sample["instances"].gt_boxes.tensor
                torch.testing.assert_close(boxes[: lengths[number]], ours, rtol=0, atol=0.1)  # float16


def test_the_cache_holds_what_the_teacher_finds(teacher_keys, tmp_path):
    cfg = loaded(*keys(teacher_keys, tmp_path))
    trainee = build_trainee(cfg)
    assert fill_cache(cfg, trainee) == fill_cache(cfg, trainee) > 0
    teacher = trainee.distillation.teacher
    kept = training_mapper(cfg).kept
    assert len(kept) == len(DatasetCatalog.get("digits_val"))
    for file, (arrays, number) in list(kept.items())[:2]:
        sample, _ = read_input(cfg, file)
        height, width = sample["image"].shape[1:]
        with torch.no_grad():
            found = teacher.model.inference([sample], do_postprocess=False)[0]
        known = {name: part.float() for name, part in arrays.read(number).items()}
        boxes = known["boxes"] * torch.tensor([width, height] * 2)
        count = int((Boxes(boxes).area() > 0).sum())
        assert count == len(found) > 0
        torch.testing.assert_close(boxes[:count], found.pred_boxes.tensor, rtol=0, atol=0.1)
        rois = [found.pred_boxes]
        (wanted,) = live_class_logits(teacher, [sample["image"]], [rois])
        torch.testing.assert_close(known["logits"][:count], wanted, rtol=1e-2, atol=1e-2)
        # On the boxes of the teacher the student is taught what the live teacher says of them.
        moved = sample | {"teacher": (boxes, known["logits"], known["background"])}
        recorded = RecordedRoIs([(rois, wanted)], [])
        taps = FoundRoIs().taps({"cls_logits"}, trainee.model, recorded, teacher.begin([moved]))
        (given,) = taps["cls_logits"].teacher
        clear = (pairwise_iou(found.pred_boxes, found.pred_boxes) > 0.95).sum(1) == 1
        torch.testing.assert_close(given[clear], wanted[clear], rtol=1e-2, atol=1e-2)


def test_a_step_asks_the_teacher_for_nothing(teacher_keys, tmp_path):
    cfg = loaded(*keys(teacher_keys, tmp_path, "DATASETS.UNLABELED", "['digits_test']"))
    trainee = build_trainee(cfg)
    fill_cache(cfg, trainee)
    calls = []
    trainee.distillation.teacher.model.backbone.register_forward_hook(lambda *_: calls.append(1))
    with EventStorage():
        losses = trainee.model.train()(next(iter(training_batches(cfg)(RunPosition(0)))))
    assert not calls
    assert losses["loss_dist"] > 0
    assert losses["loss_dist_unlabeled"] > 0
    sum(losses.values()).backward()


def test_a_run_goes_on_bit_for_bit(teacher_keys, tmp_path):
    def run(name, *options):
        words = [*keys(teacher_keys, tmp_path / "kept"), "SOLVER.CHECKPOINT_PERIOD", "2", "SEED", "3"]
        words += ["SOLVER.MAX_ITER", "4", "OUTPUT_DIR", tmp_path / name]
        densedist("train", "det", "--config-file", str(STUDENT), *options, *words)

    run("whole")
    run("cut")
    (tmp_path / "cut" / "model_final.pth").unlink()
    (tmp_path / "cut" / "last_checkpoint").write_text("model_0000001.pth")
    run("cut", "--resume")
    whole, cut = (torch.load(tmp_path / n / "model_final.pth", weights_only=True) for n in ("whole", "cut"))
    assert differences(whole, cut) == []
    assert "once_seconds" in (tmp_path / "whole" / "metrics.json").read_text()


def fill_in_a_process(rank, count, words):
    cfg = loaded(*words)
    assert fill_cache(cfg, build_trainee(cfg)) > 0


def test_two_processes_keep_what_one_keeps(teacher_keys, tmp_path):
    cfg = loaded(*keys(teacher_keys, tmp_path / "one"))
    fill_cache(cfg, build_trainee(cfg))
    run_processes(2, fill_in_a_process, keys(teacher_keys, tmp_path / "two"))
    one, two = (Arrays(tmp_path / name / "digits_val.boxes") for name in ("one", "two"))
    assert one.missing() == two.missing() == []
    for number in range(4):
        torch.testing.assert_close(one.read(number)["background"], two.read(number)["background"], rtol=1e-2, atol=1e-2)


def refusal(build):
    with pytest.raises(UserError) as error:
        build()
    return str(error.value)


def test_what_cannot_be_kept_is_refused_by_name(teacher_keys, tmp_path):
    words = keys(teacher_keys, tmp_path, "DISTILL.MIMIC.WEIGHT", "1.0")
    said = refusal(lambda: build_trainee(loaded(*words)))
    assert said.startswith("DISTILL.TEACHER.CACHE is for losses on class logits, but DISTILL.MIMIC compares features")
    one_stage = save_teacher(tmp_path / "one", file=DIGITS / "retinanet_r10t.yaml")
    cfg = config(DIGITS / "retinanet_r10_quarter.yaml", *one_stage, "DISTILL.TEACHER.CACHE", tmp_path)
    assert refusal(lambda: build_student(cfg)).startswith(
        "DISTILL.TEACHER.CACHE keeps the boxes of a two-stage teacher"
    )


def test_another_teacher_or_another_size_is_refused(teacher_keys, tmp_path):
    cfg = loaded(*keys(teacher_keys, tmp_path / "kept"))
    fill_cache(cfg, build_trainee(cfg))
    larger = loaded(*keys(teacher_keys, tmp_path / "kept", "INPUT.MIN_SIZE_TEST", 160))
    said = refusal(lambda: fill_cache(larger, build_trainee(larger)))
    assert "was made for another teacher, or for other settings of images or logits" in said
    assert said.endswith("(INPUT.MIN_SIZE_TEST, MAX_SIZE_TEST, then (128, 1333), now (160, 1333))")


TOLD = {
    "TEST.DETECTIONS_PER_IMAGE": (30, "roi_heads.box_predictor.0.test_topk_per_image, then 100, now 30"),
    "MODEL.ROI_HEADS.NMS_THRESH_TEST": (0.3, "roi_heads.box_predictor.0.test_nms_thresh, then 0.5, now 0.3"),
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST": (0.3, "roi_heads.box_predictor.0.test_score_thresh, then 0.05, now 0.3"),
    "MODEL.RPN.POST_NMS_TOPK_TEST": (
        9,
        "proposal_generator.post_nms_topk, then {True: 100, False: 50}, now {True: 100, False: 9}",
    ),
    "MODEL.RPN.PRE_NMS_TOPK_TEST": (9, "proposal_generator.pre_nms_topk, then {True: "),
    "MODEL.RPN.NMS_THRESH": (0.5, "proposal_generator.nms_thresh, then 0.7, now 0.5"),
    "MODEL.RPN.BBOX_REG_WEIGHTS": ((2.0, 2.0, 1.0, 1.0), "proposal_generator.box2box_transform.weights, then (1.0, "),
    "MODEL.PIXEL_MEAN": ([1.5, 2.5, 3.5], "other content of weights, "),  # a buffer that is in no checkpoint
    "MODEL.ANCHOR_GENERATOR.OFFSET": (0.5, "proposal_generator.anchor_generator.offset, then 0.0, now 0.5"),
}


def test_whatever_decides_what_a_teacher_finds_is_noticed(teacher_keys):
    """Of the teacher's config no list of keys is kept anywhere."""

    def made_by(*words):
        model = build_student(config(teacher_keys[1], *words))
        model.load_state_dict(torch.load(teacher_keys[3], weights_only=True)["model"])
        return fingerprint.of_model(model, **settings(model))

    before = made_by()
    assert made_by() == before
    assert made_by("MODEL.META_ARCHITECTURE", "GeneralizedRCNN", "MODEL.RPN.IOU_THRESHOLDS", "[0.2,0.8]") == before
    for key, (value, said) in TOLD.items():
        assert fingerprint.differences(before, made_by(key, value))[0].startswith(said), key


@pytest.mark.parametrize("masks", [True, False])
def test_boxes_of_a_cropped_image_without_labels(teacher_keys, tmp_path, masks):
    words = ["INPUT.CROP.ENABLED", True, "MODEL.MASK_ON", masks, "DATASETS.UNLABELED", "['digits_test']"]
    cfg = loaded(*keys(teacher_keys, tmp_path, *words))
    fill_cache(cfg, build_trainee(cfg))
    entry = {k: v for k, v in DatasetCatalog.get("digits_test")[0].items() if k != "annotations"}
    sample = training_mapper(cfg)(entry)
    assert "instances" not in sample
    height, width = sample["image"].shape[1:]
    boxes = Boxes(sample["teacher"][0])
    assert (boxes.area() > 0).any()
    assert boxes.tensor.min() >= 0
    assert (boxes.tensor[:, 2:] <= torch.tensor([width, height])).all()
    assert all("teacher" in sample for sample in next(iter(training_batches(cfg)(RunPosition(0)))))


def test_a_loader_of_ones_own_is_told(teacher_keys, tmp_path):
    model = build_student(config(STUDENT, *teacher_keys, "DISTILL.TEACHER.CACHE", tmp_path)).train()
    with EventStorage():
        said = refusal(lambda: model(batch()))
    assert said == "DISTILL.TEACHER.CACHE is for `densedist train det`: in a script of your own leave it empty"
