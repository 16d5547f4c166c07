"""The independent check of a routing: right plans pass, each way of breaking one is named, and proofs of fairness cannot be talked into."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from models.contract import MAX_VIOLATIONS, Verdict
from models.flow.network.arrays import network_of, traffic_of
from models.flow.network.tally import tally_of
from models.flow.paths.shortest import shortest
from models.flow.schema import Bundle, FairLevel, FlowTable, Granted, LinkFlow, LinkPrice, Plan, Problem, Route, Rule
from models.flow.verify import goals, verify
from models.program import Floats
from tests.models.flow_problems import exact, random_routing, random_supplies, routing, supplying
from tests.oracles.flow import best, paths_of


def plan(*routes: str, **fields: Any) -> Plan:
    """Routes as ``"d0 2.5 a-b b-c"``."""
    words = [text.split() for text in routes]
    return Plan(routes=tuple(Route(demand=one[0], gbps=float(one[1]), hops=tuple(one[2:])) for one in words), **fields)


def rules(verdict: Verdict) -> set[str]:
    assert verdict.ok == (not verdict.violations)
    return {violation.rule for violation in verdict.violations}


CHAIN = ["a-b 6 cost=1 latency_ms=2", "b-c 10 cost=2 latency_ms=3"]


def chain(objective: str = "max_throughput", **fields: Any) -> Problem:
    return routing(CHAIN, ["long: a>c 4 latency_limit_ms=5", "first: a>b 8", "second: b>c 9"], objective=objective, **fields)


# ---------------------------------------------------------------- demands


def test_goals_and_metrics_of_a_right_plan() -> None:
    found = verify(chain(), plan("long 1 a-b b-c", "first 5 a-b", "second 9 b-c"))
    assert found.ok
    assert found.objectives == {"throughput": 15}
    assert found.metrics == pytest.approx(
        {"max_utilisation": 1.0, "throughput": 15, "concurrent": 0.25, "cost": 26, "demands": 3, "links": 2, "routes": 3}
    )
    assert verify(chain("max_concurrent"), plan("long 1 a-b b-c", "first 5 a-b", "second 9 b-c")).objectives == {"concurrent": 0.25}


@pytest.mark.parametrize(
    ("routes", "rule", "ids"),
    [
        (["first 7 a-b"], Rule.link_capacity, ("a-b",)),
        (["second 9.1 b-c"], Rule.demand_size, ("second",)),
        (["nobody 1 a-b"], Rule.flow_conservation, ()),
        (["first 1 nowhere"], Rule.flow_conservation, ("first",)),
        (["long 1 a-b"], Rule.flow_conservation, ("long",)),
        (["long 1 b-c a-b"], Rule.flow_conservation, ("long",)),
        (["long 1 b-c"], Rule.flow_conservation, ("long",)),
        (["long 1"], Rule.flow_conservation, ("long",)),
    ],
)
def test_each_break_is_named(routes: list[str], rule: Rule, ids: tuple[str, ...]) -> None:
    found = verify(chain(), plan(*routes))
    assert rules(found) == {rule}
    assert found.violations[0].ids == ids
    assert found.violations[0].message
    assert found.largest_violation > 0


def test_amounts_are_told() -> None:
    (only,) = verify(chain(), plan("first 7.5 a-b")).violations
    assert only.amount == pytest.approx(1.5)
    assert only.unit == "Gbit/s"
    assert only.message == "link 'a-b' carries 7.5 Gbit/s, and its capacity is 6"


def test_a_hair_too_much_is_rounding() -> None:
    assert verify(chain(), plan("first 6.000005 a-b")).ok  # 1e-6 of the side
    assert not verify(chain(), plan("first 6.00001 a-b")).ok


def test_everything_must_be_carried_where_the_objective_says_so() -> None:
    for objective in ("min_cost", "min_max_utilisation"):
        found = verify(chain(objective), plan("first 6 a-b", "second 9 b-c"))
        assert {(one.rule, one.ids) for one in found.violations} == {(Rule.demand_served, ("long",)), (Rule.demand_served, ("first",))}


def test_utilisation_may_exceed_one_but_nothing_flows_without_capacity() -> None:
    problem = routing(["a-b 2", "x: a-b 0", "y: a-b inf"], ["a>b 5"], objective="min_max_utilisation")
    assert verify(problem, plan("d0 5 a-b")).objectives == {"max_utilisation": 2.5}
    assert verify(problem, plan("d0 5 y")).objectives == {"max_utilisation": 0.0}
    assert rules(verify(problem, plan("d0 5 x"))) == {Rule.link_capacity}


def test_classes_are_counted_as_the_goals_say() -> None:
    demands = ["d: a>b 2 priority=1", "e: a>b 3 priority=3", "f: a>b 4 priority=1"]
    routes = ["d 2 a-b", "e 3 a-b", "f 4 a-b"]
    expected = {"min_cost": (3, 6), "max_throughput": (3, 6), "max_concurrent": (1, 1), "min_max_utilisation": (0.3, 0.9)}
    for objective, values in expected.items():
        problem = routing(["a-b 10 cost=1"], demands, objective=objective)
        found = verify(problem, plan(*routes))
        assert found.ok
        assert tuple(found.objectives.values()) == pytest.approx(values)
        assert [name.split("[")[1] for name in found.objectives] == ["3]", "1]"]
        assert [goal.name for goal in goals(problem)] == list(found.objectives) == list(problem.ordered_goals())


def test_latency_is_that_of_the_route() -> None:
    problem = routing([*CHAIN, "slow: a-c 9 latency_ms=5.1", "quick: a-c 9 latency_ms=5"], ["long: a>c 4 latency_limit_ms=5"])
    assert verify(problem, plan("long 2 a-b b-c", "long 2 quick")).ok
    found = verify(problem, plan("long 2 a-b b-c", "long 2 slow"))
    assert [(one.rule, one.ids) for one in found.violations] == [(Rule.latency_limit, ("long",))]
    assert found.violations[0].amount == pytest.approx(0.1)


def test_both_ways_of_a_link() -> None:
    demands = ["there: a>b 3", "again: b>a 3"]
    for sign, broken in (("=", set()), ("~", {Rule.link_capacity}), ("-", {Rule.flow_conservation})):
        problem = routing([f"x: a{sign}b 4"], demands, objective="max_throughput")
        assert rules(verify(problem, plan("there 3 x", "again 3 x"))) == broken
    over = verify(routing(["x: a=b 2"], demands, objective="max_throughput"), plan("again 3 x"))
    assert "on its way back" in over.violations[0].message


def test_listed_paths_are_the_only_ones() -> None:
    chosen = {"choice": "listed", "listed": [{"demand": "d0", "links": ["a-b", "b-c"]}]}
    problem = routing([*CHAIN, "a-c 5"], ["a>c 4"], objective="max_throughput", paths=chosen)
    assert verify(problem, plan("d0 4 a-b b-c")).ok
    assert rules(verify(problem, plan("d0 4 a-c"))) == {Rule.path_choice}


def test_chosen_paths_agree_with_a_count_of_all_paths() -> None:
    links = ["a-b 9", "b-d 9", "a-c 9", "c-d 9", "a-d 9", "c-b 9"]
    shortest_three = routing(links, ["a>d 4"], objective="max_throughput", paths={"choice": "shortest", "k": 3})
    for path in paths_of(shortest_three)[0]:
        names = [network_of(shortest_three).link_ids[network_of(shortest_three).arc_link[arc]] for arc in path]
        found = verify(shortest_three, plan(f"d0 1 {' '.join(names)}"))
        assert found.ok == (len(path) <= 2), names


def test_what_belongs_to_other_problems_is_refused() -> None:
    assert rules(verify(chain(), plan(flows=(LinkFlow(link="a-b", gbps=1),)))) == {Rule.node_supply}
    assert rules(verify(chain(), plan(granted=(Granted(demand="long", gbps=1),)))) == {Rule.protection}
    assert rules(verify(chain(), plan(levels=(FairLevel(priority=0, rate=0, demands=("long",)),)))) == {Rule.fairness_proof}
    assert rules(verify(supplying(["a-b 1"], {"a": 1, "b": -1}), plan("d0 1 a-b"))) >= {Rule.flow_conservation}


def test_many_violations_are_counted_and_few_told() -> None:
    problem = routing(["a-b 1"], [f"d{number}: a>b 1" for number in range(300)], objective="min_cost")
    found = verify(problem, Plan())
    assert found.violation_count == 300
    assert len(found.violations) == MAX_VIOLATIONS


# ---------------------------------------------------------------- bundles

FABRIC = ["a-s 4", "a-t 4", "s-b 4", "t-b 4", "a-u 4", "s-v 4"]
UP, DOWN = Bundle(id="up", links=("a-s", "a-t")), Bundle(id="down", links=("s-b", "t-b"))


def fabric() -> Problem:
    return routing(FABRIC, ["a>b 9"], objective="max_throughput")


def test_a_bundle_spreads_evenly() -> None:
    answer = plan("d0 8 up down", bundles=(UP, DOWN))
    assert verify(fabric(), answer).ok
    assert verify(fabric(), answer).objectives == {"throughput": 8}
    load = tally_of(fabric(), answer).arc_flow
    assert load.tolist() == [4, 4, 4, 4, 0, 0]
    assert rules(verify(fabric(), plan("d0 8.5 up down", bundles=(UP, DOWN)))) == {Rule.link_capacity}


@pytest.mark.parametrize(
    ("hops", "links"),
    [
        ("up down", ["a-s", "a-s"]),  # a link twice
        ("up down", ["a-s", "nowhere"]),
        ("up down", ["a-s", "a-u"]),  # does not end where the next starts
        ("up s-b", ["a-s", "a-t"]),  # half of it is left behind
        ("up", ["a-s", "a-t"]),
        ("down up", ["a-s", "a-t"]),
        ("up down", ["a-s", "s-b"]),  # starts at two nodes
        ("up down", ["a-s", "a-t", "x: a-s"]),
    ],
)
def test_bundles_that_are_none(hops: str, links: list[str]) -> None:
    answer = plan(f"d0 1 {hops}", bundles=(Bundle(id="up", links=tuple(links)), DOWN))
    assert Rule.flow_conservation in rules(verify(fabric(), answer))


def test_an_uneven_bundle_is_refused() -> None:
    problem = routing(["a-s 4", "y: a-s 4", "a-t 4", "s-b 4", "t-b 4"], ["a>b 9"], objective="max_throughput")
    bundles = (Bundle(id="up", links=("a-s", "y", "a-t")), DOWN)
    found = verify(problem, plan("d0 1 up down", bundles=bundles))
    assert "evenly" in found.violations[0].message


def test_a_bundle_takes_as_long_as_its_slowest_link() -> None:
    links = ["a-s 4 latency_ms=1", "a-t 4 latency_ms=3", "s-b 4 latency_ms=3", "t-b 4 latency_ms=1"]
    for limit, ok in ((6, True), (5.9, False)):
        problem = routing(links, [f"a>b 9 latency_limit_ms={limit}"], objective="max_throughput")
        assert verify(problem, plan("d0 8 up down", bundles=(UP, DOWN))).ok == ok


def test_bundles_and_links_mix() -> None:
    problem = routing(["r-a 9", *FABRIC, "b=c 9"], ["r>c 9", "c>b 9"], objective="max_throughput")
    answer = plan("d1 1 b=c", "d0 8 r-a up down b=c", bundles=(UP, DOWN))
    assert verify(problem, answer).ok
    assert tally_of(problem, answer).carried.tolist() == [8, 1]


# ---------------------------------------------------------------- supplies


def test_supplies() -> None:
    problem = supplying(["a-b 5 cost=2", "b=c 5 cost=1"], {"a": 3, "c": -3})
    right = Plan(flows=(LinkFlow(link="a-b", gbps=3), LinkFlow(link="b=c", gbps=4, back_gbps=1)))
    assert verify(problem, right).ok
    assert verify(problem, right).objectives == {"cost": 11}
    table = FlowTable(link=("b=c", "a-b"), gbps=(4, 3), back_gbps=(1, 0))
    assert verify(problem, Plan(flow_table=table)).objectives == {"cost": 11}
    assert rules(verify(problem, Plan(flows=(LinkFlow(link="a-b", gbps=3),)))) == {Rule.flow_conservation, Rule.node_supply}
    for wrong in (
        Plan(flows=(*right.flows, LinkFlow(link="nowhere", gbps=1))),
        Plan(flows=(*right.flows, LinkFlow(link="a-b", gbps=0))),
        Plan(flows=(LinkFlow(link="a-b", gbps=3, back_gbps=1), LinkFlow(link="b=c", gbps=3))),
        Plan(flows=right.flows, flow_table=table),
        Plan(flow_table=FlowTable(link=("a-b",), gbps=(1, 2))),
    ):
        assert Rule.flow_conservation in rules(verify(problem, wrong))


def test_parts_of_supplies() -> None:
    def shipped(objective: str, amount: float) -> Verdict:
        problem = supplying(["a-b 5", "b-c 5"], {"a": 4, "c": -4}, objective=objective)
        return verify(problem, Plan(flows=(LinkFlow(link="a-b", gbps=amount), LinkFlow(link="b-c", gbps=amount))))

    assert shipped("max_throughput", 3).objectives == {"throughput": 3}
    assert shipped("max_concurrent", 5).objectives == {"concurrent": 1.25}
    assert rules(shipped("max_throughput", 5)) == {Rule.node_supply}
    assert shipped("min_max_utilisation", 4).objectives == {"max_utilisation": 0.8}
    assert rules(shipped("min_max_utilisation", 3)) == {Rule.node_supply}


def test_lower_bounds_hold() -> None:
    problem = supplying(["a-b 5 lower_gbps=2", "x: a-b 5"], {"a": 3, "b": -3})
    assert verify(problem, Plan(flows=(LinkFlow(link="a-b", gbps=2), LinkFlow(link="x", gbps=1)))).ok
    assert rules(verify(problem, Plan(flows=(LinkFlow(link="a-b", gbps=1), LinkFlow(link="x", gbps=2))))) == {Rule.link_lower}


# ---------------------------------------------------------------- right plans that are broken


@pytest.mark.parametrize("objective", ["min_cost", "max_throughput", "min_max_utilisation"])
def test_breaking_a_right_plan_is_noticed(objective: str) -> None:
    rng = random.Random(1)
    broken = 0
    for seed in range(20):
        problem = random_routing(seed, objective, roomy=True)
        found = exact(problem)
        if found is None or not found[1].routes:
            continue
        routes = list(found[1].routes)
        place = rng.randrange(len(routes))
        one = routes[place]
        for changed in (
            one.model_copy(update={"gbps": one.gbps + 70}),
            one.model_copy(update={"hops": one.hops[:-1]}),
            one.model_copy(update={"hops": (*one.hops, one.hops[0], one.hops[0], one.hops[0])}),
            one.model_copy(update={"demand": "nobody"}),
        ):
            changed_plan = found[1].model_copy(update={"routes": (*routes[:place], changed, *routes[place + 1 :])})
            assert not verify(problem, changed_plan).ok
            broken += 1
    assert broken > 20


def test_breaking_a_right_flow_is_noticed() -> None:
    for seed in range(20):
        problem = random_supplies(seed, "min_cost")
        found = exact(problem)
        if found is None or not found[1].flows:
            continue
        flows = found[1].flows
        changed = flows[0].model_copy(update={"gbps": flows[0].gbps + 0.01})
        assert not verify(problem, Plan(flows=(changed, *flows[1:]))).ok
        assert not verify(problem, Plan(flows=flows[1:])).ok or flows[0].gbps + flows[0].back_gbps < 1e-5


# ---------------------------------------------------------------- fairness


def fair_chain() -> Problem:
    return routing(["a-b 6", "b-c 10"], ["long: a>c 99", "first: a>b 99", "second: b>c 99"], objective="max_min_fair")


RATES = ("long 3 a-b b-c", "first 3 a-b", "second 7 b-c")
LEVELS = (
    FairLevel(priority=0, rate=3, demands=("long", "first"), prices=(LinkPrice(link="a-b", price=1),), shares=(0.5, 0.5)),
    FairLevel(priority=0, rate=7, demands=("second",), prices=(LinkPrice(link="b-c", price=0.1),), shares=(1,)),
)


def test_a_fair_allocation_is_proved() -> None:
    found = verify(fair_chain(), plan(*RATES, levels=LEVELS))
    assert found.ok
    assert found.objectives == pytest.approx({"fair_rate": 3, "fair_slack": 0}, abs=1e-12)


def test_without_proof_the_slack_is_what_the_ends_allow() -> None:
    assert verify(fair_chain(), plan(*RATES)).objectives == pytest.approx({"fair_rate": 3, "fair_slack": 1.0})
    first_only = verify(fair_chain(), plan(*RATES, levels=LEVELS[:1])).objectives
    assert first_only == pytest.approx({"fair_rate": 3, "fair_slack": 3 / 7})


def test_a_demand_at_its_size_needs_no_prices() -> None:
    problem = routing(["a-b 6"], ["a>b 2"], objective="max_min_fair")
    assert verify(problem, plan("d0 2 a-b")).objectives == {"fair_rate": 2, "fair_slack": 0}
    assert verify(problem, plan("d0 1 a-b")).objectives == {"fair_rate": 1, "fair_slack": 1}


def test_a_demand_that_no_level_names_keeps_only_what_it_has() -> None:
    problem = routing(["a-b 6"], ["small: a>b 1", "large: a>b 99"], objective="max_min_fair")
    level = FairLevel(priority=0, rate=3, demands=("large",), prices=(LinkPrice(link="a-b", price=1),))
    found = verify(problem, plan("small 1 a-b", "large 3 a-b", levels=(level,))).objectives
    assert found == pytest.approx({"fair_rate": 1, "fair_slack": 2 / 3})  # large could have 5
    right = level.model_copy(update={"rate": 5})
    assert verify(problem, plan("small 1 a-b", "large 5 a-b", levels=(right,))).objectives == pytest.approx(
        {"fair_rate": 1, "fair_slack": 0}
    )


def test_an_unfair_allocation_cannot_be_proved() -> None:
    rates = ("long 2 a-b b-c", "first 4 a-b", "second 8 b-c")
    levels = (
        LEVELS[0].model_copy(update={"rate": 2, "demands": ("long",), "shares": (1,)}),
        LEVELS[0].model_copy(update={"rate": 4, "demands": ("first",), "shares": (1,)}),
        LEVELS[1].model_copy(update={"rate": 8}),
    )
    found = verify(fair_chain(), plan(*rates, levels=levels))
    assert found.ok
    assert found.objectives == pytest.approx({"fair_rate": 2, "fair_slack": 1.0})  # the first level may rise from 2 to 4 by its prices


@pytest.mark.parametrize(
    "changes",
    [
        {"rate": 2.9},
        {"demands": ("long", "nobody")},
        {"demands": ("long", "long")},
        {"demands": ("long", "first", "second")},
        {"priority": 1},
        {"prices": (LinkPrice(link="nowhere", price=1),)},
        {"prices": (LinkPrice(link="a-b", back=True, price=1),)},
        {"shares": (1.0,)},
        {"shares": (0.5, 0.6)},
    ],
)
def test_malformed_proofs_are_broken_rules(changes: dict[str, Any]) -> None:
    found = verify(fair_chain(), plan(*RATES, levels=(LEVELS[0].model_copy(update=changes), LEVELS[1])))
    assert rules(found) == {Rule.fairness_proof}
    assert rules(verify(fair_chain(), plan(*RATES, levels=(LEVELS[1], LEVELS[0])))) == {Rule.fairness_proof}


def test_no_prices_prove_less_than_the_truth() -> None:
    """Whatever levels say, the slack is at least what one demand alone could truly gain."""
    rng = random.Random(3)
    for seed in range(25):
        problem = random_routing(seed, "max_min_fair", roomy=True)
        network, traffic = network_of(problem), traffic_of(problem)
        loose = problem.model_copy(update={"objective": "max_throughput"})
        found = exact(loose)
        assert found is not None
        got = tally_of(problem, found[1]).carried / traffic.weight
        levels = []
        for place in sorted(range(traffic.count), key=lambda one: got[one]):
            if rng.random() < 0.3:
                continue
            links = rng.sample(network.link_ids, 3)
            prices = tuple(LinkPrice(link=name, price=rng.choice((0, 1, 2))) for name in links)
            levels.append(FairLevel(priority=0, rate=float(got[place]), demands=(traffic.ids[place],), prices=prices))
        verdict = verify(problem, found[1].model_copy(update={"levels": tuple(levels)}))
        assert verdict.ok, verdict.violations
        fair = best(problem)
        assert fair is not None
        sorted_fair = sorted(fair.rates[name] / weight for name, weight in zip(traffic.ids, traffic.weight, strict=True))
        if sorted(got.tolist()) != pytest.approx(sorted_fair, abs=1e-4):
            assert verdict.objectives["fair_slack"] > 1e-5


def test_distances_agree_with_all_paths() -> None:
    rng = random.Random(5)
    for seed in range(20):
        problem = random_routing(seed, "max_throughput")
        network, traffic = network_of(problem), traffic_of(problem)
        prices = problem_prices(rng, network.arcs)
        found = shortest(network, prices, traffic.source, traffic.target)
        truth = [min((sum(prices[list(path)]) for path in paths), default=float("inf")) for paths in paths_of(problem).values()]
        assert found.tolist() == pytest.approx(truth)


def problem_prices(rng: random.Random, count: int) -> Floats:
    return np.array([rng.choice((0.0, 0.0, 1.0, 2.5)) for _ in range(count)])


def test_a_bundle_of_one_link_is_that_link() -> None:
    for seed in range(15):
        problem = random_routing(seed, "max_throughput", limits=True)
        found = exact(problem)
        assert found is not None
        bundles = tuple(Bundle(id=f"only {link.id}", links=(link.id,)) for link in problem.links)
        routes = tuple(one.model_copy(update={"hops": tuple(f"only {hop}" for hop in one.hops)}) for one in found[1].routes)
        mixed = tuple(one if number % 2 else found[1].routes[number] for number, one in enumerate(routes))
        for given in (routes, mixed):
            spread = Plan(routes=given, bundles=bundles)
            assert verify(problem, spread) == verify(problem, found[1])
            assert tally_of(problem, spread).arcs.tolist() == tally_of(problem, found[1]).arcs.tolist()
            assert tally_of(problem, spread).route_latency.tolist() == tally_of(problem, found[1]).route_latency.tolist()
