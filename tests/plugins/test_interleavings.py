"""Plan to commit with everything happening in between: by the facts, no order that should not be carried out ever is."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from models.placement.schema import Plan, Problem
from optimizer.limits import Limits
from service.plugins import planner, recheck
from service.plugins.cluster import SeenJob
from service.plugins.follower import Follower
from service.plugins.modes import Mode
from service.plugins.planner import Answer, NoPlanError
from service.plugins.reservations import Reservation, Reservations
from service.plugins.settings import PluginSettings
from service.plugins.telemetry import PluginTelemetry
from tests.plugins.optimisers import Greedy
from tests.plugins.pretend import Machine, Pretend, job
from tests.plugins.quiet import quiet

__all__ = ["quiet"]

SETTINGS = PluginSettings(mode=Mode.enforce, explain_jobs=0, tell_jobs=0)
ROUNDS = 3
COUNTED = PluginTelemetry()  # of all worlds: making the metrics costs as much as a round


class Swift(Greedy):
    """Plans once a round: what the follower compares a plan with is then known."""

    last: Plan | None = None

    def planned(self, problem: Problem, limits: Limits) -> Plan | None:
        Swift.last = super().planned(problem, limits)
        return Swift.last


class Late(Swift):
    """Answers each round with the plan of the round before."""

    before: Answer | None = None

    def solve(self, problem: Problem, limits: Limits, warm_start: Plan | None = None) -> Answer:
        told, self.before = self.before, super().solve(problem, limits, warm_start)
        if told is None:
            raise NoPlanError("late", "the first plan is not made yet")
        return told


@pytest.fixture(autouse=True)
def swift(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "heuristic", lambda *_: Swift.last)


class World:
    """One cluster with a follower and someone who interferes; all of it by one seed."""

    def __init__(self, seed: int, *, trusting: bool) -> None:
        self.rng = rng = random.Random(seed)
        machines = [
            Machine(
                f"n{place}",
                rng.choice([2, 4, 8]),
                cpu_cores=rng.choice([16.0, 64.0]),
                rack=f"r{place // 2}",
                labels={"zone": rng.choice("ab")},
            )
            for place in range(rng.randint(2, 5))
        ]
        slow_s = rng.choice([0.0, 0.0, 5.0, 90.0])
        self.pretend = Pretend(machines, trusting=trusting, tells_gpus=rng.random() < 0.5, slow_s=slow_s)
        self.pretend.duplicates = rng.random() < 0.2
        self.pretend.pins_are_final = rng.random() < 0.2
        self.skew_s = 0.0
        self.interfering = True
        self.count = self.interleavings = 0
        for _ in range(rng.randint(3, 10)):
            self.submit()
        self.optimiser = Swift(meanwhile=self.interfere if trusting else lambda: None)
        self.pretend.before_call = self.between_calls if trusting else lambda call: self.interfere() if call == "commit" else None
        self.follower = Follower(
            self.pretend,
            self.optimiser,
            SETTINGS,
            telemetry=COUNTED,
            clock=lambda: self.pretend.now + self.skew_s,
            monotonic=lambda: self.pretend.now,
        )

    def submit(self) -> None:
        rng, self.count = self.rng, self.count + 1
        workers = rng.choice([1, 1, 1, 2, 3])
        self.pretend.submit(
            job(
                f"j{self.count}",
                rng.choice([0.0, 0.25, 0.5, 1.0, 2.0, 4.0]),
                workers,
                cpu_cores=rng.choice([0.0, 4.0, 12.0]),
                priority=rng.choice([0, 1, 1, 7, 10**6]),
                together="rack" if workers > 1 and rng.random() < 0.3 else None,
                one_worker_per_node=rng.random() < 0.2,
                node_selector={"zone": "a"} if rng.random() < 0.2 else {},
                nodes_allowed=frozenset({"n0", "n1"}) if rng.random() < 0.2 else None,
            ),
            runs_s=rng.choice([20.0, 200.0]),
        )

    def interfere(self) -> None:
        for _ in range(self.rng.randint(0, 4) if self.interfering else 0):
            self.rng.choice(EVENTS)(self)

    def between_calls(self, call: str) -> None:
        """The follower's clock is set while it works: also between its orders and their re-check."""
        if call == "snapshot" and self.interfering and self.rng.random() < 0.1:
            skew(self)

    def waiting(self) -> str | None:
        names = [name for name in self.pretend.waiting if self.pretend.tasks[name].held]
        return self.rng.choice(names) if names else None

    def node(self) -> str:
        return self.rng.choice(list(self.pretend.machines))

    def settle(self) -> None:
        """Nothing happens any more but time: nodes come back, and everything may end."""
        self.interfering = False
        self.skew_s = 0.0
        for name in self.pretend.machines:
            self.pretend.change(name, state="ready")
        for _ in range(40):
            if not self.pretend.tasks:
                return
            self.follower.round()
            self.pretend.advance(45.0)


def drain(world: World) -> None:
    world.pretend.change(world.node(), state=world.rng.choice(["drained", "cordoned", "ready"]))


def shrink(world: World) -> None:
    name = world.node()
    world.pretend.change(name, gpus=max(world.pretend.machines[name].gpus - world.rng.randint(1, 4), 0))


def relabel(world: World) -> None:
    world.pretend.change(world.node(), labels={"zone": world.rng.choice("ab")})


def remove(world: World) -> None:
    name = world.node()
    if len(world.pretend.machines) > 1 and not any(node == name for task in world.pretend.tasks.values() for node, _ in task.on):
        del world.pretend.machines[name]


def cancel(world: World) -> None:
    name = world.waiting()
    if name is not None:
        world.pretend.cancel(name)


def replace_job(world: World) -> None:
    """Cancelled, and another one submitted under the same name."""
    name = world.waiting()
    if name is not None:
        spec = world.pretend.tasks[name].spec
        world.pretend.cancel(name)
        world.pretend.submit(spec, runs_s=50.0)


def resize(world: World) -> None:
    name = world.waiting()
    if name is not None:
        world.pretend.resize(name, gpus_per_worker=world.rng.choice([1.0, 2.0]), workers=world.rng.randint(1, 3), together=None)


def lose_worker(world: World) -> None:
    name = world.waiting()
    if name is not None and world.pretend.tasks[name].spec.workers > 1:
        task = world.pretend.tasks[name]
        world.pretend.resize(name, workers_seen=task.spec.workers - 1)
        task.runs_s = 1.0


def start_elsewhere(world: World) -> None:
    """Someone releases the job by hand, and the scheduler starts it wherever it likes."""
    name = world.waiting()
    if name is not None:
        world.pretend.free([name])


def others_land(world: World) -> None:
    """Jobs that are none of ours take what is free."""
    world.count += 1
    gpus, workers = world.rng.choice([0.5, 1.0, 2.0]), world.rng.randint(1, 3)
    world.pretend.submit(job(f"other{world.count}", gpus, workers, opted_in=False, held=False, cpu_cores=4.0), runs_s=100.0)
    world.pretend.schedule()


def time_passes(world: World) -> None:
    world.pretend.advance(world.rng.choice([1.0, 25.0, 70.0]))


def skew(world: World) -> None:
    world.skew_s += world.rng.choice([-1000.0, -5.0, 5.0, 1000.0])


EVENTS: tuple[Callable[[World], None], ...] = (
    drain,
    shrink,
    relabel,
    remove,
    cancel,
    replace_job,
    resize,
    lose_worker,
    start_elsewhere,
    others_land,
    others_land,
    time_passes,
    skew,
    World.submit,
)


def played(seed: int, *, trusting: bool) -> World:
    world = World(seed, trusting=trusting)
    for _ in range(ROUNDS):
        done = world.follower.round()
        world.interleavings += done.orders is not None and bool(done.orders.orders)
        assert world.pretend.over_allocated() == [], seed
        world.interfere()
    return world


def stuck(world: World) -> list[str]:
    """Jobs that wait although the empty cluster could hold them."""
    return [name for name in world.pretend.waiting if could_run(world.pretend, world.pretend.tasks[name].spec)]


def could_run(pretend: Pretend, spec: SeenJob) -> bool:
    if spec.workers_seen is not None and spec.workers_seen < spec.workers:
        return False
    room: dict[str | None, int] = {}
    for name, machine in pretend.machines.items():
        size = spec.gpus_per_worker
        most = int(machine.gpus // size) if size >= 1 else machine.gpus * int(1 / size) if size else 99
        most = min(most, int(machine.cpu_cores // spec.cpu_cores) if spec.cpu_cores else 99, 1 if spec.one_worker_per_node else 99)
        domain = machine.rack if spec.together is not None else None
        room[domain] = room.get(domain, 0) + (most if pretend.suits(name, spec) else 0)
    return max(room.values()) >= spec.workers


LONG = [pytest.param(part, marks=pytest.mark.long) for part in range(4, 12)]


@pytest.mark.parametrize("part", [*range(4), *LONG])
def test_no_wrong_commit_in_a_thousand_interleavings(part: int) -> None:
    """An interleaving: a round that plans and gives orders, with all that happens between its snapshot and its commit. 250 a part."""
    commits = interleavings = 0
    for seed in range(part * 170, part * 170 + 170):
        world = played(seed, trusting=True)
        assert world.pretend.wrong == [], seed
        commits += sum(task.how == "committed" for task in world.pretend.tasks.values())
        interleavings += world.interleavings
    assert interleavings >= 250
    assert commits > 100


@pytest.mark.parametrize("part", [0, *LONG])
def test_changes_after_the_recheck_are_refused_by_the_scheduler_and_every_job_still_starts(part: int) -> None:
    for seed in range(part * 25, part * 25 + 25):
        world = played(seed, trusting=False)
        world.settle()
        assert world.pretend.over_allocated() == [], seed
        # Of those whose pin can never be taken back, a node may have gone for good.
        assert world.pretend.pins_are_final or stuck(world) == [], seed


@pytest.mark.parametrize("part", [0, *LONG])
def test_every_job_starts_in_the_end(part: int) -> None:
    for seed in range(part * 25, part * 25 + 25):
        world = played(seed, trusting=True)
        world.settle()
        assert world.pretend.wrong == [], seed
        assert world.pretend.pins_are_final or stuck(world) == [], seed


def test_a_plan_that_comes_a_round_too_late_is_checked_like_any_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planner, "not_poor", lambda _, found: found)
    commits = 0
    for seed in range(80):
        world = World(seed, trusting=True)
        world.follower.optimiser = Late(meanwhile=world.interfere)
        for _ in range(5):
            world.follower.round()
            world.interfere()
            assert (world.pretend.wrong, world.pretend.over_allocated()) == ([], []), seed
        commits += sum(task.how == "committed" for task in world.pretend.tasks.values())
    assert commits > 20


def _nothing(*_: object, **__: object) -> None:
    return None


def _no_reservations(_: Reservations) -> Iterator[Reservation]:
    return iter(())


@pytest.mark.parametrize("check", ["recheck", "_of_job", "_of_nodes", "_of_room"])
def test_without_a_recheck_there_are_wrong_commits(check: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recheck.Standing, check, _nothing)
    assert any(_went_wrong(seed) for seed in range(60))


def test_without_reservations_there_are_wrong_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reservations, "__iter__", _no_reservations)
    assert any(_went_wrong(seed) for seed in range(60))


def _went_wrong(seed: int) -> bool:
    try:
        return bool(played(seed, trusting=True).pretend.wrong)
    except (AssertionError, KeyError):  # over-allocated, or a job that there is not
        return True
