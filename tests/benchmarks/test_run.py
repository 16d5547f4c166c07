import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks import machine, run, saving
from benchmarks.process import measured
from benchmarks.suite import Target, UnknownNameError, kinds, suite

SMALL = "gangs-100x20"


def test_the_kinds_are_found_by_their_files() -> None:
    assert "placement" in kinds()
    assert suite("placement").kind == "placement"
    with pytest.raises(UnknownNameError, match="placement"):
        suite("process")  # a module of the benchmarks, but no kind
    with pytest.raises(UnknownNameError, match=SMALL):
        suite("placement").instance("nothing")


def test_the_table_of_the_issue_is_all_there() -> None:
    names = {instance.name: instance for instance in suite("placement").instances}
    assert {f"openb-{trace}" for trace in ("default", "cpu050", "cpu100", "gpushare40", "gpuspec10", "multigpu20")} <= set(names)
    assert {"gangs-5000x1000", "gangs-50000x10000", "preempt-200", "repack-openb"} <= set(names)
    assert [names[name].time_limit_s for name in ("openb-default", "gangs-5000x1000", "gangs-50000x10000", "preempt-200")] == [
        60,
        10,
        120,
        2,
    ]


def test_a_target_is_met_missed_or_not_measured() -> None:
    target = Target("gap", "at most", 0.01)
    assert str(target) == "gap at most 0.01"
    assert target.met({"gap": 0.01}) is True
    assert target.met({"gap": 0.02}) is False
    assert target.met({"gap": None}) is None
    assert Target("allocated_percent", "at least", 96.0).met({"allocated_percent": 96.4}) is True


def test_the_lead_is_in_the_goal_s_own_direction() -> None:
    row: dict[str, Any] = {"objective": 5.0, "goals": [{"sense": "minimise"}], "baselines": [{"verified": True, "objective": 7.0}]}
    assert run.lead(row) == 2.0
    row["goals"] = [{"sense": "maximise"}]
    assert run.lead(row) == -2.0
    row["baselines"] = [{"verified": False, "objective": 4.0}]
    assert run.lead(row) is None


def test_results_are_never_overwritten(tmp_path: Path) -> None:
    now = datetime(2026, 1, 31, tzinfo=UTC)
    names = []
    for _ in range(3):
        path = saving.free_name(tmp_path, "placement", now)
        saving.save(path, {})
        names.append(path.name)
    assert names == ["2026-01-31-placement.json", "2026-01-31-placement-2.json", "2026-01-31-placement-3.json"]
    with pytest.raises(FileExistsError):
        saving.save(tmp_path / names[0], {})


def test_the_machine_is_told_without_names_or_paths() -> None:
    facts = machine.facts()
    assert facts["cores"]
    assert str(facts["python"]).startswith("3.")
    assert not [value for value in map(str, facts.values()) if "/" in value]


def test_a_baseline_is_measured_in_a_process_of_its_own() -> None:
    row = measured("placement", SMALL, "density_best_fit", 5.0, 0, 1)
    assert row["verified"], row
    assert row["objective"] > 0
    assert 0.02 < row["peak_memory_gb"] < 4


def test_a_measurement_that_fails_says_so() -> None:
    row = measured("placement", SMALL, "nothing", 1.0, 0, 1)
    assert row["verified"] is False
    assert "nothing" in row["message"]


def test_a_run_saves_its_table(tmp_path: Path) -> None:
    out = tmp_path / "table.json"
    arguments = ["run", "placement", "--instances", SMALL, "--time-limit", "2", "--out", str(out)]
    done = CliRunner().invoke(run.app, arguments)
    assert done.exit_code == 0, done.output
    report = json.loads(out.read_text(encoding="utf-8"))
    (row,) = report["instances"]
    assert row["verified"]
    assert row["bound"] >= row["objective"] - 1e-6 * row["objective"]
    assert {"read_s", "build_s", "hand_over_s", "solve_s", "verify_s", "solve_wall_s", "peak_memory_gb", "gap"} <= set(row)
    assert row["one_second"]["verified"]
    assert {other["baseline"] for other in row["baselines"]} == {"density_first_fit", "density_best_fit", "flat_mip", "cp_sat"}
    best = max(other["objective"] for other in row["baselines"] if other.get("verified"))
    assert row["ahead_of_baselines"] == pytest.approx(row["objective"] - best)  # how much that is depends on who else uses the machine
    assert SMALL in done.output
    assert CliRunner().invoke(run.app, arguments).exit_code == 2  # the file is there


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    done = CliRunner().invoke(run.app, ["run", "placement", "--instances", "nothing", "--out", str(tmp_path / "x.json")])
    assert done.exit_code == 2
    assert "nothing" in done.output


def test_the_list_names_every_instance() -> None:
    done = CliRunner().invoke(run.app, ["list"], env={"COLUMNS": "200"})
    assert done.exit_code == 0
    for instance in suite("placement").instances:
        assert instance.name in done.output
