"""Two-stage students: any GeneralizedRCNN config, distilled on the RoIs that the student samples."""

from contextlib import ExitStack
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.modeling.meta_arch import GeneralizedRCNN

from common.distiller import Distiller, build_distiller
from common.recording import record
from det import box_head
from det.rcnn_teacher import RCNNTeacher, load_teacher


@META_ARCH_REGISTRY.register()
class DistillRCNN(GeneralizedRCNN):
    """GeneralizedRCNN whose training losses include distillation from a frozen R-CNN teacher.

    In training the taps are the class logits [R, K+1] of every call of the student's box predictor (one
    for Faster and Mask R-CNN, one per stage for Cascade), and the teacher's logits on the same boxes. In
    evaluation, and in training without a teacher, it is the plain GeneralizedRCNN; its parameters and
    state_dict() always are.
    """

    @configurable
    def __init__(self, *, teacher: RCNNTeacher | None = None, distiller: Distiller | None = None, **student) -> None:
        """
        Args:
            teacher, distiller: both or none.
            student: the arguments of GeneralizedRCNN.
        """
        super().__init__(**student)
        self.teacher, self.distiller = teacher, distiller
        if teacher is not None:
            box_head.check(self.roi_heads)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        distiller = build_distiller(cfg.DISTILL, activation="softmax")
        student = super().from_config(cfg)
        if not (distiller.terms and cfg.DISTILL.TEACHER.CONFIG_FILE):
            return student
        return student | {"distiller": distiller, "teacher": load_teacher(cfg)}

    def forward(self, batched_inputs: list[dict]) -> Any:
        if self.teacher is None or self.distiller is None or not self.training:
            return super().forward(batched_inputs)
        with ExitStack() as stack:
            boxes = stack.enter_context(record(box_head.pooler(self.roi_heads), lambda args, _: args[1]))
            logits = [
                stack.enter_context(record(predictor, lambda _, output: output[0]))
                for predictor in box_head.predictors(self.roi_heads)
            ]
            losses = super().forward(batched_inputs)
        student = {"cls_logits": [call for calls in logits for call in calls]}
        teacher = {"cls_logits": self.teacher.cls_logits([x["image"] for x in batched_inputs], boxes)}
        return losses | self.distiller(student, teacher)
