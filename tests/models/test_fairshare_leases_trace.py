"""Leases over 500 rounds of traces of Gavel: every job that stays 50 rounds is within 1% of what was planned for it."""

from __future__ import annotations

import pytest

from benchmarks.leases import CASES, RESTART_S, Replay, measure, solved
from models.fairshare.leases.book import Terms
from models.fairshare.plans.equal_split import equal_division

TERMS = Terms(slots=2, restart_s=RESTART_S)


@pytest.mark.parametrize("name", ["physical", "physical_single", "mixed"])
def test_equal_split_is_kept(name: str) -> None:
    row = measure(name, equal_division, TERMS, 500)
    assert row["stay"] >= 30
    assert row["share_error"] <= 0.01
    assert row["lost"] < 0.12


@pytest.mark.long
@pytest.mark.parametrize("name", list(CASES))
def test_fair_plans_are_kept(name: str) -> None:
    row = measure(name, solved, TERMS, 500)
    assert row["stay"] >= 10
    assert row["share_error"] <= 0.01


def test_a_job_leaves_when_its_steps_are_done() -> None:
    replay = Replay(CASES["physical_single"], equal_division, TERMS)
    for _ in range(150):
        replay.round()
    gone = [stay for name, stay in replay.stays.items() if name not in replay.there]
    assert gone
    assert all(stay.left <= 0 for stay in gone)
    assert all(replay.stays[name].left > 0 or replay.stays[name].rounds for name in replay.there)
