"""How many situations are tried: dozens that are always the same, or as many as one asks for."""

import os
import random
from collections.abc import Mapping, Sequence

from hypothesis import HealthCheck, Phase, settings

from referee.judge import Judge, judge
from referee.situations import Form, Situation
from referee.tally import Tally

FEW = 60
MANY = int(os.environ.get("REFEREE_EXAMPLES", "2000"))
SEED = int(os.environ.get("REFEREE_SEED", random.randrange(2**32)))

settings.register_profile(
    "referee",
    database=None,
    deadline=None,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
    print_blob=False,
)
PROFILE = settings.get_profile("referee")
few = settings(PROFILE, max_examples=FEW, derandomize=True)
many = settings(PROFILE, max_examples=MANY)


def by_name(*groups: Sequence[Form]) -> Mapping[str, Form]:
    return {form.name: form for group in groups for form in group}


def count(tally: Tally, situation: Situation, forms: Mapping[str, Form], look: Judge) -> None:
    """Judge a situation, and tell what the verdict was."""
    tally.add(situation, judge(situation, forms, look))
