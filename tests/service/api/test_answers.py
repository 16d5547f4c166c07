"""What a run has to say, by hand where no solver is needed and from a real worker where one is."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import delete, func, select

from models.contract import Kind
from service.api import answers
from service.errors import Unavailable
from service.runs import tables
from service.runs.records import Answer
from service.runs.states import State
from tests.service.api.house import House, example, infeasible, problem
from tests.service.runs.requests import plan

PARTS = ("plan", "certificate", "explanations", "conflict", "sensitivity", "metrics", "trace", "explanations?subject=j1", "views/loads")


@pytest.mark.parametrize("part", PARTS)
def test_not_before_the_end(part: str, house: House) -> None:
    run = house.run()
    found = house.get(f"/v1/runs/{run['id']}/{part}")
    assert (found.status_code, found.json()["code"], found.headers["retry-after"]) == (409, "not_finished", "1")


def test_parts_of_a_solved_run(house: House) -> None:
    run = house.run()["id"]
    house.end()
    assert house.get(f"/v1/runs/{run}/plan").content == plan()[0]
    proof = house.get(f"/v1/runs/{run}/certificate").json()
    assert (proof["schema_version"], proof["run"], proof["verified"], proof["gap"]) == (1, run, True, 0.0)
    assert house.get(f"/v1/runs/{run}/explanations").json()["explanations"][0]["text"] == "all is placed"
    assert house.get(f"/v1/runs/{run}/conflict").json()["code"] == "no_conflict"
    told = house.get(f"/v1/runs/{run}/metrics").json()
    assert told == {"schema_version": 1, "run": run, "metrics": {"placed_jobs": 1.0}, "seconds_by_phase": {"solve": 0.1}}
    step = {"seconds": 0.1, "phase": "solve", "incumbent": plan()[1], "bound": None, "gap": None}
    assert house.get(f"/v1/runs/{run}/trace").json() == {"schema_version": 1, "run": run, "trace": [step]}


def test_parts_of_an_infeasible_run(house: House) -> None:
    run = house.run()["id"]
    house.end(infeasible())
    assert house.get(f"/v1/runs/{run}/conflict").json()["rules"] == [{"rule": "node_gpus", "ids": ["n1"]}]
    for part in ("plan", "sensitivity"):
        found = house.get(f"/v1/runs/{run}/{part}")
        assert (found.status_code, found.json()["code"]) == (404, "no_plan")
        assert "/conflict says why" in found.json()["detail"]


def test_a_run_without_a_plan_says_why(house: House) -> None:
    run = house.run()["id"]
    house.end(Answer(State.failed, "no_plan", "deadline", message="the limit was too tight"))
    assert "the limit was too tight" in house.get(f"/v1/runs/{run}/plan").json()["detail"]


def test_a_run_that_never_began_has_no_figures(house: House) -> None:
    run = house.run()["id"]
    house.post(f"/v1/runs/{run}:cancel")
    for part in ("metrics", "trace"):
        found = house.get(f"/v1/runs/{run}/{part}")
        assert (found.status_code, found.json()["code"]) == (404, f"no_{part}")
        assert "cancelled before it began" in found.json()["detail"]


def test_every_link_of_a_run_leads_somewhere(house: House) -> None:
    run = house.run()
    known = house.get("/openapi.json").json()["paths"]
    there = {path.format(run_id=run["id"], problem_id=run["problem_id"], kind="placement", view="", study_id="") for path in known}
    assert set(run["links"].values()) <= there
    assert {"metrics", "trace", "sensitivity", "plan"} <= set(run["links"])


def test_a_view_that_is_not_there(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a kind with views those are told, of one without that it has none; a name that could be none is refused before."""
    run = house.run()["id"]
    house.end()
    assert [view["name"] for view in house.get(f"/v1/runs/{run}/views").json()["views"]] == ["sharing"]
    assert "its views are: sharing" in house.get(f"/v1/runs/{run}/views/loads").json()["detail"]
    monkeypatch.setattr(Kind, "views", property(lambda _kind: {}))
    assert house.get(f"/v1/runs/{run}/views").json() == {"schema_version": 1, "run": run, "views": []}
    found = house.get(f"/v1/runs/{run}/views/loads")
    assert (found.status_code, found.json()["code"]) == (404, "unknown_view")
    assert "plans of kind placement have none" in found.json()["detail"]
    assert house.get(f"/v1/runs/{run}/views/Loads").status_code == 400


# ---------------------------------------------------------------- the sensitivity, which is kept

FOUND = {"goal": "placed_value", "sense": "maximise", "unit": "value", "rows": [], "meaning": {}, "left_out": 0, "message": ""}


@pytest.fixture
def asked(house: House, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is asked of children, which know one answer."""
    tasks: list[str] = []

    async def helped(target: str, *_: object, **__: object) -> dict[str, Any]:
        tasks.append(target)
        return FOUND

    monkeypatch.setattr(house.app.state.service, "helped", helped)
    return tasks


def test_the_sensitivity_is_computed_once(house: House, asked: list[str]) -> None:
    first = house.run()["id"]
    house.end()
    again = house.run()  # the same question: the answer is that of the first
    assert again["cached"]
    for run in (first, again["id"], first):
        assert house.get(f"/v1/runs/{run}/sensitivity").json() == {"schema_version": 1, "run": run, **FOUND}
    assert asked == ["service.tasks:sensitivity"]


def test_a_sensitivity_that_time_cut_short_is_not_kept(house: House, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    run = house.run()["id"]
    house.end()
    monkeypatch.setattr(answers, "SENSITIVITY_S", 0.0)
    for _ in range(2):
        assert house.get(f"/v1/runs/{run}/sensitivity").status_code == 200
    assert len(asked) == 2


def test_a_sensitivity_that_cannot_be_kept_is_told(house: House, asked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(_: object) -> None:
        raise Unavailable("the disk is full")

    run = house.run()["id"]
    house.end()
    monkeypatch.setattr(house.app.state.service, "write", full)
    assert house.get(f"/v1/runs/{run}/sensitivity").json()["goal"] == "placed_value"
    assert len(asked) == 1


# ---------------------------------------------------------------- with a real worker


def test_a_plan_that_was_left_unexplained_is_explained_once_when_asked(working: House) -> None:
    found = working.post("/v1/runs", {"kind": "placement", "problem": problem()}, Prefer="wait=60").json()
    here = f"/v1/runs/{found['id']}/explanations"
    told = working.get(here).json()
    without = delete(tables.answers).where(tables.answers.c.part == "explanations")
    assert working.database.write(lambda connection: connection.execute(without).rowcount) >= 1
    assert working.get(here).json() == told
    kept = select(func.count()).select_from(tables.answers).where(tables.answers.c.part == "explanations")
    assert working.database.read(lambda connection: connection.execute(kept).scalar()) == 1


def test_the_views_of_a_plan(working: House) -> None:
    asked = {"kind": "flow", "problem": example("flow"), "limits": {"time_limit_s": 20}}
    run = working.post("/v1/runs", asked, Prefer="wait=60").json()
    here = f"/v1/runs/{run['id']}/views"
    listed = working.get(here).json()["views"]
    assert [one["name"] for one in listed] == ["splits", "loads", "paths"]
    for one in listed:
        found = working.get(one["links"]["self"]).json()
        assert (found["schema_version"], found["run"], found["view"]) == (1, run["id"], one["name"])
        assert found["content"]
    unknown = working.get(f"{here}/moves").json()
    assert (unknown["code"], unknown["type"]) == ("unknown_view", "urn:quartermaster:error:unknown_view")
    assert "its views are: splits, loads, paths" in unknown["detail"]


def test_a_run_from_the_request_to_its_answers(working: House) -> None:
    found = working.post("/v1/runs", {"kind": "placement", "problem": problem()}, Prefer="wait=60")
    run = found.json()
    assert (found.status_code, run["state"], run["outcome"], run["verified"], run["gap"]) == (200, "succeeded", "optimal", True, 0.0)
    here = f"/v1/runs/{run['id']}"
    assert working.get(f"{here}/plan").json()["placements"][0]["job"] == "j1"
    assert working.get(f"{here}/certificate").json()["verified"] is True
    assert working.get(f"{here}/explanations").status_code == 200
    assert working.get(f"{here}/explanations?subject=j1").json()["explanations"] is not None
    unknown = working.get(f"{here}/explanations?subject=nobody")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_subject")
    model = working.get(f"{here}/model.mps")
    assert model.text.lstrip().startswith("NAME")
    assert model.headers["content-type"] == "text/plain; charset=utf-8"
    worth = working.get(f"{here}/sensitivity")
    assert (worth.status_code, worth.json()["run"]) == (200, run["id"]), worth.text


def test_a_conflict_from_the_request_to_its_answer(working: House) -> None:
    asked = problem(power_cap_kw=0.001)
    asked["nodes"][0] |= {"power_kw": 5.0, "gpu_model": asked["nodes"][0].get("gpu_model")}
    asked["jobs"][0]["running"] = {"workers": [{"node": asked["nodes"][0]["id"], "gpus": [0]}]}
    run = working.post("/v1/runs", {"kind": "placement", "problem": asked}, Prefer="wait=60").json()
    assert (run["state"], run["outcome"]) == ("succeeded", "infeasible")
    told = working.get(f"/v1/runs/{run['id']}/conflict").json()
    assert told["rules"]
    assert told["repairs"]


def test_a_program_too_large_to_write_down(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    async def large(*_: object, **__: object) -> dict[str, int]:
        return {"too_large": 10**6}

    run = house.run()["id"]
    monkeypatch.setattr(house.app.state.service, "helped", large)
    found = house.get(f"/v1/runs/{run}/model.mps")
    assert (found.status_code, found.json()["code"]) == (422, "model_too_large")
