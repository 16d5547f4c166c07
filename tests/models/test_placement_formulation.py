"""The exact program against brute force, and each of its rows on an instance that only this row decides."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest

from models.placement.classes import job_classes
from models.placement.formulation import HASTENING, LINKING, build, extract, size, start
from models.placement.schema import Colocate, GoalName, Job, JobPlacement, Node, Plan, Problem, Rule, Spread, Use, WorkerPlace
from models.placement.verify import verify
from models.program import Floats, LinearProgram
from models.vocabulary import Level
from optimizer.backend import ProgramStatus
from optimizer.compile import compile_model
from optimizer.highs import HighsBackend
from optimizer.limits import Limits
from tests.models.placement_problems import tiny_problem
from tests.oracles.placement import best

PAGE = Path(__file__).resolve().parents[2] / "models" / "placement" / "README.md"


def program_of(
    problem: Problem, goal: GoalName | None = None, floors: dict[GoalName, float] | None = None, *, without: str = "", hasten: bool = True
) -> LinearProgram:
    model = build(problem, goal, floors, hasten=hasten)
    if without and model.component(without) is not None:
        model.component(without).deactivate()
    compiled = compile_model(model)
    assert compiled.fallbacks == 0, "every row must be a plain sum, or compiling is slow"
    return compiled.program


def solved(program: LinearProgram) -> tuple[float, Floats] | None:
    """The optimum, or None when there is no solution."""
    result = HighsBackend().solve(program, Limits(time_limit_s=60, gap=0))
    if result.status is ProgramStatus.infeasible:
        return None
    assert result.status is ProgramStatus.optimal, result.detail
    assert result.objective is not None
    assert result.values is not None
    return result.objective, result.values


def optimum(problem: Problem, goal: GoalName | None = None, *, without: str = "", hasten: bool = True) -> float | None:
    found = solved(program_of(problem, goal, without=without, hasten=hasten))
    return None if found is None else found[0]


def extracted(problem: Problem, program: LinearProgram, values: Floats) -> Plan:
    by_name = {block.name: dict(zip(block.ids, values[block.rows].tolist(), strict=True)) for block in program.column_blocks}
    return extract(problem, by_name)  # type: ignore[arg-type]  # the ids are strings


def started(problem: Problem, program: LinearProgram, plan: Plan) -> Floats:
    values = start(problem, plan)
    vector = np.full(program.columns, np.nan)
    for block in program.column_blocks:
        vector[block.rows] = [values[block.name][tuple(str(part) for part in ids)] for ids in block.ids]
    return vector


def lexicographic(problem: Problem) -> tuple[float, ...] | None:
    """Solves goal after goal. Checks at each step that objective, plan, verdict and start say the same."""
    floors: dict[GoalName, float] = {}
    for goal in problem.ordered_goals():
        program = program_of(problem, goal, floors)
        found = solved(program)
        if found is None:
            assert not floors, "a floor that was attained cannot be out of reach"
            return None
        objective, values = found
        plan = extracted(problem, program, values)
        verdict = verify(problem, plan)
        assert verdict.ok, verdict.violations
        assert verdict.objectives[goal] == pytest.approx(objective, abs=1e-6)
        begin = started(problem, program, plan)
        assert program.largest_violation(begin) < 1e-6, [program.row_name(row) for row in range(program.rows)]
        assert program.objective(begin) == pytest.approx(objective, abs=1e-6)
        assert {block.name for block in program.row_blocks} <= {*Rule, *LINKING, *HASTENING}
        floors[goal] = verdict.objectives[goal]
    return tuple(floors.values())


def agrees(problem: Problem) -> None:
    expected = best(problem)
    assert lexicographic(problem) == (None if expected is None else pytest.approx(expected.values, abs=1e-6))


@pytest.mark.parametrize("use", list(Use))
@pytest.mark.parametrize("seed", range(70))
def test_equals_brute_force(use: Use, seed: int) -> None:
    agrees(tiny_problem(seed, use))


@pytest.mark.long
@pytest.mark.parametrize("use", list(Use))
@pytest.mark.parametrize("seed", range(70, 600))
def test_equals_brute_force_on_more(use: Use, seed: int) -> None:
    agrees(tiny_problem(seed, use))


# ---------------------------------------------------------------- classes


def crowded(seed: int, use: Use) -> Problem | None:
    """A tiny problem with twins and triplets among its waiting jobs, many of them gangs with a rule; None when it is not tiny."""
    rng = Random(f"twins {seed}")
    problem = tiny_problem(seed, use)
    running = [job.model_copy(update={"anti_affinity": None}) for job in problem.jobs if job.running is not None]
    jobs = running
    for one in [job for job in problem.jobs if job.running is None][:2]:
        changes: dict[str, Any] = {"anti_affinity": None}
        if rng.random() < 0.7:
            changes |= {"workers": 2, "workers_min": None}
        if rng.random() < 0.5:
            changes |= {"colocate": Colocate(level=rng.choice((Level.rack, Level.row, Level.site, Level.node))), "spread": None}
        elif rng.random() < 0.6:
            changes |= {"colocate": None, "spread": Spread(level=rng.choice((Level.rack, Level.node)), max_workers=1)}
        jobs = [*jobs, *(one.model_copy(update={**changes, "id": f"{one.id}-{twin}"}) for twin in range(rng.choice((2, 2, 3))))]
    try:
        return Problem(**{**dict(problem), "jobs": tuple(jobs)}) if len(running) < 3 else None
    except ValueError:  # a gang that no plan could hold
        return None


@pytest.mark.parametrize("use", [Use.place, Use.repack])
@pytest.mark.parametrize("seed", [0, 1, 3, 5, 8, 9, 11, 14, 16, 18])
def test_classes_of_twins_equal_brute_force(use: Use, seed: int) -> None:
    problem = crowded(seed, use)
    if problem is not None:
        agrees(problem)


def test_classes_are_exactly_the_interchangeable_jobs() -> None:
    rack = Colocate(level=Level.rack)
    problem = placing(
        a=job(),
        b=job(),
        c=job(value=2.0),
        d=job(workers=2, colocate=rack),
        e=job(workers=2, colocate=rack),
        f=job(workers=2, workers_min=1),
        g=job(workers=2, workers_min=1),
        h=job(spread=Spread(max_workers=1)),
        i=job(anti_affinity={"jobs": ["j"]}),
        j=job(),
        k=job(workers=2, colocate=Colocate(level=Level.rack, required=False)),
        m=job(workers=2),
    )
    ids = [[problem.jobs[place].id for place in one.jobs] for one in job_classes(problem)]
    assert ids == [["a", "b", "h"], ["c"], ["d", "e"], ["f"], ["g"], ["i"], ["j"], ["k", "m"]]
    by_distance = problem.model_copy(update={"goals": (GoalName.topology_distance,)})
    assert ["d", "e"] not in [[problem.jobs[place].id for place in one.jobs] for one in job_classes(by_distance)]


# ---------------------------------------------------------------- one instance for each rule


def job(**changes: Any) -> dict[str, Any]:
    return {"gpus_per_worker": 1, **changes}


def node(**changes: Any) -> dict[str, Any]:
    return {"gpu_model": "a100", "gpus": 2, "cpu_cores": 8, "memory_gib": 64, "power_kw": 1.0, **changes}


def placing(nodes: list[dict[str, Any]] | None = None, *, more: dict[str, Any] | None = None, **jobs: dict[str, Any]) -> Problem:
    given = nodes if nodes is not None else [node()]
    return Problem(
        nodes=tuple(Node(id=f"n{number}", **one) for number, one in enumerate(given)),
        jobs=tuple(Job(id=name, **one) for name, one in jobs.items()),
        **(more or {}),
    )


def running(*workers: tuple[str, tuple[int, ...]], **changes: Any) -> dict[str, Any]:
    places = tuple(WorkerPlace(node=name, gpus=gpus) for name, gpus in workers)
    return {"running": {"workers": places, **changes}}


FULL = running(("n0", (0, 1)))
NAMED = job(priority=5)
PREEMPT = {"use": "preempt", "preempt_for": "named"}
RACKS = [node(gpus=1, topology={"rack": "r1"}), node(gpus=1, topology={"rack": "r2"})]

# Rule: an instance whose optimum changes when the rule's rows are taken out, the optimum with them, and without them.
DECIDED: dict[Rule, tuple[Problem, float | None, float | None]] = {
    Rule.node_cpu: (placing(a=job(cpu_cores=6), b=job(cpu_cores=5)), 1, 2),
    Rule.node_memory: (placing(a=job(memory_gib=40), b=job(memory_gib=30)), 1, 2),
    Rule.node_gpus: (placing(a=job(gpus_per_worker=2), b=job()), 1, 2),
    Rule.gpu_share: (placing([node(gpus=1)], a=job(gpus_per_worker=0.75), b=job(gpus_per_worker=0.5)), 1, 2),
    Rule.gpu_memory: (
        placing(
            [node(gpus=1, gpu_memory_gib=16)], a=job(gpus_per_worker=0.25, gpu_memory_gib=10), b=job(gpus_per_worker=0.5, gpu_memory_gib=9)
        ),
        1,
        2,
    ),
    Rule.gang: (placing([node(gpus=1), node(gpu_model="h100")], a=job(workers=2, model_speeds={"a100": 1.0})), 0, 0.5),
    Rule.accepted_model: (placing(more=PREEMPT, named=job(priority=5, model_speeds={"h100": 1.0})), None, 0),
    Rule.node_selector: (placing(more=PREEMPT, named=job(priority=5, node_selector={"disk": "nvme"})), None, 0),
    Rule.drained: (placing([node(state="cordoned")], more=PREEMPT, named=NAMED), None, 0),
    Rule.reserved: (placing([node(reserved_for="red")], more=PREEMPT, named=NAMED), None, 0),
    Rule.tenant_quota: (placing(more={"tenants": ({"id": "default", "quota_gpus": 1},)}, a=job(), b=job()), 1, 2),
    Rule.colocation: (placing(RACKS, a=job(workers=2, colocate={"level": "rack"})), 0, 1),
    Rule.spread: (placing(a=job(workers=2, spread={"max_workers": 1})), 0, 1),
    Rule.anti_affinity: (placing(a=job(anti_affinity={"jobs": ("b",)}), b=job()), 1, 2),
    Rule.running_stays: (
        placing(more={"tenants": ({"id": "default", "quota_gpus": 1},)}, a=job(gpus_per_worker=2, **FULL)),
        None,
        0,
    ),
    Rule.evictable: (placing(more=PREEMPT, a=job(gpus_per_worker=2, **running(("n0", (0, 1)), evictable=False)), named=NAMED), None, 1),
    Rule.move_budget: (
        placing(
            [node(), node()],
            more={"use": "repack", "max_moves": 0},
            a=job(**running(("n0", (0,)))),
            b=job(**running(("n1", (0,)))),
            c=job(gpus_per_worker=2),
        ),
        2,
        3,
    ),
    Rule.eviction_budget: (placing(more={**PREEMPT, "max_evictions": 0}, a=job(gpus_per_worker=2, **FULL), named=NAMED), None, 1),
    Rule.power_cap: (placing(RACKS, more={"power_cap_kw": 1.5}, a=job(), b=job()), 1, 2),
    Rule.must_place: (placing(more=PREEMPT, a=job(gpus_per_worker=2, **FULL), named=NAMED), 1, 0),
}


@pytest.mark.parametrize("rule", list(Rule))
def test_each_rule_decides_an_instance(rule: Rule) -> None:
    problem, kept, left_out = DECIDED[rule]
    assert optimum(problem, hasten=False) == (None if kept is None else pytest.approx(kept))
    assert optimum(problem, without=rule, hasten=False) == (None if left_out is None else pytest.approx(left_out))


@pytest.mark.parametrize("rule", list(Rule))
def test_each_of_these_instances_equals_brute_force(rule: Rule) -> None:
    agrees(DECIDED[rule][0])


def test_a_colocated_gang_that_runs_is_inside_a_domain() -> None:
    problem = placing(RACKS, a=job(workers=2, colocate={"level": "rack"}))
    assert optimum(problem) == 0
    assert optimum(problem, without="colocation_domains") == pytest.approx(1)


def test_a_gang_across_racks_counts_the_second_rack() -> None:
    problem = placing(RACKS, more={"goals": (GoalName.placed_value, GoalName.topology_distance)}, a=job(workers=2))
    for without, distance in (("", 1.0), ("domains_spanned", 0.0)):
        found = solved(program_of(problem, GoalName.topology_distance, {GoalName.placed_value: 1.0}, without=without))
        assert found is not None
        assert found[0] == pytest.approx(distance)


# gpu_whole_or_shared decides which GPU, not how good the plan is; goal_floor has a test of its own.
ELSEWHERE = {"gpu_whole_or_shared", "goal_floor", "colocation_domains", "domains_spanned"}


@pytest.mark.parametrize("name", sorted(LINKING - ELSEWHERE))
def test_each_linking_row_decides_some_instance(name: str) -> None:
    for seed in range(60):
        for use in Use:
            problem = tiny_problem(seed, use)
            for goal in problem.ordered_goals():
                model = build(problem, goal, hasten=False)
                if model.component(name) is None:
                    continue
                kept = solved(compile_model(model).program)
                if kept is not None and optimum(problem, goal, without=name, hasten=False) != pytest.approx(kept[0], abs=1e-6):
                    return
    pytest.fail(f"{name} changes no optimum")


@pytest.mark.parametrize("use", list(Use))
def test_hastening_rows_change_no_optimum(use: Use) -> None:
    for seed in range(25):
        problem = tiny_problem(seed, use)
        plain = optimum(problem, hasten=False)
        assert optimum(problem) == (None if plain is None else pytest.approx(plain, abs=1e-6))


def test_a_shared_gpu_is_never_one_that_a_job_keeps_whole() -> None:
    problem = placing(
        more={"use": "repack", "max_moves": 0},
        a=job(**running(("n0", (0,)))),
        b=job(gpus_per_worker=0.5),
        c=job(gpus_per_worker=2),
    )
    program = program_of(problem)
    found = solved(program)
    assert found is not None
    plan = extracted(problem, program, found[1])
    assert plan.placements[1] == JobPlacement(job="b", workers=(WorkerPlace(node="n0", gpus=(1,)),))


# ---------------------------------------------------------------- floors, conflicts, size, page


def test_a_floor_keeps_an_earlier_goal() -> None:
    goals = (GoalName.placed_value, GoalName.nodes_powered)
    problem = placing(RACKS, more={"goals": goals}, a=job(), b=job())
    assert optimum(problem, GoalName.nodes_powered) == 0
    held = solved(program_of(problem, GoalName.nodes_powered, {GoalName.placed_value: 2.0}))
    assert held is not None
    assert held[0] == pytest.approx(2)
    assert solved(program_of(problem, GoalName.nodes_powered, {GoalName.placed_value: 2.5})) is None


def test_a_goal_that_the_problem_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="balance is not among the goals of the problem: placed_value, allocated_gpus"):
        build(placing(a=job()), GoalName.balance)


@pytest.mark.parametrize("rule", [Rule.accepted_model, Rule.node_selector, Rule.drained, Rule.reserved])
def test_a_named_job_that_no_node_takes_meets_a_row_that_says_why(rule: Rule) -> None:
    block = program_of(DECIDED[rule][0]).row_block(rule)
    assert list(block.ids) == [("named",)]


def test_a_running_job_that_breaks_a_rule_where_it_is_has_rows_that_say_so() -> None:
    problem = placing([node(), node(gpu_model="h100")], a=job(model_speeds={"h100": 1.0}, **running(("n0", (0,)))))
    program = program_of(problem)
    assert solved(program) is None
    assert list(program.row_block("accepted_model").ids) == [("a", "n0")]
    assert list(program.row_block("running_stays").ids) == [("a",)]


@pytest.mark.parametrize("use", list(Use))
def test_size_is_not_below_what_the_rules_need(use: Use) -> None:
    for seed in range(30):
        problem = tiny_problem(seed, use)
        plain = problem.model_copy(update={"goals": (), "power_cap_kw": None})
        if use is Use.preempt and solved(program_of(plain)) is None:
            continue  # such a model has more columns, to say why
        slack = 2 * len(problem.jobs) * len(problem.nodes)  # columns for domains
        assert size(plain) + slack >= program_of(plain).columns


def test_preemption_in_a_full_cluster_is_small() -> None:
    nodes = [node(gpus=8, cpu_cores=64) for _ in range(40)]
    single = {f"j{n}-{gpu}": job(cpu_cores=1, **running((f"n{n}", (gpu,)), move_cost=gpu + 1)) for n in range(40) for gpu in range(8)}
    problem = placing(nodes, more=PREEMPT, **single, named=job(priority=5, workers=4, gpus_per_worker=8))
    program = program_of(problem)
    assert program.columns <= 320 + 40 + 1
    assert lexicographic(problem) == (32, 4 * 36)


def rows_of_page(heading: str) -> set[str]:
    """The names in the third column of the table below a heading."""
    text = PAGE.read_text(encoding="utf-8").split(f"\n{heading}\n", 1)[1].split("\n#", 1)[0]
    lines = [line for line in text.splitlines() if line.startswith("|")][2:]
    return {name for line in lines for name in re.findall(r"`([a-z_]+)(?:\[[^\]]*\])?`", line.split("|")[3])}


def test_page_and_code_name_the_same_rows() -> None:
    assert rows_of_page("### Rules") == set(Rule)
    assert rows_of_page("### What columns mean") == set(LINKING)
    assert rows_of_page("### Rows that only hasten the search") == set(HASTENING)


def test_every_goal_is_on_the_page() -> None:
    text = PAGE.read_text(encoding="utf-8").split("\n## Goals\n", 1)[1].split("\n## ", 1)[0]
    assert set(re.findall(r"^\| `([a-z_]+)`", text, re.MULTILINE)) == set(GoalName)


def test_the_example_on_the_page_is_a_problem_with_the_answer_it_tells() -> None:
    text = PAGE.read_text(encoding="utf-8").split("\n## A run\n", 1)[1]
    block = text.split("```json\n", 1)[1].split("\n```", 1)[0]
    problem = Problem.model_validate(json.loads(block))
    assert lexicographic(problem) == (10.0, 5.5)
