"""Segmentation as the engine and the commands see it."""

from densedist.common.task import Task
from densedist.seg.cache import fill_cache
from densedist.seg.checks import check_data
from densedist.seg.datasets import contents, images, set_aside
from densedist.seg.evaluation import evaluate, is_scored, metric
from densedist.seg.importing import FORMS
from densedist.seg.inference.export import export
from densedist.seg.inference.labeling import label_images, unlabeled_images, with_labels
from densedist.seg.inference.pictures import draw_data, draw_examples, survey
from densedist.seg.inference.predict import predict_images
from densedist.seg.inference.profile import load_subjects
from densedist.seg.inference.quickstart import STUDY
from densedist.seg.inference.visualize import visualize
from densedist.seg.loader import training_batches
from densedist.seg.models import build_trainee, load_config, load_model, load_weights, plain_model, read_config

TASK = Task(
    name="seg",
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
