"""The memory of a step against PyTorch's own tracker, which knows no frozen parameters."""

import torch
from torch import nn
from torch.distributed._tools.mem_tracker import MemTracker

from densedist.common.plan.tally import Peak, Tally


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU())


def test_the_peak_is_that_of_memory_tracker():
    image = torch.rand(2, 3, 32, 32)
    peaks = []
    for tracker in (MemTracker(), Tally("all")):
        model = network()
        if isinstance(tracker, MemTracker):
            tracker.track_external(model)
        else:
            for tensor in (*model.parameters(), *model.buffers()):
                tracker.follow(tensor)
        with tracker:
            model(image).square().mean().backward()
        theirs = isinstance(tracker, MemTracker) and tracker.get_tracker_snapshot("peak")[image.device]["Total"]
        peaks.append(theirs or tracker.peaks["all"].total)
    assert peaks[0] == peaks[1]


def test_parts_of_a_step():
    model = network()
    tally = Tally("forward")
    handles = [p.register_post_accumulate_grad_hook(tally.follow_gradient) for p in model.parameters()]
    with tally, tally.within("norm", model[1]):
        loss = model(torch.rand(2, 3, 32, 32)).mean()
        tally.begin("backward")
        loss.backward()
    assert [o.part for o in tally.operators if o.flops] == ["forward"] * 2 + ["backward"] * 2
    assert {o.part for o in tally.operators} == {"forward", "norm", "backward"}
    assert tally.gradients == sum(p.nbytes for p in model.parameters())
    assert tally.peaks["forward"] > tally.peaks["norm"] > Peak()
    for handle in handles:
        handle.remove()
    alive = tally.alive
    with tally:
        extra = torch.zeros(1000)
    assert tally.alive == alive + 4000
    del extra
    assert tally.alive == alive
