"""checks.py: each mistake is found at its place, with its cure; what is legal but odd is a warning."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from pydantic import ValidationError

from models.contract import ContradictionError
from models.placement.checks import MAX_ERRORS, MAX_WARNINGS, errors, warnings
from models.placement.schema import Problem, Use
from tests.models.placement_problems import tiny_problem

BASE: dict[str, Any] = {
    "nodes": [
        {"id": "n1", "gpu_model": "h100", "gpus": 2, "gpu_memory_gib": 80, "cpu_cores": 8, "memory_gib": 64},
        {"id": "n2", "gpu_model": "h100", "gpus": 4, "cpu_cores": 8, "memory_gib": 64},
    ],
    "jobs": [
        {
            "id": "a",
            "gpus_per_worker": 1,
            "workers": 2,
            "cpu_cores": 1,
            "running": {"workers": [{"node": "n1", "gpus": [0]}, {"node": "n2", "gpus": [0]}]},
        },
        {"id": "b", "gpus_per_worker": 0.5, "gpu_memory_gib": 20, "cpu_cores": 1, "tenant": "red"},
    ],
    "tenants": [{"id": "red"}, {"id": "blue"}],
}


def changed(changes: dict[str, Any]) -> dict[str, Any]:
    """BASE with the value at each JSON pointer replaced; a last part "-" appends."""
    document = deepcopy(BASE)
    for pointer, value in changes.items():
        *path, last = pointer.strip("/").split("/")
        place: Any = document
        for part in path:
            place = place[int(part)] if isinstance(place, list) else place[part]
        if last == "-":
            place.append(value)
        elif isinstance(place, list):
            place[int(last)] = value
        else:
            place[last] = value
    return document


def running(*workers: tuple[str, list[int]]) -> dict[str, Any]:
    return {"workers": [{"node": node, "gpus": gpus} for node, gpus in workers]}


WRONG: dict[str, tuple[dict[str, Any], str, str]] = {
    "two nodes of one id": ({"/nodes/1/id": "n1"}, "/nodes/1/id", "give each of the nodes its own id"),
    "two jobs of one id": ({"/jobs/1/id": "a"}, "/jobs/1/id", "give each of the jobs its own id"),
    "two tenants of one id": ({"/tenants/1/id": "red"}, "/tenants/1/id", "give each of the tenants its own id"),
    "GPUs of no model": ({"/nodes/0/gpu_model": None}, "/nodes/0/gpu_model", "name their model"),
    "a model of 0 GPUs": (
        {"/nodes/-": {"id": "n3", "gpu_model": "h100", "gpus": 0, "cpu_cores": 1, "memory_gib": 1}},
        "/nodes/2/gpus",
        "node 'n3' is a h100 node with 0 GPUs; give it 1 or more GPUs, or leave gpu_model out",
    ),
    "one GPU and a half": ({"/jobs/1/gpus_per_worker": 1.5}, "/jobs/1/gpus_per_worker", "ask for a whole number"),
    "more workers_min than workers": ({"/jobs/1/workers_min": 2}, "/jobs/1/workers_min", "set workers_min to at most 1"),
    "a worker larger than a node": ({"/jobs/1/gpus_per_worker": 5}, "/jobs/1/gpus_per_worker", "split it into workers of at most 4 GPUs"),
    "a gang larger than the cluster": (
        {"/jobs/1": {"id": "b", "gpus_per_worker": 2, "workers": 4}},
        "/jobs/1/workers",
        "needs 4 workers of 2 GPUs, 8 GPUs together, and the whole cluster has 6; ask for fewer workers",
    ),
    "an unknown tenant": ({"/jobs/1/tenant": "green"}, "/jobs/1/tenant", "name one of the tenants, e.g. 'red'"),
    "away from an unknown job": (
        {"/jobs/1/anti_affinity": {"jobs": ["a", "z"]}},
        "/jobs/1/anti_affinity/jobs/1",
        "there is no job 'z'; name one of the jobs",
    ),
    "away from itself": ({"/jobs/1/anti_affinity": {"jobs": ["b"]}}, "/jobs/1/anti_affinity/jobs/0", "use spread"),
    "running on an unknown node": (
        {"/jobs/0/running/workers/0/node": "x"},
        "/jobs/0/running/workers/0/node",
        "there is no node 'x'; name one of the nodes, e.g. 'n1'",
    ),
    "running on a drained node": ({"/nodes/0/state": "drained"}, "/jobs/0/running/workers/0/node", "cordon the node, or set use to repack"),
    "half a gang running": ({"/jobs/0/running": running(("n1", [0]))}, "/jobs/0/running/workers", "runs with 1 workers, and 2 are allowed"),
    "too few of an elastic gang": (
        {"/jobs/0/workers": 3, "/jobs/0/workers_min": 2, "/jobs/0/running": running(("n1", [0]))},
        "/jobs/0/running/workers",
        "2 to 3 are allowed",
    ),
    "no GPU listed": ({"/jobs/0/running/workers/0/gpus": []}, "/jobs/0/running/workers/0/gpus", "list the indices of exactly 1 "),
    "one GPU listed twice": (
        {"/jobs/0": {"id": "a", "gpus_per_worker": 2, "running": running(("n1", [1, 1]))}},
        "/jobs/0/running/workers/0/gpus",
        "exactly 2 different GPUs",
    ),
    "a GPU that is not there": ({"/jobs/0/running/workers/0/gpus": [2]}, "/jobs/0/running/workers/0/gpus", "count the indices from 0"),
    "a whole GPU used twice": (
        {"/jobs/0/running": running(("n1", [0]), ("n1", [0]))},
        "/jobs/0/running/workers/1/gpus",
        "also used by job 'a'; name a free GPU",
    ),
    "a whole GPU also shared": ({"/jobs/1/running": running(("n1", [0]))}, "/jobs/1/running/workers/0/gpus", "also used by job 'a'"),
    "a shared GPU also whole": (
        {"/jobs/1/running": running(("n1", [0])), "/jobs/-": BASE["jobs"][0] | {"id": "c"}, "/jobs/0": {"id": "a", "gpus_per_worker": 0}},
        "/jobs/2/running/workers/0/gpus",
        "also used by jobs that share it",
    ),
    "a GPU shared beyond 1": (
        {"/jobs/1": {"id": "b", "gpus_per_worker": 0.6, "workers": 2, "running": running(("n1", [1]), ("n1", [1]))}},
        "/nodes/0/gpus",
        "use 1.2 of it",
    ),
    "memory of a GPU": (
        {"/jobs/1": {"id": "b", "gpus_per_worker": 0.5, "gpu_memory_gib": 81, "running": running(("n1", [1]))}},
        "/nodes/0/gpu_memory_gib",
        "use 81 of its 80 GiB",
    ),
    "cores of a node": ({"/jobs/0/cpu_cores": 9}, "/nodes/0/cpu_cores", "use 9 of its 8 cpu_cores; correct the node or the jobs"),
    "memory of a node": ({"/jobs/0/memory_gib": 65}, "/nodes/0/memory_gib", "use 65 of its 64 memory_gib"),
    "preempt for nobody": ({"/use": "preempt"}, "/preempt_for", "name the waiting job that must be placed"),
    "preempt for a stranger": ({"/use": "preempt", "/preempt_for": "z"}, "/preempt_for", "there is no job 'z'"),
    "preempt for a running job": ({"/use": "preempt", "/preempt_for": "a"}, "/preempt_for", "name a waiting job"),
    "preempt_for in another use": ({"/preempt_for": "b"}, "/preempt_for", "leave preempt_for out or set use to preempt"),
    "max_moves in another use": ({"/max_moves": 1}, "/max_moves", "leave max_moves out or set use to repack"),
    "a goal twice": ({"/goals": ["balance", "moves", "balance"]}, "/goals/2", "name each goal once"),
}


def test_the_base_is_right_and_plain() -> None:
    problem = Problem.model_validate(BASE)
    assert errors(problem) == ()
    assert warnings(problem) == ()


@pytest.mark.parametrize("name", WRONG)
def test_mistake_is_found_at_its_place_with_its_cure(name: str) -> None:
    changes, pointer, phrase = WRONG[name]
    with pytest.raises(ValidationError) as raised:
        Problem.model_validate(changed(changes))
    lines = raised.value.errors()[0]["msg"].removeprefix("Value error, ").splitlines()
    told = [line for line in lines if line.startswith(f"{pointer}: ")]
    assert len(told) == 1, lines
    assert phrase in told[0]
    assert "; " in told[0]
    kept = raised.value.errors()[0]["ctx"]["error"]
    assert isinstance(kept, ContradictionError)
    assert [mistake.pointer for mistake in kept.mistakes].count(pointer) == 1


LEGAL: dict[str, dict[str, Any]] = {
    "no tenants listed": {"/tenants": [], "/jobs/1/tenant": "anyone"},
    "the default tenant": {"/jobs/1/tenant": "default"},
    "an elastic gang at its fewest": {"/jobs/0/workers": 3, "/jobs/0/workers_min": 2},
    "an elastic gang whose fewest fit": {"/jobs/1": {"id": "b", "gpus_per_worker": 2, "workers": 9, "workers_min": 3}},
    "a running job on a drained node in a repack": {"/nodes/0/state": "drained", "/use": "repack", "/max_moves": 1},
    "a running job on a cordoned node": {"/nodes/0/state": "cordoned"},
    "a node without GPUs": {"/nodes/-": {"id": "n3", "cpu_cores": 1, "memory_gib": 1}},
    "shares that fill a GPU": {
        "/jobs/1": {"id": "b", "gpus_per_worker": 0.1, "workers": 10, "running": running(*[("n1", [1])] * 10)},
    },
    "a preemption": {"/use": "preempt", "/preempt_for": "b", "/max_evictions": 1},
}


@pytest.mark.parametrize("name", LEGAL)
def test_legal(name: str) -> None:
    assert errors(Problem.model_validate(changed(LEGAL[name]))) == ()


def test_several_mistakes_are_told_at_once_up_to_a_limit() -> None:
    with pytest.raises(ValidationError, match="/jobs/1/tenant") as raised:
        Problem.model_validate(changed({"/jobs/1/tenant": "green", "/jobs/0/running/workers/0/node": "x", "/max_moves": 1}))
    assert len(raised.value.errors()[0]["msg"].splitlines()) == 3
    with pytest.raises(ValidationError) as raised:
        Problem.model_validate(changed({"/jobs/1/anti_affinity": {"jobs": [f"x{index}" for index in range(50)]}}))
    assert len(raised.value.errors()[0]["msg"].splitlines()) == MAX_ERRORS


ODD: dict[str, tuple[dict[str, Any], str, str]] = {
    "a node without cores": ({"/nodes/-": {"id": "n3", "cpu_cores": 0, "memory_gib": 1}}, "/nodes/2/cpu_cores", "no_cpu"),
    "reserved for nobody": ({"/nodes/0/reserved_for": "green"}, "/nodes/0/reserved_for", "unknown_tenant"),
    "a quota below what runs": (
        {"/tenants/0/quota_gpus": 1, "/jobs/0/tenant": "red"},
        "/tenants/0/quota_gpus",
        "quota_below_use",
    ),
    "a quota of 0": ({"/tenants/1/quota_gpus": 0}, "/tenants/1/quota_gpus", "quota_zero"),
    "too many cores": ({"/jobs/1/cpu_cores": 9}, "/jobs/1", "fits_nowhere"),
    "too much memory": ({"/jobs/1/memory_gib": 65}, "/jobs/1", "fits_nowhere"),
    "a model that is nowhere": ({"/jobs/1/model_speeds": {"b200": 1}}, "/jobs/1", "fits_nowhere"),
    "a label that is nowhere": ({"/jobs/1/node_selector": {"disk": "nvme"}}, "/jobs/1", "fits_nowhere"),
    "too much memory of a GPU": ({"/jobs/1/gpu_memory_gib": 81, "/nodes/1/gpu_memory_gib": 80}, "/jobs/1", "fits_nowhere"),
    "a level that no node names": ({"/jobs/1/colocate": {"level": "rack"}}, "/jobs/1/colocate/level", "level_unnamed"),
    "running where it is not accepted": (
        {"/jobs/0/node_selector": {"disk": "nvme"}},
        "/jobs/0/running/workers/0/node",
        "running_not_accepted",
    ),
    "evictions that cannot be": ({"/max_evictions": 1}, "/max_evictions", "max_evictions_unused"),
    "a cap below what is drawn": ({"/nodes/0/power_kw": 3, "/power_cap_kw": 2}, "/power_cap_kw", "cap_below_use"),
}


@pytest.mark.parametrize("name", ODD)
def test_legal_but_suspicious(name: str) -> None:
    changes, pointer, code = ODD[name]
    found = warnings(Problem.model_validate(changed(changes)))
    assert (pointer, code) in [(warned.pointer, warned.code) for warned in found]
    assert all("; " in warned.detail for warned in found)


def test_warnings_are_limited() -> None:
    job = {"gpus_per_worker": 0, "cpu_cores": 99}
    many = Problem.model_validate(BASE | {"jobs": [job | {"id": f"j{index}"} for index in range(MAX_WARNINGS + 50)]})
    assert len(warnings(many)) == MAX_WARNINGS


@pytest.mark.parametrize("use", Use)
def test_tiny_problems_are_valid_and_repeatable(use: Use) -> None:
    for seed in range(40):
        problem = tiny_problem(seed, use)
        assert errors(problem) == ()
        assert Problem.model_validate_json(problem.model_dump_json()) == problem == tiny_problem(seed, use)
