"""Routes as columns: a plan with a ``route_table`` is judged, shown and explained as the same plan with listed routes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.flow.design.examples import design
from models.flow.examples import wan
from models.flow.explain import explain
from models.flow.formulation import start
from models.flow.heuristic import heuristic
from models.flow.network.tally import tally_of
from models.flow.paths import route_columns
from models.flow.paths.route_columns import MOST_LISTED, columns_of, listed_routes, with_routes
from models.flow.schema import Bundle, Demand, Link, Node, Objective, Plan, Problem, Route, RouteTable, Rule
from models.flow.verify import verify
from models.flow.views import VIEWS
from tests.models.flow_random import plan_of, problem, solved


def tabled(plan: Plan) -> Plan:
    """The same plan with its routes in a table."""
    routes = plan.routes
    table = RouteTable(
        demand=tuple(one.demand for one in routes),
        gbps=tuple(one.gbps for one in routes),
        hop_count=tuple(len(one.hops) for one in routes),
        hops=tuple(hop for one in routes for hop in one.hops),
    )
    return plan.model_copy(update={"routes": (), "route_table": table})


def same(given: Problem, plan: Plan) -> None:
    """Everything that is told of a plan is told of it as a table."""
    table = tabled(plan)
    assert verify(given, table) == verify(given, plan)
    assert listed_routes(table) == plan.routes
    one, other = tally_of(given, plan), tally_of(given, table)
    for name in ("route_demand", "route_gbps", "route_latency", "starts", "arcs", "shares", "arc_flow", "carried"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name
    for view in VIEWS.values() if verify(given, plan).ok else ():
        assert view(given, table) == view(given, plan)
    assert explain(given, table) == explain(given, plan)
    for subject in [*(link.id for link in given.links), *(demand.id for demand in given.demands)]:
        assert explain(given, table, subject) == explain(given, plan, subject)
    assert Plan.model_validate_json(table.model_dump_json()) == table


@pytest.mark.parametrize("objective", ["min_cost", "max_throughput", "max_concurrent", "min_max_utilisation", "max_min_fair"])
@pytest.mark.parametrize("seed", range(4))
def test_a_table_says_what_listed_routes_say(objective: str, seed: int) -> None:
    given = problem(seed, objective, classes=2)
    found = solved(given)
    if found.plan is not None:
        same(given, plan_of(found))


@pytest.mark.parametrize("seed", range(40))
def test_a_broken_table_is_broken_like_the_routes(seed: int) -> None:
    rng = random.Random(seed)
    given = problem(seed, "max_throughput", limited=True)
    links, demands = [one.id for one in given.links], [one.id for one in given.demands]
    routes = tuple(
        Route(
            demand=rng.choice([*demands, "nobody"]),
            gbps=rng.uniform(0, 20),
            hops=tuple(rng.choice([*links, "nowhere", "pair"]) for _ in range(rng.randrange(4))),
        )
        for _ in range(12)
    )
    plan = Plan(routes=routes, bundles=(Bundle(id="pair", links=tuple(rng.sample(links, 2))),))
    assert not verify(given, plan).ok
    same(given, plan)


def test_bundles_in_a_table() -> None:
    ends = [("s", "a"), ("s", "b"), ("a", "t"), ("b", "t")]
    given = Problem(
        objective=Objective.max_throughput,
        nodes=tuple(Node(id=name) for name in "sabt"),
        links=tuple(Link(id=one + other, source=one, target=other, capacity_gbps=5.0) for one, other in ends),
        demands=(Demand(id="d", source="s", target="t", size_gbps=12.0),),
    )
    bundles = (Bundle(id="up", links=("sa", "sb")), Bundle(id="down", links=("at", "bt")))
    plan = Plan(bundles=bundles, routes=(Route(demand="d", gbps=8.0, hops=("up", "down")), Route(demand="d", gbps=1.0, hops=("sa", "at"))))
    assert verify(given, plan).objectives == {"throughput": 9.0}
    same(given, plan)


def test_a_design_in_a_table() -> None:
    given = design()
    found = heuristic(given)
    assert found is not None
    assert found.routes
    same(given, found)


def test_a_table_is_a_start() -> None:
    given = wan()
    found = plan_of(solved(given))
    assert start(given, tabled(found)) == start(given, found)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"gbps": (1.0,)}, "the columns of the route_table are not equally long"),
        ({"hop_count": (1,)}, "the columns of the route_table are not equally long"),
        ({"hop_count": (1, 2)}, "the hop_count of the route_table adds up to 3, and it has 2 hops"),
        ({"demand": ("d", "e")}, "route 1 is of 'e', which is no demand"),
        ({"hops": ("l", "m")}, "route 1, of demand 'd', has the hop 'm', which is no link and no bundle"),
        ({"hop_count": (2, 0)}, "route 1, of demand 'd', has no hops"),
    ],
)
def test_what_is_wrong_with_a_table_is_named(changes: dict[str, Any], told: str) -> None:
    given = Problem(
        objective=Objective.max_throughput,
        nodes=(Node(id="a"), Node(id="b")),
        links=(Link(id="l", source="a", target="b", capacity_gbps=5.0),),
        demands=(Demand(id="d", source="a", target="b", size_gbps=5.0),),
    )
    columns: dict[str, Any] = {"demand": ("d", "d"), "gbps": (1.0, 2.0), "hop_count": (1, 1), "hops": ("l", "l")}
    right = Plan(route_table=RouteTable(**columns))
    assert verify(given, right).ok
    assert verify(given, right).objectives == {"throughput": 3.0}
    verdict = verify(given, Plan(route_table=RouteTable(**columns | changes)))
    assert told in [violation.message for violation in verdict.violations]
    assert {violation.rule for violation in verdict.violations} == {Rule.flow_conservation}
    both = verify(given, right.model_copy(update={"routes": (Route(demand="d", gbps=1.0, hops=("l",)),)}))
    assert [violation.message for violation in both.violations] == ["the plan has both routes and a route_table"]


def test_columns_are_checked_as_routes_are() -> None:
    wrongs: list[dict[str, Any]] = [
        {"gbps": (-1.0,)},
        {"hop_count": (-1,)},
        {"hop_count": (0.5,)},
        {"demand": ("",)},
        {"hops": ("",)},
    ]
    for wrong in wrongs:
        with pytest.raises(ValidationError):
            RouteTable(**{"demand": ("d",), "gbps": (1.0,), "hop_count": (1,), "hops": ("l",)} | wrong)


def test_supplies_have_no_route_table() -> None:
    given = Problem(
        nodes=(Node(id="a", supply_gbps=1.0), Node(id="b", supply_gbps=-1.0)),
        links=(Link(id="l", source="a", target="b", capacity_gbps=5.0),),
    )
    table = RouteTable(demand=("d",), gbps=(1.0,), hop_count=(1,), hops=("l",))
    messages = [violation.message for violation in verify(given, Plan(route_table=table)).violations]
    assert "the plan has routes, and there are no demands" in messages


def test_only_very_many_routes_are_a_table(monkeypatch: pytest.MonkeyPatch) -> None:
    few = with_routes(Plan(), ["d"] * 2, [1.0, 2.0], np.array([1, 2]), ["l", "m", "n"])
    assert few == Plan(routes=(Route(demand="d", gbps=1.0, hops=("l",)), Route(demand="d", gbps=2.0, hops=("m", "n"))))
    assert "route_table" not in few.model_dump_json()
    count = MOST_LISTED + 1
    many = with_routes(Plan(), ["d"] * count, [1.0] * count, np.ones(count, dtype=np.int64), ["l"] * count)
    assert not many.routes
    assert many.route_table is not None
    assert columns_of(many).count == count
    given = wan()
    listed = solved(given)
    monkeypatch.setattr(route_columns, "MOST_LISTED", 0)
    table = solved(given)
    assert plan_of(table).route_table is not None
    assert plan_of(table) == tabled(plan_of(listed))
    assert table.verdict == listed.verdict
    assert table.reasons == listed.reasons
