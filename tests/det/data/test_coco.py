"""Ground truth has one form, whatever the file has, and boxes in another form are recognized."""

import json
import logging
import math
import os

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog, get_detection_dataset_dicts
from detectron2.data.datasets import load_coco_json, register_coco_instances
from detectron2.structures import BoxMode
from pycocotools import mask as coco_mask

from densedist.common.data import digits
from densedist.common.errors import UserError
from densedist.det import checks, loader
from densedist.det.data import classes, coco_file, registering
from densedist.det.data import coco as coco_reader
from densedist.det.data.boxes import other_form
from densedist.det.data.coco import Columns, forget, read_coco
from densedist.det.data.dicts import read_dicts
from densedist.det.data.loaded import of_detectron2
from densedist.det.data.masks import UnreadableError, are_damaged, readable
from helpers.coco import CLASSES, change, coco, without
from helpers.tiny import STUDENT, TEACHER, config


@pytest.fixture
def read(tmp_path):
    def call(content):
        file = tmp_path / "a.json"
        file.write_text(json.dumps(content))
        return read_coco(str(file))

    return call


@pytest.fixture(autouse=True)
def nothing_kept():
    yield
    forget()


def test_what_is_missing_is_filled_in(read):
    content = coco((5, 5, 20, 10))
    for annotation in content["annotations"]:
        del annotation["id"], annotation["iscrowd"]
    content["annotations"][1] |= {"area": 120.5}
    first, second = read(content).annotations
    assert (first["id"], second["id"]) == (1, 2)
    assert (first["iscrowd"], first["area"]) == (0, 200)
    assert second["area"] == 120.5


@pytest.mark.parametrize("area", [0, -3, float("nan"), None])
def test_an_area_that_is_none_is_taken_from_the_box(read, area):
    """pycocotools leaves objects of a negative area out, without a word."""
    assert read(change("annotations", 0, area=area)).annotations[0]["area"] == 400


def test_ids_of_annotations_count_from_one(read):
    """To pycocotools an object with the id 0 is one that nobody found."""
    assert [a["id"] for a in read(change("annotations", 0, id=0)).annotations] == [1, 2]


def test_whole_numbers_stay_the_ids_of_images(read):
    found = read(change("images", 1, id=7.0) | {"annotations": []})
    assert [(image["id"], type(image["id"])) for image in found.images] == [(0, int), (7, int)]
    assert not found.renumbered


def test_other_ids_are_counted(read):
    content = coco()
    for image, annotation in zip(content["images"], content["annotations"], strict=True):
        image["id"] = annotation["image_id"] = f"frame-{9 - image['id']}"
    for category in content["categories"]:
        category["id"] = f"c{category['id']}"
    for annotation in content["annotations"]:
        annotation["category_id"] = f"c{annotation['category_id']}"
    found = read(content)
    assert [(image["id"], image["given"]) for image in found.images] == [(1, "frame-9"), (2, "frame-8")]
    assert [a["image_id"] for a in found.annotations] == [1, 2]
    assert [a["category_id"] for a in found.annotations] == [2, 3]
    assert found.names == list(CLASSES)
    assert found.renumbered


def test_names_that_are_numbers_are_text(read):
    content = coco()
    content["categories"] = [{"id": n, "name": n} for n in range(10)]
    assert read(content).names == list(CLASSES)


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (change("categories", 1, name=None), "category 1: name is None: want text"),
        (change("categories", 1, name=True), "category 1: name is True: want text"),
        (change("categories", 1, name=" "), "category 1: name is ' ': want text"),
        (change("categories", 1, name=2), "names of categories are given twice, first of 1: '2'; make them unique"),
        (change("annotations", 1, iscrowd="no"), "annotation 11: iscrowd is 'no': want 0 or 1"),
        (change("annotations", 1, area="12"), "annotation 11: area is '12': want a number of pixels"),
        (change("images", 0, height=48.5), "image 0: height and width are not whole numbers above 0"),
        (without("annotations", 1, "category_id"), "number 1 of annotations has no category_id"),
    ],
)
def test_what_cannot_be_put_right_is_refused(read, content, wanted):
    with pytest.raises(UserError) as refused:
        read(content)
    assert str(refused.value).endswith(f"a.json: {wanted}")


def test_a_file_is_read_once_and_again_when_it_has_changed(read, tmp_path):
    first = read(coco())
    assert read_coco(str(tmp_path / "a.json")) is first
    assert len(read(coco() | {"annotations": []}).annotations) == 0


@pytest.fixture
def packed(monkeypatch, tmp_path):
    """Files are packed in a cache of the test's own, however small they are."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for module in (coco_reader, registering):
        monkeypatch.setattr(module, "LARGE", 0)


def many(count, **changes):
    """Return annotations 100, 101, … of two images, and changes of some of them by number."""
    content = coco()
    one = content["annotations"][0] | {"segmentation": [[5, 5, 25, 5, 25, 25]]}
    content["annotations"] = [one | {"id": 100 + n, "image_id": n % 2} for n in range(count)]
    for number, values in changes.items():
        content["annotations"][int(number[1:])] |= values
    return content


def written(tmp_path, content):
    file = tmp_path / "a.json"
    file.write_text(json.dumps(content))
    os.utime(file, (1, 1))
    forget()
    return str(file)


@pytest.mark.parametrize(
    "content",
    [
        many(5, _1={"iscrowd": 1, "segmentation": None}, _2={"area": -1}, _4={"segmentation": "x"}),
        change("images", 0, id="a") | {"annotations": []},
        {key: value for key, value in coco().items() if key != "annotations"},
    ],
)
def test_a_large_file_is_read_once_on_a_machine(tmp_path, packed, monkeypatch, caplog, content):
    file = written(tmp_path, content)
    monkeypatch.setattr(coco_reader, "LARGE", 10**9)
    wanted = read_coco(file)
    monkeypatch.setattr(coco_reader, "LARGE", 0)
    caplog.clear()
    seen = []
    for number in range(2):
        forget()
        if number:
            monkeypatch.setattr(coco_reader, "read_content", lambda _: pytest.fail("read again"))
        found = read_coco(file)
        for key in ("images", "categories", "annotations", "has_labels", "renumbered", "duplicates"):
            assert getattr(found, key) == getattr(wanted, key)
        assert found.part(1, 2).annotations == wanted.part(1, 2).annotations
        assert found.columns.boxes.tolist() == [a["bbox"] for a in wanted.annotations]
        seen.append([record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING])
        caplog.clear()
    assert seen[0] == seen[1]  # warnings are for every start
    assert bool(seen[0]) == (content["images"][0]["id"] == "a")


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"_5": {"bbox": [1, 2]}, "_3": {"iscrowd": 7}, "_6": {"area": "1"}}, "annotation 103: iscrowd is 7: want"),
        ({"_4": {"bbox": [1, 2, 3, True]}, "_6": {"bbox": None}}, "annotation 104: bbox is [1, 2, 3, True]: want"),
        ({"_6": {"area": [3]}, "_7": {"bbox": []}}, "annotation 106: area is [3]: want a number of pixels"),
        ({"_6": {"iscrowd": 1, "bbox": [math.inf, 1, 2, 3]}}, "annotation 106: iscrowd is 1, but bbox is [inf, 1"),
        ({"_5": {"id": 101}, "_6": {"id": 102}}, "ids of annotations are given twice, first of 2: 101; make"),
        ({"_5": {"image_id": 9}, "_6": {"image_id": 8}}, "the image_id of 2 annotations is not among the images, fir"),
        ({"_7": {"category_id": []}}, "number 7 of annotations has a list or an object for image_id, category_id"),
        ({"_6": {"ignore": 1}, "_7": {"ignore": 1}}, '2 annotations have "ignore", first annotation 106, which'),
    ],
)
def test_the_first_of_many_is_named(tmp_path, packed, changes, wanted):
    with pytest.raises(UserError) as refused:
        read_coco(file := written(tmp_path, many(9, **changes)))
    assert str(refused.value).startswith(f"{file}: {wanted}")


def test_segmentations_are_read_one_by_one_where_a_block_has_a_strange_one(tmp_path, monkeypatch):
    monkeypatch.setattr(coco_file, "BLOCK", 3)
    strange = {
        "_4": {"segmentation": [[1, 2, 3, 4], [1, 2, 3, 4, 5, 6]]},
        "_7": {"segmentation": [[1, 2, 3, 4, 5, "a"]]},
    }
    found = read_coco(written(tmp_path, many(9, **strange))).annotations
    usual = [[5, 5, 25, 5, 25, 25]]
    assert [a.get("segmentation") for a in found] == [*[usual] * 4, [[1, 2, 3, 4, 5, 6]], *[usual] * 2, None, usual]
    assert [a["given"] for a in found if "unreadable" in a] == [107]


def test_bad_boxes_of_a_large_file(message, data, packed):
    """The message names the first by the order of the file, which is not that of the images."""
    keys = data(many(9, _5={"bbox": [5, 5, 0, 9]}, _6={"bbox": [5, 5, 0, 8]}))
    assert "2 boxes of data_0/a.json are not finite" in message(*keys)
    assert "first annotation 105 with [5, 5, 0, 9]; correct" in message(*keys)


@pytest.mark.parametrize("part", ["", "[1:]"])
def test_dicts_of_a_large_file_are_those_of_a_small_one(data, packed, part, caplog):
    """Those of Detectron2's get_detection_dataset_dicts, with what it logs."""
    keys = data(many(9, _1={"iscrowd": 1}, **{f"_{n}": {"iscrowd": 1} for n in (3, 5, 7)}))
    cfg = config(STUDENT, *keys, "DATASETS.TRAIN", f"['data_0{part}']" if part else "['data_0']")
    registering.register_declared(cfg)
    name = f"data_0{part}"
    caplog.set_level(logging.INFO)
    wanted = get_detection_dataset_dicts([name], not part)
    texts = [record.getMessage() for record in caplog.records if "usable" in record.getMessage()]
    caplog.clear()
    found = loader._chosen([registering.dataset_dicts(name)], [name], not part)
    assert [*found] == wanted
    assert found.wide == [d["width"] > d["height"] for d in wanted]
    assert [record.getMessage() for record in caplog.records if "usable" in record.getMessage()] == texts


def columns_of(dicts):
    each = ((n, a | {"iscrowd": a.get("iscrowd", 0)}) for n, d in enumerate(dicts) for a in d["annotations"])
    return Columns.of(each)


def test_a_data_set_of_detectron2_is_loaded_once_on_a_machine(data, tmp_path, packed, monkeypatch):
    data(content := many(9, _1={"iscrowd": 1}))
    file = tmp_path / "data_0" / "a.json"
    os.utime(file, (1, 1))
    register_coco_instances("own", {"thing_classes": list(CLASSES)}, str(file), str(tmp_path / "data_0"))
    wanted = DatasetCatalog.get("own")
    monkeypatch.setattr(registering, "BUILT_IN", {"own"})
    first = registering.dataset_dicts("own")
    assert registering.dataset_dicts("own") is first
    of_detectron2.cache_clear()  # as in another process
    monkeypatch.setattr(DatasetCatalog, "get", lambda _: pytest.fail("loaded again"))
    again = registering.dataset_dicts("own")
    assert [*first] == [*again] == wanted
    assert again.objects.tolist() == [5, 3]
    assert again.histogram.sum() == len(content["annotations"]) - 1
    for name in ("boxes", "images", "crowds", "categories"):
        kept, looked_up = getattr(again.columns, name), getattr(columns_of(wanted), name)
        assert np.array_equal(kept, looked_up)
        assert len(kept) == len(content["annotations"])
    monkeypatch.setattr(Columns, "of", lambda _: pytest.fail("looked up again"))
    read, judged = read_dicts("own", CLASSES, "own", "TRAIN", False)
    assert judged
    assert read.object_count == 8


def test_dicts_are_those_of_detectron2(small_digits):
    """For a file that has nothing to put right."""
    wanted = load_coco_json(str(digits.annotations("val")), str(digits.images("val")))
    found = DatasetCatalog.get("digits_val")
    numbers = {category: n for n, category in enumerate(range(1, 11))}
    for image in wanted:
        for annotation in image["annotations"]:
            annotation["category_id"] = numbers[annotation["category_id"]]
    assert found == wanted


def test_without_masks_nobody_looks_at_segmentations(data):
    """Detectron2 would leave out the objects whose polygons have no three points."""
    content = coco()
    content["annotations"][0]["segmentation"] = [[]]
    content["annotations"][1]["segmentation"] = [[1.0, 2.0, 3.0, 4.0]]
    cfg = config(STUDENT, *data(content))
    registering.register_declared(cfg)
    checks.check_data(cfg, "TRAIN")
    assert [len(d["annotations"]) for d in DatasetCatalog.get("data_0")] == [1, 1]


def polygons():
    content = coco()
    for annotation in content["annotations"]:
        annotation["segmentation"] = [[5, 5, 25, 5, 25, 25]]
    return content


def with_segmentation(segmentation):
    content = polygons()
    content["annotations"][1]["segmentation"] = segmentation
    return content


LENGTHS = coco_mask.encode(np.asfortranarray(np.eye(48, 64, dtype=np.uint8)))
LENGTHS["counts"] = LENGTHS["counts"].decode()
NONE = "have no segmentation, first annotation 11; add them, or set MODEL.MASK_ON to False"
UNREAD = "the segmentation of 1 annotations of data_0/a.json cannot be read, first annotation 11, which"
END = "; correct them, or set MODEL.MASK_ON to False"


@pytest.mark.parametrize("side", ["TRAIN", "TEST"])
@pytest.mark.parametrize(
    ("segmentation", "wanted"),
    [
        ([[]], f"1 annotations of data_0/a.json {NONE}"),
        ([[1.0, 2.0, 3.0, 4.0]], f"1 annotations of data_0/a.json {NONE}"),
        ("polygon", f"{UNREAD} is 'polygon': want polygons or run lengths{END}"),
        ([["a"]], f"{UNREAD} is not a list of polygons [x, y, x, y, …]{END}"),
        (
            {"size": [64, 48], "counts": "x"},
            f"{UNREAD} has run lengths of size [64, 48]: want the image's [48, 64]{END}",
        ),
        (
            {"size": [48, 64], "counts": [5, 5]},
            f"{UNREAD} has run lengths for 10 pixels: want the image's 3072{END}",
        ),
        ({"size": 48, "counts": "x"}, f"{UNREAD} has run lengths of size 48: want the image's [48, 64]{END}"),
        ({"size": [48, 64], "counts": "x"}, f"{UNREAD} has damaged run lengths{END}"),
        ([[1, 2, 3, 4, 5, 1e12]], f"{UNREAD} has a coordinate of 1e+12 pixels{END}"),
        ([[1, 2, 3, 4, 5, float("nan")]], f"{UNREAD} has a coordinate of nan pixels{END}"),
        (
            {"size": [48, 64], "counts": None},
            f"{UNREAD} has run lengths whose counts are neither text nor whole numbers{END}",
        ),
    ],
)
def test_masks_that_cannot_be_used(message, data, side, segmentation, wanted):
    keys = data(with_segmentation(segmentation), side)
    assert message(*keys, file=TEACHER) == f"DATASETS.{side}: data set data_0: {wanted}"


@pytest.mark.parametrize(
    ("polygon", "wanted"),
    [
        (
            [0.1, 0.1, 0.4, 0.1, 0.4, 0.5],
            "all of them lie within the first pixel: are they relative to the image size",
        ),
        ([30, 30, 50, 30, 50, 40], "2 of 2 lie beside their box: are they [y, x], or of images of another size?"),
    ],
)
def test_polygons_that_are_not_those_of_the_boxes(message, data, polygon, wanted):
    content = polygons()
    for annotation in content["annotations"]:
        annotation["segmentation"] = [polygon]
    seen = message(*data(content), file=TEACHER)
    start = "DATASETS.TRAIN: data set data_0: the polygons of data_0/a.json are not those of its boxes: "
    assert seen.startswith(start + wanted)


def test_run_lengths_are_no_polygons(message, data):
    seen = message(*data(with_segmentation(LENGTHS)), "INPUT.MASK_FORMAT", "polygon", file=TEACHER)
    assert seen == (
        "DATASETS.TRAIN: data set data_0: INPUT.MASK_FORMAT is polygon, but 1 annotations of data_0/a.json have run "
        "lengths (RLE), first annotation 11: set it to bitmask, or set MODEL.MASK_ON to False"
    )


def test_masks_are_read_in_all_their_forms():
    assert readable([1, 2, 3, 4, 5, 6], 9, 9) == [[1, 2, 3, 4, 5, 6]]
    assert readable([[1, 2], [1, 2, 3, 4, 5, 6]], 9, 9) == [[1, 2, 3, 4, 5, 6]]
    area = coco_mask.area(readable({"size": [2, 3], "counts": [1, 4, 1]}, 2, 3))
    assert area == 4
    for nothing in (None, [], {}, [[]]):
        assert readable(nothing, 9, 9) is None
    with pytest.raises(UnreadableError):
        readable([[None]], 9, 9)


def test_whole_run_lengths_are_told_from_damaged_ones():
    """pycocotools fills what is missing from whatever the memory holds."""
    rng = np.random.default_rng(0)
    for number in range(60):
        height, width = (int(side) for side in rng.integers(1, 80, 2))
        bits = rng.random((height, width)) < number / 59
        lengths = coco_mask.encode(np.asfortranarray(bits.astype(np.uint8)))
        assert not are_damaged(lengths)
        text = {"size": [height, width], "counts": lengths["counts"].decode()}
        assert not are_damaged(text)
        assert are_damaged(text | {"counts": text["counts"][:-1]})
        assert are_damaged(text | {"size": [height + 1, width]})
    assert are_damaged({"size": [2, 2], "counts": "é"})


def test_names_that_differ_in_case_are_a_warning(read, caplog):
    content = coco()
    content["categories"][3]["name"], content["categories"][4]["name"] = "Cat", "cat "
    assert read(content).names[3:5] == ["Cat", "cat "]
    assert "a.json: 'Cat' and 'cat ' are different categories: is this intended?" in caplog.text


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_files_that_a_mark_begins_with(tmp_path, encoding):
    content = coco()
    content["categories"][0]["name"] = "é"
    (tmp_path / "a.json").write_text(json.dumps(content, ensure_ascii=False), encoding=encoding)
    assert read_coco(str(tmp_path / "a.json")).names[0] == "é"


@pytest.mark.parametrize("ids", [(2**63, -1), (-(2**63) - 1, 0), ("a", 1), (None, 1.5)])
def test_ids_that_no_array_of_whole_numbers_holds_are_counted(read, ids):
    content = coco()
    for image, annotation, i in zip(content["images"], content["annotations"], ids, strict=True):
        image["id"] = annotation["image_id"] = i
    found = read(content)
    assert [image["id"] for image in found.images] == [a["image_id"] for a in found.annotations] == [1, 2]
    assert found.renumbered


def test_large_and_negative_ids_stay(read):
    content = coco()
    for image, annotation, i in zip(content["images"], content["annotations"], (2**63 - 1, -(2**63)), strict=True):
        image["id"] = annotation["image_id"] = i
    found = read(content)
    assert [image["id"] for image in found.images] == [-(2**63), 2**63 - 1]
    assert not found.renumbered


@pytest.mark.parametrize("i", [None, [3], {"a": 1}])
def test_ids_of_annotations_that_are_none(read, i):
    found = read(change("annotations", 0, id=i)).annotations
    assert [a["id"] for a in found] == [1, 2]


def test_a_crowd_without_a_mask_has_its_box(read):
    """pycocotools asks for one, where masks are scored."""
    for segmentation in (None, [], [[]]):
        crowd, other = read(change("annotations", 0, iscrowd=1, segmentation=segmentation)).annotations
        assert crowd["segmentation"] == [[5.0, 5.0, 25.0, 5.0, 25.0, 25.0, 5.0, 25.0]]
        assert "segmentation" not in other


def test_run_lengths_fit_bit_masks(data):
    cfg = config(TEACHER, *data(with_segmentation(LENGTHS)), "INPUT.MASK_FORMAT", "bitmask")
    registering.register_declared(cfg)
    checks.check_data(cfg, "TRAIN")


def test_keypoints_that_nothing_names(message, data):
    keys = data(change("annotations", 0, keypoints=[1, 2, 2]))
    assert message(*keys, "MODEL.KEYPOINT_ON", "True") == (
        "DATASETS.TRAIN: data set data_0: MODEL.KEYPOINT_ON is True, but its keypoints have no names: set "
        "MODEL.KEYPOINT_ON to False, or register it in a file of IMPORTS, with keypoint_names and keypoint_flip_map in "
        "its metadata"
    )


@pytest.mark.parametrize(
    ("content", "wanted"),
    [
        (coco(), "no annotation of {file} has keypoints: set MODEL.KEYPOINT_ON to False"),
        (
            change("annotations", 0, keypoints=[1, 2, 2]),
            "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS is 2, but it has 1 keypoints",
        ),
    ],
)
def test_keypoints_that_are_not_those_of_the_model(data, tmp_path, content, wanted):
    keys = data(content)
    file = tmp_path / "data_0" / "a.json"
    metadata = {"keypoint_names": ["a", "b"], "keypoint_flip_map": []}
    register_coco_instances("data_0", metadata, str(file), str(tmp_path / "data_0"))
    on = ["MODEL.KEYPOINT_ON", "True", "MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS", "2", "DATASETS.COCO_FORMAT", "[]"]
    with pytest.raises(UserError) as refused:
        checks.check_data(config(STUDENT, *keys, *on), "TRAIN")
    assert str(refused.value) == f"DATASETS.TRAIN: data set data_0: {wanted.format(file=file)}"


def test_a_loss_that_needs_counts_nobody_gave(message, data):
    sigmoid = ["MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", "True", "MODEL.ROI_BOX_HEAD.USE_FED_LOSS", "True"]
    assert message(*data(coco()), *sigmoid) == (
        "DATASETS.TRAIN: data set data_0: MODEL.ROI_BOX_HEAD.USE_FED_LOSS needs to know how many images each class is "
        "in: set it to False, or register the data set in a file of IMPORTS, with class_image_count in its metadata"
    )


def scattered(form):
    """40 boxes, anywhere in 8 images of 64x48 pixels, in a form."""
    rng = np.random.default_rng(0)
    content = coco()
    content["images"] = [{"id": i, "file_name": "0.png", "height": 48, "width": 64} for i in range(8)]
    content["annotations"] = []
    for number in range(40):
        w, h = rng.uniform(6, 20, 2)
        x, y = rng.uniform(0, 64 - w), rng.uniform(0, 48 - h)
        box = {
            "xywh": [x, y, w, h],
            "corners": [x, y, x + w, y + h],
            "centers": [x + w / 2, y + h / 2, w, h],
            "parts": [x / 64, y / 48, w / 64, h / 48],
            "twice": [2 * x, 2 * y, 2 * w, 2 * h],
        }[form]
        content["annotations"].append({"id": number, "image_id": number % 8, "category_id": 1, "bbox": box})
    return content


@pytest.mark.parametrize(
    ("form", "wanted"),
    [
        ("corners", "and none would as [x1, y1, x2, y2]: are they that?"),
        ("centers", "and none would as [center x, center y, w, h]: are they that?"),
        ("parts", "all of them lie within the first pixel: are they relative to the image size?"),
        ("twice", "are they corners, or of images of another size?"),
    ],
)
def test_boxes_in_another_form(message, data, form, wanted):
    seen = message(*data(scattered(form)))
    assert seen.startswith(
        "DATASETS.TRAIN: data set data_0: the boxes of data_0/a.json are not [x, y, w, h] in pixels: "
    )
    assert seen.endswith(wanted)


def test_boxes_in_their_own_form(read):
    assert other_form(read(scattered("xywh"))) is None
    assert other_form(read(coco((-20, -20, 90, 90)))) is None, "two boxes that stick out say nothing"
    big = read(coco((2, 2, 60, 44)))
    assert other_form(big) is None, "of one big object each the corners would lie in the image, too"


def test_a_class_without_objects_is_a_warning(data, caplog):
    cfg = config(STUDENT, *data(coco()))
    registering.register_declared(cfg)
    with caplog.at_level(logging.WARNING):
        checks.check_data(cfg, "TRAIN")
    assert "DATASETS.TRAIN: no object of 0, 3, 4, 5, 6, 7, 8, 9" in caplog.text


def test_data_sets_registered_by_hand_are_checked(data, tmp_path):
    """By a function of the user's, in Detectron2's own form."""
    keys = data(scattered("corners"))
    cfg = config(STUDENT, *keys)
    registering.register_declared(cfg)
    dicts = DatasetCatalog.get("data_0")
    DatasetCatalog.remove("data_0")
    MetadataCatalog.remove("data_0")
    DatasetCatalog.register("data_0", lambda: dicts)
    MetadataCatalog.get("data_0").set(thing_classes=list(CLASSES))
    with pytest.raises(UserError, match="the boxes of data_0 are not"):
        checks.check_data(cfg, "TRAIN")


def test_a_corrected_file_is_seen_in_the_same_process(data, tmp_path):
    content = coco()
    cfg = config(STUDENT, *data(content))
    registering.register_declared(cfg)
    DatasetCatalog.get("data_0")
    content["categories"][0]["name"] = "zero"
    (tmp_path / "data_0" / "a.json").write_text(json.dumps(content))
    registering.register_declared(cfg)
    DatasetCatalog.get("data_0")
    assert classes.class_names("data_0")[0] == "zero"


def by_hand(cfg, **more):
    """The data set registered as a function of dicts, whose files lie where they say, not below image_root again."""
    registering.register_declared(cfg)
    root = MetadataCatalog.get("data_0").image_root
    dicts = [d | {"file_name": os.path.relpath(d["file_name"])} for d in DatasetCatalog.get("data_0")]
    DatasetCatalog.remove("data_0")
    MetadataCatalog.remove("data_0")
    DatasetCatalog.register("data_0", lambda: dicts)
    MetadataCatalog.get("data_0").set(thing_classes=list(CLASSES), image_root=os.path.relpath(root), **more)
    return dicts


@pytest.mark.parametrize("built_in", [False, True])
def test_files_of_dicts_are_where_they_say(data, monkeypatch, built_in):
    """As those of Detectron2's own data sets, under ./datasets."""
    cfg = config(STUDENT, *data(coco()))
    by_hand(cfg, evaluator_type="coco")
    if built_in:
        monkeypatch.setattr(registering, "BUILT_IN", {"data_0"})
    checks.check_data(cfg, "TRAIN")


def test_rotated_boxes_are_left_to_detectron2(data):
    cfg = config(STUDENT, *data(coco()))
    dicts = by_hand(cfg)
    dicts[0]["annotations"][0] |= {"bbox": [15, 15, 20, 20, 30], "bbox_mode": BoxMode.XYWHA_ABS}
    checks.check_data(cfg, "TRAIN")
    dicts[1]["annotations"][0] |= dicts[0]["annotations"][0]
    checks.check_data(cfg, "TRAIN")
