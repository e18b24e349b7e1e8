"""PSEUDO_LABELS.MOSAIC: four images in one, with boxes, masks and a teacher's boxes where the picture shows them."""

from itertools import islice

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, BoxMode

from densedist.common.cache.arrays import Arrays
from densedist.common.cache.filling import fill
from densedist.common.errors import UserError
from densedist.common.randomness import RunPosition, seeded
from densedist.det.cache.boxes import BoxesMapper
from densedist.det.data.mosaic import Mosaic
from densedist.det.data.reading import Mapper
from densedist.det.data.teacher_labels import GT_SCORES
from densedist.det.loader import training_batches
from densedist.det.models import load_config
from helpers.tiny import SMALL, STUDENT, TEACHER, save_teacher

DATA = ["DATASETS.TRAIN", "('digits_val',)", "DATASETS.PSEUDO_LABELED", "('digits_train',)", "DATASETS.TEST", "()"]
MOSAIC = ["PSEUDO_LABELS.MOSAIC", "1.0"]


def loaded(*words, file=STUDENT):
    return load_config(str(file), [*SMALL, *DATA, *map(str, words)])


def rectangle(folder, number, size, box):
    """A black image with one rectangle, of a brightness and a class of its own; a teacher wrote so."""
    image = np.zeros((*size, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 60 * (number + 1)
    file = str(folder / f"{number}.png")
    cv2.imwrite(file, image)
    x0, y0, x1, y1 = map(float, box)  # whole numbers Detectron2 rounds down as it resizes
    segmentation = [[x0, y0, x1, y0, x1, y1, x0, y1]]
    annotation = {"bbox": [x0, y0, x1, y1], "bbox_mode": BoxMode.XYXY_ABS, "category_id": number}
    annotations = [annotation | {"segmentation": segmentation, "score": 0.2 * (number + 1)}]
    sides = {"height": size[0], "width": size[1], "image_id": number}
    return {"file_name": file, "annotations": annotations, "pseudo_labeled": True, **sides}


@pytest.fixture
def pool(tmp_path):
    shapes = [((90, 140), [30, 20, 100, 70]), ((120, 80), [10, 40, 60, 110]), ((100, 100), [5, 5, 95, 50])]
    return [rectangle(tmp_path, number, *shape) for number, shape in enumerate(shapes)]


@pytest.mark.parametrize("masks", ["bitmask", "polygon", ""])
def test_boxes_and_masks_are_where_the_picture_shows_them(pool, masks):
    more = ["INPUT.MASK_FORMAT", masks] if masks else []
    cfg = loaded(*more, "PSEUDO_LABELS.CONFIDENCE", "score", file=TEACHER if masks else STUDENT)
    mapper = Mosaic(Mapper(cfg), (pool, []), 1.0, [255, 255, 255])
    shown = set()
    for seed in range(12):
        with seeded(seed):
            sample = mapper(pool[seed % 3])
        objects, size = sample["instances"], sample["image"].shape[1:]
        assert len(objects) == 4
        assert objects.image_size == tuple(size)
        bitmasks = masks and (objects.gt_masks.tensor if masks == "bitmask" else None)
        for number in range(4):
            x0, y0, x1, y1 = objects.gt_boxes.tensor[number].round().int().tolist()
            kind = int(objects.gt_classes[number])
            shown.add(kind)
            assert objects.get(GT_SCORES)[number] == pytest.approx(0.2 * (kind + 1))
            inside = sample["image"][0, y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].float()
            around = sample["image"][0, max(y0 - 3, 0) : y1 + 3, max(x0 - 3, 0) : x1 + 3].float()
            bright = abs(inside - 60 * (kind + 1)) < 20
            assert bright.float().mean() > 0.95, "the box shows the rectangle of its class"
            assert (abs(around - 60 * (kind + 1)) < 8).sum() < 1.35 * (x1 - x0) * (y1 - y0), "and nothing else does"
            if bitmasks is not None and masks:
                rows, columns = (bitmasks[number].any(dim).nonzero().flatten() for dim in (1, 0))
                edges = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
                assert (objects.gt_boxes.tensor[number] - edges).abs().max() <= 1.5
        if masks == "polygon":
            found = objects.gt_masks.get_bounding_boxes().tensor
            torch.testing.assert_close(found, objects.gt_boxes.tensor, rtol=0, atol=0.01)
        parts = Boxes(objects.gt_boxes.tensor)
        assert (torch.tensor(size).prod() > parts.area().sum()).item()
    assert shown == {0, 1, 2}


def kept_boxes(pool, folder):
    """The annotations, as a cached teacher keeps boxes."""
    shapes = {"boxes": [2, 4], "logits": [2, 3], "background": [3]}

    def see(number):
        entry, boxes = pool[number], torch.zeros(2, 4)
        sides = torch.tensor([entry["width"], entry["height"]] * 2)
        boxes[0] = torch.tensor(entry["annotations"][0]["bbox"]) / sides
        return {"boxes": boxes, "logits": torch.full((2, 3), number), "background": torch.full((3,), number)}

    files = [entry["file_name"] for entry in pool]
    fill(folder / "kept", files, {}, lambda _: {"shapes": shapes}, see)
    return {file: (Arrays(folder / "kept"), number) for number, file in enumerate(files)}


def test_a_teachers_boxes_follow(pool, tmp_path):
    mapper = Mosaic(BoxesMapper(loaded(), kept_boxes(pool, tmp_path)), (pool, []), 1.0, [0, 0, 0])
    for seed in range(6):
        with seeded(seed):
            sample = mapper(pool[seed % 3])
        boxes, logits, background = sample["teacher"]
        real = Boxes(boxes).nonempty()
        torch.testing.assert_close(boxes[real], sample["instances"].gt_boxes.tensor, rtol=0, atol=0.15)  # float16
        assert torch.equal(logits[real][:, 0].long(), sample["instances"].gt_classes)
        torch.testing.assert_close(background, logits[real].mean(0))


CROPS = {
    "crop": ["INPUT.CROP.ENABLED", "True", "INPUT.CROP.TYPE", "absolute", "INPUT.CROP.SIZE", "[48, 48]"],
    "jitter": ["INPUT.SCALE_JITTER", "[2, 2, 96, 96]"],
}


@pytest.mark.parametrize("masks", ["bitmask", "polygon", ""])
@pytest.mark.parametrize("keys", CROPS.values(), ids=CROPS)
def test_what_a_crop_cuts_off_is_cut_off_in_the_picture(pool, tmp_path, keys, masks):
    """Boxes, ignored boxes, masks and a teacher's boxes lie where their object is seen, and on no other image."""
    more = ["INPUT.MASK_FORMAT", masks] if masks else []
    cfg = loaded(*keys, *more, "PSEUDO_LABELS.CONFIDENCE", "score", file=TEACHER if masks else STUDENT)
    crowds = [{**one, "annotations": [*one["annotations"], {**one["annotations"][0], "iscrowd": 1}]} for one in pool]
    mapper = Mosaic(BoxesMapper(cfg, kept_boxes(pool, tmp_path)), (crowds, []), 1.0, [255, 255, 255])
    left = 0
    for seed in range(12):
        with seeded(seed):
            sample = mapper(crowds[seed % 3])
        objects, (boxes, logits, _) = sample["instances"], sample["teacher"]
        real = Boxes(boxes).nonempty(1e-3)
        if masks == "bitmask":
            assert all(mask.any() for mask in objects.gt_masks.tensor)
        if masks == "polygon":
            torch.testing.assert_close(objects.gt_masks.get_bounding_boxes().tensor, objects.gt_boxes.tensor)
        seen = [*zip(objects.gt_boxes.tensor, objects.gt_classes.tolist(), strict=True)]
        seen += zip(boxes[real], logits[real][:, 0].long().tolist(), strict=True)
        seen += [(box, None) for box in sample["ignored"].tensor] if "ignored" in sample else []
        left += len(objects)
        for box, kind in seen:
            x0, y0, x1, y1 = box.round().int().tolist()
            inside = sample["image"][0, y0 + 1 : y1 - 1, x0 + 1 : x1 - 1].float()
            bright = [60 * (number + 1) for number in ([kind] if kind is not None else range(3))]
            if inside.numel():
                assert max((abs(inside - value) < 20).float().mean() for value in bright) > 0.7
    assert 0 < left < 48


@pytest.mark.parametrize("keys", CROPS.values(), ids=CROPS)
def test_keypoints_that_a_crop_cuts_off_are_not_seen(pool, keys):
    """None lies on another image."""
    mapper = Mapper(loaded(*keys, "INPUT.RANDOM_FLIP", "none"))
    mapper.use_keypoint = True
    for one in pool:
        x0, y0, x1, y1 = one["annotations"][0]["bbox"]
        corners = [(x, y) for x in (x0 + 3, x1 - 3) for y in (y0 + 3, y1 - 3)]
        one["annotations"][0]["keypoints"] = [number for x, y in corners for number in (x, y, 2)]
    seen = []
    for seed in range(12):
        with seeded(seed):
            sample = Mosaic(mapper, (pool, []), 1.0, [255, 255, 255])(pool[seed % 3])
        objects = sample["instances"]
        for points, kind in zip(objects.gt_keypoints.tensor, objects.gt_classes.tolist(), strict=True):
            for x, y, visibility in points.tolist():
                seen.append(visibility > 0)
                if visibility:
                    assert abs(sample["image"][0, int(y), int(x)] - 60.0 * (kind + 1)) < 20
                else:
                    assert (x, y) == (0, 0)
    assert 0 < sum(seen) < len(seen)


def test_images_with_true_labels_stay():
    plain, mosaics = (
        [sample for batch in islice(training_batches(loaded(*keys))(RunPosition(0)), 4) for sample in batch]
        for keys in ([], MOSAIC)
    )
    assert {"pseudo_labeled" in sample for sample in plain} == {True, False}
    for sample, before in zip(mosaics, plain, strict=True):
        assert torch.equal(sample["image"], before["image"]) == ("pseudo_labeled" not in sample)
        assert sample["image"].shape == before["image"].shape
        assert sample["file_name"] == before["file_name"]


def test_images_without_labels_and_resuming(tmp_path):
    keys = [*save_teacher(tmp_path), *MOSAIC, "DATASETS.UNLABELED", "('digits_test',)"]
    whole = list(islice(training_batches(loaded(*keys))(RunPosition(5)), 3))
    assert any("instances" not in sample for sample in whole[2])
    for workers in (0, 2):
        later = next(iter(training_batches(loaded(*keys, "DATALOADER.NUM_WORKERS", workers))(RunPosition(5, 2))))
        for sample, wanted in zip(later, whole[2], strict=True):
            assert sample.keys() == wanted.keys()
            assert torch.equal(sample["image"], wanted["image"])


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (["PSEUDO_LABELS.MOSAIC", "2.0"], "PSEUDO_LABELS.MOSAIC is 2.0: want a probability, 0 to 1"),
        ([*MOSAIC, "DISTILL.TEACHER.CACHE_MAPS", "True"], "PSEUDO_LABELS.MOSAIC joins images, and DISTILL.TEACHER."),
        (
            [*MOSAIC, "INPUT.FLIP_PAIRS", "[['1', '2']]"],
            "PSEUDO_LABELS.MOSAIC joins images, some of",
        ),
    ],
)
def test_what_is_refused(keys, message):
    with pytest.raises(UserError) as error:
        loaded("DISTILL.TEACHER.CACHE", "kept", *keys)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


def test_without_such_images():
    cfg = load_config(str(STUDENT), [*SMALL, "DATASETS.TRAIN", "('digits_val',)", "DATASETS.TEST", "()", *MOSAIC])
    assert len(DatasetCatalog.get("digits_val")) > 0
    with pytest.raises(UserError, match=r"^PSEUDO_LABELS.MOSAIC is set, but DATASETS.PSEUDO_LABELED and UNLABELED are"):
        next(iter(training_batches(cfg)(RunPosition(0))))
