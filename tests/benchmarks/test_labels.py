"""The benchmark of many labels labels what is left of them, with a stub."""

import sys

from benchmarks import labels


def test_what_is_left_is_labeled(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["labels", "--images", "270", "--labeled", "256"])
    labels.main()
    printed = capsys.readouterr().out
    assert f"{270 * labels.FOUND} objects in 270 images" in printed
    assert "270 images: listed in" in printed
