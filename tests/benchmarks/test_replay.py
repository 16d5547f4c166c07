"""The protocol of the openb arrivals, and that its runs are what they say."""

from __future__ import annotations

import csv

import pytest

from benchmarks import replay
from models.placement.online.planned import Place
from models.placement.online.state import MILLI

pytest.importorskip("scipy")
CAPACITY = 6_212 * MILLI


def test_seed_0_is_the_given_sequence() -> None:
    with (replay.DATA / "arrivals_default.csv").open(encoding="utf-8") as stream:
        given = [row["name"] for row in csv.DictReader(stream)]
    assert [one.id.partition("#")[0] for one in replay.sequence("default", 0)] == given


@pytest.mark.parametrize("trace", replay.TRACES)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_sequence_ends_with_the_pod_by_which_the_demand_exceeds_the_gpus(trace: str, seed: int) -> None:
    arrivals = replay.sequence(trace, seed)
    asked = sum(one.gpu_milli for one in arrivals)
    assert asked - arrivals[-1].gpu_milli <= CAPACITY < asked
    assert len({one.id for one in arrivals}) == len(arrivals)
    assert arrivals == replay.sequence(trace, seed)
    first = {one.id for one in arrivals[: len(replay.pods(trace))]}
    assert first <= set(replay.pods(trace))  # nobody twice before all have come; multigpu20 asks for all GPUs before that
    assert len(first) == min(len(arrivals), len(replay.pods(trace)))


def test_seeds_differ_and_held_out_arrivals_are_of_pods_that_are_not_told() -> None:
    assert [one.id for one in replay.sequence("default", 1)] != [one.id for one in replay.sequence("default", 2)]
    told = {one.id for one in replay.told("default", held_out=True)}
    coming = {one.id.partition("#")[0] for one in replay.sequence("default", 0, held_out=True)}
    assert not told & coming
    assert told | coming == set(replay.pods("default"))


def test_best_fit_comes_out_near_what_was_published_and_the_same_again() -> None:
    first = replay.run("best_fit", "default", 0, {})
    assert first["allocated_percent"] == pytest.approx(92.86, abs=0.3)
    again = replay.run("best_fit", "default", 0, {})
    assert {**first, "cpu_s": 0} == {**again, "cpu_s": 0}


def test_fgd_comes_out_near_what_was_published() -> None:
    assert replay.run("fgd", "default", 0, {})["allocated_percent"] == pytest.approx(95.23, abs=0.3)


def test_ours_runs_with_whatever_places_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given, all_nodes = replay.sequence("default", 0)[::8], replay.nodes()
    monkeypatch.setattr(replay, "sequence", lambda *_, **__: given)
    monkeypatch.setattr(replay, "nodes", lambda: tuple(all_nodes[::12]))
    one = next(pod for pod in replay.pods("default").values() if pod.gpus == 1)
    places = {"quartermaster": [(0, Place(one.kind, (0,)))]}
    found = replay.run("quartermaster", "default", 0, places)
    assert found["refused"] > 0
    assert found["moves"] == 0
    assert 0 < found["first_refused"] < len(given)


def test_the_bound_of_work_that_all_fits_is_its_demand() -> None:
    arrivals = replay.sequence("default", 0)[:300]
    asked = sum(one.gpu_milli for one in arrivals) / MILLI
    assert replay.offline_bound(arrivals) == pytest.approx(asked)
    assert replay.offline_bound(arrivals, must=150) == pytest.approx(asked)


def test_the_summary_has_students_interval() -> None:
    found = replay.summary([{"allocated_percent": value} for value in (95.0, 96.0, 97.0)])
    assert found == {"mean": 96.0, "interval_95": pytest.approx(4.3027 / 3**0.5, abs=1e-4), "lowest": 95.0, "highest": 97.0}
    assert replay.summary([{"allocated_percent": 95.0}])["interval_95"] is None
