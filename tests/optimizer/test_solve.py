"""The one way through: outcomes, limits, and what becomes of a search that misbehaves."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from models import catalogue
from models.placement.schema import Problem as PlacementProblem
from models.placement.schema import example as placement_example
from optimizer import diagnose
from optimizer.result import Outcome, Progress, StopReason
from optimizer.solve import solve
from tests.models.placement_problems import job, node, problem
from tests.optimizer import rogues
from tests.optimizer.conftest import Rogue
from tests.optimizer.rogues import BEST, BETTER, TWICE
from tests.optimizer.solving import check_certificate, check_progress, limits, objectives, timed
from tests.optimizer.toy_kind import KIND, heuristic
from tests.optimizer.toy_kind.schema import Bag, GoalName, Problem, Thing, example, hard

OVERRUN_S = 1.0  # what a solve may take beyond its limit
BUSY_S = 1.5  # more, because the test machine may be busy
ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.usefixtures("toy_kind")


# ---------------------------------------------------------------- the good cases


@pytest.mark.parametrize("isolate", [True, False])
@pytest.mark.parametrize("wide", [True, False])
def test_any_kind_is_solved_to_a_proof(isolate: bool, wide: bool) -> None:
    of = example().model_copy(update={"wide": wide, "goals": (GoalName.worth,)})
    heard: list[Progress] = []
    result = solve(of, limits(), heard.append, isolate=isolate)
    assert (result.outcome, result.stop_reason, result.failure, result.message) == (Outcome.optimal, StopReason.gap, None, "")
    assert objectives(result) == (13.0,)
    check_certificate(result, KIND, of)
    check_progress(heard)
    assert heard == list(result.trace)
    assert heard[-1].incumbent == heard[-1].bound == 13.0
    assert result.reasons
    assert {"heuristic", "build", "hand_over", "solve", "verify", "explain"} <= set(result.seconds_by_phase)
    assert sum(result.seconds_by_phase.values()) <= 2 * result.seconds


@pytest.mark.parametrize("isolate", [True, False])
def test_the_example_of_placement_is_solved_to_a_proof(isolate: bool) -> None:
    of = placement_example()
    heard: list[Progress] = []
    result = solve(of, limits(), heard.append, isolate=isolate)
    assert (result.kind, result.outcome, result.stop_reason) == ("placement", Outcome.optimal, StopReason.gap)
    check_certificate(result, catalogue.kind("placement"), of)
    check_progress(heard)
    assert result.certificate is not None
    assert result.certificate.versions["highspy"] == "1.12.0"


def test_a_later_goal_never_worsens_an_earlier_one() -> None:
    for seed in range(4):
        of = hard(2, 8, seed)
        alone = solve(of.model_copy(update={"goals": (GoalName.worth,)}), limits(), isolate=False)
        both = solve(of, limits(), isolate=False)
        assert (alone.outcome, both.outcome) == (Outcome.optimal, Outcome.optimal)
        assert objectives(both)[0] == pytest.approx(objectives(alone)[0], rel=1e-9)
        reverse = solve(of.model_copy(update={"goals": (GoalName.weight, GoalName.worth)}), limits(), isolate=False)
        assert objectives(reverse) == (0.0, 0.0)
        check_certificate(both, KIND, of)


def test_the_same_seed_gives_the_same_answer() -> None:
    plans = [solve(hard(3, 12, 1), limits(seed=5), isolate=False).plan for _ in range(2)]
    assert plans[0] == plans[1]
    plans = [solve(hard(3, 12, 1, wide=True, goals=("worth",)), limits(gap=0.02, seed=5), isolate=False).plan for _ in range(2)]
    assert plans[0] == plans[1]


def test_a_wider_gap_is_enough() -> None:
    result = solve(hard(3, 20, 2, goals=("worth",)), limits(gap=0.2))
    assert (result.outcome, result.stop_reason) == (Outcome.optimal, StopReason.gap)
    assert result.certificate is not None
    assert result.certificate.gap <= 0.2


def test_a_plan_that_counting_proves_needs_no_search(rogue: Rogue) -> None:
    rogue(rogues.abort)
    of = Problem(bags=(Bag(id="bag", capacity_g=9),), things=(Thing(id="a", weight_g=3, worth_usd=2, must_pack=True),))
    result = solve(of, limits())
    assert (result.outcome, result.stop_reason, result.certificate and result.certificate.strategy) == ("optimal", "gap", "heuristic")


def test_no_things_at_all() -> None:
    result = solve(Problem(bags=example().bags, things=()), limits())
    assert (result.outcome, objectives(result)) == (Outcome.optimal, (0.0, 0.0))


# ---------------------------------------------------------------- no plan


def crowded() -> Problem:
    """Two things of 3 and a bag of 5 that must hold both; an infeasibility that the relaxation does not see at once."""
    things = tuple(Thing(id=name, weight_g=3, worth_usd=1, must_pack=True) for name in "ab")
    return Problem(bags=(Bag(id="bag", capacity_g=5),), things=things)


@pytest.mark.parametrize("isolate", [True, False])
def test_infeasible_is_a_proof_with_a_conflict_and_no_plan(isolate: bool) -> None:
    result = solve(crowded(), limits(), isolate=isolate)
    assert (result.outcome, result.stop_reason) == (Outcome.infeasible, StopReason.gap)
    assert (result.plan, result.certificate, result.verdict, result.failure) == (None, None, None, None)
    assert result.conflict is not None
    assert result.conflict.status == "proved"
    assert set(result.conflict.rules) == {("bag_capacity", ("bag",)), ("must_pack", ("a",)), ("must_pack", ("b",))}
    assert result.conflict.repairs == ("bag_capacity of bag: 1 g more",)


def test_a_thing_too_heavy_for_every_bag() -> None:
    of = Problem(bags=example().bags, things=(Thing(id="anvil", weight_g=1000, worth_usd=1, must_pack=True),))
    result = solve(of, limits())
    assert result.outcome is Outcome.infeasible
    assert result.conflict is not None
    assert ("must_pack", ("anvil",)) in result.conflict.rules


def test_a_proof_survives_the_search_for_its_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise LookupError("a bug of this test")

    monkeypatch.setattr(diagnose, "diagnose", broken)
    result = solve(crowded(), limits(), isolate=False)
    assert (result.outcome, result.conflict) == (Outcome.infeasible, None)
    assert result.failure is not None
    assert "a bug of this test" in result.failure


def test_a_search_that_ends_with_nothing_is_no_proof(rogue: Rogue) -> None:
    rogue(rogues.refute)
    assert solve(crowded(), limits()).outcome is Outcome.infeasible
    assert solve(crowded(), limits(1e-3)).outcome is Outcome.no_plan  # no time even to begin


def test_no_plan_in_time_is_no_plan(rogue: Rogue, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heuristic, "heuristic", lambda *_: None)
    rogue(rogues.silent)
    result = solve(example(), limits(0.5), isolate=False)
    assert (result.outcome, result.stop_reason, result.plan, result.certificate) == (Outcome.no_plan, StopReason.deadline, None, None)
    assert result.failure is None


def test_a_refuted_problem_with_a_verified_plan_is_our_fault(rogue: Rogue) -> None:
    rogue(rogues.refute)
    result = solve(example(), limits())
    assert (result.outcome, result.stop_reason, result.plan) == (Outcome.no_plan, StopReason.crash, None)
    assert result.failure is not None
    assert "infeasible" in result.failure


# ---------------------------------------------------------------- limits


def test_a_deadline_holds_against_a_search_that_ignores_everything(rogue: Rogue) -> None:
    rogue(rogues.hang)
    seconds = 0.0
    for _ in range(3):  # the promise is of the engine: a busy machine gets another chance
        result, seconds = timed(example(), limits(2.5))
        assert (result.outcome, result.stop_reason, result.plan, result.failure) == (Outcome.feasible, StopReason.deadline, BEST, None)
        check_certificate(result, KIND, example())
        if seconds < 2.5 + OVERRUN_S:
            return
    pytest.fail(f"2.5 s became {seconds:.1f} s")


def test_a_cancel_holds_against_a_search_that_ignores_everything(rogue: Rogue) -> None:
    rogue(rogues.hang)
    cancel = threading.Event()

    def on_progress(step: Progress) -> None:
        if step.incumbent == 13.0:
            cancel.set()

    result, seconds = timed(example(), limits(60), on_progress, cancel)
    assert seconds < 30
    assert (result.outcome, result.stop_reason, result.plan) == (Outcome.feasible, StopReason.cancelled, BEST)


def test_cancelled_from_another_thread_the_best_plan_is_kept(rogue: Rogue) -> None:
    rogue(rogues.listen)
    cancel = threading.Event()
    found = threading.Event()

    def on_progress(step: Progress) -> None:
        if step.incumbent == 13.0:
            found.set()

    def wait() -> None:
        found.wait(60)
        cancel.set()

    timer = threading.Thread(target=wait)
    timer.start()
    result, seconds = timed(example(), limits(60), on_progress, cancel)
    timer.join()
    assert seconds < 30
    assert (result.outcome, result.stop_reason, result.plan, result.failure) == (Outcome.feasible, StopReason.cancelled, BEST, None)


@pytest.mark.parametrize("isolate", [True, False])
def test_cancelled_before_it_began_there_is_still_a_plan(isolate: bool) -> None:
    cancel = threading.Event()
    cancel.set()
    result, seconds = timed(example(), limits(60), cancel=cancel, isolate=isolate)
    assert seconds < 10
    assert (result.outcome, result.stop_reason) == (Outcome.feasible, StopReason.cancelled)
    assert objectives(result) == (11.0, 10.0)


def test_a_memory_limit_keeps_the_plan(rogue: Rogue) -> None:
    rogue(rogues.eat_memory)
    result, seconds = timed(example(), limits(60, memory_gib=0.6))
    assert seconds < 45
    assert (result.outcome, result.stop_reason, result.plan) == (Outcome.feasible, StopReason.memory, BEST)
    check_certificate(result, KIND, example())


def test_a_hard_problem_ends_at_its_deadline_with_a_bound() -> None:
    of = hard(8, 60, 3)
    heard: list[Progress] = []
    result, seconds = timed(of, limits(3, gap=0.0), heard.append)
    assert seconds < 3 + OVERRUN_S + BUSY_S
    assert (result.outcome, result.stop_reason, result.failure) == (Outcome.feasible, StopReason.deadline, None)
    check_certificate(result, KIND, of)
    check_progress(heard)


def middling() -> PlacementProblem:
    nodes = [node(f"n{place}", 8, cpu_cores=96, memory_gib=1024) for place in range(64)]
    sizes = (1, 2, 4, 8, 0.5, 0.25, 3, 8)
    jobs = [job(f"j{place}", sizes[place % 8], 1 + place % 3 * (sizes[place % 8] >= 1), cpu_cores=4, memory_gib=16) for place in range(400)]
    return problem(nodes, jobs)


def test_a_short_limit_gives_a_plan_with_placed_jobs() -> None:
    result, seconds = timed(middling(), limits(0.5))
    assert seconds < 0.5 + OVERRUN_S + BUSY_S
    assert result.outcome in {Outcome.optimal, Outcome.feasible}
    assert result.verdict is not None
    assert result.verdict.ok
    assert result.verdict.metrics["placed_jobs"] > 50
    assert result.certificate is not None
    assert math.isfinite(result.certificate.bound)


def test_an_absurdly_short_limit_does_not_hang() -> None:
    result, seconds = timed(middling(), limits(0.01))
    assert seconds < OVERRUN_S + BUSY_S
    assert result.failure is None


# ---------------------------------------------------------------- warm starts


def test_a_warm_start_is_the_floor(rogue: Rogue) -> None:
    rogue(rogues.silent)
    result = solve(example(), limits(), warm_start=BEST, isolate=False)
    assert (result.plan, result.message) == (BEST, "")
    worse = solve(example(), limits(), warm_start=BETTER, isolate=False)
    assert objectives(worse) == (11.0, 10.0)  # the heuristic's own is better


def test_a_warm_start_reaches_the_search() -> None:
    heard: list[Progress] = []
    result = solve(hard(2, 8), limits(), isolate=False)
    again = solve(hard(2, 8), limits(), heard.append, warm_start=result.plan, isolate=False)
    assert objectives(again) == objectives(result)
    assert next(step.incumbent for step in heard if step.incumbent is not None) == objectives(result)[0]


def test_a_broken_warm_start_is_left_aside_with_a_word() -> None:
    result = solve(example(), limits(), warm_start=TWICE)
    assert (result.outcome, objectives(result), result.failure) == (Outcome.optimal, (13.0, 13.0), None)
    assert "the warm start was left aside" in result.message
    assert "a is packed 2 times" in result.message


def test_a_warm_start_of_another_problem_is_left_aside() -> None:
    of = placement_example()
    first = solve(of, limits(), isolate=False)
    fewer = of.model_copy(update={"nodes": of.nodes[:2], "jobs": tuple(one for one in of.jobs if one.running is not None)})
    result = solve(fewer, limits(), warm_start=first.plan, isolate=False)
    assert "the warm start was left aside" in result.message
    assert result.plan is not None


def test_a_warm_start_of_another_kind_is_left_aside() -> None:
    result = solve(placement_example(), limits(), warm_start=BEST, isolate=False)
    assert "the warm start was left aside" in result.message
    assert result.outcome is Outcome.optimal


# ---------------------------------------------------------------- as a library


def test_a_script_needs_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from models.placement.schema import example\n"
        "from optimizer.solve import Limits, solve\n"
        "print('begins')\n"
        "result = solve(example(), Limits(time_limit_s=20))\n"
        "print(result.outcome, result.certificate.objective)\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["begins", "optimal", "103.8"]
