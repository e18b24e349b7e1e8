"""densedist label det: what detectors see becomes a COCO data set that a student trains on."""

import json
from functools import partial
from pathlib import Path

import cv2
import pytest
import torch
from detectron2.structures import Boxes, Instances
from pycocotools.coco import COCO

import densedist
from densedist.common.data import digits
from densedist.common.errors import UserError
from densedist.common.labeling import Labeling
from densedist.common.run_files import Weights
from densedist.det.data.coco import read_coco
from densedist.det.data.reading import read_input
from densedist.det.drawing import on_crowds
from densedist.det.inference.labeling import label_images, with_labels
from densedist.det.inference.predict import predict
from densedist.det.modeling.fusion import fuse
from densedist.det.models import load_trained
from helpers.calling import advised_keys, complaint
from helpers.calling import densedist as densedist_command
from helpers.labels import contents, in_processes, label_by, write_tar
from helpers.tiny import SMALL, STUDENT, config, save_teacher

LEAST = ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.05"]
LOW = ["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0.3"]


def found(boxes, scores, classes):
    result = Instances((100, 100))
    result.pred_boxes, result.scores = Boxes(torch.tensor(boxes).view(-1, 4)), torch.tensor(scores)
    result.pred_classes = torch.tensor(classes, dtype=torch.int64)
    return result


def test_fused_boxes_by_hand():
    first = found([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]], [0.9, 0.4], [1, 2])
    second = found([[1.0, 0.0, 11.0, 10.0], [0.0, 0.0, 10.0, 10.0]], [0.6, 0.5], [1, 0])
    fused = fuse([first, second])
    # The first two are one: places weighted 0.9 to 0.6, the mean of the scores. Others were seen by one of two.
    expected = [[0.4, 0.0, 10.4, 10.0], [0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]]
    torch.testing.assert_close(fused.pred_boxes.tensor, torch.tensor(expected))
    torch.testing.assert_close(fused.scores, torch.tensor([0.75, 0.25, 0.2]))
    assert fused.pred_classes.tolist() == [1, 0, 2]


def test_fusing_does_not_depend_on_the_order_of_detectors_and_one_changes_nothing():
    generator = torch.Generator().manual_seed(0)
    several = []
    for _ in range(3):
        corner = torch.rand(20, 2, generator=generator) * 60
        boxes = torch.cat([corner, corner + 20 + 10 * torch.rand(20, 2, generator=generator)], 1)
        classes = torch.randint(0, 2, (20,), generator=generator).tolist()
        several.append(found(boxes.tolist(), torch.rand(20, generator=generator).tolist(), classes))
    one, other = fuse(several), fuse(several[::-1])
    torch.testing.assert_close(one.pred_boxes.tensor, other.pred_boxes.tensor)
    torch.testing.assert_close(one.scores, other.scores)
    assert len(one) < 60
    alone = found([[0.0, 0.0, 10.0, 10.0], [30.0, 0.0, 40.0, 10.0]], [0.4, 0.9], [1, 1])
    assert fuse([alone]).scores.tolist() == pytest.approx([0.9, 0.4])
    assert len(fuse([found([], [], []), found([], [], [])])) == 0


@pytest.fixture
def teacher(tmp_path):
    return save_teacher(tmp_path / "teacher", "DATASETS.TEST", "('digits_val',)", file=STUDENT)[-1]


@pytest.fixture
def images(tmp_path):
    (tmp_path / "images").mkdir()
    for number, file in enumerate(sorted(digits.images("val").glob("*.png"))[:2]):
        cv2.imwrite(str(tmp_path / "images" / f"{number}.png"), cv2.imread(str(file)))
    return tmp_path / "images"


def test_labels_are_the_boxes_above_the_score(teacher, images, tmp_path):
    record = densedist.label([teacher], [images], output_dir=tmp_path / "out", score_threshold=0.3)
    trained = load_trained(Weights(teacher, str(Path(teacher).with_name("config.yaml")), False).under(*LOW))
    coco = COCO(str(tmp_path / "out" / "annotations.json"))
    assert len(coco.imgs) == record["images"] == 2
    total = 0
    for number, file in enumerate(sorted(images.iterdir()), 1):
        assert Path(coco.imgs[number]["file_name"]) == file
        seen = predict(trained.model, read_input(trained.cfg, file)[0])
        ours = coco.imgToAnns[number]
        assert sorted(a["score"] for a in ours) == pytest.approx(sorted(seen.scores.tolist()))
        total += len(ours)
        for annotation in ours:
            name = coco.cats[annotation["category_id"]]["name"]
            assert name in trained.classes
    assert total == sum(known["labels"] for known in record["classes"].values()) > 0
    assert record["labeled_images"] == len({a["image_id"] for a in coco.anns.values()})
    assert record["highest_score"] == pytest.approx(max(a["score"] for a in coco.anns.values()))


@pytest.mark.drawn  # by this process, as by the others
def test_two_processes_one_of_which_is_killed_write_what_one_writes(teacher, images, tmp_path):
    """Tar files, too, which they share."""
    for number, file in enumerate(sorted(digits.images("train").glob("*.png"))[:9]):
        cv2.imwrite(str(images / f"more {number}.png"), cv2.imread(str(file)))
    files = {file.name: file.read_bytes() for file in sorted(images.iterdir())}
    for n, names in enumerate((list(files)[:4], list(files)[4:])):
        write_tar(tmp_path / f"{n}.tar", {name: files[name] for name in names})
    job = partial(label_by, teacher, score_threshold=0.3)
    assert not in_processes(2, job, tmp_path / "*.tar", tmp_path / "out", 1, 2, 0.5)
    assert in_processes(2, job, tmp_path / "*.tar", tmp_path / "out")
    unpacked = [tmp_path / "out_images" / str(n) for n in range(2)]
    assert sum(len([*folder.glob("*.png")]) for folder in unpacked) == len(files)
    densedist.label([teacher], unpacked, output_dir=tmp_path / "whole", score_threshold=0.3)
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_sheet_shows_what_was_written(teacher, images, tmp_path):
    band = {"score_threshold": 0.3, "ignore_threshold": 0.2}
    record = densedist.label([teacher], [images], output_dir=tmp_path / "out", **band)
    text = (tmp_path / "out" / "labels.html").read_text()
    assert f"{sum(known['labels'] for known in record['classes'].values())} objects in 2 images, " in text
    assert text.count("<figure>") == 2
    assert "ignored (dashed)" in text


def test_a_finished_labeling_is_left_as_it_is(teacher, images, tmp_path, capsys):
    words = ["--weights", teacher, "--output-dir", tmp_path / "out", images, "--resume"]
    densedist_command("label", "det", *words)
    before = contents(tmp_path / "out")
    densedist_command("label", "det", *words, "DATALOADER.NUM_WORKERS", "1")
    assert f"{tmp_path / 'out'}: all images are labeled\n" in capsys.readouterr().out
    assert contents(tmp_path / "out") == before
    said = complaint(capsys, "label", "det", *words, "--score-threshold", "0.3")
    assert said == (
        f"{tmp_path / 'out'} has other settings: --score-threshold, then 0.5, now 0.3: give the same, or another "
        "--output-dir"
    )
    cv2.imwrite(str(images / "new.png"), cv2.imread(str(images / "0.png")))
    assert f"{tmp_path / 'out'} has other settings: images, then 2 files, now 3 files" in complaint(
        capsys, "label", "det", *words
    )


def test_images_of_tar_files(teacher, images, tmp_path, capsys):
    """They have the labels of those in a folder; a command that is refused unpacks nothing."""
    for number, file in enumerate(sorted(images.iterdir())):
        write_tar(tmp_path / "tars" / f"{number}.tar", {file.name: file.read_bytes(), "1.txt": b"a caption"})
    out, score = tmp_path / "out", ["--score-threshold", 0.3]
    words = ["label", "det", "--weights", teacher, "--output-dir", out, *score, tmp_path / "tars" / "*.tar"]
    said = complaint(capsys, *words, "DATASETS.CLASSES", "['car']")
    assert said == "MODEL.ROI_HEADS.NUM_CLASSES is 10, but DATASETS.CLASSES has 1 names"
    assert not list(tmp_path.glob("out*"))
    densedist_command(*words)
    densedist.label([teacher], [images], output_dir=tmp_path / "other", score_threshold=0.3)
    ours, other = (COCO(str(folder / "annotations.json")) for folder in (out, tmp_path / "other"))
    assert ours.anns == other.anns
    found = [image["file_name"] for image in ours.imgs.values()]
    assert found == [str(tmp_path / "out_images" / name) for name in ("0/0.png", "1/1.png")]
    assert all(cv2.imread(file) is not None for file in found)
    capsys.readouterr()
    densedist_command(*words, "--resume")
    assert "all images are labeled" in capsys.readouterr().out


def test_images_of_one_size_in_a_batch_have_the_same_labels(teacher, images, tmp_path):
    cv2.imwrite(str(images / "wide.png"), cv2.resize(cv2.imread(str(images / "0.png")), (200, 100)))
    for name, batch in (("one", 1), ("all", 4)):
        densedist.label([teacher], [images], output_dir=tmp_path / name, score_threshold=0.3, batch=batch)
    one, other = (json.loads((tmp_path / name / "annotations.json").read_text()) for name in ("one", "all"))
    assert one["images"] == other["images"]
    for first, second in zip(one["annotations"], other["annotations"], strict=True):
        assert (first["image_id"], first["category_id"]) == (second["image_id"], second["category_id"])
        assert first["bbox"] == pytest.approx(second["bbox"], abs=0.01)


def test_images_that_cannot_be_read_are_left_out(teacher, images, tmp_path, capsys):
    (images / "a.png").write_bytes((images / "0.png").read_bytes()[:200])
    words = ["--weights", teacher, "--output-dir", tmp_path / "out", images]
    said = complaint(capsys, "label", "det", *words)
    assert said.startswith(f"1 of 3 images cannot be read, first {images}/a.png is damaged: ")
    assert said.endswith(": mend or remove them, or allow more than 0.01 of all by --max-unreadable")
    densedist_command("label", "det", *words, "--max-unreadable", "0.5")
    assert f"1 image cannot be read and has no labels:\n  {images}/a.png is damaged" in capsys.readouterr().out
    content = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [(image["id"], Path(image["file_name"]).name) for image in content["images"]] == [(1, "0.png"), (2, "1.png")]
    record = json.loads((tmp_path / "out" / "labels.json").read_text())
    assert record["images"] == 2
    assert [file for file, _ in record["unreadable"]] == [str(images / "a.png")]
    assert complaint(capsys, "label", "det", *words[:-1], images / "a.png").startswith("--output-dir: ")
    words[3] = tmp_path / "other"
    assert complaint(capsys, "label", "det", *words[:-1], images / "a.png").startswith(f"{images}/a.png is damaged: ")


def test_a_student_trains_on_them(teacher, images, tmp_path):
    band = {"score_threshold": 0.3, "ignore_threshold": 0.2}
    densedist.label([teacher, teacher], [images], output_dir=tmp_path / "out", **band)
    cfg = config(STUDENT, "DATASETS.TRAIN", "('digits_train_60',)", "DATASETS.PSEUDO_LABELED", "['digits_val']")
    words = with_labels(cfg, tmp_path / "out")
    assert words[-2:] == ["DATASETS.PSEUDO_LABELED", str(["digits_val", str(tmp_path / "out")])]
    keys = [*SMALL, *words, "SOLVER.MAX_ITER", "1", "DATASETS.TEST", "()", "OUTPUT_DIR", str(tmp_path / "run")]
    densedist.train(str(STUDENT), keys)
    assert (tmp_path / "run" / "model_final.pth").is_file()
    weighed = ["PSEUDO_LABELS.CONFIDENCE", "score", "PSEUDO_LABELS.MIN_SCORE", "0.35", "PSEUDO_LABELS.WEIGHT", "0.5"]
    alone = [*keys, "DATASETS.PSEUDO_LABELED", str([str(tmp_path / "out")]), "OUTPUT_DIR", str(tmp_path / "weighed")]
    words = [*alone, *weighed]
    densedist.train(str(STUDENT), dict(zip(words[::2], words[1::2], strict=True)))  # the last of each key
    assert (tmp_path / "weighed" / "model_final.pth").is_file()
    assert read_coco(str(tmp_path / "out" / "annotations.json")).names == list(digits.CLASSES)


def test_the_printed_key_adds_them_to_a_students_own_data(teacher, images, tmp_path, capsys, monkeypatch):
    """In a folder of one's own, and named from there."""
    monkeypatch.chdir(tmp_path)
    densedist.label([teacher], [images], output_dir="my labels", score_threshold=0.2)
    own = ["own", str(digits.annotations("train_60")), str(digits.images("train_60"))]
    words = ["DATASETS.COCO_FORMAT", str([own]), "DATASETS.TRAIN", "('own[:2]',)", "DATASETS.TEST", "()"]
    config_file = str(Path(teacher).parent / "config.yaml")
    words += ["DISTILL.TEACHER.WEIGHTS", teacher, "DISTILL.TEACHER.CONFIG_FILE", config_file]
    keys = [*SMALL, *words, *advised_keys(capsys.readouterr().out), "SOLVER.MAX_ITER", "1"]
    densedist.train(str(STUDENT), keys)
    said = (tmp_path / "my labels_student" / "log.txt").read_text()
    assert "teacher  none: an ordinary training run" in said
    assert "own[:2]" in said
    assert "my labels" in said
    assert Path("my labels_student", "model_final.pth").is_file()


def test_thresholds_are_chosen_on_the_test_data(teacher, images, tmp_path, capsys):
    record = densedist.label([teacher], [images], output_dir=tmp_path / "out", choose_thresholds=True)
    scores = {name: known["score"] for name, known in record["classes"].items()}
    assert list(scores) == list(digits.CLASSES)
    annotations = json.loads((tmp_path / "out" / "annotations.json").read_text())["annotations"]
    by_number = list(scores.values())
    for annotation in annotations:
        least = by_number[annotation["category_id"] - 1]
        assert least is not None
        assert annotation["score"] >= least
    arguments = ["--weights", teacher, images, "--output-dir", tmp_path / "other", "--choose-thresholds"]
    empty = tmp_path / "empty.json"
    content = json.loads(Path(digits.annotations("val")).read_text()) | {"annotations": []}
    empty.write_text(json.dumps(content))
    entry = ["no_objects", str(empty), str(digits.images("val"))]
    words = ["DATASETS.COCO_FORMAT", str([entry]), "DATASETS.TEST", "('no_objects',)"]
    said = complaint(capsys, "label", "det", *arguments, *words)
    assert said == "--choose-thresholds: DATASETS.TEST has no objects to choose by: name data that has some"


def test_boxes_of_a_band_are_crowds(teacher, images, tmp_path):
    """They keep their scores, and no label is lost or gained."""
    weights = {"output_dir": tmp_path / "low", "score_threshold": 0.2}
    densedist.label([teacher], [images], **weights)
    record = densedist.label(
        [teacher], [images], output_dir=tmp_path / "band", score_threshold=0.3, ignore_threshold=0.2
    )
    low, band = (
        json.loads((tmp_path / name / "annotations.json").read_text())["annotations"] for name in ("low", "band")
    )
    assert [a["iscrowd"] for a in band] == [int(a["score"] < 0.3) for a in low]
    assert 0 < sum(a["iscrowd"] for a in band) < len(band)
    assert [a | {"iscrowd": 0} for a in band] == low
    assert sum(known["labels"] for known in record["classes"].values()) == sum(not a["iscrowd"] for a in band)
    assert record["ignored_from"] == 0.2


def test_classes_are_as_frequent_as_in_the_training_data(teacher, images, tmp_path):
    content = json.loads(Path(digits.annotations("val")).read_text())
    first = content["images"][:4]
    ids = {image["id"] for image in first}
    kept = [a for a in content["annotations"] if a["image_id"] in ids]
    file = tmp_path / "few.json"
    file.write_text(json.dumps(content | {"images": first, "annotations": kept}))
    keys = ["DATASETS.COCO_FORMAT", str([["few", str(file), str(digits.images("val"))]]), "DATASETS.TRAIN", "('few',)"]
    low, out = tmp_path / "low", tmp_path / "out"
    densedist.label([teacher], [images], output_dir=low, score_threshold=0.05)
    words = ["--output-dir", out, "--choose-by", "frequencies", images, *keys]
    densedist_command("label", "det", "--weights", teacher, *words)
    record = json.loads((out / "labels.json").read_text())
    assert record["chosen_by"] == "frequencies"
    every = json.loads((low / "annotations.json").read_text())["annotations"]
    for number, (name, known) in enumerate(record["classes"].items(), 1):
        wanted = 2 * sum(content["categories"][number - 1]["id"] == a["category_id"] for a in kept) / len(first)
        scores = sorted((a["score"] for a in every if a["category_id"] == number), reverse=True)
        counts = [0 if wanted == 0 else n for n in range(1, len(scores) + 1)] or [0]
        apart = min(abs(n - wanted) for n in counts)
        assert abs(known["labels"] - wanted) <= apart + 1, name  # a thousandth may hold two boxes


def test_plain_choose_thresholds_is_by_f1(teacher, images, tmp_path):
    out = tmp_path / "out"
    densedist_command("label", "det", "--weights", teacher, "--output-dir", out, "--choose-thresholds", images)
    assert json.loads((out / "labels.json").read_text())["chosen_by"] == "f1"


def test_images_of_the_config(teacher, tmp_path, capsys):
    keys = ["DATASETS.UNLABELED", "['digits_val']"]
    record = densedist.label([teacher], (), keys, output_dir=tmp_path / "out")
    assert record["images"] == digits.SCENES["val"]
    arguments = ["label", "det", "--weights", teacher, "--output-dir", tmp_path / "other"]
    said = complaint(capsys, *arguments, "DATASETS.UNLABELED", "['digits_vall']")
    assert said.startswith("DATASETS.UNLABELED: there is no folder digits_vall, nor a data set of this name; did you ")


def test_masks_of_one_teacher_are_kept(images, tmp_path):
    from helpers.tiny import TEACHER

    weights = save_teacher(tmp_path / "mask", file=TEACHER)[-1]
    densedist.label([weights], [images], output_dir=tmp_path / "out", score_threshold=0.1)
    coco = read_coco(str(tmp_path / "out" / "annotations.json"))
    assert coco.annotations
    assert all("segmentation" in annotation for annotation in coco.annotations)


def test_predictions_on_crowds_are_no_errors():
    """By COCO's rule: half of a prediction's own area is on a crowd of its class; objects come first."""
    predictions = found(
        [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 10.0], [95.0, 0.0, 105.0, 10.0]], [0.9] * 3, [1, 2, 1]
    )
    crowds = Instances((100, 100))
    crowds.gt_boxes = Boxes(torch.tensor([[0.0, 0.0, 100.0, 100.0]]))
    crowds.gt_classes = torch.tensor([1])
    assert on_crowds(predictions, crowds).tolist() == [True, False, True]
    assert on_crowds(predictions[:1], crowds[:0]).tolist() == [False]
    crowds.gt_boxes.tensor[0, 2] = 99.0
    assert on_crowds(predictions, crowds).tolist() == [True, False, False]


def test_thresholds_do_not_fear_crowds(teacher, images, tmp_path):
    """Where all but two predictions of a class lie on a crowd, the lower one of these is worth having."""
    content = json.loads(Path(digits.annotations("val")).read_text())
    trained = load_trained(Weights(teacher, str(Path(teacher).with_name("config.yaml")), True).under(*LEAST))
    image = content["images"][0]
    seen = predict(trained.model, read_input(trained.cfg, Path(digits.images("val"), image["file_name"]))[0])
    number = int(seen.pred_classes.bincount().argmax())
    boxes = seen.pred_boxes.tensor[seen.pred_classes == number]  # the highest score first
    about = {"image_id": image["id"], "category_id": content["categories"][number]["id"], "area": 1}
    truth = [(x0, y0, x1 - x0, y1 - y0) for x0, y0, x1, y1 in boxes[[0, -1]].tolist()]
    objects = [about | {"id": n, "bbox": box, "iscrowd": 0} for n, box in enumerate(truth, 1)]
    crowd = about | {"id": 3, "bbox": [0, 0, image["width"], image["height"]], "iscrowd": 1}
    scores = []
    for annotations in (objects, [*objects, crowd]):
        file, out = tmp_path / f"{len(scores)}.json", tmp_path / f"out{len(scores)}"
        file.write_text(json.dumps(content | {"images": [image], "annotations": annotations}))
        keys = {"DATASETS.COCO_FORMAT": [[file.stem, str(file), str(digits.images("val"))]]}
        keys |= {"DATASETS.TEST": f"('{file.stem}',)"}
        record = densedist.label([teacher], [images], keys, output_dir=out, choose_thresholds=True)
        scores.append(record["classes"][digits.CLASSES[number]]["score"])
    assert len(boxes) > 5
    assert scores[1] < scores[0]


def test_labels_for_a_student_have_its_classes_by_their_names(teacher, images, tmp_path):
    trained = load_trained(Weights(teacher, str(Path(teacher).with_name("config.yaml")), True).under(*LOW))
    names = list(digits.CLASSES)[::-1][:9]
    cfg = config(STUDENT, "DATASETS.CLASSES", str(names), "MODEL.ROI_HEADS.NUM_CLASSES", "9")
    given = Weights(teacher, str(Path(teacher).with_name("config.yaml")), True)
    files = {file.stem: file for file in sorted(images.iterdir())}
    label_images(Labeling([given], files, tmp_path / "out", 0.3, student=cfg))
    coco = read_coco(str(tmp_path / "out" / "annotations.json"))
    assert coco.names == names
    wanted = []
    for number, file in enumerate(files.values(), 1):
        seen = predict(trained.model, read_input(trained.cfg, file)[0])
        wanted += [(number, trained.classes[c]) for c in seen.pred_classes.tolist() if trained.classes[c] in names]
    by_id = {category["id"]: category["name"] for category in coco.categories}
    assert sorted((a["image_id"], by_id[a["category_id"]]) for a in coco.annotations) == sorted(wanted)
    cfg.DATASETS.CLASSES[0] = "ten"
    with pytest.raises(UserError, match=r"CLASSES: ten has no counterpart among the teacher's classes"):
        label_images(Labeling([given], files, tmp_path / "other", 0.3, student=cfg))
    assert not (tmp_path / "other").exists()
