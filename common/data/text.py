"""Text files of a data set, in whatever coding a system writes them."""

import codecs
from pathlib import Path


def read_text(file: Path) -> str:
    """A text file in UTF-8, or in UTF-16 where it says so; without a byte order mark.

    Bytes that mean nothing are replaced.
    """
    content = file.read_bytes()
    coding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    return content.decode(coding, errors="replace")
