"""What a mistyped name, or a path with a mistyped folder or file, may have been meant for."""

import pytest

from densedist.common import nearest
from densedist.common.nearest import did_you_mean, did_you_mean_path


def test_known_names_in_small_or_capital_letters():
    known = ["SOLVER.MAX_ITER", "SOLVER.BASE_LR", "digits_train"]
    assert did_you_mean("solver.maxiter", known, most=1) == "; did you mean SOLVER.MAX_ITER?"
    assert did_you_mean("Digits_trian", known, most=1) == "; did you mean digits_train?"
    assert did_you_mean("nothing like it", known) == ""


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("configs/det/student.yaml", ""),  # of configs/det/teacher.yaml all is right but what counts
        ("DISTILL.DIST.TUA", "DISTILL.DIST.TAU"),
        ("DISTILL.DIST.TEMPERATURE", ""),
        ("DISTILL.WEIGHTS", "DISTILL.TEACHER.WEIGHTS"),  # without a part
        ("MAX_ITER", "SOLVER.MAX_ITER"),
        ("SOLVER.MAXITER", "SOLVER.MAX_ITER"),  # and not WARMUP_ITERS
        ("digits_va", "digits_val or digits_val2"),  # both are as near
    ],
)
def test_only_what_is_near_in_each_part_is_asked_for(name, wanted):
    known = ["configs/det/teacher.yaml", "DISTILL.DIST.TAU", "DISTILL.DIST.STANDARDIZE", "DISTILL.TEACHER.WEIGHTS"]
    known += ["SOLVER.MAX_ITER", "SOLVER.WARMUP_ITERS", "SOLVER", "digits_val", "digits_val2", "digits_train"]
    assert did_you_mean(name, known) == (f"; did you mean {wanted}?" if wanted else "")


@pytest.fixture
def here(tmp_path, monkeypatch):
    (tmp_path / "output/teacher").mkdir(parents=True)
    (tmp_path / "output/teacher/model_final.pth").touch()
    (tmp_path / "output/teacher.yaml").touch()  # a folder is meant, not this
    (tmp_path / "photos").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("output/techer", "output/teacher"),
        ("outptu/teacher", "output/teacher"),  # the missing folder comes first
        ("output/techer/model_fnal.pth", "output/teacher/model_final.pth"),
        ("output/teacher/model_fnal.pt", "output/teacher/model_final.pth"),
        ("../{here}/photo", "../{here}/photos"),
        ("~/photo", "{home}/photos"),
    ],
)
def test_a_path_that_is_there(here, monkeypatch, path, wanted):
    monkeypatch.setenv("HOME", str(here))
    names = {"here": here.name, "home": here}
    assert did_you_mean_path(path.format(**names)) == f"; did you mean {wanted.format(**names)}?"
    assert did_you_mean_path(str(here / "photo")) == f"; did you mean {here}/photos?"


@pytest.mark.parametrize(
    "path",
    ["output", "output/teacher/", "nowhere/teacher", "output/teacher/7.jpg", "output/other", "pool", "photos/a", ""],
)
def test_nothing_is_asked_where_nothing_is_like_it_or_nothing_is_missing(here, path):
    assert did_you_mean_path(path) == ""


def test_a_relative_path_begins_in_the_folder_of_its_config(here, monkeypatch):
    monkeypatch.chdir("/")
    assert did_you_mean_path("photo", here) == "; did you mean photos?"
    assert did_you_mean_path("photo") == ""


def test_a_folder_of_very_many_files_is_not_compared_whole(here, monkeypatch):
    monkeypatch.setattr(nearest, "MOST", 0)
    assert did_you_mean_path("photo") == ""
