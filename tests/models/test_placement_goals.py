"""goals.py and fragmentation.py: every goal and metric of a plan worked out by hand."""

from __future__ import annotations

from random import Random

import pytest

from models.contract import Sense
from models.placement.fragmentation import Free, TaskClass, cluster_fragmentation, node_fragmentation, task_classes
from models.placement.schema import GoalName, Plan, Problem
from models.placement.verify import goals, verify
from tests.models.placement_problems import job, node, plan, problem

TWO = [node("n1"), node("n2")]


def values(case: Problem, answer: Plan) -> dict[str, float]:
    return verify(case, answer).objectives


def test_goals_are_those_of_the_problem_in_its_order() -> None:
    case = problem(TWO, [job("a")], goals=["balance", "placed_value"])
    assert [(goal.name, goal.sense) for goal in goals(case)] == [("balance", Sense.minimise), ("placed_value", Sense.maximise)]
    assert list(values(case, plan(a="n1:0"))) == ["balance", "placed_value"]
    assert [goal.name for goal in goals(problem(TWO, []))] == ["placed_value", "allocated_gpus"]
    assert {goal.name for goal in goals(problem(TWO, [], goals=list(GoalName)))} == set(GoalName)


def test_placed_value_weighs_priority_speed_and_the_workers_that_run() -> None:
    nodes = [node("n1"), node("n2", gpu_model="a100")]
    elastic = job("a", 1, 4, workers_min=2, priority=3, value=2, model_speeds={"h100": 2, "a100": 0.5})
    case = problem(nodes, [elastic, job("b", 0.5)], goals=["placed_value", "allocated_gpus"])
    # a: 3 x 2 x (2 + 2 + 0.5) / 4 = 6.75;  b: 1 x 1 x 1 / 1 = 1
    assert values(case, plan(a="n1:0 n1:1 n2:0", b="n2:1")) == {"placed_value": 7.75, "allocated_gpus": 3.5}


def test_moves_and_evictions_cost_what_the_jobs_say() -> None:
    jobs = [
        job("a", runs="n1:0", running={"move_cost": 4}),
        job("b", runs="n1:1", running={"move_cost": 2}),
        job("c", runs="n2:0", running={"move_cost": 0.5}),
    ]
    case = problem(TWO, jobs, use="repack", max_evictions=2, goals=["evictions", "eviction_cost", "moves"])
    answer = plan(("a",), ("b", "c"), a="n2:1")
    assert verify(case, answer).ok
    assert values(case, answer) == {"evictions": 2, "eviction_cost": 2.5, "moves": 4}


def test_topology_distance_counts_the_named_domains_beyond_the_first() -> None:
    nodes = [
        node("n1", topology={"site": "s", "row": "w1", "rack": "r1"}),
        node("n2", topology={"site": "s", "row": "w1", "rack": "r2"}),
        node("n3", topology={"site": "s", "row": "w2", "rack": "r1"}),
        node("n4"),
    ]
    case = problem(nodes, [job("a", 1, 4), job("b", 1, 2)], goals=["topology_distance"])
    assert values(case, plan(a="n1:0 n2:0 n3:0 n4:0")) == {"topology_distance": 3}  # one more row, two more racks (of other rows)
    assert values(case, plan(b="n4:0 n1:0")) == {"topology_distance": 0}


def test_nodes_powered_and_balance() -> None:
    case = problem([node("n1", 4), node("n2", 2), node("n3", 0)], [job("a", 0.5, 3), job("b", 0)], goals=["nodes_powered", "balance"])
    assert values(case, plan(a="n1:0 n1:0 n2:0", b="n3")) == {"nodes_powered": 3, "balance": 0.25}
    assert values(case, plan()) == {"nodes_powered": 0, "balance": 0}


def test_fragmentation_worked_by_hand() -> None:
    nodes = [node("n1"), node("n2", cpu_cores=1), node("n3", state="drained"), node("n4", 0)]
    jobs = [job("half", 0.5), job("one", 1, 2), job("two", 2, cpu_cores=2)]
    case = problem(nodes, jobs, goals=["fragmentation"])
    # Popularities: half 1/4, one 2/4, two 1/4. With half on GPU 0, n1 has 0.5 and 1 free:
    #   half can use both: 0;  one cannot use the 0.5;  two does not fit: 1.5    ->  0.5 x 0.5 + 0.25 x 1.5 = 0.625
    # n2 has 2 free GPUs; two does not fit its one core: 2                          ->  0.25 x 2           = 0.5
    assert values(case, plan(half="n1:0")) == {"fragmentation": pytest.approx(1.125)}
    assert {task.gpus_per_worker: task.popularity for task in task_classes(case)} == {0.5: 0.25, 1: 0.5, 2: 0.25}


def test_fragmentation_counts_free_shares_too_small_for_the_class_and_other_models_as_lost() -> None:
    small = TaskClass(0.5, 0, 0, (), 0.5)
    other = TaskClass(0.5, 0, 0, ("a100",), 0.5)
    free = Free("h100", 8, 8, (0.25, 0.75, 0.0))
    assert node_fragmentation([small, other], free) == pytest.approx(0.5 * 0.25 + 0.5 * 1.0)
    assert cluster_fragmentation([small, other], [free, free]) == pytest.approx(2 * 0.625)


def test_fragmentation_does_not_mistake_rounding_for_a_lost_share() -> None:
    tenth = TaskClass(0.1, 0, 0, (), 1.0)
    assert node_fragmentation([tenth], Free("h100", 8, 8, (1 - 0.7 - 0.2,))) == 0  # a hair less than 0.1
    assert task_classes(problem(TWO, [job("a", 0)])) == ()


def test_fragmentation_follows_the_definition_on_random_nodes() -> None:
    rng = Random("fragmentation")
    for _ in range(300):
        free = Free(rng.choice(("h100", "a100")), rng.randint(0, 4), rng.randint(0, 4), tuple(rng.randint(0, 8) / 8 for _ in range(4)))
        size, cores, memory = rng.choice((0.25, 0.5, 0.75, 1, 2, 4)), rng.randint(0, 4), rng.randint(0, 4)
        models = rng.choice(((), ("h100",), ("a100", "h100")))
        able = sum(share >= size for share in free.gpus) >= 1 if size < 1 else sum(share == 1 for share in free.gpus) >= size
        fits = able and cores <= free.cpu_cores and memory <= free.memory_gib and (free.gpu_model in models or not models)
        expected = sum(share for share in free.gpus if not fits or share < min(size, 1))
        assert node_fragmentation([TaskClass(size, cores, memory, models, 1.0)], free) == expected


def test_metrics() -> None:
    nodes = [node("n1", power_kw=2), node("n2", power_kw=3), node("n3", state="drained")]
    case = problem(nodes, [job("a", 0.5, runs="n1:0"), job("b", 2), job("c")], use="repack")
    found = verify(case, plan(("a",), a="n1:1", b="n2:0,1")).metrics
    assert found == {
        "allocated_gpus": 2.5,
        "capacity_gpus": 4,
        "allocated_percent": 62.5,
        "placed_jobs": 2,
        "jobs": 3,
        "evictions": 0,
        "gained_gpus": 2.0,
        "moves": 1,
        "nodes_powered": 2,
        "powered_kw": 5,
        # n1 has 0.5 and 1 free, and each class is a third of the workers: one loses 0.5, the double 1.5
        "fragmentation_gpus": pytest.approx(2 / 3),
    }
    assert verify(problem([node("n1", 0)], []), plan()).metrics["allocated_percent"] == 0
