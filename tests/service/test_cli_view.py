"""The views of a plan at the command line: ``view`` and ``solve --view``, over a kind with a view of its own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models.contract import Kind
from models.placement.schema import Plan, Problem
from optimizer.result import Outcome
from tests.service.small_cluster import cluster, fixed, install, plan, planless, solved
from tests.service.test_cli import run


def seats(problem: Problem, found: Plan) -> dict[str, Any]:
    return {"jobs": len(problem.jobs), "placed": [place.job for place in found.placements]}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setattr(Kind, "views", property(lambda kind: {"seats": seats} if kind.name == "placement" else {}))
    paths = tmp_path / "problem.json", tmp_path / "plan.json"
    for path, document in zip(paths, (cluster(), plan()), strict=True):
        path.write_text(document.model_dump_json(), encoding="utf-8")
    return paths


def test_a_view_is_printed_or_written(files: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted = seats(cluster(), plan())
    assert run("view", "placement", *files, "seats") == 0
    assert json.loads(capsys.readouterr().out) == wanted
    out = tmp_path / "seats.json"
    assert run("view", "placement", *files, "seats", "--out", out) == 0
    assert json.loads(out.read_text(encoding="utf-8")) == wanted
    assert run("view", "placement", *files, "seats", "--out", files[1]) == 2
    assert "would overwrite" in capsys.readouterr().err


def test_a_view_in_place_of_the_summary(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, fixed(solved(cluster(), plan())))
    assert run("solve", "placement", files[0], "--view", "seats") == 0
    assert json.loads(capsys.readouterr().out) == seats(cluster(), plan())
    assert run("solve", "placement", files[0], "--view", "seats", "--json") == 2
    assert "give one of them" in capsys.readouterr().err


def test_without_a_plan_the_summary_says_why(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, fixed(planless(Outcome.no_plan)))
    assert run("solve", "placement", files[0], "--view", "seats") == 4
    assert "No plan was found" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("view", "placement", "PROBLEM", "PLAN", "loads"), "placement has no view called 'loads'; its views are: seats"),
        (("view", "program", "PROBLEM", "PLAN", "loads"), "program has no view called 'loads'; it has none"),
        (("solve", "placement", "PROBLEM", "--view", "loads"), "its views are: seats"),
    ],
)
def test_a_view_that_is_not_there(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], told: str
) -> None:
    named = {"PROBLEM": files[0], "PLAN": files[1]}
    assert run(*(named.get(one, one) for one in arguments)) == 2
    assert told in capsys.readouterr().err


def test_a_broken_plan_is_not_viewed(files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    broken = plan().model_copy(update={"placements": plan().placements * 2})
    files[1].write_text(broken.model_dump_json(), encoding="utf-8")
    assert run("view", "placement", *files, "seats") == 3
    assert "nothing to view" in capsys.readouterr().err
