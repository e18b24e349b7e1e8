"""Folders of save_pretrained of Hugging Face's transformers, read without running anything of their author's."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from densedist.common.distill.classes import plain
from densedist.common.errors import UserError, one_line
from densedist.common.foreign.kinds import CONFIG, read_json, refuse_missing_package

PROCESSOR = "preprocessor_config.json"
OF_IMAGE_AND_TEXT = "processor_config.json"  # has the same within, where a processor is for images and text
# No look at the hub; and without a word on code they would ask at the terminal whether to run it.
SAFE: Mapping[str, Any] = {"local_files_only": True, "trust_remote_code": False}


@dataclass(frozen=True)
class Folder:
    """A folder that transformers has written.

    Args:
        path: where it lies.
        key: what names it, for messages.
        config: the content of its config.json.
    """

    path: str
    key: str
    config: Mapping[str, Any]

    @property
    def source(self) -> str:
        """Return what names it, for messages."""
        return f"{self.key}: {self.path}"

    @property
    def architecture(self) -> str:
        """Return the class of its model, as "SegformerForSemanticSegmentation"."""
        return next(iter(self.config.get("architectures") or []), "a model without a name")

    @property
    def names(self) -> list[str]:
        """Return the names of the classes, by number; none where nobody has named them."""
        given: Mapping[str, str] = self.config.get("id2label", {})
        names = [plain(given[number]) for number in sorted(given, key=int)]
        return [] if all(re.fullmatch(r"LABEL_\d+", name) for name in names) else names

    def load(self, auto: str) -> Any:
        """Load the model, in float32 whatever it was saved in, with all its weights.

        Args:
            auto: the class of transformers that builds it, as "AutoModelForSemanticSegmentation".

        Raises:
            UserError: weights that cannot be read without trust, or that are not complete.
        """
        import transformers

        options = {"ignore_mismatched_sizes": True, "output_loading_info": True, "dtype": torch.float32}
        try:
            model, found = getattr(transformers, auto).from_pretrained(self.path, **options, **SAFE)
        except UnpicklingError as error:
            raise UserError(
                f"{self.source} holds more than tensors and plain values: save it again by a current "
                "save_pretrained, as safetensors"
            ) from error
        except Exception as error:  # theirs are many
            raise self._unreadable(error) from error
        if wrong := sorted([*found["missing_keys"], *(name for name, *_ in found["mismatched_keys"])]):
            raise UserError(
                f"{self.source}: {len(wrong)} tensors of its {self.architecture} are missing or of another shape, "
                f"first {wrong[0]}"
            )
        return model

    def load_processor(self, auto: str = "AutoImageProcessor", **options: Any) -> Any:
        """Load the processor, which says how images become what the model takes.

        Args:
            auto: the class of transformers that builds it.
            options: what it is to have instead of what the folder says.

        Raises:
            UserError: there is none, or it cannot be read.
        """
        import transformers

        if not any((Path(self.path) / name).is_file() for name in (PROCESSOR, OF_IMAGE_AND_TEXT)):
            raise UserError(f"{self.source} has no {PROCESSOR}, which says how images are normalized: put it there")
        try:
            return getattr(transformers, auto).from_pretrained(self.path, **options, **SAFE)
        except Exception as error:  # theirs are many
            raise self._unreadable(error) from error

    def _unreadable(self, error: Exception) -> UserError:
        return UserError(f"{self.key}: transformers cannot read {self.path}: {one_line(error)}")


def open_folder(path: str, key: str) -> Folder:
    """Open a folder, without its weights.

    Args:
        key: what names it, for messages.

    Raises:
        UserError: no such folder, code that its model would need, or the package transformers is missing.
    """
    refuse_missing_package(path, key, "transformers")
    import transformers

    folder = Folder(path, key, read_json(Path(path) / CONFIG))
    _refuse_code(folder, folder.config.get("model_type") in transformers.CONFIG_MAPPING)
    return folder


def _refuse_code(folder: Folder, known: bool) -> None:
    """Make sure that a folder needs no code of its author's, which lies in it or on the hub.

    Args:
        known: whether transformers has such models itself.

    Raises:
        UserError: it does.
    """
    config, source = folder.config, folder.source
    if config.get("auto_map") and not known:
        raise UserError(f"{source} needs code of its author, which is never run: want a model of transformers")
    parts = [config, *(part for part in config.values() if isinstance(part, Mapping))]
    for name in ("attn_implementation", "_attn_implementation", "experts_implementation", "_experts_implementation"):
        if any("/" in str(part.get(name)) for part in parts):
            raise UserError(f"{source} names code on the hub, which is never run: remove {name} from {CONFIG}")
    if there := [str(part.get("backbone")) for part in parts if ":" in str(part.get("backbone"))]:  # of timm
        raise UserError(f"{source} names weights on the hub, which are never fetched: remove {there[0]} from {CONFIG}")
