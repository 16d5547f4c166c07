"""Laws that every optimum of a placement obeys, on tiny problems solved to the end; and bounds held against brute force."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import pytest

from models.catalogue import kind
from models.placement.schema import GoalName, JobPlacement, Node, Plan, Problem, Use, WorkerPlace
from models.placement.verify import goals, verify
from models.vocabulary import Topology
from optimizer import neighbourhoods, strategy
from optimizer.incumbents import Bounded, Found, Message, Refuted, lexicographically_better
from optimizer.limits import Limits
from optimizer.result import Outcome
from optimizer.solve import solve
from optimizer.strategy import search
from optimizer.task import Task
from tests.models.placement_problems import tiny_problem
from tests.oracles.placement import best

LIMITS = Limits(time_limit_s=20, gap=0.0)
USES = tuple(Use)
SEEDS = range(12)

each_case = pytest.mark.parametrize(("seed", "use"), [(seed, use) for use in USES for seed in SEEDS])


def optimum(problem: Problem) -> tuple[float, ...] | None:
    """The goals' values, None when there is no plan; solved to the end by the exact program."""
    result = solve(problem, LIMITS, isolate=False)
    assert result.failure is None
    if result.outcome is Outcome.infeasible:
        return None
    # With a gap of exactly 0 a bound may stay a hair above its plan for want of digits.
    assert result.certificate is not None
    assert all(goal.gap <= 1e-6 for goal in result.certificate.goals)
    return tuple(goal.objective for goal in result.certificate.goals)


def close(values: tuple[float, ...] | None) -> Any:
    return None if values is None else pytest.approx(values, rel=1e-6, abs=1e-6)


def without_fragmentation(problem: Problem) -> Problem:
    """Fragmentation counts free capacity, so more of that is no gain."""
    left = tuple(goal for goal in problem.ordered_goals() if goal is not GoalName.fragmentation)
    return problem.model_copy(update={"goals": left or (GoalName.allocated_gpus,)})


def larger(problem: Problem) -> Iterator[Problem]:
    """Problems with more of something."""
    node = problem.nodes[0]
    more: dict[str, Any] = {"cpu_cores": node.cpu_cores + 4, "memory_gib": node.memory_gib + 16}
    if node.gpus:
        more |= {"gpus": node.gpus + 1, "gpu_memory_gib": None}
    yield problem.model_copy(update={"nodes": (node.model_copy(update=more), *problem.nodes[1:])})
    spare = Node(id="spare", gpu_model="h100", gpus=2, cpu_cores=16, memory_gib=64, topology=Topology(rack="spare"), power_kw=0.0)
    yield problem.model_copy(update={"nodes": (*problem.nodes, spare)})
    budgets: dict[str, Any] = {"tenants": ()}
    if problem.power_cap_kw is not None:
        budgets["power_cap_kw"] = 2 * problem.power_cap_kw
    if problem.max_moves is not None:
        budgets["max_moves"] = problem.max_moves + 1
    if problem.max_evictions is not None:
        budgets["max_evictions"] = problem.max_evictions + 1
    yield problem.model_copy(update=budgets)


@each_case
def test_more_capacity_never_worsens_the_optimum(seed: int, use: Use) -> None:
    problem = without_fragmentation(tiny_problem(seed, use))
    before = optimum(problem)
    for more in larger(problem):
        after = optimum(Problem.model_validate(more.model_dump()))
        if before is not None:
            assert after is not None
            eased = tuple(
                value - 1e-6 if goal.sense == "maximise" else value + 1e-6 for goal, value in zip(goals(problem), before, strict=True)
            )
            assert not lexicographically_better(goals(problem), eased, after)


@each_case
def test_names_and_order_change_nothing(seed: int, use: Use) -> None:
    problem = tiny_problem(seed, use)
    assert optimum(renamed(problem, Random(seed))) == close(optimum(problem))


def renamed(problem: Problem, rng: Random) -> Problem:
    """New names for nodes, jobs and tenants, and all lists in another order."""
    content = problem.model_dump(mode="json")
    new: dict[str, str] = {}
    for part, letter in (("nodes", "m"), ("jobs", "k"), ("tenants", "u")):
        numbers = list(range(len(content[part])))
        rng.shuffle(numbers)
        new |= {one["id"]: f"{letter}-{number}" for one, number in zip(content[part], numbers, strict=True)}
        rng.shuffle(content[part])

    def replaced(thing: Any) -> Any:
        if isinstance(thing, str):
            return new.get(thing, thing)
        if isinstance(thing, list):
            return [replaced(one) for one in thing]
        return {key: replaced(value) for key, value in thing.items()} if isinstance(thing, dict) else thing

    return Problem.model_validate(replaced(content))


@each_case
def test_scaling_values_and_costs_scales_the_goals(seed: int, use: Use) -> None:
    problem = tiny_problem(seed, use)
    scaled = tuple(
        job.model_copy(
            update={
                "value": 4 * job.value,
                "running": job.running.model_copy(update={"move_cost": 2 * job.running.move_cost}) if job.running is not None else None,
            }
        )
        for job in problem.jobs
    )
    factors = {GoalName.placed_value: 4.0, GoalName.moves: 2.0, GoalName.eviction_cost: 2.0}
    before = optimum(problem)
    wanted = (
        None
        if before is None
        else tuple(factors.get(goal, 1.0) * value for goal, value in zip(problem.ordered_goals(), before, strict=True))
    )
    assert optimum(problem.model_copy(update={"jobs": scaled})) == close(wanted)


# ---------------------------------------------------------------- a right plan, broken

Breakage = Callable[[Problem, Plan], Plan]


def first_changed(plan: Plan, change: Callable[[WorkerPlace], WorkerPlace]) -> Plan:
    """The plan with another place for the first worker of its first job."""
    placement = plan.placements[0]
    changed = JobPlacement(job=placement.job, workers=(change(placement.workers[0]), *placement.workers[1:]))
    return plan.model_copy(update={"placements": (changed, *plan.placements[1:])})


def unknown_node(_: Problem, plan: Plan) -> Plan:
    return first_changed(plan, lambda worker: worker.model_copy(update={"node": "nowhere"}))


def gpu_that_is_not_there(_: Problem, plan: Plan) -> Plan:
    return first_changed(plan, lambda worker: worker.model_copy(update={"gpus": (99, *worker.gpus[1:])}))


def one_gpu_more(problem: Problem, plan: Plan) -> Plan:
    gpus = {node.id: node.gpus for node in problem.nodes}
    return first_changed(plan, lambda worker: worker.model_copy(update={"gpus": tuple(range(gpus[worker.node] + 1))}))


def unknown_job(_: Problem, plan: Plan) -> Plan:
    stray = JobPlacement(job="nobody", workers=plan.placements[0].workers)
    return plan.model_copy(update={"placements": (*plan.placements, stray)})


def placed_twice(_: Problem, plan: Plan) -> Plan:
    return plan.model_copy(update={"placements": (*plan.placements, plan.placements[0])})


def a_worker_too_many(problem: Problem, plan: Plan) -> Plan:
    placement = plan.placements[0]
    most = next(job.workers for job in problem.jobs if job.id == placement.job)
    crowd = JobPlacement(job=placement.job, workers=placement.workers[:1] * (most + 1))
    return plan.model_copy(update={"placements": (crowd, *plan.placements[1:])})


def moved_without_running(problem: Problem, plan: Plan) -> Plan:
    waits = next((job.id for job in problem.jobs if job.running is None), "nobody")
    return plan.model_copy(update={"moved": (*plan.moved, waits)})


def evicted_though_placed(_: Problem, plan: Plan) -> Plan:
    return plan.model_copy(update={"evicted": (*plan.evicted, plan.placements[0].job)})


@pytest.mark.parametrize(
    "breakage",
    [
        unknown_node,
        gpu_that_is_not_there,
        one_gpu_more,
        unknown_job,
        placed_twice,
        a_worker_too_many,
        moved_without_running,
        evicted_though_placed,
    ],
    ids=lambda breakage: breakage.__name__,
)
@pytest.mark.parametrize("use", USES)
def test_breaking_a_right_plan_makes_verify_complain(use: Use, breakage: Breakage) -> None:
    broken = 0
    for seed in range(20):
        problem = tiny_problem(seed, use)
        plan = solve(problem, LIMITS, isolate=False).plan if seed < 6 else kind("placement").part("heuristic").heuristic(problem)
        if isinstance(plan, Plan) and plan.placements:
            assert verify(problem, plan).ok
            verdict = verify(problem, breakage(problem, plan))
            assert not verdict.ok
            assert verdict.violations[0].message
            broken += 1
    assert broken >= 5


# ---------------------------------------------------------------- bounds


@pytest.mark.parametrize("columns", [strategy.DIRECT_COLUMNS, -1], ids=["direct", "at scale"])
@pytest.mark.parametrize("use", USES)
def test_no_bound_crosses_the_best_plan(use: Use, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything either strategy reports, in order: each plan is right, each bound holds for the plan that brute force finds."""
    monkeypatch.setattr(strategy, "DIRECT_COLUMNS", columns)
    monkeypatch.setattr(neighbourhoods, "PATIENCE", 3)
    bounded = 0
    for seed in range(25):
        problem = tiny_problem(seed, use)
        known = best(problem)
        sent: list[Message] = []
        start = kind("placement").part("heuristic").heuristic(problem)
        search(Task("placement", problem, Limits(time_limit_s=10), start), sent.append, threading.Event())
        counted = kind("placement").part("heuristic").simple_bounds(problem)
        sent += [Bounded(0.0, "counting", goal, bound, "counting") for goal, bound in counted.items()]
        by_name = {goal.name: place for place, goal in enumerate(goals(problem))}
        for message in sent:
            if isinstance(message, Refuted):
                assert known is None
            elif isinstance(message, Found):
                assert verify(problem, message.plan).ok
                assert known is not None
                assert not lexicographically_better(goals(problem), message.objectives, known.values)
            elif isinstance(message, Bounded) and known is not None:
                place = by_name[message.goal]
                value, maximise = known.values[place], goals(problem)[place].sense == "maximise"
                beyond = value - message.bound if maximise else message.bound - value
                assert beyond <= 1e-6 * max(1.0, abs(value)), f"seed {seed}: {message}, but {known.values} is possible"
                bounded += 1
    assert bounded >= 25
