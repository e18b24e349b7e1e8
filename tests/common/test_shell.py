"""Commands that are printed are read by a shell as they were meant."""

import shlex

import pytest

from densedist.common.shell import in_lines, quoted


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


def test_a_command_is_read_line_by_line():
    words = ["densedist", "train", "--config-file", "my student.yaml", "--resume", "INPUT.FORMAT", "RGB", "SEED", "3"]
    written = in_lines(words)
    assert written.replace("\\\n    ", "| ").split("| ") == [
        "densedist train ",
        "--config-file 'my student.yaml' ",
        "--resume ",
        "INPUT.FORMAT RGB ",
        "SEED 3",
    ]
    assert shlex.split(written.replace("\\\n", "")) == words  # as a shell does, and shlex does not
