"""Keep what a comparison can take from earlier calls in its folder, each with its settings."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from densedist.common.config import Key
from densedist.common.files import write_text
from densedist.common.fingerprint import Fingerprint, differences, refuse_another
from densedist.common.run_files import holds_run

SETTINGS = "settings.json"  # of a run, in its folder
ITERATIONS = "iterations"  # the part that says how long a run is, whatever SOLVER.MAX_ITER it comes from
PACES, SCORES, FILES = "seconds_per_iteration.json", "teachers.json", "files.json"


def refuse_another_run(folder: Path, now: Fingerprint, keys: Mapping[str, Key]) -> None:
    """Refuse a folder that holds a run of other settings.

    Args:
        now: without ITERATIONS where these are not known yet.
        keys: of the task's grammar.

    Raises:
        UserError: the run is of other settings, or has none recorded.
    """
    if holds_run(folder):
        file = folder / SETTINGS
        then = json.loads(file.read_text()) if file.is_file() else None
        if then and ITERATIONS not in now:
            now = now | {ITERATIONS: then[ITERATIONS]}
        refuse_another(str(folder), then, now, keys)


def begin_run(folder: Path, settings: Fingerprint) -> None:
    """Record the settings of a folder's run."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / SETTINGS, json.dumps(settings, indent=1) + "\n")


class Numbers:
    """A JSON file of a number for each of several names, with the settings that it is of.

    Args:
        what: the number's name in the file.
        keys: of the task's grammar.
    """

    def __init__(self, file: Path, what: str, keys: Mapping[str, Key]) -> None:
        self._file, self._what, self._keys = file, what, keys
        self._entries: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}

    def refuse_others(self, now: Mapping[str, Fingerprint]) -> None:
        """Refuse numbers of these names that are of other settings.

        Raises:
            UserError: a number is of other settings, or has none recorded.
        """
        for name, settings in now.items():
            if name in self._entries:
                refuse_another(f"{self._file}: {name}", self._settings(name), settings, self._keys)

    def refuse_unknown(self, names: Sequence[str]) -> None:
        """Refuse numbers of these names that have no settings.

        Raises:
            UserError: a number has no settings recorded.
        """
        for name in names:
            if name in self._entries and self._settings(name) is None:
                refuse_another(f"{self._file}: {name}", None, {}, self._keys)

    def known(self, now: Mapping[str, Fingerprint]) -> dict[str, Any]:
        """Return the numbers known for these names with these settings."""
        known = {name: self._settings(name) for name in now if name in self._entries}
        fits = [
            name for name, then in known.items() if then is not None and not differences(then, now[name], self._keys)
        ]
        return {name: self._entries[name][self._what] for name in fits}

    def keep(self, numbers: Mapping[str, Any], settings: Mapping[str, Fingerprint]) -> None:
        """Write numbers, and keep those that are there already."""
        self._entries |= {name: {self._what: numbers[name], "settings": settings[name]} for name in numbers}
        self._file.parent.mkdir(parents=True, exist_ok=True)
        write_text(self._file, json.dumps(self._entries, indent=1) + "\n")

    def _settings(self, name: str) -> Fingerprint | None:
        entry = self._entries[name]
        return entry["settings"] if isinstance(entry, dict) else None  # a bare number is of an earlier version
