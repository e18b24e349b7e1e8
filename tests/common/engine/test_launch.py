"""Processes that start together on a machine without GPUs share its cores."""

import torch

from densedist.common.engine.launch import _on_its_share


def test_each_process_has_its_share_of_the_threads():
    before, seen = torch.get_num_threads(), []
    try:
        for threads, processes in ((4, 2), (2, 2), (2, 3)):
            torch.set_num_threads(threads)
            _on_its_share(lambda: seen.append(torch.get_num_threads()), processes)
    finally:
        torch.set_num_threads(before)
    assert seen == [2, 1, 1]
