"""Detection as the engine and the commands see it."""

from collections.abc import Mapping

from densedist.common.task import Task
from densedist.det.best import BEST
from densedist.det.cache.filling import fill_cache
from densedist.det.checks import check_data, draw_data, survey
from densedist.det.config import GRAMMAR
from densedist.det.datasets import contents, images, set_aside
from densedist.det.evaluation import evaluate, is_scored, metric
from densedist.det.foreign.described import words_of
from densedist.det.importing import IMPORTERS
from densedist.det.inference.export import exporter
from densedist.det.inference.labeling import label_images, unlabeled_images, with_labels
from densedist.det.inference.pictures import draw_examples
from densedist.det.inference.predict import predict_images
from densedist.det.inference.profile import profile
from densedist.det.inference.quickstart import DEMONSTRATION
from densedist.det.inference.visualize import visualize
from densedist.det.init.configs import first_configs
from densedist.det.loader import training_batches
from densedist.det.models import build_trainee, load_config, load_model, load_weights, plain_model, read_config
from densedist.det.planning import planned


class DetectionTask(Task):
    """The functions of det that common.task.Task asks for; docstrings stand there."""

    name = "det"
    grammar = GRAMMAR
    importers = IMPORTERS
    demonstration = DEMONSTRATION
    best = BEST
    # Of Detectron2's models.
    losses: Mapping[str, str] = {
        "loss_rpn_cls": "proposals: object or not",
        "loss_rpn_loc": "proposals: boxes",
        "loss_cls": "classes",
        "loss_box_reg": "boxes",
        "loss_mask": "masks",
        "loss_keypoint": "keypoints",
    }
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


TASK = DetectionTask()
