"""Segmentation data in every form, by other people's writers: read as it is meant, or refused in one line."""

import pytest
from hypothesis import given, seed

from referee.damage import DAMAGES
from referee.judge_seg import PLANTED, look
from referee.situations import Situation, singles, situations
from referee.trying import SEED, by_name, count, few, many
from referee.writers import datumaro_forms, label_tools, mask_folders

FORMS = by_name(mask_folders.FORMS, datumaro_forms.SEG_FORMS, label_tools.FORMS)
SITUATIONS = situations(list(FORMS.values()), list(DAMAGES), PLANTED)


@pytest.mark.parametrize("name", FORMS)
def test_what_is_usual_is_read(name, tally):
    count(tally, Situation(name), FORMS, look)


@few
@given(SITUATIONS)
def test_situations(tally, situation):
    count(tally, situation, FORMS, look)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_each_choice_alone(name, tally):
    for situation in singles(FORMS[name]):
        count(tally, situation, FORMS, look)


@pytest.mark.slow
def test_many_situations(tally):
    print(f"REFEREE_SEED={SEED}")

    @seed(SEED)
    @many
    @given(SITUATIONS)
    def attempt(situation):
        count(tally, situation, FORMS, look)

    attempt()
