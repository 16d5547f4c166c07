"""What a study asks besides its scenarios, over HTTP: one run more, durable like any other, in the words of the command line."""

from __future__ import annotations

import json
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, update

from optimizer.study.executors.in_process import InProcess
from optimizer.study.schema import read
from service.runs import forgetting, store, studies
from service.runs.database import Database
from service.runs.records import Answer, Lease, Note, Run
from service.runs.states import State, Task
from service.runs.tables import asked, runs
from service.studies.shelf import Shelf
from service.studies.whole import run_whole
from tests.optimizer.study.small import base
from tests.service.api.conftest import MakeHouse
from tests.service.api.house import House, solved
from tests.service.api.study_documents import axis, document
from tests.service.api.test_studies import wide

SWEEP = {"ask": "sweep", "axis": "most"}
TARGET = {"ask": "target", "axis": "far", "metric": "objective", "at_least": 23}


def asking(*asks: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """Two axes of the same place: four values that are scenarios, and a hundred that a target is sought among."""
    far = {"name": "far", "chosen": True, "range": {"least": 1, "most": 40, "steps": 2, "whole": True}}
    far["edits"] = [{"op": "set", "at": "/columns/upper/0", "to": "$value"}]
    return document(axes=[axis(), far], asks=list(asks or (SWEEP, TARGET)), combine={"how": "latin_hypercube", "samples": 4}) | fields


def started(house: House, body: dict[str, Any], status: int = 202, **headers: Any) -> dict[str, Any]:
    found = house.post("/v1/studies", body, **headers)
    assert found.status_code == status, found.text
    made: dict[str, Any] = found.json()
    return made


def shown(house: House, study: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = house.get(study["links"]["self"]).json()
    return found


def asks_run(house: House, study: dict[str, Any]) -> Run:
    name = study["links"]["asks"].rpartition("/")[2]
    return house.database.read(lambda connection: store.run_of(connection, "default", name))


def rows_kept(house: House) -> int:
    return int(house.database.read(lambda connection: connection.execute(select(func.count()).select_from(asked)).scalar_one()))


def claimed(house: House) -> tuple[Lease, Run]:
    found = house.database.write(lambda connection: store.claim(connection, "hand", 3))
    assert found is not None
    return found.lease, found.run


def here(body: dict[str, Any], folder: Path) -> list[dict[str, Any]]:
    """The asks as the command line answers them."""
    study = read(body)
    with Shelf.opened(folder, study, base()) as shelf:
        return json.loads(json.dumps(run_whole(study, base(), shelf, InProcess()).asks))  # type: ignore[no-any-return]


def test_asks_are_answered_after_the_scenarios_in_the_words_of_the_command_line(working: House, tmp_path: Path) -> None:
    body = asking()
    study = started(working, body, 200, Prefer="wait=60")
    scenarios = study["scenarios"]
    assert (study["state"], study["runs"], study["progress"]) == ("finished", scenarios + 1, 1.0)
    assert study["counts"]["succeeded"] == scenarios + 1
    assert study["asks"] == here(body, tmp_path / "here")
    sweep, target = study["asks"]
    assert (sweep["ask"], sweep["failure"], sweep["answer"]["exact"]) == ("sweep", None, True)
    assert (target["ask"], target["answer"]["value"], target["answer"]["proved"]) == ("target", 23.0, True)
    run = working.get(study["links"]["asks"]).json()
    assert (run["state"], run["outcome"], run["stop_reason"]) == ("succeeded", None, "gap")
    assert "2 of 2 asks" in run["message"]
    assert working.get(f"{study['links']['asks']}/plan").status_code == 404
    events = working.get(f"{study['links']['asks']}/events?after=0", Accept="application/json").json()["events"]
    told = [event["text"] for event in events if event["type"] == "message"]
    assert (told[0], told[-1]) == ("ask 1 of 2: sweep", "ask 2 is answered")
    assert rows_kept(working) == 0, "what was kept on the way is in the answer now"
    table = working.get(study["links"]["table"]).json()
    assert (len(table["rows"]), table["asks"]) == (scenarios, study["asks"])
    assert target["sentence"] in working.get(study["links"]["report"]).text
    assert study["conclusions"]["answered"] == scenarios


def test_the_same_asks_again_are_answered_from_the_cache(working: House) -> None:
    first = started(working, asking(), 200, Prefer="wait=60")
    again = started(working, asking(), 200)
    assert (again["asks"], asks_run(working, again).cached) == (first["asks"], True)
    other = started(working, asking(SWEEP), 202)
    assert not asks_run(working, other).is_terminal


def test_asks_wait_for_the_scenarios(house: House) -> None:
    study = started(house, asking())
    assert (study["asks"], study["state"]) == ([], "queued")
    first, run = claimed(house)
    assert run.task is Task.solve
    leases = [claimed(house)[0] for _ in range(study["scenarios"] - 1)]
    assert house.database.write(lambda connection: store.claim(connection, "hand", 3)) is None, "the scenarios are at work"
    for lease in (first, *leases[:-1]):
        house.database.write(partial(store.finish, lease=lease, answer=solved()))
    assert house.database.write(lambda connection: store.claim(connection, "hand", 3)) is None
    house.database.write(lambda connection: store.hand_back(connection, leases[-1], "its worker stopped"))
    lease, run = claimed(house)
    assert run.task is Task.solve, "one that came back is first"
    house.database.write(lambda connection: store.finish(connection, lease, solved()))
    assert claimed(house)[1].task is Task.asks


def test_a_lost_worker_costs_nothing_that_was_kept(house: House) -> None:
    """The first worker solves one row and one ask, and is lost: the next one solves neither again."""
    body = asking(TARGET, SWEEP)
    study = started(house, body)
    for _ in range(study["scenarios"]):
        house.end()
    lease, run = claimed(house)
    answer = TARGET | {"answer": None, "sentence": "as it was told before", "failure": "none"}
    note = Note("message", {"text": "ask 1 is answered"}, 0.0, asked=("ask-0", json.dumps(answer).encode()))
    house.database.write(lambda connection: store.progress(connection, lease, [note, note]))
    assert shown(house, study)["asks"] == [answer]
    seen = house.database.read(lambda connection: store.run_of(connection, "default", run.id))
    given = house.database.write(lambda connection: store.give_back(connection, seen, store.LOST, 3))
    assert given is not None
    assert given.state is State.queued
    house.work()
    found = house.get(study["links"]["self"], Prefer="wait=60").json()
    assert found["asks"][0] == answer, "not asked again"
    assert found["asks"][1]["answer"]["exact"]
    assert house.get(study["links"]["asks"]).json()["attempt"] == 2


def test_a_cancelled_study_goes_on_from_what_its_asks_had_solved(house: House) -> None:
    study = started(house, asking(TARGET))
    for _ in range(study["scenarios"]):
        house.end()
    lease, _ = claimed(house)
    row = {"key": "k" * 40, "outcome": "optimal"}
    house.note(lease, Note("message", {"text": "1 scenario solved"}, 0.0, asked=("k" * 40, json.dumps(row).encode())))
    cancelling = house.post(f"{study['links']['self']}:cancel")
    assert (cancelling.status_code, cancelling.json()["state"]) == (202, "cancelling")
    seen = asks_run(house, study)
    house.database.write(lambda connection: store.give_back(connection, seen, store.LOST, 3))
    ended = shown(house, study)
    assert (ended["state"], ended["counts"]["cancelled"]) == ("cancelled", 1)
    (left,) = ended["asks"]
    assert (left["ask"], left["answer"], left["open"]) == ("target", None, True)
    assert rows_kept(house) == 1
    again = started(house, asking(TARGET))
    run = asks_run(house, again)
    material = house.database.read(lambda connection: studies.asks_material(connection, run))
    assert list(material.rows) == ["k" * 40]


def in_the_middle_of_an_ask(working: House) -> dict[str, Any]:
    """A study whose one ask cannot be met and takes long, as soon as some of it is solved."""
    far = axis(name="far", values=None, range={"least": 1, "most": 1_000, "steps": 2, "whole": True})
    unreachable = {"ask": "target", "axis": "far", "metric": "objective", "at_least": 10**9, "monotone": False}
    study = started(working, document(base={"problem": wide(5_000)}, axes=[far], asks=[unreachable]))
    give_up = time.monotonic() + 60
    while not rows_kept(working):
        assert time.monotonic() < give_up
        time.sleep(0.02)
    return study


def test_a_cancel_in_the_middle_of_an_ask_tells_why_it_has_no_answer(working: House) -> None:
    study = in_the_middle_of_an_ask(working)
    ended = working.post(f"{study['links']['self']}:cancel")
    final = working.get(study["links"]["self"], Prefer="wait=30").json()
    assert ended.status_code in {200, 202}
    assert final["state"] == "cancelled"
    assert final["asks"][0]["failure"].startswith("cancelled")
    assert final["asks"][0]["open"]
    assert rows_kept(working) > 0


def test_the_solves_of_asks_are_bounded(make_house: MakeHouse) -> None:
    house = make_house(most_ask_solves=20)
    found = house.post("/v1/studies", asking(SWEEP, TARGET))
    assert found.status_code == 422
    error = found.json()["errors"][0]
    assert (error["pointer"], error["code"]) == ("/asks/1", "too_many_solves")
    assert "41 solves" in error["detail"]
    assert house.post("/v1/studies:validate", asking(SWEEP, TARGET)).json()["errors"][0] == error
    study = started(house, asking(SWEEP))
    assert asks_run(house, study).limits["time_limit_s"] == 20


def test_asks_count_as_a_run_of_the_tenant(make_house: MakeHouse) -> None:
    house = make_house(tenant_queue_limit=5)
    five = started(house, document(4), 202)
    assert five["runs"] == 5
    other = make_house(tenant_queue_limit=5)
    full = other.post("/v1/studies", document(4, asks=[SWEEP], seed=3))
    assert full.status_code == 429


def test_the_time_of_asks_is_that_of_a_run_at_most(make_house: MakeHouse) -> None:
    house = make_house(longest_time_limit_s=30)
    study = started(house, asking())
    assert asks_run(house, study).limits["time_limit_s"] == 30
    assert house.database.read(lambda connection: connection.execute(select(func.count()).select_from(runs)).scalar_one()) == study["runs"]


@pytest.mark.parametrize("mode", ["keep_best", "discard"])
def test_asks_that_wait_are_cancelled_at_once(house: House, mode: str) -> None:
    study = started(house, asking())
    ended = house.post(f"{study['links']['self']}:cancel?mode={mode}").json()
    assert ended["state"] == "cancelled"
    assert [(one["answer"], one["failure"], one["open"]) for one in ended["asks"]] == [(None, "cancelled while it waited", True)] * 2
    assert ended["counts"]["cancelled"] == study["runs"]


def lose(house: House, study: dict[str, Any]) -> None:
    seen = asks_run(house, study)
    house.database.write(lambda connection: store.give_back(connection, seen, store.LOST, 3))


def test_asks_that_are_lost_too_often_all_say_so(house: House) -> None:
    """Whoever finds the worker dead the last time has no child to put the answers together: all asks are told nevertheless."""
    study = started(house, asking(TARGET, SWEEP))
    for _ in range(study["scenarios"]):
        house.end()
    answer = SWEEP | {"answer": None, "sentence": "as it was told before", "failure": None}
    for number in range(3):
        lease, _ = claimed(house)
        if number == 1:
            house.note(lease, Note("message", {"text": "ask 2 is answered"}, 0.0, asked=("ask-1", json.dumps(answer).encode())))
        lose(house, study)
    ended = shown(house, study)
    assert (ended["state"], ended["counts"]["failed"]) == ("finished", 1)
    assert [one["ask"] for one in ended["asks"]] == ["target", "sweep"]
    assert "3 times" in ended["asks"][0]["failure"]
    assert ended["asks"][1] == answer
    assert not any(one.get("open") for one in ended["asks"]), "sent again, it would be lost again"
    assert "3 times" in house.get(study["links"]["report"]).text


def test_a_scenario_that_fails_or_is_cancelled_alone_holds_no_asks_up(house: House) -> None:
    study = started(house, asking())
    count = study["scenarios"]
    for _ in range(count - 2):
        house.end()
    lease, run = claimed(house)
    house.database.write(lambda connection: store.finish(connection, lease, Answer(State.failed, "no_plan", "crash", failure="lost")))
    lease, run = claimed(house)
    assert house.post(f"/v1/runs/{run.id}:cancel").status_code in {200, 202}
    assert house.database.write(lambda connection: store.claim(connection, "hand", 3)) is None, "it is being cancelled"
    house.database.write(lambda connection: store.finish(connection, lease, Answer(State.cancelled, "no_plan", "cancelled")))
    assert claimed(house)[1].task is Task.asks


def test_one_of_two_workers_gets_the_asks(house: House) -> None:
    study = started(house, asking())
    for _ in range(study["scenarios"]):
        house.end()
    others = [Database(house.database.url.render_as_string(hide_password=False), durability="crash") for _ in range(4)]
    try:
        futures = [
            one.submit(lambda connection, name=f"hand-{number}": store.claim(connection, name, 3))  # type: ignore[misc]
            for number, one in enumerate(others)
        ]
        found = [future.result(30) for future in futures]
    finally:
        for one in others:
            one.close()
    assert [claim.run.task for claim in found if claim is not None] == [Task.asks]


def test_the_same_asks_that_waited_meanwhile_are_not_asked_again(house: House) -> None:
    """Two studies alike are accepted before either is solved: the second goes by what the first has come to, to the letter."""
    first, second = started(house, asking()), started(house, asking())
    house.work()
    found = [house.get(study["links"]["self"], Prefer="wait=60").json() for study in (first, second)]
    assert [one["state"] for one in found] == ["finished"] * 2
    assert found[0]["asks"] == found[1]["asks"]
    material = house.database.read(lambda connection: studies.asks_material(connection, asks_run(house, second)))
    assert sorted(material.done) == [0, 1]
    events = house.get(f"{second['links']['asks']}/events?after=0", Accept="application/json").json()["events"]
    assert not [event for event in events if event["type"] == "message"]


def test_no_tenant_goes_by_what_anothers_asks_had_solved(house: House) -> None:
    study = started(house, asking(TARGET))
    for _ in range(study["scenarios"]):
        house.end()
    lease, mine = claimed(house)
    house.note(lease, Note("message", {"text": "1 scenario solved"}, 0.0, asked=("k" * 40, b"{}")))
    again = started(house, asking(TARGET))
    run = asks_run(house, again)
    assert list(house.database.read(lambda connection: studies.asks_material(connection, run)).rows) == ["k" * 40]
    theirs = update(runs).where(runs.c.position == mine.position).values(tenant="another")
    house.database.write(lambda connection: connection.execute(theirs).rowcount)
    assert not house.database.read(lambda connection: studies.asks_material(connection, run)).rows


def test_what_asks_had_solved_is_forgotten_with_their_study(house: House) -> None:
    study = started(house, asking(TARGET))
    for _ in range(study["scenarios"]):
        house.end()
    lease, _ = claimed(house)
    house.note(lease, Note("message", {"text": "1 scenario solved"}, 0.0, asked=("k" * 40, b"{}")))
    late = time.time() + 60
    assert house.database.write(lambda connection: forgetting.forget(connection, late)) == 0, "its asks are at work"
    house.post(f"{study['links']['self']}:cancel")
    lose(house, study)
    assert rows_kept(house) == 1
    while house.database.write(lambda connection: forgetting.forget(connection, late)):
        pass
    assert rows_kept(house) == 0
    assert house.get(study["links"]["self"]).status_code == 404
    assert house.get(study["links"]["asks"]).status_code == 404


@pytest.mark.parametrize("mode", ["keep_best", "discard"])
def test_a_cancel_says_what_is_true_of_what_was_solved(working: House, mode: str) -> None:
    """There is no plan to discard, and the rows stay: the message may not say that they are gone."""
    study = in_the_middle_of_an_ask(working)
    working.post(f"{study['links']['self']}:cancel?mode={mode}")
    final = working.get(study["links"]["self"], Prefer="wait=30").json()
    assert (final["state"], final["asks"][0]["open"]) == ("cancelled", True)
    run = working.get(study["links"]["asks"]).json()
    assert "discard" not in run["message"]
    assert (run["message"].startswith("0 of 1 asks"), rows_kept(working) > 0) == (True, True)


@pytest.mark.parametrize(
    ("domain", "tolerance", "place"),
    [
        ({"least": 1, "most": 40, "steps": 3}, 1e-320, "/asks/0"),
        ({"least": -1e308, "most": 1e308, "steps": 3, "whole": True}, None, "/axes/0/range"),
    ],
)
def test_numbers_that_nobody_can_count_are_the_askers_mistake(
    house: House, domain: dict[str, Any], tolerance: float | None, place: str
) -> None:
    far = axis(name="far", values=None, range=domain)
    body = document(axes=[far], asks=[TARGET | {"tolerance": tolerance}])
    found = house.post("/v1/studies", body)
    assert found.status_code == 422, found.text
    assert found.json()["errors"][0]["pointer"].startswith(place)
