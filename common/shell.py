"""Commands as a shell takes them, as a person would write them."""

import re
import shlex
from collections.abc import Iterable

PLAIN_IN_DOUBLE_QUOTES = re.compile(r"""[^"$`\\!]*""")


def quoted(words: Iterable[str]) -> str:
    """Join words for a shell: a list like ['one'] in double quotes, where shlex would write '['"'"'one'"'"']'."""
    return " ".join(
        f'"{word}"' if "'" in word and PLAIN_IN_DOUBLE_QUOTES.fullmatch(word) else shlex.quote(word) for word in words
    )
