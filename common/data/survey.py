"""Tables of what the data sets of a config hold, by which a user sees whether they are read as meant."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tabulate import tabulate

from densedist.common.data.headers import Size


@dataclass(frozen=True)
class Survey:
    """What a side of DATASETS holds.

    Args:
        side: which one.
        sizes: number of images of each height and width.
        labeled: how many images have labels.
        classes: for each class how much there is of it: objects, or pixels.
        unit: which of these, in the plural.
    """

    side: str
    sizes: Counter[Size]
    labeled: int
    classes: Mapping[str, int]
    unit: str


def images_table(surveys: Sequence[Survey]) -> str:
    """Return a table with a row for each side: images, those with labels, their sizes."""
    lines = [
        {
            "DATASETS": s.side,
            "images": s.sizes.total(),
            "with labels": s.labeled,
            "height x width": _sizes(s.sizes),
        }
        for s in surveys
    ]
    return tabulate(lines, headers="keys", tablefmt="pipe")


def classes_table(surveys: Sequence[Survey]) -> str:
    """Return a table with a row for each class: how often it occurs on each side with labels, and its share."""
    labeled = [s for s in surveys if s.labeled]
    names = list(dict.fromkeys(name for s in labeled for name in s.classes))
    lines = []
    for number, name in enumerate(names):
        line: dict[str, object] = {"": number, "class": name}
        for s in labeled:
            count = s.classes.get(name, 0)
            line |= {
                f"{s.unit}, {s.side}": count,
                f"%, {s.side}": f"{100 * count / max(sum(s.classes.values()), 1):.2f}",
            }
        lines.append(line)
    return tabulate(lines, headers="keys", tablefmt="pipe", disable_numparse=True)


def _sizes(sizes: Counter[Size]) -> str:
    most = [f"{height}x{width} ({count})" for (height, width), count in sizes.most_common(3)]
    return ", ".join(most) + (f" and {len(sizes) - 3} more" if len(sizes) > 3 else "")
