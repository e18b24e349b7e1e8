"""What a mistyped name may have been meant for: the end of a message, "; did you mean …?"."""

import difflib
import re
from collections.abc import Iterable
from itertools import combinations, islice
from pathlib import Path

MOST = 10_000  # names in a folder that are compared: a folder of images may have many more
CUTOFF = 0.7  # of _alike: at 2/3, "other" would be like "teacher", and "pool" like "photo"
EXCHANGED = 0.8
ALSO = 0.1  # how much less like it than the nearest another name may be, to be named beside it
PARTS = re.compile(r"[./]")  # between the parts of a key or path


def did_you_mean(name: str, known: Iterable[str], most: int = 3, cutoff: float = CUTOFF) -> str:
    """Return a question for the known names that are most like a name, in small or capital letters; "" for none."""
    names = {other.upper(): other for other in known}
    found = {other: _likeness(name.upper(), other) for other in names}
    least = max([cutoff, *(likeness - ALSO for likeness in found.values())])
    near = sorted((other for other in names if found[other] >= least), key=found.__getitem__, reverse=True)[:most]
    return f"; did you mean {' or '.join(names[other] for other in near)}?" if near else ""


def _likeness(name: str, other: str) -> float:
    """Return how like two names are, part by part, from 0 to 1; parts before the last one may be left out of either.

    One part that is another makes another name, however long the parts are that both have.
    """
    short, long = sorted((PARTS.split(name), PARTS.split(other)), key=len)
    return max(
        min(_alike(*pair) for pair in zip(short, [*chosen, long[-1]], strict=True))
        for chosen in combinations(long[:-1], len(short) - 1)
    )


def _alike(one: str, other: str) -> float:
    """Return how like two words are, from 0 to 1. Letters in another order are a slip, however short the word is."""
    matched = difflib.SequenceMatcher(None, one, other).ratio()
    return max(matched, EXCHANGED) if sorted(one) == sorted(other) else matched


def did_you_mean_path(path: str | Path, folder: Path = Path()) -> str:
    """Return a question for the path that is there and most like one that is not; "" for none.

    Args:
        folder: where a relative path begins.
    """
    place = folder / Path(path).expanduser()
    try:
        found = nearest(place)
    except OSError:  # a folder that may not be read
        return ""
    if found is None or found == place:
        return ""
    relative = not Path(path).expanduser().is_absolute()
    return f"; did you mean {found.relative_to(folder) if relative else found}?"


def nearest(path: Path) -> Path | None:
    """Return a path if it is there, else the one that is like it from its first missing folder on; None for none."""
    if path.exists() or path.parent == path:
        return path
    if (parent := nearest(path.parent)) is None or not parent.is_dir():
        return None
    there = [file.name for file in islice(parent.iterdir(), MOST)]
    if path.name in there:  # the name was right, and that of its folder was not
        return parent / path.name
    found = {stem: _alike(path.stem, stem) for stem in sorted({Path(name).stem for name in there})}
    near = max(found, key=found.__getitem__, default="")
    alike = [name for name in there if Path(name).stem == near and found[near] >= CUTOFF]
    # Of photos/ and photos.zip a name without a suffix means the folder.
    return parent / max(alike, key=lambda name: Path(name).suffix == path.suffix) if alike else None
