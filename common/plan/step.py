"""One training step as the engine takes it, with blank maps: what it does and what memory it takes."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from densedist.common.engine.gradient_share import TRIES
from densedist.common.engine.solver import make_optimizer
from densedist.common.engine.trainer import build_trainer
from densedist.common.errors import UserError, one_line
from densedist.common.logging import quiet
from densedist.common.plan.blank import BlankMaps
from densedist.common.plan.tally import Operator, Peak, Tally
from densedist.common.task import Planned, Trainee

STUDENT, KEPT, HEADS, LOSSES, BACKWARD, OPTIMIZER = PARTS = (
    "student, forward",
    "teacher, what a cache keeps",
    "teacher, its heads",
    "losses of distillation",
    "backward",
    "optimizer",
)


@dataclass(frozen=True)
class Step:
    """A step of one process, in bytes where it is memory.

    Args:
        images: in a forward pass.
        weights: of the student and of losses with parameters.
        average: of SOLVER.EMA_DECAY, where it is not the teacher.
        teacher: the weights of all teachers.
        optimizer: its state.
        gradients: of all trained parameters.
        operators: of a forward and a backward pass, and of the optimizer.
        peaks: the worst moment of each part, without what is above but gradients.
    """

    images: int
    weights: int
    average: int
    teacher: int
    optimizer: int
    gradients: int
    operators: Sequence[Operator]
    peaks: Mapping[str, Peak]


def take_step(planned: Planned, trainee: Trainee, cfg: CfgNode, batch: list[dict[str, Any]]) -> Step:
    """Take a step with blank maps.

    Args:
        trainee: of planned.cfg; it is of no use for training afterwards.
        cfg: the same config in the precision of this step.
        batch: of planned.batch.

    Raises:
        UserError: what fails in it.
    """
    model, distillation = trainee.model.train(), trainee.distillation
    for parameter in model.parameters():
        parameter.grad = None
    teachers = distillation.teacher.models if distillation else []
    whole = [module for teacher in teachers for module in teacher.modules()]
    kept = {module for teacher in teachers for part in planned.kept(teacher) for module in part.modules()}
    optimizer = make_optimizer(cfg, model)
    trainer = build_trainer(cfg, model, optimizer, distillation)
    trainer.reset_data_loader(lambda: iter([batch]))
    trainer.iter, trainer.max_iter = TRIES, 10**9  # no look at the gradients
    tally = Tally(STUDENT)
    weights, of_teachers = (_bytes(modules) for modules in ([model], teachers))
    for module in (model, *teachers):
        for tensor in (*module.parameters(), *module.buffers()):
            tally.follow(tensor)
    before = tally.alive
    tally.peaks.clear()
    with ExitStack() as stack:
        stack.enter_context(tally.within(KEPT, *kept))
        stack.enter_context(tally.within(HEADS, *(module for module in whole if module not in kept)))
        if distillation:
            stack.enter_context(tally.within(LOSSES, distillation.distiller))
        handles = [
            p.register_post_accumulate_grad_hook(tally.follow_gradient) for p in model.parameters() if p.requires_grad
        ]
        handles += [
            model.register_forward_hook(lambda *_: tally.begin(BACKWARD)),
            optimizer.register_step_pre_hook(lambda *_: tally.begin(OPTIMIZER)),
        ]
        for handle in handles:
            stack.callback(handle.remove)
        trainer.storage = stack.enter_context(EventStorage())
        stack.enter_context(quiet())
        stack.enter_context(BlankMaps())
        stack.enter_context(tally)
        try:
            trainer.run_step()
        except UserError:
            raise
        except Exception as error:
            raise UserError(
                f"a training step fails: {one_line(error)}: look at MODEL, INPUT, DISTILL and SOLVER"
            ) from error
    state = [x for values in optimizer.state.values() for x in values.values() if isinstance(x, Tensor)]
    has_average = cfg.SOLVER.EMA_DECAY and not (distillation and distillation.teacher.average is not None)
    return Step(
        images=len(batch),
        weights=weights,
        average=_bytes([trainee.student]) if has_average else 0,
        teacher=of_teachers,
        optimizer=sum(x.nbytes for x in state),
        gradients=sum(p.grad.nbytes for p in model.parameters() if p.grad is not None),
        operators=tally.operators,
        peaks={part: Peak(peak.total - before, peak.gradients) for part, peak in tally.peaks.items()},
    )


def _bytes(modules: Sequence[nn.Module]) -> int:
    return sum(x.nbytes for module in modules for x in (*module.parameters(), *module.buffers()))
