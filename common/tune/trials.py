"""The trials of a search in OUTPUT/study.db, on which several processes may work at once.

A process that works on a trial holds a lock that ends with it: a running trial whose lock is free has died.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from densedist.common.config import Key
from densedist.common.errors import UserError
from densedist.common.fingerprint import refuse_another
from densedist.common.locks import locked, try_lock

if TYPE_CHECKING:
    import optuna

# What a search may not change in its folder, and by which options.
ABOUT: Mapping[str, str] = {
    "methods": "--methods",
    "budget": "--budget",
    "seeds": "--seeds",
    "unlabeled": "--unlabeled",
    "data": "--val or --set-aside",
}
SETTINGS = "settings"  # of what the methods depend on with their first values, by method
STUDY, LOCK = "study.db", "study.lock"
# Attributes of a trial: the number of its folder, which is that of the trial that it goes on with; why it failed.
PLACE, WHY = "place", "why"


@dataclass(frozen=True)
class Going:
    """A trial that this process works on, and the folder for its runs."""

    trial: optuna.Trial
    folder: Path


@contextmanager
def preparing(folder: Path) -> Iterator[None]:
    """Keep other processes from preparing the folder or beginning a trial within the block; where it fails and there
    was no search, remove all that it made."""
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        with locked(folder / LOCK, key="--output-dir"):
            yield
    except BaseException:
        if not (folder / STUDY).exists():
            (folder / LOCK).unlink(missing_ok=True)
            with suppress(OSError):  # not empty
                for path in made:
                    path.rmdir()
        raise


def known_paces(folder: Path, about: Mapping[str, Any], keys: Mapping[str, Key]) -> Mapping[str, float] | None:
    """Return the paces of a folder's search; None where it has none.

    Args:
        about: plain data for each of ABOUT, and SETTINGS.
        keys: of the task's grammar.

    Raises:
        UserError: it is of another search.
    """
    if not (folder / STUDY).is_file():
        return None
    attributes = Trials(folder).study.user_attrs
    if "about" not in attributes:
        return None  # its process died before there was any trial
    then, now = attributes["about"], json.loads(json.dumps(about))
    for name, option in ABOUT.items():
        if then[name] != now[name]:
            raise UserError(
                f"{folder} holds a search with other {option}, {then[name]} and not {now[name]}: give the same, or "
                "another --output-dir"
            )
    for method, settings in now[SETTINGS].items():
        refuse_another(f"the search in {folder}", then.get(SETTINGS, {}).get(method), settings, keys)
    paces: Mapping[str, float] = attributes["paces"]
    return paces


def refuse_fewer(folder: Path, trials: int) -> None:
    """Refuse a number of trials that a folder's search is beyond: the best of more trials is another one.

    Raises:
        UserError: naming how many there are.
    """
    if (have := len(Trials(folder).ended())) > trials:
        raise UserError(
            f"--trials is {trials}, but the search in {folder} has {have} trials: give {have} or more, or another "
            "--output-dir"
        )


class Trials:
    """The trials of a folder, begun where it has none; within preparing(), as one process at a time can make the file.

    Args:
        folder: OUTPUT.
        seed: seed of the sampler.
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        import optuna

        optuna.logging.disable_default_handler()  # its lines go where all others go
        optuna.logging.enable_propagation()
        self._folder, self._seed = folder, seed
        folder.mkdir(parents=True, exist_ok=True)
        self.study = optuna.create_study(
            storage=optuna.storages.RDBStorage(
                f"sqlite:///{folder.absolute() / STUDY}", {"connect_args": {"timeout": 60}}
            ),
            study_name="tune",
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(),
            load_if_exists=True,
        )

    def __reduce__(self) -> tuple:
        return Trials, (self._folder, self._seed)  # another process has a connection of its own

    @contextmanager
    def entering(self) -> Iterator[None]:
        """Keep other processes from preparing the folder or beginning a trial within the block; it cannot be nested."""
        with locked(self._folder / LOCK):
            yield

    def claim(self, about: Mapping[str, Any], paces: Mapping[str, float]) -> None:
        """Record that the folder is of this search.

        Args:
            about: see refuse_another.
            paces: seconds an iteration of each method.
        """
        self.study.set_user_attr("paces", paces)
        self.study.set_user_attr("about", about)

    @contextmanager
    def next(self, wanted: int) -> Iterator[Going | None]:
        """Yield a trial to work on; None if there are as many as wanted, including running ones."""
        going, lock = None, None
        with self.entering():
            self._revive()
            if len(self.counted()) < wanted:
                # Each trial has random numbers of its own, whichever process draws them.
                self.study.sampler = _sampler(self._seed + len(self.study.get_trials(deepcopy=False)))
                trial = self.study.ask()
                going = Going(trial, self._place(trial.user_attrs.get(PLACE, trial.number)))
                lock = try_lock(going.folder / "lock")
        try:
            yield going
        finally:
            if lock:
                lock.release()

    def _revive(self) -> None:
        """Let trials that have died be run again, in the folders that they have."""
        from optuna.trial import TrialState

        for trial in self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            place = trial.user_attrs.get(PLACE, trial.number)
            if lock := try_lock(self._place(place) / "lock"):
                lock.release()
                # Its process may have ended it since the trials were listed, and given the lock back.
                if self.study.get_trials(deepcopy=False)[trial.number].state is TrialState.RUNNING:
                    self.study.tell(trial.number, state=TrialState.FAIL)
                    self.study.enqueue_trial(trial.params, {PLACE: place})

    def counted(self) -> Sequence[optuna.trial.FrozenTrial]:
        """Return the trials that are finished, pruned, failed for a reason, or running."""
        from optuna.trial import TrialState

        gone = (TrialState.WAITING, TrialState.FAIL)
        trials = self.study.get_trials(deepcopy=False)
        return [trial for trial in trials if trial.state not in gone or WHY in trial.user_attrs]

    def end(self, going: Going, value: float | None) -> None:
        """End the trial with a value, or, with None, as pruned."""
        from optuna.trial import TrialState

        state = TrialState.PRUNED if value is None else TrialState.COMPLETE
        self.study.tell(going.trial, value, state)

    def fail(self, going: Going) -> None:
        """End the trial without a value, for a reason that becomes its attribute WHY."""
        from optuna.trial import TrialState

        self.study.tell(going.trial, state=TrialState.FAIL)

    def ended(self) -> Sequence[optuna.trial.FrozenTrial]:
        """Return the trials that are finished, pruned, or failed for a reason."""
        return [trial for trial in self.counted() if trial.state.is_finished()]

    def _place(self, number: int) -> Path:
        return self._folder / "trials" / str(number)


def _sampler(seed: int) -> optuna.samplers.BaseSampler:
    import optuna

    with warnings.catch_warnings():  # of what Optuna calls experimental: keys that not all methods have
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)
