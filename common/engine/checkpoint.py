"""Weights from files: nothing in them is executed, and weights that do not fit the model are refused."""

from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeAlias

import torch
from detectron2.checkpoint import DetectionCheckpointer
from fvcore.common.checkpoint import _IncompatibleKeys
from torch import nn

from densedist.common.config.trust import REMEDY
from densedist.common.errors import UserError
from densedist.common.nearest import did_you_mean_path

Shape: TypeAlias = tuple[int, ...]

PICKLE = ".pkl"  # what Detectron2 unpickles
DANGER = f"is a pickle, and reading one can run any program that its author hid in it; {REMEDY}"
# Where Detectron2's own weights lie; the first two names lead to the last address.
HOST = "https://dl.fbaipublicfiles.com"
CATALOG = ("detectron2://", "catalog://", f"{HOST}/detectron2/", f"{HOST}/detectron/")


def refuse_pickle(path: str, key: str, trust: bool) -> None:
    """Make sure that a pickle, which can run any code when it is read, is one to be trusted.

    Args:
        path: its file or address.
        key: what names the file, for the message.
        trust: MODEL.TRUST_PICKLE.

    Raises:
        UserError: a pickle from anywhere but Detectron2's own catalog.
    """
    if not trust and not path.startswith(CATALOG):
        raise UserError(f"{key}: {path} {DANGER}")


class SafeCheckpointer(DetectionCheckpointer):
    """Detectron2's checkpointer, but weights that are unsafe, unreadable or of another model end in a UserError.

    Args:
        key: what names the weights, for messages.
        trust_pickle: MODEL.TRUST_PICKLE.
        model, save_dir, parts: as Detectron2's.
    """

    def __init__(
        self, model: nn.Module, save_dir: str = "", key: str = "MODEL.WEIGHTS", trust_pickle: bool = False, **parts: Any
    ) -> None:
        super().__init__(model, save_dir, **parts)
        self._key, self._trust, self._catalog = key, trust_pickle, False
        self.unfilled: list[str] = []  # the model's tensors that the loaded weights lack, or have in another shape
        self.unused: list[str] = []  # the weights' tensors that the model lacks
        self.misshapen: list[tuple[str, Shape, Shape]] = []  # those of another shape: name, theirs, the model's

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint as Detectron2's Checkpointer does, and record what it lacks.

        Raises:
            UserError: no such file, an unreadable or untrusted one, or one of which no tensor fits the model.
        """
        if path and "://" not in path and not Path(path).is_file():
            raise UserError(f"{self._key}: there is no file {path}{did_you_mean_path(path)}")
        if path.partition("?")[0].endswith(PICKLE):
            refuse_pickle(path, self._key, self._trust)  # before it is fetched
        self._catalog = path.startswith(CATALOG)
        try:
            return super().load(path, *args, **kwargs)
        except UserError as error:
            raise UserError(f"{self._key}: {path}: {error}") from error
        except UnpicklingError as error:
            raise UserError(
                f"{self._key}: {path} cannot be read as a checkpoint: it is damaged, or holds more than tensors and "
                "plain values; save the model's state_dict() with torch.save"
            ) from error
        except (RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, OSError) as error:
            reason = str(error).strip().partition("\n")[0] or type(error).__name__
            raise UserError(f"{self._key}: {path} cannot be read as a checkpoint: {reason}") from error

    def _load_file(self, filename: str) -> Any:
        # Here Detectron2 unpickles. It leaves out an empty query or fragment of the path that it was given.
        if filename.endswith(PICKLE) and not (self._trust or self._catalog):
            raise UserError(f"it {DANGER}")
        return super()._load_file(filename)

    def _torch_load(self, f: str) -> Any:
        return torch.load(f, map_location="cpu", weights_only=True)

    def _load_model(self, checkpoint: dict) -> _IncompatibleKeys:
        there = list(checkpoint["model"])
        incompatible = super()._load_model(checkpoint)
        self.unused, self.misshapen = list(incompatible.unexpected_keys), list(incompatible.incorrect_shapes)
        wrong = [name for name, *_ in self.misshapen]
        self.unfilled = list(dict.fromkeys([*incompatible.missing_keys, *wrong]))
        # Of the parameters those that a checkpoint has: adapters are kept apart from the model, so no file lacks them.
        kept = self.model.state_dict().keys()
        here = [name for name, _ in self.model.named_parameters() if name in kept]
        if set(here) <= set(incompatible.missing_keys):
            why = f", whose first is {here[0]}, while the file's is {there[0] if there else 'missing'}"
            if self.misshapen:
                name, theirs, ours = self.misshapen[0]
                why = f": its {name} is {theirs}, the model's {ours}"
            raise UserError(f"of another architecture: no tensor fits the model{why}; name weights of this model")
        return incompatible


class CompleteCheckpointer(SafeCheckpointer):
    """Refuses weights that leave a part of the model at its random initialization."""

    def _load_model(self, checkpoint: dict) -> _IncompatibleKeys:
        if absent := [name for name in self.checkpointables if name not in checkpoint]:
            raise UserError(f"the checkpoint has no {absent[0]}")
        return super()._load_model(checkpoint)

    def _log_incompatible_keys(self, incompatible: _IncompatibleKeys) -> None:
        if missing := self.unfilled:
            total = len(self.model.state_dict())
            raise UserError(
                f"the weights do not fit the model: {len(missing)} of its {total} tensors are missing "
                f"or of another shape, first {missing[0]}"
            )
        super()._log_incompatible_keys(incompatible)


def load_complete(model: nn.Module, weights: str, key: str, trust_pickle: bool, **parts: nn.Module) -> None:
    """Load weights (a file, or one of Detectron2's catalog names) into model, every tensor of it.

    Args:
        key: what the user would change, for the message: a config key or an option.
        trust_pickle: MODEL.TRUST_PICKLE.
        parts: modules that the checkpoint holds apart from the model, by their names there.

    Raises:
        UserError: no such file, an unreadable or untrusted one, or one that does not fill the model.
    """
    if not weights:
        raise UserError(f"{key} is empty: give the trained model's weights")
    CompleteCheckpointer(model, "", key, trust_pickle, **parts).load(weights)
