"""The page that a run leaves, report.html, and curves.png."""

import html
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from matplotlib.patches import Patch

from densedist.common.report.panels import Gallery, Panel
from densedist.common.report.run import Facts, write_report
from helpers.calling import accepted
from helpers.reading import shown

drawn = pytest.mark.drawn(curves=True)
METRIC = "sem_seg/mIoU"
TAUGHT = Facts("teacher  <none>", METRIC, "torch 2, CPU", parameters=1_000_000, of_teacher=5_000_000, model="PSPNet")
ALONE = Facts("plan", METRIC, "torch 2, CPU", parameters=1_000_000, model="UNet")


def write_run(folder, scores, *config, **numbers):
    folder.mkdir()
    numbers = {"lr": 0.1, "total_loss": 3.0, "loss_ce": 1.0, "loss_dist": 2.0, **numbers}
    lines = [{"iteration": i, "train_seconds": 0.05 * (i + 1), **numbers} for i in (199, 399)]
    lines.append(
        {"iteration": 400, **{f"sem_seg/{name}": float("nan") if v is None else v for name, v in scores.items()}}
    )
    (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "results.json").write_text(json.dumps({"sem_seg": scores} if scores else {}))
    head = ["TASK: seg", "SEED: 7", "DATASETS: {TRAIN: [train], TEST: [val], ROOT: digits}"]
    (folder / "config.yaml").write_text("\n".join([*head, *config]) + "\n")
    return folder


@pytest.fixture
def teacher(tmp_path):
    scores = {"mIoU": 70.04, "pACC": 90.0, "IoU-car": 80.0, "IoU-sky": 60.0}
    folder = write_run(tmp_path / "teacher", scores)
    for name in ("model_final", "model_best", "model_0000019"):
        (folder / f"{name}.pth").touch()
    return folder


@pytest.fixture
def student(tmp_path, teacher):
    scores = {"mIoU": 61.25, "pACC": 91.0, "IoU-sky": 42.5, "IoU-car": 80.04, "IoU-<bus>": None}
    own = f"DISTILL: {{TEACHER: {{WEIGHTS: {teacher}/model_final.pth}}}}"
    return write_run(tmp_path / "student", scores, own, "OUTPUT_DIR: a<b")


def page_of(folder, facts, gallery=None):
    write_report(folder, facts, gallery)
    return (folder / "report.html").read_text()


def test_student_beside_its_teacher(student, teacher):
    page = shown(page_of(student, TAUGHT))
    assert "The student reaches mIoU 61.2, 8.8 points below its teacher's 70.0, with 20 % of the teacher's" in page
    assert 'The teacher\'s scores are from results.json of its run "teacher".' in page
    assert "| mIoU | 70.0 | 61.2 | -8.8 |" in page
    assert "| pACC | 90.0 | 91.0 | +1.0 |" in page
    assert page.index("| car | 80.0 | 80.0 | +0.0 |") < page.index("| sky | 60.0 | 42.5 | -17.5 |")
    assert page.index("| sky |") < page.index("| <bus> | - | - |")
    assert "| teacher, its own training | 5.00 M | 400 | 20 s | 0.05 |" in page
    assert "| student | 1.00 M | 400 | 20 s | 0.05 |" in page


def test_numbers_are_those_of_the_results(student):
    page = shown(page_of(student, TAUGHT))
    for name, value in json.loads((student / "results.json").read_text())["sem_seg"].items():
        (row,) = re.findall(rf"\| {re.escape(name.removeprefix('IoU-'))} \|.*", page)
        assert row.split(" | ")[2] == ("-" if value is None else f"{value:.1f}")


def test_model_without_a_teacher_is_no_student(student):
    page = shown(page_of(student, ALONE))
    assert "The model reaches mIoU 61.2." in page
    assert "teacher" not in page.partition("All keys")[0]
    assert "student" not in page.partition("Scores")[2].partition("All keys")[0]
    assert "| car | 80.0 |" in page


@pytest.mark.parametrize("change", ["few iterations", "warm-up"])
def test_a_run_that_is_too_short_is_not_judged(student, change):
    if change == "few iterations":
        file = student / "metrics.json"
        file.write_text(file.read_text().replace("399", "49").replace("199", "19").replace("400", "50"))
    else:
        with (student / "config.yaml").open("a") as file:
            file.write("SOLVER: {WARMUP_ITERS: 400}\n")
    page = shown(page_of(student, TAUGHT))
    said = "The run ended within its warm-up of 400 iterations, so the learning rate stayed low and it learned little."
    assert (said in page) == (change == "warm-up")
    iterations = 50 if change == "few iterations" else 400
    assert f"The student reaches mIoU 61.2 after {iterations} iterations: the run is too short to judge it." in page
    assert "points below" not in page


def test_the_heading_says_what_was_done_on_which_data(student):
    page = page_of(student, TAUGHT)
    assert "<title>Segmentation: PSPNet, distilled from teacher on train</title>" in page
    assert "<h1>Segmentation: PSPNet, distilled from teacher on train</h1>" in page
    assert "Run student: 400 iterations" in page
    config = student / "config.yaml"
    own = "DISTILL: {DIST: {WEIGHT: 1.0}, KD: {WEIGHT: 0}, MIMIC: {WEIGHT: 2}, "
    more = "UNLABELED: [../data/pool/], TEST:"
    config.write_text(config.read_text().replace("DISTILL: {", own).replace("TEST:", more))
    taught, alone = page_of(student, TAUGHT), page_of(student, ALONE)
    end = "on train, and on pool without labels</h1>"
    assert f"<h1>Segmentation: PSPNet, distilled by DIST and MIMIC from teacher {end}" in taught
    assert f"<h1>Segmentation: UNet, trained {end}" in alone


@pytest.mark.parametrize(
    ("weights", "name"),
    [
        ("average", "its own average"),
        ("output/big", "big"),
        ("output/big/model_best.pth", "big"),
        ("big.pth", "big.pth"),
        ("nvidia/segformer-b0, MORE: [{WEIGHTS: a}]", "segformer-b0 and others"),
        ("''", "a teacher"),
    ],
)
def test_the_heading_names_the_teacher(student, weights, name):
    config = student / "config.yaml"
    config.write_text(re.sub(r"WEIGHTS: [^}]*", lambda _: f"WEIGHTS: {weights}", config.read_text(), count=1))
    assert f"<h1>Segmentation: PSPNet, distilled from {name} on train</h1>" in page_of(student, TAUGHT)


def test_the_sizes_of_objects_are_explained_where_their_scores_stand(tmp_path):
    run = write_run(tmp_path / "run", {"mIoU": 1.0})
    assert "APs" not in shown(page_of(run, ALONE))
    (run / "results.json").write_text('{"bbox": {"AP": 9.0, "APs": 1.0, "APm": 2.0, "APl": 3.0}}')
    said = "APs, APm and APl are the AP of small, medium and large objects: their area is below 32x32 pixels, up to"
    page = shown(page_of(run, ALONE))
    assert page.index("| box APl | 3.0 |") < page.index(said) < page.index("Cost")


def test_run_without_test_data(tmp_path):
    page = shown(page_of(write_run(tmp_path / "run", {}), TAUGHT))
    assert "Nothing was evaluated: DATASETS.TEST is empty, or has no labels." in page
    assert "Scores, in percent" not in page
    assert "Class by class" not in page


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("other data", 'its run "teacher" was evaluated on other data (DATASETS.TEST)'),
        ("other classes", 'its run "teacher" was evaluated on other data (DATASETS.CLASSES)'),
        ("gone", "there is no run next to its weights"),
        ("on the way", 'its run "teacher" has no score of model_0000019.pth'),
    ],
)
def test_why_the_score_of_a_teacher_is_not_known(student, teacher, change, why):
    config = teacher / "config.yaml"
    if change == "other data":
        config.write_text(config.read_text().replace("[val]", "[test]"))
    elif change == "other classes":
        config.write_text(config.read_text().replace("ROOT:", "CLASSES: [{name: sky}], ROOT:"))
    elif change == "gone":
        config.unlink()
    else:
        own = student / "config.yaml"
        own.write_text(own.read_text().replace("model_final", "model_0000019"))
    page = shown(page_of(student, TAUGHT))
    assert "reaches mIoU 61.2. Its teacher's score on this data is not known." in page
    assert f"The teacher's scores are not known: {why}." in page
    assert "| mIoU | not known | 61.2 |" in page


def test_best_checkpoint_of_a_teacher(student, teacher):
    lines = (teacher / "metrics.json").read_text().splitlines()
    best = json.dumps({"iteration": 19, "sem_seg/mIoU": 72.0, "sem_seg/IoU-car": 81.0})
    (teacher / "metrics.json").write_text("\n".join([lines[0], best, *lines[1:]]) + "\n")
    own = student / "config.yaml"
    own.write_text(own.read_text().replace("model_final", "model_best"))
    page = shown(page_of(student, TAUGHT))
    assert 'from metrics.json of its run "teacher"' in page
    assert "| mIoU | 72.0 | 61.2 | -10.8 |" in page
    assert "| car | 81.0 | 80.0 | -1.0 |" in page


def test_first_of_several_teachers(student):
    own = student / "config.yaml"
    own.write_text(own.read_text().replace("model_final.pth", "model_final.pth, MORE: [{WEIGHTS: a}, {WEIGHTS: b}]"))
    page = shown(page_of(student, TAUGHT))
    assert 'The teacher\'s scores are from results.json of its run "teacher", the first of 3 teachers.' in page


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        (
            "config.yaml",
            "A: !!python/object/apply:eval ['1']",
            'not known: config.yaml of its run "teacher" cannot be read',
        ),
        ("results.json", "{", 'from metrics.json of its run "teacher"'),
    ],
)
def test_damaged_files_of_a_teacher_do_not_end_a_run(student, teacher, name, text, words):
    (teacher / name).write_text(text)
    assert words in shown(page_of(student, TAUGHT))


def test_results_of_a_later_evaluation_are_not_the_teachers_at_its_end(student, teacher):
    (teacher / "results.json").write_text(json.dumps({"sem_seg": {"mIoU": 1.0}}))
    page = shown(page_of(student, TAUGHT))
    assert 'from metrics.json of its run "teacher"' in page
    assert "| mIoU | 70.0 | 61.2 | -8.8 |" in page


@drawn
def test_page_needs_nothing_else(student):
    panels = [Panel(np.full((4, 6, 3), 9, np.uint8), name, "9.0 % wrong") for name in ("teacher", "student")]
    legend = [Patch(facecolor="#123456", label="c<r")]
    page = page_of(student, TAUGHT, Gallery(["one"], [panels], legend, "full colors: wrong"))
    assert page.count('src="data:image/png;base64,') == 2
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "url(" not in page.replace("url(#", "")
    assert page.count("<svg") == 3
    assert "prefers-color-scheme: dark" in page
    text = shown(page)
    assert "teacher 9.0 % wrong" in text
    assert "background: #123456" in page
    assert "c<r" in text
    assert "OUTPUT_DIR: a<b" in text
    assert "teacher  <none>" in text


def test_paths_of_the_machine_are_in_the_command_alone(student, monkeypatch):
    monkeypatch.setenv("UV_RUN_RECURSION_DEPTH", "1")
    command = ["/opt/bin/densedist", "train", "seg", "--config-file", str(student / "my config.yaml")]
    monkeypatch.setattr(sys, "argv", command)
    page = shown(page_of(student, Facts(f"  teacher  {student}/x.pth", METRIC, "CPU", of_teacher=0)))
    assert f"uv run densedist train seg \\\n    --config-file '{student}/my config.yaml'" in page
    rest = page.replace(str(student / "my config.yaml"), "")
    assert not [
        place for place in (student.parent, student.parent.parent, Path.home(), Path.cwd()) if str(place) in rest
    ]
    assert "…/x.pth" in page
    assert "uv run densedist train seg --config-file config.yaml OUTPUT_DIR ANOTHER" in page


def test_the_commands_of_a_page_are_accepted(student, monkeypatch):
    words = ["train", "seg", "--config-file", str(student / "config.yaml"), "--resume", "TEST.SCALES", "[0.5, 1.0]"]
    monkeypatch.setattr(sys, "argv", ["densedist", *words, "OUTPUT_DIR", str(student.parent / "my run")])
    monkeypatch.chdir(student)
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: name)
    found = re.findall('(?s)<pre class="command(?: line)?">(.*?)</pre>', page_of(student, TAUGHT))
    commands = [shlex.split(html.unescape(text).replace("\\\n", "")) for text in found]
    assert commands[0] == sys.argv
    assert "Run student, config config.yaml: 400 iterations" in (student / "report.html").read_text()
    assert commands[1] == ["densedist", "train", "seg", "--config-file", "config.yaml", "OUTPUT_DIR", "ANOTHER"]
    for command in commands:
        accepted(monkeypatch, *command[1:])


def test_a_backslash_does_not_stand_alone_on_a_line_of_a_narrow_page(student, monkeypatch):
    """Only a command of one line is broken where the page ends."""
    monkeypatch.setattr(sys, "argv", ["densedist", "train", "seg", "--config-file", str(student / "config.yaml")])
    page = page_of(student, TAUGHT)
    found = re.findall('(?s)<pre class="command( line)?">(.*?)</pre>', page)
    assert [("\\" in text, bool(is_broken)) for is_broken, text in found] == [(True, False), (False, True)]
    assert re.search(r"pre\.line {[^}]*pre-wrap", page)
    assert page.count("pre-wrap") == 1


def test_seed_and_versions(student):
    page = shown(page_of(student, Facts("", METRIC, "CPU", seed=7)))
    assert "| seed | 7 |" in page
    assert re.search(r"\| versions \| Python 3\.\d+\.\d+, .*torch \d", page)


def test_hours_of_all_devices_and_the_cache(tmp_path):
    run = write_run(tmp_path / "run", {"mIoU": 1.0}, train_seconds=1800.0, once_seconds=12.0)
    page = shown(page_of(run, Facts("", METRIC, "H200", "GPU", processes=4, of_teacher=0)))
    assert "Training the student took 30 min on each of 4 GPUs, 2 h 0 min together; the teacher's" in page
    assert "| filling the teacher's cache |" in page
    assert "The cost of the teacher's own training is not known: there is no run next to its weights." in page


@pytest.mark.parametrize(("score", "weak"), [(61.25, True), (70.1, True), (75.0, False)])
def test_a_student_above_its_teacher_is_commented(student, teacher, score, weak):
    """Against a teacher of 61.2, of 70.04 and of 75.0; the student has 61.25, or 75.0."""
    metrics = student / "metrics.json"
    metrics.write_text(metrics.read_text().replace("61.25", "75.0"))
    for file in (teacher / "metrics.json", teacher / "results.json"):
        file.write_text(file.read_text().replace("70.04", str(score)))
    file = student / "results.json"
    file.write_text(file.read_text().replace("61.25", "75.0"))
    said = (
        "The teacher scores lower than its student: a student can hardly gain from so weak a teacher. Train it longer"
    )
    assert (said in page_of(student, TAUGHT)) == weak


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("", "TEST.EVAL_PERIOD N evaluates every N iterations, and gives curves."),
        (
            "TEST: {EVAL_PERIOD: 5000}",
            "TEST.EVAL_PERIOD is 5000, but the run has only 400 iterations: a lower value, such as 80, gives curves.",
        ),
    ],
)
def test_how_to_get_curves_of_a_run_that_was_evaluated_at_its_end_only(student, key, said):
    with (student / "config.yaml").open("a") as file:
        file.write(f"{key}\n")
    assert f"The run was evaluated at its end only. {said}" in page_of(student, ALONE)


@drawn
def test_curves_of_what_was_written(student):
    write_report(student, TAUGHT)
    _, width, _ = imread(student / "curves.png").shape
    (student / "metrics.json").write_text((student / "metrics.json").read_text().rpartition('{"iteration": 400')[0])
    page = page_of(student, TAUGHT)
    assert imread(student / "curves.png").shape[1] == round(width * 2 / 3)  # no panel without an evaluation
    assert page.count("<svg") == 2
    assert "Pictures" not in page


@drawn
def test_run_of_a_few_iterations_has_no_curves(student):
    (student / "metrics.json").unlink()
    write_report(student, TAUGHT)
    assert not (student / "report.html").exists()
