"""``runtime calibrate``, ``predict`` and ``report`` on rows made up for the test, and the benchmark over the same rows."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from benchmarks.runtime_cpu import held, measured, show
from models.runtime.calibration.ladder import Base, Calibration, base_of
from models.runtime.evaluation.evaluate import evaluate
from models.runtime.operators import Operator, OperatorClass, Precision
from models.runtime.records import Machine, OperatorRecord, Record
from service.cli.runtime_model import all_rows
from service.report.runtime import duration, picture, render
from tests.models.test_runtime_evaluate import ROW, grid, made_device, timing
from tests.models.test_runtime_evaluate import measured as measured_rows
from tests.service.test_cli import run

OUTSIDE = re.compile(r"""(?:https?:)?//[\w.-]+\.\w+|@import|url\((?!["']?data:)""")
MACHINE = Machine(name="made-up", processor="a core", cores=1, memory_gib=16, caches_kib={"l2": 1024, "l3": 32768})


def stored(folder: Path, rows: list[Record]) -> Path:
    folder.mkdir()
    lines = [row.model_dump_json(exclude_none=True) for row in rows]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "machine.json").write_text(MACHINE.model_dump_json(), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def rows() -> list[Record]:
    jobs = [job.model_copy(update={"id": f"job-{number}"}) for number, job in enumerate(grid())]
    return measured_rows(made_device(0.7), jobs, 0.03)


@pytest.fixture(scope="module")
def folder(rows: list[Record], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return stored(tmp_path_factory.mktemp("measured") / "rows", rows)


@pytest.fixture(scope="module")
def device(folder: Path) -> Path:
    out = folder.parent / "device.json"
    assert run("runtime", "calibrate", folder, "--out", out) == 0
    return out


def test_a_job_is_predicted_as_text_and_as_json(
    device: Path, rows: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "job.json"
    file.write_text(rows[0].job.model_dump_json(), encoding="utf-8")
    assert run("runtime", "predict", file, "--device", device) == 0
    assert "where a step goes" in capsys.readouterr().out
    assert run("runtime", "predict", file, "--device", device, "--json") == 0
    found = json.loads(capsys.readouterr().out)["predictions"][0]
    assert found["id"] == "job-0"
    assert found["step_s"]["p10"] < found["step_s"]["p50"] < found["step_s"]["p90"]
    assert found["step_s"]["p50"] == pytest.approx(rows[0].seconds, rel=0.3)
    assert not found["extrapolated"]
    assert found["fits_probability"] > 0.99


def test_predictions_are_frozen_by_their_hash(device: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out, again = tmp_path / "jobs.json", tmp_path / "frozen.json", tmp_path / "again.json"
    file.write_text(json.dumps({"jobs": [job.model_dump(mode="json") for job in grid()[:3]]}), encoding="utf-8")
    for target in (out, again):
        assert run("runtime", "predict", file, "--device", device, "--out", target) == 0
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    assert Path(f"{out}.sha256").read_text(encoding="utf-8") == f"{digest}  frozen.json\n"
    assert digest in capsys.readouterr().err
    assert again.read_bytes() == out.read_bytes(), "the same predictions have the same hash"
    assert len(json.loads(out.read_text(encoding="utf-8"))["predictions"]) == 3


def test_yaml_and_traced_work_are_read(device: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "jobs.yaml"
    file.write_text("jobs:\n- {family: mlp, width: 64, layers: 2}\n- {family: mlp, width: 128, layers: 2}\n", encoding="utf-8")
    assert run("runtime", "predict", file, "--device", device, "--json") == 0
    assert len(json.loads(capsys.readouterr().out)["predictions"]) == 2
    work = {
        "operators": [{"cls": "matmul", "precision": "fp32", "flops": 2e9, "bytes_read": 1e6, "bytes_written": 1e6, "calls": 3}],
        "activation_bytes": 1e6,
        "parameters": 1e6,
        "parameter_bytes": 4e6,
    }
    traced = tmp_path / "traced.json"
    traced.write_text(json.dumps({"job": {"family": "traced", "mode": "prefill"}, "work": work}), encoding="utf-8")
    assert run("runtime", "predict", traced, "--device", device, "--json") == 0
    found = json.loads(capsys.readouterr().out)["predictions"][0]
    assert found["parts_s"]["matmul"] > 0
    assert found["extrapolated"], "no prefill was measured"


def test_what_is_wrong_is_told_with_place_and_cure(
    device: Path, folder: Path, rows: list[Record], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    traced = tmp_path / "traced.json"
    traced.write_text('{"family": "traced"}', encoding="utf-8")
    few = stored(tmp_path / "few", rows[:2])
    noisy = stored(tmp_path / "noisy", [row.model_copy(update={"timing": timing(row.seconds or 1.0, 0.9)}) for row in rows])
    other = stored(tmp_path / "other", [row.model_copy(update={"machine": "another"}) for row in rows])
    empty = tmp_path / "empty"
    empty.mkdir()
    out = tmp_path / "out.json"
    for arguments, message in (
        (("predict", traced, "--device", device), "traced"),
        (("predict", tmp_path / "no.json", "--device", device), "no such file"),
        (("predict", traced, "--device", traced), "/device"),
        (("calibrate", few, "--out", out), "measure at least 5"),
        (("calibrate", noisy, "--out", out), "calibration would mean nothing"),
        (("calibrate", folder, other, "--out", out), "calibrate one at a time"),
        (("calibrate", empty, "--out", out), "runtime measure"),
        (("calibrate", folder, "--out", out, "--start", device, "--refine", device), "give one of them"),
        (("report", few, "--device", device, "--out", out), "measure at least 5"),
    ):
        assert run("runtime", *arguments) == 2
        assert message in capsys.readouterr().err
    assert not out.exists()


def test_finished_runs_refine_a_device(device: Path, folder: Path, tmp_path: Path, rows: list[Record]) -> None:
    out = tmp_path / "refined.json"
    assert run("runtime", "calibrate", folder, "--refine", device, "--out", out) == 0
    assert Calibration.model_validate_json(out.read_text(encoding="utf-8")).jobs == 2 * len(rows)


def test_the_report_needs_nothing_else(device: Path, folder: Path, tmp_path: Path, rows: list[Record]) -> None:
    out = tmp_path / "report.html"
    assert run("runtime", "report", folder, "--device", device, "--out", out) == 0
    page = out.read_text(encoding="utf-8")
    assert page.count("<circle") == 2 * len(rows)
    assert "Each family left out" in page
    assert not OUTSIDE.search(page)
    assert "<script" not in page


def test_names_in_the_report_are_escaped(device: Path, rows: list[Record]) -> None:
    known = Calibration.model_validate_json(device.read_text(encoding="utf-8"))
    evil = [row.model_copy(update={"job": row.job.model_copy(update={"id": f"<b>{place}"})}) for place, row in enumerate(rows)]
    page = render(known, evaluate(base_of(known), evil), MACHINE.model_copy(update={"processor": "<script>"}))
    assert "<b>0" not in page
    assert "<script>" not in page


def test_the_picture_lies_in_its_frame(device: Path, rows: list[Record]) -> None:
    known = Calibration.model_validate_json(device.read_text(encoding="utf-8"))
    drawn = picture(evaluate(base_of(known), rows).leave_one_out)
    for dot in drawn.dots:
        assert drawn.left <= dot.x <= drawn.right
        assert drawn.top <= dot.high <= dot.y <= dot.low <= drawn.bottom
    assert len(drawn.ticks) >= 2


@pytest.mark.parametrize(("seconds", "told"), [(2.0, "2 s"), (0.0025, "2.5 ms"), (3.14159e-6, "3.14 µs"), (2e-9, "2 ns")])
def test_durations_are_told_in_three_figures(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_the_benchmark_holds_the_errors_against_what_must_hold(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    about, found = all_rows([str(folder)])
    report = measured(about, found)
    json.dumps(report, allow_nan=False)
    show(report)
    assert "what must hold" in capsys.readouterr().out
    marks = {row["what"]: row["met"] for row in report["must_hold"]}
    assert marks["each job left out, median error"]
    assert not marks["configurations measured"], "the made-up grid is smaller than forty"
    assert len(held(evaluate(base_of_folder(folder), [row for row in found if isinstance(row, Record)]))) == len(marks)


def base_of_folder(folder: Path) -> Base:
    return base_of(Calibration.model_validate_json((folder.parent / "device.json").read_text(encoding="utf-8")))


def test_rows_disturbed_by_others_count_only_when_asked() -> None:
    product = Operator(OperatorClass.matmul, Precision.fp32, 2e9, 1e6, 1e6, 1, "matmul 1x1000x1000x1000")
    operator = OperatorRecord(name="product", operator=product, working_set_bytes=1, timing=timing(0.02), **ROW)
    refused = operator.model_copy(update={"accepted": False, "reasons": ("foreign_elsewhere",)})
    broken = operator.model_copy(update={"accepted": False, "reasons": ("repeats_differ",)})
    jobs = measured_rows(made_device(), grid(), 0.02)
    assert measured(MACHINE, [*jobs, refused, broken])["rows"] == {"jobs": len(jobs), "operators": 0, "refused": 2}
    assert measured(MACHINE, [*jobs, refused, broken], lenient=True)["rows"]["operators"] == 1
