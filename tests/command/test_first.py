"""What a command refuses and says before it imports PyTorch, in new processes that have not imported it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from helpers.calling import complaint

DET, SEG = "det/digits/faster_rcnn_r10_quarter.yaml", "seg/digits/pspnet_r10_quarter.yaml"
PROGRAM = """
import contextlib, io, json, os, sys
from densedist.command import main
sys.modules |= dict.fromkeys(["onnxscript", "openvino", "nncf", "transformers", "optuna"])  # as if not installed
for folder, argv in json.load(sys.stdin):
    os.chdir(folder)
    with contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            main(argv)
            code = 0
        except SystemExit as stop:
            code = stop.code
    heavy = {"torch", "detectron2", "segmentation_models_pytorch", "numpy"} & set(sys.modules)
    print(json.dumps([code, said.getvalue(), sorted(heavy)]))
"""


def refusals(calls):
    """The lines that commands end in, (folder, arguments) each, in one process; nothing heavy is imported for them."""
    given = json.dumps([(str(folder), list(map(str, argv))) for folder, argv in calls])
    done = subprocess.run([sys.executable, "-c", PROGRAM], input=given, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(code, heavy) for code, _, heavy in found] == [(2, [])] * len(found)
    lines = [said.splitlines() for _, said, _ in found]
    assert all(len(said) == 1 for said in lines), lines
    return [said[0].removeprefix("error: ") for said in lines]


FOR_TRAINING = "DATASETS.TRAIN", "['a']"
MISTYPED = [
    (
        ["train", "--config-file", "det/digits/faster_rcnn_r10_quater.yaml"],
        "--config-file: det/digits/faster_rcnn_r10_quater.yaml is neither a file, nor a packaged config, nor one "
        f"of Detectron2's model zoo; did you mean {DET}?",
    ),
    (["compare", "COCO-Detection/retinanet_R_50_FPN_1.yaml"], "--config-file: COCO-Detection/retinanet_R_50_"),
    (
        ["train", "--config-file", SEG, "SOLVER.MAXITER", "3"],
        "unknown config key SOLVER.MAXITER in the command line; did you mean SOLVER.MAX_ITER?",
    ),
    (
        ["check", "det", "--config-file", DET, "SOLVER.MAX_ITER", "three"],
        "SOLVER.MAX_ITER is three in the command line: want a whole number",
    ),
    (
        ["train", "det", "--config-file", SEG],
        f"--config-file: {SEG} is for segmentation, not for detection: name one for detection, or leave out the "
        "task, which the config says",
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
    (["train", "--config-file", SEG, "DISTILL.DECAY", "liner"], "DISTILL.DECAY is liner: want auto, none, "),
    (["train", "--config-file", DET, "INPUT.RANDOM_FLIP", "horizontl"], "INPUT.RANDOM_FLIP is horizontl: want none, "),
    (
        ["train", "--config-file", SEG, "DATASETS.UNLABELED", "['photos/pol']"],
        "DATASETS.UNLABELED: there is no folder photos/pol; did you mean photos/pool?",
    ),
    (
        ["check", "--config-file", DET, *FOR_TRAINING, "DATASETS.YOLO_FORMAT", "[['a', 'photos/y.yaml', 'val']]"],
        "DATASETS.YOLO_FORMAT, a: there is no file photos/y.yaml",
    ),
    (
        ["train", "--config-file", SEG, *FOR_TRAINING, "DATASETS.FOLDERS", "[['a', 'photos/pol', 'photos']]"],
        "DATASETS.FOLDERS, a: there is no folder photos/pol; did you mean photos/pool?",
    ),
    (
        ["train", "--config-file", SEG, "DATASETS.ROOT", "photo"],
        "DATASETS.ROOT: there is no folder photo; did you mean ",
    ),
    (["compare", SEG, "--methods", "none,dsit"], "--methods: there is no dsit; want none, "),
    (["compare", SEG, "--methods", "dist@TAU=1,2,kd+mimik"], "--methods: there is no mimik; want none, "),
    (
        ["compare", SEG, "--methods", "none,best"],
        "--methods: best needs --unlabeled: name a folder of images, or data sets",
    ),
    (
        ["compare", SEG, "--methods", "labels@WEIGHT=0.5", "--unlabeled", "photos/pol"],
        "--unlabeled: there is no folder photos/pol; did you mean photos/pool?",
    ),
    (
        ["export", "--weights", "run", "--format", "onnnx"],
        "--format: there is no format onnnx; want any of weights,onnx,",
    ),
    (["export", "--weights", "run", "--image-folder", "photo"], "photo does not exist; did you mean photos?"),
    (
        ["export", "--weights", "run", "--format", "weights,onnx"],
        "--format onnx: the package onnxscript is missing: install it by ",
    ),
    (
        ["export", "--weights", "run", "--format", "openvino", "--int8"],
        "--format openvino: the package openvino is missing",
    ),
    (
        ["tune", SEG, "--methods", "kd", "--budget", "9"],
        "densedist tune: the package optuna is missing: install it by ",
    ),
    (
        ["label", "seg", "--weights", "segformer", "photos"],
        "--weights: segformer is a model of transformers: the package transformers is missing: install it by ",
    ),
    (
        ["train", "--config-file", SEG, "DISTILL.TEACHER.WEIGHTS", "segformer"],
        "DISTILL.TEACHER.WEIGHTS: segformer is a model of transformers: the package transformers is missing: install ",
    ),
    (
        ["predict", "--weights", "run/model.xml", "photos"],
        "--weights: run/model.xml: the package openvino is missing: ",
    ),
    (["label", "--weights", "run"], "nothing to label: name images or folders, or DATASETS.UNLABELED"),
    (["label", "--config-file", SEG], "nothing to label: name images or folders, or DATASETS.UNLABELED"),
    (["train", "--config-file", SEG, "OUTPUT_DIR", "/proc/x"], "OUTPUT_DIR: cannot make /proc/x: "),
    (["predict", "--weights", "run"], "no image is named: give files or folders"),
    (["predict", "--weights", "run", "photo"], "photo does not exist; did you mean photos?"),
    (["visualize", "--weights", "run", "photo"], "photo does not exist; did you mean photos?"),
    (["label", "--weights", "run", "photos/pol"], "photos/pol does not exist; did you mean photos/pool?"),
    (
        ["label", "--weights", "run", "DATASETS.UNLABELED", "['photos/pol']"],
        "DATASETS.UNLABELED: there is no folder photos/pol",
    ),
    (
        ["label", "--weights", "run", "photos", "--output-dir", "run"],
        "--output-dir: run has files: name an empty or new",
    ),
    (["init", "photos", "--output-dir", "run"], "--output-dir: run already exists: name a new folder"),
    (["prepare", "yolo", "photos", "--output-dir", "run"], "--output-dir: run has files: name an empty or new folder"),
    (["import", "det", "run/model_final.pth", "--output-dir", "run"], "--output-dir: run has files: name an empty or "),
    (
        ["predict", "--weights", "run", "photos", "--output-dir", "run"],
        "--output-dir: run has files, but no predictions.json of an earlier predict: name an empty or new folder",
    ),
    (
        ["visualize", "--weights", "run", "--output-dir", "run"],
        "--output-dir: run has files, but no overview.png of an earlier visualize: name an empty or new folder",
    ),
]


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """What is said of each, in a folder with a run and a folder of images."""
    folder = tmp_path_factory.mktemp("mistyped")
    (folder / "photos" / "pool").mkdir(parents=True)
    (folder / "run").mkdir()
    (folder / "run/config.yaml").write_text("MODEL: {ENCODER: {NAME: resnet18}}\n")
    (folder / "run/model_final.pth").touch()
    (folder / "run/model.xml").touch()
    (folder / "segformer").mkdir()
    (folder / "segformer/config.json").write_text('{"model_type": "segformer"}')
    return refusals([(folder, argv) for argv, _ in MISTYPED])


@pytest.mark.parametrize("number", range(len(MISTYPED)), ids=[" ".join(argv)[:60] for argv, _ in MISTYPED])
def test_what_is_mistyped_is_refused_before_anything_heavy_is_imported(number, said):
    assert said[number].startswith(MISTYPED[number][1])


def test_a_run_of_the_other_task(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/config.yaml").write_text("MODEL: {ENCODER: {NAME: resnet18}}\n")
    (tmp_path / "run/model_final.pth").touch()
    config = "run/config.yaml is for segmentation, not for detection: name one for detection"
    evaluated, taught, drawn = (
        ["eval", "det", "--weights", "run"],
        ["train", "--config-file", DET, "DISTILL.TEACHER.WEIGHTS", "run"],
        ["visualize", "--weights", "run", "--teacher", "gone"],
    )
    found = refusals([(tmp_path, argv) for argv in (evaluated, taught, drawn)])
    assert found[0].startswith(f"--weights: {config}")
    assert found[1:] == [f"DISTILL.TEACHER.WEIGHTS: {config}", "--teacher: there is no file gone"]


def test_a_missing_path_of_a_config_is_named_with_both_places(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/student.yaml").write_text(
        "MODEL: {ARCHITECTURE: FPN}\n"
        "DATASETS: {FOLDERS: [[train, photos, masks], [unused, x, y]], TRAIN: ['train[:3]'], TEST: [train]}\n"
    )
    places = f"in {tmp_path}/mine (the config's folder) or in {tmp_path} (the current folder)"
    (said,) = refusals([(tmp_path, ["check", "--config-file", "mine/student.yaml"])])
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
