"""Data as it lies there: YOLO's and Pascal VOC's formats and folders of images, read as the COCO file of the same."""

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances
from detectron2.data.datasets.pascal_voc import load_voc_instances

from densedist.common.errors import UserError
from densedist.common.run_files import locate
from densedist.det.data import as_coco, voc, yolo
from densedist.det.data.coco import read_coco
from densedist.det.data.registering import register_declared
from densedist.det.models import load_trained
from helpers.calling import complaint, densedist
from helpers.tiny import SMALL, STUDENT, config, save_teacher

# Boxes x, y, w, h in pixels, by image; the class's number first.
CLASSES = [str(n) for n in range(10)]
SIZE = (48, 64)
OBJECTS = {"a": [(3, 8, 6, 16, 24), (0, 0, 0, 64, 48)], "b": [(9, 40, 20, 8, 8)], "c": []}


def picture(path, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(seed).integers(0, 256, (*SIZE, 3), dtype=np.uint8))


def write_yolo(root, split="train", **more):
    for number, (name, objects) in enumerate(OBJECTS.items()):
        picture(root / "images" / split / f"{name}.jpg", number)
        lines = [f"{kind} {(x + w / 2) / 64} {(y + h / 2) / 48} {w / 64} {h / 48}" for kind, x, y, w, h in objects]
        if lines:
            file = root / "labels" / split / f"{name}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text("\n".join(lines) + "\n")
    content = {"train": "images/train", "val": "images/val", "names": CLASSES} | more
    (root / "data.yaml").write_text(json.dumps(content))
    return root / "data.yaml"


def write_voc(root):
    for number, (name, objects) in enumerate(OBJECTS.items()):
        picture(root / "JPEGImages" / f"{name}.jpg", number)
        found = "".join(
            f"<object><name>{CLASSES[kind]}</name><difficult>{int(kind == 9)}</difficult><bndbox><xmin>{x + 1}</xmin>"
            f"<ymin>{y + 1}</ymin><xmax>{x + w}</xmax><ymax>{y + h}</ymax></bndbox></object>"
            for kind, x, y, w, h in objects
        )
        (root / "Annotations").mkdir(exist_ok=True)
        size = "<size><width>64</width><height>48</height><depth>3</depth></size>"
        (root / "Annotations" / f"{name}.xml").write_text(f"<annotation>{size}{found}</annotation>")
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "ImageSets" / "Main" / "train.txt").write_text("a\nb 1\n\nc -1\n")
    return root


def boxes(made):
    """Of a COCO file, by image: what was written."""
    coco = read_coco(made)
    names = {image["id"]: Path(image["file_name"]).stem for image in coco.images}
    found = {name: [] for name in names.values()}
    for one in coco.annotations:
        kind = CLASSES.index(coco.names[one["category_id"]])
        found[names[one["image_id"]]].append((kind, *(pytest.approx(x, abs=1e-4) for x in one["bbox"])))
    return found


def test_yolo_boxes(tmp_path):
    made, root = yolo.as_coco(str(write_yolo(tmp_path)), "train")
    assert boxes(made) == OBJECTS
    coco = read_coco(made)
    assert coco.names == CLASSES
    assert [(i["height"], i["width"]) for i in coco.images] == [SIZE] * 3
    assert [Path(root, i["file_name"]) for i in coco.images] == sorted((tmp_path / "images/train").iterdir())


def test_yolo_polygons_are_masks_with_their_boxes(tmp_path):
    file = write_yolo(tmp_path)
    (tmp_path / "labels/train/c.txt").write_text("2 0.25 0.5 0.5 0.5 0.5 0.75\n")
    (annotation,) = [a for a in read_coco(yolo.as_coco(str(file), "train")[0]).annotations if a["category_id"] == 2]
    assert annotation["bbox"] == [16, 24, 16, 12]
    assert annotation["segmentation"] == [[16, 24, 32, 24, 32, 36]]


@pytest.mark.parametrize("where", ["list", "text", "dict", "path"])
def test_yolo_splits(where, tmp_path):
    """A list of folders, a text file of images, names by number, a root of their own."""
    file = write_yolo(tmp_path / "here")
    more = {}
    if where == "list":
        write_yolo(tmp_path / "here", split="val")
        more = {"train": ["images/train", "images/val"]}
    if where == "text":
        lines = "\ufeff./images/train/b.jpg\r\n./images/train/a.jpg\r\n"  # as Windows writes it
        (tmp_path / "here" / "list.txt").write_text(lines)
        more = {"train": "list.txt"}
    if where == "dict":
        more = {"names": dict(enumerate(CLASSES))}
    if where == "path":
        more = {"path": str(tmp_path / "here")}
        file = tmp_path / "elsewhere.yaml"
    content = {"train": "images/train", "names": CLASSES} | more
    file.write_text(yaml.safe_dump(content))
    found = boxes(yolo.as_coco(str(file), "train")[0])
    wanted = {"text": {name: OBJECTS[name] for name in "ba"}, "list": {n: o + o for n, o in OBJECTS.items()}}
    assert found == wanted.get(where, OBJECTS)


def test_voc_boxes_are_detectron2s(tmp_path):
    made, root = voc.as_coco(str(write_voc(tmp_path)), "train")
    known = [CLASSES[kind] for kind in sorted({one[0] for objects in OBJECTS.values() for one in objects})]
    coco = read_coco(made)
    assert coco.names == known
    assert root == str(tmp_path / "JPEGImages")
    assert boxes(made) == OBJECTS
    assert [a["iscrowd"] for a in coco.annotations] == [0, 0, 1]  # the difficult one
    (tmp_path / "ImageSets/Main/train.txt").write_text("a\nb\nc\n")  # Detectron2 reads whole lines
    theirs = load_voc_instances(str(tmp_path), "train", known)
    for image, wanted in zip(coco.images, theirs, strict=True):
        mine = [a for a in coco.annotations if a["image_id"] == image["id"]]
        for a, b in zip(mine, wanted["annotations"], strict=True):
            x, y, w, h = a["bbox"]
            assert [x, y, x + w, y + h] == b["bbox"]
            assert a["category_id"] == b["category_id"]


def test_voc_files_in_folders_of_their_own(tmp_path):
    """As datumaro and CVAT write them: each image has the annotation of its own folder."""
    for number, town in enumerate(("a", "b")):
        picture(tmp_path / "JPEGImages" / town / "0.jpg")
        corners = "".join(f"<{side}>{3 + number}</{side}>" for side in ("xmin", "ymin", "xmax", "ymax"))
        annotation = tmp_path / "Annotations" / town / "0.xml"
        annotation.parent.mkdir(parents=True)
        annotation.write_text(f"<annotation><object><name>x</name><bndbox>{corners}</bndbox></object></annotation>")
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    (tmp_path / "ImageSets" / "Main" / "train.txt").write_text("a/0\nb/0\n")
    made = json.loads(Path(voc.as_coco(str(tmp_path), "train")[0]).read_text())
    assert [image["file_name"] for image in made["images"]] == ["a/0.jpg", "b/0.jpg"]
    assert [a["bbox"][:2] for a in made["annotations"]] == [[2, 2], [3, 3]]
    (tmp_path / "Annotations" / "b" / "0.xml").rename(tmp_path / "Annotations" / "0.xml")
    with pytest.raises(UserError, match=r"there is no .*Annotations/b/0.xml; want JPEGImages"):
        voc.as_coco(str(tmp_path), "train")


def test_a_change_is_seen(tmp_path):
    file = write_yolo(tmp_path)
    first, _ = yolo.as_coco(str(file), "train")
    assert yolo.as_coco(str(file), "train")[0] == first
    label = tmp_path / "labels/train/b.txt"
    label.write_text("1 0.5 0.5 0.5 0.5\n")
    os.utime(label, ns=(0, 12345))
    second, _ = yolo.as_coco(str(file), "train")
    assert second != first
    assert boxes(second)["b"] == [(1, 16, 12, 32, 24)]


WRONG = [
    ("yaml", "names: [a, b", "cannot be read as YAML"),
    ("yaml", "[1, 2]", "is not a YOLO data.yaml"),
    ("yaml", "names: [a]\ntrain: x\ntrain: y", "has train twice, in lines 2 and 3: join them, or leave one out"),
    ("yaml", "train: images/train", "names is None: want a list"),
    ("yaml", "names: {1: a, 2: b}", "want a list, or a dict with the numbers from 0 on"),
    ("yaml", "{names: [a], nc: 2}", "nc is 2, but there are 1 names"),
    ("yaml", "{names: [a], val: images/val}", "has no split train: it has val"),
    ("yaml", "{names: [a], train: nowhere}", "there is no .*nowhere: want a folder"),
    ("yaml", "{names: [a], train: labels}", "labels has no image"),
    ("label", "1 0.5 0.5 0.5", "a.txt, line 1: 3 numbers after the class"),
    ("label", "1 0.5 0.5 0.5 0.5 0.9", "5 numbers after the class"),
    ("label", "0 0.5 0.5 0.5 0.5\nx 1 2 3 4", "line 2: 'x 1 2 3 4': want numbers"),
    ("label", "\0\ufffd", "line 1: .*: want numbers"),
    ("label", "10 0.5 0.5 0.5 0.5", "class 10, but names has classes 0 to 9"),
    ("label", "1.5 0.5 0.5 0.5 0.5", "class 1.5, but"),
    ("label", "1 30 20 10 10", "30 is outside the image: want 0 to 1"),
    ("image", "", "cannot be read as an image"),
]


@pytest.mark.parametrize(("part", "text", "message"), WRONG)
def test_yolo_files_that_mean_nothing(part, text, message, tmp_path):
    file = write_yolo(tmp_path)
    places = {"yaml": file, "label": tmp_path / "labels/train/a.txt", "image": tmp_path / "images/train/a.jpg"}
    places[part].write_text(text)
    with pytest.raises(UserError, match=message):
        yolo.as_coco(str(file), "train")


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("ImageSets/Main/train.txt", None, "there is no .*train.txt; want JPEGImages/NAME.jpg"),
        ("ImageSets/Main/train.txt", "\n", "names no image"),
        ("ImageSets/Main/train.txt", "d\n", r"there is no image .*d\.jpg"),
        ("Annotations/a.xml", None, r"there is no .*a\.xml"),
        ("JPEGImages/a.jpg", None, "there is no image"),
        ("Annotations/a.xml", "<annotation>", "cannot be read as XML"),
        ("Annotations/a.xml", "<a><object><name>x</name></object></a>", "an object has no bndbox"),
    ],
)
def test_voc_files_that_mean_nothing(file, text, message, tmp_path):
    place = write_voc(tmp_path) / file
    place.unlink() if text is None else place.write_text(text)
    with pytest.raises(UserError, match=message):
        voc.as_coco(str(tmp_path), "train")


OBJECT = "<object><name>x</name>{}<bndbox><xmin>{}</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"


def write_annotation(root, text, **coding):
    write_voc(root)
    (root / "ImageSets/Main/train.txt").write_text("a\n")
    for name in "bc":
        (root / "Annotations" / f"{name}.xml").unlink()
    (root / "Annotations/a.xml").write_bytes(text.encode(**coding))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<a><size><width>128</width><height>96</height></size></a>" + OBJECT, "cannot be read as XML"),
        (
            "<a><size><width>128</width><height>96</height></size>{}</a>",
            r"a\.xml is of an image of 128x96 pixels, but a\.jpg has 64x48: boxes and image do not belong together",
        ),
        ("<a>{}</a>".replace("{}", OBJECT.replace("x</name>", " </name>")), "an object has no name"),
        ("<a>{difficult}</a>", "difficult is 'very': want 0 or 1"),
        ('<?xml version="1.0" encoding="gb2312"?><a>{}</a>', "cannot be read as XML: multi-byte encodings are not"),
        ('<?xml version="1.0" encoding="nonsense"?><a>{}</a>', "cannot be read as XML: unknown encoding: nonsense"),
    ],
)
def test_voc_annotations_that_mean_something_else(tmp_path, text, message):
    found = OBJECT.format("", 1)
    text = text.replace("{difficult}", OBJECT.format("<difficult>very</difficult>", 1)).replace("{}", found)
    write_annotation(tmp_path, text)
    with pytest.raises(UserError, match=message):
        voc.as_coco(str(tmp_path), "train")


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_voc_annotations_as_others_write_them(tmp_path, coding, caplog):
    """Another coding, sizes of 0, parts of an object, pixels with a fraction, no pose, truncated ones."""
    head = f'<?xml version="1.0" encoding="{coding.removesuffix("-sig")}"?>' if "-sig" not in coding else ""
    part = "<part><name>head</name><bndbox><xmin>2</xmin><ymin>2</ymin><xmax>3</xmax><ymax>3</ymax></bndbox></part>"
    size = "<size><width>0</width><height>0</height><depth>3</depth></size>"
    more = f"<truncated>1</truncated>{part}<difficult> True </difficult>"
    text = head + f"<annotation>{size}{OBJECT.format(more, 1.5)}{OBJECT.format('', 0)}</annotation>"
    write_annotation(tmp_path, text.replace("<name>x<", "<name> é x <"), encoding=coding)
    coco = read_coco(voc.as_coco(str(tmp_path), "train")[0])
    assert coco.names == ["é x"]
    assert [(a["bbox"], a["iscrowd"]) for a in coco.annotations] == [([0.5, 0, 8.5, 9], 1), ([-1, 0, 10, 9], 0)]
    assert "1 boxes begin at pixel 0, but in this form the first pixel is 1: are all boxes a pixel off?" in caplog.text


def test_a_folder_of_images(tmp_path):
    write_yolo(tmp_path)
    made, root = as_coco.of_folder(str(tmp_path / "images"))
    assert root == str(tmp_path / "images")
    assert [i["file_name"] for i in read_coco(made).images] == ["train/a.jpg", "train/b.jpg", "train/c.jpg"]
    with pytest.raises(UserError, match="labels has no image"):
        as_coco.of_folder(str(tmp_path / "labels"))


def forms(tmp_path, name):
    """Keys that train on YOLO's format with a folder of images beside it, and test on VOC's."""
    write_yolo(tmp_path / "yolo")
    return [
        *("DATASETS.YOLO_FORMAT", f"[['{name}', '{tmp_path / 'yolo' / 'data.yaml'}', 'train']]"),
        *("DATASETS.VOC_FORMAT", f"[['other', '{tmp_path / 'voc'}', 'train']]"),
        *("DATASETS.TRAIN", f"('{name}',)", "DATASETS.TEST", f"('{name}[:2]',)"),
        *("DATASETS.UNLABELED", f"('{tmp_path / 'yolo' / 'images'}[:2]',)"),
    ]


def test_only_what_is_used_is_read(tmp_path):
    cfg = config(STUDENT, *forms(tmp_path, "looked_at"))  # there is no data set in VOC's format
    register_declared(cfg)
    assert len(DatasetCatalog.get("looked_at")) == 3
    assert [len(d["annotations"]) for d in DatasetCatalog.get("looked_at[:2]")] == [2, 1]
    assert len(DatasetCatalog.get(cfg.DATASETS.UNLABELED[0])) == 2
    assert MetadataCatalog.get("looked_at").thing_classes == CLASSES
    register_declared(cfg)  # again


def test_a_run_on_them(tmp_path):
    keys = [*SMALL, *forms(tmp_path, "trained_on"), *save_teacher(tmp_path / "teacher"), "SOLVER.MAX_ITER", "1"]
    keys += ["INPUT.MIN_SIZE_TRAIN", "(48,)", "INPUT.MIN_SIZE_TEST", "48", "OUTPUT_DIR", tmp_path / "run"]
    densedist("train", "det", "--config-file", STUDENT, *keys)
    metrics = (tmp_path / "run" / "metrics.json").read_text()
    assert "loss_dist_unlabeled" in metrics
    report = (tmp_path / "run" / "report.html").read_text()
    for side in ("TRAIN", "UNLABELED"):
        assert f"shared   2 of 2 images of DATASETS.TEST are in DATASETS.{side}, too, first" in report
    assert json.loads((tmp_path / "run" / "results.json").read_text())["bbox"]["AP"] >= 0
    # The student goes where its data is not.
    for name in ("trained_on", "trained_on[:2]"):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
    shutil.move(tmp_path / "yolo", tmp_path / "gone")
    assert load_trained(locate(str(tmp_path / "run"))).classes == tuple(CLASSES)
    with pytest.raises(SystemExit):
        densedist("eval", "det", "--weights", tmp_path / "run", "OUTPUT_DIR", tmp_path / "eval")


def write_coco(path, names, **objects):
    """A file in which each image has boxes (class, x, y, w, h); ids start at 5."""
    images = [{"id": n, "file_name": name, "height": 48, "width": 64} for n, name in enumerate(objects, 5)]
    annotations = [
        {"id": 100 * image["id"] + n, "image_id": image["id"], "category_id": names.index(kind) + 3, "bbox": box}
        for image in images
        for n, (kind, *box) in enumerate(objects[image["file_name"]])
    ]
    categories = [{"id": n, "name": name} for n, name in enumerate(names, 3)]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return str(path)


def test_several_coco_files_are_one_data_set(tmp_path):
    one = write_coco(tmp_path / "1.json", ["cat", "dog"], a=[("cat", 1, 2, 3, 4)], b=[])
    two = write_coco(tmp_path / "2.json", ["dog", "cat"], b=[("dog", 5, 6, 7, 8)], c=[("cat", 9, 8, 7, 6)])
    entry = ["joined", [one, two], str(tmp_path)]
    cfg = config(STUDENT, "DATASETS.COCO_FORMAT", str([entry]), "DATASETS.TRAIN", "('joined',)")
    for _ in range(2):  # again
        register_declared(cfg)
        seen = {
            os.path.relpath(d["file_name"], tmp_path): [(a["category_id"], a["bbox"]) for a in d["annotations"]]
            for d in DatasetCatalog.get("joined")
        }
        assert seen == {"a": [(0, [1, 2, 3, 4])], "b": [(1, [5, 6, 7, 8])], "c": [(0, [9, 8, 7, 6])]}
    assert MetadataCatalog.get("joined").thing_classes == ["cat", "dog"]
    apart = as_coco.of_files([one, two], [str(tmp_path / "x"), str(tmp_path / "y")])[0]
    assert [Path(i["file_name"]).parent.name for i in read_coco(apart).images] == ["x", "x", "y", "y"]


def test_coco_files_that_cannot_be_joined(tmp_path):
    one, two = (write_coco(tmp_path / f"{n}.json", names) for n, names in enumerate((["cat"], ["cat", "dog"])))
    with pytest.raises(UserError, match=r"1\.json and .*0\.json have different categories, first dog: an object that"):
        as_coco.of_files([one, two], "images")
    with pytest.raises(UserError, match=r"COCO_FORMAT: 2 JSON files, but 1 folders: want one for each, or one for all"):
        as_coco.of_files([one, two], ["images"])
    with pytest.raises(
        UserError, match=r"COCO_FORMAT: \['a', \[3\], 'b'\] is not \[name, JSON file, image folder\], or lists"
    ):
        register_declared(config(STUDENT, "DATASETS.COCO_FORMAT", "[['a', [3], 'b']]"))


def test_one_of_several_coco_files_whose_boxes_are_parts_of_the_image(tmp_path):
    """Found by the referee: in the company of the others it did not show."""
    one = write_coco(tmp_path / "1.json", ["cat"], a=[("cat", 1, 2, 3, 4)], b=[("cat", 9, 8, 7, 6)])
    two = write_coco(tmp_path / "2.json", ["cat"], c=[("cat", 0.1, 0.2, 0.3, 0.4)])
    with pytest.raises(UserError) as refused:
        as_coco.of_files([one, two], str(tmp_path))
    assert str(refused.value) == (
        f"DATASETS.COCO_FORMAT: the boxes of {two} are not [x, y, w, h] in pixels: all of them lie within the first "
        "pixel: are they relative to the image size?"
    )


def test_a_data_set_that_a_script_has_registered_is_the_same(tmp_path):
    register_coco_instances("by_hand", {}, "a.json", "images")
    entry = "[['by_hand', '{}', 'images']]"
    register_declared(config(STUDENT, "DATASETS.COCO_FORMAT", entry.format("a.json")))
    with pytest.raises(UserError, match="by_hand is the name of another data set"):
        register_declared(config(STUDENT, "DATASETS.COCO_FORMAT", entry.format("b.json")))


def test_a_data_yaml_that_is_missing(tmp_path):
    file = write_yolo(tmp_path)
    with pytest.raises(UserError) as refused:
        yolo.as_coco(str(file.with_stem("dataa")), "train")
    assert str(refused.value) == (
        f"DATASETS.YOLO_FORMAT: there is no file {tmp_path}/dataa.yaml; did you mean {tmp_path}/data.yaml?"
    )


def test_entries_that_are_none(tmp_path, capsys):
    argv = ["train", "det", "--config-file", STUDENT, *SMALL, "OUTPUT_DIR", tmp_path / "run"]
    text = complaint(capsys, *argv, "DATASETS.YOLO_FORMAT", "[['mine', 'data.yaml']]")
    assert text == "DATASETS.YOLO_FORMAT: ['mine', 'data.yaml'] is not [name, data.yaml, split]"
    mistyped = "DATASETS.YOLO_FORMAT", "[['mine_train', 'data.yaml', 'train']]", "DATASETS.TRAIN", "('mine_trian',)"
    text = complaint(capsys, *argv, *mistyped)
    assert text == "DATASETS.TRAIN: there is no data set mine_trian; did you mean mine_train?"
    text = complaint(capsys, *argv, "DATASETS.VOC_FORMAT", f"[['digits_val', '{tmp_path}', 'val']]")
    assert text == "DATASETS.VOC_FORMAT: digits_val is the name of another data set"
    both = [
        *argv,
        "DATASETS.YOLO_FORMAT",
        "[['one', 'a.yaml', 'val']]",
        "DATASETS.VOC_FORMAT",
        "[['one', 'VOC', 'val']]",
    ]
    assert complaint(capsys, *both) == "DATASETS.VOC_FORMAT: one is the name of another data set"
    text = complaint(capsys, *argv, "DATASETS.TRAIN", "('minee',)", "DATASETS.COCO_FORMAT", "[['mine', 'a', 'b']]")
    assert text.startswith("DATASETS.TRAIN: there is no data set minee; did you mean mine")
    assert not (tmp_path / "run").exists()
