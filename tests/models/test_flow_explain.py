"""Why a plan is as it is: each sentence that says it is proved is true, and says why."""

from __future__ import annotations

import pytest

from models.contract import Reason
from models.flow.examples import wan
from models.flow.explain import alike, explain, repair_in, repair_text, rule_units, subjects
from models.flow.fairness.verify import channel_prices
from models.flow.goals import goal_names
from models.flow.network.arrays import network_of, traffic_of
from models.flow.network.tally import tally_of
from models.flow.routing.explain_cuts import cut_of, full_channels, price_bound
from models.flow.schema import LinkPrice, Plan, Problem, Rule
from models.flow.verify import verify
from optimizer.limits import Limits
from optimizer.solve import solve
from tests.models.flow_problems import ROUTED, exact, random_routing, random_supplies, routing, supplying
from tests.models.flow_random import plan_of, solved
from tests.models.test_flow_verify import LEVELS, RATES, fair_chain, plan
from tests.oracles.flow import best, paths_of

LINKS = ["a-b 6", "b-c 10", "a-c 2"]
DEMANDS = ["long: a>c 9", "first: a>b 8 value=3", "second: b>c 9"]


def routed(*routes: str, prices: tuple[LinkPrice, ...] = ()) -> tuple[Problem, Plan]:
    return routing(LINKS, DEMANDS, objective="max_throughput"), plan(*routes, prices=prices)


def of(reasons: tuple[Reason, ...], code: str, subject: str | None = None) -> list[Reason]:
    return [one for one in reasons if one.code == code and subject in {None, one.subject}]


def test_full_links_and_the_bottleneck() -> None:
    found = explain(*routed("long 2 a-c", "first 6 a-b", "second 9 b-c"))
    assert [one.ids for one in of(found, "binding")] == [("a-b",), ("a-c",), ("a-b", "a-c")]
    assert all(one.status == "proved" for one in found)
    bottleneck = of(found, "binding")[-1].text
    assert bottleneck == "Bottleneck: 'a-b', 'a-c' together carry 8 Gbit/s at most, and 2 demands have to cross, 17 Gbit/s in all."
    assert "throughput 29" in of(found, "summary")[0].text


def test_a_demand_is_told_what_stops_it() -> None:
    problem, answer = routed("long 2 a-c", "first 6 a-b", "second 9 b-c")
    (why,) = of(explain(problem, answer, "first"), "why_not")
    assert (why.rule, why.ids, why.status) == (Rule.link_capacity, ("a-b",), "proved")
    (why,) = of(explain(problem, answer, "long"), "why_not")
    assert why.ids == ("a-b", "a-c")
    assert of(explain(problem, answer, "second"), "why_not") == []


def test_room_that_is_left_is_not_called_full() -> None:
    (why,) = of(explain(*routed("long 1 a-c", "first 6 a-b", "second 9 b-c"), "long"), "why_not")
    assert why.status == "heuristic"


def test_a_demand_without_a_path_is_told_so() -> None:
    problem = routing(["a-b 6", "c-b 6"], ["a>c 2"], objective="max_throughput")
    (why,) = of(explain(problem, Plan()), "why_not")
    assert why.text == "Demand 'd0' gets 0 of 2 Gbit/s: no path leads from 'a' to 'c'."
    assert why.status == "proved"


def test_latency_limits_and_choices_stop_a_demand() -> None:
    links = ["a-b 3 latency_ms=1", "a-c 9 latency_ms=3", "c-b 9 latency_ms=1"]
    problem = routing(links, ["a>b 9 latency_limit_ms=2"], objective="max_throughput")
    (why,) = of(explain(problem, plan("d0 3 a-b")), "why_not")
    assert (why.rule, why.ids, why.status) == (Rule.latency_limit, ("a-b",), "proved")
    never = routing(links, ["a>b 9 latency_limit_ms=0.5"], objective="max_throughput")
    assert "no path that it may use" in of(explain(never, Plan()), "why_not")[0].text
    chosen = {"choice": "listed", "listed": [{"demand": "d0", "links": ["a-b"]}]}
    picked = routing(links, ["a>b 9"], objective="max_throughput", paths=chosen)
    (why,) = of(explain(picked, plan("d0 3 a-b")), "why_not")
    assert (why.rule, why.ids, why.status) == (Rule.path_choice, ("a-b",), "proved")


def test_prices_are_proved_or_not_told_as_proved() -> None:
    right = (LinkPrice(link="a-b", price=3), LinkPrice(link="a-c", price=1))
    routes = ("long 2 a-c", "first 6 a-b", "second 9 b-c")
    told = of(explain(*routed(*routes, prices=right)), "binding")
    assert told[0].text.endswith("One more Gbit/s on it is worth at most 3 of throughput.")
    assert told[0].status == "proved"
    outbid = [one for one in explain(*routed(*routes, prices=right), "long") if one.rule == "throughput"]
    assert [one.status for one in outbid] == ["proved"]
    wrong = (LinkPrice(link="a-b", price=2), LinkPrice(link="a-c", price=1))
    told = of(explain(*routed(*routes, prices=wrong)), "binding")
    assert told[0].status == "heuristic"
    assert told[0].text.endswith("The search gave it the price 2.")


def test_fair_shares_are_told_where_they_end() -> None:
    answer = plan(*RATES, levels=LEVELS)
    (ended,) = [one for one in explain(fair_chain(), answer, "second") if one.rule == Rule.fairness_proof]
    assert (ended.ids, ended.status) == (("b-c",), "proved")
    assert ended.text.startswith("The fair share of 'second' ends at 7 Gbit/s for each unit of weight, where 'b-c' leaves no more")
    (ended,) = [one for one in explain(fair_chain(), plan(*RATES, levels=LEVELS[:1]), "first") if one.rule == Rule.fairness_proof]
    assert ended.status == "heuristic"


def test_worth_is_told_in_the_goals_unit() -> None:
    links, demands = ["a-b 5"], ["a>b 2", "a>b 2"]
    expected = {"min_max_utilisation": "0.16 of max_utilisation", "max_concurrent": "0.25 of concurrent"}
    for objective, worth in expected.items():
        problem = routing(links, demands, objective=objective)
        share = 1.0 if objective == "min_max_utilisation" else 1.25
        answer = plan(f"d0 {2 * share} a-b", f"d1 {2 * share} a-b", prices=(LinkPrice(link="a-b", price=7),))
        (told,) = of(explain(problem, answer), "binding")
        assert told.status == "proved"
        assert told.text.endswith(f"One more Gbit/s on it is worth at most {worth}.")


def test_prices_of_supplies_are_proved_by_potentials() -> None:
    problem = supplying(["a-b 5 cost=1", "x: a-b 9 cost=4", "b=c 9 cost=2"], {"a": 7, "c": -7})
    found = exact(problem)
    assert found is not None
    for price, status in ((3, "proved"), (2, "heuristic"), (9, "heuristic")):
        answer = found[1].model_copy(update={"prices": (LinkPrice(link="a-b", price=price),)})
        (told,) = of(explain(problem, answer), "binding")
        assert told.status == status
    for seed in range(20):
        case = random_supplies(seed, "min_cost")
        result = solve(case, Limits(time_limit_s=20), isolate=False)
        if isinstance(result.plan, Plan):
            assert all(one.status == "proved" for one in explain(case, result.plan)), seed


def test_no_price_proves_more_than_the_optimum() -> None:
    import random

    rng = random.Random(2)
    tried = 0
    for seed in range(30):
        for objective in ROUTED[:4]:
            problem = random_routing(seed, objective, roomy=True, limits=seed % 2 == 0, classes=1 + seed % 2)
            truth = best(problem)
            if truth is None:
                continue
            network = network_of(problem)
            prices = channel_prices(network, tuple(LinkPrice(link=name, price=rng.choice((0, 0.5, 1, 3))) for name in network.link_ids))
            assert prices is not None
            proof = price_bound(problem, prices)
            if proof is None:
                continue
            bound = proof[0]
            value = truth.values[goal_names(problem)[0]]
            tried += 1
            assert bound >= value - 1e-6 if objective in {"max_throughput", "max_concurrent"} else bound <= value + 1e-6
    assert tried > 50


def test_cuts_that_are_told_stop_every_path() -> None:
    cuts = 0
    for seed in range(30):
        problem = random_routing(seed, "max_throughput")
        found = exact(problem)
        assert found is not None
        network, traffic, tally = network_of(problem), traffic_of(problem), tally_of(problem, found[1])
        full = full_channels(network, tally)
        for demand, paths in paths_of(problem).items():
            cut = cut_of(network, full, int(traffic.source[demand]), int(traffic.target[demand]))
            blocked = all(full[network.arc_channel[list(path)]].any() for path in paths)
            assert (cut is not None) == blocked
            if cut is not None:
                cuts += 1
                assert all(set(network.arc_channel[list(path)].tolist()) & set(cut.channels.tolist()) for path in paths)
                assert full[cut.channels].all()
        assert all(one.status == "proved" for one in explain(problem, found[1]) if one.code == "why_not")
    assert cuts > 20


def test_every_subject_can_be_asked_about() -> None:
    problems = [random_routing(4, objective, roomy=True, classes=2) for objective in ROUTED] + [random_supplies(2, "min_cost")]
    for problem in problems:
        found = exact(problem)
        assert found is not None
        verdict = verify(problem, found[1])
        known = {*(rule.value for rule in Rule), *verdict.objectives}
        for subject in (None, *subjects(problem, found[1])):
            reasons = explain(problem, found[1], subject)
            assert reasons
            assert all(one.rule in known and one.subject in {subject or "", *traffic_of(problem).ids} for one in reasons)
        with pytest.raises(KeyError):
            explain(problem, found[1], "nobody")


def test_wrong_plans_are_not_explained() -> None:
    (only,) = explain(*routed("first 7 a-b"))
    assert "breaks rules" in only.text
    assert only.ids == ("a-b",)


def test_demands_alike_are_grouped() -> None:
    problem = routing(["a-b 3", "b-c 9"], ["x: a>b 5", "y: a>b 2", "z: b>c 1"], objective="max_throughput")
    assert alike(problem, plan("z 1 b-c")) == (("x", "y"),)
    assert alike(wan(), Plan()) != ()


def test_repairs_are_told_in_the_problems_numbers() -> None:
    problem = supplying(["a-b 3 lower_gbps=1"], {"a": 2, "b": -2})
    assert repair_in(problem, "link_capacity", ("a-b",), 1.25, too_few=False) == "link 'a-b': raise its capacity from 3 by 1.25 Gbit/s"
    assert repair_in(problem, "link_lower", ("a-b",), 1, too_few=True) == "link 'a-b': lower its lower bound from 1 by 1 Gbit/s"
    assert repair_in(problem, "node_supply", ("a",), 1, too_few=True) == "node 'a': lower its supply from 2 by 1 Gbit/s"
    assert set(rule_units()) == {rule.value for rule in Rule}
    for rule in Rule:
        assert "1.5" in repair_text(rule.value, ("x",), 1.5)


def test_the_bottleneck_of_supplies_is_a_full_cut() -> None:
    given = supplying(
        ["a-c 9", "b-c 9", "in: c-d 4", "also: c-e 1", "d-t 20", "e-t 20"], {"a": 6, "b": 3, "t": -9}, objective="max_throughput"
    )
    texts = [reason.text for reason in explain(given, plan_of(solved(given)))]
    assert "Bottleneck: 'in', 'also' together carry 5 Gbit/s at most, and the nodes before have 9 Gbit/s to ship." in texts
    enough = supplying(["a-c 9"], {"a": 6, "c": -6}, objective="max_throughput")
    assert not any("Bottleneck" in reason.text for reason in explain(enough, plan_of(solved(enough))))
    met = supplying(["a-c 9"], {"a": 6, "c": -2}, objective="max_throughput")
    assert not any("No link" in reason.text for reason in explain(met, plan_of(solved(met))))
    apart = supplying(["a-c 9", "d-t 2"], {"a": 6, "t": -6}, objective="max_throughput")
    texts = [reason.text for reason in explain(apart, plan_of(solved(apart)))]
    assert "No link leads on from the supplies that are left: 6 Gbit/s." in texts
