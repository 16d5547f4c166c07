"""Validation without running anything: drawing, predicting, freezing, and what results say of rows that are made up."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from models.runtime.job import Family
from models.runtime.records import ForeignLoad
from models.runtime.schedules.makespan import makespan
from models.runtime.schedules.rules import exact, expected_random
from service.measure.grid import jobs
from service.measure.store import job_key
from service.measure.validate import Asked, Known, planned_runs, prepare
from service.measure.validate_devices import Device, UnknownDeviceError, devices, usable_cores
from service.measure.validate_frozen import FROZEN, Frozen, FrozenError, Policy, Schedule, assignment, freeze, thawed
from service.measure.validate_jobs import drawn
from service.measure.validate_results import interval, results
from service.measure.validate_run import RAN, JobRow, RunRow, execute, read_ran
from service.measure.validate_times import Model, PilotJob, job_seconds, pairs_slow_down, pilot_slow_down, start_up_of
from service.report.validation import render
from tests.service.measure.known_device import INFER_S, MACHINE, MILLION_S, TRAIN_S, known, pair, records

if TYPE_CHECKING:
    from pathlib import Path

    from models.program import Floats, Ints
    from service.measure.validate_run import AnyRan

TWO = (Device("core:0", "core", (0,)), Device("core:1", "core", (1,)))


def quiet(_: str) -> None:
    """Tells nobody."""


def never(_: Floats) -> tuple[Ints, float]:
    """Few jobs need no solver."""
    raise AssertionError


@pytest.fixture(scope="module")
def device() -> Known:
    return known()


@pytest.fixture(scope="module")
def asked() -> Asked:
    return Asked(TWO, jobs("quick"), jobs=6, batches=3, executed_rivals=2, pilot=0, seed=5)


@pytest.fixture(scope="module")
def frozen(asked: Asked, device: Known) -> Frozen:
    return prepare(asked, {"core": device}, MACHINE, quiet)


def made_rows(frozen: Frozen, factors: Floats, *, sha256: str = "x", accepted: bool = True) -> list[AnyRan]:
    """Rows of every run, each job taking its prediction times its factor (jobs of all batches,)."""
    rows: list[AnyRan] = []
    for run in frozen.runs:
        times = frozen.times(run.batch)
        told: dict[str, Any] = {"sha256": sha256, "batch": run.batch, "policy": run.policy, "repeat": run.repeat, "attempt": 0}
        where = assignment(frozen.plan(run.batch).schedules[run.policy], times)
        for job, at in enumerate(where.tolist()):
            seconds = float(times[job, at] * factors[run.batch * len(times) + job])
            rows.append(JobRow(**told, job=job, device=at, cpu_s=seconds, wall_s=1.1 * seconds, began_s=0.0))
        reasons = () if accepted else ("foreign_on_core",)
        rows.append(RunRow(**told, wall_s=1.0, foreign=ForeignLoad(), accepted=accepted, reasons=reasons))
    return rows


# ---------------------------------------------------------------- jobs and their times


def test_jobs_are_drawn_from_the_seed_alone_mixed_and_new() -> None:
    grid = jobs("quick")
    first, again, other = (drawn(grid, 12, seed) for seed in ((1, 0), (1, 0), (1, 1)))
    assert first == again
    assert first != other
    assert all(sum(one.job.family is family for one in first) == 2 for family in {job.family for job in grid})
    seen = {job_key(job.model_dump(mode="json")) for job in grid}
    assert not seen & {job_key(one.job.model_dump(mode="json")) for one in first}
    assert all(0.25 <= one.seconds <= 4.0 for one in first)
    assert first[0].with_steps(1e9, "long").steps == 2
    with pytest.raises(ValueError, match="no grid"):
        drawn((), 1, (1,))


def test_start_up_is_found_again(device: Known) -> None:
    found = start_up_of(device.calibration, records(), "cpu_s")
    assert found.train_s == pytest.approx(TRAIN_S, rel=1e-3)
    assert found.infer_s == pytest.approx(INFER_S, rel=1e-3)
    assert found.million_parameters_s == pytest.approx(MILLION_S, rel=1e-2)
    assert found.first_step == pytest.approx(1.0, rel=1e-2)
    assert start_up_of(device.calibration, (), "cpu_s").jobs == 0
    assert start_up_of(device.calibration, (), "cpu_s").train_s == pytest.approx(TRAIN_S, rel=0.2)


def test_one_wrong_record_does_not_move_start_up(device: Known) -> None:
    rows = list(records())
    start = rows[3].start_up
    assert start is not None
    rows[3] = rows[3].model_copy(update={"start_up": start.model_copy(update={"import_cpu_s": 60.0})})
    assert start_up_of(device.calibration, rows, "cpu_s").train_s == pytest.approx(TRAIN_S, rel=0.02)


def test_slow_downs() -> None:
    assert pairs_slow_down([pair(1.2), pair(1.3), pair(1.25)]).step == pytest.approx(1.25)
    assert pairs_slow_down([]).step == 1.0
    assert pilot_slow_down([]).step == 1.0


def piloted(place: int, start: float, step: float, end_s: float) -> PilotJob:
    """A job of the grid with these factors and this end."""
    job = jobs("quick")[place]
    return PilotJob(job=job, device=0, start_s=2 * start, start_alone_s=2, steps_s=3 * step, steps_alone_s=3, end_s=end_s)


def test_a_pilot_teaches_slow_downs_and_the_end() -> None:
    grid = jobs("quick")
    places = [place for place, job in enumerate(grid) if job.family in {Family.mlp, Family.recommender}]
    rows = [
        piloted(place, 1.1, 1.3 if grid[place].family is Family.recommender else 1.0, 0.7 if grid[place].training else 0.5)
        for place in places
    ]
    found = pilot_slow_down(rows)
    counts = {family: sum(row.job.family is family for row in rows) for family in (Family.mlp, Family.recommender)}
    assert counts[Family.mlp] > counts[Family.recommender]  # the median of all is the larger family's
    assert found.start == pytest.approx(1.1)
    assert found.step == pytest.approx(1.0)
    assert found.of_step(rows[0].job.model_copy(update={"family": Family.lstm})) == pytest.approx(1.0)
    assert found.step_by_family[Family.mlp] == pytest.approx(1.0)
    share = counts[Family.recommender] / (counts[Family.recommender] + 1)
    assert found.step_by_family[Family.recommender] == pytest.approx(1.3**share)
    assert (found.end_train_s, found.end_infer_s) == (0.7, 0.5)
    only = pilot_slow_down([row for row in rows if row.job.training])
    assert only.end_infer_s == 0.7
    assert found.source == "pilot"


def test_whole_jobs_add_up(device: Known) -> None:
    model = Model(calibration=device.calibration, start_up=start_up_of(device.calibration, device.records, "cpu_s"))
    job = jobs("quick")[0].model_copy(update={"steps": 101})
    alone = job_seconds(job, model)
    assert alone.p50 == pytest.approx(alone.start_up_s + 100 * alone.step_s)
    assert alone.p10 < alone.p50 < alone.p90
    slow = job_seconds(job, model.model_copy(update={"slow_down": pairs_slow_down([pair(1.5)])}))
    assert slow.p50 - slow.start_up_s == pytest.approx(1.5 * (alone.p50 - alone.start_up_s))


# ---------------------------------------------------------------- what is frozen


def test_the_plan_before_anything_runs(frozen: Frozen) -> None:
    assert [place.title for place in frozen.places] == ["one core", "one core"]
    for plan in frozen.batches:
        times = frozen.times(plan.batch)
        best = exact(times)
        assert best is not None
        ours = makespan(times, assignment(plan.schedules[Policy.optimal], times))
        assert plan.proved
        assert ours == pytest.approx(makespan(times, best), rel=2e-4)
        assert plan.bound_s <= ours * (1 + 1e-9)
        assert set(plan.by_forecast) == {"naive", "log-ridge"}
        assert all(ours <= makespan(times, assignment(schedule, times)) * 1.0002 for schedule in plan.schedules.values())


def test_the_order_of_policies_turns(asked: Asked) -> None:
    runs = planned_runs(replace(asked, batches=10, executed_rivals=5))
    firsts = [next(run.policy for run in runs if run.batch == batch) for batch in (0, 2, 4, 6, 8)]
    assert set(firsts) == set(Policy)
    assert [run.policy for run in runs if run.batch == 1] == [Policy.optimal]
    assert (runs[-1].batch, runs[-1].repeat) == (0, 1)
    assert len(runs) == 10 + 5 * 4 + 1


def test_robust_schedules_hold_when_jobs_are_late(asked: Asked, device: Known) -> None:
    made = prepare(replace(asked, batches=1, robust_budget=6.0), {"core": device}, MACHINE, quiet)
    late = made.times(0, "p90")
    best = exact(late)
    assert best is not None
    assert makespan(late, assignment(made.plan(0).schedules[Policy.optimal], late)) == pytest.approx(makespan(late, best), rel=1e-3)


def test_whatever_changes_changes_the_hash(frozen: Frozen, tmp_path: Path) -> None:
    digest = freeze(tmp_path / "a", frozen)
    assert thawed(tmp_path / "a") == (frozen, digest)
    job = frozen.jobs[0]
    told = job.on[0]
    assert told is not None
    slower = job.model_copy(update={"on": (told.model_copy(update={"p50": told.p50 * (1 + 1e-12)}), job.on[1])})
    model = frozen.models["core"]
    other = model.model_copy(update={"start_up": model.start_up.model_copy(update={"train_s": model.start_up.train_s + 1e-9})})
    plan = frozen.batches[0].model_copy(
        update={"schedules": frozen.batches[0].schedules | {Policy.fifo: Schedule(queue=(1, 0, 2, 3, 4, 5))}}
    )
    changes: list[dict[str, Any]] = [
        {"jobs": (slower, *frozen.jobs[1:])},
        {"models": {"core": other}},
        {"batches": (plan, *frozen.batches[1:])},
        {"seed": frozen.seed + 1},
        {"runs": frozen.runs[:-1]},
    ]
    hashes = {freeze(tmp_path / f"b{place}", frozen.model_copy(update=change)) for place, change in enumerate(changes)}
    assert len(hashes | {digest}) == len(changes) + 1


def test_predictions_that_changed_are_not_executed(frozen: Frozen, tmp_path: Path) -> None:
    with pytest.raises(FrozenError, match="nothing was frozen"):
        thawed(tmp_path)
    digest = freeze(tmp_path, frozen)
    with pytest.raises(FrozenError, match="frozen here already"):
        freeze(tmp_path, frozen)
    (tmp_path / RAN).write_text(made_rows(frozen, np.ones(18), sha256="another")[0].model_dump_json() + "\n", encoding="utf-8")
    with pytest.raises(FrozenError, match="other frozen predictions"):
        execute(tmp_path, frozen, digest, TWO, quiet)
    path = tmp_path / FROZEN
    text = json.loads(path.read_text(encoding="utf-8"))
    text["jobs"][0]["on"][0]["p50"] *= 1.01
    path.write_text(json.dumps(text), encoding="utf-8")
    with pytest.raises(FrozenError, match="has changed since it was frozen"):
        thawed(tmp_path)


def test_schedules_that_do_not_place_their_jobs_are_refused(frozen: Frozen) -> None:
    for schedule in (Schedule(devices=(0, 1)), Schedule(devices=(0, 1, 2, 0, 1, 0)), Schedule(queue=(0, 0, 1, 2, 3, 4))):
        plan = frozen.batches[0].model_copy(update={"schedules": frozen.batches[0].schedules | {Policy.fifo: schedule}})
        with pytest.raises(ValueError, match="does not place"):
            Frozen.model_validate(frozen.model_copy(update={"batches": (plan, *frozen.batches[1:])}).model_dump())
    with pytest.raises(ValueError, match="one of them"):
        Schedule()


# ---------------------------------------------------------------- what results say


def test_perfect_predictions_have_no_error_and_no_regret(frozen: Frozen) -> None:
    told = results(frozen, "x", made_rows(frozen, np.ones(18)), never)
    claims = told["claims"]
    assert claims["makespan_error"]["value"] == pytest.approx(0.0, abs=1e-9)
    assert claims["regret"]["value"] == pytest.approx(0.0, abs=2e-4)
    assert claims["makespan_error"]["met"]
    assert claims["regret"]["met"]
    times = [frozen.times(batch) for batch in range(3)]
    wanted = [1 - row["measured_s"] / expected_random(one) for row, one in zip(told["batches"], times, strict=True)]
    assert claims["saving"]["value"] == pytest.approx(float(np.mean(wanted)))
    assert told["noise"]["job_median"] == pytest.approx(0.0, abs=1e-12)
    assert told["noise"]["pairs_of_runs"] == 1
    assert told["forecasts"]["model"]["job_error_median"] == pytest.approx(0.0, abs=1e-9)
    assert told["forecasts"]["naive"]["job_error_median"] > 0.0
    assert told["rules"]["fifo"]["batches_executed"] == 2
    assert told["rules"]["fifo"]["executed"]["value"] >= -2e-4
    assert json.loads(json.dumps(told, allow_nan=False)) == told
    page = render(told)
    assert page.count('class="dot') == len(told["jobs"]) == 18
    assert "http" not in page.replace("http://www.w3.org", "")
    assert frozen.jobs[0].job.id in page


def test_slower_jobs_are_an_error_and_no_regret(frozen: Frozen) -> None:
    told = results(frozen, "x", made_rows(frozen, np.full(18, 1.2)), never)
    assert told["claims"]["makespan_error"]["value"] == pytest.approx(1 - 1 / 1.2)
    assert told["forecasts"]["model"]["makespan_error"] == {
        name: told["claims"]["makespan_error"][name] for name in ("value", "low", "high")
    }
    assert told["claims"]["makespan_error"]["met"] is False
    assert told["claims"]["regret"]["value"] == pytest.approx(0.0, abs=2e-4)
    assert all(row["error"] == pytest.approx(1 / 1.2 - 1) for row in told["jobs"])


def test_regret_by_hand(frozen: Frozen) -> None:
    factors = np.ones(18)
    factors[0] = 3.0
    told = results(frozen, "x", made_rows(frozen, factors), never)
    times = frozen.times(0) * factors[:6, None]
    best = exact(times)
    assert best is not None
    ours = makespan(times, np.array(frozen.plan(0).schedules[Policy.optimal].devices))
    assert told["batches"][0]["regret"] == pytest.approx(ours / makespan(times, best) - 1.0)
    assert told["batches"][0]["replayed_s"]["optimal"] == pytest.approx(told["batches"][0]["measured_s"])


def test_noise_is_flagged_and_nothing_is_claimed(frozen: Frozen) -> None:
    rows = made_rows(frozen, np.ones(18), accepted=False)
    with pytest.raises(ValueError, match="foreign_on_core 12 times"):
        results(frozen, "x", rows, never)
    told = results(frozen, "x", rows, never, lenient=True)
    assert any("too noisy" in flag for flag in told["flags"])
    assert any("lenient" in flag for flag in told["flags"])
    assert told["claims"]["regret"]["met"] is None
    with pytest.raises(ValueError, match="none ended"):
        results(frozen, "x", [], never)


def test_a_disturbed_batch_is_left_out(frozen: Frozen) -> None:
    rows: list[AnyRan] = []
    for row in made_rows(frozen, np.ones(18)):
        disturbed = isinstance(row, RunRow) and row.batch == 1
        rows.append(row.model_copy(update={"accepted": False, "reasons": ("steal",)}) if disturbed else row)
    told = results(frozen, "x", rows, never)
    assert [row["batch"] for row in told["batches"]] == [0, 2]
    assert any("1 of 3 batches" in flag for flag in told["flags"])
    assert told["runs"]["reasons"] == {"steal": 1}


def test_many_jobs_ask_a_solver_for_the_oracle(asked: Asked, device: Known) -> None:
    made = prepare(replace(asked, jobs=24, batches=1, executed_rivals=0), {"core": device}, MACHINE, quiet)

    def solved(times: Floats) -> tuple[Ints, float]:
        return np.zeros(len(times), dtype=np.int64), float(times.min(axis=1).sum() / 2)

    told = results(made, "x", made_rows(made, np.ones(24)), solved)
    assert told["batches"][0]["oracle"] == "bound"
    assert told["batches"][0]["oracle_s"] == pytest.approx(made.times(0)[:, 0].sum() / 2)


def test_intervals_are_the_same_for_the_same_seed() -> None:
    values = [0.01, 0.05, 0.02, 0.04]
    assert interval(values, np.median, 1) == interval(values, np.median, 1)
    found = interval(values, np.mean, 1)
    assert found["low"] <= found["value"] <= found["high"]
    assert interval([0.3], np.mean, 1) == {"value": 0.3, "low": 0.3, "high": 0.3}


def test_rows_that_were_cut_off(frozen: Frozen, tmp_path: Path) -> None:
    path = tmp_path / RAN
    rows = made_rows(frozen, np.ones(18))[:2]
    lines = [row.model_dump_json() for row in rows]
    path.write_text("\n".join([*lines, lines[0][:20]]), encoding="utf-8")
    assert list(read_ran(path)) == rows
    path.write_text("\n".join([lines[0][:20], *lines]) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match="line 1"):
        list(read_ran(path))


# ---------------------------------------------------------------- devices


def test_devices_are_called_what_they_are() -> None:
    core = usable_cores()[0]
    (one, two) = devices([f"core:{core}", f"core:{core}"], at_once=False)
    assert (one.name, two.name) == (f"core:{core}#1", f"core:{core}#2")
    assert "serial replay" in one.title(at_once=False)
    slots = devices(["cuda:0", "cuda:0"], cuda=True)
    assert [slot.name for slot in slots] == ["cuda:0#1", "cuda:0#2"]
    assert "one of 2 slots that share it (partition)" in slots[0].title(at_once=True)
    beside = devices(["cuda:0", f"core:{core}"], cuda=True)
    assert beside[0].cores == usable_cores()[1:]
    assert (slots[0].metric, slots[0].torch_device, slots[0].threads) == ("wall_s", "cuda", 1)
    group = Device("cores:0-3", "cores", (0, 1, 2, 3))
    assert group.title(at_once=True) == "4 cores (partition, not a GPU)"
    assert (group.metric, group.threads) == ("wall_s", 4)


@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ([], "no device"),
        (["gpu"], "is no device"),
        (["cores:1-0"], "is no device"),
        (["core:0", "core:0"], "given twice"),
        (["core:4096"], "this process may use the cores"),
        (["cores:0-4096"], "this process may use the cores"),
        (["cuda:0"], "no CUDA GPU"),
    ],
)
def test_devices_that_are_not_there(texts: list[str], says: str) -> None:
    with pytest.raises(UnknownDeviceError, match=says):
        devices(texts, cuda=False)


def test_one_core_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.measure.validate_devices.usable_cores", lambda: (0,))
    with pytest.raises(UnknownDeviceError, match="--serial-replay"):
        devices(["core:0", "core:1"])


def test_a_job_that_fits_nowhere(asked: Asked, device: Known) -> None:
    tiny = device.calibration.device.model_copy(update={"memory_gib": 1e-6})
    small = Known(device.calibration.model_copy(update={"device": tiny}), device.records)
    with pytest.raises(ValueError, match="fits into the memory of no device"):
        prepare(asked, {"core": small}, MACHINE, quiet)


def test_different_devices_are_told_apart(asked: Asked, device: Known) -> None:
    fast = device.calibration.device
    fast = fast.with_values({path: 4 * one.value for path, one in fast.coefficients().items() if path.startswith(("peak", "bandwidth"))})
    other = Known(device.calibration.model_copy(update={"device": fast}), ())
    pair_of_kinds = (TWO[0], Device("cores:0-1", "cores", (0, 1)))
    made = prepare(replace(asked, devices=pair_of_kinds, batches=1, at_once=False), {"core": device, "cores": other}, MACHINE, quiet)
    times = made.times(0)
    assert (times[:, 1] < times[:, 0]).any()
    told = results(made, "x", made_rows(made, np.full(6, 1.1)), never)
    assert told["batches"][0]["error"] != 0.0
    assert set(told["forecasts"]) == {"model"}  # one kind has no records: simpler forecasts say nothing of it
    assert any("serial replay" in flag for flag in told["flags"])
