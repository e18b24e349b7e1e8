"""Refuse what is mistyped before PyTorch is imported: a config's name, keys, types, paths and task."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from fvcore.common.config import CfgNode

from densedist.common.compare.names import refuse_unknown
from densedist.common.config.files import CONFIGS, find_config
from densedist.common.config.functions import NAME
from densedist.common.config.keys import value_of
from densedist.common.config.load import Given, read
from densedist.common.config.paths import ITEMS, NO_PATHS, PART, SPLITS, is_of_run, is_relative, places
from densedist.common.data.sides import SIDES
from densedist.common.distill.teacher_files import on_hub
from densedist.common.errors import UserError
from densedist.common.foreign.kinds import refuse_missing_package
from densedist.common.locks import refuse_unwritable
from densedist.common.nearest import did_you_mean_path
from densedist.common.run_files import CONFIG, Weights, config_beside, holds_run, refuse_existing_run
from densedist.known_keys import defaults, refuse_mistyped
from densedist.tasks import IN_WORDS, LEAVE_OUT, name_of, refuse_other_task

TEACHER = "DISTILL.TEACHER"
UNLABELED = "DATASETS.UNLABELED"
NOTHING_TO_LABEL = f"nothing to label: name images or folders, or {UNLABELED}"
# What another model has otherwise, as a rule.
MODELS = {
    "det": ("MODEL.BACKBONE.NAME", "MODEL.RESNETS.DEPTH", "MODEL.TIMM.NAME"),
    "seg": ("MODEL.ARCHITECTURE", "MODEL.ENCODER.NAME"),
}
FOLDERS = (UNLABELED, "--unlabeled")  # what names folders of images


def check_training(
    task: str, config: str, overrides: Sequence[str], trains: bool = True, learns: bool = True, reads: bool = True
) -> str:
    """Check the config of a student, and whether the files that it names are there.

    Args:
        task: "det" or "seg"; "" = as the config says.
        trains: the weights that it starts from have to be there.
        learns: the teacher, too, where the config switches a loss on.
        reads: its data have to be there.

    Returns:
        the task.

    Raises:
        UserError: naming what is mistyped, and what is like it.
    """
    if not config:
        raise UserError("--config-file is missing: name a config, e.g. det/digits/faster_rcnn_r10_quarter.yaml")
    refuse_other_task(task, config, "--config-file", LEAVE_OUT)
    task = task or name_of(config) or "det"
    given = read(config, overrides)
    if (cfg := refuse_mistyped(given, task)) is not None:
        if reads:
            _refuse_missing_files(cfg, given, trains)
        if learns:
            _check_teacher(cfg.DISTILL, given, task)
    return task


def check_methods(
    task: str, config: str, overrides: Sequence[str], methods: Sequence[str], unlabeled: Sequence[str]
) -> None:
    """Check the methods of a comparison or a search, and the images without labels that they train on.

    Args:
        task, config, overrides: see check_training.
        methods: split at commas.
        unlabeled: data sets of --unlabeled.

    Raises:
        UserError: a method that is not known, or lacks data; a folder that is not there.
    """
    cfg = refuse_mistyped(given := read(config, overrides), task)
    if cfg is not None:
        losses = [name for name, node in cfg.DISTILL.items() if isinstance(node, CfgNode) and "WEIGHT" in node]
        refuse_unknown(methods, losses, unlabeled)
        _refuse_missing_folders(cfg, unlabeled, "--unlabeled", given)


def check_unlabeled(task: str, config: str, overrides: Sequence[str]) -> None:
    """Check the images that DATASETS.UNLABELED names to be labeled. Takes what check_training does.

    Raises:
        UserError: it names none, or a folder that is not there.
    """
    cfg = refuse_mistyped(given := read(config, overrides), task)
    if cfg is not None:
        if not cfg.DATASETS.UNLABELED:
            raise UserError(NOTHING_TO_LABEL)
        _refuse_missing_folders(cfg, cfg.DATASETS.UNLABELED, UNLABELED, given)


def check_output(task: str, config: str, overrides: Sequence[str], resume: bool = False) -> None:
    """Check the folder that a training writes to.

    Args:
        task, config, overrides: see check_training.
        resume: a run that is there goes on.

    Raises:
        UserError: OUTPUT_DIR cannot be written, or holds another run.
    """
    given = read(config, overrides)
    known = {"OUTPUT_DIR": defaults(task).OUTPUT_DIR, **given.content, **dict(given.pairs)}
    output = Path(str(known["OUTPUT_DIR"]))
    refuse_unwritable(output, "OUTPUT_DIR")
    if not holds_run(output):
        return
    if (output / CONFIG).is_file() and (theirs := name_of(str(output / CONFIG))) not in ("", task):
        wanted = f"name another OUTPUT_DIR, or with --resume that of a run of {IN_WORDS[task]}"
        raise UserError(f"OUTPUT_DIR: {output} holds a run of {IN_WORDS[theirs]}, not of {IN_WORDS[task]}: {wanted}")
    if not resume:
        refuse_existing_run(str(output))
    elif (output / CONFIG).is_file():
        _refuse_another_model(task, given, output)


def _refuse_another_model(task: str, given: Given, output: Path) -> None:
    """Refuse to go on with a run whose backbone or encoder has another name."""
    theirs = None
    with suppress(UserError):  # of an earlier version, maybe; what fits is seen when the weights are loaded
        theirs = refuse_mistyped(read(str(output / CONFIG), []), task)
    if theirs is None or (ours := refuse_mistyped(given, task)) is None:
        return
    for key in MODELS[task]:
        there, here = value_of(theirs, key), value_of(ours, key)
        if there != here:
            raise UserError(
                f"OUTPUT_DIR: {output} holds a run of another model, whose {key} is {there}, not {here}: name another "
                "OUTPUT_DIR, or with --resume that of a run of this model"
            )


def check_trained(task: str, found: Weights) -> str:
    """Check the config of trained weights. Takes and returns what check_training does.

    Raises:
        UserError: naming what is mistyped, and what is like it.
    """
    if not task and not found.config:
        task = dict(zip(found.overrides[::2], found.overrides[1::2], strict=False)).get("TASK", "")
    refuse_other_task(task, found.config, "--config-file" if found.trusted else found.key, LEAVE_OUT)
    if not (task or found.config):
        raise UserError(f"{found.key}: {found.file} has no config that says the task: say det or seg")
    task = task or name_of(found.config) or "det"
    if beside := config_beside(found.file):
        refuse_other_task(task, str(beside), found.key)
    refuse_mistyped(read(found.config, found.overrides), task)
    return task


def _refuse_missing_files(cfg: CfgNode, given: Given, trains: bool) -> None:
    """Refuse files that a config or the command line names and that are not there, of data sets those that are read."""
    sides = {str(name).partition("[")[0] for side in SIDES for name in cfg.DATASETS[side]}
    _refuse_missing_folders(cfg, cfg.DATASETS.UNLABELED, UNLABELED, given)
    for node, name, key in places(cfg):
        declared = key.partition(", ")[2]
        needed = trains if key == "MODEL.WEIGHTS" else declared in sides or key == "DATASETS.ROOT"
        if needed and not _is_there(node[name]):
            raise _missing(node[name], key, given)


def _refuse_missing_folders(cfg: CfgNode, names: Sequence[str], key: str, given: Given) -> None:
    """Refuse paths of folders that are not there; a name without a slash may be that of a data set, which is not known
    here, and root/split that of a split.

    Args:
        names: data sets without labels.
        key: what names them, for messages.
    """
    declared = {str(entry[0]) for name in ITEMS for entry in cfg.DATASETS.get(name, ()) if entry}
    for name in map(str, names):
        folder = Path(path := PART.sub("", name)).expanduser()
        is_split = str(folder.parent) == "digits" or (folder.parent / SPLITS / folder.name).is_dir()
        if "/" in path and not (path in declared or is_split or folder.is_dir()):
            raise _missing(path, key, given)


def _check_teacher(distill: CfgNode, given: Given, task: str) -> None:
    """Refuse a teacher that a loss needs and whose files are not there, or that is of the other task."""
    if not any(node.get("WEIGHT", 0) > 0 for node in distill.values() if isinstance(node, CfgNode)):
        return
    node = distill.TEACHER
    if node.CONFIG_FILE:
        find_config(node.CONFIG_FILE, f"{TEACHER}.CONFIG_FILE")
    refuse_other_task(task, node.CONFIG_FILE, f"{TEACHER}.CONFIG_FILE")
    weights, key = node.WEIGHTS, f"{TEACHER}.WEIGHTS"
    if _is_there(weights):
        if config := config_beside(weights):
            refuse_other_task(task, str(config), key)
        refuse_missing_package(weights, key)
        return
    # A detector's checkpoint needs a config; that it has none is said first.
    without_config = task == "det" and not node.CONFIG_FILE and Path(weights).suffix
    if not (NAME.fullmatch(weights) or (task == "seg" and on_hub(node)) or without_config):
        raise _missing(weights, key, given)


def _is_there(name: str) -> bool:
    return name in NO_PATHS or "://" in name or Path(name).expanduser().exists()


def _missing(name: str, key: str, given: Given) -> UserError:
    """Return the refusal of a path that leads nowhere, with the places that were tried."""
    kind = "file" if Path(name).suffix else "folder" if key.startswith("DATASETS") else "file or folder"
    kind = "folder" if key in FOLDERS else kind
    said, folder = f"{key}: there is no {kind} {name}", Path(given.path).absolute().parent
    looked_up = CONFIGS not in folder.parents and not is_of_run(Path(given.path))
    near = did_you_mean_path(name)
    if _stands_in_file(key, given) and is_relative(name) and looked_up and folder != Path.cwd():
        said += f" in {folder} (the config's folder) or in {Path.cwd()} (the current folder)"
        near = did_you_mean_path(name, folder) or near
    return UserError(f"{said}{near}")


def _stands_in_file(key: str, given: Given) -> bool:
    return bool(given.path) and not key.startswith("--") and key.partition(",")[0] not in dict(given.pairs)
