"""Training and evaluation of a detector, from parsed arguments to files in OUTPUT_DIR."""

import argparse
from typing import Any

from detectron2.config import CfgNode, get_cfg
from detectron2.engine import DefaultTrainer
from detectron2.evaluation import COCOEvaluator
from detectron2.modeling.meta_arch import RetinaNet
from torch import nn

from densedist.common import engine
from densedist.common.engine.checkpoint import load_complete
from densedist.common.config.merge import find_config, merge
from densedist.common.errors import UserError
from densedist.common.distill.plan import describe
from densedist.common.engine.run_folder import claim
from densedist.common.engine.checkpoint import refuse_pickle
from densedist.det.models import build
from densedist.det.checks import check_data
from densedist.det.config import add_distill_config, without_distillation
from densedist.det.data import check_datasets, training_loader
from densedist.det.pictures import examples
from densedist.det.rcnn import DistillRCNN
from densedist.det.retinanet import DistillRetinaNet, LossNormalizer

DISTILLING = (DistillRCNN.__name__, DistillRetinaNet.__name__)


def load_config(config_file: str, overrides: list[str]) -> CfgNode:
    """The full config of a run, its keys and data sets checked.

    Raises:
        UserError: whatever is wrong with it.
    """
    cfg = read_config(config_file, overrides)
    check_datasets(cfg)
    cfg.freeze()
    return cfg


def read_config(config_file: str, overrides: list[str]) -> CfgNode:
    """The full config of a run, its keys checked; the data sets need not be there.

    Raises:
        UserError: whatever is wrong with it.
    """
    cfg = get_cfg()
    add_distill_config(cfg)
    if not config_file:
        raise UserError("--config-file is missing: name a config, e.g. one of configs/det")
    merge(cfg, find_config(config_file, "--config-file"), overrides)
    if cfg.DISTILL.TEACHER.CONFIG_FILE and cfg.MODEL.META_ARCHITECTURE not in DISTILLING:
        raise UserError(
            f"DISTILL.TEACHER is set, but MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE} does not distil: "
            f"set it to {' or '.join(DISTILLING)}"
        )
    if cfg.DISTILL.TEACHER.WEIGHTS and not cfg.DISTILL.TEACHER.CONFIG_FILE:
        raise UserError("DISTILL.TEACHER.WEIGHTS is set, but DISTILL.TEACHER.CONFIG_FILE is empty: name its config")
    if cfg.MODEL.LOAD_PROPOSALS:
        for path in [*cfg.DATASETS.PROPOSAL_FILES_TRAIN, *cfg.DATASETS.PROPOSAL_FILES_TEST]:
            refuse_pickle(path, "DATASETS.PROPOSAL_FILES", cfg.MODEL.TRUST_PICKLE)
    return cfg


def main(args: argparse.Namespace) -> None:
    """Train, or with --eval-only evaluate MODEL.WEIGHTS, as the config and the options say."""
    cfg = load_config(args.config_file, args.opts)
    if args.eval_only:
        evaluate_weights(cfg, cfg.MODEL.WEIGHTS, "MODEL.WEIGHTS")
        return
    check_data(cfg)  # complains before anything is written
    claim(cfg.OUTPUT_DIR, args.resume)
    engine.start(cfg)
    model = build(cfg)
    distiller = getattr(model, "distiller", None)
    parts: dict[str, Any] = {"adapters": distiller.adapters} if distiller is not None and distiller.adapters else {}
    if isinstance(model, RetinaNet):
        parts["loss_normalizer"] = LossNormalizer(model)
    teacher = getattr(model, "teacher", None)
    engine.train(
        cfg,
        model,
        describe(model, teacher, distiller),
        lambda start: training_loader(cfg, start),
        lambda: evaluate(cfg, model),
        best="bbox/AP",
        examples=lambda file: examples(cfg, model, teacher, file, cfg.TEST.EXAMPLES),
        resume=args.resume,
        unused_parameters=not cfg.DATASETS.TRAIN,  # without labels nothing trains the RPN and the box regression
        training_only=parts,
    )


def evaluate_weights(cfg: CfgNode, weights: str, key: str) -> None:
    """Evaluate the plain student of cfg with the given weights; key is named if they do not fit."""
    check_data(cfg, "TEST")
    engine.start(cfg)
    model = build(without_distillation(cfg))
    load_complete(model, weights, key, cfg.MODEL.TRUST_PICKLE)
    engine.write_results(cfg, evaluate(cfg, model))


def evaluate(cfg: CfgNode, model: nn.Module) -> engine.Results:
    """COCO AP in percent, over all and for each class, on every data set of DATASETS.TEST.

    {"bbox": {"AP": …, "AP50": …, "AP-<class>": …}, "segm": … with a mask head}; by data set if there are
    several. Empty on all processes but the main one.
    """
    names = cfg.DATASETS.TEST
    output = f"{cfg.OUTPUT_DIR}/inference"
    evaluators = [COCOEvaluator(name, output_dir=output) for name in names]
    training = model.training
    model.eval()
    try:
        return DefaultTrainer.test(cfg, model, evaluators)
    finally:
        model.train(training)
