"""Detectors of transformers: each family built small, with random weights, finds what the library itself finds."""

import json
import re
import sys

import pytest
import torch
import transformers as hf
from detectron2.structures import Boxes
from PIL import Image

from densedist.common.errors import UserError
from densedist.common.extras import how_to_install
from densedist.det.config import GRAMMAR
from densedist.det.foreign.detector import probabilities
from densedist.det.foreign.load import load_foreign
from densedist.det.foreign.transformers import load
from helpers import detectors

LEAST = 0.05
SIZES = ((90, 120), (64, 64), (50, 70))
IMAGES = [
    torch.randint(0, 256, (3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)) for size in SIZES
]
SAMPLES = [{"image": image, "height": size[0], "width": size[1]} for image, size in zip(IMAGES, SIZES, strict=True)]


def by_the_library(model, processor, image, **texts):
    """What its own documentation does with one image."""
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    inputs = processor(images=picture, return_tensors="pt", **texts)
    with torch.no_grad():
        outputs = model(**inputs)
    post = processor.post_process_grounded_object_detection if texts else processor.post_process_object_detection
    return post(outputs, threshold=LEAST, target_sizes=[tuple(image.shape[1:])])[0]


@pytest.fixture(params=detectors.KINDS, scope="module")
def both(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("detector")
    model, processor = detectors.write(request.param, folder)
    return model, processor, load(str(folder), "--weights", (), LEAST, 100).eval()


def test_boxes_scores_and_labels_are_the_librarys(both):
    """Bit by bit those of its own code on the same model; the weights are those that were written."""
    model, processor, detector = both
    wanted = by_the_library(detector.model, processor, IMAGES[0])
    with torch.no_grad():
        (found,) = detector.find(IMAGES[:1], SIZES[:1])
    assert len(wanted["scores"]) > 0
    for name in ("boxes", "scores", "labels"):
        assert torch.equal(getattr(found, name), wanted[name]), name
    given = model.state_dict()
    assert all(torch.equal(value, given[name]) for name, value in detector.model.state_dict().items())


def test_the_scores_of_all_classes_are_the_librarys(both):
    """A query has one box and one row, of which the library gives the highest score, of some models more of them."""
    _, processor, detector = both
    detector.try_out()
    wanted = by_the_library(detector.model, processor, IMAGES[0])
    with torch.no_grad():
        (found,) = detector.find_softly(IMAGES[:1], SIZES[:1])
    scores = probabilities(found.logits.double(), detector.activation)
    assert scores.max().item() == pytest.approx(wanted["scores"].max().item(), abs=1e-6)
    for box, score, label in zip(*(wanted[name] for name in ("boxes", "scores", "labels")), strict=True):
        apart = (found.boxes - box).abs().amax(1) + 1e3 * (scores[:, label] - score).abs()
        assert apart.min() < 2e-3
    of_softmax = ("Detr", "TableTransformer", "Yolos")
    assert (detector.activation == "softmax") == type(detector.model).__name__.startswith(of_softmax)


def test_an_image_in_a_batch_is_seen_as_alone(both):
    _, _, detector = both
    for sample, together in zip(SAMPLES, detector(SAMPLES), strict=True):
        alone, seen = detector([sample])[0]["instances"], together["instances"]
        assert len(alone) == len(seen)
        order = alone.scores.argsort(), seen.scores.argsort()
        torch.testing.assert_close(alone.scores[order[0]], seen.scores[order[1]], rtol=0, atol=1e-4)


def test_instances_have_named_classes_and_boxes_within_the_image(tmp_path):
    """What has no name of its own, as the gaps in COCO's ids, is no class."""
    _, processor = detectors.write("rt-detr", tmp_path)
    detector = load(str(tmp_path), "--weights", (), LEAST, 100)
    assert detector.names == ("car", "bus", "truck", "person", "dog")
    wanted = by_the_library(detector.model, processor, IMAGES[0])
    named = [n for n, label in enumerate(wanted["labels"].tolist()) if detectors.NAMES[label] != "N/A"]
    boxes = Boxes(wanted["boxes"][named])
    boxes.clip(SIZES[0])
    there = boxes.nonempty()
    found = detector(SAMPLES[:1])[0]["instances"]
    assert 0 < len(found) < len(wanted["labels"])
    assert torch.equal(found.pred_boxes.tensor, boxes.tensor[there])
    names = [detectors.NAMES[wanted["labels"][n]] for n, inside in zip(named, there.tolist(), strict=True) if inside]
    assert [detector.names[n] for n in found.pred_classes] == names
    few = load(str(tmp_path), "--weights", (), LEAST, 2)
    assert few(SAMPLES[:1])[0]["instances"].scores.tolist() == found.scores.topk(2).values.tolist()


@pytest.mark.parametrize("kind", detectors.ZERO_SHOT)
def test_zero_shot_models_find_what_they_are_asked_for(tmp_path, kind):
    """Boxes and scores are the library's, and labels where it gives numbers; of Grounding DINO's texts see below."""
    _, processor = detectors.write(kind, tmp_path)
    detector = load(str(tmp_path), "--weights", detectors.PROMPTS, LEAST, 100).eval()
    assert detector.names == tuple(detectors.PROMPTS)
    wanted = by_the_library(detector.model, processor, IMAGES[0], text=[detectors.PROMPTS])
    with torch.no_grad():
        (found,) = detector.find(IMAGES[:1], SIZES[:1])
    assert len(wanted["scores"]) > 0
    assert torch.equal(found.boxes, wanted["boxes"])
    assert torch.equal(found.scores, wanted["scores"])
    if "dino" not in kind:
        assert torch.equal(found.labels, wanted["labels"])
    if kind != "omdet-turbo":  # which suppresses boxes within
        assert torch.equal(found.logits.sigmoid().argmax(1), found.labels)
        assert found.logits.shape == (len(found.scores), len(detectors.PROMPTS))
    assert [len(seen["instances"]) for seen in detector(SAMPLES)] == [
        len(detector([s])[0]["instances"]) for s in SAMPLES
    ]


def test_a_text_of_grounding_dino_is_the_prompt_of_its_surest_token(tmp_path):
    """By hand, from the tokens: [CLS] a c a r . b u s . a r e d …"""
    _, processor = detectors.write("grounding dino", tmp_path)
    detector = load(str(tmp_path), "--weights", ["a car", "bus"], LEAST, 100).eval()
    assert detector.prompts.spans == ((1, 2, 3, 4), (6, 7, 8))
    picture = Image.fromarray(IMAGES[0].permute(1, 2, 0).numpy())
    inputs = processor(images=picture, text=[["a car", "bus"]], return_tensors="pt")
    with torch.no_grad():
        scores = detector.model(**inputs).logits[0].sigmoid()
        (found,) = detector.find(IMAGES[:1], SIZES[:1])
    kept = scores[scores.amax(1) > LEAST]
    wanted = [int(max(range(1, 9), key=lambda n: -1 if n == 5 else row[n]) > 5) for row in kept]
    assert found.labels.tolist() == wanted
    assert set(wanted) == {0, 1}


def refused(message, folder, asked=()):
    with pytest.raises(UserError, match=message) as told:
        load(str(folder), "--weights", asked, LEAST, 100)
    assert "\n" not in str(told.value)


def test_what_cannot_find_boxes_is_refused_in_one_line(tmp_path, monkeypatch):
    segformer = hf.SegformerConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 8, 8, 8], num_attention_heads=[1, 1, 1, 1])
    hf.SegformerForSemanticSegmentation(segformer).save_pretrained(tmp_path / "masks")
    refused(
        r"holds SegformerForSemanticSegmentation, which finds no boxes: want one …ForObjectDetection",
        tmp_path / "masks",
    )
    detectors.write("yolos", tmp_path / "bare", processor=False)
    refused(r"bare has no preprocessor_config.json, which says how images are normalized", tmp_path / "bare")
    hf.SegformerImageProcessor().save_pretrained(tmp_path / "bare")
    refused(r"SegformerImageProcessor.* has no post_process_object_detection", tmp_path / "bare")
    detectors.write("owlv2", tmp_path / "owl")
    refused(
        r"holds Owlv2ForObjectDetection, which finds what it is asked for: name the classes in DATASETS",
        tmp_path / "owl",
    )
    refused(r"the prompt 'car' is empty, or there twice", tmp_path / "owl", ["car", "car"])
    detectors.write("grounding dino", tmp_path / "dino")
    refused(r"ends a prompt at \. and \?: leave it out of 'a car\.'", tmp_path / "dino", ["a car."])
    refused(r"reads 64 tokens at most, .* than these 40", tmp_path / "dino", [f"car {'a' * n}" for n in range(1, 41)])
    for file in (tmp_path / "owl").glob("*.safetensors"):
        file.unlink()
    refused(r"transformers cannot read .*owl: ", tmp_path / "owl", ["car"])
    monkeypatch.setitem(sys.modules, "transformers", None)
    refused(re.escape(f"transformers is missing: install it by {how_to_install('transformers')}"), tmp_path / "bare")


def test_classes_of_the_config_have_to_be_the_models(tmp_path):
    detectors.write("yolos", tmp_path)
    cfg = GRAMMAR.config()
    cfg.MODEL.KIND, cfg.MODEL.DEVICE = "transformers", "cpu"
    with pytest.raises(UserError, match=r"predicts 5 classes, but the config has 1"):
        load_foreign(cfg, str(tmp_path), "--weights", ["car"])
    with pytest.raises(UserError, match=r"has bus as its class 1, DATASETS.CLASSES as class 0"):
        load_foreign(cfg, str(tmp_path), "--weights", ["bus", "car", "truck", "person", "dog"])
    assert load_foreign(cfg, str(tmp_path), "--weights", ["car", "bus", "truck", "man", "dog"]).names[3] == "person"


def test_code_of_a_stranger_is_not_run(tmp_path):
    detectors.write("yolos", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps(config | {"model_type": "theirs", "auto_map": {"AutoModel": "t.M"}})
    )
    refused(r"needs code of its author, which is never run", tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"backbone": "hf-hub:somebody/model"}))
    refused(r"names weights on the hub, which are never fetched: remove hf-hub:somebody/model from", tmp_path)
