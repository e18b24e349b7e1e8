"""Labels that a teacher wrote: what their numbers mean is written beside them, and has to be what a config says."""

import json
from pathlib import Path

from densedist.common.errors import UserError
from densedist.common.labeling import RECORD
from densedist.seg.labels import IGNORE, UNKNOWN, Classes

LABEL_IDS, IGNORED_ID = "label_ids", "ignored_id"  # in the record: of each class that occurs; of pixels without a label


def check_written(folder: Path, classes: Classes, key: str) -> None:
    """Make sure that the labels of a folder, if a teacher wrote them, have the classes' own numbers.

    Args:
        folder: in Cityscapes' form.
        key: the config key that names it, for messages.

    Raises:
        UserError: a labelId stands for another class.
    """
    file = folder / RECORD
    record = json.loads(file.read_text()) if file.is_file() else {}
    meant = record.get(LABEL_IDS, {}) | ({"ignored": record[IGNORED_ID]} if IGNORED_ID in record else {})
    for name, label_id in meant.items():
        number = int(classes.train_ids[label_id])
        # What the config does not name is refused where it is read.
        if number not in (IGNORE, UNKNOWN) and classes.names[number] != name:
            raise UserError(
                f"{key}: labelId {label_id} in {folder} is {name}, as {file} says, but {classes.names[number]} by "
                "DATASETS.CLASSES and IGNORED_IDS: let the teacher's config have the names and ids of this one, and "
                "write the labels anew"
            )
