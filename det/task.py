"""Detection as the engine and the commands see it."""

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer
from detectron2.evaluation import COCOEvaluator
from torch import nn

from densedist.common.task import Results, Task
from densedist.det.data.checks import check_data
from densedist.det.data.loading import training_batches
from densedist.det.export import export
from densedist.det.models import build_trainee, load_config, load_model, read_config
from densedist.det.pictures import draw_examples
from densedist.det.predict import predict_images
from densedist.det.profile import load_subjects
from densedist.det.quickstart import STUDY
from densedist.det.stock import stock_model
from densedist.det.visualize import visualize


def evaluate(cfg: CfgNode, model: nn.Module, most: int | None = None) -> Results:
    """COCO AP in percent, over all and for each class, on every data set of DATASETS.TEST.

    {"bbox": {"AP": …, "AP50": …, "AP-<class>": …}, "segm": … with a mask head}; by data set if there are
    several.
    """
    evaluators = [COCOEvaluator(name, output_dir=f"{cfg.OUTPUT_DIR}/inference") for name in cfg.DATASETS.TEST]
    return DefaultTrainer.test(cfg, model, evaluators)


TASK = Task(
    name="det",
    metric="bbox/AP",
    read_config=read_config,
    load_config=load_config,
    check_data=check_data,
    build=build_trainee,
    load_model=load_model,
    plain=stock_model,
    training_batches=training_batches,
    evaluate=evaluate,
    draw_examples=draw_examples,
    predict=predict_images,
    visualize=visualize,
    export=export,
    profile=load_subjects,
    study=STUDY,
)
