"""With sync=True the relations on two processes are those of one process on all rows or samples."""

import torch
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from densedist.common.distill.distiller import Distiller, Term
from densedist.common.distill.registry import LOSSES
from densedist.common.distill.taps import Tap
from densedist.common.losses import CIRKDLoss, DISTLoss, KDLoss, RKDLoss
from helpers.processes import run_processes
from helpers.tensors import features_of_both as features
from helpers.tensors import logits_of_both as pair
from helpers.tensors import mask


def compare(rank, count):
    for valid in (None, mask((6, 5, 4))):
        compare_dist(rank, valid)
    compare_rkd(rank)
    compare_cirkd(rank)
    compare_cirkd_of_other_sizes(rank)


def compare_dist(rank, valid):
    inputs, teacher = pair((6, 5, 4))
    torch.manual_seed(0)
    layer = torch.nn.Conv1d(5, 5, 1, dtype=torch.float64)
    wanted = DISTLoss(tau=2.0)(layer(inputs), teacher, valid)
    wanted_gradients = torch.autograd.grad(wanted, list(layer.parameters()))

    mine = slice(0, 2) if rank == 0 else slice(2, 6)  # unequal shares
    parallel = DistributedDataParallel(layer)
    loss = DISTLoss(tau=2.0, sync=True)(parallel(inputs[mine]), teacher[mine], valid if valid is None else valid[mine])
    loss.backward()
    torch.testing.assert_close(loss, wanted, rtol=1e-10, atol=0)
    for parameter, gradient in zip(layer.parameters(), wanted_gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-8, atol=1e-12)


def compare_rkd(rank):
    inputs, teacher = features((7, 5), (7, 9))
    torch.manual_seed(0)
    layer = torch.nn.Linear(5, 4, dtype=torch.float64)
    wanted = RKDLoss()(layer(inputs), teacher)
    wanted_gradients = torch.autograd.grad(wanted, list(layer.parameters()))
    mine = slice(0, 2) if rank == 0 else slice(2, 7)  # too few on one of them alone
    parallel = DistributedDataParallel(layer)
    loss = RKDLoss(sync=True)(parallel(inputs[mine]), teacher[mine])
    loss.backward()
    torch.testing.assert_close(loss, wanted, rtol=1e-10, atol=0)
    for parameter, gradient in zip(layer.parameters(), wanted_gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-8, atol=1e-12)


def compare_cirkd(rank):
    inputs, teacher = features((5, 3, 4, 5), (5, 2, 4, 5))
    torch.manual_seed(0)
    layer = torch.nn.Conv2d(3, 3, 1, dtype=torch.float64)
    wanted = CIRKDLoss(places=6)(layer(inputs), teacher)
    wanted_gradients = torch.autograd.grad(wanted, list(layer.parameters()))
    mine = slice(0, 2) if rank == 0 else slice(2, 5)
    parallel = DistributedDataParallel(layer)
    loss = CIRKDLoss(places=6, sync=True)(parallel(inputs[mine]), teacher[mine])
    loss.backward()
    torch.testing.assert_close(loss, wanted, rtol=1e-10, atol=0)
    for parameter, gradient in zip(layer.parameters(), wanted_gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-8, atol=1e-12)


def compare_cirkd_of_other_sizes(rank):
    """Detectors pad the images of each process to a size of their own."""
    batches = [features(shape, seed=n) for n, shape in enumerate([(2, 3, 4, 5), (1, 3, 6, 2)])]
    sides = zip(*batches, strict=True)
    ours, theirs = ([F.normalize(image.flatten(1).T) for batch in side for image in batch] for side in sides)
    each = [
        F.kl_div(*(((x[a] @ x[b].T) / 0.1).log_softmax(1) for x in (ours, theirs)), None, None, "batchmean", True)
        for a in range(3)
        for b in range(3)
    ]
    torch.testing.assert_close(CIRKDLoss(sync=True)(*batches[rank]), sum(each) / 9, rtol=1e-10, atol=0)


def compare_with_nothing_on_one(rank, count):
    """A process that sampled no RoI still takes part, and gets the others' loss."""
    student, teacher = (x[:, :, 0] for x in pair((6, 5, 1)))
    losses = {"dist": DISTLoss, "kd": KDLoss, "rkd": RKDLoss}
    mine = slice(0, 0) if rank == 0 else slice(0, 6)
    ours = student[mine].requires_grad_()
    terms = [Term(n, "cls_logits", 1.0, loss(sync=True), LOSSES[n.upper()]) for n, loss in losses.items()]
    found = Distiller(terms)({"cls_logits": Tap([ours], [teacher[mine]])})
    sum(found.values()).backward()
    assert ours.grad.shape == ours.shape
    for name, loss in losses.items():
        torch.testing.assert_close(found[f"loss_{name}"], loss()(student, teacher), rtol=1e-10, atol=0)


def test_process_without_rows():
    run_processes(2, compare_with_nothing_on_one)


def test_two_processes_equal_one():
    run_processes(2, compare)


def test_sync_without_a_process_group_is_the_local_loss():
    student, teacher = pair((7, 5))
    assert DISTLoss(sync=True)(student, teacher) == DISTLoss()(student, teacher)
