"""How many situations were tried, and what became of them."""

from collections import Counter, defaultdict

from referee.judge import Verdict
from referee.situations import Situation


class Tally:
    """Counts distinct situations by form, and refusals by what is unusual in them."""

    def __init__(self) -> None:
        self.seen: set[Situation] = set()
        self.forms: dict[str, Counter[str]] = defaultdict(Counter)
        self.unusual: dict[str, Counter[str]] = defaultdict(Counter)

    def add(self, situation: Situation, verdict: Verdict) -> None:
        if situation in self.seen:
            return
        self.seen.add(situation)
        word = "read" if verdict.read else "refused"
        self.forms[situation.form][word] += 1
        about = [f"{name} = {value}" for name, value in (*situation.world, *situation.varied)]
        for what in [*about, *([situation.damage] if situation.damage else [])]:
            self.unusual[what][word] += 1

    def lines(self) -> list[str]:
        """The count in all, of each form, and what is refused more often than read."""
        total: Counter[str] = sum(self.forms.values(), Counter())
        lines = [f"{len(self.seen)} situations: {total['read']} read equal to the truth, {total['refused']} refused"]
        lines += [f"  {form}: {c['read']} read, {c['refused']} refused" for form, c in sorted(self.forms.items())]
        often = {what: c for what, c in self.unusual.items() if c["refused"] > c["read"]}
        lines += [f"  mostly refused: {what} ({c['refused']} of {c.total()})" for what, c in sorted(often.items())]
        return lines
