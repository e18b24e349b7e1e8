"""Segmentation as the engine and the commands see it."""

from densedist.common.task import Task
from densedist.seg.cache import fill_cache
from densedist.seg.config import load_config, read_config
from densedist.seg.data.checks import check_data
from densedist.seg.data.loading import training_batches
from densedist.seg.data.parts import set_aside
from densedist.seg.data.sides import contents, images
from densedist.seg.evaluation import evaluate, is_scored, metric
from densedist.seg.export import export
from densedist.seg.importing import FORMS
from densedist.seg.labeling import label_images, unlabeled_images, with_labels
from densedist.seg.models import build_trainee, load_model, smp_model
from densedist.seg.network import load_weights
from densedist.seg.pictures import draw_examples
from densedist.seg.predict import predict_images
from densedist.seg.profile import load_subjects
from densedist.seg.quickstart import STUDY
from densedist.seg.survey import draw_data, survey
from densedist.seg.visualize import visualize

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
    plain=smp_model,
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
