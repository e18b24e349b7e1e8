"""Weights that have to fit the model they are loaded into."""

from pathlib import Path
from pickle import UnpicklingError

from detectron2.checkpoint import DetectionCheckpointer
from fvcore.common.checkpoint import _IncompatibleKeys
from torch import nn

from common.errors import UserError


class CompleteCheckpointer(DetectionCheckpointer):
    """Refuses weights that leave a part of the model at its random initialisation."""

    def _load_model(self, checkpoint: dict) -> _IncompatibleKeys:
        if absent := [name for name in self.checkpointables if name not in checkpoint]:
            raise UserError(f"the checkpoint has no {absent[0]}")
        return super()._load_model(checkpoint)

    def _log_incompatible_keys(self, incompatible: _IncompatibleKeys) -> None:
        wrong = [key for key, *_ in incompatible.incorrect_shapes]
        if missing := [*incompatible.missing_keys, *wrong]:
            total = len(self.model.state_dict())
            raise UserError(
                f"the weights do not fit the model: {len(missing)} of its {total} tensors are missing "
                f"or of another shape, first {missing[0]}"
            )
        super()._log_incompatible_keys(incompatible)


def load_initial(model: nn.Module, weights: str) -> None:
    """Start a training from MODEL.WEIGHTS: what fits is taken, e.g. a pretrained backbone; "" = none."""
    DetectionCheckpointer(model).load(weights)


def load_complete(model: nn.Module, weights: str, key: str, **parts: nn.Module) -> None:
    """Load weights (a file, or one of Detectron2's catalogue names) into model, every tensor of it.

    Args:
        key: what the user would change, for the message: a config key or an option.
        parts: modules that the checkpoint holds beside the model, by their names there.

    Raises:
        UserError: no such file, an unreadable one, or one that does not fill the model.
    """
    if not weights:
        raise UserError(f"{key} is empty: give the trained model's weights")
    if "://" not in weights and not Path(weights).is_file():
        raise UserError(f"{key}: there is no file {weights}")
    try:
        CompleteCheckpointer(model, **parts).load(weights)
    except UserError as error:
        raise UserError(f"{key}: {weights}: {error}") from error
    except (RuntimeError, EOFError, KeyError, ValueError, OSError, UnpicklingError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise UserError(f"{key}: {weights} cannot be read as a checkpoint: {reason}") from error
