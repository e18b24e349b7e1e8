"""An exported detector finds what the trained one finds, whoever runs it."""

import json
import re

import cv2
import onnx
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling.meta_arch import GeneralizedRCNN, RetinaNet

from densedist.common.export import INSIDE
from densedist.common.run_files import locate
from densedist.common.runtimes import RUNTIMES
from densedist.det.models import load_trained, read_config, stock_config
from helpers.calling import complaint, densedist
from helpers.pages import run_card
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
    densedist("export", "--weights", folder, "--images", "2", "--format", "weights,onnx,openvino,torch")
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

    stock = run_card(folder / "export" / "weights")["model"]
    assert type(stock) is kind
    assert_same(ours, found(stock, image))

    assert_same(ours, torch.jit.load(str(folder / "export" / "model.ts"))(image))
    for runtime in RUNTIMES.values():
        assert_same(ours, runtime.load(folder / "export" / runtime.file())(image.numpy()))


def test_files_say_what_they_want(exported):
    folder, _ = exported
    props = {p.key: p.value for p in onnx.load(str(folder / "export" / "model.onnx")).metadata_props}
    extra = {"model.json": ""}
    torch.jit.load(str(folder / "export" / "model.ts"), _extra_files=extra)
    said = json.loads(extra["model.json"])
    assert said["classes"] == json.loads(props["classes"]) == list("0123456789")
    assert said["channels"] == props["channels"] == "BGR"
    assert said["shortest_side"] == json.loads(props["shortest_side"]) == 128
    weights = folder / "export" / "weights"
    described, card = json.loads((weights / "model.json").read_text()), (weights / "README.md").read_text()
    assert "det.add_distill_config" in described["needs"]
    assert "A model for detection, of 10 classes: 0, 1" in card
    assert described["normalization"] == said["normalization"] == props["normalization"] == INSIDE
    for key in ("needs", "input", "shortest_side", "channels", "pixel_mean", "normalization", "output"):
        assert f"- {key.replace('_', ' ')}: {described[key]}\n" in card


def test_comparison_is_written(exported):
    written = json.loads((exported[0] / "export" / "export.json").read_text())
    assert written["failures"] == []
    seen = r"each resized as by eval \(shortest side 128 pixels, longest at most \d+\)"
    assert re.fullmatch(rf"2 of \d+ images of digits_val \(more by --images N\), {seen}", written["compared_on"])
    for name in ("weights", "onnx", "openvino", "torch"):
        values = {figure["name"]: figure["value"] for figure in written["verification"][name]}
        assert values["detections"] > 0
        assert values["images with another number of detections"] == 0
        assert values["AP"] == pytest.approx(values["AP in PyTorch"], abs=0.01, nan_ok=True)


@pytest.mark.parametrize(
    ("runtime", "name"), [("onnx", "onnxruntime"), pytest.param("openvino", "OpenVINO", marks=pytest.mark.slow)]
)
def test_what_8_bits_lose_and_gain_is_written(runtime, name, tmp_path):
    save_teacher(tmp_path, *FEW, file=STUDENT)
    (tmp_path / "weights.pth").rename(tmp_path / "model_final.pth")
    densedist(
        "export", "--weights", tmp_path, "--images", "2", "--format", runtime, "--int8", "--calibration-images", "2"
    )
    rows = json.loads((tmp_path / "export" / "int8.json").read_text())["rows"]
    assert [row["name"] for row in rows][1:] == [f"{name}, float32", f"{name}, INT8"]
    scores = [row["scores"]["bbox/AP"] for row in rows]
    assert scores[1] == pytest.approx(scores[0], abs=0.01, nan_ok=True)
    assert rows[2]["size"] < rows[1]["size"]


@pytest.mark.parametrize("name", ["model.onnx", "model.xml"])
def test_an_exported_file_predicts_images_and_videos_without_a_config(exported, name, tmp_path):
    folder, _ = exported
    picture = batch(1, size=128)[0]["image"].permute(1, 2, 0).numpy()
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    video = cv2.VideoWriter(str(tmp_path / "b.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (128, 128))
    for _ in range(2):
        video.write(picture)
    video.release()
    given = ["--score-threshold", 0.2, tmp_path / "a.png"]
    densedist(
        "predict", "--weights", folder / "export" / name, "--output-dir", tmp_path / "x", *given, tmp_path / "b.avi"
    )
    densedist("predict", "--weights", folder, "--output-dir", tmp_path / "y", *given)
    theirs, ours = (json.loads((tmp_path / one / "predictions.json").read_text()) for one in "xy")
    still = [entry for entry in theirs if "frame" not in entry]
    assert [entry["category_name"] for entry in still] == [entry["category_name"] for entry in ours]
    for a, b in zip(still, ours, strict=True):
        assert a["bbox"] == pytest.approx(b["bbox"], abs=0.05)
    assert {entry.get("frame") for entry in theirs if entry["file_name"].endswith(".avi")} <= {0, 1}
    assert cv2.VideoCapture(str(tmp_path / "x" / "b.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 2


def test_an_exported_file_is_not_exported_again(exported, capsys):
    said = complaint(capsys, "export", "--weights", exported[0] / "export" / "model.onnx")
    assert said.startswith("MODEL.KIND is onnx: such a model labels, predicts and is evaluated, but is not trained, ")


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
