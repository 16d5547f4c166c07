"""From predicted speeds to plans: ``runtime speeds`` then ``solve fairshare``, robustly too; and pairs that were not measured."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest

from models.fairshare.plans.division import division_of
from models.fairshare.schema import Job, Plan, Problem
from models.runtime.calibration.ladder import Calibration, calibrate
from models.runtime.records import Record
from optimizer.limits import Limits
from optimizer.result import Outcome
from optimizer.solve import solve
from service.importers.failures import ImportFileError
from service.importers.gavel import Choice, import_gavel
from tests.models.test_runtime_evaluate import grid, made_device, measured
from tests.models.test_runtime_speeds import pair
from tests.service.test_cli import run

DATA = Path(__file__).resolve().parents[2] / "benchmarks" / "data"
SPEEDS = DATA / "gavel" / "simulation_throughputs.json.gz"
INSTANCE = DATA / "pop" / "maxmin_packed_2048_instance.json.gz"
BOARDS = ("--device", "V100-SXM2-16GB:4:3", "--device", "T4:8:0.5")


def jobs_file(folder: Path, **more: Any) -> Path:
    jobs = [
        {"id": "mlp", "family": "mlp", "layers": 4, "width": 2048, "batch": 256, "steps": 100_000, "count": 3},
        {"id": "cnn", "family": "cnn", "layers": 50, "width": 64, "batch": 32, "steps": 20_000, "parallel": {"dp": 4}},
        {"id": "bert", "family": "encoder", "layers": 12, "width": 768, "heads": 12, "seq": 128, "batch": 16, "steps": 9_000} | more,
    ]
    file = folder / "jobs.json"
    file.write_text(json.dumps({"jobs": jobs}), encoding="utf-8")
    return file


def made(folder: Path, *options: object, **more: Any) -> Problem:
    out = folder / "problem.json"
    assert run("runtime", "speeds", jobs_file(folder, **more), *BOARDS, "--out", out, *options) == 0
    return Problem.model_validate_json(out.read_bytes())


def uses(plan: Plan) -> list[tuple[str, str, str | None]]:
    """Accelerator, job and the job beside it of every share of the plan."""
    table = plan.share_table
    if table is None:
        return [(one.accelerator, one.jobs[0], one.jobs[1] if len(one.jobs) > 1 else None) for one in plan.shares]
    return list(zip(table.accelerator, table.first, table.second or [None] * len(table.first), strict=True))


def best(problem: Problem) -> float:
    result = solve(problem, Limits(time_limit_s=20), isolate=False)
    assert result.outcome is Outcome.optimal, result.failure
    assert result.verdict is not None
    assert result.verdict.ok
    return next(iter(result.verdict.objectives.values()))


def test_jobs_and_devices_become_a_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    problem = made(tmp_path, "--network-gbps", 25)
    assert [(one.id, one.count, one.usd_per_hour) for one in problem.accelerators] == [("V100-SXM2-16GB", 4, 3.0), ("T4", 8, 0.5)]
    assert [one.gpus for one in problem.workloads] == [1, 4, 1]
    assert all(one.slow_steps_per_s for workload in problem.workloads for one in workload.speeds)
    assert all(one.spread_steps_per_s for one in problem.workloads[1].speeds)
    said = capsys.readouterr()
    assert "3 jobs of 3 workloads on 2 types of device; 6 speeds predicted (6 extrapolated), 0 measured; 0 left out" in said.out
    assert "warning: T4: extrapolated for mlp, cnn, bert" in said.err
    assert run("solve", "fairshare", tmp_path / "problem.json", "--out", tmp_path / "plan.json") == 0
    assert uses(Plan.model_validate_json((tmp_path / "plan.json").read_bytes()))


@pytest.mark.parametrize("policy", ["makespan", "max_min_fair"])
def test_doubt_reaches_the_decision(policy: str, tmp_path: Path) -> None:
    """A budget of one slow device costs, a larger one costs more; and one slow device at a time costs no more than any for each job."""
    worse = 1 if policy == "makespan" else -1
    sure, budget, both = (best(made(tmp_path, "--policy", policy, *more)) for more in ((), ("--robust-budget", 1), ("--robust-budget", 2)))
    scenarios = best(made(tmp_path, "--policy", policy, "--robust-scenarios"))
    assert worse * sure < worse * scenarios <= worse * budget * (1 + worse * 1e-9)
    assert worse * budget <= worse * both * (1 + worse * 1e-9)


def test_a_calibrated_device_and_its_measured_pairs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows: list[Record] = measured(made_device(0.7), grid(), 0.03)
    known: Calibration = calibrate(made_device(), [], rows, date="2026-01-01")
    device, folder = tmp_path / "device.json", tmp_path / "rows"
    device.write_text(known.model_dump_json(), encoding="utf-8")
    folder.mkdir()
    jobs = [job.model_copy(update={"id": f"job-{place}", "steps": 100}) for place, job in enumerate(grid()[:4])]
    (tmp_path / "jobs.json").write_text(json.dumps({"jobs": [job.model_dump(mode="json") for job in jobs]}), encoding="utf-8")
    pairs = [pair(jobs[0], jobs[1], (1.3, 1.2)), pair(jobs[2], jobs[2], (1.4, 1.4))]
    (folder / "rows.jsonl").write_text("".join(one.model_dump_json() + "\n" for one in pairs), encoding="utf-8")
    out = tmp_path / "problem.json"
    asked = ("runtime", "speeds", tmp_path / "jobs.json", "--device", f"{device}:2", "--out", out)
    assert run(*asked, "--pairs", f"made-up={folder}") == 0
    said = capsys.readouterr()
    assert "4 speeds predicted (0 extrapolated), 0 measured; 0 left out" in said.out
    assert "pairs are predicted from 2 measured ones; extrapolated, since in no measured pair: job-3" in said.err
    problem = Problem.model_validate_json(out.read_bytes())
    assert len(problem.pairs) >= 2
    step = known.device
    assert step.name == problem.accelerators[0].id
    assert best(problem) >= best(problem.model_copy(update={"share_gpus": False})) * (1 - 1e-9)
    assert run(*asked, "--pairs", f"h100={folder}") == 2
    assert "'h100', which is not on offer (there are: made-up)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--device", "T4"), "must read DEVICE:COUNT"),
        (("--device", "T4:0"), "must read DEVICE:COUNT"),
        (("--device", "T4:2:dear"), "'dear' is no price"),
        (("--device", "T5:2"), "neither a file nor a known board"),
        (("--device", "gone.json:2"), "no such file"),
        (("--device", "T4:2", "--device", "T4:3"), "device 2 is called 'T4'"),
        (("--device", "T4:2", "--network-gbps", "0"), "--network-gbps 0"),
        (("--device", "T4:2", "--robust-budget", "1", "--robust-scenarios"), "give one of the two"),
        (("--device", "T4:2", "--pairs", "T4"), "must read DEVICE=FOLDER"),
        (("--device", "T4:2", "--pairs", "T4=nowhere"), "no rows.jsonl in nowhere"),
        (("--device", "T4:2"), "/jobs/1: job 'cnn' can run on none of the devices (T4: its gang of 4 is larger than the 2 there are)"),
        (("--device", "T4:8", "--policy", "throughput", "--robust-budget", "1"), "a robust budget is for"),
    ],
)
def test_wrong_options(options: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("runtime", "speeds", jobs_file(tmp_path), *options, "--out", tmp_path / "x.json") == 2
    assert words in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "x.json").exists()


def test_wrong_jobs_are_placed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for more, words in (({"weight": 0}, "/jobs/2/weight"), ({"steps": -1}, "/jobs/2/steps"), ({"colour": 1}, "/jobs/2/colour")):
        assert run("runtime", "speeds", jobs_file(tmp_path, **more), *BOARDS, "--out", tmp_path / "x.json") == 2
        assert words in capsys.readouterr().err
    assert run("runtime", "speeds", jobs_file(tmp_path, steps=0), *BOARDS, "--policy", "makespan", "--out", tmp_path / "x.json") == 2
    assert "'bert' still has; give remaining_steps" in capsys.readouterr().err


# ---------------------------------------------------------------- pairs of Gavel that were not measured


@cache
def all_speeds() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(gzip.decompress(SPEEDS.read_bytes()))
    return table


def runs(pair: Any) -> bool:
    return bool(pair[0] > 0)


class Hidden:
    """Gavel's speeds, of which a random share of each GPU's pairs is known; what is asked for is measured."""

    def __init__(self, share: float, seed: int, folder: Path) -> None:
        self.file, self.known = folder / "hidden.json", set[tuple[str, ...]]()
        for gpu, rows in all_speeds().items():
            pairs = sorted({(gpu, *sorted((a, b))) for a, row in rows.items() for b, v in row.items() if b != "null" and runs(v)})
            self.known |= set(random.Random(seed).sample(pairs, round(share * len(pairs))))

    def problem(self, percentile: Literal["p10", "p50"] | None) -> Problem:
        table = {
            gpu: {
                a: {b: v for b, v in row.items() if b == "null" or not runs(v) or (gpu, *sorted((a, b))) in self.known}
                for a, row in rows.items()
            }
            for gpu, rows in all_speeds().items()
        }
        self.file.write_text(json.dumps(table), encoding="utf-8")
        return counted(import_gavel(self.file, INSTANCE, None, Choice(fill_pairs=percentile)).problem)

    def measure(self, problem: Problem, plan: Plan) -> int:
        """Measures the pairs that the plan uses; how many were not known."""
        workload = {job.id: job.workload for job in problem.jobs}
        pairs = {(where, first, second) for where, first, second in uses(plan) if second is not None}
        new = {(where, *sorted(f"('{workload[job]}', 1)" for job in jobs)) for where, *jobs in pairs} - self.known
        self.known |= new
        return len(new)


def counted(problem: Problem) -> Problem:
    """The jobs of a workload as one job with a count."""
    counts = Counter(job.workload for job in problem.jobs)
    return problem.model_copy(update={"jobs": tuple(Job(id=name, workload=name, count=count) for name, count in counts.items())})


def plan_of(problem: Problem) -> Plan:
    result = solve(problem, Limits(time_limit_s=20), isolate=False)
    assert result.failure is None, result.failure
    assert isinstance(result.plan, Plan)
    return result.plan


def levels(truth: Problem, plan: Plan) -> np.ndarray[Any, np.dtype[np.float64]]:
    """What each job really attains of its equal split."""
    found = division_of(truth, plan)
    return np.asarray(found.speed / found.market.jobs.equal)


def settled_plan(hidden: Hidden) -> tuple[Plan, int]:
    """The plan after whose pairs were measured, over and over, none is left that was not; and how many were measured for it."""
    count = 0
    while True:
        problem = hidden.problem("p50")
        plan = plan_of(problem)
        new = hidden.measure(problem, plan)
        if not new:
            return plan, count
        count += new


def test_what_plans_with_predicted_pairs_are_really_worth(tmp_path: Path) -> None:
    """80% of the pairs are hidden. Measuring what the plan uses, and planning again, ends within a few per cent of all pairs measured."""
    truth = counted(import_gavel(SPEEDS, INSTANCE).problem)
    whole = levels(truth, plan_of(truth)).min()
    alone = levels(truth, plan_of(truth.model_copy(update={"share_gpus": False}))).min()
    hidden = Hidden(0.2, 0, tmp_path)
    fifth = levels(truth, plan_of(hidden.problem(None))).min()
    careful = levels(truth, plan_of(hidden.problem("p10")))
    assert alone < fifth < whole
    assert careful.mean() >= fifth
    assert careful.min() > 0.75 * whole  # one pair that is worse than its 10th percentile is enough
    plan, measured_later = settled_plan(hidden)
    settled = levels(truth, plan).min()
    assert settled > 0.97 * whole
    assert settled > fifth
    assert measured_later < 60  # of the 781 that were hidden


def test_measured_pairs_stay_and_refused_ones_are_not_predicted(tmp_path: Path) -> None:
    hidden = Hidden(0.2, 1, tmp_path)
    few, many = hidden.problem(None), hidden.problem("p50")
    assert many.pairs[: len(few.pairs)] == few.pairs
    truth = {(one.accelerator, *sorted((one.first, one.second))) for one in counted(import_gavel(SPEEDS, INSTANCE).problem).pairs}
    assert {(one.accelerator, *sorted((one.first, one.second))) for one in many.pairs} <= truth
    slow = {(one.accelerator, one.first, one.second): one for one in hidden.problem("p10").pairs}
    both = [(one, slow[key]) for one in many.pairs if (key := (one.accelerator, one.first, one.second)) in slow]
    assert all(careful.first_steps_per_s <= one.first_steps_per_s for one, careful in both)


def test_a_larger_batch_of_a_refused_pair_is_not_predicted(tmp_path: Path) -> None:
    names = [f"('{model} (batch size {batch})', 1)" for model in ("a", "b") for batch in (1, 2, 4)]
    table: dict[str, Any] = {name: {"null": 1.0} for name in names}
    for one, other, speed in ((0, 3, 0.6), (0, 1, 0.7), (1, 4, 0.0)):
        table[names[one]][names[other]] = table[names[other]][names[one]] = [speed, speed]
    (tmp_path / "speeds.json").write_text(json.dumps({"v100": table}), encoding="utf-8")
    jobs = [{"job_type": name.split("'")[1], "duration_s": 10} for name in names]
    (tmp_path / "jobs.json").write_text(json.dumps({"cluster": {"v100": 2}, "jobs": jobs}), encoding="utf-8")
    found = import_gavel(tmp_path / "speeds.json", tmp_path / "jobs.json", None, Choice(fill_pairs="p50"))
    crossing = {(one.first, one.second) for one in found.problem.pairs if one.first[0] != one.second[0]}
    told = {(int(first.split()[-1][:-1]), int(second.split()[-1][:-1])) for first, second in crossing}
    assert told == {(1, 1), (1, 2), (1, 4), (2, 1), (4, 1)}
    assert found.predicted == len(found.problem.pairs) - 2


def test_filling_needs_pairs_and_says_how_many_it_predicted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hidden = Hidden(0.2, 2, tmp_path)
    hidden.problem(None)
    asked = ("import", "gavel", "--throughputs", hidden.file, "--instance", INSTANCE, "--out", tmp_path / "pop.json")
    assert run(*asked, "--fill-pairs", "p50") == 0
    pairs = len(Problem.model_validate_json((tmp_path / "pop.json").read_bytes()).pairs)
    assert f"{pairs} pairs ({pairs - 195} of them predicted)" in capsys.readouterr().out
    assert run(*asked, "--fill-pairs", "p50", "--no-pairs") == 2
    assert "leave one of the two out" in capsys.readouterr().err
    with pytest.raises(ImportFileError, match="tells no pair on one GPU to predict others from"):
        Hidden(0.0, 0, tmp_path).problem("p10")
