"""Write docs/keys.md, the reference of keys, from the tables of keys: uv run python docs/keys_page.py"""

from pathlib import Path

from densedist.common.config.reference import markdown, rows
from densedist.det.config import GRAMMAR as DET
from densedist.seg.config import GRAMMAR as SEG

PAGE = Path(__file__).with_name("keys.md")
INTRODUCTION = """# Keys of a config

Every key that this suite adds to Detectron2's, and those of Detectron2's own that it uses or restricts. A detection
config has all other keys of Detectron2, too. Each may stand in a config, or behind a command as `KEY VALUE`; a value of
another type, or one that is not among the values, is refused before training.

The page is made from the tables that check configs
([shared](../common/config/shared_keys.py), [det](../det/config.py), [seg](../seg/config.py),
[losses](../common/distill/registry.py)) by `uv run python docs/keys_page.py`. Names of earlier versions are read, too:
[former keys](../common/config/former_keys.py).
"""
NEXT = "\nNext: [losses and weights](losses.md), [adding a loss](new_loss.md), [own data](own_data.md).\n"


def page() -> str:
    """Return the text of docs/keys.md."""
    return INTRODUCTION + "\n".join(markdown(rows({"det": DET, "seg": SEG}))) + "\n" + NEXT


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
