"""Instance masks of transformers: each family built small, with random weights, finds what the library itself finds."""

import json

import cv2
import numpy as np
import pytest
import torch
import transformers as hf
from detectron2.utils.events import EventStorage
from PIL import Image
from pycocotools import mask as rle
from pycocotools.coco import COCO
from transformers.models.oneformer import image_processing_oneformer

from densedist.common.data import digits
from densedist.common.errors import UserError
from densedist.common.randomness import RunPosition
from densedist.det.config import GRAMMAR
from densedist.det.datasets import check_datasets
from densedist.det.foreign.load import load_foreign
from densedist.det.foreign.transformers import load
from densedist.det.loader import training_batches
from helpers import detectors, masks
from helpers.calling import densedist
from helpers.drawing import draw_nothing
from helpers.tiny import STUDENT, TEACHER, build_student, config
from helpers.transformers import eomt

LEAST = 0.05
SIZES = ((90, 120), (64, 64), (50, 70))
IMAGES = [
    torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)) for size in SIZES
]
SAMPLES = [{"image": image, "height": size[0], "width": size[1]} for image, size in zip(IMAGES, SIZES, strict=True)]
WHOLE = ("mask2former", "maskformer", "rf-detr")  # whose post-processing gives whole masks
PAINTED = ("eomt", "eomt of dinov3")  # whose post-processing paints one mask over the other


def by_the_library(kind, model, processor, image, least=LEAST):
    """What its own documentation does with one image: a map of instances, or whole masks, and what it says of each."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    task = {"task_inputs": ["instance"]} if kind == "oneformer" else {}
    with torch.no_grad():
        outputs = model(**processor(images=picture, return_tensors="pt", **task))
    whole = {"return_binary_maps": True} if kind in WHOLE else {}
    sizes = [tuple(image.shape[1:])]
    (found,) = processor.post_process_instance_segmentation(outputs, threshold=least, target_sizes=sizes, **whole)
    return found["segmentation"], found["segments_info"]


def tight(mask):
    """[x0, y0, x1, y1] of the pixels of a mask, by their edges."""
    rows, columns = np.nonzero(np.asarray(mask))
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.fixture(params=masks.KINDS, scope="module")
def each(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    model, processor = masks.write(request.param, folder)
    return request.param, model, processor, load(str(folder), "--weights", (), LEAST, 100).eval()


def test_masks_scores_and_labels_are_the_librarys(each):
    """Bit by bit, of images of any size; the weights are those that were written."""
    kind, model, processor, detector = each
    seen = 0
    for image, size in zip(IMAGES, SIZES, strict=True):
        maps, instances = by_the_library(kind, detector.model, processor, image)
        with torch.no_grad():
            (found,) = detector.find([image], [size])
        assert found.labels.tolist() == [one["label_id"] for one in instances]
        assert torch.equal(found.scores, torch.tensor([one["score"] for one in instances]))
        assert found.masks.shape == (len(instances), *size)
        assert found.masks.dtype == torch.bool
        if not instances:
            continue
        if kind in WHOLE:
            assert torch.equal(found.masks, maps.bool())
        elif kind in PAINTED:
            painted = torch.full(size, -1.0)
            for number, mask in enumerate(found.masks):
                painted[mask] = number
            assert torch.equal(painted, maps)
        else:
            assert all(torch.equal(m, maps == one["id"]) for m, one in zip(found.masks, instances, strict=True))
        assert found.boxes.tolist() == [tight(mask) for mask in found.masks]
        seen += len(instances)
    assert seen > 2
    given = model.state_dict()
    assert all(torch.equal(value, given[name]) for name, value in detector.model.state_dict().items())


def test_an_image_in_a_batch_is_seen_as_alone(each):
    _, _, _, detector = each
    detector.try_out()
    for sample, together in zip(SAMPLES, detector(SAMPLES), strict=True):
        alone, seen = detector([sample])[0]["instances"], together["instances"]
        assert len(alone) == len(seen)
        torch.testing.assert_close(alone.scores.sort()[0], seen.scores.sort()[0], rtol=0, atol=1e-4)
        assert (alone.pred_masks.sum(0) != seen.pred_masks.sum(0)).float().mean() < 0.01


@pytest.mark.parametrize("kind", PAINTED)
def test_an_unlikely_mask_covers_no_likely_one(tmp_path, kind):
    """Of EoMT, whose post-processing by itself takes pixels from a mask for any that comes later."""
    _, processor = masks.write(kind, tmp_path)
    model, likely_one = load(str(tmp_path), "", (), LEAST, 100).eval(), load(str(tmp_path), "", (), 0.4, 100).eval()
    with torch.no_grad():
        (every,), (likely,) = (one.find(IMAGES[:1], SIZES[:1]) for one in (model, likely_one))
    is_likely = every.scores >= 0.4
    assert 0 < len(likely.scores) < len(every.scores)
    assert torch.equal(every.masks[is_likely], likely.masks)
    maps, instances = by_the_library(kind, model.model, processor, IMAGES[0])
    left = torch.tensor([(maps == one["id"]).sum() for one in instances])
    assert (left < every.masks.sum((1, 2)))[is_likely].any()


def test_instances_have_masks_of_named_classes_alone(tmp_path):
    masks.write("mask2former", tmp_path)
    detector = load(str(tmp_path), "--weights", (), LEAST, 100).eval()
    with torch.no_grad():
        (whole,) = detector.find(IMAGES[:1], SIZES[:1])
    named = [n for n, label in enumerate(whole.labels.tolist()) if detectors.NAMES[label] != "N/A"]
    found = detector(SAMPLES[:1])[0]["instances"]
    assert 0 < len(found) < len(whole.labels)
    assert torch.equal(found.pred_masks, whole.masks[named])
    assert torch.equal(found.pred_boxes.tensor, whole.boxes[named])
    few = load(str(tmp_path), "--weights", (), LEAST, 1).eval()(SAMPLES[:1])[0]["instances"]
    assert torch.equal(few.pred_masks[0], found.pred_masks[found.scores.argmax()])


MAP = ["DATASETS.CLASSES", "['vehicle', 'person']", "DISTILL.TEACHER.CLASSES.vehicle", "['car', 'bus']"]


@pytest.fixture(scope="module")
def labeled(tmp_path_factory):
    """Two files, the folder of a model, and that of the labels that it wrote for them by MAP."""
    folder = tmp_path_factory.mktemp("labeled")
    masks.write("rf-detr", folder / "model")
    files = sorted(digits.images("val").glob("*.png"))[:2]
    where = ["--weights", folder / "model", "--output-dir", folder / "labels", "--score-threshold", 0.3]
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch.setattr)
        densedist("label", "det", *where, *files, *MAP)
    return files, folder / "model", folder / "labels"


def test_a_class_map_holds_for_masks(labeled):
    """RLE of annotations.json is, by pycocotools, what the detector found; the class that is left out has no mask."""
    files, model, labels = labeled
    assert json.loads((labels / "labels.json").read_text())["left_out"] == ["truck", "dog"]
    detector = load(str(model), "", (), 0.3, 100).eval()
    ours = {"car": "vehicle", "bus": "vehicle", "person": "person"}
    coco = COCO(str(labels / "annotations.json"))
    names, seen, others = {c["id"]: c["name"] for c in coco.dataset["categories"]}, set(), 0
    for number, file in enumerate(files, 1):
        rgb = torch.from_numpy(cv2.imread(str(file))[..., ::-1].transpose(2, 0, 1).copy())
        found = detector([{"image": rgb}])[0]["instances"]
        classes = [detector.names[n] for n in found.pred_classes]
        wanted = [n for n, name in enumerate(classes) if name in ours]
        others += len(classes) - len(wanted)
        for n, annotation in zip(wanted, coco.imgToAnns[number], strict=True):
            assert np.array_equal(rle.decode(annotation["segmentation"]), found.pred_masks[n].numpy())
            x, y, width, height = annotation["bbox"]
            assert [x, y, x + width, y + height] == tight(found.pred_masks[n])
            assert names[annotation["category_id"]] == ours[classes[n]]
            seen.add(names[annotation["category_id"]])
    assert "vehicle" in seen
    assert others > 0


def test_a_mask_rcnn_learns_its_masks(labeled):
    keys = ["DATASETS.TRAIN", "()", "DATASETS.TEST", "()", "DATASETS.PSEUDO_LABELED", str([str(labeled[-1])]), *MAP[:2]]
    cfg = config(TEACHER, *keys, "INPUT.MASK_FORMAT", "bitmask", "MODEL.ROI_HEADS.NUM_CLASSES", 2)
    check_datasets(cfg)
    model, batch = build_student(cfg).train(), next(iter(training_batches(cfg)(RunPosition(0))))
    assert all(sample["instances"].has("gt_masks") for sample in batch)
    with EventStorage():
        losses = model(batch)
    losses["loss_mask"].backward()
    assert losses["loss_mask"].isfinite()
    assert model.roi_heads.mask_head.predictor.weight.grad.abs().sum() > 0


def test_it_teaches_the_scores_of_its_labels_but_no_masks(tmp_path):
    masks.write("mask2former", tmp_path)
    words = ["DATASETS.CLASSES", str([str(n) for n in range(10)]), "DISTILL.TEACHER.CLASSES.0", "car"]
    words += ["DISTILL.TEACHER.MISSING_CLASSES", "leave_out", "DISTILL.TEACHER.WEIGHTS", tmp_path]
    teacher = build_student(config(STUDENT, *words)).distillation.teacher
    (objects,) = teacher.look([IMAGES[0].flip(0)])  # the student's images are in BGR
    with torch.no_grad():
        (found,) = teacher.model.find(IMAGES[:1], SIZES[:1])
    assert len(objects.boxes) > 0
    for box, logits in zip(objects.boxes, objects.logits, strict=True):
        same = (found.boxes == box).all(1)
        assert same.any()
        assert (found.scores[same] - logits.sigmoid().max()).abs().min() < 1e-5
        assert logits.sigmoid().sort()[0][-2] < 1e-3
    with pytest.raises(UserError, match=r"needs masks, which this pair does not have \(the teacher gives") as told:
        build_student(config(STUDENT, *words, "DISTILL.MASK.WEIGHT", "1"))
    assert "\n" not in str(told.value)


def refused(message, folder):
    with pytest.raises(UserError, match=message) as told:
        load(str(folder), "--weights", (), LEAST, 100)
    assert "\n" not in str(told.value)


def test_what_cannot_find_instances_is_refused_in_one_line(tmp_path):
    bare, split, video = tmp_path / "bare", tmp_path / "split", tmp_path / "video"
    masks.write("mask2former", bare, processor=False)
    refused(r"bare has no preprocessor_config.json, which says how images are normalized", bare)
    hf.SegformerImageProcessor().save_pretrained(bare)
    refused(
        r"SegformerImageProcessor.* has no post_process_instance_segmentation, so nothing says where the masks", bare
    )
    eomt(detectors.labels()).save_pretrained(split)
    hf.EomtImageProcessor(size=masks.OF_ONE_SIDE, do_split_image=True).save_pretrained(split)
    refused(r"preprocessor_config.json splits images \(do_split_image\), as a model of semantic segmentation", split)
    hf.EomtImageProcessor(size=masks.OF_ONE_SIDE).save_pretrained(split)  # which pads nothing
    cfg = GRAMMAR.config()
    cfg.merge_from_list(["MODEL.KIND", "transformers", "MODEL.DEVICE", "cpu"])
    with pytest.raises(UserError, match=r"split fails on images \[\(480, 640\)\]: ") as told:
        load_foreign(cfg, str(split), "--weights")
    assert "\n" not in str(told.value)
    video.mkdir()
    config = {"architectures": ["VideomtForUniversalSegmentation"], "model_type": "videomt"}
    (video / "config.json").write_text(json.dumps(config))
    refused(r"video has no preprocessor_config.json", video)


def test_oneformers_processor_does_not_ask_the_hub(tmp_path, monkeypatch):
    """Published ones say that names of classes lie there."""
    masks.write("oneformer", tmp_path)
    masks.as_published(tmp_path)
    monkeypatch.setattr(image_processing_oneformer, "load_metadata", lambda *given: pytest.fail(f"asks for {given}"))
    assert load(str(tmp_path), "--weights", (), LEAST, 100).names == ("car", "bus", "truck", "person", "dog")
