"""Weights & Biases and MLflow through their own libraries, where these are installed."""

from collections import defaultdict
from collections.abc import Callable, Mapping
from importlib import import_module
from types import ModuleType

import yaml
from detectron2.config import CfgNode
from detectron2.utils.events import EventWriter, get_event_storage

from densedist.common.errors import UserError

# Takes numbers by name, and the iteration that they are of.
Log = Callable[[Mapping[str, float], int], object]


def build_trackers(cfg: CfgNode) -> list[EventWriter]:
    """Begin a run named OUTPUT_DIR in each of TRACKERS, which may write to OUTPUT_DIR.

    Raises:
        UserError: one that is not installed.
    """
    return [Tracker(*BEGIN[name](library, cfg)) for name, library in _libraries(cfg).items()]


def refuse_missing_trackers(cfg: CfgNode) -> None:
    """Refuse one of TRACKERS that is not installed, before anything is written.

    Raises:
        UserError: naming it.
    """
    _libraries(cfg)


def _libraries(cfg: CfgNode) -> dict[str, ModuleType]:
    found = {}
    for name in cfg.TRACKERS:
        try:
            found[name] = import_module(name)
        except ImportError as error:
            raise UserError(f"TRACKERS: {name} is not installed: install it, or take it out") from error
    return found


class Tracker(EventWriter):
    """Sends new metrics of Detectron2's event storage to a tracker.

    Args:
        log: sends numbers.
        end: ends the run.
    """

    def __init__(self, log: Log, end: Callable[[], object]) -> None:
        self._log, self._end, self._sent = log, end, -1

    def write(self) -> None:
        new: dict[int, dict[str, float]] = defaultdict(dict)
        for name, (value, iteration) in get_event_storage().latest_with_smoothing_hint(20).items():
            if iteration > self._sent:
                new[iteration][name] = value
        for iteration, numbers in sorted(new.items()):
            self._log(numbers, iteration)
            self._sent = iteration

    def close(self) -> None:
        self._end()


def _wandb(wandb: ModuleType, cfg: CfgNode) -> tuple[Log, Callable[[], object]]:
    # The same id after a resume, so that its curves go on.
    name = cfg.OUTPUT_DIR.strip("./").replace("/", "-")
    run = wandb.init(id=name, name=name, dir=cfg.OUTPUT_DIR, config=yaml.safe_load(cfg.dump()), resume="allow")
    return lambda numbers, iteration: run.log(dict(numbers), step=iteration), run.finish


def _mlflow(mlflow: ModuleType, cfg: CfgNode) -> tuple[Log, Callable[[], object]]:
    mlflow.start_run(run_name=cfg.OUTPUT_DIR)
    mlflow.log_dict(yaml.safe_load(cfg.dump()), "config.yaml")
    return lambda numbers, iteration: mlflow.log_metrics(dict(numbers), step=iteration), mlflow.end_run


BEGIN = {"wandb": _wandb, "mlflow": _mlflow}
