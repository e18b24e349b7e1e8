"""What the commands do, as functions of plain values that give plain data or a plain model."""

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils import comm
from torch import nn

from densedist.common.beside import locate_beside
from densedist.common.compare.study import Study
from densedist.common.config.keys import value_of
from densedist.common.engine import train as engine
from densedist.common.engine.run_folder import claimed_by_all
from densedist.common.errors import UserError
from densedist.common.export import check_formats, export_each, next_line, written
from densedist.common.export_names import USUAL
from densedist.common.foreign.described import description_of
from densedist.common.foreign.kinds import kind_alone
from densedist.common.import_checkpoint import import_checkpoint
from densedist.common.int8 import calibration_files, check_int8, quantize_each
from densedist.common.labeling import F1, RECORD, SCORE, UNREADABLE, Labeling
from densedist.common.labels.archives import folder_of_tars, is_tar, unpack
from densedist.common.labels.ending import keys_of_any, keys_of_student, last_lines
from densedist.common.labels.listing import list_images
from densedist.common.labels.settings import settings_of
from densedist.common.labels.shards import is_finished
from densedist.common.locks import claimed, refuse_files, refuse_other_files
from densedist.common.run_files import Weights, did_you_mean_run, has_checkpoints, locate
from densedist.common.run_names import OVERVIEW, PREDICTIONS
from densedist.common.task import ImageSource, Task
from densedist.common.tune.data import Validation
from densedist.common.tune.search import Search
from densedist.common.writers import writers
from densedist.early import NOTHING_TO_LABEL, check_output, check_training
from densedist.tasks import choose_task, short_name, task_named, task_of

logger = logging.getLogger(__name__)

CLASSES = ("DATASETS.CLASSES", "DISTILL.TEACHER.CLASSES")  # of a student whose classes labels have

# Keys of a config and their values, as a mapping or as on a command line: ["SOLVER.MAX_ITER", "100"].
Overrides = Mapping[str, Any] | Sequence[str]


def train(config: str, overrides: Overrides = (), *, resume: bool = False, task: str = "") -> dict[str, Any]:
    """Train a student, with a teacher where the config names one, in this process.

    Args:
        config: a config file, or a name among the packaged ones or in Detectron2's model zoo.
        resume: go on from the last checkpoint in OUTPUT_DIR, if there is one.
        task: "det" or "seg"; default: as the config says.

    Returns:
        the results at the end in percent, as in results.json: {"bbox": {"AP": …}} or {"sem_seg": {"mIoU": …}};
        by name, where DATASETS.TEST has several sets; None where there is nothing to score.

    Raises:
        UserError: something in the config, the data or the weights, before training starts; a loss that is not finite.
    """
    chosen_task, words = choose_task(task, config), _as_words(overrides)
    check_training(chosen_task.name, config, words)
    check_output(chosen_task.name, config, words, resume)
    cfg = chosen_task.load_config(config, words, True)
    if resume and comm.is_main_process() and not has_checkpoints(cfg.OUTPUT_DIR):
        near = did_you_mean_run(cfg.OUTPUT_DIR)
        print(f"--resume: there is no checkpoint in {cfg.OUTPUT_DIR}: starting from the beginning{near}")
    engine.train(cfg, chosen_task, resume)
    return _results(cfg)


def evaluate(weights: str, overrides: Overrides = (), *, config: str = "", task: str = "") -> dict[str, Any]:
    """Evaluate trained weights on DATASETS.TEST; files go to OUTPUT_DIR, which is not the run's own by default.

    Args:
        weights: a checkpoint, the OUTPUT_DIR of a finished run, or a folder of SMP's save_pretrained.
        config: default: the config.yaml beside the weights.
        task: "det" or "seg"; default: as the config says.

    Returns:
        the results in percent, as of train.

    Raises:
        UserError: something in the config, the data or the weights.
    """
    found = _for_evaluation(weights, config, _as_words(overrides))
    chosen_task = choose_task(task, found.config)
    cfg = chosen_task.load_config(found.config, found.overrides, found.trusted)
    engine.evaluate(cfg, chosen_task, found.file, found.key)
    return _results(cfg)


def predict(
    weights: str,
    images: Sequence[str | Path],
    overrides: Overrides = (),
    *,
    config: str = "",
    output_dir: str | Path = "output/predict",
    score_threshold: float | None = None,
) -> list[dict[str, Any]]:
    """Predict images and videos, and draw what is predicted.

    Args:
        weights, config: see evaluate; or an ONNX or OpenVINO file of export, which needs no config.
        images: files, videos among them, and folders.
        output_dir: for a PNG of each image, a video of each video, and predictions.json.
        score_threshold: of a detector's boxes, in [0, 1]; default 0.5.

    Returns:
        what predictions.json holds: of detection an entry for each box, of segmentation for each image.

    Raises:
        UserError: an image that cannot be used, or wrong weights.
    """
    found, chosen_task = _find(weights, config, overrides)
    output, files = Path(output_dir), [str(image) for image in images]
    with claimed(output, "--output-dir"):
        if note := refuse_other_files(output, PREDICTIONS, "predict"):
            print(note)
        return chosen_task.predict(found, files, output, score_threshold)


def label(
    weights: Sequence[str] = (),
    images: Sequence[str | Path] = (),
    overrides: Overrides = (),
    *,
    config: str = "",
    output_dir: str | Path = "output/labels",
    score_threshold: float | None = None,
    ignore_threshold: float | None = None,
    choose_thresholds: bool | str = False,
    box_variance: bool = False,
    resume: bool = False,
    batch: int = 1,
    max_unreadable: float = UNREADABLE,
    task: str = "",
) -> dict[str, Any]:
    """Write what a teacher sees in images as labels to train on; what several see is fused.

    In a process group, as torchrun's, the processes share the images.

    Args:
        weights: of each teacher; see evaluate. Without them the teachers of a student's DISTILL.TEACHER write labels of
            the student's classes.
        config: of all teachers, default: the config.yaml beside each, which a detector of another project need not
            have; without weights that of the student.
        images: files, folders, patterns, text files with a path in each line, and tar files, whose images are unpacked
            beside output_dir; default: those of DATASETS.UNLABELED of the first teacher's config.
        output_dir: a new folder, for a COCO data set or for a split in Cityscapes' format, labels.json, and labels.html
            to look at.
        score_threshold: predictions below are left out, in [0, 1]; default 0.5.
        ignore_threshold: boxes from this score up to the other one are neither objects nor background.
        choose_thresholds: instead of score_threshold one for each class: "f1" or True, where F1 on DATASETS.TEST of the
            first teacher is best; "precision:0.8", the least one of this precision there; "frequencies", by which
            classes are as frequent as in its DATASETS.TRAIN.
        box_variance: write for each box, too, by how much it moves when it is jittered: for
            PSEUDO_LABELS.MAX_BOX_VARIANCE. For R-CNNs.
        resume: go on with the labeling that output_dir has begun, if there is one; all else has to be the same.
        batch: images of one size that the teacher sees at a time, at most.
        max_unreadable: the share of the images, in [0, 1], that may be unreadable; they are named at the end.
        task: "det" or "seg"; default: as the configs say.

    Returns:
        what labels.json holds; nothing on all processes but the main one.

    Raises:
        UserError: wrong weights, images that cannot be used, a folder that has files, teachers of different classes.
    """
    if choose_thresholds and score_threshold is not None:
        raise UserError("--choose-thresholds replaces --score-threshold: give only one of them")
    chosen_task, found, student = _writers(weights, config, _as_words(overrides), task)
    score = None if choose_thresholds else SCORE if score_threshold is None else score_threshold
    way = choose_thresholds if isinstance(choose_thresholds, str) and choose_thresholds else F1
    of_scores = {
        "score_threshold": score,
        "ignore_threshold": ignore_threshold,
        "choose_by": way if score is None else "",
        "box_variance": box_variance,
    }
    of_classes = {} if student is None else {key: str(value_of(student, key)) for key in CLASSES}
    labeling = Labeling(
        teachers=found,
        images={},
        output=Path(output_dir),
        score=score,
        choose=way,
        ignore=ignore_threshold,
        box_variance=box_variance,
        student=student,
        resume=resume,
        batch=batch,
        most_unreadable=max_unreadable,
        sheet=True,
    )
    files = _images_to_label(chosen_task, labeling, [str(image) for image in images])
    settings = settings_of(chosen_task, found, files, **of_scores) | of_classes
    labeling = replace(labeling, images=files, settings=settings)
    record = labeling.output / RECORD
    with claimed_by_all(labeling.output, "--output-dir"):
        if resume and is_finished(labeling):
            print(f"{labeling.output}: all images are labeled")
        else:
            chosen_task.label(labeling)
    if not comm.is_main_process():
        return {}
    done = json.loads(record.read_text())
    if weights or student is None:  # whose student is not known
        first = found[0].under("DATASETS.PSEUDO_LABELED", "[]")
        of_teacher = chosen_task.read_config(first.config, first.overrides, first.trusted)
        start = keys_of_any(chosen_task.with_labels(of_teacher, labeling.output), labeling.output)
    else:
        labels = chosen_task.with_labels(student, labeling.output)
        keys = keys_of_student(student, labels, labeling.output, _as_words(overrides))
        start = ["train", *filter(None, [task]), "--config-file", config, *keys]
    print("\n".join(last_lines(labeling.output, done, start)))
    return done


def _images_to_label(task: Task, labeling: Labeling, words: Sequence[str]) -> Mapping[str, Path]:
    """Return the images that a user names by words, or those of DATASETS.UNLABELED without any; unpack tar files.

    Raises:
        UserError: there is none, or one that is not there; with tar files all that a labeling is refused for without
            its images, as nothing is to be written then.
    """
    if any(map(is_tar, words)):
        if not labeling.resume:
            refuse_files(labeling.output, "--output-dir")
        task.label(replace(labeling, only_check=True))
        words = unpack(words, folder_of_tars(labeling.output))
    if words:
        return list_images(words)
    first = labeling.teachers[0]
    cfg = labeling.student or task.read_config(first.config, first.overrides, first.trusted)
    if not (files := task.unlabeled_images(cfg)):
        raise UserError(NOTHING_TO_LABEL)
    return files


def _writers(
    weights: Sequence[str], config: str, overrides: list[str], task: str
) -> tuple[Task, list[Weights], CfgNode | None]:
    """Return the task, the teachers that write labels, and the config of the student whose classes these have.

    Args: see label.

    Raises:
        UserError: teachers that are not there, of two tasks, or without a config that they need.
    """
    if not weights:
        if not config:
            raise UserError("nobody to label: give teachers by --weights, or a student's config by --config-file")
        chosen_task = choose_task(task, config)
        student = chosen_task.load_config(config, overrides)
        return chosen_task, writers(student, chosen_task.grammar), student
    bare = [of_one for of_one in weights if not config and kind_alone(of_one)]
    if not bare:
        found = [locate(of_one, config).under(*overrides) for of_one in weights]
        chosen_task = choose_task(task, found[0].config)
        for of_one in found:
            if (other := task_of(of_one.config)).name != chosen_task.name:
                raise UserError(f"--weights: {of_one.file} is of {other.name}, not of {chosen_task.name}")
        return chosen_task, found, None
    if not task:
        raise UserError(f"--weights: {bare[0]} has no config that says the task: say det or seg")
    if len(bare) < len(weights):
        raise UserError(f"--weights: {bare[0]} has no config, and others have: name all in DISTILL.TEACHER of a config")
    chosen_task = task_named(task)
    found = [Weights(one, "", True).under("MODEL.KIND", kind_alone(one), *overrides) for one in bare]
    cfg = chosen_task.read_config("", found[0].overrides)
    if cfg.DISTILL.TEACHER.CLASSES and not cfg.DATASETS.CLASSES:
        raise UserError("DISTILL.TEACHER.CLASSES: name the classes of the labels, in order, in DATASETS.CLASSES")
    if not cfg.DATASETS.CLASSES:
        return chosen_task, found, None
    return chosen_task, [one.under("DATASETS.CLASSES", "[]") for one in found], cfg


def import_weights(
    file: str,
    overrides: Overrides = (),
    *,
    task: str,
    source: str = "",
    form: str = "",
    config: str = "",
    options: Mapping[str, str] | None = None,
    output_dir: str | Path = "output/imported",
) -> dict[str, Any]:
    """Write another project's checkpoint as Detectron2's or SMP's, with a config.

    Args:
        file: of torch.save or safetensors.
        overrides: go into the config; MODEL.TRUST_PICKLE lets a file be read that holds more than tensors.
        task: "det" or "seg".
        source: the project that the file comes from; default: as its tensors' names say.
        form: the former name of source.
        config: whose DATASETS name the classes, which the file does not.
        options: more of that, e.g. {"style": "caffe"}.
        output_dir: a new folder, which is then named like the OUTPUT_DIR of a run.

    Returns:
        what imported.json there holds: the file and its hash, the source, which tensors are not used, and why.

    Raises:
        UserError: a file that is unreadable, of another source or architecture; a folder that has files.
    """
    if form:
        logger.warning("--form (form= in Python) is called --source (source=) now")
        if source and source != form:
            raise UserError(
                f"--form is {form}, which is called --source now, and --source {source}: keep --source alone"
            )
    return import_checkpoint(
        task_named(task), file, Path(output_dir), source or form, options, _as_words(overrides), config
    )


def visualize(
    weights: str,
    overrides: Overrides = (),
    *,
    config: str = "",
    teacher: str = "",
    beside: Mapping[str, str] | None = None,
    output_dir: str | Path = "output/visualize",
    images: int = 8,
    image_folder: str | Path = "",
    score_threshold: float | None = None,
) -> int:
    """Draw truth, teacher and student side by side, and the relations among classes that DIST preserves.

    Args:
        weights, config: see evaluate.
        teacher: its weights, or "none"; default: the one that the config names.
        beside: weights of more models of the same classes, by the names that they are drawn with.
        images: how many of DATASETS.TEST, or of image_folder where it is given, are drawn.
        score_threshold: of a detector's boxes, in [0, 1]; default: where F1 is best.

    Returns:
        how many images are drawn.

    Raises:
        UserError: wrong weights, data or images, or models of other classes.
    """
    words = _as_words(overrides)
    found, chosen_task = _find(weights, config, words)
    others = {name: model.under(*words) for name, model in locate_beside(beside or {}).items()}
    source = ImageSource(images, Path(image_folder) if image_folder else None)
    output = Path(output_dir)
    with claimed(output, "--output-dir"):
        if note := refuse_other_files(output, OVERVIEW, "visualize"):
            print(note)
        return chosen_task.visualize(found, teacher, others, source, output, score_threshold)


def export(
    weights: str,
    overrides: Overrides = (),
    *,
    config: str = "",
    formats: Sequence[str] = USUAL,
    size: tuple[int, int] | None = None,
    int8: bool = False,
    calibration_images: int = 100,
    output_dir: str | Path = "",
    images: int = 16,
    image_folder: str | Path = "",
) -> dict[str, Any]:
    """Write a student in forms that others run, and compare each with PyTorch.

    Args:
        weights, config: see evaluate.
        formats: any of weights, onnx, openvino, torch.
        size: height and width of the only images that onnx and openvino are to take; default: any.
        int8: write onnx and openvino also with 8 bits, and measure what this loses and gains on DATASETS.TEST.
        calibration_images: how many of DATASETS.UNLABELED, or where it is empty of TRAIN, int8 calibrates on.
        output_dir: default: export beside the weights.
        images: how many of DATASETS.TEST, or of image_folder where it is given, are compared.

    Returns:
        what export.json holds; its "failures" are empty if all is well; with int8 under "int8" what int8.json holds.

    Raises:
        UserError: wrong weights, no images, or a model that cannot be exported.
    """
    chosen = check_formats(formats, int8)
    if int8:
        check_int8(chosen)
    found, chosen_task = _find(weights, config, overrides)
    files = calibration_files(chosen_task, found, calibration_images) if int8 else []
    output = Path(output_dir) if output_dir else Path(found.file).parent / "export"
    source = ImageSource(images, Path(image_folder) if image_folder else None)
    with claimed(output, "--output-dir"):
        exporter = chosen_task.exporter(found, source, size)
        done = export_each(chosen, exporter, output)
        if files:
            done |= {"int8": quantize_each(chosen_task, found, exporter, chosen, files, output)}
        print(f"written  {output}: {', '.join(written(output, chosen, bool(files)))}")
        if not done["failures"] and (line := next_line(output, chosen, exporter.compared)):
            print(line)
        return done


def load_student(weights: str, overrides: Overrides = (), *, config: str = "") -> nn.Module:
    """Load the plain model of trained weights, in eval mode: as stock Detectron2 or SMP would build it.

    Args:
        weights, config: see evaluate.

    Raises:
        UserError: wrong weights.
    """
    found, chosen_task = _find(weights, config, overrides)
    cfg = chosen_task.read_config(found.config, found.overrides, found.trusted)
    return chosen_task.plain(chosen_task.load_model(cfg, found.file, found.key), cfg)


def compare(
    config: str,
    overrides: Overrides = (),
    *,
    methods: Sequence[str] = ("none", "kd", "dist"),
    seeds: Sequence[int] = (0, 1, 2),
    unlabeled: Sequence[str] = (),
    equal_time: bool = False,
    jobs: int = 1,
    output_dir: str | Path = "",
    task: str = "",
) -> dict[str, Any]:
    """Train one student by several methods and seeds; what has been trained before is not repeated.

    Args:
        config, task: see train.
        methods: names of losses in small letters, joined by "+"; none, inter, intra, unlabeled, labels; with keys
            after "@", TEACHER among them (see common.compare.methods).
        unlabeled: data sets of the methods "unlabeled" and "labels".
        equal_time: the same time for each method, not the same iterations.
        jobs: runs at a time.
        output_dir: for the runs, report.html, results.json, table.md and curves.png; default:
            output/compare_TASK_CONFIG.

    Returns:
        what results.json holds: for each method mean, standard deviation, gain over none, and each seed.

    Raises:
        UserError: a wrong config or method, before anything is trained.
    """
    chosen_task = choose_task(task, config)
    return Study(
        task=chosen_task,
        config=config,
        methods=methods,
        seeds=seeds,
        output=_output(output_dir, "compare", chosen_task, config),
        overrides=_as_words(overrides),
        unlabeled=unlabeled,
        equal_time=equal_time,
        jobs=jobs,
    ).run()


def tune(
    config: str,
    overrides: Overrides = (),
    *,
    methods: Sequence[str],
    budget: float,
    trials: int = 30,
    seeds: Sequence[int] = (0,),
    unlabeled: Sequence[str] = (),
    val: Sequence[str] = (),
    set_aside: float = 0.2,
    jobs: int = 1,
    output_dir: str | Path = "",
    task: str = "",
) -> dict[str, Any]:
    """Search the method, and the values of its keys, that suit a student best in a given time, with Optuna.

    Args:
        config, task: see train.
        methods: as of compare; a value of a key may be a range, "dist@TAU=1..8".
        budget: seconds of training steps of each run.
        trials: how many choices are tried; those that are finished in output_dir count.
        seeds: of each trial, whose value is the mean over them.
        unlabeled: data sets of the method "unlabeled".
        val: data sets or splits to choose by, never test data.
        set_aside: without val, the share of the training data to choose by, which is left out of training.
        jobs: trials at a time.
        output_dir: for the runs, study.db, table.md, trials.json, search.png and best.yaml; default:
            output/tune_TASK_CONFIG.

    Returns:
        of the best trial "number", "method", "keys" by their whole names, and "value" in percent; as "config" the
        path of best.yaml, which trains it on all of the config's data.

    Raises:
        UserError: a wrong config, method, data set or option, before anything is trained; Optuna is not installed.
    """
    chosen_task = choose_task(task, config)
    return Search(
        task=chosen_task,
        config=config,
        methods=methods,
        budget=budget,
        output=_output(output_dir, "tune", chosen_task, config),
        trials=trials,
        seeds=seeds,
        overrides=_as_words(overrides),
        unlabeled=unlabeled,
        validation=Validation(tuple(val), set_aside),
        jobs=jobs,
    ).run()


def _as_words(overrides: Overrides) -> list[str]:
    """Return overrides as on a command line."""
    if isinstance(overrides, Mapping):
        return [str(word) for pair in overrides.items() for word in pair]
    return list(overrides)


def _for_evaluation(weights: str, config: str, words: Sequence[str]) -> Weights:
    """Find the weights to evaluate, which may be a checkpoint of Detectron2's catalog.

    With the config of a run the results go to a folder of their own: the run's has those of the training.
    """
    if config and not Path(weights).is_dir():
        return Weights(weights, config, True, overrides=words)
    found = locate(weights, config)
    own_folder = ["OUTPUT_DIR", str(Path(found.file).parent / "evaluation")]
    return found.under(*(() if found.trusted else own_folder), *words)


def _find(weights: str, config: str, overrides: Overrides) -> tuple[Weights, Task]:
    """Find trained weights with their config, which a file of `densedist export` says itself."""
    if not config and (said := description_of(weights)):
        task = task_named(short_name(said["task"]))
        try:
            words = ["MODEL.KIND", said["kind"], *task.words_of(said), *_as_words(overrides)]
        except (KeyError, TypeError, ValueError) as error:
            hint = "name its config by --config-file and its kind by MODEL.KIND"
            raise UserError(f"--weights: {weights} does not say all that its config says: {hint}") from error
        return Weights(weights, "", True, overrides=words), task
    found = locate(weights, config).under(*_as_words(overrides))
    return found, task_of(found.config)


def _results(cfg: CfgNode) -> dict[str, Any]:
    """Read results.json; None stands for what does not occur in the data."""
    file = Path(cfg.OUTPUT_DIR, "results.json")
    return json.loads(file.read_text()) if file.is_file() else {}


def _output(given: str | Path, study: str, task: Task, config: str) -> Path:
    """Return where a study's files go: by default each task and config has a folder of its own."""
    return Path(given or f"output/{study}_{task.name}_{Path(config).stem}")
