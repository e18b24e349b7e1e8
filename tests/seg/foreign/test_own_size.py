"""Models of transformers that take images of one size alone: they see larger ones at that size, in windows."""

import cv2
import pytest
import torch
import transformers as hf

from densedist.common.config import load
from densedist.common.errors import UserError
from densedist.seg.config import GRAMMAR
from densedist.seg.foreign.transformers import load as load_transformers
from densedist.seg.models import load_model
from densedist.seg.segmenter import predict
from densedist.seg.teacher_loading import load_teacher
from helpers import transformers
from helpers.calling import densedist
from helpers.scenes import STUDENT, config

WEIGHTS = "DISTILL.TEACHER.WEIGHTS"


def images(height, width, count=1):
    generator = torch.Generator().manual_seed(0)
    return [torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8) for _ in range(count)]


@pytest.mark.parametrize("kind", transformers.OF_ONE_SIZE)
@torch.no_grad()
def test_each_family_at_its_own_size_and_in_windows(tmp_path, kind):
    """At its own size the model's own logits, bit by bit; of a wide image those of two windows side by side."""
    written = transformers.write(kind, tmp_path)
    network = load_transformers(str(tmp_path), WEIGHTS).eval()
    assert network.own_size == (64, 64)
    assert all(torch.equal(x, network.model.state_dict()[name]) for name, x in written.state_dict().items())
    wide = network.preprocess(images(64, 128, 2))
    windows = [wide[..., :64].contiguous(), wide[..., 64:].contiguous()]
    theirs = [network.model(pixel_values=x.contiguous(memory_format=torch.channels_last)) for x in windows]
    for window, output in zip(windows, theirs, strict=True):
        seen = network(window)
        assert list(seen) == ["cls_logits"]
        if "logits" in output:
            assert torch.equal(seen["cls_logits"], output["logits"])
    each = [network(window)["cls_logits"].double().softmax(1) for window in windows]
    torch.testing.assert_close(
        network(wide)["cls_logits"].double().softmax(1), torch.cat(each, 3), rtol=1e-4, atol=1e-6
    )
    if "logits" not in theirs[0]:  # the scores of queries, by the formula
        classes = theirs[0].class_queries_logits.double().softmax(-1)[:, :, :-1]
        masks = theirs[0].masks_queries_logits.double().sigmoid()
        scores = torch.einsum("nqk,nqhw->nkhw", classes, masks)
        torch.testing.assert_close(each[0], scores / scores.sum(1, keepdim=True), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [(64, 128), (96, 64), (128, 192)])
@torch.no_grad()
def test_windows_are_those_of_the_librarys_processor(tmp_path, size):
    """EoMT's splits images itself; ours resizes numbers, and not pixels of 0 to 255."""
    transformers.write("eomt", tmp_path, processor=False)
    side = {"shortest_edge": 64, "longest_edge": None}
    pixels = {"image_mean": transformers.MEAN, "image_std": transformers.STD}
    processor = hf.EomtImageProcessor(size=side, do_split_image=True, **pixels)
    processor.save_pretrained(tmp_path)
    network = load_transformers(str(tmp_path), WEIGHTS).eval()
    given = []
    network.model.register_forward_pre_hook(
        lambda _, __, kwargs: given.append(kwargs["pixel_values"]), with_kwargs=True
    )
    smooth = torch.nn.functional.interpolate(images(8, 8)[0][None].float(), size, mode="bilinear")[0].round()
    network(network.preprocess([smooth]))
    theirs = processor(images=[smooth.to(torch.uint8)], return_tensors="pt")["pixel_values"]
    assert len(given) == len(theirs) == 2
    torch.testing.assert_close(torch.cat(given), theirs, rtol=0, atol=1e-4 if size[0] < 128 else 0.03)


@torch.no_grad()
def test_it_teaches_labels_and_predicts(tmp_path):
    transformers.write("eomt", tmp_path)
    teacher = load_teacher(config(STUDENT, WEIGHTS, tmp_path))
    ours = {"cls_logits": torch.zeros(2, 11, 16, 24)}
    seen = teacher.output(images(64, 96, 2), ours, (64, 96))["cls_logits"]
    assert seen.shape == (2, 11, 16, 24)
    assert seen.isfinite().all()
    keys = ["MODEL.KIND", "transformers", "MODEL.DEVICE", "cpu", "INPUT.FORMAT", "RGB", "INPUT.CROP_SIZE", "[48, 80]"]
    model = load_model(load(GRAMMAR, str(STUDENT), keys), str(tmp_path), "--weights")
    assert predict(model, images(50, 130)[0]).shape == (50, 130)


def test_commands_take_a_folder_of_one_size(tmp_path):
    transformers.write("eomt", tmp_path / "eomt")
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "wide.png"), images(50, 130)[0].permute(1, 2, 0).numpy())
    of_model = "MODEL: {KIND: transformers, DEVICE: cpu}\nINPUT: {FORMAT: RGB}\n"
    (tmp_path / "eomt.yaml").write_text(f"_BASE_: {STUDENT}\n{of_model}")
    words = ["--config-file", tmp_path / "eomt.yaml", "--weights", tmp_path / "eomt", tmp_path / "images"]
    for command in ("label", "predict"):
        densedist(command, *words, "--output-dir", tmp_path / command)
    (label,) = (tmp_path / "label").rglob("*_labelIds.png")
    mask = tmp_path / "predict" / "labelIds" / "wide.png"
    assert cv2.imread(str(label), -1).shape == cv2.imread(str(mask), -1).shape == (50, 130)


@torch.no_grad()
def test_maskformer_gives_the_scores_of_its_queries(tmp_path):
    transformers.write("maskformer", tmp_path)
    network = load_transformers(str(tmp_path), WEIGHTS).eval()
    assert network.own_size is None
    pixels = network.preprocess(images(64, 96))
    output = network.model(pixel_values=pixels)
    classes, masks = output.class_queries_logits.double().softmax(-1)[..., :-1], output.masks_queries_logits.double()
    scores = torch.einsum("nqk,nqhw->nkhw", classes, masks.sigmoid())
    seen = network(pixels)["cls_logits"].double().softmax(1)
    torch.testing.assert_close(seen, scores / scores.sum(1, keepdim=True), rtol=1e-4, atol=1e-6)


def test_a_model_that_wants_more_than_an_image_is_refused(tmp_path, monkeypatch):
    transformers.write("dpt", tmp_path)
    monkeypatch.setattr(hf.DPTForSemanticSegmentation, "forward", lambda self, pixel_values, task_inputs: None)
    with pytest.raises(
        UserError, match=r"holds DPTFor.*, which wants task_inputs, and not an image alone: take another"
    ):
        load_transformers(str(tmp_path), WEIGHTS)
