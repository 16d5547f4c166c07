"""The ways back from the relaxation to a plan, the parts of a plan, and the whole path that a large problem takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from random import Random

import pytest

from models.contract import Neighbourhood
from models.placement import scale
from models.placement.heuristic import heuristic
from models.placement.schema import GoalName, Plan, Problem, Use
from models.placement.verify import goals, verify
from optimizer import neighbourhoods, strategy
from optimizer.columns import generate
from optimizer.diving import dive
from optimizer.limits import Limits
from optimizer.result import Outcome
from optimizer.solve import solve
from tests.models.placement_problems import job, middling_problem, node, problem, tiny_problem
from tests.oracles.placement import best

SECONDS = 5.0


def guided(case: Problem) -> Plan | None:
    source = scale.relaxation(case, goals(case)[0].name)
    if source is None:
        return None
    values = generate(source, Limits(time_limit_s=SECONDS)).values
    return None if values is None else scale.guided(case, source, values, SECONDS)


def packed(case: Problem) -> Plan | None:
    source = scale.relaxation(case, goals(case)[0].name)
    if source is None:
        return None
    values = generate(source, Limits(time_limit_s=SECONDS)).values
    packing = None if values is None else scale.packing(case, source, values, SECONDS)
    if packing is None:
        return None
    rest = generate(packing.source, Limits(time_limit_s=SECONDS))
    if rest.values is not None:
        dive(packing.begin(rest.live.program), rest.live, Limits(time_limit_s=SECONDS))
    return packing.plan(SECONDS)


WAYS = pytest.mark.parametrize("way", [guided, packed])


@WAYS
@pytest.mark.parametrize(("make", "count"), [(tiny_problem, 100), (middling_problem, 5)], ids=["tiny", "middling"])
def test_the_plan_from_the_relaxation_is_right(
    way: Callable[[Problem], Plan | None], make: Callable[[int, Use], Problem], count: int
) -> None:
    found = 0
    for seed in range(count):
        case = make(seed, Use.place)
        plan = way(case)
        if plan is not None:
            verdict = verify(case, plan)
            assert verdict.ok, (seed, verdict.violations[0].message)
            found += 1
    assert found > count / 2


@WAYS
@pytest.mark.parametrize(
    ("gpus", "sizes", "value"),
    [
        ([8] * 4, {5: 4, 3: 4}, 8),  # each node a five and a three
        ([4] * 3, {0.7: 12, 0.3: 12}, 24),  # each GPU a large and a small share
        ([4] * 2, {3: 2, 0.5: 4}, 6),
        ([8] * 2, {8: 1, 4: 1, 2: 1, 1: 2}, 5),
    ],
)
def test_an_easy_optimum_is_reached(way: Callable[[Problem], Plan | None], gpus: list[int], sizes: dict[float, int], value: float) -> None:
    nodes = [node(f"n{k}", count, cpu_cores=99) for k, count in enumerate(gpus)]
    case = problem(nodes, [job(f"{size}-{k}", size) for size, count in sizes.items() for k in range(count)])
    plan = way(case)
    assert plan is not None
    verdict = verify(case, plan)
    assert verdict.ok
    assert verdict.objectives["placed_value"] == value


@WAYS
def test_gpus_partly_used_power_and_jobs_to_keep_apart(way: Callable[[Problem], Plan | None]) -> None:
    for seed in range(40):
        rng = Random(seed)
        nodes = [node(f"n{k}", rng.choice((3, 4, 5)), gpu_memory_gib=rng.choice((None, 10)), power_kw=1) for k in range(rng.randint(2, 4))]
        jobs = [
            job(f"runs{k}", rng.choice((0.3, 0.4499996, 0.4999996, 1 / 3)), runs=f"n{k}:0", gpu_memory_gib=2) for k in range(len(nodes) - 1)
        ]
        for k in range(12):
            apart = {"jobs": [f"j{(k + 1) % 12}"]} if rng.random() < 0.2 else None
            size = rng.choice((1, 2, 3, 0.21, 1 / 3, 0.34, 0.5, 0.51, 0.7))
            jobs.append(job(f"j{k}", size, gpu_memory_gib=rng.choice((0, 4)), cpu_cores=rng.choice((0, 1)), anti_affinity=apart))
        case = problem(nodes, jobs, power_cap_kw=len(nodes) - rng.choice((0, 1)))
        plan = way(case)
        assert plan is not None
        verdict = verify(case, plan)
        assert verdict.ok, (seed, verdict.violations)


# ---------------------------------------------------------------- parts


def parts_of(case: Problem, plan: Plan, count: int, seed: int = 0) -> Iterator[Neighbourhood]:
    rng = Random(seed)
    source = scale.neighbourhoods(case, plan)
    for _ in range(count):
        part = source(rng, rng.choice((0.25, 0.5, 1.0, 3.0)))
        if part is not None:
            yield part


def seats(plan: Plan) -> dict[str, object]:
    return {placement.job: sorted((worker.node, worker.gpus) for worker in placement.workers) for placement in plan.placements}


def check_part(case: Problem, plan: Plan, part: Neighbourhood) -> None:
    small, start = part.problem, part.plan
    assert isinstance(small, Problem)
    assert isinstance(start, Plan)
    assert Problem.model_validate_json(small.model_dump_json()) == small
    assert verify(small, start).ok, verify(small, start).violations
    assert seats(part.merge(start)) == seats(plan)
    assert verify(case, part.merge(start)).ok
    other = heuristic(small)
    if other is not None:
        assert verify(small, other).ok
        merged = part.merge(other)
        assert verify(case, merged).ok, verify(case, merged).violations
        check_gain(case, plan, part, other)


def check_gain(case: Problem, plan: Plan, part: Neighbourhood, other: Plan) -> None:
    """What a part gains in a goal that counts jobs, the whole plan gains."""
    assert isinstance(part.problem, Problem)
    assert isinstance(part.plan, Plan)
    for goal in GoalName.placed_value, GoalName.allocated_gpus, GoalName.moves, GoalName.eviction_cost:
        whole, small = (one.model_copy(update={"goals": (goal,)}) for one in (case, part.problem))
        inside, outside = (
            verify(where, new).objectives[goal] - verify(where, old).objectives[goal]
            for where, new, old in ((small, other, part.plan), (whole, part.merge(other), plan))
        )
        assert inside == pytest.approx(outside, abs=1e-6), goal


@pytest.mark.parametrize("use", Use)
@pytest.mark.parametrize(("make", "count"), [(tiny_problem, 60), (middling_problem, 6)], ids=["tiny", "middling"])
def test_any_plan_of_a_part_fits_the_whole(use: Use, make: Callable[[int, Use], Problem], count: int) -> None:
    seen = 0
    for seed in range(count):
        case = make(seed, use)
        plan = heuristic(case)
        for part in parts_of(case, plan, 4, seed) if plan is not None else ():
            if plan is not None:
                check_part(case, plan, part)
                seen += 1
    assert seen > count


@pytest.mark.parametrize("use", Use)
def test_the_best_plan_of_a_part_fits_the_whole(use: Use) -> None:
    seen = 0
    for seed in range(25):
        case = tiny_problem(seed, use)
        plan = heuristic(case)
        for part in parts_of(case, plan, 2, seed) if plan is not None else ():
            assert isinstance(part.problem, Problem)
            found = best(part.problem) if len(part.problem.nodes) < 4 else None
            if found is not None:
                verdict = verify(case, part.merge(found.plan))
                assert verdict.ok, (seed, verdict.violations)
                seen += 1
    assert seen > 10


def test_a_part_of_a_repack_holds_whole_jobs() -> None:
    case = middling_problem(0, Use.repack)
    plan = heuristic(case)
    assert plan is not None
    assert len(list(parts_of(case, plan, 20))) > 10


def test_nothing_to_draw_from() -> None:
    case = problem([node("n", state="drained")], [job("a")])
    assert list(parts_of(case, Plan(), 3)) == []


# ---------------------------------------------------------------- the whole path


@pytest.fixture
def at_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every problem counts as a large one, and the search ends soon."""
    monkeypatch.setattr(strategy, "DIRECT_COLUMNS", -1)
    monkeypatch.setattr(neighbourhoods, "PATIENCE", 8)


@pytest.mark.usefixtures("at_scale")
@pytest.mark.parametrize("use", Use)
def test_the_path_of_a_large_problem_on_tiny_ones(use: Use) -> None:
    best_found = seen = 0
    for seed in range(30):
        case = tiny_problem(seed, use)
        expected = best(case) if len(case.nodes) < 4 else None
        if expected is None:
            continue
        result = solve(case, Limits(time_limit_s=1), isolate=False)
        assert result.failure is None, (seed, result.failure)
        if result.certificate is None:
            continue
        assert isinstance(result.plan, Plan)
        assert verify(case, result.plan).ok
        seen += 1
        for goal, certificate, value in zip(goals(case), result.certificate.goals, expected.values, strict=True):
            assert not goal.better(certificate.objective, certificate.bound)
            # Later goals are bounded under what the earlier ones attained: compare only while those are the best.
            assert certificate.gap <= 1e-6 or not goal.better(value, certificate.bound), (seed, goal.name)
            if abs(certificate.objective - value) > 1e-6:
                assert result.outcome is not Outcome.optimal
                break
        else:
            best_found += 1
    assert best_found > 0.7 * seen > 5


@pytest.mark.usefixtures("at_scale")
@pytest.mark.parametrize("use", Use)
def test_the_path_of_a_large_problem_on_middling_ones(use: Use) -> None:
    case = middling_problem(1, use)
    result = solve(case, Limits(time_limit_s=2), isolate=False)
    assert result.failure is None
    assert isinstance(result.plan, Plan)
    assert verify(case, result.plan).ok
    assert result.seconds < 4
