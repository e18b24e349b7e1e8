"""Commands that are printed are read by a shell as they were meant."""

import shlex

import pytest

from densedist.common.shell import quoted


@pytest.mark.parametrize(
    ("words", "written"),
    [
        (["A", "['one', 'two']"], "A \"['one', 'two']\""),
        (["path with blanks"], "'path with blanks'"),
        (["it's $HOME"], "'it'\"'\"'s $HOME'"),
        ([""], "''"),
    ],
)
def test_words_are_quoted_as_a_person_would(words, written):
    assert quoted(words) == written
    assert shlex.split(written) == words
