"""Designs: what to build, proved against brute force, hand-worked examples, published values and the laws that every answer keeps."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.flow.design import search as design_search
from models.flow.design.exact import build, extract, program, size, start, start_values
from models.flow.design.examples import design, design_survives
from models.flow.design.explain import explain_design, reasons
from models.flow.design.partitions import violated_partitions
from models.flow.design.prices import proved
from models.flow.design.verify import verify_design
from models.flow.design.works import first_plan, simple_bounds, works_of
from models.flow.schema import Plan, Problem, Route, Rule, ScenarioRoutes, Upgrade
from optimizer.compile import compile_model
from optimizer.highs import HighsBackend
from optimizer.limits import Limits
from service.importers.sndlib import import_sndlib
from tests.models.failure_talk import Ended, talked
from tests.oracles.flow_design import best_cost

SNDLIB = Path(__file__).parents[3] / "shared" / "data" / "sndlib" / "native"
WAYS = ("directed", "shared", "each")


def problem(links: list[dict[str, Any]], demands: list[tuple[str, str, float]], **asked: Any) -> Problem:
    """Links with ``modules`` as {id: (capacity, cost)} or {id: (capacity, cost, most)}; nodes are what links name."""
    made = []
    for number, one in enumerate(links):
        modules = [
            {"id": name, "capacity_gbps": numbers[0], "cost": numbers[1], "most": numbers[2] if len(numbers) > 2 else None}
            for name, numbers in one.get("modules", {}).items()
        ]
        source, target = one["ends"]
        rest = {key: value for key, value in one.items() if key not in ("ends", "modules")}
        made.append({"id": f"l{number}", "source": source, "target": target, "capacity_gbps": 0.0, "modules": modules} | rest)
    names = sorted({name for one in made for name in (one["source"], one["target"])})
    return Problem.model_validate(
        {
            "use": "design",
            "nodes": [{"id": name} for name in names],
            "links": made,
            "demands": [
                {"id": f"d{number}", "source": source, "target": target, "size_gbps": gbps}
                for number, (source, target, gbps) in enumerate(demands)
            ],
            "design": asked,
        }
    )


def solved(asked: Problem, seconds: float = 30.0) -> Ended:
    """What the search proves, with every plan verified."""
    ended = talked(asked, design_search.converse, seconds)
    assert ended.rejected == 0, ended.complaint
    return ended


def cost_of(asked: Problem, plan: Plan) -> float:
    verdict = verify_design(asked, plan)
    assert verdict.ok, verdict.violations
    return verdict.objectives["design_cost"]


def least(asked: Problem) -> float | None:
    """The proved least cost; None when nothing carries everything."""
    ended = solved(asked)
    if ended.refuted:
        assert ended.plan is None
        return None
    assert ended.plan is not None
    cost = cost_of(asked, ended.plan)
    assert ended.bounds["design_cost"] == pytest.approx(cost, rel=2e-4, abs=1e-6)
    assert ended.bounds["design_cost"] <= cost * (1 + 1e-9) + 1e-6
    return cost


def random_design(seed: int, *, survive: bool = False) -> Problem:
    """Three or four nodes, all ways of sharing, capacity here and there, limits and setup costs now and then."""
    rng = random.Random(seed)
    names = "abcd"[: rng.randint(3, 4)]
    ends = [tuple(names[(place + step) % len(names)] for step in (0, 1)) for place in range(len(names))]
    ends += [tuple(rng.sample(names, 2))]
    same = rng.choice((*WAYS[1:], None))  # networks of one sort take shortcuts that mixed ones must not take
    links = []
    for number, pair in enumerate(ends):
        modules: dict[str, tuple[float, ...]] = {"s": (rng.choice((2.0, 3.0)), float(rng.randint(1, 6)))} if number < 3 else {}
        if number < 1:
            modules["m"] = (7.0, float(rng.randint(5, 15)), rng.choice((1, 2)))
        links.append(
            {
                "ends": pair,
                "direction": same or rng.choice(WAYS),
                "modules": modules,
                "capacity_gbps": rng.choice((0.0, 0.0, 2.5, 6.0)),
                "setup_cost": rng.choice((0.0, 3.0)),
                "cost": rng.choice((0.0, 0.25, 1.0)),
            }
        )
    streams = [(*_pair(rng, names), float(rng.randint(1, 4))) for _ in range(rng.randint(1, 3))]
    return problem(
        links,
        streams,
        growth=rng.choice((1.0, 1.25)),
        charge=rng.choice(("sum", "larger")),
        modules_per_link=rng.choice(("any", "one")),
        installed_cost=rng.choice((0.0, 10.0)),
        **({"survive": {"mode": "protect", "any_links": 1}} if survive else {}),
    )


def _pair(rng: random.Random, names: str) -> tuple[str, str]:
    source, target = rng.sample(names, 2)
    return source, target


# ---------------------------------------------------------------- against brute force


@pytest.mark.parametrize("seed", range(14))
def test_the_least_cost_is_that_of_brute_force(seed: int) -> None:
    asked = random_design(seed)
    expected = best_cost(asked)
    found = least(asked)
    if expected is not None:
        assert found is not None
        assert found <= expected * (1 + 2e-4) + 1e-6
        assert simple_bounds(asked)["design_cost"] <= expected + 1e-6
        if found < expected * (1 - 4e-4) - 1e-6:  # brute force tried two copies of each module only
            more = best_cost(asked, copies=4)
            assert more is not None
            assert found >= more * (1 - 2e-4) - 1e-6
    plan = first_plan(asked, 1.0)
    if plan is not None:
        assert found is not None
        assert cost_of(asked, plan) >= found * (1 - 2e-4) - 1e-6


@pytest.mark.parametrize("seed", range(100, 108))
def test_surviving_any_link_costs_what_brute_force_says(seed: int) -> None:
    asked = random_design(seed, survive=True)
    expected = best_cost(asked)
    found = least(asked)
    if expected is not None:
        assert found is not None
        assert found <= expected * (1 + 2e-4) + 1e-6


@pytest.mark.parametrize("seed", [1, 5, 9, 103, 107])
def test_the_exact_program_agrees_with_the_search(seed: int) -> None:
    """The program with the flows of every failure, through extract and start, with and without hastening."""
    asked = random_design(seed, survive=seed > 100)
    found, plan = least(asked), Plan()
    for hasten in (True, False):
        compiled = compile_model(build(asked, hasten=hasten))
        assert compiled.program.columns <= size(asked)
        result = HighsBackend().solve(compiled.program, Limits(time_limit_s=20, gap=1e-6))
        if found is None:
            assert result.status.value == "infeasible"
            continue
        assert result.values is not None
        plan = extract(asked, compiled.values_by_ids(result.values))
        assert cost_of(asked, plan) == pytest.approx(found, rel=2e-4, abs=1e-5)
        assert result.objective == pytest.approx(cost_of(asked, plan), rel=1e-6, abs=1e-6)
    if found is not None:
        values = start(asked, plan)
        whole = build(asked, hasten=False)
        array = np.array([values[block.name][tuple(ids)] for block in whole.column_blocks for ids in block.ids])
        assert whole.relative_violation(array) < 1e-6
        assert whole.objective(array) == pytest.approx(cost_of(asked, plan), rel=1e-6, abs=1e-6)


# ---------------------------------------------------------------- by hand


SQUARE = [{"ends": pair, "direction": "shared", "modules": {"ten": (10.0, 4.0)}} for pair in ("ab", "bc", "cd", "da")]


def test_a_square_needs_three_sides() -> None:
    """Four corners, each with 3 Gbit/s to the next: 3 links of 10 carry everything, and 2 leave a corner alone."""
    asked = problem(SQUARE, [("a", "b", 3.0), ("b", "c", 3.0), ("c", "d", 3.0), ("d", "a", 3.0)])
    assert least(asked) == pytest.approx(12.0)
    works = works_of(asked)
    half = np.full(4, 0.5)
    (partition, *_) = violated_partitions(works, half, np.random.default_rng(0), 5)
    assert partition.coefficient @ half < partition.least - 0.3


def test_a_square_that_survives_needs_all_four() -> None:
    asked = problem(SQUARE, [("a", "c", 3.0)], survive={"mode": "protect", "any_links": 1})
    ended = solved(asked)
    assert ended.objectives == pytest.approx((16.0,))
    assert ended.plan is not None
    assert {one.scenario for one in ended.plan.scenario_routes} <= {"l0", "l1", "l2", "l3"}


def test_a_ring_that_survives_is_whole() -> None:
    """Six corners in a ring and a chord: surviving any link takes as many modules as corners, and the inequality says so at once."""
    ends = ("ab", "bc", "cd", "de", "ef", "fa", "ad")
    links = [{"ends": pair, "direction": "shared", "modules": {"ten": (10.0, 4.0)}} for pair in ends]
    streams = [("a", other, 1.0) for other in "bcdef"]
    asked = problem(links, streams, survive={"mode": "protect", "any_links": 1})
    found = violated_partitions(works_of(asked), np.full(7, 0.7), np.random.default_rng(0), 100)
    assert any(one.coefficient == pytest.approx(np.full(7, 1 / 6)) and one.least == 1.0 for one in found)
    assert least(asked) == pytest.approx(24.0)
    assert least(problem(links, streams)) == pytest.approx(20.0)


def test_both_ways_share_a_module_or_have_it_each() -> None:
    """5 Gbit/s forth and 5 back on one link, modules of 5: two of them where both ways share, one where each has all."""
    for way, modules in (("shared", 2), ("each", 1)):
        asked = problem([{"ends": "ab", "direction": way, "modules": {"five": (5.0, 7.0)}}], [("a", "b", 5.0), ("b", "a", 5.0)])
        assert least(asked) == pytest.approx(7.0 * modules)


def test_charging_the_larger_of_both_flows_or_their_sum() -> None:
    demands = [("a", "b", 5.0), ("b", "a", 3.0)]
    for charge, routing in (("sum", 16.0), ("larger", 10.0)):
        asked = problem([{"ends": "ab", "direction": "each", "cost": 2.0, "modules": {"ten": (10.0, 1.0)}}], demands, charge=charge)
        assert least(asked) == pytest.approx(1.0 + routing)
        shared = problem([{"ends": "ab", "direction": "shared", "cost": 2.0, "modules": {"ten": (10.0, 1.0)}}], demands, charge=charge)
        assert least(shared) == pytest.approx(1.0 + 16.0)


def test_setup_is_paid_once_and_one_module_is_one() -> None:
    links = [{"ends": "ab", "direction": "directed", "setup_cost": 5.0, "modules": {"four": (4.0, 3.0), "nine": (9.0, 8.0)}}]
    assert least(problem(links, [("a", "b", 8.0)])) == pytest.approx(5.0 + 6.0)
    assert least(problem(links, [("a", "b", 8.0)], modules_per_link="one", installed_cost=2.0)) == pytest.approx(5.0 + 8.0 + 2.0)
    assert least(problem(links, [("a", "b", 10.0)], modules_per_link="one")) is None
    none = problem([{"ends": "ab", "modules": {"none": (9.0, 1.0, 0), "nine": (9.0, 8.0)}}], [("a", "b", 8.0)], modules_per_link="one")
    assert least(none) == pytest.approx(8.0)
    found = HighsBackend().solve(compile_model(build(none, hasten=False)).program, Limits(time_limit_s=5))
    assert found.objective == pytest.approx(8.0)


def test_what_is_there_already_is_free() -> None:
    links = [{"ends": "ab", "capacity_gbps": 8.0, "direction": "directed", "modules": {"four": (4.0, 3.0)}}]
    assert least(problem(links, [("a", "b", 8.0)])) == pytest.approx(0.0)
    assert least(problem(links, [("a", "b", 8.0)], growth=1.01)) == pytest.approx(3.0)
    assert least(problem([links[0] | {"capacity_gbps": None}], [("a", "b", 800.0)])) == pytest.approx(0.0)


def test_one_large_module_beats_many_small_ones() -> None:
    links = [{"ends": "ab", "direction": "directed", "modules": {"small": (30.0, 9.0), "large": (480.0, 70.0)}}]
    assert least(problem(links, [("a", "b", 230.0)])) == pytest.approx(70.0)
    assert least(problem(links, [("a", "b", 210.0)])) == pytest.approx(63.0)
    assert least(problem(links, [("a", "b", 510.0)])) == pytest.approx(79.0)


def test_too_few_modules_are_refused_with_a_proof() -> None:
    links = [{"ends": "ab", "direction": "each", "modules": {"ten": (10.0, 1.0, 2)}}]
    asked = problem(links, [("a", "b", 21.0)])
    ended = solved(asked)
    assert ended.refuted
    assert first_plan(asked, 1.0) is None
    cut_off = problem([links[0], {"ends": "cd", "direction": "each", "modules": {"ten": (10.0, 1.0)}}], [("a", "c", 1.0)])
    assert solved(cut_off).refuted
    bridge = problem([links[0]], [("a", "b", 5.0)], survive={"mode": "protect", "any_links": 1})
    assert solved(bridge).refuted


# ---------------------------------------------------------------- what the verifier refuses


def right() -> tuple[Problem, Plan]:
    asked = problem(
        [{"ends": pair, "direction": "each", "modules": {"ten": (10.0, 4.0, 2)}} for pair in ("ab", "bc", "ac")],
        [("a", "c", 8.0), ("b", "a", 5.0)],
        survive={"mode": "protect", "any_links": 1},
    )
    ended = solved(asked)
    assert ended.plan is not None
    return asked, ended.plan


def broken(asked: Problem, plan: Plan, **changes: Any) -> set[str]:
    verdict = verify_design(asked, plan.model_copy(update=changes))
    assert not verdict.ok
    return {str(one.rule) for one in verdict.violations}


def test_breaking_a_right_plan_is_noticed() -> None:
    asked, plan = right()
    assert verify_design(asked, plan).ok
    assert Rule.protection in broken(asked, plan, scenario_routes=())
    assert Rule.protection in broken(asked, plan, upgrades=plan.upgrades[1:])
    assert Rule.demand_served in broken(asked, plan, routes=plan.routes[1:])
    assert Rule.demand_size in broken(asked, plan, routes=(*plan.routes, plan.routes[0]))
    assert Rule.module_limit in broken(asked, plan, upgrades=(*plan.upgrades, Upgrade(link="l0", module="none", count=1)))
    assert Rule.module_limit in broken(asked, plan, upgrades=(*plan.upgrades, plan.upgrades[0]))
    assert Rule.module_limit in broken(asked, plan, upgrades=tuple(one.model_copy(update={"count": 3}) for one in plan.upgrades))
    assert Rule.protection in broken(asked, plan, scenario_routes=(*plan.scenario_routes, ScenarioRoutes(scenario="storm", routes=())))
    wrong = tuple(one.model_copy(update={"hops": ("l1",)}) for one in plan.routes)
    assert Rule.flow_conservation in broken(asked, plan, routes=wrong)


def test_a_route_over_a_dead_link_is_noticed() -> None:
    asked, plan = right()
    first = plan.scenario_routes[0]
    stuck = ScenarioRoutes(
        scenario=first.scenario, routes=tuple(Route(demand=one.demand, gbps=one.gbps, hops=one.hops) for one in plan.routes)
    )
    assert Rule.protection in broken(asked, plan, scenario_routes=(stuck, *plan.scenario_routes[1:]))


def test_one_module_on_a_link_is_checked() -> None:
    links = [{"ends": "ab", "direction": "directed", "modules": {"four": (4.0, 3.0), "nine": (9.0, 8.0)}}]
    asked = problem(links, [("a", "b", 8.0)], modules_per_link="one")
    routes = (Route(demand="d0", gbps=8.0, hops=("l0",)),)
    assert verify_design(asked, Plan(routes=routes, upgrades=(Upgrade(link="l0", module="nine", count=1),))).ok
    two = Plan(routes=routes, upgrades=(Upgrade(link="l0", module="four", count=2),))
    assert {str(one.rule) for one in verify_design(asked, two).violations} == {Rule.module_limit}
    few = Plan(routes=routes, upgrades=(Upgrade(link="l0", module="four", count=1),))
    assert {str(one.rule) for one in verify_design(asked, few).violations} == {Rule.link_capacity}


# ---------------------------------------------------------------- laws


@pytest.mark.parametrize("seed", [2, 3, 8])
def test_laws(seed: int) -> None:
    asked = random_design(seed)
    found = least(asked)
    assert found is not None
    data = asked.model_dump(mode="json")

    def changed(**links: Any) -> Problem:
        return Problem.model_validate(data | {"links": [one | {key: make(one) for key, make in links.items()} for one in data["links"]]})

    more = least(changed(capacity_gbps=lambda one: one["capacity_gbps"] + 1.0))
    assert more is not None
    assert more <= found * (1 + 2e-4) + 1e-6
    dearer = least(
        changed(
            cost=lambda one: 3 * one["cost"],
            setup_cost=lambda one: 3 * one["setup_cost"],
            modules=lambda one: [module | {"cost": 3 * module["cost"]} for module in one["modules"]],
        )
    )
    installed = asked.design.installed_cost if asked.design else 0.0
    assert dearer == pytest.approx(3 * (found - installed) + installed, rel=4e-4)
    names = {one["id"]: f"x{place}" for place, one in enumerate(reversed(data["links"]))}
    renamed = [one | {"id": names[one["id"]]} for one in reversed(data["links"])]
    assert least(Problem.model_validate(data | {"links": renamed})) == pytest.approx(found, rel=4e-4)


# ---------------------------------------------------------------- words and prices


def test_the_examples_are_solved_and_explained() -> None:
    for asked in (design(), design_survives()):
        ended = solved(asked)
        assert ended.plan is not None
        assert ended.objectives == pytest.approx((ended.bounds["design_cost"],), rel=2e-4)
        told = tuple(reasons(asked, ended.plan))
        assert told[0].code == "summary"
        assert all(one.status == "proved" for one in told)
        built = {one.link for one in ended.plan.upgrades}
        assert built <= {one.subject for one in told}
        verdict = verify_design(asked, ended.plan)
        for subject in ("ber-ham", "ber-sta", "ber"):
            assert all(one.subject == subject for one in explain_design(asked, ended.plan, verdict, subject))
        values = start_values(asked, ended.plan, failures=False)
        assert program(works_of(asked), failures=False, hasten=False).relative_violation(values) < 1e-6


def test_a_cut_says_why_a_module_is_needed() -> None:
    asked = problem([{"ends": "ab", "direction": "directed", "modules": {"four": (4.0, 3.0)}}], [("a", "b", 7.0)])
    ended = solved(asked)
    assert ended.plan is not None
    (text,) = (one.text for one in reasons(asked, ended.plan) if one.subject == "l0")
    assert text == (
        "Link 'l0' gets 2 of module 'four'. It carries 7 Gbit/s of 8. Without one of module 'four', "
        "7 Gbit/s must cross between {a} and the rest, and the links there hold 4: too little."
    )


def test_prices_prove_what_a_gbit_is_worth() -> None:
    """8 Gbit/s, 5 on the short way at 1 and 3 on the long way at 4: one more on the short way saves 3."""
    links = [
        {"ends": "ab", "direction": "directed", "capacity_gbps": 5.0, "cost": 1.0},
        {"ends": "ac", "direction": "directed", "capacity_gbps": 0.0, "cost": 2.0, "modules": {"ten": (10.0, 1.0)}},
        {"ends": "cb", "direction": "directed", "capacity_gbps": 9.0, "cost": 2.0},
    ]
    asked = problem(links, [("a", "b", 8.0)])
    ended = solved(asked)
    assert ended.plan is not None
    assert ended.objectives == pytest.approx((1.0 + 5.0 + 12.0,))
    assert {(one.link, one.back): one.price for one in ended.plan.prices} == pytest.approx({("l0", False): 3.0})
    assert proved(asked, ended.plan)
    (price,) = ended.plan.prices
    assert not proved(asked, ended.plan.model_copy(update={"prices": (price.model_copy(update={"price": 4.0}),)}))


# ---------------------------------------------------------------- published values


@pytest.mark.long
@pytest.mark.skipif(not SNDLIB.exists(), reason="the SNDlib networks are not part of this repository")
@pytest.mark.parametrize(("model", "known"), [("U-U-M-N-C-A-N-N", 23619.0), ("D-B-M-N-C-A-N-N", 15717.0), ("U-U-M-N-C-A-N-U", 35473.0)])
def test_polska(model: str, known: float) -> None:
    """Proved here, by the flow formulation with and without cut-set inequalities."""
    ended = solved(import_sndlib(SNDLIB / "polska.txt", model=model), 120.0)
    assert ended.objectives == pytest.approx((known,), rel=1e-4)
    assert ended.bounds["design_cost"] == pytest.approx(known, rel=2e-4)


@pytest.mark.long
@pytest.mark.skipif(not SNDLIB.exists(), reason="the SNDlib networks are not part of this repository")
def test_the_published_value_of_atlanta() -> None:
    """Raack and others, INOC 2007, who charge the sum of both flows: 46244642.4."""
    from models.flow.schema import Charge

    asked = import_sndlib(SNDLIB / "atlanta.txt", model="D-B-M-N-C-A-N-N", charge=Charge.sum)
    ended = solved(asked, 120.0)
    assert ended.objectives == pytest.approx((46244642.4,), rel=1e-4)
    assert ended.bounds["design_cost"] == pytest.approx(46244642.4, rel=1e-4)
