"""What the benchmark of a start makes is a data set of COCO, of which both get a first batch."""

import json

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances

from benchmarks.det import start
from densedist.det.data.coco import LARGE


def test_both_get_a_batch_of_the_data(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    start.write_coco(tmp_path, 14)
    content = json.loads((tmp_path / "coco/annotations/instances_train2017.json").read_text())
    assert (len(content["images"]), len(content["annotations"])) == (14, 14 * start.BOXES)
    inodes = {file.stat().st_ino for file in (tmp_path / "coco/train2017").iterdir()}
    assert len(inodes) == len(start.SIZES)
    seen = [start.figures(who, start.NAMED, tmp_path) for who in ("stock", "ours")]
    assert all(value > 0 for one in seen for value in one.values())
    DatasetCatalog.remove("my_train2017")
    MetadataCatalog.remove("my_train2017")
    places = tmp_path / "coco/annotations/instances_train2017.json", tmp_path / "coco/train2017"
    register_coco_instances("my_train2017", {}, *map(str, places))
    assert len(DatasetCatalog.get("my_train2017")) == 14


@pytest.mark.slow  # eight processes import everything
def test_eight_processes_of_a_machine_share_what_one_has_read(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    start.write_coco(tmp_path, 3600)
    assert (tmp_path / "coco/annotations/instances_train2017.json").stat().st_size > LARGE
    seen = start.figures_of_all("ours", start.NAMED, tmp_path, 8)
    assert all(value > 0 for value in seen.values())
    assert len(list((tmp_path / "cache").rglob("coco-*.bin"))) == 1


def test_a_table_compares_with_stock():
    stock = start.Result(f"{start.STOCK}, named", 10.0, 20.0, 10**9, 10**9)
    ours = start.Result(f"{start.AGAIN}, named", 5.0, 10.0, 5 * 10**8, 10**8)
    assert [line["CPU s / stock"] for line in start.table([stock, ours])] == ["1.00", "0.50"]
