"""Students under Detectron2's DefaultTrainer: the teacher is loaded, and what is trained with a student is kept."""

import torch
from detectron2.config import CfgNode
from detectron2.engine import HookBase
from torch.nn.parallel import DistributedDataParallel

from densedist.common.config.keys import STOCK, value_of
from densedist.common.config.shared_keys import COMMON
from densedist.common.errors import UserError
from densedist.det.architectures import distilling_class
from densedist.det.config import DET
from densedist.det.distilling import Distilling

# What densedist's engine does and DefaultTrainer does not.
OURS = (
    "SOLVER.OPTIMIZER",
    "SOLVER.AMP.PRECISION",
    "SOLVER.ACCUMULATION_STEPS",
    "SOLVER.EMA_DECAY",
    "SOLVER.MAX_SKIPPED_STEPS",
    "SOLVER.UNLABELED_IMS_PER_BATCH",
    "SOLVER.TRUE_LABELS_LAST",
    "DATASETS.PSEUDO_LABELED",
    "DATASETS.UNLABELED",
    "DATASETS.DROP_BAD_BOXES",
    "INPUT.COLOR_JITTER",
    "INPUT.ALBUMENTATIONS",
    "INPUT.SCALE_JITTER",
    "DISTILL.TEACHER.CACHE",
    "DISTILL.GRADIENT_SHARE",
    "TRACKERS",
)


class KeepBeside(HookBase):
    """Keeps what is trained with the student, as adapters, in the checkpoints of a DefaultTrainer.

    It loads the teacher before the first step (see Distilling.attach_teacher).

    Register it before train(), after resume_or_load(): `trainer.register_hooks([KeepBeside()])`. Without it a run that
    goes on would begin with new adapters.
    """

    def before_train(self) -> None:
        """
        Raises:
            UserError: a key is set that DefaultTrainer does not read, or a checkpoint to go on from was written
                without this hook.
        """
        refuse_keys(self.trainer.cfg)
        model, checkpointer = self.trainer.model, self.trainer.checkpointer
        model = model.module if isinstance(model, DistributedDataParallel) else model
        if isinstance(model, Distilling):
            model.attach_teacher(after_optimizer=True)
        kind = distilling_class(type(model).__name__)
        parts = kind.checkpoint_parts(model) if kind else {}
        if self.trainer.start_iter > 0:
            file = checkpointer.get_checkpoint_file()
            content = torch.load(file, map_location="cpu", weights_only=True)
            if missing := [name for name in parts if name not in content]:
                raise UserError(f"--resume: {file} has no {missing[0]}: it was written without KeepBeside; start anew")
            for name, part in parts.items():
                part.load_state_dict(content[name])
        for name, part in parts.items():
            checkpointer.add_checkpointable(name, part)


def refuse_keys(cfg: CfgNode) -> None:
    """Make sure that no key asks for what DefaultTrainer does not do.

    Raises:
        UserError: naming the first.
    """
    keys = {**COMMON, **DET}
    for name in OURS:
        usual = keys[name].default
        if usual is not STOCK and value_of(cfg, name) != usual:
            raise UserError(
                f"{name} is {value_of(cfg, name)}, and Detectron2's DefaultTrainer does not read it: train with "
                f"`densedist train det`, or leave it at {usual!r}"
            )
