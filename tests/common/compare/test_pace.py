"""What an iteration takes beside another method's, on a simulated machine: no clock of this one is asked."""

import pytest

from densedist.common.compare.pace import by_turns


class Machine:
    """A clock that the steps move on."""

    def __init__(self):
        self.now = 0.0


class Simulated:
    """Steps whose batches are made by workers, as a DataLoader has them: each has up to two batches asked of it ahead.

    Args:
        batch: seconds that a worker takes for a batch.
        step: seconds of the step itself.
    """

    def __init__(self, machine, workers, batch, step):
        self.machine, self.workers, self.batch, self.seconds = machine, workers, batch, step
        self.running = False

    def begin(self):
        assert not self.running
        self.running = True
        self.free = [self.machine.now] * self.workers
        self.ready = []
        for number in range(2 * self.workers):
            self._ask(number)
        self.asked = 2 * self.workers

    def _ask(self, number):
        worker = number % self.workers
        self.free[worker] = max(self.free[worker], self.machine.now) + self.batch
        self.ready.append(self.free[worker])

    def step(self):
        assert self.running
        self.machine.now = max(self.machine.now, self.ready.pop(0))
        self._ask(self.asked)
        self.asked += 1
        self.machine.now += self.seconds

    def end(self):
        self.running = False


def as_trained(steps, machine, length=1000):
    """Seconds of a step in a long run."""
    steps.begin()
    for _ in range(50):
        steps.step()
    start = machine.now
    for _ in range(length):
        steps.step()
    steps.end()
    return (machine.now - start) / length


@pytest.mark.parametrize(
    ("workers", "batch", "steps"),
    [(4, 4.0, (0.1, 2.5)), (4, 4.0, (0.1, 0.2)), (2, 1.0, (0.4, 0.6)), (8, 1.0, (1.0, 3.0)), (1, 3.0, (1.0, 3.5))],
    ids=["one waits for its data", "both do", "on the verge", "none does", "one worker"],
)
def test_pace_is_that_of_a_training(workers, batch, steps):
    """Not that of workers that fill their queue while the other method trains."""
    machine = Machine()
    first, second = (Simulated(machine, workers, batch, step) for step in steps)
    wanted = [as_trained(one, machine) for one in (first, second)]
    for ours, theirs in by_turns(first, second, workers, lambda: machine.now):
        assert [ours, theirs] == pytest.approx(wanted, rel=0.05)


def test_without_workers_a_turn_is_a_step():
    machine = Machine()

    class Plain:
        def __init__(self, seconds):
            self.seconds, self.taken = seconds, 0

        def begin(self):
            """No worker."""

        def step(self):
            machine.now += self.seconds
            self.taken += 1

        end = begin

    first, second = Plain(1.0), Plain(3.0)
    assert by_turns(first, second, 0, lambda: machine.now) == [(1.0, 3.0)] * 24
    assert first.taken == second.taken == 24
