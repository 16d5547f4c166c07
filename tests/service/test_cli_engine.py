"""The command line with the real engine: from a file to a verified plan, and to a proof that there is none."""

import json
from pathlib import Path
from typing import Any

import pytest

from models.placement.schema import Running, Use, WorkerPlace
from tests.service.small_cluster import cluster
from tests.service.test_cli import JSON_KEYS, loads_strictly, run


def test_from_a_file_to_a_verified_plan(tmp_path: Path, capsys: Any) -> None:
    problem, out, report = tmp_path / "problem.json", tmp_path / "plan.json", tmp_path / "report.html"
    problem.write_text(cluster().model_dump_json(), encoding="utf-8")
    assert run("solve", "placement", problem, "--time-limit", 10, "--out", out, "--report", report, "--json") == 0
    told = loads_strictly(capsys.readouterr().out)
    assert list(told) == JSON_KEYS
    assert (told["outcome"], told["verified"]) == ("optimal", True)
    assert told["objective"] == told["bound"] == pytest.approx(16.8)
    assert told["metrics"]["bound_percent"] == pytest.approx(84.0)
    assert run("verify", "placement", problem, out) == 0
    assert run("solve", "placement", problem, "--time-limit", 10, "--warm-start", out) == 0
    assert "no plan can allocate more" in report.read_text(encoding="utf-8")


def test_proved_infeasible(tmp_path: Path, capsys: Any) -> None:
    base = cluster()
    stays = Running(workers=(WorkerPlace(node="n0", gpus=tuple(range(8))),), evictable=False)
    also = Running(workers=(WorkerPlace(node="n1", gpus=tuple(range(8))),), evictable=False)
    jobs = [job for job in base.jobs if job.id in {"gang", "late"}]
    jobs = [jobs[0].model_copy(update={"running": stays}), jobs[1], jobs[0].model_copy(update={"id": "other", "running": also})]
    problem = base.model_copy(update={"use": Use.preempt, "preempt_for": "late", "jobs": tuple(jobs), "goals": ()})
    path = tmp_path / "problem.json"
    path.write_text(json.dumps(problem.model_dump(mode="json")), encoding="utf-8")
    assert run("solve", "placement", path, "--time-limit", 10, "--out", tmp_path / "plan.json") == 3
    assert "Proved infeasible" in capsys.readouterr().out
    assert not (tmp_path / "plan.json").exists()
