"""A plan beside a real step on the CPU."""

import torch
from detectron2.utils.events import EventStorage

from densedist.common.engine.gradient_share import TRIES
from densedist.common.engine.solver import make_optimizer
from densedist.common.engine.trainer import build_trainer
from densedist.common.plan.step import take_step
from densedist.common.profile import extra_bytes

IMAGES = 2


def planned_and_real(task, folder, config, *keys):
    """Bytes at the worst moment of a first step, beyond the weights: planned, and as PyTorch's profiler has them."""
    planned = task.planned(task.read_config(str(config), list(map(str, keys))), folder)
    trainee, batch = task.build(planned.cfg), planned.batch(planned.size, IMAGES, 0)
    step = take_step(planned, trainee, planned.cfg, batch)
    trainee.model.zero_grad()
    optimizer = make_optimizer(planned.cfg, trainee.model)
    trainer = build_trainer(planned.cfg, trainee.model, optimizer, trainee.distillation)
    trainer.reset_data_loader(lambda: iter([batch]))
    trainer.iter, trainer.max_iter = TRIES, 10**9
    with EventStorage() as trainer.storage:
        real = extra_bytes(trainer.run_step, torch.device("cpu"))
    return max(peak.total for peak in step.peaks.values()), real
