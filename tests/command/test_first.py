"""What a command refuses and says before it imports PyTorch, in new processes that have not imported it."""

import subprocess
import sys
from pathlib import Path

import pytest

from helpers.calling import complaint

DET, SEG = "det/digits/faster_rcnn_r10_quarter.yaml", "seg/digits/pspnet_r10_quarter.yaml"
PROGRAM = """
import sys
from densedist.command import main
try:
    main(sys.argv[1:])
finally:
    print("heavy:", *sorted({"torch", "detectron2", "segmentation_models_pytorch", "numpy"} & set(sys.modules)))
"""


def refusal(*argv, cwd=None):
    """The line that a command ends in; it has imported nothing heavy."""
    command = [sys.executable, "-c", PROGRAM, *map(str, argv)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd)
    assert (done.returncode, done.stdout) == (2, "heavy:\n")
    (line,) = done.stderr.splitlines()
    return line.removeprefix("error: ")


@pytest.mark.parametrize(
    ("argv", "wanted"),
    [
        (
            ["train", "--config-file", "det/digits/faster_rcnn_r10_quater.yaml"],
            "--config-file: det/digits/faster_rcnn_r10_quater.yaml is neither a file, nor a packaged config, nor one "
            f"of Detectron2's model zoo; did you mean {DET} or ",
        ),
        (["compare", "COCO-Detection/retinanet_R_50_FPN_1.yaml"], "--config-file: COCO-Detection/retinanet_R_50_"),
        (
            ["train", "--config-file", SEG, "SOLVER.MAXITER", "3"],
            "unknown config key SOLVER.MAXITER in the command line; did you mean SOLVER.MAX_ITER or ",
        ),
        (
            ["check", "det", "--config-file", DET, "SOLVER.MAX_ITER", "three"],
            "SOLVER.MAX_ITER is three in the command line: want a whole number",
        ),
        (
            ["train", "det", "--config-file", SEG],
            f"--config-file: {SEG} is for segmentation, not for detection: name one for detection, or leave the task "
            "out, as the config says it",
        ),
        (["tune", "seg", DET, "--methods", "kd", "--budget", "9"], f"--config-file: {DET} is for detection, not for "),
        (
            ["train", "--config-file", DET, "DISTILL.TEACHER.WEIGHTS", "output/nowhere"],
            "DISTILL.TEACHER.WEIGHTS: there is no file or folder output/nowhere",
        ),
        (
            ["train", "--config-file", SEG, "DISTILL.TEACHER.CONFIG_FILE", DET, "DISTILL.TEACHER.WEIGHTS", "x.pth"],
            f"DISTILL.TEACHER.CONFIG_FILE: {DET} is for detection, not for segmentation: name one for segmentation",
        ),
        (["eval", "--weights", "output/nowhere"], "--weights: there is no file output/nowhere"),
        (["predict", "--weights", "output/nowhere", "a.png"], "--weights: there is no file output/nowhere"),
        (["label", "seg", "--weights", "gone.pth"], "--weights: there is no file gone.pth"),
        (["train"], "--config-file is missing: name a config, e.g. "),
        (["import", "a.pth"], "the task is missing: give det or seg"),
    ],
)
def test_what_is_mistyped_is_refused_before_anything_heavy_is_imported(argv, wanted, tmp_path):
    assert refusal(*argv, cwd=tmp_path).startswith(wanted)


def test_a_run_of_the_other_task(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("MODEL: {ENCODER: {NAME: resnet18}}\n")
    (tmp_path / "run/model_final.pth").touch()
    config = "run/config.yaml is for segmentation, not for detection: name one for detection"
    assert refusal("eval", "det", "--weights", "run", cwd=tmp_path).startswith(f"--weights: {config}")
    teacher = ["DISTILL.TEACHER.WEIGHTS", "run"]
    assert refusal("train", "--config-file", DET, *teacher, cwd=tmp_path) == f"DISTILL.TEACHER.WEIGHTS: {config}"
    assert refusal("visualize", "--weights", "run", "--teacher", "gone", cwd=tmp_path) == (
        "--teacher: there is no file gone"
    )


def test_a_missing_path_of_a_config_is_named_with_both_places(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/student.yaml").write_text(
        "MODEL: {ARCHITECTURE: FPN}\n"
        "DATASETS: {FOLDERS: [[train, photos, masks], [unused, x, y]], TRAIN: ['train[:3]'], TEST: [train]}\n"
    )
    places = f"in {tmp_path}/mine (the config's folder) or in {tmp_path} (the current folder)"
    said = refusal("check", "--config-file", "mine/student.yaml", cwd=tmp_path)
    assert said == f"DATASETS.FOLDERS, train: there is no folder photos {places}"


def test_the_work_is_said_before_the_import_of_pytorch(tmp_path):
    program = "import sys, densedist.command as c; c.COMMANDS['check'] = (c.COMMANDS['check'][0], lambda args: "
    program += "print(args.task, args.config_file, args.overrides)); c.main(sys.argv[1:])"
    argv = [sys.executable, "-c", program, "check", "--config-file", DET, "SEED", "3"]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout == f"det {DET} ['SEED', '3']\n"
    assert done.stderr == f"densedist check: {DET}, detection; loading PyTorch …\n"


def test_other_ranks_are_silent(tmp_path):
    argv = [sys.executable, "-m", "densedist", "train"]
    ranks = {"TORCHELASTIC_RUN_ID": "1", "RANK": "1", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path, env=ranks)
    assert (done.returncode, done.stderr) == (2, "")


def test_words_that_are_no_keys(capsys):
    assert complaint(capsys, "train", "mine.yaml") == "mine.yaml needs an option: give --config-file mine.yaml"
    assert complaint(capsys, "train", "pose") == "argument task: invalid choice: 'pose' (choose from det, seg)"
    assert complaint(capsys, "train", "--config-file", SEG, "seg.key", "3").startswith("unknown config key seg.key in")
