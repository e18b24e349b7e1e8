"""Folders to write to: what is there is another's, or an earlier output of the same command."""

import pytest

from densedist.common.errors import UserError
from densedist.common.locks import LOCK, refuse_other_files


def test_only_an_earlier_output_is_replaced(tmp_path):
    folder = tmp_path / "seen"
    assert refuse_other_files(folder, "predictions.json", "predict") == ""
    folder.mkdir()
    (folder / LOCK).touch()
    assert refuse_other_files(folder, "predictions.json", "predict") == ""
    (folder / "mine.png").touch()
    with pytest.raises(UserError) as refused:
        refuse_other_files(folder, "predictions.json", "predict")
    assert str(refused.value) == (
        f"--output-dir: {folder} has files, but no predictions.json of an earlier predict: name an empty or new folder"
    )
    (folder / "predictions.json").touch()
    said = refuse_other_files(folder, "predictions.json", "predict")
    assert said == f"{folder}: files of the same names, which an earlier predict wrote, are replaced"
