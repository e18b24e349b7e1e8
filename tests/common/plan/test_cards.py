"""Cards by name, and what they can do at most."""

import pytest
import torch

from densedist.common.errors import UserError
from densedist.common.plan.cards import CARDS, find_card


def test_an_unknown_card_is_refused_with_the_one_that_is_like_it():
    with pytest.raises(
        UserError, match=r"--card: there is no card h100; want one of h100-80, .*; did you mean .*h100-80\?"
    ):
        find_card("h100")
    assert find_card("H100-80") is CARDS["h100-80"]


def test_float32_is_rounded_where_pytorch_rounds_it_and_the_card_can():
    a100, v100 = CARDS["a100-40"], CARDS["v100-32"]
    assert a100.peak(torch.float32, rounded=True) == 8 * a100.peak(torch.float32, rounded=False)
    assert v100.peak(torch.float32, rounded=True) == v100.peak(torch.bfloat16, rounded=False) == 15.7e12
    assert (a100.half, v100.half) == ("bfloat16", "float16")
