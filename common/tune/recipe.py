"""The recipe of a search: what all its runs have in common, and the config of each run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from detectron2.config import CfgNode

from densedist.common.config import find_config, trust
from densedist.common.config.keys import value_of
from densedist.common.engine.solver import stretched
from densedist.common.task import Task
from densedist.common.tune.space import Choice

EVALUATIONS = 4  # of a run, the last one included, where the config has none on the way


@dataclass(frozen=True)
class Recipe:
    """What all choices of a search have in common.

    Args:
        task: the student's.
        config: the student's.
        overrides: KEY VALUE … for every run.
        unlabeled: DATASETS.UNLABELED of the part "unlabeled".
        added: further overrides of each method, as those that train on labels of its teacher.
        data: overrides by which a run is scored on other data than the config's.
        lengths: iterations of each method.
    """

    task: Task
    config: str
    overrides: Sequence[str] = ()
    unlabeled: Sequence[str] = ()
    added: Mapping[str, Sequence[str]] = field(default_factory=dict)
    data: Sequence[str] = ()
    lengths: Mapping[str, int] = field(default_factory=dict)

    def load(self, words: Sequence[str] = ()) -> CfgNode:
        """Load the student's config with what every run has, frozen."""
        return self.task.load_config(self.config, [*self.overrides, *words])

    def of(self, choice: Choice) -> CfgNode:
        """Load the config of a choice on the data of the search, with the length that the config says."""
        return self.load([*self.words(choice), *self.data])

    def run(self, choice: Choice, seed: int, folder: Path) -> CfgNode:
        """Load the config of a run; the number of evaluations does not depend on its length, so that runs can be
        compared."""
        cfg, iterations = self.of(choice), self.lengths[choice.method]
        period = cfg.TEST.EVAL_PERIOD / cfg.SOLVER.MAX_ITER if cfg.TEST.EVAL_PERIOD else 1 / EVALUATIONS
        return self.load(
            [
                *self.words(choice),
                *self.data,
                *stretched(cfg.SOLVER, iterations / cfg.SOLVER.MAX_ITER),
                *("TEST.EVAL_PERIOD", str(max(1, round(period * iterations)))),
                *("SOLVER.CHECKPOINTS_KEPT", "1", "SEED", str(seed), "OUTPUT_DIR", str(folder)),
            ]
        )

    def final(self, choice: Choice) -> str:
        """Return the text of a config that trains the choice as long as a run, on the data of the config."""
        words = self.words(choice)
        solver = self.load(words).SOLVER
        words += stretched(solver, self.lengths[choice.method] / solver.MAX_ITER)
        cfg = self.load(words)
        keys: dict[str, Any] = {}
        for name in words[::2]:
            if name not in trust.KEYS:  # which are for the command line
                *groups, last = name.split(".")
                node = keys
                for group in groups:
                    node = node.setdefault(group, {})
                node[last] = _plain(value_of(cfg, name))
        base = Path(find_config(self.config, "CONFIG")).absolute()
        return f"_BASE_: {base}\n{yaml.safe_dump(keys, sort_keys=False)}"

    def words(self, choice: Choice) -> list[str]:
        """Return the overrides of a choice, on the data of the config."""
        keys = self.task.grammar.keys()
        return [*choice.words(self.unlabeled, self.overrides, keys), *self.added.get(choice.method, ())]


def _plain(value: Any) -> Any:
    if isinstance(value, CfgNode):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
