"""A real Slurm follows the plan; whatever happens to the optimiser, every job starts and no GPU is given away twice."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator

import pytest

from benchmarks.plugins.slurm import BRISK, GANG, OURS, SINGLE, abandoned, following, held, hundred, pending
from benchmarks.plugins.slurm_cluster import RealSlurm, allocated
from service.plugins.follower import Round
from service.plugins.modes import Mode
from service.plugins.planner import Answer
from service.plugins.slurm.notation import hosts
from tests.plugins.optimisers import Broken, Greedy, Interrupted

QUICK = BRISK | {"fallback_s": 1.0, "reserve_s": 2.0}


def twice(slurm: RealSlurm) -> dict[tuple[str, int], list[int]]:
    """GPUs that Slurm's own books give to more than one job."""
    return {gpu: who for gpu, who in allocated(slurm.jobs()).items() if len(who) > 1}


def starts_all(slurm: RealSlurm, names: list[str], seconds: float = 30.0) -> None:
    assert slurm.until(lambda: not pending(slurm) & set(names), seconds), slurm.run("squeue", "-o", "%i %T %r %R")
    jobs = {str(job["job_id"]): job for job in slurm.jobs()}
    assert {jobs[name]["job_state"] for name in names} <= {"RUNNING", "COMPLETED", "COMPLETING"}
    assert not twice(slurm)


def ordered(rounds: list[Round]) -> dict[str, tuple[str, ...]]:
    """The nodes of each job that was committed."""
    found = {}
    for done in rounds:
        for one in done.committed:
            if one.outcome == "done" and done.orders is not None:
                found[one.job] = done.orders.orders[one.job].nodes
    return found


def test_a_hundred_held_jobs_start_where_the_plan_says(slurm: RealSlurm) -> None:
    found = hundred(slurm)
    assert found["released"] == found["running"] == found["on_plan"] == found["jobs"] == 100
    assert found["gangs_split"] == found["gpus_allocated_twice"] == 0
    assert found["gpus_allocated"] == 64


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_optimiser_that_dies_or_freezes_costs_no_job_its_start(slurm: RealSlurm, number: signal.Signals) -> None:
    with following(slurm, Interrupted(number), **QUICK) as rounds:
        slurm.until(lambda: rounds, 10)
        names = slurm.submit_all([GANG] * 6 + [SINGLE] * 14)
        starts_all(slurm, names)
        assert all(len(hosts(slurm.job(name)["nodes"])) == 2 for name in names[:6])


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Answer(b"\xff no plan at all"), id="bytes"),
        pytest.param(
            Answer('{"placements": [{"job": "1", "workers": [{"node": "nowhere", "gpus": [0]}]}]}'), id="nowhere", marks=pytest.mark.long
        ),
        pytest.param(Answer("{}", 0.0), id="empty plan"),
        pytest.param(RuntimeError("broken"), id="raises", marks=pytest.mark.long),
    ],
)
def test_an_optimiser_that_answers_rubbish_costs_no_job_its_start(slurm: RealSlurm, answer: Answer | Exception) -> None:
    with following(slurm, Broken(answer), **QUICK) as rounds:
        names = slurm.submit_all([GANG] * 2 + [SINGLE] * 4)
        starts_all(slurm, names)
        assert not ordered(rounds)
        assert {name for done in rounds for name in done.freed} == set(names)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_the_watchdog_lets_everything_go_when_the_follower_is_gone(slurm: RealSlurm, number: signal.Signals) -> None:
    found = abandoned(slurm, number)
    assert found["held"] == 12
    assert found["all_started"]
    assert found["gpus_allocated_twice"] == 0


def test_shadow_mode_tells_what_waits_beside_enough_room_and_touches_nothing(slurm: RealSlurm) -> None:
    """A job for all nodes waits, and those behind it with it. Those that are held wait because they are held."""
    blocker = slurm.submit("--nodelist=gpu1", "--exclusive", "--time=5")
    assert slurm.until(lambda: slurm.job(blocker)["job_state"] == "RUNNING", 10)
    slurm.submit("--nodes=8", "--gpus-per-node=8")
    behind = [slurm.submit("--nodes=2", "--gpus-per-node=2"), slurm.submit("--gpus-per-node=1")]
    slurm.submit_all([GANG, (OURS, "--nodes=1-3", "--gpus-per-node=1"), ("--hold", "--gpus-per-node=1")])
    for name in behind:
        slurm.run("scontrol", "update", f"jobid={name}", "comment=quartermaster")
    before = slurm.jobs()
    with following(slurm, Greedy(), Mode.shadow, **QUICK) as rounds:
        assert slurm.until(lambda: len(rounds) >= 2, 10)
        assert rounds[-1].gains is not None
        assert {one.job for one in rounds[-1].gains.jobs} == set(behind)
    said = ("job_id", "job_state", "priority", "required_nodes", "nodes", "comment", "admin_comment", "hold", "time_limit")
    assert [[job.get(name) for name in said] for job in slurm.jobs()] == [[job.get(name) for name in said] for job in before]


def test_gangs_are_never_split(slurm: RealSlurm) -> None:
    """Every gang wants half of six nodes: one runs at a time beside small jobs, whole, and the others wait whole."""
    wanted = [(OURS, "--nodes=6", "--gpus-per-node=5")] * 2 + [(OURS, "--gpus-per-node=3")] * 8
    with following(slurm, **QUICK) as rounds:
        names = slurm.submit_all(wanted, seconds=0.5)
        seen: set[int] = set()
        for _ in range(300):
            for job in slurm.jobs():
                if str(job["job_id"]) in names[:2] and job["job_state"] == "RUNNING":
                    seen.add(job["job_id"])
                    assert len(hosts(job["nodes"])) == 6
            assert not twice(slurm)
            if len(seen) == 2:
                break
            time.sleep(0.1)
        assert len(seen) == 2
        assert slurm.until(lambda: set(names) <= set(ordered(rounds)) | {name for done in rounds for name in done.freed}, 15)


def test_what_people_hold_and_release_is_theirs(slurm: RealSlurm) -> None:
    """With the follower there all the time, and after it has let everything go: one user holds at submission, another one later."""
    slurm.run("scontrol", "update", "nodename=gpu[2-8]", "state=drain", "reason=test")
    blocker = slurm.submit("--nodelist=gpu1", "--exclusive")
    slurm.until(lambda: slurm.job(blocker)["job_state"] == "RUNNING", 10)
    with following(slurm, Greedy(), **QUICK) as rounds:
        at_once, later, taken = slurm.submit("--hold", *SINGLE), slurm.submit(*SINGLE), slurm.submit(*SINGLE)
        slurm.run("scontrol", "release", later)
        assert slurm.until(lambda: "somebody released it" in slurm.job(later)["admin_comment"], 10)
        slurm.run("scontrol", "uhold", later)
        before = len(rounds)
        assert slurm.until(lambda: len(rounds) >= before + 3, 10)
        assert held(slurm) == {at_once, later, taken}
        assert "quartermaster" not in slurm.job(at_once)["admin_comment"]
        slurm.run("scontrol", "release", at_once)
        assert slurm.until(lambda: "quartermaster holds" in slurm.job(at_once)["admin_comment"], 10), "now it is planned"
    assert held(slurm) == {later}


# ---------------------------------------------------------------- between plan, commit and start


@contextlib.contextmanager
def meddled(slurm: RealSlurm, *command: str) -> Iterator[list[Round]]:
    """A follower; after its first plan for a job, and before the commit, somebody runs a command of Slurm's."""
    done: list[str] = []

    def meddle() -> None:
        if not done:
            done.append(slurm.run(*command, check=False))

    with following(slurm, Greedy(meddle), **QUICK) as rounds:
        yield rounds


def test_a_node_drained_between_plan_and_commit_is_not_used(slurm: RealSlurm) -> None:
    with meddled(slurm, "scontrol", "update", "nodename=gpu[1-4]", "state=drain", "reason=test") as rounds:
        names = slurm.submit_all([GANG] * 4)
        starts_all(slurm, names)
        assert {refusal.reason for done in rounds for refusal in done.refused} >= {"node_state"}
        for name in names:
            assert set(hosts(slurm.job(name)["nodes"])) == set(ordered(rounds)[name]) <= {"gpu5", "gpu6", "gpu7", "gpu8"}


def test_a_job_cancelled_between_plan_and_commit_is_gone(slurm: RealSlurm) -> None:
    name = slurm.submit(*GANG)
    with meddled(slurm, "scancel", name) as rounds:
        assert slurm.until(lambda: any(done.refused for done in rounds), 10)
    assert [refusal.reason for done in rounds for refusal in done.refused] == ["gone"]
    assert not ordered(rounds)
    assert slurm.job(name)["job_state"] == "CANCELLED"


def test_a_job_resized_between_plan_and_commit_is_planned_anew(slurm: RealSlurm) -> None:
    name = slurm.submit(*GANG)
    with meddled(slurm, "scontrol", "update", f"jobid={name}", "NumNodes=3-3") as rounds:
        starts_all(slurm, [name])
        assert {refusal.reason for done in rounds for refusal in done.refused} == {"changed"}
        assert len(ordered(rounds)[name]) == 3
        assert set(hosts(slurm.job(name)["nodes"])) == set(ordered(rounds)[name])


def test_a_node_drained_after_the_release_costs_the_job_its_pin_not_its_start(slurm: RealSlurm) -> None:
    """The job is kept from starting (someone else fills its node), its node is drained, and it starts elsewhere."""
    with following(slurm, **QUICK) as rounds:
        slurm.until(lambda: rounds, 10)
        slurm.run("scontrol", "update", "nodename=gpu[2-8]", "state=drain", "reason=test")
        slurm.until(lambda: rounds[-1].ended == "nothing" and len(rounds) > 2, 5)
        filler = slurm.submit("--exclusive", "--gpus-per-node=8", "--nodelist=gpu1")
        slurm.until(lambda: slurm.job(filler)["job_state"] == "RUNNING", 5)
        name = slurm.submit(*SINGLE)
        assert slurm.until(lambda: name in held(slurm), 5)
    # The follower is gone and has let the job go: pin it by hand as the follower would have, on a node that then drains.
    slurm.run("scontrol", "update", f"jobid={name}", "ReqNodeList=gpu1", 'AdminComment="quartermaster placed: test"')
    slurm.run("scontrol", "update", "nodename=gpu1", "state=drain", "reason=test")
    slurm.run("scontrol", "update", "nodename=gpu5", "state=resume")
    assert name in pending(slurm)
    with following(slurm, **QUICK) as rounds:
        starts_all(slurm, [name])
        assert name in {job for done in rounds for job in done.unpinned}
    assert slurm.job(name)["nodes"] == "gpu5"


@pytest.mark.long
def test_a_controller_that_restarts_costs_no_job_its_start(slurm: RealSlurm) -> None:
    """Commands fail or hang meanwhile: rounds are given up, and the first one after it goes on where the last one was."""
    with following(slurm, **QUICK) as rounds:
        names = slurm.submit_all([GANG] * 4)
        with slurm.controller_away():
            time.sleep(3)
        names += slurm.submit_all([SINGLE] * 4)
        starts_all(slurm, names, 60)
        assert set(names) <= set(ordered(rounds)) | {name for done in rounds for name in done.freed}
        assert all(len(hosts(slurm.job(name)["nodes"])) == 2 for name in names[:4])
