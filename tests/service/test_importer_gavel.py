"""The importer of Gavel's speeds and traces: small files for the rules, the bundled ones for the counts."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from models.fairshare.schema import Policy, Problem
from service.importers.failures import ImportFileError
from service.importers.gavel import Choice, Imported, import_gavel
from tests.service.test_cli import run

DATA = Path(__file__).resolve().parents[2] / "benchmarks" / "data"
SPEEDS = DATA / "gavel" / "simulation_throughputs.json.gz"
TRACE = DATA / "gavel" / "max_min_fairness.trace"
INSTANCE = DATA / "pop" / "maxmin_packed_2048_instance.json.gz"

A, B, A2 = "('a', 1)", "('b', 1)", "('a', 2)"


def speeds() -> dict[str, Any]:
    return {
        "v100": {A: {"null": 4.0, B: [3.0, 6.0]}, B: {"null": 8.0, A: [6.0, 3.0], B: [0.0, 0.0]}, A2: {"null": 7.0}},
        "k80": {A: {"null": 1.0}, B: {"null": 0.0}, A2: {"null": 2.0}},
        "v100_unconsolidated": {A: {"null": 4.0}, B: {"null": 8.0}, A2: {"null": 5.0}},
        "k80_unconsolidated": {A: {"null": 1.0}, A2: {"null": 2.5}},
    }


def line(model: str = "a", steps: str = "100", gpus: str = "1", weight: str = "1", slo: str = "-1.0", arrival: str = "0") -> str:
    return f"{model}\tcommand\tfolder\t-n\t1\t{steps}\t{gpus}\t{weight}\t{slo}\t{arrival}"


def short(model: str = "a", steps: str = "100", arrival: str = "0.000", gpus: str = "1") -> str:
    return f"{model}\tcommand\t-n\t1\t{steps}\t{arrival}\t{gpus}"


def imported(tmp_path: Path, lines: list[str], table: dict[str, Any] | str | None = None, **choice: Any) -> Imported:
    throughputs, trace = tmp_path / "speeds.json", tmp_path / "jobs.trace"
    throughputs.write_text(table if isinstance(table, str) else json.dumps(table or speeds()), encoding="utf-8")
    trace.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return import_gavel(throughputs, trace, {"V100": 2, "K80": 4}, Choice(**choice))


def test_speeds_and_pairs(tmp_path: Path) -> None:
    problem = imported(tmp_path, [line(), line("b"), line(gpus="2")]).problem
    assert [(one.id, one.count) for one in problem.accelerators] == [("V100", 2), ("K80", 4)]
    assert [(one.id, one.gpus) for one in problem.workloads] == [("a", 1), ("b", 1), ("a x 2 GPUs", 2)]
    assert [[(s.accelerator, s.steps_per_s, s.spread_steps_per_s) for s in one.speeds] for one in problem.workloads] == [
        [("V100", 4.0, None), ("K80", 1.0, None)],
        [("V100", 8.0, None)],  # a speed of 0.0: it cannot run there
        [("V100", 7.0, 5.0), ("K80", 2.0, 2.0)],  # spread is never faster
    ]
    assert [(p.accelerator, p.first, p.second, p.first_steps_per_s, p.second_steps_per_s) for p in problem.pairs] == [
        ("V100", "a", "b", 3.0, 6.0)
    ]
    assert not imported(tmp_path, [line(), line("b")], pairs=False).problem.pairs
    assert not imported(tmp_path, [line()]).problem.pairs


def test_jobs_of_both_forms(tmp_path: Path) -> None:
    long = imported(tmp_path, [line(steps="70", weight="2.5", arrival="12"), "", line("b", arrival="5")]).problem
    assert [(j.id, j.workload, j.remaining_steps, j.weight, j.arrival_s) for j in long.jobs] == [
        ("j0", "a", 70.0, 2.5, 12.0),
        ("j1", "b", 100.0, 1.0, 5.0),
    ]
    assert long.now_s == 12.0
    brief = imported(tmp_path, [short(steps="9", arrival="3.5", gpus="2")], policy=Policy.makespan).problem
    assert (brief.jobs[0].workload, brief.jobs[0].remaining_steps, brief.jobs[0].arrival_s) == ("a x 2 GPUs", 9.0, 3.5)
    assert brief.policy is Policy.makespan


def test_who_is_there(tmp_path: Path) -> None:
    lines = [line(arrival="0"), line("b", arrival="10"), line("c", arrival="10"), line(arrival="20")]
    found = imported(tmp_path, lines, at_s=10.0, skip_unknown=True)
    assert [job.id for job in found.problem.jobs] == ["j0", "j1"]
    assert (found.later, found.unknown, found.problem.now_s) == (1, 1, 10.0)
    assert [job.id for job in imported(tmp_path, lines, skip_unknown=True, most_jobs=1).problem.jobs] == ["j0"]


def with_speed(gpu: str, key: str, other: str, value: Any) -> dict[str, Any]:
    table = speeds()
    table[gpu].setdefault(key, {})[other] = value
    return table


def without(gpu: str, key: str, other: str) -> dict[str, Any]:
    table = speeds()
    del table[gpu][key][other]
    return table


@pytest.mark.parametrize(
    ("lines", "table", "words"),
    [
        ([line("z")], None, ["jobs.trace: line 1", "no speeds of 'z' on 1 GPU", "--skip-unknown"]),
        ([line(), line(gpus="4")], None, ["line 2", "'a' on 4 GPUs"]),
        ([line("b")], with_speed("v100", B, "null", 0.0), ["line 1", "speed of 0 on V100, K80"]),
        ([line(steps="-5")], None, ["line 1", "total_steps", "not '-5'"]),
        ([line(steps="nan")], None, ["line 1", "total_steps", "not 'nan'"]),
        ([line(steps="0")], None, ["line 1", "total_steps must be more than 0"]),
        ([line(), line(arrival="-1")], None, ["line 2", "arrival_time"]),
        ([line(weight="inf")], None, ["line 1", "priority"]),
        ([line(gpus="1.5")], None, ["line 1", "scale_factor", "not '1.5'"]),
        ([line(gpus="0")], None, ["line 1", "scale_factor"]),
        ([line(slo="1.2")], None, ["line 1", "SLO of 1.2", "deadline_s"]),
        (["a\tb\tc"], None, ["line 1", "3 fields", "7 or 10"]),
        ([""], None, ["lists no job"]),
        ([line()], "{", ["speeds.json: line 1", "no JSON"]),
        ([line()], "[]", ["one entry for each type"]),
        ([line()], '{"v100": {"x": {"null": 1.0}}}', ["'v100'", "('model', scale_factor)"]),
        ([line()], '{"v100": {"(\'a\', 1)": {"null": NaN}}}', ["holds NaN", "write a number"]),
        ([line()], '{"v100": {"(\'a\', 1)": {"null": 1, "null": 2}}}', ["'null' is there twice"]),
        ([line()], with_speed("v100", A, "null", -1.0), ["('a', 1)", "not '-1.0'"]),
        ([line()], with_speed("v100", A, "null", "fast"), ["('a', 1)", "not 'fast'"]),
        ([line()], without("v100", B, A), ["('a', 1) with ('b', 1)", "other side", "add ('a', 1) to ('b', 1)"]),
        ([line()], with_speed("v100", B, A, [6.5, 3.0]), ["make them agree"]),
        ([line()], with_speed("v100", B, B, [1.0, 0.0]), ["one speed is 0", "[0.0, 0.0]"]),
        ([line()], with_speed("v100", B, B, [1.0]), ["two speeds"]),
        ([line()], without("v100", A, "null"), ["no speed alone"]),
        ([line()], {"v100": speeds()["v100"]}, ["no type of GPU 'K80'", "it has v100"]),
    ],
)
def test_a_wrong_file(lines: list[str], table: dict[str, Any] | str | None, words: list[str], tmp_path: Path) -> None:
    with pytest.raises(ImportFileError) as error:
        imported(tmp_path, lines, table)
    assert not [word for word in words if word not in str(error.value)], str(error.value)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, ['"cluster"']),
        ({"cluster": {"v100": 1.5}, "jobs": []}, ["cluster 'v100'", "whole number"]),
        ({"cluster": {"v100": 1}, "jobs": [{"job_type": "a"}]}, ["jobs[0]", "duration_s"]),
        ({"cluster": {"v100": 1}, "jobs": [{"job_type": "a", "duration_s": -3}]}, ["jobs[0]", "duration_s", "not '-3'"]),
        ({"cluster": {"v100": 1}, "jobs": [{"job_type": "a", "duration_s": 3, "scale_factor": 0}]}, ["jobs[0]", "scale_factor"]),
        ({"cluster": {"v100": 1}, "jobs": []}, ["no job with speeds"]),
    ],
)
def test_a_wrong_instance(content: dict[str, Any], words: list[str], tmp_path: Path) -> None:
    (tmp_path / "speeds.json").write_text(json.dumps(speeds()), encoding="utf-8")
    (tmp_path / "list.json").write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ImportFileError) as error:
        import_gavel(tmp_path / "speeds.json", tmp_path / "list.json")
    assert not [word for word in words if word not in str(error.value)], str(error.value)


def test_the_bundled_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "gavel.json"
    asked = ("--throughputs", SPEEDS, "--trace", TRACE, "--cluster", "K80=24, P100=16,V100=8", "--policy", "makespan")
    assert run("import", "gavel", *asked, "--at", "10000", "--out", out) == 0
    said = capsys.readouterr().out
    problem = Problem.model_validate_json(out.read_bytes())
    assert f"{len(problem.jobs)} jobs of {len(problem.workloads)} workloads, 48 GPUs" in said
    assert f"{96 - len(problem.jobs)} jobs arrive later" in said
    assert problem.policy is Policy.makespan
    assert max(job.arrival_s for job in problem.jobs) <= 10_000 == problem.now_s


def test_the_bundled_instance(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pop.json"
    assert run("import", "gavel", "--throughputs", SPEEDS, "--instance", INSTANCE, "--out", out) == 0
    assert "2,048 jobs of 26 workloads, 1,536 GPUs, 976 pairs" in capsys.readouterr().out
    problem = Problem.model_validate_json(out.read_bytes())
    listed = json.loads(gzip.decompress(INSTANCE.read_bytes()))["jobs"][0]
    usual = next(s.steps_per_s for w in problem.workloads for s in w.speeds if (w.id, s.accelerator) == (listed["job_type"], "v100"))
    assert problem.job_table is not None
    assert problem.job_table.remaining_steps is not None
    assert problem.job_table.remaining_steps[0] == pytest.approx(listed["duration_s"] * usual)
    assert {one.id: one.count for one in problem.accelerators} == {"k80": 512, "p100": 512, "v100": 512}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "one of --trace FILE and --instance FILE"),
        (("--trace", TRACE, "--instance", INSTANCE), "one of --trace FILE and --instance FILE"),
        (("--instance", TRACE), "ends in .json"),
        (("--trace", TRACE), "give --cluster"),
        (("--trace", TRACE, "--cluster", "V100"), "TYPE=NUMBER"),
        (("--trace", TRACE, "--cluster", "V100=-1"), "TYPE=NUMBER"),
        (("--trace", TRACE, "--cluster", "V100=1,V100=2"), "twice"),
        (("--trace", TRACE, "--cluster", "V100=1,v100=2"), "twice"),
        (("--trace", TRACE, "--cluster", "H100=8"), "no type of GPU 'H100'"),
        (("--trace", TRACE, "--cluster", "V100=8", "--at", "nan"), "--at"),
    ],
)
def test_wrong_options(arguments: tuple[str | Path, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("import", "gavel", "--throughputs", SPEEDS, *arguments, "--out", tmp_path / "x.json") == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "x.json").exists()
