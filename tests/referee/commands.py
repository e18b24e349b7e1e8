"""Commands one after another in one output folder: a number equals that of a fresh folder, or it is refused."""

import contextlib
import hashlib
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from densedist.common.compare.study import Study
from densedist.common.errors import UserError
from densedist.common.tune.data import Validation
from densedist.common.tune.search import Search
from referee import workshop
from referee.judge import quiet
from referee.situations import folder
from referee.workshop import CHANGES, HARMLESS, Workshop

METHODS = ("none", "dist", "kd", "dist+kd", "dist+unlabeled", "labels", "dist+labels", "labels@SCORE_THRESHOLD=0.7")
METHODS += ("dist@TAU=2", "dist@TEACHER={root}/other", "labels@TEACHER={root}/other")
# KEY VALUE on the command line.
OVERRIDES: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "a learning rate": ("SOLVER.BASE_LR", "0.3"),
    "another student": (),
    "a temperature": ("DISTILL.KD.TAU", "2.0"),
    "a teacher": ("DISTILL.TEACHER.WEIGHTS", "{root}/other"),
    "a test set": ("DATASETS.TEST", "['train']"),
}


@dataclass(frozen=True)
class Command:
    """A comparison or a search, and what was done to the folder before it.

    Args:
        before: names of CHANGES and HARMLESS.
        methods, seeds: of a comparison.
        overrides: the name of OVERRIDES.
        trials: of a search; 0 = it is a comparison.
    """

    before: tuple[str, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    overrides: str = "none"
    equal_time: bool = False
    trials: int = 0


@dataclass(frozen=True)
class Session:
    """Commands of one task in one output folder."""

    task: str
    commands: tuple[Command, ...]


@st.composite
def sessions(pick: st.DrawFn) -> Session:
    """Strategy of two to four commands, between which little changes."""
    changes = st.one_of(st.sampled_from([*HARMLESS]), st.sampled_from([*CHANGES]))
    commands = []
    equal_time = pick(st.booleans())
    for number in range(pick(st.integers(2, 4))):
        methods = pick(st.lists(st.sampled_from(METHODS), min_size=1, max_size=2, unique=True))
        seeds = pick(st.lists(st.sampled_from([0, 1, 2]), min_size=1, max_size=2, unique=True))
        before = pick(st.lists(changes, max_size=2, unique=True)) if number else []
        overrides = pick(st.sampled_from(["none", "none", *OVERRIDES])) if number else "none"
        turned = pick(st.sampled_from([False, False, False, True]))
        trials = pick(st.sampled_from([0, 0, 0, 0, 1, 2]))
        commands.append(Command(tuple(before), tuple(methods), tuple(seeds), overrides, equal_time != turned, trials))
    return Session(pick(st.sampled_from(["det", "seg"])), tuple(commands))


@dataclass(frozen=True)
class Answers:
    """How many commands were answered, and how many refused."""

    answered: int
    refused: int


def judge_session(session: Session) -> Answers:
    """Give the commands in one folder, and each in a fresh one beside it.

    Raises:
        AssertionError: another number than in the fresh folder; a refusal that is none, that changes files, or that
            nothing gives a reason for.
    """
    answered = refused = 0
    with folder() as where, quiet():
        shop = Workshop(Path(where), session.task)
        used, same = Path(where, "used"), True
        for number, command in enumerate(session.commands):
            for name in command.before:
                (CHANGES.get(name) or HARMLESS[name])(shop)
            same &= not set(command.before) & set(CHANGES) and command.overrides == "none"
            fresh = _answer(shop, command, Path(where, f"fresh{number}"))
            there = _contents(used)
            answer = _answer(shop, command, used)
            if isinstance(answer, dict):
                assert answer == fresh, f"command {number + 1}: {_difference(answer, fresh)}"
                answered += 1
                continue
            assert "\n" not in answer, answer
            assert _contents(used) == there, f"command {number + 1} was refused, and has changed its folder: {answer}"
            lengths = {one.equal_time for one in session.commands[: number + 1]}
            fewer = any(0 < command.trials < one.trials for one in session.commands[:number])
            may = not same or isinstance(fresh, str) or len(lengths) > 1 or command.equal_time or fewer
            assert may, f"command {number + 1} is refused without a reason: {answer}"
            refused += 1
    return Answers(answered, refused)


def _answer(shop: Workshop, command: Command, output: Path) -> dict[str, Any] | str:
    """What results.json holds, of a search its best trial; or the line of a refusal."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            if command.trials:
                found = _search(shop, command, output / "search").run()
                return {name: found[name] for name in ("method", "keys", "value")}
            return _study(shop, command, output / "study").run()
    except UserError as error:
        return str(error)


def _study(shop: Workshop, command: Command, output: Path) -> Study:
    return Study(
        workshop.stand_in(shop.task),
        shop.config,
        [method.format(root=shop.root) for method in command.methods],
        command.seeds,
        output,
        _overrides(shop, command),
        [shop.pool],
        command.equal_time,
        train=workshop.train,
        pace=workshop.pace,
    )


def _search(shop: Workshop, command: Command, output: Path) -> Search:
    return Search(
        workshop.stand_in(shop.task),
        shop.config,
        ["dist@TAU=1..8"],
        2.0,
        output,
        command.trials,
        overrides=_overrides(shop, command),
        validation=Validation(["pool"]),
        train=lambda cfg, task, resume, _: workshop.train(cfg, task, resume),
        pace=workshop.pace,
    )


def _overrides(shop: Workshop, command: Command) -> list[str]:
    if command.overrides == "another student":
        return ["MODEL.BACKBONE.FREEZE_AT", "0"] if shop.task == "det" else ["MODEL.ENCODER.DEPTH", "4"]
    return [word.format(root=shop.root) for word in OVERRIDES[command.overrides]]


def _difference(found: Any, wanted: Any, where: str = "") -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        for name in dict.fromkeys([*found, *wanted]):
            if told := _difference(found.get(name), wanted.get(name), f"{where}/{name}"):
                return told
        return ""
    same = found == wanted or (isinstance(found, float) and isinstance(wanted, float) and math.isclose(found, wanted))
    return "" if same else f"{where}: {found}, in a fresh folder {wanted}"


def _contents(root: Path) -> dict[str, str]:
    files: Sequence[Path] = [file for file in root.rglob("*") if file.is_file() and file.suffix not in (".lock", ".db")]
    return {str(file.relative_to(root)): hashlib.sha1(file.read_bytes()).hexdigest() for file in files}
