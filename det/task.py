"""Detection as the engine and the commands see it."""

from densedist.common.task import Task
from densedist.det.cache.filling import fill_cache
from densedist.det.checks import check_data
from densedist.det.datasets import contents, images, set_aside
from densedist.det.evaluation import evaluate, is_scored, metric
from densedist.det.importing import FORMS
from densedist.det.inference.export import export
from densedist.det.inference.labeling import label_images, unlabeled_images, with_labels
from densedist.det.inference.pictures import draw_data, draw_examples, survey
from densedist.det.inference.predict import predict_images
from densedist.det.inference.profile import load_subjects
from densedist.det.inference.quickstart import STUDY
from densedist.det.inference.visualize import visualize
from densedist.det.loader import training_batches
from densedist.det.models import build_trainee, load_config, load_model, load_weights, plain_model, read_config

TASK = Task(
    name="det",
    metric=metric,
    read_config=read_config,
    load_config=load_config,
    images=images,
    contents=contents,
    set_aside=set_aside,
    check_data=check_data,
    survey=survey,
    draw_data=draw_data,
    build=build_trainee,
    load_model=load_model,
    load_weights=load_weights,
    plain=plain_model,
    prepare=fill_cache,
    training_batches=training_batches,
    evaluate=evaluate,
    is_scored=is_scored,
    draw_examples=draw_examples,
    predict=predict_images,
    label=label_images,
    unlabeled_images=unlabeled_images,
    with_labels=with_labels,
    visualize=visualize,
    export=export,
    profile=load_subjects,
    forms=FORMS,
    study=STUDY,
)
