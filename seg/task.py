"""Training and evaluation of a segmentation model, from parsed arguments to files in OUTPUT_DIR."""

import argparse

from detectron2.config import CfgNode

from densedist.common import engine
from densedist.common.config.merge import find_config, merge
from densedist.common.errors import UserError
from densedist.common.distill.plan import describe
from densedist.common.engine.run_folder import claim
from densedist.seg.data import check_data
from densedist.seg.config import get_cfg, without_distillation
from densedist.seg.data import training_loader
from densedist.seg.evaluation import evaluate
from densedist.seg.labels import Classes
from densedist.seg.network import load_network
from densedist.seg.pictures import examples
from densedist.seg.segmenter import around, build_segmenter


def load_config(config_file: str, overrides: list[str]) -> CfgNode:
    """The full config of a run, its keys and values checked.

    Raises:
        UserError: whatever is wrong with it.
    """
    cfg = get_cfg()
    if not config_file:
        raise UserError("--config-file is missing: name a config, e.g. one of configs/seg")
    merge(cfg, find_config(config_file, "--config-file"), overrides)
    if cfg.INPUT.FORMAT not in ("RGB", "BGR"):
        raise UserError(f"INPUT.FORMAT is {cfg.INPUT.FORMAT}: want RGB or BGR")
    Classes.of(cfg)
    cfg.freeze()
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
    model = build_segmenter(cfg)
    parts = {"aux_head": model.network.aux_head, "adapters": model.distiller and model.distiller.adapters}
    engine.train(
        cfg,
        model,
        describe(model.network.smp, model.teacher, model.distiller),
        lambda start: training_loader(cfg, start),
        lambda: evaluate(cfg, model),
        best="sem_seg/mIoU",
        examples=lambda file: examples(cfg, model, model.teacher, file, cfg.TEST.EXAMPLES),
        resume=args.resume,
        student=model.network.smp,
        training_only={name: part for name, part in parts.items() if part},
        unused_parameters=True,  # SMP keeps an encoder's stages beyond MODEL.ENCODER.DEPTH
    )


def evaluate_weights(cfg: CfgNode, weights: str, key: str) -> None:
    """Evaluate the plain student of cfg with the given weights; key is named if they do not fit."""
    check_data(cfg, "TEST")
    engine.start(cfg)
    plain = without_distillation(cfg)
    if not weights:
        raise UserError(f"{key} is empty: give the trained model's weights")
    model = around(load_network(plain, weights, key), plain)
    engine.write_results(cfg, evaluate(cfg, model))
