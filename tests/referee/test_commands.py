"""Commands in a folder that was used before."""

import pytest
from hypothesis import given, seed, settings

from referee.commands import Command, Session, judge_session, sessions
from referee.trying import SEED, few, many


@pytest.mark.parametrize("task", [pytest.param("det", marks=pytest.mark.slow), "seg"])
def test_the_same_command_is_answered_again(task):
    commands = [Command((), ("none", "dist+labels"), (0, 1), equal_time=equal_time) for equal_time in (False,) * 2]
    assert judge_session(Session(task, tuple(commands))).answered == 2


@settings(few, max_examples=2)  # of 4 s each
@given(sessions())
def test_sessions(session):
    judge_session(session)


@pytest.mark.slow
def test_many_sessions():
    print(f"REFEREE_SEED={SEED}")

    @seed(SEED)
    @many
    @given(sessions())
    def attempt(session):
        judge_session(session)

    attempt()
