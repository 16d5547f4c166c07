"""The benchmark of studies measures what it says, on small sizes, and notices what would be wrong."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import run, studies, studies_cases, studies_certified, studies_engines, studies_kills, studies_linear, studies_placement
from benchmarks.lines import Line
from benchmarks.placement import openb
from benchmarks.studies_linear import Sizes
from benchmarks.studies_today import spread
from benchmarks.suite import Target
from models.fairshare.schema import Problem as Fairshare
from models.linear.schema import Problem as Program
from models.program import LinearProgram
from optimizer.limits import Limits
from optimizer.result import GoalCertificate
from optimizer.solve import solve
from optimizer.study.conclusions.differences import difference
from optimizer.study.executors.engine import Done
from optimizer.study.executors.in_process import InProcess
from optimizer.study.rows import Answered, Change, Row, Scenario
from optimizer.study.run import run_study
from optimizer.study.scenarios.changes import applied
from optimizer.study.scenarios.expansion import expanded
from optimizer.study.store import Memory
from service.studies.shelf import Shelf

JOBS = 60  # enough for 5 GPUs of each type
OBJECTS = 4_000  # fewer have bandwidths below what tiering takes for a number


def numbers(scenario: Scenario) -> dict[str, float]:
    return {name: number for name, number in scenario.numbers.items() if number is not None}


# ---------------------------------------------------------------- the table


def test_every_promise_has_a_line() -> None:
    assert [line.name for line in studies.LINES] == [
        "fairness-10000x6",
        "tiering-10000x6",
        "placement-openb",
        "pool-1-2",
        "ray-overhead",
        "certified",
        "kills",
    ]
    targets = {line.name: [str(target) for target in line.targets] for line in studies.LINES}
    for name in ("fairness-10000x6", "tiering-10000x6"):
        assert {"faster_than_fresh at least 10", "times_bare at most 3"} <= set(targets[name])
    assert "faster_than_cold at least 3" in targets["placement-openb"]
    assert "steady_speedup at least 1.8" in targets["pool-1-2"]
    assert "false_claims at most 0" in targets["certified"]


def test_a_run_saves_its_table_and_overwrites_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def line(name: str, **figures: Any) -> Line:
        return Line(name, "what", lambda _folder: figures, (Target("ratio", "at least", 3.0),))

    monkeypatch.setattr(studies, "LINES", (line("good", ratio=4.0), line("bad", ratio=2.0), line("absent", skipped="no engine")))
    calls = {"good": 0, "good,absent": 0, "good, bad": 1, "": 1, "nothing": 2}
    for names, code in calls.items():
        out = tmp_path / f"{len(names)}.json"
        done = CliRunner().invoke(run.app, ["run", "studies", "--instances", names, "--out", str(out)], env={"COLUMNS": "200"})
        assert done.exit_code == code, done.output
        assert out.exists() == (code != 2)
    assert CliRunner().invoke(run.app, ["run", "studies", "--instances", "good", "--out", str(tmp_path / "4.json")]).exit_code == 2
    report = json.loads((tmp_path / "0.json").read_text(encoding="utf-8"))
    assert report["kind"] == "studies"
    assert report["machine"]["cores"]
    assert [[promise["met"] for promise in row["targets"]] for row in report["rows"]] == [[True], [False], [None]]


def test_a_sample_is_spread_over_all() -> None:
    assert spread(100, 4) == [0, 33, 66, 99]
    assert spread(3, 8) == [0, 1, 2]
    assert all(len(spread(100, sample)) == sample for sample in range(2, 101))


# ---------------------------------------------------------------- linear programs


def same(one: LinearProgram, other: LinearProgram) -> bool:
    names = ("cost", "column_lower", "column_upper", "row_lower", "row_upper", "starts", "indices", "coefficients", "offset", "maximise")
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in names)


def test_all_ways_solve_the_same_scenarios_of_fairness() -> None:
    base, study = studies_cases.fairness_base(JOBS), studies_cases.fairness_study(JOBS, 5)
    scenarios = expanded(study, base)
    assert len({scenario.changes for scenario in scenarios}) == 5
    for scenario in scenarios:
        problem = applied(base, scenario.changes)
        assert isinstance(problem, Fairshare)
        counts = {one.id: one.count for one in problem.accelerators}
        assert counts == {one.id: one.count for one in base.accelerators} | numbers(scenario)
        bare = studies_cases.CASES["fairness"].arrays(JOBS, numbers(scenario))
        found = solve(problem, Limits(gap=1e-6), isolate=False).certificate
        answer = solve(studies_cases.as_problem(bare), Limits(gap=1e-6), isolate=False).certificate
        assert found is not None
        assert answer is not None
        assert answer.objective == pytest.approx(found.goals[0].objective, rel=1e-6)


def test_all_ways_solve_the_same_scenarios_of_tiering() -> None:
    base, study = studies_cases.tiering_lp_base(OBJECTS), studies_cases.tiering_lp_study(OBJECTS, 3)
    for scenario in expanded(study, base):
        problem = applied(base, scenario.changes)
        assert isinstance(problem, Program)
        bare = studies_cases.CASES["tiering"].arrays(OBJECTS, numbers(scenario))
        assert problem == studies_cases.as_problem(bare)
        assert len(numbers(scenario)) == (0 if scenario.is_baseline else 4)
        assert scenario.is_baseline or not same(bare, studies_cases.CASES["tiering"].arrays(OBJECTS, {}))


def test_a_line_of_fairness(tmp_path: Path) -> None:
    found = studies_linear.linear(tmp_path, "fairness", Sizes(size=JOBS, scenarios=4, fresh=2, bare=2))
    assert (found["scenarios"], found["unverified"], found["fresh_sample"], found["bare_sample"]) == (4, 0, 2, 2)
    assert found["largest_difference"] <= 1e-6
    assert found["fresh_ways_tried_s"].keys() == {"ipm", "choose"}
    assert 0 < found["fresh_each_s"] < found["fresh_wall_s"]
    assert 0 < found["bare_each_s"] < found["bare_sum_s"] < found["study_wall_s"]


@pytest.mark.long
def test_a_line_of_tiering(tmp_path: Path) -> None:
    found = studies_linear.tiering(tmp_path, Sizes(size=OBJECTS, scenarios=4, fresh=2, bare=4, whole=3))
    assert found["unverified"] == found["whole_objects"]["unverified"] == 0
    assert found["largest_difference"] <= 1e-6
    assert found["whole_objects"]["largest_gap"] <= 1e-3


# ---------------------------------------------------------------- placement


def test_the_scenarios_of_openb_add_and_lose_nodes() -> None:
    base = openb("default")
    scenarios = expanded(studies_placement.study_of(base, 7), base)
    assert len(scenarios) == 7
    sizes = [len(applied(base, scenario.changes).nodes) - len(base.nodes) for scenario in scenarios]
    assert sizes[0] == 0
    assert all(0 < size <= 64 for size in sizes[1::3])
    assert all(-64 <= size < 0 for size in sizes[2::3])
    assert sizes[3::3] == [-16, -16]


# ---------------------------------------------------------------- engines


def test_a_measured_study_tells_its_parts(tmp_path: Path) -> None:
    study, base = studies_engines.tiny_study(10), studies_engines.tiny_base()
    found = studies_engines.measured(tmp_path, study, base, InProcess())
    assert found["unverified"] == 0
    assert found["own_ms"] > 0
    assert found["steady_s"] < found["wall_s"]
    assert 6 * (found["own_ms"] + found["overhead_ms"]) == pytest.approx(1e3 * found["steady_s"])


def test_ray_is_left_out_with_its_reason_where_it_is_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    assert "not installed" in studies_engines.ray(tmp_path)["skipped"]


# ---------------------------------------------------------------- certificates


def test_pairs_of_knapsacks(tmp_path: Path) -> None:
    found = studies_certified.certified(tmp_path, 12)
    assert (found["comparisons"], found["false_claims"]) == (24, 0)
    assert sum(found["findings"].values()) == 24
    assert 0 < found["certain"] <= 24


def test_the_optimum_of_a_knapsack() -> None:
    values, sizes = np.array([6.0, 10.0, 12.0]), np.array([[1.0, 2.0, 3.0]])
    assert studies_certified.optimum(values, sizes, np.array([5.0])) == 22
    result = solve(studies_certified.knapsack(values, sizes, np.array([5.0])), Limits(gap=0.0), isolate=False)
    assert result.certificate is not None
    assert result.certificate.objective == 22


def test_a_false_claim_is_noticed() -> None:
    def line(name: str, objective: float, bound: float) -> Answered:
        goal = GoalCertificate("objective", "maximise", "", objective, bound, 0.0, "by hand")
        row = Row(name, "optimal", "gap", (goal,), {}, verified=True, seconds=1.0)
        return Answered(Scenario(name, {"x": name}, {"x": None}, 0, 0, (Change("set", "/x", name),)), row)

    found = difference(line("a", 10.0, 10.0), line("b", 11.0, 12.0), "objective")
    assert not studies_certified.is_false(found, Fraction(10), Fraction(11))
    assert not studies_certified.is_false(found, Fraction(10), Fraction(12))
    assert studies_certified.is_false(found, Fraction(10), Fraction(13))  # the interval
    assert studies_certified.is_false(found, Fraction(11), Fraction(11))  # "better"
    equal = difference(line("a", 10.0, 10.0), line("b", 10.0, 10.0), "objective")
    assert studies_certified.is_false(equal, Fraction(10), Fraction(11))


# ---------------------------------------------------------------- kills


def test_another_table_is_noticed() -> None:
    base, study = studies_engines.tiny_base(), studies_engines.tiny_study(4)
    quiet = run_study(study, base, Memory(), InProcess())
    assert studies_kills.differing(quiet, quiet) == 0
    first = quiet.rows[0]
    assert first is not None
    slower = replace(first, seconds=99.0, attempts=3)
    assert studies_kills.differing(replace(quiet, rows=(slower, *quiet.rows[1:])), quiet) == 0
    worse = replace(first, goals=(replace(first.goals[0], objective=first.goals[0].objective * (1 + 1e-4)),))
    wrong = (worse, replace(first, key="another"), replace(first, verified=False), replace(first, goals=()), None)
    for row in wrong:
        assert studies_kills.differing(replace(quiet, rows=(row, *quiet.rows[1:])), quiet) == 1
    assert studies_kills.differing(replace(quiet, rows=quiet.rows[:3]), quiet) == 1


def test_an_answer_that_is_written_again_is_another_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert studies_kills.answers(tmp_path) == {}
    with Shelf.opened(tmp_path / "a", studies_engines.tiny_study(4), studies_engines.tiny_base()) as shelf:
        table = run_study(studies_engines.tiny_study(4), studies_engines.tiny_base(), shelf, InProcess())
        before = studies_kills.answers(tmp_path / "a")
        assert set(before) == {f"{key}.json" for key in table.keys}
        row = table.rows[0]
        assert row is not None
        shelf.put(Done(row))
    after = studies_kills.answers(tmp_path / "a")
    assert sum(after[name] != file for name, file in before.items()) == 1
    studies_kills.main(str(tmp_path / "b"), str(JOBS), "3")
    assert capsys.readouterr().out.split() == ["0", "3", "0", "0"]
    studies_kills.main(str(tmp_path / "b"), str(JOBS), "3")
    assert capsys.readouterr().out.split() == ["3", "0", "0", "0"]


@pytest.mark.long
def test_a_killed_study(tmp_path: Path) -> None:
    found = studies_kills.kills(tmp_path, jobs=600, scenarios=10, workers=2, studies=2)
    assert (found["lost"], found["repeated"], found["rows_different"], found["orphans"]) == (0, 0, 0, 0)
