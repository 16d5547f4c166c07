"""What is said about a plan: true, with the user's own names, and no more certain than it is."""

from __future__ import annotations

from typing import Any

import pytest

from models.tiering import explain as words
from models.tiering.examples import archive, training, two_tier
from models.tiering.explain import explain, subjects
from models.tiering.schema import Copies, Plan, Problem, Rule, TierPrice
from models.tiering.stand import Stand
from models.tiering.verify import verify
from tests.models.tiering_problems import exact, random_problem


def best(problem: Problem) -> Plan:
    found = exact(problem)
    assert found is not None
    return found[0]


def test_a_full_tier_binds_and_keeps_others_out() -> None:
    problem = two_tier()
    plan = best(problem)
    whole = explain(problem, plan)
    assert [reason.code for reason in whole] == ["summary", "binding"]
    assert whole[0].text.startswith("3 objects in 3 copies on 2 tiers: access time 0.36075 s/s, cost 11 USD.")
    assert (whole[1].rule, whole[1].ids, whole[1].status) == ("tier_capacity", ("ssd",), "proved")
    why = next(reason for reason in explain(problem, plan, "c") if reason.code == "why_not")
    assert why.text == (
        "Object 'c' cannot leave 'hdd' for 'ssd' (0.274 s/s less access time and 4 USD more cost): 'ssd' is full until 50 GiB leave it: "
        "0 of 100 GiB are left, and 50 GiB more are needed."
    )
    assert (why.rule, why.ids, why.status) == ("tier_capacity", ("c", "ssd"), "proved")
    wanting = next(reason for reason in explain(problem, plan, "ssd") if reason.code == "why_not")
    assert wanting.ids == ("ssd", "c")


def test_prices_are_told_as_what_they_are() -> None:
    problem = two_tier().model_copy(update={"goals": two_tier().goals[1:]})
    copies = Copies(object=("a", "b", "c"), tier=("ssd", "ssd", "hdd"))
    price = TierPrice(rule=Rule.tier_capacity, tier="ssd", price=0.031)
    told = [one for one in explain(problem, Plan(copies=copies, prices=(price,))) if one.code == "binding"]
    assert [one.status for one in told] == ["proved", "heuristic"]
    assert "one more GiB for the period is worth 0.031 USD (0.031 USD per GiB and month)" in told[1].text


def test_why_not_in_a_better_tier_comes_with_its_shadow_price() -> None:
    """Per GiB and month, whatever the period: 0.02 USD for 20 days are 0.0304 USD a month."""
    problem = Problem.model_validate(
        {
            "period_days": 20,
            "tiers": [
                {"id": "nvme", "capacity_gib": 100, "read_gbps": 4},
                {"id": "hdd", "capacity_gib": None, "usd_per_gib_read": 0.01},
            ],
            "objects": [{"id": "d1", "size_gib": 90, "read_gbps": 0.5}, {"id": "d17", "size_gib": 30, "read_gbps": 0.1}],
        }
    )
    prices = (TierPrice(rule=Rule.tier_capacity, tier="nvme", price=0.02),)
    plan = Plan(copies=Copies(object=("d1", "d17"), tier=("nvme", "hdd")), prices=prices)
    why = next(reason for reason in explain(problem, plan, "d17") if reason.code == "why_not")
    assert why.text.startswith("Object 'd17' cannot leave 'hdd' for 'nvme' (201.")
    assert why.text.endswith(
        "'nvme' is full until 20 GiB leave it: 10 of 100 GiB are left, and 30 GiB more are needed; "
        "the shadow price of 'nvme' is 0.0304167 USD/GiB-month."
    )
    assert (why.rule, why.ids, why.status) == ("tier_capacity", ("d17", "nvme"), "heuristic")


def test_an_object_that_could_be_better_is_told_so() -> None:
    problem = two_tier()
    worse = Plan(copies=Copies(object=("a", "b", "c"), tier=("hdd", "ssd", "hdd")))
    reasons = [one for one in explain(problem, worse, "a") if one.code == "would_place"]
    assert [one.ids for one in reasons] == [("a", "ssd")]


def test_a_wrong_plan_is_not_explained() -> None:
    told = explain(two_tier(), Plan())
    assert len(told) == 1
    assert "breaks rules (3 times)" in told[0].text


def test_names_that_nothing_has() -> None:
    problem = two_tier()
    plan = best(problem)
    for name in ("nobody", ""):
        with pytest.raises(KeyError):
            explain(problem, plan, name)
    assert set(subjects(problem, plan)) == {"ssd", "hdd", "a", "b", "c"}


def test_moves_say_what_staying_would_mean() -> None:
    problem = archive()
    told = {reason.ids[0]: reason for reason in explain(problem, best(problem)) if reason.code == "moved"}
    assert "raw-video" in told
    assert "Staying would mean 300 USD more cost" in told["raw-video"].text
    stay = [reason for reason in explain(training(), best(training()), "patients") if reason.code == "why_not"]
    assert {reason.rule for reason in stay} == {"minimum_stay"}


@pytest.mark.parametrize("seed", range(40))
def test_everything_said_about_moving_one_copy_is_true(seed: int) -> None:
    """Move the copy and look: goals change as told, and the plan is wrong exactly where a rule or a limit was named."""
    problem = random_problem(seed)
    found = exact(problem)
    if found is None:
        return
    stand = Stand(problem, found[0])
    store, held = stand.store, stand.held
    base = verify(problem, found[0])
    for copy in range(held.count):
        told = stand.elsewhere(copy)
        for at in range(len(told.tier)):
            if told.forbidden[at] is Rule.replica_count:
                continue
            verdict = verify(problem, moved(stand, copy, int(told.tier[at]), bool(told.packed[at])))
            allowed = told.forbidden[at] is None and told.blocked[at] is None
            if not allowed:
                named = {told.forbidden[at], told.blocked[at][0] if told.blocked[at] is not None else None}  # type: ignore[index]
                assert {one.rule for one in verdict.violations} & {rule.value for rule in named if rule is not None}
                continue
            assert verdict.ok, (store.objects.ids[int(held.object[copy])], verdict.violations)
            for goal in problem.goals:
                change = verdict.objectives[goal.value] - base.objectives[goal.value]
                assert change == pytest.approx(float(told.change[goal][at]), rel=1e-6, abs=1e-6)


def moved(stand: Stand, copy: int, tier: int, packed: bool) -> Plan:
    """The plan with one copy elsewhere, and all its reads with it."""
    store, held, served = stand.store, stand.held, stand.served
    tiers, forms = held.tier.copy(), held.packed.copy()
    tiers[copy], forms[copy] = tier, packed
    names = (*store.reader_ids, "")
    document: dict[str, Any] = {
        "copies": {
            "object": [store.objects.ids[place] for place in held.object],
            "tier": [store.tiers.ids[place] for place in tiers],
            "compressed": forms.tolist(),
        },
        "serving": {
            "reader": [names[store.reads.reader[read]] for read in served.read],
            "object": [store.objects.ids[store.reads.object[read]] for read in served.read],
            "tier": [store.tiers.ids[tiers[at]] for at in served.copy],
            "share": at_most_one(served.share.tolist()),
        },
    }
    return Plan.model_validate(document)


def at_most_one(shares: list[float]) -> list[float]:
    return [min(share, 1.0) for share in shares]


@pytest.mark.parametrize("rule", [rule.value for rule in Rule])
def test_every_rule_has_a_unit_and_a_repair(rule: str) -> None:
    assert rule in words.rule_units()
    assert words.repair_text(rule, ("x", "y"), 2.0005)
