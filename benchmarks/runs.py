"""Short runs of small models on scenes of digits: with each loss, cache, precision, and in several processes.

They show that all of it runs on a device, and what a step with it takes beside one without it; the models are too small
to say what a loss costs at the size of COCO.
"""

import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import torch

from benchmarks.det.models import save_random as save_detector
from benchmarks.seg.models import save_random as save_segmenter
from densedist import api
from densedist.common.engine.launch import Processes, run_in_processes
from densedist.common.errors import one_line
from densedist.common.logging import quiet
from densedist.common.profile import report

STEPS = 40
PERIOD = 20  # steps from one line of metrics.json to the next
ALONE = "DIST"  # the loss that all have
SMALL = "1e-6"  # the weight of the others: of random teachers they can be large
COMMON = {"REHEARSAL": "False", "TEST.EVAL_PERIOD": "0", "TEST.EXAMPLES": "0"}
COMMON |= {"DATASETS.TEST": "[]", "DATALOADER.NUM_WORKERS": "0"}
CACHE = "DISTILL.TEACHER.CACHE"
OPTIONS = {"RKD": {"DISTILL.RKD.SAMPLES": "cells"}, "CROSSKD": {"DISTILL.CROSSKD.POSITION": "1"}}  # of losses
OF_ALL = ("KD", "MIMIC", "RKD", "PKD", "ATTENTION", "MGD")


@dataclass(frozen=True)
class Pair:
    """A student and its teacher, among the packaged configs.

    Args:
        losses: that the pair can have besides ALONE.
        caches: the keys of each kind of cache besides CACHE, by name.
    """

    name: str
    student: str
    teacher: str
    losses: Sequence[str]
    caches: Mapping[str, Mapping[str, str]]

    @property
    def task(self) -> str:
        return self.student.partition("/")[0]


MAPS = {"cache of maps": {"DISTILL.TEACHER.CACHE_MAPS": "True"}}
PAIRS = (
    Pair(
        "Mask R-CNN from Cascade Mask R-CNN",
        "det/digits/mask_rcnn_r10_quarter.yaml",
        "det/digits/cascade_mask_rcnn_r10t.yaml",
        (*OF_ALL, "DKD", "FGD", "BOX", "RPN", "MASK"),
        {"cache of boxes": {}, **MAPS},
    ),
    Pair(
        "RetinaNet from RetinaNet",
        "det/digits/retinanet_r10_quarter.yaml",
        "det/digits/retinanet_r10t.yaml",
        (*OF_ALL, "CWD", "FGD", "BOX"),
        MAPS,
    ),
    Pair(
        "RetinaNet from one with heads of its width",
        "det/digits/retinanet_r10_quarter.yaml",
        "det/digits/retinanet_r10_quarter.yaml",
        ("CROSSKD",),
        {},
    ),
    Pair(
        "PSPNet from DeepLabV3",
        "seg/digits/pspnet_r10_quarter.yaml",
        "seg/digits/deeplabv3_r18.yaml",
        (*OF_ALL, "DKD", "CWD", "CIRKD", "AFDCD"),
        {"cache of logits": {}, "cache of logits in 8 bits": {"DISTILL.TEACHER.CACHE_BITS": "8"}},
    ),
)


@dataclass(frozen=True)
class Way:
    """A way to train a pair.

    Args:
        keys: in addition to ALONE's.
    """

    name: str
    keys: Mapping[str, str] = field(default_factory=dict)
    processes: int = 1


@dataclass(frozen=True)
class Result:
    """A run.

    Args:
        seconds: of a step, after the first PERIOD.
        loss: at the end.
        failed: why, where it did.
    """

    name: str
    seconds: float | None = None
    loss: float | None = None
    failed: str = ""


def main(device: torch.device, file: Path | None, steps: int = STEPS) -> None:
    """Train and print; write everything to file as JSON.

    Args:
        steps: of each run.

    Raises:
        SystemExit: with 1, where a run failed, after the table.
    """
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        print("one GPU: nothing is trained in two processes by NCCL")
    with tempfile.TemporaryDirectory() as folder:
        results = [one for pair in PAIRS for one in measure(pair, device, Path(folder), steps)]
    report("Short runs on scenes of digits", table(results), [asdict(one) for one in results], device, file)
    if any(one.failed for one in results):
        raise SystemExit(1)


def measure(pair: Pair, device: torch.device, folder: Path, steps: int) -> Iterator[Result]:
    """Train a pair in each way."""
    save = save_detector if pair.task == "det" else save_segmenter
    teacher = save(pair.teacher, folder / f"{pair.task}_teacher.pth")
    words = {**COMMON, **teacher, "MODEL.DEVICE": device.type}
    for number, way in enumerate(ways(pair, device)):
        output = folder / f"{pair.student.replace('/', '_')}_{number}"
        print(f"{pair.name}: {way.name}", flush=True)
        yield train(pair, way, {**words, "SOLVER.MAX_ITER": str(steps)}, output)


def ways(pair: Pair, device: torch.device) -> Iterator[Way]:
    """Yield each way to train a pair on a device."""
    yield Way(ALONE)
    for loss in pair.losses:
        yield Way(f"+ {loss}", {f"DISTILL.{loss}.WEIGHT": SMALL, **OPTIONS.get(loss, {})})
    for precision in ("float16", "bfloat16"):
        amp = {"SOLVER.AMP.ENABLED": "True", "SOLVER.AMP.PRECISION": precision}
        yield Way(precision, {**amp, "DISTILL.TEACHER.PRECISION": precision})
    for name, keys in pair.caches.items():
        yield Way(name, {**keys, CACHE: "cache"})
    yield Way("compiled teacher", {"DISTILL.TEACHER.COMPILE": "True"})
    if device.type == "cuda":
        yield Way("teacher on a stream of its own", {"DISTILL.TEACHER.STREAM": "True"})
    if device.type == "cpu" or torch.cuda.device_count() > 1:
        # The rehearsal finds the pyramid levels on which no loss depends; DistributedDataParallel has to know of them.
        yield Way("two processes", {"DISTILL.SYNC": "True", "REHEARSAL": "True"}, processes=2)


def train(pair: Pair, way: Way, words: Mapping[str, str], output: Path) -> Result:
    """Train a pair in a way; a failure is a result, too, so that the others are still seen.

    Args:
        words: for all ways, by their keys.
        output: OUTPUT_DIR.
    """
    name, own = f"{pair.name}: {way.name}", dict(way.keys)
    if CACHE in own:
        own[CACHE] = str(output / own[CACHE])
    words = {**words, **own, "OUTPUT_DIR": str(output)}
    try:
        with quiet():
            run_in_processes(partial(api.train, pair.student, words), Processes(way.processes))
    except (Exception, SystemExit) as error:
        return Result(name, failed=one_line(error))
    lines = [json.loads(line) for line in (output / "metrics.json").read_text().splitlines()]
    steps = {line["iteration"] + 1: line for line in lines if "train_seconds" in line}
    first, last = steps[min(steps)], steps[max(steps)]
    count = max(steps) - min(steps)
    seconds = (last["train_seconds"] - first["train_seconds"]) / count if count else last["train_seconds"] / max(steps)
    return Result(name, seconds, last["total_loss"])


def table(results: Sequence[Result]) -> list[dict[str, str]]:
    """Return a row for each run, with its time beside that of the pair's first."""
    rows, alone = [], dict[str, float]()
    for one in results:
        pair = one.name.partition(":")[0]
        if one.seconds is not None:
            alone.setdefault(pair, one.seconds)
        rows.append(
            {
                "run": one.name,
                "ms a step": "" if one.seconds is None else f"{1e3 * one.seconds:.1f}",
                f"/ {ALONE}": f"{one.seconds / alone[pair]:.2f}" if one.seconds and pair in alone else "",
                "failed": one.failed,
            }
        )
    return rows
