"""train_seg and eval_seg from arguments to files: outputs, resume, stock loading, several processes, mistakes."""

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
import segmentation_models_pytorch as smp
import torch

from densedist.common.data import digits
from densedist.common.engine.solver import build_schedule
from densedist.common.engine.train import evaluate
from densedist.seg.models import build_segmenter, load_config
from densedist.seg.task import TASK
from densedist.tasks import task_of
from helpers.calling import densedist
from helpers.processes import command
from helpers.scenes import CONFIGS, SMALL, STUDENT, TEACHER, batch, config, save_teacher, write_tree
from helpers.tasks import with_methods

SHORT = [*SMALL, "SOLVER.MAX_ITER", "4", "SOLVER.CHECKPOINT_PERIOD", "2", "DATASETS.TEST", "['test']"]

# The student's arguments in SMP's own words.
STOCK = {"encoder_name": "tu-resnet18", "encoder_depth": 4, "output_stride": 8, "classes": 11, "psp_out_channels": 64}
STOCK |= {"layers": [1, 1, 1, 1], "channels": [16, 32, 64, 128], "stem_type": "deep", "stem_width": 8}


def train(output, *overrides, file=STUDENT, options=()):
    argv = ["--config-file", str(file), *options, "OUTPUT_DIR", str(output), *SHORT, *map(str, overrides)]
    densedist("train", "seg", *argv)
    return Path(output)


def results(folder):
    return json.loads((Path(folder) / "results.json").read_text())["sem_seg"]


@pytest.fixture(scope="module")
def teacher_keys(tmp_path_factory):
    return save_teacher(tmp_path_factory.mktemp("teacher"), "MODEL.AUX_HEAD.ENABLED", "True")


@pytest.fixture(scope="module")
def distilled(tmp_path_factory, teacher_keys):
    output = tmp_path_factory.mktemp("distilled")
    return train(output, *teacher_keys, "MODEL.AUX_HEAD.ENABLED", "True", "TEST.SAVE_LABEL_IDS", "True")


def test_files_in_the_output_folder(distilled):
    names = {"config.yaml", "metrics.json", "log.txt", "model_final.pth", "last_checkpoint", "results.json"}
    assert names <= {file.name for file in distilled.iterdir()}
    background = {"mIoU", "mACC", "pACC", "IoU-background"}
    assert set(results(distilled)) == background | {f"IoU-{name}" for name in digits.CLASSES}
    lines = [json.loads(line) for line in (distilled / "metrics.json").read_text().splitlines()]
    assert any({"loss_ce", "loss_ce_aux", "loss_dist", "loss_dist_aux_logits"} <= set(line) for line in lines)
    assert len(list((distilled / "inference" / "labelIds").iterdir())) == digits.SCENES["test"]
    assert (distilled / "inference" / "confusion.png").exists()


def test_plan_is_logged_before_the_first_iteration(distilled):
    log = (distilled / "log.txt").read_text()
    plan = log.index("loss     = task + 1.0·dist(cls_logits at stride 8, 8x8) + 0.4·dist_aux_logits(aux_logits")
    assert plan < log.index("Starting training")
    assert log.index("same 11 classes in the same order") < log.index("Starting training")


def test_distilled_student_loads_in_stock_smp(distilled):
    """In a process that knows nothing of this suite, which then predicts what we saved as predictions."""
    scene = sorted((digits.root() / "leftImg8bit" / "test" / "digits").iterdir())[0]
    loading = f"""
import cv2, torch
import segmentation_models_pytorch as smp
model = smp.PSPNet(encoder_weights=None, **{STOCK})
saved = torch.load({str(distilled / "model_final.pth")!r}, weights_only=True)["model"]
print(model.load_state_dict(saved, strict=False))
image = torch.from_numpy(cv2.imread({str(scene)!r})[..., ::-1].copy()).permute(2, 0, 1)
prediction = model.predict(((image.float() - 128) / 64)[None]).argmax(1)[0]
cv2.imwrite("prediction.png", prediction.byte().numpy())
"""
    done = subprocess.run([sys.executable, "-c", loading], capture_output=True, text=True, check=True, cwd=distilled)
    assert done.stdout.strip() == "<All keys matched successfully>"
    stock = cv2.imread(str(distilled / "prediction.png"), cv2.IMREAD_UNCHANGED)
    name = scene.name.replace("_leftImg8bit", "_pred_labelIds")
    ours = cv2.imread(str(distilled / "inference" / "labelIds" / name), cv2.IMREAD_UNCHANGED)
    assert (stock != ours).mean() < 1e-3  # labelId = trainId here; ties may fall either way


def test_checkpoint_keeps_the_auxiliary_head_apart(distilled):
    saved = torch.load(distilled / "model_final.pth", weights_only=True)
    assert "aux_head" in saved
    assert not any("aux" in name or "teacher" in name for name in saved["model"])


def test_resume_goes_on_with_iteration_and_schedule(tmp_path, teacher_keys):
    keys = [*teacher_keys, "MODEL.AUX_HEAD.ENABLED", "True", "SOLVER.WARMUP_ITERS", "0", "SOLVER.BASE_LR_END", "0.001"]
    output = train(tmp_path, *keys)
    before = torch.load(output / "model_final.pth", weights_only=True)
    (output / "last_checkpoint").write_text("model_0000001.pth")
    train(tmp_path, *keys, options=["--resume"])
    assert "Starting training from iteration 2" in (output / "log.txt").read_text()
    after = torch.load(output / "model_final.pth", weights_only=True)
    assert after["iteration"] == before["iteration"] == 3
    rates = [x["trainer"]["optimizer"]["param_groups"][0]["lr"] for x in (before, after)]
    # After 4 of 4 iterations the polynomial has come down to its floor.
    assert rates == pytest.approx([0.001, 0.001])


def test_learning_rate_follows_the_protocol():
    """lr = floor + (base - floor)·(1 - it/max)^0.9, without warm-up."""
    keys = ["SOLVER.WARMUP_ITERS", "0", "SOLVER.BASE_LR", "0.02", "SOLVER.BASE_LR_END", "0.0001"]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.02)
    schedule = build_schedule(config(STUDENT, *keys, "SOLVER.MAX_ITER", "40"), optimizer)
    for iteration in range(40):
        wanted = 1e-4 + (0.02 - 1e-4) * (1 - iteration / 40) ** 0.9
        assert optimizer.param_groups[0]["lr"] == pytest.approx(wanted)
        optimizer.step()
        schedule.step()


def test_best_checkpoint_is_kept_across_a_resume(tmp_path, monkeypatch):
    scores = iter([30.0, 10.0, 20.0, 25.0])
    fake = with_methods(TASK, evaluate=lambda cfg, model: {"sem_seg": {"mIoU": next(scores)}})
    monkeypatch.setattr("densedist.seg.task.TASK", fake)
    keys = ["TEST.EVAL_PERIOD", "2", "SOLVER.CHECKPOINT_PERIOD", "1"]

    def best():
        saved = torch.load(tmp_path / "model_best.pth", weights_only=True)
        return saved["metric"], saved["iteration"]

    train(tmp_path, *keys)
    assert best() == ({"sem_seg/mIoU": 30.0}, 1)
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    (tmp_path / "last_checkpoint").write_text("model_0000002.pth")
    train(tmp_path, *keys, "SOLVER.MAX_ITER", "6", options=["--resume"])
    assert best() == ({"sem_seg/mIoU": 30.0}, 1)
    assert next(scores, None) is None


def test_evaluation_gives_the_results_of_the_training_whatever_the_tool(distilled, tmp_path):
    weights = str(distilled / "model_final.pth")
    train(tmp_path / "a", "MODEL.WEIGHTS", weights, "MODEL.AUX_HEAD.ENABLED", "True", options=["--eval-only"])
    cfg = load_config(str(STUDENT), [*SHORT, "OUTPUT_DIR", str(tmp_path / "b")])
    evaluate(cfg, TASK, weights, "--weights")
    assert results(tmp_path / "a") == results(tmp_path / "b") == results(distilled)


def test_folder_of_smp_is_evaluated_like_a_checkpoint(distilled, tmp_path):
    cfg = load_config(str(STUDENT), [*SHORT, "OUTPUT_DIR", str(tmp_path / "out")])
    model = smp.PSPNet(encoder_weights=None, **STOCK)
    model.load_state_dict(torch.load(distilled / "model_final.pth", weights_only=True)["model"])
    model.save_pretrained(tmp_path / "smp")
    evaluate(cfg, TASK, str(tmp_path / "smp"), "--weights")
    assert results(tmp_path / "out") == pytest.approx(results(distilled), nan_ok=True, abs=1e-2)
    # Training starts from it, too.
    keys = ["MODEL.WEIGHTS", tmp_path / "smp", "SOLVER.BASE_LR", "1e-12", "DATASETS.TEST", "[]", "SOLVER.MAX_ITER", "1"]
    started = torch.load(train(tmp_path / "on", *keys) / "model_final.pth", weights_only=True)["model"]
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(started[name], parameter.detach(), rtol=0, atol=1e-6)


def test_same_seed_same_weights(distilled, tmp_path, teacher_keys):
    again = torch.load(
        train(tmp_path, *teacher_keys, "MODEL.AUX_HEAD.ENABLED", "True") / "model_final.pth", weights_only=True
    )["model"]
    for name, value in torch.load(distilled / "model_final.pth", weights_only=True)["model"].items():
        assert torch.equal(value, again[name]), name


def test_other_data_in_this_form_is_a_config(tmp_path):
    tree = write_tree(tmp_path / "town", size=(96, 120), ids=(7, 8, 0))
    write_tree(tree, "test", size=(70, 90), labels=False)
    base = CONFIGS / "digits" / "base.yaml"
    (tmp_path / "c.yaml").write_text(
        f"_BASE_: {base}\nMODEL: {{CLASS_WEIGHTS: []}}\nDATASETS:\n  ROOT: {tree}\n  IGNORED_IDS: [0]\n  CLASSES:\n"
        "    - {name: road, ids: [7], color: [1, 2, 3]}\n    - {name: rest, ids: [8], color: [4, 5, 6]}\n"
    )
    train(tmp_path / "a", "DATASETS.TEST", "['train']", "MODEL.ENCODER.NAME", "resnet18", file=tmp_path / "c.yaml")
    assert set(results(tmp_path / "a")) == {"mIoU", "mACC", "pACC", "IoU-road", "IoU-rest"}
    # The test split has no labels: predictions are all that there is.
    keys = ["MODEL.WEIGHTS", tmp_path / "a" / "model_final.pth", "MODEL.ENCODER.NAME", "resnet18"]
    train(tmp_path / "b", *keys, "TEST.SAVE_LABEL_IDS", "True", file=tmp_path / "c.yaml", options=["--eval-only"])
    assert json.loads((tmp_path / "b" / "results.json").read_text()) == {}
    written = sorted((tmp_path / "b" / "inference" / "labelIds").iterdir())
    assert [file.name for file in written] == [f"town_000000_00000{i}_pred_labelIds.png" for i in range(2)]
    prediction = cv2.imread(str(written[0]), cv2.IMREAD_UNCHANGED)
    assert prediction.shape == (70, 90)
    assert set(prediction.flat) <= {7, 8}


def test_shipped_configs_build_and_find_their_base(tmp_path):
    files = [file for file in CONFIGS.rglob("*.yaml") if file.parent.name != "data" and file.name != "base.yaml"]
    assert len(files) >= 7
    for file in files:
        cfg = load_config(str(file), [])
        assert cfg.SOLVER.LR_SCHEDULER_NAME == "WarmupPolyLR", file
        teacher = cfg.DISTILL.TEACHER.CONFIG_FILE
        assert not teacher or task_of(teacher).name == "seg"


@pytest.mark.parametrize(("name", "classes", "ignored"), [("voc", 21, 255), ("ade20k", 150, 0)])
def test_other_data_has_the_recipe_of_cityscapes(name, classes, ignored):
    """All but the data, the crop and how often it is evaluated."""
    for file in sorted((CONFIGS / name).glob("*_*.yaml")):
        cfg, model = (load_config(str(folder / file.name), []) for folder in (file.parent, CONFIGS / "cityscapes"))
        assert (len(cfg.DATASETS.CLASSES), cfg.DATASETS.IGNORED_IDS) == (classes, [ignored])
        assert cfg.INPUT.CROP_SIZE == [512, 512]
        assert (cfg.SOLVER, cfg.MODEL, cfg.DATASETS.ROOT) == (model.SOLVER, model.MODEL, "")
        assert f"seg/{name}/" in cfg.OUTPUT_DIR
        assert ("_dist" in file.name) == (f"seg/{name}/" in cfg.DISTILL.TEACHER.WEIGHTS)


@pytest.mark.usefixtures("quick_weights")
def test_shipped_configs_give_their_losses():
    """On a small input, with random weights, without their teacher."""
    for file in sorted((CONFIGS / "cityscapes").glob("*.yaml")):
        cfg = load_config(str(file), [*SMALL, "MODEL.ENCODER.WEIGHTS", ""])
        plain = cfg.clone()
        plain.defrost()
        plain.DISTILL.TEACHER.CONFIG_FILE = plain.DISTILL.TEACHER.WEIGHTS = ""
        with torch.no_grad():
            losses = build_segmenter(plain).train()(batch(2, size=(64, 128), classes=19))
        assert set(losses) == {"loss_ce", "loss_ce_aux"}
        assert all(loss.isfinite() for loss in losses.values()), file


def test_two_processes_train_with_synchronized_batch_norm_and_count_each_image_once(tmp_path, teacher_keys):
    overrides = [*SHORT, "SOLVER.MAX_ITER", "2", *teacher_keys, "OUTPUT_DIR", str(tmp_path), "SOLVER.EMA_DECAY", "0.5"]
    done = command("train", "seg", "--config-file", STUDENT, "--num-gpus", "2", *overrides, "REHEARSAL", "True")
    assert done.code == 0, done.err
    assert "2 processes" in (tmp_path / "log.txt").read_text()
    for log in ("log.txt", "log.txt.rank1"):
        assert "rehearsed a step" in (tmp_path / log).read_text()
    alone = load_config(str(STUDENT), [*SHORT, "OUTPUT_DIR", str(tmp_path / "one")])
    evaluate(alone, TASK, str(tmp_path / "model_final.pth"), "--weights")
    assert results(tmp_path / "one") == results(tmp_path)


def test_unknown_label_found_by_a_worker_is_one_line_too(tmp_path):
    """A data loader's worker would otherwise send its traceback."""
    tree = write_tree(tmp_path / "town", size=(96, 120), ids=(1, 99))
    keys = ["DATASETS.ROOT", tree, "DATASETS.TEST", "['train']", "OUTPUT_DIR", tmp_path / "out", *SMALL]
    keys += ["DATALOADER.CHECK_FILES", "False", "DATALOADER.NUM_WORKERS", "1"]
    done = command("train", "seg", "--config-file", STUDENT, *keys)
    assert done.code == 2
    last = done.err.strip().splitlines()[-1]
    assert last.startswith(f"error: {tree}/gtFine/train/town/town_000000_00000")
    assert "holds labelIds [99], which the config does not name" in last
    assert "Traceback" not in done.err


@pytest.fixture
def message(tmp_path, capsys):
    """Runs train_seg with the given arguments and returns its one line on standard error."""

    def call(*overrides, file=STUDENT):
        with pytest.raises(SystemExit) as stop:
            train(tmp_path / "out", *overrides, file=file)
        assert stop.value.code == 2
        lines = capsys.readouterr().err.strip().splitlines()
        assert not any("Traceback" in line for line in lines)
        assert not (tmp_path / "out" / "metrics.json").exists()
        return lines[-1].removeprefix("error: ")

    return call


@pytest.mark.parametrize(
    ("overrides", "wanted"),
    [
        (["MODEL.ENCODER.DEPHT", "3"], "unknown config key MODEL.ENCODER.DEPHT in the command line; did you mean"),
        (["SOLVER.BASE_LR", "fast"], "SOLVER.BASE_LR"),
        (["INPUT.FORMAT", "L"], "INPUT.FORMAT is L: want RGB or BGR"),
        (["DATASETS.ROOT", "gone"], "DATASETS.ROOT: there is no folder gone"),
        (["DATASETS.ROOT", "/"], "DATASETS.TRAIN: there is no folder /leftImg8bit/train; want leftImg8bit/"),
        (["DATASETS.TEST", "['tset']"], "DATASETS.TEST: there is no folder"),
        (
            ["SOLVER.LR_SCHEDULER_NAME", "Poly"],
            "SOLVER.LR_SCHEDULER_NAME is Poly: want WarmupPolyLR, WarmupMultiStepLR",
        ),
        (["SOLVER.BASE_LR_END", "1.0"], "SOLVER.BASE_LR_END is 1.0: want 0 to SOLVER.BASE_LR"),
        (["SOLVER.OPTIMIZER", "Adagrad"], "want SGD or AdamW"),
        (["DISTILL.TEACHER.CONFIG_FILE", str(TEACHER)], "DISTILL.TEACHER.WEIGHTS is empty"),
        (
            ["DISTILL.TEACHER.WEIGHTS", str(TEACHER), "DISTILL.KD.TAU", "0.0"],
            "DISTILL.KD.TAU is 0.0: want a temperature",
        ),
        (["INPUT.SCALES", "[]"], "INPUT.SCALES is []: want numbers above 0"),
        (["TEST.SCALES", "[]"], "TEST.SCALES is []: want numbers above 0"),
    ],
)
def test_mistakes_end_in_one_line_before_training(message, overrides, wanted):
    assert wanted in message(*overrides)


def test_missing_config(message):
    assert "--config-file is missing" in message(file="")
    assert "is neither a file, nor a packaged config" in message(file="gone.yaml")


def test_evaluation_without_weights(capsys):
    with pytest.raises(SystemExit):
        densedist("train", "seg", "--config-file", str(STUDENT), "--eval-only", *SMALL)
    assert "error: MODEL.WEIGHTS is empty: give the trained model's weights" in capsys.readouterr().err
