"""Protection against failures: scenarios, what they take, and what survives."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalogue import kind
from models.flow.failures import exact as formulation_failures
from models.flow.failures import losses
from models.flow.failures import pricing as failure_pricing
from models.flow.failures.examples import protected, risky, swept
from models.flow.failures.explain import reasons
from models.flow.failures.pricing import SetPricer
from models.flow.failures.protection import heaviest
from models.flow.failures.scenarios import MOST_SCENARIOS, families, mistakes, scenario_count, scenarios_of
from models.flow.network.arrays import network_of
from models.flow.network.tally import tally_of
from models.flow.schema import Demand, FailureMode, Failures, Granted, Objective, Plan, Problem, Route, Scenario
from optimizer.compile import compile_model
from optimizer.diagnose import diagnose
from optimizer.highs import HighsBackend
from optimizer.limits import Limits
from optimizer.solve import solve
from tests.conformance.documents import strings
from tests.models.failure_talk import OBJECTIVES, anything, links_of, listed, nodes_of, talked, triangle
from tests.oracles import flow_failures as oracle

if TYPE_CHECKING:
    from collections.abc import Callable

FLOW = kind("flow")
ANY_LINK = Failures(mode=FailureMode.protect, any_links=1)


# ---------------------------------------------------------------- scenarios


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_scenarios_are_those_of_the_long_way(seed: int) -> None:
    problem = anything(seed, FailureMode.sweep)
    found = scenarios_of(problem)
    names = network_of(problem).link_ids
    told = [frozenset(names[link] for link in found.of(one)) for one in range(found.count)]
    assert len(set(told)) == len(told)
    assert {*told, frozenset()} == {*oracle.scenarios(problem), frozenset()}
    down = found.down(len(names))
    assert [frozenset(names[link] for link in np.flatnonzero(row)) for row in down] == told
    assert scenario_count(problem) >= found.count


def test_equal_scenarios_are_one_and_their_probabilities_add_up() -> None:
    links = tuple(one.model_copy(update={"risk_groups": ("duct",)}) if one.id != "bc" else one for one in links_of("ab", "bc", "ac"))
    failures = Failures(
        mode=FailureMode.cvar,
        scenarios=(
            Scenario(id="first", links=("ac", "ab"), probability=0.1),
            Scenario(id="second", risk_groups=("duct",), probability=0.2),
            Scenario(id="nothing", probability=0.3),
        ),
    )
    problem = Problem(
        nodes=nodes_of("abc"), links=links, demands=(Demand(id="d", source="a", target="b", size_gbps=1.0),), failures=failures
    )
    found = scenarios_of(problem)
    assert found.ids == ("first",)
    assert found.probability.tolist() == pytest.approx([0.3])
    assert found.intact == pytest.approx(0.7)


def test_no_two_scenarios_have_the_same_name() -> None:
    """Ids of scenarios, links and groups may be alike, and joined ids may be long: a plan and an answer name scenarios by name alone."""
    long = "q" * 249
    links = tuple(one.model_copy(update={"risk_groups": (one.id,)}) for one in links_of("ab", "bc", "ac"))
    links += tuple(links[0].model_copy(update={"id": name, "risk_groups": ("ab+bc",)}) for name in ("ab+bc", f"{long}1", f"{long}2"))
    failures = Failures(mode=FailureMode.sweep, any_links=2, any_risk_groups=3, scenarios=(Scenario(id="ab", links=("bc",)),))
    names = scenarios_of(triangle(Objective.max_throughput, ANY_LINK).model_copy(update={"links": links, "failures": failures})).ids
    assert len(set(names)) == len(names)
    assert max(map(len, names)) <= 253
    assert names[:2] == ("ab", "link ab")


def test_counts_need_no_list() -> None:
    links = tuple(links_of("ab")[0].model_copy(update={"id": f"l{number}"}) for number in range(400))
    demands = (Demand(id="d", source="a", target="b", size_gbps=1.0),)
    failures = Failures(mode=FailureMode.protect, any_links=3)
    problem = Problem(nodes=nodes_of("ab"), links=links, demands=demands, objective=Objective.max_throughput, failures=failures)
    assert scenario_count(problem) == 400 + 400 * 399 // 2 + 400 * 399 * 398 // 6
    assert list(mistakes(problem)) == []
    swept = problem.model_copy(update={"failures": failures.model_copy(update={"mode": FailureMode.sweep})})
    assert [one.code for one in mistakes(swept)] == ["too_many_scenarios"]
    assert scenario_count(swept) > MOST_SCENARIOS
    with pytest.raises(ValueError, match="too many"):
        scenarios_of(swept)


def test_fair_shares_are_not_protected() -> None:
    problem = triangle(Objective.max_throughput, ANY_LINK).model_copy(update={"objective": Objective.max_min_fair})
    assert [one.code for one in mistakes(problem)] == ["objective_not_protected"]
    assert families(problem)[0].most == 1


# ---------------------------------------------------------------- the worst events


@given(st.integers(0, 10_000), st.integers(1, 4))
@settings(max_examples=100, deadline=None)
def test_the_heaviest_rows_are_those_of_all_sets(seed: int, most: int) -> None:
    draw = np.random.default_rng(seed)
    covers = draw.random((int(draw.integers(1, 8)), int(draw.integers(1, 7)))) < 0.4
    weights = draw.integers(0, 5, covers.shape[1]).astype(float)
    found, rows = heaviest(covers, weights, most)
    every = [
        weights[covers[list(some)].any(axis=0)].sum() for size in range(1, most + 1) for some in combinations(range(len(covers)), size)
    ]
    assert found == max([0.0, *every])
    assert len(rows) <= most
    assert found == (weights[covers[list(rows)].any(axis=0)].sum() if rows else 0.0)


@given(st.integers(0, 10_000))
@settings(max_examples=80, deadline=None)
def test_the_cheapest_path_pays_each_set_once(seed: int) -> None:
    problem = anything(seed, FailureMode.protect)
    network, draw = network_of(problem), np.random.default_rng(seed)
    prices = draw.integers(0, 6, network.arcs).astype(float)
    sets = [
        (tuple(np.flatnonzero(draw.random(network.links) < 0.4).tolist()), float(draw.integers(1, 9)))
        for _ in range(int(draw.integers(0, 4)))
    ]
    pricer = SetPricer(network)
    arcs = {(network.link_ids[network.arc_link[arc]], bool(network.arc_back[arc])): arc for arc in range(network.arcs)}
    for demand in problem.demands:
        ends = network.node_at[demand.source], network.node_at[demand.target]
        limit = demand.latency_limit_ms if demand.latency_limit_ms is not None else np.inf
        every = []
        for path in oracle.all_paths(problem, demand):
            links = {network.link_at[hop[0]] for hop in path}
            every.append(sum(prices[arcs[hop]] for hop in path) + sum(price for some, price in sets if links & set(some)))
        found = pricer.cheapest(ends, prices.tolist(), sets, limit=limit)
        assert found.price == pytest.approx(min(every, default=np.inf))
        assert (found.arcs is None) == (not every)


# ---------------------------------------------------------------- protection


@pytest.mark.parametrize(("objective", "value"), [("max_throughput", 10.0), ("max_concurrent", 5 / 6), ("min_max_utilisation", 1.2)])
def test_a_triangle_by_hand(objective: str, value: float) -> None:
    """Each of two demands needs both ways round to survive: all four routes together leave 10 Gbit/s on the two links out of a."""
    ended = talked(triangle(Objective(objective), ANY_LINK))
    assert ended.objectives == pytest.approx((value,))
    assert list(ended.bounds.values()) == pytest.approx([value])
    assert ended.rejected == 0


def test_full_protection_by_hand() -> None:
    """Of 4 Gbit/s each demand keeps 4 on the short way (cost 1) and 4 on the long way (cost 2)."""
    ended = talked(triangle(Objective.min_cost, ANY_LINK, size=4.0))
    assert ended.objectives == pytest.approx((24.0,))
    assert ended.plan is not None
    assert sorted(route.demand for route in ended.plan.routes) == ["d", "d", "e", "e"]
    assert [route.gbps for route in ended.plan.routes] == pytest.approx([4.0] * 4)
    assert talked(triangle(Objective.min_cost, ANY_LINK)).refuted
    two = talked(triangle(Objective.max_throughput, ANY_LINK.model_copy(update={"any_links": 2})))
    assert two.objectives == pytest.approx((0.0,))


@given(st.integers(0, 100_000))
@settings(max_examples=40, deadline=None)
def test_protection_is_that_of_the_long_way(seed: int) -> None:
    problem = anything(seed, FailureMode.protect)
    expected, ended = oracle.protected(problem), talked(problem)
    assert ended.rejected == 0, ended.complaint
    if expected is None:
        assert ended.refuted or ended.endless
        return
    assert ended.objectives == pytest.approx(expected, rel=1e-6, abs=1e-6)
    assert [ended.bounds[goal.name] for goal in ended.goals] == pytest.approx(expected, rel=1e-6, abs=1e-6)


@given(st.integers(0, 100_000))
@settings(max_examples=15, deadline=None)
def test_listed_paths_are_kept_to(seed: int) -> None:
    whole = anything(seed, FailureMode.protect)
    demands = tuple(one.model_copy(update={"latency_limit_ms": None}) for one in whole.demands)
    whole = whole.model_copy(update={"demands": demands})
    some = {one.id: [tuple(hop[0] for hop in path) for path in oracle.all_paths(whole, one)][:3] for one in demands}
    if not any(some.values()):
        return
    problem = listed(whole, some)
    expected, ended = oracle.protected(problem), talked(problem)
    assert ended.rejected == 0, ended.complaint
    if expected is None:
        assert ended.refuted or ended.endless
    else:
        assert ended.objectives == pytest.approx(expected, rel=1e-6, abs=1e-6)


# ---------------------------------------------------------------- laws


@given(st.integers(0, 100_000))
@settings(max_examples=12, deadline=None)
def test_laws_of_protection(seed: int) -> None:
    """More capacity and fewer failures never worsen; the unit of rates and the order of ids change nothing."""
    problem = anything(seed, FailureMode.protect).model_copy(update={"objective": OBJECTIVES[seed % 2]})
    ended = talked(problem)
    if ended.endless or ended.objectives is None:
        return
    first = ended.objectives[0]
    room = 1e-6 * max(1.0, first)
    wider = tuple(
        one if one.capacity_gbps is None else one.model_copy(update={"capacity_gbps": one.capacity_gbps * 1.5}) for one in problem.links
    )
    more = talked(problem.model_copy(update={"links": wider}))
    assert more.endless or (more.objectives is not None and more.objectives[0] >= first - room)
    assert problem.failures is not None
    calmer = Failures(mode=FailureMode.protect, scenarios=(Scenario(id="none"),))
    free = talked(problem.model_copy(update={"failures": calmer}))
    assert free.endless or (free.objectives is not None and free.objectives[0] >= first - room)
    turned = talked(
        problem.model_copy(update={"links": problem.links[::-1], "demands": problem.demands[::-1], "nodes": problem.nodes[::-1]})
    )
    assert turned.objectives is not None
    assert turned.objectives[0] == pytest.approx(first, abs=room)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_unit_of_rates_changes_nothing(factor: float) -> None:
    problem = triangle(Objective.max_throughput, ANY_LINK)
    links = tuple(one.model_copy(update={"capacity_gbps": 10.0 * factor}) for one in problem.links)
    demands = tuple(one.model_copy(update={"size_gbps": 6.0 * factor}) for one in problem.demands)
    ended = talked(problem.model_copy(update={"links": links, "demands": demands}))
    assert ended.objectives == pytest.approx((10.0 * factor,))
    assert list(ended.bounds.values()) == pytest.approx([10.0 * factor])


# ---------------------------------------------------------------- broken plans


def test_broken_promises_are_found() -> None:
    problem = triangle(Objective.max_throughput, ANY_LINK)
    plan = talked(problem).plan
    assert plan is not None
    assert FLOW.verify(problem, plan).ok
    more = tuple(one.model_copy(update={"gbps": one.gbps + 0.5}) for one in plan.granted)
    verdict = FLOW.verify(problem, plan.model_copy(update={"granted": more}))
    assert {violation.rule for violation in verdict.violations} >= {"protection"}
    assert {violation.ids[0] for violation in verdict.violations if violation.rule == "protection"} == {"d", "e"}
    assert max(violation.amount for violation in verdict.violations if violation.rule == "protection") == pytest.approx(0.5)
    one_way = plan.model_copy(update={"routes": tuple(one for one in plan.routes if one.hops != ("ab",))})
    lost = [violation for violation in FLOW.verify(problem, one_way).violations if violation.rule == "protection"]
    assert [violation.ids for violation in lost][:1] == [("d", "ac")] or ("d", "bc") in [violation.ids for violation in lost]
    for granted in ((*plan.granted, plan.granted[0]), (Granted(demand="nobody", gbps=1.0),)):
        assert not FLOW.verify(problem, plan.model_copy(update={"granted": granted})).ok
    plain = problem.model_copy(update={"failures": Failures(mode=FailureMode.sweep, any_links=1)})
    assert not FLOW.verify(plain, plan).ok


def test_a_pair_of_failures_is_found_without_a_list() -> None:
    """Three disjoint ways of 5 reserve 15; any two failures leave 5."""
    links = links_of("ab", "bz", "ac", "cz", "ad", "dz", capacity=5.0)
    failures = Failures(mode=FailureMode.protect, any_links=2)
    demands = (Demand(id="d", source="a", target="z", size_gbps=9.0),)
    problem = Problem(nodes=nodes_of("abcdz"), links=links, demands=demands, objective=Objective.max_throughput, failures=failures)
    ended = talked(problem)
    assert ended.objectives == pytest.approx((5.0,))
    assert ended.plan is not None
    routes = tuple(Route(demand="d", gbps=5.0, hops=(f"a{way}", f"{way}z")) for way in "bcd")
    claimed = ended.plan.model_copy(update={"routes": routes, "granted": (Granted(demand="d", gbps=6.0),)})
    (violation,) = FLOW.verify(problem, claimed).violations
    assert violation.amount == pytest.approx(1.0)
    assert len(violation.ids) == 3
    assert {name[0] for name in violation.ids[1:]} <= set("abcd")


# ---------------------------------------------------------------- the exact program


@pytest.mark.parametrize("mode", [FailureMode.protect, FailureMode.cvar])
@given(seed=st.integers(0, 100_000))
@settings(max_examples=15, deadline=None)
def test_the_exact_program_agrees(mode: FailureMode, seed: int) -> None:
    """Goal by goal: its optimum is that of the search, the plan's values obey it, and what it extracts is a right plan."""
    problem = anything(seed, mode)
    ended = talked(problem)
    if ended.endless or ended.objectives is None or ended.plan is None:
        return
    floors: dict[str, float] = {}
    program, solved = None, None
    for goal, value in zip(ended.goals, ended.objectives, strict=True):
        program = formulation_failures.build(problem, goal.name, floors)
        solved = HighsBackend().solve(program, Limits(time_limit_s=10))
        assert solved.objective == pytest.approx(value, rel=1e-6, abs=1e-6)
        floors[goal.name] = value
    assert program is not None
    assert solved is not None
    assert solved.values is not None
    compiled = compile_model(program)
    found = {
        family: {ids if isinstance(ids, tuple) else (ids,): number for ids, number in compiled.values_of(family, solved.values).items()}
        for family in compiled.columns
    }
    plan = formulation_failures.extract(problem, found)
    verdict = FLOW.verify(problem, plan)
    assert verdict.ok, verdict.violations[:1]
    assert list(verdict.objectives.values()) == pytest.approx(list(ended.objectives), rel=1e-6, abs=1e-6)


def test_what_cannot_be_protected_is_named() -> None:
    program = formulation_failures.build(triangle(Objective.min_cost, ANY_LINK), hasten=False)
    conflict = diagnose(program, HighsBackend(), Limits(time_limit_s=10))
    assert conflict is not None
    assert conflict.status == "proved"
    assert {member[0] for member in conflict.rules} == {"link_capacity", "protection", "demand_served"}


# ---------------------------------------------------------------- words


@pytest.mark.parametrize("example", [protected, risky, swept])
def test_examples_are_solved_and_explained(example: Callable[[], Problem]) -> None:
    """To their optimum, in sentences that cite the problem's own names only."""
    problem = example()
    result = solve(problem, Limits(time_limit_s=20), isolate=False)
    assert result.outcome == "optimal"
    assert isinstance(result.plan, Plan)
    known = set(strings(problem.model_dump(mode="json")))
    tally = tally_of(problem, result.plan)
    whole = list(reasons(problem, result.plan, tally))
    assert whole[0].code == "summary"
    assert len(whole) > 1
    ids = [*(one.id for one in problem.links), *(one.id for one in problem.demands), *(one.id for one in problem.nodes)]
    for subject in (None, *ids):
        for reason in reasons(problem, result.plan, tally, subject):
            assert reason.subject == (subject or "")
            assert set(reason.ids) <= known
            assert reason.rule in {"protection", "loss_cvar"}
            assert reason.text.endswith(".")


def test_the_binding_failure_is_named() -> None:
    problem = triangle(Objective.max_throughput, ANY_LINK)
    routes = (Route(demand="d", gbps=6.0, hops=("ab",)), Route(demand="d", gbps=4.0, hops=("ac", "bc")))
    plan = Plan(routes=routes, granted=(Granted(demand="d", gbps=4.0),))
    assert FLOW.verify(problem, plan).ok
    (reason,) = reasons(problem, plan, tally_of(problem, plan), "d")
    assert reason.text == "Demand 'd' is granted 4 of 6 Gbit/s; its routes reserve 10, and the worst failure, of link 'ab', leaves 4."
    assert reason.ids == ("d", "ab")
    (reason,) = reasons(problem, plan, tally_of(problem, plan), "bc")
    assert reason.text == "Failure of link 'bc' takes 4 Gbit/s of reservations, of 1 demands."
    assert list(reasons(problem, plan, tally_of(problem, plan), "c")) == []


# ---------------------------------------------------------------- cut short


@pytest.mark.parametrize("most", [0, 2, 5])
def test_a_pricer_cut_short_proves_less_and_nothing_wrong(most: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure_pricing, "MOST_LABELS", most)
    for seed in range(25):
        for mode in (FailureMode.protect, FailureMode.cvar):
            problem = anything(seed, mode)
            ended = talked(problem)
            assert ended.rejected == 0, ended.complaint
            if ended.objectives is None or ended.endless or not ended.bounds:
                continue
            expected = oracle.tail_loss(problem) if mode is FailureMode.cvar else (oracle.protected(problem) or [np.nan])[0]
            assert expected is not None
            goal, value, bound = ended.goals[0], ended.objectives[0], ended.bounds[ended.goals[0].name]
            room = 1e-6 * max(1.0, abs(expected))
            sign = 1.0 if goal.sense == "maximise" else -1.0
            assert sign * value <= sign * expected + room
            assert sign * bound >= sign * expected - room


def test_losses_come_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    problem = risky()
    plan = talked(problem).plan
    assert plan is not None
    whole = FLOW.verify(problem, plan).objectives
    monkeypatch.setattr(losses, "CHUNK", 1)
    assert FLOW.verify(problem, plan).objectives == whole
    assert talked(problem).objectives == pytest.approx(tuple(whole.values()))
