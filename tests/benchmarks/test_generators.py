from collections import Counter
from collections.abc import Callable

import pytest

from benchmarks import generators
from benchmarks.baselines import best_fit
from models.placement.schema import Job, Problem, Use
from models.placement.verify import verify
from models.vocabulary import Level


def gpus(job: Job) -> float:
    return job.workers * job.gpus_per_worker


def demand_over_supply(problem: Problem) -> float:
    return sum(map(gpus, problem.jobs)) / sum(node.gpus for node in problem.nodes)


@pytest.mark.parametrize(("jobs", "nodes"), [(12, 2), (100, 20), (700, 130), (5_000, 1_000)])
@pytest.mark.parametrize("seed", [0, 7])
def test_gangs_ask_for_two_and_a_half_clusters(jobs: int, nodes: int, seed: int) -> None:
    problem = generators.gangs(jobs, nodes, seed)
    assert (len(problem.jobs), len(problem.nodes)) == (jobs, nodes)
    assert demand_over_supply(problem) == pytest.approx(2.5, abs=0.05)


@pytest.mark.parametrize("make", [lambda seed: generators.gangs(60, 12, seed), lambda seed: generators.preempt_full(20, seed)])
def test_a_seed_makes_one_instance(make: Callable[[int], Problem]) -> None:
    assert make(3).model_dump_json() == make(3).model_dump_json()
    assert make(3).model_dump_json() != make(4).model_dump_json()


def test_the_gangs_are_what_the_table_says() -> None:
    problem = generators.gangs(5_000, 1_000, 0)
    assert len({node.topology.domain(Level.rack) for node in problem.nodes}) == 63
    assert len({node.gpu_model for node in problem.nodes}) == 3
    assert {node.gpus for node in problem.nodes} == {8}
    assert len(problem.tenants) == 10
    assert {job.priority for job in problem.jobs} == set(range(1, 11))
    sizes = Counter(int(gpus(job)) for job in problem.jobs)
    assert set(sizes) == {1, 2, 4, 8, 16, 32, 64}
    assert sizes[1] > sizes[8] > sizes[64] > 0
    assert max(job.gpus_per_worker for job in problem.jobs) <= 8
    assert {len(job.model_speeds) for job in problem.jobs} == {1, 2, 3}
    required = [job for job in problem.jobs if job.colocate is not None and job.colocate.required and job.colocate.level is Level.rack]
    assert {64.0}.issubset(map(gpus, required))
    assert any(job.colocate is not None and not job.colocate.required for job in problem.jobs)


def test_some_quotas_bind() -> None:
    problem = generators.gangs(5_000, 1_000, 0)
    wanted: Counter[str] = Counter()
    for job in problem.jobs:
        wanted[job.tenant] += int(gpus(job))
    supply = sum(node.gpus for node in problem.nodes)
    fair = {tenant: wanted[tenant] / sum(wanted.values()) * supply for tenant in wanted}
    assert sum(tenant.quota_gpus is not None and tenant.quota_gpus < fair[tenant.id] for tenant in problem.tenants) >= 3
    assert any(tenant.quota_gpus is None for tenant in problem.tenants)


def test_too_few_gangs_are_refused() -> None:
    with pytest.raises(ValueError, match="give between"):
        generators.gangs(10, 1_000, 0)


def test_the_cluster_to_preempt_on_is_full() -> None:
    problem = generators.preempt_full(200, 0)
    running = [job for job in problem.jobs if job.running is not None]
    assert sum(map(gpus, running)) == 1_600
    assert any(job.workers > 1 for job in running)
    assert any(job.running is not None and not job.running.evictable for job in running)
    waiting = next(job for job in problem.jobs if job.id == problem.preempt_for)
    assert gpus(waiting) == 64
    assert waiting.priority == max(job.priority for job in problem.jobs)


def test_a_plan_becomes_what_runs() -> None:
    problem = generators.gangs(60, 12, 0)
    plan = best_fit(problem)
    repack = generators.repack_openb(problem, plan, max_moves=5)
    assert repack.use is Use.repack
    assert repack.max_moves == 5
    assert {job.id for job in repack.jobs if job.running is not None} == {placement.job for placement in plan.placements}
    assert verify(repack, plan).ok


@pytest.mark.long
def test_the_large_instance_has_its_ratio_too() -> None:
    problem = generators.gangs(50_000, 10_000, 0)
    assert demand_over_supply(problem) == pytest.approx(2.5, abs=0.05)
    assert len({node.topology.domain(Level.rack) for node in problem.nodes}) == 625
