import random

import numpy as np
import pytest

from benchmarks import baselines, flat, generators
from benchmarks.cluster import Cluster
from benchmarks.fragmentation import Fragmentation
from benchmarks.placement import SUITE, openb
from benchmarks.repack import greedy_repack
from models.placement.schema import GoalName, Job, Node, Plan, Problem, Spread
from models.placement.verify import verify

ONLINE = ("first_fit", "best_fit", "fgd", "size_sorted_best_fit")


def shares(nodes: int = 6, jobs: int = 60, seed: int = 0) -> Problem:
    """A small cluster in the manner of openb: shares, whole GPUs, no GPUs, two models."""
    rng = random.Random(seed)
    sizes = (0.0, 0.25, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0, 1.0, 2.0)
    made = tuple(
        Job(
            id=f"pod-{place}",
            gpus_per_worker=rng.choice(sizes),
            cpu_cores=float(rng.randint(1, 12)),
            memory_gib=float(rng.randint(4, 64)),
            model_speeds=rng.choice(({}, {}, {"T4": 1.0})),
        )
        for place in range(jobs)
    )
    cluster = tuple(
        Node(id=f"n{place}", gpu_model=("T4", "G2")[place % 2], gpus=(2, 4)[place % 2], cpu_cores=48.0, memory_gib=256.0)
        for place in range(nodes)
    )
    return Problem(nodes=cluster, jobs=made, goals=(GoalName.allocated_gpus,))


def value(problem: Problem, plan: Plan | None) -> float:
    assert plan is not None
    verdict = verify(problem, plan)
    assert verdict.ok, verdict.violations
    return verdict.objectives[problem.ordered_goals()[0]]


@pytest.mark.parametrize("name", ONLINE)
@pytest.mark.parametrize("seed", range(4))
def test_online_rules_keep_the_rules(name: str, seed: int) -> None:
    problem = shares(seed=seed)
    assert value(problem, baselines.BASELINES[name](problem, 1.0)) > 10


@pytest.mark.parametrize("name", ["first_fit", "best_fit", "density_first_fit", "density_best_fit"])
def test_gangs_are_placed_whole_and_in_their_racks(name: str) -> None:
    problem = generators.gangs(200, 40, 1)
    assert value(problem, baselines.BASELINES[name](problem, 1.0)) > 0


def test_order_by_value_beats_order_of_arrival() -> None:
    problem = generators.gangs(200, 40, 1)
    assert value(problem, baselines.density_best_fit(problem)) > value(problem, baselines.best_fit(problem))


def test_best_fit_takes_the_tighter_gpu_and_node() -> None:
    nodes = tuple(Node(id=name, gpu_model="T4", gpus=gpus, cpu_cores=8.0, memory_gib=8.0) for name, gpus in (("wide", 4), ("tight", 1)))
    jobs = tuple(Job(id=f"j{place}", gpus_per_worker=0.5) for place in range(3))
    plan = baselines.best_fit(Problem(nodes=nodes, jobs=jobs))
    places = {placement.job: placement.workers[0] for placement in plan.placements}
    assert (places["j0"].node, places["j1"].node, places["j2"].node) == ("tight", "tight", "wide")


def test_the_measure_of_fragmentation_is_that_of_the_kind() -> None:
    problem = shares().model_copy(update={"goals": (GoalName.fragmentation,)})
    plan = baselines.first_fit(problem)
    cluster = Cluster(problem, empty=True)
    jobs = {job.id: job for job in problem.jobs}
    for placement in plan.placements:
        cluster.place(jobs[placement.job], [(cluster.index[worker.node], worker.gpus) for worker in placement.workers])
    found = Fragmentation(problem).expected(cluster.cpu, cluster.memory, cluster.gpus, np.arange(len(problem.nodes)))
    assert found.sum() == pytest.approx(value(problem, plan), rel=1e-9)


def test_fgd_leaves_less_fragmented_than_first_fit() -> None:
    totals = {"fgd": 0.0, "first_fit": 0.0}
    for seed in range(6):
        problem = shares(jobs=30, seed=seed).model_copy(update={"goals": (GoalName.fragmentation,)})
        for name in totals:
            totals[name] += value(problem, baselines.BASELINES[name](problem, 1.0))
    assert totals["fgd"] < totals["first_fit"]


@pytest.mark.parametrize("name", ["flat_mip", "cp_sat"])
def test_the_flat_program_finds_the_optimum_of_small_problems(name: str) -> None:
    problem = shares(nodes=3, jobs=20)
    best = value(problem, baselines.BASELINES[name](problem, 20.0))
    assert best >= max(value(problem, baselines.BASELINES[rule](problem, 1.0)) for rule in ONLINE) - 1e-6
    assert best == pytest.approx(value(problem, flat.flat_mip(problem, 20.0)), rel=1e-3)


def test_the_flat_program_keeps_gangs_quotas_and_racks() -> None:
    problem = generators.gangs(40, 8, 2)
    best = value(problem, flat.flat_mip(problem, 20.0))
    assert best >= value(problem, baselines.density_best_fit(problem)) - 1e-6


def test_a_large_flat_program_is_refused() -> None:
    with pytest.raises(flat.TooLargeError, match="columns"):
        flat.build(generators.gangs(5_000, 1_000, 0))


def test_greedy_repack_gains_within_its_budget() -> None:
    problem = shares(nodes=8, jobs=90, seed=3)
    before = baselines.best_fit(problem)
    repack = generators.repack_openb(problem, before, max_moves=6)
    after = greedy_repack(repack, 6)
    assert value(repack, after) >= value(repack, before)
    assert len(after.moved) <= 6


def test_greedy_repack_moves_a_small_job_to_let_a_large_one_in() -> None:
    nodes = tuple(Node(id=name, gpu_model="T4", gpus=2, cpu_cores=8.0, memory_gib=8.0) for name in ("a", "b"))
    first = Problem(nodes=nodes, jobs=tuple(Job(id=f"s{place}", gpus_per_worker=1.0) for place in range(2)))
    spread = Plan.model_validate(
        {"placements": [{"job": "s0", "workers": [{"node": "a", "gpus": [0]}]}, {"job": "s1", "workers": [{"node": "b", "gpus": [0]}]}]}
    )
    whole = first.model_copy(update={"jobs": (*first.jobs, Job(id="large", gpus_per_worker=2.0))})
    repack = generators.repack_openb(whole, spread, max_moves=1)
    assert value(repack, greedy_repack(repack, 1)) == 4.0
    assert value(repack, greedy_repack(repack, 0)) == 2.0


def test_greedy_preempt_makes_room() -> None:
    problem = generators.preempt_full(40, 0)
    assert 0 < value(problem, baselines.BASELINES["greedy_preempt"](problem, 1.0)) <= 64


def test_rules_that_the_baselines_do_not_know_are_refused() -> None:
    problem = shares()
    jobs = (problem.jobs[0].model_copy(update={"spread": Spread(max_workers=1)}), *problem.jobs[1:])
    with pytest.raises(ValueError, match="spread"):
        baselines.first_fit(problem.model_copy(update={"jobs": jobs}))


def test_every_baseline_that_an_instance_names_exists() -> None:
    assert {name for instance in SUITE.instances for name in instance.baselines} <= set(SUITE.baselines)


def test_best_fit_and_fgd_hit_their_published_values() -> None:
    problem = openb("default")
    for name, published in (("best_fit", 92.86), ("fgd", 95.23)):
        plan = baselines.BASELINES[name](problem, 60.0)
        assert plan is not None
        verdict = verify(problem, plan)
        assert verdict.ok
        # One fixed order against the mean of ten: the ten themselves lie within 0.25 of their mean.
        assert verdict.metrics["allocated_percent"] == pytest.approx(published, abs=0.4)
