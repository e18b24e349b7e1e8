"""YOLO's format as Ultralytics reads it, and labels that mean something else than boxes and polygons."""

import cv2
import numpy as np
import pytest
import yaml

from densedist.common.errors import UserError
from densedist.det.data import yolo
from densedist.det.data.coco import read_coco

SIZE = (48, 64)
BOXES = [(0.5, 0.5, 0.25, 0.25), (0.2, 0.3, 0.1, 0.2), (0.8, 0.7, 0.2, 0.3), (0.4, 0.6, 0.3, 0.2), (0.7, 0.2, 0.2, 0.2)]


def lines(*objects):
    return "".join(f"{n % 2} {' '.join(map(str, numbers))}\n" for n, numbers in enumerate(objects))


def export(root, text=None, images=("a.jpg",), folder="images", labels="labels", **content):
    """A data.yaml, and images in a folder, each with the same labels."""
    (root / folder).mkdir(parents=True, exist_ok=True)
    for name in images:
        _, data = cv2.imencode(".jpg", np.zeros((*SIZE, 3), np.uint8))
        (root / folder / name).write_bytes(data)
        if text is not None:
            (root / labels).mkdir(parents=True, exist_ok=True)
            (root / labels / name).with_suffix(".txt").write_text(text)
    file = root / "data.yaml"
    file.write_text(yaml.safe_dump({"train": folder, "names": ["x", "y"]} | content))
    return file


def read(file, split="train"):
    return read_coco(yolo.as_coco(str(file), split)[0])


def boxes(coco):
    """As centers and sizes, in parts of the image."""
    return [
        ((x + w / 2) / 64, (y + h / 2) / 48, w / 64, h / 48) for x, y, w, h in (a["bbox"] for a in coco.annotations)
    ]


WANTED = [pytest.approx(box) for box in BOXES]


@pytest.mark.parametrize("each", [2, 3])
@pytest.mark.parametrize("count", [1, 2, 4, 17])
def test_keypoints_are_left_out(tmp_path, count, each):
    points = [(x, y, *([[0, 1, 2, 2][n % 4]] if each == 3 else [])) for n, (x, y) in enumerate([(0.45, 0.5)] * count)]
    text = lines(*((*box, *(v for point in points for v in point)) for box in BOXES))
    coco = read(export(tmp_path, text, kpt_shape=[count, each]))
    assert boxes(coco) == WANTED
    assert not any("segmentation" in a for a in coco.annotations)


def posed(count, each):
    rng = np.random.default_rng(0)
    for x, y, w, h in BOXES * 3:
        points = rng.uniform(-0.5, 0.5, (count, 2)) * (w, h) + (x, y)
        yield (x, y, w, h, *np.c_[points, rng.integers(0, 2, count)][:, :each].ravel())


@pytest.mark.parametrize(("count", "each"), [(2, 2), (4, 2), (17, 2), (2, 3), (4, 3)])
def test_keypoints_that_nothing_says(tmp_path, count, each):
    with pytest.raises(UserError, match="have a box and points each, it seems: if"):
        read(export(tmp_path, lines(*posed(count, each))))


@pytest.mark.parametrize("corners", [3, 4, 5, 8, 12])
def test_polygons_of_equally_many_corners_are_polygons(tmp_path, corners):
    """Ellipses, turned and stretched, whose points begin anywhere."""
    rng = np.random.default_rng(corners)
    shapes = []
    for x, y, w, h in BOXES * 8:
        around = np.linspace(0, 2 * np.pi, corners, endpoint=False) + rng.uniform(0, 6)
        shapes.append(np.c_[x + 0.3 * w * np.cos(around), y + 0.3 * h * np.sin(around)].ravel())
    assert len(read(export(tmp_path, lines(*shapes))).annotations) == len(shapes)


def test_oriented_boxes_are_said(tmp_path, caplog):
    turned = [(x, y - 0.1, x + 0.1, y, x, y + 0.1, x - 0.1, y) for x, y, _, _ in BOXES]
    assert [box[:2] for box in boxes(read(export(tmp_path, lines(*turned))))] == [pytest.approx(b[:2]) for b in BOXES]
    assert "every object has four corners: oriented boxes are replaced by the upright boxes around them" in caplog.text


@pytest.mark.parametrize(
    ("objects", "wanted"),
    [
        ([(*box, 0.9, n % 2) for n, box in enumerate(BOXES)], "have a box, a score and a number each"),
        ([(x - w / 2, y - h / 2, x + w / 2, y + h / 2) for x, y, w, h in BOXES], "are two corners each, it seems"),
        ([(0.1 * n, 0.1, 0.3, 0.2) for n in range(6)], "begin with a corner, it seems: want the center"),
        ([(*BOXES[0], 0.9)], "5 numbers after the class: want a box, x y w h, or a polygon; with keypoints behind"),
        ([(*BOXES[0], 0.5, 0.5, 2, 0.5, 0.5, 2)], "2 is outside the image: want 0 to 1; with keypoints behind"),
    ],
)
def test_labels_of_another_meaning(tmp_path, objects, wanted):
    with pytest.raises(UserError, match=wanted):
        read(export(tmp_path, lines(*objects)))


def test_keypoints_of_another_number(tmp_path):
    wanted = r"a\.txt, line 1: 4 numbers after the class, but by kpt_shape \[2, 3\] there are 10: a box, x y w h, and"
    with pytest.raises(UserError, match=wanted):
        read(export(tmp_path, lines(*BOXES), kpt_shape=[2, 3]))
    for shape in ([2], [0, 3], [2, 4], "2x3"):
        with pytest.raises(UserError, match="want \\[number of keypoints, 2 or 3\\]"):
            read(export(tmp_path, lines(*BOXES), kpt_shape=shape))


def test_a_line_that_is_given_twice_is_one_object(tmp_path, caplog):
    assert boxes(read(export(tmp_path, lines(*BOXES) + lines(*BOXES[:2])))) == WANTED
    assert "2 label lines occur twice: each is used once" in caplog.text


@pytest.mark.parametrize(
    ("place", "keys"),
    [
        ("train/images", {"train": "../train/images"}),  # Roboflow
        ("train/images", {"train": ["../train/images"]}),
        ("train/images", {"train": "train\\images"}),  # Windows
        ("train/images", {"train": "..\\train\\images"}),
        ("data/images", {"path": "data", "train": "images"}),
        ("data/images", {"path": "./data", "train": "images", "nc": "2"}),
        ("images", {"validation": "images", "train": None}),
        ("images", {"names": {"0": "x", "1": "y"}}),
        ("images", {"names": {0: "x", 1: "y"}, "task": "detect", "roboflow": {"version": 1}}),
    ],
)
def test_places(tmp_path, place, keys):
    file = export(tmp_path, lines(*BOXES), folder=place, labels=place.replace("images", "labels"), **keys)
    assert boxes(read(file, "val" if "validation" in keys else "train")) == WANTED


def test_a_folder_that_is_above_is_taken_as_it_is_written(tmp_path):
    export(tmp_path / "one", lines(BOXES[1]))
    file = export(tmp_path, lines(BOXES[0]), folder="other", labels="other", train="../one/images")
    (tmp_path / "file").mkdir()
    file = file.rename(tmp_path / "file" / "data.yaml")
    assert boxes(read(file)) == WANTED[1:2]


def test_paths_from_the_current_folder(tmp_path, monkeypatch):
    """path, and the lines of a list, as darknet has them."""
    export(tmp_path / "set", lines(*BOXES))
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "list.txt").write_bytes(b"\xef\xbb\xbfset/images/a.jpg  \r\n\r\nset\\images\\a.jpg\r\n")
    monkeypatch.chdir(tmp_path)
    for number, keys in enumerate(({"path": "set", "train": "images"}, {"train": "list.txt"})):
        file = tmp_path / "conf" / f"{number}.yaml"
        file.write_text("\ufeff" + yaml.safe_dump({"names": ["x", "y"], **keys}))
        assert boxes(read(file)) == WANTED


def test_images_that_are_named_twice_are_one(tmp_path, caplog):
    (tmp_path / "images" / "more").mkdir(parents=True)
    file = export(tmp_path, lines(*BOXES), train=["images", "./images"])
    assert boxes(read(file)) == WANTED
    assert "1 images of its split train are named twice: each is used once" in caplog.text


def test_images_of_the_same_labels(tmp_path):
    file = export(tmp_path, lines(*BOXES), images=("a.jpg", "a.jpeg"))
    with pytest.raises(UserError, match=r"split train: .*a\.jpeg and a\.jpg have the same labels, .*a\.txt: rename"):
        read(file)


def test_a_split_without_any_labels_is_said(tmp_path, caplog):
    assert read(export(tmp_path)).annotations == []
    assert "split train: none of 1 images has labels, first " in caplog.text


@pytest.mark.parametrize(
    ("names", "wanted"),
    [
        ([True, "y"], "names has True: want text; yes, no and null in quotes"),
        ([None, "y"], "names has None: want text"),
        ([["x"], "y"], "names has \\['x'\\]: want text"),
        (["x", "x "], "names has 'x' more than once: make them unique"),
        ({"0": "x", "b": "y"}, "want a list, or a dict with the numbers from 0 on"),
        ({0: "x", "0": "y"}, "want a list, or a dict with the numbers from 0 on"),
    ],
)
def test_names_that_are_none(tmp_path, names, wanted):
    with pytest.raises(UserError, match=wanted):
        read(export(tmp_path, lines(*BOXES), names=names))
