"""Every rule satisfied and broken, and the goals by hand."""

from __future__ import annotations

from typing import Any

import pytest

from models.contract import Verdict
from models.tiering.schema import Plan, Problem, Rule
from models.tiering.verify import verify

TIERS: list[dict[str, Any]] = [
    {"id": "ssd", "site": "n", "capacity_gib": 100, "read_gbps": 10, "write_gbps": 5, "stream_gbps": 8, "latency_ms": 1, "region": "eu"},
    {
        "id": "hdd",
        "site": "n",
        "capacity_gib": 900,
        "failure_domain": "hall",
        "stream_gbps": 2,
        "latency_ms": 10,
        "protections": ["encrypted"],
    },
    {"id": "old", "site": "n", "capacity_gib": 900, "failure_domain": "hall", "latency_ms": 20, "protections": ["encrypted"]},
    {"id": "far", "site": "s", "capacity_gib": None, "latency_ms": 5, "region": "us"},
]


def asked(objects: list[dict[str, Any]], **parts: Any) -> Problem:
    return Problem.model_validate({"tiers": TIERS, "objects": objects, "goals": ["cost", "access_time", "moved_gib"]} | parts)


def told(problem: Problem, copies: list[tuple[str, str]], compressed: list[bool] | None = None, serving: Any = ()) -> Verdict:
    columns = list(zip(*serving, strict=True)) if serving else [(), (), (), ()]
    plan = Plan.model_validate(
        {
            "copies": {"object": [o for o, _ in copies], "tier": [t for _, t in copies], "compressed": compressed},
            "serving": dict(zip(("reader", "object", "tier", "share"), columns, strict=True)),
        }
    )
    return verify(problem, plan)


def broken(verdict: Verdict) -> dict[tuple[str, tuple[str, ...]], float]:
    return {(violation.rule, violation.ids): pytest.approx(violation.amount) for violation in verdict.violations}  # type: ignore[misc]


def a(**fields: Any) -> dict[str, Any]:
    return {"id": "a", "size_gib": 60} | fields


READER = {"id": "r", "site": "n", "reads": [{"object": "a", "read_gbps": 4, "reads_per_s": 10}]}
AFAR = READER | {"site": "s"}
LINK = {"source": "n", "target": "s", "gbps": 3, "latency_ms": 7}

CASES: list[tuple[Problem, list[tuple[str, str]], dict[tuple[Rule, tuple[str, ...]], float]]] = [
    (asked([a()]), [], {(Rule.replica_count, ("a",)): 1}),
    (asked([a()]), [("a", "ssd"), ("a", "hdd")], {(Rule.replica_count, ("a",)): 1}),
    (asked([a()]), [("a", "ssd"), ("a", "ssd")], {(Rule.replica_count, ("a", "ssd")): 1}),
    (asked([a()]), [("a", "ssd"), ("b", "ssd")], {(Rule.replica_count, ("b", "ssd")): 1}),
    (asked([a()]), [("a", "ssd"), ("a", "tape")], {(Rule.replica_count, ("a", "tape")): 1}),
    (asked([a(replicas=2)]), [("a", "hdd"), ("a", "old")], {(Rule.failure_domain, ("a",)): 1}),
    (asked([a(replicas=2)]), [("a", "hdd"), ("a", "ssd")], {}),
    (asked([a(regions=["eu"])]), [("a", "far")], {(Rule.residency, ("a", "far")): 1}),
    (asked([a(regions=["eu"])]), [("a", "hdd")], {(Rule.residency, ("a", "hdd")): 1}),
    (asked([a(regions=["eu"])]), [("a", "ssd")], {}),
    (asked([a(protections=["encrypted"])]), [("a", "ssd")], {(Rule.protection, ("a", "ssd")): 1}),
    (asked([a(latency_limit_ms=9)]), [("a", "hdd")], {(Rule.latency_limit, ("a", "hdd")): 1}),
    (asked([a(latency_limit_ms=10)]), [("a", "hdd")], {}),
    (asked([a(size_gib=150)]), [("a", "ssd")], {(Rule.tier_capacity, ("ssd",)): 50}),
    (asked([a(write_gbps=6)]), [("a", "ssd")], {(Rule.write_bandwidth, ("ssd",)): 1}),
    (asked([a(read_gbps=12)]), [("a", "ssd")], {(Rule.read_bandwidth, ("ssd",)): 2}),
    (asked([a(read_gbps=8)], readers=[READER]), [("a", "ssd")], {(Rule.read_bandwidth, ("ssd",)): 2}),
    (asked([a()], readers=[AFAR]), [("a", "ssd")], {(Rule.reader_served, ("r", "a")): 1}),
    (asked([a()], readers=[AFAR | {"accelerator": "gpu"}], tiers=[TIERS[0] | {"accelerators": ["gpu"]}]), [("a", "ssd")], {}),
    (asked([a()], readers=[AFAR], site_links=[LINK]), [("a", "ssd")], {(Rule.site_bandwidth, ("n", "s")): 1}),
    (asked([a(latency_limit_ms=6)], readers=[AFAR], site_links=[LINK]), [("a", "ssd")], {(Rule.reader_served, ("r", "a")): 1}),
    (
        asked([a(minimum_stay_days=9, current=[{"tier": "hdd", "stored_days": 3}])]),
        [("a", "ssd")],
        {(Rule.minimum_stay, ("a", "hdd")): 6},
    ),
    (asked([a(minimum_stay_days=9, current=[{"tier": "hdd", "stored_days": 9}])]), [("a", "ssd")], {}),
    (asked([a(current=[{"tier": "hdd"}])], migration={"gib": 50}), [("a", "ssd")], {(Rule.migration_volume, ()): 10}),
    (asked([a()], migration={"gib": 50}), [("a", "ssd")], {}),
    (
        asked([a(current=[{"tier": "hdd"}])], tiers=[TIERS[0] | {"usd_per_gib_written": 0.5}, TIERS[1]], migration={"usd": 20}),
        [("a", "ssd")],
        {(Rule.migration_budget, ()): 10},
    ),
    (asked([a()], tiers=[TIERS[0] | {"usd_per_gib_month": 0.5}], budget_usd=29), [("a", "ssd")], {(Rule.cost_budget, ()): 1}),
]


@pytest.mark.parametrize(("problem", "copies", "expected"), CASES, ids=range(len(CASES)))
def test_each_rule_is_cited_with_its_amount(
    problem: Problem, copies: list[tuple[str, str]], expected: dict[tuple[Rule, tuple[str, ...]], float]
) -> None:
    verdict = told(problem, copies)
    assert broken(verdict) == {(rule.value, ids): amount for (rule, ids), amount in expected.items()}
    assert verdict.violation_count == len(expected)
    assert verdict.ok == (not expected)


def test_compressed_only_where_a_share_is_given() -> None:
    assert broken(told(asked([a()]), [("a", "hdd")], [True])) == {("compression", ("a", "hdd")): 1}
    verdict = told(asked([a(compressed_share=0.5)]), [("a", "hdd")], [True])
    assert verdict.ok
    assert verdict.metrics["stored_gib"] == 30


def test_a_copy_in_the_other_form_is_no_copy_that_stays() -> None:
    problem = asked([a(compressed_share=0.5, minimum_stay_days=9, current=[{"tier": "hdd", "stored_days": 3}])])
    assert broken(told(problem, [("a", "hdd")], [True])) == {("minimum_stay", ("a", "hdd")): 6}
    assert told(problem, [("a", "hdd")], [True]).metrics["moved_gib"] == 30


def test_latency_of_a_told_serving_counts_the_site_link() -> None:
    problem = asked([a(latency_limit_ms=6)], readers=[AFAR], site_links=[LINK | {"gbps": None}])
    verdict = told(problem, [("a", "ssd")], serving=[("r", "a", "ssd", 1.0)])
    assert broken(verdict) == {("latency_limit", ("r", "a", "ssd")): 2}


def test_servings_that_make_no_sense() -> None:
    problem = asked([a()], readers=[READER])
    for odd in (("x", "a", "ssd", 1.0), ("r", "b", "ssd", 1.0), ("r", "a", "hdd", 1.0), ("", "a", "ssd", 1.0)):
        verdict = told(problem, [("a", "ssd")], serving=[odd])
        assert broken(verdict) == {("reader_served", odd[:2]): 1}


def test_shares_must_add_up() -> None:
    problem = asked([a(copies_max=2)], readers=[READER])
    copies = [("a", "ssd"), ("a", "hdd")]
    assert told(problem, copies, serving=[("r", "a", "ssd", 0.25), ("r", "a", "hdd", 0.75)]).ok
    verdict = told(problem, copies, serving=[("r", "a", "ssd", 0.25), ("r", "a", "hdd", 0.25)])
    assert broken(verdict) == {("reader_served", ("r", "a")): 0.5}


def test_reads_not_mentioned_go_to_the_best_copy_by_the_goals() -> None:
    tiers = [TIERS[0] | {"usd_per_gib_read": 1}, TIERS[1]]
    copies = [("a", "ssd"), ("a", "hdd")]
    objects = [a(copies_max=2, read_gbps=2, reads_per_s=10)]
    cheap = told(asked(objects, tiers=tiers), copies)
    assert cheap.objectives["access_time"] == pytest.approx(2 / 2 + 10 * 0.01)
    assert cheap.objectives["cost"] == 0
    fast = told(asked(objects, tiers=tiers, goals=["access_time", "cost"]), copies)
    assert fast.objectives["access_time"] == pytest.approx(2 / 8 + 10 * 0.001)
    assert fast.objectives["cost"] == pytest.approx(2 * 86400 * 365 / 12 / 8.589934592)


def test_the_goals_by_hand() -> None:
    """Storage, requests, rewriting, a move, early deletion and a short life, each worked out here."""
    tiers = [
        TIERS[0] | {"usd_per_gib_month": 0.3, "usd_per_1000_reads": 0.01, "usd_per_1000_writes": 0.02, "usd_per_gib_written": 0.1},
        TIERS[1] | {"usd_per_gib_month": 0.05, "usd_per_gib_read": 0.2, "minimum_days": 90},
    ]
    problem = asked(
        [
            a(current=[{"tier": "hdd", "stored_days": 30}], reads_per_s=2, write_gbps=0.001, writes_per_s=3),
            {"id": "b", "size_gib": 10, "lifetime_days": 20},
        ],
        tiers=tiers,
        period_days=30,
    )
    verdict = told(problem, [("a", "ssd"), ("b", "hdd")])
    month = 365 / 12
    metrics = verdict.metrics
    assert metrics["cost_storage"] == pytest.approx(60 * 0.3 * 30 / month + 10 * 0.05 * (20 + 70) / month)
    assert metrics["cost_requests"] == pytest.approx(30 * 86.4 * (2 * 0.01 + 3 * 0.02))
    assert metrics["cost_transfer"] == pytest.approx(30 * 86400 * 0.001 / 8.589934592 * 0.1)
    assert metrics["cost_moves"] == pytest.approx(60 * 0.2 + 60 * 0.1 + 60 * 0.05 * 60 / month)
    assert verdict.objectives["moved_gib"] == 60
    assert verdict.objectives["cost"] == pytest.approx(sum(value for name, value in metrics.items() if name.startswith("cost_")))


def test_a_copy_that_stays_pays_the_rest_of_its_minimum_only_when_it_dies() -> None:
    tiers = [TIERS[0] | {"usd_per_gib_month": 0.1, "minimum_days": 90}]
    now = [{"tier": "ssd", "stored_days": 30}]
    for life, days in ((None, 10), (5, 5 + 55), (70, 10), (40, 10 + 20)):
        problem = asked([a(current=now, lifetime_days=life)], tiers=tiers, period_days=10)
        assert told(problem, [("a", "ssd")]).metrics["cost_storage"] == pytest.approx(60 * 0.1 * 12 / 365 * days)


def test_packed_reads_take_fewer_bytes_and_more_time_to_unpack() -> None:
    compression = {"latency_ms": 4, "usd_per_gib": 0.01}
    problem = asked([a(compressed_share=0.5, read_gbps=2, reads_per_s=10)], compression=compression, period_days=1)
    verdict = told(problem, [("a", "ssd")], [True])
    assert verdict.objectives["access_time"] == pytest.approx(2 * 0.5 / 8 + 10 * 0.005)
    assert verdict.objectives["cost"] == pytest.approx(2 * 86400 / 8.589934592 * 0.01)


def test_the_site_link_limits_the_stream() -> None:
    link = LINK | {"gbps": None, "stream_gbps": 1, "usd_per_gib": 0.5}
    verdict = told(asked([a()], readers=[AFAR], site_links=[link], period_days=1), [("a", "ssd")])
    assert verdict.objectives["access_time"] == pytest.approx(4 / 1 + 10 * 0.008)
    assert verdict.objectives["cost"] == pytest.approx(4 * 86400 / 8.589934592 * 0.5)


def test_a_table_is_a_list() -> None:
    table = {
        "size_gib": [60, 10],
        "read_gbps": [1, 2],
        "regions": [None, ["eu"]],
        "latency_limit_ms": [None, 5],
        "compressed_share": [0.5, None],
        "lifetime_days": [None, 3],
        "current_tier": ["hdd", None],
        "current_days": [4, 0],
        "replicas": [1, 1],
        "copies_max": [2, None],
    }
    rows = [
        {
            "id": "o0",
            "size_gib": 60,
            "read_gbps": 1,
            "compressed_share": 0.5,
            "copies_max": 2,
            "current": [{"tier": "hdd", "stored_days": 4}],
        },
        {"id": "o1", "size_gib": 10, "read_gbps": 2, "regions": ["eu"], "latency_limit_ms": 5, "lifetime_days": 3},
    ]
    copies = [("o0", "ssd"), ("o0", "far"), ("o1", "hdd")]
    assert told(asked([], object_table=table), copies) == told(asked(rows), copies)


def test_many_violations_are_counted() -> None:
    problem = asked([], object_table={"size_gib": [1.0] * 300})
    verdict = verify(problem, Plan())
    assert (verdict.violation_count, len(verdict.violations)) == (300, 100)
