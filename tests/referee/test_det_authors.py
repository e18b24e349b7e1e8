"""Detectors of other authors: each part and whole inference are the author's, or it is refused in one line."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from referee.det_authors import FORMS
from referee.det_authors.handing import Handing
from referee.judge_detectors import judge
from referee.trying import SEED, few, many

# Of these fixtures one call's is as good as the next one's.
pytestmark = pytest.mark.usefixtures("quick_weights")
FIXTURES = [*few.suppress_health_check, HealthCheck.function_scoped_fixture]


@pytest.fixture(scope="module")
def verdicts():
    counted: dict[Handing, str] = {}
    yield counted
    print(
        f"\n{len(counted)} handings, (form, taken): {dict(Counter((h.form, v == 'taken') for h, v in counted.items()))}"
    )


@st.composite
def handings(pick: st.DrawFn) -> Handing:
    """Strategy of handings with few unusual choices."""
    form = FORMS[pick(st.sampled_from(list(FORMS)))]
    names = pick(st.lists(st.sampled_from(list(form.choices)), max_size=3, unique=True))
    varied = tuple((name, pick(st.sampled_from(form.choices[name][1:]))) for name in sorted(names))
    return Handing(form.name, pick(st.integers(0, 99)), varied)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_usual_is_taken(form):
    assert judge(Handing(form)) == "taken"


@settings(few, max_examples=8, suppress_health_check=FIXTURES)
@given(handings())
def test_handings(verdicts, handing):
    verdicts[handing] = judge(handing)


@pytest.mark.slow
def test_each_choice_alone():
    """All at once, as a list of what is wrong."""
    wrong = []
    for form in FORMS.values():
        for name, values in form.choices.items():
            for value in values[1:]:
                handing = Handing(form.name, 1, ((name, value),))
                try:
                    judge(handing)
                except Exception as error:
                    wrong.append(f"{handing}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.slow
def test_many_handings(verdicts):
    print(f"REFEREE_SEED={SEED}")

    @seed(SEED)
    @settings(many, suppress_health_check=FIXTURES)
    @given(handings())
    def attempt(handing):
        verdicts[handing] = judge(handing)

    attempt()
