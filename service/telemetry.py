"""What the service tells of itself: every metric of ``/metrics`` is made here, and ``service/README.md`` lists them all.

Workers and the API call the plain methods; nobody else touches the library. Counters count in one process, and Prometheus
adds the processes up. What all processes see alike, such as the queue, is read from the database at each scrape.
"""

from __future__ import annotations

import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from service.errors import ServiceError
from service.runs import queries
from service.tracing import Tracing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection

    from service.runs.database import Database

LATE_S = 1.0  # what the service promises: an answer at most so long after the time limit
RUN_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600)
WAIT_SECONDS = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1_800, 3_600)
REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
GAPS = (0.0, 1e-6, 1e-4, 1e-3, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1)
BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
WRITE_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
KILL_REASONS = ("deadline", "cancelled", "memory", "crash")
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
FAILED = 500
UNMATCHED = "unmatched"  # the route of a request that no route took: paths are the caller's choice and must not become labels


class Telemetry:
    """The metrics of one process, and the door to its traces."""

    def __init__(self, tracing: Tracing | None = None) -> None:
        self.tracing = tracing if tracing is not None else Tracing()
        disable_created_metrics()  # type: ignore[no-untyped-call]  # when each series began: a third of the page, read by nobody
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        Info("quartermaster_build", "Version that runs.", registry=self.registry).info({"version": _version()})
        self._make_metrics_of_runs()
        self._make_metrics_of_requests()

    def _make_metrics_of_runs(self) -> None:
        here = self.registry
        self._run_seconds = Histogram(
            "quartermaster_run_seconds", "Seconds from claim to answer.", ["kind", "outcome"], buckets=RUN_SECONDS, registry=here
        )
        self._ended = Counter("quartermaster_runs_ended", "Runs that ended.", ["kind", "outcome", "stop_reason"], registry=here)
        self._wait_seconds = Histogram(
            "quartermaster_queue_wait_seconds", "Seconds a run waited before it was claimed first.", buckets=WAIT_SECONDS, registry=here
        )
        self._gap = Histogram("quartermaster_run_gap", "Gap of the answers that have one.", ["kind"], buckets=GAPS, registry=here)
        self._misses = Counter(
            "quartermaster_deadline_misses", "Runs answered more than 1 s after their time limit.", ["kind"], registry=here
        )
        self._kills = Counter("quartermaster_child_kills", "Children that were killed or crashed.", ["reason"], registry=here)
        for reason in KILL_REASONS:
            self._kills.labels(reason)  # an alert needs the zero before the first one
        self._verify_failures = Counter("quartermaster_verify_failures", "Plans that the independent check refused.", registry=here)
        self._leases_lost = Counter("quartermaster_leases_lost", "Runs of this worker that were given to another.", registry=here)
        self._leases_expired = Counter("quartermaster_leases_expired", "Runs that this worker took from one that is lost.", registry=here)
        self._handed_back = Counter("quartermaster_leases_handed_back", "Runs returned to the queue by a stopping worker.", registry=here)
        self._slots = Gauge("quartermaster_worker_slots", "Runs that the worker of this process can solve at a time.", registry=here)

    def _make_metrics_of_requests(self) -> None:
        here = self.registry
        self._requests = Counter("quartermaster_http_requests", "Answered requests.", ["route", "method", "status"], registry=here)
        self._failures = Counter("quartermaster_http_failures", "Requests that failed by our own fault (status 500).", registry=here)
        self._request_seconds = Histogram(
            "quartermaster_http_request_seconds",
            "Seconds to the end of the answer.",
            ["route", "method"],
            buckets=REQUEST_SECONDS,
            registry=here,
        )
        self._accepted = Counter("quartermaster_runs_accepted", "Runs that were accepted.", ["kind"], registry=here)
        self._cache_hits = Counter("quartermaster_cache_hits", "Accepted runs that were answered from the cache.", ["kind"], registry=here)
        self._rate_limited = Counter("quartermaster_rate_limited", "Requests refused because their rate was used up.", registry=here)
        self._batch_size = Histogram(
            "quartermaster_database_write_operations", "Operations in one database transaction.", buckets=BATCH_SIZES, registry=here
        )
        self._write_seconds = Histogram(
            "quartermaster_database_write_seconds",
            "Seconds of one database transaction with its commit.",
            buckets=WRITE_SECONDS,
            registry=here,
        )

        self._waiting = Gauge("quartermaster_waiting_requests", "Requests and event streams that wait for a run.", registry=here)

    # ------------------------------------------------------------ called by the worker

    def run_claimed(self, waited_s: float) -> None:
        """A run left the queue for the first time."""
        self._wait_seconds.observe(max(waited_s, 0.0))

    def run_ended(self, kind: str, outcome: str, stop_reason: str, seconds: float, limit_s: float, gap: float | None) -> None:
        """A run was answered ``seconds`` after its claim; ``gap`` is None where there is none."""
        self._run_seconds.labels(kind, outcome).observe(seconds)
        self._ended.labels(kind, outcome, stop_reason).inc()
        misses = self._misses.labels(kind)  # also when it is in time: an alert needs the zero before the first miss
        if seconds > limit_s + LATE_S:
            misses.inc()
        if gap is not None:
            self._gap.labels(kind).observe(gap)

    def child_killed(self, reason: str) -> None:
        """A child was ended: deadline, cancelled, memory or crash."""
        self._kills.labels(reason).inc()

    def verify_failed(self) -> None:
        """A plan was found and broke a rule: it was not handed out."""
        self._verify_failures.inc()

    def lease_lost(self) -> None:
        """A run of this worker was given to another."""
        self._leases_lost.inc()

    def lease_expired(self) -> None:
        """This worker took a run from one that is lost."""
        self._leases_expired.inc()

    def lease_handed_back(self) -> None:
        """This worker stops and returned a run."""
        self._handed_back.inc()

    def worker_started(self, slots: int) -> None:
        """A worker with so many slots serves in this process."""
        self._slots.set(slots)

    def worker_stopped(self) -> None:
        """It serves no more."""
        self._slots.set(0)

    # ------------------------------------------------------------ called by the API and the database

    def request_ended(self, route: str | None, method: str, status: int, seconds: float) -> None:
        """A request was answered; ``route`` is the route's template, such as ``/v1/runs/{id}``, None when no route took it."""
        route = route if route is not None else UNMATCHED
        method = method if method in METHODS else "other"
        self._requests.labels(route, method, str(status)).inc()
        self._request_seconds.labels(route, method).observe(seconds)
        if status == FAILED:
            self._failures.inc()

    def run_accepted(self, kind: str, *, cached: bool) -> None:
        """A run was accepted, and perhaps answered at once from the cache."""
        self._accepted.labels(kind).inc()
        hits = self._cache_hits.labels(kind)
        if cached:
            hits.inc()

    def count_waiting(self, waiting: Callable[[], float]) -> None:
        """Show how many requests wait, as ``waiting`` says at each scrape."""
        self._waiting.set_function(waiting)

    def rate_limited(self) -> None:
        """A request was refused because its rate was used up."""
        self._rate_limited.inc()

    def written(self, operations: int, seconds: float) -> None:
        """One transaction of the database's writer was committed."""
        self._batch_size.observe(operations)
        self._write_seconds.observe(seconds)

    # ------------------------------------------------------------ the page

    def watch(self, database: Database) -> None:
        """Show the queue of this database, read anew at each scrape, and how it is written to."""
        self.registry.register(_Queue(database))
        database.on_commit = self.written

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The body of ``/metrics`` and its content type, in the form that the Accept header prefers. Reads the database: not for a loop."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type

    def close(self) -> None:
        """Send what traces are still to be sent."""
        self.tracing.close()


class _Queue(Collector):
    """The queue as the database has it now."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def describe(self) -> list[GaugeMetricFamily]:
        """The names alone: registering must not read the database."""
        return list(self._families())

    @staticmethod
    def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily, GaugeMetricFamily]:
        return (
            GaugeMetricFamily("quartermaster_runs", "Runs that are not finished, by state.", labels=["state"]),
            GaugeMetricFamily("quartermaster_queue_oldest_seconds", "How long the run that waits longest has waited; 0 when none waits."),
            GaugeMetricFamily("quartermaster_database_up", "Whether the database answers: 1 or 0."),
        )

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The figures; only that the database does not answer, when it does not."""
        runs, oldest, up = self._families()
        try:
            depths, oldest_at = self._database.read(_depths)
        except ServiceError:
            up.add_metric([], 0)
            yield up
            return
        for state, count in depths.items():
            runs.add_metric([state], count)
        oldest.add_metric([], max(time.time() - oldest_at, 0.0) if oldest_at is not None else 0.0)
        up.add_metric([], 1)
        yield from (runs, oldest, up)


def _depths(connection: Connection) -> tuple[dict[str, int], float | None]:
    return queries.depth_by_state(connection), queries.oldest_queued_at(connection)


def _version() -> str:
    try:
        return version("quartermaster")
    except PackageNotFoundError:
        return "unknown"
