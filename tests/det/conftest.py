"""Data sets in COCO format, and what a training run on them says."""

import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from helpers.calling import densedist
from helpers.tiny import SMALL, STUDENT


@pytest.fixture
def data(tmp_path):
    """Writes a data set in COCO format and gives the overrides that name it as side."""
    names = []

    def write(content, side="TRAIN"):
        name = f"data_{len(names)}"
        names.append(name)
        folder = tmp_path / name
        folder.mkdir()
        for i in range(2):
            Image.fromarray(np.full((48, 64, 3), 100 * i, np.uint8)).save(folder / f"{i}.png")
        (folder / "a.json").write_text(content if isinstance(content, str) else json.dumps(content))
        entry = [name, str(folder / "a.json"), str(folder)]
        return ["DATASETS.COCO_FORMAT", str([entry]), "DATASETS.TEST", "()", f"DATASETS.{side}", f"('{name}',)"]

    yield write
    for name in set(names) & set(DatasetCatalog.list()):
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@pytest.fixture
def message(tmp_path, capsys):
    def call(*overrides, file=STUDENT):
        output = tmp_path / "out"
        with pytest.raises(SystemExit) as stop:
            densedist("train", "det", "--config-file", str(file), "OUTPUT_DIR", str(output), *SMALL, *overrides)
        assert stop.value.code == 2
        assert not output.exists()
        seen = capsys.readouterr().err
        assert "Traceback" not in seen
        return seen.strip().splitlines()[-1].removeprefix("error: ").replace(f"{tmp_path}/", "")

    return call
