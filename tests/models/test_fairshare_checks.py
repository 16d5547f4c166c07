"""Bad problems are refused with the place and the cure, odd ones are warned of."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from models.contract import ContradictionError
from models.fairshare.checks import warnings
from models.fairshare.market import market_of
from models.fairshare.schema import Job, JobTable, Problem, SpeedColumn, WorkloadTable
from models.fairshare.verify import goals
from tests.models.fairshare_problems import POLICIES, random_problem, two_by_two


def document(**changes: Any) -> dict[str, Any]:
    """A small valid problem as a document, with some of its parts changed."""
    content: dict[str, Any] = {
        "policy": "max_min_fair",
        "now_s": 10.0,
        "accelerators": [{"id": "v100", "count": 4}, {"id": "k80", "count": 2}],
        "workloads": [
            {"id": "u", "speeds": [{"accelerator": "v100", "steps_per_s": 4.0, "slow_steps_per_s": 3.0}]},
            {"id": "v", "gpus": 2, "speeds": [{"accelerator": "v100", "steps_per_s": 5.0}, {"accelerator": "k80", "steps_per_s": 1.0}]},
        ],
        "pairs": [{"accelerator": "v100", "first": "u", "second": "u", "first_steps_per_s": 3.0, "second_steps_per_s": 3.0}],
        "jobs": [{"id": "a", "workload": "u", "remaining_steps": 100.0}, {"id": "b", "workload": "v", "remaining_steps": 50.0}],
    }
    return content | changes


def job(**changes: Any) -> list[dict[str, Any]]:
    return [{"id": "a", "workload": "u", "remaining_steps": 100.0} | changes]


def workload(**changes: Any) -> list[dict[str, Any]]:
    return [{"id": "u", "speeds": [{"accelerator": "v100", "steps_per_s": 4.0} | changes]}]


def pair(**changes: Any) -> list[dict[str, Any]]:
    first = {"accelerator": "v100", "first": "u", "second": "u", "first_steps_per_s": 3.0, "second_steps_per_s": 3.0}
    return [first | changes]


def mistakes(content: dict[str, Any]) -> set[tuple[str, str]]:
    """Pointer and code of everything that is wrong."""
    with pytest.raises(ValidationError) as refused:
        Problem.model_validate(content)
    found = set()
    for error in refused.value.errors():
        if "ctx" in error and isinstance(error["ctx"].get("error"), ContradictionError):
            found |= {(one.pointer, one.code) for one in error["ctx"]["error"].mistakes}
            assert all(one.detail and one.detail[-1] != "." for one in error["ctx"]["error"].mistakes)
        else:
            found.add(("/" + "/".join(map(str, error["loc"])), error["type"]))
    return found


def test_the_document_is_valid() -> None:
    assert warnings(Problem.model_validate(document())) == ()


TWICE = [{"id": "a", "workload": "u"}, {"id": "a", "workload": "v"}]
MIRRORED = [
    {"accelerator": "k80", "first": "w", "second": "u", "first_steps_per_s": 1.0, "second_steps_per_s": 1.0},
    {"accelerator": "k80", "first": "u", "second": "w", "first_steps_per_s": 1.0, "second_steps_per_s": 1.0},
]
TWO_WORKLOADS = [*workload(), {"id": "w", "speeds": []}]


@pytest.mark.parametrize(
    ("pointer", "code", "changes"),
    [
        ("/jobs", "no_jobs", {"jobs": []}),
        ("/accelerators", "no_accelerators", {"accelerators": []}),
        ("/jobs/1/id", "duplicate_id", {"jobs": TWICE}),
        ("/accelerators/2/id", "duplicate_id", {"accelerators": [*document()["accelerators"], {"id": "k80", "count": 1}]}),
        ("/tenants/1/id", "duplicate_id", {"tenants": [{"id": "t"}, {"id": "t"}]}),
        ("/jobs/0/workload", "unknown_workload", {"jobs": job(workload="x")}),
        ("/jobs/0/tenant", "unknown_tenant", {"jobs": job(tenant="x")}),
        ("/workloads/0/speeds/0/accelerator", "unknown_accelerator", {"workloads": workload(accelerator="x"), "jobs": job(), "pairs": []}),
        ("/pairs/0/accelerator", "unknown_accelerator", {"pairs": pair(accelerator="x")}),
        ("/pairs/0/first", "unknown_workload", {"pairs": pair(first="x")}),
        ("/pairs/0", "unequal_gangs", {"pairs": pair(second="v")}),
        ("/pairs/0/second_steps_per_s", "unlike_twins", {"pairs": pair(second_steps_per_s=2.0)}),
        ("/pairs/1", "pair_twice", {"pairs": pair() * 2}),
        ("/pairs/1", "pair_twice", {"pairs": MIRRORED, "workloads": TWO_WORKLOADS, "jobs": job()}),
        ("/workloads/0/speeds/0/steps_per_s", "greater_than", {"workloads": workload(steps_per_s=0.0)}),
        ("/workloads/0/speeds/0/slow_steps_per_s", "faster_than_usual", {"workloads": workload(slow_steps_per_s=5.0), "jobs": job()}),
        ("/workloads/0/speeds/0/spread_steps_per_s", "faster_than_usual", {"workloads": workload(spread_steps_per_s=5.0), "jobs": job()}),
        (
            "/accelerators/0/packed_gpus",
            "too_many_packed",
            {"accelerators": [{"id": "v100", "count": 4, "packed_gpus": 5}, {"id": "k80", "count": 2}]},
        ),
        ("/jobs/0/remaining_steps", "greater_than", {"jobs": job(remaining_steps=-5.0)}),
        ("/jobs/0/remaining_steps", "no_remaining_steps", {"jobs": job(remaining_steps=None), "policy": "makespan"}),
        ("/jobs/0/remaining_steps", "no_remaining_steps", {"jobs": job(remaining_steps=None), "policy": "finish_time_fair"}),
        ("/jobs/0/remaining_steps", "no_remaining_steps", {"jobs": job(remaining_steps=None, deadline_s=50.0), "policy": "least_cost"}),
        ("/jobs/0/deadline_s", "deadline_past", {"jobs": job(deadline_s=10.0), "policy": "least_cost"}),
        ("/jobs/0/arrival_s", "arrival_later", {"jobs": job(arrival_s=11.0)}),
        ("/jobs/0/total_steps", "less_than_remaining", {"jobs": job(total_steps=99.0)}),
        ("/least_share", "not_of_policy", {"least_share": 0.5}),
        ("/robust", "budget_or_scenarios", {"robust": {}}),
        ("/robust", "budget_or_scenarios", {"robust": {"budget": 1.0, "scenarios": [{"id": "s"}]}}),
        ("/robust/budget", "not_of_policy", {"robust": {"budget": 1.0}, "policy": "throughput"}),
        ("/robust/scenarios", "not_of_policy", {"robust": {"scenarios": [{"id": "s"}]}, "policy": "proportional_fair"}),
        ("/robust/budget", "no_slow_speeds", {"robust": {"budget": 1.0}, "workloads": workload(), "jobs": job()}),
        ("/robust/scenarios/1/id", "duplicate_id", {"robust": {"scenarios": [{"id": "s"}, {"id": "s"}]}}),
        (
            "/robust/scenarios/0/factors/0/workload",
            "unknown_workload",
            {"robust": {"scenarios": [{"id": "s", "factors": [{"workload": "x", "factor": 0.5}]}]}},
        ),
        ("/job_table", "given_twice", {"job_table": {"workload": ["u"]}}),
        ("/job_table/weight", "wrong_length", {"jobs": [], "job_table": {"workload": ["u"], "weight": [1.0, 2.0]}}),
        ("/job_table/workload/1", "unknown_workload", {"jobs": [], "job_table": {"workload": ["u", "x"]}}),
    ],
)
def test_a_mistake_is_named(pointer: str, code: str, changes: dict[str, Any]) -> None:
    assert (pointer, code) in mistakes(document(**changes))


def test_a_job_that_fits_nowhere_is_told_why() -> None:
    large = document(workloads=[{"id": "u", "gpus": 8, "speeds": [{"accelerator": "v100", "steps_per_s": 1.0}]}], jobs=job(), pairs=[])
    with pytest.raises(ValidationError, match="larger than every accelerator"):
        Problem.model_validate(large)
    elsewhere = document(accelerators=[{"id": "v100", "count": 0}, {"id": "k80", "count": 2}], jobs=job())
    with pytest.raises(ValidationError, match="no accelerator with a speed"):
        Problem.model_validate(elsewhere)
    scattered = document(
        accelerators=[{"id": "v100", "count": 4, "packed_gpus": 0}, {"id": "k80", "count": 1}], jobs=job(workload="v", id="b")
    )
    assert ("/jobs/0/workload", "fits_nowhere") in mistakes(scattered)


@pytest.mark.parametrize(
    ("code", "changes"),
    [
        ("odd_weight", {"jobs": [*document()["jobs"], {"id": "c", "workload": "u", "weight": 1e6}]}),
        ("weight_unused", {"jobs": job(weight=2.0), "policy": "makespan"}),
        ("slower_than_turns", {"pairs": pair(first_steps_per_s=1.0, second_steps_per_s=1.0)}),
        ("faster_in_company", {"pairs": pair(first_steps_per_s=5.0, second_steps_per_s=5.0)}),
        ("unused_accelerator", {"jobs": job()}),
        ("unused_workload", {"jobs": job()}),
        (
            "wide_range",
            {
                "workloads": [*workload(steps_per_s=1e-4), {**document()["workloads"][1], "id": "v"}],
                "pairs": [],
                "jobs": document()["jobs"],
            },
        ),
        ("deadline_unused", {"jobs": [*job(deadline_s=100.0), document()["jobs"][1]]}),
        ("deadline_too_near", {"jobs": job(deadline_s=11.0), "policy": "least_cost"}),
        ("nothing_to_do", {"policy": "least_cost"}),
        ("no_prices", {"policy": "least_cost"}),
        ("tenants_unused", {"tenants": [{"id": "t"}]}),
        ("pairs_unused", {"share_gpus": False}),
        ("no_gpus", {"accelerators": [{"id": "v100", "count": 4}, {"id": "k80", "count": 0}]}),
    ],
)
def test_what_is_odd_is_warned_of(code: str, changes: dict[str, Any]) -> None:
    content = document(**changes)
    if code == "wide_range":
        content["workloads"][1]["speeds"][0]["steps_per_s"] = 5e3
    assert code in {one.code for one in warnings(Problem.model_validate(content))}


def test_equal_split_is_that_of_the_page() -> None:
    """Each of two jobs has 2 V100 and 1 K80: u needs one V100 for all its time, v's gang of two spends 2:1 of its time there."""
    market = market_of(Problem.model_validate(document()))
    assert market.equal_share.tolist() == [[1.0, 0.0], [pytest.approx(2 / 3), pytest.approx(1 / 3)]]
    assert market.jobs.equal.tolist() == pytest.approx([4.0, 5.0 * 2 / 3 + 1.0 / 3])


def test_tables_say_the_same() -> None:
    """The same problem as tables, with the speeds of another accelerator left out by null."""
    rows = Problem.model_validate(document())
    table = WorkloadTable(
        id=("u", "v"),
        gpus=(1, 2),
        speeds=(
            SpeedColumn(accelerator="v100", steps_per_s=(4.0, 5.0), slow_steps_per_s=(3.0, None)),
            SpeedColumn(accelerator="k80", steps_per_s=(None, 1.0)),
        ),
    )
    content = document(workloads=[], jobs=[]) | {
        "workload_table": table.model_dump(),
        "job_table": JobTable(id=("a", "b"), workload=("u", "v"), remaining_steps=(100.0, 50.0)).model_dump(),
    }
    columns = Problem.model_validate(json.loads(json.dumps(content)))
    for part in ("ways", "jobs", "workloads"):
        for name, value in vars(getattr(market_of(rows), part)).items():
            other = getattr(getattr(market_of(columns), part), name)
            assert str(value) == str(other), (part, name)
    assert market_of(Problem.model_validate(content | {"job_table": {"workload": ["u", "v"]}})).jobs.ids == ("j0", "j1")


def test_two_classes_have_goals_of_their_own() -> None:
    content = document(jobs=[*job(priority=3), document()["jobs"][1]], policy="throughput")
    assert [goal.name for goal in goals(Problem.model_validate(content))] == ["throughput[3]", "throughput[0]"]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_has_goals(policy: Any) -> None:
    problem = two_by_two(policy)
    assert problem.ordered_goals() == tuple(goal.name for goal in goals(problem))


@pytest.mark.parametrize("seed", range(40))
def test_random_problems_survive_json(seed: int) -> None:
    problem = random_problem(seed)
    assert Problem.model_validate_json(problem.model_dump_json()) == problem


def test_defaults_of_a_table_are_those_of_a_job() -> None:
    assert set(JobTable.model_fields) == set(Job.model_fields)


def test_a_table_with_a_faster_slow_speed_is_refused() -> None:
    speeds = [{"accelerator": "v100", "steps_per_s": [4.0, None], "slow_steps_per_s": [5.0, 1.0]}]
    content = document(workloads=[], pairs=[], jobs=job()) | {"workload_table": {"id": ["u", "v"], "speeds": speeds}}
    assert mistakes(content) == {
        ("/workload_table/speeds/0/slow_steps_per_s/0", "faster_than_usual"),
        ("/workload_table/speeds/0/slow_steps_per_s/1", "faster_than_usual"),
    }
