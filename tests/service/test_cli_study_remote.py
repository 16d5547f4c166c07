"""``study run --server``: what is printed, written and exited with is what a run here would leave; Ctrl-C cancels."""

from __future__ import annotations

import csv
import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from service.cli import app, study_remote
from service.client import Client
from service.documents.errors import BadInputError
from service.runs.worker import Worker
from tests.service.live import Live, live, warm_pool
from tests.service.test_cli_study import AXIS, PROGRAM, STUDY, put

RUNNER = CliRunner()
ASKS = [{"ask": "sweep", "axis": "hours"}, {"ask": "target", "axis": "hours", "metric": "objective", "at_least": 20}]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    with warm_pool() as pool, live(tmp_path_factory.mktemp("service"), pool) as made:
        yield made


def run(*arguments: str | Path) -> Result:
    return RUNNER.invoke(app, ["study", "run", *map(str, arguments)])


def told(result: Result) -> dict[str, Any]:
    assert result.exit_code in {0, 5}, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def untimed(found: dict[str, Any]) -> dict[str, Any]:
    """Without what no two runs have alike: seconds, and how the solver came to the same answer."""
    found = found | {"seconds": 0.0}
    found["scenarios"] = [line | {"seconds": 0.0, "strategy": ""} for line in found["scenarios"]]
    return found


def test_the_folder_and_what_is_told_are_the_same_as_here(service: Live, tmp_path: Path) -> None:
    gates = [{"name": "keep", "metric": "objective", "at_least": 19}]
    file = put(tmp_path, STUDY | {"asks": ASKS, "gates": gates})
    here, there = tmp_path / "here", tmp_path / "there"
    local = run(file, "--engine", "here", "--out", here, "--json")
    remote = run(file, "--server", service.url, "--out", there, "--json")
    assert local.exit_code == remote.exit_code == 5
    assert untimed(told(remote)) == untimed(told(local))
    names = {"table.csv", "table.parquet", "report.html", "asks.json", "study.json", "base.json", "shelf.json"}
    assert names <= {path.name for path in there.iterdir()}
    columns = [[{name: line[name] for name in ("scenario", "objective")} for line in rows(folder)] for folder in (here, there)]
    assert columns[0] == columns[1]
    shown = [RUNNER.invoke(app, ["study", "show", str(folder), "--json"]) for folder in (here, there)]
    assert untimed(told(shown[0])) == untimed(told(shown[1])), "the folder stands alone"
    plan = RUNNER.invoke(app, ["study", "plan", str(there), "hours=6"])
    assert sum(json.loads(plan.stdout)["values"]) == pytest.approx(6.0)
    report = (there / "report.html").read_text(encoding="utf-8")
    assert "Sweep of hours" in report


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "table.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def studies(service: Live) -> int:
    with Client(service.url) as client:
        return len(list(client.studies()))


def test_the_same_again_attaches_to_the_same_study(service: Live, tmp_path: Path) -> None:
    file = put(tmp_path, STUDY | {"name": "again"})
    first = run(file, "--server", service.url, "--out", tmp_path / "one")
    before = studies(service)
    second = run(file, "--server", service.url, "--out", tmp_path / "two")
    assert (first.exit_code, second.exit_code) == (0, 0), first.output + second.output
    assert studies(service) == before
    ids = [re.findall(r"study_[0-9a-f]{24}", result.output) for result in (first, second)]
    assert ids[0] == ids[1]
    assert "solved now" in first.output
    assert "nothing solved now" in second.output


def test_a_base_that_the_service_has_stored(service: Live, tmp_path: Path) -> None:
    with Client(service.url) as client:
        name = client.add_problem("program", PROGRAM).id
    file = put(tmp_path, STUDY | {"name": "stored", "base": {"problem_id": name}})
    done = run(file, "--server", service.url, "--out", tmp_path / "out")
    assert done.exit_code == 0, done.output
    wrong = put(tmp_path, STUDY | {"kind": "placement", "axes": [], "base": {"problem_id": name}}, "wrong.json")
    with pytest.raises(BadInputError, match="problem of kind program"):
        RUNNER.invoke(app, ["study", "run", wrong, "--server", service.url], catch_exceptions=False)


def test_ctrl_c_cancels_and_the_same_again_goes_on(service: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = [float(value) for value in range(1, 61)]
    file, out = put(tmp_path, STUDY | {"name": "long", "axes": [AXIS | {"values": values}]}), tmp_path / "out"
    cancels: list[threading.Event] = []
    followed = study_remote.followed

    def stopped(made: Any, view: Any, shown: Any, cancel: threading.Event) -> Any:
        cancels.append(cancel)
        while made.show().counts["succeeded"] < 3:
            time.sleep(0.01)
        cancel.set()
        return followed(made, view, shown, cancel)

    monkeypatch.setattr(study_remote, "followed", stopped)
    first = run(file, "--server", service.url, "--out", out)
    monkeypatch.undo()
    assert first.exit_code == 4, first.output
    assert "not answered yet" in first.output
    cut = rows(out)
    assert 3 <= sum(bool(line["outcome"]) for line in cut) < len(values)
    second = run(file, "--server", service.url, "--out", out)
    assert second.exit_code == 0, second.output
    assert "known before" in second.output
    assert all(line["outcome"] == "optimal" for line in rows(out))
    assert cancels


def test_asks_that_were_cut_short_are_gone_on_with_by_the_same_command(
    service: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run of the asks is cancelled alone: the study has ended, and sending it again must not find the same end for ever."""
    values = [float(value) for value in range(1, 41)]
    file = put(tmp_path, STUDY | {"name": "asking", "axes": [AXIS | {"values": values}], "asks": ASKS})
    followed, claim, cancelled_first = study_remote.followed, Worker._claim, threading.Event()  # noqa: SLF001  (asks are so quick that they can only be cancelled before they are claimed)

    def alone(made: Any, view: Any, shown: Any, cancel: threading.Event) -> Any:
        with Client(service.url) as client:
            link = httpx.get(f"{service.url}/v1/studies/{made.id}").json()["links"]["asks"]
            client.cancel(link.rpartition("/")[2])
        cancelled_first.set()
        return followed(made, view, shown, cancel)

    def claim_later(worker: Worker, *, cancelled: bool) -> Any:
        return claim(worker, cancelled=cancelled) if cancelled or cancelled_first.is_set() else None

    monkeypatch.setattr(study_remote, "followed", alone)
    monkeypatch.setattr(Worker, "_claim", claim_later)
    first = run(file, "--server", service.url, "--out", tmp_path / "out")
    monkeypatch.undo()
    assert first.exit_code == 4, first.output
    assert "the same command goes on with them" in first.output
    assert not (tmp_path / "out" / "asks.json").exists()
    second = run(file, "--server", service.url, "--out", tmp_path / "out")
    assert second.exit_code == 0, second.output
    assert len(json.loads((tmp_path / "out" / "asks.json").read_text())["asks"]) == 2
    before = studies(service)
    assert run(file, "--server", service.url, "--out", tmp_path / "three").exit_code == 0
    assert studies(service) == before


def test_another_version_is_another_study(service: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an upgrade the answers of the version before are not handed out for ever."""
    file = put(tmp_path, STUDY | {"name": "upgraded"})
    assert run(file, "--server", service.url, "--out", tmp_path / "one").exit_code == 0
    before = studies(service)
    monkeypatch.setattr(study_remote, "product_version", lambda: "another")
    assert run(file, "--server", service.url, "--out", tmp_path / "two").exit_code == 0
    assert studies(service) == before + 1


@pytest.mark.parametrize("option", [("--engine", "here"), ("--workers", "2"), ("--address", "127.0.0.1:1")])
def test_who_solves_is_the_services_choice(service: Live, tmp_path: Path, option: tuple[str, str]) -> None:
    with pytest.raises(BadInputError, match=f"{option[0]}: a service solves"):
        RUNNER.invoke(app, ["study", "run", put(tmp_path, STUDY), "--server", service.url, *option], catch_exceptions=False)


def test_who_names_an_engine_solves_here_whatever_the_environment_names(tmp_path: Path) -> None:
    arguments = ["study", "run", put(tmp_path, STUDY), "--engine", "here", "--out", str(tmp_path / "out")]
    done = RUNNER.invoke(app, arguments, env={"QUARTERMASTER_SERVER": "http://127.0.0.1:9"})
    assert done.exit_code == 0, done.output


def test_what_the_service_refuses_is_told_with_its_place(service: Live, tmp_path: Path) -> None:
    file = put(tmp_path, STUDY | {"limits": {"time_limit_s": 80_000}})
    with pytest.raises(BadInputError, match="/limits/time_limit_s: must be at most"):
        RUNNER.invoke(app, ["study", "run", file, "--server", service.url, "--out", str(tmp_path / "out")], catch_exceptions=False)
    with pytest.raises(BadInputError, match="--server"):
        RUNNER.invoke(app, ["study", "run", file, "--server", "http://127.0.0.1:9", "--out", str(tmp_path / "o")], catch_exceptions=False)
