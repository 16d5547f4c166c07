"""The questions about a job that was not submitted, on clusters small enough to try everything."""

from __future__ import annotations

import random
from itertools import chain

import pytest

from models.placement.schema import Colocate, GoalName, Job, Node, Problem, Running, Tenant, Use, WorkerPlace
from models.placement.verify import verify
from models.vocabulary import Level, Topology
from optimizer.limits import Limits
from service.plugins.simulation import rooms
from service.plugins.simulation.answers import Answers, Question
from service.plugins.simulation.asked_job import AskedJob
from service.plugins.simulation.questions import ask
from service.plugins.simulation.rooms import HALF, Found, Rooms, earliest, weights_of, worth, worthless
from service.plugins.simulation.situation import Situation, ahead_of, at, settled
from tests.oracles.placement import best, plans

NOW = 1_000_000.0


def asked(situation: Situation, job: Job) -> Answers:
    found = settled(situation)
    return ask(found, AskedJob(job, job.priority), Rooms(found.problem, Limits(time_limit_s=20), isolate=False))


def drawn(seed: int) -> tuple[Situation, Job]:
    """Up to three nodes of two or three GPUs, up to four running jobs with and without an end, up to two that wait, and the job."""
    rng = random.Random(seed)
    nodes = tuple(
        Node(
            id=f"n{k}",
            gpu_model=rng.choice(["a", "b"]),
            gpus=rng.choice([2, 3]),
            cpu_cores=8,
            memory_gib=8,
            topology=Topology(rack=f"r{k // 2}"),
            state=rng.choice(["ready", "ready", "ready", "cordoned"]),
        )
        for k in range(rng.choice([2, 3]))
    )
    free = {node.id: list(range(node.gpus)) for node in nodes}
    jobs, ends = [], {}
    for k in range(rng.randint(1, 4)):
        node = rng.choice(nodes).id
        size = rng.choice([1, 1, 2])
        if len(free[node]) < size:
            continue
        gpus = tuple(free[node].pop(0) for _ in range(size))
        running = Running(workers=(WorkerPlace(node=node, gpus=gpus),), evictable=rng.random() < 0.7)
        jobs.append(Job(id=f"run{k}", gpus_per_worker=size, cpu_cores=1, priority=rng.randint(1, 3), running=running))
        if rng.random() < 0.8:
            ends[f"run{k}"] = NOW + 60 * rng.randint(-1, 4)
    sizes = [rng.choice([1, 2]) for _ in range(rng.randint(0, 2))]
    jobs += [Job(id=f"wait{k}", gpus_per_worker=size, cpu_cores=1, priority=rng.randint(1, 3)) for k, size in enumerate(sizes)]
    largest = max(node.gpus for node in nodes)
    workers = rng.choice([1, 2])
    job = Job(
        id="asked",
        workers=workers,
        gpus_per_worker=min(rng.choice([1, 2, 3]), largest),
        cpu_cores=1,
        priority=rng.randint(1, 4),
        model_speeds=rng.choice([{}, {}, {"a": 1.0}]),
        colocate=rng.choice([None, Colocate(level=Level.rack)]),
    )
    return Situation(Problem(nodes=nodes, jobs=tuple(jobs)), NOW, ends=ends, submitted={"wait0": 1.0, "wait1": 2.0}), job


def fits(situation: Situation, running: tuple[Job, ...], jobs: tuple[Job, ...]) -> bool:
    """Whether all ``jobs`` find room beside ``running``, by trying everything."""
    wanted = tuple(worth(job, 1, 1.0) for job in jobs)
    found = best(Problem(nodes=situation.problem.nodes, jobs=(*map(worthless, running), *wanted), goals=(GoalName.placed_value,)))
    assert found is not None
    return found.values[0] == len(jobs)


@pytest.mark.parametrize("seed", [*range(20), *(pytest.param(seed, marks=pytest.mark.long) for seed in range(20, 90))])
def test_every_answer_is_what_trying_everything_finds(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "SMALL", 2_000 * (seed % 2))  # by turns the way of a small problem and that of a large one
    raw, job = drawn(seed)
    if job.workers * job.gpus_per_worker > sum(node.gpus for node in raw.problem.nodes):
        pytest.skip("larger than the cluster")
    answers = asked(raw, job)
    situation = settled(raw)
    running, ahead = situation.running, ahead_of(situation, job)
    now = fits(situation, running, (job,))
    first = answers.answer(Question.now)
    assert first is not None
    assert first.possible is now
    for answer in answers.answers:
        assert answer.status == "proved" or not situation.ends
        if answer.plan is not None:
            assert answer.problem is not None
            assert verify(answer.problem, answer.plan).ok

    _check_turn(answers, situation, job, ahead)
    if not now:
        _check_times(answers, situation, job, ahead)
        _check_moves(answers, situation, job)
        _check_evictions(answers, situation, job)


def _check_turn(answers: Answers, situation: Situation, job: Job, ahead: tuple[Job, ...]) -> None:
    answer = answers.answer(Question.in_turn)
    if answer is None:
        return
    weights = weights_of(ahead)
    jobs = (*map(worthless, situation.running), *(worth(one, weights[one.id], 1.0) for one in ahead), worth(job, 1, HALF))
    most, with_job = 0, -1
    for plan, _ in plans(Problem(nodes=situation.problem.nodes, jobs=jobs)):
        placed = {placement.job for placement in plan.placements}
        started = sum(weights[one.id] for one in ahead if one.id in placed)
        most = max(most, started)
        with_job = max(with_job, started) if job.id in placed else with_job
    # Those ahead that can never start weigh nothing in the answer, and nobody starts them here either.
    assert answer.possible is (with_job == most)


def _check_times(answers: Answers, situation: Situation, job: Job, ahead: tuple[Job, ...]) -> None:
    """The earliest of all end times, tried one by one."""
    times = sorted({max(end, NOW) for end in situation.ends.values()})
    alone = [time for time in times if fits(situation, situation.left_at(time), (job,))]
    assert alone == times[len(times) - len(alone) :]  # once there is room, it stays
    later = answers.answer(Question.later)
    assert later is not None
    if times:
        assert (later.starts_at, later.possible) == ((alone[0], True) if alone else (None, False))
    turn = answers.answer(Question.later_in_turn)
    if turn is None:
        return
    left = situation.left_at(times[-1])
    hopeful = tuple(one for one in ahead if fits(situation, left, (one,)))
    together = [time for time in alone if fits(situation, situation.left_at(time), (*hopeful, job))]
    assert (turn.starts_at, turn.possible) == ((together[0], True) if together else (None, False))


def _check_moves(answers: Answers, situation: Situation, job: Job) -> None:
    """The fewest moves of those that may be evicted, by trying everything; the others do not move."""
    jobs = (*map(worthless, situation.running), worth(job, 1, 1.0))
    problem = Problem(nodes=situation.problem.nodes, jobs=jobs, use=Use.repack, goals=(GoalName.placed_value, GoalName.moves))
    firm = {one.id for one in situation.running if one.running is not None and not one.running.evictable}
    able = [
        len(plan.moved)
        for plan, _ in plans(problem)
        if not plan.evicted and not firm.intersection(plan.moved) and any(placement.job == job.id for placement in plan.placements)
    ]
    answer = answers.answer(Question.moves)
    assert answer is not None
    assert (answer.amount, answer.possible) == ((min(able), True) if able else (None, False))
    assert answer.plan is None or not firm.intersection(answer.plan.moved)


def _check_evictions(answers: Answers, situation: Situation, job: Job) -> None:
    problem = Problem(nodes=situation.problem.nodes, jobs=(*situation.running, job), use=Use.preempt, preempt_for=job.id)
    found = best(problem)
    answer = answers.answer(Question.evictions)
    assert answer is not None
    assert (answer.amount, answer.possible) == ((None, False) if found is None else (int(found.values[0]), True))


# ---------------------------------------------------------------- a cluster by hand


def two_nodes(*jobs: Job, **parts: object) -> Problem:
    nodes = tuple(Node(id=name, gpu_model="h100", gpus=8, cpu_cores=64, memory_gib=512) for name in ("a", "b"))
    return Problem.model_validate({"nodes": nodes, "jobs": jobs, **parts})


def held(name: str, node: str, gpus: int, first: int = 0, **parts: object) -> Job:
    running = Running(workers=(WorkerPlace(node=node, gpus=tuple(range(first, first + gpus))),))
    return Job.model_validate({"id": name, "gpus_per_worker": gpus, "running": running, **parts})


def test_a_job_ahead_keeps_the_room_that_only_one_of_them_finds() -> None:
    problem = two_nodes(held("x", "a", 8), held("y", "b", 4), Job(id="first", gpus_per_worker=4, priority=9))
    situation = Situation(problem, NOW, ends={"y": NOW + 600, "x": NOW + 1200})
    answers = asked(situation, Job(id="mine", gpus_per_worker=4, priority=5))
    turn, later = answers.answer(Question.in_turn), answers.answer(Question.later_in_turn)
    assert turn is not None
    assert later is not None
    assert (turn.possible, turn.starting) == (False, ("first",))
    assert (later.starts_at, later.status) == (NOW + 600, "proved")
    before = asked(situation, Job(id="mine", gpus_per_worker=4, priority=10))
    assert before.starts_now
    assert len(before.answers) == 2


@pytest.mark.parametrize(("minutes", "delayed"), [(5, False), (10, False), (11, True), (None, True)])
def test_a_job_that_is_slipped_in_delays_nobody_if_it_ends_in_time(minutes: float | None, delayed: bool) -> None:
    problem = two_nodes(held("x", "a", 8), held("y", "b", 4), Job(id="first", gpus_per_worker=8, priority=9))
    situation = settled(Situation(problem, NOW, ends={"y": NOW + 600, "x": NOW + 3600}))
    job = Job(id="mine", gpus_per_worker=4, priority=5)
    answers = ask(situation, AskedJob(job, 5, minutes), Rooms(problem, isolate=False))
    delay = answers.answer(Question.delay)
    assert delay is not None
    assert delay.possible is not delayed
    assert answers.starts_now is not delayed
    assert ("later" in delay.text) is delayed


def test_a_job_that_can_never_start_is_in_nobodys_way() -> None:
    never = Job(id="never", gpus_per_worker=8, model_speeds={"b200": 1.0}, priority=9)
    answers = asked(Situation(two_nodes(held("x", "a", 8), never), NOW), Job(id="mine", gpus_per_worker=8))
    assert answers.starts_now
    turn = answers.answer(Question.in_turn)
    assert turn is not None
    assert "none can start" in turn.text


def test_what_runs_against_its_own_rules_is_told_and_stays() -> None:
    odd = held("odd", "a", 8, model_speeds={"a100": 1.0})
    rich = held("rich", "b", 4, tenant="team")
    raw = Situation(two_nodes(odd, rich, tenants=(Tenant(id="team", quota_gpus=2),)), NOW)
    situation = settled(raw)
    assert "odd runs where its own rules do not allow it" in situation.warnings[0]
    assert any("team holds 4 GPUs" in warning for warning in situation.warnings)
    quota = asked(raw, Job(id="mine", gpus_per_worker=1, tenant="team")).answer(Question.now)
    assert quota is not None
    assert quota.possible is False
    assert "quota" in quota.text
    assert asked(raw, Job(id="mine", gpus_per_worker=4)).starts_now


def test_jobs_on_a_drained_node_stay_and_it_takes_no_more() -> None:
    nodes = (Node(id="a", gpu_model="h100", gpus=8, cpu_cores=64, memory_gib=512, state="drained"),)
    problem = Problem(nodes=nodes, jobs=(held("x", "a", 2),), use=Use.repack)
    situation = settled(Situation(problem, NOW, ends={"x": NOW + 60}))
    assert situation.problem.nodes[0].state == "cordoned"
    answers = asked(situation, Job(id="mine", gpus_per_worker=1))
    assert [answer.possible for answer in answers.answers] == [False] * 4


def test_later_the_jobs_that_have_ended_are_gone() -> None:
    situation = Situation(two_nodes(held("x", "a", 8), held("y", "b", 8)), NOW, ends={"x": NOW + 60, "y": NOW + 120})
    assert not asked(situation, Job(id="mine", gpus_per_worker=8)).starts_now
    assert asked(at(situation, NOW + 60), Job(id="mine", gpus_per_worker=8)).starts_now
    assert [job.id for job in at(situation, NOW + 90).running] == ["y"]


def test_without_any_known_end_the_time_is_not_known() -> None:
    answers = asked(Situation(two_nodes(held("x", "a", 8), held("y", "b", 8))), Job(id="mine", gpus_per_worker=8, priority=2))
    later, evictions = answers.answer(Question.later), answers.answer(Question.evictions)
    assert later is not None
    assert evictions is not None
    assert later.possible is None
    assert (evictions.amount, evictions.bound) == (1, 1)


@pytest.mark.parametrize("first", range(9))
@pytest.mark.parametrize("unknown", [(), (3,), (2, 5)])
def test_bisection_finds_the_first_time_and_says_what_it_has_proved(first: int, unknown: tuple[int, ...]) -> None:
    problem = two_nodes()
    from models.placement.schema import Plan

    def test(k: int) -> Found:
        return Found(problem, Plan()) if k >= first and k not in unknown else Found(problem, proved=k not in unknown)

    position, refuted, _ = earliest(8, test)
    if first > 7:
        assert (position, refuted) == (None, 7)
    else:
        assert position is not None
        assert position >= first
        assert refuted is None or refuted < first
        if not unknown:
            assert position == first
            assert refuted == (first - 1 if first else None)


def test_weights_keep_the_order_of_priorities() -> None:
    jobs = [Job(id=f"{k}", gpus_per_worker=1, priority=k * k + 1) for k in range(30)]
    weights = weights_of(jobs)
    assert sorted(weights.values()) == [weights[job.id] for job in jobs]
    assert set(weights.values()) == set(range(1, 10))
    assert not weights_of(())
    assert list(chain(weights_of(jobs[:1]).values())) == [1]


def test_a_priority_between_two_or_beyond_all_has_its_place() -> None:
    situation = Situation(two_nodes(), NOW, priorities=(-10, 5, 4_294_901_759))
    assert [situation.rank(one) for one in (-11, -10, 0, 5, 6, 4_294_901_759, 5_000_000_000)] == [1, 2, 3, 4, 5, 6, 7]
    assert [situation.priority(rank) for rank in (1, 2, 4, 5, 6, 7)] == [-11, -10, 5, 6, 4_294_901_759, 4_294_901_760]
    assert all(situation.rank(situation.priority(rank)) == rank for rank in range(1, 8) if rank != 3)
    plain = Situation(two_nodes(), NOW)
    assert (plain.rank(7), plain.priority(7), plain.rank(-3), plain.rank(5_000_000_000)) == (7, 7, 0, 10**9)
