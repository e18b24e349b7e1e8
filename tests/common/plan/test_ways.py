"""Time and memory of ways to take a run's steps, by hand."""

from dataclasses import replace

import pytest
import torch

from densedist.common.plan.cards import CARDS
from densedist.common.plan.step import BACKWARD, KEPT, OPTIMIZER, STUDENT, Step
from densedist.common.plan.tally import Operator, Peak
from densedist.common.plan.ways import Way, largest_batch, least_seconds

H100 = CARDS["h100-80"]
COMPUTING = Operator(STUDENT, True, torch.float32, flops=int(494.7e12), moved=0)  # a second
MOVING = Operator(OPTIMIZER, False, torch.float32, flops=0, moved=int(3.35e12))  # a second
STEP = Step(
    images=2,
    weights=10,
    average=0,
    teacher=40,
    optimizer=10,
    gradients=8,
    operators=[COMPUTING, COMPUTING._replace(part=KEPT), COMPUTING._replace(part=BACKWARD), MOVING],
    peaks={KEPT: Peak(100, 0), BACKWARD: Peak(88, 8)},
)
WAY = Way("", STEP, images=2, cached=False, passes=1, cards=1, iterations=3600)


def test_an_operator_takes_what_is_slower():
    assert least_seconds(COMPUTING._replace(moved=int(3.35e12)), H100) == pytest.approx(1)
    assert least_seconds(COMPUTING._replace(moved=int(6.7e12)), H100) == pytest.approx(2)
    assert least_seconds(COMPUTING._replace(dtype=torch.float16), H100) == pytest.approx(0.5)
    assert least_seconds(COMPUTING._replace(convolution=False), H100) == pytest.approx(494.7 / 67)


def test_time():
    assert WAY.hours(H100) == WAY.seconds(H100) == pytest.approx(4)
    assert replace(WAY, cached=True).seconds(H100) == pytest.approx(3)
    assert replace(WAY, images=4).seconds(H100) == pytest.approx(7)  # the optimizer does not see the images
    assert replace(WAY, passes=2).seconds(H100) == pytest.approx(7)


def test_memory():
    assert WAY.memory() == 10 + 10 + 40 + 100
    assert replace(WAY, cached=True).memory() == 60 + 88
    assert replace(WAY, cached=True, images=4).memory() == 60 + 2 * 80 + 8
    assert WAY.memory(larger=1.5) == 60 + 150
    assert replace(WAY, cards=8).memory() == WAY.memory() + 8


def test_the_largest_batch_fits_with_the_largest_images():
    card = replace(H100, memory=1000)
    most = largest_batch(WAY, card, larger=1.5)
    assert most == (900 - 60) // 75
    assert replace(WAY, images=most).fits(card, 1.5)
    assert not replace(WAY, images=most + 1).fits(card, 1.5)
