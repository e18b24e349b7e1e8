"""The mixin: without a teacher the model is the stock one, and build_model looks for no teacher."""

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import BitMasks
from detectron2.utils.events import EventStorage

from densedist.common.errors import UserError
from helpers.tiny import HEADS, RETINANET, STUDENT, batch, config, save_teacher

MASKS = ["MODEL.MASK_ON", "True"]
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")


def numbers(cfg):
    """A model of a config, and all that it computes: state, losses, predictions, random states."""
    torch.manual_seed(0)
    model = build_model(cfg)
    seen = [torch.get_rng_state(), *model.state_dict().values()]
    inputs = batch()
    for sample in inputs:
        sample["instances"].gt_masks = BitMasks(torch.ones(3, *sample["image"].shape[1:], dtype=torch.bool))
    with EventStorage():
        losses = model.train()(inputs)
    seen += [*losses.values(), torch.get_rng_state()]
    with torch.no_grad():
        for found in model.eval()(inputs):
            seen += [found["instances"].pred_boxes.tensor, found["instances"].scores]
    return model, list(losses), seen


@pytest.mark.parametrize(
    ("file", "stock", "keys"),
    [
        (STUDENT, "GeneralizedRCNN", MASKS),
        (STUDENT, "GeneralizedRCNN", HEADS["cascade"]),
        (RETINANET, "RetinaNet", []),
    ],
    ids=["Mask R-CNN", "Cascade R-CNN", "RetinaNet"],
)
def test_without_a_teacher_it_is_the_stock_model_to_the_last_bit(file, stock, keys):
    model, losses, seen = numbers(config(file, *keys))
    plain, plain_losses, wanted = numbers(config(file, *keys, "MODEL.META_ARCHITECTURE", stock))
    assert (type(model).__name__, type(plain).__name__) == (f"Distill{stock.removeprefix('Generalized')}", stock)
    assert losses == plain_losses
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(seen, wanted, strict=True))
    assert list(model.state_dict()) == list(plain.state_dict())
    parts = zip(model.named_modules(), plain.named_modules(), strict=True)
    for (name, part), (plain_name, plain_part) in parts:
        assert name == plain_name
        assert type(part) is type(plain_part) or not name
        # By these two a cache of boxes knows its teacher, whenever it was made.
        assert vars(part).keys() - vars(plain_part).keys() == (set() if name else {"distillation", "watched"})
        for hooks in HOOKS:
            assert len(getattr(part, hooks)) == len(getattr(plain_part, hooks))


def test_build_model_reads_nothing_of_the_teacher(monkeypatch, tmp_path):
    keys = ["DISTILL.TEACHER.CONFIG_FILE", tmp_path / "gone.yaml", "DISTILL.TEACHER.WEIGHTS", tmp_path / "gone.pth"]
    cfg = config(STUDENT, *keys)

    def refuse(*_, **__):
        raise AssertionError("a file is read")

    for function in ("builtins.open", "io.open", "torch.load"):
        monkeypatch.setattr(function, refuse)
    model = build_model(cfg)
    monkeypatch.undo()
    assert model.distillation is None
    assert model.eval()([{"image": torch.zeros(3, 64, 64)}])
    with pytest.raises(UserError, match=r"DISTILL.TEACHER.CONFIG_FILE: .*gone.yaml is neither a file"):
        model.attach_teacher()
    with pytest.raises(UserError, match=r"DISTILL.TEACHER.CONFIG_FILE: .*gone.yaml is neither a file"):
        model.train()(batch())


def test_the_first_training_batch_attaches_the_teacher(tmp_path):
    """With the losses that it has when the teacher is attached at once; a second call changes nothing."""
    cfg, losses = config(STUDENT, *save_teacher(tmp_path)), []
    for at_once in (True, False):
        torch.manual_seed(0)
        model = build_model(cfg).train()
        if at_once:
            model.attach_teacher()
            teacher = model.distillation.teacher
            model.attach_teacher()
            assert model.distillation.teacher is teacher
        with EventStorage():
            losses.append(model(batch()))
    assert losses[0]["loss_dist"] > 0
    assert losses[0] == losses[1]
