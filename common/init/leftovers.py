"""Images in a folder that no data set has."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from densedist.common.data.images import images_in

NAMES = ("unlabeled", "unlabelled", "pool")  # of folders whose images are meant to have no labels
MOST = 8  # folders that are named


@dataclass(frozen=True)
class Leftovers:
    """Folders with images that no data set has.

    Args:
        unlabeled: those whose images are meant to have no labels.
        notes: a line for each of the others.
    """

    unlabeled: Sequence[Path]
    notes: Sequence[str]


def leftovers(folder: Path, files: Collection[Path]) -> Leftovers:
    """Find the images below a folder that are not among the files of its data sets."""
    used = {file.resolve() for file in files}
    of_folder: dict[Path, list[Path]] = defaultdict(list)
    for image in images_in(folder):
        of_folder[image.parent].append(image)
    unlabeled, notes = [], []
    for place, images in of_folder.items():
        left = [image for image in images if image.resolve() not in used]
        if len(left) == len(images) and place.name.lower() in NAMES:
            unlabeled.append(place)
        elif len(left) == len(images):
            notes.append(
                f"{place}: its {len(left)} images are in no data set; if they have no labels, train the student with "
                f"DATASETS.UNLABELED \"['{place.resolve()}']\", too"
            )
        elif left:
            notes.append(
                f"{place}: {len(left)} of {len(images)} images, first {left[0].name}, are in no data set and are not "
                "used: add them to its annotations or lists"
            )
    more = [f"{len(notes) - MOST} more folders have images that are in no data set"] if len(notes) > MOST else []
    return Leftovers(unlabeled, notes[:MOST] + more)
