"""Asking for runs: accepted once, answered from the cache, waited for, listed, cancelled."""

from __future__ import annotations

import threading
import time
from typing import Any

import httpx
import pytest

from service.api import ending, quota
from service.runs.states import CancelMode
from tests.service.api.conftest import MakeHouse
from tests.service.api.house import House, infeasible, problem, served, solved

KEY = "night-batch-7"


def body(**fields: Any) -> dict[str, Any]:
    return {"kind": "placement", "problem": problem()} | fields


# ---------------------------------------------------------------- accepting


def test_a_run_is_accepted(house: House) -> None:
    found = house.post("/v1/runs", body(limits={"time_limit_s": 5, "gap": 0.01}, priority=3))
    run = found.json()
    assert found.status_code == 202
    assert found.headers["location"] == run["links"]["self"] == f"/v1/runs/{run['id']}"
    assert found.headers["retry-after"] == "1"
    assert (run["state"], run["kind"], run["priority"], run["cached"], run["outcome"]) == ("queued", "placement", 3, False, None)
    assert run["limits"] == {"time_limit_s": 5.0, "gap": 0.01, "seed": 0, "threads": 1, "memory_gib": None}
    assert run["warnings"] == []
    again = house.get(run["links"]["self"]).json()
    assert again == {name: value for name, value in run.items() if name != "warnings"}


def test_warnings_come_with_the_run(house: House) -> None:
    odd = problem()
    odd["jobs"][0]["node_selector"] = {"zone": "nowhere"}
    assert [(one["pointer"], one["code"]) for one in house.run(problem=odd)["warnings"]] == [("/jobs/0", "fits_nowhere")]


def test_a_kept_problem_is_named(house: House) -> None:
    kept = house.post("/v1/problems", {"kind": "placement", "problem": problem()}).json()
    run = house.post("/v1/runs", {"problem_id": kept["id"]}).json()
    assert (run["problem_id"], run["kind"]) == (kept["id"], "placement")
    assert house.run()["problem_id"] == kept["id"]


def test_memory_is_capped_by_the_settings(make_house: MakeHouse) -> None:
    house = make_house(memory_gib=2.0)
    assert house.run(limits={"memory_gib": 64})["limits"]["memory_gib"] == 2.0
    assert house.run(limits={"memory_gib": 1})["limits"]["memory_gib"] == 1.0
    assert house.run()["limits"]["memory_gib"] == 2.0


def test_the_usual_time_limit_is_below_the_longest(make_house: MakeHouse) -> None:
    assert make_house(longest_time_limit_s=7.0).run()["limits"]["time_limit_s"] == 7.0


# ---------------------------------------------------------------- once


def test_the_same_key_gives_the_same_run(house: House) -> None:
    first = house.post("/v1/runs", body(), Idempotency_Key=KEY)
    second = house.post("/v1/runs", body(), Idempotency_Key=KEY)
    assert first.json()["id"] == second.json()["id"]
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert len(house.get("/v1/runs").json()["runs"]) == 1


def test_the_same_key_with_another_body_is_refused(house: House) -> None:
    house.post("/v1/runs", body(), Idempotency_Key=KEY)
    found = house.post("/v1/runs", body(priority=1), Idempotency_Key=KEY)
    assert (found.status_code, found.json()["code"]) == (409, "idempotency_key_reused")


def test_a_key_is_not_shared_between_tenants_or_needed(house: House) -> None:
    assert house.run()["id"] != house.run()["id"]


# ---------------------------------------------------------------- from the cache


def test_the_same_question_is_answered_at_once(house: House) -> None:
    first = house.run()
    house.end()
    found = house.post("/v1/runs", body())
    run = found.json()
    assert found.status_code == 200
    assert (run["state"], run["cached"], run["outcome"], run["verified"]) == ("succeeded", True, "optimal", True)
    assert run["id"] != first["id"]
    assert house.get(f"/v1/runs/{run['id']}/plan").json() == house.get(f"/v1/runs/{first['id']}/plan").json()


@pytest.mark.parametrize("change", [{"cache": False}, {"limits": {"seed": 1}}, {"limits": {"time_limit_s": 1}}])
def test_another_question_is_solved(change: dict[str, Any], house: House) -> None:
    house.run()
    house.end()
    run = house.run(**change)
    assert (run["state"], run["cached"]) == ("queued", False)


def test_the_cache_can_be_turned_off(make_house: MakeHouse) -> None:
    house = make_house(cache=False)
    house.run()
    house.end()
    assert house.run()["state"] == "queued"


# ---------------------------------------------------------------- waiting


@pytest.mark.parametrize("tell", [True, False], ids=["told", "looked"])
def test_a_run_is_waited_for(tell: bool, house: House) -> None:
    """Also when another process solves it, which cannot tell this one."""
    run = house.run()
    later = threading.Timer(0.15, house.end, kwargs={"tell": tell})
    later.start()
    found = house.get(f"/v1/runs/{run['id']}", Prefer="wait=30")
    later.join()
    assert (found.status_code, found.json()["state"]) == (200, "succeeded")
    assert found.headers["preference-applied"] == "wait=30"


def test_waiting_ends(house: House) -> None:
    found = house.post("/v1/runs", body(), Prefer="respond-async, wait=0")
    assert (found.status_code, found.json()["state"]) == (202, "queued")
    assert found.headers["preference-applied"] == "wait=0"


def test_waiting_is_bounded_by_the_settings(make_house: MakeHouse) -> None:
    found = make_house(longest_wait_s=0.05).post("/v1/runs", body(), Prefer="wait=1000")
    assert found.headers["preference-applied"] == "wait=0.05"


@pytest.mark.parametrize("header", ["wait", "wait=soon", "await=3", "wait=-1", "handling=strict"])
def test_a_preference_that_cannot_be_read_is_ignored(header: str, house: House) -> None:
    found = house.post("/v1/runs", body(), Prefer=header)
    assert found.status_code == 202
    assert "preference-applied" not in found.headers


def test_a_client_that_leaves_does_not_go_on_waiting(house: House) -> None:
    run = house.run()["id"]
    watch = house.app.state.service.watch
    with served(house) as url:
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{url}/v1/runs/{run}", headers={"Prefer": "wait=60"}, timeout=0.3)
        give_up = time.monotonic() + 30
        while watch.waiting:
            assert time.monotonic() < give_up
            time.sleep(0.005)


def test_too_many_wait(make_house: MakeHouse) -> None:
    house = make_house(most_streams=1)
    run = house.run()
    waiting = threading.Thread(target=house.get, args=(f"/v1/runs/{run['id']}",), kwargs={"Prefer": "wait=30"})
    waiting.start()
    while not house.app.state.service.watch.waiting:
        time.sleep(0.005)
    found = house.get(f"/v1/runs/{run['id']}", Prefer="wait=1")
    house.end()
    waiting.join()
    assert (found.status_code, found.json()["code"]) == (503, "too_many_waiting")
    assert house.get(f"/v1/runs/{run['id']}", Prefer="wait=1").status_code == 200


def test_nobody_waits_beyond_the_end_of_the_service(make_house: MakeHouse) -> None:
    house = make_house(drain_s=0.05)
    run = house.run()
    found: list[int] = []
    waiting = threading.Thread(target=lambda: found.append(house.get(f"/v1/runs/{run['id']}", Prefer="wait=30").status_code))
    waiting.start()
    while not house.app.state.service.watch.waiting:
        time.sleep(0.005)
    house.app.state.service.stopping = True
    waiting.join(timeout=20)
    assert found == [200]
    refused = house.post("/v1/runs", body())
    assert (refused.status_code, refused.json()["code"]) == (503, "stopping")
    assert house.get("/readyz").status_code == 503


# ---------------------------------------------------------------- a full queue


def test_a_tenant_with_many_waiting_runs(make_house: MakeHouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quota, "FRESH_S", 0.0)
    house = make_house(tenant_queue_limit=2)
    house.post("/v1/runs", body(), Idempotency_Key=KEY)
    house.run()
    found = house.post("/v1/runs", body())
    assert (found.status_code, found.json()["code"], found.headers["retry-after"]) == (429, "tenant_queue_full", "5")
    assert house.post("/v1/runs", body(), Idempotency_Key=KEY).status_code == 202, "one that was accepted is only sent again"
    house.end()
    assert house.post("/v1/runs", body(cache=False)).status_code == 202


def test_a_full_queue(make_house: MakeHouse) -> None:
    """Counted between two looks at the database, too."""
    house = make_house(queue_limit=3)
    assert [house.post("/v1/runs", body()).status_code for _ in range(5)] == [202, 202, 202, 503, 503]


# ---------------------------------------------------------------- listing


def test_pages(house: House) -> None:
    made = [house.run()["id"] for _ in range(5)]
    first = house.get("/v1/runs?limit=2")
    house.run()  # a new run does not shift the pages
    assert 'rel="next"' in first.headers["link"]
    second = house.get(first.headers["link"].partition(">")[0].removeprefix("<"))
    third = house.get(f"/v1/runs?limit=2&cursor={second.json()['next']}")
    found = [run["id"] for page in (first, second, third) for run in page.json()["runs"]]
    assert found == made[::-1]
    assert third.json()["next"] is None
    assert "link" not in third.headers


def test_filters(house: House) -> None:
    ended = house.run()["id"]
    house.end()
    waiting = house.run(cache=False)["id"]
    assert [run["id"] for run in house.get("/v1/runs?state=succeeded").json()["runs"]] == [ended]
    assert [run["id"] for run in house.get("/v1/runs?state=queued&kind=placement").json()["runs"]] == [waiting]
    assert house.get("/v1/runs?kind=program").json()["runs"] == []


# ---------------------------------------------------------------- warm starts


def test_a_warm_start(house: House) -> None:
    first = house.run()["id"]
    house.end()
    assert house.run(warm_start_run=first)["warm_start_run"] == first


@pytest.mark.parametrize(("answer", "code"), [(None, "no_plan"), (infeasible(), "no_plan")], ids=["unfinished", "infeasible"])
def test_a_warm_start_without_a_plan(answer: Any, code: str, house: House) -> None:
    first = house.run()["id"]
    if answer is not None:
        house.end(answer)
    found = house.post("/v1/runs", body(warm_start_run=first))
    assert (found.status_code, found.json()["errors"][0]["pointer"], found.json()["errors"][0]["code"]) == (422, "/warm_start_run", code)


# ---------------------------------------------------------------- cancelling


def test_a_waiting_run_is_cancelled_at_once(house: House) -> None:
    run = house.run()
    found = house.post(f"/v1/runs/{run['id']}:cancel")
    assert (found.status_code, found.json()["state"], found.json()["stop_reason"]) == (200, "cancelled", "cancelled")
    assert house.post(f"/v1/runs/{run['id']}:cancel").json() == found.json()


def test_a_run_at_work_is_asked_to_end(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ending, "CANCEL_S", 0.05)
    run = house.run()
    lease = house.claim()
    found = house.post(f"/v1/runs/{run['id']}:cancel?mode=discard")
    assert (found.status_code, found.json()["state"]) == (202, "cancelling")
    held = house.get(f"/v1/runs/{run['id']}/events", Accept="application/json").json()["events"][-1]
    assert held["mode"] == CancelMode.discard
    assert lease.position


def test_an_ended_run_stays_as_it_is(house: House) -> None:
    run = house.run()
    house.end(solved())
    assert house.post(f"/v1/runs/{run['id']}:cancel").json()["state"] == "succeeded"
