"""Intervals of whole jobs: the sum of their parts' errors, and what a pilot's left-out jobs add to them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.runtime.calibration.predict import predicted
from models.runtime.evaluation.whole_jobs import Doubts, Parts, log_spread, percentiles, widening
from models.runtime.prediction.predict import predict
from service.measure.validate_frozen import Frozen, thawed
from service.measure.validate_times import PilotJob, SlowDown, pilot_slow_down
from tests.models.runtime_devices import plain_device
from tests.models.test_runtime_predict import MLP

MEASURED = Path(__file__).resolve().parents[2] / "benchmarks" / "measured" / "2026-11-21-amd-epyc-validation"
SECONDS = st.floats(1e-3, 1e3)
DOUBT = st.floats(0.0, 0.5)


def one(value: float) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    return np.array([value])


@given(SECONDS, SECONDS, SECONDS, DOUBT, DOUBT, DOUBT, DOUBT)
def test_the_spread_lies_between_that_of_its_parts(
    start_s: float, steps_s: float, end_s: float, start: float, step: float, slow_down: float, end: float
) -> None:
    parts = Parts(one(start_s), one(steps_s), one(end_s))
    found = float(log_spread(parts, Doubts(start, step, slow_down, end))[0])
    assert found <= max(start, math.hypot(step, slow_down), end) + 1e-12
    assert found >= steps_s * slow_down / (start_s + steps_s + end_s) - 1e-12
    low, middle, high = (float(value[0]) for value in percentiles(parts, Doubts(start, step, slow_down, end), 1.5))
    assert low <= middle <= high
    assert low * high == pytest.approx(middle**2)


def test_the_spread_is_that_of_draws() -> None:
    rng = np.random.default_rng(1)
    draws = 2.0 * np.exp(0.04 * rng.standard_normal(200_000)) + 1.5 * np.exp(math.hypot(0.05, 0.03) * rng.standard_normal(200_000)) + 0.7
    told = log_spread(Parts(one(2.0), one(1.5), one(0.7)), Doubts(0.04, 0.05, 0.03))
    assert told[0] == pytest.approx(np.log(draws).std(), rel=0.02)


def test_a_job_of_one_part_has_its_doubt_and_an_empty_one_none() -> None:
    told = log_spread(Parts(np.array([3.0, 0.0]), np.zeros(2), np.zeros(2)), Doubts(0.1, 0.2))
    assert told == pytest.approx([0.1, 0.0])
    with pytest.raises(ValueError, match="at least 0"):
        log_spread(Parts(one(-1.0), one(1.0), one(0.0)), Doubts(0.1, 0.1))
    with pytest.raises(ValueError, match="at least 0"):
        log_spread(Parts(one(1.0), one(1.0), one(0.0)), Doubts(0.1, math.nan))


def test_widening_is_the_held_out_score_and_never_narrows() -> None:
    predicted_s, spread = np.full(9, 10.0), np.full(9, 0.05)
    assert widening(predicted_s, predicted_s, spread) == 1.0
    off = np.exp(0.05 * np.arange(1, 10))
    assert widening(10.0 * off, predicted_s, spread) == pytest.approx(8 / 1.28155, rel=1e-4)  # the 8th of nine
    with pytest.raises(ValueError, match="positive"):
        widening(np.zeros(9), predicted_s, spread)


def test_the_spread_of_a_slow_down_widens_the_run_and_not_the_step() -> None:
    job = MLP.model_copy(update={"steps": 100_000})
    calm, doubtful = predict(job, plain_device(), slow_down=1.2), predict(job, plain_device(), slow_down=1.2, slow_down_log_sd=0.2)
    assert doubtful.step_s == calm.step_s
    assert doubtful.total_s.p50 == calm.total_s.p50
    assert doubtful.total_s.p90 / doubtful.total_s.p10 > 1.2 * calm.total_s.p90 / calm.total_s.p10
    with pytest.raises(ValueError, match="spread of a slow-down"):
        predict(MLP, plain_device(), slow_down_log_sd=-0.1)


def told_of(frozen: Frozen, slow: SlowDown, row: PilotJob) -> tuple[Parts, Doubts]:
    """What a slow-down says of a pilot job."""
    model = frozen.models["core"]
    step = predicted(row.job, model.calibration).step
    parts = Parts(one(slow.start * row.start_alone_s), one(slow.of_step(row.job) * row.steps_alone_s), one(slow.end_s(row.job)))
    ends = np.log([other.end_s / slow.end_s(other.job) for other in frozen.pilot])
    end = 1.4826 * float(np.median(np.abs(ends - np.median(ends))))
    return parts, Doubts(max(model.start_up.log_sd, slow.start_log_sd), math.log(step.p90 / step.p50) / 1.28155, slow.step_log_sd, end)


@pytest.mark.skipif(not MEASURED.is_dir(), reason="the measured schedules are not in this checkout")
def test_whole_jobs_that_ran_lie_in_intervals_that_the_pilot_widened() -> None:
    """The committed run: its frozen p10 to p90 held 65% of the jobs. The pilot alone, which ran before, would have told the width."""
    frozen, _ = thawed(MEASURED)
    held = []
    for place, row in enumerate(frozen.pilot):
        parts, doubts = told_of(frozen, pilot_slow_down([*frozen.pilot[:place], *frozen.pilot[place + 1 :]]), row)
        held.append((row.start_s + row.steps_s + row.end_s, float(parts.total_s[0]), float(log_spread(parts, doubts)[0])))
    wider = widening(*np.array(held).T)
    model = frozen.models["core"]
    slow = model.slow_down
    rows = [json.loads(line) for line in (MEASURED / "ran.jsonl").read_text(encoding="utf-8").splitlines()]
    inside, before, widths = [], [], []
    for row in rows:
        if row["row"] != "job" or row["policy"] != "optimal" or row["repeat"]:
            continue
        planned = frozen.of(row["batch"])[row["job"]]
        told = planned.on[row["device"]]
        assert told is not None
        end_s = slow.end_s(planned.job)
        parts = Parts(one(told.start_up_s - end_s), one(told.p50 - told.start_up_s), one(end_s))
        step = predicted(planned.job, model.calibration).step
        doubts = Doubts(max(model.start_up.log_sd, slow.start_log_sd), math.log(step.p90 / step.p50) / 1.28155, slow.step_log_sd, 0.06)
        low, _, high = (float(value[0]) for value in percentiles(parts, doubts, wider))
        inside.append(low <= row["cpu_s"] <= high)
        before.append(told.p10 <= row["cpu_s"] <= told.p90)
        widths.append(high / low)
    assert len(inside) == 240
    assert 0.6 < np.mean(before) < 0.7
    assert 0.8 <= np.mean(inside) <= 0.96
    assert np.median(widths) < 1.3
