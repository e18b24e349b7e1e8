"""The page of a comparison: report.html over its methods."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from densedist.common.compare.outcome import outcome
from densedist.common.compare.page import write_comparison
from densedist.common.compare.report import extremes, results, verdict
from densedist.common.report.panels import Gallery, Panel
from densedist.common.report.teacher import TeacherRun
from helpers.reading import shown

pytestmark = pytest.mark.drawn
TEACHER = TeacherRun({"bbox/AP": 40.0}, 'from results.json of its run "teacher"', 500, 3600.0)


def write_runs(root, **values):
    """The runs of methods: AP of seeds 0, 1, …; the class car is 1 above it, bus 1 below."""
    outcomes, folders = {}, {}
    for method, numbers in values.items():
        outcomes[method], folders[method] = {}, {}
        for seed, value in enumerate(numbers):
            folder = folders[method][seed] = root / method / f"seed{seed}"
            folder.mkdir(parents=True)
            own = {"AP": value, "AP50": 99.0, "AP-car": value + 1, "AP-bus": value - 1, "AP-<bus>": float("nan")}
            lines = [
                {"iteration": 49, "train_seconds": 5.0, "bbox/AP": value / 2},
                {"iteration": 99, "train_seconds": 10.0},
                {"iteration": 100, **{f"bbox/{name}": number for name, number in own.items()}},
            ]
            (folder / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
            (folder / "results.json").write_text(json.dumps({"bbox": own}))
            outcomes[method][seed] = outcome(folder, 100)
    return outcomes, folders


@pytest.fixture
def bare(monkeypatch):
    """Pages without curves, which take most of their time."""
    monkeypatch.setattr("densedist.common.compare.page.svg", lambda draw: "")


def page_of(root, runs, teachers=None, notes=(), gallery=None, texts=None):
    write_comparison(root / "report.html", *runs, "At equal iterations.", notes, teachers or {}, gallery, texts or {})
    return (root / "report.html").read_text()


def test_several_seeds(tmp_path):
    runs = write_runs(tmp_path, none=[10.0, 11.0, 12.0], kd=[11.0, 11.5, 13.1], dist=[13.0, 14.1, 15.2])
    page = shown(page_of(tmp_path, runs, {"teacher": TEACHER}, ["2 of 4 images are shared"]))
    assert "3 methods, 3 seeds. At equal iterations." in page
    assert (
        "dist reaches AP 14.1, 3.1 points above none, the student alone (95 % interval [+2.9, +3.3], 3 seeds)." in page
    )
    assert 'The teacher scores 40.0 (from results.json of its run "teacher").' in page
    assert "2 of 4 images are shared" in page
    assert re.search(r"\| teacher \| 40.0 \|", page)
    assert "| dist | 14.1 ± 1.1 | +3.1 | [+2.9, +3.3] |" in page
    assert "| dist | 13.0 | 14.1 | 15.2 |" in page
    assert "| dist | 100 | 10 s | 3 |" in page
    assert "| car | 12.0 | 15.1 | +3.1 [+2.9, +3.3] |" in page
    assert page.index("| car |") < page.index("| <bus> | - | - |")
    assert "| teacher, its own training | 500 | 3600 s | 1 |" in page
    assert "All runs together took 2 min, without the teacher's own training." in page
    assert "| seeds | 0, 1, 2 |" in page


def test_one_seed_says_nothing_of_chance(tmp_path):
    page = shown(page_of(tmp_path, write_runs(tmp_path, none=[10.0], dist=[13.0])))
    assert "2 methods, 1 seed. " in page
    assert "dist reaches AP 13.0, 3.0 points above none, the student alone, with one seed: this may be chance." in page
    assert "| car | 11.0 | 14.0 | +3.0 |" in page
    assert "interval" not in page
    assert "95 %" not in page
    assert "teacher" not in page


def test_the_heading_and_what_is_too_short_to_judge(tmp_path):
    runs = write_runs(tmp_path, none=[10.0], dist=[13.0])
    page = page_of(tmp_path, runs)
    assert "<h1>none and dist compared</h1>" in page
    assert f"Comparison {tmp_path.name}: 2 methods" in page
    config = runs[1]["none"][0] / "config.yaml"
    config.write_text("DATASETS: {TRAIN: [a, b, c, d, e]}\nSOLVER: {WARMUP_ITERS: 100}\n")
    page = page_of(tmp_path, runs)
    assert "<h1>Detection: none and dist compared on a, b, c and 2 more</h1>" in page
    assert "With 100 iterations the runs are too short to judge a method." in page


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            {"none": [10.0, 11.0], "kd": [10.5, 10.8]},
            "No significant difference: kd reaches AP 10.7, 0.2 points",
        ),
        (
            {"none": [10.0, 11.0, 12.0], "kd": [9.0, 10.1, 11.2]},
            "kd is worse than none, the student alone: it reaches AP 10.1, 0.9 points less (95 %",
        ),
        (
            {"none": [10.0, 11.0], "kd": [9.5, 10.8]},
            "No significant difference: kd reaches AP 10.2, 0.3 points worse than none, the student alone (95 %",
        ),
        (
            {"none": [10.0], "kd": [9.0], "best": [9.5]},
            "All methods are worse than none, the student alone: the nearest, best, the recommended method, reaches "
            "AP 9.5, 0.5 points less, with one seed: this may be chance.",
        ),
        (
            {"none": [10.0], "best": [10.5]},
            "best, the recommended method, reaches AP 10.5, 0.5 points above none, the student alone, with one seed",
        ),
        ({"kd": [10.0], "dist": [12.0], "mimic": [11.0]}, "dist reaches AP 12.0, 1.0 points above mimic, with one"),
        (
            {"none": [10.0, 11.0], "kd": [10.02, 11.0]},
            "No significant difference: kd reaches AP 10.5, the same as none, the student alone (95 %",
        ),
        ({"none": [10.0]}, "AP: none 10.0; there is no other method to compare with."),
        ({"none": [], "kd": []}, "No run has a score."),
    ],
)
def test_verdicts(tmp_path, values, words):
    runs = write_runs(tmp_path, **values)
    assert verdict(runs[0]).startswith(words)
    assert words in shown(page_of(tmp_path, runs))


def test_numbers_are_those_of_the_results(tmp_path):
    runs = write_runs(tmp_path, none=[10.04, 11.26], dist=[13.55, 14.92])
    page = shown(page_of(tmp_path, runs))
    for method, found in results(runs[0])["methods"].items():
        seeds = " | ".join(f"{seed['value']:.1f}" for seed in found["seeds"].values())
        assert f"| {method} | {found['mean']:.1f} ± {found['standard_deviation']:.1f} |" in page
        assert f"| {method} | {seeds} |" in page


def test_differences_are_of_the_seeds_that_both_have_and_the_means_next_to_them_are_too(tmp_path, bare):
    """Where the score of a seed is undefined; else -2.0 by the means would be -0.5 by the pairs."""
    runs, folders = write_runs(tmp_path, none=[10.0, 13.0], best=[9.5, float("nan")])
    page = shown(page_of(tmp_path, (runs, folders)))
    assert "best, the recommended method, is worse than none, the student alone: it reaches AP 9.5, 0.5 points" in page
    assert "| car | 11.0 | 10.5 | -0.5 |" in page
    assert "| best | 9.5 | -0.5 |" in page
    assert "gains are over the seeds that both methods have." in page


@pytest.mark.parametrize(("best", "said"), [(9.56, True), (9.54, False)])
def test_a_gain_that_is_not_the_difference_of_rounded_scores_is_explained(tmp_path, bare, best, said):
    page = shown(page_of(tmp_path, write_runs(tmp_path, none=[10.04], kd=[best])))
    assert "| kd | 9.6 | -0.5 |" in page if said else "| kd | 9.5 | -0.5 |" in page
    assert ("gains are of the scores before these are rounded." in page) == said


def test_a_teacher_that_nobody_evaluated(tmp_path):
    runs = write_runs(tmp_path, none=[10.0], dist=[13.0])
    page = shown(page_of(tmp_path, runs, {"teacher": TeacherRun(note="there is no run next to its weights")}))
    assert "The score of the teacher is not known: there is no run next to its weights." in page
    assert "| teacher | not known |" in page
    assert "| teacher, its own training | not known | not known | 1 |" in page


def test_page_needs_nothing_else_and_tells_no_paths(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["/opt/bin/densedist", "compare", "det", str(tmp_path / "a.yaml")])
    panels = [Panel(np.zeros((4, 6, 3), np.uint8), name) for name in ("none", "dist")]
    texts = {"All keys": f"OUTPUT_DIR: {tmp_path}/out"}
    runs = write_runs(tmp_path, none=[10.0], dist=[13.0])
    page = page_of(
        tmp_path, runs, {f"teacher {tmp_path}/weak": TEACHER}, (), Gallery(["a"], [panels], [], "title"), texts
    )
    assert page.count('src="data:image/png;base64,') == 2
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert page.count("<svg") == 2
    rest = shown(page).replace(f"densedist compare det {tmp_path}/a.yaml", "")
    assert len(rest) < len(shown(page))
    assert not [place for place in (tmp_path, Path.home(), Path.cwd()) if str(place) in rest]
    assert "| teacher …/weak | 40.0 |" in rest


def test_what_is_compared_at_first_sight(tmp_path):
    runs = write_runs(tmp_path, kd=[12.0], none=[13.0], dist=[11.0])
    assert extremes(runs[0]) == ("none", "kd")


@pytest.mark.parametrize(
    ("score", "dist", "commented"), [(9.0, [13.0, 9.0], True), (9.0, [13.0, 14.1], False), (40.0, [13.0, 9.0], False)]
)
def test_a_student_alone_above_its_teacher_is_commented_unless_it_gains(tmp_path, bare, score, dist, commented):
    runs = write_runs(tmp_path, none=[10.0, 11.0], dist=dist)
    page = page_of(tmp_path, runs, {"teacher": TeacherRun({"bbox/AP": score})})
    assert ("The teacher scores lower than the student alone (none): a student can hardly gain" in page) == commented


def test_runs_of_one_evaluation_have_no_curves_and_the_page_says_how_to_get_them(tmp_path, bare):
    runs, folders = write_runs(tmp_path, none=[10.0], dist=[13.0])
    assert "EVAL_PERIOD" not in page_of(tmp_path, (runs, folders))
    once = {m: {s: replace(o, curve=o.curve[-1:]) for s, o in of_seeds.items()} for m, of_seeds in runs.items()}
    (folders["none"][0] / "config.yaml").write_text("TEST: {EVAL_PERIOD: 500}\n")
    said = "The runs were evaluated at their ends only. TEST.EVAL_PERIOD is 500, but the run has only 100 iterations"
    assert said in page_of(tmp_path, (once, folders))


def test_what_took_time_before_training(tmp_path, bare):
    runs, folders = write_runs(tmp_path, none=[10.0, 11.0], dist=[13.0, 14.1])
    runs["dist"][0] = replace(runs["dist"][0], once=61.0)
    page = shown(page_of(tmp_path, (runs, folders)))
    assert "| before training, for all runs | runs |" in page
    assert "| dist | 100 | 10 s | 61 s | 2 |" in page
    assert "All runs together took 2 min." in page


def test_tables_fit_a_phone(tmp_path, bare):
    """Up to four columns fit; a table of more has a block for each row, whose lines say what they are."""
    runs = write_runs(tmp_path, none=[1.0, 2.0, 3.0, 4.0], **{"kd": [2.0, 3.0, 4.0, 5.5]})
    page = page_of(tmp_path, runs)
    (seeds,) = [table for table in page.split("<table")[1:] if "seed 3" in table]
    assert seeds.startswith(' class="stacked"')
    assert '<td data-column="seed 3">5.5</td>' in seeds
    widest = max(
        row.count("<t") - row.count('split"')
        for table in page.split("<table")[1:]
        if not table.startswith(' class="stacked"')
        for row in re.findall("(?s)<tr>(.*?)</tr>", table)
    )
    assert widest <= 4


def test_a_long_name_of_a_method_can_be_broken_at_its_marks(tmp_path, bare):
    name = "dist@TAU=4;CACHE=a/b+mimic"
    page = page_of(tmp_path, write_runs(tmp_path, none=[1.0], **{name: [2.0]}))
    assert "<th>dist@<wbr>TAU=<wbr>4;<wbr>CACHE=<wbr>a/<wbr>b+<wbr>mimic</th>" in page
    assert f"{name} reaches AP 2.0" in shown(page)
