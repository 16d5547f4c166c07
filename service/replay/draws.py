"""What a seed decides: which jobs come and when, what is estimated of them, which nodes fail. The policy decides none of it.

So policies meet the same jobs, estimates and failures, seed by seed (common random numbers), and are compared pair by pair.
Each thing is drawn from a stream of its own: a policy, or a wish about one of them, changes nothing of the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from models.placement.online.state import MILLI
from service.replay import outages
from service.replay.engine import Case, Costs
from service.replay.jobs import ReplayError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from models.placement.online.state import Cluster
    from service.replay.jobs import Trace, TraceJob
    from service.replay.outages import Outage

HOUR_S = 3600.0
Chosen = TypeVar("Chosen", bound=StrEnum)


class Arrivals(StrEnum):
    """When jobs come: as in the trace, or after exponential gaps with jobs drawn from the trace with replacement."""

    recorded = "recorded"
    poisson = "poisson"


class Estimates(StrEnum):
    """What a queue knows of durations.

    exact: the duration. noisy: times a log-normal factor of median 1 whose logarithm has the given deviation. limit: a user's
    limit, uniform between the duration and (1 + f) times the duration (Mu'alem and Feitelson, 2001).
    """

    exact = "exact"
    noisy = "noisy"
    limit = "limit"


USUAL_ERROR = {Estimates.exact: 0.0, Estimates.noisy: 0.5, Estimates.limit: 2.0}


@dataclass(frozen=True, slots=True)
class Wish:
    """What to make of a trace. ``jobs``: how many come (None: all). ``load``: work per GPU and second while jobs come.

    ``error``: the deviation of ``noisy``, the f of ``limit``. ``mean_up_h`` None: no node fails but those in ``outages``.
    """

    jobs: int | None = None
    arrivals: Arrivals = Arrivals.recorded
    load: float | None = None
    estimates: Estimates = Estimates.exact
    error: float | None = None
    mean_up_h: float | None = None
    mean_down_h: float = 4.0
    longest_s: float | None = None
    outages: tuple[Outage, ...] = ()
    costs: Costs = field(default_factory=Costs)

    def __post_init__(self) -> None:
        """Raises ReplayError for numbers that make no sense, by the names of their options."""
        positive = {"--load": self.load, "--mean-up-h": self.mean_up_h, "--mean-down-h": self.mean_down_h, "--longest-h": self.longest_s}
        for name, value in positive.items():
            if value is not None and not 0 < value < math.inf:
                raise ReplayError(f"{name}: must be a number above 0, not {value:g}; correct it")
        not_negative = {
            "--estimate-error": self.error or 0.0,
            "--restart-s": self.costs.restart_s,
            "--move-s": self.costs.move_s,
            "--checkpoint-h": self.costs.checkpoint_s,
        }
        for name, value in not_negative.items():
            if not value >= 0 or (math.isinf(value) and name != "--checkpoint-h"):
                raise ReplayError(f"{name}: must be a number of 0 or more, not {value:g}; correct it")
        if self.error is not None and self.estimates is Estimates.exact:
            raise ReplayError("--estimate-error: exact estimates have none; leave it out, or give --estimates noisy or limit")
        if self.mean_up_h is not None and self.outages:
            raise ReplayError("--mean-up-h and --outages: failures are drawn or given; leave one of the two out")

    def as_json(self) -> dict[str, Any]:
        """What decides a replay beside the files, as plain JSON; infinity is null."""
        return {
            "jobs": self.jobs,
            "arrivals": self.arrivals.value,
            "load": self.load,
            "estimates": self.estimates.value,
            "estimate_error": USUAL_ERROR[self.estimates] if self.error is None else self.error,
            "longest_s": self.longest_s,
            "mean_up_h": self.mean_up_h,
            "mean_down_h": self.mean_down_h if self.mean_up_h is not None else None,
            "given_outages": len(self.outages),
            "checkpoint_s": None if math.isinf(self.costs.checkpoint_s) else self.costs.checkpoint_s,
            "restart_s": self.costs.restart_s,
            "move_s": self.costs.move_s,
        }

    @property
    def random(self) -> bool:
        """Whether two seeds can differ at all."""
        drawn = self.arrivals is Arrivals.poisson or self.jobs is not None or self.mean_up_h is not None
        return drawn or self.estimates is not Estimates.exact


def choice(kind: type[Chosen], option: str, text: str) -> Chosen:
    """The member called ``text``. Raises ReplayError."""
    try:
        return kind(text)
    except ValueError:
        raise ReplayError(f"{option} {text[:40]}: there is no such choice; take one of {', '.join(kind)}") from None


def drawn(trace: Trace, cluster: Cluster, wish: Wish, seed: int) -> Case:
    """The case of this seed.

    Raises ReplayError for more recorded jobs than the trace has, and for a load that the arrivals cannot be stretched to.
    """
    streams = [np.random.default_rng([seed, stream]) for stream in range(3)]
    pool = trace.jobs
    if wish.longest_s is not None:
        pool = tuple(replace(job, duration_s=min(job.duration_s, wish.longest_s)) for job in pool)
    jobs = _poisson(trace, pool, wish, streams[0]) if wish.arrivals is Arrivals.poisson else _recorded(trace, pool, wish, streams[0])
    if wish.load is not None:
        jobs = _at_load(trace.name, jobs, cluster, wish.load)
    failing: Iterable[Outage] = wish.outages
    if wish.mean_up_h is not None:
        failing = outages.drawn(len(cluster.nodes), wish.mean_up_h * HOUR_S, wish.mean_down_h * HOUR_S, streams[2])
    return Case(jobs, _estimates(jobs, wish, streams[1]), failing, wish.costs)


def work_gpu_s(job: TraceJob, models: Sequence[str]) -> float:
    """GPU seconds of a job on the fastest GPUs that it accepts."""
    return job.gpus * job.duration_s / job.speed_range(models)[1]


def offered_load(jobs: Sequence[TraceJob], cluster: Cluster) -> float:
    """Work per GPU and second between the first and the last arrival; infinite where all come at once."""
    span_s = jobs[-1].arrival_s - jobs[0].arrival_s
    work = sum(work_gpu_s(job, cluster.models) for job in jobs)
    capacity = cluster.total_milli() / MILLI * span_s
    return work / capacity if capacity else float("inf")


def _recorded(trace: Trace, pool: Sequence[TraceJob], wish: Wish, draw: np.random.Generator) -> list[TraceJob]:
    """All jobs, or so many that follow each other, from a place that is drawn."""
    if wish.jobs is None or wish.jobs == len(pool):
        return list(pool)
    if wish.jobs > len(pool):
        raise ReplayError(
            f"{trace.name}: has {len(pool):,} jobs and {wish.jobs:,} are asked for; ask for fewer, or draw them with --arrivals poisson"
        )
    first = int(draw.integers(len(pool) - wish.jobs + 1))
    chosen = pool[first : first + wish.jobs]
    return [replace(job, arrival_s=job.arrival_s - chosen[0].arrival_s) for job in chosen]


def _poisson(trace: Trace, pool: Sequence[TraceJob], wish: Wish, draw: np.random.Generator) -> list[TraceJob]:
    """Jobs drawn with replacement, after exponential gaps with the mean gap of the trace."""
    count = wish.jobs or len(pool)
    span_s = pool[-1].arrival_s - pool[0].arrival_s
    if span_s == 0 and wish.load is None:
        raise ReplayError(f"{trace.name}: all jobs come at once, which tells no rate of arrivals; give one with --load")
    mean_gap_s = span_s / max(len(pool) - 1, 1) or 1.0
    times = np.concatenate([[0.0], np.cumsum(draw.exponential(mean_gap_s, count - 1))])
    chosen = draw.integers(len(pool), size=count)
    return [
        replace(pool[at], arrival_s=float(time), request=replace(pool[at].request, id=f"{pool[at].request.id}#{number}"))
        for number, (at, time) in enumerate(zip(chosen, times, strict=True))
    ]


def _at_load(name: str, jobs: list[TraceJob], cluster: Cluster, load: float) -> list[TraceJob]:
    """The same jobs with all gaps stretched alike, so that the offered load is ``load``."""
    now = offered_load(jobs, cluster)
    if not 0 < now < float("inf"):
        raise ReplayError(
            f"{name}: its arrivals cannot be stretched to a load, as all jobs come at once or none uses a GPU; leave out --load"
        )
    return [replace(job, arrival_s=job.arrival_s * now / load) for job in jobs]


def _estimates(jobs: Sequence[TraceJob], wish: Wish, draw: np.random.Generator) -> list[float]:
    durations = np.array([job.duration_s for job in jobs])
    error = USUAL_ERROR[wish.estimates] if wish.error is None else wish.error
    if wish.estimates is Estimates.noisy:
        durations = durations * np.exp(draw.normal(0.0, error, len(jobs)))
    elif wish.estimates is Estimates.limit:
        durations = durations * draw.uniform(1.0, 1.0 + error, len(jobs))
    found: list[float] = durations.tolist()
    return found
