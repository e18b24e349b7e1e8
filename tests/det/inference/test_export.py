"""An exported detector finds what the trained one finds, whoever runs it."""

import json

import onnx
import onnxruntime
import pytest
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from detectron2.modeling.meta_arch import GeneralizedRCNN, RetinaNet

from densedist.common.run_files import locate
from densedist.det import add_distill_config
from densedist.det.models import load_trained, read_config, stock_config
from helpers.calling import densedist
from helpers.tiny import DIGITS, STUDENT, batch, save_teacher

MODELS = {"rcnn": (STUDENT, GeneralizedRCNN), "retinanet": (DIGITS / "retinanet_r10_quarter.yaml", RetinaNet)}
FEW = ["MODEL.RETINANET.SCORE_THRESH_TEST", "0.01", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.15"]


@pytest.fixture(scope="module", params=list(MODELS))
def exported(request, tmp_path_factory):
    """All formats of a small random student, its folder and its stock class."""
    file, kind = MODELS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    save_teacher(folder, *FEW, file=file)
    (folder / "weights.pth").rename(folder / "model_final.pth")
    densedist("export", "--weights", folder, "--images", "2")
    return folder, kind


def found(model, image):
    with torch.no_grad():
        instances = model([{"image": image}])[0]["instances"]
    assert len(instances)
    return instances.pred_boxes.tensor, instances.scores, instances.pred_classes


def assert_same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, torch.as_tensor(b), rtol=0, atol=1e-3)


def test_every_format_finds_the_same_at_another_size(exported):
    folder, kind = exported
    model = load_trained(locate(str(folder))).model
    image = batch(2, size=112)[1]["image"]
    ours = found(model, image)

    cfg = get_cfg()
    add_distill_config(cfg)  # for the timm backbone
    cfg.merge_from_file(str(folder / "export" / "weights" / "config.yaml"))
    stock = build_model(cfg).eval()
    assert type(stock) is kind
    DetectionCheckpointer(stock).load(str(folder / "export" / "weights" / "model.pth"))
    assert_same(ours, found(stock, image))

    assert_same(ours, torch.jit.load(str(folder / "export" / "model.ts"))(image))
    session = onnxruntime.InferenceSession(str(folder / "export" / "model.onnx"))
    assert_same(ours, session.run(["boxes", "scores", "classes"], {"image": image.numpy()}))


def test_files_say_what_they_want(exported):
    folder, _ = exported
    props = {p.key: p.value for p in onnx.load(str(folder / "export" / "model.onnx")).metadata_props}
    extra = {"model.json": ""}
    torch.jit.load(str(folder / "export" / "model.ts"), _extra_files=extra)
    said = json.loads(extra["model.json"])
    assert said["classes"] == json.loads(props["classes"]) == list("0123456789")
    assert said["channels"] == props["channels"] == "BGR"
    assert said["shortest_side"] == json.loads(props["shortest_side"]) == 128
    assert "det.add_distill_config" in json.loads((folder / "export" / "weights" / "model.json").read_text())["needs"]


def test_comparison_is_written(exported):
    written = json.loads((exported[0] / "export" / "export.json").read_text())
    assert written["failures"] == []
    for name in ("weights", "onnx", "torch"):
        values = {figure["name"]: figure["value"] for figure in written["verification"][name]}
        assert values["detections"] > 0
        assert values["images with another number of detections"] == 0
        assert values["AP"] == pytest.approx(values["AP in PyTorch"], abs=0.01, nan_ok=True)


def test_config_of_a_stock_model_has_stock_keys_only(tmp_path):
    cfg = read_config("det/coco/faster_rcnn_r50_dist.yaml", [])
    stock = stock_config(cfg)
    assert stock.MODEL.META_ARCHITECTURE == "GeneralizedRCNN"
    (tmp_path / "config.yaml").write_text(stock.dump())
    again = get_cfg()
    again.merge_from_file(str(tmp_path / "config.yaml"))
    assert again.MODEL.ROI_HEADS == cfg.MODEL.ROI_HEADS


def test_no_data_to_compare_on(exported, capsys):
    with pytest.raises(SystemExit) as stop:
        densedist("export", "--weights", exported[0], "DATASETS.TEST", "('gone',)")
    assert stop.value.code == 2
    seen = capsys.readouterr().err
    assert seen.startswith("error: DATASETS.TEST: there is no data set gone")
    assert seen.strip().endswith("; or name a folder of images to compare the export on with --image-folder")
