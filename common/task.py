"""A task, detection or segmentation, as the engine, the studies and the commands see it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from detectron2.config import CfgNode
from torch import nn

from densedist.common.data.loader import Batches
from densedist.common.data.survey import Survey
from densedist.common.distill.distiller import Distillation
from densedist.common.importing.form import Form
from densedist.common.labeling import Labeling
from densedist.common.profile import Size, Subject
from densedist.common.randomness import RunPosition
from densedist.common.run_files import Weights

# {"bbox": {"AP": 40.1, …}} in percent, or the same for each of several data sets by name.
Results = Mapping[str, Any]


class ReadConfig(Protocol):
    def __call__(self, file: str, overrides: Sequence[str], trusted: bool = True, /) -> CfgNode: ...


@dataclass(frozen=True)
class Trainee:
    """What is trained.

    Args:
        model: gives a dict of scalar losses for a batch in training, predictions in evaluation.
        student: the part of model that users get: it starts from MODEL.WEIGHTS and is a checkpoint's "model".
        distillation: part of the model; None = trained without a teacher.
        beside: what a checkpoint keeps beside the student, by name.
        unused_parameters: the model may have parameters that no loss depends on; a rehearsal finds out.
        start: what the student starts from beside MODEL.WEIGHTS, for the plan; "" = random weights.
        notes: what else the plan says, by a word each.
    """

    model: nn.Module
    student: nn.Module
    distillation: Distillation | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)
    unused_parameters: bool = False
    start: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Study:
    """The small study of the quickstart: files among the packaged configs, and KEY VALUE overrides.

    Args:
        teacher, student: config files.
        kd, dist: what switches on the loss, with the settings chosen on val.
        unlabeled: names images without labels.
        test: names the test split, on which nothing was chosen.
        metrics: those of results.json that the table shows.
        draw: (metrics by row, OUTPUT_DIR by row, PNG to write) draws the picture.
    """

    teacher: str
    student: str
    kd: Sequence[str]
    dist: Sequence[str]
    unlabeled: Sequence[str]
    test: Sequence[str]
    metrics: Sequence[str]
    draw: Callable[[Mapping[str, Mapping[str, float]], Mapping[str, Path], Path], None]


@dataclass(frozen=True)
class Task:
    """What the engine, the studies and the commands ask of a task; det and seg each have one instance, TASK.

    All functions raise UserError for what is wrong with what the user gave.

    Args:
        name: "det" or "seg".
        metric: of (cfg), what the best checkpoint is chosen by, e.g. "bbox/AP".
        read_config: of (config file, overrides, trusted), with keys and values checked; its data need not be there.
            trusted is False for a file that the user did not name (see common.config.load).
        load_config: the same with its data sets looked up, frozen: the config of a run.
        images: the image files of DATASETS.TRAIN, UNLABELED or TEST of (cfg of load_config, that word).
        contents: all that training and scores depend on in these data, in order, of (the same): files, whose content
            counts, and text.
        set_aside: overrides that take the last share of each data set of DATASETS.TRAIN out of training and make it
            DATASETS.TEST, of (cfg of load_config, share).
        check_data: look at the data of DATASETS.TRAIN, UNLABELED and TEST of (cfg), or of the sides that follow it.
        survey: what (cfg of load_config, TRAIN, UNLABELED or TEST) holds.
        draw_data: draw images with their labels, of (cfg, that word, how many, PNG file).
        build: the student of (cfg) with what DISTILL adds to its training.
        load_model: the student of (cfg, weights, key) without distillation, with trained weights, in eval mode; key
            names the weights in messages.
        load_weights: let a student start from (student, MODEL.WEIGHTS, the key's name, MODEL.TRUST_PICKLE).
        plain: of (a model of load_model, cfg) what stock Detectron2 or SMP would build.
        prepare: make what the training of (cfg, trainee) finds on disk, and nobody else has made yet; the seconds that
            this has taken, by whichever run. All processes call it.
        training_batches: of (cfg), which has the data sets looked up, a function that gives endless batches for this
            process from a position on.
        evaluate: scores in percent of (cfg, model) on DATASETS.TEST, or on the first images of it, as many as a third
            argument says; empty on all processes but the main one.
        is_scored: whether each part of DATASETS.TEST of (cfg) has labels to score by.
        draw_examples: draw TEST.EXAMPLES test images of (cfg, trainee, PNG file), with truth, teacher and student.
        predict: write a picture of each image and predictions.json, of (weights, overrides, images, output folder,
            least score); what is in the latter.
        label: write labels of images, as several teachers see them.
        unlabeled_images: the files of DATASETS.UNLABELED of (cfg, whose data sets need not be looked up), by name.
        with_labels: the overrides that train (cfg) on the labels in (an output folder of label), too.
        visualize: draw truth, teacher and student of (weights, overrides, teacher, folder of images or None for the
            test data, how many, output folder, least score, weights of more models by name); how many there were.
        export: write the student in other forms and compare each with PyTorch, of (weights, overrides, formats, output
            folder, how many images to compare on, their folder or None for the test data); what export.json holds.
        profile: teacher, if there is one, and student of (weights, overrides, teacher, device); the usual size of an
            image; what the images are.
        forms: of other projects' checkpoints, that can be imported.
        study: the quickstart's.
    """

    name: str
    metric: Callable[[CfgNode], str]
    read_config: ReadConfig
    load_config: ReadConfig
    images: Callable[[CfgNode, str], set[str]]
    contents: Callable[[CfgNode, str], list[str | Path]]
    set_aside: Callable[[CfgNode, float], list[str]]
    check_data: Callable[..., None]
    survey: Callable[[CfgNode, str], Survey]
    draw_data: Callable[[CfgNode, str, int, Path], None]
    build: Callable[[CfgNode], Trainee]
    load_model: Callable[[CfgNode, str, str], nn.Module]
    load_weights: Callable[[Any, str, str, bool], None]
    plain: Callable[[Any, CfgNode], nn.Module]
    prepare: Callable[[CfgNode, Trainee], float]
    training_batches: Callable[[CfgNode], Callable[[RunPosition], Batches]]
    evaluate: Callable[..., Results]
    is_scored: Callable[[CfgNode], bool]
    draw_examples: Callable[[CfgNode, Trainee, Path], None]
    predict: Callable[[Weights, Sequence[str], Sequence[str], Path, float | None], list[dict[str, Any]]]
    label: Callable[[Labeling], None]
    unlabeled_images: Callable[[CfgNode], Mapping[str, Path]]
    with_labels: Callable[[CfgNode, Path], list[str]]
    visualize: Callable[[Weights, Sequence[str], str, str | None, int, Path, float | None, Mapping[str, Weights]], int]
    export: Callable[[Weights, Sequence[str], Sequence[str], Path, int, Path | None], dict[str, Any]]
    profile: Callable[[Weights, Sequence[str], str, str], tuple[list[Subject], Size, str]]
    forms: Sequence[Form]
    study: Study
