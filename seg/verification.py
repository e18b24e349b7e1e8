"""How far exported logits are from PyTorch's on real images."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from densedist.common.export import Figure
from densedist.seg.evaluation import confusion_matrix, scores
from densedist.seg.labels import IGNORE
from densedist.seg.models import Trained

# Of the largest logit, and of a hundred: float32 rounds otherwise in another order of the same sums.
LOGITS, MIOU = 1e-4, 0.01
# uint8 (N, 3, H, W) -> logits (N, classes, H, W)
Run = Callable[[Tensor], Tensor]


@torch.no_grad()
def compare(trained: Trained, run: Run, samples: Sequence[dict]) -> list[Figure]:
    """
    Args:
        run: what was exported.
        samples: {"image": uint8 (3, H, W)}, with "sem_seg", trainIds (H, W), where they have labels.

    Returns:
        the largest difference of a logit, relative to the largest logit; the pixels, in percent, whose class
        differs; where there are labels, both mIoUs in percent and their difference.
    """
    count = len(trained.classes)
    difference = largest = 0.0
    differing = pixels = 0
    counts = torch.zeros(2, count, count, dtype=torch.int64)
    for sample in samples:
        ours, theirs = trained.model.logits(sample["image"]), run(sample["image"][None])[0]
        if ours.shape != theirs.shape:
            raise ValueError(f"run: got logits {tuple(theirs.shape)}, want {tuple(ours.shape)}")
        difference = max(difference, float((ours - theirs).abs().max()))
        largest = max(largest, float(ours.abs().max()))
        classes = ours.argmax(0), theirs.argmax(0)
        differing, pixels = differing + int((classes[0] != classes[1]).sum()), pixels + classes[0].numel()
        truth = sample.get("sem_seg", torch.full_like(classes[0], IGNORE))
        counts += torch.stack([confusion_matrix(truth, prediction, count) for prediction in classes])
    figures = [
        Figure("largest logit", largest),
        Figure("largest difference of a logit / largest logit", difference / largest, LOGITS),
        Figure("pixels of another class, %", 100 * differing / pixels),
    ]
    if counts.any():
        before, after = (scores(confusion, trained.classes.names)["mIoU"] for confusion in counts)
        figures += [Figure("mIoU in PyTorch", before), Figure("mIoU", after)]
        figures += [Figure("difference of mIoU", abs(before - after), MIOU)]
    return figures
