"""Designs at the edge: names that are alike, very many small modules, explanations under a deadline."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from models.flow.checks import warnings
from models.flow.design.dominance import tidied
from models.flow.design.explain import explain_design
from models.flow.design.verify import verify_design
from models.flow.design.works import works_of
from models.flow.schema import Plan, Problem
from optimizer.limits import Limits
from optimizer.solve import solve
from tests.models.test_flow_design import problem

MODULE = {"m": (10.0, 3.0)}


def plan_of(asked: Problem) -> Plan:
    result = solve(asked, Limits(time_limit_s=20.0), isolate=False)
    assert result.outcome == "optimal", result
    assert isinstance(result.plan, Plan)
    return result.plan


def test_a_scenario_may_be_called_like_a_link() -> None:
    """Scenario l0 fails l1, and any one link may fail, l0 for example: the routes of both are told apart."""
    triangle = [{"ends": "ab", "modules": MODULE}, {"ends": "bc", "modules": MODULE}, {"ends": "ac", "modules": MODULE}]
    triangle = [{**one, "direction": "each"} for one in triangle]
    survive = {"mode": "protect", "any_links": 1, "scenarios": [{"id": "l0", "links": ["l1"]}]}
    asked = problem(triangle, [("a", "b", 5.0)], survive=survive)
    plan = plan_of(asked)
    assert verify_design(asked, plan).objectives["design_cost"] == pytest.approx(9.0)
    assert {one.scenario for one in plan.scenario_routes} <= {one.id for one in works_of(asked).failures}
    assert [one.id for one in works_of(asked).failures] == ["l0", "link l0", "l2"]


def test_names_of_several_failures_are_cut_short() -> None:
    names = [f"{'q' * 250}{number}" for number in range(3)]
    links = [{"ends": "ab", "modules": MODULE, "id": name, "direction": "each"} for name in names]
    asked = problem(links, [("a", "b", 5.0)], survive={"mode": "protect", "any_links": 2})
    assert verify_design(asked, plan_of(asked)).objectives["design_cost"] == pytest.approx(9.0)


def test_modules_too_small_to_count_are_refused() -> None:
    with pytest.raises(ValidationError, match="give a larger module"):
        problem([{"ends": "ab", "modules": {"m": (1e-6, 1.0)}}], [("a", "b", 1e6)])
    problem([{"ends": "ab", "modules": {"m": (1e-6, 1.0, 5)}}], [("a", "b", 1e6)])
    problem([{"ends": "ab", "modules": {"m": (1e-6, 1.0)}}], [("a", "b", 1e6)], modules_per_link="one")


def test_very_many_modules_are_counted_at_once() -> None:
    """No loop runs over single modules: neither for the cheapest cover nor when counts are tidied."""
    modules = {"small": (1e-5, 1e-5), "wide": (3e-5, 2e-5), "other": (1.0, 2.0)}
    works = works_of(problem([{"ends": "ab", "modules": modules}], [("a", "b", 1000.0)]))
    found = works.cheapest(0, 1000.0)
    assert found is not None
    assert found[0] == pytest.approx(1000.0 * 2 / 3, rel=1e-6)
    counts = tidied(works, np.array([1e8, 0.0, 0.0]))
    assert works.link_capacity(counts)[0] >= 1000.0 * (1 - 1e-9)
    assert works.building_cost(counts) <= 1000.0 * (1 + 1e-9)


def test_an_explanation_keeps_its_time() -> None:
    """When time is up, links that are left are counted, and what is told of one says no more than was looked at."""
    links = [{"ends": ends, "modules": MODULE, "direction": "each"} for ends in ("ab", "bc", "ac")]
    asked = problem(links, [("a", "b", 5.0), ("b", "c", 5.0)], survive={"mode": "protect", "any_links": 1})
    plan = plan_of(asked)
    verdict = verify_design(asked, plan)
    whole, short = explain_design(asked, plan, verdict, None), explain_design(asked, plan, verdict, None, 0.0)
    assert any("Without one of module 'm', 5 Gbit/s must cross" in one.text for one in whole)
    assert [one.text for one in short][1:] == ["3 more links get modules; ask for one by its id."]


def test_a_node_that_nothing_can_serve_is_named() -> None:
    links = [{"ends": "ab", "modules": {"m": (1.0, 1.0, 2)}}, {"ends": "cb", "modules": MODULE}]
    asked = problem(links, [("a", "b", 5.0), ("c", "b", 5.0)])
    said = [one.detail for one in warnings(asked) if one.code == "node_starved"]
    assert len(said) == 1
    assert "'a', and with all modules that may be added they hold 2" in said[0]
    risky = problem([{"ends": "ab", "modules": MODULE}], [("a", "b", 5.0)], survive={"mode": "protect", "any_links": 1})
    assert ["while 'l0' lasts" in one.detail for one in warnings(risky)] == [True]
