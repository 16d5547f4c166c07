"""The sums that calibration fits: of single operators over the device's own coefficients, of whole jobs over a few factors.

A job's step is ``sum_c factor_c * (seconds of class c by the device's form and its curves) + context``. The context is what a step costs
beside its operators run alone: a fixed time, the dispatch of each call, and on a CPU three things that a micro-benchmark in a loop
never sees: weights that come from a far tier because the whole step has passed through the caches since they were used last
(from the last cache, from memory), and gradients that are allocated anew in each step and added up outside of any operator.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np

from models.runtime.calibration.fit import Jobs, Prior
from models.runtime.device import DeviceKind
from models.runtime.operators import CLASSES, PHASES, PRECISIONS, OperatorClass, Phase, unit_of
from models.runtime.prediction.roofline import operator_seconds, peak_used, tier_shares

if TYPE_CHECKING:
    from collections.abc import Sequence

    from models.program import Floats
    from models.runtime.calibration.curves import Curves
    from models.runtime.device import DeviceSpec
    from models.runtime.job import JobSpec
    from models.runtime.operators import OperatorArrays, Work

CLASS_SPREAD = 0.06  # of a class's factor where micro-benchmarks have told its level
UNKNOWN_SPREAD = 0.6  # where they have not
SPREADS = {"efficiency": 0.6, "narrow": 0.7, "backward": 0.3, "traffic": 0.5, "overhead_s": 0.7, "bandwidth": 0.7}
BACKWARD = PHASES.index(Phase.backward)
FORWARD = PHASES.index(Phase.forward)


class Context(StrEnum):
    """What a step costs beside its operators run alone."""

    step = "step"
    dispatch = "dispatch"
    from_last_cache = "from_last_cache"
    from_memory = "from_memory"
    gradients = "gradients"


CONTEXTS = tuple(Context)
CONTEXT_STARTS = {  # seconds per step, call and byte to start from, and the spread of their logarithm
    Context.step: (30e-6, 1.0),
    Context.dispatch: (4e-6, 0.7),
    Context.from_last_cache: (1 / 30e9, 0.6),
    Context.from_memory: (1 / 12e9, 0.6),
    Context.gradients: (0.1e-9, 0.7),
}
FACTORS = len(CLASSES) + len(CONTEXTS)


@dataclass(frozen=True, slots=True, eq=False)
class OperatorTerms:
    """Single operators as products of the device's coefficients at these ``paths``."""

    jobs: Jobs
    paths: tuple[str, ...]


def operator_terms(rows: OperatorArrays, device: DeviceSpec) -> OperatorTerms:
    """Each row (N,) as a sum of products of the coefficients of the additive form (``roofline.operator_seconds``).

    Coefficients that are 0 are left out of the search, as are peaks: only their product with an efficiency can be measured.
    """
    known = device.coefficients()
    table: dict[tuple[tuple[str, float], ...], Floats] = {}

    def put(amounts: Floats, *factors: tuple[str, float]) -> None:
        chosen = tuple((path, power) for path, power in factors if known[path].value > 0)
        table[chosen] = table.get(chosen, 0.0) + amounts

    shares = tier_shares(rows.bytes, np.array([tier.capacity_bytes for tier in device.tiers[:-1]], dtype=float))
    for place in np.unique(rows.cls):
        cls, name = CLASSES[place], CLASSES[place].value
        own = rows.cls == place
        compute = own * rows.calls * rows.flops / _peak(rows, device, cls)
        for back in (False, True):
            factors = [(f"efficiency.{name}", -1.0), *([(f"backward.{name}", 1.0)] if back else [])]
            chosen = compute * ((rows.phase == BACKWARD) == back)
            put(chosen, *factors)
            if known[f"narrow.{name}"].value > 0:
                put(chosen * (rows.narrow > 0) / np.maximum(rows.narrow, 1.0), *factors, (f"narrow.{name}", 1.0))
        for tier, share in zip(device.tiers, shares.T, strict=True):
            put(own * rows.calls * rows.bytes * share, (f"traffic.{name}", 1.0), (f"bandwidth.{tier.name}", -1.0))
        put(own * rows.calls, (f"overhead_s.{name}", 1.0))
    products = [key for key, amounts in table.items() if np.any(amounts > 0)]
    paths = tuple(dict.fromkeys(path for key in products for path, _ in key))
    exponents = np.array([[dict(key).get(path, 0.0) for path in paths] for key in products])
    return OperatorTerms(Jobs(np.column_stack([table[key] for key in products]), exponents), paths)


def _peak(rows: OperatorArrays, device: DeviceSpec, cls: OperatorClass) -> Floats:
    """Peak FLOPs per second (N,) that each row is measured against; inf where it has none to do."""
    peaks = {(peak.unit, peak.precision): peak.flops_per_s.value for peak in device.peaks}
    rates = np.full(len(PRECISIONS), np.inf)
    for place, precision in enumerate(PRECISIONS):
        used = peak_used(set(peaks), unit_of(cls), precision)
        rates[place] = peaks[used] if used is not None else np.inf
    return np.asarray(rates[rows.precision])


def operator_prior(device: DeviceSpec, paths: Sequence[str]) -> Prior:
    """What the device says of these coefficients before: its values, each with its own spread or the usual one of its kind."""
    known = device.coefficients()
    values = np.array([known[path].value for path in paths])
    given = [known[path].log_sd for path in paths]
    spreads = [max(sd or 0.0, SPREADS.get(path.split(".")[0], UNKNOWN_SPREAD)) for path, sd in zip(paths, given, strict=True)]
    return Prior.independent(values, np.array(spreads))


def job_amounts(jobs: Sequence[JobSpec], works: Sequence[Work], device: DeviceSpec, curves: Curves) -> tuple[Floats, Floats]:
    """Seconds (N, FACTORS) of each job by class and context with all factors at 1, and the curves' own doubt (N,) of the log of the sum.

    Within a class the doubt of shapes adds up in full, between classes as independent.
    """
    amounts, doubts = np.zeros((len(jobs), FACTORS)), np.zeros(len(jobs))
    for place, (job, work) in enumerate(zip(jobs, works, strict=True)):
        mean, spread = curves.at(work.operators)
        seconds = operator_seconds(work.arrays, device).total * np.exp(mean)
        seconds *= np.where(work.arrays.phase == PHASES.index(Phase.update), 1, job.parallel.grad_accum)
        amounts[place, : len(CLASSES)] = np.bincount(work.arrays.cls, weights=seconds, minlength=len(CLASSES))
        by_class = np.bincount(work.arrays.cls, weights=seconds * spread, minlength=len(CLASSES))
        amounts[place, len(CLASSES) :] = context_amounts(job, work, device) * [CONTEXT_STARTS[one][0] for one in CONTEXTS]
        doubts[place] = float(np.sqrt((by_class**2).sum()) / amounts[place].sum())
    return amounts, doubts


def context_amounts(job: JobSpec, work: Work, device: DeviceSpec) -> Floats:
    """How much of each context a step has (contexts,): steps, calls, bytes."""
    rows, batches = work.arrays, job.parallel.grad_accum
    found = dict.fromkeys(CONTEXTS, 0.0)
    found[Context.step] = 1.0
    found[Context.dispatch] = float(rows.calls @ np.where(rows.phase == PHASES.index(Phase.update), 1, batches))
    if device.kind is not DeviceKind.gpu:
        read = sum(row.bytes_read * row.calls for row in work.operators if row.phase is Phase.forward)
        weights = min(work.parameter_bytes, read)  # of a table only the rows that are looked up
        copies = 2 + job.optimizer.moments if job.training else 1
        touched = work.parameter_bytes * copies + work.activation_bytes + work.cache_bytes
        passed = batches * (weights * (3 if job.training else 1) + work.cache_bytes)
        shares = tier_shares(np.array([touched]), np.array([tier.capacity_bytes for tier in device.tiers[:-1]], dtype=float))[0]
        found[Context.from_last_cache] = passed * float(shares[-2]) if len(shares) > 1 else 0.0
        found[Context.from_memory] = passed * float(shares[-1])
        found[Context.gradients] = work.gradient_bytes * batches
    return np.array([found[one] for one in CONTEXTS])


def job_prior(measured: frozenset[OperatorClass]) -> Prior:
    """Factors of 1, known better for the classes whose level micro-benchmarks have ``measured``."""
    classes = [CLASS_SPREAD if cls in measured else UNKNOWN_SPREAD for cls in CLASSES]
    return Prior.independent(np.ones(FACTORS), np.array([*classes, *(CONTEXT_STARTS[one][1] for one in CONTEXTS)]))
