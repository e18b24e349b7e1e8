"""What labels depend on, so that a job goes on only with the same."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

from densedist.common.fingerprint import NO_NUMBER, Fingerprint, Fingerprints
from densedist.common.run_files import Weights
from densedist.common.task import Task


def settings_of(task: Task, teachers: Sequence[Weights], images: Mapping[str, Path], **options: object) -> Fingerprint:
    """Return what labels of images depend on: teachers by their content, images by their paths.

    Args:
        options: values of options by name, as score_threshold; None and False are left out.
    """
    fingerprints = Fingerprints(task)
    parts: Fingerprint = {"task": task.name}
    for number, weights in enumerate(teachers, 1):
        which = f" {number}" if len(teachers) > 1 else ""
        parts[f"--weights{which}"] = fingerprints.of_weights(weights.file)
        parts[f"--config-file{which}"] = fingerprints.of_config(weights.config)
    words = list(teachers[0].overrides)
    parts |= {key: value for key, value in zip(words[::2], words[1::2], strict=False) if key not in NO_NUMBER}
    parts |= {
        f"--{name.replace('_', '-')}": str(value) for name, value in options.items() if value not in (None, False, "")
    }
    digest = hashlib.sha256()
    for name, file in images.items():
        digest.update(f"{name}\0{Path(file).absolute()}\0".encode(errors="surrogateescape"))
    return parts | {"images": {"named": f"{len(images)} files", "sha256": digest.hexdigest()}}
