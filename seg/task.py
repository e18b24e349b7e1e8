"""Segmentation as the engine and the commands see it."""

from collections.abc import Mapping

from densedist.common.task import Task
from densedist.seg.best import BEST
from densedist.seg.cache import fill_cache
from densedist.seg.checks import check_data, draw_data, survey
from densedist.seg.config import GRAMMAR
from densedist.seg.datasets import contents, images, set_aside
from densedist.seg.evaluation import evaluate, is_scored, metric
from densedist.seg.foreign.described import words_of
from densedist.seg.importing import IMPORTERS
from densedist.seg.inference.export import exporter
from densedist.seg.inference.labeling import label_images, unlabeled_images, with_labels
from densedist.seg.inference.pictures import draw_examples
from densedist.seg.inference.predict import predict_images
from densedist.seg.inference.profile import profile
from densedist.seg.inference.quickstart import DEMONSTRATION
from densedist.seg.inference.visualize import visualize
from densedist.seg.init.configs import first_configs
from densedist.seg.loader import training_batches
from densedist.seg.losses.task import LOSSES
from densedist.seg.models import build_trainee, load_config, load_model, load_weights, plain_model, read_config
from densedist.seg.planning import planned


class SegmentationTask(Task):
    """The functions of seg that common.task.Task asks for; docstrings stand there."""

    name = "seg"
    grammar = GRAMMAR
    importers = IMPORTERS
    demonstration = DEMONSTRATION
    best = BEST
    losses: Mapping[str, str] = {f"loss_{loss.title}": loss.words for loss in LOSSES.values()}
    metric = staticmethod(metric)
    read_config = staticmethod(read_config)
    load_config = staticmethod(load_config)
    planned = staticmethod(planned)
    images = staticmethod(images)
    contents = staticmethod(contents)
    set_aside = staticmethod(set_aside)
    check_data = staticmethod(check_data)
    survey = staticmethod(survey)
    draw_data = staticmethod(draw_data)
    first_configs = staticmethod(first_configs)
    build = staticmethod(build_trainee)
    load_model = staticmethod(load_model)
    load_weights = staticmethod(load_weights)
    plain = staticmethod(plain_model)
    prepare = staticmethod(fill_cache)
    training_batches = staticmethod(training_batches)
    evaluate = staticmethod(evaluate)
    is_scored = staticmethod(is_scored)
    draw_examples = staticmethod(draw_examples)
    words_of = staticmethod(words_of)
    predict = staticmethod(predict_images)
    label = staticmethod(label_images)
    unlabeled_images = staticmethod(unlabeled_images)
    with_labels = staticmethod(with_labels)
    visualize = staticmethod(visualize)
    exporter = staticmethod(exporter)
    profile = staticmethod(profile)


TASK = SegmentationTask()
