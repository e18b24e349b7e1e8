"""Detectors as ONNX files and functions: boxes, scores and labels of an image, in a documented form."""

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, save
from torch import nn

from densedist.common.errors import UserError
from densedist.det.config import GRAMMAR
from densedist.det.foreign.load import load_foreign

SIZE = (90, 120)
SAMPLE = {"image": torch.full((3, *SIZE), 100, dtype=torch.uint8), "height": 180, "width": 240}
CLASSES = ["car", "bus"]
BOXES = [[1.0, 2.0, 31.0, 42.0], [10.0, 10.0, 60.0, 50.0]]
# By hand: the original image is twice as large as the one that is given, which is 64 x 64 to a program of that size.
WHOLE = [[2.0, 4.0, 62.0, 84.0], [20.0, 20.0, 120.0, 100.0]]
OF_64 = [[3.75, 5.625, 116.25, 118.125], [37.5, 28.125, 225.0, 140.625]]


class Three(nn.Module):
    """A detector that sees two boxes in any image, and the mean of its pixels in a score."""

    def __init__(self, form=tuple, boxes=BOXES, labels=(1, 0)):
        super().__init__()
        self.form, self.boxes, self.labels, self.seen = form, boxes, labels, None

    def forward(self, images):
        self.seen = images
        scores = torch.stack([images.mean() / 255, torch.tensor(0.01)])
        found = torch.tensor(self.boxes), scores, torch.tensor(self.labels)
        if self.form is dict:
            return dict(zip(("boxes", "scores", "labels"), found, strict=True))
        if self.form is list:  # as torchvision's detectors do
            return [{"boxes": found[0], "labels": found[2], "scores": found[1]}]
        return found


def config(kind, *words):
    cfg = GRAMMAR.config()
    pixels = ["MODEL.PIXEL_MEAN", "[0.0, 0.0, 0.0]", "MODEL.PIXEL_STD", "[1.0, 1.0, 1.0]"]
    cfg.merge_from_list(["MODEL.KIND", kind, "MODEL.DEVICE", "cpu", *pixels, *words])
    return cfg


def function(monkeypatch, tmp_path, model, *words, declared=CLASSES, asked=()):
    from densedist.det.foreign import load

    monkeypatch.setattr(load, "call", lambda name, imports, key: model)
    return load_foreign(config("function", *words), "mine:build", "--weights", declared, asked)


@pytest.mark.parametrize("form", [tuple, dict, list])
def test_a_function_gives_boxes_of_the_image_that_it_is_given(monkeypatch, tmp_path, form):
    """They come out in pixels of the original image; its images are padded to MODEL.STRIDE."""
    detector = function(monkeypatch, tmp_path, model := Three(form))
    found = detector([SAMPLE])[0]["instances"]
    assert model.seen.shape == (1, 3, 96, 128)
    assert found.image_size == (180, 240)
    assert [detector.names[c] for c in found.pred_classes] == ["bus"]  # the other one is below 0.05
    torch.testing.assert_close(found.pred_boxes.tensor, torch.tensor(WHOLE[:1]))
    assert found.scores.tolist() == pytest.approx([100 / 255 * 90 * 120 / (96 * 128)])


def write_onnx(file, size=("h", "w"), names=("boxes", "scores", "labels"), dtype=TensorProto.FLOAT, score=(0.9, 0.8)):
    """Two boxes, whatever the image is."""
    values = [np.array([BOXES], np.float32), np.array([score], np.float32), np.array([[0, 1]], np.int64)]
    constants = [helper.make_node("Constant", [], [n], value=helper.make_tensor(n, kind, x.shape, x.ravel().tolist()))
                 for n, x, kind in zip(names, values, (1, 1, 7), strict=True)]  # fmt: skip
    outputs = [helper.make_tensor_value_info(n, kind, list(x.shape))
               for n, x, kind in zip(names, values, (1, 1, 7), strict=True)]  # fmt: skip
    image = helper.make_tensor_value_info("images", dtype, [1, 3, *size])
    unused = helper.make_node("Identity", ["images"], ["same"])
    more = helper.make_tensor_value_info("same", dtype, [1, 3, *size])
    graph = helper.make_graph([*constants, unused], "g", [image], [*outputs, more])
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), file)
    return str(file)


@pytest.mark.parametrize(("size", "wanted"), [(("h", "w"), WHOLE), ((64, 64), OF_64)])
@pytest.mark.parametrize("dtype", [TensorProto.FLOAT, TensorProto.UINT8])
def test_an_onnx_file_of_any_size_or_of_one(tmp_path, size, wanted, dtype):
    file = write_onnx(tmp_path / "model.onnx", size, dtype=dtype)
    found = load_foreign(config("onnx"), file, "--weights", CLASSES)([SAMPLE])[0]["instances"]
    torch.testing.assert_close(found.pred_boxes.tensor, torch.tensor(wanted))
    assert found.scores.tolist() == pytest.approx([0.9, 0.8])
    assert found.pred_classes.tolist() == [0, 1]


def test_scores_of_all_classes_and_of_the_label_alone(monkeypatch, tmp_path):
    """What is said of a box becomes logits; what overlaps a surer box is left out."""

    def soft(detector):
        ((boxes, logits),) = detector.soft_boxes([SAMPLE["image"]], [SIZE])
        return boxes.tolist(), logits.sigmoid()

    scores = [[0.3, 0.8], [0.25, 0.2], [0.5, 0.6]]
    model = lambda images: (torch.tensor([*BOXES, [2.0, 2.0, 32.0, 42.0]]), torch.tensor([scores]))  # noqa: E731
    detector = function(monkeypatch, tmp_path, model)
    boxes, given = soft(detector)
    assert boxes == BOXES
    torch.testing.assert_close(given, torch.tensor(scores[:2]))
    assert [detector.names[c] for c in detector([SAMPLE])[0]["instances"].pred_classes] == ["bus", "car", "bus"]
    boxes, given = soft(load_foreign(config("onnx"), write_onnx(tmp_path / "model.onnx"), "--weights", CLASSES))
    assert boxes == BOXES
    torch.testing.assert_close(given, torch.tensor([[0.9, 0.0], [0.0, 0.8]]), rtol=0, atol=1e-6)


def test_outputs_without_these_names_are_taken_in_their_order(tmp_path):
    file = write_onnx(tmp_path / "model.onnx", names=("a", "b", "c"))
    with pytest.raises(UserError, match=r"model.onnx gives \(1, 2, 4\), \(1, 2\), \(1, 2\), .*: want boxes \(N, 4\)"):
        load_foreign(config("onnx"), file, "--weights", CLASSES)  # there are four
    detector = load_foreign(
        config("onnx"), write_onnx(tmp_path / "b.onnx", names=("boxes", "scores", "classes")), "", ["x", "y"]
    )
    assert detector.names == ("x", "y")


def test_classes_without_names_are_numbers(tmp_path):
    file = write_onnx(tmp_path / "model.onnx")
    with pytest.raises(UserError, match=r"does not name its classes: name them in DATASETS.CLASSES of its config"):
        load_foreign(config("onnx"), file, "--weights")
    with pytest.raises(UserError, match=r"does not name its classes"):
        load_foreign(config("onnx"), file, "--weights", (), ["car"])
    found = load_foreign(config("onnx"), file, "--weights", (), ["1"])
    assert found.names == ("0", "1")
    assert len(load_foreign(config("onnx"), file, "--weights", CLASSES[:1])([SAMPLE])[0]["instances"]) == 1


def test_what_is_of_another_form_is_refused_in_one_line(monkeypatch, tmp_path):
    def refused(message, model):
        with pytest.raises(UserError, match=message) as told:
            function(monkeypatch, tmp_path, model)
        assert "\n" not in str(told.value)

    refused(r"mine:build gives \(1, 3, 480, 640\): want boxes \(N, 4\), \[x0, y0, x1, y1\] in pixels", nn.Identity())
    refused(r"gives \(2, 5\), \(2,\), \(2,\): want boxes", Three(boxes=[[1.0] * 5] * 2))
    refused(r"gives labels that are no whole numbers", Three(labels=(0.5, 1.0)))
    refused(r"gives boxes or scores that are not finite", Three(boxes=[[float("nan")] * 4] * 2))
    refused(
        r"gives a score of 127: want 0 to 1", lambda images: (torch.zeros(1, 4), images.mean()[None], torch.zeros(1))
    )
    refused(r"returns str: want a torch.nn.Module", "no module")
    refused(r"mine:build fails on images \[\(480, 640\)\]: RuntimeError: no GPU here and more", Failing())


class Failing(nn.Module):
    def forward(self, images):
        raise RuntimeError("no GPU here\nand more")
