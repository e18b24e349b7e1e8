"""Pictures of a trained student beside its teacher, other models and the truth, as both tasks draw them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from detectron2.config import CfgNode

from densedist.common.beside import load_beside
from densedist.common.config.keys import Key
from densedist.common.data.images import unique_names
from densedist.common.distill.teacher_files import with_teacher
from densedist.common.run_files import Weights
from densedist.common.run_names import OVERVIEW
from densedist.common.words import some

MOST_IN_OVERVIEW = 6  # images
RELATIONS = "relations.png"  # see common/report/relations.py

Trained = TypeVar("Trained")
Teacher = TypeVar("Teacher")
Prediction = TypeVar("Prediction")


@dataclass(frozen=True)
class View(Generic[Prediction]):
    """An image with its truth and what the models predict.

    Args:
        name: of the image.
        image: RGB (H, W, 3), uint8.
        truth: None = not known.
        teacher: None = there is none.
        others: predictions of more models by name.
        called: the student's name.
        rule: which predictions these are, in words; "" = all.
    """

    name: str
    image: np.ndarray
    truth: Prediction | None
    teacher: Prediction | None
    student: Prediction
    others: Mapping[str, Prediction] = field(default_factory=dict)
    called: str = "student"
    rule: str = ""

    @property
    def models(self) -> dict[str, Prediction]:
        """Return the predictions of the models by name, the student's last."""
        taught = {} if self.teacher is None else {"teacher": self.teacher}
        return {**taught, **self.others, self.called: self.student}


def load_together(
    student: Weights,
    teacher: str,
    others: Mapping[str, Weights],
    load_trained: Callable[[Weights], Trained],
    class_names: Callable[[Trained], Sequence[str]],
    read_config: Callable[[str, Sequence[str], bool], CfgNode],
    load_teacher: Callable[[Trained, CfgNode], Teacher | None],
    keys: Mapping[str, Key],
) -> tuple[Trained, Teacher | None, dict[str, Trained]]:
    """Load a student, its teacher if there is one, and other models of the same classes by name.

    Args:
        teacher: its weights, or "none"; empty = the one that the student's config names.
        load_teacher: called with the student and the config of its run, which names the teacher.
        keys: of the task.

    Raises:
        UserError: wrong weights, or other classes.
    """
    trained = load_trained(student)
    cfg = with_teacher(read_config(student.config, student.overrides, student.trusted), keys, teacher)
    taught = None if cfg is None else load_teacher(trained, cfg)
    return trained, taught, load_beside(others, load_trained, class_names, class_names(trained))


def draw_gallery(
    views: Sequence[View[Prediction]],
    draw: Callable[[View[Prediction], Path], None],
    draw_overview: Callable[[Sequence[View[Prediction]], Path], None],
    output: Path,
) -> None:
    """Write one PNG for each image and overview.png, which shows the first few, and say how many there are.

    Args:
        draw, draw_overview: draw one image, or several, to a file.
    """
    names = unique_names([view.name for view in views], taken=("overview", Path(RELATIONS).stem))
    for name, view in zip(names, views, strict=True):
        draw(view, output / f"{name}.png")
    draw_overview(views[:MOST_IN_OVERVIEW], output / OVERVIEW)
    print(f"{some(len(views), 'image')}; pictures and {OVERVIEW}: {output}")
