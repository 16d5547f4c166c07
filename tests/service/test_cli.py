"""The command line: what it prints, writes, and exits with."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from models.contract import Reason
from models.placement.schema import Plan, Problem
from optimizer.limits import Limits
from optimizer.result import Conflict, Outcome, Progress, Result, StopReason
from service.cli import main
from service.cli.progress import figures, shown_progress
from tests.service.small_cluster import Solver, cluster, fixed, install, plan, planless, solved

ROOT = Path(__file__).resolve().parents[2]
JSON_KEYS = ["kind", "outcome", "stop_reason", "objective", "bound", "gap", "seconds", "verified", "metrics"]
PLACEMENT_METRICS = {
    "allocated_gpus",
    "capacity_gpus",
    "allocated_percent",
    "bound_percent",
    "placed_jobs",
    "jobs",
    "evictions",
    "moves",
}


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return int(stop.value.code or 0)


def loads_strictly(text: str) -> Any:
    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.fixture
def problem_file(tmp_path: Path) -> Path:
    path = tmp_path / "problem.json"
    path.write_text(cluster().model_dump_json(), encoding="utf-8")
    return path


def test_solve_writes_plan_and_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, problem_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, fixed(solved(cluster(), plan())))
    out, report = tmp_path / "plan.json", tmp_path / "report.html"
    assert run("solve", "placement", problem_file, "--out", out, "--report", report) == 0
    assert json.loads(out.read_text(encoding="utf-8"))["placements"][0]["job"] == "gang"
    assert report.read_text(encoding="utf-8").startswith("<!doctype html>")
    shown = capsys.readouterr()
    for words in ("allocated GPUs (maximise)", "8.8", "13.636%", "a proof of this test", "no node has 8 <free> GPUs", str(out)):
        assert words in shown.out
    assert not shown.err  # no progress bar without a terminal
    assert {path.name for path in tmp_path.iterdir()} == {"problem.json", "plan.json", "report.html"}


def test_json_is_one_object_with_these_keys(
    monkeypatch: pytest.MonkeyPatch, problem_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, fixed(solved(cluster(), plan())))
    assert run("solve", "placement", problem_file, "--json") == 0
    told = loads_strictly(capsys.readouterr().out)
    assert list(told) == JSON_KEYS
    assert told["metrics"].keys() >= PLACEMENT_METRICS
    assert told["objective"] == pytest.approx(8.8)
    assert told["metrics"]["bound_percent"] == pytest.approx(50.0)
    assert told["verified"] is True


def test_json_has_null_for_what_is_not_known(
    monkeypatch: pytest.MonkeyPatch, problem_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    install(monkeypatch, fixed(solved(cluster(), plan(), bound=float("inf"))))
    assert run("solve", "placement", problem_file, "--json") == 0
    told = loads_strictly(capsys.readouterr().out)
    assert told["bound"] is None
    assert told["gap"] is None
    assert told["metrics"]["bound_percent"] is None
    install(monkeypatch, fixed(planless(Outcome.no_plan, StopReason.deadline)))
    assert run("solve", "placement", problem_file, "--json") == 4
    assert loads_strictly(capsys.readouterr().out)["objective"] is None


@pytest.mark.parametrize(
    ("result", "code"),
    [
        (planless(Outcome.infeasible), 3),
        (planless(Outcome.no_plan, StopReason.deadline), 4),
        (planless(Outcome.no_plan, StopReason.cancelled), 4),
        (planless(Outcome.no_plan, StopReason.memory), 4),
        (planless(Outcome.unbounded), 2),
        (planless(Outcome.no_plan, StopReason.crash), 1),
        (planless(Outcome.no_plan, StopReason.gap, failure="the plan was rejected"), 1),
    ],
)
def test_exit_codes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, problem_file: Path, result: Result, code: int) -> None:
    install(monkeypatch, fixed(result))
    assert run("solve", "placement", problem_file, "--out", tmp_path / "plan.json") == code
    assert not (tmp_path / "plan.json").exists()


def test_a_conflict_is_shown_with_its_repair(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, problem_file: Path, capsys: Any) -> None:
    conflict = Conflict((("node_memory", ("n0", "n1")), ("must_place", ("late",))), ("node memory: 12 GiB short on rack r3",), "proved")
    install(monkeypatch, fixed(planless(Outcome.infeasible, conflict=conflict)))
    assert run("solve", "placement", problem_file, "--report", tmp_path / "r.html") == 3
    shown = capsys.readouterr().out
    for words in ("node_memory", "n0, n1", "must_place", "12 GiB short on rack r3"):
        assert words in shown
    assert "12 GiB short on rack r3" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_our_fault_is_told_as_such(monkeypatch: pytest.MonkeyPatch, problem_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(*_: object, **__: object) -> Result:
        raise ZeroDivisionError("in the engine")

    install(monkeypatch, broken)
    assert run("solve", "placement", problem_file) == 1
    assert "our fault" in capsys.readouterr().err


def test_options_reach_the_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, problem_file: Path) -> None:
    seen: dict[str, Any] = {}

    def solver(problem: Problem, **rest: Any) -> Result:
        seen.update(rest, problem=problem)
        return solved(problem, plan())

    install(monkeypatch, solver)
    start = tmp_path / "start.json"
    start.write_text(plan().model_dump_json(), encoding="utf-8")
    options = ("--time-limit", 7, "--gap", 0.02, "--seed", 3, "--threads", 2, "--memory-gib", 1.5, "--warm-start", start)
    assert run("solve", "placement", problem_file, *options) == 0
    assert seen["limits"] == Limits(time_limit_s=7, gap=0.02, seed=3, threads=2, memory_gib=1.5)
    assert seen["warm_start"] == plan()
    assert seen["problem"] == cluster()


def waits_for_cancel() -> Solver:
    def solver(problem: Problem, *, cancel: threading.Event, **_: object) -> Result:
        os.kill(os.getpid(), signal.SIGINT)
        assert cancel.wait(10)
        return solved(problem, plan(), stop_reason=StopReason.cancelled)

    return solver


def test_ctrl_c_keeps_the_best_plan(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, problem_file: Path, capsys: Any) -> None:
    install(monkeypatch, waits_for_cancel())
    before = signal.getsignal(signal.SIGINT)
    assert run("solve", "placement", problem_file, "--out", tmp_path / "plan.json", "--json") == 0
    assert json.loads(capsys.readouterr().out)["stop_reason"] == "cancelled"
    assert (tmp_path / "plan.json").exists()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_stops_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, problem_file: Path) -> None:
    def solver(*_: object, **__: object) -> Result:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("not reached")

    install(monkeypatch, solver)
    assert run("solve", "placement", problem_file, "--out", tmp_path / "plan.json") == 130
    assert not (tmp_path / "plan.json").exists()


def test_standard_input_and_yaml(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    install(monkeypatch, fixed(solved(cluster(), plan())))
    yaml = tmp_path / "problem.yaml"
    yaml.write_text("nodes:\n- {id: n0, gpu_model: h100, gpus: 8, cpu_cores: 4, memory_gib: 4}\n", encoding="utf-8")
    assert run("solve", "placement", yaml, "--json") == 0
    for content in (cluster().model_dump_json().encode(), yaml.read_bytes()):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        assert run("solve", "placement", "-", "--json") == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_verify(tmp_path: Path, problem_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    right, wrong = tmp_path / "right.json", tmp_path / "wrong.json"
    right.write_text(plan().model_dump_json(), encoding="utf-8")
    wrong.write_text(plan().model_dump_json().replace('"n0"', '"n2"'), encoding="utf-8")
    assert run("verify", "placement", problem_file, right) == 0
    assert "keeps every rule" in capsys.readouterr().out
    assert run("verify", "placement", problem_file, wrong) == 3
    assert "node_gpus" in capsys.readouterr().out


def test_kinds_schema_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("kinds") == 0
    assert "placement" in capsys.readouterr().out
    assert run("schema", "placement") == 0
    schemas = json.loads(capsys.readouterr().out)
    assert "jobs" in schemas["problem"]["properties"]
    assert "placements" in schemas["plan"]["properties"]
    assert run("--version") == 0
    assert capsys.readouterr().out.startswith("quartermaster 0.")


def test_an_existing_file_is_replaced_whole_and_keeps_its_mode(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, problem_file: Path) -> None:
    install(monkeypatch, fixed(solved(cluster(), plan())))
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("old", encoding="utf-8")
    real.chmod(0o640)
    link.symlink_to(real)
    assert run("solve", "placement", problem_file, "--out", link) == 0
    assert link.is_symlink()
    assert real.read_text(encoding="utf-8").startswith("{")
    assert real.stat().st_mode & 0o777 == 0o640


def test_the_command_line_loads_no_solver_and_no_template() -> None:
    script = "import sys, service.cli; print([n for n in ('pyomo', 'highspy', 'ortools', 'scipy', 'torch', 'jinja2') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_the_figures_of_the_progress_bar() -> None:
    assert figures(Progress(1.0, "search", 5990.0, 6020.4, 0.00507)) == "incumbent 5,990  bound 6,020.4  gap 0.51%"
    assert figures(Progress(0.1, "heuristic", 5990.0, float("inf"), float("inf"))) == "incumbent 5,990"
    assert not figures(Progress(0.0, "build"))


def test_the_progress_bar_is_for_terminals_only(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with shown_progress(5.0, wanted=True) as step:
        assert step is None
    monkeypatch.setenv("FORCE_COLOR", "1")
    with shown_progress(5.0, wanted=False) as step:
        assert step is None
    with shown_progress(5.0, wanted=True) as step:
        assert step is not None
        step(Progress(1.0, "search", 8.0, 10.0, 0.25))
    shown = capsys.readouterr()
    assert "search" in shown.err
    assert not shown.out


def test_explain(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, problem_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def explain(_problem: Problem, _plan: Plan, subject: str | None) -> tuple[Reason, ...]:
        if subject not in (None, "late"):
            raise KeyError(subject)
        return (Reason("late", "why_not", "node_gpus", ("n0",), "no node has 8 free GPUs", "proved"),)

    install(monkeypatch, fixed(planless(Outcome.no_plan)))
    monkeypatch.setattr(sys.modules["optimizer.solve"], "explain", explain, raising=False)
    right, wrong = tmp_path / "right.json", tmp_path / "wrong.json"
    right.write_text(plan().model_dump_json(), encoding="utf-8")
    wrong.write_text(plan().model_dump_json().replace('"n0"', '"n2"'), encoding="utf-8")
    for options in ((), ("--subject", "late")):
        assert run("explain", "placement", problem_file, right, *options) == 0
        assert "no node has 8 free GPUs [why_not, node_gpus, proved]" in capsys.readouterr().out
    assert run("explain", "placement", problem_file, right, "--subject", "lat") == 2
    assert "did you mean 'late'" in capsys.readouterr().err
    assert run("explain", "placement", problem_file, wrong) == 3
    assert "breaks rules" in capsys.readouterr().err
