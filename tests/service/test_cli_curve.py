"""The command ``curve``."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

import pytest

from benchmarks.objects import objects
from tests.service.test_cli import run

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def problem(tmp_path: Path) -> Path:
    path = tmp_path / "objects.json"
    path.write_text(objects(100, 5, 1).model_dump_json(), encoding="utf-8")
    return path


def test_points_are_told_and_written(problem: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "curve.csv"
    assert run("curve", "tiering", problem, "hdd", "--from", 200, "--to", 800, "--points", 4, "--json", "--out", out) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["id"], told["goal"], told["unit"]) == ("hdd", "cost", "USD")
    assert [point["value"] for point in told["points"]] == [200, 400, 600, 800]
    costs = [point["objective"] for point in told["points"]]
    assert costs == sorted(costs, reverse=True)
    assert all(0 <= point["gap"] <= 1e-3 and point["bound"] <= point["objective"] for point in told["points"])
    rows = list(csv.DictReader(out.read_text(encoding="utf-8").splitlines()))
    assert [float(row["objective"]) for row in rows] == costs
    assert run("curve", "tiering", problem, "hdd", "--values", "800") == 0
    shown = capsys.readouterr().out
    assert "cost [USD]" in shown
    assert f"{costs[-1]:,.8g}" in shown


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("tiering", "hdx", "--values", "1"), "nothing called 'hdx'"),
        (("placement", "hdd", "--values", "1"), "the kinds that have one are: tiering"),
        (("tiering", "hdd", "--values", "1,x"), "not numbers with commas"),
        (("tiering", "hdd", "--values", "-1"), "below 0"),
        (("tiering", "hdd", "--values", "inf"), "no finite number"),
        (("tiering", "hdd"), "the values are missing"),
        (("tiering", "hdd", "--from", "3", "--to", "2"), "--from 3 is not below --to 2"),
        (("tiering", "hdd", "--values", "1", "--to", "2"), "give one of them"),
        (("tiering", "hdd", "--values", "1", "--gap", "2"), "gap must be"),
    ],
)
def test_bad_options_are_refused(problem: Path, options: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    kind, *rest = options
    assert run("curve", kind, problem, *rest) == 2
    assert complaint in capsys.readouterr().err


def test_values_at_which_there_is_no_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    full = objects(30, 5, 1)
    path = tmp_path / "full.json"
    tight = full.model_copy(update={"tiers": tuple(one.model_copy(update={"capacity_gib": 1.0}) for one in full.tiers)})
    path.write_text(tight.model_dump_json(), encoding="utf-8")
    assert run("curve", "tiering", path, "hdd", "--values", "0,1") == 3
    assert "no plan: proved" in capsys.readouterr().out
