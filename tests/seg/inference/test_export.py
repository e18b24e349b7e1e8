"""An exported segmentation model is the trained one, whoever runs it."""

import json
import re
import shutil
import sys
from contextlib import redirect_stdout
from io import StringIO

import cv2
import numpy as np
import onnx
import pytest
import segmentation_models_pytorch as smp
import torch
from timm.layers import Conv2dSame

from densedist.common.extras import how_to_install
from densedist.common.profile import as_if_trained
from densedist.common.run_files import locate
from densedist.common.runtimes import INT8, RUNTIMES, fix_input
from densedist.common.task import ImageSource
from densedist.seg.evaluation import evaluate
from densedist.seg.inference.deployed import Deployed, with_settled_padding
from densedist.seg.inference.export import exporter, traced
from densedist.seg.models import load_config, load_model, load_trained
from densedist.seg.networks.network import build_network
from helpers.calling import advised_as, complaint, densedist
from helpers.pages import run_card
from helpers.scenes import CONFIGS, STUDENT, config, save_teacher


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    save_teacher(folder, "MODEL.ARGS.psp_out_channels", "16", file=STUDENT)
    (folder / "weights.pth").rename(folder / "model_final.pth")
    return folder


@pytest.fixture
def refused(capsys):
    return lambda *argv: complaint(capsys, "export", *argv)


@pytest.fixture(scope="module")
def exported(run_folder):
    """All formats, written once; those of runtimes also in 8 bits."""
    few = ["--images", 2, "--calibration-images", 3]
    with redirect_stdout(StringIO()) as printed:
        densedist("export", "--weights", run_folder, "--format", "weights,onnx,openvino,torch", "--int8", *few)
    (run_folder / "printed.txt").write_text(printed.getvalue())
    return run_folder / "export"


@pytest.fixture(scope="module")
def model(run_folder):
    return load_trained(locate(str(run_folder))).model


def images(*size):
    return torch.randint(0, 256, (*size[:1], 3, *size[1:]), generator=torch.Generator().manual_seed(3)).to(torch.uint8)


def logits(model, batch):
    with torch.no_grad():
        return torch.stack([model.logits(image) for image in batch])


@pytest.mark.parametrize("size", [(1, 64, 64), (3, 75, 101)])
def test_graphs_and_torch_take_any_batch_and_size(exported, model, size):
    batch, largest = images(*size), 1e-4
    wanted = logits(model, batch)
    for runtime in RUNTIMES.values():
        found = runtime.load(exported / runtime.file())(batch.numpy())[0]
        torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=0, atol=largest)
        coarse = runtime.load(exported / runtime.file(INT8))(batch.numpy())[0]
        assert coarse.shape == found.shape
        assert not np.array_equal(coarse, found)
    program = torch.export.load(exported / "model.pt2").module()
    torch.testing.assert_close(program(batch), wanted, rtol=0, atol=largest)


def test_convolutions_that_pad_by_the_size_of_their_map_are_exported():
    """Those of TensorFlow's padding "same", of which torch.export otherwise comes to no end."""
    keys = ["MODEL.ENCODER.NAME", "tu-tf_mobilenetv3_small_minimal_100", "MODEL.ENCODER.OUTPUT_STRIDE", "16"]
    cfg = config(CONFIGS / "digits" / "base.yaml", "MODEL.ARCHITECTURE", "DeepLabV3Plus", *keys)
    torch.manual_seed(0)
    network = as_if_trained(build_network(cfg)).eval().requires_grad_(False)
    program = traced(with_settled_padding(Deployed(network)).eval(), images(1, 96, 128)[0])
    for size in ((1, 64, 64), (3, 75, 101)):
        wanted = Deployed(network).eval()(images(*size))
        torch.testing.assert_close(program.module()(images(*size)), wanted, rtol=0, atol=1e-5)
    assert any(isinstance(module, Conv2dSame) for module in network.modules())  # the student is as it was


def test_stock_smp_gives_logits_of_the_images_size(exported, model):
    said = json.loads((exported / "weights" / "model.json").read_text())
    assert said["output"] == "logits: float32 (N, classes, h, w), at the images' size"
    stock = run_card(exported / "weights")["model"]
    assert isinstance(stock, smp.PSPNet)
    batch = images(2, 64, 80)
    mean, std = (torch.tensor(said[key]).view(-1, 1, 1) for key in ("pixel_mean", "pixel_std"))
    with torch.no_grad():
        torch.testing.assert_close(stock((batch - mean) / std), logits(model, batch), rtol=0, atol=1e-5)
    card = (exported / "weights" / "README.md").read_text()
    assert "license" not in card.lower()  # whose the weights are, SMP cannot know
    assert "Hub" not in card
    assert "A model for segmentation, of 11 classes: background, 0, 1" in card
    assert said["scale"] == 1.0
    assert said["normalization"].startswith("outside the model")
    for key in ("needs", "input", "scale", "channels", "pixel_mean", "normalization", "output"):
        assert f"- {key.replace('_', ' ')}: {said[key]}\n" in card
    state = torch.load(exported / "weights" / "model.pth", weights_only=True)
    assert all(torch.equal(state[name], value) for name, value in stock.state_dict().items())


def test_files_say_what_they_want(exported):
    props = {p.key: p.value for p in onnx.load(str(exported / "model.onnx")).metadata_props}
    extra = {"model.json": ""}
    torch.export.load(exported / "model.pt2", extra_files=extra)
    said = json.loads(extra["model.json"])
    assert said["classes"] == json.loads(props["classes"]) == ["background", *map(str, range(10))]
    assert said["channels"] == props["channels"] == "RGB"
    assert said["pixel_range"] == json.loads(props["pixel_range"]) == [0, 255]
    assert said["normalization"] == props["normalization"] == "inside the model: give raw pixels"
    assert said["scale"] == json.loads(props["scale"]) == 1.0


def test_comparison_is_written(exported):
    written = json.loads((exported / "export.json").read_text())
    assert written["failures"] == []
    assert written["images"] == 2
    seen = r"each predicted as by eval \(TEST.SCALES \[1.0\]\)"
    assert re.fullmatch(rf"2 of \d+ images of val \(more by --images N\), {seen}", written["compared_on"])
    for name in ("weights", "onnx", "openvino", "torch"):
        values = {figure["name"]: figure["value"] for figure in written["verification"][name]}
        assert values["largest difference of a logit / largest logit"] < 1e-4
        assert values["mIoU"] == pytest.approx(values["mIoU in PyTorch"], abs=0.01)


def test_an_export_is_compared_at_the_scales_of_the_evaluation(exported, run_folder):
    student = locate(str(run_folder)).under("TEST.SCALES", "[0.71]", "TEST.FLIP", "True")
    made = exporter(student, ImageSource(2))
    assert str(made.compared).endswith("each predicted as by eval (TEST.SCALES [0.71], TEST.FLIP True)")
    figures = {x.name: x for x in made.compare(made.running(RUNTIMES["onnx"].load(exported / "model.onnx")))}
    assert not [figure for figure in figures.values() if figure.fails]
    for name, kind, file in (("mIoU in PyTorch", "smp", "../model_final.pth"), ("mIoU", "onnx", "model.onnx")):
        cfg = load_config(student.config, [*student.overrides, "MODEL.KIND", kind], student.trusted)
        evaluated = evaluate(cfg, load_model(cfg, str(exported / file), "--weights"), 2)
        assert figures[name].value == pytest.approx(evaluated["sem_seg"]["mIoU"], abs=1e-9)


def test_what_8_bits_lose_and_gain_is_written(exported):
    rows = json.loads((exported / "int8.json").read_text())["rows"]
    names = ["onnxruntime, float32", "onnxruntime, INT8", "OpenVINO, float32", "OpenVINO, INT8"]
    assert [row["name"] for row in rows] == ["PyTorch", *names]
    scores = [row["scores"]["sem_seg/mIoU"] for row in rows]
    assert scores[1] == scores[3] == pytest.approx(scores[0], abs=0.05)
    assert rows[2]["size"] < rows[1]["size"]
    assert rows[4]["size"] < rows[3]["size"]
    for row in rows:
        assert "1" in row["seconds"]
        for latency in row["seconds"].values():
            assert 0 < latency["median"] <= latency["p95"]
    assert not (exported / "inference").exists()


@pytest.mark.parametrize("name", ["model.onnx", "model.int8.xml"])
def test_an_exported_file_predicts_images_and_videos_without_a_config(exported, run_folder, name, tmp_path, capsys):
    pictures = images(3, 48, 64).permute(0, 2, 3, 1).numpy()
    cv2.imwrite(str(tmp_path / "a.png"), pictures[0])
    video = cv2.VideoWriter(str(tmp_path / "b.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for picture in pictures:
        video.write(picture)
    video.release()
    given = [tmp_path / "a.png", tmp_path / "b.avi"]
    densedist("predict", "--weights", exported / name, "--output-dir", tmp_path / "exported", *given)
    assert "1 image and 1 video; " in capsys.readouterr().out
    found = json.loads((tmp_path / "exported" / "predictions.json").read_text())
    assert [entry.get("frame") for entry in found] == [None, 0, 1, 2]
    drawn = cv2.VideoCapture(str(tmp_path / "exported" / "b.mp4"))
    assert (drawn.get(cv2.CAP_PROP_FRAME_COUNT), drawn.get(cv2.CAP_PROP_FPS)) == (3, 10)
    height, width, _ = drawn.read()[1].shape
    assert height > 48  # a legend is below it
    assert width >= 64
    if name == "model.onnx":
        densedist("predict", "--weights", run_folder, "--output-dir", tmp_path / "run", tmp_path / "a.png")
        for file in ("a.png", "labelIds/a.png", "legend.png"):
            assert (tmp_path / "exported" / file).read_bytes() == (tmp_path / "run" / file).read_bytes()


def test_the_next_command_draws_what_was_exported(exported, tmp_path):
    ((command, *words),) = advised_as("next", (exported.parent / "printed.txt").read_text())
    assert (command, words[1]) == ("predict", str(exported / "model.onnx"))
    densedist(command, *words, "--output-dir", tmp_path)
    assert len(json.loads((tmp_path / "predictions.json").read_text())) == 1


@pytest.mark.parametrize("name", RUNTIMES)
def test_a_graph_of_one_size_takes_stretched_images(exported, run_folder, name, tmp_path):
    runtime, onnx = RUNTIMES[name], tmp_path / "fixed.onnx"
    shutil.copy(exported / "model.onnx", onnx)
    fix_input(onnx, (1, 3, 48, 80))
    made = exporter(locate(str(run_folder)), ImageSource(2), (48, 80))
    runtime.write(onnx, file := tmp_path / f"model{runtime.suffix}", made.graph)
    graph = runtime.load(file)
    assert graph.inputs[0].shape == made.shape == (1, 3, 48, 80)
    assert "(1, 3, 48, 80), stretched before" in graph.description["input"]
    assert str(made.compared).endswith(", each stretched to 48x80 pixels (--size)")
    assert not [figure for figure in made.compare(made.running(graph)) if figure.fails]
    cv2.imwrite(str(tmp_path / "a.png"), images(1, 33, 44)[0].permute(1, 2, 0).numpy())
    assert made.read(tmp_path / "a.png").shape == (1, 3, 48, 80)
    densedist("predict", "--weights", file, "--output-dir", tmp_path / "out", tmp_path / "a.png")
    assert cv2.imread(str(tmp_path / "out" / "labelIds" / "a.png")).shape == (33, 44, 3)


def test_profile_measures_and_draws_what_was_exported(exported, run_folder, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("densedist.common.profile.BATCHES", (1,))
    monkeypatch.setattr("densedist.common.profile.best_device", lambda: torch.device("cpu"))
    figures, picture = tmp_path / "figures.json", tmp_path / "picture.png"
    given = ["--weights", run_folder, "--teacher", "none", "--size", 64, 64, "--json", figures, "--picture", picture]
    densedist("profile", *given, "--beside", f"alone={run_folder}")
    names = [f"{name}, {kind}" for name in ("onnxruntime", "OpenVINO") for kind in ("float32", "INT8")]
    forms = json.loads(figures.read_text())["runtimes"]
    assert [(form["model"], form["ran"]) for form in forms] == [
        ("alone", "PyTorch"),
        *(("student", name) for name in ("PyTorch", *names)),
    ]
    seen = capsys.readouterr().out
    assert "Without a teacher" in seen
    assert "| 64x64  | student, OpenVINO, INT8 " in seen
    for name in ("onnxruntime", "OpenVINO"):
        line = rf"^{name}, INT8: \d+ layers stay in float32 and take \d+ % of the time .*; \d+ in 8 bits take \d+ %"
        assert re.search(line, seen, re.MULTILINE)
    assert f"{picture}\n  no score of alone, PyTorch (its run " in seen
    assert picture.is_file()


def test_what_cannot_be_quantized(refused, run_folder, monkeypatch, tmp_path):
    given = ["--weights", run_folder, "--int8", "--output-dir", tmp_path / "out"]
    assert refused(*given, "--format", "weights") == (
        "--int8 quantizes onnx and openvino, but --format is weights: add one"
    )
    assert refused(*given, "DATASETS.TRAIN", "[]") == (
        "--int8: DATASETS.UNLABELED and DATASETS.TRAIN are empty: name a data set, on whose images to calibrate"
    )
    assert refused(*given, "--calibration-images", 0) == "--calibration-images is 0: want 1 or more"
    monkeypatch.setitem(sys.modules, "nncf", None)
    assert refused(*given, "--format", "openvino") == (
        f"--format openvino: the package nncf is missing: install it by {how_to_install('int8')}, or leave out --int8"
    )
    assert not (tmp_path / "out").exists()


def test_what_differs_ends_with_1(run_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("densedist.seg.inference.export.LOGITS", -1.0)
    with pytest.raises(SystemExit) as stop:
        densedist("export", "--weights", run_folder, "--format", "weights", "--images", "1", "--output-dir", tmp_path)
    assert stop.value.code == 1
    seen = capsys.readouterr()
    assert "failed: weights: largest difference of a logit / largest logit is" in seen.err
    assert "next  " not in seen.out
    assert json.loads((tmp_path / "export.json").read_text())["failures"]


def test_images_of_a_folder(refused, run_folder, tmp_path, capsys):
    argv = ["--weights", run_folder, "--format", "weights", "--output-dir", tmp_path / "out", "DATASETS.ROOT", "gone"]
    assert refused(*argv).endswith("; or name a folder of images to compare the export on with --image-folder")
    empty = refused(*argv, "--image-folder", tmp_path)
    assert empty.startswith(f"{tmp_path} has no image: want files that end in ")
    cv2.imwrite(str(tmp_path / "a.png"), np.full((40, 50, 3), 99, np.uint8))
    densedist("export", *argv, "--image-folder", tmp_path)
    assert f"compared with PyTorch on 1 of 1 images of {tmp_path}, each predicted as by eval" in (
        seen := capsys.readouterr().out
    )
    assert seen.endswith(f"next     {tmp_path / 'out' / 'weights' / 'README.md'} says how to load the weights\n")


def test_wrong_options(refused, run_folder, tmp_path):
    want = "--format: there is no format tflite; want any of weights,onnx,openvino,torch"
    assert refused("--weights", run_folder, "--format", "onnx,tflite") == want
    assert refused("--weights", run_folder, "--images", "0") == "--images is 0: want 1 or more"
    assert refused("--weights", run_folder, "--size", "0", "9") == "--size is 0: want 1 or more"
    assert refused("--weights", tmp_path / "gone.pth") == f"--weights: there is no file {tmp_path}/gone.pth"
    torch.save({"model": {"a": torch.ones(1)}}, tmp_path / "w.pth")
    config = run_folder / "config.yaml"
    assert "of another architecture: no tensor fits the model" in refused(
        "--weights", tmp_path / "w.pth", "--config-file", config
    )


def test_the_one_extra_that_installs_all_is_named(refused, run_folder, monkeypatch):
    missing = lambda package, extra: f"the package {package} is missing: install it by {how_to_install(extra)}"  # noqa: E731
    monkeypatch.setitem(sys.modules, "onnx", None)
    given = ["--weights", run_folder]
    assert refused(*given) == f"--format onnx: {missing('onnx', 'export')}, or give --format weights,torch"
    both, rest = [*given, "--format", "onnx,openvino"], "or give --format weights,torch"
    assert refused(*both) == f"--format openvino: {missing('onnx', 'openvino')}, {rest}"
    assert refused(*both, "--int8") == f"--format openvino: {missing('onnx', 'int8')}, {rest} without --int8"
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "openvino", None)
    assert refused(*both) == f"--format openvino: {missing('openvino', 'openvino')}, or give --format onnx"
