"""Segmentation by the contract of Detectron2's models: losses in training, predictions in evaluation."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from detectron2.structures import ImageList
from torch import Tensor, nn

from densedist.common.data.sides import MARK
from densedist.common.distill.distiller import Distillation, merge_losses
from densedist.common.distill.gradient_factors import scale_gradient
from densedist.seg.data.frames import SCORES
from densedist.seg.labels import IGNORE
from densedist.seg.losses import CrossEntropyLoss, TaskLosses
from densedist.seg.networks.dense import LOGITS, DenseModel
from densedist.seg.networks.resampling import nearest, resize
from densedist.seg.networks.taps import at_stride, taps
from densedist.seg.networks.windows import Inference
from densedist.seg.teacher.teacher import SegTeacher


class Segmenter(nn.Module):
    """A network with its training losses: those with labels, the same of the auxiliary head, and distillation.

    Args:
        network: the student, an SMP model; or any other, to predict.
        inference: how an image is predicted.
        task: the losses with labels; None = cross entropy.
        aux_weight: weight of the auxiliary head's.
        distillation: from a teacher.
        ignored_pixels: distill also where the label is IGNORE.
        pseudo_weight: factor on the gradient of the losses with labels in images whose labels a teacher wrote.
        logits_stride: of the places where class logits are compared, in pixels; 0 = those of the student's own map.
    """

    def __init__(
        self,
        network: DenseModel,
        inference: Inference,
        task: TaskLosses | None = None,
        aux_weight: float = 0.4,
        distillation: Distillation[SegTeacher] | None = None,
        ignored_pixels: bool = True,
        pseudo_weight: float = 1.0,
        logits_stride: int = 0,
    ) -> None:
        super().__init__()
        self.network, self.inference = network, inference
        self.task = task or TaskLosses({"ce": CrossEntropyLoss()}, {"ce": 1.0})
        self.aux_weight = aux_weight
        self.distillation, self.ignored_pixels, self.logits_stride = distillation, ignored_pixels, logits_stride
        self.pseudo_weight = pseudo_weight

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """
        Args:
            batched_inputs: for each image {"image": raw (3, H, W), 0 to 255} and in training "sem_seg":
                trainIds (H, W), int64, IGNORE where a pixel does not count. Images without it are distilled only;
                MARK says that a teacher wrote it, and SCORES, uint8 (H, W), how sure it was.

        Returns:
            in training 0-dim losses by name; else for each image {"sem_seg": probabilities (K, H, W)}.
        """
        images = [sample["image"] for sample in batched_inputs]
        if not self.training:
            # Moved once, as a whole; not each window and view of it by itself.
            device = self.network.mean.device
            return [{"sem_seg": self.inference(self.logits, image.to(device))} for image in images]
        batch = self.network.preprocess(images)
        labels = self._labels(batched_inputs, batch.shape[2:])
        pending = None if self.distillation is None else self.distillation.teacher.begin(batched_inputs)
        student = self.network(batch)
        weights = self._label_weights(batched_inputs)

        def compared(name: str) -> Tensor:
            """Return class logits at the labels' size, as the labels see them."""
            logits = resize(student[name].float(), labels.shape[1:])
            return logits if weights is None else scale_gradient(logits, weights)

        losses = self.task(compared("cls_logits"), labels)
        if "aux_logits" in student:
            losses |= self.task(compared("aux_logits"), labels, "_aux", self.aux_weight)
        if self.distillation is None or pending is None:
            return losses
        distiller = self.distillation.distiller
        student = at_stride(student, distiller.needed, self.logits_stride, batch.shape[2:])
        teacher, known = pending.at(student, batch.shape[2:])
        valid = self._valid(batched_inputs, labels, student, known)
        weighed = self._weighed(student, batched_inputs)
        return merge_losses(losses, distiller(taps(distiller.needed, weighed, teacher, labels, valid)))

    def _label_weights(self, batched_inputs: list[dict]) -> Tensor | None:
        """Return the factors on the gradient that labels give, (N,) or for each pixel (N, 1, H, W); None = all are 1.

        Of labels that a teacher wrote it is PSEUDO_LABELS.WEIGHT, times their scores where samples have these.
        """
        device = self.network.mean.device
        scored = any(SCORES in sample for sample in batched_inputs)
        if not scored and (self.pseudo_weight == 1 or not any(MARK in sample for sample in batched_inputs)):
            return None
        weights = torch.tensor([self.pseudo_weight if MARK in x else 1.0 for x in batched_inputs], device=device)
        if not scored:
            return weights
        full = (torch.full(x["image"].shape[1:], 255, dtype=torch.uint8) for x in batched_inputs)
        scores = [x.get(SCORES, whole).to(device) for x, whole in zip(batched_inputs, full, strict=True)]
        padded = ImageList.from_tensors(scores, self.network.divisor).tensor
        return weights.view(-1, 1, 1, 1) * padded.unsqueeze(1) / 255

    def _weighed(self, student: dict[str, Tensor], batched_inputs: list[dict]) -> dict[str, Tensor]:
        """Return the student's maps, in images without labels with DISTILL.UNLABELED_WEIGHT times their gradient."""
        assert self.distillation is not None
        weight = self.distillation.unlabeled_weight
        if weight == 1:
            return student
        factors = torch.tensor(
            [1.0 if "sem_seg" in sample else weight for sample in batched_inputs], device=self.network.mean.device
        )
        return {name: scale_gradient(x, factors) for name, x in student.items()}

    def _valid(
        self, batched_inputs: list[dict], labels: Tensor, student: Mapping[str, Tensor], known: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Return for maps of class logits by name the places that count; without an entry all do.

        Args:
            known: the same as far as the teacher decides.
        """
        if self.ignored_pixels:
            return known
        # Where nothing is labeled, nothing is ignored.
        counts = labels != IGNORE
        for number, sample in enumerate(batched_inputs):
            if "sem_seg" not in sample:
                counts[number] = True
        labeled = {name: nearest(counts, student[name].shape[2:]) for name in LOGITS if name in student}
        return {name: mask & known[name] if name in known else mask for name, mask in labeled.items()}

    def _labels(self, batched_inputs: list[dict], size: Sequence[int]) -> Tensor:
        device = self.network.mean.device
        labels = [
            x["sem_seg"].to(device) if "sem_seg" in x else torch.full(x["image"].shape[1:], IGNORE, device=device)
            for x in batched_inputs
        ]
        padded = ImageList.from_tensors(labels, self.network.divisor, pad_value=IGNORE).tensor
        if padded.shape[1:] != torch.Size(size):
            raise ValueError(f"sem_seg: got size {tuple(padded.shape[1:])}, want the images' {tuple(size)}")
        return padded

    def logits(self, image: Tensor) -> Tensor:
        """Return logits (K, H, W) of a raw image (3, H, W), or of several of one size, with N in front of both."""
        several = image if image.ndim == 4 else image[None]
        batch = self.network.preprocess(list(several))
        logits = resize(self.network(batch)["cls_logits"].float(), batch.shape[2:], self.network.align_corners)
        logits = logits[..., : image.shape[-2], : image.shape[-1]]
        return logits if image.ndim == 4 else logits[0]

    @torch.no_grad()
    def rows(self, image: Tensor) -> Iterator[Tensor]:
        """Yield the probabilities of a raw image (3, H, W) in eval mode, from top to bottom: see Inference.rows."""
        yield from self.inference.rows(self.logits, image.to(self.network.mean.device))


def predict(model: Segmenter, image: Tensor) -> np.ndarray:
    """Return the trainIds (H, W), uint8, that a model in eval mode predicts for a raw image (3, H, W)."""
    return np.concatenate([rows.argmax(0).to(torch.uint8).cpu().numpy() for rows in model.rows(image)])
