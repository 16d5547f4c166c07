"""What one tenant may not take from the others: the front of the queue, and the room for problems."""

from __future__ import annotations

from typing import Any

import pytest

from service.api import quota
from service.keys import create_key
from tests.service.api.conftest import MakeHouse
from tests.service.api.house import House, problem


def body(**fields: Any) -> dict[str, Any]:
    return {"kind": "placement", "problem": problem()} | fields


def large(number: int) -> dict[str, Any]:
    """A problem of nearly half a MiB, another one for each number."""
    return problem(jobs=[{"id": f"{number}-{job}-{'x' * 180}", "gpus_per_worker": 1} for job in range(900)])


def key(house: House, tenant: str, scope: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {house.database.write(lambda connection: create_key(connection, tenant, [scope]))}"}


def test_a_high_priority_is_for_those_who_run_the_service(make_house: MakeHouse) -> None:
    house = make_house(require_keys=True, highest_priority=10)
    solver, admin = key(house, "a", "solve"), key(house, "a", "admin")
    found = house.post("/v1/runs", body(priority=11), **solver)
    assert found.status_code == 422, found.text
    assert [(one["pointer"], one["code"]) for one in found.json()["errors"]] == [("/priority", "above_limit")]
    assert house.get("/v1/runs", **solver).json()["runs"] == []
    assert house.post("/v1/runs", body(priority=10), **solver).status_code == 202
    assert house.post("/v1/runs", body(priority=1_000), **admin).json()["priority"] == 1_000


def test_without_keys_every_priority_is_free(house: House) -> None:
    assert house.run(priority=1_000)["priority"] == 1_000


@pytest.mark.parametrize("fresh_s", [0.0, 3_600.0], ids=["read", "counted"])
def test_a_tenant_keeps_no_more_than_it_may(fresh_s: float, make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the database tells, and by what was kept here since it was asked."""
    monkeypatch.setattr(quota, "FRESH_BYTES_S", fresh_s)
    house = make_house(require_keys=True, tenant_problem_mib=1)
    ours, theirs = key(house, "ours", "solve"), key(house, "theirs", "solve")
    problems = [{"kind": "placement", "problem": large(number)} for number in range(3)]
    kept = house.post("/v1/problems", problems[0], **ours)
    assert 2**18 < kept.json()["bytes"] < 2**19
    assert house.post("/v1/runs", problems[1], **ours).status_code == 202
    for path in ("/v1/problems", "/v1/runs"):
        found = house.post(path, problems[2], **ours)
        assert (found.status_code, found.json()["code"], found.headers["retry-after"]) == (429, "problem_quota", "60")
        assert house.post(path, problems[0], **ours).status_code < 300, "it is kept already"
    patched = house.post(f"/v1/problems/{kept.json()['id']}:patch", {"power_cap_kw": 1e6}, **ours)
    assert (patched.status_code, patched.json()["code"]) == (429, "problem_quota")
    assert house.post("/v1/runs", {"problem_id": kept.json()["id"]}, **ours).status_code == 202
    assert house.post("/v1/problems", problems[0], **theirs).status_code == 201
