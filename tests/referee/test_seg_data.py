"""Segmentation data in every form, by other people's writers: read as it is meant, or refused in one line."""

import pytest
from hypothesis import given, seed

from referee.damage import DAMAGES
from referee.judge_seg import PLANTED, look
from referee.situations import Situation, singles, situations, some_singles
from referee.trying import SEED, by_name, count, few, many
from referee.writers import datumaro_forms, label_tools, mask_folders

FORMS = by_name(mask_folders.FORMS, datumaro_forms.SEG_FORMS, label_tools.FORMS)
SITUATIONS = situations(list(FORMS.values()), list(DAMAGES), PLANTED)
SINGLES = some_singles(list(FORMS.values()))


@pytest.mark.parametrize("name", FORMS)
def test_the_usual_and_each_choice_alone(name, tally):
    for situation in SINGLES:
        if situation.form == name:
            count(tally, situation, FORMS, look)


@pytest.mark.parametrize("name", DAMAGES)
def test_each_damage_alone(name, tally):
    for form in FORMS.values():
        if DAMAGES[name].is_for(form.name):
            for seed_of_file in (0, 1):
                count(tally, Situation(form.name, seed_of_file, damage=name), FORMS, look)


@few
@given(SITUATIONS)
def test_some_situations(tally, situation):
    count(tally, situation, FORMS, look)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_each_choice_alone_in_every_form(name, tally):
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
