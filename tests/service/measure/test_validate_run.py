"""Validation for real: tiny torch jobs in fresh pinned processes, from records to results, and what happens when a job fails."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from models.runtime.job import Family, JobSpec
from service.cli import main
from service.measure.gpu_jobs import measured_jobs
from service.measure.store import MACHINE as MACHINE_FILE
from service.measure.store import ROWS
from service.measure.validate_devices import Device, usable_cores
from service.measure.validate_frozen import FROZEN, Policy, Schedule, thawed
from service.measure.validate_run import RAN, JobRow, Ran, RunRow, read_ran, run_job, run_jobs
from tests.service.measure.known_device import MACHINE, known, records

if TYPE_CHECKING:
    from collections.abc import Sequence

torch = pytest.importorskip("torch")

CORES = usable_cores()
TINY = JobSpec.model_validate({"family": "mlp", "mode": "prefill", "layers": 2, "width": 64, "batch": 8, "steps": 3})


def called(arguments: Sequence[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["validate", *arguments])
    return int(ended.value.code or 0)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of made-up records."""
    made = tmp_path_factory.mktemp("records")
    (made / ROWS).write_text("".join(row.model_dump_json(exclude_none=True) + "\n" for row in records()), encoding="utf-8")
    (made / MACHINE_FILE).write_text(MACHINE.model_dump_json(), encoding="utf-8")
    return made


# ---------------------------------------------------------------- single jobs


def test_one_job_tells_its_parts_and_its_parent_sees_all_of_it() -> None:
    ran = run_job(TINY, Device("core", "core", CORES[:1]))
    assert not ran.failed
    parts = ran.answer["cpu_s"]
    assert set(parts) == {"import", "build", "first_step", "steps"}
    assert ran.cpu_s >= sum(parts.values()) * 0.999
    assert ran.wall_s >= ran.answer["wall_s"]["steps"]
    assert usable_cores() == CORES  # who starts a job is not pinned


def test_a_job_that_cannot_run_says_why() -> None:
    traced = JobSpec(family=Family.traced)
    assert run_job(traced, Device("core", "core", CORES[:1])).failed.startswith("unmeasurable: ")


def test_a_job_that_hangs_is_ended() -> None:
    assert run_job(TINY, Device("core", "core", CORES[:1]), longest_s=0.1).failed.startswith("timed_out")


# ---------------------------------------------------------------- how runs go, without processes


def pretended(job: JobSpec, _: Device) -> Ran:
    """As many hundredths of a second as the job has steps."""
    time.sleep(job.steps / 100)
    return Ran(job.steps / 100, job.steps / 100, {"cpu_s": {}, "wall_s": {}})


TWO = (Device("a", "core", ()), Device("b", "core", ()))


@pytest.mark.parametrize("at_once", [True, False])
def test_queues_go_to_the_first_free_device(at_once: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.measure.validate_run.run_job", pretended)
    jobs = [TINY.model_copy(update={"steps": steps}) for steps in (30, 10, 10, 30)]
    found = {one.job: one.device for one in run_jobs(jobs, TWO, Schedule(queue=(0, 1, 2, 3)), lambda _: None, at_once=at_once)}
    assert found[0] != found[1] == found[2] == found[3]


@pytest.mark.parametrize("at_once", [True, False])
def test_each_device_works_through_its_own_list_in_order(at_once: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.measure.validate_run.run_job", pretended)
    jobs = [TINY.model_copy(update={"steps": 2})] * 5
    heard: list[tuple[int, int]] = []
    done = run_jobs(jobs, TWO, Schedule(devices=(1, 0, 1, 0, 1)), lambda one: heard.append((one.job, one.device)), at_once=at_once)
    assert [(one.job, one.device) for one in done] == heard
    assert [job for job, device in heard if device == 0] == [1, 3]
    assert [job for job, device in heard if device == 1] == [0, 2, 4]
    if not at_once:
        assert [device for _, device in heard] == [0, 0, 1, 1, 1]


# ---------------------------------------------------------------- all of it


def test_from_records_to_results(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two batches of three tiny jobs; disturbed runs count here, because the machine that runs tests is never quiet."""
    quick_to_start = tuple(job for job in measured_jobs(tiny=True) if not job.training)
    monkeypatch.setattr("service.measure.gpu_jobs.measured_jobs", lambda *, tiny: quick_to_start if tiny else ())
    two = len(CORES) > 1
    listed = f"core:{CORES[0]},core:{CORES[1]}" if two else f"core:{CORES[0]},core:{CORES[0]}"
    spec = tmp_path / "device.json"
    spec.write_text(known().calibration.model_dump_json(), encoding="utf-8")
    asked = ["--devices", listed, "--records", str(folder), "--device-spec", str(spec), "--jobs", "3", "--batches", "2", "--pilot", "2"]
    asked += [
        "--executed-rivals",
        "0",
        "--grid",
        "gpu-tiny",
        "--job-seconds",
        "0.001:0.05",
        "--lenient",
        "--attempts",
        "1",
        "--out",
        str(tmp_path / "out"),
    ]
    assert called([*asked, *([] if two else ["--serial-replay"])]) == 0

    frozen, digest = thawed(tmp_path / "out")
    assert (tmp_path / "out" / f"{FROZEN}.sha256").read_text(encoding="utf-8").split()[0] == digest
    rows = list(read_ran(tmp_path / "out" / RAN))
    ended = [row for row in rows if isinstance(row, RunRow)]
    assert all(row.sha256 == digest for row in rows)
    assert {(row.batch, row.repeat) for row in ended} == {(0, 0), (1, 0), (0, 1)}
    for run in ended:
        mine = [
            row for row in rows if isinstance(row, JobRow) and (row.batch, row.repeat, row.attempt) == (run.batch, run.repeat, run.attempt)
        ]
        decided = frozen.plan(run.batch).schedules[Policy.optimal].devices
        assert tuple(row.device for row in sorted(mine, key=lambda row: row.job)) == decided
        assert not any(row.failed for row in mine)
    told = json.loads((tmp_path / "out" / "results.json").read_text(encoding="utf-8"))
    assert told["sha256"] == digest
    assert len(told["jobs"]) == 6
    assert all(row["measured_s"] > 0.3 for row in told["jobs"])  # loading torch alone
    assert frozen.models["core"].slow_down.source == "pilot"

    before = (tmp_path / "out" / RAN).read_bytes()
    assert called(["--out", str(tmp_path / "out")]) == 2  # frozen already
    text = (tmp_path / "out" / FROZEN).read_text(encoding="utf-8")
    (tmp_path / "out" / FROZEN).write_text(text.replace('"p50": ', '"p50": 1'), encoding="utf-8")
    assert called(["--out", str(tmp_path / "out"), "--resume"]) == 2
    assert (tmp_path / "out" / RAN).read_bytes() == before  # nothing was executed


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ([], "nothing is known of core devices"),
        (["--devices", "core:0"], "one device leaves nothing to decide"),
        (["--devices", "core:0,core:99999"], "this process may use the cores"),
        (["--devices", "tpu:0,core:0"], "is no device"),
        (["--records", "{none}"], "there is no rows.jsonl"),
        (["--records", "tpu={records}"], "no kind of device 'tpu'"),
        (["--device-spec", "{none}/x.json"], "no such file"),
        (["--records", "{records}", "--policies", "optimal,best"], "no policy 'best'"),
        (["--records", "{records}", "--job-seconds", "3:1"], "LEAST:MOST"),
        (["--records", "{records}", "--grid", "tpu"], "there is cpu"),
        (["--records", "{records}", "--jobs", "2", "--devices", "{three}", "--serial-replay"], "fewer jobs than the 3 devices"),
        (["--resume"], "nothing was frozen here"),
    ],
)
def test_bad_input_is_told_with_its_cure(
    arguments: list[str], says: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service.measure.validate_devices.usable_cores", lambda: (0, 1))
    three = ",".join(["core:0"] * 3)
    filled = [text.format(none=tmp_path / "none", records=folder, three=three) for text in arguments]
    assert called([*filled, "--out", str(tmp_path / "out")]) == 2
    assert says in capsys.readouterr().err


def test_records_too_noisy_to_calibrate_on(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.measure.validate_devices.usable_cores", lambda: (0, 1))
    rows = []
    for row in records():
        assert row.timing is not None
        rows.append(row.model_copy(update={"timing": row.timing.model_copy(update={"cpu_spread": 0.9})}))
    (tmp_path / ROWS).write_text("".join(row.model_dump_json(exclude_none=True) + "\n" for row in rows), encoding="utf-8")
    assert called(["--records", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert "calibration would mean nothing" in capsys.readouterr().err
