"""Whose hold it is: what is held for a plan always goes free again, and what a person holds never does."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.plugins.slurm.adapter import Ways
from service.plugins.slurm.arrays import grouped, members
from service.plugins.slurm.changes import Change, Told
from tests.plugins.quiet import quiet
from tests.plugins.slurm.pretended import PretendedSlurm
from tests.plugins.slurm.test_adapter import holds, made, order

__all__ = ["quiet"]


def test_what_is_held_for_a_plan_and_did_not_opt_in_is_let_through() -> None:
    """The job_submit plugin knows a partition that the follower was not told: its mark says that nobody else will release it."""
    slurm = PretendedSlurm()
    name = slurm.submit(comment="")
    assert made(slurm, Ways()).snapshot().warnings
    made(slurm).snapshot()
    assert slurm.jobs[name]["priority"] == 100
    assert "did not opt in" in slurm.jobs[name]["admin_comment"]


# ---------------------------------------------------------------- whose hold it is


@pytest.mark.parametrize("mark", ["", "quartermaster freed: x", "quartermaster placed: x", "the operator's own words"])
def test_a_hold_without_our_mark_is_a_persons(mark: str) -> None:
    """Also one of ``sbatch --hold`` by somebody who opted in: nobody releases it, and its pin of ours goes."""
    slurm = PretendedSlurm()
    name, scheduler = slurm.submit(), made(slurm)
    slurm.jobs[name] |= {"admin_comment": mark, "required_nodes": "gpu1" if "placed" in mark else ""}
    assert scheduler.snapshot().job(name) is None
    assert scheduler.free_all() == ((name,) if "placed" in mark else ())
    assert (slurm.jobs[name]["priority"], slurm.jobs[name]["required_nodes"]) == (0, "")


def test_what_a_person_released_and_holds_again_is_the_persons() -> None:
    slurm = PretendedSlurm()
    name, pinned, scheduler = slurm.submit(), slurm.submit(), made(slurm)
    for job in (name, pinned):
        slurm.jobs[job] |= {"priority": 5, "state_reason": "None"}
    slurm.jobs[pinned] |= {"required_nodes": "gpu1", "admin_comment": "quartermaster pins: starts"}
    scheduler.snapshot()
    assert "somebody released it" in slurm.jobs[name]["admin_comment"]
    assert "quartermaster placed: starts" in slurm.jobs[pinned]["admin_comment"]
    for job in (name, pinned):
        slurm.jobs[job] |= {"priority": 0, "state_reason": "JobHeldUser"}
    assert scheduler.free_all() == (pinned,), "only its pin is taken"
    assert (slurm.jobs[name]["priority"], slurm.jobs[pinned]["priority"]) == (0, 0)
    slurm.jobs[name] |= {"priority": 5, "state_reason": "None"}
    seen = scheduler.snapshot().job(name)
    assert seen is not None
    assert not seen.held, "what its user released is not held again"


class Dying(PretendedSlurm):
    """Its scontrol dies after so many changes; what comes after is not carried out."""

    left = 10**9

    def tell(self, changes: Sequence[Change]) -> tuple[Told, ...]:
        done = min(self.left, len(changes))
        self.left -= done
        return super().tell(changes[:done]) + (Told(None, "scontrol went away"),) * (len(changes) - done)


@pytest.mark.parametrize("lives", range(7))
@pytest.mark.parametrize("what", ["free", "free_all", "snapshot"])
def test_a_scontrol_that_dies_in_between_leaves_no_job_held_for_nobody(what: str, lives: int) -> None:
    """Whatever was left half done, the next one takes it up: a job that is held is held with our mark."""
    slurm = Dying()
    names, scheduler = [slurm.submit(held=what != "snapshot"), slurm.submit(held=what != "snapshot")], made(slurm)
    if what != "snapshot":
        slurm.jobs[names[0]] |= {"required_nodes": "gpu1", "admin_comment": "quartermaster pins: x"}
        slurm.jobs[names[1]]["max_nodes"] = 3
    slurm.left = lives
    {"free": lambda: scheduler.free(names), "free_all": scheduler.free_all, "snapshot": scheduler.snapshot}[what]()
    slurm.left = 10**9
    made(slurm).free_all()
    assert [slurm.jobs[name]["priority"] for name in names] == [100, 100]
    assert not any(slurm.jobs[name]["required_nodes"] for name in names)


def test_an_admin_hold_between_pin_and_release_keeps_no_pin() -> None:
    slurm = PretendedSlurm()
    name, scheduler = slurm.submit(), made(slurm)
    snapshot = scheduler.snapshot()
    slurm.before = lambda step: holds(slurm, name) if step == "read" else None
    assert [one.outcome for one in scheduler.commit([order(snapshot, name, "gpu1")])] == ["gone"]
    assert (slurm.jobs[name]["required_nodes"], slurm.jobs[name]["priority"]) == ("", 0)


# ---------------------------------------------------------------- arrays


def array(slurm: PretendedSlurm, tasks: str = "1-3000") -> str:
    name = slurm.submit()
    slurm.jobs[name] |= {"array_job_id": int(name), "array_task_string": tasks, "array_task_id": None}
    return name


def test_an_array_goes_free_as_one_with_the_tasks_beyond_those_planned() -> None:
    slurm = PretendedSlurm()
    name, scheduler = array(slurm), made(slurm)
    tasks = [job.id for job in scheduler.snapshot().jobs]
    assert len(tasks) == 1000
    assert scheduler.free(tasks) == tuple(tasks)
    assert slurm.jobs[name]["priority"] == 100
    assert [change.job for change in slurm.told] == [name, name]


def test_an_array_of_which_a_person_holds_a_task_goes_free_without_that_task() -> None:
    slurm = PretendedSlurm()
    name, task, scheduler = array(slurm, "1-3,5"), slurm.submit(), made(slurm)
    slurm.jobs[task] |= {"array_job_id": int(name), "array_task_string": "", "array_task_id": 9, "admin_comment": "quartermaster freed: x"}
    assert set(scheduler.free_all()) == {f"{name}_{at}" for at in (1, 2, 3, 5)}
    assert {change.job for change in slurm.told} == {f"{name}_[1-3,5]"}
    assert slurm.jobs[task]["priority"] == 0


@given(st.dictionaries(st.integers(1, 4), st.sets(st.integers(0, 50), min_size=1)))
def test_a_group_of_tasks_is_named_as_slurm_names_it(tasks: dict[int, set[int]]) -> None:
    jobs = [f"{array}_{task}" for array, ids in tasks.items() for task in ids] + ["99"]
    found = grouped(jobs)
    assert len(found) == len(tasks) + 1
    assert sorted(job for name in found for job in members(name)) == sorted(jobs) == sorted(job for ids in found.values() for job in ids)
