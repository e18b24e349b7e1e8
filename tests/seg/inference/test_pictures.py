"""densedist predict and visualize for segmentation, and the pictures of models in memory."""

import copy
import json
import shutil
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from densedist.common.config import saved
from densedist.common.data import digits
from densedist.common.distill.distiller import Distillation
from densedist.common.errors import UserError
from densedist.common.profile import as_if_trained
from densedist.common.run_files import locate
from densedist.common.task import Trainee
from densedist.common.visualize import View
from densedist.seg.data.reading import Reader
from densedist.seg.datasets import test_frames as frames_of_split
from densedist.seg.drawing import colorize, gray_photograph, ignored_colors, lighter, overlay, paint, wrong
from densedist.seg.inference.pictures import _panels, draw_examples, overview
from densedist.seg.inference.predict import refuse_whole
from densedist.seg.inference.visualize import relations_of
from densedist.seg.labels import IGNORE, Classes
from densedist.seg.models import load_trained
from densedist.seg.networks.network import build_network
from densedist.seg.networks.windows import Inference
from densedist.seg.segmenter import predict
from densedist.seg.teacher.teacher import SegTeacher
from helpers.calling import complaint, densedist
from helpers.scenes import STUDENT, TEACHER, config, save_teacher


def run(folder, *overrides, file=STUDENT):
    save_teacher(folder, *overrides, file=file)
    (folder / "weights.pth").rename(folder / "model_final.pth")
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """OUTPUT_DIRs of a teacher and of a student that learned from it."""
    root = tmp_path_factory.mktemp("runs")
    teacher = run(root / "teacher", file=TEACHER)
    node, plain = "DISTILL.TEACHER", config(STUDENT)
    student = root / "student"
    torch.manual_seed(2)
    network = as_if_trained(build_network(plain))
    plain.merge_from_list([f"{node}.CONFIG_FILE", str(teacher / "config.yaml")])
    plain.merge_from_list([f"{node}.WEIGHTS", str(teacher / "model_final.pth")])
    student.mkdir()
    (student / "config.yaml").write_text(saved(plain))
    torch.save({"model": network.smp.state_dict()}, student / "model_final.pth")
    return {"teacher": teacher, "student": student}


@pytest.fixture
def images(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("one", (50, 70)), ("two", (64, 64))):
        cv2.imwrite(str(folder / f"{name}.png"), rng.integers(0, 256, (*size, 3)).astype(np.uint8))
    return folder


def test_errors_by_hand():
    truth = np.array([[0, 1, 2, IGNORE]])
    prediction = np.array([[0, 2, 2, 1]])
    assert wrong(prediction, truth).tolist() == [[False, True, False, False]]


def test_painted_pixels_have_the_color_of_their_class_others_are_gray():
    image = np.random.default_rng(0).integers(0, 256, (2, 2, 3)).astype(np.uint8)
    labels, where = np.array([[0, 1], [1, 0]]), np.array([[True, True], [False, False]])
    colors = np.array([[10, 20, 30], [200, 100, 0]], np.uint8)
    drawn = paint(image, labels, colors, where)
    gray = gray_photograph(image, colors)
    assert gray.min() >= 178
    np.testing.assert_allclose(drawn[0], (0.2 * gray + 0.8 * colors[labels])[0], atol=1)
    np.testing.assert_array_equal(drawn[1], gray[1])
    np.testing.assert_array_equal(paint(image, labels, colors)[0], drawn[0])


@pytest.mark.parametrize(("color", "light"), [((70, 70, 70), True), ((230, 230, 230), False)])
def test_the_photograph_is_light_or_dark_as_classes_are_not(color, light):
    gray = gray_photograph(np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5, np.array([color, (255, 0, 0)], np.uint8))
    assert (gray == gray[..., :1]).all()
    assert (gray.min() >= 178) if light else (gray.max() <= 77)


def test_a_photograph_of_the_night_shows_what_is_in_it():
    night = np.arange(40, dtype=np.uint8)[None, :, None].repeat(3, 2)
    gray = gray_photograph(night, np.array([(70, 70, 70)], np.uint8))
    assert (gray.min(), gray.max()) == (178, 254)
    assert gray_photograph(night // 20, np.array([(70, 70, 70)], np.uint8)).max() < 190  # noise is not stretched


@pytest.mark.parametrize("data", ["cityscapes", "camvid", "digits", "idd_lite", "voc"])
def test_a_color_means_one_thing(data):
    """A panel has the colors of the classes and grays; errors have none of their own."""
    classes = Classes.of(config(f"seg/data/{data}.yaml"))
    count = len(classes.names)
    truth, seen = np.arange(count)[None].copy(), np.arange(count)[None, ::-1].copy()
    truth[0, 0] = IGNORE
    view = View("a", np.zeros((1, count, 3), np.uint8), truth, truth * 0, seen)
    _, _, *predicted = _panels(view, classes)
    for panel, labels in zip(predicted, (truth * 0, seen), strict=True):
        where = wrong(labels, truth)
        np.testing.assert_array_equal(panel.picture[where], paint(view.image, labels, classes.colors)[where])
        assert (panel.picture[~where] == panel.picture[~where][..., :1]).all()


def test_ignored_pixels_look_like_no_class():
    black, white, blue = [0, 0, 0], [255, 255, 255], [0, 0, 255]
    gray = (128, 128, 128)
    assert ignored_colors(np.array([white, blue], np.uint8)) == ((0, 0, 0), gray)
    assert ignored_colors(np.array([black, blue], np.uint8)) == ((255, 255, 255), gray)
    assert ignored_colors(np.array([black, white], np.uint8)) == (gray, (255, 255, 255))
    assert colorize(np.array([[0, IGNORE]]), np.array([black, blue], np.uint8)).tolist() == [[black, white]]


def test_ignored_pixels_are_striped_as_no_photograph_is():
    """However a large picture is painted part by part."""
    colors = np.array([[0, 0, 0], [0, 0, 255]], np.uint8)
    labels = np.full((600, 900), IGNORE)
    striped = colorize(labels, colors)
    assert np.unique(striped, return_counts=True)[0].tolist() == [128, 255]
    assert 0.4 < (striped == 255).mean() < 0.6
    np.testing.assert_array_equal(overlay(np.zeros((600, 900, 3), np.uint8), labels, colors, 1.0), striped)


@pytest.mark.parametrize(
    ("truth", "taught", "more", "title"),
    [
        ([[0, 1]], True, ["gray photograph: right"], "Of a model's predictions only the wrong ones are colored"),
        (
            [[0, IGNORE]],
            False,
            ["ignored", "gray photograph: right, or ignored"],
            "Of a model's predictions only the wrong ones are colored",
        ),
        (
            None,
            True,
            ["gray photograph: as the teacher"],
            "Of other models' predictions only those unlike the teacher's are colored",
        ),
        (None, False, [], ""),
    ],
)
def test_legend_names_each_color_that_occurs_and_the_title_what_is_stressed(monkeypatch, truth, taught, more, title):
    drawn = []
    monkeypatch.setattr("densedist.seg.inference.pictures.draw_overview", lambda *given: drawn.extend(given))
    classes = Classes.of(config("seg/data/camvid.yaml"))
    seen = np.array([[0, 1]])
    view = View("a", np.zeros((1, 2, 3), np.uint8), truth and np.array(truth), seen if taught else None, seen)
    overview([view], classes, "unused.png")
    columns, legend, said, _ = drawn
    assert [entry.get_label() for entry in legend] == [*classes.names, *more]
    assert said == title
    assert len(columns[0]) <= 4


def test_what_a_model_tells_otherwise_than_its_teacher_without_truth():
    classes = Classes.of(config("seg/data/camvid.yaml"))
    image, teacher, student = np.zeros((1, 4, 3), np.uint8), np.array([[0, 1, 2, 3]]), np.array([[0, 1, 2, 4]])
    panels = _panels(View("a", image, None, teacher, student), classes)
    assert [(panel.name, panel.note) for panel in panels] == [
        ("image", ""),
        ("teacher", ""),
        ("student", "25.0% differ from the teacher"),
    ]
    np.testing.assert_array_equal(panels[1].picture, paint(image, teacher, classes.colors))
    np.testing.assert_array_equal(panels[2].picture, paint(image, student, classes.colors, teacher != student))


def test_predictions(runs, images, tmp_path):
    output = tmp_path / "out"
    densedist("predict", "--weights", runs["student"], "--output-dir", output, images)
    trained = load_trained(locate(str(runs["student"])))
    written = json.loads((output / "predictions.json").read_text())
    assert [entry["file_name"] for entry in written] == [str(images / "one.png"), str(images / "two.png")]
    for entry, name in zip(written, ("one", "two"), strict=True):
        sample = Reader(trained.classes, "RGB")({"name": name, "image": entry["file_name"], "label": None})
        wanted = predict(trained.model, sample["image"])
        label_ids = cv2.imread(entry["label_ids"], cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(label_ids, trained.classes.label_ids[wanted])
        assert list(entry["share"]) == trained.classes.names
        assert list(entry["share"].values()) == [float((wanted == number).mean()) for number in range(11)]
        drawn = cv2.imread(str(output / f"{name}.png"))[..., ::-1]
        (height, width), present = wanted.shape, np.unique(wanted)
        rgb = np.ascontiguousarray(sample["image"].numpy().transpose(1, 2, 0))
        colored = overlay(lighter(rgb), wanted, trained.classes.colors)
        np.testing.assert_array_equal(drawn[:height, :width], colored)
        below = {tuple(color) for color in drawn[height:].reshape(-1, 3).tolist()}
        for number, color in enumerate(trained.classes.colors.tolist()[1:], 1):  # the first is gray, as letters are
            assert (tuple(color) in below) == (number in present)
    assert (output / "legend.png").is_file()


def test_split_with_truth_and_teacher(runs, tmp_path):
    output = tmp_path / "out"
    few = ["--images", "1", "DATASETS.TEST", "['test']"]
    densedist("visualize", "--weights", runs["student"], "--output-dir", output, *few)
    first = min(digits.images("test").iterdir()).name.replace("_leftImg8bit", "")
    assert {path.name for path in output.iterdir()} == {"overview.png", "relations.png", first}


def test_other_models_beside_it(runs, tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr("densedist.seg.inference.pictures.draw_overview", lambda columns, *_: seen.extend(columns))
    options = ["--weights", runs["student"], "--output-dir", tmp_path / "out", "--images", 1]
    beside = ["--beside", f"same={runs['student']}", "--beside", f"large={runs['teacher']}"]
    densedist("visualize", *options, *beside, "DATASETS.TEST", "['test']")
    (panels,) = seen
    names = ["teacher", "same", "large", "student"]
    assert [panel.name for panel in panels] == ["image", "truth", *names]
    for first, second in ((2, 4), (3, 5)):
        np.testing.assert_array_equal(panels[first].picture, panels[second].picture)
        assert panels[first].note == panels[second].note != ""
    other = tmp_path / "other"
    shutil.copytree(runs["student"], other)
    text = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(text.replace("name: background", "name: sky"))
    options[3] = tmp_path / "another"  # what was drawn has no overview.png, by which a folder of pictures is known
    message = complaint(capsys, "visualize", *options, "--beside", f"other={other}")
    assert message.startswith("--beside other: its classes are sky, 0, 1")


@pytest.mark.parametrize("teacher", [True, False])
def test_folder_with_and_without_a_teacher(runs, images, tmp_path, caplog, teacher):
    output = tmp_path / "out"
    more = ["--teacher", runs["teacher"], "--images", "1", images]
    if not teacher:
        more = [images, "DISTILL.TEACHER.WEIGHTS", "gone.pth"]
    densedist("visualize", "--weights", runs["student"], "--output-dir", output, *more)
    assert {path.stem for path in output.iterdir()} == {"one", *([] if teacher else ["two"]), "overview", "relations"}
    assert ("the teacher is left out, as its weights gone.pth are not there" in caplog.text) != teacher


@pytest.mark.parametrize(
    ("tool", "options", "message"),
    [
        ("predict", ["--score-threshold", "0.5", "IMAGES"], "--score-threshold is for detectors: leave it out"),
        ("predict", [], "no image is named: give files or folders"),
        ("visualize", ["--score-threshold", "0.5"], "--score-threshold is for detectors: leave it out"),
        ("visualize", ["DATASETS.TEST", "[]"], "DATASETS.TEST is empty: name a split, or a folder of images"),
        ("visualize", ["--teacher", "IMAGES"], "--teacher: there is no config.yaml next to"),
    ],
)
def test_what_is_wrong_is_one_line(runs, images, capsys, tmp_path, tool, options, message):
    words = [str(images) if word == "IMAGES" else word for word in options]
    argv = ["--weights", runs["student"], "--output-dir", tmp_path / "out", *words]
    assert message in complaint(capsys, tool, *argv)
    assert not (tmp_path / "out").exists()


@pytest.mark.drawn
def test_model_with_its_double_as_teacher(runs, tmp_path):
    """In memory, in training, the double in the other channel order and half as precise."""
    cfg = config(STUDENT)
    model = load_trained(locate(str(runs["student"]))).model
    double = copy.deepcopy(model.network)
    weight = next(p for p in double.smp.encoder.parameters() if p.dim() == 4 and p.shape[1] == 3)
    weight.data = weight.data.flip(1)
    relations = relations_of(cfg, model, SegTeacher(double, flip_channels=True), frames_of_split(cfg)[:2])
    np.testing.assert_allclose(relations.intra, 1, atol=1e-4)
    np.testing.assert_allclose(relations.student, relations.teacher, atol=1e-3)
    assert relations.rows == 2 * 16 * 16
    model.train()
    distillation = Distillation(SegTeacher(double, True, torch.bfloat16), None)
    cfg.TEST.EXAMPLES = 2
    gallery = draw_examples(cfg, Trainee(model, model.network.smp, distillation), tmp_path / "examples.png")
    assert model.training
    all_of, which, how = gallery.title.split(". ", 2)
    assert all_of == "all 4 test images were compared"
    assert which == "Shown: the 2 in which teacher and student differ most"
    assert how.startswith("The picture of a model is gray where it is right. Where it is wrong, it has the color")
    assert [[panel.name for panel in panels] for panels in gallery.columns] == [
        ["image", "truth", "teacher", "student"]
    ] * 2
    assert (tmp_path / "examples.png").stat().st_size > 10_000


def test_before_and_after_are_images_in_which_the_two_differ_most(runs, tmp_path):
    cfg = config(STUDENT)
    cfg.TEST.EXAMPLES = 1
    model = load_trained(locate(str(runs["student"]))).model
    before = {"none": locate(str(runs["teacher"]))}
    gallery = draw_examples(cfg, Trainee(model, model), tmp_path / "a.png", before, "dist")
    (panels,) = gallery.columns
    assert [panel.name for panel in panels] == ["image", "truth", "none", "dist"]
    other = load_trained(before["none"]).model
    read = Reader(Classes.of(cfg), "RGB")
    differ = {}
    for frame in frames_of_split(cfg):
        sample = read(frame)
        counts = sample["sem_seg"].numpy() != IGNORE
        differ[frame["name"]] = ((predict(model, sample["image"]) != predict(other, sample["image"])) & counts).mean()
    assert differ[gallery.names[0]] == max(differ.values()) > 0


def test_an_image_too_large_to_be_seen_at_once_is_refused_in_one_line(monkeypatch):
    trained = SimpleNamespace(classes=range(3), model=SimpleNamespace(inference=Inference()))
    monkeypatch.setattr("densedist.seg.inference.predict.memory", lambda: 16e9)
    with pytest.raises(UserError) as refused:
        refuse_whole(trained, (20000, 20000), "ortho.png")
    assert str(refused.value) == (
        "ortho.png has 20000x20000 pixels, which need 27 GB or more at once, but the memory has 16 GB: set "
        "TEST.WINDOW_SIZE, e.g. to [512,512]"
    )
    refuse_whole(trained, (2000, 2000), "small.png")
    trained.model.inference = Inference(window=(512, 512))
    refuse_whole(trained, (20000, 20000), "ortho.png")
