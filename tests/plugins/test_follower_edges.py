"""The loop where it is easily wrong: two followers, changed and unpinned jobs, slow answers, no nodes, and who is passed."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from service.plugins.heartbeat import Heart
from tests.plugins.followers import cluster, following, metric
from tests.plugins.optimisers import Here
from tests.plugins.pretend import Machine, Pretend, job
from tests.plugins.quiet import quiet

__all__ = ["quiet"]


def test_two_followers_of_one_cluster_promise_nothing_twice() -> None:
    """The second one commits between the first one's plan and its re-check; neither knows of the other but by its pins."""
    pretend = cluster(2, slow_s=20.0)
    first, second = following(pretend), following(pretend)
    pretend.submit(job("a", 8))
    pretend.submit(job("b", 8))
    acted: list[int] = []

    def meanwhile(call: str) -> None:
        if call == "snapshot" and pretend.calls["snapshot"] == 1 and not acted:  # the first one's re-check
            acted.append(1)
            pretend.before_call = lambda _: None
            pretend.submit(job("d", 8, priority=9))
            second.round()

    pretend.before_call = meanwhile
    first.round()
    assert acted
    assert pretend.wrong == []
    for _ in range(4):
        pretend.advance(30.0)
        first.round()
        second.round()
    assert (pretend.wrong, pretend.over_allocated()) == ([], [])


@pytest.mark.parametrize("seed", range(6))
def test_two_followers_in_turn_never_promise_a_gpu_twice(seed: int) -> None:
    rng = random.Random(seed)
    pretend = cluster(3, slow_s=rng.choice([0.0, 20.0]))
    both = [following(pretend), following(pretend)]
    busy: list[str] = []

    def meanwhile(call: str) -> None:
        if not busy and call == "snapshot" and rng.random() < 0.5:
            busy.append(call)
            both[1].round()
            busy.clear()

    pretend.before_call = meanwhile
    for place in range(30):
        pretend.submit(job(f"j{place}", rng.choice([1, 4, 8]), rng.choice([1, 1, 2]), priority=rng.randint(1, 3)), runs_s=40.0)
        both[0].round()
        pretend.advance(rng.choice([1.0, 10.0]))
        assert (pretend.wrong, pretend.over_allocated()) == ([], []), place
    pretend.before_call = lambda _: None
    for _ in range(60):
        both[0].round()
        pretend.advance(20.0)
    assert pretend.tasks == {}


def test_a_job_that_changed_after_its_release_keeps_what_it_is_pinned_to() -> None:
    pretend = cluster(1, slow_s=50.0)
    pretend.submit(job("a", 8))
    follower = following(pretend)
    follower.round()
    pretend.resize("a", gpus_per_worker=6.0)
    pretend.submit(job("b", 4))
    follower.round()
    assert (pretend.wrong, len(follower.reservations)) == ([], 1)


def test_at_the_end_pins_go_that_could_not_be_taken_before() -> None:
    pretend = cluster(1, slow_s=1e9)
    pretend.submit(job("a", 8))
    follower = following(pretend, reserve_s=20.0)
    follower.round()
    final, pretend.pins_are_final = pretend.pins_are_final, True
    for _ in range(5):
        pretend.advance(21.0)
        follower.round()
    assert (pretend.tasks["a"].pin, len(follower.reservations)) == (("n0",), 0)
    pretend.pins_are_final = final
    follower.close()
    assert pretend.tasks["a"].pin == ()


@pytest.mark.parametrize("ends_s", [1e15, float("inf")])
def test_what_cannot_be_said_costs_only_the_sentence(ends_s: float) -> None:
    pretend = cluster(1)
    pretend.submit(job("runs", 8, held=False), runs_s=ends_s)
    pretend.schedule()
    pretend.submit(job("waits", 8))
    follower = following(pretend)
    assert follower.round().ended == "planned"

    def failing(*_: object, **__: object) -> None:
        raise ZeroDivisionError

    pretend.tell = failing  # type: ignore[method-assign]
    pretend.cancel("runs")
    pretend.submit(job("more", 8))
    assert follower.round().ended == "planned"
    assert pretend.starts[-1] in ("waits", "more")


def test_a_scheduler_that_answers_slowly_is_told_before_the_watchdog_acts(tmp_path: Path) -> None:
    pretend = cluster(1)
    pretend.submit(job("a", 8))
    follower = following(pretend, heart=Heart(tmp_path / "stamp"))
    pretend.before_call = lambda call: setattr(pretend, "now", pretend.now + (10.0 if call == "snapshot" else 0.0))
    done = follower.round()
    assert ([one.outcome for one in done.committed], metric(follower, "slow_rounds_total")) == (["done"], 1)
    pretend.before_call = lambda _: None
    follower.round()
    assert metric(follower, "slow_rounds_total") == 1


def test_jobs_without_gpus_and_a_cluster_without_nodes() -> None:
    pretend = Pretend([Machine("cpu", 0)])
    pretend.submit(job("none", 0, cpu_cores=4.0))
    pretend.submit(job("gpu", 1))
    follower = following(pretend)
    assert [one.job for one in follower.round().committed] == ["none"]
    pretend = Pretend([])
    pretend.submit(job("a"))
    follower = following(pretend, fallback_s=60.0)
    assert follower.round().ended == "nothing"
    pretend.advance(61.0)
    assert follower.round().freed == ("a",)


def test_many_of_low_priority_pass_one_of_high_priority_but_never_silently() -> None:
    """One worker of 1 GPU that takes all cores of a node, beside eight of the next lower priority, aged by two days."""
    pretend = cluster(1)
    for place in range(8):
        pretend.submit(job(f"low{place}", 1, cpu_cores=8.0, priority=1, display="batch"))
    pretend.now += 200_000.0
    pretend.submit(job("high", 1, cpu_cores=64.0, priority=2))
    follower = following(pretend, Here())
    done = follower.round()
    assert {one.job for one in done.committed} == {f"low{place}" for place in range(8)}
    told = {wait.job: wait.why for wait in done.told}
    assert "batch (low0), batch (low1), batch (low2) and 5 more of lower priority start instead and together weigh more" in told["high"]
    assert metric(follower, "passed_jobs") == 1
