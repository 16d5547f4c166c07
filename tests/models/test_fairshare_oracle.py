"""Every policy on random small problems: the answer is that of a second implementation, proved and verified.

200 problems for each policy: the first DEFAULT of them here, all of them with ``-m long``.
"""

from __future__ import annotations

import pytest

from models.fairshare.plans.division import division_of
from models.fairshare.schema import Policy, Problem
from models.fairshare.verify import verify
from optimizer.result import Outcome
from tests.models.fairshare_random import plan_of, problem, solved, tame
from tests.oracles.fairshare import Answer, Infeasible, Oracle

DEFAULT, ALL = 25, 200
EXACT = 1e-6
POLICIES = [policy.value for policy in Policy]


def answer(given: Problem) -> Answer | None:
    try:
        return Oracle(given).answer()
    except Infeasible:
        return None


def check(given: Problem) -> None:
    """Goals to 1e-6, what jobs get where only one division is right, and the proof of both."""
    best = answer(given)
    result = solved(given)
    assert result.failure is None, result.failure
    if best is None:
        assert result.outcome is Outcome.infeasible
        return
    plan = plan_of(result)
    verdict = verify(given, plan)
    assert verdict.ok, verdict.violations
    assert tame(verdict.objectives) == pytest.approx(tame(best.goals), rel=EXACT, abs=EXACT)
    assert result.outcome is Outcome.optimal, result.certificate
    if best.unique:
        division = division_of(given, plan)
        equal = division.market.jobs.equal.tolist()
        # What is proved of a smooth mean to 1e-7 holds of its parts to the root of that.
        near = 3e-3 if given.policy is Policy.proportional_fair else 1e-4
        wanted = [speed / one for speed, one in zip(best.speeds, equal, strict=True)]
        assert (division.judged / equal).tolist() == pytest.approx(wanted, rel=near, abs=1e-5)


def drawn(seed: int, policy: str) -> Problem:
    """Every fourth problem has two classes."""
    return problem(seed, policy, classes=2 if seed % 4 == 1 else 1)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(DEFAULT))
def test_the_oracle_agrees(policy: str, seed: int) -> None:
    check(drawn(seed, policy))


@pytest.mark.long
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(DEFAULT, ALL))
def test_the_oracle_agrees_on_the_rest(policy: str, seed: int) -> None:
    check(drawn(seed, policy))
