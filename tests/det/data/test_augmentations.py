"""INPUT and PSEUDO_LABELS of detection: colors that move no box, large-scale jitter that moves all, and two views."""

from itertools import islice

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import BoxMode

from densedist.common.cache.arrays import Arrays
from densedist.common.cache.filling import fill
from densedist.common.errors import UserError
from densedist.common.randomness import RunPosition, seeded
from densedist.det.cache.boxes import BoxesMapper
from densedist.det.cache.maps import check_same_size
from densedist.det.data.reading import Mapper
from densedist.det.loader import training_batches
from densedist.det.models import build_trainee, load_config
from helpers.tiny import SMALL, STUDENT, TEACHER, save_teacher

TRAIN = ["DATASETS.TRAIN", "('digits_val',)", "DATASETS.TEST", "()"]
COLORS = ["INPUT.COLOR_JITTER", "[0.5, 0.4, 0.3, 0.1]", "INPUT.ALBUMENTATIONS", "[{'GaussianBlur': {'p': 1.0}}]"]
STRONG = ["PSEUDO_LABELS.COLOR_JITTER", "[0.5, 0.4, 0.3, 0.1]"]
STRONG += ["PSEUDO_LABELS.ALBUMENTATIONS", "[{'CoarseDropout': {'p': 1.0}}]"]
JITTER = ["INPUT.SCALE_JITTER", "[0.3, 2.0, 120, 160]"]
BARE = ["DATASETS.UNLABELED", "('digits_train',)"]


def loaded(*words, file=STUDENT):
    return load_config(str(file), [*SMALL, *TRAIN, *map(str, words)])


@pytest.fixture(scope="module")
def teacher_keys(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher"))


def mapped(cfg, seed, entry=None):
    with seeded(seed):
        return Mapper(cfg)(entry or DatasetCatalog.get("digits_val")[0])


@pytest.mark.parametrize("channels", ["RGB", "BGR"])
def test_colors_move_no_box_and_no_mask(channels):
    plain, colored = (loaded("INPUT.FORMAT", channels, *keys, file=TEACHER) for keys in ([], COLORS))
    for seed in range(4):
        before, after = mapped(plain, seed), mapped(colored, seed)
        assert torch.equal(after["instances"].gt_boxes.tensor, before["instances"].gt_boxes.tensor)
        assert torch.equal(after["instances"].gt_masks.tensor, before["instances"].gt_masks.tensor)
        assert after["image"].shape == before["image"].shape
        assert not torch.equal(after["image"], before["image"])


@pytest.fixture
def rectangle(tmp_path):
    """An image with one bright rectangle, and its annotation."""
    image, box = np.zeros((90, 140, 3), np.uint8), [30, 20, 100, 70]
    image[box[1] : box[3], box[0] : box[2]] = 255
    cv2.imwrite(str(tmp_path / "image.png"), image)
    corners = [box[0], box[1], box[2], box[1], box[2], box[3], box[0], box[3]]
    annotation = {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": 0, "segmentation": [corners]}
    file = str(tmp_path / "image.png")
    return {"file_name": file, "height": 90, "width": 140, "image_id": 0, "annotations": [annotation]}


@pytest.mark.parametrize("masks", [True, False])
def test_boxes_and_masks_are_where_a_jittered_image_shows_them(rectangle, masks):
    cfg = loaded(*JITTER, "INPUT.MASK_FORMAT", "bitmask", file=TEACHER if masks else STUDENT)
    sizes, shown = set(), 0
    for seed in range(40):
        sample = mapped(cfg, seed, rectangle)
        bright = sample["image"][0] > 127
        sizes.add(tuple(bright.shape))
        if len(sample["instances"]) == 0:
            assert bright.float().mean() < 0.01
            continue
        shown += 1
        rows, columns = (bright.any(dim).nonzero().flatten() for dim in (1, 0))
        seen = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        assert (sample["instances"].gt_boxes.tensor[0] - seen).abs().max() <= 1.5
        if masks:
            wrong = sample["instances"].gt_masks.tensor[0] != bright
            assert wrong.sum() <= 2 * sum(seen[2:] - seen[:2]), "but for its border"
    assert shown > 20
    assert len(sizes) > 5
    assert all(height <= 120 and width <= 160 for height, width in sizes), "not padded: batches are"
    assert (120, 160) in sizes or max(sizes)[0] > 100


def test_boxes_of_a_cache_follow_the_jitter(tmp_path):
    cfg, entries = loaded(*JITTER), DatasetCatalog.get("digits_val")
    shapes = {"boxes": [9, 4], "logits": [9, 3], "background": [3]}

    def see(number):
        entry, boxes = entries[number], torch.zeros(9, 4)
        given = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in entry["annotations"]]
        boxes[: len(given)] = torch.tensor(given) / torch.tensor([entry["width"], entry["height"]] * 2)
        return {"boxes": boxes, "logits": torch.zeros(9, 3), "background": torch.zeros(3)}

    fill(tmp_path / "kept", [entry["file_name"] for entry in entries], {}, lambda _: {"shapes": shapes}, see)
    kept = {entry["file_name"]: (Arrays(tmp_path / "kept"), n) for n, entry in enumerate(entries)}
    mapper, compared, total = BoxesMapper(cfg, kept), 0, 0
    for seed in range(5):
        for entry in entries:
            with seeded(seed):
                sample = mapper(entry)
            theirs, ours = sample["teacher"][0], sample["instances"].gt_boxes.tensor
            sides = theirs[:, 2:] - theirs[:, :2]
            theirs = theirs[(sides > 0.3).all(1)]  # float16 moves an edge by less
            ours = ours[(ours[:, 2:] - ours[:, :2] > 0.3).all(1)]
            total += len(ours)
            if len(theirs) == len(ours):
                compared += len(ours)
                torch.testing.assert_close(theirs, ours, rtol=0, atol=0.3)
    assert compared > max(0.9 * total, 20)


def test_only_images_without_true_labels_have_two_views(teacher_keys):
    plain, strong = (
        next(iter(training_batches(loaded(*teacher_keys, *BARE, *keys))(RunPosition(0)))) for keys in ([], STRONG)
    )
    assert ["instances" in sample for sample in plain] == [True, True, False, False]
    for sample, before in zip(strong, plain, strict=True):
        same = torch.equal(sample["image"], before["image"])
        assert same == ("instances" in sample)
        assert same or torch.equal(sample["teacher_image"], before["image"])


def test_a_live_teacher_sees_the_weak_view(teacher_keys):
    cfg = loaded(*teacher_keys, *BARE, *STRONG)
    batch = next(iter(training_batches(cfg)(RunPosition(0))))[2:]
    teacher = build_trainee(cfg).distillation.teacher
    seen, weak, strong = (
        maps["p4"]
        for maps in (
            teacher.begin(batch).maps,
            teacher.live_maps([sample["teacher_image"] for sample in batch]),
            teacher.live_maps([sample["image"] for sample in batch]),
        )
    )
    assert torch.equal(seen, weak)
    assert not torch.equal(seen, strong)


def test_a_run_that_goes_on_sees_the_same(teacher_keys):
    keys = [*teacher_keys, *BARE, *STRONG, *COLORS, *JITTER]
    whole = list(islice(training_batches(loaded(*keys))(RunPosition(5)), 3))
    for workers in (0, 2):
        later = next(iter(training_batches(loaded(*keys, "DATALOADER.NUM_WORKERS", workers))(RunPosition(5, 2))))
        for sample, wanted in zip(later, whole[2], strict=True):
            assert sample.keys() == wanted.keys()
            assert torch.equal(sample["image"], wanted["image"])
            if "instances" in wanted:
                assert torch.equal(sample["instances"].gt_boxes.tensor, wanted["instances"].gt_boxes.tensor)


def test_the_plan_names_them():
    notes = build_trainee(loaded(*COLORS, *STRONG)).notes
    assert notes["augment"] == "ColorJitter, GaussianBlur"
    assert notes["strong"].startswith("ColorJitter, CoarseDropout in images without true labels")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            ["INPUT.ALBUMENTATIONS", [{"Rotate": {}}]],
            "INPUT.ALBUMENTATIONS: Rotate moves pixels: leave it out",
        ),
        (["PSEUDO_LABELS.ALBUMENTATIONS", [{"Affine": {}}]], "PSEUDO_LABELS.ALBUMENTATIONS: Affine moves pixels: name"),
        (
            ["INPUT.ALBUMENTATIONS", [{"ToGrey": {}}]],
            "INPUT.ALBUMENTATIONS: ToGrey is not a transform of",
        ),
        (["INPUT.COLOR_JITTER", "[0.5]"], "INPUT.COLOR_JITTER is [0.5]: want [brightness, contrast"),
        (["INPUT.SCALE_JITTER", "[0.1, 2.0]"], "INPUT.SCALE_JITTER is [0.1, 2.0]: want [least scale, greatest scale"),
        (["INPUT.SCALE_JITTER", "[2.0, 0.1, 64, 64]"], "INPUT.SCALE_JITTER is [2.0, 0.1, 64, 64]: want [least"),
        (["INPUT.SCALE_JITTER", "[0.0, 0.1, 64, 64]"], "INPUT.SCALE_JITTER is [0.0, 0.1, 64, 64]: want [least"),
    ],
)
def test_what_is_refused(keys, message):
    with pytest.raises(UserError) as error:
        loaded(*keys)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_a_cache_of_maps_has_one_size():
    cfg = loaded(*JITTER, "INPUT.MIN_SIZE_TRAIN", "(128,)")
    with pytest.raises(UserError, match=r"maps of whole images at one size: leave INPUT.SCALE_JITTER empty$"):
        check_same_size(cfg)
