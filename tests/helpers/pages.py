"""The pages in docs/ and the README, and what stands in their blocks."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {page.name: page.read_text() for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
BLOCK = re.compile(r"```(\w+)([^\n]*)\n(.*?)```", re.DOTALL)


def blocks(page, language):
    """(mark, text) of each."""
    return [(mark.strip(), text) for kind, mark, text in BLOCK.findall(PAGES[page]) if kind == language]


def block(page, language, mark):
    """The text of the only one with a mark."""
    (text,) = [text for found, text in blocks(page, language) if found == mark]
    return text


def lines(texts):
    """The commands in blocks, as lists of words."""
    return [shlex.split(line) for text in texts for line in text.replace("\\\n", " ").splitlines() if line]


def run_card(folder):
    """What the code in the card of an export's weights defines, by name."""
    (text,) = [text for kind, _, text in BLOCK.findall((folder / "README.md").read_text()) if kind == "python"]
    assert "<this folder>" in text
    defined = {}
    exec(compile(text.replace("<this folder>", str(folder)), "card", "exec"), defined)
    return defined
