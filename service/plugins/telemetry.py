"""What a plugin tells of itself: its metrics are made here, and README.md lists them all."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import choose_encoder

from service.plugins.modes import Mode
from service.plugins.planner import TROUBLES
from service.plugins.recheck import Refused
from service.plugins.reservations import Ending

if TYPE_CHECKING:
    from service.plugins.gains import Gains

PHASES = ("snapshot", "convert", "plan", "recheck", "commit", "explain", "tell")
ROUNDS = ("planned", "nothing", "no_plan", "scheduler", "fault")
OUTCOMES = ("done", "refused", "gone", "unknown")
SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class PluginTelemetry:
    """The metrics of one follower, in a registry of their own or a given one."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = here = registry if registry is not None else CollectorRegistry()
        name = "quartermaster_plugin"
        self._rounds = Counter(f"{name}_rounds", "Rounds, by how they ended.", ["ended"], registry=here)
        self._seconds = Histogram(f"{name}_phase_seconds", "Seconds of each phase of a round.", ["phase"], buckets=SECONDS, registry=here)
        self._troubles = Counter(f"{name}_plans_refused", "Rounds without a plan, by what was wrong.", ["reason"], registry=here)
        self._refused = Counter(f"{name}_orders_refused", "Orders that the re-check refused.", ["reason"], registry=here)
        self._commits = Counter(f"{name}_commits", "Orders given to the scheduler, by what became of them.", ["outcome"], registry=here)
        self._endings = Counter(f"{name}_reservations_ended", "Released jobs, by what became of them.", ["ending"], registry=here)
        self._freed = Counter(f"{name}_jobs_freed", "Held jobs released without a plan.", ["reason"], registry=here)
        self._unpinned = Counter(f"{name}_jobs_unpinned", "Released jobs whose pin was taken away.", registry=here)
        self._kept = Counter(f"{name}_plans_kept", "Rounds that carried the plan in force on.", registry=here)
        self._warnings = Gauge(f"{name}_snapshot_warnings", "What the last snapshot had that could not be taken over.", registry=here)
        self._held = Gauge(f"{name}_held_jobs", "Held jobs that opted in, in the last snapshot.", registry=here)
        self._reserved = Gauge(f"{name}_reserved_jobs", "Jobs that were released and do not run yet.", registry=here)
        self._version = Gauge(f"{name}_orders_version", "Version of the orders in force.", registry=here)
        self._made_at = Gauge(f"{name}_orders_made_at_seconds", "When the orders in force were made, since the epoch.", registry=here)
        self._gap = Gauge(f"{name}_plan_gap", "Relative gap of the plan in force; -1 where nothing is proved.", registry=here)
        self._mode = Gauge(f"{name}_mode", "1 for the mode the plugin runs in.", ["mode"], registry=here)
        self._stale = Gauge(f"{name}_stale", "1 while the last round had no verified plan.", registry=here)
        self._kept_nodes = Gauge(f"{name}_kept_nodes", "Nodes kept free for a job that has waited too long.", registry=here)
        self._passed = Gauge(f"{name}_passed_jobs", "Waiting jobs in whose place the plan starts ones of lower priority.", registry=here)
        self._slow = Counter(f"{name}_slow_rounds", "Rounds that took more than half of watchdog_s.", registry=here)
        self._gain_jobs = Gauge(f"{name}_gain_jobs", "Shadow: waiting jobs that the plan would have started.", registry=here)
        self._gain_gpus = Gauge(f"{name}_gain_gpus", "Shadow: their GPUs.", registry=here)
        for label, metric in (
            (ROUNDS, self._rounds),
            (TROUBLES, self._troubles),
            (tuple(Refused), self._refused),
            (OUTCOMES, self._commits),
            (get_args(Ending), self._endings),
        ):
            for value in label:
                metric.labels(str(value))  # an alert needs the zero before the first one

    def started(self, mode: Mode) -> None:
        """The follower runs in this mode."""
        for one in Mode:
            self._mode.labels(one.value).set(one is mode)

    def round_ended(self, how: str) -> None:
        """One of ROUNDS."""
        self._rounds.labels(how).inc()
        self._stale.set(how not in ("planned", "nothing"))

    def phase(self, name: str, seconds: float) -> None:
        """One of PHASES took so long."""
        self._seconds.labels(name).observe(max(seconds, 0.0))

    def seen(self, held: int, reserved: int, warnings: int) -> None:
        """What a snapshot shows."""
        self._held.set(held)
        self._reserved.set(reserved)
        self._warnings.set(warnings)

    def no_plan(self, trouble: str) -> None:
        """A round has no plan."""
        self._troubles.labels(trouble).inc()

    def in_force(self, version: int, made_at: float, gap: float | None, *, kept: bool) -> None:
        """New orders are in force."""
        self._version.set(version)
        self._made_at.set(made_at)
        self._gap.set(gap if gap is not None else -1.0)
        self._kept.inc(kept)

    def refused(self, reason: Refused) -> None:
        """The re-check refused an order."""
        self._refused.labels(reason.value).inc()

    def committed(self, outcome: str) -> None:
        """One of OUTCOMES, for one order."""
        self._commits.labels(outcome).inc()

    def ended(self, ending: str) -> None:
        """A reservation ended."""
        self._endings.labels(ending).inc()

    def freed(self, reason: str, count: int) -> None:
        """Held jobs were released without a plan."""
        self._freed.labels(reason).inc(count)

    def unpinned(self, count: int) -> None:
        """Pins were taken away."""
        self._unpinned.inc(count)

    def keeps(self, nodes: int) -> None:
        """So many nodes are kept free for one job."""
        self._kept_nodes.set(nodes)

    def passes(self, jobs: int) -> None:
        """So many waiting jobs are passed by ones of lower priority."""
        self._passed.set(jobs)

    def slow(self) -> None:
        """A round took so long that the watchdog is about to act."""
        self._slow.inc()

    def gained(self, gains: Gains) -> None:
        """What shadow mode found."""
        self._gain_jobs.set(len(gains.jobs))
        self._gain_gpus.set(gains.gpus)

    def exposition(self, accept: str = "") -> tuple[bytes, str]:
        """The page for Prometheus and its content type, in the form that the Accept header prefers."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
