"""The brute force itself: answers that can be worked out on paper."""

from __future__ import annotations

import pytest

from models.flow.network.arrays import network_of
from models.flow.schema import Problem
from tests.models.flow_problems import routing, supplying
from tests.oracles.flow import Optimum, best, paths_of, simple_paths


def optimum(problem: Problem) -> Optimum:
    found = best(problem)
    assert found is not None
    return found


def test_all_simple_paths_are_found() -> None:
    problem = routing(["a=b 1", "b=c 1", "a=c 1", "x: a-c 1"], ["a>c 1"])
    assert len(list(simple_paths(network_of(problem), 0, 2))) == 3  # over b, and two parallel links
    assert len(paths_of(routing(["a-b 1 latency_ms=2", "y: a-b 1 latency_ms=3"], ["a>b 1 latency_limit_ms=2.5"]))[0]) == 1


def test_two_routes_share_a_demand() -> None:
    links = ["a-b 3 cost=1", "a-c 9 cost=1", "c-b 4 cost=1"]
    assert optimum(routing(links, ["a>b 5"])).values == pytest.approx({"cost": 3 + 2 * 2})
    assert optimum(routing(links, ["a>b 9"], objective="max_throughput")).values == pytest.approx({"throughput": 7})
    assert optimum(routing(links, ["a>b 14"], objective="max_concurrent")).values == pytest.approx({"concurrent": 0.5})
    assert optimum(routing(links, ["a>b 14"], objective="min_max_utilisation")).values == pytest.approx({"max_utilisation": 2})
    assert best(routing(links, ["a>b 8"])) is None


def test_shared_capacity_is_shared() -> None:
    demands = ["a>b 3", "b>a 3"]
    assert optimum(routing(["a=b 4"], demands, objective="max_throughput")).values == pytest.approx({"throughput": 6})
    assert optimum(routing(["a~b 4"], demands, objective="max_throughput")).values == pytest.approx({"throughput": 4})


def test_classes_come_first() -> None:
    found = optimum(routing(["a-b 10"], ["low: a>b 8 priority=1", "high: a>b 7 priority=2"], objective="max_throughput"))
    assert found.values == pytest.approx({"throughput[2]": 7, "throughput[1]": 3})
    assert list(found.values) == ["throughput[2]", "throughput[1]"]


def test_fair_shares_on_a_chain() -> None:
    # Three sessions on a chain of two links: the long one shares each of them.
    found = optimum(routing(["a-b 6", "b-c 10"], ["long: a>c 99", "first: a>b 99", "second: b>c 99"], objective="max_min_fair"))
    assert found.rates == pytest.approx({"long": 3, "first": 3, "second": 7})
    weighed = optimum(routing(["a-b 9"], ["d0: a>b 99 weight=2", "d1: a>b 99", "d2: a>b 1"], objective="max_min_fair"))
    assert weighed.rates == pytest.approx({"d0": 16 / 3, "d1": 8 / 3, "d2": 1})


def test_supplies_may_go_in_circles() -> None:
    links = ["a-b 5 cost=1", "b-c 5 cost=-2", "c-b 5 cost=1"]
    assert optimum(supplying(links, {"a": 2, "b": -2})).values == pytest.approx({"cost": 2 - 5})
    assert best(supplying(["a-b 1"], {"a": 2, "b": -2})) is None
    assert optimum(supplying(["a-b 1"], {"a": 2, "b": -2}, objective="max_concurrent")).values == pytest.approx({"concurrent": 0.5})
    assert optimum(supplying(["a-b 1 lower_gbps=1"], {"a": 3, "b": -2}, objective="max_throughput")).values == pytest.approx(
        {"throughput": 1}
    )
