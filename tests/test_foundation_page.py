"""docs/foundation.md: its commands run in their order, with detectors of random weights, from its configs."""

import json
import re
import runpy
import sys

from helpers.calling import densedist
from helpers.pages import ROOT, blocks, lines

PAGE = "foundation.md"
SHORT = ["SOLVER.IMS_PER_BATCH", 2, "DATALOADER.NUM_WORKERS", 0, "TEST.EXAMPLES", 0, "REHEARSAL", False]


def test_the_commands_of_the_page(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    for _, text in blocks(PAGE, "yaml"):
        name = re.match(r"# (\w+\.yaml)\n", text)[1]
        (tmp_path / name).write_text(text)
    for words in lines(text for mark, text in blocks(PAGE, "sh") if mark != "needs-data"):
        assert words[:2] == ["uv", "run"]
        if words[2] == "python":
            monkeypatch.setattr(sys, "argv", words[3:])
            runpy.run_path(str(ROOT / words[3]), run_name="__main__")
        else:
            densedist(*words[3:], *(SHORT if words[3] == "train" else []))
    record = json.loads((tmp_path / "output" / "boxes" / "labels.json").read_text())
    assert record["made_of"] == {"vehicle": ["car", "bus", "truck"], "person": ["person"]}
    assert record["left_out"] == ["dog"]
    asked = json.loads((tmp_path / "output" / "asked" / "labels.json").read_text())
    assert asked["made_of"] == {"vehicle": ["a car", "a bus"], "person": ["a person"]}
    assert (tmp_path / "output" / "from_boxes" / "model_final.pth").is_file()
    masks = json.loads((tmp_path / "output" / "masks" / "annotations.json").read_text())["annotations"]
    assert masks
    assert all("counts" in annotation["segmentation"] for annotation in masks)
