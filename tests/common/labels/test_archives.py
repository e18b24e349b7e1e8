"""Tar files whose images are labeled."""

import errno
from pathlib import Path

import pytest

from densedist.common.errors import UserError
from densedist.common.labels.archives import RECORD, folder_of_tars, is_tar, unpack
from helpers.labels import write_tar


def contents(folder):
    return {str(file.relative_to(folder)): file.read_bytes() for file in Path(folder).rglob("*") if file.is_file()}


@pytest.mark.parametrize(("name", "mode"), [("00000.tar", "w"), ("00000.tar.gz", "w:gz"), ("00000.TGZ", "w:gz")])
def test_images_are_unpacked_and_all_else_is_passed_over(tmp_path, name, mode):
    """Other files of a sample, hidden files, and links, which may lead anywhere."""
    tar = write_tar(tmp_path / name, mode=mode)
    assert is_tar(tar)
    words = unpack(["photos", tar], tmp_path / "images")
    assert words == ["photos", str(tmp_path / "images" / "00000")]
    found = contents(words[1])
    del found[RECORD]
    assert found == {"a/1.jpg": b"one", "2.PNG": b"two"}


def test_patterns_and_files_of_one_name(tmp_path):
    for place in ("a/0.tar", "a/1.tar", "b/0.tar"):
        write_tar(tmp_path / place)
    words = unpack([str(tmp_path / "a/*.tar"), str(tmp_path / "b/0.tar")], tmp_path / "images")
    assert [Path(word).name for word in words] == ["0", "1", "0-2"]
    with pytest.raises(UserError, match=r"no file is like .*c/\*.tar"):
        unpack([str(tmp_path / "c/*.tar")], tmp_path / "images")
    (tmp_path / "folder.tar").mkdir()
    assert not is_tar(str(tmp_path / "folder.tar"))


def test_a_folder_stays_while_its_tar_file_does(tmp_path):
    tar = write_tar(tmp_path / "0.tar")
    [folder] = unpack([tar], tmp_path / "images")
    (Path(folder) / "2.PNG").write_bytes(b"kept")
    assert unpack([tar], tmp_path / "images") == [folder]
    assert contents(folder)["2.PNG"] == b"kept"
    write_tar(tmp_path / "0.tar", {"3.jpg": b"three"})
    with pytest.raises(UserError, match=r"images/0 is there, and not of .*0.tar as it is now: remove the folder, or"):
        unpack([tar], tmp_path / "images")
    assert contents(folder)["2.PNG"] == b"kept"


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda tar: tar.write_bytes(tar.read_bytes()[:700]), "0.tar cannot be read: unexpected end of data$"),
        (lambda tar: tar.write_bytes(b"no tar" * 200), "0.tar cannot be read: "),
        (lambda tar: tar.write_bytes(b""), "0.tar cannot be read: "),
        (lambda tar: tar.unlink(), "0.tar: No such file or directory"),
        (lambda tar: write_tar(tar, {"1.json": b"{}"}), "0.tar has no image: want files that end in .bmp, "),
        (lambda tar: write_tar(tar, {"1.jpg": b"", "/x.jpg": b""}), "0.tar: /x.jpg would lie outside of the fol"),
        (lambda tar: write_tar(tar, {"1.jpg": b"", "../x.jpg": b""}), "0.tar: ../x.jpg would lie outside of the f"),
    ],
)
def test_wrong_files_are_one_line_and_leave_nothing(tmp_path, spoil, said):
    tar = write_tar(tmp_path / "0.tar", {"1.jpg": bytes(1000)})
    spoil(Path(tar))
    with pytest.raises(UserError, match=said) as refusal:
        unpack([tar], tmp_path / "images")
    assert "\n" not in str(refusal.value)
    assert not (tmp_path / "images").exists()
    assert not (tmp_path / "x.jpg").exists()


def test_a_tar_file_that_may_not_be_read_is_not_taken_for_a_full_disk(tmp_path, monkeypatch):
    def forbidden(*_):
        raise PermissionError(errno.EACCES, "Permission denied")

    tar = write_tar(tmp_path / "0.tar")
    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(UserError, match=r"0.tar cannot be read: .*Permission denied"):
        unpack([tar], tmp_path / "images")


def test_images_lie_beside_the_labels(tmp_path, monkeypatch):
    """Also where these are in the current folder."""
    (tmp_path / "labels").mkdir()
    monkeypatch.chdir(tmp_path / "labels")
    assert folder_of_tars(Path()) == folder_of_tars(tmp_path / "labels") == tmp_path / "labels_images"


def test_a_full_disk_is_one_line_and_finished_folders_stay(tmp_path, monkeypatch):
    tars = [write_tar(tmp_path / "0.tar"), write_tar(tmp_path / "1.tar", {"3.jpg": b"three"})]
    write = Path.write_bytes

    def full(file, content):
        if content == b"three":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, content)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(UserError, match=r"--output-dir: cannot write to .*images: No space left on device: mend"):
            unpack(tars, tmp_path / "images")
    assert [place.name for place in (tmp_path / "images").iterdir()] == ["0"]
    assert [Path(folder).name for folder in unpack(tars, tmp_path / "images")] == ["0", "1"]


def test_what_a_killed_job_has_begun_is_unpacked_again(tmp_path):
    part = tmp_path / "images" / ".0" / "of an earlier job.jpg"
    part.parent.mkdir(parents=True)
    part.touch()
    [folder] = unpack([write_tar(tmp_path / "0.tar")], tmp_path / "images")
    assert sorted(contents(folder)) == sorted([RECORD, "2.PNG", "a/1.jpg"])
    assert not part.parent.exists()


def test_without_the_library(tmp_path, monkeypatch):
    monkeypatch.setattr("densedist.common.extras.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"0.tar: the package webdataset is missing: install it by "):
        unpack([write_tar(tmp_path / "0.tar")], tmp_path / "images")
