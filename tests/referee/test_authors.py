"""Segmentation teachers in every form: each pixel's probabilities are the author's, or it is refused in one line."""

from collections import Counter
from pathlib import Path

import pytest
import torch
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from densedist.common.errors import UserError
from densedist.seg.teacher_loading import load_teacher
from helpers.scenes import STUDENT, config
from referee.authors import CLASSES, FORMS, SIDE, Handing, choices_of, hand_on
from referee.judge import quiet
from referee.situations import folder
from referee.trying import SEED, few, many

# By which a probability may be off: a little, and a few times what the author's own network rounds in its precision.
SLACK, TIMES = 2e-4, 30
# Choices that may be refused: a function is its author's to write anew in a few lines, no runtime on a CPU has all of
# ONNX, and `densedist import` is for wrapped checkpoints.
MAY = {"function": "precision", "ONNX": "precision", "checkpoint": "wrapped"}
# Nothing that is seen of such a program, which takes one image at a time, tells it from one that is meant so.
UNKNOWABLE = {("batch", "one"), ("mode", "batch norms")}


@pytest.fixture(scope="module")
def verdicts():
    counted: dict[Handing, str] = {}
    yield counted
    print(f"\n{len(counted)} handings: {dict(Counter((h.form, v) for h, v in counted.items()))}")


def judge(handing: Handing) -> str:
    """Say whether the teacher was taken, as its author means it, or refused.

    Raises:
        AssertionError: another probability than the author's, or a refusal without a reason.
    """
    with folder() as where, quiet():
        handed, line = hand_on(handing, Path(where)), ""
        try:
            teacher = load_teacher(config(STUDENT, "INPUT.CROP_SIZE", f"[{SIDE},{SIDE}]", *handed.keys))
        except UserError as error:
            line = str(error)
        if line:
            assert "\n" not in line, line
            may = handed.truth is None or len(handing.varied) > 1 or MAY.get(handing.form) in dict(handing.varied)
            may |= handing.form == "function" and handing["gives"] != "logits"
            assert may, f"refused without a reason: {line}"
            return "refused"
        assert handed.truth is not None, "taken, though it gives nothing to learn from"
        generator = torch.Generator().manual_seed(handing.seed)
        images = list(torch.randint(0, 256, (2, 3, SIDE, SIDE), generator=generator).to(torch.uint8))
        like = {"cls_logits": torch.zeros(2, CLASSES, SIDE, SIDE)}
        found = teacher.output(images, like, (SIDE, SIDE))["cls_logits"].double().softmax(1)
        own = getattr(torch, "float32" if handing["precision"] == "float64" else handing["precision"])
        for given, image in zip(found, images, strict=True):
            wanted = handed.truth(image, torch.float64)
            rounding = float((handed.truth(image, own) - wanted).abs().max())
            off = float((given - wanted).abs().max())
            assert off < SLACK + TIMES * rounding, f"a probability is off by {off:.4f}, by rounding {rounding:.4f}"
        return "taken"


@st.composite
def handings(pick: st.DrawFn) -> Handing:
    """Strategy of handings with few unusual choices."""
    form = pick(st.sampled_from(list(FORMS)))
    choices = choices_of(form)
    names = pick(st.lists(st.sampled_from(list(choices)), max_size=3, unique=True))
    varied = tuple((name, pick(st.sampled_from(choices[name][1:]))) for name in sorted(names))
    if set(varied) >= UNKNOWABLE:
        varied = ()
    return Handing(form, pick(st.integers(0, 99)), varied)


@pytest.mark.parametrize("form", FORMS)
def test_what_is_usual_teaches(form):
    assert judge(Handing(form)) == "taken"


@settings(few, max_examples=25)
@given(handings())
def test_handings(verdicts, handing):
    verdicts[handing] = judge(handing)


@pytest.mark.slow
def test_many_handings(verdicts):
    print(f"REFEREE_SEED={SEED}")

    @seed(SEED)
    @many
    @given(handings())
    def attempt(handing):
        verdicts[handing] = judge(handing)

    attempt()
