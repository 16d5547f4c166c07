"""The runtime model on public measurements: what is promised of it, on data that is here, and the readers on small files."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linprog

from benchmarks import (
    runtime_public,
    runtime_public_limits,
    runtime_public_pairs,
    runtime_public_sizes,
    runtime_public_steps,
    runtime_public_transfer,
)
from benchmarks.runtime_public_data import (
    CLUSTERS,
    GAVEL,
    JOBS,
    LAMBDA,
    MLPERF,
    SIA,
    AbsentDataError,
    Gavel,
    gavel,
    lambda_kinds,
    lambda_machines,
    mlperf_minutes,
    step_runs,
)
from benchmarks.runtime_public_statistics import described, interval


def needs(folder: Path) -> Any:
    return pytest.mark.skipif(not folder.is_dir(), reason=f"{folder.name} is not on this machine (see QUARTERMASTER_SHARED_DATA)")


@pytest.fixture(scope="module")
def measured_gavel() -> Gavel:
    return gavel()


@needs(SIA)
def test_steps_on_many_gpus_from_few() -> None:
    report = runtime_public_steps.evaluate(step_runs())
    main = report["without_azure"]
    errors = {name: found["error"] for name, found in main["all"].items()}
    assert errors["ours"] <= 0.17
    assert errors["ours"] < errors["log_ridge"] < errors["pollux"]
    assert 0.3 < errors["pollux"] < 0.45  # as others found it: 0.37 to 0.40
    low, high = main["all"]["ours"]["interval_95"]
    assert low < errors["ours"] < high <= 0.17
    assert errors["ours"] > main["noise_floor"]["error"]
    assert 0.7 < main["covered_by_p10_p90"] < 0.95
    assert main["flagged_as_extrapolation"] == 1.0
    assert set(main["by_cluster"]["ours"]) == {"aws", "dgx", "dgx-ext", "rtx"}  # quad has 4 GPUs at most, azure stands apart
    assert report["azure"]["noise_floor"]["error"] > 0.1
    assert 0.7 < report["azure"]["covered_by_p10_p90"] < 0.95  # its own groups widen its intervals; they stand out
    widening = report["widening_of_intervals"]
    assert widening["azure"] > 2 * widening["aws"] == 2 * widening["rtx"]
    forms = report["form_errors_inside_the_fitted_rows"]
    assert forms[f"{report['form']['waiting']}, {report['form']['hops']}"] == min(forms.values())


@needs(SIA)
def test_a_run_is_read_once() -> None:
    groups = step_runs()
    assert set(groups) == {(job, cluster) for job in JOBS for cluster in CLUSTERS}
    assert sum(len(runs) for runs in groups.values()) > 20_000
    for runs in groups.values():
        rows = np.stack([runs.batch, runs.gpus, runs.nodes, runs.step_s], axis=1)
        assert len(np.unique(rows, axis=0)) == len(rows)
    assert max(float(runs.gpus.max()) for runs in groups.values()) == 64


@needs(GAVEL)
def test_pairs_from_a_fifth_of_them(measured_gavel: Gavel) -> None:
    report = runtime_public_pairs.evaluate(measured_gavel, seeds=4)
    for gpu, most in (("k80", 0.045), ("p100", 0.055), ("v100", 0.11)):
        row = report["gpus"][gpu]
        errors = {name: found["mean"] for name, found in row["errors"].items()}
        assert errors["ours"] <= most
        assert min(errors, key=lambda name: errors[name]) == "ours"
        assert 0.7 < row["covered_by_p10_p90"] < 0.95
    assert [report["gpus"][gpu]["pairs"] + report["gpus"][gpu]["refused_pairs"] for gpu in ("k80", "p100", "v100")] == [351, 351, 351]


@needs(GAVEL)
def test_a_fifth_is_a_fifth(measured_gavel: Gavel) -> None:
    pairs = measured_gavel.pairs["v100"]
    known, hidden = runtime_public_pairs.split(pairs, 3)
    assert len(known) == round(len(pairs) / 5)
    assert sorted(known + hidden) == sorted(pairs)


@needs(GAVEL)
def test_a_left_out_device(measured_gavel: Gavel) -> None:
    report = runtime_public_transfer.evaluate(measured_gavel.speeds)
    known, unknown = report["other_placement_known"], report["gpu_type_unknown"]
    assert known["all"]["ours"]["error"] <= 0.15
    assert known["all"]["ours"]["error"] < known["all"]["constant_ratio"]["error"]
    assert known["all"]["one_gpu"]["error"] < 1e-6  # why gangs of several GPUs are reported apart
    assert set(unknown["devices"]) == {"k80", "p100", "v100"}
    by_count = [unknown["all"]["ours"]["error"], *unknown["median_by_measured_jobs"].values()]
    assert by_count[-1] < by_count[0]
    assert unknown["covered_by_p10_p90"] > 0.8


@needs(GAVEL)
def test_two_jobs_cannot_tell_an_unknown_gpu_type(measured_gavel: Gavel) -> None:
    """Even the luckiest two, and even laws that look at the answers: why the aim of 15% is missed there."""
    report = runtime_public_limits.evaluate(measured_gavel.speeds)
    assert report["best_pair_in_hindsight"]["all"] > 0.15
    laws = report["laws_in_hindsight"]
    assert all(law["all"] > 0.15 for law in laws.values() if law["numbers"] <= 7)
    assert laws["line_in_the_other_devices"]["all"] <= laws["one_ratio"]["all"]
    assert report["gangs_of_twice_the_gpus"]["v100"]["more_than_twice_as_fast"] > 20
    assert len(report["nested"]) == 6


def test_least_absolute_errors_are_those_of_a_linear_program() -> None:
    rng = np.random.default_rng(4)
    columns, values = rng.standard_normal((30, 3)), rng.standard_normal(30)
    found = np.abs(values - columns @ runtime_public_limits.least_absolute(columns, values)).sum()
    rows = np.block([[columns, -np.eye(30)], [-columns, -np.eye(30)]])
    exact = linprog(np.r_[np.zeros(3), np.ones(30)], A_ub=rows, b_ub=np.r_[values, -values], bounds=[(None, None)] * 3 + [(0, None)] * 30)
    assert exact.fun - 1e-9 <= found <= 1.01 * exact.fun


@needs(LAMBDA)
def test_lambda() -> None:
    report = runtime_public_sizes.evaluate_lambda(lambda_machines(), lambda_kinds())
    assert report["machine_to_machine"]["1 x H100_80GB_SXM5"]["machines"] == 39
    assert report["machine_to_machine"]["8 x H100_80GB_SXM5"]["machines"] == 22
    weak = report["weak_scaling"]
    assert weak["ours"]["error"] < weak["in_proportion_to_gpus"]["error"]
    told = weak["intervals"]
    assert told["not_widened"]["covered_by_p10_p90"] < 0.8 <= told["widened_by_other_groups"]["covered_by_p10_p90"]
    assert told["widened_by_other_groups"]["median_p90_over_p10"] < 2.5


@needs(MLPERF)
def test_mlperf() -> None:
    report = runtime_public_sizes.evaluate_mlperf(mlperf_minutes())
    assert report["ours"]["rows"] == len(report["cases"]) > 10
    for case in report["cases"]:
        low, middle, high = case["p10_p50_p90_minutes"]
        assert low < middle < high
        assert case["in_proportion_minutes"] <= middle * 1.0001  # no serial part: never slower
    assert report["run_to_run"]["retinanet"] < 0.02
    told = report["intervals"]
    assert told["not_widened"]["covered_by_p10_p90"] < 0.8 <= told["widened_by_other_groups"]["covered_by_p10_p90"]


def test_the_page_says_what_was_measured() -> None:
    root = Path(runtime_public.__file__).resolve().parents[1]
    page = (root / "models" / "runtime" / "README.md").read_text(encoding="utf-8")
    name = re.search(r"`(\d{4}-\d\d-\d\d-runtime-public[\d-]*\.json)`", page)
    assert name is not None
    report = json.loads((root / "benchmarks" / "results" / name.group(1)).read_text(encoding="utf-8"))
    steps, k80, p100, v100, known, several, unknown = (row["measured"] for row in report["must_hold"])
    assert f"**{100 * steps:.1f}%**" in page
    assert f"**{k80:.3f} / {p100:.3f} / {v100:.3f}**" in page
    for number in (known, several, unknown):
        assert f"**{100 * number:.1f}%**" in page
    assert [row["met"] for row in report["must_hold"]] == [True] * 5 + [False] * 2


def write(path: Path, header: str, *rows: str) -> None:
    path.write_text("\n".join((header, *rows)) + "\n", encoding="utf-8")


def test_steps_are_read_from_both_kinds_of_file(tmp_path: Path) -> None:
    for job in JOBS:
        for cluster in CLUSTERS:
            write(tmp_path / f"{job}__placements-{cluster}.csv", "placement,local_bsz,step_time,sync_time", "1,4,0.5,0.01", "12,4,0.7,0.1")
            write(
                tmp_path / f"{job}__scalability-{cluster}.csv",
                "num_nodes,num_replicas,local_bsz,step_time,sync_time",
                "1,1,4,0.5,0.01",  # the run of the other file again
                "4.0,8.0,4.0,0.9,0.2",
            )
    runs = step_runs(tmp_path)["bert", "aws"]
    assert list(runs.gpus) == [1, 3, 8]
    assert list(runs.nodes) == [1, 2, 4]
    write(tmp_path / "bert__placements-aws.csv", "placement,local_bsz,sync_time", "1,4,0.01")
    with pytest.raises(ValueError, match=r"bert__placements-aws.csv has no column 'step_time'"):
        step_runs(tmp_path)


def test_absent_data_is_named(tmp_path: Path) -> None:
    for read in (step_runs, gavel, lambda_machines, lambda_kinds, mlperf_minutes):
        with pytest.raises(AbsentDataError, match="QUARTERMASTER_SHARED_DATA"):
            read(tmp_path / "nowhere")


def test_pairs_of_speed_zero_cannot_share(tmp_path: Path) -> None:
    single, other = "('A (batch size 8)', 1)", "('B', 1)"
    rows = {
        single: {"null": 4.0, single: [2.0, 2.0], other: [0.0, 0.0]},
        other: {"null": 2.0, single: [0.0, 0.0], other: [1.5, 1.5]},
    }
    document = dict.fromkeys(("k80", "p100", "v100", "k80_unconsolidated"), rows)
    (tmp_path / "simulation_throughputs.json").write_text(json.dumps(document), encoding="utf-8")
    found = gavel(tmp_path)
    assert [(job.family, job.batch) for job in found.jobs] == [("A", 8.0), ("B", 1.0)]
    assert found.refused == {"k80": 1, "p100": 1, "v100": 1}
    assert [pair.first_speed for pair in found.pairs["k80"]] == [0.5, 0.75]
    assert [device.consolidated for device in found.speeds.devices] == [True, True, True, False]


def test_the_report_says_what_is_absent(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> dict[str, Any]:
        raise AbsentDataError("nothing here")

    monkeypatch.setattr(
        runtime_public, "PARTS", {"steps": absent, "pairs": lambda: {"gpus": {"k80": {"errors": {"ours": {"mean": 0.05}}}}}}
    )
    report = runtime_public.measured()
    assert report["steps"] == {"absent": "nothing here"}
    rows = {row["what"]: row for row in runtime_public.held(report)}
    assert rows["steps on more than 4 GPUs, mean error"]["met"] is None
    assert rows["pairs on K80, mean absolute error"]["met"] is False
    assert rows["pairs on P100, mean absolute error"]["measured"] is None


def test_the_bootstrap_draws_groups() -> None:
    groups = [np.full(100, 0.1), np.full(100, 0.3)]
    low, high = interval(groups, np.mean)
    assert (low, high) == (0.1, 0.3)  # two groups: any mix of them
    assert described({"a": groups[0], "b": groups[1]})["error"] == 0.2
    assert described({"a": groups[0]}, np.median)["interval_95"] == [0.1, 0.1]


def test_no_shared_data_is_committed() -> None:
    """Sia's and Lambda's files have no licence: none of their tables may lie in this repository."""
    data = Path(runtime_public.__file__).resolve().parent / "data"
    for path in data.rglob("*.csv"):
        with path.open(encoding="utf-8", newline="") as file:
            header = next(csv.reader(file), [])
        assert not {"local_bsz", "step_time"} <= set(header)
        assert "bert_base_squad" not in header
