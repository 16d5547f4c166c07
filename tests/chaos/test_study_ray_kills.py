"""SIGKILL of a Ray node, of actors and of a study, on a real cluster of two nodes: nothing lost, nothing repeated, the same table."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from optimizer.study.executors.in_process import InProcess
from optimizer.study.rows import Row
from optimizer.study.run import Table, load_table, run_study
from optimizer.study.store import Memory
from service.studies.shelf import Shelf
from tests.chaos.meeting_worker import PLACE
from tests.chaos.ray_nodes import PATIENCE_S, ROOT, Cluster
from tests.optimizer.study.small import base, study

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="two nodes on one machine need two loopback addresses"),
]

SCENARIOS = 40
# The study as a process of its own. It tells how often a scenario was lost, and by whom the others were answered.
SCRIPT = f"""
import sys
from pathlib import Path
from optimizer.study.executors import pool
from optimizer.study.executors.ray_pool import RayPool
from optimizer.study.run import run_study
from service.studies.shelf import Shelf
from tests.optimizer.study.small import base, study
pool.WORKER = "tests.chaos.meeting_worker"
states, workers = [], set()
def told(progress):
    states.append(progress.state)
    if progress.step is not None:
        workers.add(progress.step.worker)
with Shelf.opened(Path(sys.argv[2]), study({SCENARIOS}), base(), resume=True) as shelf:
    table = run_study(study({SCENARIOS}), base(), shelf, RayPool(2, sys.argv[1] or None, attempts=10), on_progress=told)
print(table.reused, table.solved, table.missing, table.failed, states.count("done"), states.count("lost"), len(workers))
"""


@pytest.fixture(scope="module")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    before = psutil.Process().children(recursive=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PLACE, f"{tmp_path_factory.mktemp('meeting')}")
        with Cluster() as cluster:
            yield cluster
    assert set(psutil.Process().children(recursive=True)) <= set(before)


@pytest.fixture
def cluster(two_nodes: Cluster) -> Cluster:
    """With nobody at work, and nobody met."""
    for mark in Path(two_nodes.environment[PLACE]).iterdir():
        mark.unlink()
    assert not two_nodes.actors
    return two_nodes


@pytest.fixture(scope="module")
def undisturbed() -> list[Row | None]:
    return compared(run_study(study(SCENARIOS), base(), Memory(), InProcess()))


def compared(table: Table) -> list[Row | None]:
    """What must be the same whatever happened on the way: everything but how long it took and what was lost."""
    return [None if row is None else replace(row, seconds=0.0, attempts=1) for row in table.rows]


def inodes(folder: Path) -> dict[str, tuple[int, int]]:
    """Every answer that is there, and which file it is: one that was solved again is another file."""
    found = {}
    for path in (folder / "rows").glob("*.json"):
        with contextlib.suppress(FileNotFoundError):
            told = path.stat()
            found[path.name] = (told.st_ino, told.st_mtime_ns)
    return found


@contextmanager
def study_process(cluster: Cluster, folder: Path, *, alone: bool = False) -> Iterator[subprocess.Popen[str]]:
    """The study, on the cluster, or ``alone`` on one of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "" if alone else cluster.address, str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=cluster.environment,
        cwd=ROOT,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, ...]:
    """What it tells at its end: reused, solved, missing, failed, rows told, losses, workers."""
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    return tuple(map(int, out.split()))


def rows_appear(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Wait until there are so many rows."""
    give_up = time.monotonic() + PATIENCE_S
    while len(inodes(folder)) < count:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < give_up
        time.sleep(0.01)


def actors_end(cluster: Cluster) -> None:
    """Wait until none is left."""
    give_up = time.monotonic() + PATIENCE_S
    while cluster.actors:
        assert time.monotonic() < give_up, "an actor has outlived its study"
        time.sleep(0.05)


def test_an_actor_killed_in_the_middle_is_replaced(cluster: Cluster, tmp_path: Path, undisturbed: list[Row | None]) -> None:
    folder = tmp_path / "out"
    with study_process(cluster, folder) as process:
        for count in (3, 10):
            rows_appear(folder, count, process)
            cluster.actors[0].kill()
        _, solved, missing, failed, done, lost, _ = ended(process)
    assert (solved, missing, failed, done) == (SCENARIOS + 1, 0, 0, SCENARIOS + 1)
    assert 1 <= lost <= 2
    assert compared(load_table(Shelf.read(folder))) == undisturbed
    actors_end(cluster)


def test_a_study_killed_in_the_middle_resumes_and_its_actors_end_with_it(
    cluster: Cluster, tmp_path: Path, undisturbed: list[Row | None]
) -> None:
    folder = tmp_path / "out"
    with study_process(cluster, folder) as process:
        rows_appear(folder, 6, process)
        process.kill()
        process.wait(10)
    actors_end(cluster)
    known = inodes(folder)
    assert 6 <= len(known) < SCENARIOS
    with study_process(cluster, folder) as process:
        reused, solved, missing, failed, *_ = ended(process)
    assert (reused, solved, missing, failed) == (len(known), SCENARIOS + 1 - len(known), 0, 0)
    assert known.items() <= inodes(folder).items()
    assert compared(load_table(Shelf.read(folder))) == undisturbed
    actors_end(cluster)


@pytest.mark.long
def test_a_cluster_of_its_own_ends_with_a_study_that_is_killed(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, undisturbed: list[Row | None]
) -> None:
    folder = tmp_path / "out"
    monkeypatch.setitem(cluster.environment, "TMPDIR", tempfile.mkdtemp(dir="/tmp"))
    with study_process(cluster, folder, alone=True) as process:
        rows_appear(folder, 3, process)
        processes = psutil.Process(process.pid).children(recursive=True)
        assert len([one for one in processes if "ray::Host" in " ".join(one.cmdline())]) == 2
        agents = [one for one in processes if one.name().endswith("Agent")]  # Ray's own: they try to report it for a minute
        process.kill()
        process.wait(10)
        _, alive = psutil.wait_procs([one for one in processes if one not in agents], timeout=PATIENCE_S)
        for agent in agents:
            with contextlib.suppress(psutil.NoSuchProcess):
                agent.kill()
        psutil.wait_procs(agents, timeout=10)
        assert not alive
    shutil.rmtree(cluster.environment["TMPDIR"])
    known = inodes(folder)
    with study_process(cluster, folder) as process:
        assert ended(process)[:4] == (len(known), SCENARIOS + 1 - len(known), 0, 0)
    assert known.items() <= inodes(folder).items()
    assert compared(load_table(Shelf.read(folder))) == undisturbed
    actors_end(cluster)


def test_a_node_killed_in_the_middle_costs_a_study_nothing_but_time(
    cluster: Cluster, tmp_path: Path, undisturbed: list[Row | None]
) -> None:
    folder = tmp_path / "out"
    with study_process(cluster, folder) as process:
        rows_appear(folder, 8, process)
        before = inodes(folder)
        assert len(before) < SCENARIOS / 2
        cluster.second.kill()
        reused, solved, missing, failed, done, lost, workers = ended(process)
    table = load_table(Shelf.read(folder))
    assert (reused, solved, missing, failed, done) == (0, SCENARIOS + 1, 0, 0, SCENARIOS + 1)  # each once, none lost
    assert (lost, workers) == (1, 2)  # the one that was there, and it is told so
    assert sum(row.attempts - 1 for row in table.rows if row is not None) == 1
    assert before.items() <= inodes(folder).items()
    assert compared(table) == undisturbed
    assert not list(folder.rglob("*.tmp"))
    actors_end(cluster)
