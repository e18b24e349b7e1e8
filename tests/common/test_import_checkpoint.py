"""What other projects' checkpoints hold around their tensors."""

from argparse import Namespace

import pytest
import torch

from densedist.common.errors import UserError
from densedist.common.importing.reading import read_foreign
from helpers import bombs

STATE = {"backbone.weight": torch.ones(2), "model.head.weight": torch.zeros(3)}


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_orig_mod.", "module._orig_mod.", "model._orig_mod."])
def test_a_prefix_that_all_have_is_no_part_of_a_name(tmp_path, prefix):
    torch.save({"state_dict": {f"{prefix}{name}": x for name, x in STATE.items()}}, tmp_path / "their.pth")
    assert list(read_foreign(str(tmp_path / "their.pth")).tensors) == list(STATE)


def test_the_arguments_of_torchvisions_scripts_are_plain_values(tmp_path):
    torch.save({"model": STATE, "args": Namespace(lr=0.02), "epoch": 3}, tmp_path / "their.pth")
    assert list(read_foreign(str(tmp_path / "their.pth")).tensors) == list(STATE)


def test_what_arguments_hold_is_not_run(tmp_path):
    file = tmp_path / "their.pth"
    torch.save({"model": STATE, "args": Namespace(lr=bombs.Bomb(tmp_path / "went_off"))}, file)
    with pytest.raises(UserError, match="holds more than tensors and plain values, and reading that can run"):
        read_foreign(str(file))
    assert not (tmp_path / "went_off").exists()
