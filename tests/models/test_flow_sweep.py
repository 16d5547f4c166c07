"""The sweep: what each failure does when everything is routed anew, and the proofs of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.catalogue import kind
from models.conversation import Offered
from models.flow.failures import sweep
from models.flow.failures.aftermath import strong_groups
from models.flow.failures.explain import failure_reasons as reasons
from models.flow.failures.sweep import aftermaths
from models.flow.schema import Aftermath, Demand, FailureMode, Failures, Objective, Plan, Problem, Scenario
from optimizer.limits import Limits
from optimizer.solve import solve
from tests.models.failure_talk import Ended, anything, links_of, listed, nodes_of, talked
from tests.oracles import flow_failures as oracle

if TYPE_CHECKING:
    from collections.abc import Generator

    from models.conversation import Conversation, Step

FLOW = kind("flow")


def after(problem: Problem) -> Ended:
    """The aftermaths alone, of a plan that carries nothing."""

    def search(problem: Problem, plan: Plan | None, seed: int, seconds: float, gap: float) -> Conversation:
        del plan, seed, gap
        return aftermaths(problem, Plan(), seconds)

    return talked(problem, search)


def told(ended: Ended) -> dict[frozenset[str], Aftermath]:
    assert ended.plan is not None
    return {frozenset(one.links): one for one in ended.plan.aftermaths}


def ring(size: float = 6.0) -> Problem:
    """A ring of four nodes with links of 10 each way, and one node that hangs on it by one link."""
    demands = (
        Demand(id="across", source="a", target="c", size_gbps=size),
        Demand(id="near", source="a", target="b", size_gbps=size),
        Demand(id="out", source="a", target="z", size_gbps=2.0),
    )
    return Problem(
        nodes=nodes_of("abcdz"),
        links=links_of("ab", "bc", "cd", "da", "cz"),
        demands=demands,
        objective=Objective.max_throughput,
        failures=Failures(mode=FailureMode.sweep, any_links=1),
    )


def test_a_ring_by_hand() -> None:
    found = told(after(ring()))
    assert len(found) == 5
    hanging = found[frozenset({"cz"})]
    assert (hanging.cut_off, hanging.demands_cut_off, hanging.overloaded) == (("z",), ("out",), ())
    assert hanging.max_utilisation == pytest.approx(0.6)  # 12 Gbit/s leave a over two links of 10
    broken = found[frozenset({"ab"})]
    assert broken.max_utilisation == pytest.approx(1.4)  # all 14 leave a over one link
    assert broken.bound == pytest.approx(1.4)
    assert broken.overloaded == ("da", "cd") or set(broken.overloaded) == {"da", "cd"}
    assert broken.demands_cut_off == ()


@given(st.integers(0, 100_000))
@settings(max_examples=30, deadline=None)
def test_aftermaths_are_those_of_the_long_way(seed: int) -> None:
    problem = anything(seed, FailureMode.sweep)
    scenarios = [one for one in oracle.scenarios(problem) if one]
    ended = after(problem)
    if not scenarios:
        assert ended.plan is None
        return
    assert ended.rejected == 0, ended.complaint
    found = told(ended)
    assert set(found) == set(scenarios)
    for down, aftermath in found.items():
        least, cut = oracle.aftermath(problem, down)
        assert aftermath.max_utilisation == pytest.approx(least, rel=1e-6, abs=1e-9)
        assert aftermath.bound == pytest.approx(least, rel=1e-6, abs=1e-9)
        assert set(aftermath.demands_cut_off) == cut
        assert bool(aftermath.overloaded) == (least > 1.0 + 1e-6)


def test_a_choice_of_paths_holds_after_failures_too() -> None:
    problem = listed(ring(), {"across": [("ab", "bc"), ("da", "cd")], "near": [("ab",)], "out": [("ab", "bc", "cz")]})
    found = told(after(problem))[frozenset({"ab"})]
    assert found.demands_cut_off == ("near", "out")
    assert found.cut_off == ("b", "z")
    assert found.max_utilisation == pytest.approx(0.6)


def test_latency_limits_hold_after_failures_too() -> None:
    whole = ring()
    links = tuple(one.model_copy(update={"latency_ms": 1.0}) for one in whole.links)
    demands = tuple(one.model_copy(update={"latency_limit_ms": 2.0}) if one.id == "near" else one for one in whole.demands)
    found = told(after(whole.model_copy(update={"links": links, "demands": demands})))
    assert found[frozenset({"ab"})].demands_cut_off == ("near",)
    assert found[frozenset({"bc"})].demands_cut_off == ()


def test_a_sweep_is_solved_with_its_routing() -> None:
    problem = ring().model_copy(update={"objective": Objective.min_max_utilisation})
    result = solve(problem, Limits(time_limit_s=20), isolate=False)
    assert result.plan is not None
    assert result.outcome == "optimal"
    assert isinstance(result.plan, Plan)
    assert len(result.plan.aftermaths) == 5
    verdict = FLOW.verify(problem, result.plan)
    assert verdict.ok
    assert verdict.objectives == {"max_utilisation": pytest.approx(0.7)}
    wanted = {"scenarios": 5, "scenarios_swept": 5, "scenarios_overloading": 3, "scenarios_cutting_off": 1}
    assert {name: verdict.metrics[name] for name in wanted} == wanted


# ---------------------------------------------------------------- broken plans


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("ab", {"bound": 1.5}),
        ("ab", {"max_utilisation": 1.2}),
        ("ab", {"max_utilisation": 0.5, "bound": None, "overloaded": ()}),
        ("ab", {"overloaded": ()}),
        ("ab", {"overloaded": ("ab",)}),
        ("ab", {"overloaded": ("nothing",)}),
        ("ab", {"demands_cut_off": ("near",)}),
        ("cz", {"cut_off": ()}),
        ("cz", {"demands_cut_off": (), "cut_off": ()}),
        ("cz", {"links": ("ab", "bc")}),
        ("cz", {"links": ("ab",)}),
        ("ab", {"prices": ()}),
        ("ab", {"scenario": "another"}),
    ],
)
def test_broken_aftermaths_are_found(name: str, change: dict[str, object]) -> None:
    plan = after(ring()).plan
    assert plan is not None
    changed = tuple(one.model_copy(update=change) if one.links == (name,) else one for one in plan.aftermaths)
    verdict = FLOW.verify(ring(), plan.model_copy(update={"aftermaths": changed}))
    assert {violation.rule for violation in verdict.violations} == {"protection"}


def test_scenarios_are_told_before_the_next_ones_take_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    def at_once(problem: Problem, master: object, name: str, links: tuple[int, ...]) -> Generator[Step, Any, Aftermath]:
        del problem, master, links
        yield from ()
        return Aftermath(scenario=name, links=(name,), max_utilisation=0.0)

    monkeypatch.setattr(sweep, "_after", at_once)
    offers = [step.plan for step in sweep.aftermaths(ring(), Plan()) if isinstance(step, Offered)]
    assert [len(one.aftermaths) for one in offers if isinstance(one, Plan)] == [1, 2, 4, 5]


def test_what_was_not_swept_is_told() -> None:
    plan = after(ring()).plan
    assert plan is not None
    whole, part = (next(reasons(ring(), one)).text for one in (plan, plan.model_copy(update={"aftermaths": plan.aftermaths[:1]})))
    assert whole.startswith("5 of 5 scenarios swept: ")
    assert "ended before the others" not in whole
    assert part.startswith("1 of 5 scenarios swept: ")
    assert "The time given ended before the others." in part


def test_nothing_is_told_of_a_sweep_that_has_not_begun() -> None:
    assert "max_utilisation_after_failure" not in FLOW.verify(ring(), Plan()).metrics


def test_more_capacity_is_never_busier() -> None:
    failures = Failures(mode=FailureMode.sweep, any_links=1, scenarios=(Scenario(id="both", links=("ab", "cd")),))
    problem = ring().model_copy(update={"failures": failures})
    before = told(after(problem))
    wider = told(after(problem.model_copy(update={"links": links_of("ab", "bc", "cd", "da", "cz", capacity=20.0)})))
    assert all(wider[down].max_utilisation == pytest.approx(one.max_utilisation / 2) for down, one in before.items())


# ---------------------------------------------------------------- groups of nodes


@given(st.integers(0, 100_000))
@settings(max_examples=60, deadline=None)
def test_groups_reach_each_other(seed: int) -> None:
    draw = np.random.default_rng(seed)
    nodes = int(draw.integers(1, 9))
    tail, head = draw.integers(0, nodes, (2, int(draw.integers(0, 14))))
    reach = np.eye(nodes, dtype=bool)
    reach[tail, head] = True
    for _ in range(nodes):
        reach = reach | (reach.astype(int) @ reach.astype(int) > 0)
    group = strong_groups(nodes, tail, head)
    assert ((group[:, None] == group[None]) == (reach & reach.T)).all()
