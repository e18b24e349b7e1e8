"""A page of one file: a verdict, scores, pictures, classes, curves, time, and how to repeat what it shows."""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, Template
from markupsafe import Markup, escape
from matplotlib.artist import Artist
from matplotlib.colors import to_hex
from matplotlib.patches import Patch

from densedist.common.files import write_text
from densedist.common.report.panels import Gallery, Panel, encode
from densedist.common.report.repeat import without_folders

MANY = 16  # classes beyond are folded
MARKS = r"&[a-z#\d]+;|[@;=,/](?=\S)|\+(?=[a-z])"  # in names of methods; what is one character in HTML stays whole
ABREAST = 4  # pictures of an image that a screen shows side by side
ACROSS = 4  # columns that a phone shows side by side; a table of more has a block for each row there


@dataclass(frozen=True)
class Table:
    """Cells in words.

    Args:
        head: the names of the columns, all but the first of numbers.
        note: said below it.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Bar:
    """A score in percent, before and after; None where it is undefined or there is none.

    Args:
        gain: from before to after, in points.
        interval: of the gain, in words.
    """

    name: str
    before: float | None
    after: float | None
    gain: float | None = None
    interval: str = ""


@dataclass(frozen=True)
class Bars:
    """Scores of classes, with a bar each.

    Args:
        title: the heading.
        before, after: whose scores these are; before is "" where there is one alone, and its score is the bar.
        note: said below them.
    """

    title: str
    before: str
    after: str
    bars: Sequence[Bar]
    note: str = ""

    @property
    def ordered(self) -> list[Bar]:
        """Return the bars, the longest first, by gain or by score; what is undefined comes last."""

        def key(bar: Bar) -> tuple[bool, float]:
            value = bar.gain if self.before else bar.after
            return value is None, -(value or 0.0)

        return sorted(self.bars, key=key)

    @property
    def reach(self) -> float:
        """Return the length of the longest bar, in points."""
        gains = [abs(bar.gain) for bar in self.bars if bar.gain is not None]
        return max([1.0, *gains]) if self.before else 100.0


@dataclass(frozen=True)
class Page:
    """All that a page holds; a part that is empty is left out.

    Args:
        title: its heading.
        subtitle: what was done, in a line.
        verdict: the result, in a sentence.
        notes: what else has to be said of it, a sentence each.
        tables: more of them, by their headings.
        galleries: more pictures, by their headings.
        curves: SVG by title.
        curves_title: their heading.
        costs: time, and what it was spent on.
        command: for a shell, an option a line; the only part that keeps the paths of the machine.
        again: another line that does the same, from the files of the folder.
        facts: seed, versions and machine, by name.
        texts: plan, config …, folded, by title.
    """

    title: str
    subtitle: str
    verdict: str
    notes: Sequence[str] = ()
    scores: Table | None = None
    gallery: Gallery | None = None
    classes: Bars | None = None
    tables: Mapping[str, Table] = field(default_factory=dict)
    galleries: Mapping[str, Gallery] = field(default_factory=dict)
    curves: Mapping[str, str] = field(default_factory=dict)
    curves_title: str = "Curves"
    costs: Table | None = None
    command: str = ""
    again: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


def write_page(page: Page, file: Path) -> None:
    """Write a page that needs no other file and no network."""
    write_text(file, _template().render(page=page, many=MANY, across=ACROSS))


@cache  # a comparison writes a page for each of its runs
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else without_folders(str(value)),
    )
    environment.filters |= {
        "number": _number,
        "signed": _signed,
        "image": _image,
        "color": _color,
        "columns": _columns,
        "whole": Markup.escape,
        "breakable": _breakable,
    }
    return environment.get_template("page.html")


def _breakable(text: str) -> Markup:
    """Return a text that may be broken within a method's name, as "dist@TAU=4;WEIGHT=1+unlabeled", at its marks."""
    return Markup(re.sub(MARKS, r"\g<0><wbr>", str(escape(without_folders(text)))))


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value:+z.1f}"


def _image(panel: Panel) -> Markup:
    content = encode(panel)
    kind = "png" if content.startswith(b"\x89PNG") else "jpeg"
    return Markup(f"data:image/{kind};base64,{base64.b64encode(content).decode()}")


def _columns(panels: Sequence[Panel]) -> str:
    """Return CSS for how many pictures of an image stand side by side: on a screen, a tablet and a phone.

    On a phone boxes with their names fill its width; what has no letters may be half as wide.
    """
    count = len(panels)
    half = count % 2 == 0
    wide = count if count <= ABREAST else -(-count // 2)
    middle = 2 if half else min(count, 3)
    return f"--wide: {wide}; --middle: {middle}; --narrow: {2 if half and panels[0].over is None else 1}"


def _color(entry: Artist) -> str:
    """Return CSS for the swatch of an entry of a legend."""
    if not isinstance(entry, Patch):
        return ""
    if not entry.get_fill():
        style = "dashed" if entry.get_linestyle() in ("--", "dashed") else "solid"
        return f"border: 2px {style} {to_hex(entry.get_edgecolor())}"
    color = to_hex(entry.get_facecolor())
    if entry.get_hatch():
        stripe = to_hex(entry.get_edgecolor())
        return f"background: repeating-linear-gradient(135deg, {color} 0 3px, {stripe} 3px 6px)"
    return f"background: {color}"
