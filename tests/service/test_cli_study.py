"""The ``study`` commands, from file to table: run, show, compare, plan, schema, example; and bad input."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

import service.cli.study as commands
from optimizer.study.executors.engine import EngineError
from optimizer.study.schema import Study
from service.cli import app
from service.documents.errors import BadInputError
from service.documents.yaml_loader import loaded
from service.studies.shipped import examples

RUNNER = CliRunner()
PROGRAM: dict[str, Any] = {
    "sense": "maximise",
    "columns": {"names": ["train", "serve"], "cost": [3.0, 2.0], "lower": [0.0, 0.0], "upper": [None, 6.0]},
    "rows": {"names": ["hours", "power"], "lower": [None, None], "upper": [10.0, 8.0]},
    "entries": {"rows": [0, 0, 1, 1], "columns": [0, 1, 0, 1], "values": [1.0, 1.0, 1.0, 0.5]},
}
AXIS = {"name": "hours", "values": [6, 10, 14], "usd_each": 2, "edits": [{"at": "/rows/upper/0", "to": "$value"}]}
STUDY = {"name": "hours", "title": "More hours", "kind": "program", "base": {"problem": PROGRAM}, "axes": [AXIS]}


def best(hours: float) -> float:
    """The optimum by trying: s on a fine grid, t as large as it may be."""
    found = []
    for step in range(601):
        serve = step / 100
        train = min(hours - serve, 8 - serve / 2)
        if train >= 0:
            found.append(3 * train + 2 * serve)
    return max(found)


def run(*arguments: str) -> Result:
    return RUNNER.invoke(app, ["study", *arguments])


def put(folder: Path, study: dict[str, Any], name: str = "study.json") -> str:
    path = folder / name
    path.write_text(json.dumps(study), encoding="utf-8")
    return str(path)


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """A folder with the study answered."""
    done = run("run", put(tmp_path, STUDY), "--engine", "here", "--out", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    return tmp_path / "out"


def test_a_study_is_a_table_with_certificates(ran: Path) -> None:
    rows = list(csv.DictReader((ran / "table.csv").read_text().splitlines()))
    assert [row["label"] for row in rows] == ["baseline", "hours=6", "hours=10", "hours=14"]
    for row in rows[1:]:
        assert float(row["objective"]) == pytest.approx(best(float(row["hours"])), abs=0.02)
        assert float(row["objective_bound"]) == pytest.approx(float(row["objective"]))
        assert row["verified"] == "true"
    assert [row["finding"] for row in rows] == ["", "worse", "equal_within", "better"]
    assert float(rows[3]["spend_usd"]) == 28.0
    for name in ("table.parquet", "report.html"):
        assert (ran / name).stat().st_size > 500


def test_people_are_told_what_is_certain(ran: Path) -> None:
    shown = run("show", str(ran))
    assert shown.exit_code == 0
    assert "More hours (program): 4 scenarios, nothing solved now, 3 known before" in shown.output
    assert "Recommendation" in shown.output
    assert "worse by" in shown.output
    assert "report:" in shown.output


def test_nothing_is_solved_twice(ran: Path, tmp_path: Path) -> None:
    file = put(tmp_path, STUDY | {"axes": [AXIS | {"values": [6, 10, 12, 14]}]})
    told = json.loads(run("run", file, "--engine", "here", "--out", str(ran), "--json").stdout)
    assert (told["solved"], told["reused"], told["missing"], told["failed"]) == (1, 3, 0, 0)
    assert told["exit_code"] == 0
    assert [line["label"] for line in told["scenarios"]][-2:] == ["hours=12", "hours=14"]
    assert told["differences"]["hours=14"]["finding"] == "better"


@pytest.mark.parametrize(
    ("gate", "code"),
    [
        ({"metric": "objective", "fall_at_most": 0.5}, 0),
        ({"metric": "objective", "fall_at_most": 0.01}, 5),
        ({"metric": "objective", "at_least": 1e6, "where": {"hours": 14}}, 5),
    ],
)
def test_gates_decide_the_exit_code(tmp_path: Path, gate: dict[str, Any], code: int) -> None:
    done = run("run", put(tmp_path, STUDY | {"gates": [gate]}), "--engine", "here", "--out", str(tmp_path / "out"))
    assert done.exit_code == code, done.output
    assert run("show", str(tmp_path / "out")).exit_code == code


def test_asks_are_answered_once_and_shown(tmp_path: Path) -> None:
    asks = [
        {"ask": "sweep", "axis": "hours"},
        {"ask": "target", "axis": "hours", "metric": "objective", "at_least": 20},
    ]
    file, out = put(tmp_path, STUDY | {"asks": asks}), tmp_path / "out"
    told = json.loads(run("run", file, "--engine", "here", "--out", str(out), "--json").stdout)
    sweep, target = told["asks"]
    assert sweep["answer"]["pieces"]
    assert sweep["answer"]["exact"] is True
    assert target["answer"]["value"] == 10.0
    assert target["answer"]["proved"] is True
    before = (out / "asks.json").stat().st_mtime_ns
    again = json.loads(run("run", file, "--engine", "here", "--out", str(out), "--json").stdout)
    assert again["asks"] == told["asks"]
    assert (out / "asks.json").stat().st_mtime_ns == before
    shown = run("show", str(out))
    assert target["sentence"] in shown.output.replace("\n", " ")
    assert "Sweep of hours" in (out / "report.html").read_text()
    # Another axis: the kept answers are of another question.
    changed = put(tmp_path, STUDY | {"asks": asks, "axes": [AXIS | {"values": [6, 14]}]})
    third = json.loads(run("run", changed, "--engine", "here", "--out", str(out), "--json").stdout)
    assert third["asks"][1]["answer"]["value"] == 14.0


def test_asks_that_cannot_be_asked_are_refused_before_anything_is_solved(tmp_path: Path) -> None:
    whole = PROGRAM | {"columns": PROGRAM["columns"] | {"integer": [True, False]}}
    cases = {
        "columns": STUDY | {"asks": [{"ask": "pareto", "first": "objective", "second": "columns"}]},  # a metric, which is no goal
        "whole-number": STUDY | {"base": {"problem": whole}, "asks": [{"ask": "sweep", "axis": "hours"}]},
    }
    for word, study in cases.items():
        with pytest.raises(BadInputError, match=word) as refused:
            RUNNER.invoke(app, ["study", "run", put(tmp_path, study), "--out", str(tmp_path / "out")], catch_exceptions=False)
        assert "/asks/0" in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_rows_that_fail_are_rows(tmp_path: Path) -> None:
    axis = AXIS | {"values": [-5, 10]}  # no plan with negative hours
    out = tmp_path / "out"
    done = run("run", put(tmp_path, STUDY | {"axes": [axis]}), "--engine", "here", "--out", str(out))
    assert done.exit_code == 0, done.output
    assert "no plan exists (proved)" in done.output
    with pytest.raises(BadInputError, match="has no plan"):
        RUNNER.invoke(app, ["study", "plan", str(out), "hours=-5"], catch_exceptions=False)


def test_a_plan_is_printed(ran: Path) -> None:
    told = run("plan", str(ran), "hours=6")
    assert sum(json.loads(told.stdout)["values"]) == pytest.approx(6.0)


# ---------------------------------------------------------------- compare


def test_two_scenarios_are_compared(ran: Path) -> None:
    told = run("compare", f"{ran}::hours=6", f"{ran}::hours=14")
    assert told.exit_code == 0
    assert "hours=14 beats hours=6 by" in told.output
    assert "certain" in told.output
    found = json.loads(run("compare", f"{ran}::hours=6", f"{ran}::hours=14", "--json").stdout)
    assert found["same_base"] is True
    low, high = found["differences"][0]["absolute"]
    assert low <= best(14) - best(6) <= high + 0.02


def test_one_scenario_is_compared_with_all(ran: Path) -> None:
    found = json.loads(run("compare", f"{ran}::hours=10", str(ran), "--json").stdout)
    assert [one["b"] for one in found["differences"]] == ["baseline", "hours=6", "hours=14"]
    assert found["counts"] == {"better": 1, "worse": 1, "equal_within": 1}


def test_one_replicate_is_named_as_in_the_table(tmp_path: Path) -> None:
    out = tmp_path / "out"
    run("run", put(tmp_path, STUDY | {"replicates": 2}), "--engine", "here", "--out", str(out))
    both = json.loads(run("compare", f"{out}::hours=6", f"{out}::hours=14", "--json").stdout)
    assert len(both["differences"]) == 2
    one = json.loads(run("compare", f"{out}::hours=6 #1", f"{out}::hours=14 #1", "--json").stdout)
    assert len(one["differences"]) == 1


def test_two_studies_are_compared_by_name(ran: Path, tmp_path: Path) -> None:
    dearer = json.loads(json.dumps(PROGRAM))
    dearer["columns"]["cost"] = [2.0, 2.0]
    other = STUDY | {"name": "other", "base": {"problem": dearer}, "axes": [AXIS | {"values": [6, 14, 20]}]}
    assert run("run", put(tmp_path, other), "--engine", "here", "--out", str(tmp_path / "other")).exit_code == 0
    found = json.loads(run("compare", str(ran), str(tmp_path / "other"), "--json").stdout)
    assert found["same_base"] is False
    assert len(found["differences"]) == 3  # baseline, 6 and 14
    assert sorted(name.rpartition("::")[2] for name in found["unpaired"]) == ["hours=10", "hours=20"]
    assert all(one["finding"] == "worse" for one in found["differences"])
    shown = run("compare", str(ran), str(tmp_path / "other"))
    assert "The base problems differ" in shown.output
    assert "3 pairs in objective: 3 worse" in shown.output


@pytest.mark.parametrize(
    ("a", "b", "told"),
    [
        ("{ran}::hours=7", "{ran}", "has no scenario 'hours=7'; did you mean 'hours=6'?"),
        ("{ran}::hours=6", "{ran}-not", "holds no study"),
        ("{ran}", "{ran}::nothing like it", "there are baseline, hours=6, hours=10, hours=14"),
    ],
)
def test_what_cannot_be_compared(ran: Path, a: str, b: str, told: str) -> None:
    with pytest.raises(BadInputError) as raised:
        RUNNER.invoke(app, ["study", "compare", a.format(ran=ran), b.format(ran=ran)], catch_exceptions=False)
    assert told in str(raised.value)


def test_an_unknown_metric_names_the_near_one(ran: Path) -> None:
    with pytest.raises(BadInputError, match="did you mean 'objective'"):
        RUNNER.invoke(app, ["study", "compare", "--metric", "objectiv", str(ran), str(ran)], catch_exceptions=False)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"kind": "nothing"}, "/kind"),
        ({"axes": [AXIS | {"edits": [{"at": "/rows/nowhere/0", "to": "$value"}]}]}, "/axes/0/edits/0/at"),
        ({"axes": [AXIS | {"edits": [{"at": "/rows/upper/0", "to": "high"}]}]}, "/axes/0"),
        ({"base": {"file": "nowhere.json"}}, "nowhere.json"),
        ({"base": {"problem": {"sense": "maximise"}}}, "/base/problem"),
        ({"base": {"problem_id": "x"}}, "/base/problem_id"),
        ({"asks": [{"ask": "sweep", "axis": "other"}]}, "/asks/0"),
        (
            {"gates": [{"metric": "objectiv", "at_most": 1}]},
            "/gates/0/metric: there is no goal or metric 'objectiv'; did you mean 'objective'?",
        ),
        ({"metrics": ["nonsense"]}, "/metrics/0"),
        (
            {"axes": [AXIS | {"values": None, "range": {"least": 0, "most": 1, "steps": 100_000}, "name": f"a{n}"} for n in range(2)]},
            "axes",
        ),
    ],
)
def test_a_wrong_study_is_refused_with_the_place(tmp_path: Path, changes: dict[str, Any], told: str) -> None:
    out = tmp_path / "out"
    with pytest.raises(BadInputError) as raised:
        RUNNER.invoke(app, ["study", "run", put(tmp_path, STUDY | changes), "--out", str(out)], catch_exceptions=False)
    assert told in str(raised.value)
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--address", "a:1"), "--address"),
        (("--engine", "here", "--workers", "2"), "--workers"),
    ],
)
def test_options_that_do_not_fit(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    with pytest.raises(BadInputError, match=told):
        RUNNER.invoke(app, ["study", "run", put(tmp_path, STUDY), *arguments], catch_exceptions=False)


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(BadInputError, match="--out"):
        RUNNER.invoke(app, ["study", "run", put(tmp_path, STUDY), "--engine", "here", "--out", str(tmp_path)], catch_exceptions=False)
    assert not (tmp_path / "shelf.json").exists()


def test_an_engine_that_cannot_be_had_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def open(self, _held: object) -> None:
            raise EngineError("no worker starts; give it more memory")

    monkeypatch.setattr(commands, "chosen", lambda *_: Broken())
    with pytest.raises(BadInputError, match="--engine: no worker starts"):
        RUNNER.invoke(app, ["study", "run", put(tmp_path, STUDY), "--out", str(tmp_path / "out")], catch_exceptions=False)


# ---------------------------------------------------------------- the rest


def test_the_schema_is_that_of_a_study() -> None:
    assert json.loads(run("schema").stdout)["properties"].keys() >= {"axes", "base", "gates", "asks"}


def test_shipped_studies_are_listed_and_printed() -> None:
    listed = run("example").output
    for name, about in examples().items():
        assert name in listed
        assert about in listed
        assert run("example", name).stdout.startswith(("#", "name", "{", "schema"))
    with pytest.raises(BadInputError, match="there is no shipped study 'nonesuch'"):
        RUNNER.invoke(app, ["study", "example", "nonesuch"], catch_exceptions=False)


def test_the_example_here_is_a_study() -> None:
    assert Study.model_validate(STUDY).axes[0].name == "hours"


def test_an_example_is_told_as_json_too() -> None:
    for name in ("quota_change", "link_upgrade"):
        told = json.loads(run("example", name, "--json").stdout)
        assert Study.model_validate(told) == Study.model_validate(loaded(run("example", name).stdout.encode()))


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(BadInputError, match="is a file, or lies in one"):
            RUNNER.invoke(app, ["study", "run", put(tmp_path, STUDY), "--out", str(place)], catch_exceptions=False)


def test_a_number_with_its_unit_is_told_how_to_be_written(tmp_path: Path) -> None:
    file = put(tmp_path, STUDY | {"limits": {"time_limit_s": "5s"}})
    with pytest.raises(BadInputError, match="/limits/time_limit_s: must be a number, not '5s'; write the number alone"):
        RUNNER.invoke(app, ["study", "run", file, "--out", str(tmp_path / "out")], catch_exceptions=False)


def test_replicates_are_a_table_of_short_lines(tmp_path: Path) -> None:
    demand = {
        "name": "demand",
        "draw": {"distribution": "uniform", "least": 4, "most": 7},
        "edits": [{"at": "/columns/upper/1", "to": "$value"}],
    }
    third = AXIS | {"values": None, "range": {"least": 9, "most": 10, "steps": 4}}
    done = run("run", put(tmp_path, STUDY | {"axes": [third, demand], "replicates": 4}), "--engine", "here", "--out", str(tmp_path / "out"))
    assert "Over 4 replicates, against the baseline in objective" in done.output
    assert "hours=9.33333 " in done.output
    assert "hours=9.333333333" not in done.output
    assert "sign test" in done.output
    section = (tmp_path / "out" / "report.html").read_text(encoding="utf-8").partition("Over the replicates")[2].partition("</table>")[0]
    assert "hours=9.33333<" in section


def test_a_target_that_no_value_reaches_is_no_success(tmp_path: Path) -> None:
    ask = {"ask": "target", "axis": "hours", "metric": "objective", "at_least": 10_000}
    done = run("run", put(tmp_path, STUDY | {"asks": [ask]}), "--engine", "here", "--out", str(tmp_path / "out"), "--json")
    told = json.loads(done.stdout)
    assert (done.exit_code, told["exit_code"], told["asks"][0]["answer"]["value"]) == (4, 4, None)
    assert run("show", str(tmp_path / "out")).exit_code == 4
    gate = {"metric": "objective", "at_least": 19}
    failed = run("run", put(tmp_path, STUDY | {"asks": [ask], "gates": [gate]}), "--engine", "here", "--out", str(tmp_path / "out"))
    assert failed.exit_code == 5, "a broken gate comes first"
