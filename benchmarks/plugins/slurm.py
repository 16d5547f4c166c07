"""How a real Slurm follows the plan: 100 held jobs from submission to release, and what the watchdog does when the follower is gone.

``python -m benchmarks run plugins`` starts a cluster of its own (8 nodes of 8 GPUs on loopback; needs root and Debian's Slurm) and
measures.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.plugins.daemons import end_family
from benchmarks.plugins.slurm_cluster import RealSlurm, allocated
from service.plugins.follower import Follower, Round
from service.plugins.modes import Mode
from service.plugins.optimisers import LocalOptimiser
from service.plugins.settings import PluginSettings
from service.plugins.slurm.adapter import SlurmScheduler, Ways
from service.plugins.slurm.commands import Commands
from service.plugins.slurm.notation import hosts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from service.plugins.planner import Optimiser

JOB_SUBMIT = Path(__file__).resolve().parents[2] / "service" / "plugins" / "slurm" / "job_submit.lua"
OURS = "--comment=quartermaster"
GANG = (OURS, "--nodes=2", "--gpus-per-node=2")
SINGLE = (OURS, "--gpus-per-node=1")
PLAIN = (OURS, "--cpus-per-task=2")
HUNDRED = [*[GANG] * 8, *[SINGLE] * 32, *[PLAIN] * 60]  # 64 GPUs: all of them
BRISK: dict[str, Any] = {"quiet_s": 0.1, "longest_wait_s": 0.4, "refresh_s": 0.5, "time_limit_s": 0.8, "explain_s": 0.1, "watchdog_s": 4.0}
LOOK_S = 0.1


@contextlib.contextmanager
def following(
    slurm: RealSlurm,
    optimiser: Optimiser | None = None,
    mode: Mode = Mode.enforce,
    **settings: Any,  # noqa: ANN401  (settings of any type; they are checked)
) -> Iterator[list[Round]]:
    """A follower of the cluster in a thread; its rounds so far. At the end it is stopped, which releases what is held."""
    rounds: list[Round] = []
    scheduler = SlurmScheduler(Commands(slurm.environment), Ways(enforce=mode is Mode.enforce))
    follower = Follower(
        scheduler,
        optimiser or LocalOptimiser(),
        PluginSettings(mode=mode, **settings),
        on_round=rounds.append,
    )
    stop = threading.Event()
    thread = threading.Thread(target=follower.run, args=(stop,), name="follower")
    thread.start()
    try:
        yield rounds
    finally:
        stop.set()
        thread.join(60)
        scheduler.close()


def held(slurm: RealSlurm) -> set[str]:
    """The ids of the jobs that are held."""
    listed = slurm.run("squeue", "--noheader", "--states=PENDING", "--format=%i|%r").splitlines()
    return {line.partition("|")[0] for line in listed if "JobHeld" in line}


def pending(slurm: RealSlurm) -> set[str]:
    """The ids of the jobs that have not started."""
    return set(slurm.run("squeue", "--noheader", "--states=PENDING", "--format=%i").split())


def hundred(slurm: RealSlurm, **settings: Any) -> dict[str, Any]:  # noqa: ANN401  (settings of any type; they are checked)
    """100 jobs for all GPUs are submitted, held by job_submit.lua, planned, pinned and released."""
    with following(slurm, **settings) as rounds:
        before = slurm.submit(*PLAIN, seconds=0.1)  # once this one has gone, the child process that solves is warm
        slurm.until(lambda: not slurm.run("squeue", "--noheader", f"--jobs={before}", check=False), 30)
        first = time.monotonic()
        names = slurm.submit_all(HUNDRED)
        last = time.monotonic()
        released_at: dict[str, float] = {}
        while len(released_at) < len(names) and time.monotonic() < last + 60:
            left = held(slurm)
            now = time.monotonic()
            released_at.update({name: now for name in names if name not in left and name not in released_at})
            time.sleep(LOOK_S)
        slurm.until(lambda: not pending(slurm) and sum(len(done.committed) for done in rounds) > len(names), 30)
        jobs = {str(job["job_id"]): job for job in slurm.jobs()}
        orders = {name: order for done in rounds if done.orders is not None for name, order in done.orders.orders.items()}
        where = {name: set(hosts(jobs[name]["nodes"])) for name in names}
        return {
            "jobs": len(names),
            "released": len(released_at),
            "running": sum(jobs[name]["job_state"] == "RUNNING" for name in names),
            "on_plan": sum(name in orders and where[name] == set(orders[name].nodes) for name in names),
            "gangs_split": sum(len(where[name]) != 2 for name in names[:8]),
            "gpus_allocated": len(allocated(list(jobs.values()))),
            "gpus_allocated_twice": sum(len(who) > 1 for who in allocated(list(jobs.values())).values()),
            "submission_of_all_s": round(last - first, 3),
            "first_submission_to_last_release_s": round(max(released_at.values()) - first, 3),
            "last_submission_to_last_release_s": round(max(released_at.values()) - last, 3),
        }


def abandoned(slurm: RealSlurm, number: signal.Signals, limit_s: float = BRISK["watchdog_s"]) -> dict[str, Any]:
    """The follower gets a signal (SIGSTOP freezes it), jobs go on being submitted and held, and the watchdog lets them go."""
    with tempfile.TemporaryDirectory() as state:
        environment = {**slurm.environment, **{f"QUARTERMASTER_PLUGIN_{name.upper()}": str(value) for name, value in BRISK.items()}}
        environment["QUARTERMASTER_PLUGIN_WATCHDOG_S"] = str(limit_s)
        command = [sys.executable, "-m", "service.cli", "slurm", "run", "--mode", "enforce", "--state", state]
        lines = Path(state) / "log"
        with lines.open("wb") as output:
            process = subprocess.Popen(
                command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )
        stamp = Path(state) / "slurm.stamp"
        try:
            if not slurm.until(stamp.exists, 30):
                raise RuntimeError(f"the follower did not come up: {lines.read_text()[-2000:]}")
            before = slurm.submit(*SINGLE)
            slurm.until(lambda: before not in pending(slurm), 20)
            os.kill(process.pid, number)
            signalled = time.monotonic()
            names = slurm.submit_all([GANG] * 4 + [SINGLE] * 8)
            last_sign = float(json.loads(stamp.read_text())["monotonic"])
            were_held = held(slurm) & set(names)
            slurm.until(lambda: not held(slurm) & set(names), limit_s + 20)
            released = time.monotonic()
            started = slurm.until(lambda: not pending(slurm), 30)
            return {
                "signal": number.name,
                "limit_s": limit_s,
                "held": len(were_held),
                "all_started": started,
                "gpus_allocated_twice": sum(len(who) > 1 for who in allocated(slurm.jobs()).values()),
                "released_after_last_sign_of_life_s": round(released - last_sign, 3),
                "released_after_signal_s": round(released - signalled, 3),
            }
        finally:
            end_family(process, state)
