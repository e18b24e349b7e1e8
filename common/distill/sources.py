"""Batches of several sources: images with true labels, with labels that a teacher wrote, and without labels."""

from collections.abc import Callable, Collection, Mapping, Sequence

from detectron2.config import CfgNode
from detectron2.utils import comm

from densedist.common.config.keys import Key, value_of
from densedist.common.data.loader import Batches, Joined, Then
from densedist.common.data.sides import LABELED, SIDES, labeled_sets
from densedist.common.distill.registry import is_on
from densedist.common.errors import UserError
from densedist.common.randomness import RunPosition

SHARE = "PSEUDO_LABELS.SHARE"
NEAR = 0.005  # how far a share may be from one that gives whole images: 0.33 is a third
# Makes a loader of the images of some sides of DATASETS, all drawn alike. Takes the position from which on it goes, the
# sides, how many images a batch has over all processes, and the config key that says so.
Load = Callable[[RunPosition, Sequence[str], int, str], Batches]


def check_sources(cfg: CfgNode, keys: Mapping[str, Key]) -> None:
    """Refuse, before training, sources that are not there or have no whole images in a batch.

    Args:
        keys: of the task.

    Raises:
        UserError: no data at all; images without labels and nothing to learn from them; a data set with true labels and
            a teacher's; a key that is set for data that are not there; see pseudo_labeled_images.
    """
    node = cfg.DATASETS
    if not (labeled_sets(cfg) or node.UNLABELED):
        raise UserError("DATASETS.TRAIN is empty: name the training data")
    if node.UNLABELED and not is_on(cfg.DISTILL):
        raise UserError("DATASETS.UNLABELED is set, but there is no teacher: set DISTILL.TEACHER and a loss")
    if twice := [name for name in node.PSEUDO_LABELED if name in node.TRAIN]:
        raise UserError(f"DATASETS.PSEUDO_LABELED: {twice[0]} is in DATASETS.TRAIN, too: name it in one of them")
    for key, sides in idle_keys(cfg, keys, [side for side in SIDES if node[side]]).items():
        empty = f"DATASETS.{' and '.join(sides)} {'are' if len(sides) > 1 else 'is'} empty"
        raise UserError(f"{key} is set, but {empty}: name data, or leave it out")
    pseudo_labeled_images(cfg)


def idle_keys(cfg: CfgNode, keys: Mapping[str, Key], sides: Collection[str]) -> dict[str, Sequence[str]]:
    """Return the keys that are set and would do nothing, each with the sides of DATASETS one of which it needs.

    Args:
        keys: of the task.
        sides: those that have data.
    """
    found = {}
    for name, key in keys.items():
        missing = [group for group in key.needs if not set(group) & set(sides)]
        if missing and value_of(cfg, name) != key.default:
            found[name] = missing[0]
    return found


def pseudo_labeled_images(cfg: CfgNode) -> int:
    """Return how many images of a batch, over all processes, PSEUDO_LABELS.SHARE gives to DATASETS.PSEUDO_LABELED.

    Raises:
        UserError: they are not as many for each process and each part of a batch, or one of both sources has none.
    """
    share, count = cfg.PSEUDO_LABELS.SHARE, cfg.SOLVER.IMS_PER_BATCH
    if not share:
        return 0
    processes, parts = comm.get_world_size(), cfg.SOLVER.ACCUMULATION_STEPS
    most = count // (processes * parts)  # of each process and part
    images = round(share * most)
    if abs(share - images / max(most, 1)) <= NEAR and 0 < images < most:
        return images * processes * parts
    per = f"the {most} of SOLVER.IMS_PER_BATCH {count} on each of {processes} process(es)"
    per += f" in each of {parts} parts" if parts > 1 else ""
    if most < 2:
        raise UserError(f"{SHARE} is {share:g}, but cannot divide {per}: raise SOLVER.IMS_PER_BATCH, or set it to 0")
    lower = min(max(int(share * most), 1), most - 1)
    near = dict.fromkeys(f"{number / most:.4g}" for number in (lower, min(lower + 1, most - 1)))
    raise UserError(f"{SHARE} is {share:g}, which gives no whole number of {per}: want {' or '.join(near)}")


def first_of_true_labels(cfg: CfgNode) -> int:
    """Return the iteration from which on training sees DATASETS.TRAIN alone: SOLVER.TRUE_LABELS_LAST of all of them."""
    return cfg.SOLVER.MAX_ITER - round(cfg.SOLVER.TRUE_LABELS_LAST * cfg.SOLVER.MAX_ITER)


def batches_of_sources(cfg: CfgNode, keys: Mapping[str, Key], position: RunPosition, load: Load) -> Batches:
    """Return the training batches of the sides of DATASETS from a position on.

    A batch has SOLVER.IMS_PER_BATCH images with labels and, where DATASETS.UNLABELED is set,
    SOLVER.UNLABELED_IMS_PER_BATCH without.

    Args:
        keys: of the task.

    Raises:
        UserError: see check_sources.
    """
    check_sources(cfg, keys)
    count, key = cfg.SOLVER.IMS_PER_BATCH, "SOLVER.IMS_PER_BATCH"
    loaders = []
    # In orders of their own: of as many images each would always have the same one by its side.
    second, third = (RunPosition(position.seed + number, position.iteration) for number in (1, 2))
    if pseudo := pseudo_labeled_images(cfg):
        loaders += [load(position, ["TRAIN"], count - pseudo, key), load(second, ["PSEUDO_LABELED"], pseudo, SHARE)]
    elif labeled_sets(cfg):
        loaders.append(load(position, LABELED, count, key))
    if cfg.DATASETS.UNLABELED:
        extra = cfg.SOLVER.UNLABELED_IMS_PER_BATCH or count
        loaders.append(load(third, ["UNLABELED"], extra, "SOLVER.UNLABELED_IMS_PER_BATCH"))
    batches = loaders[0] if len(loaders) == 1 else Joined(*loaders)
    if not cfg.SOLVER.TRUE_LABELS_LAST:
        return batches
    change = RunPosition(position.seed, max(first_of_true_labels(cfg), position.iteration))
    left = (change.iteration - position.iteration) * cfg.SOLVER.ACCUMULATION_STEPS
    return Then(batches, left, load(change, ["TRAIN"], count, key))


def in_words(cfg: CfgNode) -> list[str]:
    """Return lines of the plan on how the sources are trained on, where DATASETS.PSEUDO_LABELED or a key says more than
    the names of the data sets."""
    node, lines = cfg.PSEUDO_LABELS, []
    if cfg.DATASETS.PSEUDO_LABELED:
        pseudo, count = pseudo_labeled_images(cfg), cfg.SOLVER.IMS_PER_BATCH
        drawn = f"{pseudo} of {count} images of a batch" if pseudo else "drawn as often as images of TRAIN"
        factors = [f"{node.WEIGHT:g}"] if node.WEIGHT != 1 else []
        factors += ["the score of each label"] if node.CONFIDENCE == "score" else []
        weighed = f"; their gradient times {' times '.join(factors)}" if factors else ""
        unsure = f"; labels below {node.MIN_SCORE:g} do not count" if node.MIN_SCORE else ""
        lines.append(f"pseudo-labeled images: {drawn}{weighed}{unsure}")
    if cfg.SOLVER.TRUE_LABELS_LAST:
        lines.append(f"DATASETS.TRAIN alone from iteration {first_of_true_labels(cfg)} on")
    return lines
