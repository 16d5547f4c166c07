"""Filling a cluster: who comes, what policies allocate, and bounds that hold against every placement there is."""

from __future__ import annotations

import csv
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.placement.online.planning import expected
from models.placement.online.state import MILLI, Cluster, NodeSpec, Request, Seat
from service.replay.comparison import compared
from service.replay.fill_arrivals import Pool, asked_milli, demand_percent, read_pool
from service.replay.fill_solving import Solving, offline_bound
from service.replay.fill_whole import bounds_of, fills_of, mean_bounds, pairs_of
from service.replay.filling import MEASURES, POLICIES, Fill, Plans, filled
from service.replay.jobs import ReplayError
from service.replay.traces import Reading
from tests.service.test_cli import loads_strictly, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NODES = (NodeSpec("a", 2, "T4", 8_000, 8_192), NodeSpec("b", 2, "V100", 6_000, 8_192), NodeSpec("c", 1, "T4", 4_000, 4_096))
PODS = "name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec\n"


def pool(seed: int, count: int = 12) -> Pool:
    """A few jobs of all sorts: shares, whole GPUs, no GPU, of one model or of any."""
    draw, found = np.random.default_rng(seed), {}
    for number in range(count):
        gpus = int(draw.choice([0, 1, 1, 1, 2]))
        share = int(draw.choice([300, 500, 700, MILLI])) if gpus == 1 else MILLI
        models = frozenset({"T4"}) if gpus and draw.random() < 0.2 else frozenset()
        found[f"j{number:02}"] = Request(f"j{number:02}", gpus, share, int(draw.integers(1, 4)) * 1_000, 1_024, models=models)
    return Pool(f"pool {seed}", found)


def seats(cluster: Cluster, request: Request) -> Iterator[Seat]:
    """Every seat that one worker could have now."""
    for node in np.flatnonzero(cluster.fits(request)).tolist():
        able = np.flatnonzero(cluster.free_milli[node] >= request.share_milli).tolist() if request.gpus else []
        for gpus in combinations(able, request.gpus):
            yield Seat(node, gpus)


def most_gpus(cluster: Cluster, arrivals: Sequence[Request], must: int) -> float:
    """The most thousandths of a GPU of any placement that holds the first ``must`` of ``arrivals``: every one is tried."""
    if not arrivals:
        return 0.0
    request, rest = arrivals[0], arrivals[1:]
    best = -np.inf if must else most_gpus(cluster, rest, 0)
    for seat in list(seats(cluster, request)):
        cluster.seat(request, (seat,))
        best = max(best, request.gpu_milli + most_gpus(cluster, rest, max(must - 1, 0)))
        cluster.unseat(request, (seat,))
    return float(best)


# ---------------------------------------------------------------- who comes


@given(seed=st.integers(0, 50), draw=st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_everybody_comes_once_before_anybody_comes_twice_until_all_gpus_are_asked_for(seed: int, draw: int) -> None:
    jobs, cluster = pool(draw), Cluster(NODES)
    arrivals = jobs.arrivals(cluster, seed)
    asked = sum(map(asked_milli, arrivals))
    assert asked - asked_milli(arrivals[-1]) <= cluster.total_milli() < asked
    first = [one.id for one in arrivals[: len(jobs.requests)]]
    assert len(set(first)) == len(first)
    assert set(first) <= set(jobs.requests)
    assert len({one.id for one in arrivals}) == len(arrivals)
    assert [one.id for one in arrivals] == [one.id for one in jobs.arrivals(cluster, seed)]
    assert demand_percent(arrivals, cluster) > 100


def test_a_given_order_is_that_of_seed_0_and_no_other() -> None:
    drawn, cluster = pool(0), Cluster(NODES)
    names = tuple(sorted(drawn.requests, reverse=True))
    one = Pool("p", drawn.requests, names)
    came = [request.id for request in one.arrivals(cluster, 0)]
    assert came == list(names[: len(came)])
    assert one.arrivals(cluster, 1) == drawn.arrivals(cluster, 1)


def test_a_job_that_comes_again_is_called_like_no_other() -> None:
    jobs = {name: Request(name, 1) for name in ("a", "a#2")}
    came = [one.id for one in Pool("p", jobs).arrivals(Cluster(NODES), 0)]
    assert len(set(came)) == len(came) == 6
    assert "a##2" in came or "a#2#2" in came


def test_held_out_jobs_are_those_that_nobody_is_told_of() -> None:
    one = Pool("p", pool(3).requests, held_out=True)
    coming = {request.id.partition("#")[0] for request in one.arrivals(Cluster(NODES), 0)}
    assert not coming & {request.id for request in one.told()}


def test_jobs_without_gpus_never_fill_a_cluster() -> None:
    with pytest.raises(ReplayError, match="so few GPUs"):
        Pool("p", {"a": Request("a", cpu_milli=1)}).arrivals(Cluster(NODES), 0)


def test_a_gang_asks_for_the_gpus_of_all_its_workers_and_is_seated_whole() -> None:
    jobs = Pool("gangs", {f"g{n}": Request(f"g{n}", gpus=1, workers=2) for n in range(4)})
    cluster = Cluster(NODES)
    arrivals = jobs.arrivals(cluster, 0)
    assert len(arrivals) == 3  # 2 + 2 + 2 GPUs are more than 5
    found, _ = fills_of(jobs, cluster, [POLICIES["best_fit"], POLICIES["quartermaster"]], range(2))
    assert {one.measures["allocated_percent"] for one in found} == {80.0}
    assert {one.first_refused for one in found} == {2}
    assert bounds_of(jobs, cluster, 0, found).any_percent >= 80.0


def test_the_pods_of_openb_count_whether_they_ran_or_not(tmp_path: Path) -> None:
    (tmp_path / "pods.csv").write_text(PODS + "p1,1000,1024,1,500,\np2,1000,1024,0,0,\n", encoding="utf-8")
    (tmp_path / "order.csv").write_text("order,name\n0,p2\n1,p1\n2,p1\n", encoding="utf-8")
    found = read_pool("openb", str(tmp_path / "pods.csv"), Reading(Cluster(NODES)), str(tmp_path / "order.csv"))
    assert [one.id for one in found.arrivals(Cluster(NODES), 0)] == ["p2", "p1", "p1#2"]
    (tmp_path / "order.csv").write_text("name\nmagic\n", encoding="utf-8")
    with pytest.raises(ReplayError, match=r"line 2, column 'name': .* has no job 'magic'"):
        read_pool("openb", str(tmp_path / "pods.csv"), Reading(Cluster(NODES)), str(tmp_path / "order.csv"))


# ---------------------------------------------------------------- what is known


@pytest.mark.parametrize("seed", range(5))
def test_what_is_expected_does_not_depend_on_how_many_jobs_are_told_or_come(seed: int) -> None:
    told = pool(seed).told()
    once, thrice = expected(Cluster(NODES), told), expected(Cluster(NODES), [*told, *told, *told])
    assert once.kinds == thrice.kinds
    assert once.counts == pytest.approx(thrice.counts)


# ---------------------------------------------------------------- bounds against every placement


@pytest.mark.parametrize("seed", range(12))
def test_the_bound_holds_against_every_placement_that_takes_the_first_so_many(seed: int) -> None:
    cluster = Cluster(NODES[1:])
    arrivals = pool(seed, 7).arrivals(cluster, seed)[:6]
    for must in range(len(arrivals) + 1):
        best = most_gpus(cluster.copy(), arrivals, must) / MILLI
        bound = offline_bound(cluster, arrivals, must)
        assert bound >= best - 1e-6, (must, best)  # -inf where no placement takes them all
        if must == 0:
            assert bound <= best + 1.0  # near, on 3 GPUs: not a bound that says nothing


@pytest.mark.parametrize("seed", range(6))
def test_no_policy_exceeds_the_bounds_and_moves_keep_the_prefix(seed: int) -> None:
    jobs, cluster = pool(seed), Cluster(NODES)
    names = ("random", "best_fit", "fgd", "quartermaster", "quartermaster_moves", "quartermaster_declining")
    fills, _ = fills_of(jobs, cluster, [POLICIES[name] for name in names], range(2))
    for at in range(2):
        bound = bounds_of(jobs, cluster, at, fills)
        own = {one.policy: one for one in fills if one.seed == at}
        assert all((one.measures["allocated_percent"] or 0) <= bound.any_percent + 1e-6 for one in own.values())
        assert own["quartermaster_moves"].first_refused >= own["quartermaster"].first_refused == bound.must_take
        for one in own.values():
            if bound.must_take is not None and one.first_refused >= bound.must_take:
                assert (one.measures["allocated_percent"] or 0) <= (bound.same_prefix_percent or 0) + 1e-6
    assert mean_bounds([bounds_of(jobs, cluster, 0, fills)], jobs.name)[1] is not None


def test_a_rule_that_had_to_refuse_earlier_may_exceed_the_bound_of_the_same_prefix() -> None:
    """Two halves packed together let 0.9 in, after which neither half fits; spread, they keep 0.9 out and the halves in."""
    cluster = Cluster((NodeSpec("a", 1, "T4"), NodeSpec("b", 1, "T4")))
    arrivals = [Request(f"r{n}", 1, share) for n, share in enumerate((500, 500, 900, 500, 500))]
    assert offline_bound(cluster, arrivals, must=3) == pytest.approx(1.9)
    assert offline_bound(cluster, arrivals) == pytest.approx(2.0)
    for number, seat in ((0, Seat(0, (0,))), (1, Seat(1, (0,)))):
        cluster.seat(arrivals[number], (seat,))
    assert not cluster.fits(arrivals[2]).any()  # it refuses nobody that fits
    assert cluster.fits(arrivals[3]).all()


# ---------------------------------------------------------------- comparisons


def fill(policy: str, seed: int, percent: float) -> Fill:
    return Fill("t", policy, seed, 10, 5, {"allocated_percent": percent, "refused": 1.0, "moves": 0.0}, 0.1)


def test_intervals_and_paired_differences_are_students() -> None:
    from scipy import stats

    first, second = (95.0, 96.0, 97.5), (96.0, 96.5, 99.0)
    fills = [fill("a", n, value) for n, value in enumerate(first)] + [fill("b", n, value) for n, value in enumerate(second)]
    one = next(one for one in compared(fills, MEASURES) if (one.policy, one.measure) == ("b", "allocated_percent"))
    low, high = stats.t.interval(0.95, 2, np.mean(second), stats.sem(second))
    assert [one.low, one.high] == pytest.approx([low, high], rel=1e-6)
    [(against, pair)] = pairs_of(fills)
    differences = np.subtract(second, first)
    low, high = stats.t.interval(0.95, 2, differences.mean(), stats.sem(differences))
    assert against == "a"
    assert [pair.difference_low, pair.difference_high] == pytest.approx([low, high], rel=1e-5)


@pytest.mark.parametrize("name", POLICIES)
def test_a_run_is_the_same_again_and_only_those_refuse_that_say_so(name: str) -> None:
    jobs, cluster = pool(1, 20), Cluster(NODES)
    plans = Plans(cluster, jobs.told(), Solving())
    first, again = (filled(jobs, cluster, POLICIES[name], 2, plans) for _ in range(2))
    assert first.measures == again.measures
    assert cluster.used_milli() == 0
    assert 0 <= (first.measures["allocated_percent"] or 0) <= 100


# ---------------------------------------------------------------- the command

SMALL = ("replay", "40", "--format", "synthetic", "--nodes", "3xV100:8", "--fill", "--seeds", "2")


def test_the_command_fills_and_its_files_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*SMALL, "--bounds", "--out", tmp_path / "made") == 0
    shown = capsys.readouterr().out
    assert "over quartermaster" in shown
    assert "No policy can allocate more than" in shown
    told = loads_strictly((tmp_path / "made" / "fill.json").read_text(encoding="utf-8"))
    assert {one["policy"] for one in told["fills"]} == {"best_fit", "fgd", "quartermaster", "quartermaster_moves"}
    assert len(told["pairs"]) == 6
    assert len(told["bounds"]) == 2
    with (tmp_path / "made" / "fills.csv").open(encoding="utf-8") as stream:
        lines = list(csv.DictReader(stream))
    assert [float(line["allocated_percent"]) for line in lines] == [one["measures"]["allocated_percent"] for one in told["fills"]]
    assert run(*SMALL, "--json", "--policies", "random") == 0
    assert {one["policy"] for one in loads_strictly(capsys.readouterr().out)["compared"]} == {"random"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((*SMALL, "--load", "0.9"), "--fill: jobs come one by one and stay"),
        ((*SMALL, "--move-s", "5"), "--fill: jobs come one by one and stay"),
        ((*SMALL, "--policies", "backfill"), "there is no policy 'backfill' with --fill"),
        ((*SMALL, "--policies", "fgd,fgd"), "names a policy twice"),
        ((*SMALL, "--order", "a.csv", "--order", "b.csv"), "--order: 2 are given for 1 traces"),
        ((*SMALL, "--order", "a.csv", "--held-out"), "leave one of the two out"),
        ((*SMALL, "--order", "nowhere.csv"), "nowhere.csv: cannot be read"),
        ((*SMALL[:6], "--bounds"), "go with --fill only"),
    ],
)
def test_bad_input_is_one_clear_error(arguments: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*arguments) == 2
    shown = capsys.readouterr().err.strip().splitlines()
    assert len(shown) == 1
    assert said in shown[0]
