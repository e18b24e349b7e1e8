"""Where trained weights and their config are found, and what is said where they are not."""

import pytest

from densedist.common.errors import UserError
from densedist.common.run_files import did_you_mean_run, locate


def refusal(weights):
    with pytest.raises(UserError) as seen:
        locate(str(weights))
    return str(seen.value)


@pytest.mark.parametrize(("config", "more"), [("", ""), ("OUTPUT_DIR: elsewhere\n", " OUTPUT_DIR '{run}'")])
def test_a_run_that_was_killed_is_told_how_it_goes_on(config, more, tmp_path, monkeypatch):
    monkeypatch.delenv("UV_RUN_RECURSION_DEPTH", raising=False)
    monkeypatch.setattr("shutil.which", lambda name: f"/bin/{name}")
    run = tmp_path / "my run"
    run.mkdir()
    (run / "config.yaml").write_text(config or f"OUTPUT_DIR: {run}\n")
    command = f"densedist train --config-file '{run}/config.yaml' --resume{more.format(run=run)}"
    assert refusal(run) == (
        f"--weights: there is no {run}/model_final.pth, as the run has not ended: end it with `{command}`, or name a "
        "checkpoint that it has"
    )


def test_a_mistyped_folder(tmp_path):
    (tmp_path / "teacher").mkdir()
    assert refusal(tmp_path / "techer") == (
        f"--weights: there is no file {tmp_path}/techer; did you mean {tmp_path}/teacher?"
    )


def test_a_folder_with_a_run_that_is_meant_by_resume(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("output/student_a", "output/student", "output/studnet", "output/teacher"):
        (tmp_path / name).mkdir(parents=True)
    assert did_you_mean_run("output/studnt") == ""  # no folder has one
    for name in ("output/student", "output/teacher"):
        (tmp_path / name / "model_final.pth").touch()
    wanted = "; did you mean output/student?"
    assert [did_you_mean_run(f"{name}/studnet") for name in ("output", "outptu", "./output")] == [wanted] * 3
    assert did_you_mean_run(f"{tmp_path}/output/studnet") == f"; did you mean {tmp_path}/output/student?"
    assert did_you_mean_run("output/other") == did_you_mean_run("nowhere/student") == ""
