"""Workers on Ray: what they answer, what a lost, deaf or greedy one costs, and that nothing of Ray is left behind or let out."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from optimizer.study.executors import pool, ray_cluster, ray_pool, ray_post
from optimizer.study.executors.engine import Asked, Done, EngineError, Held, Step, Workers
from optimizer.study.executors.in_process import InProcess
from optimizer.study.executors.pool import cores
from optimizer.study.executors.ray_pool import RayPool, RayWorkers
from optimizer.study.rows import Row
from optimizer.study.run import Table, run_study
from optimizer.study.store import Memory
from tests.optimizer.study.small import LIMITS, asked, base, held, objective, odd, study

ray = pytest.importorskip("ray", reason="Ray is not installed")

ROGUE = "tests.optimizer.study.rogue_worker"


def ours() -> list[psutil.Process]:
    """Processes of Ray that this process has started."""
    return [one for one in psutil.Process().children(recursive=True) if "ray" in " ".join(one.cmdline())]


@pytest.fixture(scope="module")
def two() -> Iterator[RayWorkers]:
    """Two workers on a cluster of our own; they go astray when asked to, and are replaced then."""
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool, "WORKER", ROGUE)
        patch.setenv("QUARTERMASTER_SECRET", "of nobody's business")
        environment = dict(os.environ)
        with RayPool(2, attempts=2).open(held()) as workers:
            assert dict(os.environ) == environment
            assert signal.getsignal(signal.SIGTERM) == handler
            yield workers
    assert not ours()
    assert not ray.is_initialized()


def answers(workers: Workers, work: list[Asked], cancel: threading.Event | None = None) -> tuple[dict[str, Row], list[Step]]:
    """Rows by key, and the steps."""
    rows: dict[str, Row] = {}
    steps: list[Step] = []

    def on_done(done: Done) -> None:
        assert done.row.key not in rows
        assert (done.plan is None) == (not done.row.goals)
        rows[done.row.key] = done.row

    workers.run(work, on_done=on_done, on_step=steps.append, cancel=cancel or threading.Event())
    return rows, steps


def compared(table: Table) -> list[Row | None]:
    return [None if row is None else replace(row, seconds=0.0) for row in table.rows]


# ------------------------------------------------------------ addresses


@pytest.mark.parametrize("address", ["nonsense", "host:port", "ray://127.0.0.1:10001", "127.0.0.1:0", "127.0.0.1:99999"])
def test_an_address_that_is_none_is_one_clear_error(address: str) -> None:
    with pytest.raises(EngineError, match="address is 'auto' or HOST:PORT"):
        RayPool(1, address).open(held())


def test_nobody_at_the_address_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(EngineError, match=f"no Ray cluster answers at 127.0.0.1:{port} .*refused"):
        RayPool(1, f"127.0.0.1:{port}").open(held())


# ------------------------------------------------------------ answers


@pytest.mark.usefixtures("two")
def test_the_table_is_that_of_one_process() -> None:
    on_ray = run_study(study(12), base(), Memory(), RayPool(1))
    assert (on_ray.missing, on_ray.failed, on_ray.solved) == (0, 0, 13)
    assert compared(on_ray) == compared(run_study(study(12), base(), Memory(), InProcess()))


def test_all_is_answered_and_the_actors_stay(two: RayWorkers) -> None:
    rows, steps = answers(two, [asked(float(most)) for most in range(1, 41)])
    assert {key: objective(row) for key, row in rows.items()} == {f"{most}": pytest.approx(most) for most in range(1, 41)}
    assert all((row.outcome, row.verified, row.attempts) == ("optimal", True, 1) for row in rows.values())
    assert sorted(step.key for step in steps if step.state == "started") == sorted(rows)
    before = two.pids
    assert answers(two, [])[0] == {}
    assert objective(answers(two, [asked(0.5 + 2)])[0]["2.5"]) == pytest.approx(2.5)
    assert two.pids == before


def test_nobody_outside_this_machine_is_listened_to(two: RayWorkers) -> None:
    answers(two, [asked(1.0)])
    hosts = {one.laddr.ip for process in ours() for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN}
    assert hosts
    assert hosts <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}


def test_the_settings_of_the_product_do_not_reach_ray(two: RayWorkers) -> None:
    answers(two, [asked(1.0)])
    assert all(not name.startswith("QUARTERMASTER_") for process in ours() for name in process.environ())


# ------------------------------------------------------------ losses


def test_a_lost_process_costs_one_try_of_one_scenario(two: RayWorkers, tmp_path: Path) -> None:
    rows, steps = answers(two, [asked(1.0), odd("killed_once", str(tmp_path / "mark")), asked(2.0), asked(3.0)])
    assert {key: row.attempts for key, row in rows.items()} == {"1": 1, "killed_once": 2, "2": 1, "3": 1}
    assert objective(rows["killed_once"]) == pytest.approx(50.0)
    assert [step.key for step in steps if step.state == "lost"] == ["killed_once"]


def test_a_scenario_that_kills_its_process_is_a_row_after_so_many_tries(two: RayWorkers) -> None:
    rows, _ = answers(two, [odd("killed"), odd("raises"), asked(1.0)])
    assert (rows["killed"].outcome, rows["killed"].attempts, rows["killed"].answered) == (None, 2, False)
    assert "its process died 2 times over it: " in (rows["killed"].failure or "")
    assert "a fault of this program" in (rows["raises"].failure or "")
    assert "ValueError: a fault in the worker" in (rows["raises"].failure or "")
    assert objective(rows["1"]) == pytest.approx(1.0)


def test_an_actor_killed_while_it_waits_is_replaced(two: RayWorkers) -> None:
    answers(two, [asked(1.0)])
    for pid in two.pids:
        psutil.Process(pid).kill()
    rows, _ = answers(two, [asked(2.0), asked(3.0), asked(4.0)])
    assert {key: objective(row) for key, row in rows.items()} == {key: pytest.approx(float(key)) for key in "234"}
    assert {row.attempts for row in rows.values()} == {1}


@pytest.mark.usefixtures("two")
def test_a_deaf_or_greedy_scenario_is_stopped_and_its_best_plan_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ALLOWANCE_S", "GRACE_S"):
        monkeypatch.setattr(pool, name, 0.2)
    monkeypatch.setattr(ray_post, "NEWS_S", 0.1)
    with RayPool(1).open(held(replace(LIMITS, time_limit_s=1.0, memory_gib=0.6))) as workers:
        eaten, _ = answers(workers, [odd("eats")])
        rows, _ = answers(workers, [odd("deaf_with_a_plan")])
    best, most = rows["deaf_with_a_plan"], eaten["eats"]
    assert (best.outcome, best.stop_reason, best.verified) == ("feasible", "deadline", True)
    assert [(goal.objective, goal.bound) for goal in best.goals] == [(50.0, 60.0)]
    assert (most.outcome, most.stop_reason) == ("no_plan", "memory")


# ------------------------------------------------------------ stopping


def test_a_cancel_keeps_what_is_done_and_drops_what_runs(two: RayWorkers) -> None:
    cancel, rows = threading.Event(), list[str]()

    def on_done(done: Done) -> None:
        rows.append(done.row.key)
        cancel.set()

    two.run([asked(1.0), odd("waits")], on_done=on_done, on_step=lambda _step: None, cancel=cancel)
    assert rows == ["1"]
    assert set(answers(two, [odd("waits"), asked(1.0), asked(2.0)], cancel)[0]) == set()
    assert set(answers(two, [asked(1.0), asked(2.0)])[0]) == {"1", "2"}


def test_what_the_caller_raises_ends_the_run_and_loses_no_answer(two: RayWorkers) -> None:
    kept: list[str] = []

    def on_done(done: Done) -> None:
        kept.append(done.row.key)
        if len(kept) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        two.run([asked(float(n)) for n in range(1, 40)], on_done=on_done, on_step=lambda _step: None, cancel=threading.Event())
    assert 1 <= len(kept) < 39
    assert len(set(kept)) == len(kept)
    assert set(answers(two, [asked(1.0)])[0]) == {"1"}


# ------------------------------------------------------------ errors


def test_without_ray_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(EngineError, match=r"Ray is not installed .*pip install 'quartermaster\[ray\]'"):
        RayPool(1).open(held())


@pytest.mark.parametrize(("workers", "attempts"), [(0, 1), (1, 0)])
def test_a_pool_has_at_least_one_worker(workers: int, attempts: int) -> None:
    with pytest.raises(ValueError, match="must be at least 1"):
        RayPool(workers, attempts=attempts)


@pytest.mark.usefixtures("two")
def test_one_process_is_on_one_cluster_at_a_time() -> None:
    with pytest.raises(EngineError, match="works on a cluster of its own already"):
        RayPool(1, "127.0.0.1:1").open(held())


@pytest.mark.usefixtures("two")
def test_more_threads_than_any_node_has_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "_sessions", 0)  # as if another program had connected to it
    with pytest.raises(EngineError, match="no node of the Ray cluster has threads=256 CPUs, the largest has "):
        RayPool(1).open(held(replace(LIMITS, threads=256)))


@pytest.mark.usefixtures("two")
def test_a_cluster_without_a_free_place_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_cluster, "_sessions", 0)
    limits = replace(LIMITS, threads=cores())
    with RayPool(1).open(held(limits)) as first, RayPool(1).open(held(limits)) as second:
        assert set(answers(first, [asked(1.0)])[0]) == {"1"}
        monkeypatch.setattr(ray_pool, "PLACE_S", 0.5)
        with pytest.raises(EngineError, match="has had no place for a worker of"):
            answers(second, [asked(1.0)])


def test_another_version_on_a_node_is_one_clear_error(monkeypatch: pytest.MonkeyPatch, two: RayWorkers) -> None:
    for pid in two.pids:
        psutil.Process(pid).kill()
    monkeypatch.setattr(ray_post, "product_version", lambda: "99.0")
    with pytest.raises(EngineError, match=r"has version .* of quartermaster, and this is 99\.0"):
        answers(two, [asked(1.0)])
    monkeypatch.undo()
    assert set(answers(two, [asked(1.0)])[0]) == {"1"}


@pytest.mark.usefixtures("two")
def test_a_base_that_kills_every_process_is_one_clear_error() -> None:
    with (
        RayPool(1, attempts=2).open(Held("dying", held().base, LIMITS)) as workers,
        pytest.raises(EngineError, match="died 2 times before it had read the base problem"),
    ):
        answers(workers, [asked(1.0)])
