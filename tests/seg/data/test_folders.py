"""Two folders of images and masks, whatever the masks hold, and a folder of images alone."""

import json
import shutil

import cv2
import numpy as np
import pytest
from PIL import Image

from densedist.common.errors import UserError
from densedist.seg.checks import check_data
from densedist.seg.data.folders import pairs
from densedist.seg.data.reading import Reader
from densedist.seg.datasets import SIDES, split_frames, training_frames, unlabeled_frames
from densedist.seg.labels import IGNORE, Classes
from densedist.seg.models import read_config
from helpers.calling import complaint, densedist
from helpers.folders import write_images, write_masks
from helpers.scenes import SMALL, STUDENT, config, save_teacher

# Eleven, as the digits' teacher has; the first three occur.
CLASSES = [{"name": str(n), "ids": [n + 1], "color": [n, 10 * n, 255 - n]} for n in range(11)]
IDS = np.random.default_rng(0).integers(1, 4, (3, 48, 64)).astype(np.uint8)
IDS[0, :4] = 0  # ignored
TRAIN_IDS = np.where(IDS == 0, IGNORE, IDS - 1)


def test_a_mistyped_name(tmp_path):
    cfg = config(STUDENT, "DATASETS.ROOT", "", "DATASETS.FOLDERS", "[['mine', 'a', 'b'], ['yours', 'c', 'd']]")
    with pytest.raises(UserError, match=r"K: there is no data set mien: want one of mine, yours, or set DATASETS.ROOT"):
        split_frames(cfg, "mien", "K", need_labels=True)


def write(root, kind="ids", suffix=".png"):
    for number, ids in enumerate(IDS):
        name = f"{'town/' if number else ''}{number}"
        image, mask = root / "images" / f"{name}.jpg", root / "masks" / f"{name}{suffix}"
        for file in (image, mask):
            file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(image), np.random.default_rng(number).integers(0, 256, (48, 64, 3), dtype=np.uint8))
        if kind == "ids":
            Image.fromarray(ids).save(mask)
        elif kind == "palette":
            picture = Image.fromarray(ids, "P")
            picture.putpalette([value for n in range(256) for value in (255 - n, n, 7)])
            picture.save(mask)
        elif kind == "colors":
            colors = np.array([[9, 9, 9], *(entry["color"] for entry in CLASSES)], np.uint8)
            Image.fromarray(colors[ids]).save(mask)
        else:  # two classes, black and white
            Image.fromarray(np.where(ids > 1, 255, 0).astype(np.uint8)).save(mask)
    return root


def keys(root, *more):
    return [
        *("DATASETS.FOLDERS", f"[['mine', '{root / 'images'}', '{root / 'masks'}']]"),
        *("DATASETS.TRAIN", "['mine']", "DATASETS.TEST", "['mine[:2]']", "DATASETS.CLASSES", str(CLASSES)),
        *("DATASETS.IGNORED_IDS", "[0]", "DATASETS.IGNORED_COLORS", "[[9, 9, 9]]", *more),
    ]


@pytest.mark.parametrize(
    ("kind", "suffix"), [("ids", ".png"), ("ids", ".tif"), ("palette", ".png"), ("colors", ".png"), ("colors", ".bmp")]
)
def test_masks(kind, suffix, tmp_path):
    cfg = config(STUDENT, *keys(write(tmp_path, kind, suffix)))
    check_data(cfg)
    read, found = Reader(Classes.of(cfg), "RGB"), training_frames(cfg)
    assert [frame["name"] for frame in found] == ["0", "1", "2"]
    for frame, wanted in zip(found, TRAIN_IDS, strict=True):
        assert np.array_equal(read(frame)["sem_seg"], wanted)


def test_black_and_white(tmp_path):
    two = [{"name": n, "ids": [i], "color": [i] * 3} for n, i in (("nothing", 0), ("something", 255))]
    cfg = config(STUDENT, *keys(write(tmp_path, "binary")), "DATASETS.CLASSES", str(two), "DATASETS.IGNORED_IDS", "[]")
    check_data(cfg)
    read = Reader(Classes.of(cfg), "RGB")
    for frame, ids in zip(training_frames(cfg), IDS, strict=True):
        assert np.array_equal(read(frame)["sem_seg"], ids > 1)


def test_a_run_on_them(tmp_path):
    write(tmp_path / "data", "colors")
    argv = [*SMALL, *keys(tmp_path / "data"), *save_teacher(tmp_path / "teacher"), "SOLVER.MAX_ITER", "1"]
    argv += ["DATASETS.UNLABELED", f"['{tmp_path / 'data' / 'images'}[1:]']", "OUTPUT_DIR", tmp_path / "run"]
    names = [f"{n}" for n in ["background", *range(10)]]
    renamed = [entry | {"name": name} for entry, name in zip(CLASSES, names, strict=True)]
    densedist("train", "seg", "--config-file", STUDENT, *argv, "DATASETS.CLASSES", str(renamed))
    assert json.loads((tmp_path / "run" / "results.json").read_text())["sem_seg"]["mIoU"] >= 0


def test_a_folder_alone(tmp_path):
    write(tmp_path)
    cfg = config(STUDENT, *keys(tmp_path), "DATASETS.UNLABELED", f"['{tmp_path / 'images'}', 'mine[2:]']")
    assert [(frame["name"], frame["label"]) for frame in unlabeled_frames(cfg)] == [
        *(("0", None), ("1", None), ("2", None), ("2-2", None))
    ]
    with pytest.raises(UserError, match="there is no folder"):  # with labels wanted it is no data set
        split_frames(cfg, str(tmp_path / "images"), "DATASETS.TEST", need_labels=False)


@pytest.mark.parametrize("end", ["", "_L"])
def test_one_folder_for_images_and_masks_is_called_that(end, tmp_path):
    photos = tmp_path / "photos"
    write_masks(write_images(photos), photos, (0, 1), f"{{}}{end}.png")
    with pytest.raises(UserError) as seen:
        pairs(str(photos), f"{photos}/../photos", "DATASETS.FOLDERS, train")
    said = f"DATASETS.FOLDERS, train: {photos} has images and masks"
    if end:
        said += f" NAME_L in one folder: move the masks to {photos}_masks, with the names of their images, and name it"
    else:
        said += f" in one folder: move the masks to a folder of their own, {photos}_masks, and name it"
    assert str(seen.value) == said


def test_a_folder_of_images_alone_named_for_both(tmp_path):
    write_images(tmp_path / "photos")
    said = "photos is named for the images and for the masks: name the folder of the masks"
    with pytest.raises(UserError, match=said):
        pairs(str(tmp_path / "photos"), str(tmp_path / "photos"), "DATASETS.FOLDERS, train")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "masks" / "0.png").unlink(), "1 of 3 images have no mask of the same name"),
        (lambda root: shutil.rmtree(root / "images"), "there is no folder"),
        (lambda root: shutil.copy(root / "masks/0.png", root / "masks/0.bmp"), "there are two masks"),
        (lambda root: [file.unlink() for file in root.rglob("*.jpg")], "images has no image"),
        (
            lambda root: Image.new("RGB", (64, 48), (1, 2, 3)).save(root / "masks/0.png"),
            "name: 1, first \\[1, 2, 3\\]: add",
        ),
        (
            lambda root: Image.new("RGB", (64, 48), (1, 1, 1)).save(root / "masks/0.png"),
            "first \\[1, 1, 1\\] \\(its three channels are equal: if these are labelIds, save one of them\\): add",
        ),
        (lambda root: Image.new("RGB", (64, 47)).save(root / "masks/0.png"), "64x47 pixels, but 64x48 in its image"),
        (lambda root: Image.new("LA", (64, 48)).save(root / "masks/0.png"), "has an alpha channel"),
    ],
)
def test_what_is_wrong(change, message, tmp_path):
    change(write(tmp_path))
    with pytest.raises(UserError, match=message):
        check_data(config(STUDENT, *keys(tmp_path)))


def test_keys_that_mean_nothing(tmp_path, capsys):
    argv = ["train", "seg", "--config-file", STUDENT, *SMALL, *keys(write(tmp_path)), "OUTPUT_DIR", tmp_path / "run"]
    text = complaint(capsys, *argv, "DATASETS.FOLDERS", f"[['mine', '{tmp_path}']]")
    assert text == f"DATASETS.FOLDERS: ['mine', '{tmp_path}'] is not [name, folder of images, folder of masks]"
    one, other = tmp_path / "images", tmp_path / "masks"
    twice = f"[['mine', '{one}', '{other}'], ['mine', '{other}', '{one}']]"
    like_split = f"[['train', '{one}', '{other}']]"
    split = complaint(capsys, *argv, "DATASETS.FOLDERS", like_split, "DATASETS.TRAIN", "['train']")
    assert split == "DATASETS.FOLDERS: train is a split of DATASETS.ROOT, too: give it another name"
    assert "two are named mine" in complaint(capsys, *argv, "DATASETS.FOLDERS", twice)
    assert "want three numbers" in complaint(capsys, *argv, "DATASETS.IGNORED_COLORS", "[[1, 2]]")
    shutil.rmtree(tmp_path / "masks")
    write(tmp_path, "colors")
    same = complaint(capsys, *argv, "DATASETS.IGNORED_COLORS", f"[[9, 9, 9], {CLASSES[0]['color']}]")
    assert "two have the same color" in same
    assert not (tmp_path / "run").exists()


def test_camvid_of_the_segnet_authors_is_read_as_it_lies_there(tmp_path, monkeypatch, capsys):
    names = ["sky", "building", "pole", "road", "sidewalk", "vegetation", "traffic sign", "fence"]
    names += ["car", "person", "bicyclist"]
    root = tmp_path / "datasets" / "CamVid"
    for split in ("train", "val", "test"):
        for folder, pixels in ((split, np.zeros((36, 48, 3))), (f"{split}annot", np.arange(36 * 48) % 12)):
            (root / folder).mkdir(parents=True)
            cv2.imwrite(str(root / folder / "0001TP_006690.png"), pixels.reshape(36, 48, -1).astype(np.uint8))
    monkeypatch.chdir(tmp_path)
    cfg = read_config("seg/camvid_segnet/pspnet_lite0.yaml", [])
    classes = Classes.of(cfg)
    assert classes.names == Classes.of(read_config("seg/camvid/pspnet_lite0.yaml", [])).names
    for side in ("TRAIN", "TEST"):
        (frame,) = SIDES[side](cfg)
        read = Reader(classes, "RGB").labels(frame).ravel()[:12]
        assert [classes.names[number] for number in read[:11]] == names
        assert read[11] == IGNORE
    densedist("check", "seg", "--config-file", "seg/camvid_segnet/pspnet_lite0.yaml")
    assert capsys.readouterr().out.count("| 8.33 ") == 2 * 12
    shutil.rmtree(root / "trainannot")
    message = complaint(capsys, "check", "seg", "--config-file", "seg/camvid_segnet/pspnet_lite0.yaml")
    assert message == "DATASETS.FOLDERS, camvid_train: there is no folder datasets/CamVid/trainannot"  # train is not it


def test_two_images_of_one_mask(tmp_path):
    write(tmp_path)
    shutil.copy(tmp_path / "images/0.jpg", tmp_path / "images/0.png")
    with pytest.raises(UserError) as refused:
        check_data(config(STUDENT, *keys(tmp_path)))
    first, second = tmp_path / "images/0.jpg", tmp_path / "images/0.png"
    assert (
        str(refused.value) == f"DATASETS.FOLDERS, mine: there are two images {first} and {second} of one mask: want one"
    )


def test_hidden_files_are_no_images_and_names_are_compared_as_they_are_read(tmp_path):
    write(tmp_path)
    for folder, suffix in (("images", "jpg"), ("masks", "png")):
        (tmp_path / folder / f"._0.{suffix}").write_bytes(b"Mac OS X")
        (tmp_path / folder / ".ipynb_checkpoints").mkdir()
        shutil.copy(
            tmp_path / folder / f"0.{suffix}", tmp_path / folder / ".ipynb_checkpoints" / f"0-checkpoint.{suffix}"
        )
    # One system writes ä as a letter, another as two.
    (tmp_path / "images/0.jpg").rename(tmp_path / "images/B\u00e4ume 1.jpg")
    (tmp_path / "masks/0.png").rename(tmp_path / "masks/Ba\u0308ume 1.png")
    cfg = config(STUDENT, *keys(tmp_path))
    check_data(cfg)
    frames = training_frames(cfg)
    assert sorted(frame["name"] for frame in frames) == ["1", "2", "B\u00e4ume 1"]


def test_masks_with_loss_are_refused_for_what_they_are(tmp_path):
    write(tmp_path)
    for file in (tmp_path / "masks").rglob("*.png"):
        Image.open(file).save(file.with_suffix(".jpg"))
        file.unlink()
    with pytest.raises(UserError) as refused:
        check_data(config(STUDENT, *keys(tmp_path)))
    assert str(refused.value).startswith(
        f"DATASETS.TRAIN: 3 of 3 images cannot be used, first {tmp_path / 'masks/0.jpg'} is a JPEG file with loss, "
        "which changes labelIds and colors: save masks from their source as PNG; repair or remove them"
    )


def test_masks_in_color_with_transparent_pixels_or_16_bits(tmp_path):
    write(tmp_path, "colors")
    mask = tmp_path / "masks/0.png"
    picture = Image.open(mask).convert("RGBA")
    picture.save(mask)
    cfg = config(STUDENT, *keys(tmp_path))
    check_data(cfg)  # opaque
    picture.putpixel((3, 3), (9, 9, 9, 0))
    picture.save(mask)
    with pytest.raises(
        UserError, match=r"0.png has transparent pixels, and only you know their class: give them its co"
    ):
        check_data(cfg)
    cv2.imwrite(str(mask), np.zeros((48, 64, 3), np.uint16))
    with pytest.raises(UserError, match=r"0.png has 16 bits a channel: want 8 bits, the colors of DATASETS.CLASSES"):
        check_data(cfg)
