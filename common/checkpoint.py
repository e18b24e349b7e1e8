"""Weights that have to fit the model they are loaded into."""

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
