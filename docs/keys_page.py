"""Write docs/keys.md and densedist/{keys,reference}.json from the tables of keys: uv run python docs/keys_page.py"""

from pathlib import Path

from densedist import known_keys
from densedist.common.config.reference import as_json, markdown, rows
from densedist.det.config import GRAMMAR as DET
from densedist.seg.config import GRAMMAR as SEG

PAGE = Path(__file__).with_name("keys.md")
INTRODUCTION = """# Keys of a config

This page lists every key that DenseDIST adds to Detectron2's, and those of Detectron2 that it uses or restricts. A
detection config accepts all other keys of Detectron2 as well. Set a key in a config, or as `KEY VALUE` at the end of
a command. A value of another type, or outside the listed values, is refused before training.

`densedist keys [PATTERN]` prints this list, and `densedist --explain SOLVER.MAX_ITER` describes one key.

`uv run python docs/keys_page.py` generates the page from the tables that check configs
([shared](../common/config/shared_keys.py), [det](../det/config.py), [seg](../seg/config.py),
[losses](../common/distill/registry.py)). Names of earlier versions still work: [former
keys](../common/config/former_keys.py).
"""
NEXT = "\nNext: [losses and weights](losses.md), [adding a loss](new_loss.md), [own data](own_data.md).\n"


def page() -> str:
    """Return the text of docs/keys.md."""
    return INTRODUCTION + "\n".join(markdown(rows({"det": DET, "seg": SEG}))) + "\n" + NEXT


def reference() -> str:
    """Return the text of densedist/reference.json, which `densedist keys` prints."""
    return as_json(rows({"det": DET, "seg": SEG}))


def known() -> str:
    """Return the text of densedist/keys.json, by which mistyped keys are refused before anything is imported."""
    return known_keys.text({"det": DET, "seg": SEG})


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    known_keys.FILE.write_text(known(), encoding="utf-8")
    known_keys.REFERENCE.write_text(reference(), encoding="utf-8")
