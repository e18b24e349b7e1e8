"""A loss, a backbone and a detector of one's own: one file that a config names, known to every command, each run in a
process that has never seen it."""

import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from helpers import scenes, tiny
from helpers.calling import complaint
from helpers.processes import command

LOSS = """
from torch import nn
from torch.nn import functional as F

from densedist.common.config import Key
from densedist.common.distill.registry import LOSSES, LossSpec


class HuberLoss(nn.Module):
    def __init__(self, delta):
        super().__init__()
        self.delta = delta

    def forward(self, student, teacher):
        return F.huber_loss(student.float(), teacher.float(), delta=self.delta)


LOSSES["HUBER"] = LossSpec(
    lambda keys, tap, sync: HuberLoss(keys.DELTA),
    tap="features",
    keys={"DELTA": Key(1.0, lambda delta: delta > 0, "a number above 0")},
)
"""
DETECTOR = '''
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, Backbone
from detectron2.modeling.meta_arch import RetinaNet
from torch import nn

from densedist.det import DistillRCNN, DistillRetinaNet, build_timm_fpn_backbone


@BACKBONE_REGISTRY.register()
def build_my_backbone(cfg, input_shape):
    return build_timm_fpn_backbone(cfg, input_shape)


@META_ARCH_REGISTRY.register()
class MyRCNN(DistillRCNN):
    """Only its name is new."""


class OneTower(nn.Module):
    """Classes and boxes from one shared convolution."""

    def __init__(self, channels, anchors, classes):
        super().__init__()
        self.tower = nn.Conv2d(channels, channels, 3, padding=1)
        self.classes = nn.Conv2d(channels, anchors * classes, 1)
        self.boxes = nn.Conv2d(channels, anchors * 4, 1)

    def forward(self, features):
        seen = [self.tower(x).relu() for x in features]
        return [self.classes(x) for x in seen], [self.boxes(x) for x in seen]


@META_ARCH_REGISTRY.register()
class OneTowerNet(RetinaNet):
    @classmethod
    def from_config(cls, cfg):
        student = super().from_config(cfg)
        anchors = student["anchor_generator"].num_anchors[0]
        return student | {"head": OneTower(cfg.MODEL.FPN.OUT_CHANNELS, anchors, cfg.MODEL.RETINANET.NUM_CLASSES)}


@META_ARCH_REGISTRY.register()
class DistillOneTowerNet(DistillRetinaNet, OneTowerNet):
    stock = OneTowerNet
'''
SHORT = ["SOLVER.MAX_ITER", "2", "TEST.EXAMPLES", "1", "REHEARSAL", "False"]
PLAIN = ["TEST.EXAMPLES", "0"]  # no picture


def run(folder, *argv):
    done = command(*argv, cwd=folder)
    assert done.code == 0, done.err
    return done.out


def train_and_see(folder, task, teacher):
    """The log of a short run, whose student is then looked at beside its teacher, each in a new process."""
    test = ["DATASETS.TEST", {"det": "('digits_test',)", "seg": "['test']"}[task]]
    run(folder, "train", task, "--config-file", "mine.yaml", "OUTPUT_DIR", "out", *SHORT, *test, *teacher)
    run(folder, "visualize", "--weights", "out", "--images", 1, *test)
    return (folder / "out" / "log.txt").read_text()


def other_commands(folder):
    """What else one does with a run of a detector."""
    test = ["DATASETS.TEST", "('digits_test',)"]
    run(folder, "eval", "det", "--weights", "out", *test)
    run(folder, "predict", "--weights", "out", "out/examples.png")
    run(folder, "profile", "--weights", "out", "--size", 64, 64)
    run(folder, "export", "--weights", "out", "--images", 1, "--format", "weights", *test)


def test_loss_of_ones_own(tmp_path):
    (tmp_path / "my_loss.py").write_text(LOSS)
    keys = dict(zip(scenes.SMALL[::2], scenes.SMALL[1::2], strict=True))
    lines = [f"_BASE_: {scenes.STUDENT}", "IMPORTS: [my_loss.py]", "DISTILL: {HUBER: {WEIGHT: 1.0, DELTA: 0.5}}"]
    lines += [f"SOLVER: {{IMS_PER_BATCH: {keys['SOLVER.IMS_PER_BATCH']}}}", "MODEL: {DEVICE: cpu}"]
    (tmp_path / "mine.yaml").write_text("\n".join([*lines, "INPUT: {CROP_SIZE: [64, 64]}"]))
    teacher = scenes.save_teacher(tmp_path / "teacher")
    log = train_and_see(tmp_path, "seg", teacher)
    assert re.search(r"task \+ 1\.0·dist\(cls_logits at stride \d+, \d+x\d+\) \+ 1\.0·huber\(features\)", log)
    assert f"imported {tmp_path / 'my_loss.py'}" in log
    methods = ["--methods", "none,huber", "--seeds", 0, "--output-dir", "compared", *PLAIN]
    out = run(tmp_path, "compare", "seg", "out/config.yaml", *methods, "DATASETS.TEST", "['test']")
    assert "| huber " in out
    wrong = command("train", "seg", "--config-file", "mine.yaml", "DISTILL.HUBER.DELTA", "-1.0", cwd=tmp_path)
    assert (wrong.code, wrong.err) == (2, "error: DISTILL.HUBER.DELTA is -1.0: want a number above 0\n")


@pytest.mark.parametrize(
    ("architecture", "student", "teacher"),
    [
        ("MyRCNN", tiny.STUDENT, tiny.TEACHER),
        ("DistillOneTowerNet", tiny.DIGITS / "retinanet_r10_quarter.yaml", tiny.DIGITS / "retinanet_r10t.yaml"),
    ],
)
def test_backbone_and_detector_of_ones_own(tmp_path, architecture, student, teacher):
    """A second one-stage detector, with a head of its own, is this file and nothing else; every command knows it."""
    (tmp_path / "my_detector.py").write_text(DETECTOR)
    own = f"BACKBONE: {{NAME: build_my_backbone}}, META_ARCHITECTURE: {architecture}"
    small = "DEVICE: cpu, FPN: {OUT_CHANNELS: 8}, ROI_BOX_HEAD: {FC_DIM: 16}"
    lines = ["IMPORTS: [my_detector.py]", f"MODEL: {{{own}, {small}}}", "SOLVER: {IMS_PER_BATCH: 2}"]
    (tmp_path / "mine.yaml").write_text("\n".join([f"_BASE_: {student}", *lines]))
    if architecture == "MyRCNN":
        keys = tiny.save_teacher(tmp_path / "teacher", file=teacher)
    else:  # a teacher of one's own kind, too
        (tmp_path / "teacher.yaml").write_text("\n".join([f"_BASE_: {teacher}", *lines]))
        run(tmp_path, "train", "det", "--config-file", "teacher.yaml", "OUTPUT_DIR", "teacher", *SHORT, *PLAIN)
        keys = ["DISTILL.TEACHER.CONFIG_FILE", "teacher/config.yaml"]
        keys += ["DISTILL.TEACHER.WEIGHTS", "teacher/model_final.pth"]
    log = train_and_see(tmp_path, "det", keys)
    assert f"student  {architecture} (" in log
    assert "task + 1.0·dist(cls_logits)" in log
    assert (tmp_path / "output" / "visualize" / "relations.png").is_file()
    if architecture != "MyRCNN":
        other_commands(tmp_path)
        exported = tmp_path / "out" / "export" / "weights" / "config.yaml"
        assert "META_ARCHITECTURE: OneTowerNet\n" in exported.read_text()


@pytest.fixture
def from_elsewhere(tmp_path, monkeypatch):
    """A run that somebody else made, with a trap in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "run"
    scenes.save_teacher(folder, file=scenes.STUDENT)
    shutil.move(folder / "weights.pth", folder / "model_final.pth")
    (folder / "trap.py").write_text(f"open({str(tmp_path / 'sprung')!r}, 'a').write('x')\n")
    config = (folder / "config.yaml").read_text().replace("IMPORTS: []", "IMPORTS: [trap.py]")
    (folder / "config.yaml").write_text(config)
    return folder


def test_code_of_a_run_from_elsewhere_is_not_run_unless_confirmed(from_elsewhere, tmp_path, capsys):
    trap, config = from_elsewhere / "trap.py", from_elsewhere / "config.yaml"
    ask = f"{config} asks to import {trap}, which can run any program; if you trust its origin, give --trust-imports"
    image = tmp_path / "image.png"
    cv2.imwrite(str(image), np.zeros((40, 50, 3), np.uint8))
    for words in (["predict", image], ["visualize"], ["export"], ["profile"], ["eval", "seg"]):
        assert complaint(capsys, *words, "--weights", from_elsewhere) == ask
    student = ["--config-file", scenes.STUDENT, *scenes.SMALL, "OUTPUT_DIR", tmp_path / "out"]
    node = "DISTILL.TEACHER"
    teacher = [f"{node}.CONFIG_FILE", config, f"{node}.WEIGHTS", from_elsewhere / "model_final.pth"]
    assert complaint(capsys, "train", "seg", *student, *teacher) == ask
    assert not (tmp_path / "sprung").exists()
    small = ["--weights", from_elsewhere, "--images", 1, "--format", "weights", "DATASETS.TEST", "['test']"]
    done = command("export", "--trust-imports", *small, cwd=tmp_path)
    assert done.code == 0, done.err
    assert (tmp_path / "sprung").read_text() == "x"  # once


def test_what_the_user_named_once_may_be_asked_for_by_a_run(from_elsewhere, tmp_path, capsys):
    """His own runs need no confirmation."""
    from densedist.common.config import load
    from densedist.seg.config import GRAMMAR

    load(GRAMMAR, "", ["IMPORTS", f"['{from_elsewhere / 'trap.py'}']"])
    assert (tmp_path / "sprung").read_text() == "x"
    load(GRAMMAR, str(from_elsewhere / "config.yaml"), trusted=False)
    assert complaint(capsys, "predict", "--weights", from_elsewhere) == "no image is named: give files or folders"


def test_paths_are_those_of_the_file_that_names_them(tmp_path, monkeypatch):
    from densedist.common.config import load
    from densedist.seg.config import GRAMMAR

    for name in ("base", "deep/run"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / "near.py").write_text("WHERE = 'beside the base'\n")
    (tmp_path / "neighbor_of_near.py").write_text("")
    (tmp_path / "base.yaml").write_text("IMPORTS: [near.py]\n")
    (tmp_path / "deep" / "run.yaml").write_text("_BASE_: ../base.yaml\n")
    monkeypatch.chdir(tmp_path / "deep")
    cfg = load(GRAMMAR, "run.yaml", ["TRUST_IMPORTS", "True"])
    assert [Path(name).samefile(tmp_path / "near.py") for name in cfg.IMPORTS] == [True]


def test_what_a_base_asks_for_is_not_what_the_user_named(from_elsewhere, tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text("_BASE_: run/config.yaml\n")
    assert complaint(capsys, "train", "seg", "--config-file", tmp_path / "mine.yaml") == (
        f"a _BASE_ of {tmp_path}/mine.yaml asks to import {tmp_path}/run/trap.py, which can run any program; if you "
        "trust its origin, give --trust-imports"
    )
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize(
    ("content", "names", "message"),
    [
        ("", "['gone.py']", "the command line: IMPORTS: there is no file {folder}/gone.py"),
        ("", "['no_such_module']", "the command line: IMPORTS: there is no module no_such_module: install it, or give"),
        (
            "",
            "mine.py",
            "IMPORTS is mine.py in the command line: want names of modules or .py files, as ['my_",
        ),
        (
            "import nothing_there",
            "['mine.py']",
            "not import: ModuleNotFoundError: No module named 'nothing_there'",
        ),
        ("1 / 0", "['mine.py']", "mine.py does not import: ZeroDivisionError: division by zero"),
    ],
)
def test_modules_that_do_not_import(tmp_path, monkeypatch, capsys, content, names, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(content)
    argv = ["train", "seg", "--config-file", scenes.STUDENT, "IMPORTS", names]
    assert message.format(folder=tmp_path) in complaint(capsys, *argv)


def test_trust_is_for_the_command_line(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text(f"_BASE_: {scenes.STUDENT}\nTRUST_IMPORTS: true\n")
    message = complaint(capsys, "train", "seg", "--config-file", tmp_path / "c.yaml")
    assert message == f"TRUST_IMPORTS is only for the command line: remove it from {tmp_path}/c.yaml"


def ask(names):
    """What becomes of a config from elsewhere that asks for modules: None, or the refusal."""
    from densedist.common.config.imports import import_all
    from densedist.common.errors import UserError

    try:
        import_all([str(name) for name in names], "their.yaml", False)
    except UserError as error:
        return str(error)
    return None


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "dense-dist" / "imports.txt"


def test_trust_in_one_package_without_an_init_is_none_in_another(tmp_path, monkeypatch, cache):
    """Namespace packages have no file that stands for them."""
    from densedist.common.config.imports import import_all

    for name in ("mine_without_init", "theirs_without_init"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "part.py").write_text(f"open({str(tmp_path / name)!r} + '.ran', 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    import_all(["mine_without_init.part"], "the command line", True)
    assert ask(["mine_without_init.part"]) is None
    assert ask(["theirs_without_init.part"]) == (
        "their.yaml asks to import theirs_without_init.part, which can run any program; if you trust its origin, give "
        "--trust-imports"
    )
    assert not (tmp_path / "theirs_without_init.ran").exists()
    assert "None" not in cache.read_text()


@pytest.mark.parametrize("package", [True, False])
def test_trust_is_in_what_a_file_holds(tmp_path, monkeypatch, cache, package):
    """Also where it lies within a package, whose own file stays the same."""
    from densedist.common.config.imports import import_all

    folder = tmp_path / f"trusted_{package}"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "part.py").write_text("x = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    name = f"{folder.name}.part" if package else folder / "part.py"
    import_all([str(name)], "the command line", True)
    assert ask([name]) is None
    (folder / "part.py").write_text("x = 2\n")
    assert ask([name]) == (
        f"their.yaml asks to import {name}, which has changed since you trusted it and can run any program; if you "
        "trust its origin, give --trust-imports"
    )


def test_trust_in_a_file_is_none_in_its_copy(tmp_path, cache):
    """Other files lie beside the copy, which it would import."""
    from densedist.common.config.imports import import_all

    (tmp_path / "named_once.py").write_text("x = 1\n")
    import_all([str(tmp_path / "named_once.py")], "the command line", True)
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(tmp_path / "named_once.py", tmp_path / "elsewhere")
    assert "can run any program" in ask([tmp_path / "elsewhere" / "named_once.py"])


def test_what_was_written_down_by_its_path_alone_is_asked_for_again(tmp_path, cache):
    (tmp_path / "old.py").write_text("x = 1\n")
    cache.parent.mkdir(parents=True)
    cache.write_text(f"None\n{tmp_path / 'old.py'}\n")
    assert "can run any program" in ask([tmp_path / "old.py"])
