"""What a training leaves in its OUTPUT_DIR for others: the weights, and the config that says what they are."""

from pathlib import Path

from common.config import read
from common.errors import UserError

CONFIG, FINAL = "config.yaml", "model_final.pth"


def locate(weights: str, config_file: str = "") -> tuple[str, str]:
    """The files of trained weights and of their config.

    Args:
        weights: a checkpoint, or the OUTPUT_DIR of a finished training.
        config_file: another config than the one that lies beside the weights.

    Raises:
        UserError: neither is there.
    """
    path = Path(weights)
    run = path / CONFIG
    if path.is_dir() and run.is_file():
        path = path / FINAL
        if not path.is_file():
            raise UserError(f"--weights: there is no {path}: its training has not ended; name another checkpoint")
    elif not path.exists():
        raise UserError(f"--weights: there is no file {weights}")
    config = Path(config_file) if config_file else run if run.is_file() else path.parent / CONFIG
    if not config_file and not config.is_file():
        raise UserError(f"--weights: no {CONFIG} lies beside {weights}: name its config with --config-file")
    return str(path), str(config)


def task(config_file: str) -> str:
    """ "seg" or "det", the package that the keys of a config are of.

    Raises:
        UserError: no such file, or one that is no plain YAML.
    """
    model = read(config_file).get("MODEL")
    return "seg" if isinstance(model, dict) and {"ARCHITECTURE", "ENCODER"} & set(model) else "det"
