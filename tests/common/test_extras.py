"""The command that installs an extra is one for the environment in which this runs."""

import sys

import pytest

from densedist.common.extras import how_to_install

PIP, UV = "pip install 'dense-dist[int8]'", "uv sync --inexact --extra int8"


@pytest.mark.parametrize(
    ("checkout", "environment", "made_by", "said"),
    [
        (True, ".venv", "uv = 0.9", UV),
        (True, ".venv", "version = 3.11", f"{UV} (or, without uv, {PIP})"),
        (True, "elsewhere", "uv = 0.9", f"{UV} (or, without uv, {PIP})"),
        (False, ".venv", "uv = 0.9", PIP),
    ],
)
def test_how_an_extra_is_installed(checkout, environment, made_by, said, monkeypatch, tmp_path):
    monkeypatch.setattr("densedist.common.extras.CHECKOUT", tmp_path)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / environment))
    (tmp_path / environment).mkdir()
    (tmp_path / environment / "pyvenv.cfg").write_text(f"home = /usr/bin\n{made_by}\n")
    if checkout:
        (tmp_path / "pyproject.toml").touch()
    assert how_to_install("int8") == said
