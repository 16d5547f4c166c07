"""Jobs in fresh processes: a complete row of one that runs, a row with its reason of one that does not."""

import json
import os
import sys
from pathlib import Path

import pytest

from models.runtime.job import Family, JobSpec, Parallel, Weights
from models.runtime.operators import Precision
from models.runtime.records import Machine, Record, Sharing
from service.measure import pairs as pairs_module
from service.measure.campaign import campaign, operators, shared
from service.measure.microbenchmarks import Micro, micros
from service.measure.pairs import measured_pair
from service.measure.runner import Bench, answered, measured, read_answer
from service.measure.store import Store
from tests.service.measure.rows import TINY, row

pytest.importorskip("torch")

CORE = max(os.sched_getaffinity(0))
BENCH = Bench("cpu", "m", "2", "a test", core=CORE, seconds=0.05)


def test_a_tiny_job_makes_a_complete_row() -> None:
    made = measured(TINY, BENCH)
    assert made.timing is not None
    assert made.start_up is not None
    assert made.memory is not None
    assert 0 < made.timing.cpu_s < 0.1
    assert made.timing.repeats >= 3
    assert made.timing.device_s is None
    assert made.start_up.cpu_s > made.start_up.first_step_cpu_s > 0
    assert made.memory.peak_gib > made.memory.libraries_gib > 0
    assert (made.core, made.threads, made.command) == (CORE, 1, "a test")
    assert made.accepted == (made.reasons == ())
    assert Record.model_validate_json(made.model_dump_json(exclude_none=True)) == made


def test_a_job_that_does_not_fit_is_a_row() -> None:
    large = JobSpec(family=Family.mlp, layers=4, width=16_384, batch=8)
    made = measured(large, Bench("cpu", "m", "2", "a test", core=CORE, seconds=0.05, memory_gib=1.0))
    assert made.timing is None
    assert made.reasons == ("does_not_fit",)
    assert "memory" in made.message
    assert not made.accepted


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"family": "traced"}, "/family"),
        ({"parallel": Parallel(dp=2)}, "/parallel"),
        ({"weights": Weights.master, "precision": Precision.bf16}, "/weights"),
    ],
)
def test_what_cannot_be_measured_says_why(more: dict[str, object], said: str) -> None:
    from service.measure.torch_jobs import UnmeasurableError, refuse_unmeasurable

    with pytest.raises(UnmeasurableError, match=said):
        refuse_unmeasurable(TINY.model_copy(update=more) if "family" not in more else JobSpec(family=Family.traced))


def test_a_process_that_crashes_is_told_with_its_last_words() -> None:
    assert answered("service.measure.no_such_module", {}, BENCH, 60.0)["reason"] == "crashed"
    assert "no_such_module" in answered("service.measure.no_such_module", {}, BENCH, 60.0)["message"]


def test_a_process_that_hangs_is_ended() -> None:
    answer = answered("service.measure.one", {"core": CORE, "memory_gib": None}, BENCH, 0.001)
    assert answer["reason"] == "timed_out"


@pytest.mark.parametrize(
    ("output", "errors", "code", "reason"),
    [
        ("", "", -9, "does_not_fit"),
        ("", "boom", -11, "crashed"),
        ("noise\n" + json.dumps({"reason": "unmeasurable"}), "", 0, "unmeasurable"),
        ("", "Traceback\nValueError: x", 1, "crashed"),
    ],
)
def test_how_a_process_ended(output: str, errors: str, code: int, reason: str) -> None:
    assert read_answer(output, errors, code)["reason"] == reason


# ---------------------------------------------------------------- campaigns


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path)
    made.open(Machine(name="m", versions={}))
    return made


def silent(*_: object) -> None:
    pass


def test_a_campaign_goes_on_where_it_stopped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = [TINY.model_copy(update={"batch": batch}) for batch in (1, 2, 3)]
    run: list[int] = []

    def fake(spec: JobSpec, _: Bench) -> Record:
        run.append(spec.batch)
        reasons = {2: ("steal",), 3: ("crashed",)}.get(spec.batch, ())
        return row(spec, accepted=not reasons, reasons=reasons)

    monkeypatch.setattr("service.measure.campaign.measured", fake)
    assert campaign(specs, BENCH, store, 0.0, silent) == {"accepted": 1, "disturbed": 2, "failed": 1, "skipped": 0}
    assert run == [1, 2, 2, 3]  # what was disturbed is measured once more; what crashed is not
    run.clear()
    assert campaign(specs, BENCH, store, 0.0, silent) == {"disturbed": 2, "skipped": 2}
    assert run == [2, 2]
    assert [one.reasons for one in store.rows()] == [(), ("steal",), ("steal",), ("crashed",), ("steal",), ("steal",)]


def test_operators_in_one_process(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {"matmul", "attention"}
    few: tuple[Micro, ...] = tuple(one for one in micros((Precision.fp32,), tiny=True) if one.kind in kinds and not one.part)
    monkeypatch.setattr("service.measure.campaign.micros", lambda _: few)
    monkeypatch.setattr("service.measure.microbenchmarks.SECONDS", 0.05)
    counts = operators(BENCH, store, silent)
    assert counts["failed"] == 0
    assert counts["accepted"] + counts["disturbed"] == 2
    assert all(
        one.timing is not None and one.timing.cpu_s > 0 for one in store.rows() if not isinstance(one, Record) and one.row == "operator"
    )


@pytest.mark.parametrize("sharing", [Sharing.same_core])
def test_a_pair_against_each_alone(sharing: Sharing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_module, "WINDOW_S", 0.2)
    made = measured_pair(sharing, TINY, TINY.model_copy(update={"width": 64}), BENCH)
    assert made.slow_downs is not None
    assert min(made.slow_downs) > 0.3
    assert made.accepted == (made.reasons == ())


def test_a_pair_whose_second_job_cannot_run_is_a_row(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs_module, "jobs", lambda _: (TINY, JobSpec(family=Family.traced), *[TINY] * 6))
    monkeypatch.setattr(pairs_module, "STRIDE", 1)
    monkeypatch.setattr(pairs_module, "WINDOW_S", 0.1)
    assert shared(1, BENCH, store, silent)["failed"] == 1
    assert [one.reasons for one in store.rows()] == [("unmeasurable",)]
    assert shared(1, BENCH, store, silent) == {"skipped": 1}


# ---------------------------------------------------------------- commands


def test_the_command_refuses_a_core_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from service.cli import main

    with pytest.raises(SystemExit) as ended:
        main(["runtime", "measure", "--out", str(tmp_path / "rows"), "--core", "4095"])
    assert ended.value.code == 2
    assert "--core 4095: this process may use the cores" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["runtime", "measure", "--out", str(tmp_path / "rows"), "--device", "cuda"])
    assert ended.value.code in {0, 2}


def test_the_command_measures_and_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from service.cli import main

    monkeypatch.setattr("service.measure.grid.jobs", lambda _: (TINY,))
    monkeypatch.setattr("service.measure.campaign.measured", lambda spec, _: row(spec))
    arguments = ["runtime", "measure", "--out", str(tmp_path / "rows"), "--core", str(CORE), "--patience", "0"]
    monkeypatch.setattr(sys, "argv", ["quartermaster", *arguments])
    for said in ("jobs: 1 accepted", "jobs: 1 skipped"):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 0
        assert said in capsys.readouterr().out
    assert (tmp_path / "rows" / "machine.json").exists()


@pytest.mark.long
def test_the_course_of_the_gpu_runs_tiny_on_a_cpu(tmp_path: Path) -> None:
    from service.measure.gpu import main

    assert main(["--out", str(tmp_path), "--device", "cpu", "--tiny", "--most", "1", "--seconds", "0.1"]) == 0
    rows = list(Store(tmp_path).rows())
    assert [one.row for one in rows] == ["operator", "operator", "job", "pair"]
    assert main(["--out", str(tmp_path), "--device", "cpu", "--tiny", "--holdout", "--most", "1", "--seconds", "0.1"]) == 0
    assert [one.row for one in Store(tmp_path).rows()][4:] in (["job"], [])


def test_without_a_gpu_its_command_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import torch

    from service.measure.gpu import main

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    assert main(["--out", str(tmp_path)]) == 2
    assert "--device cpu --tiny" in capsys.readouterr().err
