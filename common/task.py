"""A task, detection or segmentation, as the engine, the studies and the commands see it."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from torch import nn

from densedist.common.config import Grammar
from densedist.common.data.headers import Size
from densedist.common.data.loader import Batches
from densedist.common.data.survey import Survey
from densedist.common.distill.distiller import Distillation
from densedist.common.errors import UserError
from densedist.common.export import Exporter
from densedist.common.importing.importer import Importer
from densedist.common.labeling import Labeling
from densedist.common.randomness import RunPosition
from densedist.common.report.panels import Gallery
from densedist.common.run_files import Weights

# {"bbox": {"AP": 40.1, …}} in percent, or the same for each of several data sets by name.
Results = Mapping[str, Any]


@dataclass(frozen=True)
class Trainee:
    """A model to train.

    Args:
        model: gives a dict of scalar losses for a batch in training, predictions in evaluation.
        student: the part of model that users get: it starts from MODEL.WEIGHTS and is a checkpoint's "model".
        distillation: part of the model; None = trained without a teacher.
        beside: what a checkpoint keeps in addition to the student, by name.
        unused_parameters: the model may have parameters that no loss depends on; a rehearsal finds out.
        start: what the student starts from in addition to MODEL.WEIGHTS, for the plan; "" = random weights.
        notes: more lines of the plan, by their first word.
    """

    model: nn.Module
    student: nn.Module
    distillation: Distillation | None = None
    beside: Mapping[str, Any] = field(default_factory=dict)
    unused_parameters: bool = False
    start: str = ""
    notes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Beginning:
    """What `densedist init` begins with: the data sets that lie in a folder, and configs that train on them.

    Args:
        form: the format of the data in words, as "YOLO's format".
        images: number of images of each split with labels, by its name in the data.
        classes: the names of the classes.
        configs: the texts of BASE, TEACHER and STUDENT (common/init/text.py).
        files: all images and label images that the data sets consist of.
        notes: what is not recognized, or was guessed, each in one line with what to do about it.
    """

    form: str
    images: Mapping[str, int]
    classes: Sequence[str]
    configs: Mapping[str, str]
    files: frozenset[Path]
    notes: Sequence[str] = ()


class TrainingTask(ABC):
    """What the engine asks of a task, to train a student and to evaluate it.

    The methods are bound to functions in det/task.py and seg/task.py.

    All of them raise UserError for what is wrong with what the user gave. A cfg is one of Task.load_config; a side of
    DATASETS is one of common.data.sides.SIDES.
    """

    name: str  # "det" or "seg"
    grammar: Grammar  # the keys of its configs
    losses: Mapping[str, str]  # its models' own losses in words, by their names in the log

    @abstractmethod
    def check_data(self, cfg: CfgNode, *sides: str) -> None:
        """Read the data of some sides of DATASETS, by default of all, and refuse what cannot be used."""

    @abstractmethod
    def images(self, cfg: CfgNode, side: str) -> set[str]:
        """Return the image files of a side of DATASETS."""

    @abstractmethod
    def build(self, cfg: CfgNode) -> Trainee:
        """Build the student, with what DISTILL adds to its training: build_trainee in {det,seg}/models.py."""

    @abstractmethod
    def load_weights(self, student: Any, weights: str, key: str, trust_pickle: bool) -> str:
        """Let a student start from weights.

        Args:
            student: of a Trainee.
            weights: MODEL.WEIGHTS.
            key: what names the weights, for messages.
            trust_pickle: MODEL.TRUST_PICKLE.

        Returns:
            what of the student does not come from them, in words; "" for nothing.
        """

    @abstractmethod
    def prepare(self, cfg: CfgNode, trainee: Trainee) -> float:
        """Make what training reads from disk and no run has made yet, as a teacher's cache; all processes call it.

        Returns:
            the seconds that making it has taken, by whichever run.
        """

    @abstractmethod
    def training_batches(self, cfg: CfgNode) -> Callable[[RunPosition], Batches]:
        """Return a function that gives the endless batches of this process from a position on."""

    @abstractmethod
    def metric(self, cfg: CfgNode) -> str:
        """Return the name in the log of the metric that the best checkpoint is chosen by, e.g. "bbox/AP"."""

    @abstractmethod
    def evaluate(self, cfg: CfgNode, model: Any, most: int | None = None) -> Results:
        """Score a model on DATASETS.TEST.

        Args:
            model: of a Trainee, or of load_model.
            most: how many images of each data set, from the first; None = all.

        Returns:
            scores in percent; empty on all processes but the main one.
        """

    @abstractmethod
    def draw_examples(
        self,
        cfg: CfgNode,
        trainee: Trainee,
        file: Path,
        beside: Mapping[str, Weights] | None = None,
        called: str = "student",
    ) -> Gallery:
        """Draw truth, teacher and student for TEST.EXAMPLES test images to a PNG, and return these pictures.

        Args:
            beside: another trained model by name, which is drawn, too.
            called: the student's name.
        """

    @abstractmethod
    def load_model(self, cfg: CfgNode, weights: str, key: str) -> nn.Module:
        """Build the student without distillation and load trained weights.

        Args:
            key: what names the weights, for messages.

        Returns:
            the model in eval mode.
        """


@dataclass(frozen=True)
class ImageSource:
    """The images that a trained model is looked at with.

    Args:
        count: how many, from the first.
        folder: where they lie; None = DATASETS.TEST.
    """

    count: int
    folder: Path | None = None


@dataclass(frozen=True)
class Subject:
    """A model in eval mode, whose cost is measured.

    Args:
        name: "teacher", "student", or what --beside calls it.
        model: on its device.
        weights: that the model has.
        batch: what the model takes for so many images of a size, on its device.
        compiled: the model by torch.compile as far as it can follow, for so many threads.
    """

    name: str
    model: nn.Module
    weights: Weights
    batch: Callable[[Size, int], Any]
    compiled: Callable[[int], nn.Module]


@dataclass(frozen=True)
class Subjects:
    """What a profile measures.

    Args:
        models: the student is the last; before it its teacher, if there is one, and those beside.
        size: the usual one of an image.
        note: what the images are.
        cfg: the student's.
        metric: by which the student is judged, e.g. "bbox/AP".
        pixels: an image of a size, as the graph that the student is exported as takes it.
    """

    models: Sequence[Subject]
    size: Size
    note: str
    cfg: CfgNode
    metric: str
    pixels: Callable[[Size], np.ndarray]


@dataclass(frozen=True)
class Planned:
    """A run as a plan of it sees it: on the CPU, without data, and without weights that are not there.

    Args:
        cfg: builds the student and its teacher.
        batch: makes training samples of a size, so many with labels and so many without.
        size: the usual one of an image.
        largest: the images' in the batch that takes the most memory, with their padding.
        kept: returns the modules of one of its teachers whose output a cache keeps.
    """

    cfg: CfgNode
    batch: Callable[[Size, int, int], list[dict[str, Any]]]
    size: Size
    largest: Size
    kept: Callable[[Any], Sequence[nn.Module]]


@dataclass(frozen=True)
class Demonstration:
    """What the quickstart trains: files among the packaged configs, and KEY VALUE overrides.

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


class Task(TrainingTask):
    """What the studies and the commands ask of a task besides; det and seg each have one instance, TASK."""

    importers: Sequence[Importer]  # of other projects' checkpoints, that can be imported
    demonstration: Demonstration
    best: str  # the recommended method for images without labels (common/compare/methods.py)

    # configs

    @abstractmethod
    def read_config(self, config_file: str, overrides: Sequence[str], trusted: bool = True) -> CfgNode:
        """Read a config and check its keys and values; its data need not be there.

        Args:
            config_file: a path or a name (see common.config.find_config).
            overrides: KEY VALUE …
            trusted: whether the user named the file (see common.config.load).
        """

    @abstractmethod
    def load_config(self, config_file: str, overrides: Sequence[str], trusted: bool = True) -> CfgNode:
        """Read a config, look its data sets up and freeze it: the config of a run. Takes what read_config takes.

        Detection puts the data sets into Detectron2's global catalog, where each name has the data that the last
        config said.
        """

    @abstractmethod
    def planned(self, cfg: CfgNode, folder: Path) -> Planned:
        """Return what a plan of a run needs.

        Args:
            cfg: of read_config.
            folder: for random weights of teachers whose own are not there.
        """

    # data

    @abstractmethod
    def contents(self, cfg: CfgNode, side: str) -> list[str | Path]:
        """Return all that a run depends on in the data of a side: files, whose content counts, and text, in order."""

    @abstractmethod
    def set_aside(self, cfg: CfgNode, share: float) -> list[str]:
        """Return the overrides that make the last share of each data set of DATASETS.TRAIN to DATASETS.TEST."""

    @abstractmethod
    def is_scored(self, cfg: CfgNode) -> bool:
        """Return whether each data set of DATASETS.TEST has labels to score by."""

    @abstractmethod
    def survey(self, cfg: CfgNode, side: str) -> Survey:
        """Count the images, their sizes and the labels of a side."""

    @abstractmethod
    def draw_data(self, cfg: CfgNode, side: str, count: int, file: Path) -> None:
        """Draw so many images of a side with their labels to a PNG."""

    @abstractmethod
    def first_configs(self, folder: Path, output: Path) -> Beginning:
        """Return configs of a teacher and a student for the data in a folder; nothing is written.

        Args:
            output: an absolute path; the runs get folders in it.
        """

    # labels that a teacher writes

    @abstractmethod
    def label(self, labeling: Labeling) -> None:
        """Write what teachers see in images as a data set to train on."""

    @abstractmethod
    def unlabeled_images(self, cfg: CfgNode) -> Mapping[str, Path]:
        """Return the image files of DATASETS.UNLABELED by name; cfg may be one of read_config."""

    @abstractmethod
    def with_labels(self, cfg: CfgNode, folder: Path) -> list[str]:
        """Return the overrides by which a run trains on the labels in an output folder of label(), too."""

    # a trained student

    @abstractmethod
    def words_of(self, said: Mapping[str, Any]) -> list[str]:
        """Return the overrides under which a file of `densedist export` predicts, as it says them: Exporter.graph.

        Raises:
            KeyError, TypeError, ValueError: it does not say all of them.
        """

    @abstractmethod
    def plain(self, model: Any, cfg: CfgNode) -> nn.Module:
        """Return a model of load_model as stock Detectron2 or SMP would build it."""

    @abstractmethod
    def predict(
        self, student: Weights, images: Sequence[str], output: Path, score: float | None
    ) -> list[dict[str, Any]]:
        """Write a picture of each image, a video of each video, and predictions.json.

        Args:
            images: files, videos among them, and folders.
            score: boxes below are left out, in [0, 1]; None = the default.

        Returns:
            what predictions.json holds.
        """

    @abstractmethod
    def visualize(
        self,
        student: Weights,
        teacher: str,
        others: Mapping[str, Weights],
        source: ImageSource,
        output: Path,
        score: float | None,
    ) -> int:
        """Draw truth, teacher and student side by side, and the relations among classes that DIST preserves.

        Args:
            teacher: its weights, or "none"; empty = the one that the config names.
            others: more models of the same classes, by name.
            score: boxes below are not drawn, in [0, 1]; None: where F1 is best.

        Returns:
            how many images there were.
        """

    @abstractmethod
    def exporter(self, student: Weights, source: ImageSource, size: Size | None = None) -> Exporter:
        """Load the student to write it in other forms.

        Args:
            source: the images on which each form is compared with PyTorch.
            size: the only one that graphs are to take, to which images are stretched; None = any.
        """

    @abstractmethod
    def profile(self, student: Weights, teacher: str, beside: Mapping[str, Weights], device: str) -> Subjects:
        """Load what a profile measures to a device; for teacher see visualize, for beside locate_beside."""


def refuse_twins(names: Sequence[str]) -> None:
    """Refuse a data set that DATASETS.TEST names twice.

    Raises:
        UserError: naming it.
    """
    if twice := [name for number, name in enumerate(names) if name in names[:number]]:
        raise UserError(f"DATASETS.TEST: data set {twice[0]} is named twice: name it once")


def evaluate_each(names: Sequence[str], evaluate: Callable[[str], Results]) -> Results:
    """Return the results of the only data set; of several, or none, by name."""
    results = {name: evaluate(name) for name in names}
    return next(iter(results.values())) if len(results) == 1 else results


def metric_of_first(names: Sequence[str], metric: str) -> str:
    """Return a metric's name in the log: "bbox/AP", after the first data set's name if there are several."""
    return f"{names[0]}/{metric}" if len(names) > 1 else metric


def metric_of_each(names: Sequence[str], metric: str) -> list[str]:
    """Return the names in the log of each data set's metric.

    Args:
        metric: that of the first one (see metric_of_first).
    """
    return [metric] if len(names) < 2 else [f"{name}/{metric.removeprefix(f'{names[0]}/')}" for name in names]
