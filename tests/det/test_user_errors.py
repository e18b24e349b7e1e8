"""Every mistake a user can make ends in one line that names what to change, exit code 2, before training."""

import json

import pytest
import torch

from helpers.calling import densedist
from helpers.tiny import DIGITS, SMALL, STUDENT, save_teacher


@pytest.fixture(scope="module")
def teacher_keys(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture
def message(tmp_path, capsys):
    """Runs train_det with the given arguments and returns its one line on standard error."""

    def call(*overrides, file=STUDENT):
        argv = ["--config-file", str(file), "OUTPUT_DIR", str(tmp_path / "out"), *SMALL, *map(str, overrides)]
        with pytest.raises(SystemExit) as stop:
            densedist("train", "det", *argv)
        assert stop.value.code == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert lines[-1].startswith("error: ")
        assert not any("Traceback" in line for line in lines)
        assert not (tmp_path / "out" / "metrics.json").exists()
        return lines[-1].removeprefix("error: ")

    return call


def test_missing_config_file(message):
    assert message(file="nowhere.yaml") == (
        "--config-file: nowhere.yaml is neither a file, nor a packaged config, nor one of Detectron2's model zoo"
    )


def test_no_config_file(message):
    assert "--config-file is missing" in message(file="")


def test_missing_base_file(message, tmp_path):
    (tmp_path / "c.yaml").write_text("_BASE_: gone.yaml\n")
    assert "gone.yaml does not exist" in message(file=tmp_path / "c.yaml")


def test_broken_yaml(message, tmp_path):
    (tmp_path / "c.yaml").write_text("MODEL: {A: [\n")
    assert "c.yaml is not plain YAML data" in message(file=tmp_path / "c.yaml")


def test_config_that_wants_to_run_code(message, tmp_path):
    trap = tmp_path / "trap"
    (tmp_path / "c.yaml").write_text(f"OUTPUT_DIR: !!python/object/apply:os.mkdir ['{trap}']\n")
    assert "c.yaml is not plain YAML data" in message(file=tmp_path / "c.yaml")
    assert not trap.exists()


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (b"", "c.yaml is not a mapping of keys to values"),
        (b"- a list\n", "c.yaml is not a mapping of keys to values"),
        (b"_BASE_: 3\n", "c.yaml is not a mapping of keys to values, or its _BASE_ is not a file name"),
        (b"\xff\xfe\x00", "c.yaml is not plain YAML data: "),
        (b"_BASE_: c.yaml\n", "c.yaml: its _BASE_ chain leads back to itself"),
        (b"SOLVER: {BASE_LR: fast}\n", "SOLVER.BASE_LR is fast in {file}: want a number"),
        (b"SOLVER: 3\n", "SOLVER is 3 in {file}: want a group of keys"),
        (b"MODEL: {MASK_ON: 7}\n", "MODEL.MASK_ON is 7 in {file}: want True or False"),
    ],
)
def test_config_file_of_another_form(message, tmp_path, content, wanted):
    (tmp_path / "c.yaml").write_bytes(content)
    assert wanted.format(file=tmp_path / "c.yaml") in message(file=tmp_path / "c.yaml")


def test_old_config_version(message, tmp_path):
    (tmp_path / "c.yaml").write_text("VERSION: 1\n")
    assert "VERSION 1 is too old" in message(file=tmp_path / "c.yaml")


def test_unknown_key_in_the_file(message, tmp_path):
    (tmp_path / "c.yaml").write_text("DISTILL: {DIST: {WIEGHT: 1.0}}\n")
    seen = message(file=tmp_path / "c.yaml")
    assert "unknown config key DISTILL.DIST.WIEGHT" in seen
    assert "did you mean DISTILL.DIST.WEIGHT" in seen


def test_unknown_key_on_the_command_line(message):
    seen = message("SOLVER.BASE_LRR", "1")
    assert "unknown config key SOLVER.BASE_LRR in the command line" in seen
    assert "SOLVER.BASE_LR" in seen


def test_unknown_key_in_small_letters(message):
    assert "did you mean SOLVER.BASE_LR" in message("solver.base_lr", "1")


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("DISTILL.DIST.TAU", "hot", "a number"),
        ("SOLVER.MAX_ITER", "1.5", "a whole number"),
        ("OUTPUT_DIR", "3", "text"),
        ("DATASETS.TRAIN", "digits_train", "a list, as ['one', 'two']"),
        ("DATASETS.TRAIN", "[digits_train]", "a list, as ['digits_train']"),
        ("DATASETS.TRAIN", "{a: [", "a list, as ['one', 'two']"),
        ("MODEL.FPN", "x", "a group of keys"),
    ],
)
def test_wrong_type(message, key, value, wanted):
    assert message(key, value) == f"{key} is {value} in the command line: want {wanted}"


def test_key_without_value(message):
    assert message("SOLVER.BASE_LR") == "overrides are KEY VALUE pairs, but SOLVER.BASE_LR has no value"


def test_unknown_data_set(message):
    seen = message("DATASETS.TRAIN", "('digits_trian',)")
    assert seen.startswith("DATASETS.TRAIN: there is no data set digits_trian; did you mean digits_train?")


def test_missing_built_in_data_set(message):
    seen = message("DATASETS.TRAIN", "('coco_2017_train',)")
    assert "data set coco_2017_train has no annotation file" in seen
    assert "$DETECTRON2_DATASETS" in seen


def coco_file(tmp_path, classes):
    file = tmp_path / "train.json"
    categories = [{"id": i, "name": name} for i, name in enumerate(classes)]
    file.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    return file


def test_missing_image_folder(message, tmp_path):
    entry = [["mine_a", str(coco_file(tmp_path, "0123456789")), str(tmp_path / "images")]]
    seen = message("DATASETS.COCO_FORMAT", entry, "DATASETS.TRAIN", "('mine_a',)")
    assert seen == f"DATASETS.COCO_FORMAT, mine_a: there is no folder {tmp_path / 'images'}"


def test_missing_annotation_file(message, tmp_path):
    entry = [["mine_b", str(tmp_path / "gone.json"), str(tmp_path)]]
    seen = message("DATASETS.COCO_FORMAT", entry, "DATASETS.TRAIN", "('mine_b',)")
    assert seen == f"DATASETS.COCO_FORMAT, mine_b: there is no file {tmp_path / 'gone.json'}"


def test_annotation_file_of_another_kind(message, tmp_path):
    (tmp_path / "bad.json").write_text("[1, 2]")
    entry = [["mine_c", str(tmp_path / "bad.json"), str(tmp_path)]]
    assert "bad.json is not a COCO JSON file" in message("DATASETS.COCO_FORMAT", entry, "DATASETS.TRAIN", "('mine_c',)")


def test_malformed_data_set_entry(message):
    assert "is not [name, JSON file, image folder]" in message("DATASETS.COCO_FORMAT", "[['mine', 'x.json']]")


def test_name_of_another_data_set(message, tmp_path):
    entry = [["digits_val", str(coco_file(tmp_path, "0123456789")), str(tmp_path)]]
    seen = message("DATASETS.COCO_FORMAT", entry)
    assert "digits_val is the name of another data set" in seen


def test_class_count_of_the_data_set(message, tmp_path):
    entry = [["mine_d", str(coco_file(tmp_path, "abc")), str(tmp_path)]]
    seen = message("DATASETS.COCO_FORMAT", entry, "DATASETS.TRAIN", "('mine_d',)")
    assert seen == "MODEL.ROI_HEADS.NUM_CLASSES is 10, but data set mine_d has 3 classes"


def test_missing_teacher_config(message):
    seen = message("DISTILL.TEACHER.CONFIG_FILE", "gone.yaml", "DISTILL.TEACHER.WEIGHTS", "gone.pth")
    assert seen.startswith(
        "DISTILL.TEACHER.CONFIG_FILE: gone.yaml is neither a file, nor a packaged config, nor one of"
    )


def test_missing_teacher_weights(message, teacher_keys):
    assert message(*teacher_keys[:2]).startswith("DISTILL.TEACHER.WEIGHTS is empty")
    seen = message(*teacher_keys[:3], "gone.pth")
    assert seen == "DISTILL.TEACHER.WEIGHTS: there is no file gone.pth"


def test_teacher_weights_without_config(message, tmp_path):
    assert "CONFIG_FILE is empty: name its config" in message("DISTILL.TEACHER.WEIGHTS", "x.pth")
    (tmp_path / "config.yaml").write_text("VERSION: 2\n")
    (tmp_path / "model.pth").touch()
    said = f"CONFIG_FILE is empty: name {tmp_path}/config.yaml, or in WEIGHTS the folder {tmp_path}"
    assert said in message("DISTILL.TEACHER.WEIGHTS", str(tmp_path / "model.pth"))


def test_damaged_teacher_weights(message, teacher_keys, tmp_path):
    (tmp_path / "broken.pth").write_bytes(b"no checkpoint")
    assert "broken.pth cannot be read as a checkpoint" in message(*teacher_keys[:3], tmp_path / "broken.pth")


def test_teacher_weights_that_do_not_fill_the_model(message, teacher_keys, tmp_path):
    state = torch.load(teacher_keys[3])["model"]
    name = "roi_heads.box_predictor.0.cls_score.weight"
    total = len(state)
    del state[name]
    other = name.replace("weight", "bias")
    state[other] = state[other][1:]
    torch.save({"model": state}, tmp_path / "part.pth")
    seen = message(*teacher_keys[:3], tmp_path / "part.pth")
    assert f"2 of its {total} tensors are missing or of another shape, first {name}" in seen


def test_teacher_with_another_number_of_classes(message, tmp_path):
    keys = save_teacher(tmp_path / "t", "MODEL.ROI_HEADS.NUM_CLASSES", "7")
    assert "the student has 10 classes, the teacher 7" in message(*keys)


def test_teacher_with_another_order_of_classes(message, tmp_path):
    entry = [["reversed_digits", str(coco_file(tmp_path, "9876543210")), str(tmp_path)]]
    keys = save_teacher(tmp_path / "t", "DATASETS.COCO_FORMAT", entry, "DATASETS.TRAIN", "('reversed_digits',)")
    assert "class 0 is 0 in the student's data set, 9 in the teacher's" in message(*keys)


def test_teacher_that_is_no_rcnn(message, tmp_path):
    keys = save_teacher(tmp_path / "dense", file=DIGITS / "retinanet_r10t.yaml")
    assert message(*keys) == (
        "DISTILL.DIST needs cls_logits, which this pair does not have (the teacher is a RetinaNet, no R-CNN): no tap "
        "of this pair will do: set DISTILL.DIST.WEIGHT to 0"
    )


def test_teacher_that_is_no_detector(message, tmp_path):
    keys = save_teacher(tmp_path / "network", "MODEL.META_ARCHITECTURE", "ProposalNetwork")
    assert message(*keys) == (
        "DISTILL.TEACHER.CONFIG_FILE: ProposalNetwork is not a detector with a backbone, as R-CNNs and RetinaNets are"
    )


def test_teacher_for_a_student_that_does_not_distil(message, teacher_keys):
    seen = message(*teacher_keys, "MODEL.META_ARCHITECTURE", "GeneralizedRCNN")
    assert "GeneralizedRCNN does not distill: set it to DistillRCNN" in seen


@pytest.mark.parametrize(
    ("key", "value", "wanted"),
    [
        ("DISTILL.DIST.WEIGHT", "-1.0", "want 0 (off) or more"),
        ("DISTILL.KD.TAU", "0.0", "want a temperature above 0"),
        ("DISTILL.TEACHER.CASCADE_STAGES", "last", "want first or mean"),
        ("DISTILL.TEACHER.PRECISION", "half", "want auto, float32, float16 or bfloat16"),
        ("SOLVER.OPTIMIZER", "Adagrad", "want SGD or AdamW"),
        ("MODEL.TIMM.NAME", "resnet19", "timm has no model resnet19"),
        ("MODEL.TIMM.NORM", "GN", "want BN, SyncBN or FrozenBN"),
        ("MODEL.FPN.IN_FEATURES", "['res2', 'res9']", "not res9"),
        ("MODEL.TIMM.ARGS", "{'widths': 3}", "widths"),
        ("INPUT.FORMAT", "L", "want BGR or RGB"),
        ("SOLVER.EMA_DECAY", "1.5", "SOLVER.EMA_DECAY is 1.5: want 0 (off) to below 1"),
        ("DISTILL.DECAY", "foo", "DISTILL.DECAY is foo: want auto, none, linear or cosine"),
        ("DISTILL.DENSE_ROWS", "pixels", "DISTILL.DENSE_ROWS is pixels: want anchors or locations"),
        ("TRACKERS", "['tb']", "TRACKERS is ['tb']: want any of wandb, mlflow"),
        ("TEST.AUG.MIN_SIZES", "()", "TEST.AUG.MIN_SIZES is (): want whole numbers above 0"),
        (
            "TEST.PRECISE_BN.ENABLED",
            "True",
            "want False, as precise batch norm is only in",
        ),
        ("TEST.EXPECTED_RESULTS", "[['bbox', 'AP', 9.0, 0.1]]", "want [], as a check of results is only in"),
        ("SOLVER.REFERENCE_WORLD_SIZE", "8", "want 0, as scaling with the number of processes is only in"),
        ("TASK", "seg", "TASK is seg: want det"),
        ("SOLVER.MAX_ITER", "0", "SOLVER.MAX_ITER is 0: want 1 or more"),
        ("DATALOADER.NUM_WORKERS", "-1", "DATALOADER.NUM_WORKERS is -1: want 0 or more"),
        ("MODEL.DEVICE", "gpu", "MODEL.DEVICE is gpu: want cpu, cuda, or cuda:0 and so on"),
        ("MODEL.DEVICE", "cuda:99", "MODEL.DEVICE is cuda:99, but this machine has "),
    ],
)
def test_value_out_of_range(message, teacher_keys, key, value, wanted):
    seen = message(*teacher_keys, key, value)
    assert key.rsplit(".", 1)[0] in seen
    assert wanted in seen


@pytest.mark.parametrize(
    ("key", "registry"),
    [("META_ARCHITECTURE", "META_ARCH"), ("BACKBONE.NAME", "BACKBONE"), ("ROI_HEADS.NAME", "ROI_HEADS")],
)
def test_misspelled_part_of_a_model(message, key, registry):
    wanted = f"MODEL: Detectron2 has no {registry} named Typo: correct that name, or name the file that registers it in"
    assert message(f"MODEL.{key}", "Typo") == f"{wanted} IMPORTS"


def test_unwritable_output_folder(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        densedist("train", "det", "--config-file", str(STUDENT), "OUTPUT_DIR", str(tmp_path / "file" / "out"))
    assert stop.value.code == 2
    assert "OUTPUT_DIR: cannot make" in capsys.readouterr().err


def test_more_gpus_than_there_are(capsys, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(SystemExit) as stop:
        densedist("train", "det", "--config-file", str(STUDENT), "--num-gpus", "4")
    assert stop.value.code == 2
    assert "error: --num-gpus is 4, but this machine has 2" in capsys.readouterr().err


def test_number_of_processes_below_one(capsys):
    with pytest.raises(SystemExit) as stop:
        densedist("train", "det", "--config-file", str(STUDENT), "--num-gpus", "0")
    assert stop.value.code == 2
    assert "error: --num-gpus is 0: want 1 or more" in capsys.readouterr().err


def test_debug_shows_the_traceback(capsys):
    with pytest.raises(SystemExit) as stop:
        densedist("train", "det", "--config-file", "nowhere.yaml", "--debug")
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert error.strip().splitlines()[-1].startswith("error: --config-file: nowhere.yaml")
