"""The examples: the one that the page works out by hand, and that the others are solved and say what they are for."""

from __future__ import annotations

import pytest

from models.tiering.examples import examples, training, two_tier
from models.tiering.heuristic import heuristic
from models.tiering.schema import Copies, Plan, Problem
from models.tiering.verify import verify
from models.tiering.views import VIEWS
from optimizer.limits import Limits
from optimizer.result import Outcome
from optimizer.solve import solve
from tests.models.tiering_problems import exact


def by_hand(on_ssd: set[str]) -> float:
    """Seconds of reading per second, from the table of the page."""
    ssd = {"a": 0.8 / 16 + 5 * 0.0001, "b": 0.1 / 16 + 40 * 0.0001, "c": 0.4 / 16 + 10 * 0.0001}
    hdd = {"a": 0.8 / 2 + 5 * 0.01, "b": 0.1 / 2 + 40 * 0.01, "c": 0.4 / 2 + 10 * 0.01}
    return sum(ssd[name] if name in on_ssd else hdd[name] for name in "abc")


def test_the_two_tiers_are_as_worked_out_by_hand() -> None:
    problem = two_tier()
    found = exact(problem)
    assert found is not None
    plan, values = found
    assert dict(zip(plan.copies.object, plan.copies.tier, strict=True)) == {"a": "ssd", "b": "ssd", "c": "hdd"}
    assert values == pytest.approx((0.36075, 11.0))
    assert by_hand({"a", "b"}) == pytest.approx(0.36075)
    for on_ssd in (set[str](), {"a"}, {"b"}, {"c"}, {"b", "c"}, {"a", "b"}):
        copies = Copies(object=("a", "b", "c"), tier=tuple("ssd" if name in on_ssd else "hdd" for name in "abc"))
        verdict = verify(problem, Plan(copies=copies))
        assert verdict.ok
        assert verdict.objectives["access_time"] == pytest.approx(by_hand(on_ssd))
        assert by_hand(on_ssd) >= 0.36075


def test_dividing_by_capacity_prefers_the_slow_tier() -> None:
    """What the page says of the wrong formula: it puts all on the disk, which takes 1.2 s/s."""
    problem = two_tier()
    wrong = {
        tier.id: [one.size_gib / tier.capacity_gib for one in problem.objects] for tier in problem.tiers if tier.capacity_gib is not None
    }
    assert all(disk < flash for disk, flash in zip(wrong["hdd"], wrong["ssd"], strict=True))
    assert by_hand(set()) == pytest.approx(1.2)


@pytest.mark.parametrize("name", examples())
def test_examples_are_solved_to_the_end(name: str) -> None:
    problem = examples()[name]
    result = solve(problem, Limits(time_limit_s=20), isolate=False)
    assert result.outcome is Outcome.optimal
    assert result.failure is None
    assert result.plan is not None
    assert verify(problem, result.plan).ok  # type: ignore[arg-type]
    assert heuristic(problem) is not None
    assert Problem.model_validate_json(problem.model_dump_json()) == problem


def test_the_training_example_has_a_cache_a_replica_and_a_stay() -> None:
    problem = training()
    found = exact(problem)
    assert found is not None
    places = VIEWS["places"](problem, found[0])
    assert [one["tier"] for one in places["code"]] == ["nvme-north", "nvme-south"]
    assert len(places["checkpoints"]) == 2
    assert [one["tier"] for one in places["patients"]] == ["disk-north"]
    moves = VIEWS["moves"](problem, found[0])
    metrics = verify(problem, found[0]).metrics
    stored = {one.id for one in problem.objects if one.current}
    assert sum(one["gib"] for one in moves["make"] if one["object"] in stored) == pytest.approx(metrics["moved_gib"])
    paid = sum(one["usd"] for one in moves["make"] if one["object"] in stored) + sum(one["usd"] for one in moves["delete"])
    assert paid == pytest.approx(metrics["cost_moves"])
