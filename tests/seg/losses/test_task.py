"""What a student learns from labels by: against formulas in float64, SMP's, and one process that sees all images."""

import math

import pytest
import segmentation_models_pytorch as smp
import torch
import torch.distributed as dist

from densedist.common.errors import UserError
from densedist.seg.checks import check_data
from densedist.seg.labels import IGNORE
from densedist.seg.losses import CrossEntropyLoss, DiceLoss, FocalLoss, LovaszLoss, OHEMLoss, TaskLosses, check_kept
from densedist.seg.models import build_segmenter, build_trainee, read_config
from helpers.processes import run_processes
from helpers.scenes import STUDENT, batch, config

CLASSES = 4
WEIGHTS = [0.5, 1.0, 2.0, 0.25]
EVERY = {
    "ce": CrossEntropyLoss(WEIGHTS),
    "ohem": OHEMLoss(WEIGHTS, 0.3, 7),
    "ohem, few hard": OHEMLoss(WEIGHTS, 0.02, 7),
    "focal": FocalLoss(WEIGHTS),
    "dice": DiceLoss(),
    "lovasz": LovaszLoss(),
}
OFF = ["MODEL.LOSS.CROSS_ENTROPY.WEIGHT", "0.0"]


def maps(count=4, size=(5, 6), seed=0):
    """Logits with a gradient and labels, a third of them ignored; the last image has none."""
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(count, CLASSES, *size, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, CLASSES, (count, *size), generator=generator)
    labels[torch.rand(count, *size, generator=generator) < 0.33] = IGNORE
    labels[-1] = IGNORE
    return logits.requires_grad_(), labels


def pixels(logits, labels):
    """For each labeled pixel the probability of its class, and the weight of the class."""
    places = (labels != IGNORE).nonzero().tolist()
    found = [(logits[n, :, y, x].softmax(0)[labels[n, y, x]].item(), WEIGHTS[labels[n, y, x]]) for n, y, x in places]
    return sorted(found)


def mean(terms, weights):
    return sum(terms) / sum(weights)


def test_cross_entropy_and_focal():
    logits, labels = maps()
    found, weights = zip(*pixels(logits, labels), strict=True)
    for gamma in (0.0, 0.5, 2.0):
        wanted = mean([-w * (1 - p) ** gamma * math.log(p) for p, w in zip(found, weights, strict=True)], weights)
        assert FocalLoss(WEIGHTS, gamma)(logits, labels).item() == pytest.approx(wanted, rel=1e-12)
    assert FocalLoss(gamma=0.0)(logits, labels).item() == pytest.approx(CrossEntropyLoss()(logits, labels).item())


@pytest.mark.parametrize(("threshold", "min_kept"), [(0.3, 1), (0.3, 12), (0.02, 7), (0.7, 1000)])
def test_hard_pixels(threshold, min_kept):
    logits, labels = maps()
    found = pixels(logits, labels)
    below = [pixel for pixel in found if pixel[0] < threshold]
    kept = max(below, found[: 3 * min_kept], key=len)  # of the three images with labels
    wanted = mean([-w * math.log(p) for p, w in kept], [w for _, w in kept])
    assert OHEMLoss(WEIGHTS, threshold, min_kept)(logits, labels).item() == pytest.approx(wanted, rel=1e-12)
    if min_kept == 1000:
        assert wanted == pytest.approx(CrossEntropyLoss(WEIGHTS)(logits, labels).item())


def test_as_many_as_wanted_among_pixels_that_are_equally_hard():
    logits, labels = torch.zeros(1, CLASSES, 3, 3), torch.ones(1, 3, 3, dtype=torch.long)
    assert OHEMLoss((), 0.1, 4)(logits, labels).item() == pytest.approx(math.log(CLASSES))


def test_dice_is_the_formula_and_smps():
    logits, labels = maps()
    labels[labels == 3] = 0  # a class without a pixel
    counts, p = labels != IGNORE, logits.softmax(1)
    wanted = 0.0
    for k in range(CLASSES):
        ours, theirs = p[:, k][counts], (labels == k)[counts].double()
        if theirs.any():
            wanted += 1 - 2 * (ours * theirs).sum() / (ours.sum() + theirs.sum())
    seen = DiceLoss()(logits, labels)
    assert seen.item() == pytest.approx(wanted.item() / CLASSES, rel=1e-12)
    assert seen.item() == pytest.approx(smp.losses.DiceLoss("multiclass", ignore_index=IGNORE)(logits, labels).item())


def test_lovasz_is_one_less_the_jaccard_index_where_predictions_are_sure():
    """At the corners of the cube the extension is the set function (Berman et al., eq. 7)."""
    labels = torch.randint(0, CLASSES, (2, 4, 4), generator=torch.Generator().manual_seed(1))
    guess = torch.randint(0, CLASSES, (2, 4, 4), generator=torch.Generator().manual_seed(2))
    logits = 100 * torch.nn.functional.one_hot(guess, CLASSES).movedim(-1, 1).double()
    labels[0, 0] = IGNORE
    kept, jaccard = labels != IGNORE, []
    for k in labels[kept].unique():
        ours, theirs = guess[kept] == k, labels[kept] == k
        jaccard.append((ours & theirs).sum() / (ours | theirs).sum())
    assert LovaszLoss()(logits, labels).item() == pytest.approx(1 - sum(jaccard).item() / len(jaccard))


@pytest.mark.parametrize("name", EVERY)
def test_gradients(name):
    logits, labels = maps(2, (3, 4))
    labels[1] = torch.arange(12).view(3, 4) % CLASSES
    rough = {"eps": 1e-2, "atol": 1e-3} if name == "lovasz" else {}  # it computes in float32
    assert torch.autograd.gradcheck(lambda x: EVERY[name](x, labels), logits, **rough)


@pytest.mark.parametrize("name", EVERY)
def test_without_a_label_it_is_0_and_so_is_its_gradient(name):
    logits, labels = maps()
    labels[:] = IGNORE
    loss = EVERY[name](logits, labels)
    loss.backward()
    assert loss == 0
    assert logits.grad.abs().max() == 0


@pytest.mark.parametrize("name", EVERY)
def test_ignored_pixels_say_nothing(name):
    logits, labels = maps()
    loss = EVERY[name](logits, labels)
    loss.backward()
    assert not logits.grad.movedim(1, -1)[labels == IGNORE].any()
    other = logits.detach().movedim(1, -1).clone()
    other[labels == IGNORE] = 50 * torch.randn_like(other[labels == IGNORE])
    assert EVERY[name](other.movedim(-1, 1), labels).item() == pytest.approx(loss.item())


def of_one(name):
    logits, labels = maps()
    loss = EVERY[name](logits, labels)
    loss.backward()
    return loss.detach(), logits.grad


def of_several(rank, count, name):
    wanted, gradient = of_one_process_alone(name)
    logits, labels = (x.detach()[rank::count] for x in maps())
    loss = EVERY[name](logits.requires_grad_(), labels)
    loss.backward()
    total = loss.detach().clone()
    dist.all_reduce(total)
    torch.testing.assert_close(total / count, wanted)
    torch.testing.assert_close(logits.grad / count, gradient[rank::count])


def of_one_process_alone(name):
    """Before the group is asked: the same numbers on every rank, as if there were no other."""
    group, dist.is_initialized = dist.is_initialized, lambda: False
    try:
        return of_one(name)
    finally:
        dist.is_initialized = group


def two_and_four(rank, count):
    for name in EVERY:
        if name != "lovasz":  # sorts the pixels of one process
            of_several(rank, count, name)
    # One process has labels, the other has none.
    logits, labels = maps(2)
    loss = LovaszLoss()(logits[rank : rank + 1], labels[rank : rank + 1])
    dist.all_reduce(total := loss.detach().clone())
    wanted = smp.losses.LovaszLoss("multiclass", ignore_index=IGNORE)(logits[:1].float(), labels[:1])
    torch.testing.assert_close(total / count, wanted.detach().double())


def test_several_processes_are_one():
    run_processes(2, two_and_four)


def test_keys_add_up():
    keys = ["MODEL.AUX_HEAD.ENABLED", "True", "MODEL.LOSS.CROSS_ENTROPY.WEIGHT", "2.0", "MODEL.LOSS.DICE.WEIGHT", "0.5"]
    keys += ["MODEL.LOSS.OHEM.WEIGHT", "1.0", "MODEL.LOSS.OHEM.MIN_KEPT", "9", "MODEL.LOSS.OHEM.THRESHOLD", "0.2"]
    torch.manual_seed(0)
    model = build_segmenter(config(STUDENT, *keys)).train()
    model.network.eval()
    losses, samples = model(batch()), batch()
    names = [f"loss_{name}{head}" for head in ("", "_aux") for name in ("ce", "ohem", "dice")]
    assert list(losses) == names
    labels = torch.stack([sample["sem_seg"] for sample in samples])
    with torch.no_grad():
        output = model.network(model.network.preprocess([sample["image"] for sample in samples]))
    weights = model.task.class_weights
    for tap, head, factor in (("cls_logits", "", 1.0), ("aux_logits", "_aux", 0.4)):
        logits = torch.nn.functional.interpolate(output[tap], size=(64, 64), mode="bilinear", align_corners=True)
        wanted = {"ce": 2 * CrossEntropyLoss(weights)(logits, labels), "dice": 0.5 * DiceLoss()(logits, labels)}
        wanted["ohem"] = OHEMLoss(weights, 0.2, 9)(logits, labels)
        for name, loss in wanted.items():
            torch.testing.assert_close(losses[f"loss_{name}{head}"].detach(), factor * loss)
    assert build_trainee(config(STUDENT, *keys)).notes == {"task": "= 2.0·ce + 1.0·ohem + 0.5·dice"}
    assert build_trainee(config(STUDENT)).notes == {}


def test_the_default_is_cross_entropy_alone():
    task = TaskLosses.of(config(STUDENT))
    assert str(task) == "1.0·ce"


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (OFF, "MODEL.LOSS: every WEIGHT is 0: give one of CROSS_ENTROPY, OHEM, FOCAL, DICE, LOVASZ a weight above 0"),
        (["MODEL.LOSS.DICE.WEIGHT", "-1.0"], "MODEL.LOSS.DICE.WEIGHT is -1.0: want 0 (off) or more"),
        (
            ["MODEL.LOSS.OHEM.THRESHOLD", "7.0"],
            "MODEL.LOSS.OHEM.THRESHOLD is 7.0: want a probability: above 0, 1 at most",
        ),
        (["MODEL.LOSS.OHEM.MIN_KEPT", "0"], "MODEL.LOSS.OHEM.MIN_KEPT is 0: want 1 or more"),
        (["MODEL.LOSS.FOCAL.GAMMA", "-1.0"], "MODEL.LOSS.FOCAL.GAMMA is -1.0: want 0 or more"),
        (
            [*OFF, "MODEL.LOSS.DICE.WEIGHT", "1.0"],
            "MODEL.CLASS_WEIGHTS: only CROSS_ENTROPY, OHEM, FOCAL use it, and none of them is on in MODEL.LOSS: "
            "set it to []",
        ),
        (["MODEL.CLASS_WEIGHTS", str([0] * 11)], "MODEL.CLASS_WEIGHTS are all 0: nothing would be learned from labels"),
        (["MODEL.CLASS_WEIGHTS", str(["a"] * 11)], f"MODEL.CLASS_WEIGHTS is {['a'] * 11}: want numbers of 0 or more"),
    ],
)
def test_what_is_wrong(keys, message):
    with pytest.raises(UserError) as error:
        read_config(str(STUDENT), keys)
    assert str(error.value) == message


ONLY_OHEM = ["MODEL.LOSS.CROSS_ENTROPY.WEIGHT", "0.0", "MODEL.LOSS.OHEM.WEIGHT", "1.0"]


def test_ohem_that_keeps_every_pixel_of_a_crop_is_refused_before_training():
    cfg = config(STUDENT, *ONLY_OHEM, "INPUT.CROP_SIZE", "[64, 64]", "DATASETS.ROOT", "nowhere")
    with pytest.raises(UserError) as error:
        check_data(cfg)
    assert str(error.value) == (
        "MODEL.LOSS.OHEM.MIN_KEPT is 100000, and a crop of INPUT.CROP_SIZE has 4096 pixels: OHEM would keep all, as "
        "cross entropy does; set it to a part, such as 819"
    )


@pytest.mark.parametrize(("kept", "warned"), [(4095, True), (2049, True), (2048, False), (1, False)])
def test_ohem_that_keeps_most_of_a_crop_is_a_warning(kept, warned, caplog):
    keys = ["INPUT.CROP_SIZE", "[64, 64]", "MODEL.LOSS.OHEM.MIN_KEPT", str(kept)]
    check_kept(config(STUDENT, *ONLY_OHEM, *keys))
    assert ("hardly differs from cross entropy" in caplog.text) == warned
    check_kept(config(STUDENT, "INPUT.CROP_SIZE", "[64, 64]"))  # without OHEM its default may be what it is
