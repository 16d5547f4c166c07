"""The sentences: when there is room by a plain simulation, who would have to go by trying all sets, and times people can read."""

from __future__ import annotations

import itertools
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from models.contract import Reason
from models.placement.heuristic import heuristic
from models.placement.schema import Plan, Problem, Running
from optimizer.limits import Limits
from service.plugins import planner, why
from service.plugins.cluster import Snapshot
from service.plugins.evictions import Evictions, Remembered, evictions, preemption
from service.plugins.forecast import Forecast, forecasts
from service.plugins.passed import passed
from service.plugins.patience import Patience
from service.plugins.planner import Planned
from service.plugins.problem import Asked, problem
from tests.plugins.optimisers import Broken, Greedy, Here
from tests.plugins.pretend import Machine, Pretend, job

LIMITS = Limits(time_limit_s=5.0)


def world(seed: int) -> Pretend:
    """Running jobs with and without known ends, and a few that wait."""
    rng = random.Random(seed)
    pretend = Pretend([Machine(f"n{place}", rng.choice([2, 4]), cpu_cores=16.0, rack=f"r{place // 2}") for place in range(4)])
    for place in range(8):
        facts: dict[str, Any] = {"held": False, "opted_in": False, "evictable": rng.random() < 0.7, "cpu_cores": 2.0}
        pretend.submit(
            job(f"run{place}", rng.choice([0.5, 1.0, 2.0]), rng.choice([1, 1, 2]), **facts), runs_s=rng.choice([None, 60.0, 120.0, 300.0])
        )
    pretend.schedule()
    pretend.tasks = {name: task for name, task in pretend.tasks.items() if task.on}
    for place in range(4):
        workers = rng.choice([1, 2, 3])
        facts = {"together": rng.choice([None, "rack"]) if workers > 1 else None, "one_worker_per_node": rng.random() < 0.3, "priority": 5}
        pretend.submit(job(f"wait{place}", rng.choice([0.5, 1.0, 2.0, 4.0]), workers, cpu_cores=4.0, **facts))
    return pretend


def empty_plan(asked: Asked) -> Plan:
    """Nothing starts."""
    assert asked.problem is not None
    without = asked.problem.model_copy(update={"jobs": tuple(one for one in asked.problem.jobs if one.running is not None)})
    found = heuristic(without)
    assert found is not None
    return found


def fits(snapshot: Snapshot, name: str) -> bool:
    """Whether the job alone can be placed beside what runs: by the heuristic, which is exact for one job of these kinds."""
    jobs = tuple(one for one in snapshot.jobs if one.running or one.id == name)
    asked = problem(replace(snapshot, jobs=jobs))
    found = heuristic(asked.problem) if asked.problem is not None else None
    return found is not None and any(placement.job == name for placement in found.placements)


@pytest.mark.parametrize("seed", range(25))
def test_forecasts_are_those_of_a_plain_simulation(seed: int) -> None:
    pretend = world(seed)
    snapshot = pretend.snapshot()
    asked = problem(snapshot)
    if asked.problem is None:
        return
    found = forecasts(asked, empty_plan(asked), asked.planned, pretend.now)
    times = sorted({one.ends_at for one in snapshot.jobs if one.running and one.ends_at is not None})
    for name in asked.planned:
        moments = [pretend.now, *times]
        simulated = next(
            (
                at
                for at in moments
                if fits(replace(snapshot, jobs=tuple(one for one in snapshot.jobs if not _ended(one, at, pretend.now))), name)
            ),
            None,
        )
        assert (found[name].at if name in found else None) == simulated, name
        if simulated == pretend.now:
            assert found[name].after == ()


def _ended(one: Any, at: float, now: float) -> bool:
    return bool(one.running) and one.ends_at is not None and at > now and one.ends_at <= at


def test_a_job_past_its_limit_ends_now() -> None:
    pretend = Pretend([Machine("n0", 2)])
    pretend.submit(job("late", 2, held=False), runs_s=10.0)
    pretend.schedule()
    pretend.now += 500.0
    pretend.submit(job("j", 2))
    asked = problem(pretend.snapshot(), held_only=True)
    assert forecasts(asked, empty_plan(asked), ["j"], pretend.now) == {"j": Forecast(pretend.now, ("n0",), ("late",))}


def test_what_the_plan_starts_ends_at_its_time_limit() -> None:
    pretend = Pretend([Machine("n0", 2)])
    pretend.submit(job("short", 2, time_limit_s=600.0, priority=2))
    pretend.submit(job("waits", 2))
    asked = problem(pretend.snapshot(), held_only=True)
    plan = planner.planned(asked, Greedy(), LIMITS).plan
    assert forecasts(asked, plan, ["waits"], pretend.now) == {"waits": Forecast(pretend.now + 600.0, ("n0",), ("short",))}


# ---------------------------------------------------------------- evictions


def fewest(snapshot: Snapshot, name: str, priority: int) -> int | None:
    """The fewest evictions that make room, by trying all sets."""
    able = [one.id for one in snapshot.jobs if one.running and one.evictable and one.priority < priority]
    for count in range(1, len(able) + 1):
        for gone in itertools.combinations(able, count):
            if fits(replace(snapshot, jobs=tuple(one for one in snapshot.jobs if one.id not in gone)), name):
                return count
    return None


def test_evictions_are_the_fewest() -> None:
    told = 0
    for seed in range(4):
        pretend = world(seed)
        snapshot = pretend.snapshot()
        asked = problem(snapshot)
        names = [name for name in asked.planned if not fits(snapshot, name)]
        found = evictions(asked, empty_plan(asked), names, Here(), Limits(time_limit_s=60.0), lambda: 0.0)
        for name in names:
            assert (len(found[name].jobs) if name in found else None) == fewest(snapshot, name, 5), (seed, name)
            told += name in found
            assert name not in found or found[name].fewest
    assert told >= 3


def test_no_eviction_is_looked_for_where_nobody_may_go_or_time_is_up() -> None:
    pretend = Pretend([Machine("n0", 2)])
    pretend.submit(job("runs", 2, held=False, evictable=False))
    pretend.schedule()
    pretend.submit(job("j", 2, priority=9))
    asked = problem(pretend.snapshot(), held_only=True)
    plan = empty_plan(asked)
    assert preemption(asked, plan, "j") is None
    pretend.tasks["runs"].spec = replace(pretend.tasks["runs"].spec, evictable=True)
    asked = problem(pretend.snapshot(), held_only=True)
    assert preemption(asked, plan, "j") is not None
    assert evictions(asked, plan, ["j"], Greedy(), LIMITS, lambda: 0.0) == {"j": Evictions(("runs",), fewest=False)}
    assert evictions(asked, plan, ["j"], Broken(RuntimeError()), LIMITS, iter([0.0, 9.0]).__next__) == {}


def test_evictions_are_remembered_for_a_while_and_as_long_as_they_hold() -> None:
    pretend = Pretend([Machine("n0", 2)])
    pretend.submit(job("runs", 2, held=False, evictable=True))
    pretend.schedule()
    pretend.submit(job("j", 2, priority=9))
    optimiser, remembered, now = Greedy(), Remembered(60.0), [0.0]

    def ask() -> tuple[dict[str, Evictions], int]:
        asked = problem(pretend.snapshot(), held_only=True)
        return remembered.evictions(asked, empty_plan(asked), ["j"], optimiser, LIMITS, lambda: now[0]), len(optimiser.problems)

    victims = {"j": Evictions(("runs",), fewest=False)}
    assert ask() == (victims, 1)
    assert ask() == (victims, 1)
    now[0] = 61.0
    assert ask() == (victims, 2)
    pretend.cancel("runs")
    pretend.submit(job("next", 2, held=False, evictable=True))
    pretend.schedule()
    assert ask() == ({"j": Evictions(("next",), fewest=False)}, 3)


# ---------------------------------------------------------------- sentences


def asked_of(*jobs: Any, machines: int = 2) -> Asked:
    pretend = Pretend([Machine(f"n{place}", 8, rack=f"r{place + 1}") for place in range(machines)])
    for one in jobs:
        pretend.submit(one)
    return problem(pretend.snapshot(), held_only=True)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (job("j", 8), "8 GPUs on one node"),
        (job("j", 1), "1 GPU"),
        (job("j", 0.5), "0.5 of a GPU"),
        (job("j", 4, 2, together="rack"), "8 GPUs (2 workers of 4) on one rack"),
        (job("j", 4, 2, together="rack", together_required=False), "8 GPUs (2 workers of 4)"),
        (job("j", 8, 128, gpu_models=("h100", "a100")), "1,024 h100 or a100 GPUs (128 workers of 8)"),
        (job("j", 0.25, 2, together="nvlink_domain"), "0.5 of a GPU (2 workers of 0.25) on one NVLink domain"),
        (job("j", 0, 3, cpu_cores=4.0), "12 CPU cores (3 workers)"),
    ],
)
def test_needs_in_words(wish: Any, words: str) -> None:
    assert why.need(wish) == words


def test_the_sentence_of_the_issue() -> None:
    asked = asked_of(job("train", 4, 2, together="rack"), job("batch-17", 8))
    now = datetime(2026, 5, 4, 13, 0, tzinfo=UTC).timestamp()
    found = Planned(Plan(), "placed_value", 0.0)
    ahead = {"train": Forecast(now + 70 * 60, ("n1",), ("batch-17",))}
    told = why.waits(asked, found, now, forecasts=ahead, evictions={"train": Evictions(("batch-17",), fewest=True)}, zone=UTC)
    text = (
        "waiting for 8 GPUs (2 workers of 4) on one rack: rack r2 frees at 14:10 at the latest (time limit of batch-17); or evict batch-17"
    )
    assert (told["train"].why, told["train"].status, told["train"].until) == (text, "heuristic", now + 70 * 60)
    assert told["batch-17"].why.endswith("leave no room; no time limit of a running job says when there is room")


def test_a_sentence_is_proved_only_when_all_of_it_is() -> None:
    asked = asked_of(job("a", 8, 3), job("b", 8, 3), machines=3)
    reason = Reason("a", "why_not", "node_gpus", ("a",), "Only 2 of its 3 workers find 8 free GPUs. And 1 alike.", "proved")
    found = Planned(Plan(), "placed_value", 0.0, reasons=(reason,))
    told = why.waits(asked, found, 0.0)
    assert told["a"].status == told["b"].status == "proved"  # b is like a, and explained with it
    assert "only 2 of its 3 workers find 8 free GPUs;" in told["b"].why
    assert why.waits(asked, found, 0.0, evictions={"a": Evictions(("x",), fewest=False)})["a"].status == "heuristic"


def test_times_are_local_and_have_a_date_on_other_days() -> None:
    now = datetime(2026, 5, 4, 23, 30, tzinfo=UTC).timestamp()
    assert why.clock_text(now + 600, now, UTC) == "23:40"
    assert why.clock_text(now + 3_600, now, UTC) == "2026-05-05 00:30"
    assert why.clock_text(now + 3_600, now, timezone(timedelta(hours=2))) == "02:30"


# ---------------------------------------------------------------- who is passed


def starting(asked: Asked, plan: Plan, name: str) -> Problem:
    """What runs, what the plan starts of no lower priority, and the one job that waits."""
    assert asked.problem is not None
    placed = {placement.job: placement.workers for placement in plan.placements}
    mine = asked.jobs[name].priority
    jobs = [one for one in asked.problem.jobs if one.running is not None or one.id == name]
    jobs += [
        one.model_copy(update={"running": Running(workers=placed[one.id])})
        for one in asked.problem.jobs
        if one.running is None and one.id in placed and asked.jobs[one.id].priority >= mine
    ]
    return asked.problem.model_copy(update={"jobs": tuple(jobs)})


def test_passed_are_those_that_fit_without_what_starts_below_them() -> None:
    told = 0
    for seed in range(12):
        rng = random.Random(seed)
        pretend = Pretend([Machine(f"n{place}", 4, cpu_cores=16.0) for place in range(3)])
        for place in range(12):
            size, cores = rng.choice([1.0, 1.0, 2.0, 4.0]), rng.choice([1.0, 4.0, 16.0])
            pretend.submit(job(f"j{place}", size, rng.choice([1, 1, 2]), cpu_cores=cores, priority=rng.randint(1, 4)))
        asked = problem(pretend.snapshot(), held_only=True)
        assert asked.problem is not None
        alike = asked.problem.model_copy(
            update={"jobs": tuple(one.model_copy(update={"value": 1.0 / one.priority}) for one in asked.problem.jobs)}
        )
        plan = heuristic(alike)  # counts jobs, whatever their priority
        assert plan is not None
        placed = {placement.job for placement in plan.placements}
        found = passed(asked, plan, asked.planned)
        for name in set(asked.planned) - placed:
            alone = heuristic(starting(asked, plan, name))
            assert alone is not None
            fitted = any(placement.job == name for placement in alone.placements)
            assert (name in found) == fitted, (seed, name)
            assert all(other in placed and asked.jobs[other].priority < asked.jobs[name].priority for other in found.get(name, ()))
            told += name in found
        assert not placed & set(found)
    assert told >= 5


# ---------------------------------------------------------------- a job that small ones pass


def kept_by(patience: Patience) -> tuple[str, set[str]] | None:
    return (patience.kept.job, set(patience.kept.nodes)) if patience.kept is not None else None


def test_a_large_job_that_has_waited_too_long_gets_its_nodes_kept_free() -> None:
    pretend = Pretend([Machine(f"n{place}", 2) for place in range(3)])
    for place in range(2):
        pretend.submit(job(f"run{place}", 2, held=False, opted_in=False), runs_s=100.0 * (place + 1))
    pretend.schedule()
    pretend.submit(job("large", 2, 2, priority=3))
    patience = Patience(60.0)

    def a_round(*others: str) -> tuple[Asked, Planned]:
        for name in others:
            pretend.submit(job(name, 2, priority=1))
        asked = problem(pretend.snapshot(), held_only=True, kept=patience.kept)
        found = planner.planned(asked, Greedy(), LIMITS)
        patience.note(asked, found, forecasts(asked, found.plan, asked.planned, pretend.now))
        return asked, found

    assert set(a_round("small1")[1].placements) - {"run0", "run1"} == {"small1"}  # it passes the large one
    assert kept_by(patience) is None
    pretend.cancel("small1")
    pretend.now += 61.0
    a_round()
    assert kept_by(patience) == ("large", {"n0", "n2"})
    assert set(a_round("small2")[1].placements) - {"run0", "run1"} == set()
    pretend.advance(60.0)  # run0 has ended
    assert "large" in a_round()[1].placements
    assert kept_by(patience) == ("small2", {"n1"})  # which has waited too long by now


def test_room_is_kept_for_nobody_once_a_more_important_job_waits_or_a_node_closes() -> None:
    pretend = Pretend([Machine("n0", 2), Machine("n1", 2)])
    pretend.submit(job("run", 2, held=False), runs_s=100.0)
    pretend.schedule()
    pretend.submit(job("large", 2, 2))
    pretend.now += 61.0
    for spoil in (lambda: pretend.change("n1", state="cordoned"), lambda: pretend.submit(job("boss", 2, 2, priority=99))):
        patience = Patience(60.0)

        def note(patience: Patience = patience) -> None:
            asked = problem(pretend.snapshot(), held_only=True, kept=patience.kept)
            found = planner.planned(asked, Greedy(), LIMITS)
            patience.note(asked, found, forecasts(asked, found.plan, asked.planned, pretend.now))

        note()
        assert kept_by(patience) == ("large", {"n0", "n1"})
        spoil()
        note()
        assert kept_by(patience) is None
        pretend.change("n1", state="ready")


def test_nodes_are_not_kept_for_ever_beside_a_job_that_does_not_end() -> None:
    pretend = Pretend([Machine("n0", 2), Machine("n1", 2), Machine("n2", 2)])
    pretend.submit(job("stuck", 2, held=False), runs_s=100.0)
    pretend.schedule()
    pretend.submit(job("ends", 2, held=False), runs_s=5_000.0)
    pretend.submit(job("other", 2, held=False), runs_s=9_000.0)
    pretend.schedule()
    pretend.submit(job("large", 2))
    patience = Patience(60.0)
    pretend.now += 61.0
    seen = []
    for _ in range(4):
        asked = problem(pretend.snapshot(), held_only=True, kept=patience.kept)
        found = planner.planned(asked, Greedy(), LIMITS)
        patience.note(asked, found, forecasts(asked, found.plan, asked.planned, pretend.now))
        seen.append(patience.kept.at if patience.kept is not None else None)
        pretend.now += 61.0  # past its limit, and still there
    assert seen[0] == seen[1]
    assert seen[0] is not None
    assert seen[-1] is not None
    assert seen[-1] > seen[0]  # chosen anew
