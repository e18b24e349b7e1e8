"""Checkpoints: weights that have to fit, and the best ones kept."""

import math
from pathlib import Path

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.engine import HookBase
from fvcore.common.checkpoint import _IncompatibleKeys
from torch import nn

from common.errors import UserError
from common.weights import SafeCheckpointer


class CompleteCheckpointer(SafeCheckpointer):
    """Refuses weights that leave a part of the model at its random initialisation."""

    def _load_model(self, checkpoint: dict) -> _IncompatibleKeys:
        if absent := [name for name in self.checkpointables if name not in checkpoint]:
            raise UserError(f"the checkpoint has no {absent[0]}")
        return super()._load_model(checkpoint)

    def _log_incompatible_keys(self, incompatible: _IncompatibleKeys) -> None:
        wrong = [key for key, *_ in incompatible.incorrect_shapes]
        if missing := list(dict.fromkeys([*incompatible.missing_keys, *wrong])):
            total = len(self.model.state_dict())
            raise UserError(
                f"the weights do not fit the model: {len(missing)} of its {total} tensors are missing "
                f"or of another shape, first {missing[0]}"
            )
        super()._log_incompatible_keys(incompatible)


class KeepBest(HookBase):
    """Keeps the student with the highest metric so far in model_best.pth, across --resume.

    Runs after the hook that evaluates.

    Args:
        student: what is saved as "model"; no optimizer.
        metric: its name among the logged scalars, e.g. "bbox/AP".
        parts: modules saved beside the student, by name.
    """

    def __init__(self, student: nn.Module, output_dir: str, metric: str, **parts: nn.Module) -> None:
        self._checkpointer = _Untagged(student, output_dir, **parts)
        self._file = Path(output_dir) / "model_best.pth"
        self._metric = metric
        self._best = -math.inf

    def before_train(self) -> None:
        if self.trainer.start_iter > 0 and self._file.is_file():
            self._best = torch.load(self._file, weights_only=True)["metric"][self._metric]

    def after_step(self) -> None:
        value, iteration = self.trainer.storage.latest().get(self._metric, (-math.inf, -1))
        if iteration == self.trainer.iter and value > self._best:
            self._best = value
            self._checkpointer.save("model_best", metric={self._metric: value}, iteration=iteration)

    def after_train(self) -> None:
        self.after_step()  # the last evaluation comes after the last step


class _Untagged(DetectionCheckpointer):
    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """A run goes on from its last checkpoint, not from its best."""


def load_complete(model: nn.Module, weights: str, key: str, trust_pickle: bool, **parts: nn.Module) -> None:
    """Load weights (a file, or one of Detectron2's catalogue names) into model, every tensor of it.

    Args:
        key: what the user would change, for the message: a config key or an option.
        trust_pickle: MODEL.TRUST_PICKLE.
        parts: modules that the checkpoint holds beside the model, by their names there.

    Raises:
        UserError: no such file, an unreadable or untrusted one, or one that does not fill the model.
    """
    if not weights:
        raise UserError(f"{key} is empty: give the trained model's weights")
    CompleteCheckpointer(model, "", key, trust_pickle, **parts).load(weights)
