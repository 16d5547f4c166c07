"""The protocol of the openb arrivals, and that its runs are what they say."""

from __future__ import annotations

import csv

import pytest

from benchmarks import replay
from models.placement.online.planned import Place
from models.placement.online.state import MILLI, Cluster
from service.replay.fill_arrivals import Pool
from service.replay.fill_solving import Solving, offline_bound
from service.replay.fill_whole import bounds_of, fills_of, pairs_of
from service.replay.filling import POLICIES, Fill, Plans, filled

CAPACITY = 6_212 * MILLI


def run(name: str, trace: str, seed: int) -> Fill:
    """One rule that needs no plan on one sequence."""
    pods = replay.pool(trace)
    return filled(pods, replay.cluster(), POLICIES[name], seed, Plans(replay.cluster(), pods.told(), Solving()))


def test_seed_0_is_the_given_sequence() -> None:
    with (replay.DATA / "arrivals_default.csv").open(encoding="utf-8") as stream:
        given = [row["name"] for row in csv.DictReader(stream)]
    assert [one.id.partition("#")[0] for one in replay.pool("default").arrivals(replay.cluster(), 0)] == given


@pytest.mark.parametrize("trace", replay.TRACES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_sequence_ends_with_the_pod_by_which_the_demand_exceeds_the_gpus(trace: str, seed: int) -> None:
    pods, cluster = replay.pool(trace), replay.cluster()
    arrivals = pods.arrivals(cluster, seed)
    asked = sum(one.gpu_milli for one in arrivals)
    assert asked - arrivals[-1].gpu_milli <= CAPACITY < asked
    assert len({one.id for one in arrivals}) == len(arrivals)
    assert arrivals == pods.arrivals(cluster, seed)
    first = {one.id for one in arrivals[: len(pods.requests)]}
    assert first <= set(pods.requests)  # nobody twice before all have come; multigpu20 asks for all GPUs before that
    assert len(first) == min(len(arrivals), len(pods.requests))


def test_seeds_differ_and_held_out_arrivals_are_of_pods_that_are_not_told() -> None:
    pods, cluster = replay.pool("default"), replay.cluster()
    assert [one.id for one in pods.arrivals(cluster, 1)] != [one.id for one in pods.arrivals(cluster, 2)]
    split = replay.pool("default", held_out=True)
    told = {one.id for one in split.told()}
    coming = {one.id.partition("#")[0] for one in split.arrivals(cluster, 0)}
    assert not told & coming
    assert told | coming == set(pods.requests)


def test_best_fit_comes_out_near_what_was_published_and_the_same_again() -> None:
    first = run("best_fit", "default", 0)
    assert first.measures["allocated_percent"] == pytest.approx(92.86, abs=0.3)
    assert first.measures == run("best_fit", "default", 0).measures


def test_fgd_comes_out_near_what_was_published() -> None:
    assert run("fgd", "default", 0).measures["allocated_percent"] == pytest.approx(95.23, abs=0.3)


def test_ours_runs_with_whatever_places_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    pods = replay.pool("default")
    one = next(pod for pod in pods.requests.values() if pod.gpus == 1)
    some = Cluster(replay.cluster().nodes[::12])
    given = Pool("some", pods.requests, pods.given[::8])
    plans = Plans(some, given.told(), Solving())
    monkeypatch.setattr(Plans, "places", lambda *_: [(0, Place(one.kind, (0,)))])
    found = filled(given, some, POLICIES["quartermaster"], 0, plans)
    assert (found.measures["refused"] or 0) > 0
    assert found.measures["moves"] == 0
    assert 0 < found.first_refused < len(given.given)


def test_the_bound_of_work_that_all_fits_is_its_demand() -> None:
    arrivals = replay.pool("default").arrivals(replay.cluster(), 0)[:300]
    asked = sum(one.gpu_milli for one in arrivals) / MILLI
    assert offline_bound(replay.cluster(), arrivals) == pytest.approx(asked)
    assert offline_bound(replay.cluster(), arrivals, must=150) == pytest.approx(asked)


def test_what_is_written_are_means_intervals_pairs_and_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    small = Cluster(replay.cluster().nodes[::60])
    monkeypatch.setattr(replay, "cluster", lambda: small)
    found = replay.measure("default", ["best_fit", "fgd"], 3, bounds=True, held_out=True)
    assert set(found["rules"]) == {"best_fit", "fgd"}
    split = replay.pool("default", held_out=True)
    fills, _ = fills_of(split, replay.cluster(), [POLICIES["best_fit"], POLICIES["fgd"]], range(3))
    [(against, pair)] = pairs_of(fills)
    assert found["pairs"] == [{"rule": "fgd", "against": against, **replay.difference(pair)}]
    assert found["pairs"][0]["mean"] == pytest.approx(found["rules"]["fgd"]["mean"] - found["rules"]["best_fit"]["mean"], abs=2e-4)
    assert found["bounds"]["runs"][1]["any_percent"] == bounds_of(split, replay.cluster(), 1).any_percent
    assert list(found["bounds"]["means"]) == ["any_percent"]
