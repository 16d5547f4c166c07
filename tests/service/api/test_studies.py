"""Studies over HTTP: stored whole or not at all, each question a run, the table true while they run and at the end."""

from __future__ import annotations

import csv
import io
import itertools
from typing import Any

import pytest
from sqlalchemy import func, select, text

from service.keys import create_key
from service.runs import store
from service.runs.tables import problems, runs, studies
from tests.service.api.conftest import MakeHouse
from tests.service.api.house import House, example, infeasible, solved
from tests.service.api.study_documents import axis, document, program


def count(house: House, table: Any) -> int:
    return int(house.database.read(lambda connection: connection.execute(select(func.count()).select_from(table)).scalar_one()))


def started(house: House, body: Any = None, status: int = 202, **headers: Any) -> dict[str, Any]:
    found = house.post("/v1/studies", document() if body is None else body, **headers)
    assert found.status_code == status, found.text
    made: dict[str, Any] = found.json()
    return made


def test_a_study_is_solved_each_question_a_run_with_its_certificate(working: House) -> None:
    gates = [{"name": "keep", "metric": "objective", "fall_at_most": 0.01, "where": {"most": 4}}]
    study = started(working, document(gates=gates), 200, Prefer="wait=60")
    assert (study["state"], study["scenarios"], study["runs"], study["progress"]) == ("finished", 5, 5, 1.0)
    assert study["counts"] == {"queued": 0, "working": 0, "succeeded": 5, "failed": 0, "cancelled": 0}
    said = study["conclusions"]
    assert (said["goal"], said["best"], said["standing"], said["answered"], said["failed"]) == ("objective", "baseline", "failed", 5, 0)
    assert said["gates"][0]["gate"] == "keep"
    assert said["gates"][0]["proved"]
    table = working.get(f"{study['links']['self']}/table").json()
    assert (table["goal"], table["missing"]) == ("objective", 0)
    assert [line["row"]["goals"][0]["objective"] for line in table["rows"]] == pytest.approx([50.0, 1.0, 2.0, 3.0, 4.0])
    for line in table["rows"]:
        run = working.get(f"/v1/runs/{line['run']}").json()
        assert (run["state"], run["verified"], run["priority"]) == ("succeeded", True, -10)
        goal = working.get(f"/v1/runs/{line['run']}/certificate").json()["goals"][0]
        assert goal["bound"] == pytest.approx(line["row"]["goals"][0]["bound"])
        problem = working.get(run["links"]["problem"]).json()
        assert problem["problem"]["rows"]["upper"] == [line["values"].get("most", 50.0)]
        assert working.get(f"/v1/runs/{line['run']}/sensitivity").status_code == 200
    told = working.get(f"{study['links']['differences']}?a=most=1&b=most=3").json()["difference"]
    assert (told["finding"], told["certain"]) == ("better", True)
    assert told["absolute"] == pytest.approx([2.0, 2.0], abs=1e-3)
    page = working.get(study["links"]["report"])
    assert page.headers["content-type"].startswith("text/html")
    assert "small" in page.text
    assert "plans/" not in page.text
    assert set(working.get(study["links"]["charts"]).json()["charts"]) >= {"tornado"}


def test_the_same_study_again_is_answered_from_the_cache_and_a_larger_one_solves_what_is_new(working: House) -> None:
    started(working, status=200, Prefer="wait=60")
    again = started(working, status=200)
    assert again["progress"] == 1.0
    larger = started(working, document(6), 200, Prefer="wait=60")
    assert larger["runs"] == 7
    cached = [working.get(f"/v1/runs/{line['run']}").json()["cached"] for line in table_of(working, larger)["rows"]]
    assert cached == [True, True, True, True, True, False, False]


def table_of(house: House, study: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = house.get(study["links"]["table"]).json()
    return found


def test_the_table_is_there_while_the_study_runs(house: House) -> None:
    study = started(house)
    assert (study["state"], study["progress"], study["conclusions"]) == ("queued", 0.0, None)
    house.end(solved())
    house.end(infeasible())
    found = house.get(study["links"]["self"]).json()
    assert (found["state"], found["progress"], found["counts"]["succeeded"]) == ("running", 0.4, 2)
    table = table_of(house, study)
    assert table["missing"] == 3
    outcomes = ["" if line["row"] is None else line["row"]["outcome"] for line in table["rows"]]
    assert outcomes[0] == "optimal", "the baseline comes first, whatever is nearest to it next"
    assert sorted(outcomes) == ["", "", "", "infeasible", "optimal"]
    assert table["rows"][outcomes.index("infeasible")]["row"]["refuted"] == ["node_gpus: n1"]
    lines = list(csv.DictReader(io.StringIO(house.get(f"{study['links']['table']}?format=csv").text)))
    assert [line["outcome"] for line in lines] == outcomes
    parquet = house.get(study["links"]["table"], Accept="application/vnd.apache.parquet")
    assert parquet.content[:4] == parquet.content[-4:] == b"PAR1"
    early = house.get(f"{study['links']['differences']}?a=baseline&b=most=4")
    assert (early.status_code, early.json()["code"]) == (409, "not_finished")
    unknown = house.get(f"{study['links']['differences']}?a=baseline&b=nothing")
    assert (unknown.status_code, unknown.json()["errors"][0]["pointer"]) == (400, "/query/b")
    assert house.get(study["links"]["report"]).status_code == 200


def test_runs_are_taken_each_near_the_one_before(house: House) -> None:
    """The table keeps the order of the study; a child that solves one run after another starts from a near answer."""
    values = [7.0, 1.0, 6.0, 2.0, 5.0, 3.0, 4.0]
    study = started(house, document(axes=[axis(values=values)]))
    lines = table_of(house, study)["rows"]
    assert [line["values"].get("most") for line in lines] == [None, *values]
    of_run = {line["run"]: line["values"].get("most") for line in lines}
    claims = [house.database.write(lambda connection: store.claim(connection, "hand", 3)) for _ in lines]
    taken = [of_run[claim.run.id] for claim in claims if claim is not None]
    assert taken[0] is None
    apart = [abs(one - other) for one, other in itertools.pairwise(taken[1:])]
    assert sum(apart) <= 9 < sum(abs(one - other) for one, other in itertools.pairwise(values)), "one turn at most"


def test_scenarios_that_ask_the_same_share_a_run(house: House) -> None:
    twice = document(axes=[{"name": "a", "options": [{"label": "one"}, {"label": "two"}]}, axis(2)])
    study = started(house, twice)
    assert (study["scenarios"], study["runs"]) == (5, 3)
    lines = table_of(house, study)["rows"]
    assert lines[1]["run"] == lines[3]["run"]
    assert len({line["run"] for line in lines}) == 3


def test_a_scenario_that_breaks_the_problem_is_a_row_with_its_reason(working: House) -> None:
    """Each value is right alone, two of them together are not."""
    lower = {"name": "least", "values": [1, 60], "edits": [{"op": "set", "at": "/columns/lower/0", "to": "$value"}]}
    upper = {"name": "top", "values": [40, 100], "edits": [{"op": "set", "at": "/columns/upper/0", "to": "$value"}]}
    study = started(working, document(axes=[lower, upper]), 200, Prefer="wait=60")
    rows = {line["scenario"]: line["row"] for line in table_of(working, study)["rows"]}
    broken = rows["least=60,top=40"]
    assert broken["failure"].startswith("the changes break the problem: /columns")
    assert rows["least=1,top=100"]["outcome"] == "optimal"
    assert rows["least=60,top=100"]["outcome"] == "infeasible"
    assert (study["counts"]["failed"], study["conclusions"]["failed"]) == (1, 1)


# ---------------------------------------------------------------- sent again, and refused


def test_the_same_key_gives_the_same_study(house: House) -> None:
    first = started(house, Idempotency_Key="k1")
    again = house.post("/v1/studies", document(), Idempotency_Key="k1")
    assert (again.json()["id"], again.headers["idempotency-replayed"]) == (first["id"], "true")
    assert (count(house, studies), count(house, runs)) == (1, 5)
    other = house.post("/v1/studies", document(3), Idempotency_Key="k1")
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_key_reused")
    house.post("/v1/runs", {"kind": "placement", "problem": example("placement")}, Idempotency_Key="k2")
    assert house.post("/v1/studies", document(), Idempotency_Key="k2").status_code == 409
    assert house.post("/v1/runs", {"kind": "placement", "problem": example("placement")}, Idempotency_Key="k1").status_code == 409


def kept_base(house: House) -> str:
    found = house.post("/v1/problems", {"kind": "program", "problem": program()})
    assert found.status_code in {200, 201}, found.text
    made: str = found.json()["id"]
    return made


def test_the_base_may_be_a_kept_problem_also_one_of_a_study(house: House) -> None:
    name = kept_base(house)
    study = started(house, document(base={"problem_id": name}))
    assert study["problem_id"] == name
    scenario = house.get(f"/v1/runs/{table_of(house, study)['rows'][2]['run']}").json()["problem_id"]
    shown = house.get(f"/v1/problems/{scenario}").json()
    assert (shown["parent"], shown["problem"]["rows"]["upper"]) == (name, [2.0])
    further = started(house, document(1, base={"problem_id": scenario}))
    assert house.get(f"/v1/problems/{further['problem_id']}").json()["problem"]["rows"]["upper"] == [2.0]
    patched = house.post(f"/v1/problems/{scenario}:patch", {"columns": {"upper": [70.0]}})
    assert patched.status_code == 201, patched.text
    child = house.get(f"/v1/problems/{patched.json()['id']}").json()
    assert (child["parent"], child["problem"]["rows"]["upper"], child["problem"]["columns"]["upper"]) == (scenario, [2.0], [70.0])
    assert house.post("/v1/runs", {"problem_id": scenario}).status_code == 202


WRONG: list[tuple[str, dict[str, Any], str, str]] = [
    ("file", document(base={"file": "base.json"}), "/base/file", "base_file"),
    ("snapshot", document(base={"snapshot": {"slurm": "live"}}), "/base/snapshot", "base_snapshot"),
    ("ask without an axis", document(asks=[{"ask": "sweep", "axis": "mst"}]), "/asks/0/axis", "unknown_axis"),
    ("sweep of one value", document(1, asks=[{"ask": "sweep", "axis": "most"}]), "/asks/0", "cannot_be_asked"),
    (
        "endless target",
        document(
            axes=[axis(values=None, range={"least": 1, "most": 4})],
            asks=[{"ask": "target", "axis": "most", "metric": "objective", "at_least": 3, "tolerance": 1e-12}],
        ),
        "/asks/0",
        "cannot_be_asked",
    ),
    ("metric", document(gates=[{"metric": "objectiv", "at_most": 1}]), "/gates/0/metric", "unknown_metric"),
    ("kind", document(kind="nothing"), "/kind", "unknown_kind"),
    ("other kind", document(base={"problem_id": "prob_" + 32 * "0"}), "/base/problem_id", "problem_not_found"),
    ("broken base", document(base={"problem": program() | {"sense": "sideways"}}), "/base/problem/sense", "enum"),
    ("matches nothing", document(axes=[axis(edits=[{"at": "/rows/upper/7", "to": "$value"}])]), "/axes/0/edits/0/at", ""),
    (
        "breaks the problem",
        document(axes=[axis(edits=[{"at": "/columns/lower/0", "to": "$value"}], values=[200])]),
        "/axes/0/edits/0",
        "breaks_problem",
    ),
    ("nothing right", {"name": 3}, "", ""),
    (
        "too many",
        document(axes=[axis(name=f"a{n}", values=list(range(1000)), edits=[{"at": f"/columns/{n}", "to": "$value"}]) for n in range(3)]),
        "/axes",
        "",
    ),
    ("above limits", document(limits={"time_limit_s": 80_000}), "/limits/time_limit_s", "above_limit"),
    (
        "contradictory gates",
        document(gates=[{"metric": "objective", "at_least": 9}, {"metric": "objective", "at_most": 3}]),
        "/gates",
        "",
    ),
]


@pytest.mark.parametrize("case", [pytest.param(case, id=case[0]) for case in WRONG])
def test_what_is_wrong_is_told_with_its_place_and_nothing_is_kept(house: House, case: tuple[str, dict[str, Any], str, str]) -> None:
    _, body, place, code = case
    found = house.post("/v1/studies", body)
    assert (found.status_code, found.headers["content-type"]) == (422, "application/problem+json"), found.text
    error = found.json()["errors"][0]
    assert error["pointer"].startswith(place), found.text
    assert error["code"] == code or not code
    assert (count(house, studies), count(house, runs), count(house, problems)) == (0, 0, 0)
    checked = house.post("/v1/studies:validate", body).json()
    assert (checked["valid"], checked["scenarios"]) == (False, None)
    assert checked["errors"][0] == error


def test_a_study_may_be_checked_before(house: House) -> None:
    unused = document(axes=[axis(2, values=[50, 49])])
    found = house.post("/v1/studies:validate", unused).json()
    assert (found["valid"], found["scenarios"], found["errors"]) == (True, 3, [])
    assert found["runs"] == 2
    assert (count(house, studies), count(house, runs), count(house, problems)) == (0, 0, 0)
    assert house.post("/v1/studies:validate", b"{").status_code == 400


def test_limits_of_the_service_hold(make_house: MakeHouse) -> None:
    house = make_house(most_scenarios=3, tenant_queue_limit=4, longest_time_limit_s=30)
    many = house.post("/v1/studies", document())
    assert (many.status_code, many.json()["errors"][0]["code"]) == (422, "too_many_scenarios")
    study = started(house, {name: value for name, value in document(2).items() if name != "limits"})
    run = house.get(f"/v1/runs/{table_of(house, study)['rows'][0]['run']}").json()
    assert run["limits"]["time_limit_s"] == 30
    full = house.post("/v1/studies", document(2, seed=7))
    assert (full.status_code, full.json()["code"]) == (429, "tenant_queue_full")
    assert "smaller study" in full.json()["detail"]
    assert house.post("/v1/runs", {"kind": "program", "problem": program()}).status_code == 202
    assert count(house, studies) == 1


def test_kept_changes_count_against_the_problems_of_a_tenant(make_house: MakeHouse) -> None:
    house = make_house(tenant_problem_mib=1)
    costs = [[n + 0.1234567] * 20_000 for n in range(8)]
    options = [{"label": f"o{n}", "edits": [{"at": "/columns/cost", "to": cost}]} for n, cost in enumerate(costs)]
    body = document(base={"problem": wide()}, axes=[{"name": "costs", "options": options}])
    found = house.post("/v1/studies", body)
    assert (found.status_code, found.json()["code"]) == (429, "problem_quota"), found.text[:300]
    assert count(house, studies) == 0
    fewer = body | {"axes": [{"name": "costs", "options": options[:2]}]}
    assert house.post("/v1/studies", fewer).status_code == 202


def wide(columns: int = 20_000) -> dict[str, Any]:
    return {
        "sense": "maximise",
        "columns": {"cost": [1.0] * columns, "upper": [1.5] * columns},
        "rows": {"upper": [50.0]},
        "entries": {"rows": [0] * columns, "columns": list(range(columns)), "values": [1.0] * columns},
    }


def test_a_single_run_comes_before_those_of_a_study(house: House) -> None:
    started(house)
    single = house.run()
    lease = house.claim()
    position = house.database.read(
        lambda connection: connection.execute(select(runs.c.position).where(runs.c.id == single["id"])).scalar_one()
    )
    assert lease.position == position


# ---------------------------------------------------------------- listing, cancelling, others' studies


def test_pages(house: House) -> None:
    made = [started(house, document(1, name=f"s{n}"))["id"] for n in range(3)]
    first = house.get("/v1/studies?limit=2").json()
    assert [study["id"] for study in first["studies"]] == made[:0:-1]
    rest = house.get(f"/v1/studies?limit=2&cursor={first['next']}").json()
    assert ([study["id"] for study in rest["studies"]], rest["next"]) == (made[:1], None)


def test_a_cancelled_study_ends_and_keeps_what_is_answered(house: House) -> None:
    study = started(house)
    house.end()
    ended = house.post(f"{study['links']['self']}:cancel")
    assert ended.status_code == 200
    found = ended.json()
    assert (found["state"], found["counts"]["succeeded"], found["counts"]["cancelled"]) == ("cancelled", 1, 4)
    assert found["conclusions"]["answered"] == 1
    line = table_of(house, study)["rows"][2]
    assert (line["state"], line["row"]["outcome"], line["row"]["stop_reason"]) == ("cancelled", "no_plan", "cancelled")
    events = house.get(f"/v1/runs/{line['run']}/events?after=0", Accept="application/json").json()
    assert (events["done"], events["events"][-1]["state"]) == (True, "cancelled")
    assert house.post(f"{study['links']['self']}:cancel").json()["counts"] == found["counts"]


def test_a_run_at_work_is_cancelled_too(house: House) -> None:
    study = started(house)
    house.claim()
    found = house.post(f"{study['links']['self']}:cancel?mode=discard")
    assert (found.status_code, found.json()["state"]) == (202, "cancelling")
    assert found.json()["counts"] == {"queued": 0, "working": 1, "succeeded": 0, "failed": 0, "cancelled": 4}


def test_tenants_do_not_see_each_others_studies(make_house: MakeHouse) -> None:
    house = make_house(require_keys=True)

    def key(tenant: str) -> dict[str, Any]:
        made = house.database.write(lambda connection: create_key(connection, tenant, ["solve"]))
        return {"Authorization": f"Bearer {made}"}

    mine, other = key("a"), key("b")
    study = started(house, Idempotency_Key="k", **mine)
    for part in ("", "/table", "/report", "/charts", "/differences?a=baseline&b=baseline"):
        found = house.get(f"{study['links']['self']}{part}", **other)
        assert (found.status_code, found.json()["code"]) == (404, "study_not_found"), part
    assert house.post(f"{study['links']['self']}:cancel", **other).status_code == 404
    assert house.get("/v1/studies", **other).json()["studies"] == []
    assert started(house, Idempotency_Key="k", **other)["id"] != study["id"]
    high = house.ask("POST", "/v1/studies?priority=101", json=document(), headers=mine)
    assert (high.status_code, high.json()["errors"][0]["pointer"]) == (422, "/query/priority")
    stolen = house.post("/v1/studies", document(base={"problem_id": study["problem_id"]}), **key("c"))
    assert stolen.json()["errors"][0]["code"] == "problem_not_found"


def test_a_large_base_is_kept_once(house: House) -> None:
    """A hundred scenarios of a large problem take little more room than the problem."""
    study = started(house, document(100, base={"problem": wide()}))
    assert study["runs"] == 100  # the baseline is most=50
    sizes = house.database.read(
        lambda connection: connection.execute(text("SELECT sum(length(body)), max(bytes), count(*) FROM problems")).one()
    )
    assert sizes[2] == 100
    assert sizes[1] > 250_000
    assert sizes[0] < 2 * sizes[1]
