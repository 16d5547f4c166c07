"""The loop on a pretended scheduler: its modes, its rhythm, and that every job starts whatever becomes of the optimiser."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from service.plugins import heartbeat
from service.plugins.debounce import Debounce
from service.plugins.follower import Round
from service.plugins.heartbeat import Heart
from service.plugins.modes import Mode
from service.plugins.optimisers import LocalOptimiser
from service.plugins.planner import Answer, NoPlanError, Optimiser
from service.plugins.scheduler import SchedulerError
from service.plugins.settings import PluginSettings
from tests.plugins.followers import cluster, following, metric
from tests.plugins.optimisers import Broken, Greedy
from tests.plugins.pretend import Pretend, job
from tests.plugins.quiet import quiet

__all__ = ["quiet"]


# ---------------------------------------------------------------- modes


def test_enforce_pins_and_releases_and_gangs_stay_whole() -> None:
    pretend = cluster()
    for place in range(3):
        pretend.submit(job(f"gang{place}", 4, 2, together="rack"))
    pretend.submit(job("single", 8))
    follower = following(pretend)
    done = follower.round()
    assert (done.ended, pretend.wrong, done.refused) == ("planned", [], [])
    assert {task.how for task in pretend.tasks.values()} == {"committed"}
    assert [len(task.on) for task in pretend.tasks.values()] == [2, 2, 2, 1]
    assert metric(follower, "commits_total", outcome="done") == 4
    assert follower.round().ended == "nothing"  # all of it runs


@pytest.mark.parametrize("mode", [Mode.shadow, Mode.advise])
def test_shadow_and_advise_touch_nothing(mode: Mode) -> None:
    pretend = cluster()
    pretend.submit(job("a", 8, held=False))
    pretend.tasks["a"].released_at = pretend.now + 1e9  # the scheduler is slow
    pretend.submit(job("held"))
    pretend.submit(job("big", 8, 9))
    follower = following(pretend, mode=mode, fallback_s=1.0)
    for _ in range(5):
        follower.round()
        pretend.now += 100.0
        follower.in_force.current(pretend.now)
    assert not {"commit", "free", "unpin"} & set(pretend.calls)
    assert ("tell" in pretend.calls) == (mode is Mode.advise)
    assert follower.in_force.version == 5
    follower.close()
    assert not {"commit", "free", "unpin"} & set(pretend.calls)


def test_shadow_reports_what_would_have_started_and_for_how_long_it_went_on_waiting() -> None:
    pretend = cluster(1)
    pretend.submit(job("a", 6, held=False, priority=2))
    pretend.submit(job("b", 1, held=False, priority=1))
    for task in pretend.tasks.values():
        task.released_at = 2e9
    follower = following(pretend, mode=Mode.shadow)
    first = follower.round().gains
    assert first is not None
    assert ([one.job for one in first.jobs], first.gpus, first.share, first.gpu_hours) == (["a", "b"], 7.0, 7 / 8, 0.0)
    pretend.now += 3_600.0
    second = follower.round().gains
    assert second is not None
    assert second.gpu_hours == 7.0
    assert second.sentence.startswith("The plan would start 2 waiting jobs now on 7 idle GPUs (87.5% of the cluster): a, b.")
    assert "for 3600 s" in second.sentence
    pretend.tasks["a"].released_at = None
    pretend.advance(3_600.0)
    third = follower.round().gains
    assert third is not None
    assert ([one.job for one in third.jobs], third.gpu_hours) == (["b"], 8.0)
    assert metric(follower, "gain_gpus") == 1.0


def test_advice_stays_where_it_was_until_the_scheduler_has_acted() -> None:
    pretend = cluster()
    for place in range(4):
        pretend.submit(job(f"j{place}", 3, held=False))
        pretend.tasks[f"j{place}"].released_at = 2e9
    follower = following(pretend, mode=Mode.advise)
    follower.round()
    before = follower.in_force.latest
    pretend.submit(job("more", 2, held=False, priority=5))
    pretend.tasks["more"].released_at = 2e9
    follower.round()
    after = follower.in_force.latest
    assert before is not None
    assert after is not None
    assert {name: after.orders[name].seats for name in before.orders} == {name: order.seats for name, order in before.orders.items()}
    assert "more" in after.orders


# ---------------------------------------------------------------- what goes wrong


class Sometimes:
    """Fails at first, and is repaired after so many solves."""

    def __init__(self, failures: int) -> None:
        self.failures, self.good = failures, Greedy()

    def solve(self, *asked: Any) -> Answer:
        self.failures -= 1
        if self.failures >= 0:
            raise NoPlanError("gone", "killed")
        return self.good.solve(*asked)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    "optimiser",
    [
        Broken(NoPlanError("late", "frozen")),
        Broken(NoPlanError("gone", "killed")),
        Broken(RuntimeError("a fault")),
        Broken(Answer(b"rubbish")),
        Broken(Answer('{"placements": []}')),
        Broken(Answer('{"placements": [{"job": "j0", "workers": [{"node": "n0", "gpus": [0, 0]}]}]}')),
        Sometimes(3),
    ],
)
def test_every_job_starts_whatever_the_optimiser_does(optimiser: Optimiser) -> None:
    pretend = cluster()
    for place in range(12):
        pretend.submit(job(f"j{place}", 8), runs_s=100.0)
    follower = following(pretend, optimiser, fallback_s=60.0, refresh_s=10.0)
    for _ in range(60):
        follower.step()
        pretend.advance(10.0)
    assert pretend.wrong == []
    assert len(pretend.starts) == 12
    assert pretend.tasks == {}
    assert follower.in_force.version >= (1 if isinstance(optimiser, Sometimes) else 0)
    if not isinstance(optimiser, Sometimes):
        assert metric(follower, "jobs_freed_total", reason="fallback") == 12
        assert sum(
            metric(follower, "plans_refused_total", reason=trouble)
            for trouble in ("late", "gone", "fault", "rubbish", "poor", "infeasible")
        )


def test_the_fallback_waits_and_spares_what_a_plan_has_considered() -> None:
    pretend = cluster(1)
    pretend.submit(job("runs", 8, held=False), runs_s=1e6)
    pretend.schedule()
    pretend.submit(job("considered", 8))
    pretend.submit(job("impossible", 99))
    follower = following(pretend, fallback_s=60.0)
    for _ in range(6):
        assert follower.round().freed == ()
        pretend.advance(11.0)
    assert follower.round().freed == ("impossible",)
    pretend.advance(1e4)
    assert follower.round().freed == ()
    assert pretend.tasks["considered"].held


def test_a_scheduler_that_is_away_costs_rounds_and_pauses_that_grow() -> None:
    pretend = cluster()
    pretend.submit(job("a"))
    follower = following(pretend, longest_pause_s=5.0)
    pretend.down = True
    assert [follower.step() for _ in range(6)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    assert metric(follower, "rounds_total", ended="scheduler") == 6
    pretend.down = False
    for _ in range(10):
        assert follower.step() == 0.0
    assert pretend.starts == ["a"]


def test_a_fault_of_ours_is_told_and_the_loop_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend = cluster()
    pretend.submit(job("a"))
    follower = following(pretend)
    monkeypatch.setattr(follower, "_planned", lambda *_: 1 / 0)
    assert follower.step() == 0.5
    assert metric(follower, "rounds_total", ended="fault") == 1


def test_a_commit_without_an_answer_keeps_its_seats_for_a_while() -> None:
    pretend = cluster(1)
    pretend.submit(job("a", 8))
    follower = following(pretend)
    pretend.before_call = lambda call: setattr(pretend, "down", call == "commit")
    with pytest.raises(SchedulerError):
        follower.round()
    pretend.before_call = lambda _: None
    pretend.down = False
    assert metric(follower, "commits_total", outcome="unknown") == 1
    assert follower.round().ended == "nothing"  # it may have been released
    pretend.advance(11.0)
    assert follower.round().committed[0].outcome == "done"


def test_released_jobs_hold_their_seats_until_they_run() -> None:
    pretend = cluster(1, slow_s=20.0)
    pretend.submit(job("a", 8), runs_s=1e6)
    follower = following(pretend)
    follower.round()
    pretend.submit(job("b", 8))
    done = follower.round()
    assert (done.committed, pretend.wrong) == ([], [])
    assert metric(follower, "reserved_jobs") == 1
    pretend.advance(21.0)
    follower.round()
    assert pretend.starts == ["a"]
    assert metric(follower, "reservations_ended_total", ending="runs") == 1


def test_a_pin_goes_when_its_node_drains_or_takes_too_long() -> None:
    pretend = cluster(2, slow_s=15.0)
    pretend.submit(job("a", 8))
    follower = following(pretend)
    follower.round()
    pin = pretend.tasks["a"].pin[0]
    pretend.change(pin, state="drained")
    pretend.advance(1.0)
    assert follower.round().unpinned == ("a",)
    pretend.advance(20.0)
    assert pretend.tasks["a"].on[0][0] != pin
    assert metric(follower, "reservations_ended_total", ending="unpinned") == 1

    pretend.change(pin, state="ready")
    pretend.submit(job("b", 1))
    pretend.slow_s = 1e9
    follower.round()
    pretend.advance(59.0)
    assert follower.round().unpinned == ()
    pretend.advance(2.0)
    assert follower.round().unpinned == ("b",)


def test_a_new_follower_knows_the_pins_of_the_one_before() -> None:
    pretend = cluster(1, slow_s=50.0)
    pretend.submit(job("a", 8))
    following(pretend).round()
    pretend.submit(job("b", 8))
    second = following(pretend)
    assert second.round().committed == []
    assert (pretend.wrong, len(second.reservations)) == ([], 1)
    pretend.change("n0", state="drained")
    assert second.round().unpinned == ("a",)
    assert second.round().unpinned == ()


def test_what_was_refused_is_tried_again_soon_and_then_more_seldom() -> None:
    pretend = cluster(2)
    pretend.submit(job("a", 8))
    follower = following(pretend, refresh_s=10.0, quiet_s=0.1)
    spoilt: list[float] = []

    def spoil(call: str) -> None:
        if call == "snapshot" and pretend.calls["snapshot"] % 2 and len(spoilt) < 4:  # the one for the re-check
            spoilt.append(pretend.now)
            pretend.change("n0", state=pretend.machines["n0"].state)
            pretend.change("n1", state=pretend.machines["n1"].state)
            pretend.news = False

    pretend.before_call = spoil
    while pretend.starts == []:
        follower.step()
        assert pretend.now < 1_000_020.0
    assert [round(at - spoilt[0], 1) for at in spoilt] == [0.0, 0.5, 1.5, 3.5]
    assert metric(follower, "orders_refused_total", reason="node_changed") == 4


def test_duplicate_jobs_and_changes_start_a_job_once() -> None:
    pretend = cluster()
    pretend.duplicates = True
    pretend.submit(job("a", 8))
    follower = following(pretend, quiet_s=0.1)
    for _ in range(20):
        pretend.news = True
        follower.step()
        pretend.now += 0.2
    assert (pretend.starts, pretend.wrong) == (["a"], [])


# ---------------------------------------------------------------- rhythm and signs of life


def test_rounds_wait_for_quiet_but_not_for_ever() -> None:
    debounce = Debounce(0.5, 2.0, 30.0)
    assert debounce.wait_s(0.0) == 0.0  # the first needs no reason
    debounce.began(0.0)
    assert debounce.wait_s(10.0) == 20.0
    debounce.changed(10.0)
    assert debounce.wait_s(10.0) == 0.5
    for tenth in range(1, 20):
        debounce.changed(10.0 + tenth / 10)
    assert debounce.wait_s(11.9) == pytest.approx(0.1)
    debounce.began(12.0)
    assert debounce.due_at() == 42.0
    debounce.again(20.0)
    debounce.again(30.0)
    assert debounce.due_at() == 20.0
    debounce.began(20.0)
    assert debounce.due_at() == 50.0
    assert Debounce(0.5, 2.0).wait_s(0.0) == 0.0


def test_a_burst_of_submissions_is_one_round() -> None:
    pretend = cluster(16)
    follower = following(pretend, quiet_s=0.3, longest_wait_s=1.5)
    follower.step()
    for place in range(100):
        pretend.submit(job(f"j{place}", 1))
        pretend.now += 0.01
        follower.step()
    for _ in range(3):
        follower.step()
    assert len(pretend.starts) == 100
    assert follower.in_force.version <= 4
    assert pretend.now - 1_000_000.0 < 3.0


@pytest.mark.parametrize(("optimiser", "beats"), [(Greedy(), True), (Broken(Answer(b"rubbish")), False)])
def test_only_good_rounds_leave_a_sign_of_life(optimiser: Optimiser, beats: bool, tmp_path: Path) -> None:
    pretend = cluster()
    pretend.submit(job("a"))
    follower = following(pretend, optimiser, heart=Heart(tmp_path / "stamp"))
    follower.round()
    assert (heartbeat.read(tmp_path / "stamp") is not None) == beats
    assert metric(follower, "stale") == (0.0 if beats else 1.0)


def test_a_clean_end_releases_everything_held(tmp_path: Path) -> None:
    pretend = cluster(1, slow_s=20.0)
    for place in range(3):
        pretend.submit(job(f"j{place}", 8), runs_s=10.0)
    follower = following(pretend, heart=Heart(tmp_path / "stamp"))
    stop = threading.Event()
    follower.on_round = lambda _: stop.set()
    follower.run(stop)
    assert [task.held for task in pretend.tasks.values()] == [False] * 3
    assert [task.pin for task in pretend.tasks.values()] == [()] * 3
    stamp = heartbeat.read(tmp_path / "stamp")
    assert stamp is not None
    assert stamp.ended
    assert metric(follower, "jobs_freed_total", reason="shutdown") == 2


def test_an_end_that_cannot_release_leaves_it_to_the_watchdog(tmp_path: Path) -> None:
    pretend = cluster(1)
    pretend.submit(job("a", 8))
    follower = following(pretend, heart=Heart(tmp_path / "stamp"))
    pretend.down = True
    follower.close()
    assert heartbeat.read(tmp_path / "stamp") is None


def test_sentences_are_told_once_and_again_when_they_change() -> None:
    pretend = cluster(1)
    pretend.submit(job("runs", 8, held=False), runs_s=600.0)
    pretend.schedule()
    pretend.submit(job("waits", 8))
    rounds: list[Round] = []
    follower = following(pretend, on_round=rounds.append)
    for _ in range(3):
        follower.round()
    assert [len(one.told) for one in rounds] == [1, 0, 0]
    assert "node n0 frees at" in pretend.told[0].why
    assert "runs" in pretend.told[0].why
    assert follower.in_force.wait("waits", pretend.now) == pretend.told[0]
    pretend.change("n0", state="cordoned")
    follower.round()
    assert len(rounds[-1].told) == 1


def test_settings_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="raise it to that, or lower refresh_s"):
        PluginSettings(watchdog_s=5.0)
    with pytest.raises(ValueError, match="make it at least as long"):
        PluginSettings(quiet_s=9.0)
    with pytest.raises(ValueError, match="too old when it is made"):
        PluginSettings(ttl_s=1.0)


@pytest.mark.long
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_every_job_starts_when_the_optimisers_process_is_killed_or_frozen(number: signal.Signals) -> None:
    """A real child process, hit while it solves, and hit again while it waits."""
    pretend = cluster()
    optimiser = LocalOptimiser()
    pretend.before_call = lambda call: _hit(optimiser, number, pretend) if call == "snapshot" else None
    follower = following(pretend, optimiser, time_limit_s=0.5, explain_jobs=0)
    try:
        for place in range(8):
            pretend.submit(job(f"j{place}", 8 if place % 2 else 4), runs_s=30.0)
        for _ in range(12):
            follower.step()
            pretend.advance(10.0)
            assert pretend.over_allocated() == []
        assert (pretend.wrong, pretend.tasks, len(pretend.starts)) == ([], {}, 8)
    finally:
        follower.close()


def _hit(optimiser: LocalOptimiser, number: signal.Signals, pretend: Pretend) -> None:
    if pretend.calls["snapshot"] in (0, 3):
        for pid in optimiser.pids():
            os.kill(pid, number)
