"""The plan of a run: its steps on cards of a kind, and what would shorten it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from detectron2.config import CfgNode

from densedist.common.data.headers import Size
from densedist.common.data.loader import images_per_process
from densedist.common.data.sides import labeled_sets
from densedist.common.logging import quiet
from densedist.common.plan.cards import Card
from densedist.common.plan.step import take_step
from densedist.common.plan.ways import Way, largest_batch
from densedist.common.task import Task

AS_CONFIGURED = "as the config says"


@dataclass(frozen=True)
class Plan:
    """What a run takes on cards of a kind.

    Args:
        size: height and width of the images.
        largest: of the batch that takes the most memory.
        ways: as the config says it, and then those that would shorten the run.
    """

    card: Card
    size: Size
    largest: Size
    ways: Sequence[Way]

    @property
    def larger(self) -> float:
        """Return how many times larger the largest images are."""
        return _larger(self.size, self.largest)


def make_plan(
    task: Task, config: str, overrides: Sequence[str], cards: int, card: Card, size: Size | None = None
) -> Plan:
    """Plan the training of a config on so many cards.

    No data are read, and no weights but those of a teacher that no config describes, such as a program.

    Args:
        size: height and width of the images; None = as the config says.

    Raises:
        UserError: whatever is wrong with the config, or a batch that the cards cannot share.
    """
    cfg = task.read_config(config, overrides)
    labeled, unlabeled = _images(cfg, cards)
    with TemporaryDirectory() as folder, quiet():
        planned = task.planned(cfg, Path(folder))
        trainee = task.build(planned.cfg)
    largest = size or planned.largest
    size = size or planned.size
    batch = planned.batch(size, labeled, unlabeled)
    amp = planned.cfg.SOLVER.AMP
    precisions = [amp.PRECISION] if amp.ENABLED else ["", card.half]
    steps = {name: take_step(planned, trainee, _in(name, planned.cfg), batch) for name in precisions}
    cached = trainee.distillation is not None and bool(cfg.DISTILL.TEACHER.CACHE)
    can_cache = trainee.distillation is not None and trainee.distillation.teacher.average is None
    solver = cfg.SOLVER
    ways = [
        Way(
            _title(name if name != precisions[0] else "", keeps and not cached),
            steps[name],
            len(batch),
            keeps,
            solver.ACCUMULATION_STEPS,
            cards,
            solver.MAX_ITER,
        )
        for keeps in ([False, True] if can_cache and not cached else [cached])
        for name in precisions
    ]
    ways += _with_more_images(ways[-1], card, _larger(size, largest))
    return Plan(card, size, largest, ways)


def _larger(size: Size, largest: Size) -> float:
    return (largest[0] * largest[1]) / (size[0] * size[1])


def _images(cfg: CfgNode, cards: int) -> tuple[int, int]:
    """Return how many images with and without labels a card sees in a forward pass.

    Raises:
        UserError: naming the key, where they cannot be divided equally.
    """
    solver = cfg.SOLVER
    asked = {
        "SOLVER.IMS_PER_BATCH": solver.IMS_PER_BATCH if labeled_sets(cfg) else 0,
        "SOLVER.UNLABELED_IMS_PER_BATCH": (solver.UNLABELED_IMS_PER_BATCH or solver.IMS_PER_BATCH)
        if cfg.DATASETS.UNLABELED
        else 0,
    }
    labeled, unlabeled = (images_per_process(cfg, images, key, cards) for key, images in asked.items())
    return labeled, unlabeled


def _in(precision: str, cfg: CfgNode) -> CfgNode:
    """Return the config of one forward pass in a precision; "" = as it is."""
    own = cfg.clone()
    own.defrost()
    own.SOLVER.ACCUMULATION_STEPS = 1
    if precision:
        own.SOLVER.AMP.ENABLED, own.SOLVER.AMP.PRECISION = True, precision
    return own


def _title(precision: str, keeps: bool) -> str:
    """Return in words what a way sets otherwise than the config."""
    changed = [f"AMP in {precision}"] if precision else []
    return ", ".join([*changed, *(["cached teacher"] if keeps else [])]) or AS_CONFIGURED


def _with_more_images(way: Way, card: Card, larger: float) -> list[Way]:
    """Return the way with as many images at a time as a card can take, and as many in the whole run as before."""
    most = largest_batch(way, card, larger)
    if most <= way.images:
        return []
    title = f"{most} images on a card" + (f", {way.title}" if way.title != AS_CONFIGURED else "")
    fewer = way.iterations * way.images * way.passes / most
    return [replace(way, title=title, images=most, passes=1, iterations=fewer)]
