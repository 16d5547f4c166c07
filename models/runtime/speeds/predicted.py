"""How fast jobs are on devices, as the sharing of GPU time takes it: steps/s with their tenth percentile, and where a job cannot run.

A job is predicted on every device that is on offer, unless it was measured there. It is left out where its memory probably does not
suffice, where its gang is larger than what there is, and where the device does not describe what it needs. What comes out are plain
dictionaries: the parts of a ``fairshare`` problem.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from models.runtime.calibration.ladder import Calibration
from models.runtime.calibration.predict import predicted
from models.runtime.prediction.memory import MemoryNeed, memory
from models.runtime.prediction.predict import NORMAL_P90, Prediction, predict
from models.runtime.speeds.spread import spread_device

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from models.runtime.device import DeviceSpec
    from models.runtime.job import JobSpec
    from models.runtime.operators import Work
    from models.runtime.speeds.jobs import SharedJob, SharedJobs

LEAST_FIT = 0.9  # probability that a job fits into the memory from which it is sent there
SURE_FIT = 0.99  # below it a warning says how probably
WIDE = 4.0  # times that the slow speed is below the median from which a warning says so
GPUS_PER_NODE = 8
SHOWN = 5  # names in a warning


@dataclass(frozen=True, slots=True)
class Offer:
    """A type of device: what is known of it, how many there are, and USD per hour of one."""

    known: Calibration | DeviceSpec
    count: int
    usd_per_hour: float = 0.0

    @property
    def device(self) -> DeviceSpec:
        """The device itself."""
        return self.known.device if isinstance(self.known, Calibration) else self.known

    @property
    def id(self) -> str:
        """The device's name: that of the accelerator."""
        return self.device.name

    def document(self) -> dict[str, Any]:
        """The accelerator of a problem; its nodes are as large as the device's innermost links join."""
        per_node = self.device.links[0].devices if self.device.links else GPUS_PER_NODE
        return {"id": self.id, "count": self.count, "usd_per_hour": self.usd_per_hour, "gpus_per_node": per_node}


@dataclass(frozen=True, slots=True)
class Speed:
    """Steps/s of a workload on an accelerator: the median, the 10th percentile, and the median of a gang that is not consolidated.

    ``need`` is its memory with the probability that it fits; ``extrapolated``: the device was calibrated on nothing like it, for the
    ``reasons``; ``measured``: given, not predicted.
    """

    workload: str
    accelerator: str
    steps_per_s: float
    slow_steps_per_s: float
    spread_steps_per_s: float | None
    need: MemoryNeed
    measured: bool
    extrapolated: bool
    reasons: tuple[str, ...]

    @property
    def slow_factor(self) -> float:
        """The 10th percentile over the median."""
        return self.slow_steps_per_s / self.steps_per_s

    def document(self) -> dict[str, Any]:
        """The speed in a workload of a problem."""
        told = {"accelerator": self.accelerator, "steps_per_s": self.steps_per_s, "slow_steps_per_s": self.slow_steps_per_s}
        return told if self.spread_steps_per_s is None else told | {"spread_steps_per_s": self.spread_steps_per_s}


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Where a workload cannot run, and why; ``fits_probability`` where it is for the memory."""

    workload: str
    accelerator: str
    why: str
    fits_probability: float | None = None


@dataclass(frozen=True, slots=True)
class Speeds:
    """All that is known of the jobs on the devices on offer.

    ``workload_of``: the workload of each job; jobs of one spec share one, which has the first one's id. ``pairs``: as
    ``speeds_pairs.paired`` makes them.
    """

    asked: SharedJobs
    workload_of: tuple[str, ...]
    offers: tuple[Offer, ...]
    found: tuple[Speed, ...]
    left_out: tuple[LeftOut, ...]
    warnings: tuple[str, ...]
    pairs: tuple[dict[str, Any], ...] = field(default=())

    @property
    def jobs(self) -> tuple[SharedJob, ...]:
        """The jobs, each with an id."""
        return self.asked.jobs

    @property
    def specs(self) -> dict[str, SharedJob]:
        """The first job of each workload."""
        return {name: job for job, name in zip(self.jobs, self.workload_of, strict=True) if job.id == name}

    def problem(self, policy: str, robust: dict[str, Any] | None = None) -> dict[str, Any]:
        """A ``fairshare`` problem; ``robust`` as ``robust_budget`` or ``robust_scenarios`` gives it."""
        gpus = {name: job.parallel.devices for name, job in self.specs.items()}
        document: dict[str, Any] = {
            "schema_version": 1,
            "policy": policy,
            "now_s": self.asked.now_s,
            "accelerators": [offer.document() for offer in self.offers],
            "workloads": [
                {"id": name, "gpus": size, "speeds": [one.document() for one in self.found if one.workload == name]}
                for name, size in gpus.items()
            ],
            "jobs": [job.document(name) for job, name in zip(self.jobs, self.workload_of, strict=True)],
        }
        tenants = [tenant.model_dump(mode="json", exclude_defaults=True) for tenant in self.asked.tenants]
        document |= {name: parts for name, parts in (("tenants", tenants), ("pairs", list(self.pairs))) if parts}
        return document if robust is None else document | {"robust": robust}

    def robust_scenarios(self) -> dict[str, Any]:
        """Errors that all jobs on a device have in common: as predicted, and for each device all speeds on it at their 10th percentile."""
        slow = [
            {
                "id": f"slow {offer.id}",
                "factors": [
                    {"workload": one.workload, "accelerator": one.accelerator, "factor": one.slow_factor}
                    for one in self.found
                    if one.accelerator == offer.id
                ],
            }
            for offer in self.offers
        ]
        return {"scenarios": [{"id": "as predicted"}, *slow]}


def robust_budget(budget: float) -> dict[str, Any]:
    """Up to ``budget`` of each job's devices run it at its 10th percentile."""
    return {"budget": budget}


def speeds(asked: SharedJobs, offers: Sequence[Offer], *, least_fit: float = LEAST_FIT) -> Speeds:
    """The jobs' speeds on all devices on offer where they fit into the memory with a probability of ``least_fit`` at least.

    Raises ValueError, with the place in the list of jobs, for a job that can run nowhere or names a device that is not on offer.
    """
    jobs = named(asked.jobs)
    _check(jobs, offers, least_fit)
    first: dict[str, str] = {}
    workload_of = tuple(first.setdefault(job.likeness, job.id) for job in jobs)
    found: list[Speed] = []
    left_out: list[LeftOut] = []
    for place, (job, name) in enumerate(zip(jobs, workload_of, strict=True)):
        if job.id != name:
            continue
        tried = [_speed(job, offer, least_fit) for offer in offers]
        left_out += (here := [one for one in tried if isinstance(one, LeftOut)])
        found += (there := [one for one in tried if isinstance(one, Speed)])
        if not there:
            why = "; ".join(f"{one.accelerator}: {one.why}" for one in here)
            raise ValueError(f"/jobs/{place}: job '{job.id}' can run on none of the devices ({why}); offer another one, or leave it out")
    asked = asked.model_copy(update={"jobs": jobs})
    return Speeds(asked, workload_of, tuple(offers), tuple(found), tuple(left_out), tuple(_warnings(offers, found)))


def named(jobs: Sequence[SharedJob]) -> tuple[SharedJob, ...]:
    """The jobs with ids; those without one are called ``j0``, ``j1``, ... by their place."""
    return tuple(job if job.id else job.model_copy(update={"id": f"j{place}"}) for place, job in enumerate(jobs))


def _check(jobs: Sequence[SharedJob], offers: Sequence[Offer], least_fit: float) -> None:
    if not 0.0 <= least_fit <= 1.0:
        raise ValueError(f"the least probability of fitting lies between 0 and 1, not at {least_fit:g}")
    if not jobs:
        raise ValueError("/jobs: there is no job; give at least one")
    known: dict[str, int] = {}
    for place, offer in enumerate(offers):
        if known.setdefault(offer.id, place) != place:
            raise ValueError(
                f"device {place + 1} is called '{offer.id}' as device {known[offer.id] + 1} is; give each type once, with its count"
            )
    seen: dict[str, int] = {}
    for place, job in enumerate(jobs):
        if seen.setdefault(job.id, place) != place:
            raise ValueError(f"/jobs/{place}/id: the id '{job.id}' is already that of /jobs/{seen[job.id]}; give each job its own")
        strangers = sorted(job.measured_steps_per_s.keys() - known.keys())
        if strangers:
            offered = ", ".join(known) or "none"
            detail = f"no device '{strangers[0]}' is on offer (there are: {offered}); correct the name, or leave the speed out"
            raise ValueError(f"/jobs/{place}/measured_steps_per_s: {detail}")


def _speed(job: SharedJob, offer: Offer, least_fit: float) -> Speed | LeftOut:
    """The speed of one job on one device, or why there is none."""
    spec, device = job.spec, offer.device

    def cannot(why: str, probability: float | None = None) -> LeftOut:
        return LeftOut(job.id, offer.id, why, probability)

    if spec.parallel.devices > offer.count:
        return cannot(f"its gang of {spec.parallel.devices} is larger than the {offer.count} there are")
    given = job.measured_steps_per_s.get(offer.id)
    try:
        need = memory(spec, device, job.work)
        if need.fits_probability < least_fit and given is None:
            room = f"{need.total_gib:.3g} of {need.available_gib:.3g} GiB"
            return cannot(f"it fits into the memory with probability {need.fits_probability:.1%} only ({room})", need.fits_probability)
        if given is not None:
            noise = offer.known.scores.repeat_log_sd if isinstance(offer.known, Calibration) else 0.0
            return Speed(job.id, offer.id, given, given * math.exp(-NORMAL_P90 * noise), None, need, True, False, ())  # noqa: FBT003
        told = _prediction(spec, offer.known, job.work)
        spread = _spread_steps_per_s(spec, offer.known, job.work)
    except ValueError as error:
        return cannot(str(error))
    if not 0.0 < told.step_s.p50 < math.inf:
        return cannot(f"its step would take {told.step_s.p50:g} s; give a job that computes something")
    usual = 1.0 / told.step_s.p50
    spread = None if spread is None else min(spread, usual)
    return Speed(job.id, offer.id, usual, 1.0 / told.step_s.p90, spread, need, False, told.extrapolated, told.reasons)  # noqa: FBT003


def _prediction(spec: JobSpec, known: Calibration | DeviceSpec, work: Work | None) -> Prediction:
    return predicted(spec, known, work).prediction if isinstance(known, Calibration) else predict(spec, known, work)


def _spread_steps_per_s(spec: JobSpec, known: Calibration | DeviceSpec, work: Work | None) -> float | None:
    """Median steps/s of a gang over as many nodes as can be; None for a single device, and where no link between nodes is known."""
    device = spread_device(known.device if isinstance(known, Calibration) else known, spec.parallel.devices)
    if device is None:
        return None
    there = known.model_copy(update={"device": device}) if isinstance(known, Calibration) else device
    return 1.0 / _prediction(spec, there, work).step_s.p50


def _warnings(offers: Sequence[Offer], found: Sequence[Speed]) -> Iterator[str]:
    """What a reader must know before trusting the speeds."""
    for offer in offers:
        if isinstance(offer.known, Calibration):
            yield from (f"{offer.id}: {warning}" for warning in offer.known.warnings)
    new: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for one in found:
        if one.extrapolated:
            new.setdefault((one.accelerator, one.reasons), []).append(one.workload)
    for (accelerator, reasons), names in new.items():
        yield f"{accelerator}: extrapolated for {listed(names)}: {'; '.join(reasons)}"
    for one in found:
        where = f"{one.workload} on {one.accelerator}"
        if one.need.fits_probability < SURE_FIT:
            yield f"{where}: fits into the memory with probability {one.need.fits_probability:.1%}"
        if one.slow_factor * WIDE < 1.0:
            yield f"{where}: the 10th percentile of its speed is {1.0 / one.slow_factor:.1f} times below the median; measure it there"


def listed(names: Sequence[str]) -> str:
    """The first few names."""
    return f"{', '.join(names[:SHOWN])}{f' and {len(names) - SHOWN} more' if len(names) > SHOWN else ''}"
