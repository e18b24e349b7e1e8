"""The keys that detection and segmentation share, apart from those of the losses (common/distill/registry.py)."""

from collections.abc import Mapping
from typing import Any

from fvcore.common.config import CfgNode

from densedist.common.config.keys import STOCK, Key, above, at_least, needing, of_all, of_files, one_of, up_to_one
from densedist.common.data.flip_pairs import WANTED, is_pairs
from densedist.common.data.sides import PSEUDO, TRUE, WITHOUT_TRUTH

SCHEDULES = ("WarmupPolyLR", "WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR")
PRECISIONS = ("float32", "float16", "bfloat16")  # as PyTorch calls them


def _jitter(meaning: str) -> Key:
    """Return a key for ranges of torchvision's ColorJitter."""
    words = "[brightness, contrast, saturation, hue], each 0 or more, the last one 0.5 at most; or []"
    return Key([], lambda values: not values or _is_jitter(values), words, meaning=meaning)


def _is_jitter(values: list[Any]) -> bool:
    numbers = all(isinstance(value, (int, float)) and value >= 0 for value in values)
    return len(values) == 4 and numbers and values[-1] <= 0.5


def _stock(meaning: str) -> Key:
    """Return a key that Detectron2 has and whose values it checks."""
    return Key(STOCK, meaning=meaning)


RUN: Mapping[str, Key] = {
    "VERSION": _stock("Version of Detectron2's keys that a config is written for; older ones are refused."),
    "IMPORTS": Key(
        [],
        lambda names: all(isinstance(name, str) for name in names),
        "names of modules or .py files",
        meaning="Modules, or paths of .py files, that are imported before the config is read: your own losses, "
        "backbones or meta-architectures.",
    ),
    "TRUST_IMPORTS": Key(
        False,
        trust=True,
        meaning="Also import what configs name that you did not name yourself; --trust-imports sets it.",
    ),
    "OUTPUT_DIR": _stock("Folder of the run: config, log, metrics, checkpoints and results."),
    "REHEARSAL": Key(
        True, meaning="Rehearse a step, an evaluation and a picture before the run, to find problems early."
    ),
    "TRACKERS": Key(
        [],
        lambda names: set(names) <= {"wandb", "mlflow"},
        "any of wandb, mlflow",
        meaning="Experiment trackers that get the metrics, too.",
    ),
}

SOLVER: Mapping[str, Key] = {
    "SOLVER.MAX_ITER": at_least(1, meaning="Training iterations."),
    "SOLVER.IMS_PER_BATCH": at_least(1, meaning="Labeled images of a batch, over all processes."),
    "SOLVER.UNLABELED_IMS_PER_BATCH": at_least(
        0, default=0, meaning="Images of DATASETS.UNLABELED that join each batch; 0 = as many as IMS_PER_BATCH."
    ),
    "SOLVER.ACCUMULATION_STEPS": at_least(
        1, default=1, meaning="Parts in which a batch is computed; their gradients are averaged. Saves memory."
    ),
    "SOLVER.OPTIMIZER": one_of("SGD", "AdamW", meaning="The optimizer."),
    "SOLVER.BASE_LR": above(0, STOCK, meaning="Learning rate after the warm-up."),
    "SOLVER.BASE_LR_END": at_least(0.0, meaning="Learning rate at the end of WarmupCosineLR."),
    "SOLVER.LR_SCHEDULER_NAME": one_of(*SCHEDULES, default=STOCK, meaning="How the learning rate falls."),
    "SOLVER.POLY_LR_POWER": at_least(0.0, default=0.9, meaning="Exponent of WarmupPolyLR."),
    "SOLVER.STEPS": _stock("Iterations at which WarmupMultiStepLR multiplies the learning rate by GAMMA."),
    "SOLVER.GAMMA": _stock("Factor on the learning rate at each of STEPS."),
    "SOLVER.NUM_DECAYS": _stock("Number of falls of WarmupStepWithFixedGammaLR."),
    "SOLVER.RESCALE_INTERVAL": _stock("Whether the multi-step schedules scale with the batch, as in Detectron2."),
    "SOLVER.WARMUP_ITERS": at_least(0, meaning="Iterations of the warm-up of the learning rate."),
    "SOLVER.WARMUP_FACTOR": _stock("Learning rate at the first iteration, as a share of BASE_LR."),
    "SOLVER.WARMUP_METHOD": _stock("linear or constant warm-up."),
    "SOLVER.MOMENTUM": _stock("Momentum of SGD."),
    "SOLVER.NESTEROV": _stock("Nesterov momentum."),
    "SOLVER.WEIGHT_DECAY": _stock("Weight decay."),
    "SOLVER.WEIGHT_DECAY_NORM": _stock("Weight decay of normalization layers."),
    "SOLVER.WEIGHT_DECAY_BIAS": _stock("Weight decay of biases; None = WEIGHT_DECAY."),
    "SOLVER.BIAS_LR_FACTOR": _stock("Factor on the learning rate of biases."),
    "SOLVER.CLIP_GRADIENTS.ENABLED": _stock("Clip gradients."),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": _stock("value, norm or full_model: what is clipped."),
    "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": _stock("Largest value or norm."),
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": _stock("Order of the norm."),
    "SOLVER.AMP.ENABLED": _stock("Train in mixed precision."),
    "SOLVER.AMP.PRECISION": one_of("float16", "bfloat16", meaning="The lower precision where AMP.ENABLED is True."),
    "SOLVER.EMA_DECAY": Key(
        0.0,
        lambda value: 0 <= value < 1,
        "0 (off) to below 1",
        meaning="Above 0: an exponential moving average of the weights is evaluated and saved as the student.",
    ),
    "SOLVER.MAX_SKIPPED_STEPS": at_least(
        0, default=0, meaning="Steps that may be skipped because a loss is not finite; one more ends the run."
    ),
    "SOLVER.TRUE_LABELS_LAST": needing(
        Key(
            0.0,
            lambda value: 0 <= value < 1,
            "a share from 0 to below 1",
            meaning="Share of the iterations, at the end, that train on DATASETS.TRAIN alone: no labels of a teacher, "
            "no images without labels.",
        ),
        TRUE,
        WITHOUT_TRUTH,
    ),
    "SOLVER.CHECKPOINT_PERIOD": at_least(1, meaning="Iterations between checkpoints."),
    "SOLVER.CHECKPOINTS_KEPT": at_least(0, default=3, meaning="Numbered checkpoints that are kept; 0 = all."),
}

DATA: Mapping[str, Key] = {
    "INPUT.FLIP_PAIRS": Key(
        [], is_pairs, WANTED, meaning="Classes that are swapped when an image is mirrored, such as left and right hand."
    ),
    "INPUT.COLOR_JITTER": _jitter("Ranges of torchvision's ColorJitter; empty = none."),
    "INPUT.ALBUMENTATIONS": Key(
        [],
        meaning="Transforms of albumentations on the cropped image, [{GaussianBlur: {p: 0.5}}, …]; in detection those "
        "that move no pixel.",
    ),
    "DATASETS.PSEUDO_LABELED": Key(
        [],
        meaning="Data sets whose labels a teacher wrote, named as in TRAIN; see PSEUDO_LABELS.",
    ),
    "DATASETS.UNLABELED": Key(
        [], meaning="Data sets that are only distilled; their labels, if there are any, are not read."
    ),
    "DATALOADER.NUM_WORKERS": at_least(
        0, meaning="Processes that read images, for each training process; at most one a core."
    ),
    "DATALOADER.CHECK_FILES": Key(True, meaning="Look at the header of every image file before training."),
    "TEST.EVAL_PERIOD": at_least(0, meaning="Iterations between evaluations; 0 = only at the end."),
    "TEST.EXAMPLES": at_least(0, default=4, meaning="Test images that report.html shows; 0 = none."),
    "MODEL.TRUST_PICKLE": Key(
        False, trust=True, meaning="Load pickles, TorchScript and torch.export programs, which can run any code."
    ),
}

PSEUDO_LABELS: Mapping[str, Key] = {
    "PSEUDO_LABELS.SHARE": needing(
        Key(
            0.0,
            lambda value: 0 <= value < 1,
            "a share from 0 to below 1",
            meaning="Share of each batch of SOLVER.IMS_PER_BATCH that DATASETS.PSEUDO_LABELED has, exactly; 0 = its "
            "images are drawn like those of TRAIN.",
        ),
        PSEUDO,
        TRUE,
    ),
    "PSEUDO_LABELS.WEIGHT": needing(
        at_least(0, 1.0, "0 (nothing) or more", "Factor on the gradient of the losses with labels in these images."),
        PSEUDO,
    ),
    "PSEUDO_LABELS.CONFIDENCE": needing(
        one_of(
            "none", "score", meaning="score: each pixel or box is also weighted by the teacher's score of its label."
        ),
        PSEUDO,
    ),
    "PSEUDO_LABELS.MIN_SCORE": needing(
        up_to_one(
            0.0,
            "a number from 0 to 1",
            meaning="Labels of a lower score do not count: such pixels have no label, such boxes are neither objects "
            "nor background.",
        ),
        PSEUDO,
    ),
    "PSEUDO_LABELS.COLOR_JITTER": needing(
        _jitter(
            "Like INPUT.COLOR_JITTER and in addition to it, for images of DATASETS.PSEUDO_LABELED and UNLABELED; only "
            "the student sees it."
        ),
        WITHOUT_TRUTH,
    ),
    "PSEUDO_LABELS.ALBUMENTATIONS": needing(
        Key([], meaning="Like INPUT.ALBUMENTATIONS, for the same images; only transforms that move no pixel."),
        WITHOUT_TRUTH,
    ),
}

TEACHER: Mapping[str, Key] = {
    "DISTILL.TEACHER.CONFIG_FILE": Key(
        "", meaning="The teacher's config: a path, a name among the packaged configs, or in Detectron2's model zoo."
    ),
    "DISTILL.TEACHER.WEIGHTS": Key(
        "",
        meaning="The teacher's weights: a checkpoint, the OUTPUT_DIR of a finished run, or what "
        "docs/teachers.md lists; "
        "average: the student's own average, by SOLVER.EMA_DECAY.",
    ),
    "DISTILL.TEACHER.PRECISION": of_all(
        one_of("auto", *PRECISIONS, meaning="The teacher's precision; auto: float16 on a GPU.")
    ),
    "DISTILL.TEACHER.FORMAT": of_files(
        one_of(
            "RGB", "BGR", default="", meaning="Channel order that the teacher was trained with, if no config says it."
        ),
        stands_for="INPUT.FORMAT",
    ),
    "DISTILL.TEACHER.INPUT_SCALE": above(
        0, 1.0, meaning="Factor by which the teacher's images are resized in each direction."
    ),
    "DISTILL.TEACHER.CLASSES": Key(
        CfgNode(new_allowed=True),
        meaning="{student's class: [teacher's classes]} where names differ; a program's classes are numbers.",
    ),
    "DISTILL.TEACHER.MISSING_CLASSES": one_of(
        "refuse", "leave_out", meaning="What to do about classes of the student that the teacher does not have."
    ),
    "DISTILL.TEACHER.MORE": of_all(
        of_files(
            Key(
                [],
                lambda nodes: all(isinstance(n, dict) for n in nodes),
                "groups of keys, as TEACHER",
                meaning="More teachers, [{CONFIG_FILE: …, WEIGHTS: …}, …]: their class probabilities are averaged.",
            )
        )
    ),
    "DISTILL.TEACHER.CACHE": of_all(
        Key("", meaning="Folder where the teacher's output for each training image is kept, to compute it once.")
    ),
    "DISTILL.TEACHER.COMPILE": of_all(
        Key(False, meaning="Compile the teacher by torch.compile; the first steps are slow.")
    ),
    "DISTILL.TEACHER.STREAM": of_all(
        Key(False, meaning="Run the teacher on a CUDA stream of its own, at the same time as the student.")
    ),
    "DISTILL.UNLABELED_WEIGHT": above(
        0,
        1.0,
        meaning="Factor for images without labels: in detection on their losses, in segmentation on their gradient.",
    ),
    "DISTILL.SYNC": Key(False, meaning="Compute relations and means over the batch of all processes."),
    "DISTILL.WARMUP_ITERS": at_least(
        0,
        default=0,
        words="0 (none) or more",
        meaning="Iterations over which a factor on all distillation losses rises from 0 to 1.",
    ),
    "DISTILL.DECAY": one_of(
        "auto",
        "none",
        "linear",
        "cosine",
        meaning="How a factor on all distillation losses falls from 1 to 0 by the end of the run; auto: linear, "
        "but none with DATASETS.UNLABELED or GRADIENT_SHARE.",
    ),
    "DISTILL.GRADIENT_SHARE": Key(
        0.0,
        lambda share: 0 <= share < 1,
        "0 (off) to below 1",
        meaning="Distillation gets this share of the gradient on parameters that the task trains, too; 0 = off.",
    ),
    "DISTILL.GRADIENT_PERIOD": at_least(
        1, default=50, meaning="Iterations between two measurements of the gradients for GRADIENT_SHARE."
    ),
}

COMMON: Mapping[str, Key] = {**RUN, **SOLVER, **DATA, **PSEUDO_LABELS, **TEACHER}
