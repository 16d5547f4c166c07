"""SIGKILL of a study's workers and of the study itself, at random moments: what is lost or repeated, and whether the table is the same.

``python -m benchmarks.studies_kills FOLDER JOBS SCENARIOS`` is the study that is killed.
"""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks import studies_cases
from optimizer.study.executors.pool import LocalPool
from optimizer.study.run import load_table, run_study
from optimizer.study.store import Memory
from service.studies.shelf import Shelf

if TYPE_CHECKING:
    from optimizer.study.executors.engine import Held
    from optimizer.study.executors.pool import LocalWorkers
    from optimizer.study.run import StudyProgress, Table

SEED = 7
POOL = LocalPool(2, attempts=50)  # more attempts than there are kills
STARTED_S = 120.0  # for a study to answer something
APART_S = 0.2, 3.0  # between two kills of workers; one is ready to work again after two seconds or so
GONE_S = 10.0  # for the workers of a killed study
CLOSE = 1e-6  # the study's gap: no further apart may two answers to one question be

Files = dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Size:
    """The study that is disturbed: how many jobs share in each scenario, and how many scenarios there are."""

    jobs: int
    scenarios: int


def kills(folder: Path, jobs: int = 6_000, scenarios: int = 40, workers: int = 8, studies: int = 6) -> dict[str, Any]:
    """One line: a study that nobody disturbs, one whose workers are killed, and one that is killed itself and resumed."""
    size, dice = Size(jobs, scenarios), random.Random(SEED)
    began = time.perf_counter()
    study, base = studies_cases.fairness_study(jobs, scenarios), studies_cases.fairness_base(jobs)
    quiet = run_study(study, base, Memory(), POOL)
    parts = (_workers_killed(folder / "workers", size, quiet, workers, dice), _study_killed(folder / "study", size, quiet, studies, dice))
    found: Counter[str] = Counter()
    for part in parts:
        found.update(part)
    return {"scenarios": scenarios, "undisturbed_s": round(quiet.seconds, 3), **found, "wall_s": round(time.perf_counter() - began, 3)}


def differing(table: Table, quiet: Table) -> int:
    """How many rows are not those of the undisturbed study. How long they took, and how often, may differ."""
    return sum(not _same(table, quiet, place) for place in range(max(len(table.rows), len(quiet.rows))))


def _same(table: Table, quiet: Table, place: int) -> bool:
    if place >= min(len(table.rows), len(quiet.rows)):
        return False
    one, other = table.rows[place], quiet.rows[place]
    if one is None or other is None or (one.key, one.outcome, one.failure) != (other.key, other.outcome, other.failure):
        return False
    if not (one.verified and other.verified) or [goal.name for goal in one.goals] != [goal.name for goal in other.goals]:
        return False
    pairs = ((mine.objective, theirs.objective) for mine, theirs in zip(one.goals, other.goals, strict=True))
    return all(abs(mine - theirs) <= CLOSE * max(1.0, abs(theirs)) for mine, theirs in pairs)


# ---------------------------------------------------------------- workers


class _Watched:
    """The engine ``POOL``, of which the processes can be seen."""

    def __init__(self) -> None:
        self._opened: list[LocalWorkers] = []

    def open(self, held: Held) -> LocalWorkers:
        """See ``Engine``."""
        self._opened.append(POOL.open(held))
        return self._opened[-1]

    @property
    def pids(self) -> list[int]:
        """Of all workers there are now."""
        return [pid for workers in self._opened for pid in workers.pids]


def _workers_killed(folder: Path, size: Size, quiet: Table, wanted: int, dice: random.Random) -> dict[str, int]:
    """A study of which ``wanted`` workers are killed, or as many as there is time for."""
    watched, ended, killed, done = _Watched(), threading.Event(), 0, list[str]()

    def hunt() -> None:
        nonlocal killed
        while killed < wanted and not ended.wait(dice.uniform(*APART_S)):
            pids = watched.pids
            if pids:
                with contextlib.suppress(psutil.NoSuchProcess):
                    psutil.Process(dice.choice(pids)).kill()
                    killed += 1

    def heard(progress: StudyProgress) -> None:
        if progress.state == "done" and progress.row is not None:
            done.append(progress.row.key)

    hunter = threading.Thread(target=hunt, name="hunter", daemon=True)
    hunter.start()
    try:
        study, base = studies_cases.fairness_study(size.jobs, size.scenarios), studies_cases.fairness_base(size.jobs)
        with Shelf.opened(folder, study, base) as shelf:
            table = run_study(study, base, shelf, watched, on_progress=heard)
    finally:
        ended.set()
        hunter.join()
    again = load_table(Shelf.read(folder))
    return {
        "workers_killed": killed,
        "tries_lost": sum(row.attempts - 1 for row in table.rows if row is not None),
        "lost": again.missing + table.missing,
        "repeated": len(done) - len(set(done)),
        "rows_different": differing(again, quiet),
    }


# ---------------------------------------------------------------- the study


def _study_killed(folder: Path, size: Size, quiet: Table, wanted: int, dice: random.Random) -> dict[str, int]:
    """A study that is killed ``wanted`` times with its workers left to themselves, and resumed each time, at last to its end."""
    lost = repeated = killed = orphans = 0
    for _ in range(wanted):
        before = answers(folder)
        with _process(folder, size) as process:
            _wait_for(folder, len(before) + dice.choice((0, 0, 1, 2, 4)), process)
            time.sleep(dice.uniform(0.0, 0.5))
            workers: list[psutil.Process] = []
            with contextlib.suppress(psutil.NoSuchProcess):
                workers = psutil.Process(process.pid).children(recursive=True)
            killed += process.poll() is None
            process.send_signal(signal.SIGKILL)
            process.wait(GONE_S)
        orphans += len(psutil.wait_procs(workers, timeout=GONE_S)[1])
        after = answers(folder)
        lost += sum(name not in after for name in before)
        repeated += sum(name in after and after[name] != file for name, file in before.items())
    before = answers(folder)
    with _process(folder, size) as process:
        out, err = process.communicate()
    if process.returncode:
        raise RuntimeError(f"the resumed study failed: {err[-2000:]}")
    reused, solved, missing, complaints = map(int, out.split()[-4:])
    after = answers(folder)
    repeated += sum(name in after and after[name] != file for name, file in before.items()) + max(0, reused + solved - len(after))
    lost += missing + complaints + max(0, len(before) - reused)
    return {
        "studies_killed": killed,
        "answers_reused_at_the_end": reused,
        "orphans": orphans,
        "lost": lost,
        "repeated": repeated,
        "rows_different": differing(load_table(Shelf.read(folder)), quiet),
    }


def answers(folder: Path) -> Files:
    """Every row that is there, and which file it is: one that was solved again is another file."""
    found = {}
    for path in (folder / "rows").glob("*.json"):
        with contextlib.suppress(FileNotFoundError):
            told = path.stat()
            found[path.name] = (told.st_ino, told.st_mtime_ns)
    return found


def _process(folder: Path, size: Size) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "benchmarks.studies_kills", str(folder), str(size.jobs), str(size.scenarios)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _wait_for(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    """Until there are so many rows, or the process has ended. Raises RuntimeError when neither comes."""
    give_up = time.monotonic() + STARTED_S
    while len(answers(folder)) < count and process.poll() is None:
        if time.monotonic() > give_up:
            process.kill()
            raise RuntimeError(f"the study answered nothing within {STARTED_S:g} s")
        time.sleep(0.01)


def main(folder: str, jobs: str, scenarios: str) -> None:
    """Run or resume the study in ``folder``; print how many answers were reused, solved, are missing, and were not believed."""
    study, base = studies_cases.fairness_study(int(jobs), int(scenarios)), studies_cases.fairness_base(int(jobs))
    with Shelf.opened(Path(folder), study, base, resume=True) as shelf:
        table = run_study(study, base, shelf, POOL)
    print(table.reused, table.solved, table.missing, len(table.complaints))


if __name__ == "__main__":
    main(*sys.argv[1:])
