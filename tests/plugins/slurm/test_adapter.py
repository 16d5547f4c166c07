"""The adapter against a Slurm in memory: what is told to Slurm, and what must never be, whatever happens in between."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable

import pytest

from service.plugins.cluster import Snapshot
from service.plugins.follower import Follower
from service.plugins.modes import Mode
from service.plugins.orders import Order, Seat, Wait
from service.plugins.scheduler import Scheduler, SchedulerError
from service.plugins.settings import PluginSettings
from service.plugins.slurm.adapter import SlurmScheduler, Ways
from service.plugins.slurm.notation import hosts
from service.plugins.slurm.reading import OptIn
from tests.plugins.optimisers import Greedy
from tests.plugins.quiet import quiet
from tests.plugins.slurm.pretended import PretendedSlurm

__all__ = ["quiet"]

ENFORCE = Ways(enforce=True)


def made(slurm: PretendedSlurm, ways: Ways = ENFORCE) -> SlurmScheduler:
    return SlurmScheduler(slurm, ways, clock=lambda: slurm.now, sleep=lambda _: None)


def order(snapshot: Snapshot, name: str, *nodes: str) -> Order:
    job = snapshot.job(name)
    assert job is not None
    versions = {node.id: node.version for node in snapshot.nodes if node.id in nodes}
    return Order(name, job.identity, tuple(Seat(node) for node in nodes), versions, "starts")


def test_it_is_a_scheduler() -> None:
    scheduler: Scheduler = made(PretendedSlurm())
    assert scheduler.name == "slurm"


def test_a_job_is_pinned_released_and_starts_there() -> None:
    slurm = PretendedSlurm()
    name, scheduler = slurm.submit(2), made(slurm)
    done = scheduler.commit([order(scheduler.snapshot(), name, "gpu2", "gpu4")])
    assert [(one.job, one.outcome) for one in done] == [(name, "done")]
    slurm.schedule()
    assert slurm.jobs[name]["nodes"] == "gpu2,gpu4"
    assert "quartermaster placed: starts" in slurm.jobs[name]["admin_comment"]


def drains(slurm: PretendedSlurm, _: str) -> None:
    slurm.drain("gpu2")


def cancels(slurm: PretendedSlurm, name: str) -> None:
    slurm.cancel(name)


def resizes(slurm: PretendedSlurm, name: str) -> None:
    slurm.resize(name, 3)


def renews(slurm: PretendedSlurm, name: str) -> None:
    slurm.jobs[name]["submit_time"] += 60


def releases(slurm: PretendedSlurm, name: str) -> None:
    slurm.jobs[name] |= {"priority": 5, "state_reason": "None"}


def holds(slurm: PretendedSlurm, name: str) -> None:
    slurm.jobs[name]["state_reason"] = "JobHeldAdmin"


def repins(slurm: PretendedSlurm, name: str) -> None:
    slurm.jobs[name]["required_nodes"] = "gpu3"


def shrinks(slurm: PretendedSlurm, _: str) -> None:
    slurm.nodes["gpu2"]["gpus"] = 2


MEDDLING: dict[Callable[[PretendedSlurm, str], None], str] = {
    drains: "refused",
    cancels: "gone",
    resizes: "refused",
    renews: "refused",
    releases: "refused",
    holds: "gone",
    repins: "refused",
    shrinks: "refused",
}


@pytest.mark.parametrize("meddle", MEDDLING)
def test_what_changes_between_the_pin_and_the_release_stops_the_release(meddle: Callable[[PretendedSlurm, str], None]) -> None:
    slurm = PretendedSlurm()
    name, other, scheduler = slurm.submit(2), slurm.submit(1), made(slurm)
    snapshot = scheduler.snapshot()
    slurm.before = lambda step: meddle(slurm, name) if step == "read" else None
    done = scheduler.commit([order(snapshot, name, "gpu2", "gpu4"), order(snapshot, other, "gpu3")])
    assert [one.outcome for one in done] == [MEDDLING[meddle], "done"]
    assert name not in {change.job for change in slurm.told if change.hold is False}
    slurm.before = lambda _: None
    if done[0].outcome == "refused":
        assert not slurm.jobs[name]["required_nodes"], "the pin is taken back"


def test_a_pin_that_slurm_refuses_is_refused_and_the_others_go_on() -> None:
    slurm = PretendedSlurm()
    first, second, scheduler = slurm.submit(), slurm.submit(), made(slurm)
    snapshot = scheduler.snapshot()
    slurm.cancel(first)
    done = scheduler.commit([order(snapshot, first, "gpu1"), order(snapshot, second, "gpu2")])
    assert [one.outcome for one in done] == ["gone", "done"]


@pytest.mark.parametrize("silent", range(1, 5))
def test_an_answer_that_was_lost_is_found_by_looking(silent: int) -> None:
    """Scontrol died: what it had done counts, whether it said so or not."""
    slurm = PretendedSlurm()
    names, scheduler = [slurm.submit(), slurm.submit()], made(slurm)
    snapshot = scheduler.snapshot()
    slurm.silent = silent
    done = scheduler.commit([order(snapshot, name, "gpu1") for name in names])
    assert [one.outcome for one in done] == ["done", "done"]
    assert [slurm.jobs[name]["priority"] for name in names] == [100, 100]


def test_when_slurm_goes_away_between_pin_and_release_nothing_is_released() -> None:
    slurm = PretendedSlurm()
    name, scheduler = slurm.submit(), made(slurm)
    snapshot = scheduler.snapshot()

    def leave(step: str) -> None:
        slurm.down = slurm.down or step == "read"

    slurm.before = leave
    assert [one.outcome for one in scheduler.commit([order(snapshot, name, "gpu1")])] == ["refused"]
    slurm.before, slurm.down = lambda _: None, False
    assert slurm.jobs[name]["priority"] == 0
    again = scheduler.snapshot()
    assert [one.outcome for one in scheduler.commit([order(again, name, "gpu2")])] == ["done"]
    slurm.schedule()
    assert slurm.jobs[name]["nodes"] == "gpu2"


def test_so_many_orders_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sign of life comes after the commits: thousands of them must not look like death."""
    monkeypatch.setattr("service.plugins.slurm.adapter.MOST_COMMITTED", 2)
    slurm = PretendedSlurm()
    names, scheduler = [slurm.submit() for _ in range(3)], made(slurm)
    snapshot = scheduler.snapshot()
    done = scheduler.commit([order(snapshot, name, "gpu1") for name in names])
    assert [one.outcome for one in done] == ["done", "done", "refused"]
    assert {change.job for change in slurm.told} == set(names[:2])


def test_free_takes_our_pin_and_leaves_the_users() -> None:
    slurm = PretendedSlurm()
    pinned, named, scheduler = slurm.submit(), slurm.submit(), made(slurm)
    slurm.jobs[pinned] |= {"required_nodes": "gpu1", "admin_comment": "quartermaster pins: x"}
    slurm.jobs[named]["required_nodes"] = "gpu3"
    assert scheduler.free([pinned, named, "99"]) == (pinned, named)
    assert (slurm.jobs[pinned]["required_nodes"], slurm.jobs[named]["required_nodes"]) == ("", "gpu3")
    slurm.schedule()
    assert slurm.jobs[named]["nodes"] == "gpu3"


def test_free_all_lets_everything_go() -> None:
    slurm = PretendedSlurm()
    held, ranged, released, foreign, scheduler = slurm.submit(), slurm.submit(), slurm.submit(), slurm.submit(comment=""), made(slurm)
    slurm.jobs[ranged]["max_nodes"] = 3
    slurm.jobs[released] |= {"required_nodes": "gpu1", "admin_comment": "quartermaster placed: x", "priority": 9, "state_reason": "None"}
    slurm.jobs[foreign]["admin_comment"] = "someone's words"
    assert set(scheduler.free_all()) == {held, ranged, released}
    assert not slurm.jobs[released]["required_nodes"]
    assert slurm.jobs[foreign]["priority"] == 0, "it did not opt in"


def test_unpin_takes_only_pins_of_ours() -> None:
    slurm = PretendedSlurm()
    ours, theirs, scheduler = slurm.submit(held=False), slurm.submit(held=False), made(slurm)
    slurm.jobs[ours] |= {"required_nodes": "gpu1", "admin_comment": "quartermaster placed: x"}
    slurm.jobs[theirs]["required_nodes"] = "gpu2"
    assert scheduler.unpin([ours, theirs]) == (ours,)
    assert (slurm.jobs[ours]["required_nodes"], slurm.jobs[theirs]["required_nodes"]) == ("", "gpu2")


def test_what_no_plan_can_say_is_released_at_once() -> None:
    slurm = PretendedSlurm()
    name, scheduler = slurm.submit(), made(slurm)
    slurm.jobs[name]["max_nodes"] = 3
    assert scheduler.snapshot().job(name) is None
    assert slurm.jobs[name]["priority"] == 100
    assert "quartermaster freed: it takes 1 to 3 nodes" in slurm.jobs[name]["admin_comment"]


def test_new_jobs_are_held_once() -> None:
    """Without a job_submit plugin. A job that its user released, or that was let go of, is not held again."""
    slurm = PretendedSlurm()
    name, scheduler = slurm.submit(held=False), made(slurm)
    seen = scheduler.snapshot().job(name)
    assert seen is not None
    assert seen.held
    slurm.jobs[name] |= {"priority": 100, "state_reason": "None"}
    seen = scheduler.snapshot().job(name)
    assert seen is not None
    assert not seen.held
    again = slurm.submit(held=False)
    seen = made(slurm, Ways(enforce=True, hold=False)).snapshot().job(again)
    assert seen is not None
    assert not seen.held


def test_released_jobs_get_a_priority_after_their_release() -> None:
    slurm = PretendedSlurm()
    name, scheduler = slurm.submit(), made(slurm, Ways(enforce=True, priority=4242))
    scheduler.commit([order(scheduler.snapshot(), name, "gpu1")])
    assert slurm.jobs[name]["priority"] == 4242


def test_a_wait_is_told_once_and_only_to_held_jobs() -> None:
    slurm = PretendedSlurm()
    name, other, scheduler = slurm.submit(), slurm.submit(held=False, comment=""), made(slurm)
    scheduler.snapshot()
    waits = [Wait(name, "", 'waiting for 8 "GPUs"\non one rack'), Wait(other, "", "no"), Wait("99", "", "no")]
    before = len(slurm.told)
    scheduler.tell(waits)
    scheduler.tell(waits)
    assert [change.job for change in slurm.told[before:]] == [name]
    slurm.down = True
    scheduler.tell([Wait(name, "", "another")])


def test_shadow_mode_tells_slurm_nothing() -> None:
    slurm = PretendedSlurm()
    name = slurm.submit()
    slurm.jobs[slurm.submit()]["max_nodes"] = 3
    slurm.submit(held=False)
    scheduler = made(slurm, Ways())
    snapshot = scheduler.snapshot()
    assert "nobody releases them in shadow mode" in snapshot.warnings[-1]
    assert not [job.id for job in snapshot.jobs if job.opted_in and job.held], "what waits because it is held is no gain of the plan"
    scheduler.tell([Wait(name, "", "x")])
    for call in (
        lambda: scheduler.commit([order(snapshot, name, "gpu1")]),
        lambda: scheduler.free([name]),
        lambda: scheduler.unpin([name]),
    ):
        with pytest.raises(SchedulerError, match="enforce"):
            call()
    with pytest.raises(SchedulerError, match="enforce"):
        scheduler.free_all()
    assert not slurm.told


def test_changes_are_seen_and_silence_ends_in_time() -> None:
    slurm = PretendedSlurm()
    scheduler = SlurmScheduler(slurm, ENFORCE, clock=lambda: slurm.now, sleep=lambda seconds: setattr(slurm, "now", slurm.now + seconds))
    assert scheduler.changed(5.0)
    began = slurm.now
    assert not scheduler.changed(5.0)
    assert slurm.now == pytest.approx(began + 5.0)
    slurm.submit()
    assert scheduler.changed(5.0)


def test_looks_are_some_time_apart_however_much_changes() -> None:
    """While hundreds of jobs are submitted each look finds something: it must not take the time that they need."""
    slurm, looks = PretendedSlurm(), list[float]()
    glance = slurm.glance

    def slow() -> bytes:
        looks.append(slurm.now)
        slurm.now += 0.2
        slurm.submit()
        return glance()

    slurm.glance = slow  # type: ignore[method-assign]
    scheduler = SlurmScheduler(slurm, ENFORCE, clock=lambda: slurm.now, sleep=lambda seconds: setattr(slurm, "now", slurm.now + seconds))
    end = slurm.now + 10
    while slurm.now < end:
        scheduler.changed(1.0)
    assert 24 <= len(looks) <= 26, "0.2 s each, 0.2 s apart"
    slurm.glance = lambda: setattr(slurm, "now", slurm.now + 0.2) or looks.append(slurm.now) or b""  # type: ignore[func-returns-value,method-assign]
    scheduler.changed(1.0)
    looks.clear()
    end = slurm.now + 10
    while slurm.now < end:
        scheduler.changed(1.0)
    assert len(looks) <= 11, "further apart where nothing changes"


# ---------------------------------------------------------------- a thousand random interleavings


class World:
    """A follower of a Slurm in memory, and someone who interferes between its steps; all of it by one seed."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.slurm = PretendedSlurm(self.rng.randint(2, 5))
        for _ in range(self.rng.randint(2, 8)):
            self.submit()
        self.slurm.before = self.interfere
        settings = PluginSettings(mode=Mode.enforce, explain_jobs=0, tell_jobs=0)
        scheduler = SlurmScheduler(self.slurm, Ways(OptIn(), enforce=True), clock=lambda: self.slurm.now, sleep=lambda _: None)
        self.follower = Follower(scheduler, Greedy(), settings, clock=lambda: self.slurm.now, monotonic=lambda: self.slurm.now)

    def submit(self) -> None:
        self.slurm.submit(self.rng.choice([1, 1, 2, 3]), self.rng.choice([1, 1, 2, 4]), held=self.rng.random() < 0.9)

    def interfere(self, step: str) -> None:
        """Before the release itself only what Slurm then weighs: it has no release that depends on what was read."""
        for _ in range(self.rng.randint(0, 2)):
            name, node = self.rng.choice(list(self.slurm.jobs)), self.rng.choice(list(self.slurm.nodes))
            what = self.rng.choice(["drain", "back", "cancel", "finish", "submit"] + ["resize", "renew"] * (step != "release"))
            job = self.slurm.jobs[name]
            if what in {"drain", "back"}:
                self.slurm.drain(node, back=what == "back")
            elif what == "cancel" or (what == "finish" and job["job_state"] == "RUNNING"):
                self.slurm.cancel(name)
            elif what == "resize" and job["priority"] == 0:
                self.slurm.resize(name, self.rng.choice([1, 2]))
            elif what == "renew" and job["priority"] == 0:
                job["submit_time"] += 1
            elif what == "submit":
                self.submit()
        if self.rng.random() < 0.1:
            self.slurm.silent = self.rng.randint(1, 3)
        if self.rng.random() < 0.3:
            self.start()

    def start(self) -> None:
        """Slurm starts what it can, and the judge looks."""
        drained = {name for name, node in self.slurm.nodes.items() if node["flags"]}
        before = {name for name, job in self.slurm.jobs.items() if job["job_state"] == "RUNNING"}
        self.slurm.schedule()
        for name, job in self.slurm.jobs.items():
            if job["job_state"] == "RUNNING" and name not in before:
                where, pin = set(hosts(job["nodes"])), set(hosts(job["required_nodes"]))
                assert not where & drained
                assert len(where) == job["node_count"]
                assert not pin or where == pin, f"job {name} has a pin for another number of nodes than it asks for"
        for name in self.slurm.nodes:
            assert self.slurm.free(name) >= 0

    def play(self) -> None:
        for _ in range(4):
            with contextlib.suppress(SchedulerError):
                self.follower.round()
            self.slurm.now += self.rng.choice([1.0, 30.0, 100.0])
            self.start()

    def settle(self) -> None:
        """Nobody interferes any more: every job starts that fits the cluster at all."""
        self.slurm.before, self.slurm.silent = lambda _: None, 0
        for node in self.slurm.nodes:
            self.slurm.drain(node, back=True)
        for _ in range(len(self.slurm.jobs) + 5):
            self.start()
            for name, job in self.slurm.jobs.items():
                if job["job_state"] == "RUNNING":
                    self.slurm.cancel(name)
            if not self.left():
                return
            self.follower.round()
            self.slurm.now += 61.0
        raise AssertionError(self.left())

    def left(self) -> list[str]:
        """The jobs that have not started and could."""
        most = len(self.slurm.nodes)
        return [name for name, job in self.slurm.jobs.items() if job["job_state"] == "PENDING" and job["node_count"] <= most]


@pytest.mark.parametrize("block", [0, *(pytest.param(block, marks=pytest.mark.long) for block in range(1, 10))])
def test_nothing_in_between_makes_a_wrong_commit(block: int) -> None:
    """1,000 random interleavings: every start is on its pin, whole, on nodes that take jobs; and every job starts in the end."""
    for seed in range(100 * block, 100 * block + 100):
        world = World(seed)
        world.play()
        world.settle()
