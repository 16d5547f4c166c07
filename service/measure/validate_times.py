"""How long a whole job takes, from the start of its process to its end: start-up, steps, and what busy neighbours cost.

    T = start_slow_down * start_up(mode, parameters, step) + step_slow_down(family) * (steps - 1) * step + end(mode)

Start-up (libraries, network, optimiser, first step) is fitted to the measured jobs of the records, which ran alone: a constant for training
and one for inference, and so much for each parameter and for the first step. The slow-downs and the end (half a second of CPU in which a
process with torch gives back what it holds) come from a pilot: other jobs, run on all devices at once before anything is frozen. The
slow-downs hold what neighbours cost, and how the machine differs today from the day of the records. Without a pilot the step's slow-down is
that of the measured pairs on two cores, and the end is not known.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from models.runtime.calibration.ladder import Calibration, work_of
from models.runtime.calibration.predict import predicted
from models.runtime.evaluation.baselines import LogRidge, best_rate, plain_features
from models.runtime.evaluation.whole_jobs import Doubts, Parts, log_spread, percentiles, widening
from models.runtime.job import Family, JobSpec, Mode
from models.runtime.prediction.predict import NORMAL_P90
from models.runtime.records import PairRecord, Record, Sharing
from models.vocabulary import Count, Document, PositiveQuantity, Quantity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.program import Floats
    from models.runtime.evaluation.uncertainty import Interval

MAD_OF_NORMAL = 1.4826
LEAST_LOG_SD = 0.005  # of a whole job
UNKNOWN_LOG_SD = 0.15  # of a start-up that no record tells of
FAMILY_PRIOR = 1.0  # jobs: as much as the factors of families are thought to differ, single jobs of one family do
ROUNDS, HUBER = 20, 1.5
MILLION = 1e6


class StartUp(Document):
    """Seconds before the second step: a constant for each kind of job, and slopes. ``log_sd`` is what it leaves."""

    train_s: Quantity
    infer_s: Quantity
    million_parameters_s: Quantity = Field(description="Seconds for each million parameters.")
    first_step: Quantity = Field(description="Length of the first step, in steps.")
    log_sd: Quantity
    jobs: int = Field(ge=0, description="Measured jobs that it was fitted to; 0: taken from the device's description.")

    def seconds(self, job: JobSpec, step_s: float) -> float:
        """Of one job whose step takes ``step_s``."""
        fixed = self.train_s if job.training else self.infer_s
        return fixed + self.million_parameters_s * work_of(job).parameters / MILLION + self.first_step * step_s


class PilotJob(Document):
    """A job of the pilot: seconds measured beside others of its start-up, its steps and its end, and predicted alone of the first two."""

    job: JobSpec
    device: Count
    start_s: PositiveQuantity
    start_alone_s: PositiveQuantity
    steps_s: PositiveQuantity
    steps_alone_s: PositiveQuantity
    end_s: Quantity


class SlowDown(Document):
    """What running beside others costs, as factors, with the spread that single jobs show around them; and the end of a process."""

    start: PositiveQuantity = 1.0
    step: PositiveQuantity = Field(default=1.0, description="Of families that were not met.")
    step_by_family: dict[Family, PositiveQuantity] = Field(default_factory=dict)
    end_train_s: Quantity = 0.0
    end_infer_s: Quantity = 0.0
    start_log_sd: Quantity = 0.0
    step_log_sd: Quantity = 0.0
    end_log_sd: Quantity = 0.0
    widening: PositiveQuantity = Field(default=1.0, description="Of p10 to p90, by pilot jobs that were left out when it was fitted.")
    jobs: int = Field(default=0, ge=0, description="Pilot jobs or pairs it was fitted to.")
    source: str = "assumed: none"

    def of_step(self, job: JobSpec) -> float:
        """The factor of a job's steps."""
        return self.step_by_family.get(job.family, self.step)

    def end_s(self, job: JobSpec) -> float:
        """Seconds from a job's last step to the end of its process."""
        return self.end_train_s if job.training else self.end_infer_s


class Seconds(Document):
    """Seconds of a whole job on one device: percentiles, its parts at the median, and what simpler forms say."""

    p10: PositiveQuantity
    p50: PositiveQuantity
    p90: PositiveQuantity
    start_up_s: Quantity = Field(description="With the end of the process.")
    step_s: PositiveQuantity
    naive_s: PositiveQuantity | None = Field(default=None, description="The same start-up, and FLOPs over the best constant rate.")
    ridge_s: PositiveQuantity | None = Field(default=None, description="The same start-up, and steps by log-ridge regression.")
    extrapolated: bool = False


class Model(Document):
    """Everything a prediction for one kind of device needs, but the records it came from."""

    calibration: Calibration
    start_up: StartUp
    slow_down: SlowDown = SlowDown()


def start_up_of(known: Calibration, rows: Sequence[Record], metric: str) -> StartUp:
    """Start-up by robust least squares (Huber's weights) on the jobs' records; from the device's constants where these are fewer than 6."""
    kept = [row for row in rows if row.accepted and row.start_up is not None and row.timing is not None]
    if len(kept) < 6:  # noqa: PLR2004  (four coefficients)
        return _described(known)
    taken = np.array([getattr(row.start_up, metric) for row in kept])
    table = np.array(
        [
            [
                float(row.job.training),
                float(not row.job.training),
                work_of(row.job, row.work).parameters / MILLION,
                row.seconds or 0.0,
            ]
            for row in kept
        ]
    )
    found = _robust(table, taken)
    left = np.log(taken / np.maximum(table @ found, 1e-9))
    either = float(found[:2].max())
    train, infer = (float(value) if table[:, place].any() else either for place, value in enumerate(found[:2]))
    spread = float(np.median(np.abs(left - np.median(left)))) * MAD_OF_NORMAL
    return StartUp(
        train_s=train, infer_s=infer, million_parameters_s=float(found[2]), first_step=float(found[3]), log_sd=spread, jobs=len(kept)
    )


def pairs_slow_down(rows: Sequence[PairRecord]) -> SlowDown:
    """The median slow-down of the accepted pairs on two cores; none without such pairs."""
    found = [side for row in rows if row.accepted and row.sharing is Sharing.two_cores for side in row.slow_downs or ()]
    if not found:
        return SlowDown()
    logs = np.log(found)
    return SlowDown(
        step=max(1.0, float(np.exp(np.median(logs)))), step_log_sd=_spread(logs), jobs=len(found) // 2, source="pairs on two cores"
    )


def pilot_slow_down(rows: Sequence[PilotJob]) -> SlowDown:
    """From pilot jobs; none without any. A family's factor is drawn to that of all: n of its jobs count as n against FAMILY_PRIOR."""
    if not rows:
        return SlowDown()
    starts = np.log([row.start_s / row.start_alone_s for row in rows])
    steps = np.log([row.steps_s / row.steps_alone_s for row in rows])
    common = float(np.median(steps))
    families = np.array([row.job.family.value for row in rows])
    drawn = {}
    for family in dict.fromkeys(row.job.family for row in rows):
        own = steps[families == family.value]
        drawn[family] = common + float((own - common).sum()) / (len(own) + FAMILY_PRIOR)
    left = steps - np.array([drawn[row.job.family] for row in rows])
    ends = {training: [row.end_s for row in rows if row.job.training is training] for training in (True, False)}
    train, infer = (float(np.median(ends[training] or ends[not training])) for training in (True, False))
    return SlowDown(
        start=math.exp(float(np.median(starts))),
        step=math.exp(common),
        step_by_family={family: math.exp(value) for family, value in drawn.items()},
        end_train_s=train,
        end_infer_s=infer,
        start_log_sd=_spread(starts),
        step_log_sd=_spread(left),
        end_log_sd=_spread(np.log([max(1e-6, row.end_s) / max(1e-6, train if row.job.training else infer) for row in rows])),
        jobs=len(rows),
        source="pilot",
    )


def widened(slow: SlowDown, rows: Sequence[PilotJob], model: Model) -> SlowDown:
    """The slow-down with intervals as wide as whole pilot jobs ask for, each left out in turn when the slow-down is fitted.

    The spreads of the parts alone are too narrow: a slow-down of few jobs is itself unsure, and its errors are common to all later jobs.
    """
    if len(rows) < 2:  # noqa: PLR2004  (one is left out)
        return slow
    measured, predicted_s, spreads = [], [], []
    for place, row in enumerate(rows):
        rest = pilot_slow_down([*rows[:place], *rows[place + 1 :]])
        steps = rest.of_step(row.job) * row.steps_alone_s
        told = Parts(np.array([rest.start * row.start_alone_s]), np.array([steps]), np.array([rest.end_s(row.job)]))
        measured.append(row.start_s + row.steps_s + row.end_s)
        predicted_s.append(float(told.total_s[0]))
        spreads.append(max(LEAST_LOG_SD, float(log_spread(told, _doubts(model, rest, predicted(row.job, model.calibration).step))[0])))
    return slow.model_copy(update={"widening": widening(np.array(measured), np.array(predicted_s), np.array(spreads))})


def _doubts(model: Model, slow: SlowDown, step: Interval) -> Doubts:
    return Doubts(
        start=max(model.start_up.log_sd, slow.start_log_sd),
        step=math.log(step.p90 / step.p50) / NORMAL_P90,
        slow_down=slow.step_log_sd,
        end=slow.end_log_sd,
    )


def job_seconds(job: JobSpec, model: Model) -> Seconds:
    """The whole job. Raises ValueError for a job that the model cannot tell of."""
    found = predicted(job, model.calibration)
    step, slow = found.step, model.slow_down
    start = slow.start * model.start_up.seconds(job, step.p50) + slow.end_s(job)
    steps = (job.steps - 1) * slow.of_step(job)
    told = Parts(np.array([start - slow.end_s(job)]), np.array([steps * step.p50]), np.array([slow.end_s(job)]))
    low, middle, high = (float(one[0]) for one in percentiles(told, _doubts(model, slow, step), slow.widening))
    return Seconds(
        p10=max(1e-9, low),
        p50=middle,
        p90=high,
        start_up_s=start,
        step_s=slow.of_step(job) * step.p50,
        extrapolated=found.prediction.extrapolated,
    )


def simple_steps(rows: Sequence[Record], jobs: Sequence[JobSpec]) -> tuple[Floats, Floats] | None:
    """Seconds of a step of each job by FLOPs over the best constant rate, and by log-ridge, both fitted to the records; None without."""
    kept = [row for row in rows if row.accepted and row.seconds]
    if len(kept) < 2 or not jobs:  # noqa: PLR2004  (a regression)
        return None
    seconds = np.array([row.seconds for row in kept])
    works, asked = [work_of(row.job, row.work) for row in kept], [work_of(job) for job in jobs]
    rate = best_rate(np.array([work.flops for work in works]), seconds)
    ridge = LogRidge.fit(plain_features([row.job for row in kept], works), seconds)
    return np.array([work.flops for work in asked]) / rate, ridge.predict(plain_features(jobs, asked))


def _described(known: Calibration) -> StartUp:
    values = {start.mode: start.seconds.value for start in known.device.start_up_s}
    infer = values.get(Mode.prefill, values.get(Mode.decode, 0.0))
    doubt = known.scores.start_up_log_sd or UNKNOWN_LOG_SD
    return StartUp(train_s=values.get(Mode.train, infer), infer_s=infer, million_parameters_s=0.0, first_step=0.0, log_sd=doubt, jobs=0)


def _robust(table: Floats, taken: Floats) -> Floats:
    """Non-negative coefficients (K,) of ``table`` (N, K) for ``taken`` (N,): Huber's weights on relative errors, negative ones set to 0."""
    weights = 1.0 / taken
    found = np.zeros(table.shape[1])
    kept = np.arange(table.shape[1])
    for _ in range(ROUNDS):
        solved = np.linalg.lstsq(table[:, kept] * weights[:, None], taken * weights, rcond=None)[0]
        while (solved < 0).any():
            kept = kept[solved >= 0]
            solved = np.linalg.lstsq(table[:, kept] * weights[:, None], taken * weights, rcond=None)[0]
        found[:] = 0.0
        found[kept] = solved
        errors = np.abs(table @ found - taken) / taken
        scale = max(1e-6, float(np.median(errors)) * MAD_OF_NORMAL)
        weights = np.sqrt(np.minimum(1.0, HUBER * scale / np.maximum(errors, 1e-12))) / taken
    return found


def _spread(logs: Floats) -> float:
    return float(np.median(np.abs(logs - np.median(logs)))) * MAD_OF_NORMAL
